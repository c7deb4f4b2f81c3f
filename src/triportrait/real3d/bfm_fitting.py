"""Landmarks -> identity, expression and pose of a user's head model, the Basel face or FLAME: regularised Gauss-Newton.

The problem is Real3D-Portrait's (spec 3.2), with its weights: squared reprojection error of 468 landmarks in pixels of a 224-pixel
frame, focal length 1015, and squared coefficients. Its solver, 400 steps of Adam, ends at about the same place; this one converges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.face.bfm import BfmHead
from triportrait.face.flame import FlameHead
from triportrait.face.pncc import focal_of
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, FACE_POINTS, LIPS, UPPER_LID_LEFT, UPPER_LID_RIGHT
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler, matrix_from_vector, vector_from_matrix
from triportrait.types import CAMERA_DISTANCE_DM, Array, Motion

_FRAME_PX = 224.0
#: Terms of the mean squared error, which the published weights of the coefficients are relative to.
_TERMS = 2.0 * 468.0
#: Side of the crop that distances are told in.
_TOLD_PX = 512.0
#: Rows solved at a time.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class BfmFitSettings:
    """Weights of the published fit; :meth:`video` has those of driving clips.

    Args:
        eyes, upper_lids, lips: of their landmarks; all others have 1.
        identity_prior, expression_prior: of the mean squared coefficient, against the mean squared error.
        depth_prior, turn_prior: of squared decimetres and radians away from the pose that the mean face would have, against squared pixels:
            shape can stand in for distance and rotation, and then it should not.
        pose_steps, steps: Gauss-Newton steps for the pose alone and for everything.
    """

    eyes: float = 5.0
    upper_lids: float = 5.0
    lips: float = 2.0
    identity_prior: float = 0.3
    expression_prior: float = 0.05
    depth_prior: float = 100.0
    turn_prior: float = 2000.0
    pose_steps: int = 6
    steps: int = 10

    @classmethod
    def video(cls) -> BfmFitSettings:
        return cls(eyes=3.0, upper_lids=20.0, lips=5.0, identity_prior=0.2, expression_prior=0.6)


@dataclass(frozen=True, slots=True)
class FitState:
    """Where a fit stands: t rows that share an identity."""

    rotation: Array  # [t, 3, 3]
    translation: Array  # [t, 3]
    expression: Array  # [t, 64]
    identity: Array  # [80]


class BfmFitter:
    """Fits the Basel face model to MediaPipe's landmarks in pixels of a square crop of ``side_px``.

    Args:
        head: the Basel face read with ``index_mp468``, or another head whose landmarks are linear in its coefficients.
        side_px: side of the crop that the landmarks are given in.
        settings: weights.

    Raises:
        WeightsError: the head lacks the index.
    """

    def __init__(self, head: BfmHead | FlameHead, side_px: float, settings: BfmFitSettings | None = None) -> None:
        self.head = head
        self.settings = settings = settings or BfmFitSettings()
        self._known, self._mean, self._identity, self._expression = head.landmark_bases()
        self._to_frame = _FRAME_PX / side_px
        self._focal_px = focal_of(head.name) * _FRAME_PX
        self._terms = _TERMS
        weight = np.ones(FACE_POINTS)
        weight[EYE_LEFT_RIM] = weight[EYE_RIGHT_RIM] = settings.eyes
        weight[UPPER_LID_LEFT] = weight[UPPER_LID_RIGHT] = settings.upper_lids
        weight[LIPS] = settings.lips
        self._weight = weight[self._known]

    def fit_person(self, landmarks: Array) -> tuple[Array, Motion]:
        """Identity [80] shared by all rows of ``landmarks`` [t, 478, >=2], and their motion."""
        seen = self._observed(landmarks)
        state = self._solve(seen, self._initial(seen, np.zeros(self.head.identity_size)), self.settings.pose_steps, 6, False)
        state = self._solve(seen, state, self.settings.steps, 6 + state.expression.shape[1], True)
        return state.identity.astype(np.float32), self._motion(state, 25.0)

    def fit_motion(self, landmarks: Array, identity: Array, fps: float = 25.0) -> Motion:
        """Expression and pose of every row of ``landmarks`` [t, 478, >=2] for a known identity [80]."""
        pieces = []
        for start in range(0, len(landmarks), _ROWS):
            seen = self._observed(landmarks[start : start + _ROWS])
            state = self._solve(seen, self._initial(seen, np.asarray(identity, np.float64)), self.settings.pose_steps, 6, False)
            pieces.append(self._solve(seen, state, self.settings.steps, 6 + state.expression.shape[1], False))
        whole = FitState(
            np.concatenate([piece.rotation for piece in pieces]),
            np.concatenate([piece.translation for piece in pieces]),
            np.concatenate([piece.expression for piece in pieces]),
            pieces[0].identity,
        )
        return self._motion(whole, fps)

    def residual_px(self, landmarks: Array, motion: Motion) -> Array:
        """Distances [t, n] of the fitted landmarks from ``landmarks`` [t, 478, >=2], in pixels of a 512-px crop."""
        assert motion.identity is not None, "motion of this fitter has the person's identity"
        rotation, translation = matrix_from_euler(motion.rotation_rad), motion.translation.astype(np.float64)
        state = FitState(rotation, translation, motion.expression.astype(np.float64), motion.identity.astype(np.float64))
        posed = np.einsum("tij,tnj->tni", rotation, self._points(state)) + translation[:, None]
        scale = self._focal_px / (CAMERA_DISTANCE_DM - posed[..., 2])
        seen = self._observed(landmarks) - 0.5 * _FRAME_PX
        return np.linalg.norm(seen - np.stack([posed[..., 0] * scale, -posed[..., 1] * scale], -1), axis=-1) * (_TOLD_PX / _FRAME_PX)

    def _observed(self, landmarks: Array) -> Array:
        return np.asarray(landmarks, np.float64)[:, self._known, :2] * self._to_frame

    def _points(self, state: FitState) -> Array:
        """Unposed landmarks [t, n, 3]."""
        return self._mean + self._identity @ state.identity + np.einsum("nce,te->tnc", self._expression, state.expression)

    def _initial(self, seen: Array, identity: Array) -> FitState:
        """Weak perspective: the similarity that best maps the frontal face onto the landmarks."""
        model = self._mean + self._identity @ identity
        p = (model[:, 0] - 1j * model[:, 1]) - (model[:, 0] - 1j * model[:, 1]).mean()
        q = seen[..., 0] + 1j * seen[..., 1]
        a = ((q - q.mean(1, keepdims=True)) * p.conj()).sum(1) / (abs(p) ** 2).sum()
        focal = self._focal_px
        depth = focal / np.abs(a)
        roll = -np.angle(a)
        rotation = matrix_from_vector(np.stack([0 * roll, 0 * roll, roll], -1))
        centre = (seen.mean(1) - 0.5 * _FRAME_PX) / focal * depth[:, None]
        translation = np.stack([centre[:, 0], -centre[:, 1], CAMERA_DISTANCE_DM - depth], -1)
        translation -= np.einsum("tij,j->ti", rotation, model.mean(0))
        return FitState(rotation, translation, np.zeros((len(seen), self._expression.shape[2])), identity)

    def _solve(self, seen: Array, state: FitState, steps: int, size: int, with_identity: bool) -> FitState:
        """Gauss-Newton over pose (``size`` 6) and expression of every row, and the identity that they share."""
        settings, focal = self.settings, self._focal_px
        own_prior = settings.expression_prior * self._terms / self._expression.shape[2]
        identity_prior = settings.identity_prior * self._terms / self._identity.shape[2]
        root = np.sqrt(self._weight)[:, None]
        expressed = np.arange(6, size)
        start = state
        for _ in range(steps):
            points = self._points(state)
            posed = np.einsum("tij,tnj->tni", state.rotation, points) + state.translation[:, None]
            depth = np.maximum(CAMERA_DISTANCE_DM - posed[..., 2], 1.0)
            scale = focal / depth
            residual = seen - 0.5 * _FRAME_PX - np.stack([posed[..., 0] * scale, -posed[..., 1] * scale], -1)
            camera = np.zeros((*posed.shape[:2], 2, 3))
            camera[..., 0, 0], camera[..., 0, 2] = scale, posed[..., 0] * scale / depth
            camera[..., 1, 1], camera[..., 1, 2] = -scale, -posed[..., 1] * scale / depth
            turned = camera @ state.rotation[:, None]
            # R exp(d) x = R x - R [x] d
            parts = [np.cross(points[..., None, :], turned), camera]
            if size > 6:
                parts.append(turned @ self._expression[None])
            if with_identity:
                parts.append(turned @ self._identity[None])
            jacobian = (np.concatenate(parts, -1) * root[..., None]).reshape(len(seen), -1, sum(part.shape[-1] for part in parts))
            target = (residual * root).reshape(len(seen), -1, 1)
            normal = jacobian.transpose(0, 2, 1) @ jacobian
            gradient = (jacobian.transpose(0, 2, 1) @ target)[..., 0]
            normal[:, np.arange(6), np.arange(6)] *= 1.0 + 1e-4
            normal[:, expressed, expressed] += own_prior
            gradient[:, 6:size] -= own_prior * state.expression[:, : size - 6]
            if size > 6:
                normal[:, np.arange(3), np.arange(3)] += settings.turn_prior
                gradient[:, :3] -= settings.turn_prior * vector_from_matrix(start.rotation.transpose(0, 2, 1) @ state.rotation)
                normal[:, 5, 5] += settings.depth_prior
                gradient[:, 5] -= settings.depth_prior * (state.translation[:, 2] - start.translation[:, 2])
            step, step_identity = _shared_step(normal, gradient, size, identity_prior, state.identity)
            expression = state.expression
            if size > 6:
                expression = expression + step[:, 6:]
            state = FitState(
                state.rotation @ matrix_from_vector(np.clip(step[:, :3], -0.5, 0.5)),
                state.translation + step[:, 3:6],
                expression,
                state.identity + step_identity if with_identity else state.identity,
            )
        return state

    def _motion(self, state: FitState, fps: float) -> Motion:
        return Motion(
            state.expression.astype(np.float32),
            euler_from_matrix(state.rotation).astype(np.float32),
            state.translation.astype(np.float32),
            np.zeros((len(state.expression), 2), np.float32),
            fps,
            self.head.expression_names,
            self.head.name,
            state.identity.astype(np.float32),
        )


def _shared_step(normal: Array, gradient: Array, size: int, prior: float, identity: Array) -> tuple[Array, Array]:
    """Steps of the rows [t, size] and of what they share [i] (0 when the normal equations end at ``size``), by Schur's complement."""
    if normal.shape[-1] == size:
        return np.linalg.solve(normal, gradient[..., None])[..., 0], np.zeros_like(identity)
    own, cross, shared = normal[:, :size, :size], normal[:, :size, size:], normal[:, size:, size:]
    solved = np.linalg.solve(own, np.concatenate([cross, gradient[:, :size, None]], -1))
    left = (shared - cross.transpose(0, 2, 1) @ solved[..., :-1]).sum(0) + prior * np.eye(len(identity))
    right = (gradient[:, size:] - (cross.transpose(0, 2, 1) @ solved[..., -1:])[..., 0]).sum(0) - prior * identity
    step = np.linalg.solve(left, right)
    return solved[..., -1] - solved[..., :-1] @ step, step
