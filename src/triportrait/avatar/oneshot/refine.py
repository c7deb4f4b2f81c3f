"""Per-portrait refinement: the learned avatar's feature planes are fitted to the very photograph, the decoder stays.

The encoder's planes are a guess of a network that has seen many heads; the photograph's own view says what they should have been. Adam
moves the planes until the volume, rendered at the photo's pose, shows the photo. What only other views see has no say in that, so depth
and the planes themselves are held near their start.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from triportrait.errors import MissingPart, NumericError, OptionError
from triportrait.types import RefinedPlanes

if TYPE_CHECKING:
    import torch

    from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar, CompactState
    from triportrait.avatar.oneshot.image_to_plane import CompactImageToPlane, ViewPlanes
    from triportrait.types import Avatar


#: Nobody waits longer for one portrait.
LONGEST_S = 600.0
#: Pixels with more matte than this are inside the head.
_INSIDE = 0.9
#: Beyond this |u| or |v| the field fades out towards the photo's border (``CompactImageToPlane.field``), whatever the planes are.
_FADES = 0.92


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """How planes are fitted.

    Args:
        size_px: side of the rendered view; samples, half_dm: of each ray, see :class:`triportrait.avatar.oneshot.volume.Slab`.
        rate: of Adam at the first step; it falls with the inverse root of the steps.
        alpha_weight, depth_weight, stay_weight: of the matte, the depth at the start (decimetres), and the planes at the start, beside the
            mean absolute error of colours.
    """

    size_px: int = 128
    samples: int = 10
    half_dm: float = 0.35
    rate: float = 0.1
    alpha_weight: float = 0.3
    depth_weight: float = 0.1
    stay_weight: float = 0.02


@dataclass(frozen=True, slots=True)
class _View:
    """The photo's own view: n rays.

    Args:
        points: [n, k, 3] samples as (u, v, w); depth: [n, k] decimetres; step_dm: what a sample stands for.
        rgb: [n, 3] premultiplied, 0..1, and matte: [n], of the photo.
    """

    points: torch.Tensor
    depth: torch.Tensor
    step_dm: float
    rgb: torch.Tensor
    matte: torch.Tensor


def refine(
    avatar: Avatar, state: CompactState, seconds: float = 5.0, steps: int | None = None, settings: RefineSettings | None = None
) -> tuple[CompactState, RefinedPlanes]:
    """Fit the planes of a prepared portrait to its photograph.

    Args:
        avatar: the embedded one-shot avatar.
        state: from its ``prepare``.
        seconds: when to stop; ignored with ``steps``.
        steps: number of steps instead, for results that repeat.
        settings: see :class:`RefineSettings`.

    Returns:
        the portrait with the best planes, and these planes with what they achieve.

    Raises:
        MissingPart: the avatar has no planes.
        OptionError: ``seconds`` out of range.
        NumericError: the optimisation left the numbers.
    """
    import torch

    from triportrait.avatar.oneshot.image_to_plane import ViewPlanes, load_image_to_plane

    avatar = _with_planes(avatar)
    if not 0.0 <= seconds <= LONGEST_S:
        raise OptionError(f"--refine is {seconds:g}; use a number of seconds from 0 to {LONGEST_S:.0f}")
    settings = settings or RefineSettings()
    ends = time.perf_counter() + seconds
    view = _own_view(state, settings)
    network = load_image_to_plane(avatar.encoder.source)
    own = state.planes
    start = [torch.tensor(plane)[None] for plane in (own.front, own.across, own.down)]
    picture = torch.from_numpy(own.picture_for(settings.size_px))[None]
    fixed = ViewPlanes(*start, picture, torch.from_numpy(own.prior)[None, None])
    planes = [plane.clone().requires_grad_() for plane in start]
    optimiser = torch.optim.Adam(planes, settings.rate, betas=(0.9, 0.98))
    solid = (view.matte > _INSIDE) & (view.points[:, 0, :2].abs().amax(-1) < _FADES)

    def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        front, across, down = planes
        return _draw(network, replace(fixed, front=front, across=across, down=down), view)

    def psnr(rgb: torch.Tensor) -> float:
        error = (rgb.detach() - view.rgb)[solid].square().mean()
        if not torch.isfinite(error):
            raise NumericError("refining this portrait gave NaN or infinity; animate it without --refine")
        return -10.0 * math.log10(max(float(error), 1e-10))

    start_depth, before, best, best_step, step = None, 0.0, -math.inf, 0, 0
    while True:
        rgb, alpha, depth = draw()
        now = psnr(rgb)
        if start_depth is None:
            start_depth, before = depth.detach(), now
        if now > best:
            best, kept, best_step = now, [plane.detach().clone() for plane in planes], step
        if (step >= steps) if steps is not None else (time.perf_counter() > ends):
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.rate / math.sqrt(1 + step / 10)
        stay = sum((plane - first).square().mean() for plane, first in zip(planes, start, strict=True))
        loss = (
            (rgb - view.rgb).abs().mean()
            + settings.alpha_weight * (alpha - view.matte).abs().mean()
            + settings.depth_weight * ((depth - start_depth).abs() * solid).mean()
            + settings.stay_weight * stay
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
    front, across, down = (plane[0].numpy() for plane in kept)
    refined = RefinedPlanes(front, across, down, avatar.encoder.fingerprint, best_step, before, best)
    return avatar.with_planes(state, own.with_planes(front, across, down)), refined


def use_refined(avatar: Avatar, state: CompactState, refined: RefinedPlanes) -> CompactState | None:
    """The portrait with planes that were refined before; None when they belong to another network.

    Raises:
        MissingPart: the avatar has no planes.
    """
    avatar = _with_planes(avatar)
    if avatar.encoder.fingerprint != refined.network:
        return None
    old = (state.planes.front, state.planes.across, state.planes.down)
    arrays = (refined.front, refined.across, refined.down)
    if any(plane.shape != array.shape for plane, array in zip(old, arrays, strict=True)):
        return None
    return avatar.with_planes(state, state.planes.with_planes(*(np.array(array) for array in arrays)))


def has_planes(avatar: Avatar) -> bool:
    """Whether an avatar draws a volume from feature planes."""
    return hasattr(avatar, "with_planes")


def _with_planes(avatar: Avatar) -> CompactOneShotAvatar:
    if not has_planes(avatar):
        raise MissingPart(f"the avatar {avatar.name!r} has no planes to refine; add --avatar oneshot, or leave out --refine")
    return cast("CompactOneShotAvatar", avatar)


def _own_view(state: CompactState, settings: RefineSettings) -> _View:
    """Rays of the photo's pose that can meet the head, and what the photo shows there."""
    import torch

    from triportrait.avatar.oneshot.guide import render_guide
    from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
    from triportrait.avatar.oneshot.volume import Slab, carry_to_source, pixel_places, slab_depths

    size = settings.size_px
    photo = torch.from_numpy(state.planes.picture_for(size)).permute(1, 2, 0)
    motion = state.lifted.portrait.motion
    guide = render_guide(state.mesh, motion, size)
    sent = torch.from_numpy(np.isfinite(guide.depth))
    pose = (torch.from_numpy(motion.rotation_rad)[None], torch.from_numpy(motion.translation)[None])
    slab = Slab(settings.samples, settings.half_dm)
    depth = slab_depths(torch.from_numpy(guide.depth)[sent][None], slab)
    offset = torch.from_numpy(guide.offset)[sent][None]
    points = carry_to_source(pixel_places(size)[sent.reshape(-1)][None], depth, pose, pose, DEPTH_RANGE_DM, offset=offset)
    inside = photo[sent]
    return _View(points[0], depth[0], 2 * slab.half_dm / slab.samples, inside[:, :3], inside[:, 3])


def _draw(network: CompactImageToPlane, planes: ViewPlanes, view: _View) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Premultiplied colour [n, 3], matte [n] and mean depth [n] of the view's rays."""
    from triportrait.avatar.oneshot.volume import composite

    density, colour = network.field(planes, view.points.reshape(1, -1, 3))
    shape = view.depth.shape
    return composite(density.reshape(shape), colour.reshape(*shape, 3), view.depth, view.step_dm)
