"""A dilated ResNet with an atrous pyramid (He et al., 2016; Chen et al., "DeepLabV3", 2017): pictures to features of 1/8 their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.winograd import Convolution


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut: [b, c, h, w] -> [b, out, h / stride, w / stride].

    Args:
        channels: channels that come in.
        out: channels that go out.
        stride: of the first convolution.
        dilation: of both convolutions.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = Convolution(channels, out, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = Convolution(out, out, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Sequential | None = None
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


class AtrousPyramid(nn.Module):
    """Parallel convolutions of growing reach and the mean of the picture, joined: [b, c, h, w] -> [b, out, h, w]."""

    def __init__(self, channels: int, out: int, dilations: tuple[int, ...] = (12, 24, 36), dropout: float = 0.5) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(channels, out, 1, bias=False)])
        self.branches.extend(nn.Conv2d(channels, out, 3, padding=d, dilation=d, bias=False) for d in dilations)
        self.pooled = nn.Conv2d(channels, out, 1, bias=False)
        self.join = nn.Conv2d((2 + len(dilations)) * out, out, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches]
        parts.append(self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:]))
        return self.dropout(functional.relu(self.join(functional.relu(torch.cat(parts, 1)))))


class DeepLab(nn.Module):
    """[b, c, h, w] -> [b, out, h / 8, w / 8]; h and w divide by 8.

    Args:
        channels: channels of the picture.
        out: channels that go out.
        width: channels of the first stage; they double at each of the following three.
        blocks: residual blocks of the four stages, (3, 4, 6, 3) in ResNet-34.
    """

    def __init__(self, channels: int, out: int, width: int = 64, blocks: tuple[int, int, int, int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        # Only the second stage strides; the last two look further instead, on all their convolutions.
        strides, dilations = (1, 2, 1, 1), (1, 1, 2, 4)
        widths = [width, *(width << stage for stage in range(4))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualBlock(widths[stage + (i > 0)], widths[stage + 1], strides[stage] if i == 0 else 1, dilations[stage])
                    for i in range(blocks[stage])
                )
            )
            for stage in range(4)
        )
        self.pyramid = AtrousPyramid(widths[-1], out)
        self.out = Convolution(out, out, 3, padding=1, bias=False)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.stem_norm(self.stem(picture)), inplace=True))
        for stage in self.stages:
            x = stage(x)
        return self.out(self.pyramid(x))
