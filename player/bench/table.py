"""The tables of `drba bench` for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

WIDTH = 112  # columns; in a narrower terminal lines wrap, which is better than cut numbers
STAGES = ("upload", "flow", "network", "drm", "warp", "download", "other")
COMFORTABLE = 1.25  # times what is shown: decoding and hand-over want their share, as `auto` has it


def matrix_tables(result: dict[str, Any]) -> list[Any]:
    machine, settings = result["machine"], result["settings"]
    where = machine.get("gpu") or machine["cpu"]
    title = f"In-between frames on {where}: 24 -> 60 fps, {settings['pixel_format']}, {settings['threads']} threads"
    numbers = _table(title, ("ms", "p99 ms", "per s", "MiB", "floor ms", "x floor"))
    numbers.add_column("24 -> 60")
    for cell in result["cells"]:
        numbers.add_row(*_row(cell, settings["needed_per_second"]))
    parts: list[Any] = [numbers]
    measured = [cell for cell in result["cells"] if "median_ms" in cell]
    if measured:
        parts.append(_shares(measured))
    return [*parts, *(Text(line) for line in (*_reasons(result["cells"]), *_notes(result)))]


def _table(title: str, numbers: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "engine", "size"):
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _names(cell: dict[str, Any]) -> list[str]:
    return [cell["model"], cell["engine"], f"{cell['width']}x{cell['height']}"]


def _row(cell: dict[str, Any], needed: float) -> list[str]:
    floor = "" if cell.get("floor_ms") is None else short(cell["floor_ms"])
    if "median_ms" not in cell:
        return [*_names(cell), "", "", "", "", floor, "", "does not fit" if cell.get("too_slow") else "?"]
    per_second, memory = cell["in_betweens_per_second"], cell["peak_memory_mib"]
    measured = [cell["median_ms"], cell["p99_ms"], per_second]
    return [
        *_names(cell),
        *map(short, measured),
        "" if memory is None else f"{memory:.0f}",
        floor,
        short(cell["times_floor"]),
        verdict(per_second, needed),
    ]


def verdict(per_second: float, needed: float) -> str:
    if per_second >= needed * COMFORTABLE:
        return "fits"
    if per_second >= needed:
        return "just fits"
    return "does not fit"


def short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.01 else f"{value:.2g}"


def _shares(cells: list[dict[str, Any]]) -> Table:
    stages = [stage for stage in STAGES if any(stage in cell["shares"] for cell in cells)]
    headings = ("DRM" if stage == "drm" else stage for stage in stages)
    table = _table("Where one thread's time goes, %", headings)
    for cell in cells:
        shares = [f"{100 * cell['shares'][stage]:.1f}" if stage in cell["shares"] else "" for stage in stages]
        table.add_row(*_names(cell), *shares)
    return table


def _reasons(cells: list[dict[str, Any]]) -> list[str]:
    """Why cells were not measured, each reason once."""
    sizes: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        if "failed" in cell:
            sizes.setdefault((cell["model"], cell["engine"], cell["failed"]), []).append(_names(cell)[2])
    return [
        f"? {model}{f' on {engine}' if engine else ''}, {', '.join(at)}: {reason}"
        for (model, engine, reason), at in sizes.items()
    ]


def _notes(result: dict[str, Any]) -> list[str]:
    settings, lines = result["settings"], []
    for peak in result["peaks"].values():
        rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in peak["operations"].items())
        lines.append(
            f"Floor on {peak['device']}: {rates}, {peak['bytes'] / 1e9:,.1f} GB/s (measured before and after)."
        )
    lines.append(
        "ms: one triplet of two in-betweens at a time, halved; p99 of fewer than 100 triplets is the longest one. per s: "
        f"with all threads. x floor: the time of one at that rate. 24 -> 60 asks for {settings['needed_per_second']} a "
        "second. The floor of flow is of its bytes alone, without the optical flow's work. Formulas: docs/performance.md."
    )
    if any(cell["weights"] == "random" and "median_ms" in cell for cell in result["cells"]):
        lines.append(
            "Weights without meaning were used where a model's own are not installed: arithmetic takes the same time for "
            "all values; only the warps read more or less scattered."
        )
    if result["machine"]["load_1min"] > 0.5 * result["machine"]["cpu_count"]:
        lines.append(
            f"The machine was busy when this began (load {result['machine']['load_1min']}): too slow by an unknown factor."
        )
    if result["interrupted"]:
        lines.append("Interrupted: the rest was not measured.")
    return lines
