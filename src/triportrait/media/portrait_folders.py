"""A folder of portraits: which pictures it holds, and on which side of the split each is."""

from __future__ import annotations

import csv
from pathlib import Path

from triportrait.errors import EmptyMedia, MediaError

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".heic")
#: Without an index every tenth picture is held out.
_HELD_OUT_EVERY = 10


def portraits_of(folder: Path, split: str, colour: bool = False) -> list[Path]:
    """Pictures of a split, in a fixed order.

    Args:
        folder: of pictures. Its ``index.csv`` (columns ``file``, ``split`` and, if it likes, ``grey``) decides where there is one; without
            it all pictures are portraits, of which every tenth by name is ``val``.
        split: ``train`` or ``val``.
        colour: leave out those that the index calls grey.

    Raises:
        EmptyMedia: there is none.
        MediaError: there is no such folder, or its index cannot be read.
    """
    index = folder / "index.csv"
    try:
        if index.exists():
            with index.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            found = [folder / row["file"] for row in rows if row["split"] == split and not (colour and row.get("grey") == "1")]
        else:
            pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
            last = _HELD_OUT_EVERY - 1
            found = [path for number, path in enumerate(pictures) if (number % _HELD_OUT_EVERY == last) == (split == "val")]
    except KeyError as error:
        raise MediaError(f"'{index}' has no column {error}; it needs file and split") from None
    except (OSError, ValueError, csv.Error) as error:
        raise MediaError(f"'{folder}' is no folder of portraits that can be read ({error}); check the path") from None
    if not found:
        raise EmptyMedia(f"there is no portrait of the split {split!r} in '{folder}'; give a folder of photographs of one face each")
    return found
