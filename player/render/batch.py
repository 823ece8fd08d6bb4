"""Many films one after the other: what is there is skipped, what fails does not stop the rest."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from drba.errors import DrbaError

from .films import Films
from .progress import Display

INTERRUPTED = 130  # the exit status of a program that was ended by Ctrl+C
FAILED = 1  # of one that rendered some films and others not


def render_all(films: Films, display: Display, render_one: Callable[[str, Path], int], *, force: bool) -> int:
    """Render each film with `render_one(source, output) -> exit status`; returns the exit status for all of them.

    0: every output is there. FAILED: some are not; the last line names them. INTERRUPTED: stopped, which ends the whole.
    """
    folder = films.pairs[0][1].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        display.failed(f"{folder}: cannot be made ({error.strerror})")
        return 2
    rendered, skipped, failed = 0, 0, []
    for number, (source, output) in enumerate(films.pairs, 1):
        if output.exists() and not force:
            display.note(f"{output} exists already: skipped; --force renders it again")
            skipped += 1
            continue
        display.film(number, len(films.pairs), skipped)
        try:
            if render_one(source, output) == INTERRUPTED:
                return INTERRUPTED
            rendered += 1
        except DrbaError as error:
            display.failed(str(error) if str(error).startswith(source) else f"{source}: {error}")
            failed.append(source)
        except Exception as error:  # a film that nobody thought of must not cost the night for the others
            traceback.print_exc()
            display.failed(f"{source}: {type(error).__name__}: {error}")
            failed.append(source)
    words = f"{len(films.pairs)} films: {rendered} rendered, {skipped} there already, {len(failed)} failed"
    display.note(words + (f": {', '.join(failed)}" if failed else ""))
    return FAILED if failed else 0
