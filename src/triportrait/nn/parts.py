"""What each pixel of a portrait is: scene, skin, hair, or other things worn.

Colours alone tell hair from skin, and both from the scene, only where they differ. A small network knows what heads look like; it was
trained on portraits and on synthetic people, whose hair and scenes take any colour. Its architecture stands in
:mod:`triportrait.nn.parts_network`, which needs torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from triportrait.geometry.landmarks import BETWEEN_BROWS
from triportrait.geometry.masks import eyes_mask, face_hull
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import Graph, load_graph, shipped_graph
from triportrait.types import Array, PreparedPortrait

#: Side of the pictures that the network sees.
SIDE_PX = 256
#: What it sees (red, green, blue, the face's hull, a person's probability), and what it tells apart.
INPUTS, CLASSES = 5, ("scene", "skin", "hair", "other")
#: How much the segmentation counts beside the network, as logarithms of odds, and how little either may be sure of.
_SEGMENTATION_COUNTS, _LEAST_SURE = 0.2, 0.01
#: Of :mod:`triportrait.nn.model_files`.
KIND = "parts.1"
EMBEDDED = Embedded("triportrait.nn", "parts.onnx")


def parts_input(image: Array, landmarks: Array, person_mask: Array) -> Array:
    """What the network sees of a crop, its eyes painted over with the face's colour: float32 [5, 256, 256] in -1..1.

    Args:
        image: uint8 [s, s, 3]; landmarks: [478, >=2] in its pixels.
        person_mask: float32 [s, s], how surely a pixel shows the person, by a segmentation or a matte.
    """
    hull, eyes = face_hull(landmarks, len(image)), eyes_mask(landmarks, len(image))
    covered, skin = image.copy(), image[hull & ~eyes]
    if len(skin):
        covered[eyes] = np.median(skin, axis=0)
    return network_input(covered, 255.0 * hull, 255.0 * person_mask)


def network_input(image: Array, hull: Array, person_mask: Array) -> Array:
    """The same from a picture [s, s, 3], hull and probability [s, s], all in 0..255."""
    import cv2

    way = cv2.INTER_AREA if len(image) > SIDE_PX else cv2.INTER_LINEAR
    layers = (image.astype(np.float32), hull.astype(np.float32), person_mask.astype(np.float32))
    shown = np.dstack([cv2.resize(layer, (SIDE_PX, SIDE_PX), interpolation=way) for layer in layers])
    return np.ascontiguousarray(shown.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1.0))


def load_parts(path: Path | None = None) -> Graph:
    """What tells the parts: the embedded network, or an exported one's file.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return shipped_graph(EMBEDDED, KIND) if path is None else load_graph(path, KIND)


def own_person_mask(image: Array, landmarks: Array, person_mask: Array) -> Array:
    """How surely each pixel shows the person whose face this is: float32 [s, s] in 0..1.

    A segmentation of persons does not know whose face it is: it takes bystanders for the person, and at times walls, and leaves out brims.
    The network saw such portraits; what it doubts, and all within the face's hull, the segmentation decides.

    Args:
        image, landmarks, person_mask: as of :func:`parts_input`.
    """
    import cv2

    (shares,) = load_parts()(parts_input(image, landmarks, person_mask))
    own = cv2.resize(1.0 - shares[0], image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    hull = face_hull(landmarks, len(image))
    own = 1.0 / (1.0 + np.exp(-_logit(own) - _SEGMENTATION_COUNTS * _logit(person_mask)))
    return np.where(hull, np.maximum(own, person_mask), own).astype(np.float32)


def _logit(probability: Array) -> Array:
    within = np.clip(probability, _LEAST_SURE, 1.0 - _LEAST_SURE)
    return np.asarray(np.log(within / (1.0 - within)))


class Parts(NamedTuple):
    """How surely each pixel is ``skin`` or ``hair``, if it is the person: float32 [s, s] in 0..1 each. The rest is worn.

    What is worn above the brows counts as hair: hats go on in its place where the photo saw nothing. Lower there may be shoulders.
    """

    skin: Array
    hair: Array


def portrait_parts(portrait: PreparedPortrait) -> Parts:
    """The parts of a portrait's crop, whose matte says best who is the person."""
    import cv2

    (shares,) = load_parts()(parts_input(portrait.image, portrait.landmarks, portrait.person_alpha))
    scene, skin, hair, worn = shares
    side = len(portrait.image)
    of_person = np.dstack([skin, hair, worn]) / np.maximum(1.0 - scene, 1e-3)[..., None]
    skin, hair, worn = np.clip(cv2.resize(of_person, (side, side), interpolation=cv2.INTER_LINEAR), 0.0, 1.0).transpose(2, 0, 1)
    round_head = ~face_hull(portrait.landmarks, side)
    round_head[max(int(portrait.landmarks[BETWEEN_BROWS, 1]), 0) :] = False
    return Parts(np.ascontiguousarray(skin), hair + worn * round_head)
