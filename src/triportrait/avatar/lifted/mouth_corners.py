"""The skin beside the corners of the mouth, whose shadow goes as the lips part.

Closed lips fold the skin beside their corners: a narrow strip with a dark line. As the mouth opens, the mesh stretches the strip, and the
line would become a stain as tall. Skin that is pulled out of a fold goes over into its own colours without what is dark between what is
bright above and below it; see :mod:`.under_brows`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.surface import Surface, lay_over
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.landmarks import LOWER_LIP_INSIDE, OUTER_LIPS, OUTER_MOUTH_CORNERS, UPPER_LIP_INSIDE
from triportrait.geometry.masks import outline_mask
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: Shares of the mouth's width: within the first of a corner all of the shadow goes, from the second on nothing.
_NEAR, _FAR = 0.1, 0.24
#: So much farther apart than in the photo (decimetres) the lips are when it has gone; so much of it goes.
_PARTED_DM, _GOES = 0.14, 0.5
#: Shares of the mouth's width: how tall a shadow may be, and how far colours are evened.
_TALL, _EVEN = 0.3, 0.03
#: It is brightened by this factor at most; what would be brightened by so much is shadow.
_MOST, _SHADED = 1.9, 0.12


@dataclass(frozen=True, slots=True)
class MouthCorners:
    """That skin of one portrait.

    Args:
        vertices: [k] of the mesh; share: float32 [k, 1], how far each belongs to it.
        colours: float32 [k, 3], 0..255, without the shadow.
        gap_dm: between the lips in the photo.
    """

    vertices: Array
    share: Array
    colours: Array
    gap_dm: float

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, surface: Surface, photo: Array) -> MouthCorners:
        """Of a fitted head.

        Args:
            surface: of the head in the photo; of what the photo hides nothing is changed.
            photo: float32 [s, s, 3], the head's colours 0..255.
        """
        import cv2

        pixels, source = surface.pixels, surface.source
        points, size = portrait.landmarks[:, :2].astype(np.float64), len(photo)
        corners = points[list(OUTER_MOUTH_CORNERS)]
        wide = max(float(np.linalg.norm(corners[1] - corners[0])), 1.0)
        away = np.linalg.norm(pixels[:, None] - corners, axis=-1).min(1) / wide
        share = smooth_step(np.clip((_FAR - away) / (_FAR - _NEAR), 0.0, 1.0)) * (head.part == HeadPart.SKIN) * surface.seen
        vertices = np.flatnonzero(share > 0)
        light = photo.mean(-1)
        tall = np.ones((max(3, round(_TALL * wide)) | 1, 1), np.uint8)
        gain = np.clip(cv2.morphologyEx(light, cv2.MORPH_CLOSE, tall) / np.maximum(light, 1.0), 1.0, _MOST)
        # The lips' own line opens with them.
        skin = 1.0 - outline_mask(points[OUTER_LIPS], size).astype(np.float32)
        even, shaded, bare = (
            cv2.GaussianBlur(picture, (0, 0), max(_EVEN * wide, 0.5)) for picture in (photo * (skin * gain)[..., None], skin * gain, skin)
        )
        x, y = np.clip(pixels[vertices].astype(int), 0, size - 1).T
        on_skin = bare[y, x]
        share = share[vertices] * on_skin * np.clip((shaded[y, x] / np.maximum(on_skin, 1e-3) - 1.0) / _SHADED, 0.0, 1.0)
        colours = even[y, x] / np.maximum(on_skin, 1e-3)[:, None]
        return MouthCorners(vertices, share[:, None].astype(np.float32), colours.astype(np.float32), _gap_dm(head.landmarks478(source)))

    def unfold(self, landmarks: Array, colours: Array) -> None:
        """Let ``colours`` [v, 4] of the mesh replace the photo's as far as the lips of ``landmarks`` [478, 3] have parted, in place."""
        parted = float(np.clip((_gap_dm(landmarks) - self.gap_dm) / _PARTED_DM, 0.0, 1.0))
        if not parted:
            return
        lay_over(colours, self.vertices, self.colours, self.share * np.float32(_GOES * parted))


def _gap_dm(landmarks: Array) -> float:
    return float(np.linalg.norm(landmarks[UPPER_LIP_INSIDE] - landmarks[LOWER_LIP_INSIDE]))
