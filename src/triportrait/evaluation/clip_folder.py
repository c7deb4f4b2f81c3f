"""A folder of clips, and what its ``index.csv`` says about them."""

from __future__ import annotations

import csv
from pathlib import Path

from triportrait.errors import MediaError

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


def find_clips(folder: Path, limit: int | None = None) -> list[Path]:
    """The videos of ``folder`` in the order of their names, at most ``limit``.

    Raises:
        MediaError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder; --clips takes a folder of videos.")
    clips = sorted(path for path in folder.iterdir() if path.suffix.lower() in CLIP_SUFFIXES and path.is_file())
    if not clips:
        raise MediaError(f"{folder} holds no video ({', '.join(CLIP_SUFFIXES)}); --clips takes a folder of videos.")
    return clips[:limit]


def read_filled_boxes(folder: Path) -> dict[str, tuple[float, float, float, float]]:
    """Per file name the box (left, top, right, bottom) in clip pixels that ``index.csv`` says is not real picture.

    Raises:
        MediaError: a box is not four numbers.
    """
    index = folder / "index.csv"
    if not index.is_file():
        return {}
    boxes = {}
    with index.open(encoding="utf-8-sig", newline="") as handle:
        for row in csv.DictReader(handle):
            text, name = row.get("filled_box_xyxy") or "", row.get("file") or ""
            if text.strip() and name:
                try:
                    left, top, right, bottom = (float(word) for word in text.replace(",", " ").split())
                except ValueError:
                    raise MediaError(f"{index}: filled_box_xyxy of {name} is {text!r}; write left top right bottom.") from None
                boxes[name] = (left, top, right, bottom)
    return boxes
