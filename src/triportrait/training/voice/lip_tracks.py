"""Tracked landmarks -> expression curves and lip opening, as training targets for the audio model.

The one boundary that matters is :func:`curves_from_landmarks`: a better fit (the open head's) replaces it without any
other change. Here the mouth's 21 points are moved into the head's frame by the rigid upper face, and their
displacement from the clip's own closed mouth is explained by ICT-FaceKit's mouth shapes with bounded least squares.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from triportrait.geometry.landmarks import (
    CHEEK_SIDES,
    CHIN,
    EYE_LEFT_CORNERS,
    EYE_RIGHT_CORNERS,
    FOREHEAD_MIDDLE,
    FOREHEAD_TOP,
    LOWER_LIP_INSIDE,
    NOSE_RIDGE,
    NOSE_TIP,
    TEMPLES,
    UPPER_LIP_INSIDE,
)
from triportrait.motion.lips import FACE_HEIGHT_CM, close_lips, gap_weights
from triportrait.types import ARKIT_EXPRESSIONS, Array, FaceTrack

#: Points that the mouth cannot move.
_STABLE = (*EYE_RIGHT_CORNERS, *EYE_LEFT_CORNERS[::-1], *NOSE_RIDGE, NOSE_TIP, *FOREHEAD_MIDDLE, *TEMPLES, *CHEEK_SIDES)

#: MediaPipe points of the 68-point set's mouth (48..67) and chin (8), and their numbers there.
_MOUTH = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178, 152)
_MOUTH_68 = (*range(48, 68), 8)

#: Curves to explain the mouth with; pairs are moved together.
_FITTED = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthStretch", "mouthSmile", "mouthLowerDown", "mouthUpperUp",
    "mouthPress", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LipTrack:
    """Targets of one clip: expression [t, 44], opening [t] in face heights, contact [t] 0..1; and how sure each row is, [t]
    0..1 (None = all of it)."""

    expression: Array
    opening: Array
    contact: Array
    sure: Array | None = None


def lip_opening_of(track: FaceTrack) -> Array:
    """Distance of the inner lips' middles over the clip's median face height: [t]."""
    points = track.landmarks[:, :, :2].astype(np.float64)
    height = np.median(np.linalg.norm(points[:, FOREHEAD_TOP] - points[:, CHIN], axis=-1))
    return (np.linalg.norm(points[:, UPPER_LIP_INSIDE] - points[:, LOWER_LIP_INSIDE], axis=-1) / height).astype(np.float32)


def load_speech_av(folder: Path) -> dict[str, tuple[str, FaceTrack]]:
    """The GRID tracks of ``shared/data/speech_av``: clip -> (split, track in pixels)."""
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    files: dict[str, tuple[dict[str, int], Array, Array]] = {}
    result = {}
    for row in rows:
        name = row["landmarks_file"]
        if name not in files:
            with np.load(folder / name, allow_pickle=False) as data:
                order = {str(clip): i for i, clip in enumerate(data["names"])}
                files[name] = (order, data["landmarks"].astype(np.float32), data["clip_start"])
        order, landmarks, starts = files[name]
        index = order[row["clip"]]
        width, height = int(row["width"]), int(row["height"])
        points = landmarks[starts[index] : starts[index + 1]] * np.array([width, height, width], np.float32)
        track = FaceTrack(points, np.ones(len(points), bool), (width, height), 25.0)
        result[row["clip"]] = (row["split"], track)
    return result


@lru_cache(maxsize=2)
def _basis(head_file: Path) -> Array:
    """Displacement in centimetres of the 21 points per unit of each fitted curve: [c, 21, 3]."""
    with np.load(head_file, allow_pickle=False) as data:
        names = [str(name) for name in data["expression_names"]]
        vertices = data["landmarks68"][list(_MOUTH_68)]
        shapes = data["expression"][:, vertices].astype(np.float64)
    rows = []
    for name in _FITTED:
        sides = [name] if name in names else [f"{name}_L", f"{name}_R"]
        rows.append(sum(shapes[names.index(side)] for side in sides))
    return np.stack(rows)


def _rigid(source: Array, target: Array) -> tuple[Array, Array]:
    """Rotations [t, 3, 3] and offsets [t, 3] that bring source [t, n, 3] onto target [n, 3] (Kabsch)."""
    centre_s, centre_t = source.mean(axis=1, keepdims=True), target.mean(axis=0)
    u, _, vt = np.linalg.svd(np.einsum("tni,nj->tij", source - centre_s, target - centre_t))
    flip = np.ones((len(source), 3))
    flip[:, 2] = np.linalg.det(u @ vt)
    rotation = np.einsum("tij,tj,tjk->tik", u, flip, vt).swapaxes(1, 2)
    return rotation, centre_t - np.einsum("tij,tj->ti", rotation, centre_s[:, 0])


def curves_from_landmarks(track: FaceTrack, head_file: Path) -> LipTrack:
    """Explain a clip's mouth by expression curves.

    Args:
        track: landmarks of one clip that shows the mouth closed at least now and then.
        head_file: ``ict_facekit.npz``.
    """
    points = track.landmarks.astype(np.float64) * np.array([1.0, -1.0, -1.0])
    opening = lip_opening_of(track)
    closed = opening <= max(np.quantile(opening, 0.3), 0.004)
    neutral = np.median(points[closed], axis=0)
    rotation, offset = _rigid(points[:, _STABLE], neutral[list(_STABLE)])
    mouth = np.einsum("tij,tnj->tni", rotation, points[:, _MOUTH]) + offset[:, None]
    scale = FACE_HEIGHT_CM / np.linalg.norm(neutral[FOREHEAD_TOP, :2] - neutral[CHIN, :2])
    # The rest is the clip's own closed mouth in the same frame; small drifts of the rigid fit leave with it.
    rest = np.median(mouth[closed], axis=0)
    displacement = (mouth - rest) * scale

    basis = _basis(head_file)
    # Depth of the tracker is a guess: it counts a quarter. The inner lips' gap counts as its own, heavily weighted
    # row.
    weight = np.ones((21, 3)) * np.array([1.0, 1.0, 0.25])
    weight[12:20] *= 1.5
    weight[20] *= 1.5
    design = (basis * weight).reshape(len(_FITTED), -1).T
    right = (displacement * weight).reshape(len(displacement), -1)
    gap_row = (
        np.array(
            [sum(gap_weights([name + side])[0] for side in (("",) if name in ARKIT_EXPRESSIONS else ("Left", "Right"))) for name in _FITTED]
        )
        * FACE_HEIGHT_CM
    )
    design = np.concatenate([design, 8.0 * gap_row[None]])
    right = np.concatenate([right, 8.0 * opening[:, None] * FACE_HEIGHT_CM], axis=1)
    # Shapes that mainly mend what others leave (press, rolls, chin raise) are dearer than those that articulate.
    price = np.array([4.0 if "Press" in name or "Shrug" in name else 1.0 if "Roll" in name else 0.15 for name in _FITTED])
    normal = design.T @ design + np.diag(price)
    moment = right @ design
    curves = np.zeros((len(right), len(_FITTED)))
    for _ in range(80):
        for c in range(len(_FITTED)):
            gradient = moment[:, c] - curves @ normal[:, c] + curves[:, c] * normal[c, c]
            # 0.02: a small price per curve keeps unused ones at exactly zero.
            curves[:, c] = np.clip((gradient - 0.02) / normal[c, c], 0.0, 1.0)
    expression = np.zeros((len(curves), len(ARKIT_EXPRESSIONS)), np.float32)
    for c, name in enumerate(_FITTED):
        for side in ("",) if name in ARKIT_EXPRESSIONS else ("Left", "Right"):
            expression[:, ARKIT_EXPRESSIONS.index(name + side)] = curves[:, c]
    contact = np.clip((0.013 - opening) / 0.008, 0.0, 1.0).astype(np.float32)
    # Inner lips that touch in the picture touch in the curves.
    expression = close_lips(expression, ARKIT_EXPRESSIONS, contact, jaw_share=0.0)
    return LipTrack(expression, np.where(opening < 0.003, 0.0, opening).astype(np.float32), contact)
