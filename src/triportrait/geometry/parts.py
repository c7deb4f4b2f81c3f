"""Rectangles of pictures."""

from __future__ import annotations

from typing import NamedTuple


class PicturePart(NamedTuple):
    """A rectangle of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def box(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def around(parts: list[PicturePart]) -> PicturePart:
    """The smallest rectangle that holds ``parts``, of which there is one at least."""
    left, top = min(part.left for part in parts), min(part.top for part in parts)
    right, bottom = max(part.left + part.width for part in parts), max(part.top + part.height for part in parts)
    return PicturePart(left, top, right - left, bottom - top)
