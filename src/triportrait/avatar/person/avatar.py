"""An avatar of a person of whom several pictures are known: each frame is put together from those that show most of it.

Every picture is drawn in the frame's pose by the one-photo avatar. How the head is turned decides which of them show it; which of them show
neck and shoulders, where the body is; which of them show mouth and eyes, how these look. Low frequencies are blended, detail comes from the
best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from triportrait.avatar.person.head_space import HeadSpace
from triportrait.avatar.person.linear_delta import DrawnDelta
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import CHIN, EYE_LEFT_RIM, EYE_RIGHT_RIM, FOREHEAD_TOP, OUTER_LIPS
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.geometry.shapes import FaceShape
from triportrait.types import Array, FullHead, MotionFrame, PreparedPortrait, RenderedHead

#: So many pictures are blended for head and body, each of them drawn whole; and for mouth and eyes, whose landmarks would tremble more as
#: one of two gives way to the next.
_WHOLE, _WINDOWS = 2, 4
#: Below this width (pixels of a 512 px crop) is detail, and comes from the best picture alone.
_DETAIL_PX = 2.0
#: A picture of no more than this share is not worth its time; what it has above it fades in.
_FAINT = 0.02
#: How much surer than the next the best picture's detail is taken.
_BEST = 2
#: Pictures that are turned more alike are one picture for the head: to change between them would be a jump without a gain.
_APART_DEG = 5.5
#: A picture of another take has other hair and another light: it shows the head only where all pictures of the first one's take are turned
#: so much farther away.
_OTHER_TAKE_DEG = 15.0
#: A picture turned so much farther away is as unlike as one clear difference of mouth or eyes.
_TURN_DEG = 15.0, 40.0
#: Columns of a body (``MotionFrame.body``: shifts in decimetres, size, roll) that differ by so much are equally unlike.
_BODY_UNITS = np.array([1.0, 1.0, 0.33, 0.33])
#: Below the chin head goes over into body between these heights of the face, beside the face in the second pair, from the face's middle.
_NECK, _BESIDE, _ABOVE = (-0.3, 0.5), (0.4, 0.8), (-0.2, 0.2)
#: The map of what is head is computed on a grid so many times coarser.
_COARSER = 8
#: Sides of the part of a picture that is drawn for its mouth and eyes are multiples of this.
_SIDES_PX = 32
#: Round lips and eyes a window reaches so far beyond the outline (sizes of it), and ends as softly.
_REACH, _SOFT = 0.35, 0.16


class PhotoAvatar(Protocol):
    """What draws one picture: :class:`triportrait.avatar.lifted.avatar.LiftedAvatar` and such."""

    head: FullHead

    def prepare(self, portrait: PreparedPortrait) -> Any: ...

    def render(self, state: Any, frame: MotionFrame) -> RenderedHead: ...

    def render_part(self, state: Any, frame: MotionFrame, part: tuple[int, int, int]) -> RenderedHead: ...


@dataclass(frozen=True, slots=True)
class Source:
    """One picture of the person: its ``state`` in the one-photo avatar, its turn, and the shape of its face."""

    state: Any
    rotation: Array
    shape: FaceShape
    body: Array | None


@dataclass(frozen=True, slots=True)
class PersonState:
    """What depends on the person alone.

    Args:
        sources: all pictures; ``by_pose``: which of them show the head, hair and body.
        vertices: [v, 3], the expressionless head of the first picture.
        delta: what was learned beyond the pictures.
    """

    portrait: PreparedPortrait
    sources: list[Source]
    by_pose: list[int]
    vertices: Array
    delta: DrawnDelta | None = None


class PersonAvatar:
    """:class:`triportrait.types.Avatar` for portraits with ``others``.

    Args:
        inner: draws one picture.
    """

    name = "person"
    whole_person = True

    def __init__(self, inner: PhotoAvatar) -> None:
        self.inner, self.head = inner, inner.head

    def prepare(self, portrait: PreparedPortrait) -> PersonState:
        """Everything that is computed once per person."""
        sources = []
        for one in (replace(portrait, others=()), *portrait.others):
            rotation = matrix_from_euler(np.asarray(one.motion.rotation_rad, np.float64))
            sources.append(Source(self.inner.prepare(one), rotation, FaceShape.of(one.landmarks), one.motion.body))
        vertices = self.head.shape(portrait.identity) + portrait.vertex_offset
        least = [_APART_DEG if one.same_take else _OTHER_TAKE_DEG for one in (portrait, *portrait.others)]
        by_pose = turned_apart([source.rotation for source in sources], least)
        delta = None
        if portrait.delta is not None:
            space = HeadSpace.of(self.head, sources[0].state, portrait.delta.pictures.shape[1])
            delta = DrawnDelta(space, portrait.delta)
        return PersonState(portrait, sources, by_pose, vertices, delta)

    def render(self, state: PersonState, frame: MotionFrame) -> RenderedHead:
        """See :class:`triportrait.types.Avatar`."""
        portrait = state.portrait
        size = len(portrait.image)
        landmarks = self._landmarks(state, frame)
        pose, mouth, eyes = shares = _shares(state, frame, landmarks)
        body = _body_shares(state, frame)
        used = np.flatnonzero(pose + body)
        whole = {i: self.inner.render(state.sources[i].state, _for_source(frame, state.sources[i])) for i in used.tolist()}
        best = whole[int(np.argmax(pose))]
        rgb, alpha = _two_bands(list(whole.values()), pose[used], body[used], head_map(landmarks, size))
        part = _inner_face(landmarks, size)
        if part[2]:
            lent = np.flatnonzero(mouth + eyes).tolist()
            colours = {i: whole[i].rgb if i in whole else self._part(state, frame, i, part) for i in lent}
            for share, rim in ((mouth, OUTER_LIPS), (eyes, EYE_LEFT_RIM), (eyes, EYE_RIGHT_RIM)):
                _put_window(rgb, [colours[i] for i in np.flatnonzero(share).tolist()], share[share > 0], landmarks[rim])
        if state.delta is not None:
            state.delta.add(rgb, alpha, frame, shares)
        return RenderedHead(rgb, alpha, best.depth)

    def _part(self, state: PersonState, frame: MotionFrame, index: int, part: tuple[int, int, int]) -> Array:
        """Colours [s, s, 3] of one picture in the square ``part`` (left, top, side); 0 beside it."""
        source, size = state.sources[index], len(state.portrait.image)
        left, top, side = part
        colours = np.zeros((size, size, 3), np.float32)
        colours[top : top + side, left : left + side] = self.inner.render_part(source.state, _for_source(frame, source), part).rgb
        return colours

    def shares(self, state: PersonState, frame: MotionFrame) -> Array:
        """How much of a frame each picture lends for the head, for its mouth and for its eyes: float64 [3, k]."""
        return _shares(state, frame, self._landmarks(state, frame))

    def _landmarks(self, state: PersonState, frame: MotionFrame) -> Array:
        vertices = self.head.deform(state.vertices, frame.expression, frame.gaze_rad)
        posed = pose_points(self.head.landmarks478(vertices), frame.rotation_rad, frame.translation)
        return project(posed, len(state.portrait.image), state.portrait.focal)[0]


def turned_apart(rotations: list[Array], least_deg: list[float]) -> list[int]:
    """The first of ``rotations`` [3, 3], then always the one that is farthest from those chosen, at least its ``least_deg`` away.

    Those that need to be least far away come first.
    """
    chosen = [0]
    away = np.array([_angle_deg(rotations[0], rotation) for rotation in rotations])
    least = np.array(least_deg)
    for limit in np.unique(least):
        while (far := np.where(least == limit, away, 0.0)).max() >= limit:
            chosen.append(int(far.argmax()))
            away = np.minimum(away, [_angle_deg(rotations[chosen[-1]], rotation) for rotation in rotations])
    return chosen


def weights_of(distances: Array, count: int) -> Array:
    """Shares [k] of pictures at ``distances`` [k]: of the ``count`` nearest alone, and continuous, since who drops out has none left."""
    if len(distances) <= count:
        weights = 1.0 / (distances + 1e-3) ** 2
        return weights / weights.sum()
    limit = np.sort(distances)[count]
    weights = np.maximum(limit - distances, 0.0) ** 2
    if not weights.any():
        weights = (np.arange(len(distances)) == distances.argmin()).astype(float)
    weights = np.maximum(weights / weights.sum() - _FAINT, 0.0)
    return weights / weights.sum()


def _shares(state: PersonState, frame: MotionFrame, landmarks: Array) -> Array:
    """See :meth:`PersonAvatar.shares`; ``landmarks`` [478, 2] are the frame's, in pixels."""
    shape = FaceShape.of(landmarks)
    turn = matrix_from_euler(np.asarray(frame.rotation_rad, np.float64))
    away = np.array([_angle_deg(turn, source.rotation) for source in state.sources])
    mouth = np.array([np.linalg.norm(source.shape.mouth() - shape.mouth()) for source in state.sources])
    eyes = np.array([np.linalg.norm(source.shape.eyes() - shape.eyes()) for source in state.sources])
    pose = np.zeros(len(away))
    pose[state.by_pose] = weights_of(away[state.by_pose], _WHOLE)
    near = (weights_of(unlike + away / turn, _WINDOWS) for unlike, turn in zip((mouth, eyes), _TURN_DEG, strict=True))
    return np.stack([pose, *near])


def _angle_deg(one: Array, other: Array) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(one @ other.T) - 1.0) / 2.0, -1.0, 1.0))))


def _for_source(frame: MotionFrame, source: Source) -> MotionFrame:
    """The frame as seen from a source in which the body has moved already."""
    if source.body is None or frame.body is None:
        return frame
    since = frame.body - source.body
    return replace(frame, body=since.astype(np.float32))


def _body_shares(state: PersonState, frame: MotionFrame) -> Array:
    """How much of neck and shoulders each picture lends, [k]: those whose body stood most nearly where the frame's does.

    They do not depend on the head: shoulders that changed whenever it turned would jump. Where nothing says how the body stands, all is the
    first picture's.
    """
    bodies = [state.sources[i].body for i in state.by_pose]
    shares = np.zeros(len(state.sources))
    if frame.body is None or all(body is None for body in bodies):
        shares[0] = 1.0
    else:
        places = np.array([np.zeros(4) if body is None else body for body in bodies])
        shares[state.by_pose] = weights_of(np.linalg.norm((places - frame.body) / _BODY_UNITS, axis=1), _WHOLE)
    return shares


def head_map(landmarks: Array, size: int) -> Array:
    """1 on head and hair, 0 on the body, and between them on the neck: float32 [s, s]; landmarks [478, 2] in pixels."""
    import cv2

    chin, top = landmarks[CHIN, :2].astype(np.float64), landmarks[FOREHEAD_TOP, :2].astype(np.float64)
    height = max(float(np.linalg.norm(chin - top)), 1.0)
    down = (chin - top) / height
    line = (np.arange(max(size // _COARSER, 2)) + 0.5) * (size / max(size // _COARSER, 2))
    x, y = np.meshgrid(line - chin[0], line - chin[1])
    below, beside = (x * down[0] + y * down[1]) / height, np.abs(x * down[1] - y * down[0]) / height

    def before(value: Array, band: tuple[float, float]) -> Array:
        return np.clip((band[1] - value) / (band[1] - band[0]), 0.0, 1.0)

    coarse = np.maximum(before(below, _NECK) * before(beside, _BESIDE), before(below, _ABOVE)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR))


def _two_bands(pictures: list[RenderedHead], head: Array, body: Array, of_head: Array) -> tuple[Array, Array]:
    """Premultiplied colours [s, s, 3] and alpha [s, s]: low frequencies by shares [k], detail nearly of the best alone.

    Args:
        head, body: [k], shares of the pictures where ``of_head`` [s, s] is 1 and where it is 0.
    """
    import cv2

    if len(pictures) == 1:
        return pictures[0].rgb.copy(), pictures[0].alpha

    def sharper(share: Array) -> Array:
        return np.asarray(share**_BEST / (share**_BEST).sum())

    def maps(of_pictures: Array, elsewhere: Array) -> list[Array]:
        return [np.float32(b) + np.float32(a - b) * of_head for a, b in zip(of_pictures, elsewhere, strict=True)]

    sharp = maps(sharper(head), sharper(body))
    soft = maps(head - sharper(head), body - sharper(body))
    size = len(of_head)
    change = sum((part[..., None] * picture.rgb for part, picture in zip(soft, pictures, strict=True)), np.zeros_like(pictures[0].rgb))
    low = cv2.GaussianBlur(change, (0, 0), _DETAIL_PX * size / 512)
    rgb = sum((part[..., None] * picture.rgb for part, picture in zip(sharp, pictures, strict=True)), low)
    alpha = sum((part * picture.alpha for part, picture in zip(sharp, pictures, strict=True)), np.zeros_like(pictures[0].alpha))
    return np.clip(rgb, 0.0, alpha[..., None]), alpha


def _window(outline: Array, size: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what a window round an outline [n, 2] may change in a picture of ``size`` pixels."""
    low, high = outline.min(0), outline.max(0)
    margin = (_REACH + 2 * _SOFT) * float((high - low)[0])
    left, top = np.clip(np.floor(low - margin), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(high + margin), 0, size).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _inner_face(landmarks: Array, size: int) -> tuple[int, int, int]:
    """The square (left, top, side) that holds all windows; its side is 0 where none is in the picture."""
    windows = np.array([_window(landmarks[rim], size) for rim in (OUTER_LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM)])
    windows = windows[((windows[:, 2:] - windows[:, :2]) > 0).all(1)]
    if not len(windows):
        return 0, 0, 0
    left, top, right, bottom = (int(edge) for edge in (*windows[:, :2].min(0), *windows[:, 2:].max(0)))
    # Few sizes, whose buffers are kept.
    side = min(-(-max(right - left, bottom - top) // _SIDES_PX) * _SIDES_PX, size)
    return min(left, size - side), min(top, size - side), side


def _put_window(rgb: Array, pictures: list[Array], share: Array, outline: Array) -> None:
    """Blend the pictures' [s, s, 3] window round an outline [n, 2] into ``rgb``, in the light that it has there; in place."""
    import cv2

    low, high = outline.min(0), outline.max(0)
    extent = float((high - low)[0])
    left, top, right, bottom = _window(outline, len(rgb))
    if right - left < 4 or bottom - top < 4:
        return
    middle = 0.5 * (low + high)
    mask: Array = np.zeros((bottom - top, right - left), np.float32)
    radii = 0.5 * (high - low) + _REACH * extent
    cv2.ellipse(mask, (tuple((middle - (left, top)).tolist()), tuple((2 * radii).tolist()), 0.0), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.5 * _SOFT * extent, 0.8))
    here = rgb[top:bottom, left:right]
    sharp = share**_BEST / (share**_BEST).sum()
    window = sum((np.float32(b) * picture[top:bottom, left:right] for b, picture in zip(sharp, pictures, strict=True)), np.zeros_like(here))
    # Its own shade goes over into that of its place towards the border.
    ring = mask * (1.0 - mask)
    offset = ((here - window) * ring[..., None]).sum((0, 1)) / max(float(ring.sum()), 1e-6)
    here += mask[..., None] * (window + offset - here)
