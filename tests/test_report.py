"""The report: what the bridge counted, film by film, put together."""

from __future__ import annotations

import json

from player.report import Report

COUNTS = {
    "source_fps": 24.0,
    "output_fps": 48.0,
    "model": "flow",
    "engine": "cpu",
    "output_frames": 100,
    "late_frames": 1,
}


def told(report: Report, film: str, frames: dict[str, int], levels: list[list[object]]) -> None:
    report.stats(json.dumps({"id": film, **COUNTS, "level_frames": frames, "levels": levels}))


def test_levels_over_time_and_their_shares() -> None:
    report = Report()
    told(report, "1", {"flow": 60}, [[0.0, "flow", ""]])
    told(report, "1", {"flow": 60, "source": 40}, [[0.0, "flow", ""], [5.2, "source", "the machine is busy"]])
    told(report, "2", {"flow": 100}, [[0.0, "flow", ""]])
    found = report.as_dict()
    assert found["level_shares"] == {"flow": 0.8, "source": 0.2}
    assert found["levels"] == [
        {"film": "1", "time_s": 0.0, "level": "flow", "why": ""},
        {"film": "1", "time_s": 5.2, "level": "source", "why": "the machine is busy"},
        {"film": "2", "time_s": 0.0, "level": "flow", "why": ""},
    ]
    assert "Levels: flow 80%, source 20%." in report.summary()


def test_one_level_needs_no_line_and_no_film_no_shares() -> None:
    report = Report()
    assert report.as_dict()["level_shares"] == {} and report.summary() == "DRBA showed no frames."
    told(report, "1", {"flow": 100}, [[0.0, "flow", ""]])
    assert "Levels" not in report.summary()
