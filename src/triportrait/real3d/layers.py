"""Layers of a photograph as Real3D-Portrait's networks were trained on them (spec 4, step 3; paper, appendix B.4).

Our own layers (:mod:`triportrait.face.portrait`) are smooth and look better by themselves; these are what published weights expect.
All lengths are pixels of a 512-pixel picture and scale with the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.face.layers import nearest_fill
from triportrait.geometry.landmarks import CHEEKS, CHIN, FOREHEAD_MIDDLE, LOWER_CHEEKS, NOSE_BRIDGE, NOSE_TIP, UPPER_CHEEKS
from triportrait.geometry.nearest import distance_px
from triportrait.types import Array

#: Background nearer than this to the person is not trusted.
_TRUSTED_PX = 10.0
#: How far clothes and neck are drawn upwards behind the head, and how far below the neck's top its colour is taken.
_CLOTHES_UP_PX, _NECK_UP_PX, _NECK_SAMPLE_PX, _NECK_GROWN_PX = 9, 53, 4, 3
#: Colours darken upwards by this factor per pixel.
_DARKENING = 0.98
#: Hair, skin of the face and what is worn belong to the head.
HEAD_CLASSES = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class PublishedLayers:
    """Pictures and masks of one photograph; s is its side.

    Args:
        head: uint8 [s, s, 3], the head on black.
        torso: uint8 [s, s, 3], neck and clothes with what the head hides painted in, on black.
        masks: float32 [2, s, s], neck and clothes, 0 or 1.
        background: uint8 [s, s, 3].
    """

    head: Array
    torso: Array
    masks: Array
    background: Array


def published_layers(
    image: Array,
    person_alpha: Array,
    head_alpha: Array,
    landmarks: Array,
    *,
    inpaint_background: bool = True,
) -> PublishedLayers:
    """Cut a photograph ``image`` uint8 [s, s, 3] by its mattes [s, s]; ``landmarks`` [478, >=2] in its pixels tell skin from cloth.

    Without inpainting (an ablation of the paper's Table 4) the scene stays black where the person stands.
    """
    person = person_alpha > 0.5
    head = person & (head_alpha > 0.5)
    neck, clothes = split_torso(image, person & ~head, landmarks)
    return _cut_layers(image, head, neck, clothes, person, inpaint_background)


def published_layers_of_classes(image: Array, classes: Array, *, inpaint_background: bool = True) -> PublishedLayers:
    """The same from a segmenter's classes uint8 [s, s] (see ``face.segmentation.ClassSegmenter``), as the published code cuts them."""
    head = np.isin(classes, HEAD_CLASSES)
    return _cut_layers(image, head, classes == 2, classes == 4, classes > 0, inpaint_background)


def _cut_layers(image: Array, head: Array, neck: Array, clothes: Array, person: Array, inpaint_background: bool) -> PublishedLayers:
    return PublishedLayers(
        np.where(head[..., None], image, 0).astype(np.uint8),
        inpaint_torso(image, head, neck, clothes),
        np.stack([neck, clothes]).astype(np.float32),
        background_by_nearest(image, person) if inpaint_background else without_person(image, person),
    )


def without_person(image: Array, person: Array) -> Array:
    """The scene black where ``person`` bool [s, s] stands: Table 4 without inpainting; uint8 [s, s, 3]."""
    return np.where(person[..., None], 0, image).astype(np.uint8)


def background_by_nearest(image: Array, person: Array) -> Array:
    """The scene without the person: what is near the person takes the colour of the nearest trusted pixel; uint8 [s, s, 3]."""
    if not person.any():
        return image.copy()
    return nearest_fill(image, distance_px(person) > _TRUSTED_PX * len(image) / 512.0)


def split_torso(image: Array, body: Array, landmarks: Array) -> tuple[Array, Array]:
    """Bare skin (neck) and clothes among ``body`` bool [s, s]: skin has the colours of the cheeks and hangs together below the head."""
    import cv2

    side = len(image)
    lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB).astype(np.float32)
    # Points that hair and beards seldom cover.
    bare = [*CHEEKS, *LOWER_CHEEKS, NOSE_TIP, NOSE_BRIDGE, FOREHEAD_MIDDLE[1], *UPPER_CHEEKS]
    places = np.round(landmarks[bare, :2]).astype(int).clip(0, side - 1)
    skin = lab[places[:, 1], places[:, 0]]
    centre = np.median(skin, axis=0)
    spread = np.maximum(np.abs(skin - centre).mean(0) * 1.5, (45.0, 8.0, 9.0))
    like_skin = ((((lab - centre) / spread) ** 2).sum(-1) < 6.0) & body
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, side // 170) + 1,) * 2)
    neck = cv2.morphologyEx(like_skin.astype(np.uint8), cv2.MORPH_CLOSE, cv2.morphologyEx(element, cv2.MORPH_DILATE, element))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(neck)
    chin = np.round(landmarks[CHIN, :2]).astype(int)
    reach = max(2, side // 10)
    near = labels[max(chin[1], 0) : max(chin[1], 0) + reach, max(chin[0] - reach, 0) : chin[0] + reach]
    own = [label for label in np.unique(near) if label and stats[label, cv2.CC_STAT_AREA] > (side / 64) ** 2]
    neck = np.isin(labels, own) & body
    return neck, body & ~neck


def inpaint_torso(image: Array, head: Array, neck: Array, clothes: Array) -> Array:
    """Neck and clothes, drawn on upwards where the head stands before them; black elsewhere. uint8 [s, s, 3]."""
    import cv2

    scale = len(image) / 512.0
    colours = image.astype(np.float32)
    painted = np.zeros(head.shape, bool)
    tops, columns = _tops_below(clothes, head)
    _paint_up(colours, painted, tops, columns, colours[tops, columns], round(_CLOTHES_UP_PX * scale), scale)

    grown = cv2.dilate(neck.astype(np.uint8), np.ones((3, 1), np.uint8), iterations=max(1, round(_NECK_GROWN_PX * scale))).astype(bool)
    grown &= ~clothes
    tops, columns = _tops_below(grown, head, own=True)
    column_ends = len(image) - 1 - grown[::-1].argmax(0)
    # The grown mask begins on the head: its colour is taken below that.
    below = round((_NECK_SAMPLE_PX + _NECK_GROWN_PX) * scale)
    colour = colours[np.minimum(tops + below, column_ends[columns]), columns]
    on_neck = np.zeros(head.shape, bool)
    _paint_up(colours, on_neck, tops + round(2 * _NECK_GROWN_PX * scale), columns, colour, round(_NECK_UP_PX * scale), scale)
    on_neck &= ~clothes & ~(neck & ~head)
    soft = cv2.GaussianBlur(colours, (5, 5), 4.0)
    kept = neck | clothes
    result = np.where(on_neck[..., None], soft, colours)
    return np.where((kept | painted | on_neck)[..., None], np.clip(result + 0.5, 0, 255), 0).astype(np.uint8)


def _tops_below(mask: Array, head: Array, own: bool = False) -> tuple[Array, Array]:
    """Topmost rows and columns of ``mask`` where the head lies directly above; ``own``: or where the mask itself reaches into the head."""
    tops = mask.argmax(0)
    columns = np.flatnonzero(mask.any(0) & (tops > 0))
    tops = tops[columns]
    under = head[tops - 1, columns] | (head[tops, columns] if own else False)
    return tops[under], columns[under]


def _paint_up(colours: Array, painted: Array, tops: Array, columns: Array, colour: Array, length: int, scale: float) -> None:
    """Paint ``length`` pixels upwards from above ``tops``, darker and darker, and mark them."""
    for step in range(1, length + 1):
        rows = tops - step
        inside = (rows >= 0) & (rows < len(colours))
        colours[rows[inside], columns[inside]] = colour[inside] * _DARKENING ** (step / scale)
        painted[rows[inside], columns[inside]] = True
