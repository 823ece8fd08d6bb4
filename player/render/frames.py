"""Pictures on their way to the encoder: FFmpeg frames whose planes engines write to directly, with no copy in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from av.video.frame import VideoFrame

from drba.pixels import FrameLayout, Plane


class FrameMaker:
    """Frames of `width` x `height` (at least the layout's) in the layout's format. Thread-safe."""

    def __init__(self, layout: FrameLayout, width: int, height: int) -> None:
        self._layout = layout
        self._size = (width, height)
        self._padded = self._size != (layout.width, layout.height)

    def empty(self) -> tuple[VideoFrame, list[Plane]]:
        """A new frame and its planes without the padding; call `pad` when they are written."""
        frame = VideoFrame(*self._size, self._layout.format.name)
        whole = self._whole_planes(frame)
        return frame, [
            plane[:rows, :samples] for plane, (rows, samples) in zip(whole, self._layout.plane_shapes, strict=True)
        ]

    def copy(self, planes: Sequence[Plane]) -> VideoFrame:
        """The same picture without what decoders attach (captions, frame types): encoders would act on it."""
        frame, views = self.empty()
        for view, plane in zip(views, planes, strict=True):
            np.copyto(view, plane)
        self.pad(frame)
        return frame

    def pad(self, frame: VideoFrame) -> None:
        """Repeat the last column and row into the padding."""
        if not self._padded:
            return
        for plane, (rows, samples) in zip(self._whole_planes(frame), self._layout.plane_shapes, strict=True):
            plane[:rows, samples:] = plane[:rows, samples - 1 : samples]
            plane[rows:] = plane[rows - 1]

    def _whole_planes(self, frame: VideoFrame) -> list[Plane]:
        layout = FrameLayout(*self._size, self._layout.format)
        planes: list[Plane] = []
        for plane, (rows, samples) in zip(frame.planes, layout.plane_shapes, strict=True):
            values = np.frombuffer(memoryview(plane), layout.format.dtype)
            planes.append(values.reshape(-1, plane.line_size // layout.format.sample_bytes)[:rows, :samples])
        return planes
