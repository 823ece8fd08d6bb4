"""How much of the interpolator's speed is left when a whole film is rendered: `python benchmarks/render_throughput.py [FILM]`.

Alternately: in-betweens a second of the flow model alone, as `drba bench speed` measures them but on the film's own frames, and
of the renderer on that film at 2.5 times its rate, encoded with x264 ultrafast. Once with a render thread for each core, where
decoder and encoder compete for the cores, and once with one fewer, where they have one to themselves. Without FILM the demo clip
is used.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from drba.pixels import Plane  # noqa: E402
from engines import Renderer, Triplet, open_renderer  # noqa: E402
from player.bench.speed import Feed, measure  # noqa: E402
from player.demo.clip import make_demo  # noqa: E402
from player.render.choose_encoder import EncoderWishes  # noqa: E402
from player.render.job import RenderJob  # noqa: E402
from player.render.pipeline import Pipeline  # noqa: E402
from player.render.prepare import RenderRequest, make_job  # noqa: E402
from player.render.progress import Counts  # noqa: E402
from player.source import VideoSource  # noqa: E402

CYCLE_FRAMES = 24


class Timed:
    """A renderer whose processor time is counted."""

    def __init__(self, renderer: Renderer) -> None:
        self.model, self.engine = renderer.model, renderer.engine
        self._renderer = renderer
        self.spent_s: list[float] = []

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        began = time.thread_time()
        self._renderer.render(triplet, times, outputs)
        self.spent_s.append((time.thread_time() - began) / len(times))

    def close(self) -> None:
        self._renderer.close()


def render_once(job: RenderJob, threads: int) -> tuple[Counts, float]:
    """Counts of a render, and the processor time of one in-between in ms."""
    source = job.open_source()
    renderer = Timed(open_renderer(job.spec(source.info)))
    try:
        with tempfile.TemporaryDirectory() as folder:
            counts = Counts()
            Pipeline(job, source, renderer, Path(folder), counts, threading.Event(), threads).run(job.first)
            counts.ended_s = time.perf_counter()
            return counts, 1000 * median(renderer.spent_s)
    finally:
        source.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?")
    parser.add_argument("--seconds", type=Fraction, default=Fraction(5), help="of the film (default: 5)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        film = arguments.film or str(make_demo(Path(folder) / "demo.mkv").path)
        source = VideoSource(film)
        wishes = EncoderWishes(codec="libx264", preset="ultrafast")
        request = RenderRequest(film, fps="2.5x", model="flow", encoder=wishes, range_s=(None, arguments.seconds))
        job, _ = make_job(request, source)
        layout = source.info.layout
        frames = [frame.planes() for frame in islice(source.frames_from(source.first_s), CYCLE_FRAMES)]
        for threads in sorted({max(1, cores - 1), cores}):
            rounds = []
            for _ in range(arguments.rounds):
                alone = measure(open_renderer(job.spec(source.info)), Feed(layout, frames), seconds=3, threads=threads)
                counts, cpu_ms = render_once(job, threads)
                rate = counts.interpolated / counts.elapsed_s
                busy = counts.render_s / counts.elapsed_s / threads
                rounds.append(
                    (alone.inbetweens_per_second, rate, rate / alone.inbetweens_per_second, busy, alone.cpu_ms, cpu_ms)
                )
            speed, rate, ratio, busy, alone_ms, cpu_ms = np.median(rounds, 0)
            ratios = sorted(row[2] for row in rounds)
            print(f"{layout.width}x{layout.height}, {threads} of {cores} cores render, medians of {arguments.rounds}:")
            frames_per_s = counts.frames / counts.elapsed_s
            print(f"  alone {speed:.1f} in-betweens/s, in the film {rate:.1f} (last: {frames_per_s:.1f} frames/s)")
            print(f"  ratio {ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), render threads busy {busy:.0%}")
            print(f"  processor time of an in-between {alone_ms:.1f} ms alone, {cpu_ms:.1f} ms in the film")
            print(f"  last: {counts.where_time_went()}")


if __name__ == "__main__":
    main()
