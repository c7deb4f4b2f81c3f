"""Learned repair of the mouth: the geometric head's lips repainted as photographs show them when they move, its inside lit as they do.

A small U-net looks at a window round the drawn mouth, at the photo's own mouth, and at where lips and teeth ought to be. It changes
colours of the lips and at their rim, so that skin keeps the photo's detail. Between the lips it has a smooth light to give and nothing to
draw: what hides behind closed lips nobody knows, and colours learned for it would be the mean of all mouths.

Its architecture stands in :mod:`triportrait.avatar.mouth.painter_network`, which needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.landmarks import INNER_LIPS, LOWER_LIP_RIM, OUTER_LIPS, OUTER_MOUTH_CORNERS, UPPER_LIP_RIM
from triportrait.geometry.masks import soft_outline_mask
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import Graph, load_graph
from triportrait.types import CAMERA_DISTANCE_DM, Array, MotionFrame, PreparedPortrait

#: The window: pixels, and its width in decimetres at the head's depth.
WIDTH_PX, HEIGHT_PX, WIDTH_DM = 144, 112, 0.95
#: Channels of :func:`mouth_channels`: drawn colours, lips there, drawn inside and teeth; the photo's colours and lips.
CHANNELS = 12
#: Of :mod:`triportrait.nn.model_files`.
KIND = "mouth_painter.2"
EMBEDDED = Embedded("triportrait.avatar", "mouth_painter.onnx")
#: ``surface`` values that lie inside the mouth, and those of teeth (1 + kinds of :mod:`triportrait.avatar.lifted.shading_kernels`).
_INSIDE, _TEETH = 2, 3


def mouth_window(landmarks: Array, portrait: PreparedPortrait, frame: MotionFrame) -> Array:
    """The affine map [2, 3] from window pixels to crop pixels (OpenCV's convention: centres at whole numbers).

    Args:
        landmarks: [478, 2] pixels (centres at +0.5) of the head under ``frame``.
        portrait: whose camera it is.
    """
    right, left = (landmarks[i] for i in OUTER_MOUTH_CORNERS)
    along = left - right
    # Profile views foreshorten the line between the corners, not its direction.
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    centre = 0.25 * (right + left + landmarks[UPPER_LIP_RIM] + landmarks[LOWER_LIP_RIM])
    step = WIDTH_DM / WIDTH_PX * portrait.focal * len(portrait.image) / (CAMERA_DISTANCE_DM - float(frame.translation[2]))
    turn = step * np.array([[along[0], -along[1]], [along[1], along[0]]])
    middle = np.array([(WIDTH_PX - 1) / 2, (HEIGHT_PX - 1) / 2])
    return np.concatenate([turn, (centre - 0.5 - turn @ middle)[:, None]], 1).astype(np.float64)


def cut_window(picture: Array, window: Array) -> Array:
    """The window of a picture [h, w] or [h, w, c]: [112, 144] or [112, 144, c]."""
    import cv2

    return cv2.warpAffine(
        picture, window, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


def lip_masks(landmarks: Array, window: Array) -> Array:
    """Area within the inner and the outer lips, in the window: float32 [112, 144, 2], edges soft."""
    import cv2

    inverse = cv2.invertAffineTransform(window)
    points = (landmarks - 0.5) @ inverse[:, :2].T + inverse[:, 2]
    masks = [soft_outline_mask(points[ring], WIDTH_PX, HEIGHT_PX) for ring in (INNER_LIPS, OUTER_LIPS)]
    return np.ascontiguousarray(np.stack(masks, -1)).astype(np.float32) / 255


@dataclass(frozen=True, slots=True)
class PhotoMouth:
    """The photo's part of :func:`mouth_channels`, kept for the life of a portrait: float32 [112, 144, 5]."""

    channels: Array

    @classmethod
    def of(cls, portrait: PreparedPortrait) -> PhotoMouth:
        """From the portrait's crop and landmarks."""
        landmarks = portrait.landmarks[:, :2]
        window = mouth_window(landmarks, portrait, portrait.motion)
        colours = cut_window(portrait.image, window).astype(np.float32) / 255
        return cls(np.concatenate([colours, lip_masks(landmarks, window)], -1))


class PaintedLayer(Protocol):
    """A drawn head: rgb float32 [s, s, 3], premultiplied by alpha float32 [s, s], 0..1, and surface uint8 [s, s]."""

    @property
    def rgb(self) -> Array: ...
    @property
    def alpha(self) -> Array: ...
    @property
    def surface(self) -> Array: ...


def mouth_channels(rgb: Array, surface: Array, landmarks: Array, window: Array, photo: PhotoMouth) -> Array:
    """What the network sees: float32 [112, 144, 12].

    Args:
        rgb: float32 [s, s, 3] drawn head, premultiplied, 0..1; surface: uint8 [s, s]; landmarks: [478, 2]; of the avatar's layer.
        window: of these landmarks.
        photo: of the portrait.
    """
    part, window_there = _covered(window, len(rgb))
    shown = surface[part]
    teeth = shown == _TEETH
    inside = teeth | (shown == _INSIDE)
    drawn = cut_window(np.dstack([rgb[part], inside, teeth]), window_there)
    return np.concatenate([drawn[..., :3], lip_masks(landmarks, window), drawn[..., 3:], photo.channels], -1)


def paint_mouth(painter: Graph, layer: PaintedLayer, landmarks: Array, window: Array, photo: PhotoMouth, tone: PhotoTone) -> None:
    """Repaint the mouth of a drawn head in the photo's ``tone``, in place.

    Args:
        painter: from :func:`load_painter`.
        layer: the drawn head, whose colours are changed.
        landmarks, window, photo: see :func:`mouth_channels`.
        tone: of the photo.
    """
    import cv2

    channels = mouth_channels(layer.rgb, layer.surface, landmarks, window, photo)
    (change,) = painter(channels)
    if tone.strength:
        change = tone.change(255.0 * channels[..., :3], 255.0 * change) / np.float32(255.0)
    part, window_there = _covered(window, len(layer.rgb))
    colours = layer.rgb[part]
    spread = cv2.warpAffine(np.ascontiguousarray(change), window_there, colours.shape[1::-1], flags=cv2.INTER_LINEAR)
    # Turned far, lips stand before the scene: that is not painted.
    np.clip(colours + spread, 0.0, layer.alpha[part][..., None], out=colours)


def _covered(window: Array, size: int) -> tuple[tuple[slice, slice], Array]:
    """The part of a picture [size, size] that a window covers, at least its nearest pixel, and the window's map to pixels of that part."""
    corners = np.array([[0, 0], [WIDTH_PX, 0], [0, HEIGHT_PX], [WIDTH_PX, HEIGHT_PX]]) @ window[:, :2].T + window[:, 2]
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, size - 1)
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, (left + 1, top + 1), size)
    moved = window.copy()
    moved[:, 2] -= (left, top)
    return (slice(top, bottom), slice(left, right)), moved


def load_painter(path: Path | None = None) -> Graph:
    """The embedded painter, or an exported one's file: channels of :func:`mouth_channels` to changes of colour [112, 144, 3].

    Raises:
        WeightsError: missing, foreign or damaged.
    """
    return load_graph(path or EMBEDDED, KIND, fast=True)
