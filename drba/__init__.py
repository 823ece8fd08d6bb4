"""The DRBA algorithm: no I/O, no processes, and no torch until a network is asked for."""

from .models import ModelSpec, load, models

__all__ = ["ModelSpec", "load", "models"]
__version__ = "0.1.0"
