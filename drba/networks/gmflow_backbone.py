"""Features of GMFlow: a residual network over one image, giving features at an eighth and a quarter of its size.

Source: Xu et al., "GMFlow: Learning Optical Flow via Global Matching" (CVPR 2022), with the two-scale refinement.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 128
IMAGE_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB
IMAGE_DEVIATION = (0.229, 0.224, 0.225)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.InstanceNorm2d(outputs)  # no parameters
        self.downsample = (
            None
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), self.norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv1(x)))
        y = F.relu(self.norm(self.conv2(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class SharedConvolution(nn.Module):
    """One 3x3 convolution whose weights serve two strides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels, 3, 3))

    def forward(self, x: Tensor, stride: int) -> Tensor:
        return F.conv2d(x, self.weight, stride=stride, padding=1)


class Backbone(nn.Module):
    """(N, 3, H, W) image in 0..1 -> features (N, 128, H/8, W/8) and (N, 128, H/4, W/4); H and W divisible by 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.norm1 = nn.InstanceNorm2d(64)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96, 1))
        self.layer3 = nn.Sequential(ResidualBlock(96, CHANNELS, 1), ResidualBlock(CHANNELS, CHANNELS, 1))
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.trident_conv = SharedConvolution(CHANNELS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = (image.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_DEVIATION))
        x = F.relu(self.norm1(self.conv1((image - mean) / deviation)))
        x = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return self.trident_conv(x, 2), self.trident_conv(x, 1)
