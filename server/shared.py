"""Frames in memory that player and server share: no name in any file system, so nothing is left behind after kill -9.

The client creates an anonymous memory file (memfd) and tells the server its process id and descriptor; the server opens
/proc/<pid>/fd/<fd>, which the kernel allows the same user only. The file is sealed against shrinking: a mapping of a
file that another process may truncate would end the server with SIGBUS.
Where there is no memfd (not Linux) the pool is ordinary memory and frames travel inside the messages.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import stat
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drba.errors import ProtocolError, ServerError
from drba.pixels import FrameLayout, Plane

from .messages import MAX_SLOT_BYTES, MAX_SLOTS, SharedMemory

try:
    import fcntl

    _REQUIRED_SEALS = fcntl.F_SEAL_SHRINK
    _SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
except (ImportError, AttributeError):  # not Linux: neither memfd nor seals
    _REQUIRED_SEALS = _SEALS = 0

log = logging.getLogger(__name__)

_ALIGNMENT = mmap.PAGESIZE  # slots begin on pages, so planes are aligned for SIMD and for pinning by a device


class FramePool:
    """A fixed number of equal slots for frames, each with a reference count; safe to use from several threads.

    A slot is acquired (count 1), retained by whoever else needs its content, and free again when all have released it.
    The pool must outlive the sessions that use it.
    """

    def __init__(self, frame_bytes: int, slots: int, *, shared: bool = True) -> None:
        """`frame_bytes` at least 1, `slots` 1..1024; memory is taken from the system when a slot is first written. ServerError
        where it has not even the addresses for them."""
        slot_bytes = -(-frame_bytes // _ALIGNMENT) * _ALIGNMENT
        if not 1 <= slots <= MAX_SLOTS or not 1 <= slot_bytes <= MAX_SLOT_BYTES:
            limits = f"1..{MAX_SLOTS} slots of 1..{MAX_SLOT_BYTES} bytes"
            raise ValueError(f"frame pool of {slots} slots of {slot_bytes} bytes, expected {limits}")
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._fd = _create_memory_file(slots * slot_bytes) if shared and _SEALS else None
        try:
            self._map = mmap.mmap(-1 if self._fd is None else self._fd, slots * slot_bytes)
        except OSError as error:
            if self._fd is not None:
                os.close(self._fd)
            size = f"{slots} frames of {slot_bytes >> 10} KiB"
            raise ServerError(
                f"no memory for {size}: {error.strerror}; close other programs, or play a smaller film"
            ) from error
        self._free = list(range(slots))
        self._counts = [0] * slots
        self._changed = threading.Condition()
        self._closed = False

    @property
    def shared(self) -> SharedMemory | None:
        """How another process opens this memory; None where it cannot."""
        return None if self._fd is None else SharedMemory(os.getpid(), self._fd, self.slots, self.slot_bytes)

    @property
    def free_slots(self) -> int:
        return len(self._free)

    def acquire(self, timeout_s: float = 0.0) -> int | None:
        """A free slot with a count of 1, or None if none became free in time or the pool was closed.

        The slot that was freed last is given out: its pages exist and may still be in the processor's cache.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed, timeout_s)
            if self._closed or not self._free:
                return None
            slot = self._free.pop()
            self._counts[slot] = 1
            return slot

    def retain(self, *slots: int) -> None:
        """Add a reference to each of some slots; ValueError, and nothing is done, if one of them is free."""
        with self._changed:
            self._check_held(slots)
            for slot in slots:
                self._counts[slot] += 1

    def release(self, *slots: int) -> None:
        """Take a reference from each of some slots, free at 0; ValueError, and nothing is done, if one is free."""
        with self._changed:
            self._check_held(slots)
            for slot in slots:
                self._counts[slot] -= 1
                if self._counts[slot] == 0:
                    self._free.append(slot)
                    self._changed.notify()

    def _check_held(self, slots: Sequence[int]) -> None:
        for slot in slots:
            if not 0 <= slot < self.slots or self._counts[slot] < slots.count(slot):
                raise ValueError(f"slot {slot} is not acquired; expected one of {self.slots} slots that is in use")

    def buffer(self, slot: int) -> memoryview:
        """The slot's bytes, writable; valid until the slot is free and the pool open."""
        return memoryview(self._map)[slot * self.slot_bytes : (slot + 1) * self.slot_bytes]

    def views(self, slot: int, layout: FrameLayout) -> list[Plane]:
        """The slot's planes as writable arrays."""
        return layout.views(self.buffer(slot))

    def close(self) -> None:
        """Give the memory back as soon as no view of it is left, and end every `acquire` that waits."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        with contextlib.suppress(BufferError):  # a view is still in use: the mapping goes with the last one
            self._map.close()


def _create_memory_file(size_bytes: int) -> int | None:
    """A sealed anonymous file that only this user can open; None where the system has none to give."""
    import fcntl

    try:
        fd = os.memfd_create("drba-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        _say_none(error)
        return None
    try:
        os.fchmod(fd, stat.S_IRUSR | stat.S_IWUSR)
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(fd)
        _say_none(error)
        return None
    return fd


def _say_none(error: OSError) -> None:
    log.warning("no shared memory (%s): frames travel in messages, which is slower", error.strerror)


class SharedFrames:
    """The server's view of a client's pool. Holds no descriptor; the mapping goes when no view of it is left."""

    def __init__(self, memory: SharedMemory, frame_bytes: int) -> None:
        """Map it; ProtocolError if it is not there or not what it should be (the caller goes on inline)."""
        self.memory = memory
        self._frame_bytes = frame_bytes
        self._bytes: NDArray[np.uint8] = np.frombuffer(_map_memory_file(memory), np.uint8)

    @property
    def slots(self) -> int:
        return self.memory.slots

    def buffer(self, slot: int) -> NDArray[np.uint8]:
        """The frame in a slot, writable; IndexError beyond the last slot."""
        if not 0 <= slot < self.memory.slots:
            raise IndexError(f"slot {slot} of {self.memory.slots}")
        start = slot * self.memory.slot_bytes
        return self._bytes[start : start + self._frame_bytes]

    def slot_of(self, planes: Sequence[Plane]) -> int:
        """The slot of a frame that `buffer` gave; ValueError for one that lies elsewhere."""
        offset = planes[0].ctypes.data - self._bytes.ctypes.data
        if not 0 <= offset < self._bytes.nbytes or offset % self.memory.slot_bytes:
            raise ValueError("the frame is not in this shared memory")
        return int(offset // self.memory.slot_bytes)


def _map_memory_file(memory: SharedMemory) -> mmap.mmap:
    subject = f"shared memory (process {memory.pid}, descriptor {memory.fd})"
    if not _REQUIRED_SEALS:
        raise ProtocolError(f"{subject} cannot be opened on this system, expected Linux")
    import fcntl

    size_bytes = memory.slots * memory.slot_bytes
    try:
        # NONBLOCK: the descriptor is the client's choice, and opening a pipe must not stop the server
        fd = os.open(f"/proc/{memory.pid}/fd/{memory.fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ProtocolError(f"{subject} cannot be opened: {error.strerror}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size < size_bytes:
            raise ProtocolError(f"{subject} has {found.st_size} bytes, expected a file of at least {size_bytes}")
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _REQUIRED_SEALS:
            raise ProtocolError(f"{subject} can be truncated, expected it sealed with F_SEAL_SHRINK")
        return mmap.mmap(fd, size_bytes)
    except OSError as error:  # F_GET_SEALS fails for files that cannot be sealed
        raise ProtocolError(f"{subject} is not a memory file: {error.strerror}") from error
    finally:
        os.close(fd)
