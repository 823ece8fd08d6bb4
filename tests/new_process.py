"""What the choice of a model does in a process of its own: what it opens, and what it has to import for that."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from drba.pixels import FrameLayout, pixel_format
from engines import ENGINES, StreamSpec, open_renderer
{before}
spec = StreamSpec(FrameLayout({width}, {height}, pixel_format("yuv420p")), model="auto")
print(open_renderer(spec, at_once={at_once}).model, *{{"torch"}} & {{*sys.modules}})
"""


def opened(width: int, height: int, *, before: str = "", at_once: bool = False) -> list[str]:
    """The model that `auto` opens for films of this size, after the line `before`, and `torch` where that was imported."""
    code = CODE.format(width=width, height=height, before=before, at_once=at_once)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()
