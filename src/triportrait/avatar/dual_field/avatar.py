"""The dual field: the head's field in head space and a static one in the photo's camera, summed by one ray integral.

What systems with a moving head camera and a fixed torso camera cannot have is a neck that depends on both poses. Here a neck bends with the
head (:mod:`skinning`), and what hardly moves belongs to both fields: its density is shared out among them, densities add along the ray, and
at the photo's own pose the sum is the photo. The head's field is the learned one-shot avatar of that share of the photo; the static field
is the rest, with the neck painted on behind the head. Both re-project the photo's pixels. (ERLNet's dual-branch fusion, as we reconstruct
it in ``docs/erlnet_field.md``, at compact size.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.dual_field import integral_kernels as kernels
from triportrait.avatar.dual_field.static_field import HALF_DM, StaticField
from triportrait.avatar.lifted.outline import BAND_PX
from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar, CompactState
from triportrait.types import MotionFrame, PreparedPortrait, RenderedHead


@dataclass(frozen=True, slots=True)
class DualState:
    """What depends on the portrait alone: the head's field and the static one."""

    head: CompactState
    static: StaticField


class DualFieldAvatar:
    """:class:`triportrait.types.Avatar` of two fields.

    Args:
        head: draws the head's field; its lifted geometry ends where nothing belongs to the head any more.
    """

    name = "dual_field"
    whole_person = True

    def __init__(self, head: CompactOneShotAvatar) -> None:
        self.head = head

    def prepare(self, portrait: PreparedPortrait) -> DualState:
        """Both fields of a portrait."""
        state = self.head.prepare(portrait)
        own = self.head.lifted.draw(state.lifted, portrait.motion)
        return DualState(state, StaticField.of(portrait, self.head.head, state.lifted.source, state.lifted.photo[..., 3], own.depth))

    def with_covered_mouth(self, state: DualState) -> DualState:
        """See :meth:`CompactOneShotAvatar.with_covered_mouth`."""
        return replace(state, head=self.head.with_covered_mouth(state.head))

    def render(self, state: DualState, frame: MotionFrame) -> RenderedHead:
        """See :class:`triportrait.types.Avatar`."""
        drawn, static = self.head.render(state.head, frame), state.static
        out = RenderedHead(np.empty_like(drawn.rgb), np.empty_like(drawn.alpha), np.empty_like(drawn.depth))
        kernels.integrate(
            drawn.rgb,
            drawn.alpha,
            drawn.depth,
            static.layer,
            static.depth,
            np.float32(static.depth_under(frame)),
            static.back(frame),
            np.float32(BAND_PX * len(drawn.alpha) / 512),
            np.float32(HALF_DM),
            out.rgb,
            out.alpha,
            out.depth,
        )
        return out
