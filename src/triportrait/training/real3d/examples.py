"""Rows of batches: what the stages of the paper see of a clip, of a lifted photograph, or of EG3D.

Pictures are float32 [3, s, s] in -1..1; outside the head they are -1, as the networks expect. Every function takes the random numbers of
its row, so that a row is the same whoever computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from triportrait.errors import MediaError
from triportrait.face.pncc import PnccRenderer, cull_of, focal_of
from triportrait.geometry.cameras import camera_from_pose, orbit_camera, pose_points, project
from triportrait.geometry.landmarks import LOWER_LIP_RIM, OUTER_MOUTH_CORNERS, UPPER_LIP_RIM
from triportrait.real3d.head_models import load_head
from triportrait.types import Array

if TYPE_CHECKING:
    from triportrait.training.data.clips import ClipSet, TrainingClip
    from triportrait.training.oneshot.views import ViewSet

Row = dict[str, Tensor]

#: Corners of the mouth and middles of the outer lips.
_MOUTH = (*OUTER_MOUTH_CORNERS, UPPER_LIP_RIM, LOWER_LIP_RIM)


@lru_cache(maxsize=8)
def _drawer(name: str, size_px: int) -> PnccRenderer:
    return PnccRenderer(load_head(name), size_px, cull=cull_of(name))


def motion_picture(name: str, size_px: int, identity: Array, expression: Array) -> Tensor:
    """PNCC of coefficients, [3, s, s]."""
    return torch.from_numpy(_drawer(name, size_px).render(load_head(name).vertices(identity, expression)).copy())


def as_picture(image: Array, size_px: int) -> Tensor:
    """uint8 [h, w] or [h, w, c] -> float32 [c, s, s] in 0..1, averaged down or interpolated up."""
    x = torch.from_numpy(np.ascontiguousarray(image)).float() / 255
    x = (x[None] if x.ndim == 2 else x.permute(2, 0, 1))[None]
    if x.shape[-1] != size_px:
        x = functional.interpolate(x, size=(size_px, size_px), mode="bilinear", align_corners=False, antialias=True)
    return x[0]


def head_on_black(image: Array, alpha: Array, size_px: int) -> tuple[Tensor, Tensor]:
    """The head premultiplied on black as the renderer draws it [3, s, s] in -1..1, and its matte [1, s, s] in 0..1."""
    matte = as_picture(alpha, size_px)
    premultiplied = np.round(image * (alpha[..., None] / 255.0)).astype(np.uint8)
    return 2 * as_picture(premultiplied, size_px) - 1, matte


def lip_box(landmarks: Array, side_px: int) -> Tensor:
    """Centre and half side (x, y, half) of a square round the mouth in -1..1 of a picture ``side_px`` wide; [3]."""
    points = landmarks[list(_MOUTH), :2] / side_px * 2 - 1
    low, high = points.min(0), points.max(0)
    half = max(float((high - low).max()) * 0.75, 0.04)
    return torch.tensor([*(0.5 * (low + high)), half], dtype=torch.float32)


def cut_box(pictures: Tensor, boxes: Tensor, side_px: int) -> Tensor:
    """Squares ``boxes`` [b, 3] of :func:`lip_box` cut out of pictures [b, c, s, s] -> [b, c, side, side]."""
    line = (torch.arange(side_px, device=pictures.device) + 0.5) / side_px * 2 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([columns, rows], -1)[None] * boxes[:, 2, None, None, None] + boxes[:, None, None, :2]
    return functional.grid_sample(pictures.float(), grid.float(), padding_mode="border", align_corners=False)


def key_points(name: str, identity: Array, expression: Array, rotation_rad: Array, translation: Array) -> Tensor:
    """The 68 landmarks [68, 2] of a posed head in -1..1, y down."""
    head = load_head(name)
    points = pose_points(head.landmarks68(head.vertices(identity, expression)), rotation_rad, translation)
    pixels, _ = project(points, 1.0, focal_of(name))
    return torch.from_numpy(np.clip(2 * pixels - 1, -1, 1).astype(np.float32))


# -- clips ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How two frames of a clip become a row.

    Args:
        size_px: side of the pictures.
        apart: frames between source and target at least, where the clip is long enough.
        pictures: motion pictures that the adapter takes besides the driving one: 2 (canonical, source) or 1 (source).
        motion: also motion pictures, of the target and of the frames before and after it (eq. 4).
        perturb: deviation of a disturbance of identity and expression; the first of the driving pictures then shows the target disturbed
            (the published way, spec 5.3) instead of the frame before.
        scene: also torso, background, the whole picture and key points.
        inpaint_background: the background has the person painted out; without, the source's own stays black where the person stands.
    """

    size_px: int
    apart: int = 50
    pictures: int = 2
    motion: bool = False
    perturb: float = 0.0
    scene: bool = False
    inpaint_background: bool = True


def clip_row(clips: ClipSet, options: PairOptions, random: np.random.Generator) -> Row:
    """A source frame and a target frame of one clip, far apart where the clip allows."""
    index = int(random.integers(len(clips)))
    count = clips.frames_of(index)
    target = int(random.integers(1, count - 1)) if count > 2 else count - 1
    far = [i for i in range(count) if abs(i - target) >= options.apart]
    others = far or [i for i in range(count) if abs(i - target) >= max(1, count // 3)] or [0]
    source = int(others[int(random.integers(len(others)))])
    around = [max(target - 1, 0), target, min(target + 1, count - 1)]
    clip = clips.read(index, [source, target])
    row = _pair(clip, options)
    if options.motion:
        numbers = clips.numbers(index)
        row |= _motion_pictures(numbers["head_model"], numbers["identity"], numbers["expression"], source, around, options, random)
    return row


def fixed_pairs(clips: ClipSet, options: PairOptions, count: int) -> list[Row]:
    """Pairs for validation: the first and the middle frame of evenly chosen clips."""
    rows = []
    for index in np.unique(np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)):
        frames = clips.frames_of(int(index))
        target = max(1, frames // 2) if frames > 1 else 0
        row = _pair(clips.read(int(index), [0, target]), options)
        if options.motion:
            numbers = clips.numbers(int(index))
            around = [max(target - 1, 0), target, min(target + 1, frames - 1)]
            row |= _motion_pictures(numbers["head_model"], numbers["identity"], numbers["expression"], 0, around, options)
        rows.append(row)
    return rows


def _pair(clip: TrainingClip, options: PairOptions) -> Row:
    s = options.size_px
    head, _ = head_on_black(clip.frames[0], clip.head_alpha[0], s)
    target, matte = head_on_black(clip.frames[1], clip.head_alpha[1], s)
    cameras = [torch.from_numpy(camera_from_pose(clip.rotation_rad[i], clip.translation[i]).to_eg3d()) for i in range(2)]
    row = {
        "source": head,
        "target": target,
        "matte": matte,
        "source_camera": cameras[0],
        "target_camera": cameras[1],
        "lips": lip_box(clip.landmarks[1], clip.size_px),
    }
    if options.scene:
        row |= _scene(clip, s, options.inpaint_background)
    return row


def _scene(clip: TrainingClip, size_px: int, inpaint_background: bool) -> Row:
    from triportrait.real3d.layers import split_torso, without_person

    alpha = clip.torso[0, ..., 3]
    body = (alpha > 127) & (clip.head_alpha[0] <= 127)
    masks = np.stack(split_torso(clip.frames[0], body, clip.landmarks[0]))
    torso, _ = head_on_black(clip.torso[0, ..., :3], alpha, size_px)
    background = clip.background
    if not inpaint_background:
        background = without_person(clip.frames[0], (alpha > 127) | (clip.head_alpha[0] > 127))
    points = [key_points(clip.head_model, clip.identity, clip.expression[i], clip.rotation_rad[i], clip.translation[i]) for i in range(2)]
    return {
        "torso": torso,
        "torso_masks": torch.stack([(as_picture(mask.astype(np.uint8) * 255, size_px)[0] > 0.5).float() for mask in masks]),
        "torso_matte": as_picture(clip.torso[1, ..., 3], size_px),
        "background": 2 * as_picture(background, size_px) - 1,
        "whole": 2 * as_picture(clip.frames[1], size_px) - 1,
        "source_points": points[0],
        "target_points": points[1],
    }


def _motion_pictures(
    name: str,
    identity: Array,
    expression: Array,
    source: int,
    around: Sequence[int],
    options: PairOptions,
    random: np.random.Generator | None = None,
) -> Row:
    """``pictures`` [3 k, s, s] (canonical and source) and ``driving`` [3, 3, s, s] (before, at and after the target)."""
    own = motion_picture(name, options.size_px, identity, expression[source])
    if options.pictures == 2:
        own = torch.cat([motion_picture(name, options.size_px, identity, np.zeros_like(expression[0])), own])
    driving = [motion_picture(name, options.size_px, identity, expression[i]) for i in around]
    if options.perturb and random is not None:
        near = [x + options.perturb * random.normal(size=x.shape).astype(np.float32) for x in (identity, expression[around[1]])]
        driving[0] = motion_picture(name, options.size_px, *near)
    return {"pictures": own, "driving": torch.stack(driving)}


# -- lifted photographs -----------------------------------------------------------------------------------------------------


def view_row(views: ViewSet, size_px: int, random: np.random.Generator) -> Row:
    """A photograph and one of its other views."""
    return _view(views, int(random.integers(len(views))), int(random.integers(1, views.views.shape[1])), size_px)


def fixed_views(views: ViewSet, size_px: int, count: int) -> list[Row]:
    """Photographs and their first and last turned views, for validation."""
    last = views.views.shape[1] - 1
    return [_view(views, index, view, size_px) for index in range(min(count, len(views))) for view in (1, last)]


def _view(views: ViewSet, index: int, view: int, size_px: int) -> Row:
    def picture(rgba: Tensor) -> tuple[Tensor, Tensor]:
        x = as_picture(rgba.permute(1, 2, 0).numpy(), size_px)
        return 2 * x[:3] - 1, x[3:]

    source, _ = picture(views.photo[index])
    target, matte = picture(views.views[index, view, :4])
    turns, moves = views.rotation_rad[index].numpy(), views.translation[index].numpy()
    cameras = [torch.from_numpy(camera_from_pose(turns[i], moves[i]).to_eg3d()) for i in (0, view)]
    return {
        "source": source,
        "target": target,
        "matte": matte,
        "source_camera": cameras[0],
        "target_camera": cameras[1],
        "lips": torch.tensor([0.0, 0.25, 0.15]),
    }


# -- EG3D -------------------------------------------------------------------------------------------------------------------

#: Largest pitch and yaw in degrees of cameras round EG3D's heads: those that condition the generator, and those that look (spec 5.2).
_CONDITION_DEGREES, _LOOK_DEGREES = (10.0, 16.0), (26.0, 38.0)
#: Distances of the cameras that condition, in EG3D's units (spec 5.2).
_CONDITION_RADII = (2.7, 3.2)


def teacher_row(latent: int, radii: tuple[float, float], random: np.random.Generator) -> Row:
    """A latent of EG3D, the camera that its style is made for, and two cameras that look.

    Args:
        latent: numbers of the latent.
        radii: least and greatest distance of the cameras that look, in EG3D's units (appendix B.1).
        random: of the row.
    """

    def camera(degrees: tuple[float, float], radii: tuple[float, float]) -> Tensor:
        pitch, yaw = (float(np.radians(random.uniform(-most, most))) for most in degrees)
        return torch.from_numpy(orbit_camera(yaw, pitch, float(random.uniform(*radii))).to_eg3d())

    return {
        "latent": torch.from_numpy(random.normal(size=latent).astype(np.float32)),
        "condition": camera(_CONDITION_DEGREES, _CONDITION_RADII),
        "source_camera": camera(_LOOK_DEGREES, radii),
        "target_camera": camera(_LOOK_DEGREES, radii),
        "lips": torch.tensor([0.0, 0.25, 0.15]),
    }


def stack_rows(rows: Sequence[Row]) -> Row:
    """Rows under each other.

    Raises:
        MediaError: rows of different kinds, for example of two head models.
    """
    try:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    except (KeyError, RuntimeError) as error:
        raise MediaError(f"the training data differ in kind ({error}); train from one kind of clips") from None


def numpy_generator(seed: int, step: int, row: int) -> np.random.Generator:
    """Random numbers of one row of one step's batch."""
    return np.random.default_rng([seed, step, row])
