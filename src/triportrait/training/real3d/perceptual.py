"""Losses that look at pictures as people do: VGG19 and VGGFace from a user's files, and what stands in for them without weights.

Real3D-Portrait compares activations of VGG19 (ImageNet) and VGGFace. Neither network may be shipped here. Where their files lie in the
weights folder (``vgg19.pth``: torchvision's names, ``vgg_face.pth``: the names of the published ``vgg_face_dag``), they are used; otherwise
:func:`pyramid_loss` is: the differences of Laplacian pyramids, whose coarse levels count more, and structural similarity. That keeps edges
and local contrast from washing out, but it knows nothing of faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import WeightsError

#: Convolutions of the blocks of VGG, each block followed by a halving; 64 .. 512 channels.
VGG19_BLOCKS, VGG16_BLOCKS = (2, 2, 4, 4, 4), (2, 2, 3, 3, 3)
_WIDTHS = (64, 128, 256, 512, 512)
#: How much the activations of relu_1_1 .. relu_5_1 count (Wang et al., "One-shot free-view neural talking-head synthesis", 2021).
_LAYER_WEIGHTS = (0.03125, 0.0625, 0.125, 0.25, 1.0)
#: Statistics of the pictures that the networks were trained with, for colours in 0..1.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_VGGFACE = ((129.186279 / 255, 104.762344 / 255, 93.593940 / 255), (1 / 255, 1 / 255, 1 / 255))
FILES = {"vgg19": ("vgg19.pth", "vgg19.safetensors"), "vgg_face": ("vgg_face.pth", "vgg_face.safetensors")}


class Vgg(nn.Module):
    """Convolutions of VGG up to the first of the last block; activations after the first layer of each block.

    Args:
        blocks: convolutions per block.
        statistics: mean and deviation of the training pictures.
        widths: channels of the blocks.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, blocks: tuple[int, ...], statistics: tuple[tuple[float, ...], tuple[float, ...]], widths: tuple[int, ...] = _WIDTHS
    ) -> None:
        super().__init__()
        layers, channels = [], 3
        for count, width in zip((*blocks[:-1], 1), widths, strict=True):
            block = nn.ModuleList()
            for _ in range(count):
                block.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            layers.append(block)
        self.blocks = nn.ModuleList(layers)
        for name, values in zip(("mean", "deviation"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Picture [b, 3, h, w] in -1..1 -> one activation per block."""
        x = (0.5 * picture + 0.5 - self.mean) / self.deviation
        activations = []
        for index, block in enumerate(self.blocks):
            if index:
                x = functional.max_pool2d(x, 2)
            assert isinstance(block, nn.ModuleList)
            for place, layer in enumerate(block):
                x = functional.relu(layer(x))
                if place == 0:
                    activations.append(x)
        return activations


def vgg19_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ``features.N.weight`` to ours; layers that nothing reads and the classifier are left out."""
    numbers, state = iter(sorted({int(key.split(".")[1]) for key in published if key.startswith("features.")})), {}
    for block, count in enumerate((*VGG19_BLOCKS[:-1], 1)):
        for layer in range(count):
            number = next(numbers, None)
            for part in ("weight", "bias"):
                state[f"blocks.{block}.{layer}.{part}"] = published[f"features.{number}.{part}"]
    return state


def vgg_face_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``convB_L.weight`` of the published VGGFace to ours."""
    return {
        f"blocks.{block}.{layer}.{part}": published[f"conv{block + 1}_{layer + 1}.{part}"]
        for block, count in enumerate((*VGG16_BLOCKS[:-1], 1))
        for layer in range(count)
        for part in ("weight", "bias")
    }


def load_vgg(path: Path, kind: str) -> Vgg:
    """``vgg19`` or ``vgg_face`` from a published file.

    Raises:
        WeightsError: missing, damaged, or another network.
    """
    from triportrait.weights.reading import read_checkpoint

    tensors = read_checkpoint(path).tensors
    try:
        state = vgg19_state(tensors) if kind == "vgg19" else vgg_face_state(tensors)
        blocks, statistics = (VGG19_BLOCKS, _IMAGENET) if kind == "vgg19" else (VGG16_BLOCKS, _VGGFACE)
        model = Vgg(blocks, statistics, tuple(len(state[f"blocks.{block}.0.bias"]) for block in range(len(blocks))))
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"'{path}' is not {kind} as published ({str(error).splitlines()[0]}); see docs/guides/training.md") from None
    return model.eval().requires_grad_(False)


class PerceptualLoss(nn.Module):
    """How different two pictures look: VGG19 + VGGFace where the user has them, else :func:`pyramid_loss`.

    Args:
        networks: of :func:`load_vgg`; empty takes the substitute.
    """

    def __init__(self, networks: Mapping[str, Vgg] | None = None) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks or {})

    @classmethod
    def from_home(cls, folder: Path | None = None) -> PerceptualLoss:
        """With what lies in the weights folder (or ``folder``)."""
        from triportrait.weights.home import weights_home

        folder, networks = folder or weights_home(), {}
        for kind, names in FILES.items():
            found = next((folder / name for name in names if (folder / name).is_file()), None)
            if found is not None:
                networks[kind] = load_vgg(found, kind)
        return cls(networks)

    def forward(self, picture: Tensor, truth: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in -1..1 -> one number, the mean over pictures."""
        if not self.networks:
            return pyramid_loss(picture.float(), truth.float())
        total = picture.new_zeros(())
        for network in self.networks.values():
            with torch.no_grad():
                wanted = network(truth)
            for weight, a, b in zip(_LAYER_WEIGHTS, network(picture), wanted, strict=True):
                total = total + weight * (a - b).abs().mean()
        return total


def pyramid_loss(picture: Tensor, truth: Tensor, levels: int = 4) -> Tensor:
    """Laplacian-pyramid L1 (Bojanowski et al., 2018: level j counts 2 ** j of its mean) plus 1 - SSIM, about 0..2."""
    difference, total = picture - truth, picture.new_zeros(())
    for level in range(levels):
        if min(difference.shape[-2:]) < 8:
            break
        smooth = _blurred(difference)
        total = total + 2.0**level * (difference - smooth).abs().mean()
        difference = functional.avg_pool2d(smooth, 2)
    return total + 2.0 ** (levels - 1) * difference.abs().mean() / 2 + 0.5 * (1 - structural_similarity(picture, truth))


def _blurred(x: Tensor) -> Tensor:
    taps = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = x.shape[1]
    x = functional.pad(x, (2, 2, 2, 2), mode="replicate")
    x = functional.conv2d(x, taps.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)
    return functional.conv2d(x, taps.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)


def structural_similarity(picture: Tensor, truth: Tensor) -> Tensor:
    """SSIM of pictures in -1..1 over 7 px windows (Wang et al., 2004, with uniform weights); the mean."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 7, 1)

    # Brightness must not change its sign.
    picture, truth = 0.5 * picture + 0.5, 0.5 * truth + 0.5
    if min(picture.shape[-2:]) < 7:
        return 1 - (picture - truth).abs().mean()
    a, b = mean(picture), mean(truth)
    aa, bb, ab = mean(picture * picture) - a * a, mean(truth * truth) - b * b, mean(picture * truth) - a * b
    first, second = 0.01**2, 0.03**2
    return (((2 * a * b + first) * (2 * ab + second)) / ((a * a + b * b + first) * (aa + bb + second))).mean()
