"""Short clips of synthetic people for the stages after `image_to_plane`: source, driving expressions, neighbouring frames, exact labels.

Heads turn, speak, blink and look about; light and torso stay where they are, as in a video. Procedural heads and lifted portraits both
give :class:`triportrait.training.data.clips.TrainingClip`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triportrait.errors import EmptyMedia, OptionError, OutputError, TriPortraitError
from triportrait.files import make_folder, refuse_inputs
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.landmarks import LOWER_LIP_RIM
from triportrait.media.portrait_folders import portraits_of
from triportrait.synth import deferred
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_expression, random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.synth.procedural_views import motion_frame, random_pose
from triportrait.synth.real_pairs import PairFrames
from triportrait.training.data.clips import TrainingClip, write_clips
from triportrait.training.data.views import Packed, procedural_factory
from triportrait.training.options import PeopleOptions, Progress
from triportrait.types import ARKIT_EXPRESSIONS, FOCAL_IN_WIDTHS, FPS, Array, MotionFrame, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.avatar.lifted.avatar import LiftedAvatar


log = logging.getLogger(__name__)

#: Frames from one mouth shape to the next, and chance of a blink at each.
_SHAPE_FRAMES = (3, 8)
_BLINK = np.array([0.0, 0.55, 1.0, 1.0, 0.6, 0.25])


def random_performance(
    random: np.random.Generator, frames: int, source: HeadPose, turn_rad: tuple[float, float, float] = (0.10, 0.20, 0.05)
) -> list[HeadPose]:
    """``frames`` neighbouring poses at 25 per second: speech-like mouths, brows, blinks, gaze, and a head that sways round ``source``."""
    names = list(ARKIT_EXPRESSIONS)
    keys, times = [], [0]
    while times[-1] < frames:
        times.append(times[-1] + int(random.integers(*_SHAPE_FRAMES)))
    for _ in times:
        weights, gaze = random_expression(random, float(random.uniform(0.4, 1.0)), 0.0)
        keys.append((np.array([weights.get(name, 0.0) for name in names]), gaze))
    at = np.arange(frames)
    index = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    part = (at - np.array(times)[index]) / (np.array(times)[index + 1] - np.array(times)[index])
    part = smooth_step(part)[:, None]
    curves = np.stack([k[0] for k in keys])
    curves = curves[index] * (1 - part) + curves[index + 1] * part
    # Eyes jump, they do not glide.
    gaze = np.stack([k[1] for k in keys])[index // 2]
    blink = np.zeros(frames)
    start = int(random.integers(0, 40))
    while start < frames:
        length = min(len(_BLINK), frames - start)
        blink[start : start + length] = _BLINK[:length]
        start += int(random.integers(25, 100))
    for side in ("eyeBlinkLeft", "eyeBlinkRight"):
        curves[:, names.index(side)] = np.maximum(curves[:, names.index(side)] * 0.3, blink)
    for side in ("eyeWideLeft", "eyeWideRight"):
        curves[:, names.index(side)] *= 1 - blink
    seconds = at / FPS
    sway = np.zeros((frames, 3))
    shift = np.zeros((frames, 3))
    for _ in range(3):
        speed = random.uniform(0.15, 0.9)
        wave = np.sin(2 * np.pi * speed * seconds + random.uniform(0, 2 * np.pi))[:, None]
        sway += wave * random.normal(0.0, turn_rad) / np.sqrt(3.0)
        shift += wave * random.normal(0.0, (0.04, 0.02, 0.06)) / np.sqrt(3.0)
    return [
        HeadPose(
            {name: float(value) for name, value in zip(names, curves[i], strict=True) if value > 1e-4},
            gaze[i].astype(np.float32),
            source.rotation_rad + sway[i],
            source.translation + shift[i],
        )
        for i in range(frames)
    ]


def procedural_clip(head: ProceduralHead, source: HeadPose, poses: Sequence[HeadPose], size_px: int, key: str) -> TrainingClip:
    """The performance ``poses`` of a procedural head whose torso and light stand as at ``source``."""
    background = head.factory.scene(head.person, size_px)
    torso = (source.rotation_rad, source.translation)
    below = _lower_sheets(head)
    frames, alphas, torsos, landmarks, rows = [], [], [], [], []
    for pose in poses:
        moment = head.moment(pose, source, torso)
        samples = 3 if size_px <= 160 else 2
        picture = deferred.draw(head.sheets, moment, head.light.levels, head.exposure, FOCAL_IN_WIDTHS, size_px, samples)
        own = moment.strand_head < 0.5
        lower = moment._replace(
            head=1.0 - moment.head,
            strand_points=moment.strand_points[own],
            strand_light=moment.strand_light[own],
            strand_width=moment.strand_width[own],
            strand_head=1.0 - moment.strand_head[own],
            strand_offset=moment.strand_offset[own],
            strand_label=moment.strand_label[own],
        )
        body = deferred.draw(below, lower, head.light.levels, head.exposure, FOCAL_IN_WIDTHS, size_px, 2)
        frames.append(_bytes(picture.person_rgb + (1 - picture.person_alpha[..., None]) * background / 255.0))
        alphas.append(_bytes(picture.head_alpha))
        landmarks.append(project(head.pose_landmarks(pose), size_px)[0])
        torsos.append(_bytes(_filled(body, picture.head_alpha, landmarks[-1], FOCAL_IN_WIDTHS * size_px / (10.0 - pose.translation[2]))))
        rows.append(motion_frame(head, pose))
    return _clip(frames, alphas, torsos, background, head.identity, rows, landmarks, key)


def _filled(body: deferred.Picture, head_alpha: Array, landmarks: Array, px_per_dm: float) -> Array:
    """The torso as drawn, its neck closed where the head hides it: float32 [s, s, 4], colour and matte."""
    import cv2

    from triportrait.geometry.filling import push_pull

    # The inside of the collar, seen through where the neck's top should be, is no torso.
    alpha = body.person_alpha * (1.0 - (head_alpha > 0.5) * body.labels[deferred.CLOTHES])
    colour = body.person_rgb / np.maximum(body.person_alpha, 1e-3)[..., None]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(0.55 * px_per_dm)) + 1,) * 2)
    closed = cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, disc)
    rows = (np.arange(len(alpha)) > landmarks[LOWER_LIP_RIM, 1])[:, None]
    matte = np.maximum(alpha, closed * (head_alpha > 0.5) * rows)
    known = (alpha > 0.9).astype(np.float32)
    fill = push_pull(colour.astype(np.float32), known)
    keep = known[..., None]
    return np.dstack([keep * colour + (1 - keep) * fill, matte])


def _lower_sheets(head: ProceduralHead) -> deferred.Sheets:
    """Neck with its top under the chin, shoulders, clothes, and what of the hair hangs below the chin."""
    sheets = head.sheets
    own = head.head_share[sheets.triangles].mean(1) < 0.5
    middle = head.neutral[sheets.triangles].mean(1) - (0.0, head.low, head.chin_z)
    throat = (np.abs(middle[:, 0]) < 0.46) & (middle[:, 1] < 0.3) & (middle[:, 2] < -0.12)
    skin = sheets.material == deferred.SKIN
    own |= throat & skin & ~head.inside[sheets.triangles].any(1)
    # Nothing of the mouth: it lies above the chin, before the neck.
    own &= ~(skin & (middle[:, 1] > 0.0) & (np.abs(middle[:, 0]) < 0.45) & (middle[:, 2] > -0.9))
    return sheets._replace(
        triangles=sheets.triangles[own],
        uv=sheets.uv[own],
        material=sheets.material[own],
        label=sheets.label[own],
        texture=sheets.texture[own],
        bias=sheets.bias[own],
    )


def lifted_clip(portrait: PreparedPortrait, avatar: LiftedAvatar, poses: Sequence[HeadPose], key: str) -> TrainingClip:
    """The performance ``poses`` of a lifted photograph; its torso layer and background stay. Curves are the open head's own."""
    state = avatar.prepare(portrait)
    head = avatar.head
    side = portrait.image.shape[0]
    cloth, behind = portrait.torso.astype(np.float32) / 255.0, portrait.background.astype(np.float32) / 255.0
    under = cloth[..., :3] * cloth[..., 3:] + behind * (1 - cloth[..., 3:])
    frames, alphas, landmarks, rows = [], [], [], []
    for pose in poses:
        curves = np.array([pose.weights.get(name, 0.0) for name in ARKIT_EXPRESSIONS], np.float32)
        row = MotionFrame(
            curves,
            np.asarray(pose.rotation_rad, np.float32),
            np.asarray(pose.translation, np.float32),
            np.asarray(pose.gaze_rad, np.float32),
        )
        drawn = avatar.render(state, row)
        frames.append(_bytes(drawn.rgb + (1 - drawn.alpha[..., None]) * under))
        alphas.append(_bytes(drawn.alpha))
        marks = head.landmarks478(head.deform(state.shape, curves, row.gaze_rad))
        landmarks.append(project(pose_points(marks, row.rotation_rad, row.translation), side)[0])
        rows.append(row)
    torsos = [portrait.torso] * len(frames)
    return _clip(frames, alphas, torsos, portrait.background, portrait.identity, rows, landmarks, key)


def pair_frames(clip: TrainingClip) -> PairFrames:
    """A prepared clip of a real person, for :func:`triportrait.synth.real_pairs.pair_rows`."""
    head = clip.head_alpha.astype(np.float32) / 255.0
    body = clip.torso[..., 3].astype(np.float32) / 255.0
    return PairFrames(clip.key, clip.frames, head, np.maximum(head, body), clip.background, clip.landmarks)


def random_clip(factory: HeadFactory, seed: int, frames: int = 12, size_px: int = 256) -> TrainingClip:
    """Clip ``seed`` of an endless set of procedural people; the first frame is near neutral, as a photograph."""
    random = np.random.default_rng([20240612, seed])
    head = ProceduralHead(factory, random_person(random, factory.targets, len(factory.hdri)))
    source = random_pose(random)
    poses = random_performance(random, frames, source)
    poses[0] = HeadPose({"browInnerUp": 0.1}, np.zeros(2, np.float32), source.rotation_rad, source.translation)
    return procedural_clip(head, source, poses, size_px, f"procedural_{seed:06d}")


def pack_people(options: PeopleOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Write clips of procedural heads, of lifted portraits, or of both, one shard each.

    Args:
        options: see there.
        out: folder for the shards.
        progress: called after every clip.

    Raises:
        EmptyMedia: none of the portraits shows a usable face.
        MediaError: portraits or data bundle cannot be read.
        OptionError: neither is named.
        OutputError: the folder cannot be written.
    """
    if options.procedural is None and options.portraits is None:
        raise OptionError("there are no people to film; name --procedural, --portraits or both")
    refuse_inputs(out, [options.portraits, options.procedural])
    make_folder(out)
    made = 0
    kinds = {"procedural": (options.procedural, _procedural_clips), "lifted": (options.portraits, _lifted_clips)}
    asked = {name: (folder, make) for name, (folder, make) in kinds.items() if folder is not None}
    for name, (folder, make) in asked.items():
        counted = _counted(make(folder, options), name, options.clips, progress)
        try:
            made += write_clips(out / f"{name}_{options.skip:06d}.tar", counted)
        except OSError as error:
            raise OutputError(f"'{out}' cannot be written: {error.strerror or error}; free some space") from None
    if not made:
        raise EmptyMedia("no clip was made: none of the portraits shows a usable face; give other photographs")
    return Packed(made, len(asked) * options.clips - made)


def _counted(clips: Iterator[TrainingClip], what: str, total: int, progress: Progress | None) -> Iterator[TrainingClip]:
    for done, clip in enumerate(clips, 1):
        yield clip
        if progress is not None:
            progress(what, done, total)


def _procedural_clips(folder: Path, options: PeopleOptions) -> Iterator[TrainingClip]:
    factory = procedural_factory(folder)
    for number in range(options.skip, options.skip + options.clips):
        yield random_clip(factory, number, options.frames, options.size)


def _lifted_clips(folder: Path, options: PeopleOptions) -> Iterator[TrainingClip]:
    """Clips of lifted training portraits; one without a usable face is reported and left out."""
    from triportrait.avatar.lifted.avatar import LiftedAvatar
    from triportrait.drivers import default_head, default_tracker
    from triportrait.face.portrait import PortraitOptions, prepare_portrait
    from triportrait.media.images import read_image

    files = portraits_of(folder, "train")
    order = np.random.default_rng(0).permutation(len(files))[options.skip : options.skip + options.clips]
    tracker, head = default_tracker(), default_head()
    avatar = LiftedAvatar(head)
    for number in order:
        random = np.random.default_rng([20240613, int(number)])
        name = str(files[number].relative_to(folder))
        try:
            portrait = prepare_portrait(read_image(files[number]), tracker, head, PortraitOptions(size_px=options.size), name)
        except TriPortraitError as error:
            log.warning("left out: %s", error)
            continue
        source = HeadPose({}, portrait.motion.gaze_rad, portrait.motion.rotation_rad, portrait.motion.translation)
        poses = random_performance(random, options.frames, source, (0.07, 0.13, 0.04))
        own = {name: float(v) for name, v in zip(head.expression_names, portrait.motion.expression, strict=True) if v > 1e-4}
        poses[0] = HeadPose(own, portrait.motion.gaze_rad, portrait.motion.rotation_rad, portrait.motion.translation)
        yield lifted_clip(portrait, avatar, poses, f"lifted_{number:06d}")


def _clip(
    frames: list, alphas: list, torsos: list, background: Array, identity: Array, rows: list[MotionFrame], landmarks: list, key: str
) -> TrainingClip:
    return TrainingClip(
        frames=np.stack(frames),
        head_alpha=np.stack(alphas),
        torso=np.stack(torsos),
        background=background,
        identity=np.asarray(identity, np.float32),
        expression=np.stack([r.expression for r in rows]),
        rotation_rad=np.stack([r.rotation_rad for r in rows]),
        translation=np.stack([r.translation for r in rows]),
        gaze_rad=np.stack([r.gaze_rad for r in rows]),
        landmarks=np.stack(landmarks).astype(np.float32),
        fps=FPS,
        head_model="open",
        key=key,
    )


def _bytes(values: Array) -> Array:
    return np.clip(np.round(255.0 * values), 0, 255).astype(np.uint8)
