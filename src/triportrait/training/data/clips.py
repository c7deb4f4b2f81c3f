"""What every training stage after `image_to_plane` learns from: short clips of one tracked person, and the shards that hold them.

A shard is a tar file in WebDataset's layout: all members of a clip share the name up to the first dot. ::

    KEY.meta.json               fps, head_model, size
    KEY.identity.npy            and expression, rotation_rad, translation, gaze_rad, landmarks, [speech, pitch_hz]
    KEY.frame.00000.jpg         one picture per frame (.jpg, or .png without loss); KEY.background.jpg
    KEY.head_alpha.00000.png    KEY.torso.00000.jpg + KEY.torso_alpha.00000.png

Pictures are members of their own so that a training step decodes only the frames that it looks at. Readers need numpy, Pillow and the
standard library; ``webdataset`` reads the same files. Clips may also lie in ``.npz`` files, one each: :meth:`TrainingClip.to_arrays`.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import EmptyMedia, MediaError
from triportrait.files import atomic_file
from triportrait.types import Array, expect

#: JPEG quality of pictures in shards.
QUALITY = 95
_KEY = re.compile(r"[A-Za-z0-9_\-]+")
#: Arrays of a clip that have a row per frame.
_PER_FRAME = ("frames", "head_alpha", "torso", "expression", "rotation_rad", "translation", "gaze_rad", "landmarks")
_NUMBERS = ("identity", "expression", "rotation_rad", "translation", "gaze_rad", "landmarks", "speech", "pitch_hz")


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """t neighbouring frames of one person in one square crop of side s.

    Args:
        frames: uint8 [t, s, s, 3], head, torso and scene.
        head_alpha: uint8 [t, s, s], 255 where head, hair and ears are.
        torso: uint8 [t, s, s, 4], neck and shoulders with what the head hides painted in; alpha in the 4th channel.
        background: uint8 [s, s, 3], the scene with the person painted out.
        identity: float32 [i], coefficients of the head model.
        expression: float32 [t, e].
        rotation_rad, translation: float32 [t, 3], as :class:`triportrait.types.Motion`: pitch, yaw, roll; decimetres.
        gaze_rad: float32 [t, 2] pitch, yaw of both eyes, as :class:`triportrait.types.Motion`.
        landmarks: float32 [t, 478, 2] pixels of the crop.
        fps: frames per second.
        head_model: whose coefficients: a name of ``real3d.head_models.HEAD_MODELS``.
        key: unique name; letters, digits, ``_`` and ``-``.
        speech: float16 [t * k, f], k feature rows per frame, or None for a clip without sound.
        pitch_hz: float32 [t * k], 0 where unvoiced, or None.
    """

    frames: Array
    head_alpha: Array
    torso: Array
    background: Array
    identity: Array
    expression: Array
    rotation_rad: Array
    translation: Array
    gaze_rad: Array
    landmarks: Array
    fps: float
    head_model: str
    key: str
    speech: Array | None = None
    pitch_hz: Array | None = None

    def __post_init__(self) -> None:
        sizes = expect(self.frames, "t s s 3", "frames")
        t, s = sizes["t"], sizes["s"]
        for name, shape in (
            ("head_alpha", f"{t} {s} {s}"),
            ("torso", f"{t} {s} {s} 4"),
            ("background", f"{s} {s} 3"),
            ("identity", "i"),
            ("expression", f"{t} e"),
            ("rotation_rad", f"{t} 3"),
            ("translation", f"{t} 3"),
            ("gaze_rad", f"{t} 2"),
            ("landmarks", f"{t} 478 2"),
        ):
            expect(getattr(self, name), shape, name)
        for name in ("frames", "head_alpha", "torso", "background"):
            if getattr(self, name).dtype != np.uint8:
                raise ValueError(f"{name} is {getattr(self, name).dtype}, expected uint8")
        if self.speech is not None and (self.speech.ndim != 2 or not len(self.speech) or len(self.speech) % t):
            raise ValueError(f"speech has shape {self.speech.shape}, expected (t * k, f) with t = {t} frames")
        if self.pitch_hz is not None and (self.speech is None or self.pitch_hz.shape != self.speech.shape[:1]):
            raise ValueError(f"pitch_hz has shape {self.pitch_hz.shape}, expected a row for each of speech")
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"key is {self.key!r}, expected letters, digits, _ and - only")
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}, expected a positive number")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size_px(self) -> int:
        """Side of the crop."""
        return self.frames.shape[1]

    @property
    def speech_rows_per_frame(self) -> int:
        """k; 0 without sound."""
        return 0 if self.speech is None else len(self.speech) // len(self)

    def take(self, rows: Sequence[int] | Array) -> TrainingClip:
        """The clip's frames ``rows``, with their sound, in this order."""
        rows = np.asarray(rows, np.int64)
        changes: dict[str, Any] = {name: getattr(self, name)[rows] for name in _PER_FRAME}
        if self.speech is not None:
            k = self.speech_rows_per_frame
            sound = (rows[:, None] * k + np.arange(k)).reshape(-1)
            changes["speech"] = self.speech[sound]
            changes["pitch_hz"] = None if self.pitch_hz is None else self.pitch_hz[sound]
        return TrainingClip(**{field.name: changes.get(field.name, getattr(self, field.name)) for field in fields(self)})

    def to_arrays(self) -> dict[str, Any]:
        """The fields as a plain dictionary; None is left out."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> TrainingClip:
        """The inverse of :meth:`to_arrays`; also takes what ``np.load`` gives. Dtypes are brought to the documented ones.

        Raises:
            MediaError: a field is missing or has a shape that does not fit.
        """
        dtypes: dict[str, type[np.generic]] = {name: np.uint8 for name in ("frames", "head_alpha", "torso", "background")}
        dtypes |= {name: np.float32 for name in _NUMBERS} | {"speech": np.float16}
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in arrays:
                value = arrays[field.name]
                if field.name in dtypes:
                    # Nothing becomes a picture by rounding: pictures must be bytes already.
                    value = np.asarray(value) if dtypes[field.name] is np.uint8 else np.asarray(value, dtypes[field.name])
                else:
                    value = float(value) if field.name == "fps" else str(value)
                values[field.name] = value
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise MediaError(f"clip {values.get('key', '?')!r} is no training clip: {error}; prepare it again.") from None


# -- members of a shard -----------------------------------------------------------------------------------------------------


def encode_clip(clip: TrainingClip, quality: int | None = QUALITY) -> dict[str, bytes]:
    """Members of the clip in a shard, name after ``KEY.`` -> bytes; the same clip always gives the same bytes.

    Args:
        clip: to be stored.
        quality: of the JPEG pictures; None stores them without loss as PNG.
    """
    from triportrait.media.images import picture_to_bytes

    ending = "png" if quality is None else "jpg"
    meta = {"format": "triportrait.clip.1", "fps": clip.fps, "head_model": clip.head_model, "frames": len(clip), "size_px": clip.size_px}
    members = {"meta.json": json.dumps(meta, sort_keys=True).encode()}
    for name in _NUMBERS:
        if (array := getattr(clip, name)) is not None:
            stream = io.BytesIO()
            np.save(stream, array.astype(np.float16 if name == "speech" else np.float32, copy=False))
            members[f"{name}.npy"] = stream.getvalue()
    members[f"background.{ending}"] = picture_to_bytes(clip.background, quality)
    for row in range(len(clip)):
        members[f"frame.{row:05d}.{ending}"] = picture_to_bytes(clip.frames[row], quality)
        members[f"head_alpha.{row:05d}.png"] = picture_to_bytes(clip.head_alpha[row])
        members[f"torso.{row:05d}.{ending}"] = picture_to_bytes(np.ascontiguousarray(clip.torso[row, ..., :3]), quality)
        members[f"torso_alpha.{row:05d}.png"] = picture_to_bytes(np.ascontiguousarray(clip.torso[row, ..., 3]))
    return members


def decode_clip(key: str, read: Callable[[str], bytes], names: Iterable[str], rows: Sequence[int] | Array | None = None) -> TrainingClip:
    """A clip of its members.

    Args:
        key: of the clip.
        read: gives a member's bytes by its name after ``KEY.``.
        names: of the members that exist.
        rows: frames that are wanted; None takes all.

    Raises:
        MediaError: a member is missing or damaged.
    """
    from triportrait.media.images import picture_from_bytes

    names = set(names)
    ending = "jpg" if "background.jpg" in names else "png"

    def picture(name: str) -> Array:
        return picture_from_bytes(read(name), f"'{key}.{name}'")

    try:
        meta = json.loads(read("meta.json"))
        numbers = {name: np.load(io.BytesIO(read(f"{name}.npy")), allow_pickle=False) for name in _NUMBERS if f"{name}.npy" in names}
        total = int(meta["frames"])
        chosen = np.arange(total) if rows is None else np.asarray(rows, np.int64) % total
        sound = {}
        if "speech" in numbers:
            k = len(numbers["speech"]) // total
            at = (chosen[:, None] * k + np.arange(k)).reshape(-1)
            sound = {name: numbers.pop(name)[at] for name in ("speech", "pitch_hz") if name in numbers}
        torso = [np.dstack([picture(f"torso.{row:05d}.{ending}"), picture(f"torso_alpha.{row:05d}.png")]) for row in chosen]
        return TrainingClip.from_arrays(
            {name: array if name == "identity" else array[chosen] for name, array in numbers.items()}
            | sound
            | {
                "frames": np.stack([picture(f"frame.{row:05d}.{ending}") for row in chosen]),
                "head_alpha": np.stack([picture(f"head_alpha.{row:05d}.png") for row in chosen]),
                "torso": np.stack(torso),
                "background": picture(f"background.{ending}"),
                "fps": meta["fps"],
                "head_model": meta["head_model"],
                "key": key,
            }
        )
    except MediaError:
        raise
    except (KeyError, ValueError, IndexError, EOFError, OSError) as error:
        raise MediaError(f"clip {key!r} in its shard is incomplete or damaged ({error}); prepare it again.") from None


def write_clips(path: Path, clips: Iterable[TrainingClip], quality: int | None = QUALITY) -> int:
    """Write a shard, whole or not at all; the same clips always give the same file. Returns how many there were.

    Raises:
        OutputError: it cannot be written.
    """
    count = 0
    with atomic_file(path) as part, tarfile.open(part, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in clips:
            count += 1
            for name, data in encode_clip(clip, quality).items():
                entry = tarfile.TarInfo(f"{clip.key}.{name}")
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
    return count


# -- reading ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a clip lies: its file, and (offset, size) of every member of a shard; no members in an ``.npz`` file."""

    path: Path
    key: str
    members: dict[str, tuple[int, int]]


class ClipSet(Sequence[TrainingClip]):
    """All clips of some shards and ``.npz`` files, to be read in any order: a step can look up what it needs by number alone.

    Only the tables of contents are held. Clips are sorted by key, so that the order does not depend on how they were sharded.

    Args:
        paths: tar shards, ``.npz`` clips, or folders of either (``split`` then chooses names that begin with it).
        split: ``"train"`` or ``"val"``; files of a folder without such a prefix belong to ``"train"``.

    Raises:
        EmptyMedia: there is no clip at all.
        MediaError: a shard cannot be read, or two clips have the same key.
    """

    def __init__(self, paths: Iterable[Path | str], split: str | None = None) -> None:
        files = clip_files(paths, split)
        places = [place for file in files for place in _contents(file)]
        self._places = sorted(places, key=lambda place: place.key)
        for first, second in zip(self._places, self._places[1:], strict=False):
            if first.key == second.key:
                raise MediaError(f"clip {first.key!r} lies in '{first.path}' and in '{second.path}'; keys must be unique.")
        if not self._places:
            where = ", ".join(f"'{path}'" for path in paths)
            named = f" of the split {split!r}" if split else ""
            raise EmptyMedia(f"there is no training clip{named} in {where}; make some with 'triportrait data prepare VIDEOS -o SHARDS'")

    def only(self, indices: Iterable[int]) -> ClipSet:
        """Some of the clips."""
        chosen = object.__new__(ClipSet)
        chosen._places = [self._places[index] for index in indices]
        return chosen

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> TrainingClip:  # type: ignore[override]
        return self.read(index)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the clips, sorted."""
        return tuple(place.key for place in self._places)

    def frames_of(self, index: int) -> int:
        """Number of frames of a clip, without decoding any."""
        place = self._places[index]
        if not place.members:
            return len(self.read(index))
        return sum(name.startswith("frame.") for name in place.members)

    @property
    def head_model(self) -> str:
        """The head model that all clips are fitted with; only their descriptions are read.

        Raises:
            MediaError: there are several.
        """
        first = self._head_model_of(self._places[0])
        for place in self._places[1:]:
            if (other := self._head_model_of(place)) != first:
                raise MediaError(
                    f"clip {self._places[0].key!r} is fitted with the head model {first} and clip {place.key!r} with {other}; "
                    "train from clips of one 'data prepare --head'"
                )
        return first

    @staticmethod
    def _head_model_of(place: _Place) -> str:
        if not place.members:
            return _read_npz(place.path).head_model
        offset, size = place.members["meta.json"]
        with place.path.open("rb") as file:
            file.seek(offset)
            return str(json.loads(file.read(size))["head_model"])

    def numbers(self, index: int) -> dict[str, Any]:
        """Everything of a clip that is no picture, as in :meth:`TrainingClip.to_arrays`; no picture is decoded."""
        place = self._places[index]
        if not place.members:
            arrays = _read_npz(place.path).to_arrays()
            return {name: array for name, array in arrays.items() if name not in ("frames", "head_alpha", "torso", "background")}
        with place.path.open("rb") as file:
            found: dict[str, Any] = {"key": place.key}
            for name in ("meta.json", *(f"{name}.npy" for name in _NUMBERS)):
                if name in place.members:
                    offset, size = place.members[name]
                    file.seek(offset)
                    data = file.read(size)
                    if name == "meta.json":
                        meta = json.loads(data)
                        found |= {"fps": float(meta["fps"]), "head_model": str(meta["head_model"])}
                    else:
                        found[name.removesuffix(".npy")] = np.load(io.BytesIO(data), allow_pickle=False)
            return found

    def read(self, index: int, rows: Sequence[int] | Array | None = None) -> TrainingClip:
        """Clip ``index``, all of it or the frames ``rows``: only these are decoded."""
        place = self._places[index]
        if not place.members:
            clip = _read_npz(place.path)
            return clip if rows is None else clip.take(rows)
        with place.path.open("rb") as file:

            def read(name: str) -> bytes:
                offset, size = place.members[name]
                file.seek(offset)
                data = file.read(size)
                if len(data) != size:
                    raise EOFError(f"'{place.path}' ends early")
                return data

            return decode_clip(place.key, read, place.members, rows)


def clip_files(paths: Iterable[Path | str], split: str | None = None) -> list[Path]:
    """Shards and ``.npz`` clips among ``paths`` and in the folders among them, sorted."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix in (".tar", ".npz") and file.is_file())
            found += [file for file in inside if split is None or _split_of(file) == split]
        elif path.is_file():
            found.append(path)
        else:
            raise MediaError(f"'{path}' does not exist; name a folder of shards or a shard.")
    return found


#: Without files of their own, one clip in so many is held out.
_HELD_OUT_EVERY = 100


def split_clips(paths: Iterable[Path | str]) -> tuple[ClipSet, ClipSet | None]:
    """Clips to learn from and clips to be judged by: files named ``val...``, else every hundredth clip, at least one of two."""
    paths = list(paths)
    train, val = clip_files(paths, "train"), clip_files(paths, "val")
    named = [file for file in val if file not in train]
    if named:
        return ClipSet(train), ClipSet(named)
    clips = ClipSet(paths)
    if len(clips) < 2:
        return clips, None
    held_out = set(range(len(clips) - 1, -1, -_HELD_OUT_EVERY))
    return clips.only(i for i in range(len(clips)) if i not in held_out), clips.only(sorted(held_out))


def _split_of(file: Path) -> str:
    return "val" if file.name.startswith(("val", "test")) else "train"


def _contents(file: Path) -> Iterator[_Place]:
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as data:
                if "frames" in data and "key" in data:
                    yield _Place(file, str(data["key"]), {})
        except (ValueError, OSError) as error:
            raise MediaError(f"'{file}' is no clip ({error}); prepare it again.") from None
        return
    members: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for entry in tar:
                key, _, name = entry.name.partition(".")
                if entry.isfile() and name:
                    members.setdefault(key, {})[name] = (entry.offset_data, entry.size)
    except (tarfile.TarError, OSError) as error:
        raise MediaError(f"'{file}' is no shard that can be read ({error}); prepare it again.") from None
    for key, names in members.items():
        if "meta.json" in names:
            yield _Place(file, key, names)


def _read_npz(path: Path) -> TrainingClip:
    try:
        with np.load(path, allow_pickle=False) as data:
            return TrainingClip.from_arrays({name: data[name] for name in data.files})
    except (ValueError, OSError) as error:
        raise MediaError(f"'{path}' is no clip ({error}); prepare it again.") from None
