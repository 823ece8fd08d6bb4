"""The DRBA algorithm: no I/O, no processes, and no torch until a network is asked for."""

__version__ = "0.1.0"
