"""Posed views of lifted photographs: the teacher of `image_to_plane`, packed so that training needs numpy and torch only.

A photograph is lifted by the avatar of :mod:`triportrait.avatar.lifted.avatar` and drawn at other head poses. The head layer alone is
kept (colour premultiplied by its matte), with its depth, its exact camera, and a map of what the
photograph itself shows. Crops that reach beyond the photograph are padded: what lies outside has matte 0.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.errors import MediaError
from triportrait.files import atomic_file
from triportrait.geometry.cameras import camera_from_pose
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array, MotionFrame, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    from triportrait.avatar.lifted.avatar import LiftedAvatar
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker


PHOTO_PX = 256
VIEW_PX = 128
#: Depth is stored in 254 steps over this half range round the head's origin (decimetres); byte 0 means "nothing here".
DEPTH_RANGE_DM = 1.6
#: Expression offsets are stored within this many decimetres.
OFFSET_RANGE_DM = 0.6
#: Turns (pitch, yaw in degrees) of the views that are held out.
HELD_OUT_TURNS_DEG = ((0, -18), (0, -9), (0, 9), (0, 18), (-10, 0), (10, 0), (8, 14))
#: A teacher pixel counts as seen when the photograph's own surface lies this close (decimetres).
_SEEN_DM = 0.08
_MOVING = ("expression", "gaze_rad", "offset")
_INDEX = "index.json"
_FORMAT = "triportrait.lifted_views.1"


@dataclass(frozen=True, slots=True)
class LiftedViews:
    """One photograph and its views; the first view is the photograph's own pose.

    Args:
        name: where the photograph came from.
        photo: uint8 [4, 256, 256], head colours premultiplied by the head's matte, and the matte.
        views: uint8 [n, 6, 128, 128]: premultiplied red, green, blue, matte, depth (:func:`depth_from_bytes`), seen by the photograph.
        rotation_rad: [n, 3] float32 pitch, yaw, roll, and ``translation`` [n, 3] float32 decimetres.
        camera: [n, 25] float32, the same as EG3D's camera (spec 3.4).
        expression: [n, e] float32, curves of the open head, and ``gaze_rad`` [n, 2], where views differ in them; else None.
        offset: [n, 3, 128, 128] int8, from each visible point of the head to where the photograph's expression has it
            (:func:`offset_from_bytes`); None where all views share the photograph's expression.
    """

    name: str
    photo: Array
    views: Array
    rotation_rad: Array
    translation: Array
    camera: Array
    expression: Array | None = None
    gaze_rad: Array | None = None
    offset: Array | None = None


def offset_to_bytes(offset: Array) -> Array:
    """Decimetres [...] as int8 in steps of ``OFFSET_RANGE_DM`` / 127."""
    return np.clip(np.round(offset * (127 / OFFSET_RANGE_DM)), -127, 127).astype(np.int8)


def offset_from_bytes(code: Array) -> Array:
    """The inverse of :func:`offset_to_bytes`: float32 decimetres of head space."""
    return code.astype(np.float32) * np.float32(OFFSET_RANGE_DM / 127)


def depth_from_bytes(code: Array, translation_z: Array | float) -> Array:
    """Camera depth in decimetres, float32; NaN where nothing is. ``translation_z`` is that of the view's pose."""
    offset = (code.astype(np.float32) - 1.0) * (2 * DEPTH_RANGE_DM / 254) - DEPTH_RANGE_DM
    return np.where(code > 0, CAMERA_DISTANCE_DM - np.asarray(translation_z, np.float32) + offset, np.float32(np.nan))


def depth_to_bytes(depth: Array, translation_z: float) -> Array:
    """The inverse of :func:`depth_from_bytes`; everything that is not finite becomes 0."""
    offset = depth - (CAMERA_DISTANCE_DM - translation_z)
    code = np.round((np.clip(np.nan_to_num(offset), -DEPTH_RANGE_DM, DEPTH_RANGE_DM) + DEPTH_RANGE_DM) * (254 / (2 * DEPTH_RANGE_DM))) + 1
    return np.where(np.isfinite(depth), code, 0).astype(np.uint8)


def padded_portrait(photo: Array, tracker: FaceTracker, head: OpenHead, size_px: int = 512, name: str = "the photo") -> PreparedPortrait:
    """As :func:`triportrait.face.portrait.prepare_portrait`, but the crop keeps its 2.3 face sizes and its centre where the photo ends.

    Raises:
        NoFaceFound: no face, too small, or turned too far.
    """
    from triportrait.face.portrait import PortraitOptions, portrait_from_landmarks
    from triportrait.face.tracker import choose_face
    from triportrait.geometry.crops import cut

    options = PortraitOptions(size_px=size_px)
    face = choose_face(tracker.detect(photo), None, name)
    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
    extent = float((high - low).max())
    side = options.face_widths * extent
    left, top = 0.5 * (low + high) + (0.0, 0.02 * extent) - 0.5 * side
    scale = size_px / side
    height, width = photo.shape[:2]
    image = cut(photo, (float(left), float(top), float(side)), size_px)
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = (landmarks[:, :2] - (left, top)) * scale
    landmarks[:, 2] *= scale
    box = (float(left), float(top), float(side))
    portrait = portrait_from_landmarks(photo, box, image, landmarks, tracker, head, options)
    centre = (np.arange(size_px) + 0.5) / scale
    # One pixel is given away: the photo's outermost row is often a frame.
    columns = (centre + left > 1) & (centre + left < width - 1)
    rows = (centre + top > 1) & (centre + top < height - 1)
    inside = (rows[:, None] & columns).astype(np.float32)
    return replace(portrait, person_alpha=portrait.person_alpha * inside, head_alpha=portrait.head_alpha * inside)


def training_turns_deg(count: int, random: np.random.Generator) -> Array:
    """Random turns [count, 2] (pitch, yaw): yaw 3 to 22 degrees to either side, pitch within 12."""
    yaw = random.uniform(3.0, 22.0, count) * random.choice([-1.0, 1.0], count)
    return np.stack([random.uniform(-12.0, 12.0, count), yaw], 1)


def lifted_views(portrait: PreparedPortrait, avatar: LiftedAvatar, turns_deg: Sequence[Sequence[float]] | Array, name: str) -> LiftedViews:
    """The portrait at its own pose and turned by ``turns_deg`` [n, 2] (pitch, yaw) about the head's origin."""
    state = avatar.prepare(portrait)
    frames = [portrait.motion]
    for pitch, yaw in turns_deg:
        rotation = portrait.motion.rotation_rad + np.radians([pitch, yaw, 0.0]).astype(np.float32)
        frames.append(replace(portrait.motion, rotation_rad=rotation.astype(np.float32), landmarks=None))
    rendered = [avatar.render(state, frame) for frame in frames]
    small = [shrink(head, VIEW_PX) for head in rendered]
    own = small[0]
    views = np.empty((len(frames), 6, VIEW_PX, VIEW_PX), np.uint8)
    for row, (frame, view) in enumerate(zip(frames, small, strict=True)):
        views[row, :3] = _bytes(view.rgb).transpose(2, 0, 1)
        views[row, 3] = _bytes(view.alpha)
        views[row, 4] = depth_to_bytes(view.depth, float(frame.translation[2]))
        views[row, 5] = 255 * seen_by(view, frame, own, portrait.motion, portrait.focal)
    colours = state.photo[..., :3] * state.photo[..., 3:] / 255.0
    photo = shrink(RenderedHead(colours, state.photo[..., 3], rendered[0].depth), PHOTO_PX)
    pose = np.stack([frame.rotation_rad for frame in frames]), np.stack([frame.translation for frame in frames])
    cameras = [camera_from_pose(frame.rotation_rad, frame.translation, portrait.focal).to_eg3d() for frame in frames]
    return LiftedViews(
        name,
        np.concatenate([_bytes(photo.rgb).transpose(2, 0, 1), _bytes(photo.alpha)[None]]),
        views,
        pose[0].astype(np.float32),
        pose[1].astype(np.float32),
        np.stack(cameras),
    )


def shrink(head: RenderedHead, size_px: int) -> RenderedHead:
    """Area average to ``size_px``, a divisor of the side; depth is the mean of what is finite."""
    factor = head.alpha.shape[0] // size_px
    if factor * size_px != head.alpha.shape[0]:
        raise ValueError(f"{size_px} px does not divide the render's side of {head.alpha.shape[0]} px")
    blocks = (size_px, factor, size_px, factor)
    finite = np.isfinite(head.depth)
    count = finite.reshape(blocks).sum((1, 3))
    total = np.where(finite, head.depth, 0.0).reshape(blocks).sum((1, 3))
    depth = np.where(count > 0, total / np.maximum(count, 1), np.inf).astype(np.float32)
    return RenderedHead(head.rgb.reshape(*blocks, 3).mean((1, 3)), head.alpha.reshape(blocks).mean((1, 3)), depth)


def seen_by(
    view: RenderedHead,
    frame: MotionFrame,
    own: RenderedHead,
    photo: MotionFrame,
    focal: float = FOCAL_IN_WIDTHS,
    offset: Array | None = None,
) -> Array:
    """Which pixels of ``view`` show a surface that the photograph's ``own`` view shows too: bool [s, s].

    ``offset`` [s, s, 3] leads from the view's expression to the photograph's.
    """
    size = view.alpha.shape[0]
    there = np.isfinite(view.depth)
    depth = np.where(there, view.depth, CAMERA_DISTANCE_DM)
    line = (np.arange(size) + 0.5) / size - 0.5
    posed = np.stack([line * depth / focal, -line[:, None] * depth / focal, CAMERA_DISTANCE_DM - depth], -1)
    head = (posed - frame.translation) @ matrix_from_euler(frame.rotation_rad)
    if offset is not None:
        head = head + offset
    there_too = head @ matrix_from_euler(photo.rotation_rad).T + photo.translation
    own_depth = CAMERA_DISTANCE_DM - there_too[..., 2]
    x = (focal * there_too[..., 0] / own_depth + 0.5) * size
    y = (0.5 - focal * there_too[..., 1] / own_depth) * size
    column, row = (np.clip(v, 0, size - 1).astype(int) for v in (x, y))
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size) & (own.alpha[row, column] > 0.5)
    return there & inside & (np.abs(own.depth[row, column] - own_depth) < _SEEN_DM)


# -- shards -----------------------------------------------------------------------------------------------------------------


def write_shard(path: Path, rows: Sequence[LiftedViews]) -> int:
    """Write rows as one compressed .npz, whole or not at all; pictures are stored as differences, which packs them to a third.

    Returns:
        its size in bytes.

    Raises:
        OutputError: it cannot be written.
    """
    extra: dict[str, Any] = {} if rows[0].offset is None else {name: np.stack([getattr(row, name) for row in rows]) for name in _MOVING}
    if extra:
        extra["offset"] = _differences(extra["offset"].view(np.uint8))
    with atomic_file(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            **extra,
            names=np.array([row.name for row in rows]),
            photo=_differences(np.stack([row.photo for row in rows])),
            views=_differences(np.stack([row.views for row in rows])),
            rotation_rad=np.stack([row.rotation_rad for row in rows]),
            translation=np.stack([row.translation for row in rows]),
            camera=np.stack([row.camera for row in rows]),
        )
    return path.stat().st_size


def write_index(folder: Path, split: str, shards: Sequence[str], counts: Sequence[int], notes: dict[str, str]) -> None:
    """Name the shards of one split in ``folder/index.json``, beside those of other splits."""
    path = folder / _INDEX
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"format": _FORMAT, "splits": {}}
    index["splits"][split] = {"shards": list(shards), "counts": list(counts), "notes": notes}
    with atomic_file(path) as part:
        part.write_text(json.dumps(index, indent=1), encoding="utf-8")


def splits_of(folder: Path) -> tuple[str, ...]:
    """Names of the splits that ``folder`` holds; none when it has no index.

    Raises:
        MediaError: the index is damaged.
    """
    path = folder / _INDEX
    if not path.exists():
        return ()
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))["splits"])
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"'{path}' is not a readable index of views; pack them again") from error


def shards_of(folder: Path, split: str) -> tuple[tuple[str, int], ...]:
    """Names and numbers of rows of a split's shards; none when ``folder`` has no such split.

    Raises:
        MediaError: the index is damaged.
    """
    if split not in splits_of(folder):
        return ()
    try:
        own = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["splits"][split]
        return tuple(zip(own["shards"], own["counts"], strict=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"'{folder / _INDEX}' is not a readable index of views; pack them again") from error


def read_split(folder: Path, split: str, limit: int | None = None) -> Iterator[LiftedViews]:
    """Rows of one split in the order they were packed.

    Raises:
        MediaError: no such folder or split, or a damaged shard.
    """
    path = folder / _INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        shards = index["splits"][split]["shards"]
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"'{path}' does not name a split {split!r}; make views with 'triportrait data views -o VIEWS'") from error
    left = limit
    for shard in shards:
        try:
            with np.load(folder / shard, allow_pickle=False) as data:
                photo, views = _sums(data["photo"]), _sums(data["views"])
                rest = [data[name] for name in ("rotation_rad", "translation", "camera")]
                names = data["names"]
                extra = {name: data[name] for name in _MOVING if name in data}
                if "offset" in extra:
                    extra["offset"] = _sums(extra["offset"]).view(np.int8)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise MediaError(f"'{folder / shard}' is not a readable shard of lifted views; pack it again") from error
        for row, name in enumerate(names):
            if left is not None:
                if not left:
                    return
                left -= 1
            own = {key: array[row] for key, array in extra.items()}
            yield LiftedViews(str(name), photo[row], views[row], *(array[row] for array in rest), **own)


def _bytes(values: Array) -> Array:
    return np.clip(np.round(255.0 * values), 0, 255).astype(np.uint8)


def _differences(pictures: Array) -> Array:
    """Each row minus the row above, then each column minus the one to its left, modulo 256: [..., h, w] uint8."""
    across = np.diff(pictures, axis=-2, prepend=np.zeros_like(pictures[..., :1, :]))
    return np.diff(across, axis=-1, prepend=np.zeros_like(across[..., :1]))


def _sums(differences: Array) -> Array:
    """The inverse of :func:`_differences`."""
    return np.cumsum(np.cumsum(differences, axis=-1, dtype=np.uint8), axis=-2, dtype=np.uint8)
