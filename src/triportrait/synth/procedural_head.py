"""Procedural heads: MakeHuman's parts assembled into one posable, lit person whose every label is known exactly.

A person costs a fraction of a second, a frame some milliseconds: light is baked per vertex, pictures come from
:mod:`triportrait.synth.deferred`. Lengths are decimetres; "head space" is that of the open head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from triportrait.face.fitting import Person, spread_offset
from triportrait.face.open_head import GAZE_LIMITS_RAD, gaze_matrix
from triportrait.geometry.cameras import pose_points
from triportrait.geometry.landmarks import ALL_POINTS, CHIN, FACE_POINTS, IRIS_CENTRES, LOWER_LIP_INSIDE, UPPER_LIP_INSIDE, UPPER_LIP_RIM
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.synth import baking, deferred
from triportrait.synth.accessories import glasses
from triportrait.synth.deferred import Moment, Sheets
from triportrait.synth.head_factory import SKIN_PX, HeadFactory, beard_mask, to_linear
from triportrait.synth.makehuman import HEAD_CROP_PX, Posture
from triportrait.synth.people import ProceduralPerson
from triportrait.types import CAMERA_DISTANCE_DM, Array


@dataclass(frozen=True, slots=True)
class HeadPose:
    """One frame of a procedural head: ``weights`` by ARKit name, gaze [2], rotation_rad [3], translation [3]."""

    weights: Mapping[str, float]
    gaze_rad: Array
    rotation_rad: Array
    translation: Array


@dataclass(slots=True)
class _Pile:
    """Parts one after the other; each list has one entry a part, ``starts`` the first vertex of each and the count of all."""

    triangles: list[Array] = field(default_factory=list)
    uv: list[Array] = field(default_factory=list)
    material: list[Array] = field(default_factory=list)
    label: list[Array] = field(default_factory=list)
    texture: list[Array] = field(default_factory=list)
    bias: list[Array] = field(default_factory=list)
    head: list[Array] = field(default_factory=list)
    follow: list[Array] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])

    def add(
        self, triangles: Array, uv: Array, *, material: Array | int, label: int, texture: int, bias: float, head: Array, follow: Array
    ) -> None:
        """A part of triangles [t, 3]; ``head`` and ``follow`` [n] are its vertices' shares of the head's layer and motion."""
        count, start = len(triangles), self.starts[-1]
        self.triangles.append(triangles + start)
        self.uv.append(uv)
        self.material.append(np.broadcast_to(material, (count,)))
        self.label.append(np.full(count, label))
        self.texture.append(np.full(count, texture))
        self.bias.append(np.full(count, bias))
        self.head.append(head)
        self.follow.append(follow)
        self.starts.append(start + len(head))


class _NamedPart(NamedTuple):
    """A part by name ("" is the skin): its material, its label, and how far it is brought forward (decimetres)."""

    name: str
    material: int
    label: int
    bias_dm: float = 0.0


def _hair_card(person: ProceduralPerson) -> bool:
    """Whether the hair is a textured card, not strands."""
    return person.hair.startswith("card:")


def _named_parts(person: ProceduralPerson) -> list[_NamedPart]:
    face = deferred.FACE_SKIN
    parts = [
        _NamedPart("", deferred.SKIN, face),
        _NamedPart("eyes.high-poly", deferred.EYE, face),
        _NamedPart("teeth.teeth_base", deferred.MOUTH, face),
        _NamedPart("tongue.tongue01", deferred.MOUTH, face),
        _NamedPart(f"eyelashes.{person.lashes}", deferred.CARD, face, 0.004),
        _NamedPart(f"eyebrows.{person.brows}", deferred.CARD, face, 0.03),
        _NamedPart(f"clothes.{person.clothes}", deferred.CLOTH, deferred.CLOTHES),
    ]
    if _hair_card(person):
        parts.append(_NamedPart(f"hair.{person.hair[5:]}", deferred.CARD, deferred.HAIR))
    return parts


class ProceduralHead:
    """One person, ready to be drawn; see :class:`HeadFactory`.

    Attributes:
        identity: [80] float32 of the open head; vertex_offset: [v, 3], what it leaves.
        sheets: everything that does not move.
        light: the light, in the neutral head's frame.
    """

    def __init__(self, factory: HeadFactory, person: ProceduralPerson, shadow_directions: int = 40) -> None:
        """Shape, dress and light ``person``; ``shadow_directions`` are how many lights cast shadows."""
        self.factory, self.person = factory, person
        random = np.random.default_rng(person.seed)
        self.rest = factory.assets.shape({**person.macro.weights(), **person.details})
        self.identity, offset, self._turn, self._origin = factory.fit(self.rest)
        self._offset_landmarks = offset
        self._vertex_offset: Array | None = None
        self._shape = factory.head.shape(self.identity)
        marks = (factory.landmarks(self.rest) - self._origin) @ self._turn.T
        self._lip = marks[[UPPER_LIP_RIM, UPPER_LIP_INSIDE]].mean(0)
        self.low, self.chin_z = (float(x) for x in marks[CHIN, 1:])
        textures = self._textures(random)
        pile = self._assembled(_named_parts(person))
        self._linear_count = pile.starts[-1]
        self.glass_slice = slice(self._linear_count, self._linear_count)
        if person.glasses is not None:
            self._add_glasses(pile, person.glasses, marks)
        self._starts = pile.starts
        self.triangles = np.concatenate(pile.triangles).astype(np.int32)
        self.head_share = np.concatenate(pile.head).astype(np.float32)
        self.inside = np.zeros(len(self.head_share), bool)
        self.inside[: len(factory.inside)] = factory.inside
        self.follow = np.concatenate(pile.follow).astype(np.float32)[:, None]
        self.sheets = Sheets(
            triangles=self.triangles,
            uv=np.concatenate(pile.uv).astype(np.float32),
            material=np.concatenate(pile.material).astype(np.int8),
            label=np.concatenate(pile.label).astype(np.int8),
            texture=np.concatenate(pile.texture).astype(np.int8),
            skin=factory.skin(person),
            textures=np.stack(textures),
            bias=np.concatenate(pile.bias).astype(np.float32),
            glass_cover=float(person.tint > 0),
        )
        self._eyes()
        self.neutral = self.deform({}, np.zeros(2, np.float32))
        # The skin vertices at the middle of both inner lips.
        skin = self.neutral[: self._starts[1]]
        middles = marks[[UPPER_LIP_INSIDE, LOWER_LIP_INSIDE]]
        self._lip_rows = np.array([np.linalg.norm(skin - mark, axis=1).argmin() for mark in middles])
        self._strands(random)
        self._bake(random, shadow_directions)

    # -- assembly ---------------------------------------------------------------------------------------------------------

    def _textures(self, random: np.random.Generator) -> list[Array]:
        """Textures of the parts after the skin, in their order."""
        factory, person = self.factory, self.person
        brow = person.brow_colour
        textures = [
            factory.eye_texture(person.eyes, float(random.uniform(0.4, 0.68))),
            factory.card("teeth/teeth.webp", gain=float(random.uniform(0.75, 0.95))),
            factory.card("tongue/tongue01.jpg"),
            factory.card(f"eyelashes/{person.lashes}.webp", (0.3 * brow[0], 0.3 * brow[1], 0.3 * brow[2]), alpha=0.45),
            factory.card(f"eyebrows/{person.brows}.webp", brow, 0.5),
            factory.card(f"clothes/{person.clothes}.jpg", person.cloth_colour, 0.5),
        ]
        if _hair_card(person):
            textures.append(factory.card(f"hair/{person.hair[5:]}.webp", person.hair_colour, 0.8))
        return textures

    def _assembled(self, parts: list[_NamedPart]) -> _Pile:
        """Skin and parts in the neutral head's frame; notes how each part's vertices follow from the body's shape."""
        factory = self.factory
        assets = factory.assets
        joints = {name: assets.joint(self.rest, name) for name in ("l-shoulder", "r-shoulder", "neck")}
        posture = Posture(arms_down_rad=0.45)
        hidden = np.zeros(len(assets.base), bool)
        hidden[factory.part(f"clothes.{self.person.clothes}").delete] = True
        shown = ~hidden[factory.base_index][factory.base_faces].all(1)
        shown_triangles = np.tile(np.repeat(shown, 4), 2)
        self._matrices, self._constants = [], []
        pile = _Pile()
        for row, (name, kind, label, bias) in enumerate(parts):
            constant: float | Array
            if not name:
                matrix, constant = factory.skin_matrix, 0.0
                triangles, uv = factory.skin_triangles[shown_triangles], factory.skin_uv[shown_triangles]
            else:
                part = factory.part(name)
                matrix, constant, triangles, uv = part.matrix, part.constant(self.rest), part.triangles, part.uv
            points = matrix @ self.rest + constant
            arms = posture.apply(points, joints) - points
            self._matrices.append(matrix)
            self._constants.append((constant + arms).astype(np.float32))
            here = (points + arms - self._origin) @ self._turn.T
            head, follow = np.ones(len(here)), np.ones(len(here))
            if not name:
                head, follow = factory.skin_head, factory.follow
            elif label == deferred.CLOTHES:
                head, follow = np.zeros(len(here)), factory.follow[factory.under(name)]
                keep = here[triangles, 1].min(1) > self.low - 3.2
                triangles, uv = triangles[keep], uv[keep]
            elif label == deferred.HAIR:
                head = self._hair_head(here)
            pile.add(triangles, uv, material=kind, label=label, texture=row - 1, bias=bias, head=head, follow=follow)
        return pile

    def _add_glasses(self, pile: _Pile, style: str, marks: Array) -> None:
        """Glasses of this style on the landmarks ``marks`` [478, 3]."""
        skin = (self._matrices[0] @ self.rest - self._origin) @ self._turn.T
        self._glass_points, triangles, lens = glasses(style, marks, skin)
        material = np.where(lens, deferred.GLASS, deferred.PLAIN)
        ones, start = np.ones(len(self._glass_points)), pile.starts[-1]
        no_uv = np.zeros((len(triangles), 3, 2), np.float32)
        pile.add(triangles, no_uv, material=material, label=deferred.OTHERS, texture=-1, bias=0.0, head=ones, follow=ones)
        self.glass_slice = slice(start, start + len(self._glass_points))

    # -- geometry ---------------------------------------------------------------------------------------------------------

    @property
    def vertex_offset(self) -> Array:
        """What the open head's identity leaves of this person's landmarks, over its mesh: [v, 3] float32."""
        if self._vertex_offset is None:
            self._vertex_offset = spread_offset(self.factory.head, Person(self.identity.astype(np.float64), self._offset_landmarks))
        return self._vertex_offset

    def _hair_head(self, here: Array) -> Array:
        """Hair belongs to the head layer down to a little below the chin."""
        return np.clip(1.0 - (self.low - 0.08 - here[:, 1]) / 0.4, 0.0, 1.0)

    def _eyes(self) -> None:
        points = self._matrices[1] @ self.rest + self._constants[1]
        self._eye_rows, self._eye_centres, self._eye_radius = [], [], []
        for sign in (1.0, -1.0):
            own = np.flatnonzero(sign * points[:, 0] > 0)
            low, high = points[own].min(0), points[own].max(0)
            centre, radius = 0.5 * (low + high), 0.25 * float((high - low)[:2].sum())
            centre[2] = high[2] - radius
            self._eye_rows.append(own)
            self._eye_centres.append(centre)
            self._eye_radius.append(radius)

    def base(self, weights: Mapping[str, float], gaze_rad: Array) -> tuple[Array, Array]:
        """Base vertices with expression: (with lids that follow the gaze, without)."""
        assets, base = self.factory.assets, self.rest.copy()
        assets.add(base, {f"arkit/{name}": weight for name, weight in weights.items() if weight})
        up, down, side = GAZE_LIMITS_RAD
        pitch, yaw = float(gaze_rad[0]), float(gaze_rad[1])
        looks = {
            "eyeLookUpLeft": max(pitch, 0) / up,
            "eyeLookUpRight": max(pitch, 0) / up,
            "eyeLookDownLeft": max(-pitch, 0) / down,
            "eyeLookDownRight": max(-pitch, 0) / down,
            "eyeLookOutLeft": max(yaw, 0) / side,
            "eyeLookInRight": max(yaw, 0) / side,
            "eyeLookInLeft": max(-yaw, 0) / side,
            "eyeLookOutRight": max(-yaw, 0) / side,
        }
        looked = base
        if any(looks.values()):
            looked = base.copy()
            assets.add(looked, {f"arkit/{name}": weight for name, weight in looks.items() if weight})
        return looked, base

    def deform(self, weights: Mapping[str, float], gaze_rad: Array) -> Array:
        """Head-space vertices [v, 3] float32 of an expression; the body below the neck stays."""
        looked, plain = self.base(weights, gaze_rad)
        turn = gaze_matrix(float(gaze_rad[0]), float(gaze_rad[1]))
        looked, plain = looked.astype(np.float32), plain.astype(np.float32)
        pieces = []
        for row, (matrix, constant) in enumerate(zip(self._matrices, self._constants, strict=True)):
            points = matrix @ (plain if row in (1, 7) else looked) + constant
            if row == 1:
                for own, centre in zip(self._eye_rows, self._eye_centres, strict=True):
                    points[own] = (points[own] - centre) @ turn.T + centre
            pieces.append(points)
        here = (np.concatenate(pieces) - self._origin) @ self._turn.T
        if self.glass_slice.stop > self.glass_slice.start:
            here = np.concatenate([here, self._glass_points])
        return here.astype(np.float32)

    def landmarks478(self, weights: Mapping[str, float], gaze_rad: Array) -> Array:
        """MediaPipe's landmarks [478, 3] in head space."""
        looked, _ = self.base(weights, gaze_rad)
        result = np.empty((ALL_POINTS, 3))
        result[:FACE_POINTS] = self.factory.landmarks(looked)
        turn = gaze_matrix(float(gaze_rad[0]), float(gaze_rad[1]))
        for first, centre, radius in zip(IRIS_CENTRES, self._eye_centres, self._eye_radius, strict=True):
            iris = 0.058
            middle = centre + turn @ np.array([0, 0, np.sqrt(max(radius**2 - iris**2, 1e-4))])
            result[first] = middle
            result[first + 1 : first + 5] = middle + iris * (np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]) @ turn.T)
        return ((result - self._origin) @ self._turn.T).astype(np.float32)

    def open_head(self, weights: Mapping[str, float], gaze_rad: Array) -> Array:
        """The fitted open head's vertices [v, 3] with this expression: what PNCC is drawn of."""
        head = self.factory.head
        return head.deform(self._shape, self.factory.coefficients(weights), np.asarray(gaze_rad)) + self.vertex_offset

    # -- hair that is grown -----------------------------------------------------------------------------------------------

    def _strands(self, random: np.random.Generator) -> None:
        """Head-space strands of hair and beard at rest, and the base vertices that a beard hangs on."""
        person, factory = self.person, self.factory
        points, tone, width, label, roots = [], [], [], [], []
        self._beard_rows = np.zeros((0, 3), np.int64)
        self._beard_share = np.zeros((0, 3), np.float32)
        if person.hair.startswith("grown:"):
            style = factory.grown(person.hair[6:])
            shift = (self.rest - style.reference)[style.near]
            moved = style.points.reshape(-1, 3) + (shift * style.share[..., None]).sum(1)
            moved = moved.reshape(style.points.shape)
            length = {"crop": (0.5, 1.2), "brush": (0.5, 1.15), "swept": (0.6, 1.1), "long": (0.5, 1.0), "tied": (1.0, 1.0)}[
                person.hair[6:]
            ]
            keep = length[0] + (length[1] - length[0]) * person.hair_length
            if keep < 1.0 and moved.shape[1] > 4:
                at = np.linspace(0, keep * (moved.shape[1] - 1), moved.shape[1])
                low = np.minimum(at.astype(int), moved.shape[1] - 2)
                part = (at - low)[None, :, None]
                moved = moved[:, low] * (1 - part) + moved[:, low + 1] * part
            else:
                moved = moved[:, :1] + keep * (moved - moved[:, :1])
            points.append((moved - self._origin) @ self._turn.T)
            tone.append(style.tone)
            width.append(style.width)
            label.append(np.full(len(moved), deferred.HAIR))
            roots.append(np.zeros((len(moved), 0)))
        if person.beard in ("goatee", "moustache", "short", "full"):
            curve, rows, share = self._beard(random)
            steps = points[0].shape[1] if points else 4
            if curve.shape[1] != steps:
                at = np.linspace(0, curve.shape[1] - 1, steps)
                low = np.minimum(at.astype(int), curve.shape[1] - 2)
                part = (at - low)[None, :, None]
                curve = curve[:, low] * (1 - part) + curve[:, low + 1] * part
            points.append(curve)
            tone.append(np.exp(random.normal(0, 0.3, len(curve))))
            width.append(np.full(len(curve), 0.014))
            label.append(np.full(len(curve), deferred.FACE_SKIN))
            self._beard_rows, self._beard_share = rows, share
        if not points:
            empty = np.zeros((0, 2, 3), np.float32)
            self.strand_points, self._tone, self._width, self._strand_label = (
                empty,
                np.zeros(0),
                np.zeros(0, np.float32),
                np.zeros(0, np.int8),
            )
            self._strand_head = np.zeros(0, np.float32)
            return
        self.strand_points = np.concatenate(points).astype(np.float32)
        self._tone, self._width = np.concatenate(tone), np.concatenate(width).astype(np.float32)
        self._strand_label = np.concatenate(label).astype(np.int8)
        self._strand_head = self._hair_head(self.strand_points.mean(1)).astype(np.float32)
        self._strand_head[self._strand_label == deferred.FACE_SKIN] = 1.0

    def _beard(self, random: np.random.Generator) -> tuple[Array, Array, Array]:
        """Curves [n, 4, 3] in head space, and the skin vertices [n, 3] with shares they grow on."""
        factory, person = self.factory, self.person
        skin = self.neutral[: self._starts[1]]
        triangles, uv = factory.skin_triangles, factory.skin_uv
        mask = beard_mask(person.beard)
        centre = uv.mean(1) * (SKIN_PX, -SKIN_PX) + (-HEAD_CROP_PX[0][0] / 2, SKIN_PX - HEAD_CROP_PX[1][0] / 2)
        x, y = np.clip(centre, 0, (391, 719)).astype(int).T
        inside = (centre >= 0).all(1) & (centre < (392, 720)).all(1)
        near = inside * mask[y, x]
        corner = skin[triangles]
        cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        area = np.linalg.norm(cross, axis=1)
        # The mouth's inside lies in the same part of the texture.
        near = near * (corner[:, :, 2].mean(1) > self.neutral[:, 2].max() - 1.6) * (cross[:, 2] > -0.4 * area)
        odds = area * near
        assert person.beard is not None  # asked for by those who have one
        count = {"goatee": 1500, "moustache": 900, "short": 4200, "full": 5200}[person.beard]
        if odds.sum() <= 0:
            return np.zeros((0, 4, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3), np.float32)
        pick = random.choice(len(odds), count, p=odds / odds.sum())
        r1, r2 = np.sqrt(random.random(count)), random.random(count)
        share = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], -1)
        root = (corner[pick] * share[..., None]).sum(1)
        normal = cross[pick] / np.maximum(area[pick], 1e-9)[:, None]
        longest = {"goatee": 0.07, "moustache": 0.05, "short": 0.05, "full": 0.14}[person.beard] * (0.5 + 0.7 * person.beard_amount)
        length = longest * random.uniform(0.6, 1.1, count)
        # Downwards on the chin, to the sides above the lip.
        lip = np.clip((root[:, 1] - self._lip[1]) / 0.04, 0.0, 1.0)[:, None]
        down = (0.0, -0.8, 0.1) * (1 - lip) + lip * np.stack([np.sign(root[:, 0]) * 0.9, 0 * lip[:, 0] - 0.2, 0 * lip[:, 0]], -1)
        length = length * (1 - 0.55 * lip[:, 0])
        heading = 0.4 * normal + down + random.normal(0, 0.3, (count, 3))
        run = np.linspace(0, 1, 4)[None, :, None]
        lift = 0.25 * length[:, None, None] * np.sin(np.pi * run * 0.6) * normal[:, None]
        curve = root[:, None] + length[:, None, None] * run * heading[:, None] + lift
        return curve, triangles[pick].astype(np.int64), share.astype(np.float32)

    # -- light ------------------------------------------------------------------------------------------------------------

    def _bake(self, random: np.random.Generator, directions: int) -> None:
        """Light at every vertex. Shadows are those of lips a little open and lids a little closed: neither hides what it shows later."""
        person, factory = self.person, self.factory
        self.light = baking.head_light(factory.hdri[person.hdri], person.turn, person.lamps, directions, random)
        generic = {"jawOpen": 0.25, "eyeBlinkLeft": 0.3, "eyeBlinkRight": 0.3}
        vertices = self.deform(generic, np.zeros(2, np.float32))
        normals = self._normals(vertices)
        base = ((self.base(generic, np.zeros(2))[0][factory.base_index] - self._origin) @ self._turn.T).astype(np.float32)
        kinds = self.sheets.material
        cloth = self.triangles[kinds == deferred.CLOTH]
        solid_vertices = np.concatenate([vertices, base])
        solid = np.concatenate([cloth, factory.base_triangles + len(vertices)]).astype(np.int32)
        veil = self.triangles[(kinds == deferred.CARD) & (self.sheets.label == deferred.HAIR)]
        sample = np.ascontiguousarray(self.strand_points.reshape(-1, 3))
        lit, fibre = baking.gather(vertices, normals, self.light, (solid_vertices, solid), (vertices, veil), sample)
        plain = self.light.scattered(normals)
        skin = slice(0, self._starts[1])
        # One bounce: what a point does not see of the light it sees of nearby skin.
        hidden = np.clip(1.0 - lit.mean(1) / np.maximum(plain.mean(1), 1e-3), 0.0, 1.0)[:, None]
        lit += hidden * 0.30 * np.array([0.5, 0.3, 0.22], np.float32) * float(plain.mean())
        for channel, times in enumerate((4, 2, 2)):
            for _ in range(times):
                lit[skin, channel] = factory.smooth @ lit[skin, channel]
        for row in (1, 4, 5):
            own = slice(self._starts[row], self._starts[row + 1])
            lit[own] = 0.6 * lit[own] + 0.4 * lit[own].mean(0)
        if len(self._starts) > 8 and person.hair.startswith("card:"):
            own = slice(self._starts[7], self._starts[8])
            lit[own] = 0.5 * lit[own] + 0.5 * self._around(own, vertices)
        self._baked, self._plain = lit, plain
        if len(sample):
            run = np.linspace(0.0, 1.0, self.strand_points.shape[1])[None, :, None]
            depth = 0.35 + 0.65 * run if person.hair not in ("grown:crop",) else 0.6 + 0.4 * run
            body = np.asarray(person.hair_colour) * self._tone[:, None, None]
            light = fibre.reshape(self.strand_points.shape)
            along = np.gradient(self.strand_points, axis=1)
            along /= np.maximum(np.linalg.norm(along, axis=2, keepdims=True), 1e-9)
            # A sheen where strands run across the light and the view (Kajiya and Kay 1989), seen from the front.
            lean = (self.light.directions * self.light.power.mean(1, keepdims=True)).sum(0)
            lean /= max(float(np.linalg.norm(lean)), 1e-6)
            half = lean + (0.0, 0.0, 1.0)
            half /= np.linalg.norm(half)
            sheen = np.sqrt(np.clip(1.0 - (along @ half) ** 2, 0.0, 1.0))[..., None] ** 24
            shine = np.where(self._strand_label == deferred.FACE_SKIN, 0.15, 1.0)[:, None, None]
            deep = np.where(self._strand_label == deferred.FACE_SKIN, 0.75, 1.15)[:, None, None]
            self._strand_light = (light * (body * depth * deep + shine * sheen * (0.012 + 0.25 * body))).astype(np.float32)
        else:
            self._strand_light = np.zeros_like(self.strand_points)
        face = (
            (self.factory.skin_head > 0.9)
            & (self.neutral[skin, 2] > -0.6)
            & (self.neutral[skin, 1] < 0.5)
            & (np.abs(self.neutral[skin, 0]) < 0.6)
        )
        albedo = to_linear(np.median(self.sheets.skin[500:560:4, 780:960:4].reshape(-1, 3), 0) / 255.0)
        tone = person.exposure
        x = np.linspace(0, 1, 1024) ** 2 * 8
        wanted = float(np.interp(tone, deferred._TONE, x))
        level = float(np.median(lit[skin][face].mean(1))) * float(albedo.mean())
        # A camera balances most of the light's colour away.
        cast = np.median(lit[skin][face], 0)
        balance = (cast.mean() / np.maximum(cast, 1e-3)) ** 0.8 * np.asarray(person.white_balance)
        self.exposure = (wanted / max(level, 1e-3) * balance).astype(np.float32)

    def _around(self, own: slice, vertices: Array) -> Array:
        out = vertices[own] / np.maximum(np.linalg.norm(vertices[own], axis=1, keepdims=True), 1e-6)
        return self.light.scattered(out) * 0.8

    def _normals(self, vertices: Array) -> Array:
        normals = vertex_normals(vertices, self.triangles)
        if self.person.hair.startswith("card:"):
            own = slice(self._starts[7], self._starts[8])
            middle = np.array([0.0, 0.45, -0.75], np.float32)
            out = vertices[own] - middle
            sign = np.sign((normals[own] * out).sum(1, keepdims=True))
            normals[own] *= np.where(sign == 0, 1, sign)
        return normals

    # -- frames -----------------------------------------------------------------------------------------------------------

    def moment(self, pose: HeadPose, source: HeadPose, torso: tuple[Array, Array] | None = None) -> Moment:
        """Everything that :func:`deferred.draw` needs for one frame.

        Args:
            pose: the frame; source: the photograph it is compared with, whose head carries the light.
            torso: rotation_rad and translation of head space under which the torso stands; the head's own by default, which turns the
                whole person as one (another camera), while a fixed torso and light make the head turn as people's do.
        """
        vertices = self.deform(pose.weights, pose.gaze_rad)
        rest = self.neutral if not source.weights and not np.any(source.gaze_rad) else self.deform(source.weights, source.gaze_rad)
        turn, move = matrix_from_euler(pose.rotation_rad), np.asarray(pose.translation)
        # The torso is turned against the head about the neck's root.
        pivot = np.array([0.0, self.low - 0.55, -0.75])
        lean = matrix_from_euler(np.asarray(self.person.torso_rad))
        body = (vertices - pivot) @ lean.T + pivot
        strands = self._posed_strands(vertices)
        if torso is None:
            unposed = self.follow * vertices + (1 - self.follow) * body
            posed = unposed @ turn.T + move
            into = turn.T
            offset_point = move
        else:
            turn0, move0 = matrix_from_euler(torso[0]), np.asarray(torso[1])
            posed = self.follow * (vertices @ turn.T + move) + (1 - self.follow) * (body @ turn0.T + move0)
            into = matrix_from_euler(source.rotation_rad).T
            offset_point = np.asarray(source.translation)
        points = (posed - offset_point) @ into.T
        eye = (np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - offset_point) @ into.T
        points, posed = points.astype(np.float32), posed.astype(np.float32)
        normals = self._normals(points)
        light = self._baked * np.clip((self.light.scattered(normals) + 0.05) / (self._plain + 0.05), 0.4, 2.2)
        self._light_mouth(light, vertices, normals)
        posed_strands = (strands @ turn.T + move).astype(np.float32) if len(strands) else strands
        strand_offset = np.zeros((len(strands), 3), np.float32)
        count = len(self._beard_rows)
        if count:
            moved = ((rest - vertices)[self._beard_rows] * self._beard_share[..., None]).sum(1)
            strand_offset[-count:] = moved
        return Moment(
            posed=posed,
            points=points,
            normals=normals,
            eye=eye.astype(np.float32),
            light=light.astype(np.float32),
            head=self.head_share,
            offset=(rest - vertices).astype(np.float32),
            strand_points=posed_strands,
            strand_light=self._strand_light,
            strand_width=self._width,
            strand_head=self._strand_head,
            strand_offset=strand_offset,
            strand_label=self._strand_label,
        )

    def _posed_strands(self, vertices: Array) -> Array:
        count = len(self._beard_rows)
        if not count:
            return self.strand_points
        moved = ((vertices - self.neutral)[self._beard_rows] * self._beard_share[..., None]).sum(1)
        strands = self.strand_points.copy()
        strands[-count:] += moved[:, None]
        return strands

    def _light_mouth(self, light: Array, vertices: Array, normals: Array) -> None:
        """Teeth and tongue: what the lips' opening lets in, less the further behind them."""
        inner = slice(self._starts[2], self._starts[4])
        lips = vertices[self._lip_rows]
        gap = max(float(lips[0, 1] - lips[1, 1]), 0.0)
        front = float(lips[:, 2].max())
        behind = np.clip((front - vertices[inner, 2]) / 0.75, 0.0, 1.0)[:, None]
        opening = min(0.25 + gap / 0.25, 1.0)
        light[inner] = self.light.scattered(normals[inner]) * opening * (1.0 - behind) ** 1.4 * np.array([0.86, 0.80, 0.70], np.float32)
        if self.glass_slice.stop > self.glass_slice.start:
            own = self.glass_slice
            colour = np.asarray(self.person.glasses_colour, np.float32)
            light[own] = self.light.scattered(normals[own]) * colour
            lens = np.unique(self.triangles[self.sheets.material == deferred.GLASS])
            light[lens] = 0.01

    def pose_landmarks(self, pose: HeadPose) -> Array:
        """Posed landmarks [478, 3], decimetres."""
        return pose_points(self.landmarks478(pose.weights, pose.gaze_rad), pose.rotation_rad, pose.translation)
