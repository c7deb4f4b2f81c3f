"""Light and surfaces: environment maps, skin, eyes, cloth and hair. Radiance is linear RGB; lengths are decimetres.

Diffuse light is gathered per vertex with shadow rays (``surface.gather_light``); what depends on the view is shaded per pixel
against blurred copies of the environment. Skin scatters light under its surface: the gathered irradiance is diffused over
the mesh, red furthest (d'Eon and Luebke 2007 describe the profile that the three widths imitate). The kernels have no plain twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array

SKIN, EYE, CARD, LASH, CLOTH = range(5)

#: Angular blur (radians) of each level of a prefiltered environment.
LEVEL_BLUR_RAD = (0.0, 0.10, 0.25, 0.50)


@dataclass(frozen=True, slots=True)
class Environment:
    """Light from all around, as an equirectangular picture: its centre column looks along -z, behind the subject.

    Args:
        image: [h, w, 3] radiance, row 0 = up.
        levels: [4, 64, 128, 3] the same, blurred by ``LEVEL_BLUR_RAD`` (level 0 only resampled).
    """

    image: Array
    levels: Array

    @staticmethod
    def build(image: Array, turn: float, lamps: tuple[SoftBox, ...] = (), clip: float = 40.0) -> Environment:
        """From an HDRI ``image`` [h, w, 3] rolled by ``turn`` of a full circle, with soft boxes added.

        Radiance above ``clip`` times the mean is cut, which keeps a sun from spraying single bright samples.
        """
        height, width = image.shape[:2]
        image = np.roll(image, int(round(turn * width)), axis=1).astype(np.float64)
        image = image / _sphere_mean(image)
        image = np.minimum(image, clip)
        for lamp in lamps:
            image = lamp.paint(image)
        small = _resample(image, 64, 128)
        levels = np.stack([small, *(_blurred(small, angle) for angle in LEVEL_BLUR_RAD[1:])])
        return Environment(image, levels)

    def directions(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """``count`` directions drawn by brightness (stratified), and the radiance over probability each stands for."""
        height, width = self.image.shape[:2]
        solid = _solid_angle(height, width)
        weight = (self.image.mean(-1) + 0.25 * self.image.mean()) * solid
        flat = weight.reshape(-1) / weight.sum()
        at = (np.arange(count) + rng.random(count)) / count
        pixel = np.minimum(np.searchsorted(np.cumsum(flat), at), flat.size - 1)
        row, column = pixel // width + rng.random(count), pixel % width + rng.random(count)
        radiance = self.image.reshape(-1, 3)[pixel] * (solid.reshape(-1)[pixel] / (flat[pixel] * count))[:, None]
        return direction_of(column / width, row / height), radiance

    def lookup(self, direction: Array) -> Array:
        """Bilinear radiance [n, 3] of the sharp picture for unit directions [n, 3]."""
        height, width = self.image.shape[:2]
        x = (np.arctan2(direction[:, 0], -direction[:, 2]) / (2.0 * np.pi) + 0.5) * width - 0.5
        y = np.arccos(np.clip(direction[:, 1], -1.0, 1.0)) / np.pi * height - 0.5
        from scipy.ndimage import map_coordinates

        padded = np.concatenate([self.image[:, -2:], self.image, self.image[:, :2]], 1)
        return np.stack([map_coordinates(padded[..., c], [y, x + 2.0], order=1, mode="nearest") for c in range(3)], -1)


@dataclass(frozen=True, slots=True)
class SoftBox:
    """A rectangular soft box far away.

    Args:
        azimuth_rad, elevation_rad: where its middle stands, seen from the subject; azimuth 0 is the camera, positive = image right.
        half_width_rad, half_height_rad: its size.
        radiance: [3] linear RGB in units of the environment's mean.
    """

    azimuth_rad: float
    elevation_rad: float
    half_width_rad: float
    half_height_rad: float
    radiance: tuple[float, float, float]

    def paint(self, image: Array) -> Array:
        """``image`` with the soft box in front of it, its edge slightly soft."""
        height, width = image.shape[:2]
        column, row = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
        azimuth = (column - 0.5) * 2.0 * np.pi
        # The picture's centre looks away from the camera, so the camera's side wraps around.
        across = np.angle(np.exp(1j * (np.pi - azimuth - self.azimuth_rad)))
        up = (0.5 - row) * np.pi - self.elevation_rad
        inside = np.clip((self.half_width_rad - np.abs(across)) / 0.03 + 0.5, 0.0, 1.0)
        inside *= np.clip((self.half_height_rad - np.abs(up)) / 0.03 + 0.5, 0.0, 1.0)
        return image * (1.0 - inside[..., None]) + inside[..., None] * np.array(self.radiance)


def direction_of(u: Array, v: Array) -> Array:
    """Unit directions [n, 3] of equirectangular coordinates in 0..1."""
    azimuth, polar = (u - 0.5) * 2.0 * np.pi, v * np.pi
    return np.stack([np.sin(azimuth) * np.sin(polar), np.cos(polar), -np.cos(azimuth) * np.sin(polar)], -1)


def _solid_angle(height: int, width: int) -> Array:
    polar = (np.arange(height) + 0.5) / height * np.pi
    return np.repeat((np.sin(polar) * (np.pi / height) * (2.0 * np.pi / width))[:, None], width, 1)


def _sphere_mean(image: Array) -> float:
    solid = _solid_angle(*image.shape[:2])
    return float((image.mean(-1) * solid).sum() / solid.sum())


def _resample(image: Array, height: int, width: int) -> Array:
    rows, columns = image.shape[0] // height, image.shape[1] // width
    return image[: rows * height, : columns * width].reshape(height, rows, width, columns, 3).mean((1, 3))


def _blurred(image: Array, angle: float) -> Array:
    """A spherical Gaussian of width ``angle`` over an equirectangular picture [h, w, 3].

    Between two rows its weight depends on the columns' difference alone, so columns are a circular convolution.
    """
    height, width = image.shape[:2]
    polar = (np.arange(height) + 0.5) / height * np.pi
    turn = np.arange(width) * (2.0 * np.pi / width)
    up, aside = np.cos(polar), np.sin(polar)
    cosine = (up[:, None] * up)[..., None] + (aside[:, None] * aside)[..., None] * np.cos(turn)
    kernel = np.exp((cosine - 1.0) / angle**2) * _solid_angle(height, width)[:, :1]
    waves = np.einsum("ijf,jfc->ifc", np.fft.rfft(kernel, axis=2), np.fft.rfft(image, axis=1))
    return np.fft.irfft(waves, width, axis=1) / kernel.sum((1, 2))[:, None, None]


def scatter(irradiance: Array, vertices: Array, triangles: Array, widths_dm: tuple[float, float, float]) -> Array:
    """Irradiance [v, 3] diffused over the surface, each channel by its own standard deviation in decimetres."""
    from scipy.sparse import coo_matrix, identity

    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    count = len(vertices)
    result = irradiance.copy()
    for channel, width in enumerate(widths_dm):
        # Explicit heat flow in ten steps: each edge carries what its length allows, at most a stable share.
        steps = 10
        rate = np.minimum(width**2 / steps / np.maximum(length, 1e-5) ** 2 * 0.33, 0.12)
        graph = coo_matrix((np.tile(rate, 2), (edges.T.reshape(-1), edges[:, ::-1].T.reshape(-1))), (count, count)).tocsr()
        flow = np.asarray(graph.sum(1)).ravel()
        graph = graph + identity(count).multiply(1.0 - np.minimum(flow, 1.0)[:, None]).tocsr()
        normaliser = np.asarray(graph.sum(1)).ravel()
        for _ in range(steps):
            result[:, channel] = (graph @ result[:, channel]) / normaliser
    # A sharp part remains: light that leaves where it entered.
    return 0.35 * irradiance + 0.65 * result


@njit(cache=True, fastmath=True, inline="always")
def texels_towards(dx, dy, dz, width, height):  # type: ignore[no-untyped-def]
    """Columns (first, second) and the second's share, then the same of rows, round direction d in an equirectangular picture."""
    x = (np.arctan2(dx, -dz) / (2.0 * np.pi) + 0.5) * width - 0.5
    y = np.arccos(min(1.0, max(-1.0, dy))) / np.pi * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    return x0 % width, (x0 + 1) % width, x - x0, min(max(y0, 0), height - 1), min(max(y0 + 1, 0), height - 1), y - y0


@njit(cache=True, fastmath=True, inline="always")
def texels_round(u, v, width, height):  # type: ignore[no-untyped-def]
    """As :func:`texels_towards`, round (u, v) with its origin bottom left; the border repeats."""
    x, y = u * width - 0.5, (1.0 - v) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    left, right = min(max(x0, 0), width - 1), min(max(x0 + 1, 0), width - 1)
    return left, right, x - x0, min(max(y0, 0), height - 1), min(max(y0 + 1, 0), height - 1), y - y0


@njit(cache=True, fastmath=True)
def environment_light(levels, dx, dy, dz, level, out):  # type: ignore[no-untyped-def]
    """Radiance from direction d at a fractional blur ``level`` (0..3) -> ``out`` [3]; bilinear."""
    xa, xb, fx, ya, yb, fy = texels_towards(dx, dy, dz, levels.shape[2], levels.shape[1])
    low = min(int(level), 2)
    part = level - low
    for c in range(3):
        value = 0.0
        for k in range(2):
            level_row = low + k
            w = part if k == 1 else 1.0 - part
            value += w * (
                (1.0 - fy) * ((1.0 - fx) * levels[level_row, ya, xa, c] + fx * levels[level_row, ya, xb, c])
                + fy * ((1.0 - fx) * levels[level_row, yb, xa, c] + fx * levels[level_row, yb, xb, c])
            )
        out[c] = value


@njit(cache=True, fastmath=True)
def light_from(image, dx, dy, dz, out):  # type: ignore[no-untyped-def]
    """Radiance from direction d in an equirectangular ``image`` [h, w, 3], bilinear -> ``out`` [3]."""
    xa, xb, fx, ya, yb, fy = texels_towards(dx, dy, dz, image.shape[1], image.shape[0])
    for c in range(3):
        out[c] = (1.0 - fy) * ((1.0 - fx) * image[ya, xa, c] + fx * image[ya, xb, c]) + fy * (
            (1.0 - fx) * image[yb, xa, c] + fx * image[yb, xb, c]
        )


@njit(cache=True, fastmath=True)
def texel(texture, u, v, out):  # type: ignore[no-untyped-def]
    """Bilinear lookup of texture [h, w, c] at (u, v), origin bottom left -> ``out`` [c]."""
    xa, xb, fx, ya, yb, fy = texels_round(u, v, texture.shape[1], texture.shape[0])
    for c in range(texture.shape[2]):
        out[c] = (1.0 - fy) * ((1.0 - fx) * texture[ya, xa, c] + fx * texture[ya, xb, c]) + fy * (
            (1.0 - fx) * texture[yb, xa, c] + fx * texture[yb, xb, c]
        )


def strand_radiance(
    points: Array,
    tone: Array,
    lit: Array,
    lean: Array,
    eye: Array,
    colour: tuple[float, float, float],
) -> Array:
    """Radiance [n, s, 3] along strands [n, s, 3]: Kajiya-Kay body plus a white and a coloured highlight (Marschner's R, TRT).

    ``lit`` and ``lean`` [n, s, 3] are what :func:`surface.gather_light` found (spherical) at the strands' points.
    """
    along = np.gradient(points, axis=1)
    along /= np.maximum(np.linalg.norm(along, axis=2, keepdims=True), 1e-9)
    view = eye - points
    view /= np.linalg.norm(view, axis=2, keepdims=True)
    strength = np.linalg.norm(lean, axis=2, keepdims=True)
    light = lean / np.maximum(strength, 1e-9)
    focus = np.clip(strength / np.maximum(lit.mean(2, keepdims=True), 1e-9), 0.0, 1.0)
    cos_light = (along * light).sum(2, keepdims=True)
    cos_view = (along * view).sum(2, keepdims=True)
    sin_light = np.sqrt(np.maximum(1.0 - cos_light**2, 0.0))
    angle_in, angle_out = np.arcsin(np.clip(cos_light, -1, 1)), np.arcsin(np.clip(cos_view, -1, 1))
    body = np.array(colour) * tone[:, None, None]
    diffuse = body * lit * ((1.0 - focus) * 0.8 + focus * 1.25 * sin_light) * 0.55

    def lobe(shift: float, width: float) -> Array:
        return np.exp(-0.5 * ((angle_in + angle_out - shift) / width) ** 2)

    white = 0.06 * lobe(-0.10, 0.13)
    tinted = 0.9 * np.sqrt(body) * body**0.3 * 0.55 * lobe(0.16, 0.22)
    glow = lit * focus * (white + tinted) * 1.4
    sheen = lit * (1.0 - focus) * (0.006 + 0.10 * body)
    # Light that passes through thin hair from behind (TT).
    through = np.clip(-(light * view).sum(2, keepdims=True), 0.0, 1.0) ** 3
    return diffuse + glow + sheen + 0.25 * through * lit * focus * np.sqrt(body) * body
