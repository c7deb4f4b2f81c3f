"""Packed clips that ``train erlnet.manner`` learns from: motion of a person, what is heard of the voice, and who it is."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.erlnet.parts import ROW
from triportrait.errors import EmptyMedia, MediaError, OutputError
from triportrait.files import atomic_file
from triportrait.types import Array

_FORMAT = "triportrait.manner.1"
_REMEDY = "make clips with 'triportrait data manner -o FOLDER'"
#: Clips without ``val`` among their splits: one of so many is held out.
_HELD_OUT_EVERY = 10


@dataclass(frozen=True, slots=True)
class MannerClip:
    """A piece of one person's motion at 25 rows per second.

    Args:
        motion: float32 [t, 52], see :func:`triportrait.erlnet.parts.motion_rows`.
        heard: float32 [t, f] of :class:`triportrait.erlnet.hearing.Hearing`, or None without sound.
        person: whose manner it is.
        source: kind of source, ``filmed``, ``captured`` or ``synthetic``; each is drawn equally often.
        held_out: whether it is only judged by.
    """

    motion: Array
    heard: Array | None
    person: str
    source: str
    held_out: bool

    def __len__(self) -> int:
        return len(self.motion)


def write_manner_clips(path: Path, clips: Sequence[MannerClip]) -> None:
    """One file, whole or not at all.

    Raises:
        EmptyMedia: there is no clip.
        OutputError: it cannot be written.
    """
    if not clips:
        raise EmptyMedia(f"'{path.stem}' has no clip; give another source")
    heard = [clip.heard for clip in clips if clip.heard is not None]
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "motion": np.concatenate([clip.motion for clip in clips]).astype(np.float32),
        "heard": np.concatenate(heard).astype(np.float16) if heard else np.zeros((0, 1), np.float16),
        "frames": np.array([len(clip) for clip in clips]),
        "heard_frames": np.array([0 if clip.heard is None else len(clip.heard) for clip in clips]),
        "person": np.array([clip.person for clip in clips]),
        "source": np.array([clip.source for clip in clips]),
        "held_out": np.array([clip.held_out for clip in clips]),
    }
    try:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another place") from None


def read_manner_clips(paths: Sequence[Path]) -> list[MannerClip]:
    """The clips of files of :func:`write_manner_clips`, and of folders of them.

    Raises:
        EmptyMedia: a folder has none.
        MediaError: a file is of another kind, or damaged.
    """
    clips: list[MannerClip] = []
    files = [file for path in paths for file in (sorted(path.glob("*.npz")) if path.is_dir() else [path])]
    if not files:
        raise EmptyMedia(f"there are no clips of manners in '{paths[0]}'; {_REMEDY}")
    for path in files:
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["format"]) != _FORMAT:
                    raise ValueError
                found = {name: file[name] for name in file.files}
            motion = np.split(found["motion"].astype(np.float32), np.cumsum(found["frames"])[:-1])
            heard = np.split(found["heard"].astype(np.float32), np.cumsum(found["heard_frames"])[:-1])
            good = found["motion"].shape[1:] == (ROW,) and np.isfinite(found["motion"]).all() and np.isfinite(found["heard"]).all()
            if not good or any(len(rows) not in (0, len(moves)) for rows, moves in zip(heard, motion, strict=True)):
                raise ValueError
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
            raise MediaError(f"'{path}' holds no clips of manners; {_REMEDY}") from None
        facts = zip(motion, heard, found["person"], found["source"], found["held_out"], strict=True)
        clips += [
            MannerClip(moves, rows if len(rows) else None, str(who), str(source), bool(out)) for moves, rows, who, source, out in facts
        ]
    return clips


def is_held_out(index: int) -> bool:
    """Of clips without a split of their own."""
    return index % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
