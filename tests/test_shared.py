"""Frames in shared memory: reference counts, what another process sees, and files that are refused."""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_server import soon

from drba.errors import ProtocolError
from drba.pixels import FrameLayout, pixel_format
from server.known import KnownFrames
from server.messages import SharedMemory
from server.shared import FramePool, SharedFrames

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memfd is Linux's")


def test_slot_is_free_when_all_have_released_it() -> None:
    pool = FramePool(100, 2)
    first, second = pool.acquire(), pool.acquire()
    assert first is not None and second is not None and {first, second} == {0, 1}
    assert pool.acquire() is None, "not yet"
    pool.retain(first, second)
    pool.release(first)
    assert pool.acquire() is None
    pool.release(first)
    assert pool.acquire() == first
    pool.close()


@pytest.mark.parametrize("call", [FramePool.release, FramePool.retain])
def test_free_slot_can_be_neither_released_nor_retained(call: object) -> None:
    pool = FramePool(100, 2)
    for slot in (0, 2, -1):
        with pytest.raises(ValueError, match=f"slot {slot} is not acquired"):
            call(pool, slot)  # type: ignore[operator]
    held = pool.acquire()
    with pytest.raises(ValueError, match="is not acquired"):
        call(pool, held, 1 - held)  # type: ignore[operator]
    pool.release(held)  # type: ignore[arg-type]
    assert pool.free_slots == 2, "the call that failed did nothing"
    pool.close()


def test_acquire_waits_for_another_thread() -> None:
    pool = FramePool(100, 1)
    slot = pool.acquire()
    assert slot is not None
    found: list[int | None] = []
    waiting = threading.Thread(target=lambda: found.append(pool.acquire(timeout_s=10)))
    waiting.start()
    pool.release(slot)
    waiting.join(10)
    assert found == [slot]
    waiting = threading.Thread(target=lambda: found.append(pool.acquire(timeout_s=10)))
    waiting.start()
    pool.close()
    waiting.join(5)
    assert found == [slot, None], "closing ends the wait"


@pytest.mark.parametrize(("frame_bytes", "slots"), [(0, 4), (100, 0), (100, 1025), (1 << 40, 1)])
def test_pool_has_limits(frame_bytes: int, slots: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1\.\.1024 slots"):
        FramePool(frame_bytes, slots)


def test_planes_lie_in_the_slot() -> None:
    layout = FrameLayout(6, 4, pixel_format("yuv420p10le"))
    pool = FramePool(layout.frame_bytes, 3)
    slot = pool.acquire()
    assert slot is not None
    planes = pool.views(slot, layout)
    planes[2][...] = 1023
    expected = np.frombuffer(pool.buffer(slot)[: layout.frame_bytes], "<u2")
    assert expected.tolist() == [0] * 30 + [1023] * 6
    pool.close()
    assert planes[2][0, 0] == 1023, "a view outlives the pool"


@linux_only
def test_another_mapping_sees_the_same_bytes() -> None:
    pool = FramePool(5000, 3)
    assert pool.shared is not None and pool.shared.slot_bytes == 8192
    other = SharedFrames(pool.shared, 5000)
    pool.buffer(1)[:3] = b"abc"
    other.buffer(1)[4999] = 7
    assert other.buffer(1)[:3].tobytes() == b"abc" and other.buffer(1).shape == (5000,)
    assert pool.buffer(1)[4999] == 7
    for slot in (-1, 3):
        with pytest.raises(IndexError):
            other.buffer(slot)
    pool.close()
    assert other.buffer(1)[0] == ord("a"), "the mapping outlives the pool"


@linux_only
def test_memory_has_no_name_and_only_its_user_may_open_it() -> None:
    before = set(os.listdir("/dev/shm"))
    pool = FramePool(100, 4)
    assert pool.shared is not None
    soon(lambda: set(os.listdir("/dev/shm")) <= before)  # other programs use it for moments
    assert os.fstat(pool.shared.fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(pool.shared.fd)
    with pytest.raises(OSError):
        os.ftruncate(pool.shared.fd, 0)
    pool.close()


@linux_only
def test_pool_gives_its_memory_back() -> None:
    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("drba-frames")

    gc.collect()  # what other tests have left
    before, descriptors = mappings(), len(os.listdir("/proc/self/fd"))
    pool = FramePool(100, 4)
    view = pool.buffer(0)
    assert mappings() == before + 1
    pool.close()
    pool.close()
    assert pool.shared is None and pool.acquire() is None
    del view, pool
    gc.collect()
    assert (mappings(), len(os.listdir("/proc/self/fd"))) == (before, descriptors)


@linux_only
def test_unsealed_short_and_foreign_files_are_refused(tmp_path: Path) -> None:
    unsealed = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 8192)
    short = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(short, 8191)
    fcntl.fcntl(short, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 8192)
    read_end, write_end = os.pipe()
    with subprocess.Popen(["true"]) as ended:
        pass
    mine = os.getpid()
    for pid, fd, words in (
        (mine, unsealed, "can be truncated, expected it sealed"),
        (mine, short, "has 8191 bytes, expected a file of at least 8192"),
        (mine, file, r"is not a memory file|can be truncated"),
        (mine, read_end, "has 0 bytes"),
        (mine, 12345, "cannot be opened: No such file"),
        (ended.pid, 3, "cannot be opened"),
    ):
        with pytest.raises(ProtocolError, match=words):
            SharedFrames(SharedMemory(pid, fd, 2, 4096), 4096)
    for fd in (unsealed, short, file, read_end, write_end):
        os.close(fd)


@linux_only
def test_more_slots_than_there_are_is_refused() -> None:
    pool = FramePool(4096, 2)
    assert pool.shared is not None
    with pytest.raises(ProtocolError, match="has 8192 bytes, expected a file of at least 12288"):
        SharedFrames(replace(pool.shared, slots=3), 4096)
    pool.close()


def test_pool_works_without_sharing() -> None:
    pool = FramePool(100, 2, shared=False)
    assert pool.shared is None
    pool.buffer(1)[:2] = b"ok"
    assert bytes(pool.buffer(1)[:2]) == b"ok"
    pool.close()


def test_known_frames_forget_the_least_recently_used() -> None:
    known: KnownFrames[str] = KnownFrames(2)
    known.put(1, "one")
    known.put(2, "two")
    assert known.get(1) == "one"
    known.put(3, "three")
    assert known.get(2) is None and known.holds(1) and known.holds(3) and len(known) == 2


def test_a_slot_holds_one_frame() -> None:
    known: KnownFrames[str] = KnownFrames(8)
    known.put(1, "one", slot=5)
    known.put(2, "two", slot=6)
    known.put(3, "three", slot=5)
    assert known.get(1) is None and known.get(3) == "three"
    known.put(3, "three moved", slot=7)
    assert known.holds(3, 7) and not known.holds(3, 5)
    known.put(4, "four", slot=5)
    assert known.get(3) == "three moved", "slot 5 was not its slot any more"
    known.forget_slots((6, 7, 9))
    assert len(known) == 1 and known.holds(4, 5)
