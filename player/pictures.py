"""Frames as pictures for the eye: planes to BGR, and PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from drba.errors import InputError
from drba.pixels import Plane

from .source import MATRIX_NAMES, StreamInfo, matrix_name

Image = NDArray[np.uint8]  # (height, width, 3), BGR

_MATRIX_CODES = {name: code for code, name in MATRIX_NAMES.items()}


def to_bgr(planes: Sequence[Plane], info: StreamInfo) -> Image:
    """8-bit BGR, (height, width, 3), by the stream's own matrix and range, or those that players assume."""
    layout = info.layout
    frame: Any = av.VideoFrame(layout.width, layout.height, layout.format.name)
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)
        samples = np.ascontiguousarray(plane).view(np.uint8)
        rows[: samples.shape[0], : samples.shape[1]] = samples
    if not layout.format.is_rgb:
        frame.colorspace = _MATRIX_CODES[matrix_name(info)]
        frame.color_range = 2 if info.colour.full_range else 1
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def write_png(path: Path, picture: Image) -> None:
    """Write `picture`, making its folder; InputError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = cv2.imwrite(str(path), picture)
    except (OSError, cv2.error) as error:
        raise InputError(f"{path}: the picture cannot be written ({error}); choose another folder") from error
    if not done:
        raise InputError(f"{path}: the picture cannot be written; choose another folder")
