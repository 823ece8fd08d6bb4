"""The smaller networks of GMFSS: features to splat, the splatting metric, and the fusion of what was splatted.

Parameter names are those of the public checkpoints. Source: GMFSS_Fortuna, https://github.com/98mxr/GMFSS_Fortuna; the
grid network after Fourure et al., "Residual Conv-Deconv Grid Network for Semantic Segmentation" (BMVC 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .warp import backward_warp, precise

FEATURE_WIDTHS = (64, 128, 192)  # at a half, a quarter and an eighth of the frame
METRIC_LIMIT = 10.0  # of the bounded metric
# A pixel is taken as occluded where flow and the flow back disagree by more than this (Meister et al., "UnFlow", AAAI
# 2018).
CONSISTENCY_SHARE, CONSISTENCY_PIXELS = 0.01, 0.5


def _two_convolutions(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.PReLU(), nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1)
    )


def _enlarge(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.PReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.PReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1)
    )


class FeatureNet(nn.Module):
    """(N, 3, H, W) -> features of 64, 128, 192 channels at a half, a quarter and an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _two_convolutions(3, FEATURE_WIDTHS[0], 2)
        self.block2 = _two_convolutions(FEATURE_WIDTHS[0], FEATURE_WIDTHS[1], 2)
        self.block3 = _two_convolutions(FEATURE_WIDTHS[1], FEATURE_WIDTHS[2], 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.block1(x)
        quarter = self.block2(half)
        return half, quarter, self.block3(quarter)


class MetricNet(nn.Module):
    """How much each pixel counts where several land on one (softmax splatting), from both images and flows.

    `bounded` is the form of GMFSS-union, which limits the metric to ±10.
    """

    def __init__(self, *, bounded: bool) -> None:
        super().__init__()
        self.metric_in = nn.Conv2d(14, 64, 3, 1, 1)
        for i in (1, 2, 3):
            self.add_module(f"metric_net{i}", nn.Sequential(nn.PReLU(), nn.Conv2d(64, 64, 3, 1, 1)))
        self.metric_out = nn.Sequential(nn.PReLU(), nn.Conv2d(64, 2, 3, 1, 1))
        self.bounded = bounded

    def forward(self, first: Tensor, second: Tensor, flow01: Tensor, flow10: Tensor) -> tuple[Tensor, Tensor]:
        """Images (1, 3, h, w), flows (1, 2, h, w) in pixels -> metrics of both images, float32 (1, 1, h, w)."""
        h, w = first.shape[-2:]
        error0 = (first - backward_warp(second, flow01, padding="zeros")).abs().mean(1, keepdim=True)
        error1 = (second - backward_warp(first, flow10, padding="zeros")).abs().mean(1, keepdim=True)
        span = flow01.new_tensor([(w - 1) / 2, (h - 1) / 2]).view(1, 2, 1, 1)
        occluded = [inconsistent(flow01, flow10), inconsistent(flow10, flow01)]
        inputs = torch.cat((first, second, -error0, -error1, flow01 / span, flow10 / span, *occluded), 1)
        x = self.metric_in(inputs.to(self.metric_in.weight.dtype))
        for i in (1, 2, 3):
            x = x + self.get_submodule(f"metric_net{i}")(x)
        metric = precise(self.metric_out(x))
        metric = METRIC_LIMIT * torch.tanh(metric) if self.bounded else metric
        return metric[:, :1], metric[:, 1:]


def inconsistent(flow: Tensor, flow_back: Tensor) -> Tensor:
    """1 where following `flow` and then the flow back does not return, else 0: (N, 2, h, w) twice -> (N, 1, h, w)."""
    gap = (flow + backward_warp(flow_back, flow, padding="zeros")).norm(dim=1, keepdim=True)
    lengths = flow.norm(dim=1, keepdim=True) + flow_back.norm(dim=1, keepdim=True)
    return (gap > CONSISTENCY_SHARE * lengths + CONSISTENCY_PIXELS).to(flow.dtype)


class PixelShuffleTail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.PReLU())
        self.upsample = nn.Sequential(nn.Conv2d(64, 256, 3, 1, 1), nn.PixelShuffle(2))
        self.conv_last = nn.Conv2d(64, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_last(self.upsample(self.conv_before_upsample(x)))


class FusionNet(nn.Module):
    """A grid of three rows (half, quarter, eighth size), down on the left and up on the right, that makes one frame of
    splatted images (N, images, H/2, W/2) and the splatted features of both frames; returns (N, 3, H, W), not clamped.

    `head` is what the checkpoint calls the entry of the images.
    """

    def __init__(self, images: int, head: str) -> None:
        super().__init__()
        self.head = f"residual_model_{head}"
        self.add_module(self.head, _two_convolutions(images, FEATURE_WIDTHS[0]))
        for row, width in enumerate(FEATURE_WIDTHS):
            self.add_module(f"residual_model_head{row + 1}", _two_convolutions(2 * width, width))
            for column in (1, 4, 5):
                self.add_module(f"residual_model_{row}{column}", _two_convolutions(width, width))
        for row in (1, 2):
            above, width = FEATURE_WIDTHS[row - 1], FEATURE_WIDTHS[row]
            for column in (0, 1):
                self.add_module(f"downsample_model_{row}{column}", _two_convolutions(above, width, 2))
            for column in (4, 5):
                self.add_module(f"upsample_model_{row - 1}{column}", _enlarge(width, above))
        # Row 2 has no cell to its right that needs one more step up, hence its names end at 25.
        self.residual_model_tail = PixelShuffleTail()

    def forward(self, images: Tensor, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        run = self._run
        entry = run(self.head, images) + run("residual_model_head1", features[0])
        quarter = run("downsample_model_10", entry) + run("residual_model_head2", features[1])
        eighth = run("downsample_model_20", quarter) + run("residual_model_head3", features[2])

        rows = [self._residual(0, 1, entry)]
        rows.append(self._residual(1, 1, quarter) + run("downsample_model_11", rows[0]))
        rows.append(self._residual(2, 1, eighth) + run("downsample_model_21", rows[1]))
        for column in (4, 5):
            rows[2] = self._residual(2, column, rows[2])
            for row in (1, 0):
                rows[row] = run(f"upsample_model_{row}{column}", rows[row + 1]) + self._residual(row, column, rows[row])
        return self.residual_model_tail(rows[0])

    def _run(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(name)(x)

    def _residual(self, row: int, column: int, x: Tensor) -> Tensor:
        return self._run(f"residual_model_{row}{column}", x) + x
