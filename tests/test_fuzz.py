"""Under fire: what nobody should send changes nothing for those who play. `benchmarks/fuzz.py` tries a million messages more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import clips
import pytest
from fake_mpv import bridge
from film_reader import OpenFilm, open_film
from fuzz_dispatch import DispatchFuzzer
from fuzz_frames import FrameFuzzer
from fuzzing import Fuzzer, RangeFuzzer, reply_fuzzer, request_fuzzer
from helpers_server import FAKE_SERVER, alive, eventually, private_place, soon

from drba.errors import ProtocolError
from player.film import Film
from player.playhead import Playhead
from server import messages as m
from server.client import server_status
from server.peers import Peer
from server.protocol import parse_reply, parse_request, serialize
from server.runtime import default_endpoint, socket_path
from server.session import ServerSession

HOSTILE = Path(__file__).with_name("hostile.py")
MESSAGES, REQUESTS = 10_000, 3000
AHEAD_S = 0.5  # film that the one who plays has in store


@pytest.mark.parametrize("make", [request_fuzzer, reply_fuzzer])
def test_whatever_comes_is_refused_in_one_line_or_can_be_said_again(make: Callable[[int], Fuzzer]) -> None:
    fuzzer = make(7)
    for _ in range(6000):
        fuzzer.check(fuzzer.case())
    assert len(fuzzer.refused) > 100, "it gets far beyond the first refusals"
    assert fuzzer.accepted.keys() == {kind.label for kind in fuzzer.kinds}


@pytest.mark.parametrize("kind", [*m.REQUESTS, *m.REPLIES], ids=lambda kind: kind.label)
def test_whatever_keeps_the_rules_can_be_said(kind: type[m.Message]) -> None:
    """Texts too that are no Unicode: an error names the file, and a file may have any name."""
    fuzzer = request_fuzzer(3)
    parse = parse_request if kind in m.REQUESTS else parse_reply
    for _ in range(60):
        said = fuzzer.valid(kind)
        if not getattr(said, "attached", ()) or getattr(said, "output_slots", ()):
            assert isinstance(parse(serialize(said))[0], kind)  # type: ignore[arg-type]


def test_requests_in_any_order_are_each_answered_once() -> None:
    fuzzer = DispatchFuzzer(5)
    for _ in range(1500):
        fuzzer.step()
    assert fuzzer.end().keys() >= {"rendered", "need", "failure", "dropped"}


def test_no_request_makes_the_server_take_all_memory() -> None:
    """64 frames of the largest size are 16 GiB; where frames travel in messages, they would be made here."""
    fuzzer = request_fuzzer(1)
    largest = replace(fuzzer.valid(m.Open), width=16384, height=16384, pixel_format="gray", shared=None)  # type: ignore[call-arg]
    session = ServerSession(Peer(b"one"), largest, None)  # type: ignore[arg-type]
    changes = {"previous": 0, "middle": 1, "following": 2, "times": (0.5,) * 64, "attached": (), "output_slots": ()}
    with pytest.raises(ProtocolError, match="asks for 17179869184 bytes in one answer, expected at most 1073741824"):
        session.admit(replace(fuzzer.valid(m.Render), **changes), ())  # type: ignore[arg-type]


def test_any_range_header_is_a_part_of_the_file_or_refused() -> None:
    fuzzer = RangeFuzzer(2)
    assert 1000 < sum(fuzzer.check(fuzzer.case()) for _ in range(10_000)) < 9000


def test_a_damaged_frame_is_refused_or_unpacked_into_its_place() -> None:
    fuzzer = FrameFuzzer(4)
    assert 100 < sum(fuzzer.check(fuzzer.case()) for _ in range(1500)) < 1400


# --- live -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hostile(kind: str, target: str, count: int) -> AsyncIterator[asyncio.Task[dict[str, int]]]:
    """It begins when this is entered; the task's result is what it says at its end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HOSTILE), kind, target, str(count), "11", stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None and process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    process.stdin.write(b"\n")

    async def said() -> dict[str, int]:
        assert process.stdout is not None
        counts: dict[str, int] = json.loads(await process.stdout.read())
        await process.wait()
        return counts

    task = asyncio.ensure_future(said())
    try:
        yield task
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(task, return_exceptions=True)


async def play(film: Film, playhead: Playhead, enough: Callable[[], bool]) -> int:
    """Watch from the beginning, at the film's own pace; how many output frames until it was enough."""
    stream, shown = film.track.open_stream(0), 0
    began_s = time.monotonic()
    try:
        async with aclosing(stream.frames()) as frames:
            async for number, _, _ in frames:
                shown += 1
                due_s = began_s + float(film.file.clock.time_s(number)) - AHEAD_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                playhead.observe(max(0.0, time.monotonic() - began_s))
                if enough():
                    break
    finally:
        stream.close()
    return shown


def handles(pid: int) -> tuple[int, int]:
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def test_more_connections_than_usual_files_do_not_end_the_server() -> None:
    """libzmq ends the process where it cannot take a connection."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with private_place() as place, contextlib.ExitStack() as held:
        few = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}));"
        code = f"{few} runpy.run_path({str(FAKE_SERVER)!r}, run_name='__main__')"
        server = subprocess.Popen([sys.executable, "-c", code], env=place.environment)
        soon(lambda: server_status() is not None)
        path = socket_path(default_endpoint())
        for _ in range(100):
            held.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        soon(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) > 100 or server.poll() is not None)
        status = server_status()
        assert status is not None and status.pid == server.pid


@pytest.mark.alone
def test_a_film_has_no_late_frame_while_the_server_is_under_fire(clip_folder: Path) -> None:
    clip = clips.cached(clip_folder, "half.mkv", replace(clips.SMALL, seconds=30))

    async def test(pid: int) -> None:
        playhead = Playhead()
        async with open_film(clip.path, fps="2x", playhead=playhead, quality="quality") as opened:
            film, over = opened.film, asyncio.Event()
            playing = asyncio.create_task(play(film, playhead, over.is_set))
            await eventually(
                lambda: film.stats.interpolated >= 6
            )  # it has begun: the first frames may be late on any machine
            before, late = handles(pid), film.stats.late
            async with hostile("server", default_endpoint(), MESSAGES) as fire:
                counts = await fire
            over.set()
            shown = await playing
            print(counts, film.stats.as_dict())
            assert sum(counts[what] for what in ("fuzzed", "replayed", "oversized", "half sent")) >= MESSAGES
            assert counts["answers"] > MESSAGES / 2
            assert film.stats.late == late and film.stats.interpolated > shown / 3
            # Nothing is left of the others; the film itself may have a second session, for a cheaper level.
            await eventually(lambda: {session.pid for session in server_status().sessions} == {os.getpid()})  # type: ignore[union-attr]
            await eventually(lambda: all(now <= then + 4 for now, then in zip(handles(pid), before, strict=True)))

    with private_place() as place:
        place.start("--workers", "2")
        soon(lambda: server_status() is not None)
        status = server_status()
        assert status is not None
        asyncio.run(asyncio.wait_for(test(status.pid), 100))
        assert place.started == [status.pid] and alive(status.pid), "it is the same server"
        assert "Traceback" not in place.log.replace("RuntimeError: the device is on fire", "")
        assert place.log.count("WARNING") < 300, "one line a client, not one a message"


@pytest.mark.alone
def test_a_film_is_read_unchanged_while_the_bridge_is_under_fire(clip_folder: Path) -> None:
    clip = clips.standard(clip_folder)

    async def test() -> None:
        async with bridge() as mpv:
            mpv.ask("open", id="1", path=str(clip.path), fps="2x", quality="source")  # for this is not about rendering
            url = (await mpv.answer("opened"))["url"]
            film = OpenFilm(None, url)  # type: ignore[arg-type]
            expected = await film.read(0)
            before = handles(mpv.pid)
            async with hostile("http", url, REQUESTS) as fire:
                rounds = 0
                while not fire.done() or not rounds:
                    assert await film.read(0) == expected
                    rounds += 1
                counts = await fire
            print(rounds, counts)
            assert not any(name.startswith("status 5") for name in counts), counts
            assert counts["status 404"] and counts["status 416"] and counts["status 206"]
            await eventually(lambda: all(now <= then + 4 for now, then in zip(handles(mpv.pid), before, strict=True)))
            token = url.split("/")[3].encode()
            for name in ("cmdline", "environ"):
                assert token not in Path(f"/proc/{mpv.pid}/{name}").read_bytes()
            assert token.decode() not in (place.folder / "bridge.log").read_text()

    with private_place() as place:
        asyncio.run(asyncio.wait_for(test(), 100))
        log = (place.folder / "bridge.log").read_text()
        assert "Traceback" not in log and log.count("\n") < REQUESTS, log[-2000:]
