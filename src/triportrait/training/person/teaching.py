"""How a person's network learns: on the frames of one video, from what the linear map leaves of them.

Losses: mean absolute difference and two levels of a pyramid inside the head, mouth and eyes weighted; the person's own planes stay those of
the mean head; second differences over time of what is added (Talk3D, eq. 4). Runs of frames whose mouth and eyes are off most come
more often (an active pool, as in NLDF). The last stretch of the video is held out: it says which step is kept, and at each place how much.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from triportrait.avatar.person.learned_delta import PICTURE_PX
from triportrait.avatar.person.learning import HeadsPicture
from triportrait.avatar.person.linear_delta import Residuals, fit_linear_delta, inside_of, linear_change, strength_of
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.training.person.network import Ablation, DeltaNetwork, flat_weights
from triportrait.types import Array

log = logging.getLogger(__name__)

#: What mouth and eyes count more than the rest, and how far round them (sides of the picture).
_MOUTH, _EYES, _AROUND = 5.0, 3.0, 0.04
#: Weights of the losses: the mean head, and the second difference of the planes.
_STAY, _SMOOTH = 0.2, 0.05
#: Frames of a run; learning rate, steps of warming up; held-out frames are looked at so often.
_RUN, _RATE, _WARM, _LOOK = 3, 2e-3, 30, 50
#: A level of colour counts as so much: changes are about as large as 1.
_LEVELS = 30.0
#: Who explains no more than this share of the held-out rest is not worth a frame's time.
_WORTH = 0.005
#: How much of an error the pool keeps.
_MEMORY = 0.7


@dataclass(frozen=True, slots=True)
class _Frames:
    """What is learned from, e the side of the picture: ``rest`` [n, 3, e, e], ``shown`` [n, 1, e, e] in 0..1, ``numbers`` [n, f]."""

    rest: Tensor
    shown: Tensor
    numbers: Tensor


def processor_minutes(minutes: float) -> Callable[[], float]:
    """How much of so many minutes of this process's time is spent, from now on: 0, and 1 at the end."""
    begun = time.process_time()
    return lambda: (time.process_time() - begun) / (60.0 * minutes)


def teach(seen: Residuals, head: HeadsPicture, spent: Callable[[], float], *, ablation: Ablation | None = None, seed: int) -> Array | None:
    """Learn until nothing is left of a budget.

    Args:
        seen: frames in the order of time.
        head: the head's own picture.
        spent: how much of the budget is used up, asked before each step; at 1 the learning ends. See :func:`processor_minutes`.
        ablation: what is left out.
        seed: of the network's first numbers and of the order of frames.

    Returns:
        The weights [n] that :class:`triportrait.avatar.person.learned_delta.DrawnNetwork` takes; None where they do not help in the
        frames that were held out.
    """
    draw = np.random.default_rng(seed)
    stretch = seen.stretch
    inside = _smaller(inside_of(seen.shown.mean(0, dtype=np.float32)))
    frames = _what_is_left(seen, stretch, inside)
    fitted, held = np.flatnonzero(stretch != stretch[-1]), np.flatnonzero(stretch == stretch[-1])
    weight, parts = _weights(head.landmarks * (PICTURE_PX / len(head.depth)))
    mean = torch.from_numpy(_smaller(head.drawn) / 64.0 - 2.0).permute(2, 0, 1)[None].float()
    depth = torch.from_numpy(_smaller(head.depth))
    # Whoever calls goes on with the random numbers that they had.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = DeltaNetwork(ablation=ablation)
    with torch.no_grad():
        network.middle.copy_(frames.numbers[fitted].mean(0))
        network.spread.copy_(frames.numbers[fitted].std(0) + 0.1)
    optimiser = torch.optim.Adam([parameter for parameter in network.parameters() if parameter.requires_grad], _RATE)
    runs = fitted[: -(_RUN - 1)]
    error = np.ones(len(runs))
    best: tuple[float, Array | None] = (_WORTH, None)
    step = 0

    def look(done: float) -> None:
        nonlocal best
        gained = _explained(network, frames, held, depth, weight)
        if gained > best[0]:
            best = gained, flat_weights(network)
        log.info("%3.0f %%, step %d: %.1f %% of the held-out rest is explained", 100.0 * done, step, 100.0 * gained)

    while (done := spent()) < 1.0:
        optimiser.param_groups[0]["lr"] = _RATE * min(1.0, (step + 1) / _WARM) * (0.5 + 0.5 * math.cos(math.pi * done))
        which = int(draw.choice(len(runs), p=error / error.sum()))
        rows = slice(int(runs[which]), int(runs[which]) + _RUN)
        change, added = network(frames.numbers[rows], depth)
        off = (change - frames.rest[rows]).abs() * frames.shown[rows]
        loss = (off * weight).mean() + _STAY * (network.decoded(network.planes[None], depth) - mean).abs().mean()
        left = (change - frames.rest[rows]) * frames.shown[rows]
        for smaller in (2, 4):
            loss = loss + (functional.avg_pool2d(left, smaller).abs() * functional.avg_pool2d(weight, smaller)).mean()
        loss = loss + _SMOOTH * (added[:-2] - 2.0 * added[1:-1] + added[2:]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        now = float((off.detach() * parts).mean() / parts.mean())
        error[which] = _MEMORY * error[which] + (1.0 - _MEMORY) * now
        step += 1
        if step % _LOOK == 0:
            look(done)
    if step % _LOOK:
        look(1.0)
    if best[1] is None and step < _LOOK:
        log.warning("the network had time for %d steps only, too few to learn; the linear map alone is kept; give it more minutes", step)
        return None
    if best[1] is None:
        log.warning("the network explains nothing of the frames that were held out after %d steps; the linear map alone is kept", step)
        return None
    log.info("%d steps; %.1f %% of what the linear map leaves is explained in held-out frames", step, 100.0 * best[0])
    _put_back(network, best[1])
    share = torch.from_numpy((inside * _strength(network, frames, held, depth)).astype(np.float32))
    with torch.no_grad():
        network.share.copy_(share)
        # The graph gives levels of colour in 0..1.
        network.leave.weight.mul_(_LEVELS / 255.0)
        network.leave.bias.mul_(_LEVELS / 255.0)
    return flat_weights(network)


def _what_is_left(seen: Residuals, stretch: Array, inside: Array) -> _Frames:
    """What the linear map of the other stretches leaves of each, in units of :data:`_LEVELS`."""
    rest, shown = [], []
    for number in np.unique(stretch):
        own = np.flatnonzero(stretch == number)
        others = fit_linear_delta(seen.some(stretch != number))
        for row in own:
            left = seen.differences[row].astype(np.float32)
            if others is not None:
                left -= linear_change(others, seen.features[row])
            rest.append(_smaller(left * seen.shown[row][..., None]) / _LEVELS)
            shown.append(_smaller(seen.shown[row].astype(np.float32)) * inside)
    pictures = torch.from_numpy(np.stack(rest)).permute(0, 3, 1, 2).float().contiguous()
    return _Frames(pictures, torch.from_numpy(np.stack(shown))[:, None].float(), torch.from_numpy(seen.numbers).float())


def _smaller(picture: Array) -> Array:
    import cv2

    return np.asarray(cv2.resize(picture.astype(np.float32), (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA))


def _weights(landmarks: Array) -> tuple[Tensor, Tensor]:
    """How much each place counts, and where mouth and eyes are: both [1, 1, e, e]."""
    import cv2

    weight = np.ones((PICTURE_PX, PICTURE_PX), np.float32)
    reach = np.ones((2 * round(_AROUND * PICTURE_PX) + 1,) * 2, np.uint8)
    for rim, counts in ((OUTER_LIPS, _MOUTH), (EYE_LEFT_RIM, _EYES), (EYE_RIGHT_RIM, _EYES)):
        part = np.zeros(weight.shape, np.uint8)
        cv2.fillConvexPoly(part, cv2.convexHull(landmarks[np.asarray(rim)].astype(np.int32)), 1)
        weight[cv2.dilate(part, reach) > 0] = counts
    whole = torch.from_numpy(weight)[None, None]
    return whole, (whole > 1.0).float()


@torch.no_grad()
def _said(network: DeltaNetwork, frames: _Frames, rows: Array, depth: Tensor) -> Tensor:
    return torch.cat([network(frames.numbers[part], depth)[0] for part in np.array_split(rows, max(1, len(rows) // 8))])


def _explained(network: DeltaNetwork, frames: _Frames, rows: Array, depth: Tensor, weight: Tensor) -> float:
    """Which share of the squared rest goes away when the best multiple of what the network says is added."""
    said, rest, counts = _said(network, frames, rows, depth), frames.rest[rows], frames.shown[rows] * weight
    agree, size, whole = (float((a * b * counts).sum()) for a, b in ((said, rest), (said, said), (rest, rest)))
    return max(agree, 0.0) ** 2 / max(size * whole, 1e-9)


def _strength(network: DeltaNetwork, frames: _Frames, rows: Array, depth: Tensor) -> Array:
    said, rest, shown = _said(network, frames, rows, depth), frames.rest[rows], frames.shown[rows]
    return strength_of(*(((a * b * shown).sum((0, 1))).numpy() for a, b in ((said, rest), (said, said))))


def _put_back(network: DeltaNetwork, weights: Array) -> None:
    start = 0
    for parameter in network.parameters():
        part: Any = torch.from_numpy(weights[start : start + parameter.numel()]).view(parameter.shape)
        parameter.data.copy_(part)
        start += parameter.numel()
