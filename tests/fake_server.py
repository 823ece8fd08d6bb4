"""A drba-server with a renderer whose results are easily computed, for tests: `python tests/fake_server.py [OPTIONS]`.

It takes all of drba-server's options. A model's name says how the renderer behaves: `mix` mixes the neighbours, `noop`
does nothing, `boom` fails at every request, `missing` cannot be opened, opening `deadly` ends the server, and
`gate:FIFO` waits at every request until a byte can be read from that pipe, after writing one to the pipe FIFO-arrivals:
the test decides when a request ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np

from drba.errors import ModelError
from drba.pixels import Plane
from engines.base import StreamRenderer, StreamSpec, Triplet
from engines.swap import SwappingRenderer
from server import card_process
from server.main import main


def mix(triplet: Triplet, at: float, outputs: Sequence[Plane]) -> None:
    """The linear mix of the two frames around `at`, rounded down."""
    far, weight = (triplet.previous, 1 - at) if at < 1 else (triplet.following, at - 1)
    for index, output in enumerate(outputs):
        near = triplet.middle.planes[index].astype(np.float32)
        other = near if far is None else far.planes[index].astype(np.float32)
        output[...] = (near + (other - near) * np.float32(weight)).astype(output.dtype)


class FakeRenderer:
    engine = "fake"

    def __init__(self, spec: StreamSpec) -> None:
        self.model, _, self._argument = spec.model.partition(":")
        if self.model == "deadly":
            os._exit(9)
        if self.model == "missing":
            raise ModelError("model 'missing' has no weights; expected a file; run drba download missing")

    def render(self, triplet: Triplet, times: Sequence[float], outputs: Sequence[Sequence[Plane]]) -> None:
        if self.model == "boom":
            raise RuntimeError("the device is on fire")
        if self.model == "gate":
            arrivals = os.open(f"{self._argument}-arrivals", os.O_RDWR)  # so that opening waits for nobody
            gate = os.open(self._argument, os.O_RDWR)
            os.write(arrivals, b"\0")
            os.read(gate, 1)
            os.close(gate)
            os.close(arrivals)
        if self.model != "noop":
            for at, output in zip(times, outputs, strict=True):
                mix(triplet, at, output)

    def close(self) -> None:
        pass


def open_fake(spec: StreamSpec) -> StreamRenderer:
    return SwappingRenderer(FakeRenderer(spec), f"a fake of {spec.model[:9]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["card"]:  # the process of a card, with DRBA_DEVICES=cpu,cpu
        card_process.main(sys.argv[2:], open_renderer=open_fake)
    if "DRBA_TEST_START_LOG" in os.environ:  # counts the processes that were started
        with open(os.environ["DRBA_TEST_START_LOG"], "a") as file:
            file.write(f"{os.getpid()}\n")
    sys.exit(main(open_renderer=open_fake, card_command=[sys.executable, __file__, "card"]))
