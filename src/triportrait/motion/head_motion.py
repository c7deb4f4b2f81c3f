"""Whose head motion a voice borrows: Real3D-Portrait, appendix D.1, point (3).

A voice says nothing about how a head moves, so a clip lends its motion. Of a folder of clips the ten are looked up whose first frame shows
the head turned most like the photo, and chance takes one of them. The poses of the first frames are an index that is measured once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import MediaError, OptionError, OutputError
from triportrait.geometry.rotations import angle_between
from triportrait.motion.files import READ_ENDINGS
from triportrait.types import Array

log = logging.getLogger(__name__)

#: D.1: "we query 10 videos ... that has nearest distance between its first frame's head pose and the source image".
CANDIDATES = 10
#: The way in which animation measures them: with the open head, smoothed over one frame.
_MEASURE = "open head 1"
_VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
FORMAT = "triportrait-first-poses-1"
#: After so many newly measured clips the index is written, so that an interrupted run of a large folder loses little.
_SAVE_EVERY = 50


@dataclass(frozen=True, slots=True)
class FirstPoses:
    """The head's pose in the first frame of each clip of a folder.

    Args:
        paths: the clips whose first frame shows a face.
        rotation_rad: [n, 3] pitch, yaw, roll in radians, one row per path.
    """

    paths: tuple[Path, ...]
    rotation_rad: Array

    @classmethod
    def of(
        cls,
        clips: Sequence[Path],
        measure: Callable[[Path], Array | None],
        index: Path | None = None,
        key: str = "",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> FirstPoses:
        """Measure the clips, or read what the index knows of them.

        A clip counts as known while its name, size and time of change stay the same: a folder of thousands is not read to its last byte.

        Args:
            clips: videos or motion files.
            measure: a clip to the rotation [3] in its first frame in radians, or None where that shows no face.
            index: JSON file that keeps the poses; None keeps nothing. A damaged one is made anew.
            key: names the code that measures; an index of another key is made anew.
            progress: called after each clip with "poses", how many are done and how many there are.

        Raises:
            OptionError: no clip's first frame shows a face.
            OutputError: the index cannot be written.
            MediaError, MotionFileError: a clip cannot be read.
        """
        known = {} if index is None else _read_index(index, key)
        kept: dict[str, dict[str, Any]] = {}
        measured = 0
        for done, clip in enumerate(clips, 1):
            try:
                status = clip.stat()
            except OSError as error:
                raise MediaError(f"'{clip}' cannot be read ({error.strerror}); take it out of the folder") from None
            entry = known.get(clip.name)
            if entry is None or (entry["bytes"], entry["modified_ns"]) != (status.st_size, status.st_mtime_ns):
                pose = measure(clip)
                rotation = None if pose is None else [float(angle) for angle in pose]
                entry = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "rotation_rad": rotation}
                measured += 1
                kept[clip.name] = entry
                if index is not None and measured % _SAVE_EVERY == 0:
                    _write_index(index, key, {**known, **kept})
            kept[clip.name] = entry
            if progress is not None:
                progress("poses", done, len(clips))
        if index is not None and (measured or kept.keys() != known.keys()):
            _write_index(index, key, kept)
        seen = [clip for clip in clips if kept[clip.name]["rotation_rad"] is not None]
        if not seen:
            raise OptionError("no clip of the folder of head motion shows a face in its first frame; add clips that begin with a face")
        if len(seen) < len(clips):
            log.warning(
                "%d of %d clips of head motion show no face in their first frame and are left out", len(clips) - len(seen), len(clips)
            )
        return cls(tuple(seen), np.array([kept[clip.name]["rotation_rad"] for clip in seen], np.float64))

    @classmethod
    def kept(
        cls,
        clips: Sequence[Path],
        measure: Callable[[Path], Array | None],
        folder: Path,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> FirstPoses:
        """As :meth:`of`, with the index that belongs to the clips' folder; where that cannot be written, nothing is kept."""
        try:
            return cls.of(clips, measure, index_of(folder), _MEASURE, progress)
        except OutputError as error:
            log.info("the first poses of %s are not kept: %s", folder, error)
            return cls.of(clips, measure, None, _MEASURE, progress)

    def nearest(self, rotation_rad: Array, count: int = CANDIDATES) -> list[Path]:
        """The ``count`` clips whose first pose is nearest to ``rotation_rad`` [3] by the angle between them, the nearest first."""
        order = np.argsort(angle_between(self.rotation_rad, rotation_rad), kind="stable")
        return [self.paths[i] for i in order[:count]]

    def drawn(self, rotation_rad: Array, seed: int | Sequence[int] = 0) -> Path:
        """The clip that lends its head motion to a photo whose head is turned by ``rotation_rad`` [3]: one of the nearest, by chance.

        Args:
            rotation_rad: pitch, yaw, roll in radians.
            seed: of the draw; several numbers make one, such as a run's seed and the number of the photo.
        """
        candidates = self.nearest(rotation_rad)
        return candidates[int(np.random.default_rng(seed).integers(len(candidates)))]


def pose_library(option: str, folder: str) -> list[Path]:
    """The videos and motion files in a folder that an option names, by name.

    Raises:
        OptionError: it cannot be read, or holds none.
    """
    try:
        library = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (*READ_ENDINGS, *_VIDEO_ENDINGS))
    except OSError as error:
        raise OptionError(f"{option}: the folder {folder!r} cannot be read ({error.strerror}); change its rights") from None
    if not library:
        raise OptionError(f"{option}: the folder {folder!r} holds no video and no motion file; add some, or name one")
    return library


def index_of(folder: Path) -> Path:
    """Where the first poses of a folder's clips are kept: in ``$TRIPORTRAIT_HOME``, else in XDG's cache folder. It need not exist."""
    home = os.environ.get("TRIPORTRAIT_HOME")
    place = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triportrait"
    return place / "head_motion" / f"{sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"


def _read_index(index: Path, key: str) -> dict[str, dict[str, Any]]:
    """Entries by clip name; empty where there is no index, another key's, or a damaged one."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        if (content["format"], content["key"]) != (FORMAT, key):
            return {}
        for entry in content["clips"].values():
            rotation = entry["rotation_rad"]
            if rotation is not None and not (len(rotation) == 3 and np.isfinite(np.array(rotation, np.float64)).all()):
                raise ValueError(f"not a rotation: {rotation}")
            _ = entry["bytes"], entry["modified_ns"]
        return dict(content["clips"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the index %s is damaged and is made anew: %s", index, error)
        return {}


def _write_index(index: Path, key: str, clips: dict[str, dict[str, Any]]) -> None:
    from triportrait.files import atomic_file, make_folder

    make_folder(index.parent)
    with atomic_file(index) as part:
        part.write_text(json.dumps({"format": FORMAT, "key": key, "clips": clips}, indent=0), encoding="utf-8")
