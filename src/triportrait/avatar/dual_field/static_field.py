"""Torso and neck as a field that stands in the photo's camera: colours, density and depth over the photo, moved with the body alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.neck import OPAQUE, optical_depth
from triportrait.geometry.body import body_pivot, body_similarity, followed
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.filling import foreground_colours, push_pull
from triportrait.geometry.landmarks import CHIN, JAW_ANGLES, UPPER_LIP_INSIDE
from triportrait.geometry.rasteriser import rasterise
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, HeadPart, MotionFrame, PreparedPortrait

#: Half the thickness of either field's slab: fields whose surfaces lie nearer to each other than the thickness mix.
HALF_DM = 0.1
#: The neck that goes on behind the head stands at least so far behind it: no nod brings it through the chin.
_BEHIND_DM = 0.5
#: From this share of the head on the static field's colours are those painted behind the head instead of the photo's.
_PAINTED = 0.8
#: What has less of the head's field has torso beside or behind it, and so does a rim of so many pixels of a 512 px crop round that.
_WHOLE, _RIM_PX = 0.97, 12
#: Vertices with a larger share of the neck are its column.
_NECK = 0.005


@dataclass(frozen=True, slots=True)
class StaticField:
    """Of one portrait.

    Args:
        layer: float32 [s, s, 4], straight colours 0..255 and matte; depth: float32 [s, s], camera depth in the photo (decimetres).
        source: the photo's own row; pivot: [2] pixels of the body's own motion, and px_per_dm, how large a decimetre is at the head.
        focal_px: focal length in pixels.
    """

    layer: Array
    depth: Array
    source: MotionFrame
    pivot: Array
    px_per_dm: float
    focal_px: float

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, vertices: Array, head_matte: Array, surface_depth: Array) -> StaticField:
        """Everything of the person that the head's field leaves, and the neck painted behind the head.

        Args:
            portrait: its torso layer has the head painted out.
            vertices: [v, 3] of ``head`` as in the photo, unposed.
            head_matte: [s, s], of the head's field in the photo.
            surface_depth: [s, s], of its surface; inf where there is none.
        """
        size, motion = len(portrait.image), portrait.motion
        person = np.maximum(portrait.person_alpha, portrait.head_alpha)
        whole = optical_depth(person)
        share = np.clip(optical_depth(head_matte) / np.maximum(whole, 1e-3), 0.0, 1.0)
        neck = _neck_depth(portrait, head, vertices)
        typical = (
            float(np.median(neck[np.isfinite(neck)])) if np.isfinite(neck).any() else CAMERA_DISTANCE_DM - float(motion.translation[2])
        )
        hidden = _continued(neck, typical)
        at_surface = np.where(share < 0.999, surface_depth, np.inf)
        surface = _continued(np.where(np.isfinite(surface_depth), surface_depth, at_surface), typical)
        behind = smooth_step(share) * np.maximum(hidden - surface, _BEHIND_DM)
        # Behind the head a full neck, within its slab what the head leaves of the skin.
        apart = np.clip(behind / (2 * HALF_DM), 0.0, 1.0)
        torso = portrait.torso.astype(np.float32)
        painted = smooth_step(np.clip((share - _PAINTED) / (1.0 - _PAINTED), 0.0, 1.0))
        seen = (1.0 - share) * whole
        behind_head = torso[..., 3] / 255.0 * _may_go_on(portrait, np.isfinite(neck), share)
        optical = np.maximum(seen, apart * share * optical_depth(behind_head))
        pure = foreground_colours(portrait.image, portrait.person_alpha, portrait.background.astype(np.float32))
        colours = pure + painted[..., None] * (torso[..., :3] - pure)
        layer = np.dstack([colours, 1.0 - np.exp(-np.minimum(optical, OPAQUE))])
        px_per_dm = portrait.focal * size / (CAMERA_DISTANCE_DM - float(motion.translation[2]))
        return StaticField(
            np.ascontiguousarray(layer, np.float32),
            np.ascontiguousarray(surface + behind, np.float32),
            motion,
            body_pivot(portrait.landmarks),
            px_per_dm,
            portrait.focal * size,
        )

    def back(self, frame: MotionFrame) -> Array:
        """From pixels of the picture under ``frame`` to the photo's: float32 [2, 3]."""
        size = len(self.layer)
        if frame.body is None:
            # As if all of it stood where the head does.
            shift = followed(np.asarray(frame.translation, np.float64) - self.source.translation)
            away = self.focal_px / self.px_per_dm
            scale = away / (away - shift[2])
            move = scale * self.px_per_dm * shift[:2] * (1, -1)
            forth = np.array([[scale, 0.0, (1 - scale) * size / 2 + move[0]], [0.0, scale, (1 - scale) * size / 2 + move[1]]])
        else:
            forth = body_similarity(frame.body, self.px_per_dm, self.pivot)
        inverse = np.linalg.inv(np.vstack([forth, (0.0, 0.0, 1.0)]))
        return np.ascontiguousarray(inverse[:2], np.float32)

    def depth_under(self, frame: MotionFrame) -> float:
        """What is added to depths: who leans towards the camera does so with head and body, poses tell too little to say otherwise."""
        return float(self.source.translation[2] - frame.translation[2])


def _neck_depth(portrait: PreparedPortrait, head: FullHead, vertices: Array) -> Array:
    """Camera depth of the model's neck without the head before it: [s, s], inf where there is none."""
    size, motion = len(portrait.image), portrait.motion
    pixels, depth = project(pose_points(vertices, motion.rotation_rad, motion.translation), size, portrait.focal)
    skin = (head.part[head.triangles] == HeadPart.SKIN).all(1) & (head.neck[head.triangles] > _NECK).all(1)
    drawn = rasterise(
        pixels.astype(np.float32), depth.astype(np.float32), np.ascontiguousarray(head.triangles[skin]), size, size, cull="back"
    )
    return drawn.depth


def _may_go_on(portrait: PreparedPortrait, column: Array, share: Array) -> Array:
    """Where something of the torso may lie behind the head, [s, s] in 0..1: the neck between the jaw's angles, and a rim along the torso.

    Hair that is painted on behind the head would stay there as a ghost when the head turns.

    Args:
        column: bool [s, s], where the model has its neck; share: [s, s], of the head's field.
    """
    import cv2

    size = len(share)
    unit = size / 512
    jaw, chin = portrait.landmarks[list(JAW_ANGLES), 0], portrait.landmarks[CHIN, 1]
    y, x = np.mgrid[:size, :size] + 0.5
    # Drawn in upwards like a dome: what comes out beside a turned jaw slopes towards it.
    drawn_in = np.maximum(chin - y, 0.0)
    neck = column & (x > jaw.min() + drawn_in) & (x < jaw.max() - drawn_in) & (y > portrait.landmarks[UPPER_LIP_INSIDE, 1])
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(_RIM_PX * unit) + 1,) * 2)
    rim = cv2.dilate(((share < _WHOLE) & (portrait.person_alpha > 0.5)).astype(np.uint8), ball)
    return cv2.GaussianBlur((neck | rim.astype(bool)).astype(np.float32), (0, 0), 0.3 * _RIM_PX * unit)


def _continued(depth: Array, typical: float) -> Array:
    """Depths [s, s] of which some are inf, continued smoothly."""
    known = np.isfinite(depth)
    filled = np.where(known, depth, typical).astype(np.float32)
    return push_pull(filled[..., None], np.maximum(known, 1e-3).astype(np.float32))[..., 0]
