"""Posed views of procedural heads: the part of the synthetic teacher whose geometry is exact all round.

Rows have the format of :mod:`triportrait.synth.lifted_views`; what else is known of every view (PNCC, classes, the whole person) comes with
:class:`LabelledView`. Clips of the same heads are :class:`triportrait.training.data.clips.TrainingClip`, made by
:mod:`triportrait.training.data.synthetic`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from triportrait.face.pncc import PnccRenderer
from triportrait.geometry.cameras import camera_from_pose
from triportrait.synth import deferred
from triportrait.synth.deferred import Picture
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.lifted_views import (
    PHOTO_PX,
    VIEW_PX,
    LiftedViews,
    depth_to_bytes,
    offset_to_bytes,
    seen_by,
    shrink,
    training_turns_deg,
)
from triportrait.synth.people import random_expression, random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.types import FOCAL_IN_WIDTHS, Array, MotionFrame, RenderedHead

#: Nearest and furthest camera in EG3D's units (spec: 2.4 to 5.0), as z translations in decimetres.
NEAREST_Z, FURTHEST_Z = 10.0 - 2.4 / 0.27, 10.0 - 5.0 / 0.27


@dataclass(frozen=True, slots=True)
class LabelledView:
    """One picture and everything that is known of it; s is its side in pixels.

    Args:
        picture: colours, mattes, depth, offsets to the source's expression, coverage of the six classes.
        frame: pose, gaze and expression curves of the open head.
        camera: [25] float32, EG3D's.
        pncc: [3, s, s] float32 in -1..1, the open head at this pose.
        seen: bool [s, s], the source view shows this surface too.
    """

    picture: Picture
    frame: MotionFrame
    camera: Array
    pncc: Array
    seen: Array


def random_pose(random: np.random.Generator, weights: Mapping[str, float] | None = None, gaze_rad: Array | None = None) -> HeadPose:
    """A pose as photographs have it; one in four at any distance from 2.4 to 5.0."""
    if random.random() < 0.75:
        away = float(np.clip(random.normal(-5.85, 0.66), FURTHEST_Z, NEAREST_Z))
    else:
        # Nearer than this the head leaves the picture; few people photograph so.
        away = float(random.uniform(FURTHEST_Z, -2.0) if random.random() < 0.9 else random.uniform(-2.0, NEAREST_Z))
    rotation = np.clip(np.radians(random.normal(0.0, (6.5, 14.0, 4.5))), -0.8, 0.8)
    translation = np.array([random.normal(0.0, 0.09), 0.04 + random.normal(0.0, 0.04), away])
    return HeadPose(weights or {}, np.zeros(2) if gaze_rad is None else gaze_rad, rotation, translation)


def slight_expression(random: np.random.Generator) -> tuple[dict[str, float], Array]:
    """What people show in portraits: near neutral, often a trace of a smile."""
    weights, gaze = random_expression(random, 0.25, 0.03)
    if random.random() < 0.5:
        smile = float(random.uniform(0.1, 0.5))
        weights["mouthSmileLeft"], weights["mouthSmileRight"] = smile, smile * float(random.uniform(0.85, 1.15))
    weights["browInnerUp"] = max(weights.get("browInnerUp", 0.0), 0.1)
    return weights, 0.5 * gaze


def novel_poses(source: HeadPose, count: int, random: np.random.Generator) -> list[HeadPose]:
    """Other cameras: most within 22 degrees of the source as for lifted photographs, a third anywhere up to 50."""
    poses = []
    for near, turn in zip(random.random(count) < 0.66, training_turns_deg(count, random), strict=True):
        if near:
            rotation = source.rotation_rad + np.radians([*turn, 0.0])
        else:
            rotation = np.radians(random.uniform((-22, -50, -8), (22, 50, 8)))
        translation = source.translation.copy()
        if random.random() < 0.25:
            translation = translation + random.normal(0.0, (0.08, 0.05, 0.5))
        poses.append(HeadPose(source.weights, source.gaze_rad, rotation, translation))
    return poses


def motion_frame(head: ProceduralHead, pose: HeadPose) -> MotionFrame:
    """The pose in the package's own nouns."""
    return MotionFrame(
        head.factory.coefficients(pose.weights),
        pose.rotation_rad.astype(np.float32),
        pose.translation.astype(np.float32),
        np.asarray(pose.gaze_rad, np.float32),
    )


def picture_of(head: ProceduralHead, pose: HeadPose, source: HeadPose, size_px: int, samples: int = 3) -> Picture:
    """The head at ``pose`` as another camera on the same moment of light sees it."""
    return deferred.draw(head.sheets, head.moment(pose, source), head.light.levels, head.exposure, FOCAL_IN_WIDTHS, size_px, samples)


def _layer(picture: Picture) -> RenderedHead:
    return RenderedHead(picture.head_rgb, picture.head_alpha, picture.depth)


def labelled_views(
    head: ProceduralHead, source: HeadPose, poses: list[HeadPose], size_px: int, samples: int = 3, pncc: bool = True
) -> Iterator[LabelledView]:
    """The source view first, then every pose, with all labels."""
    renderer = PnccRenderer(head.factory.head, size_px, FOCAL_IN_WIDTHS) if pncc else None
    own: RenderedHead | None = None
    first = motion_frame(head, source)
    for pose in [source, *poses]:
        picture = picture_of(head, pose, source, size_px, samples)
        frame = motion_frame(head, pose)
        own = own or _layer(picture)
        code = np.zeros((3, size_px, size_px), np.float32)
        if renderer is not None:
            code = renderer.render(head.open_head(pose.weights, pose.gaze_rad), frame.rotation_rad, frame.translation).copy()
        moved = pose.weights != source.weights or np.any(pose.gaze_rad != source.gaze_rad)
        seen = seen_by(_layer(picture), frame, own, first, offset=picture.offset if moved else None)
        yield LabelledView(picture, frame, camera_from_pose(frame.rotation_rad, frame.translation).to_eg3d(), code, seen)


def view_row(head: ProceduralHead, source: HeadPose, poses: list[HeadPose], name: str, moving: bool = False) -> LiftedViews:
    """A row of a shard: the photograph at ``source``, its own view, and the views at ``poses``.

    Args:
        head: who.
        source, poses: where; with ``moving`` their expressions may differ, and offsets are stored.
        name: of the row.
    """
    first = picture_of(head, source, source, PHOTO_PX, 2)
    photo = np.concatenate([_bytes(first.head_rgb).transpose(2, 0, 1), _bytes(first.head_alpha)[None]])
    own = shrink(_layer(first), VIEW_PX)
    views = np.empty((len(poses) + 1, 6, VIEW_PX, VIEW_PX), np.uint8)
    offset = np.zeros((len(poses) + 1, 3, VIEW_PX, VIEW_PX), np.int8)
    frames = [motion_frame(head, pose) for pose in [source, *poses]]
    for row, (pose, frame) in enumerate(zip([source, *poses], frames, strict=True)):
        layer, shift = own, None
        if row:
            picture = picture_of(head, pose, source, VIEW_PX)
            layer = _layer(picture)
            if moving:
                shift = picture.offset
                offset[row] = offset_to_bytes(shift.transpose(2, 0, 1))
        views[row, :3] = _bytes(layer.rgb).transpose(2, 0, 1)
        views[row, 3] = _bytes(layer.alpha)
        views[row, 4] = depth_to_bytes(layer.depth, float(frame.translation[2]))
        views[row, 5] = 255 * seen_by(layer, frame, own, frames[0], offset=shift)
    return LiftedViews(
        name=name,
        photo=photo,
        views=views,
        rotation_rad=np.stack([f.rotation_rad for f in frames]),
        translation=np.stack([f.translation for f in frames]),
        camera=np.stack([camera_from_pose(f.rotation_rad, f.translation).to_eg3d() for f in frames]),
        expression=np.stack([f.expression for f in frames]) if moving else None,
        gaze_rad=np.stack([f.gaze_rad for f in frames]) if moving else None,
        offset=offset if moving else None,
    )


def random_row(factory: HeadFactory, seed: int, views: int = 7, moving: bool = False, head: ProceduralHead | None = None) -> LiftedViews:
    """Row ``seed`` of an endless set: who, light, cameras and expressions follow from the number alone."""
    random = np.random.default_rng([20240611, seed])
    if head is None:
        head = ProceduralHead(factory, random_person(random, factory.targets, len(factory.hdri)))
    source = random_pose(random, *slight_expression(random))
    poses = novel_poses(source, views, random)
    if moving:
        poses = [HeadPose(*random_expression(random), pose.rotation_rad, pose.translation) for pose in poses]
    return view_row(head, source, poses, f"procedural_{'moving_' if moving else ''}{seed:06d}", moving)


def _bytes(values: Array) -> Array:
    return np.clip(np.round(255.0 * values), 0, 255).astype(np.uint8)
