"""Landmarks -> identity, expression, pose and gaze: bounded, regularised Gauss-Newton on the open head.

All frames of a clip are solved together in batches; a shared identity is eliminated by its Schur complement, so one photograph and
a thousand frames go through the same code. Source of the problem: Real3D-Portrait's 3DMM fitting (spec 3.2), which is Adam on the same
reprojection error; here pixels are those of a 512 px crop, so the weights below are in (512-px) pixels squared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from triportrait.face.open_head import OpenHead, gaze_weights
from triportrait.geometry.boxed import boxed_least_squares
from triportrait.geometry.curve_range import lowest_curves
from triportrait.geometry.landmarks import (
    BROW_LEFT,
    BROW_RIGHT,
    CHIN,
    EYE_LEFT_CORNERS,
    EYE_LEFT_RIM,
    EYE_RIGHT_CORNERS,
    EYE_RIGHT_RIM,
    FACE_POINTS,
    IRIS_CENTRES,
    LID_PAIRS,
    LIP_PAIRS,
    LIPS,
    NOSE_ROOT,
    NOSE_TIP,
    OUTER_MOUTH_CORNERS,
    OVAL,
    RIM_LOWER_MIDDLE,
    RIM_UPPER_MIDDLE,
)
from triportrait.geometry.nearest import nearest_points
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler, matrix_from_vector
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array, Motion

#: Rounds of spreading the landmark offsets over the mesh; the worst landmark is then met to about a pixel.
_SPREAD_ROUNDS = 2
#: The cosine between skin and camera from which a landmark counts fully, and that from which it keeps only the last share of its weight.
_SEEN, _UNSEEN, _UNSEEN_SHARE = 0.2, -0.1, 0.05
#: The tracker leaves this share of an opening between lids that are shut; from half closed on it is taken away little by little.
_SHUT_SHARE = 0.12
#: A brow's landmarks lie well across it and badly along it, where nothing holds them: differences along count so much of those across.
_ALONG_BROW = 0.3
#: Weight of their squared curves: five are well determined (on GRID's tracks gains come up to .05 nearer to 1 than with that of all).
_BROW_PRIOR = 5.0
_BROW_CURVES = ("browInnerUp", "browDownRight", "browDownLeft", "browOuterUpRight", "browOuterUpLeft")
#: Rounds of brows and pose by turns; from the second on gains grow by less than .01.
_BROW_ROUNDS = 2
#: Of the way that a drawn brow goes, the tracker sees .6 to .9 on portraits. With the upper end the fitted brows and those that the tracker
#: sees in the drawn picture both go about as far as the real ones.
_BROW_SEEN = 0.87
#: Sweeps over the curves of a part of the face at most, and the change of a curve that counts as none.
_SWEEPS, _SAME_CURVE = 100, 1e-4
#: Rounds in which the curves of the mouth are solved; lips move nearly in proportion to them. Landmarks round the lips tell of the jaw, but
#: with their full weight cheeks, which the model moves farther than people do, would hold the corners of the mouth back.
_MOUTH_ROUNDS, _ROUND_THE_LIPS = 3, 0.2


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Weights of the fit; residuals are pixels of a 512 px crop.

    Args:
        identity_prior: weight of the squared identity coefficients (their prior is a unit normal).
        expression_prior: weight of the squared expression curves.
        pair_weight: weight of lip and lid opening differences relative to single landmarks.
        iterations: Gauss-Newton steps.
    """

    identity_prior: float = 3.0
    expression_prior: float = 25.0
    pair_weight: float = 6.0
    iterations: int = 10


@dataclass(frozen=True, slots=True)
class Person:
    """What does not move: ``identity`` [80] and ``landmark_offset`` [468, 3] (decimetres, what the coefficients leave)."""

    identity: Array
    landmark_offset: Array


@dataclass(frozen=True, slots=True)
class _Pose:
    rotation: Array  # [t, 3, 3]
    translation: Array  # [t, 3]
    expression: Array  # [t, e]
    gaze_rad: Array  # [t, 2]


class LandmarkFitter:
    """Fits the open head to landmarks given in pixels of a square crop of ``side_px``.

    Args:
        head: the open head.
        focal: focal length in crop widths.
        settings: weights.
    """

    def __init__(self, head: OpenHead, focal: float = FOCAL_IN_WIDTHS, settings: FitSettings | None = None, side_px: float = 512.0) -> None:
        self.head = head
        self.settings = settings or FitSettings()
        self.bases = head.landmark_bases()
        self._focal_px = focal * 512.0
        self.side_px, self._to_512 = side_px, 512.0 / side_px
        weight = np.ones(FACE_POINTS)
        weight[LIPS] = 9.0
        weight[EYE_LEFT_RIM] = weight[EYE_RIGHT_RIM] = 2.5
        weight[OVAL] = 0.35  # the silhouette's landmarks slide with yaw
        self._weight = weight
        self._pairs = np.concatenate([LIP_PAIRS, LID_PAIRS])

    # -- public -------------------------------------------------------------------------------------------------------

    def fit_person(self, landmarks: Array) -> tuple[Person, Motion, Array]:
        """Identity shared by all rows of ``landmarks`` [t, 478, >=2] -> (person, motion, residual [t, 468, 2] px of 512).

        The person's ``landmark_offset`` makes the model meet the mean residual, so that the first row of a single photograph
        is met exactly.
        """
        observed = self._observed(landmarks)
        identity = np.zeros(self.head.identity_size)
        person = Person(identity, np.zeros((FACE_POINTS, 3)))
        pose = self._initial(observed, person)
        # Pose first: expression and identity must not explain what a rotation explains.
        pose = self._solve(observed, person, pose, 4, expression=False)[0]
        pose, identity = self._solve(observed, person, pose, self.settings.iterations, identity=True)
        person = Person(identity, np.zeros((FACE_POINTS, 3)))
        residual = observed[:, :FACE_POINTS] - self._project(person, pose)
        offset = self._back_project(residual, person, pose).mean(0)
        return Person(identity, offset), self._motion(person, pose, 25.0), residual

    def fit_row(self, landmarks: Array, person: Person | None = None) -> tuple[Person, Motion]:
        """A person whose offsets meet ``landmarks`` [478, >=2] exactly, and the motion in that picture.

        Args:
            person: whose identity is kept; None fits one.
        """
        if person is None:
            found, motion, _ = self.fit_person(landmarks[None])
            return found, motion
        motion = self.fit_motion(landmarks[None], person)
        pose = self._pose_of(motion)
        residual = self._observed(landmarks[None])[:, :FACE_POINTS] - self._project(person, pose)
        return replace(person, landmark_offset=person.landmark_offset + self._back_project(residual, person, pose)[0]), motion

    def fit_motion(self, landmarks: Array, person: Person, fps: float = 25.0) -> Motion:
        """Expression, pose and gaze of every row of ``landmarks`` [t, 478, >=2] for a known person -> :class:`Motion`."""
        observed = self._observed(landmarks)
        pieces = []
        for start in range(0, len(observed), 64):
            rows = observed[start : start + 64]
            pose = self._initial(rows, person)
            pose = self._solve(rows, person, pose, 3, expression=False)[0]
            pose = self._solve(rows, person, pose, max(5, self.settings.iterations // 2))[0]
            # Brows that were found too low have pulled the head after them.
            for _ in range(_BROW_ROUNDS):
                pose = self._solve(rows, person, self._brows_as_seen(rows, person, pose), 2, expression=False)[0]
            pieces.append(pose)
        whole = _Pose(*(np.concatenate([getattr(p, f) for p in pieces]) for f in _Pose.__slots__))
        seen = self._observed(landmarks)
        whole = self._mouth_as_seen(seen, person, self._brows_as_seen(seen, person, whole, _BROW_SEEN))
        whole = self._lids_as_seen(seen, person, whole)
        motion = self._motion(person, whole, fps)
        return motion.with_rows(expression=self._together(motion.expression))

    def with_mouth(self, landmarks: Array, person: Person, motion: Motion) -> Motion:
        """``motion`` with the curves of mouth and jaw for which its pose brings the lips to ``landmarks`` [t, 478, >=2]."""
        pose = self._mouth_as_seen(self._observed(landmarks), person, self._pose_of(motion))
        return motion.with_rows(expression=pose.expression.astype(np.float32))

    def residual_px(self, landmarks: Array, person: Person, motion: Motion) -> Array:
        """Distances [t, 468] in 512-px pixels between ``landmarks`` and the model's."""
        pose = self._pose_of(motion)
        return np.linalg.norm(self._observed(landmarks)[:, :FACE_POINTS] - self._project(person, pose), axis=-1)

    def vertex_offset(self, person: Person) -> Array:
        """The landmark offset spread smoothly over the mesh: [v, 3] float32 decimetres."""
        return spread_offset(self.head, person)

    # -- the model ----------------------------------------------------------------------------------------------------

    def _pose_of(self, motion: Motion) -> _Pose:
        rotation = matrix_from_euler(motion.rotation_rad)
        return _Pose(rotation, *(np.asarray(rows, np.float64) for rows in (motion.translation, motion.expression, motion.gaze_rad)))

    def _observed(self, landmarks: Array) -> Array:
        return np.asarray(landmarks, np.float64)[..., :2] * self._to_512

    def _points(self, person: Person, pose: _Pose) -> Array:
        """Unposed landmarks [t, 468, 3]."""
        base = self.bases.mean + self.bases.identity @ person.identity + person.landmark_offset
        lids = np.array([gaze_weights(*g) for g in pose.gaze_rad])
        return base + np.einsum("nce,te->tnc", self.bases.expression, pose.expression) + np.einsum("ncg,tg->tnc", self.bases.gaze, lids)

    def _project(self, person: Person, pose: _Pose) -> Array:
        posed = np.einsum("tij,tnj->tni", pose.rotation, self._points(person, pose)) + pose.translation[:, None]
        return self._to_pixels(posed)

    def _to_pixels(self, posed: Array) -> Array:
        scale = self._focal_px / (CAMERA_DISTANCE_DM - posed[..., 2])
        return np.stack([256.0 + posed[..., 0] * scale, 256.0 - posed[..., 1] * scale], -1)

    def _back_project(self, residual: Array, person: Person, pose: _Pose) -> Array:
        """Pixel residuals [t, 468, 2] as head-space offsets [t, 468, 3] at the landmarks' own depths."""
        posed = np.einsum("tij,tnj->tni", pose.rotation, self._points(person, pose)) + pose.translation[:, None]
        scale = (CAMERA_DISTANCE_DM - posed[..., 2]) / self._focal_px
        shift = np.stack([residual[..., 0] * scale, -residual[..., 1] * scale, np.zeros_like(scale)], -1)
        return np.einsum("tji,tnj->tni", pose.rotation, shift)

    def _initial(self, observed: Array, person: Person) -> _Pose:
        """Weak-perspective pose from stable landmarks (eye corners, nose, chin): scale, position and roll; no yaw, no pitch."""
        stable = np.array([*EYE_RIGHT_CORNERS, *EYE_LEFT_CORNERS[::-1], NOSE_ROOT, NOSE_TIP, *OUTER_MOUTH_CORNERS, CHIN])
        model = (self.bases.mean + self.bases.identity @ person.identity)[stable]
        seen = observed[:, stable]
        centred = seen - seen.mean(1, keepdims=True)
        flat = (model - model.mean(0))[:, :2] * (1, -1)
        # Least-squares similarity as a complex number: a = <flat, seen> / <flat, flat>.
        p, q = flat[:, 0] + 1j * flat[:, 1], centred[..., 0] + 1j * centred[..., 1]
        a = (q * p.conj()).sum(1) / (abs(p) ** 2).sum()
        depth = self._focal_px / np.abs(a)
        roll = -np.angle(a)
        rotation = matrix_from_vector(np.stack([0 * roll, 0 * roll, roll], -1))
        turned = np.einsum("tij,j->ti", rotation, model.mean(0))
        centre = (seen.mean(1) - 256.0) / self._focal_px * depth[:, None]
        translation = np.stack([centre[:, 0], -centre[:, 1], CAMERA_DISTANCE_DM - depth], -1) - turned
        frames = len(observed)
        return _Pose(rotation, translation, np.zeros((frames, len(self.head.expression_names))), np.zeros((frames, 2)))

    # -- the solver ---------------------------------------------------------------------------------------------------

    def _solve(
        self, observed: Array, person: Person, pose: _Pose, iterations: int, expression: bool = True, identity: bool = False
    ) -> tuple[_Pose, Array]:
        settings = self.settings
        frames = len(observed)
        shape = person.identity.astype(np.float64).copy()
        rotation, translation = pose.rotation.copy(), pose.translation.copy()
        curves, gaze = pose.expression.copy(), pose.gaze_rad.copy()
        curve_count = curves.shape[1] if expression else 0
        size = 6 + curve_count
        first, second = self._pairs.T
        for _ in range(iterations):
            now = Person(shape, person.landmark_offset)
            here = _Pose(rotation, translation, curves, gaze)
            points, posed, turned = self._turned(now, here)
            jacobian = np.empty((frames, FACE_POINTS, 2, size + (len(shape) if identity else 0)))
            # R exp(d) x = R x - R [x] d
            x, y, z = points[..., None, 0], points[..., None, 1], points[..., None, 2]
            a, b, c = turned[..., 0], turned[..., 1], turned[..., 2]
            jacobian[..., 0], jacobian[..., 1], jacobian[..., 2] = c * y - b * z, a * z - c * x, b * x - a * y
            jacobian[..., 3:6] = turned @ np.swapaxes(rotation, -1, -2)[:, None]
            if expression:
                jacobian[..., 6:size] = turned @ self.bases.expression[None]
            if identity:
                jacobian[..., size:] = turned @ self.bases.identity[None]
            residual = observed[:, :FACE_POINTS] - self._to_pixels(posed)
            seen = self._seen(rotation, posed)
            root = np.sqrt(self._weight * seen)[..., None]
            pair_root = np.sqrt(settings.pair_weight * seen[:, first])[..., None]
            pairs = pair_root[..., None] * (jacobian[:, first] - jacobian[:, second])
            stacked = np.concatenate([jacobian * root[..., None], pairs], 1).reshape(frames, -1, jacobian.shape[-1])
            target = np.concatenate([residual * root, pair_root * (residual[:, first] - residual[:, second])], 1).reshape(frames, -1, 1)
            normal = stacked.transpose(0, 2, 1) @ stacked
            gradient = (stacked.transpose(0, 2, 1) @ target)[..., 0]
            diagonal = np.arange(size)
            normal[:, diagonal[:6], diagonal[:6]] *= 1.0 + 1e-4
            if expression:
                own = diagonal[6:]
                normal[:, own, own] += settings.expression_prior
                gradient[:, 6:size] -= settings.expression_prior * curves
            step_shape, step = _bounded_step(normal, gradient, curves if expression else None, size, settings.identity_prior, shape)
            if identity:
                shape += step_shape
            rotation = rotation @ matrix_from_vector(np.clip(step[:, :3], -0.5, 0.5))
            translation = translation + step[:, 3:6]
            if expression:
                curves = np.clip(curves + step[:, 6:size], 0.0, 1.0)
            gaze = self._gaze(observed, Person(shape, person.landmark_offset), rotation, translation)
        return _Pose(rotation, translation, curves, gaze), shape

    def _turned(self, person: Person, pose: _Pose) -> tuple[Array, Array, Array]:
        """Landmarks [t, 468, 3] unposed and posed, and the change of their pixels with the unposed ones [t, 468, 2, 3]."""
        points = self._points(person, pose)
        posed = np.einsum("tij,tnj->tni", pose.rotation, points) + pose.translation[:, None]
        depth = CAMERA_DISTANCE_DM - posed[..., 2]
        scale = self._focal_px / depth
        camera = np.zeros((*posed.shape[:2], 2, 3))
        camera[..., 0, 0], camera[..., 0, 2] = scale, posed[..., 0] * scale / depth
        camera[..., 1, 1], camera[..., 1, 2] = -scale, -posed[..., 1] * scale / depth
        return points, posed, camera @ pose.rotation[:, None]

    def _seen(self, rotation: Array, posed: Array) -> Array:
        """Which share [t, 468] of its weight each landmark ``posed`` [t, 468, 3] keeps: all on skin that the camera sees.

        On a head's far side the tracker guesses, always towards the front, and yaw would be read too small.
        """
        towards = np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - posed
        towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
        cosine = (np.einsum("tij,nj->tni", rotation, self.bases.normals) * towards).sum(-1)
        return np.clip((cosine - _UNSEEN) / (_SEEN - _UNSEEN), _UNSEEN_SHARE, 1.0)

    def _gaze(self, observed: Array, person: Person, rotation: Array, translation: Array) -> Array:
        """Gaze [t, 2]: where the ray through each iris meets its eyeball, averaged over both eyes weighted by their opening."""
        centres = self.head.eye_centres(self.head.shape(person.identity.astype(np.float32))).astype(np.float64)
        directions = []
        weights = []
        for side, (iris, rim) in enumerate(zip(IRIS_CENTRES, (EYE_LEFT_RIM, EYE_RIGHT_RIM), strict=True)):
            centre = rotation @ centres[side] + translation
            ray = np.concatenate([(observed[:, iris] - 256.0) / self._focal_px * (1, -1), np.full((len(observed), 1), -1.0)], 1)
            ray /= np.linalg.norm(ray, axis=1, keepdims=True)
            to_centre = centre - (0, 0, CAMERA_DISTANCE_DM)
            along = (ray * to_centre).sum(1)
            gap = np.maximum((to_centre**2).sum(1) - along**2, 0.0)
            radius = float(self.head.eye_radius[side])
            half = np.sqrt(np.maximum(radius**2 - gap, 1e-6))
            hit = ray * (along - half)[:, None] - to_centre
            directions.append(np.einsum("tji,tj->ti", rotation, hit / radius))
            eye = observed[:, rim]
            opening = eye[:, RIM_UPPER_MIDDLE, 1] - eye[:, RIM_LOWER_MIDDLE, 1]
            weights.append(np.clip(opening / np.ptp(eye[..., 0], axis=1), -1, -1e-3) ** 2)
        weight = np.stack(weights)[..., None]
        mean = (np.stack(directions) * weight).sum(0) / weight.sum(0)
        pitch = np.arctan2(mean[:, 1], mean[:, 2])
        yaw = np.arctan2(mean[:, 0], np.hypot(mean[:, 1], mean[:, 2]))
        return np.clip(np.stack([pitch, yaw], -1), -0.7, 0.7)

    def _lids_as_seen(self, observed: Array, person: Person, pose: _Pose) -> _Pose:
        """``pose`` with the blinks that close each eye, and the widenings that raise its upper lid, as far as ``observed`` [t, n, 2] do.

        Among all landmarks those of the lids count little, and their curves would be solved too small: eyes would never quite shut.
        """
        names = self.head.expression_names
        blink, wide = ([names.index(curve + side) for side in ("Right", "Left")] for curve in ("eyeBlink", "eyeWide"))
        upwards = pose.rotation[:, :2, 1] * (1, -1)
        upwards /= np.maximum(np.linalg.norm(upwards, axis=1, keepdims=True), 1e-6)
        upper, lower = LID_PAIRS.reshape(2, 3, 2).transpose(2, 0, 1)
        corners = np.array([EYE_RIGHT_CORNERS, EYE_LEFT_CORNERS])

        def heights(pixels: Array) -> tuple[Array, Array]:
            """How high the upper lids stand above the lower ones and above the corners, [t, 2] each."""
            height = np.einsum("tnc,tc->tn", pixels, upwards)
            top = height[:, upper]
            return np.median(top - height[:, lower], axis=-1), np.median(top, axis=-1) - height[:, corners].mean(-1)

        curves = pose.expression.copy()

        def heights_at(columns: list[int], value: float) -> tuple[Array, Array]:
            curves[:, blink + wide] = 0.0
            curves[:, columns] = value
            return heights(self._project(person, replace(pose, expression=curves)))

        (rest, low), (shut, _), (_, high) = heights_at(blink, 0.0), heights_at(blink, 1.0), heights_at(wide, 1.0)
        opening, raised = heights(observed)
        closed = np.clip(1.0 - opening / np.maximum(rest, 1.0), 0.0, 1.0)
        closed = np.minimum(closed + np.maximum(closed - 0.5, 0.0) * (_SHUT_SHARE / (0.5 - _SHUT_SHARE)), 1.0)
        curves[:, blink] = self.head.blink_that_closes(closed, np.clip(rest / np.maximum(rest - shut, 1e-3), 0.0, 1.4))
        # Where the lower lid sinks, too, a lid that went up for both would bare the white above the iris.
        curves[:, wide] = np.clip((raised - low) / np.maximum(high - low, 1e-3), 0.0, 1.0) * np.maximum(1.0 - 10.0 * closed, 0.0)
        return replace(pose, expression=curves)

    def _brows_as_seen(self, observed: Array, person: Person, pose: _Pose, share: float = 1.0) -> _Pose:
        """``pose`` with the curves that bring the brows' landmarks where ``observed`` [t, n, 2] has them.

        Among all landmarks those of the brows count little, their tracked places along the brow mean nothing, and no ARKit curve lowers a
        brow's outer end: brows would move by two thirds of what they do. Bounded least squares in the five curves, from which raises may
        be negative; pose and all other curves stay.

        Args:
            share: of a brow's way from its rest that its landmarks go.
        """
        columns = [self.head.expression_names.index(name) for name in _BROW_CURVES]
        brows = np.concatenate([BROW_RIGHT, BROW_LEFT])
        curves = pose.expression.copy()
        curves[:, columns] = 0.0
        points = self._points(person, replace(pose, expression=curves))[:, brows]
        posed = np.einsum("tij,tnj->tni", pose.rotation, points) + pose.translation[:, None]
        turned = np.einsum("tij,njk->ktni", pose.rotation, self.bases.expression[brows][..., columns])
        rest = self._to_pixels(posed)
        moves = np.moveaxis(self._to_pixels(posed + turned) - rest, 0, -1)
        up = pose.rotation[:, :2, 1] * (1, -1)
        up /= np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-6)
        axes = np.stack([_ALONG_BROW * up[:, ::-1] * (-1, 1), up], 1)
        moves = np.einsum("tac,tnck->tnak", axes, moves).reshape(len(rest), -1, len(columns))
        way = np.einsum("tac,tnc->tna", axes, (observed[:, brows] - rest) / share).reshape(len(rest), -1)
        normal = moves.transpose(0, 2, 1) @ moves + _BROW_PRIOR * np.eye(len(columns))
        gradient = np.einsum("tjk,tj->tk", moves, way)
        found = pose.expression[:, columns]
        boxed_least_squares(normal, gradient, lowest_curves(_BROW_CURVES), np.ones(len(columns)), found, _SWEEPS, _SAME_CURVE)
        curves[:, columns] = found
        return replace(pose, expression=curves)

    def _mouth_as_seen(self, observed: Array, person: Person, pose: _Pose) -> _Pose:
        """``pose`` with the curves of mouth and jaw that bring the lips where ``observed`` [t, n, 2] has them.

        The steps above, in which all curves and the pose share what is seen, stop where some curve meets its bound: lips would become wide
        and narrow by .83 of what they do. Bounded least squares with the same weights; pose and all other curves stay.
        """
        columns = [index for index, name in enumerate(self.head.expression_names) if name.startswith(("jaw", "mouth"))]
        curves, prior = pose.expression.copy(), self.settings.expression_prior
        first, second = LIP_PAIRS.T
        weight = _ROUND_THE_LIPS * self._weight
        weight[LIPS] = self._weight[LIPS]
        found = curves[:, columns]

        def and_gaps(values: Array) -> Array:
            """Of all landmarks and of the gaps between the lips: [t, l, ...] of [t, 468, ...]."""
            return np.concatenate([values, values[:, first] - values[:, second]], 1)

        for _ in range(_MOUTH_ROUNDS):
            _, posed, turned = self._turned(person, replace(pose, expression=curves))
            seen = self._seen(pose.rotation, posed)
            root = np.sqrt(np.concatenate([weight * seen, self.settings.pair_weight * seen[:, first]], 1))[..., None]
            moves = and_gaps(turned @ self.bases.expression[..., columns]) * root[..., None]
            way = and_gaps(observed[:, :FACE_POINTS] - self._to_pixels(posed)) * root
            moves, way = moves.reshape(len(curves), -1, len(columns)), way.reshape(len(curves), -1)
            wanted = way + np.einsum("tjk,tk->tj", moves, found)
            normal = moves.transpose(0, 2, 1) @ moves + prior * np.eye(len(columns))
            gradient = np.einsum("tjk,tj->tk", moves, wanted)
            boxed_least_squares(normal, gradient, np.zeros(len(columns)), np.ones(len(columns)), found, _SWEEPS, _SAME_CURVE)
            curves[:, columns] = found
        return replace(pose, expression=curves)

    def _motion(self, person: Person, pose: _Pose, fps: float) -> Motion:
        return Motion(
            pose.expression.astype(np.float32),
            euler_from_matrix(pose.rotation).astype(np.float32),
            pose.translation.astype(np.float32),
            pose.gaze_rad.astype(np.float32),
            fps,
            self.head.expression_names,
            self.head.name,
            person.identity.astype(np.float32),
        )

    def _together(self, expression: Array) -> Array:
        """Lids move together unless they clearly do not: a small difference is the tracker's, a large one is a wink."""
        names = self.head.expression_names
        expression = expression.copy()
        for curve in ("eyeBlink", "eyeWide", "eyeSquint"):
            pair = [names.index(curve + "Left"), names.index(curve + "Right")]
            both = expression[:, pair]
            shared = np.clip((0.6 - np.abs(both[:, :1] - both[:, 1:])) / 0.2, 0.0, 1.0)
            expression[:, pair] = shared * both.mean(1, keepdims=True) + (1 - shared) * both
        return expression


def _bounded_step(normal: Array, gradient: Array, curves: Array | None, size: int, prior: float, shape: Array) -> tuple[Array, Array]:
    """One Gauss-Newton step that keeps the curves in 0..1: those that would leave are pinned to the bound and the rest solved again."""
    normal, gradient = normal.copy(), gradient.copy()
    pinned = None if curves is None else np.zeros(curves.shape, bool)
    own = np.arange(6, size)
    for attempt in range(4):
        if normal.shape[-1] > size:
            step_shape, step = _schur(normal, gradient, size, prior, shape)
        else:
            step_shape, step = np.zeros(0), np.linalg.solve(normal, gradient[..., None])[..., 0]
        if curves is None or pinned is None or attempt == 3:
            break
        wanted = curves + step[:, 6:size]
        leaving = ((wanted < -1e-6) | (wanted > 1.0 + 1e-6)) & ~pinned
        if not leaving.any():
            break
        pinned |= leaving
        stiff = 1e9 * leaving
        normal[:, own, own] += stiff
        gradient[:, 6:size] += stiff * (np.clip(wanted, 0.0, 1.0) - curves)
    return step_shape, step


def _schur(normal: Array, gradient: Array, size: int, prior: float, shape: Array) -> tuple[Array, Array]:
    """One Gauss-Newton step with the identity shared by all frames: (identity step [i], frame steps [t, size])."""
    own, cross, shared = normal[:, :size, :size], normal[:, :size, size:], normal[:, size:, size:]
    solved = np.linalg.solve(own, np.concatenate([cross, gradient[:, :size, None]], -1))
    left = (shared - cross.transpose(0, 2, 1) @ solved[..., :-1]).sum(0) + prior * np.eye(shared.shape[-1])
    right = gradient[:, size:].sum(0) - (cross.transpose(0, 2, 1) @ solved[..., -1:])[..., 0].sum(0) - prior * shape
    step_shape = np.linalg.solve(left, right)
    return step_shape, solved[..., -1] - solved[..., :-1] @ step_shape


def spread_offset(head: OpenHead, person: Person) -> Array:
    """A person's landmark offset [468, 3] interpolated over the mesh [v, 3]: Gaussian-weighted near landmarks, fading away from them."""
    shape = head.shape(person.identity.astype(np.float32))
    corners = head.triangles[head.landmark_triangle]

    def at_landmarks(field: Array) -> Array:
        return np.einsum("nk,nkc->nc", head.landmark_barycentric, field[corners])

    distance, near = nearest_points(at_landmarks(shape), shape, 8)
    width = np.maximum(distance[:, 2:3], 0.02)
    weight = np.exp(-((distance / width) ** 2)) + 1e-9
    weight *= np.exp(-((np.maximum(distance[:, :1] - 0.1, 0.0) / 0.35) ** 2)) / weight.sum(1, keepdims=True)
    total = np.zeros((len(shape), 3))
    # Averaging neighbours falls short of each of them: spread what is left again until the landmarks are met.
    for _ in range(_SPREAD_ROUNDS):
        left = person.landmark_offset - at_landmarks(total)
        total += (weight[..., None] * left[near]).sum(1)
    return total.astype(np.float32)
