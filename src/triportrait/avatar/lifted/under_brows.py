"""The skin between lid and brow, whose crease goes as a raised brow pulls it flat.

A photo of low brows shows that skin folded: a narrow strip with a dark line. On a raised brow the strip is stretched, and the line would
become a stain as tall. Skin that is pulled out of a fold has no line: it goes over into the strip's own colours without what is dark
between what is bright above and below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.surface import lay_over
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.landmarks import BROW_LEFT, BROW_RIGHT, EYE_LEFT_CORNERS, EYE_RIGHT_CORNERS, UPPER_LID_LEFT, UPPER_LID_RIGHT
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: The brows' lower edges, the upper lids' margins and the corners of the eyes, the subject's left first.
_EDGES = ((BROW_LEFT[:5], UPPER_LID_LEFT, EYE_LEFT_CORNERS), (BROW_RIGHT[:5], UPPER_LID_RIGHT, EYE_RIGHT_CORNERS))
#: Of the way from margin to brow the strip begins and is full, and ends softly below the hairs.
_BEGINS, _ENDS = (0.15, 0.5), (0.7, 0.95)
#: So much higher than in the photo a brow stands when the crease begins to go, and when it has gone.
_RISES, _FLAT = 1.05, 1.6
#: Lengths of the eye: how tall a crease may be, and how far colours are evened.
_CREASE, _EVEN = 0.35, 0.05
#: A crease is brightened by this factor at most; skin that would be brightened by so much near it (lengths of the eye) belongs to it.
_MOST, _CREASED, _NEAR = 1.8, 0.12, 0.08


@dataclass(frozen=True, slots=True)
class UnderBrows:
    """That skin of one portrait.

    Args:
        vertices: [k] of the mesh; share: float32 [k, 2], how far each belongs to the left and right strip.
        colours: float32 [k, 3], 0..255, without the crease.
        heights_dm: float64 [2], of the brows above the corners of the eyes in the photo.
    """

    vertices: Array
    share: Array
    colours: Array
    heights_dm: Array

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, pixels: Array, source: Array, photo: Array) -> UnderBrows:
        """Of a fitted head.

        Args:
            pixels: [v, 2], where the photo shows the head's vertices ``source`` [v, 3].
            photo: float32 [s, s, 3], the head's colours 0..255.
        """
        import cv2

        points, size = portrait.landmarks[:, :2].astype(np.float64), len(photo)
        share = np.zeros((len(pixels), 2), np.float32)
        length = 0.0
        for side, (brow, lid, corners) in enumerate(_EDGES):
            outer, inner = points[list(corners)]
            wide = float(np.linalg.norm(inner - outer))
            length = max(length, wide)
            along = (inner - outer) / max(wide, 1e-6)
            up = np.array([along[1], -along[0]])
            up *= -1.0 if up[1] > 0 else 1.0
            at, height = (pixels - outer) @ along, (pixels - outer) @ up
            low, high = (_height_at(at, (points[edge] - outer) @ along, (points[edge] - outer) @ up) for edge in (lid, brow))
            way = (height - low) / np.maximum(high - low, 1.0)
            begun = np.clip((way - _BEGINS[0]) / (_BEGINS[1] - _BEGINS[0]), 0.0, 1.0)
            left = np.clip((_ENDS[1] - way) / (_ENDS[1] - _ENDS[0]), 0.0, 1.0)
            beside = np.clip(1.0 - np.maximum(-at, at - wide) / (0.25 * wide), 0.0, 1.0)
            share[:, side] = smooth_step(begun) * smooth_step(left) * smooth_step(beside)
        share *= (head.part == HeadPart.SKIN)[:, None]
        vertices = np.flatnonzero(share.max(1) > 0)
        light = photo.mean(-1)
        tall = np.ones((max(3, round(_CREASE * length)) | 1, 1), np.uint8)
        gain = np.clip(cv2.morphologyEx(light, cv2.MORPH_CLOSE, tall) / np.maximum(light, 1.0), 1.0, _MOST)
        even = cv2.GaussianBlur(photo * gain[..., None], (0, 0), max(_EVEN * length, 0.5))
        x, y = np.clip(pixels[vertices].astype(int), 0, size - 1).T
        creased = cv2.GaussianBlur(gain, (0, 0), max(_NEAR * length, 0.5))[y, x]
        share = share[vertices] * np.clip((creased - 1.0) / _CREASED, 0.0, 1.0)[:, None].astype(np.float32)
        return UnderBrows(vertices, share, even[y, x].astype(np.float32), _heights(head.landmarks478(source)))

    def flatten(self, landmarks: Array, colours: Array) -> None:
        """Let ``colours`` [v, 4] of the mesh replace the photo's as far as the brows of ``landmarks`` [478, 3] have risen, in place."""
        flat = np.clip((_heights(landmarks) / self.heights_dm - _RISES) / (_FLAT - _RISES), 0.0, 1.0)
        if not flat.any():
            return
        lay_over(colours, self.vertices, self.colours, (self.share @ smooth_step(flat).astype(np.float32))[:, None])


def _height_at(at: Array, along: Array, up: Array) -> Array:
    """Height of an edge, points ``along`` [n] and ``up`` [n], at places ``at`` [v]."""
    order = np.argsort(along)
    return np.interp(at, along[order], up[order])


def _heights(landmarks: Array) -> Array:
    """How high the brows' lower edges stand above the corners of the eyes in head space: [2]."""
    heights = [landmarks[brow, 1].mean() - landmarks[list(corners), 1].mean() for brow, _, corners in _EDGES]
    return np.maximum(np.array(heights, np.float64), 0.02)
