"""A few frames from the whole length of whatever has pictures in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from triportrait.files import check_readable
from triportrait.media.images import looks_like_image, picture_frames
from triportrait.media.video import VideoReader
from triportrait.types import Array


def sampled_frames(path: str | os.PathLike[str], limit: int) -> Iterator[Array]:
    """At most ``limit`` frames of a video or an animation, or the one picture: uint8 RGB [h, w, 3]; see :meth:`VideoReader.sampled`.

    Raises:
        MediaError: missing, unreadable, damaged, or without pictures.
    """
    if looks_like_image(check_readable(path)):
        yield from picture_frames(path, limit)
    else:
        with VideoReader(path) as reader:
            yield from reader.sampled(limit)
