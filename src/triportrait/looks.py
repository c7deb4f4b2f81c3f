"""A person's look, edited once by hand in one picture, carried to all others: hair, skin, glasses, age.

Both the picture and its edit are drawn in the pose and with the expression of each other picture; what they differ by there is added to
that picture. So an edit moves with the head's surface, and each picture keeps its own teeth, lids and light. Seed: Talk3D, editing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triportrait.errors import OptionError
from triportrait.face.open_head import OpenHead
from triportrait.face.portrait import PortraitOptions, person_of, portrait_from_landmarks
from triportrait.face.tracker import FaceTracker
from triportrait.geometry.crops import resized
from triportrait.geometry.filling import push_pull
from triportrait.model import lifted
from triportrait.types import Array, MotionFrame, PreparedPortrait

#: Pictures are told apart at this side, by lines finer than this.
_COMPARED_PX, _FINE_PX = 128, 3.0
#: Of an edited picture at least this correlation of its lines with the original's is left.
_SAME_LINES = 0.5
#: An edit is what differs by more levels, over so many pixels of a 512 px crop.
_EDIT_LEVELS, _EDIT_PX = 8.0, 2.0
#: So near their outline (pixels of a 512 px crop) two drawn pictures are not compared.
_EDGE_PX = 7.0


def with_look(
    portrait: PreparedPortrait, edited: Array, tracker: FaceTracker, head: OpenHead, name: str = "the picture"
) -> PreparedPortrait:
    """The person with the look of ``edited``, in all pictures. What was learned of the old look (``delta``) is left out; the scene stays.

    Args:
        edited: uint8 RGB [n, n, 3], one of the portrait's pictures after editing, at any size.
        tracker, head: the parts to use.
        name: what to call it in messages.

    Raises:
        OptionError: it is not square, or looks like none of the pictures.
    """
    import cv2

    pictures = [replace(portrait, others=()), *portrait.others]
    size = len(portrait.image)
    expect_square(edited, name)
    edited = resized(edited, size)
    which = _edited_one(pictures, edited, name)
    before = pictures[which]
    after = _with_image(before, edited, portrait, tracker, head)
    model = lifted(head)
    states = [model.prepare(one) for one in (before, after)]

    def edited_like(other: PreparedPortrait) -> PreparedPortrait:
        frame = _as_seen_from(other.motion, before.motion)
        (old, old_layer), (new, new_layer) = (model.step(state, frame) for state in states)
        difference = new.astype(np.float32) - old
        carried = _smooth_at_outline(difference, np.minimum(old_layer.alpha, new_layer.alpha)) * other.person_alpha[..., None]
        # Hats and longer hair lie beyond the old outline.
        beyond = cv2.morphologyEx(np.maximum(new_layer.alpha - other.person_alpha, 0.0), cv2.MORPH_OPEN, _round(_EDGE_PX, size))
        image = np.clip(other.image + carried + beyond[..., None] * difference + 0.5, 0, 255).astype(np.uint8)
        return _with_image(other, image, portrait, tracker, head)

    first, *others = [after if index == which else edited_like(other) for index, other in enumerate(pictures)]
    return replace(first, others=tuple(others), manner=portrait.manner, mouth_is_covered=None)


def _smooth_at_outline(difference: Array, alpha: Array) -> Array:
    """``difference`` [s, s, 3] well inside ``alpha`` [s, s], spread from there: two pictures' outlines are never quite the same."""
    import cv2

    inside = cv2.erode((alpha > 0.9).astype(np.float32), _round(_EDGE_PX, len(alpha)), borderValue=(1.0,))
    return push_pull(difference, inside) if inside.any() else difference


def _round(radius_px: float, size: int) -> Array:
    """A disc, its radius in pixels of a 512 px crop."""
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(round(radius_px * size / 512), 1) + 1,) * 2)


def expect_square(edited: Array, name: str) -> None:
    """Refuse a picture [h, w, 3] that cannot be one of a person's pictures.

    Raises:
        OptionError: it is not square.
    """
    if edited.shape[0] != edited.shape[1]:
        raise OptionError(
            f"{name} has {edited.shape[1]} x {edited.shape[0]} pixels; edit a picture of 'triportrait portrait pictures', uncut"
        )


def _edited_one(pictures: list[PreparedPortrait], edited: Array, name: str) -> int:
    """Which of the pictures was ``edited``: the one whose lines are the same. Colours may be others."""

    def lines(image: Array) -> Array:
        import cv2

        grey = resized(image, _COMPARED_PX).astype(np.float32).mean(-1)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), _FINE_PX)
        return fine.ravel() / max(float(np.linalg.norm(fine)), 1e-6)

    alike = [float(lines(one.image) @ lines(edited)) for one in pictures]
    if max(alike) < _SAME_LINES:
        raise OptionError(f"{name} looks like none of the person's pictures; edit one that 'triportrait portrait pictures' wrote")
    return int(np.argmax(alike))


def _with_image(one: PreparedPortrait, image: Array, portrait: PreparedPortrait, tracker: FaceTracker, head: OpenHead) -> PreparedPortrait:
    """The picture ``one`` of the ``portrait`` with other pixels [s, s, 3]: new mattes and layers, its own place and motion."""
    import cv2

    size = len(image)
    made = portrait_from_landmarks(
        image,
        (0.0, 0.0, float(size)),
        image,
        one.landmarks,
        tracker,
        head,
        PortraitOptions(size),
        person_of(portrait, head),
        portrait.background,
    )
    # Where nothing was edited the outline stays as it was, to the last strand.
    edited = cv2.GaussianBlur(np.abs(image.astype(np.float32) - one.image).max(-1), (0, 0), _EDIT_PX * size / 512)
    part = np.clip(edited / _EDIT_LEVELS - 1.0, 0.0, 1.0) * (one.person_alpha < 0.5)
    mattes = {name: getattr(one, name) + part * (getattr(made, name) - getattr(one, name)) for name in ("person_alpha", "head_alpha")}
    return replace(made, motion=one.motion, landmarks=one.landmarks, identity=one.identity, vertex_offset=one.vertex_offset, **mattes)


def _as_seen_from(frame: MotionFrame, source: MotionFrame) -> MotionFrame:
    """A picture's own motion as a row that moves the ``source``: body and warp are counted from it."""
    since: dict[str, Array] = {}
    for name in ("body", "warp"):
        there, here = getattr(frame, name), getattr(source, name)
        if there is not None or here is not None:
            nothing = np.zeros_like(here if there is None else there)
            since[name] = ((nothing if there is None else there) - (nothing if here is None else here)).astype(np.float32)
    return replace(frame, **since, landmarks=None)
