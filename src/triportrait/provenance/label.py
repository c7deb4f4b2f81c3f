"""The visible badge that tells a viewer the picture is generated."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from triportrait.types import Array, expect

Corner = Literal["bottom right", "bottom left", "top right", "top left"]

#: Height of the badge as a share of the frame's shorter side: 28 px at 512, cap height 12 px, readable on a phone.
BADGE_HEIGHT = 0.055
_OPACITY = 0.55
_SUPERSAMPLING = 4


def draw_label(frame: Array, text: str = "AI", corner: Corner = "bottom right") -> Array:
    """A copy of ``frame`` (uint8 [h, w, 3]) with a translucent badge reading ``text`` in one corner.

    The badge is rendered once per text and size and then only blended (its few hundred pixels), so a video pays for
    the copy of the frame. A frame too small for the badge is returned unlabelled.

    Raises:
        ValueError: not a uint8 RGB frame, or an unknown corner.
    """
    if corner not in get_args(Corner):
        raise ValueError(f"no corner {corner!r}; choose one of {', '.join(get_args(Corner))}")
    labelled = _checked(frame).copy()
    if (placed := _placed(frame, text, corner)) is not None:
        place, colour, transparency = placed
        labelled[place] = colour + ((labelled[place] * transparency) >> 8)
    return labelled


def draw_label_over(frame: Array, alpha: Array, text: str = "AI") -> tuple[Array, Array]:
    """:func:`draw_label` on a person without a scene: the badge is over whatever will stand behind, at the bottom right.

    Args:
        frame: uint8 [h, w, 3], colours that are not multiplied by alpha.
        alpha: uint8 [h, w].
        text: on the badge.

    Returns:
        A copy of both, the badge in them.
    """
    labelled, opacity = _checked(frame).copy(), alpha.copy()
    if (placed := _placed(frame, text, "bottom right")) is not None:
        place, colour, transparency = placed
        kept = transparency / np.float32(256.0)
        before = alpha[place][..., None] / np.float32(255.0)
        after = 1.0 - kept * (1.0 - before)
        mixed = (colour + kept * before * frame[place]) / np.maximum(after, 1e-6)
        labelled[place] = np.where(after > 0, np.minimum(mixed + 0.5, 255.0), frame[place]).astype(np.uint8)
        opacity[place] = (255.0 * after[..., 0] + 0.5).astype(np.uint8)
    return labelled, opacity


def _checked(frame: Array) -> Array:
    expect(frame, "h w 3", "frame")
    if frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype}, expected uint8")
    return frame


def _placed(frame: Array, text: str, corner: Corner) -> tuple[tuple[slice, slice], Array, Array] | None:
    """Where the badge goes, its colour and its transparency (see :func:`_badge`); None where the frame is too small for it."""
    height, width = frame.shape[:2]
    badge_height = max(14, round(BADGE_HEIGHT * min(height, width)))
    colour, transparency = _badge(text, badge_height)
    margin = badge_height // 3
    if colour.shape[0] + margin > height or colour.shape[1] + margin > width:
        return None
    vertical, horizontal = corner.split()
    top = margin if vertical == "top" else height - margin - colour.shape[0]
    left = margin if horizontal == "left" else width - margin - colour.shape[1]
    return (slice(top, top + colour.shape[0]), slice(left, left + colour.shape[1])), colour, transparency


@lru_cache(maxsize=16)
def _badge(text: str, height: int) -> tuple[Array, Array]:
    """The badge, premultiplied: colour uint8 [height, w, 3] and transparency uint16 [height, w, 1] in 0..256."""
    from PIL import Image, ImageDraw, ImageFont

    scale = _SUPERSAMPLING
    font = ImageFont.load_default(size=0.62 * height * scale)
    left, top, right, bottom = font.getbbox(text)
    padding = 0.34 * height * scale
    width = max(height, round((right - left + 2 * padding) / scale))
    centre = (width * scale / 2 - (left + right) / 2, height * scale / 2 - (top + bottom) / 2)
    plate = Image.new("L", (width * scale, height * scale))
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, plate.width - 1, plate.height - 1), 0.28 * height * scale, fill=255)
    letters = Image.new("L", plate.size)
    ImageDraw.Draw(letters).text(centre, text, fill=255, font=font, stroke_width=0.4 * scale, stroke_fill=255)
    size = (width, height)
    letters_alpha = np.asarray(letters.resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
    plate_alpha = np.asarray(plate.resize(size, Image.Resampling.BOX), dtype=np.float32) / 255 * _OPACITY
    # White letters at 92 % over a black plate: black adds no colour, it only takes some of what is behind.
    letters_alpha *= 0.92
    colour = np.repeat(np.floor(255 * letters_alpha)[..., None], 3, axis=2).astype(np.uint8)
    transparency = np.floor(256 * (1 - letters_alpha) * (1 - plate_alpha))[..., None].astype(np.uint16)
    return colour, transparency
