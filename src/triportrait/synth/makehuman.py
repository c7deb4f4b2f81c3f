"""MakeHuman's CC0 head and body from a folder of our data bundle: shape targets, fitted eyes, hair, lashes and clothes.

The folder's README gives the file layout. Units are decimetres, +x is the character's left, +y up, +z out of the face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.media.images import read_image
from triportrait.synth.surface import Mesh
from triportrait.types import Array

#: Where the head crop lies in the 2048 x 2048 skin texture: x range, y range in pixels.
HEAD_CROP_PX = ((1264, 2048), (320, 1760))


@dataclass(frozen=True, slots=True)
class Macro:
    """The broad strokes of a person; races sum to 1, the rest lie in 0..1 (young = 0: about 25, old = 1: about 90)."""

    caucasian: float = 1.0
    african: float = 0.0
    asian: float = 0.0
    male: float = 0.5
    old: float = 0.1
    muscle: float = 0.5
    weight: float = 0.5

    def weights(self) -> dict[str, float]:
        """Weights of the macro targets (products of the factors, see the folder's README)."""
        races = {"caucasian": self.caucasian, "african": self.african, "asian": self.asian}
        genders = {"male": self.male, "female": 1.0 - self.male}
        ages = {"old": self.old, "young": 1.0 - self.old}
        result = {}
        for gender, g in genders.items():
            for age, a in ages.items():
                for race, r in races.items():
                    result[f"macrodetails/{race}-{gender}-{age}"] = g * a * r
                for muscle, m in _thirds(self.muscle).items():
                    for weight, w in _thirds(self.weight).items():
                        result[f"macrodetails/universal-{gender}-{age}-{muscle}muscle-{weight}weight"] = g * a * m * w
        return {name: value for name, value in result.items() if value > 0.0}


def _thirds(value: float) -> dict[str, float]:
    low, high = max(0.0, 1.0 - 2.0 * value), max(0.0, 2.0 * value - 1.0)
    return {"min": low, "average": 1.0 - low - high, "max": high}


@dataclass(frozen=True, slots=True)
class Posture:
    """How the body stands; a smooth map of space, so that skin, clothes, hair and eyes move alike.

    Args:
        arms_down_rad: swing of both arms from the base's A-pose towards the body.
        torso_yaw_rad: turn of the whole body (positive: towards image right).
        head_rad: (pitch, yaw, roll) of the head on top of that, bent in along the neck; signs as in ``types``.
    """

    arms_down_rad: float = 0.35
    torso_yaw_rad: float = 0.0
    head_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def apply(self, points: Array, joints: Mapping[str, Array]) -> Array:
        """Posed ``points`` [n, 3]; ``joints`` holds the rest positions of l-shoulder, r-shoulder and neck."""
        result = np.array(points, np.float64)
        for side, sign in (("l-shoulder", 1.0), ("r-shoulder", -1.0)):
            pivot = joints[side]
            x, y = points[:, 0] - pivot[0], points[:, 1] - pivot[1]
            # The bend is spread over the shoulder; the chest below the armpit stays.
            share = _clipped_step((sign * x - 0.35 * y + 0.75) / 1.3) * _clipped_step((sign * points[:, 0] - 0.5) / 0.6)
            angle = -sign * self.arms_down_rad * share
            result[:, 0] += np.cos(angle) * x - np.sin(angle) * y - x
            result[:, 1] += np.sin(angle) * x + np.cos(angle) * y - y
        pivot = joints["neck"]
        share = _clipped_step((points[:, 1] - pivot[1] + 0.35) / 1.0)
        # Blending positions instead of angles is exact enough below 15 degrees.
        turned = (result - pivot) @ matrix_from_euler(np.asarray(self.head_rad)).T + pivot
        result += share[:, None] * (turned - result)
        return result @ matrix_from_euler(np.array([0.0, self.torso_yaw_rad, 0.0])).T


def _clipped_step(value: Array) -> Array:
    return smooth_step(np.clip(value, 0.0, 1.0))


class MakeHuman:
    """The assets, loaded once. All methods are pure."""

    def __init__(self, folder: Path) -> None:
        """Read ``base.npz``, ``targets.npz`` and ``proxies.npz`` of ``folder``.

        Raises:
            FileNotFoundError: the folder lacks one of them.
        """
        self.folder = Path(folder)
        with np.load(self.folder / "base.npz") as base:
            self.base = base["verts"].astype(np.float64)
            self.uv = base["uv"].astype(np.float64)
            self.quads = base["quads"].astype(np.int64) & 0xFFFF
            self.quads_uv = base["quads_uv"].astype(np.int64) & 0xFFFF
            self.quad_group = base["quad_group"]
            self.group_names = [str(name) for name in base["group_names"]]
        with np.load(self.folder / "targets.npz") as targets:
            self.target_names = [str(name) for name in targets["names"]]
            self._start, self._index = targets["ptr"], targets["index"]
            self._delta = targets["delta"]
            self._scale = float(targets["delta_scale"])
        self._row = {name: row for row, name in enumerate(self.target_names)}
        with np.load(self.folder / "proxies.npz") as proxies:
            self._proxies = {name: proxies[name] for name in proxies.files}

    def shape(self, weights: Mapping[str, float]) -> Array:
        """Base vertices [19158, 3] after adding the targets linearly; KeyError for an unknown target."""
        vertices = self.base.copy()
        self.add(vertices, weights)
        return vertices

    def add(self, vertices: Array, weights: Mapping[str, float]) -> None:
        """Add targets to base ``vertices`` [19158, 3], in place; KeyError for an unknown target."""
        for name, weight in weights.items():
            a, b = self._start[self._row[name]], self._start[self._row[name] + 1]
            vertices[self._index[a:b]] += weight * self._scale * self._delta[a:b]

    def proxy(self, name: str, field: str) -> Array:
        """A raw field of the fitted mesh ``category.name``; KeyError when it has none."""
        return self._proxies[f"{name}.{field}"]

    def joint(self, vertices: Array, name: str) -> Array:
        """Centre [3] of the helper cube ``joint-<name>``."""
        faces = self.quads[self.quad_group == self.group_names.index(f"joint-{name}")]
        return vertices[np.unique(faces)].mean(0)

    def fit(self, proxy: str, vertices: Array) -> Mesh:
        """The fitted mesh ``category.name`` on ``vertices`` (the base after all targets and posing)."""
        field = {name: self._proxies[f"{proxy}.{name}"] for name in ("ref", "weight", "offset", "scale_ref", "scale_den")}
        scale = np.ones(3)
        for axis in range(3):
            first, second = field["scale_ref"][axis]
            if first >= 0:
                scale[axis] = abs(vertices[first, axis] - vertices[second, axis]) / field["scale_den"][axis]
        points = (vertices[field["ref"]] * field["weight"][..., None]).sum(1) + field["offset"] * scale
        faces = self._proxies[f"{proxy}.faces"].astype(np.int64)
        faces_uv = self._proxies[f"{proxy}.faces_uv"].astype(np.int64)
        return Mesh(points, faces, self._proxies[f"{proxy}.uv"].astype(np.float64), faces_uv)

    def body(self, vertices: Array, lowest_y: float, clothes: str | None = None) -> Mesh:
        """The visible skin above ``lowest_y``, without what the garment ``clothes`` hides."""
        keep = (self.quad_group == self.group_names.index("body")) & (vertices[self.quads, 1].min(1) > lowest_y)
        if clothes is not None:
            hidden = np.zeros(len(vertices), bool)
            hidden[self._proxies[f"{clothes}.delete_verts"]] = True
            # One ring more than hidden stays, or a gap shows along the collar.
            keep &= ~hidden[self.quads].all(1)
        return Mesh(vertices, self.quads, self.uv, self.quads_uv).keep_faces(keep)

    def texture(self, name: str) -> Array:
        """Texture ``name`` (below ``textures/``) as float32 [h, w, 4], sRGB values in 0..1."""
        image = read_image(self.folder / "textures" / name).astype(np.float32) / 255.0
        opaque = np.ones((*image.shape[:2], 4 - image.shape[2]), np.float32)
        return np.concatenate([image, opaque], -1)

    def skin(self, name: str) -> Array:
        """Skin ``name`` at 2048 x 2048, the head at its original resolution: float32 [2048, 2048, 3], sRGB in 0..1."""
        from PIL import Image

        folder = self.folder / "textures" / "skins"
        small = Image.fromarray(read_image(folder / f"{name}.jpg"))
        whole = np.array(small.resize((2048, 2048), Image.Resampling.BICUBIC))
        (left, right), (top, bottom) = HEAD_CROP_PX
        whole[top:bottom, left:right] = read_image(folder / f"{name}_head.jpg")
        return whole.astype(np.float32) / 255.0
