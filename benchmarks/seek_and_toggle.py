"""Time of exact seeks with DRBA off and on, and of toggling, in one real mpv: `python benchmarks/seek_and_toggle.py FILM`.

A seek's time is from the command to mpv's `playback-restart`, the first picture at the new place. Toggling is measured from the
script message likewise; its A/V difference is read half a second later.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mpv_driver import Mpv  # noqa: E402

SEEKS, TOGGLES = 20, 10


def measure(film: str) -> dict[str, object]:
    rng = random.Random(2)
    seeks: dict[str, list[float]] = {}
    toggles: list[float] = []
    moved: list[float] = []
    av: list[float] = []
    with Mpv([film], "--keep-open=yes", script_opts={"drba-fps": "2x"}) as mpv:
        mpv.wait_for(lambda: (mpv.get("time-pos") or 0) > 0.5)
        places = [rng.uniform(0, mpv.get("duration") * 0.9) for _ in range(SEEKS)]
        for name in ("off", "on"):
            if name == "on":
                mpv.message("on")
                mpv.wait_log("DRBA on")
            seeks[name] = []
            for place in places:
                seeks[name].append(mpv.seek(place))
                mpv.wait_for(lambda t=place: (mpv.get("time-pos") or 0) > t + 0.2)
        mpv.seek(1.0)
        for k in range(TOGGLES):
            settled = time.monotonic() + 0.5
            mpv.wait_for(lambda end=settled: time.monotonic() > end)
            before, began, seen = mpv.get("time-pos"), time.monotonic(), len(mpv.events)
            mpv.message("off" if k % 2 == 0 else "on")
            shown = mpv.wait_for(
                lambda n=seen: next((e for e in mpv.events[n:] if e["event"] == "playback-restart"), None)
            )
            toggles.append(shown["at"] - began)
            moved.append(mpv.get("time-pos") - before)
            mpv.wait_for(lambda end=shown["at"] + 0.5: time.monotonic() > end)
            av.append(abs(mpv.get("avsync")))
    return {
        "film": film,
        **{f"seek_{name}_median_ms": round(median(values) * 1000) for name, values in seeks.items()},
        **{f"seek_{name}_worst_ms": round(max(values) * 1000) for name, values in seeks.items()},
        "toggle_median_ms": round(median(toggles) * 1000),
        "toggle_worst_ms": round(max(toggles) * 1000),
        "toggle_position_change_worst_ms": round(max(map(abs, moved)) * 1000),
        "av_difference_after_toggle_worst_ms": round(max(av) * 1000, 1),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(json.dumps(measure(sys.argv[1]), indent=2))
