"""What a person's pictures lack to look like their video, as a linear map from motion, in closed form.

The difference between real frames and drawn ones is carried into the head's own picture (:mod:`head_space`), where the same point of the
head has the same place in every frame. Its mean and its principal components are pictures; ridge regression tells their weights from
expression, pose and gaze, and from what each of the person's pictures lends to the frame, since each has errors of its own. How much of
that is added is decided place by place, from the frames of a stretch of the video that had no part in it: nothing where it does not help.
It is added to the head layer alone.

Our own, for the setting of Talk3D (Ko et al., 2024): a delta that is drawn with the head, and the baseline for a learned one.
Legend: n frames, c the side of the head's own picture, k pictures, f numbers of a motion row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.person.blend_kernels import add_change
from triportrait.avatar.person.head_space import HeadSpace
from triportrait.avatar.person.learned_delta import DrawnNetwork
from triportrait.types import Array, MotionFrame, PersonalDelta, RenderedHead

#: Side of the head's own picture, and of the map that tells a frame's pixels their places in it.
SPACE_PX, MAP_PX = 192, 128
#: What counts as a clear difference of an expression curve, an angle in radians, a way in decimetres and a picture's share.
_EXPRESSION, _ANGLE_RAD, _WAY_DM, _SHARE = 0.5, 0.1, 0.2, 0.5
#: The video is cut into so many stretches; each is predicted from the others.
_STRETCHES = 5
#: Principal components at most, and the strengths of the ridge that are tried.
_COMPONENTS = 24
_RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
#: How far round a place its strength is measured, in sides of the picture.
_AROUND = 0.03
#: Pixels of the layer with less alpha tell nothing of the person's colour.
_SOLID = 0.9
#: A place that fewer of the frames show is left as it is, and so far inside that (sides of the picture) the change sets in.
_SHOWN, _SOFT = 0.5, 0.015
#: The value of a stored picture at which nothing changes, and the farthest from it.
_NOTHING, _MOST = 128.0, 127.0


def delta_features(frame: MotionFrame, shares: Array) -> Array:
    """The numbers that the map takes, of a motion row and of what each picture lends for it [3, k]: float64 [f]."""
    return np.append(motion_numbers(frame), shares.ravel() / _SHARE)


def motion_numbers(frame: MotionFrame) -> Array:
    """The numbers of a motion row in clear differences: curves, rotation, translation, gaze, float64 [f]."""
    parts = (frame.expression / _EXPRESSION, frame.rotation_rad / _ANGLE_RAD, frame.translation / _WAY_DM, frame.gaze_rad / _ANGLE_RAD)
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Residuals:
    """What frames of a video lack when they are drawn, in the head's own picture.

    Args:
        differences: float16 or float32 [n, c, c, 3], levels of colour, real minus drawn.
        shown: bool [n, c, c], where both show the head.
        features: float64 [n, f], of :func:`delta_features`.
        numbers: float64 [n, g], of :func:`motion_numbers`.
    """

    differences: Array
    shown: Array
    features: Array
    numbers: Array

    @property
    def stretch(self) -> Array:
        """Which stretch of the video each frame belongs to, [n]; one is predicted from the others."""
        return np.arange(len(self.shown)) * _STRETCHES // len(self.shown)

    def some(self, rows: Array) -> Residuals:
        """Those of ``rows``, numbers or bool [n]."""
        return Residuals(self.differences[rows], self.shown[rows], self.features[rows], self.numbers[rows])


def residual(space: HeadSpace, real: Array, layer: RenderedHead, frame: MotionFrame) -> tuple[Array, Array, Array]:
    """One frame's, from the real crop, uint8 [s, s, 3], and the drawn layer of the same size.

    Returns:
        real minus drawn, float32 [c, c, 3]; bool [c, c], where both show the head; and what was drawn, float32 [c, c, 3].
    """
    import cv2

    side = 2 * space.size_px
    alpha = cv2.resize(layer.alpha, (side, side), interpolation=cv2.INTER_AREA)
    drawn = cv2.resize(layer.rgb, (side, side), interpolation=cv2.INTER_AREA) * (255.0 / np.maximum(alpha, _SOLID))[..., None]
    target = cv2.resize(real, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    pixels, shown = space.pixels(frame, side)
    x, y = pixels[..., 0] - 0.5, pixels[..., 1] - 0.5
    difference = cv2.remap(target - drawn, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    solid = cv2.remap(alpha, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return difference, shown & (solid > _SOLID), cv2.remap(drawn, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def fit_linear_delta(seen: Residuals) -> PersonalDelta | None:
    """The map, or None where it would help nowhere.

    Args:
        seen: of frames in the order of time, spread evenly over the video.
    """
    count, side = seen.shown.shape[:2]
    stretch = seen.stretch
    inside = inside_of(seen.shown.mean(0, dtype=np.float32))
    shown = seen.shown & (inside > 0)
    rest = np.where(shown[..., None], seen.differences, np.float32(0))
    mean, strength = _mean(rest, shown, stretch)
    pictures, weights = [mean * (inside * strength)[..., None]], [np.eye(1, seen.features.shape[1] + 1, seen.features.shape[1])[0]]

    rest -= mean
    rest *= shown[..., None]
    basis, values = _principal(rest.reshape(count, -1), min(_COMPONENTS, count // 3))
    features = seen.features - seen.features.mean(0)
    guesses = [_held_out(features, values, stretch, ridge) for ridge in _RIDGES]
    best = int(np.argmin([((guess - values) ** 2).sum() for guess in guesses]))
    agree, size = np.zeros((2, side, side), np.float32)
    for row, guess in zip(rest, guesses[best].astype(np.float32), strict=True):
        drawn = (guess @ basis).reshape(row.shape)
        agree += (drawn * row).sum(-1)
        size += (drawn**2).sum(-1)
    strength = strength_of(agree, size)
    mapped = _ridge(features, values, _RIDGES[best])
    pictures += list(basis.reshape(-1, side, side, 3) * (inside * strength)[..., None])
    weights += list(np.column_stack([mapped.T, -seen.features.mean(0) @ mapped]))
    return _stored(np.stack(pictures), np.stack(weights), seen.features)


def _mean(differences: Array, shown: Array, stretch: Array) -> tuple[Array, Array]:
    """Mean [c, c, 3] of what frames show, and how far the mean of other stretches is found again in each, [c, c]."""
    total, times = differences.sum(0), shown.sum(0, dtype=np.float32)
    agree, size = np.zeros((2, *shown.shape[1:]), np.float32)
    for number in np.unique(stretch):
        own, own_times = differences[stretch == number].sum(0), shown[stretch == number].sum(0, dtype=np.float32)
        others = (total - own) / np.maximum(times - own_times, 1.0)[..., None]
        agree += (others * own).sum(-1)
        size += (others**2).sum(-1) * own_times
    return total / np.maximum(times, 1.0)[..., None], strength_of(agree, size)


def strength_of(agree: Array, size: Array) -> Array:
    """How much of a guess is best added round each place, 0..1: [c, c] of sums of guess times truth and of guess squared."""
    import cv2

    reach = _AROUND * len(agree)
    wide = [cv2.GaussianBlur(sums.astype(np.float32), (0, 0), reach) for sums in (agree, size)]
    return np.clip(wide[0] / np.maximum(wide[1], 1e-6), 0.0, 1.0)


def inside_of(known: Array) -> Array:
    """1 where enough frames, the share ``known`` [c, c], show the head, fading to 0 at that region's rim."""
    import cv2

    soft = _SOFT * len(known)
    reach = 2 * round(2 * soft) + 1
    core = cv2.erode((known > _SHOWN).astype(np.float32), np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return cv2.GaussianBlur(core, (0, 0), soft)


def _principal(rows: Array, count: int) -> tuple[Array, Array]:
    """Principal components float32 [k, p] of ``rows`` [n, p], and the rows' coordinates in them, float64 [n, k]."""
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    kept = [index for index in range(len(values) - 1, -1, -1) if values[index] > 1e-6 * max(values[-1], 1e-12)][:count]
    scale = np.sqrt(values[kept])
    return ((vectors[:, kept] / scale).T.astype(np.float32) @ rows), vectors[:, kept] * scale


def _ridge(features: Array, values: Array, ridge: float) -> Array:
    """[f, k] for which ``features`` [n, f] times it is near ``values`` [n, k]."""
    return np.linalg.solve(features.T @ features + ridge * np.eye(features.shape[1]), features.T @ values)


def _held_out(features: Array, values: Array, stretch: Array, ridge: float) -> Array:
    """Each stretch's values as the others predict them: [n, k]."""
    guess = np.empty_like(values)
    for number in np.unique(stretch):
        own = stretch == number
        guess[own] = features[own] @ _ridge(features[~own], values[~own], ridge)
    return guess


def _stored(pictures: Array, weights: Array, features: Array) -> PersonalDelta | None:
    """The map in the form that is kept: pictures [k, c, c, 3] in levels, weights [k, f + 1] of rows of ``features`` [n, f]."""
    most = np.abs(pictures).max((1, 2, 3))
    coefficients = features @ weights[:, :-1].T + weights[:, -1]
    counts = most * np.abs(coefficients).max(0) > 0.5
    if not counts.any():
        return None
    level = most[counts] / _MOST
    steps = np.rint(pictures[counts] / level[:, None, None, None]) + _NOTHING
    kept = coefficients[:, counts]
    numbers = (level, weights[counts], kept.min(0), kept.max(0))
    return PersonalDelta(steps.astype(np.uint8), *(np.ascontiguousarray(one, np.float32) for one in numbers))


def _levels(delta: PersonalDelta) -> Array:
    """The pictures in levels of colour, float32 [k, c, c, 3]."""
    return (delta.pictures.astype(np.float32) - np.float32(_NOTHING)) * delta.level[:, None, None, None]


def _coefficients(delta: PersonalDelta, features: Array) -> Array:
    return np.clip(delta.weights @ np.append(features, 1.0), delta.lowest, delta.highest).astype(np.float32)


def linear_change(delta: PersonalDelta, features: Array) -> Array:
    """What the linear map adds for numbers [f] of :func:`delta_features`, in levels of colour: float32 [c, c, 3]."""
    return np.tensordot(_coefficients(delta, features), _levels(delta), 1)


class DrawnDelta:
    """A person's delta ready to be added to frames.

    Args:
        space: of the person.
        delta: what was learned.
    """

    def __init__(self, space: HeadSpace, delta: PersonalDelta) -> None:
        self.space, self._delta = space, delta
        self._network = None if delta.network is None else DrawnNetwork(space, delta.network)
        self._pictures = _levels(delta) / np.float32(255)

    def picture(self, frame: MotionFrame, shares: Array) -> Array:
        """What is added, in the head's own picture: float32 [c, c, 3] in 0..1; arguments as in :func:`delta_features`."""
        coefficients = _coefficients(self._delta, delta_features(frame, shares))
        change = np.tensordot(coefficients, self._pictures, 1)
        return change if self._network is None else change + self._network.picture(motion_numbers(frame))

    def add(self, rgb: Array, alpha: Array, frame: MotionFrame, shares: Array) -> None:
        """Add it to premultiplied colours [s, s, 3] with alpha [s, s], in place; what has no alpha stays as it is."""
        import cv2

        size = len(rgb)
        places, head = self.space.places(frame, MAP_PX)
        # Places change smoothly: the map is drawn small, what it carries is not.
        finer = (2 * MAP_PX, 2 * MAP_PX)
        places = cv2.resize(places, finer, interpolation=cv2.INTER_LINEAR) - np.float32(0.5)
        share = cv2.resize(cv2.blur(head.astype(np.float32), (3, 3)), finer, interpolation=cv2.INTER_LINEAR)
        picture, (x, y) = self.picture(frame, shares), np.moveaxis(places, -1, 0)
        change = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) * share[..., None]
        add_change(cv2.resize(change, (size, size), interpolation=cv2.INTER_LINEAR), alpha, rgb)
