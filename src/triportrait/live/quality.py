"""What a late session gives up, step by step: the learned volume, size, every other picture, pictures at all. Never sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from triportrait.background import Background
from triportrait.drivers import default_head
from triportrait.geometry.crops import resized
from triportrait.model import lifted
from triportrait.performance import Performer
from triportrait.types import FPS, Array, FrameModel, MotionFrame, PreparedPortrait

#: After a second with a larger share of late frames than this, the next step down is taken.
_LATE_SHARE = 0.2
#: Pictures that take more than this share of a frame's time leave no room for a finer step.
_ROOM = 0.5
#: Seconds with room before a finer step is tried; twice as long after each attempt that failed, up to the second number.
_PATIENCE_S, _LONGEST_PATIENCE_S = 10.0, 160.0
#: Sides of the coarser steps, in pixels.
_SIDES_PX = (384, 256)


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Step:
    """One quality.

    Args:
        name: for people.
        draw: a motion row to a finished picture uint8 [s, s, 3]; None draws nothing.
        every: of so many frames one is drawn.
        leave_out: takes the place of ``draw`` for a frame without a picture, so that what moves behind the person keeps its pace.
    """

    name: str
    draw: Callable[[MotionFrame], Array] | None
    every: int = 1
    leave_out: Callable[[], object] = _nothing


#: Motion and sound, and nothing that is drawn.
NO_PICTURES = Step("motion alone", None)


class Ladder:
    """Where a session stands among ``count`` steps, 0 being the finest."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.level = 0
        self._late: deque[bool] = deque(maxlen=round(FPS))
        self._roomy = 0
        self._patience_s = 0.5 * _PATIENCE_S

    def note(self, is_late: bool, busy: float) -> None:
        """A frame was late or in time, and its picture took ``busy`` of a frame's time."""
        self._late.append(is_late)
        self._roomy = 0 if is_late or busy > _ROOM else self._roomy + 1
        full = len(self._late) == self._late.maxlen
        if full and sum(self._late) > _LATE_SHARE * len(self._late) and self.level < self._count - 1:
            self.level += 1
            self._patience_s = min(2 * self._patience_s, _LONGEST_PATIENCE_S)
            self._late.clear()
            self._roomy = 0
        elif self._roomy > self._patience_s * FPS:
            self._roomy = 0
            if self.level:
                self.level -= 1
                self._late.clear()
            else:
                self._patience_s = 0.5 * _PATIENCE_S


def steps_of(portrait: Performer, background: Background | None, finish: Callable[[Array], Array], holds_mouth: bool) -> list[Step]:
    """The steps of a portrait, finest first; all pictures have the portrait's size.

    Args:
        portrait: who.
        background: what stands behind; None keeps the photo's own.
        finish: marks a picture.
        holds_mouth: the mouth keeps what the photo shows.
    """
    prepared = portrait.prepared
    side = len(prepared.image)
    scenes = None if background is None else background.frames(side, FPS)
    leave_out = _nothing if scenes is None else partial(next, scenes)
    own = portrait.model
    state = own.with_still_mouth(portrait.state) if holds_mouth else portrait.state
    steps = [Step(f"{own.avatar.name} {side} px", _drawing(own, state, side, side, scenes, finish), 1, leave_out)]
    draft = lifted(getattr(portrait, "head", None) or default_head())
    draw = steps[0].draw
    is_draft = own.avatar.name == draft.avatar.name
    for smaller_px in _SIDES_PX:
        if smaller_px < side or (smaller_px == side and not is_draft):
            small = draft.prepare(smaller(prepared, smaller_px))
            draw = _drawing(draft, draft.with_still_mouth(small) if holds_mouth else small, smaller_px, side, scenes, finish)
            steps.append(Step(f"{draft.avatar.name} {smaller_px} px", draw, 1, leave_out))
    return [*steps, Step(f"{steps[-1].name}, every other picture", draw, 2, leave_out), replace(NO_PICTURES, leave_out=leave_out)]


def _drawing(
    model: FrameModel, state: Any, side: int, shown: int, scenes: Iterator[Array] | None, finish: Callable[[Array], Array]
) -> Callable[[MotionFrame], Array]:
    def draw(row: MotionFrame) -> Array:
        scene = None if scenes is None else resized(next(scenes), side)
        return finish(resized(model.step(state, row, scene)[0], shown))

    return draw


def smaller(portrait: PreparedPortrait, side: int) -> PreparedPortrait:
    """The same portrait in a crop of another side."""
    scale = np.float32(side / len(portrait.image))
    layers: dict[str, Any] = {
        name: resized(getattr(portrait, name), side) for name in ("image", "person_alpha", "head_alpha", "torso", "background")
    }
    landmarks = portrait.landmarks * scale
    return replace(portrait, landmarks=landmarks, **layers)
