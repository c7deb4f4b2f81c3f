"""What a turned photo hides of a face, taken from the face's other half.

Faces are nearly symmetric. Where the photo does not show a place but shows its mirror image, the colour that is spread there takes that
image's relief: how much brighter or darker each pixel is than its surroundings. So brows, sockets of eyes and stubble are where they
belong, and the light stays that of the hidden half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.surface import Surface
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import JAW_ENDS_OF_68, UPPER_LIP_INSIDE
from triportrait.geometry.nearest import nearest_points
from triportrait.geometry.neighbours import NeighbourMean
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: Where fewer of the face's vertices are better seen on the other half, the photo shows both halves alike.
_LEAST = 0.02
#: From how much larger a cosine on the other half serves, and within what; and from how well that is seen, and within what.
_BETTER, _WELL_SEEN = (0.15, 0.25), (0.3, 0.4)
#: So far above the mouth begins what is surely cheek.
_ABOVE_DM = 0.2
#: Of the way to the jaw's ends, what serves from nothing to fully and back to nothing: a nose's shaded side would be drawn as a
#: line, and light from behind and sideburns are one side's.
_REGION = (0.26, 0.38, 0.65, 0.85)
#: Relief is what differs from a blur of so many pixels of a crop of 512, by these factors at most: light from aside is one half's, too.
_BLUR_PX, _RELIEF = 20.0, (0.35, 1.25)
#: The person's own pixels have this matte; and so many levels are no darkness to divide by.
_SOLID, _DARK = 0.9, 4.0
#: How often the use's edge is drawn inwards and softened over neighbours.
_SOFTENED = 4


@dataclass(frozen=True, slots=True)
class OtherHalf:
    """For each of v vertices, its mirror image in the photo.

    Args:
        texels: float32 [v, 3]: its pixel, and how far it is used (0..1).
        relief: float32 [s, s, 3], how much brighter the photo is than its surroundings; [2, 2, 3] if nothing is used.
        upper: bool [v], where it is used above the mouth. Below it no fitted jaw is the person's.
    """

    texels: Array
    relief: Array
    upper: Array

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, surface: Surface, facing: Array) -> OtherHalf:
        """Of a fitted head whose vertices have these cosines with the photo's view, [v].

        Nothing is used of a face that hardly shows, or that shows both halves alike.
        """
        import cv2

        size, count = len(portrait.image), len(surface.shape)
        nothing = OtherHalf(np.zeros((count, 3), np.float32), np.ones((2, 2, 3), np.float32), np.zeros(count, bool))
        skin = np.flatnonzero((head.part == HeadPart.SKIN) & (surface.face > 0.0))
        twin = nearest_points(head.mean[skin], head.mean[skin] * (-1, 1, 1))[1][:, 0]
        # The mesh is not quite symmetric: what lies between its vertices goes along.
        place = surface.source[skin[twin]] + (head.mean[skin] * (-1, 1, 1) - head.mean[skin[twin]])
        posed = pose_points(place, portrait.motion.rotation_rad, portrait.motion.translation)
        pixels = project(posed, size, portrait.focal)[0].astype(np.float32)
        shown = surface.seen * np.clip(facing, 0.0, 1.0)
        better = np.clip((shown[skin[twin]] - shown[skin] - _BETTER[0]) / _BETTER[1], 0.0, 1.0)
        out = np.abs(head.mean[skin, 0]) / np.abs(head.landmarks68(head.mean)[list(JAW_ENDS_OF_68), 0]).max()
        begins, full, less, ends = _REGION
        inner = np.clip((out - begins) / (full - begins), 0.0, 1.0) * np.clip((ends - out) / (ends - less), 0.0, 1.0)
        used = np.clip((surface.seen[skin[twin]] - _WELL_SEEN[0]) / _WELL_SEEN[1], 0.0, 1.0) * surface.face[skin] * better * inner
        if (used > 0.5).mean() < _LEAST:
            return nothing
        solid = (portrait.person_alpha > _SOLID).astype(np.float32)
        wide, picture = _BLUR_PX * size / 512, portrait.image.astype(np.float32) + _DARK
        smooth = (
            cv2.GaussianBlur(picture * solid[..., None], (0, 0), wide) / np.maximum(cv2.GaussianBlur(solid, (0, 0), wide), 1e-3)[..., None]
        )
        relief = np.where(solid[..., None] > 0, np.clip(picture / np.maximum(smooth, _DARK), *_RELIEF), np.float32(1.0))
        mean = NeighbourMean.of(head.triangles, count)
        share = np.zeros((count, 1))
        share[skin, 0] = used
        for _ in range(_SOFTENED):
            share = np.minimum(share, mean(share))
        texels = np.zeros((count, 3), np.float32)
        texels[skin, :2], texels[:, 2] = pixels, share[:, 0]
        above = head.mean[:, 1] > head.landmarks478(head.mean)[UPPER_LIP_INSIDE, 1] + _ABOVE_DM
        return OtherHalf(texels, relief.astype(np.float32), above & (texels[:, 2] > 0.5))
