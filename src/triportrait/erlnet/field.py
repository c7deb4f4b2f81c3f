"""Head and torso as two radiance fields under one ray integral (ERLNet's DBF-NeRF, our reconstruction; ``docs/erlnet_field.md``).

The head's field lies in head space: a ray's samples are carried there by the inverse head pose, so that head motion is camera motion, and
warped to the head's rest by a network that sees the expression. The static field lies in the camera of the clip; a small network, which
sees the head's pose, lets shoulders give way. Their fusion is the sum of densities at every sample,

    sigma(x) = sigma_h(R^T (x - t)) + sigma_s(x),        c(x) = (sigma_h c_h + sigma_s c_s) / sigma,

under one quadrature. Pictures posed apart cannot show a seam there, for a neck's sample sees both poses.

Legend: b pictures, n rays of each, k samples of a ray. Lengths are decimetres along the axes of the camera, as in ``types``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.avatar.oneshot.volume import composite, rotation_matrix
from triportrait.nn.model_files import load_network, save_network
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, PathLike

#: Of :mod:`triportrait.nn.model_files`.
KIND = "erlnet_field.1"
#: Octaves of positions for either deformation, and of the pose (AD-NeRF's signal: 3 angles and 3 lengths with 3 octaves, 42 numbers).
_HEAD_OCTAVES, _STATIC_OCTAVES, _POSE_OCTAVES = 10, 8, 3
#: Of the deformations' hidden layers.
_HEAD_HIDDEN, _STATIC_HIDDEN = 128, 64


def encoded(values: Tensor, octaves: int, *, itself: bool) -> Tensor:
    """Sines and cosines of ``2^o pi v`` for each octave (NeRF, equation 4): [..., c] -> [..., c (2 octaves + itself)]."""
    scales = math.pi * 2.0 ** torch.arange(octaves, dtype=values.dtype, device=values.device)
    waves = (values[..., None] * scales).flatten(-2)
    return torch.cat([*([values] if itself else []), waves.sin(), waves.cos()], -1)


def _layers(*widths: int) -> nn.Sequential:
    """Linear layers with rectifiers between; the last one begins at zero: nothing is moved at first."""
    parts: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        parts += [nn.Linear(before, after), nn.ReLU()]
    last = parts[-2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts[:-1])


class HeadDeformation(nn.Module):
    """From a moving head back to its rest: places [b, n, 3] in -1..1 and curves [b, e] -> shifts [b, n, 3] (48,387 numbers for 53)."""

    def __init__(self, expression: int) -> None:
        super().__init__()
        width = 3 * (2 * _HEAD_OCTAVES + 1) + expression
        self.layers = _layers(width, _HEAD_HIDDEN, _HEAD_HIDDEN, _HEAD_HIDDEN, 3)

    def forward(self, places: Tensor, expression: Tensor) -> Tensor:
        curves = expression[:, None].expand(-1, places.shape[1], -1)
        return self.layers(torch.cat([encoded(places, _HEAD_OCTAVES, itself=True), curves], -1))


class StaticDeformation(nn.Module):
    """How torso and neck give way to a pose: places [b, n, 3] in -1..1 and poses [b, 6] -> shifts [b, n, 3] (10,179 numbers)."""

    def __init__(self) -> None:
        super().__init__()
        width = 3 * 2 * _STATIC_OCTAVES + 6 * (2 * _POSE_OCTAVES + 1)
        self.layers = _layers(width, _STATIC_HIDDEN, _STATIC_HIDDEN, 3)

    def forward(self, places: Tensor, pose: Tensor) -> Tensor:
        signal = encoded(pose, _POSE_OCTAVES, itself=True)[:, None].expand(-1, places.shape[1], -1)
        return self.layers(torch.cat([encoded(places, _STATIC_OCTAVES, itself=False), signal], -1))


class PlaneField(nn.Module):
    """Three free feature planes and a decoder (EG3D, section 4): places [b, n, 3] in -1..1 -> densities [b, n] and colours [b, n, 3].

    Densities are per decimetre and 0 outside of the planes' cube.
    """

    _AXES = ((0, 1), (0, 2), (2, 1))

    def __init__(self, channels: int, plane_px: int, hidden: int) -> None:
        super().__init__()
        self.planes = nn.Parameter(0.1 * torch.randn(3, channels, plane_px, plane_px))
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, 4)

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        grids = torch.stack([places[..., axes] for axes in self._AXES]).flatten(1, 2)[:, None]
        features = functional.grid_sample(self.planes, grids, padding_mode="border", align_corners=False).mean(0)[:, 0].T
        answer = self.out(functional.softplus(self.hidden(features.unflatten(0, places.shape[:2]))))
        inside = (places.abs().amax(-1) <= 1.0).to(answer.dtype)
        return functional.softplus(answer[..., 0] - 1.0) * inside, torch.sigmoid(answer[..., 1:]) * 1.002 - 0.001


def union(density: tuple[Tensor, Tensor], colour: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Two fields at the same places: densities [...] add, colours [..., c] are their mean weighted by density."""
    total = density[0] + density[1]
    mixed = density[0][..., None] * colour[0] + density[1][..., None] * colour[1]
    return total, mixed / total.clamp(min=1e-9)[..., None]


class DualRender(NamedTuple):
    """What rays see: ``rgb`` [b, n, 3] premultiplied by ``alpha`` [b, n], mean ``depth`` [b, n] of what was hit.

    ``head_alpha`` and ``static_alpha`` [b, n] are what each field would stop by itself.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    head_alpha: Tensor
    static_alpha: Tensor


class DualField(nn.Module):
    """The two fields of one person in one shot.

    Args:
        config: sizes.
        home: [3], the translation about which the static field lies, decimetres.
    """

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are those of the reconstruction.

        Args:
            expression: curves that deform the head.
            channels, plane_px, hidden: of either field.
            range_dm: half the side of either field's cube.
            samples: of a ray, evenly over the cube's depth.
        """

        expression: int = 44
        channels: int = 32
        plane_px: int = 256
        hidden: int = 64
        range_dm: float = 1.6
        samples: int = 96

    home: Tensor

    def __init__(self, config: Config | None = None, home: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        self.head = PlaneField(config.channels, config.plane_px, config.hidden)
        self.static = PlaneField(config.channels, config.plane_px, config.hidden)
        self.head_deformation, self.static_deformation = HeadDeformation(config.expression), StaticDeformation()
        self.register_buffer("home", torch.tensor(home))

    def fields_at(
        self, points: Tensor, rotation_rad: Tensor, translation: Tensor, expression: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Density [b, n] and colour [b, n, 3] of the head's field and of the static one.

        Args:
            points: [b, n, 3], posed.
            rotation_rad, translation: [b, 3] of the head; expression: [b, e].
        """
        scale = 1.0 / self.config.range_dm
        matrix = rotation_matrix(rotation_rad)
        in_head = (points - translation[:, None]) @ matrix * scale  # rows times R are R^T (x - t)
        in_camera = (points - self.home) * scale
        pose = torch.cat([rotation_rad, translation - self.home], -1)
        return (
            self.head(in_head + self.head_deformation(in_head, expression)),
            self.static(in_camera + self.static_deformation(in_camera, pose)),
        )

    def forward(
        self, places: Tensor, rotation_rad: Tensor, translation: Tensor, expression: Tensor, jitter: Tensor | None = None
    ) -> DualRender:
        """Rays of one camera, which stands still (spec 3.1).

        Args:
            places: [b, n, 2], pixel centres in image widths from the middle, y down (``volume.pixel_places``).
            rotation_rad, translation, expression: as of :meth:`fields_at`.
            jitter: [b, n, k] in -0.5..0.5 moves each sample within its step.
        """
        config = self.config
        count, step = config.samples, 2 * config.range_dm / config.samples
        line = (torch.arange(count, dtype=places.dtype, device=places.device) + 0.5) * step - config.range_dm
        depth = CAMERA_DISTANCE_DM - self.home[2] + line
        depth = depth.expand(*places.shape[:2], -1) if jitter is None else depth + step * jitter
        x, y = (places[..., axis, None] * depth / FOCAL_IN_WIDTHS for axis in (0, 1))
        points = torch.stack([x, -y, CAMERA_DISTANCE_DM - depth], -1).flatten(1, 2)
        head, static = self.fields_at(points, rotation_rad, translation, expression)
        shape = (*places.shape[:2], count)
        density, colour = union((head[0], static[0]), (head[1], static[1]))
        rgb, alpha, mean = composite(density.view(shape), colour.view(*shape, 3), depth, step)
        alone = [1.0 - torch.exp(-step * part[0].view(shape).sum(-1)) for part in (head, static)]
        return DualRender(rgb, alpha, mean, *alone)


def save_field(field: DualField, path: PathLike, metadata: dict[str, str] | None = None) -> None:
    """Write a person's fields.

    Raises:
        OutputError: the file cannot be written.
    """
    config = field.config
    sizes = {name: getattr(config, name) for name in ("expression", "channels", "plane_px", "hidden", "range_dm", "samples")}
    save_network(path, field, kind=KIND, config=sizes | {"home": [float(value) for value in field.home]}, metadata=metadata)


def load_field(path: PathLike) -> DualField:
    """A person's fields from a file of :func:`save_field`.

    Raises:
        WeightsError: missing, foreign or damaged.
    """

    def build(config: dict[str, object]) -> DualField:
        sizes = dict(config)
        home = sizes.pop("home")
        return DualField(DualField.Config(**sizes), tuple(home))  # type: ignore[arg-type]

    return load_network(path, KIND, build)
