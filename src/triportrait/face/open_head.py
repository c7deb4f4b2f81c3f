"""The embedded head: shape, ARKit expressions, turning eyes, teeth and tongue. The model card tells how it was built."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from triportrait.face.curve_kernels import add_curves
from triportrait.geometry.landmarks import ALL_POINTS, FACE_POINTS, IRIS_CENTRES, LID_PAIRS, LIP_PAIRS
from triportrait.geometry.normals import vertex_normals
from triportrait.nn.model_files import Embedded, load_arrays
from triportrait.types import ARKIT_EXPRESSIONS, Array, HeadPart, expect

#: Gaze angles at which the lids follow fully (radians): up, down, to either side.
GAZE_LIMITS_RAD = (0.52, 0.70, 0.70)

#: Of :mod:`triportrait.nn.model_files`.
KIND = "open_head.1"
_EMBEDDED = Embedded("triportrait.face", "open_head.safetensors")

IRIS_RADIUS_DM = 0.060
_RING = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)


@dataclass(frozen=True, slots=True)
class LandmarkBases:
    """Landmarks as ``mean [468, 3] + identity [468, 3, 80] a + expression [468, 3, 44] e + gaze [468, 3, 4] g``, decimetres.

    ``normals`` [468, 3] are those of the mean head's skin.
    """

    mean: Array
    identity: Array
    expression: Array
    gaze: Array
    normals: Array


class OpenHead:
    """Implements :class:`triportrait.types.HeadModel`: 80 identity coefficients, the 44 ARKit curves, gaze.

    Attributes:
        mean: [v, 3] float32 decimetres.
        part: [v] uint8, a :class:`triportrait.types.HeadPart`.
        neck: [v] float32, 0 on the head, growing to 1 where the neck meets the shoulders.
        eye_centre: [2, 3] decimetres and ``eye_radius`` [2], left (subject's) first.
        landmark_triangle, landmark_barycentric: surface points of MediaPipe's first 468 landmarks.
    """

    name = "open"
    expression_names = ARKIT_EXPRESSIONS

    def __init__(self, data: dict[str, Array]) -> None:
        self.mean: Array = data["mean"]
        count = expect(self.mean, "v 3", "mean")["v"]
        self.identity_basis: Array = data["identity"].astype(np.float32).reshape(-1, count * 3)
        self.expression_basis: Array = data["expression"].astype(np.float32).reshape(-1, count * 3)
        self.gaze_basis: Array = data["gaze"].astype(np.float32).reshape(4, count * 3)
        self.triangles: Array = data["triangles"]
        self.part: Array = data["part"]
        self.neck: Array = data["neck"].astype(np.float32)
        self.pncc_triangles: Array = data["pncc_triangles"].astype(bool)
        self.landmarks68_vertices: Array = data["landmarks68"]
        self.landmark_triangle: Array = data["landmark_triangle"]
        self.landmark_barycentric: Array = data["landmark_barycentric"]
        self.eye_centre: Array = data["eye_centre"]
        self.eye_radius: Array = data["eye_radius"]
        low, high = data["ncc_range"]
        self.ncc_colours: Array = np.clip((self.mean - low) / (high - low), 0, 1).astype(np.float32)
        self.identity_size = len(self.identity_basis)
        self._blink_columns = np.array([ARKIT_EXPRESSIONS.index("eyeBlinkLeft"), ARKIT_EXPRESSIONS.index("eyeBlinkRight")])
        self._lid_pairs = (LID_PAIRS[3:], LID_PAIRS[:3])
        self._summed: tuple[bytes, Array] = (b"", np.zeros(0, np.float32))
        self.eye_vertices = tuple(np.flatnonzero(self.part == label) for label in (HeadPart.EYE_LEFT, HeadPart.EYE_RIGHT))

    @classmethod
    @lru_cache(maxsize=1)
    def embedded(cls) -> OpenHead:
        """The head that ships in the package (one shared, read-only instance).

        Raises:
            WeightsError: its file is missing or damaged.
        """
        return cls(load_arrays(_EMBEDDED, KIND, before=lambda metadata: {}))

    def shape(self, identity: Array) -> Array:
        """The expressionless head [v, 3] of ``identity`` [i]; compute it once per person."""
        return self.mean + (np.asarray(identity, np.float32) @ self.identity_basis[: len(identity)]).reshape(-1, 3)

    def deform(self, shape: Array, expression: Array, gaze_rad: Array | None = None) -> Array:
        """Expression [44] and gaze [2] (pitch, yaw) on a ``shape`` [v, 3] -> [v, 3] float32."""
        curves = np.asarray(expression, np.float32).copy()
        blinks = curves[self._blink_columns]
        curves[self._blink_columns] = 0.0
        pitch, yaw = (0.0, 0.0) if gaze_rad is None else (float(gaze_rad[0]), float(gaze_rad[1]))
        flat = shape.reshape(-1) + self._displacement(curves, np.array(gaze_weights(pitch, yaw), np.float32))
        self._shut_lids(flat, blinks)
        self._part_lips(flat)
        vertices = flat.reshape(-1, 3)
        turn = gaze_matrix(pitch, yaw)
        if gaze_rad is not None:
            for ball, centre in zip(self.eye_vertices, self.eye_centres(shape), strict=True):
                vertices[ball] = (vertices[ball] - centre) @ turn.T + centre
        return vertices

    def _displacement(self, curves: Array, gaze: Array) -> Array:
        """What curves [44] and the gaze's weights [4] add to any shape: float32 [3 v].

        The last sum is kept: the pictures of a person are drawn one after the other with the same curves.
        """
        wanted = curves.tobytes() + gaze.tobytes()
        known, displacement = self._summed
        if known != wanted:
            displacement = np.zeros(self.mean.size, np.float32)
            add_curves(self.expression_basis, curves, displacement)
            add_curves(self.gaze_basis, gaze, displacement)
            # One assignment: other threads see the old pair or the new one.
            self._summed = wanted, displacement
        return displacement

    def _shut_lids(self, flat: Array, blinks: Array) -> None:
        """Add both blinks so that lids meet and never cross: a linear curve closes one face's eye too far and another's too little."""
        vertices = flat.reshape(-1, 3)
        for blink, column, pairs in zip(blinks, self._blink_columns, self._lid_pairs, strict=True):
            if blink <= 0.0:
                continue
            corners = self.triangles[self.landmark_triangle[pairs]]
            weights = self.landmark_barycentric[pairs][..., None]
            upper, lower = (vertices[corners] * weights).sum(2)[..., 1].T
            basis = self.expression_basis[column].reshape(-1, 3)
            rise, fall = (basis[corners] * weights).sum(2)[..., 1].T
            shut = float(np.median((upper - lower) / np.maximum(fall - rise, 1e-4)))
            flat += np.float32(_closing(float(blink), min(max(shut, 0.0), 1.4))) * self.expression_basis[column]

    @staticmethod
    def blink_that_closes(closed: Array, shut: Array) -> Array:
        """The blink curve [...] that closes an opening by the share ``closed`` [...], if its basis must count ``shut`` [...] to shut it."""
        tried = np.linspace(0.0, 1.0, 201)
        wanted = (closed * shut)[..., None]
        reached = _closing(tried, shut[..., None])
        return tried[np.argmax(reached >= wanted - 1e-6, axis=-1)]

    def _part_lips(self, flat: Array) -> None:
        """Lips may touch but not pass through each other: what curves add up to beyond contact is taken back along mouthClose."""
        corners = self.triangles[self.landmark_triangle[LIP_PAIRS]]
        weights = self.landmark_barycentric[LIP_PAIRS][..., None]
        upper, lower = (flat.reshape(-1, 3)[corners] * weights).sum(2)[..., 1].T
        gap = float(np.median(upper - lower))
        if gap >= 0.0:
            return
        basis = self.expression_basis[ARKIT_EXPRESSIONS.index("mouthClose")]
        rise, fall = (basis.reshape(-1, 3)[corners] * weights).sum(2)[..., 1].T
        flat += np.float32(-gap / min(float(np.median(rise - fall)), -1e-3)) * basis

    def vertices(self, identity: Array, expression: Array, gaze_rad: Array | None = None) -> Array:
        """See :class:`triportrait.types.HeadModel`."""
        return self.deform(self.shape(identity), expression, gaze_rad)

    def eye_centres(self, shape: Array) -> Array:
        """Centres [2, 3] of the eyeballs (subject's left first) of a shape [v, 3]."""
        moved = [shape[ball[0]] - self.mean[ball[0]] for ball in self.eye_vertices]
        return self.eye_centre + np.array(moved, np.float32)

    def landmark_bases(self) -> LandmarkBases:
        """The first 468 landmarks as linear functions of the coefficients."""
        corners = self.triangles[self.landmark_triangle]

        def at_landmarks(flat: Array) -> Array:
            picked = flat.reshape(*flat.shape[:-1], -1, 3)[..., corners, :]
            return np.einsum("nk,...nkc->...nc", self.landmark_barycentric, picked)

        normals = at_landmarks(vertex_normals(self.mean, self.triangles).reshape(-1))
        return LandmarkBases(
            at_landmarks(self.mean.reshape(-1)),
            np.moveaxis(at_landmarks(self.identity_basis), 0, -1),
            np.moveaxis(at_landmarks(self.expression_basis), 0, -1),
            np.moveaxis(at_landmarks(self.gaze_basis), 0, -1),
            normals / np.linalg.norm(normals, axis=-1, keepdims=True),
        )

    def landmarks68(self, vertices: Array) -> Array:
        """See :class:`triportrait.types.HeadModel`."""
        return vertices[self.landmarks68_vertices]

    def landmarks478(self, vertices: Array) -> Array:
        """See :class:`triportrait.types.HeadModel`; the irises come from the eyeballs as they stand in ``vertices``."""
        corners = vertices[self.triangles[self.landmark_triangle]]
        result = np.empty((ALL_POINTS, 3), np.float32)
        result[:FACE_POINTS] = np.einsum("nk,nkc->nc", self.landmark_barycentric, corners)
        for first, ball, radius in zip(IRIS_CENTRES, self.eye_vertices, self.eye_radius, strict=True):
            pole = vertices[ball[0]]
            # The ball's rings are flat circles round the gaze axis: their centres give axis and frame.
            ring = vertices[ball[1:25]]
            side, up = ring[0] - ring[12], ring[6] - ring[18]
            side, up = side / np.linalg.norm(side), up / np.linalg.norm(up)
            axis = np.cross(side, up)
            centre = pole - radius * axis
            iris = centre + axis * np.sqrt(radius**2 - IRIS_RADIUS_DM**2)
            result[first] = iris
            result[first + 1 : first + 5] = iris + IRIS_RADIUS_DM * (_RING @ np.stack([side, up]))
        return result


def _closing(blink: Any, shut: Any) -> Any:
    """How often the blink's basis counts for a curve ``blink``: as often as it says, and ``shut`` times near 1, which means "closed"."""
    firm = np.clip((blink - 0.8) / 0.2, 0.0, 1.0)
    return np.minimum(blink, shut) * (1 - firm) + shut * firm


def gaze_matrix(pitch_rad: float, yaw_rad: float) -> Array:
    """Rotation [3, 3] float32 that turns +z up by ``pitch_rad`` and towards +x by ``yaw_rad``."""
    cp, sp, cy, sy = np.cos(pitch_rad), np.sin(pitch_rad), np.cos(yaw_rad), np.sin(yaw_rad)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return (yaw @ pitch).astype(np.float32)


def gaze_weights(pitch_rad: float, yaw_rad: float) -> tuple[float, float, float, float]:
    """How far the lids follow a gaze: weights of the rows (up, down, image right, image left) of the gaze basis."""
    up, down, side = GAZE_LIMITS_RAD
    return (
        max(pitch_rad, 0.0) / up,
        max(-pitch_rad, 0.0) / down,
        max(yaw_rad, 0.0) / side,
        max(-yaw_rad, 0.0) / side,
    )
