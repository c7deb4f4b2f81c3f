"""What was tracked before, kept in a folder of the user's: a driving clip is looked at once for any number of runs.

An entry's key holds the clip's bytes, the portrait and the source of every module that tracks, fits or reads pictures,
so that a changed tracker never meets old results.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.motion.head_motion import FirstPoses
from triportrait.types import Array, FaceTrack, Motion, PreparedPortrait

log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[1]
#: What the tracked numbers depend on.
_SOURCES = (
    "avatar/lifted",
    "face",
    "geometry",
    "media",
    "motion/smoothing.py",
    "motion/shots.py",
    "drivers.py",
    "reenactment.py",
    "shot_motion.py",
    "pipeline.py",
    "real3d/clip_motion.py",
    "evaluation/parts.py",
    "types.py",
)


@lru_cache(maxsize=1)
def _code() -> bytes:
    """A digest of the modules in :data:`_SOURCES`, their data, and the versions of what runs the tracker."""
    from importlib.metadata import PackageNotFoundError, version

    digest = hashlib.sha256()
    for name in ("onnxruntime", "opencv-python-headless", "av", "numpy"):
        try:
            digest.update(f"{name}{version(name)}".encode())
        except PackageNotFoundError:
            digest.update(name.encode())
    for source in _SOURCES:
        path = _ROOT / source
        files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts) if path.is_dir() else [path]
        for file in files:
            digest.update(file.relative_to(_ROOT).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.digest()


@dataclass(frozen=True, slots=True)
class TrackCache:
    """Entries are ``.npz`` files in ``folder``; with None nothing is kept and everything is computed."""

    folder: Path | None = None

    def motion(self, clip: Path, portrait: PreparedPortrait | None, compute: Callable[[], Motion]) -> Motion:
        """The motion measured on a clip, for a portrait or in the clip's own frame."""

        def arrays() -> dict[str, Array]:
            found = compute()
            rows = {name: getattr(found, name) for name in found.row_fields}
            rows |= {"fps": np.array(found.fps), "names": np.array(found.expression_names), "model": np.array(found.head_model)}
            rows |= {name: getattr(found, name) for name in ("identity", "landmarks") if getattr(found, name) is not None}
            return rows

        if self.folder is None:
            return compute()
        kept = _arrays(self.folder, "motion", (clip, portrait), arrays)
        return Motion(
            kept["expression"],
            kept["rotation_rad"],
            kept["translation"],
            kept["gaze_rad"],
            float(kept["fps"]),
            tuple(str(name) for name in kept["names"]),
            str(kept["model"]),
            kept.get("identity"),
            kept.get("landmarks"),
            kept.get("body"),
            kept.get("warp"),
        )

    def track(
        self, what: str, clip: Path, portrait: PreparedPortrait, frames: Iterable[Array], compute: Callable[[Iterable[Array]], FaceTrack]
    ) -> FaceTrack:
        """Landmarks of a clip's ``frames`` (``what`` says which); the frames are read through either way."""
        if self.folder is None:
            return compute(frames)

        def arrays() -> dict[str, Array]:
            found = compute(frames)
            return {"landmarks": found.landmarks, "found": found.found, "size": np.array(found.size), "fps": np.array(found.fps)}

        kept = _arrays(self.folder, what, (clip, portrait), arrays)
        for _ in frames:
            pass
        return FaceTrack(kept["landmarks"], kept["found"], (int(kept["size"][0]), int(kept["size"][1])), float(kept["fps"]))

    def first_poses(
        self, library: Path, clips: Sequence[Path], measure: Callable[[Path], Array | None], progress: Callable[[str, int, int], None]
    ) -> FirstPoses:
        """The first poses of the ``clips`` of a folder; each folder has an index of its own here."""
        index = None
        if self.folder is not None:
            index = self.folder / f"first_poses_{hashlib.sha256(str(library.resolve()).encode()).hexdigest()[:16]}.json"
        return FirstPoses.of(clips, measure, index, _code().hex(), progress)


def _arrays(folder: Path, what: str, sources: tuple[Any, ...], compute: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    from triportrait.files import atomic_file, make_folder

    digest = hashlib.sha256(what.encode() + _code())
    for source in sources:
        for piece in _pieces(source):
            digest.update(hashlib.sha256(piece).digest())
    path = folder / f"{digest.hexdigest()[:40]}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as entry:
                return dict(entry)
        except (OSError, ValueError, KeyError, EOFError) as error:
            log.warning("the cache entry %s is damaged and is made anew: %s", path, error)
    values = compute()
    make_folder(folder)
    with atomic_file(path) as part, part.open("wb") as file:
        arrays: dict[str, Any] = dict(values)
        np.savez(file, **arrays)
    return values


def _pieces(source: Path | PreparedPortrait | None) -> Iterable[bytes]:
    if source is None:
        return (b"",)
    if isinstance(source, Path):
        return (source.read_bytes(),)
    numbers = (source.image, source.landmarks, source.identity, source.vertex_offset, np.array(source.crop_box), np.array(source.focal))
    return tuple(np.ascontiguousarray(values).tobytes() for values in numbers)
