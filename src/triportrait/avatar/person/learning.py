"""What a person's pictures lack, learned from frames of their video: :mod:`.linear_delta`, and what a teacher adds to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.person.avatar import PersonAvatar
from triportrait.avatar.person.head_space import HeadSpace
from triportrait.avatar.person.linear_delta import SPACE_PX, Residuals, delta_features, fit_linear_delta, motion_numbers, residual
from triportrait.types import Array, Motion, MotionFrame, PersonalDelta, PreparedPortrait


@dataclass(frozen=True, slots=True)
class HeadsPicture:
    """What a teacher sees of the head's own picture: float32 [c, c, 3] in levels, depth [c, c] in -1..1, landmarks [478, 2] in pixels."""

    drawn: Array
    depth: Array
    landmarks: Array


#: Learns what the linear map leaves, as the weights of a network [n]; None where that does not help in frames that were held out.
Teacher = Callable[[Residuals, HeadsPicture], Array | None]

#: At most so many frames are drawn, spread over the video; from fewer than the second number nothing is learned.
_MOST_FRAMES, _FEWEST_FRAMES = 240, 40


def learn_delta(
    avatar: PersonAvatar,
    portrait: PreparedPortrait,
    crops: Callable[[set[int]], Iterable[tuple[int, Array]]],
    motion: Motion,
    seen: Array,
    teacher: Teacher | None = None,
    place: Callable[[int, Array, MotionFrame], MotionFrame] = lambda row, crop, frame: frame,
) -> PersonalDelta | None:
    """What the person's pictures lack.

    Args:
        avatar: draws the person.
        portrait: the person, of several pictures.
        crops: gives those of the video's rows that are asked for, in order, each with its crop uint8 RGB [s, s, 3].
        motion: of all rows, in the portrait's pose frame; ``seen``: bool [t], where the person is.
        teacher: learns a network on top of the linear map; None leaves that out.
        place: gives a row of motion the warp of its crop, by the row's number.

    Returns:
        None where too little was seen, or nothing of it helps in frames that were held out.
    """
    usable = np.flatnonzero(seen[: len(motion)])
    count = min(_MOST_FRAMES, len(usable))
    if count < _FEWEST_FRAMES:
        return None
    chosen = set(usable[np.linspace(0, len(usable) - 1, count).astype(int)].tolist())
    state = avatar.prepare(replace(portrait, delta=None))
    space = HeadSpace.of(avatar.head, state.sources[0].state, SPACE_PX)
    found = []
    sum_drawn = np.zeros((SPACE_PX, SPACE_PX, 3), np.float32)
    for index, real in crops(chosen):
        frame = place(index, real, motion[index])
        difference, shown, drawn = residual(space, real, avatar.render(state, frame), frame)
        sum_drawn += drawn
        features = delta_features(frame, avatar.shares(state, frame))
        found.append((difference.astype(np.float16), shown, features, motion_numbers(frame)))
    if len(found) < _FEWEST_FRAMES:
        # A damaged video may give fewer frames when it is read again.
        return None
    residuals = Residuals(*(np.stack(part) for part in zip(*found, strict=True)))
    delta = fit_linear_delta(residuals)
    if delta is None or teacher is None:
        return delta
    return replace(delta, network=teacher(residuals, HeadsPicture(sum_drawn / len(found), space.depth(), space.landmarks())))
