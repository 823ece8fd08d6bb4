"""From a drawn picture to the planes of a video frame, for every matrix, range and pixel format of `drba.pixels`."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drba.errors import InputError
from drba.pixels import PixelFormat, Plane

#: Weights of red and blue in luma (Kr, Kb) by FFmpeg's name of the matrix; ITU-R BT.601, BT.709 and BT.2020.
LUMA_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "bt2020nc": (0.2627, 0.0593),
}


@lru_cache
def matrix_from_bgr(matrix: str, depth: int, full_range: bool) -> NDArray[np.float32]:
    """3x4 affine matrix from BGR in 0..255 to Y, Cb, Cr of `depth` bits; InputError for an unknown `matrix`."""
    if matrix not in LUMA_WEIGHTS:
        raise InputError(f"matrix {matrix!r} is unknown; expected one of {', '.join(LUMA_WEIGHTS)}")
    red, blue = LUMA_WEIGHTS[matrix]
    luma = np.array([blue, 1 - red - blue, red])
    chroma_blue = (np.array([1, 0, 0]) - luma) / (2 * (1 - blue))
    chroma_red = (np.array([0, 0, 1]) - luma) / (2 * (1 - red))
    unit = 1 << (depth - 8)
    top = (1 << depth) - 1
    luma_span, chroma_span, black = (top, top, 0) if full_range else (219 * unit, 224 * unit, 16 * unit)
    offsets = np.array([black, 128 * unit, 128 * unit])
    rows = np.stack([luma * luma_span, chroma_blue * chroma_span, chroma_red * chroma_span]) / 255
    return np.column_stack([rows, offsets]).astype(np.float32)


def planes_from_bgr(picture: NDArray[np.uint8], fmt: PixelFormat, matrix: str, full_range: bool) -> list[Plane]:
    """Planes of `picture`, 8-bit BGR of (height, width, 3); a chroma sample is the mean of the pixels it stands for.

    Pictures are taken to have the transfer and primaries of the video already. RGB formats ignore matrix and range.
    """
    if fmt.is_rgb:
        scaled = np.rint(picture * (fmt.max_value / 255)).astype(fmt.dtype)
        return [np.ascontiguousarray(scaled[..., channel]) for channel in (1, 0, 2)]
    affine = matrix_from_bgr(matrix, fmt.depth, full_range)
    if fmt.depth > 8:
        picture = picture.astype(np.float32)
    planes = [cv2.transform(picture, affine[:1])]
    if fmt.planes > 1:
        small = _averaged(picture, fmt.chroma_shift_x, fmt.chroma_shift_y)  # the mean commutes with an affine map
        planes += [cv2.transform(small, affine[row : row + 1]) for row in (1, 2)]
    if fmt.depth == 8:
        return [np.asarray(plane, np.uint8) for plane in planes]
    return [np.clip(np.rint(plane), 0, fmt.max_value).astype(np.uint16) for plane in planes]


def _averaged(picture: np.ndarray, shift_x: int, shift_y: int) -> np.ndarray:
    """Each block of 2^shift_x x 2^shift_y pixels as its mean; an odd edge counts twice."""
    rows, columns = picture.shape[:2]
    below, right = -rows % (1 << shift_y), -columns % (1 << shift_x)
    if below or right:
        picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
    if not shift_x and not shift_y:
        return picture
    size = (picture.shape[1] >> shift_x, picture.shape[0] >> shift_y)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
