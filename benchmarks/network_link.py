"""In-betweens a second through links of given speeds, both ends on this machine: `python benchmarks/network_link.py FILM`.

The flow-only model draws two in-betweens of each triplet of the film, asked for through an encrypted connection and a proxy that
lets so many MB pass in a second, each way. Where the link is fast the processor is what limits: it renders, packs and unpacks
for both ends, and moves the bytes. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from network_frames import frames_of  # noqa: E402
from remote_helpers import Desktop, SlowLink, desktop, machine  # noqa: E402

from drba.errors import ServerError  # noqa: E402
from drba.pixels import FrameLayout  # noqa: E402
from engines.base import StreamSpec  # noqa: E402
from server.client import Client, Frame, FramePool  # noqa: E402

AHEAD = 6  # requests


async def measure(far: Desktop, layout: FrameLayout, frames: list[bytes], mb_per_s: float, seconds: float) -> str:
    async with (
        SlowLink(far.port, mb_per_s * 1e6) as link,
        await Client.connect(remote=far.through(link.port)) as client,
    ):
        pool = FramePool(layout.frame_bytes, 3 * AHEAD + 8)
        session = await client.open_session(StreamSpec(layout, model="flow"), pool)
        window: list[Frame] = []
        asked: list[asyncio.Future[object]] = []
        done, began_s, number, passed = 0, time.monotonic(), 0, [0, 0]
        warm = False
        while (now_s := time.monotonic()) - began_s < seconds or not warm:
            if not warm and now_s - began_s > 2.0:  # what is not known of the link and the codec has been measured
                warm, began_s, done, passed = True, now_s, 0, list(link.passed)
            slot = pool.acquire()
            assert slot is not None
            pool.buffer(slot)[: layout.frame_bytes] = frames[number % len(frames)]
            window.append(Frame(number, slot))
            number += 1
            if len(window) < 3:
                continue
            outputs = [slot for _ in range(2) if (slot := pool.acquire()) is not None]
            asked.append(session.render(window[1], (0.6, 1.0), outputs, previous=window[0], following=window[2]))  # type: ignore[arg-type]
            pool.release(*outputs, window.pop(0).slot)
            if len(asked) == AHEAD:
                try:
                    await asked.pop(0)
                    done += 2
                except ServerError:  # nothing came for a second: so slow is this link
                    await asyncio.sleep(0.05)
        took_s = time.monotonic() - began_s
        up, down = ((link.passed[way] - passed[way]) / took_s / 1e6 for way in (0, 1))
        packed = "packed" if session.outgoing is not None and session.outgoing.encodes else "as they are"
        await asyncio.gather(*asked, return_exceptions=True)
        pool.release(*(frame.slot for frame in window))
        await session.close()
        pool.close()
    return f"| {mb_per_s:g} | {done / took_s:.1f} | {up:.1f} | {down:.1f} | {packed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", metavar="FILM")
    parser.add_argument("--links", type=float, nargs="+", default=[6, 12, 30, 117], metavar="MB", help="a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each link (default: %(default)g)")
    arguments = parser.parse_args()
    layout, frames = frames_of(arguments.film, every=3, count=10)
    with tempfile.TemporaryDirectory() as laptop, tempfile.TemporaryDirectory() as runtime:
        os.environ.setdefault("XDG_CONFIG_HOME", laptop)
        os.environ["DRBA_RUNTIME_DIR"] = runtime
        with machine(Path(laptop)), desktop([sys.executable, "-m", "server.main"]) as far:
            print(
                "| link, MB/s each way | in-betweens a second | MB/s there | MB/s back | frames went |\n|---|---|---|---|---|"
            )
            for mb_per_s in arguments.links:
                print(asyncio.run(measure(far, layout, frames, mb_per_s, arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
