"""Pairs of real frames of one person, in the shards' format: what no synthetic teacher can show (skin, light, real expression).

A clip is fitted with one shape for all frames; each pair's pose is then refined on the pictures themselves: the head's vertices carry the
source's brightness into the target, and a few Gauss-Newton steps on six degrees of freedom (Lucas and Kanade 1981, over a mesh) move them
to where the target shows it. Depth and expression offsets of the views come from the lifted source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from triportrait.geometry.cameras import camera_from_pose, pose_points, project
from triportrait.geometry.landmarks import ALL_POINTS
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler, matrix_from_vector, skew
from triportrait.synth.lifted_views import PHOTO_PX, VIEW_PX, LiftedViews, depth_to_bytes, offset_to_bytes, seen_by, shrink
from triportrait.types import FOCAL_IN_WIDTHS, Array, HeadPart, Motion, MotionFrame, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker


#: How far the pictures may move a landmark pose: standard deviations of rotation (radians) and translation (decimetres).
_TRUST_RAD, _TRUST_DM = 0.02, (0.02, 0.02, 0.12)
_STEPS = 8
_CLIP_FIT_ROWS = 10


@dataclass(frozen=True, slots=True)
class PairFrames:
    """Frames of one person in one square of side s.

    Args:
        name: of the clip.
        images: uint8 [t, s, s, 3]; head_alpha, person_alpha: float32 [t, s, s]; background: uint8 [s, s, 3].
        landmarks: float32 [t, 478, 2] pixels of the square.
    """

    name: str
    images: Array
    head_alpha: Array
    person_alpha: Array
    background: Array
    landmarks: Array


@dataclass(frozen=True, slots=True)
class Refinement:
    """A pair's pose after refinement, and the mean absolute difference of brightness (0..1) before and after."""

    frame: MotionFrame
    before: float
    after: float


def frames_of_video(images: Sequence[Array], tracker: FaceTracker, head: OpenHead, count: int, name: str) -> PairFrames:
    """``count`` frames of a clip that differ most in pose and expression, with mattes.

    Args:
        images: uint8 [h, w, 3] each, of one person throughout, already cropped to head and shoulders.
        tracker, head: the parts to use.
        count: frames to keep.
        name: of the clip.

    Raises:
        NoFaceFound: nobody in it.
    """
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.layers import background_behind
    from triportrait.face.mattes import head_cover, head_share, refine_matte
    from triportrait.face.portrait import inside_face

    tracked = list(tracker.track(iter(images)))
    found = np.flatnonzero([ok for _, ok in tracked])
    landmarks = np.stack([points for points, _ in tracked])
    side = images[0].shape[0]
    fitter = LandmarkFitter(head, side_px=side)
    person = fitter.fit_person(landmarks[found[np.linspace(0, len(found) - 1, _CLIP_FIT_ROWS).astype(int)]])[0]
    motion = fitter.fit_motion(landmarks, person)
    chosen = found[_different(motion.rotation_rad[found], motion.expression[found], count)]
    shape, offset = head.shape(person.identity.astype(np.float32)), fitter.vertex_offset(person)
    heads, people = [], []
    for index in chosen:
        row = motion[int(index)]
        alpha = refine_matte(images[index], tracker.person_mask(images[index]), inside_face(landmarks[index], side))
        vertices = head.deform(shape, row.expression, row.gaze_rad) + offset
        share = head_share(head_cover(head, vertices, row, side, FOCAL_IN_WIDTHS), landmarks[index])
        people.append(alpha)
        heads.append(np.minimum(alpha, alpha * share))
    background = background_behind(images[chosen[0]], people[0])
    return PairFrames(
        name,
        np.stack([images[i] for i in chosen]),
        np.stack(heads),
        np.stack(people),
        background,
        landmarks[chosen][..., :2].astype(np.float32),
    )


def _different(rotation: Array, expression: Array, count: int) -> Array:
    """Rows that lie far apart (farthest-point sampling) in pose and expression; the calmest first."""
    rows = np.concatenate([rotation / 0.12, expression], 1)
    chosen = [int(np.linalg.norm(rows - np.median(rows, 0), axis=1).argmin())]
    gap = np.full(len(rows), np.inf)
    while len(chosen) < min(count, len(rows)):
        gap = np.minimum(gap, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
        chosen.append(int(gap.argmax()))
    return np.array(chosen)


def pair_rows(frames: PairFrames, head: OpenHead, sources: int = 2, views: int = 7) -> tuple[list[LiftedViews], list[Refinement]]:
    """Rows with ``sources`` of the frames as photographs and ``views`` others each as targets, with offsets; how poses were refined."""
    from triportrait.avatar.lifted.avatar import LiftedAvatar
    from triportrait.avatar.oneshot.guide_plain import expression_offsets
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.geometry.filling import foreground_colours

    side = frames.images.shape[1]
    fitter = LandmarkFitter(head, side_px=side)
    person = fitter.fit_person(frames.landmarks[:_CLIP_FIT_ROWS])[0]
    motion = fitter.fit_motion(frames.landmarks, person)
    offset = fitter.vertex_offset(person)
    avatar = LiftedAvatar(head)
    rows, refinements = [], []
    # Photographs look at the camera with open eyes.
    shut = motion.expression[:, [motion.column("eyeBlinkLeft"), motion.column("eyeBlinkRight")]].max(1)
    order = np.argsort(np.abs(motion.rotation_rad[:, 1]) + 0.5 * shut)
    for source in order[:sources]:
        portrait = _portrait(frames, int(source), person.identity.astype(np.float32), offset, motion)
        state = avatar.prepare(portrait)
        others = [int(i) for i in range(len(frames.images)) if i != source][:views]
        refined = [refine_pose(frames, head, head.shape(portrait.identity) + offset, motion, int(source), i) for i in others]
        refinements.extend(refined)
        drawn = avatar.render(state, portrait.motion)
        own = shrink(drawn, VIEW_PX) if side > VIEW_PX else drawn
        packed = np.zeros((len(others) + 1, 6, VIEW_PX, VIEW_PX), np.uint8)
        moved = np.zeros((len(others) + 1, 3, VIEW_PX, VIEW_PX), np.int8)
        all_frames = [portrait.motion, *(r.frame for r in refined)]
        for row, (index, frame) in enumerate(zip([int(source), *others], all_frames, strict=True)):
            depth, shift = expression_offsets(state, head, frame, VIEW_PX)
            matte = frames.head_alpha[index]
            layer = own
            if row:
                colours = foreground_colours(frames.images[index], frames.person_alpha[index], frames.background.astype(np.float32))
                layer = shrink(RenderedHead(colours / 255.0 * matte[..., None], matte, np.full(matte.shape, np.inf)), VIEW_PX)
                layer = replace(layer, depth=np.where(layer.alpha > 0.1, depth, np.inf).astype(np.float32))
            packed[row, :3] = _bytes(layer.rgb).transpose(2, 0, 1)
            packed[row, 3] = _bytes(layer.alpha)
            packed[row, 4] = depth_to_bytes(layer.depth, float(frame.translation[2]))
            packed[row, 5] = 255 * seen_by(layer, frame, own, portrait.motion, offset=shift if row else None)
            if row:
                moved[row] = offset_to_bytes(shift.transpose(2, 0, 1))
        photo = shrink(RenderedHead(state.photo[..., :3] * state.photo[..., 3:] / 255.0, state.photo[..., 3], drawn.depth), PHOTO_PX)
        rows.append(
            LiftedViews(
                name=f"{frames.name}_{source}",
                photo=np.concatenate([_bytes(photo.rgb).transpose(2, 0, 1), _bytes(photo.alpha)[None]]),
                views=packed,
                rotation_rad=np.stack([f.rotation_rad for f in all_frames]).astype(np.float32),
                translation=np.stack([f.translation for f in all_frames]).astype(np.float32),
                camera=np.stack([camera_from_pose(f.rotation_rad, f.translation).to_eg3d() for f in all_frames]),
                expression=np.stack([f.expression for f in all_frames]).astype(np.float32),
                gaze_rad=np.stack([f.gaze_rad for f in all_frames]).astype(np.float32),
                offset=moved,
            )
        )
    return rows, refinements


def _portrait(frames: PairFrames, index: int, identity: Array, offset: Array, motion: Motion) -> PreparedPortrait:
    side = frames.images.shape[1]
    landmarks = np.concatenate([frames.landmarks[index], np.zeros((ALL_POINTS, 1), np.float32)], 1)
    head_alpha = np.minimum(frames.head_alpha[index], frames.person_alpha[index])
    return PreparedPortrait(
        photo=frames.images[index],
        crop_box=(0.0, 0.0, float(side)),
        image=frames.images[index],
        person_alpha=frames.person_alpha[index],
        head_alpha=head_alpha,
        torso=np.zeros((side, side, 4), np.uint8),
        background=frames.background,
        landmarks=landmarks,
        identity=identity,
        vertex_offset=offset,
        motion=replace(motion[index], landmarks=frames.landmarks[index]),
    )


def refine_pose(frames: PairFrames, head: OpenHead, shape: Array, motion: Motion, source: int, target: int) -> Refinement:
    """The target's pose, moved by a few Gauss-Newton steps so that the source's skin lands on the target's.

    Args:
        frames: pictures.
        head: its topology.
        shape: [v, 3] the person's expressionless head.
        motion: of all frames, from landmarks.
        source, target: rows.
    """
    import cv2

    side = frames.images.shape[1]
    pictures = [
        cv2.GaussianBlur(cv2.cvtColor(frames.images[i], cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0, (0, 0), side / 190.0)
        for i in (source, target)
    ]
    then, now = (head.deform(shape, motion[i].expression, motion[i].gaze_rad) for i in (source, target))
    start = motion[target]
    own = (head.part == HeadPart.SKIN) & (head.neck < 0.02)
    own &= _visible(head, then, motion[source], side) & _visible(head, now, start, side)
    if own.sum() < 200:
        return Refinement(start, 0.0, 0.0)
    there, _ = project(pose_points(then, motion[source].rotation_rad, motion[source].translation)[own], side)
    brightness = _sample(pictures[0], there)
    slope = np.stack([cv2.Scharr(pictures[1], -1, 1, 0), cv2.Scharr(pictures[1], -1, 0, 1)], -1) / 32.0
    points = now[own].astype(np.float64)
    turn, move = matrix_from_euler(start.rotation_rad), start.translation.astype(np.float64)
    turn0, move0 = turn.copy(), move.copy()
    trust = np.array([_TRUST_RAD] * 3 + list(_TRUST_DM))
    scale = FOCAL_IN_WIDTHS * side
    before = np.inf
    best = (np.inf, turn, move)
    for step in range(_STEPS + 1):
        rotated = points @ turn.T
        posed = rotated + move
        pixels, depth = project(posed, side)
        value = _sample(pictures[1], pixels)
        gain, bias = np.polyfit(value, brightness, 1) if value.std() > 1e-3 else (1.0, 0.0)
        gain = float(np.clip(gain, 0.6, 1.6))
        bias = float(np.median(brightness - gain * value))
        wrong = gain * value + bias - brightness
        error = float(np.abs(wrong).mean())
        if step == 0:
            before = error
        if error < best[0]:
            best = (error, turn, move)
        if step == _STEPS:
            break
        weight = 1.0 / np.maximum(np.abs(wrong) / 0.03, 1.0)
        gradient = gain * _sample(slope, pixels)
        # d pixel / d posed point, chained with d posed / d (rotation vector, translation).
        by_point = np.stack(
            [
                gradient[:, 0] * scale / depth,
                -gradient[:, 1] * scale / depth,
                (gradient[:, 0] * posed[:, 0] - gradient[:, 1] * posed[:, 1]) * scale / depth**2,
            ],
            -1,
        )
        jacobian = np.concatenate([np.einsum("ni,nij->nj", by_point, -skew(rotated)), by_point], 1)
        # Brightness is trusted to 0.02 per independent patch; about one vertex in eight is independent.
        share = weight / (8.0 * 0.02**2)
        drift = np.concatenate([_vector(turn @ turn0.T), move - move0])
        normal = (jacobian * share[:, None]).T @ jacobian + np.diag(1.0 / trust**2)
        change = -np.linalg.solve(normal, (jacobian * share[:, None]).T @ wrong + drift / trust**2)
        turn = matrix_from_vector(change[:3]) @ turn
        move = move + change[3:]
    after, turn, move = best
    frame = replace(start, rotation_rad=euler_from_matrix(turn).astype(np.float32), translation=move.astype(np.float32), landmarks=None)
    return Refinement(frame, before, after)


def _vector(matrix: Array) -> Array:
    """Rotation vector of a small rotation."""
    return 0.5 * np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])


def _visible(head: OpenHead, vertices: Array, frame: MotionFrame, side: int) -> Array:
    """Which vertices [v] the picture shows: nothing of the skin lies in front of them."""
    from triportrait.geometry.rasteriser import rasterise

    posed = pose_points(vertices, frame.rotation_rad, frame.translation)
    pixels, depth = project(posed, side)
    skin = head.triangles[head.pncc_triangles]
    buffer = rasterise(pixels.astype(np.float32), depth.astype(np.float32), skin, side, side, cull="back").depth
    column, row = (np.clip(pixels[:, axis], 0, side - 1).astype(int) for axis in (0, 1))
    inside = ((pixels > 2) & (pixels < side - 2)).all(1)
    corner = posed[skin]
    facing = np.zeros(len(vertices))
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    for k in range(3):
        np.add.at(facing, skin[:, k], normal[:, 2] / 6.0)
    return inside & (depth < buffer[row, column] + 0.04) & (facing > 0.3)


def _sample(picture: Array, pixels: Array) -> Array:
    """Bilinear values of a picture [s, s, ...] at pixels [n, 2] (centres at +0.5)."""
    side = picture.shape[0]
    at = np.clip(pixels - 0.5, 0, side - 1.001)
    low = at.astype(int)
    part = (at - low).reshape(len(at), 2, *[1] * (picture.ndim - 2))
    x, y = low.T
    top = picture[y, x] * (1 - part[:, 0]) + picture[y, x + 1] * part[:, 0]
    bottom = picture[y + 1, x] * (1 - part[:, 0]) + picture[y + 1, x + 1] * part[:, 0]
    return top * (1 - part[:, 1]) + bottom * part[:, 1]


def _bytes(values: Array) -> Array:
    return np.clip(np.round(255.0 * values), 0, 255).astype(np.uint8)
