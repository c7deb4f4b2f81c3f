"""What hides a photographed mouth: a mask, a microphone, a hand. And eyes that are shut.

The landmark network finds a mouth in any cloth. Whether there is one is told by a small network that looks at the lower face, whose colours
are taken relative to the skin of the forehead; it was trained on portraits and on coverings painted over them. Its architecture stands in
:mod:`triportrait.face.cover_network`, which needs torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triportrait.geometry.landmarks import (
    CHIN,
    EYE_LEFT_CORNERS,
    EYE_RIGHT_CORNERS,
    FOREHEAD_MIDDLE,
    FOREHEAD_SIDES,
    FOREHEAD_TOP,
    LID_PAIRS,
    LOWER_LIP_INSIDE,
    UPPER_LIP_INSIDE,
)
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import Graph, load_graph, shipped_graph
from triportrait.types import Array, PreparedPortrait

#: The lower face that the network sees: pixels, and its width in distances between the outer corners of the eyes.
WIDTH_PX, HEIGHT_PX, _WIDTH = 48, 40, 1.5
#: Logit from which a mouth counts as covered.
COVERED_LOGIT = 2.0
#: Lids nearer than this part of an eye's width are shut; lips farther apart than this part of the face's height stand wide open.
_SHUT, _WIDE = 0.118, 0.14
#: Bounds of the logarithm of colours over skin; levels added to both, so that black is no special case.
_RANGE, _LIFT = 2.5, 10.0
#: Of :mod:`triportrait.nn.model_files`.
KIND = "coverings.1"
EMBEDDED = Embedded("triportrait.face", "coverings.onnx")


def lower_face(image: Array, landmarks: Array) -> Array:
    """From under the eyes to the chin, upright: float32 [3, 40, 48], logarithm of colours over the forehead's.

    Args:
        image: uint8 [s, s, 3]; landmarks: [478, >=2] in its pixels.
    """
    import cv2

    points = landmarks[:, :2].astype(np.float64)
    right, left = points[EYE_RIGHT_CORNERS[0]], points[EYE_LEFT_CORNERS[0]]
    along = left - right
    # Profile views foreshorten the eyes' distance.
    unit = max(float(np.linalg.norm(along)), 0.75 * float(np.linalg.norm(points[CHIN] - 0.5 * (left + right))))
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    step = _WIDTH * unit / WIDTH_PX
    turn = step * np.array([[along[0], -along[1]], [along[1], along[0]]])
    middle = np.array([(WIDTH_PX - 1) / 2, (HEIGHT_PX - 1) / 2])
    window = np.concatenate([turn, (points[[UPPER_LIP_INSIDE, LOWER_LIP_INSIDE]].mean(0) - 0.5 - turn @ middle)[:, None]], 1)
    soft = cv2.GaussianBlur(image, (0, 0), max(0.4 * step, 0.3)).astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(soft, window, (WIDTH_PX, HEIGHT_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    x, y = points[[*FOREHEAD_MIDDLE, *FOREHEAD_SIDES]].astype(int).clip(0, len(image) - 1).T
    skin = np.median(soft[y, x], axis=0)
    ratio = np.log((seen + _LIFT) / (skin + _LIFT)).clip(-_RANGE, _RANGE)
    return np.ascontiguousarray(ratio.transpose(2, 0, 1), np.float32)


def load_judge(path: Path | None = None) -> Graph:
    """What looks at lower faces of :func:`lower_face` and gives a logit: the embedded network, or an exported one's file.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return shipped_graph(EMBEDDED, KIND) if path is None else load_graph(path, KIND)


def mouth_is_covered(portrait: PreparedPortrait) -> bool:
    """Whether something stands or lies before the photographed mouth. A portrait that says so itself is not looked at again."""
    if portrait.mouth_is_covered is not None:
        return portrait.mouth_is_covered
    (logit,) = load_judge()(lower_face(portrait.image, portrait.landmarks))
    return float(logit[0]) > COVERED_LOGIT


def eyes_are_closed(portrait: PreparedPortrait) -> bool:
    """Whether both eyes are shut: their lids are a small part of an eye's width apart."""
    points = portrait.landmarks[:, :2]
    gaps = np.linalg.norm(points[LID_PAIRS[:, 0]] - points[LID_PAIRS[:, 1]], axis=1).reshape(2, 3).mean(1)
    widths = np.array([np.linalg.norm(points[first] - points[last]) for first, last in (EYE_RIGHT_CORNERS, EYE_LEFT_CORNERS)])
    return bool((gaps < _SHUT * np.maximum(widths, 1e-6)).all())


def mouth_is_wide_open(portrait: PreparedPortrait) -> bool:
    """Whether lips stand apart by more than a talking mouth's."""
    points = portrait.landmarks[:, :2]
    lips, height = points[UPPER_LIP_INSIDE] - points[LOWER_LIP_INSIDE], points[FOREHEAD_TOP] - points[CHIN]
    return bool(np.linalg.norm(lips) > _WIDE * np.linalg.norm(height))


def remarks(portrait: PreparedPortrait, *, holds_mouth: bool = True) -> list[str]:
    """What should be said about a photo before it is animated: sentences without the photo's name, most often none.

    Args:
        portrait: of the photo.
        holds_mouth: whether a covered mouth will stay still, as ``DriveOptions.mouth`` has it.
    """
    found = []
    if mouth_is_covered(portrait):
        still, remedy = (" and stays still", "; --mouth free lets it move all the same") if holds_mouth else ("", "")
        found.append(f"the mouth is covered (mask, microphone, hand?){still}; for a speaking mouth use a photo that shows it{remedy}")
    elif mouth_is_wide_open(portrait):
        found.append("the mouth stands wide open in the photo, so that closed lips are stretched; a photo with closed lips speaks better")
    if eyes_are_closed(portrait):
        found.append("the eyes are closed in the photo, so that opened eyes are guessed; use a photo with open eyes")
    return found
