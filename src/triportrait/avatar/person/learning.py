"""What a person's pictures lack, learned from frames of their video: see :mod:`triportrait.avatar.person.linear_delta`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from triportrait.avatar.person.avatar import PersonAvatar
from triportrait.avatar.person.head_space import HeadSpace
from triportrait.avatar.person.linear_delta import SPACE_PX, Residuals, delta_features, fit_linear_delta, residual
from triportrait.types import Array, Motion, PersonalDelta, PreparedPortrait

#: At most so many frames are drawn, spread over the video; from fewer than the second number nothing is learned.
_MOST_FRAMES, _FEWEST_FRAMES = 240, 40


def learn_linear_delta(
    avatar: PersonAvatar,
    portrait: PreparedPortrait,
    crops: Callable[[set[int]], Iterable[tuple[int, Array]]],
    motion: Motion,
    seen: Array,
) -> PersonalDelta | None:
    """What the person's pictures lack.

    Args:
        avatar: draws the person.
        portrait: the person, of several pictures.
        crops: gives those of the video's rows that are asked for, in order, each with its crop uint8 RGB [s, s, 3].
        motion: of all rows, in the portrait's pose frame; ``seen``: bool [t], where the person is.

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
    for index, real in crops(chosen):
        difference, shown = residual(space, real, avatar.render(state, motion[index]), motion[index])
        found.append((difference.astype(np.float16), shown, delta_features(motion[index], avatar.shares(state, motion[index]))))
    differences, shown, features = (np.stack(part) for part in zip(*found, strict=True))
    return fit_linear_delta(Residuals(differences, shown, features))
