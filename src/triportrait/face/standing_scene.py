"""What stands still while a head moves is not the head: scenery that a segmentation takes for hair, told from hair by a video."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array

#: Pictures are compared at this side, and the head's motion is computed at that one.
_SIDE_PX, _MOTION_PX = 128, 32
#: Depths in head space (decimetres), of which the one counts that moves least: the rim of a turning head lies near its axis and stays.
_DEPTHS_DM = -0.9, -0.3, 0.3
#: A frame tells something of a place whose head has moved by this share of the crop; so many of them must.
_MOVED, _TELLING = 0.01, 3
#: This share of those frames must agree; in the others the head may cover the scene.
_AGREEING = 0.15
#: What stands still changes by fewer levels, and by less than this share of what the head's motion would have changed.
_STILL_LEVELS, _STILL_SHARE = 4.0, 1 / 3
#: Specks narrower than so many compared pixels are chance.
_SPECK_PX = 3
#: So many heights of the face above the chin, all of a person moves with the head.
_HEAD_ABOVE = 0.3


def stands_still(scene: Array, crops: Array, rotation_rad: Array, translation: Array, landmarks: Array) -> Array:
    """Where a video's frames show what stands still, and hangs together with what is known to be ``scene``: bool [n, s, s].

    A place stands still if enough of the frames in which the head has moved agree there, though the picture is such that the motion would
    have changed it. Where it is too even to tell, or the head hardly moves, nothing stands still. From the jaw down nothing is looked for:
    hair that rests on shoulders and a shirt stand still, too.

    Args:
        scene: bool [n, s, s], where a segmentation is sure of the scene.
        crops: uint8 [n, s, s, 3], frames of one shot, framed alike.
        rotation_rad, translation: [n, 3], the head's pose in them.
        landmarks: [n, 478, 2 or 3] pixels of the crop.
    """
    import cv2

    result = np.zeros(scene.shape, bool)
    if len(crops) <= _TELLING:
        return result
    size = crops.shape[1]
    small = [cv2.resize(crop, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32) for crop in crops]
    turns = [matrix_from_euler(np.asarray(row, np.float64)) for row in rotation_rad]
    poses = list(zip(turns, np.asarray(translation, np.float64), strict=True))
    speck = np.ones((_SPECK_PX, _SPECK_PX), np.uint8)
    for i in range(len(crops)):
        still = cv2.morphologyEx(_stands_still(i, small, poses).astype(np.uint8), cv2.MORPH_OPEN, speck)
        # Places are compared with what is round them: what was found ends too early.
        wide = cv2.resize(cv2.dilate(still, speck), (size, size), interpolation=cv2.INTER_NEAREST)
        there = (wide > 0) & _above_jaw(landmarks[i], size)
        # Skin may be even enough to agree by chance; but it is closed in by what moves.
        _, pieces = cv2.connectedComponents((there | scene[i]).astype(np.uint8))
        result[i] = there & np.isin(pieces, np.unique(pieces[scene[i]]))
    return result


def _stands_still(i: int, pictures: list[Array], poses: list[tuple[Array, Array]]) -> Array:
    """Where picture ``i`` stands still, bool [p, p]; pictures float32 [p, p, 3], poses the heads' (matrix, translation)."""
    import cv2

    side = len(pictures[i])
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))

    def changes() -> Iterator[tuple[Array, Array]]:
        """How much each other frame changes a place, and how much the head's motion would have; infinite where it has hardly moved."""
        for j in range(len(pictures)):
            if j == i:
                continue
            way = cv2.resize(_least_way(poses[i], poses[j], _MOTION_PX), (side, side)) * np.float32(side / _MOTION_PX)
            shifted = cv2.remap(pictures[i], x + way[..., 0], y + way[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            told = np.hypot(way[..., 0], way[..., 1]) > _MOVED * side
            both = (cv2.blur(np.abs(other - pictures[i]).mean(-1), (3, 3)) for other in (pictures[j], shifted))
            real, expected = (np.where(told, change, np.float32(np.inf)) for change in both)
            yield real, expected

    real, expected = (np.sort(np.stack(part), axis=0) for part in zip(*changes(), strict=True))
    count = np.isfinite(real).sum(0)
    rank = (_AGREEING * count).astype(int)[None]
    change, wanted = (np.take_along_axis(part, np.minimum(rank, len(part) - 1), 0)[0] for part in (real, expected))
    return (count >= _TELLING) & (change < np.minimum(_STILL_LEVELS, _STILL_SHARE * wanted))


def _least_way(one: tuple[Array, Array], other: tuple[Array, Array], side: int) -> Array:
    """By how many pixels right and down the head carries each pixel from one pose to another, at the depth where that is least.

    Args:
        one, other: matrix [3, 3] and translation [3] of the head.
        side: of the picture in pixels.

    Returns:
        float32 [side, side, 2].
    """
    y, x = np.mgrid[:side, :side] + 0.5
    (turn, place), (turn_there, place_there) = one, other
    focal_px, half = FOCAL_IN_WIDTHS * side, side / 2
    least = np.full((side, side, 2), np.inf)
    for depth in _DEPTHS_DM:
        away = CAMERA_DISTANCE_DM - (place[2] + depth)
        here = np.stack([(x - half) * away / focal_px, (half - y) * away / focal_px, np.full_like(x, place[2] + depth)], -1)
        there = (here - place) @ turn @ turn_there.T + place_there
        scale = focal_px / (CAMERA_DISTANCE_DM - there[..., 2])
        way = np.stack([half + there[..., 0] * scale - x, half - there[..., 1] * scale - y], -1)
        least = np.where((way**2).sum(-1, keepdims=True) < (least**2).sum(-1, keepdims=True), way, least)
    return least.astype(np.float32)


def _above_jaw(landmarks: Array, size: int) -> Array:
    """Where all of a person moves with the head: bool [s, s]."""
    chin, top = landmarks[CHIN, :2].astype(np.float64), landmarks[FOREHEAD_TOP, :2].astype(np.float64)
    height = max(float(np.linalg.norm(chin - top)), 1.0)
    down = (chin - top) / height
    y, x = np.mgrid[:size, :size] + 0.5
    return ((x - chin[0]) * down[0] + (y - chin[1]) * down[1]) < -_HEAD_ABOVE * height
