"""What a viewer notices of a busy machine, with DRBA off and on in turn: `python benchmarks/busy_machine.py FILM [FPS [ROUNDS]]`.

25 s of the film play in a real mpv (null output); from second 5 to 15 a program of normal priority keeps every core busy. Printed
for each run: frames that mpv dropped, A/V difference, and with DRBA on the levels with the times at which they began.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hog import hog  # noqa: E402
from mpv_driver import Mpv  # noqa: E402

from player.report import percentile  # noqa: E402

PLAYED_S, HOG_FROM_S, HOG_UNTIL_S = 25.0, 5.0, 15.0
SAMPLE_S = 0.05


def play(film: str, fps: str, *, on: bool) -> dict[str, Any]:
    """One run; times in the result are seconds since the 25 s began."""
    av_ms: list[float] = []
    dropped = {"vo": 0, "decoder": 0}
    opts = {"drba-fps": fps, "drba-auto": "always" if on else "no"}
    with Mpv([film], "--loop-file=inf", script_opts=opts) as mpv, contextlib.ExitStack() as busy:
        if on:
            mpv.wait_log("DRBA on")
        mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > 1)
        before = {"vo": mpv.get("frame-drop-count"), "decoder": mpv.get("decoder-frame-drop-count")}
        began = time.monotonic()
        hogging = False
        while (now_s := time.monotonic() - began) < PLAYED_S:
            if not hogging and now_s >= HOG_FROM_S:
                busy.enter_context(hog(os.cpu_count() or 1))
                hogging = True
            if now_s >= HOG_UNTIL_S:
                busy.close()
            dropped["vo"] = (mpv.get("frame-drop-count") or 0) - before["vo"]
            dropped["decoder"] = (mpv.get("decoder-frame-drop-count") or 0) - before["decoder"]
            if not mpv.get("seeking") and mpv.get("avsync") is not None:
                av_ms.append(abs(mpv.get("avsync")) * 1000)
            pause_until = time.monotonic() + SAMPLE_S
            mpv.wait_for(lambda end=pause_until: time.monotonic() > end)
        stats = [
            (event["at"] - began, json.loads(event["args"][1]))
            for event in mpv.events
            if event["event"] == "client-message" and event["args"][0] == "drba-stats"
        ]
    return {
        "dropped": dropped,
        "av_ms": {
            "median": round(median(av_ms), 2),
            "p95": round(percentile(av_ms, 95) or 0, 2),
            "max": round(max(av_ms), 2),
        },
        "stats": stats,
    }


def levels_of(stats: list[tuple[float, dict[str, Any]]]) -> list[tuple[float, str, str]]:
    """(s, level, why) whenever the level differs from the one before."""
    found: list[tuple[float, str, str]] = []
    for at_s, line in stats:
        if "level" in line and (not found or found[-1][1] != line["level"]):
            found.append((round(at_s, 1), line["level"], line.get("why", "")))
    return found


def main() -> None:
    film, fps, rounds = sys.argv[1], (sys.argv[2:] or ["2x"])[0], int((sys.argv[3:] or ["1"])[0])
    for _ in range(rounds):
        for on in (False, True):
            result = play(film, fps, on=on)
            stats = result.pop("stats")
            line = {"drba": "on" if on else "off", **result}
            if on:
                first, last = stats[0][1], stats[-1][1]
                line["frames"] = {
                    key: last[key] - first[key] for key in last if key.endswith("_frames") and key != "level_frames"
                }
                line["levels"] = levels_of(stats)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
