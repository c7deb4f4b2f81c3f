"""The scene behind the person: a colour, a picture, a video, or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from triportrait.errors import MediaError
from triportrait.types import Array


class Background:
    """A scene behind the person: a colour (``#rrggbb`` or a name), a picture or a video file, or ``transparent``.

    Attributes:
        file: the file, or None for a colour.
        is_transparent: there is no scene: frames carry the person's alpha.

    Raises:
        MediaError: neither a colour nor a picture or video that can be read.
    """

    _COLOURS = {
        "white": (255, 255, 255),
        "black": (0, 0, 0),
        "grey": (127, 127, 127),
        "gray": (127, 127, 127),
        "green": (0, 177, 64),
        "blue": (0, 71, 187),
    }

    def __init__(self, what: str) -> None:
        self._what = what
        self.is_transparent = what.lower() == "transparent"
        self._colour = self._COLOURS.get(what.lower()) or self._hex(what)
        self._kind = "colour"
        self.file: Path | None = None
        if self._colour is None and not self.is_transparent:
            from triportrait.media.images import composite_over, read_image
            from triportrait.media.probe import probe

            if what.startswith("#") or not os.path.lexists(what):
                raise MediaError(
                    f"--background is {what!r}, neither a colour nor a file; use transparent, #rrggbb, {', '.join(self._COLOURS)}, "
                    "a picture or a video"
                )

            self._kind = probe(what).kind
            if self._kind not in ("image", "video"):
                raise MediaError(f"{what}: a background is a colour such as #204060, a picture or a video")
            self.file = Path(what)
            if self._kind == "image":
                # A damaged picture is known before any work is done, as a damaged video is.
                image = read_image(what)
                self._image = composite_over(image) if image.shape[-1] == 4 else image

    @property
    def fingerprint(self) -> str:
        """Tells this scene from others; a file is told by its content.

        Raises:
            MediaError: the file has gone.
        """
        if self.file is None:
            return self._what.lower()
        try:
            with self.file.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MediaError(f"'{self.file}' cannot be read ({error.strerror}); check the path.") from error

    @staticmethod
    def _hex(what: str) -> tuple[int, int, int] | None:
        digits = what.removeprefix("#")
        if not what.startswith("#") or len(digits) != 6 or any(c not in "0123456789abcdefABCDEF" for c in digits):
            return None
        red, green, blue = (int(digits[i : i + 2], 16) for i in (0, 2, 4))
        return red, green, blue

    def frames(self, size: int, fps: float) -> Iterator[Array]:
        """Endless square pictures uint8 [size, size, 3]; videos start again at their end. There are none of what is transparent."""
        if self._kind == "colour":
            plain = np.full((size, size, 3), self._colour, np.uint8)
            while True:
                yield plain
        elif self._kind == "image":
            still = _cover(self._image, size)
            while True:
                yield still
        else:
            from triportrait.media.video import VideoReader

            while True:
                with VideoReader(self._what) as reader:
                    for _, frame in reader.frames(fps):
                        yield _cover(frame, size)


def _cover(image: Array, size: int) -> Array:
    """The largest centred square of a picture, scaled to ``size``."""
    from triportrait.geometry.crops import cut

    height, width = image.shape[:2]
    side = float(min(height, width))
    return cut(image, ((width - side) / 2, (height - side) / 2, side), size)
