"""Measuring which network is fast enough in a process of its own, while the film plays already.

PyTorch takes seconds to import, during which nothing else in a process runs, and hundreds of MiB, for nothing where no network
is fast enough. What the process finds out it leaves in the calibration.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .base import MEASURING, SharedBuild, StreamSpec
from .shared_builds import SharedBuilds

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-c", "from engines.measuring import main; main()")
TIMEOUT_S = 120.0
_running = SharedBuilds()


def measure_in_background(spec: StreamSpec) -> SharedBuild:
    """Begin to measure what `spec` could play with, or join those who wait for the same. It always ends as `done` unless it is
    cancelled: what has gone wrong is in the log, and what is not measured then is not known."""
    return _running.join(spec, lambda: Measurement(spec))


class Measurement:
    """See `base.Build`."""

    name = MEASURING
    progress = 0.0
    message = "which network is fast enough here is being measured"

    def __init__(self, spec: StreamSpec, command: Sequence[str] = COMMAND) -> None:
        self.state = "building"
        self._spec, self._command = spec, command
        self._lock = threading.Lock()
        self._changed: Callable[[], None] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._run, name="measurement", daemon=True).start()

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def cancel(self) -> None:
        with self._lock:
            if self.state != "building":
                return
            self.state = "cancelled"
            if self._process is not None:
                self._process.kill()
        self._changed()

    def _run(self) -> None:
        try:
            failure = self._measured()
        except (OSError, subprocess.SubprocessError) as error:
            failure = str(error)
        with self._lock:
            if self.state != "building":
                return
            self.state = "done"
        if failure:
            log.warning("how fast the networks are could not be measured: %s", failure)
        self._changed()

    def _measured(self) -> str:
        """Run the process to its end; why it failed, empty where it did not."""
        pipe = subprocess.PIPE
        null = subprocess.DEVNULL
        # In our own folder, for Python imports from the present one first.
        with subprocess.Popen(self._command, stdin=pipe, stdout=null, stderr=pipe, cwd=ROOT) as process:
            with self._lock:
                self._process = process
                if self.state != "building":
                    process.kill()
            assert process.stdin is not None and process.stderr is not None
            pickle.dump(self._spec, process.stdin)
            process.stdin.flush()  # left open: its end tells the process that nobody waits any more
            watchdog = threading.Timer(TIMEOUT_S, process.kill)
            watchdog.start()
            said = process.stderr.read().decode(errors="replace").strip()
            status = process.wait()
            watchdog.cancel()
        return "" if status == 0 else f"exit status {status}: {said.splitlines()[-1] if said else 'it said nothing'}"


def main() -> None:
    """Measure for the StreamSpec on standard input, until that is closed."""
    from .registry import ENGINES
    from .start import open_renderer

    spec: StreamSpec = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    open_renderer(spec, [replace(engine, build=None) for engine in ENGINES]).close()


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
