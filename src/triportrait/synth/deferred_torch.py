"""The procedural head drawn with torch operations alone, on any device: geometry, depth, expression offsets, classes and scattered light.

The rasteriser is :mod:`triportrait.geometry.rasteriser_torch`, whose CPU twin agrees with it bit for bit; attributes come from the same
vertices. Strands, cut-out textures and mirrored light are left to :mod:`triportrait.synth.deferred`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from triportrait.geometry.rasteriser_torch import TorchFragments, interpolate, rasterise
from triportrait.synth import deferred
from triportrait.synth.deferred import Moment, Sheets
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class TorchSheets:
    """Solid triangles of a person on a device.

    Args:
        triangles: [t, 3] int64; uv: [t, 3, 2]; label: [t] int64.
        texel: [h, w, 3] linear colours of the skin, meant where ``textured`` [t]; other triangles take ``plain`` [t, 3].
    """

    triangles: Tensor
    uv: Tensor
    label: Tensor
    texel: Tensor
    textured: Tensor
    plain: Tensor


@dataclass(frozen=True, slots=True)
class TorchPicture:
    """What :func:`draw` gives, one sample per pixel: ``fragments``; ``rgb`` [3, s, s] linear; ``depth`` [s, s]; ``offset`` [3, s, s];
    ``label`` [s, s] int64, 0 where nothing is; ``head`` [s, s]."""

    fragments: TorchFragments
    rgb: Tensor
    depth: Tensor
    offset: Tensor
    label: Tensor
    head: Tensor


def solid(sheets: Sheets) -> Array:
    """Which triangles [t] are drawn here: all but cut-outs and lenses."""
    return (sheets.material != deferred.CARD) & (sheets.material != deferred.GLASS)


def to_torch(sheets: Sheets, device: torch.device | str = "cpu") -> TorchSheets:
    """Copy a person's triangles to ``device``."""
    own = solid(sheets)
    table = torch.from_numpy(deferred.srgb_to_linear_table())
    texel = table[torch.from_numpy(sheets.skin).long()]
    means = (sheets.textures.reshape(len(sheets.textures), -1, 4)[..., :3].astype(np.float32).mean(1) / 255.0) ** 2.2
    plain = np.where((sheets.texture[own] >= 0)[:, None], means[np.clip(sheets.texture[own], 0, None)], 1.0).astype(np.float32)
    return TorchSheets(
        torch.from_numpy(sheets.triangles[own].astype(np.int64)).to(device),
        torch.from_numpy(sheets.uv[own]).to(device),
        torch.from_numpy(sheets.label[own].astype(np.int64)).to(device),
        texel.to(device),
        torch.from_numpy(sheets.material[own] == deferred.SKIN).to(device),
        torch.from_numpy(plain).to(device),
    )


def draw(sheets: TorchSheets, moment: Moment, focal: float, size_px: int) -> TorchPicture:
    """Draw one frame on the device of ``sheets``; differentiable in depth, offsets and light as the rasteriser is."""
    device = sheets.triangles.device

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    posed = tensor(moment.posed)
    depth = 10.0 - posed[:, 2]
    pixels = 0.5 * size_px + posed[:, :2] * posed.new_tensor([1.0, -1.0]) * (focal * size_px / depth)[:, None]
    fragments = rasterise(pixels, depth, sheets.triangles, size_px, size_px, cull="back")
    values = torch.cat([tensor(moment.light), tensor(moment.offset), tensor(moment.head)[:, None]], 1)
    values = interpolate(fragments, sheets.triangles, values).permute(2, 0, 1)
    index = fragments.triangle.long().clamp(min=0)
    there = fragments.triangle >= 0
    uv = (sheets.uv[index] * fragments.barycentric[..., None]).sum(2)
    height, width = sheets.texel.shape[:2]
    # Texels are taken as they are: training pictures are smaller than the texture.
    column, row = (uv[..., 0] * width).long().clamp(0, width - 1), ((1 - uv[..., 1]) * height).long().clamp(0, height - 1)
    albedo = torch.where(sheets.textured[index][..., None], sheets.texel[row, column], sheets.plain[index])
    rgb = (albedo.permute(2, 0, 1) * values[:3]) * there
    label = torch.where(there, sheets.label[index], 0)
    return TorchPicture(fragments, rgb, fragments.depth, values[3:6], label, values[6])
