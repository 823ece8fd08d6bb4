"""How far a render is and where its time goes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..plan import Kind


@dataclass
class Counts:
    """Output frames by kind, and seconds: `decode_s` decoding and comparing, `render_s` of all render threads, `encode_s`
    encoding, `wait_s` the encoder waiting for frames. Each field has one writing thread, but for `render_s`."""

    source: int = 0
    held: int = 0
    cut: int = 0
    interpolated: int = 0
    decode_s: float = 0.0
    render_s: float = 0.0
    encode_s: float = 0.0
    wait_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def frames(self) -> int:
        return self.source + self.held + self.cut + self.interpolated

    def count(self, kind: Kind) -> None:
        setattr(self, kind.value, getattr(self, kind.value) + 1)

    def rendered(self, seconds: float) -> None:
        with self._lock:
            self.render_s += seconds
