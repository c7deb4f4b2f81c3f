"""What a portrait's pixels show, as far as its own colours tell: labels that are weak, and how much each is to be believed.

Hair and skin are told by linear discriminant analysis (Fisher 1936) of what lies above the forehead and of the face. Where both sides of
the discriminant are near, or where shade and light are known to mislead it, nothing is believed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.avatar.lifted.outline import height_on_face, seen_ears
from triportrait.face.mattes import strangeness
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, OUTER_LIPS
from triportrait.geometry.masks import eyes_mask, face_hull, hull_mask
from triportrait.types import Array, PreparedPortrait

#: Hair begins so far above the forehead's top point (heights of the face).
_HAIR_ABOVE = 0.08
#: So many standard deviations apart hair is told from skin at all.
_TOLD_APART = 2.0
#: Farther from the face's own chroma than this nothing is skin, ...
_HUE = 0.035
#: ... and over so much less or more of it one is ever surer.
_HUE_NEARER, _HUE_FARTHER = 0.012, 0.02
#: Shaded necks keep at least so much of the hue, in a column or anywhere; shaded ears as much as the latter.
_NECK_HUE, _SHADED_HUE = 0.1, 0.06
#: Heights (0 mouth, 1 between the brows) of the neck, of the ears and of the forehead above the landmarks, where hair is often seen by
#: mistake, and how sure (standard deviations) one must be to believe it on the forehead, and within the face.
_NECK, _EARS, _FOREHEAD = (-2.4, -0.3), (-0.6, 1.3), (1.2, 2.5)
_ON_FOREHEAD, _IN_FACE = 1.2, 1.5
#: Ears lie so near the face (its widths); how much they are believed that are found by their shape.
_BESIDE, _EAR_SURE = 0.25, 0.7


class WeakLabels(NamedTuple):
    """Of a portrait's pixels; s is the crop's side.

    Args:
        skin: float32 [s, s] 0 or 1; sure: float32 [s, s] 0..1, how much that is to be believed.
        apart: how many standard deviations hair and skin are apart; 0 where no hair was found.
        restless: how much the scene varies (0..1); 1 where none shows.
    """

    skin: Array
    sure: Array
    apart: float
    restless: float


def weak_labels(portrait: PreparedPortrait, probability: Array) -> WeakLabels:
    """What is skin, and what of the person is not.

    Args:
        portrait: whose; probability: float32 [s, s], the tracker's, of a pixel showing a person.
    """
    import cv2

    size = len(portrait.image)
    hull = face_hull(portrait.landmarks, size)
    eyes = eyes_mask(portrait.landmarks, size)
    colour = cv2.GaussianBlur(portrait.image, (0, 0), 2.0 * size / 512).astype(np.float64) + 4.0
    chroma = colour / colour.sum(-1, keepdims=True)
    hue = np.linalg.norm(chroma - np.median(chroma[hull & ~eyes], axis=0), axis=-1)
    score, apart, hairy = _like_skin(portrait, eyes)
    skin = ((hue < _HUE) & ~hairy) | eyes | (hull & ~hairy)
    skin = cv2.morphologyEx(skin.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)) > 0

    ears, _ = seen_ears(portrait, skin)
    sure_skin = np.clip((_HUE - hue) / _HUE_NEARER, 0.0, 1.0) * np.clip(score, 0.0, 1.0)
    sure_skin = np.maximum(sure_skin, hull & (score > 0))
    sure_other = np.maximum(np.clip((hue - _HUE) / _HUE_FARTHER, 0.0, 1.0), np.clip(-score, 0.0, 1.0))
    height = height_on_face(portrait)
    columns = np.flatnonzero(hull.any(0))
    first, last = (columns[0], columns[-1]) if len(columns) else (0, 0)
    column = np.abs(np.arange(size) + 0.5 - 0.5 * (first + last)) < 0.45 * (last - first)
    neck = (height > _NECK[0]) & (height < _NECK[1]) & column & (hue < _NECK_HUE)
    neck |= (height < _NECK[1]) & (hue < _SHADED_HUE)
    forehead = (height > _FOREHEAD[0]) & (height < _FOREHEAD[1]) & column & ~hull & (score > -_ON_FOREHEAD)
    reach = 2 * round(_BESIDE * (last - first)) + 1
    beside = (cv2.dilate(hull.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0) & ~hull & (hue < _SHADED_HUE)
    shaded_ears = beside & (height > _EARS[0]) & (height < _EARS[1])
    sure_other[neck | shaded_ears | forehead | (hull & (score > -_IN_FACE))] = 0.0

    far = (portrait.person_alpha < 0.02) & (probability < 0.1)
    restless = 1.0
    if far.any():
        _, usual = strangeness(portrait.image.astype(np.float32) / 255.0, far, 20.0 * size / 512)
        restless = float(np.median(usual[far]))
    sure = np.where(skin, sure_skin, sure_other)
    sure[ears] = np.maximum(sure[ears], _EAR_SURE)
    return WeakLabels((skin | ears).astype(np.float32), sure.astype(np.float32), apart, restless)


def _like_skin(portrait: PreparedPortrait, eyes: Array) -> tuple[Array, float, Array]:
    """How many standard deviations colour and texture are on the face's side of the middle between face and hair: float32 [s, s]; how many
    these two are apart; and what is rather hair: bool [s, s]. Of a head without hair nothing is told: 0 everywhere, and no hair.

    Args:
        eyes: bool [s, s], which tell nothing.
    """
    import cv2

    size = len(portrait.image)
    unit = size / 512
    laboratory = cv2.cvtColor(portrait.image, cv2.COLOR_RGB2LAB).astype(np.float32)
    fine = np.abs(laboratory[..., 0] - cv2.GaussianBlur(laboratory[..., 0], (0, 0), 2.5 * unit))
    texture = 10.0 * np.log(1.0 + cv2.GaussianBlur(fine, (0, 0), 4.0 * unit))
    seen = np.dstack([cv2.GaussianBlur(laboratory, (0, 0), 2.0 * unit), texture])
    around = np.ones((2 * round(9 * unit) + 1,) * 2, np.uint8)
    beside_eyes = cv2.dilate(eyes.astype(np.uint8), around) == 0
    face = cv2.erode(face_hull(portrait.landmarks, size).astype(np.uint8), around).astype(bool) & beside_eyes
    face &= ~hull_mask(portrait.landmarks[OUTER_LIPS, :2], size).astype(bool)
    chin, top = portrait.landmarks[CHIN, :2], portrait.landmarks[FOREHEAD_TOP, :2]
    y, x = np.mgrid[:size, :size] + 0.5
    above = ((x - top[0]) * (top - chin)[0] + (y - top[1]) * (top - chin)[1]) / max(float(((top - chin) ** 2).sum()), 1.0)
    hair = (above > _HAIR_ABOVE) & (portrait.head_alpha > 0.9)
    if min(face.sum(), hair.sum()) < 50 * unit * unit:
        return np.zeros((size, size), np.float32), 0.0, np.zeros((size, size), bool)
    one, other = seen[face].astype(np.float64), seen[hair].astype(np.float64)
    spread = 0.5 * (np.cov(one.T) + np.cov(other.T)) + np.eye(4)
    towards_face = np.linalg.solve(spread, one.mean(0) - other.mean(0))
    apart = float(np.sqrt(towards_face @ (one.mean(0) - other.mean(0))))
    middle = 0.5 * float(towards_face @ (one.mean(0) + other.mean(0)))
    score = (seen @ towards_face.astype(np.float32) - middle) / max(apart, 1e-6)
    # Skin's sheen may have the hue of black hair, but is lighter than the face, where hair is darker; light hair and shade the other way.
    away = (seen[..., 0] - float(one[:, 0].mean())) * np.sign(float(one[:, 0].mean() - other[:, 0].mean()))
    hairy = (score < 0) & (away < float(one[:, 0].std())) & (apart > _TOLD_APART)
    return score.astype(np.float32), apart, hairy
