"""An avatar, the torso and the background joined: motion rows in, pictures out. Parts are handed in; nothing is loaded here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from triportrait.avatar.lifted import LiftedAvatar
from triportrait.composite.fusion import PasteBack, fuse
from triportrait.composite.torso import TorsoState, prepare_torso, warp_torso
from triportrait.errors import MissingPart, NumericError
from triportrait.types import Avatar, FullHead, MotionFrame, Portrait, RenderedHead

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class ModelState:
    """What depends on the portrait alone; the caller holds it and hands it back to :meth:`PortraitModel.step`."""

    portrait: Portrait
    avatar: Any
    torso: TorsoState


class PortraitModel:
    """Head, torso and background of one kind of avatar.

    Args:
        avatar: draws the head layer.
        head: gives the torso its neck.
    """

    def __init__(self, avatar: Avatar, head: FullHead) -> None:
        self.avatar = avatar
        self.head = head

    def prepare(self, portrait: Portrait) -> ModelState:
        """Everything that is computed once per portrait."""
        return ModelState(portrait, self.avatar.prepare(portrait), prepare_torso(portrait, self.head))

    def step(self, state: ModelState, frame: MotionFrame, background: Array | None = None) -> tuple[Array, RenderedHead]:
        """One picture of the crop.

        Args:
            state: from :meth:`prepare`.
            frame: one motion row in the portrait's pose frame.
            background: uint8 [s, s, 3] to stand behind the person; None keeps the photo's own.

        Returns:
            uint8 [s, s, 3] and the head layer it was made from.

        Raises:
            NumericError: the motion row holds NaN or infinity.
        """
        if not all(np.isfinite(rows).all() for rows in (frame.expression, frame.rotation_rad, frame.translation, frame.gaze_rad)):
            raise NumericError("a motion row holds NaN or infinity; the motion file or its source is damaged")
        head = self.avatar.render(state.avatar, frame)
        torso = warp_torso(state.torso, frame)
        return fuse(head, torso, state.portrait.background if background is None else background), head


#: Avatars by name.
AVATARS: dict[str, Callable[[FullHead], Avatar]] = {"lifted": LiftedAvatar}


def build_model(avatar: str, head: FullHead) -> PortraitModel:
    """The model of an avatar's name.

    Raises:
        MissingPart: no avatar of that name.
    """
    if avatar not in AVATARS:
        raise MissingPart(f"there is no avatar {avatar!r}; available: {', '.join(sorted(AVATARS))}")
    return PortraitModel(AVATARS[avatar](head), head)


def paste_back(portrait: Portrait) -> PasteBack:
    """A function from animated crops to the full photograph."""
    return PasteBack(portrait)
