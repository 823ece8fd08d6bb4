"""How alike two pictures are: PSNR and SSIM of planes of any depth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from drba.pixels import Plane

#: Frames that are restored exactly count as this good: the squared error of a frame is never taken as less than
#: peak^2 / 10^6. Otherwise one still frame's infinity would be the mean.
PSNR_CAP_DB = 60.0
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def mse(a: Plane, b: Plane, peak: int) -> float:
    """Mean squared error with the peak at 1, not below what PSNR_CAP_DB means."""
    error = cv2.norm(a, b, cv2.NORM_L2SQR) / a.size / peak**2
    return float(max(error, 10 ** (-PSNR_CAP_DB / 10)))


def psnr_db(error: float) -> float:
    return float(-10 * np.log10(error))


class SsimReference:
    """SSIM of pictures with one original: Wang et al. 2004 on luma, Gaussian window 11, sigma 1.5, K1 0.01, K2 0.03."""

    def __init__(self, original: Plane, peak: int) -> None:
        self._scale = np.float32(1 / peak)
        self._x = original * self._scale
        self._mean = _smooth(self._x)
        self._mean_square = self._mean * self._mean
        self._variance = _smooth(self._x * self._x) - self._mean_square

    def ssim(self, picture: Plane) -> float:
        """Mean of `map`."""
        return float(np.mean(self.map(picture)))

    def map(self, picture: Plane) -> NDArray[np.float32]:
        """SSIM around each pixel, borders reflected."""
        y = picture * self._scale
        mean = _smooth(y)
        product, square = self._mean * mean, mean * mean
        c1, c2 = np.float32(0.01**2), np.float32(0.03**2)
        numerator = (2 * product + c1) * (2 * (_smooth(self._x * y) - product) + c2)
        denominator = (self._mean_square + square + c1) * (self._variance + _smooth(y * y) - square + c2)
        return np.asarray(numerator / denominator, np.float32)


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(values, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA), np.float32)
