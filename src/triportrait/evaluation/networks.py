"""The networks of the learned metrics, with the key names of their published weights; nothing is downloaded.

Definitions follow published facts: AlexNet and VGG16 as torchvision numbers their layers; the Inception-v3 of the
FID (torchvision's names, 1,008 classes, average pools that leave out the border, a maximum pool in the last block);
ArcFace's IResNet; SyncNet. Weights come from a user's files, see :mod:`triportrait.evaluation.metric_weights`.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

#: Convolutions of torchvision's ``features`` (channels), "M" a maximum pool.
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
#: Blocks per stage of ArcFace's residual networks.
IRESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}


def _alexnet_features() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )


def _vgg_features(plan: tuple[int | str, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for size in plan:
        if isinstance(size, str):
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU()]
            channels = size
    return nn.Sequential(*layers)


class Lpips(nn.Module):
    """Learned perceptual distance (R. Zhang et al., CVPR 2018), version 0.1, without its dropout.

    Args:
        backbone: ``"alex"`` or ``"vgg"``.

    The state has ``features.*`` as torchvision's AlexNet or VGG16, and ``lin0..lin4.model.1.weight`` as published.
    """

    #: After which layers of ``features`` the distances are taken, and how many channels they have.
    TAPS = {"alex": ((1, 4, 7, 9, 11), (64, 192, 384, 256, 256)), "vgg": ((3, 8, 15, 22, 29), (64, 128, 256, 512, 512))}

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.features = _alexnet_features() if backbone == "alex" else _vgg_features(_VGG16)
        self._taps, channels = self.TAPS[backbone]
        for i, count in enumerate(channels):
            head = nn.Module()
            head.model = nn.Sequential(nn.Identity(), nn.Conv2d(count, 1, 1, bias=False))
            self.add_module(f"lin{i}", head)
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        self.register_buffer("shift", shift.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", scale.reshape(1, 3, 1, 1), persistent=False)

    def _tapped(self, images: torch.Tensor) -> list[torch.Tensor]:
        x, found = (images - self.shift) / self.scale, []
        for i, layer in enumerate(itertools.islice(self.features, self._taps[-1] + 1)):
            x = layer(x)
            if i in self._taps:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Distances [b] of pictures [b, 3, h, w] in -1..1."""
        total = first.new_zeros(len(first))
        for i, (a, b) in enumerate(zip(self._tapped(first), self._tapped(second), strict=True)):
            total = total + self.get_submodule(f"lin{i}.model")((a - b).square()).mean(dim=(1, 2, 3))
        return total


class _Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU: Inception's unit."""

    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


def _wide(inputs: int, outputs: int, size: int) -> _Conv:
    return _Conv(inputs, outputs, (1, size), padding=(0, size // 2))


def _tall(inputs: int, outputs: int, size: int) -> _Conv:
    return _Conv(inputs, outputs, (size, 1), padding=(size // 2, 0))


def _mean_pool(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _InceptionA(nn.Module):
    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(inputs, 48, 1), _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inputs, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_mean_pool(x))], 1)


class _InceptionB(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, 2)], 1)


class _InceptionC(nn.Module):
    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = _Conv(inputs, inner, 1), _wide(inner, inner, 7)
        self.branch7x7_3 = _tall(inner, 192, 7)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = _Conv(inputs, inner, 1), _tall(inner, inner, 7)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _wide(inner, inner, 7), _tall(inner, inner, 7)
        self.branch7x7dbl_5 = _wide(inner, 192, 7)
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_mean_pool(x))], 1)


class _InceptionD(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Conv(inputs, 192, 1), _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = _Conv(inputs, 192, 1), _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3, self.branch7x7x3_4 = _Conv(192, 192, (7, 1), padding=(3, 0)), _Conv(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), long, functional.max_pool2d(x, 3, 2)], 1)


class _InceptionE(nn.Module):
    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self._maximum = maximum
        self.branch1x1 = _Conv(inputs, 320, 1)
        self.branch3x3_1, self.branch3x3_2a, self.branch3x3_2b = _Conv(inputs, 384, 1), _wide(384, 384, 3), _tall(384, 384, 3)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 448, 1), _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _wide(384, 384, 3), _tall(384, 384, 3)
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, 3, 1, 1) if self._maximum else _mean_pool(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class InceptionFeatures(nn.Module):
    """The Inception-v3 of the FID (M. Heusel et al., NeurIPS 2017) up to its last mean: 2,048 numbers per picture.

    The published file's classifier (``fc.*``) is not part of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = _Conv(3, 32, 3, stride=2), _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = _Conv(64, 80, 1), _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _InceptionA(192, 32), _InceptionA(256, 64), _InceptionA(288, 64)
        self.Mixed_6a = _InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = _InceptionC(768, 128), _InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = _InceptionC(768, 160), _InceptionC(768, 192)
        self.Mixed_7a = _InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = _InceptionE(1280, False), _InceptionE(2048, True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [b, 2048] of pictures [b, 3, h, w] in 0..1 of any size (they are scaled to 299 x 299)."""
        x = 2.0 * functional.interpolate(images, (299, 299), mode="bilinear", align_corners=False) - 1.0
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))


class _IdentityBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(outputs), nn.PReLU(outputs)
        self.conv2, self.bn3 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """ArcFace's residual network (J. Deng et al., CVPR 2019; names of ``arcface_torch``).

    Args:
        depth: one of :data:`IRESNET_BLOCKS`.
    """

    def __init__(self, depth: int = 50) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        inputs = 64
        for i, (count, outputs) in enumerate(zip(IRESNET_BLOCKS[depth], (64, 128, 256, 512), strict=True), start=1):
            blocks = [_IdentityBlock(inputs if j == 0 else outputs, outputs, 2 if j == 0 else 1) for j in range(count)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            inputs = outputs
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Embeddings [b, 512] (not normalised) of aligned RGB faces [b, 3, 112, 112] in -1..1."""
        x = self.prelu(self.bn1(self.conv1(faces)))
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


class SyncNet(nn.Module):
    """SyncNet (J. S. Chung and A. Zisserman, "Out of time", 2016), names of ``syncnet_v2``: 1,024 numbers per side."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_unit2(1, 64, 3, 1),
            nn.MaxPool2d(1, 1),
            *_unit2(64, 192, 3, 1),
            nn.MaxPool2d(3, (1, 2)),
            *_unit2(192, 384, 3, 1),
            *_unit2(384, 256, 3, 1),
            *_unit2(256, 256, 3, 1),
            nn.MaxPool2d(3, 2),
            *_unit2(256, 512, (5, 4), 0),
        )
        self.netfcaud, self.netfclip = (
            nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024)) for _ in range(2)
        )
        self.netcnnlip = nn.Sequential(
            *_unit3(3, 96, (5, 7, 7), (1, 2, 2), 0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_unit3(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_unit3(256, 256, (1, 3, 3), 1, (0, 1, 1)),
            *_unit3(256, 256, (1, 3, 3), 1, (0, 1, 1)),
            *_unit3(256, 256, (1, 3, 3), 1, (0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_unit3(256, 512, (1, 6, 6), 1, 0),
        )

    def sound(self, mfcc: torch.Tensor) -> torch.Tensor:
        """[b, 1, 13, 20] cepstra of 0.2 s -> [b, 1024]."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def lips(self, frames: torch.Tensor) -> torch.Tensor:
        """[b, 3, 5, 224, 224], five BGR faces in 0..255 -> [b, 1024]."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))


def _unit2(inputs: int, outputs: int, size: int | tuple[int, int], padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, 1, padding), nn.BatchNorm2d(outputs), nn.ReLU()]


def _unit3(
    inputs: int, outputs: int, size: tuple[int, int, int], stride: int | tuple[int, int, int], padding: int | tuple[int, int, int]
) -> list[nn.Module]:
    return [nn.Conv3d(inputs, outputs, size, stride, padding), nn.BatchNorm3d(outputs), nn.ReLU()]
