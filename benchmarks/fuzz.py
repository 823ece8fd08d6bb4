"""A million messages that nobody should send, and as many Range headers: `python benchmarks/fuzz.py [--cases N] [--seed N]`.

What is tried, and what counts as a fault, is in tests/fuzzing.py, fuzz_frames.py and fuzz_dispatch.py; a short run is a test.
Prints a table; a fault is printed with the seed and number that make it again, and the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz_dispatch import DispatchFuzzer  # noqa: E402
from fuzz_frames import FrameFuzzer  # noqa: E402
from fuzzing import Fuzzer, RangeFuzzer, reply_fuzzer, request_fuzzer  # noqa: E402

SHARES = {"requests": 0.5, "replies": 0.5, "ranges": 1.0, "frames": 0.2, "sequences": 0.01}  # of --cases
ROUND = 50_000  # cases of one seed: another seed begins with nothing kept


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000, help="messages (default: %(default)d)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)d")
    arguments = parser.parse_args(argv)
    print("| what | cases | CPU s | kinds of refusal | accepted | faults |\n|---|---|---|---|---|---|")
    faults = 0
    for name, run in (
        ("requests", lambda seed, cases: _messages(request_fuzzer(seed), cases)),
        ("replies", lambda seed, cases: _messages(reply_fuzzer(seed), cases)),
        ("ranges", _ranges),
        ("frames", _frames),
        ("sequences", _sequences),
    ):
        faults += _row(name, run, arguments.seed, int(arguments.cases * SHARES[name]))
    return 1 if faults else 0


def _row(name: str, run: Callable[[int, int], tuple[set[str], int]], first_seed: int, cases: int) -> int:
    began_s, refused, accepted, faults, done = time.process_time(), set[str](), 0, 0, 0
    while done < cases:
        count, seed = min(ROUND, cases - done), first_seed + done // ROUND
        try:
            words, taken = run(seed, count)
            refused |= words
            accepted += taken
        except Exception as error:
            faults += 1
            print(f"{name}, seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)
        done += count
    print(
        f"| {name} | {done} | {time.process_time() - began_s:.1f} | {len(refused)} | {accepted} | {faults} |",
        flush=True,
    )
    return faults


def _messages(fuzzer: Fuzzer, cases: int) -> tuple[set[str], int]:
    for number in range(cases):
        parts = fuzzer.case()
        try:
            fuzzer.check(parts)
        except Exception as error:
            raise AssertionError(f"case {number}, {[part[:200] for part in parts[:3]]}: {error!r}") from error
    return set(fuzzer.refused), fuzzer.accepted.total()


def _ranges(seed: int, cases: int) -> tuple[set[str], int]:
    fuzzer = RangeFuzzer(seed)
    taken = sum(fuzzer.check(fuzzer.case()) for _ in range(cases))
    return {"416"}, taken


def _frames(seed: int, cases: int) -> tuple[set[str], int]:
    fuzzer = FrameFuzzer(seed)
    return set(), sum(fuzzer.check(fuzzer.case()) for _ in range(cases))


def _sequences(seed: int, cases: int) -> tuple[set[str], int]:
    fuzzer = DispatchFuzzer(seed)
    for _ in range(cases):
        fuzzer.step()
    answers = fuzzer.end()
    return set(answers) - {"rendered"}, answers["rendered"]


if __name__ == "__main__":
    sys.exit(main())
