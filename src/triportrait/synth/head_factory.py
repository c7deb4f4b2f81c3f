"""Parts, textures and tables that procedural heads are made of; everything that does not depend on the person.

Subdivision and fitted parts are sparse matrices over MakeHuman's base mesh. The open head is fitted to a person by landmarks on that mesh
(``data/makehuman_landmarks.csv``). Lengths are decimetres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import CHIN_OF_68, FACE_POINTS, LIPS_INSIDE_OF_68, OVAL
from triportrait.geometry.normals import vertex_normals
from triportrait.synth import baking, deferred, surface
from triportrait.synth.hair import HairStyle, grow
from triportrait.synth.makehuman import HEAD_CROP_PX, Macro, MakeHuman
from triportrait.synth.people import ProceduralPerson
from triportrait.types import ARKIT_EXPRESSIONS, Array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


_LOWEST_DM = 4.0
_TEXTURE_PX, SKIN_PX = 512, 1024
#: Grown hair: style, number of strands, points per strand, width.
_GROWN = {
    "crop": (HairStyle(kind="crop", length_dm=0.10, strands=9000, volume_dm=0.02, wave=0.015, seed=11), 4, 0.030),
    "brush": (HairStyle(kind="crop", length_dm=0.45, strands=9000, volume_dm=0.07, wave=0.02, seed=12), 5, 0.026),
    "swept": (HairStyle(kind="crop", length_dm=0.45, strands=9000, volume_dm=0.07, wave=0.03, hairline_px=25.0, seed=13), 6, 0.026),
    "long": (HairStyle(kind="long", length_dm=2.6, strands=7000, volume_dm=0.12, wave=0.02, hairline_px=40.0, seed=14), 11, 0.032),
    "tied": (HairStyle(kind="tied", length_dm=2.5, strands=7000, volume_dm=0.10, wave=0.015, hairline_px=45.0, seed=15), 9, 0.030),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A fitted mesh as a linear function of the base vertices, plus ``offset`` times a per-axis scale."""

    matrix: csr_matrix
    offset: Array
    scale_ref: Array
    scale_den: Array
    triangles: Array
    uv: Array
    delete: Array

    def constant(self, rest: Array) -> Array:
        scale = np.ones(3)
        for axis in range(3):
            a, b = self.scale_ref[axis]
            if a >= 0:
                scale[axis] = abs(rest[a, axis] - rest[b, axis]) / self.scale_den[axis]
        return self.offset * scale


@dataclass(frozen=True, slots=True)
class GrownHair:
    """A style grown on a reference head: points [n, s, 3] there, what they hang on, tone and width of each strand."""

    points: Array
    near: Array
    share: Array
    reference: Array
    tone: Array
    width: Array


class HeadFactory:
    """Assets loaded once and everything that does not depend on the person.

    Args:
        data: the data bundle (with ``makehuman`` and ``hdri``).
        head: whose identity, expression and axes the labels speak; the embedded one by default.
    """

    def __init__(self, data: Path, head: OpenHead | None = None) -> None:
        from scipy.sparse import csr_matrix, diags, identity

        self.assets = MakeHuman(Path(data) / "makehuman")
        self.head = head or OpenHead.embedded()
        self.targets = set(self.assets.target_names)
        with np.load(Path(data) / "hdri" / "hdri_512x256.npz") as maps:
            self.hdri = np.stack(
                [
                    baking.small_map(i.astype(np.float32) * s)
                    for i, s in zip(maps["images"], np.broadcast_to(maps["scale"], len(maps["images"])), strict=True)
                ]
            )
            self._scenes = maps["images"][:, ::2, ::2].astype(np.float32)
        self.mean = self.assets.shape(Macro(1 / 3, 1 / 3, 1 / 3, 0.5, 0.2).weights())
        top = float(self.mean[:, 1].max())
        assets = self.assets
        keep = (assets.quad_group == assets.group_names.index("body")) & (self.mean[assets.quads, 1].min(1) > top - _LOWEST_DM)
        faces, faces_uv = assets.quads[keep], assets.quads_uv[keep]
        self.base_index = np.unique(faces)
        lookup = np.zeros(len(assets.base), np.int64)
        lookup[self.base_index] = np.arange(len(self.base_index))
        self.base_faces = lookup[faces]
        step, quads = surface.refinement(self.base_faces, len(self.base_index))
        used_uv = np.unique(faces_uv)
        lookup_uv = np.zeros(len(assets.uv), np.int64)
        lookup_uv[used_uv] = np.arange(len(used_uv))
        step_uv, quads_uv = surface.refinement(lookup_uv[faces_uv], len(used_uv), False)
        select = csr_matrix(
            (np.ones(len(self.base_index)), (np.arange(len(self.base_index)), self.base_index)), (len(self.base_index), len(assets.base))
        )
        self.skin_matrix = (step @ select).tocsr().astype(np.float32)
        self.skin_quads = quads
        corner_uv = (step_uv @ assets.uv[used_uv])[quads_uv]
        self.skin_uv = np.concatenate([corner_uv[:, [0, 1, 2]], corner_uv[:, [0, 2, 3]]], 0).astype(np.float32)
        self.skin_triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
        self.base_triangles = np.concatenate([self.base_faces[:, [0, 1, 2]], self.base_faces[:, [0, 2, 3]]]).astype(np.int32)
        edges = self.skin_triangles
        count = self.skin_matrix.shape[0]
        pairs = np.concatenate([edges[:, [0, 1]], edges[:, [1, 2]], edges[:, [2, 0]]])
        graph = csr_matrix(
            (np.ones(2 * len(pairs), np.float32), (np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]])), (count, count)
        )
        graph.data[:] = 1.0
        self.smooth = (
            (0.4 * identity(count) + 0.6 * diags(1.0 / np.maximum(np.asarray(graph.sum(1)).ravel(), 1)) @ graph).tocsr().astype(np.float32)
        )
        self._parts: dict[str, Part] = {}
        self._textures: dict[tuple, Array] = {}
        self._grown: dict[str, GrownHair] = {}
        self._scalps: dict[int, Array] = {}
        self._under: dict[str, Array] = {}
        self._landmarks()
        self._head_weights()
        self._gains = self._expression_gains()

    # -- parts ----------------------------------------------------------------------------------------------------------

    def part(self, name: str) -> Part:
        """The fitted mesh ``category.name``."""
        if name not in self._parts:
            from scipy.sparse import csr_matrix

            names = ("ref", "weight", "offset", "scale_ref", "scale_den", "faces", "faces_uv", "uv")
            field = {key: self.assets.proxy(name, key) for key in names}
            count = len(field["ref"])
            rows = np.repeat(np.arange(count), 3)
            matrix = csr_matrix(
                (field["weight"].reshape(-1), (rows, field["ref"].reshape(-1).astype(np.int64))), (count, len(self.assets.base))
            )
            faces, faces_uv = field["faces"].astype(np.int64), field["faces_uv"].astype(np.int64)
            if name.startswith("eyes."):
                # The corneas share one disc in the lower right of the texture.
                middle = field["uv"][faces_uv[:, :3]].mean(1)
                keep = ~((middle[:, 0] > 0.84) & (middle[:, 1] < 0.16))
                faces, faces_uv = faces[keep], faces_uv[keep]
            quads = faces[:, 3] >= 0
            triangles = np.concatenate([faces[:, [0, 1, 2]], faces[quads][:, [0, 2, 3]]]).astype(np.int32)
            uv = field["uv"][np.concatenate([faces_uv[:, [0, 1, 2]], faces_uv[quads][:, [0, 2, 3]]])].astype(np.float32)
            delete = self.assets.proxy(name, "delete_verts") if name.startswith("clothes.") else np.zeros(0, np.int64)
            self._parts[name] = Part(
                matrix.astype(np.float32), field["offset"], field["scale_ref"], field["scale_den"], triangles, uv, delete
            )
        return self._parts[name]

    def under(self, name: str) -> Array:
        """The skin vertex beneath each vertex of a garment: they move alike, or skin pokes through."""
        if name not in self._under:
            from scipy.spatial import cKDTree

            part = self.part(name)
            self._under[name] = cKDTree(self.skin_matrix @ self.mean).query(part.matrix @ self.mean + part.constant(self.mean))[1]
        return self._under[name]

    def card(
        self, name: str, colour: tuple[float, float, float] | None = None, relief: float = 0.8, gain: float = 1.0, alpha: float = 1.0
    ) -> Array:
        """A texture as uint8 [512, 512, 4] sRGB and alpha, its colour replaced by linear ``colour`` where given."""
        import cv2

        key = (name,)
        if key not in self._textures:
            image = self.assets.texture(name)
            image = cv2.resize(image, (_TEXTURE_PX, _TEXTURE_PX), interpolation=cv2.INTER_AREA)
            grey = to_linear(image[..., :3]).mean(-1)
            seen = image[..., 3] > 0.5
            self._textures[key] = np.dstack([image, grey / max(float(np.median(grey[seen])), 1e-3)]).astype(np.float32)
        image = self._textures[key]
        if colour is None:
            rgb = image[..., :3] * gain
        else:
            shade = np.clip(image[..., 4:], 0.15, 3.0) ** relief
            rgb = to_srgb(np.asarray(colour, np.float32) * shade)
        return (np.clip(np.dstack([rgb, alpha * image[..., 3]]), 0, 1) * 255 + 0.5).astype(np.uint8)

    def eye_texture(self, name: str, white: float) -> Array:
        """The eyes' texture with a darker rim and a calmer white: uint8 [512, 512, 4]."""
        key = ("eye", name)
        if key not in self._textures:
            import cv2

            image = self.assets.texture(f"eyes/{name}.webp")
            image = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_LINEAR)
            y, x = np.mgrid[0:1024, 0:1024]
            linear = to_linear(image[..., :3])
            for cx, cy in ((296.0, 714.0), (725.0, 298.0)):
                radius = np.hypot(x - cx, y - cy) / 118.0
                pupil = np.clip((radius - 0.38) / 0.05, 0.02, 1.0)
                linear *= (pupil * (1.0 - 0.5 * np.exp(-(((radius - 0.98) / 0.12) ** 2))))[..., None]
            self._textures[key] = cv2.resize(linear.astype(np.float32), (512, 512), interpolation=cv2.INTER_AREA)
        linear = self._textures[key]
        grey = linear.mean(-1, keepdims=True)
        is_white = np.clip((grey - 0.3) / 0.2, 0.0, 1.0)
        linear = (linear * (1 - 0.5 * is_white) + 0.5 * is_white * grey) * (1 - (1 - white) * is_white)
        return (np.clip(np.dstack([to_srgb(linear), np.ones((512, 512))]), 0, 1) * 255 + 0.5).astype(np.uint8)

    def skin(self, person: ProceduralPerson) -> Array:
        """The person's skin texture: uint8 [1024, 1024, 3]."""
        key = ("skin", person.skin)
        if key not in self._textures:
            import cv2

            self._textures[key] = cv2.resize(
                (self.assets.skin(person.skin) * 255).astype(np.uint8), (SKIN_PX, SKIN_PX), interpolation=cv2.INTER_AREA
            )
        levels = to_linear(np.arange(256) / 255.0)
        picture = self._textures[key]
        gain = np.asarray(person.skin_gain)
        tables = [(np.clip(to_srgb(levels * g), 0, 1) * 255 + 0.5).astype(np.uint8) for g in gain]
        result = np.stack([np.take(table, picture[..., c]) for c, table in enumerate(tables)], -1)
        # Only the head's part of the texture takes hair and beard.
        window = np.s_[HEAD_CROP_PX[1][0] // 2 : HEAD_CROP_PX[1][1] // 2, HEAD_CROP_PX[0][0] // 2 : HEAD_CROP_PX[0][1] // 2]
        part = result[window].astype(np.float32)
        random = np.random.default_rng(person.seed)
        if person.hair != "bald":
            line = 45 if person.hair in ("grown:long", "grown:tied", "card:long01") else 0
            amount: Array = 0.85 * self._scalp(line)[window][..., None]
        else:
            amount = 0.3 * self._scalp(0)[window][..., None] * float(person.hair_length) * (max(person.hair_colour) < 0.2)
        root = 255 * to_srgb(np.asarray(person.hair_colour, np.float32) * 0.8)
        part = part * (1 - amount) + amount * root
        if person.beard is not None:
            mask = beard_mask(person.beard)
            coarse = random.random((part.shape[0], part.shape[1])).astype(np.float32)
            share = {"stubble": 0.42, "goatee": 0.5, "moustache": 0.5, "short": 0.6, "full": 0.65}[person.beard] * person.beard_amount
            amount = (mask * share * (0.55 + 0.9 * coarse))[..., None]
            part = part * (1 - amount) + amount * root
        result[window] = np.clip(part, 0, 255).astype(np.uint8)
        return result

    def _scalp(self, line: int) -> Array:
        if line not in self._scalps:
            from triportrait.synth.portrait import scalp_map

            self._scalps[line] = scalp_map(float(line))[::2, ::2].astype(np.float32)
        return self._scalps[line]

    def grown(self, name: str) -> GrownHair:
        """Grown style ``name``, from the cache or grown now (seconds)."""
        if name not in self._grown:
            from scipy.spatial import cKDTree

            style, points, width = _GROWN[name]
            male = 0.2 if name in ("long", "tied") else 0.8
            reference = self.assets.shape(Macro(1 / 3, 1 / 3, 1 / 3, male, 0.2).weights())
            body = surface.subdivide(self.assets.body(reference, float(reference[:, 1].max()) - 2.9))
            _, strands = grow(body, style, 700)
            at = np.round(np.linspace(0, strands.points.shape[1] - 1, points)).astype(int)
            curve = strands.points[:, at]
            near_base = self.base_index[reference[self.base_index, 1] > reference[:, 1].max() - 2.4]
            gap, near = cKDTree(reference[near_base]).query(curve.reshape(-1, 3), k=3)
            share = 1.0 / (gap + 0.15) ** 2
            share /= share.sum(1, keepdims=True)
            self._grown[name] = GrownHair(
                curve.astype(np.float32),
                near_base[near],
                share.astype(np.float32),
                reference,
                strands.tone.astype(np.float32),
                (width * strands.fineness).astype(np.float32),
            )
        return self._grown[name]

    # -- the open head ----------------------------------------------------------------------------------------------------

    def _landmarks(self) -> None:
        """Landmarks on the base mesh, and the linear fit of the open head to them."""
        table = np.loadtxt(str(files("triportrait.synth").joinpath("data/makehuman_landmarks.csv")), delimiter=",", skiprows=1)
        self.landmark_corner = table[:, 1:4].astype(np.int64)
        self.landmark_weight = table[:, 4:7].astype(np.float32)
        self.bases = self.head.landmark_bases()
        weight = np.ones(FACE_POINTS)
        weight[OVAL] = 0.1
        self._weight = weight

    def landmarks(self, base: Array) -> Array:
        """MediaPipe's first 468 landmarks [468, 3] on base vertices, in MakeHuman's axes."""
        return (base[self.landmark_corner] * self.landmark_weight[..., None]).sum(1)

    def fit(self, base: Array) -> tuple[Array, Array, Array, Array]:
        """The open head on an expressionless base: (identity [80], landmark offset [468, 3], turn [3, 3], origin [3]).

        Head space is ``(vertex - origin) @ turn.T``.
        """
        points = self.landmarks(base)
        identity = np.zeros(self.head.identity_size)
        root = np.sqrt(self._weight)[:, None, None]
        basis = (self.bases.identity * root).reshape(-1, self.head.identity_size)
        normal = basis.T @ basis
        normal[np.diag_indices(len(normal))] += 2e-2
        for _ in range(4):
            model = self.bases.mean + self.bases.identity @ identity
            turn, origin = _rigid(points, model, self._weight)
            here = (points - origin) @ turn.T
            left = ((here - self.bases.mean) * root[..., 0]).reshape(-1)
            identity = np.linalg.solve(normal, basis.T @ left)
        model = self.bases.mean + self.bases.identity @ identity
        return identity.astype(np.float32), here - model, turn, origin

    def _head_weights(self) -> None:
        """Which skin vertices belong to the head layer and how far each follows the head: from the open head's neck."""
        from scipy.spatial import cKDTree

        identity, _, turn, origin = self.fit(self.mean)
        shape = self.head.shape(identity)
        skin = (self.skin_matrix @ self.mean - origin) @ turn.T
        own = self.head.part == 0
        _, near = cKDTree(shape[own]).query(skin, k=4)
        neck = self.head.neck[own][near].mean(1)
        floor = float(shape[:, 1].min())
        low = float(shape[self.head.landmarks68_vertices[CHIN_OF_68], 1])
        # Below the open head's last ring there is only torso; what lies deep under the chin is no head.
        neck = np.maximum(neck, np.clip((low - 0.25 - skin[:, 1]) / (low - 0.25 - floor), 0.0, 1.0))
        self.follow = (1.0 - np.clip(neck * 1.15, 0.0, 1.0)).astype(np.float32)
        self.follow = np.asarray(self.smooth @ (self.smooth @ self.follow))
        self.follow = np.where(neck < 0.01, 1.0, self.follow).astype(np.float32)
        # The mouth's inside lies nearer to the open head's neck than to its face, but goes with the face: its skin looks inwards.
        normals = vertex_normals(skin.astype(np.float32), self.skin_triangles)
        lips = shape[self.head.landmarks68_vertices[list(LIPS_INSIDE_OF_68)]].mean(0)
        axis = np.array([0.0, 0.0, -0.75])
        outwards = ((skin - axis) * (1, 0, 1) * normals).sum(1)
        near = (np.abs(skin - (lips - (0.0, 0.1, 0.55))) < (0.42, 0.45, 0.6)).all(1)
        self.inside = near & (outwards < 0.0) & (skin[:, 2] < lips[2] + 0.02)
        self.follow[self.inside] = 1.0
        self.skin_head = (1.0 - np.clip((neck - 0.02) / 0.06, 0.0, 1.0)).astype(np.float32)
        self.skin_head[self.inside] = 1.0

    def _expression_gains(self) -> Array:
        """[44]: how strongly the open head's curves show what MakeHuman's show at weight 1."""
        identity, _, turn, _ = self.fit(self.mean)
        gains = np.ones(len(ARKIT_EXPRESSIONS), np.float32)
        for k, name in enumerate(ARKIT_EXPRESSIONS):
            moved = self.landmarks(self.assets.shape({f"arkit/{name}": 1.0}) - self.assets.base) @ turn.T
            own = self.bases.expression[..., k]
            size = float((own * own).sum())
            if size > 1e-4:
                gains[k] = np.clip(float((own * moved).sum()) / size, 0.3, 1.6)
        for name in ("eyeBlinkLeft", "eyeBlinkRight", "tongueOut"):
            gains[ARKIT_EXPRESSIONS.index(name)] = 1.0
        return gains

    def coefficients(self, weights: Mapping[str, float]) -> Array:
        """ARKit weights of MakeHuman's shapes as curves [44] of the open head, 0..1."""
        values = np.array([weights.get(name, 0.0) for name in ARKIT_EXPRESSIONS], np.float32)
        return np.clip(values * self._gains, 0.0, 1.0)

    def scene(self, person: ProceduralPerson, size_px: int) -> Array:
        """A background: uint8 [s, s, 3], out of focus or plain."""
        import cv2

        random = np.random.default_rng(person.background)
        kind = random.random()
        if kind < 0.35:
            low, high = random.uniform(0.05, 0.95, (2, 3)) * 0.4 + random.uniform(0.05, 0.6)
            ramp = np.linspace(0, 1, size_px)[:, None, None] if random.random() < 0.5 else np.linspace(0, 1, size_px)[None, :, None]
            gradient = np.clip(low * (1 - ramp) + high * ramp, 0, 1) * np.ones((size_px, size_px, 1))
            return (gradient * 255).astype(np.uint8)
        source = self._scenes[person.hdri]
        width = int(random.uniform(0.2, 0.5) * source.shape[1])
        top = int(random.uniform(0.2, 0.45) * source.shape[0])
        crop = np.roll(source, int(random.integers(source.shape[1])), 1)[top : top + width // 2 + 8, :width]
        picture = cv2.resize(crop, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        picture = cv2.GaussianBlur(np.maximum(picture, 0), (0, 0), size_px * random.uniform(0.006, 0.03))
        picture = picture * (random.uniform(0.12, 0.5) / max(float(np.median(picture)), 1e-4))
        return (np.interp(picture, np.linspace(0, 1, 1024) ** 2 * 8, deferred._TONE) * 255).astype(np.uint8)


def to_linear(srgb: Array) -> Array:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Array) -> Array:
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1.0 / 2.4) - 0.055)


def _rigid(points: Array, model: Array, weight: Array) -> tuple[Array, Array]:
    """Turn [3, 3] and origin [3] with ``(points - origin) @ turn.T`` near ``model`` (Kabsch)."""
    share = (weight / weight.sum())[:, None]
    a, b = (points * share).sum(0), (model * share).sum(0)
    u, _, vt = np.linalg.svd(((points - a) * share).T @ (model - b))
    turn = (u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt).T
    return turn, a - turn.T @ b


#: Beards in pixels of the half-size head crop [y across, x down the face], drawn on MakeHuman's layout for the half y < 369.
_JAW = (
    (222, 256),
    (250, 262),
    (284, 284),
    (298, 318),
    (302, 345),
    (310, 369),
    (380, 369),
    (380, 330),
    (372, 290),
    (340, 245),
    (300, 232),
    (250, 236),
)
_CHIN = ((312, 330), (318, 369), (385, 369), (372, 338), (345, 322))
_LIP = ((274, 340), (271, 369), (284, 369), (286, 350), (292, 336), (284, 332))


@lru_cache(maxsize=8)
def beard_mask(kind: str) -> Array:
    """Where a beard grows in the half-size head crop: float32 [720, 392] in 0..1, lips left out."""
    import cv2

    mask = np.zeros((720, 392), np.uint8)
    shapes = {"stubble": (_JAW, _LIP), "goatee": (_CHIN, _LIP), "moustache": (_LIP,), "short": (_JAW, _LIP), "full": (_JAW, _LIP)}[kind]
    for shape in shapes:
        half = np.array(shape, np.int32)
        for across in (half[:, 1], 738 - half[:, 1]):
            cv2.fillPoly(mask, [np.stack([half[:, 0], across], -1)], (1,))
    y, x = np.mgrid[0:720, 0:392]
    lips = ((x - 301.0) / 19.0) ** 2 + ((y - 369.0) / 32.0) ** 2 < 1.0
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3.5)
    soft[lips] = 0.0
    return soft
