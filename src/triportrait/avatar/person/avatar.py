"""An avatar of a person of whom several pictures are known: each frame is put together from those that show most of it.

Every picture is drawn in the frame's pose by the one-photo avatar. How the head is turned decides which of them show it; which of them show
neck and shoulders, where the body is; which of them show mouth and eyes, how these look. Low frequencies are blended, detail comes from the
best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.avatar.person.blending import FAINT, Drawn, blended, head_map, part_of, put_window, sharper, window_of
from triportrait.avatar.person.head_space import HeadSpace
from triportrait.avatar.person.linear_delta import DrawnDelta
from triportrait.concurrency import in_order, thread_count
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.geometry.parts import PicturePart, around
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.geometry.shapes import FaceShape
from triportrait.types import WARP_COLUMNS, Array, FullHead, MotionFrame, PreparedPortrait, RenderedHead

#: So many pictures are blended for head and body, each of them drawn whole; and for mouth and eyes, whose landmarks would tremble more as
#: one of two gives way to the next.
_WHOLE, _WINDOWS = 2, 4
#: Pictures that are turned more alike are one picture for the head: to change between them would be a jump without a gain.
_APART_DEG = 5.5
#: A picture of another take has other hair and another light: it shows the head only where all pictures of the first one's take are turned
#: so much farther away.
_OTHER_TAKE_DEG = 15.0
#: A picture turned so much farther away is as unlike as one clear difference of mouth or eyes.
_TURN_DEG = 15.0, 40.0
#: Columns of a body (``MotionFrame.body``: shifts in decimetres, size, roll) that differ by so much are equally unlike.
_BODY_UNITS = np.array([1.0, 1.0, 0.33, 0.33])


class PhotoAvatar(Protocol):
    """What draws one picture: :class:`triportrait.avatar.lifted.avatar.LiftedAvatar` and such."""

    head: FullHead

    def prepare(self, portrait: PreparedPortrait) -> Any: ...

    def render_part(self, state: Any, frame: MotionFrame, part: PicturePart, *, mouth: bool = True) -> RenderedHead: ...


@dataclass(frozen=True, slots=True)
class Source:
    """One picture of the person: its ``state`` in the one-photo avatar, its turn, and the shape of its face.

    Args:
        body, warp: how far body and hair have moved in it since the first picture; None: nobody knows.
    """

    state: Any
    rotation: Array
    shape: FaceShape
    body: Array | None
    warp: Array | None


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
        sources: list[Source] = []
        pictures = [replace(portrait, others=()), *portrait.others]
        for one, state in zip(pictures, in_order(self.inner.prepare, pictures, thread_count()), strict=True):
            rotation = matrix_from_euler(np.asarray(one.motion.rotation_rad, np.float64))
            warp = one.motion.warp if sources else np.zeros(len(WARP_COLUMNS), np.float32)
            sources.append(Source(state, rotation, FaceShape.of(one.landmarks), one.motion.body, warp))
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
        size = len(state.portrait.image)
        landmarks = self._landmarks(state, frame)
        shares = _shares(state, frame, landmarks)
        pose, mouth, eyes = shares[0], sharper(shares[1]), sharper(shares[2])
        body = _body_shares(state, frame)
        of_head = head_map(landmarks, size)
        used = np.flatnonzero(pose + body)
        drawn = {i: self._drawn(state, frame, i, part_of(of_head, pose[i], body[i]), mouth[i] > 0) for i in used.tolist()}
        depth = np.full((size, size), np.inf, np.float32)
        best = drawn[int(np.argmax(pose))]
        depth[best.part.box] = best.picture.depth
        rgb, alpha = blended(list(drawn.values()), pose[used], body[used], of_head)
        windows = [
            (share, landmarks[rim], window)
            for share, rim in ((mouth, OUTER_LIPS), (eyes, EYE_LEFT_RIM), (eyes, EYE_RIGHT_RIM))
            if (window := window_of(landmarks[rim], size)) is not None
        ]
        for i in np.flatnonzero(mouth + eyes).tolist():
            wanted = [window for share, _, window in windows if share[i] > 0]
            if wanted and not (i in drawn and drawn[i].holds(around(wanted))):
                drawn[i] = self._drawn(state, frame, i, around(wanted), mouth[i] > 0)
        for share, outline, window in windows:
            put_window(rgb, [drawn[i] for i in np.flatnonzero(share).tolist()], share[share > 0], outline, window)
        if state.delta is not None:
            state.delta.add(rgb, alpha, frame, shares)
        return RenderedHead(rgb, alpha, depth)

    def _drawn(self, state: PersonState, frame: MotionFrame, index: int, part: PicturePart, mouth: bool) -> Drawn:
        """A part of one picture; the ``mouth`` is drawn where this picture lends its own."""
        source = state.sources[index]
        return Drawn(self.inner.render_part(source.state, _for_source(frame, source), part, mouth=mouth), part)

    def shares(self, state: PersonState, frame: MotionFrame) -> Array:
        """How much of a frame each picture lends for the head, for its mouth and for its eyes: float64 [3, k]."""
        return _shares(state, frame, self._landmarks(state, frame))

    def _landmarks(self, state: PersonState, frame: MotionFrame) -> Array:
        moved = MovedHead.of(self.head, state.vertices, frame).warped(self.head, state.sources[0].state.warp, frame)
        posed = pose_points(moved.landmarks, frame.rotation_rad, frame.translation)
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
    weights = np.maximum(weights / weights.sum() - FAINT, 0.0)
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
    """The frame as seen from a source in which body and hair have moved already."""
    body, warp = frame.body, None
    if source.body is not None and body is not None:
        body = (body - source.body).astype(np.float32)
    if source.warp is not None:
        # Without a warp all pictures show hair and skin as the first one has them, so that they agree.
        warp = ((0.0 if frame.warp is None else frame.warp) - source.warp).astype(np.float32)
    return replace(frame, body=body, warp=warp)


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
