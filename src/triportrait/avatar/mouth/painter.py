"""Learned repair of the mouth: the geometric head's lips repainted as photographs show them when they move, its inside lit as they do.

A small U-net looks at a window round the drawn mouth, at the photo's own mouth, and at where lips and teeth ought to be. It changes
colours of the lips and at their rim, so that skin keeps the photo's detail. Between the lips it has a smooth light to give and nothing to
draw: what hides behind closed lips nobody knows, and colours learned for it would be the mean of all mouths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.landmarks import INNER_LIPS, LOWER_LIP_RIM, OUTER_LIPS, OUTER_MOUTH_CORNERS, UPPER_LIP_RIM
from triportrait.geometry.masks import soft_outline_mask
from triportrait.nn.model_files import Embedded, load_network, save_network
from triportrait.types import CAMERA_DISTANCE_DM, Array, MotionFrame, PreparedPortrait

#: The window: pixels, and its width in decimetres at the head's depth.
WIDTH_PX, HEIGHT_PX, WIDTH_DM = 144, 112, 0.95
#: Channels of :func:`mouth_channels`: drawn colours, lips there, drawn inside and teeth; the photo's colours and lips.
CHANNELS = 12
#: Around the lips colours may change within this many window pixels.
_RIM_PX = 7
#: Light between the lips may change by this factor in either direction (its logarithm).
_LIGHT_RANGE = 0.35
_KIND = "mouth_painter.2"
_EMBEDDED = Embedded("triportrait.avatar", "mouth_painter.safetensors")
#: ``surface`` values that lie inside the mouth, and those of teeth (1 + kinds of :mod:`triportrait.avatar.lifted.shading_kernels`).
_INSIDE, _TEETH = (2, 3), 3


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


def mouth_channels(rgb: Array, surface: Array, landmarks: Array, window: Array, photo: PhotoMouth) -> Array:
    """What the network sees: float32 [112, 144, 12].

    Args:
        rgb: float32 [s, s, 3] drawn head, premultiplied, 0..1; surface: uint8 [s, s]; landmarks: [478, 2]; of the avatar's layer.
        window: of these landmarks.
        photo: of the portrait.
    """
    inside = np.isin(surface, _INSIDE).astype(np.float32)
    teeth = (surface == _TEETH).astype(np.float32)
    drawn = cut_window(np.dstack([rgb, inside, teeth]), window)
    return np.concatenate([drawn[..., :3], lip_masks(landmarks, window), drawn[..., 3:], photo.channels], -1)


def change_weight(channels: Tensor) -> Tensor:
    """Where colours may change: [b, 1, h, w] from channels [b, 12, h, w] of :func:`mouth_channels`."""
    size = 2 * _RIM_PX + 1
    near = functional.max_pool2d(channels[:, 3:5].amax(1, keepdim=True), size, 1, _RIM_PX)
    inside = functional.max_pool2d(channels[:, 5:6], 3, 1, 1)
    return functional.avg_pool2d(near, size, 1, _RIM_PX) * (1.0 - functional.avg_pool2d(inside, 3, 1, 1))


@dataclass(frozen=True, slots=True)
class MouthPainterConfig:
    """Sizes: ``channels`` at the window's size, a half, a quarter and an eighth of it."""

    channels: tuple[int, int, int, int] = (16, 32, 64, 96)


class _Pair(nn.Sequential):
    """Two 3 x 3 convolutions with group norm and SiLU."""

    def __init__(self, taken: int, given: int) -> None:
        super().__init__(
            nn.Conv2d(taken, given, 3, padding=1),
            nn.GroupNorm(8, given),
            nn.SiLU(),
            nn.Conv2d(given, given, 3, padding=1),
            nn.GroupNorm(8, given),
            nn.SiLU(),
        )


class MouthPainter(nn.Module):
    """Channels [b, 12, 112, 144] to colours [b, 3, 112, 144] in 0..1; begins as the drawn colours unchanged."""

    def __init__(self, config: MouthPainterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MouthPainterConfig()
        c = config.channels
        self.down = nn.ModuleList(_Pair(taken, given) for taken, given in zip((CHANNELS, *c[:-1]), c, strict=True))
        self.up = nn.ModuleList(_Pair(c[i] + c[i + 1], c[i]) for i in reversed(range(len(c) - 1)))
        self.last = nn.Conv2d(c[0], 3, 3, padding=1)
        self.light = nn.Conv2d(c[-1], 3, 1)
        for layer in (self.last, self.light):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Colours; see the class."""
        skips = []
        y = 2 * x - 1
        for level, block in enumerate(self.down):
            y = block(functional.avg_pool2d(y, 2) if level else y)
            skips.append(y)
        y = skips.pop()
        light = functional.interpolate(_LIGHT_RANGE * torch.tanh(self.light(y)), size=x.shape[-2:], mode="bilinear")
        lit = x[:, :3] * torch.exp(x[:, 5:6] * light)
        for block in self.up:
            y = block(torch.cat([functional.interpolate(y, scale_factor=2, mode="bilinear"), skips.pop()], 1))
        return (lit + change_weight(x) * self.last(y)).clamp(0, 1)


def paint_mouth(
    model: MouthPainter, rgb: Array, surface: Array, landmarks: Array, window: Array, photo: PhotoMouth, tone: PhotoTone
) -> Array:
    """The drawn head with its mouth repainted in the photo's ``tone``: float32 [s, s, 3]; see :func:`mouth_channels`."""
    import cv2

    channels = mouth_channels(rgb, surface, landmarks, window, photo)
    with torch.inference_mode():
        # Channels lie last already.
        x = torch.from_numpy(channels).permute(2, 0, 1)[None]
        change = (model(x) - x[:, :3])[0].permute(1, 2, 0).float().numpy()
    if tone.strength:
        change = tone.change(255.0 * channels[..., :3], 255.0 * change) / np.float32(255.0)
    # Only the part of the picture that the window covers is touched.
    corners = np.array([[0, 0], [WIDTH_PX, 0], [0, HEIGHT_PX], [WIDTH_PX, HEIGHT_PX]]) @ window[:, :2].T + window[:, 2]
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, len(rgb))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, len(rgb))
    if right <= left or bottom <= top:
        return rgb
    moved = window.copy()
    moved[:, 2] -= (left, top)
    spread = cv2.warpAffine(np.ascontiguousarray(change), moved, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR)
    painted = rgb.copy()
    part = painted[top:bottom, left:right]
    np.clip(part + spread, 0.0, 1.0, out=part)
    return painted


def save_mouth_painter(model: MouthPainter, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Weights in half precision and config as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    save_network(path, model, kind=_KIND, config=asdict(model.config), metadata=notes)


def load_mouth_painter(path: Path | None = None) -> MouthPainter:
    """The network of a file from :func:`save_mouth_painter`, in evaluation mode; None takes the embedded one.

    Raises:
        WeightsError: missing, foreign or damaged.
    """
    return load_network(path or _EMBEDDED, _KIND, lambda config: MouthPainter(MouthPainterConfig(**config)))


@cache
def embedded_mouth_painter() -> MouthPainter:
    """The network that ships with the package; one for all callers."""
    return load_mouth_painter()
