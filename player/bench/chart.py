"""The chart of `drba bench`: one panel a size, one bar a model and engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drba.errors import InputError

from .table import short

COLOURS = ("#3b6ea8", "#d98032", "#5a9a68", "#8a64a8")
INK, FAINT = "#222222", "#8a8a8a"


def check_chart(path: Path) -> None:
    """InputError where no chart could be written there in the end; before anything is measured."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("--chart needs matplotlib: pip install 'drba-player[bench]'") from error
    if path.suffix.lower() != ".png":
        raise InputError(f"--chart {path}: expected a name that ends in .png")
    try:
        path.open("ab").close()
    except OSError as error:
        raise InputError(f"--chart {path}: cannot be written ({error.strerror}); choose another folder") from error


def write_chart(result: dict[str, Any], path: Path) -> None:
    """A PNG; `result` is the command's JSON object with at least one cell. On the logarithmic axis the line from a floor's
    mark to the dot is as long as the measured time is many times the floor."""
    from matplotlib.figure import Figure

    cells = result["cells"]
    sizes = list(dict.fromkeys((cell["width"], cell["height"]) for cell in cells))
    rows = list(dict.fromkeys((cell["model"], cell["engine"]) for cell in cells))
    engines = list(dict.fromkeys(engine for _, engine in rows))
    limit_ms = 1000 / result["settings"]["needed_per_second"]
    shown = [limit_ms, *filter(None, (value for cell in cells for value in (_ms(cell), cell.get("floor_ms"))))]
    figure = Figure(figsize=(2.4 + 3.0 * len(sizes), 1.3 + 0.32 * len(rows)), layout="constrained", dpi=130)
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axis, size in zip(panels, sizes, strict=True):
        axis.set_title(f"{size[0]}x{size[1]}", fontsize=10, color=INK)
        axis.set_xscale("log")
        axis.set_xlim(min(shown) / 2, max(shown) * 6)  # room for the number
        axis.axvline(limit_ms, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for cell in cells:
            if (cell["width"], cell["height"]) == size:
                place = rows.index((cell["model"], cell["engine"]))
                _draw(axis, cell, place, COLOURS[engines.index(cell["engine"]) % len(COLOURS)])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.tick_params(labelsize=8, colors=INK, length=0, which="both")
        axis.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(rows)), [f"{model}  {engine}" for model, engine in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel("ms an in-between frame, all threads (logarithmic)", fontsize=9, color=INK)
    machine = result["machine"]
    figure.suptitle(
        f"{machine.get('gpu') or machine['cpu']}, {result['date'][:10]}\n{_key(limit_ms)}", fontsize=9, color=INK
    )
    figure.savefig(path)


def _key(limit_ms: float) -> str:
    return f"dot: measured, mark: floor by operations and bytes, dashed: 24 -> 60 fps needs {limit_ms:.1f} ms"


def _ms(cell: dict[str, Any]) -> float | None:
    return 1000 / cell["in_betweens_per_second"] if "in_betweens_per_second" in cell else None


def _draw(axis: Any, cell: dict[str, Any], place: int, colour: str) -> None:
    took_ms, floor_ms = _ms(cell), cell.get("floor_ms")
    if floor_ms:
        axis.plot(floor_ms, place, "|", color=INK, markersize=11, markeredgewidth=2, zorder=3)
    if took_ms is not None:
        axis.plot([floor_ms or took_ms, took_ms], [place, place], color=colour, linewidth=2.5, alpha=0.5, zorder=2)
        axis.plot(took_ms, place, "o", color=colour, markersize=7, zorder=4)
        axis.text(
            max(took_ms, floor_ms or 0) * 1.3, place, short(took_ms), va="center", fontsize=8, color=INK, zorder=4
        )
        return
    why = cell["failed"].split(":")[0].split(" at ")[0]
    axis.text(
        0.02, place, why, transform=axis.get_yaxis_transform(), va="center", fontsize=8, style="italic", color=FAINT
    )
