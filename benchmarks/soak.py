"""Half an hour of seeks, toggles and dying servers: `python benchmarks/soak.py [--minutes N] [--seed N]`.

A stock mpv and drba-player (null outputs) play a drawn film of 320x180 at one server. What is done, and how it is measured, is in
tests/soaking.py, frame_ledger.py and footprint.py; a short run is a test. Prints tables for docs/reliability.md. The exit status
is 1 if a limit is broken: memory that grows by 1 MiB a minute or more, open files or threads that do not stay what they were, a
frame that is missing, comes twice or shows the wrong picture.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import clips  # noqa: E402
from soaking import Life, Soak, soak  # noqa: E402

from server.client import stop_server  # noqa: E402

FILM_S = 120
WARM_UP_S = (
    240.0  # of each process: until it has been through everything once. Runs below ten minutes say nothing of memory
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)g")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)d")
    parser.add_argument("--samples", metavar="FILE", type=Path, help="write every sample of memory there, as CSV")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        folder = Path(name)
        for variable in ("DRBA_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "DRBA_SHIPPED_DIR"):
            (folder / variable).mkdir(mode=0o700)
            os.environ[variable] = str(folder / variable)
        spec = replace(clips.SMALL, seconds=FILM_S)
        film = clips.cached(folder, "film.mkv", spec).path
        try:
            result = soak(
                film,
                spec.rate,
                folder,
                minutes=arguments.minutes,
                seed=arguments.seed,
                warm_up_s=WARM_UP_S,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )
        finally:
            stop_server()
    if arguments.samples:
        lines = [f"{at:.1f},{life.name},{life.pid},{mib:.2f}" for life in result.lives for at, mib in life.memory]
        arguments.samples.write_text("\n".join(["s,process,pid,MiB", *lines]) + "\n")
    report(result)
    return 1 if result.problems else 0


def report(result: Soak) -> None:
    print(
        "| process | lived, min | MiB at first | after warming up | at the end | slope, MiB/min | open files | threads |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(life.name for life in result.lives):
        lives = [life for life in result.lives if life.name == name]
        longest = max(lives, key=lambda life: life.memory[-1][0] - life.began_s)
        print(row(longest, result))
    done: Counter[str] = Counter()
    print(
        "\n| player | track | frames received | stretches | expected in them | seen | lost | twice | pictures compared |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for viewer in result.viewers:
        done += viewer.done
        for track, counts in viewer.ledger.counts.items():
            cells = (
                viewer.name, track, counts.received, counts.stretches, counts.expected, counts.seen, counts.lost, counts.doubled,
                counts.pictures,
            )  # fmt: skip
            print("| " + " | ".join(map(str, cells)) + " |")
        print(f"{viewer.name}: {viewer.ledger.counts['drba'].drawn} in-betweens seen", file=sys.stderr)
    acts = ", ".join(f"{count} x {what}" for what, count in done.most_common())
    print(f"\n{result.minutes:g} minutes, seed {result.seed}: {acts}; {result.deaths} servers killed; "
          f"open files and threads compared {result.comparisons} times.")  # fmt: skip
    for problem in result.problems:
        print(f"LIMIT BROKEN: {problem}")


def row(life: Life, result: Soak) -> str:
    settled = life.settled(result.warm_up_s)
    slope = life.slope(result.warm_up_s)
    held = sorted({(found.handles, found.threads) for found in life.held})
    cells = (
        life.name,
        f"{(life.memory[-1][0] - life.began_s) / 60:.1f}",
        f"{life.memory[0][1]:.1f}",
        f"{settled[0][1]:.1f}" if settled else "-",
        f"{life.memory[-1][1]:.1f}",
        "-" if slope is None else f"{slope:+.3f}",
        ", ".join(str(handles) for handles, _ in held),
        ", ".join(str(threads) for _, threads in held),
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
