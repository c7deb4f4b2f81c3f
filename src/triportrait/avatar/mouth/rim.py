"""The lips' inner rim as the photo has it: no landmark lies exactly where a lip ends and teeth or the dark of the mouth begin.

What the photo shows of lips inside their landmarks is a strip that goes along with them. It never stretches; lips that part farther roll
outwards, and it grows narrower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.mouth import kernels
from triportrait.geometry.landmarks import INNER_LIPS, LOWER_LIP_INSIDE, OUTER_LIPS, UPPER_LIP_INSIDE
from triportrait.geometry.masks import outline_mask
from triportrait.geometry.rasteriser import Fragments, draw_fragments
from triportrait.types import Array

#: For each point of the inner lips the one across; corners have none.
_ACROSS = -np.arange(len(INNER_LIPS)) % len(INNER_LIPS)
#: The places in it of the middles of both lips.
_MIDDLES = [int(np.flatnonzero(INNER_LIPS == lip)[0]) for lip in (UPPER_LIP_INSIDE, LOWER_LIP_INSIDE)]
#: Lips are lighter than this share of what they typically are, and no greener in proportion to their red than that by so much.
_LIGHT, _GREENER = 0.62, 0.08
#: The strip is no wider than this (decimetres): behind a lip that is open may lie a tongue. It reaches so far under the lip, and so much
#: farther than the lip that the photo shows.
_WIDEST_DM, _UNDER_DM, _SPARE_DM = 0.035, 0.012, 0.006
#: Of the way to the other lip it takes this share at most.
_MEET = 0.6
#: So many places are looked at between lip and lip.
_STEPS = 24


@dataclass(frozen=True, slots=True)
class LipRim:
    """The strip of one portrait.

    Args:
        mask: bool [s, s], where the photo shows lip between the lips' landmarks.
        width_dm: [20] of the strip at each point of the inner lips, and gap_dm: [20] from there to the other lip in the photo.
        texels: [60, 2] float32, where ``texture`` shows the strip's outer, middle and inner points.
        texture: [h, w, 5] float32, the photo 0..1, how much it is lip, and 0.
    """

    mask: Array
    width_dm: Array
    gap_dm: Array
    texels: Array
    texture: Array

    @classmethod
    def of(cls, image: Array, landmarks: Array, source_landmarks: Array, teeth: Array | None) -> LipRim:
        """From the photo [s, s, 3], its landmarks [478, >=2] in pixels, the fitted head's [478, 3], and bool [s, s] where teeth are."""
        import cv2

        size = len(image)
        ring = landmarks[INNER_LIPS, :2].astype(np.float64)
        inside = outline_mask(ring, size) > 0
        lips = (outline_mask(landmarks[OUTER_LIPS, :2], size) > 0) & ~inside
        colours = image.astype(np.float32) + 1.0
        level, green = colours.max(-1), colours[..., 1] / colours[..., 0]
        alike = np.zeros_like(inside)
        if lips.any():
            alike = (level > _LIGHT * np.median(level[lips])) & (green < np.median(green[lips]) + _GREENER)
        if teeth is not None:
            alike &= ~teeth
        share = np.linspace(0.0, 1.0, _STEPS)[:, None]
        way = ring[_ACROSS] - ring
        x, y = np.moveaxis(np.clip((ring + share[..., None] * way).astype(int), 0, size - 1), -1, 0)
        other = ~alike[y, x]
        reach = np.where(other.any(0), share[other.argmax(0), 0], 1.0)
        own = source_landmarks[INNER_LIPS]
        gap = np.linalg.norm(own[_ACROSS] - own, axis=1)
        width = np.minimum(np.minimum(reach, _MEET) * gap, _WIDEST_DM)
        # The strip covers more than is lip: how far it really goes is in its texture.
        width = np.maximum(width, np.maximum(np.roll(width, 1), np.roll(width, -1))) + _SPARE_DM
        per_dm = way / np.maximum(gap, 1e-4)[:, None]
        places = np.concatenate([ring - per_dm * _UNDER_DM, ring, ring + per_dm * width[:, None]])
        low = np.maximum(np.floor(places.min(0)).astype(int) - 4, 0)
        high = np.minimum(np.ceil(places.max(0)).astype(int) + 5, size)
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        soft = cv2.GaussianBlur((alike | lips).astype(np.float32), (0, 0), 0.8)[box]
        texture = np.dstack([image[box].astype(np.float32) / 255, soft, np.zeros_like(soft)])
        width, gap, texels = (numbers.astype(np.float32) for numbers in (width, gap, places - low))
        return cls(inside & alike, width, gap, texels, np.ascontiguousarray(texture))

    def points(self, landmarks: Array) -> Array:
        """The strip's outer, middle and inner points for landmarks [478, 3]: [60, 3] float32."""
        ring, way, inner = self._across(landmarks, 0.0)
        return np.concatenate([ring - way * _UNDER_DM, ring, ring + way * inner]).astype(np.float32)

    def edges(self, landmarks: Array) -> Array:
        """The middles of the edges that the upper and the lower lip of landmarks [478, 3] show: [2, 3]."""
        ring, way, inner = self._across(landmarks, _SPARE_DM)
        return (ring + way * inner)[_MIDDLES]

    def _across(self, landmarks: Array, spare_dm: float) -> tuple[Array, Array, Array]:
        """The inner lips [20, 3], unit vectors [20, 3] to the other lip, and the strip's width [20, 1] without ``spare_dm`` of it."""
        ring = landmarks[INNER_LIPS]
        way = ring[_ACROSS] - ring
        gap = np.linalg.norm(way, axis=1, keepdims=True)
        width = (self.width_dm - np.float32(spare_dm)) * np.minimum(self.gap_dm / np.maximum(gap[:, 0], 1e-4), 1.0)
        return ring, way / np.maximum(gap, 1e-4), np.minimum(width[:, None], _MEET * gap)

    def lay(self, pixels: Array, depth: Array, out: Array) -> None:
        """Draw the strip, whose points project to ``pixels`` [60, 2] of ``out`` [h, w, 4] and ``depth`` [60], over it."""
        layer = Fragments.empty(*out.shape[:2])
        draw_fragments(pixels, depth, _TRIANGLES, layer.triangle, layer.barycentric, layer.depth)
        light = np.full((len(pixels), 3), 255.0, np.float32)
        kernels.lay_part(
            layer.triangle,
            layer.barycentric,
            layer.depth,
            light,
            np.zeros_like(light),
            _TRIANGLES,
            self.texels,
            self.texture,
            np.float32(0.0),
            np.full(out.shape[:2], np.inf, np.float32),
            out,
        )


def _strip() -> Array:
    """Triangles [80, 3] int32 between the outer, middle and inner rings of points."""
    count = len(INNER_LIPS)
    here = np.arange(count)
    after = (here + 1) % count
    return np.concatenate(
        [
            np.stack(corners, 1)
            for ring in (0, count)
            for corners in ((ring + here, ring + after, ring + count + here), (ring + after, ring + count + after, ring + count + here))
        ]
    ).astype(np.int32)


_TRIANGLES = _strip()
