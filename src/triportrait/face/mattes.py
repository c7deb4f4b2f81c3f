"""Soft masks: person, head, torso. From a coarse segmentation, the photo's edges and the fitted head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, UPPER_LIP_INSIDE
from triportrait.geometry.nearest import distance_of, nearest_pixels
from triportrait.types import Array, HeadPart, MotionFrame

#: In face heights: how far beyond the segmentation's edge hair may fly, and how far within it the scene may show between strands; ...
_HAIR_OUT, _HAIR_IN = 0.14, 0.07
#: ... and the same at shoulders, and before a scene so restless that colours say little.
_EDGE_OUT, _EDGE_IN = 0.03, 0.03
#: Narrower than this (face heights) no band is.
_LEAST = 0.012
#: What is round a pixel when its colour is compared with the scene's (face heights).
_ROUND = 0.05
#: A scene whose colours (0..1) are usually so far from their local mean is restless.
RESTLESS = 0.1
#: How strongly the sampled colours and the segmentation hold the matte, against 1 for the photo's own edges.
_SAMPLES_HOLD, _SEGMENTATION_HOLDS = 0.1, 0.04
#: Half the width of such a passage between skin and hair (face heights).
_PASSING = 0.02
#: So much of the matte on the wrong side of the segmentation's edge is haze, not hair.
_HAZE = 0.15
#: A segmentation is rather sure from here on; what it is unsure of belongs to a person so near (face heights) what it is sure of, and
#: fades out.
_SURE, _UNSURE_REACH = 0.65, (0.08, 0.2)
#: What lies between two sure parts that are twice as far apart at most is this person, too: a scarf, a collar.
_TOGETHER = 0.14


def refine_matte(image: Array, probability: Array, face_mask: Array | None = None) -> Array:
    """A hair-fine matte from a segmentation's soft blob, by the photo's own colours in a band round its edge.

    The band is wide where hair may be and colours can tell it from the scene, and narrow elsewhere (:func:`trimap`). In it, pairs of
    colours from both sides say how they are mixed, and the closed form spreads that along the photo's edges (matting.py).

    Args:
        image: uint8 [h, w, 3].
        probability: float32 [h, w], how surely a pixel shows the person.
        face_mask: bool [h, w] that is certainly person, or None.

    Returns:
        float32 [h, w] alpha in 0..1.
    """
    from triportrait.face.matting import closed_form_matte, sampled_matte

    guide = image.astype(np.float32) / 255.0
    probability = _of_this_person(probability, face_mask)
    certain = np.clip((probability - 0.25) / 0.5, 0.0, 1.0).astype(np.float32)
    if face_mask is not None:
        certain[face_mask] = 1.0
    # The coarse blob on the photo's edges (He, Sun and Tang, 2013).
    soft = np.clip(_guided_filter(guide, certain, max(4, max(image.shape[:2]) // 50), 2e-4), 0.0, 1.0)
    known = trimap(guide, probability, soft, face_mask)
    if not known.inside.any() or not known.outside.any():
        return np.clip((soft - 0.25) / 0.5, 0.0, 1.0)
    sampled = sampled_matte(guide, known.inside, known.outside, push_pull(guide, known.outside.astype(np.float32)))
    unknown = ~known.inside & ~known.outside
    # The segmentation has a say where colours are at a loss: a dark wall behind dark hair is still a wall.
    guess = sampled.trust * sampled.alpha + (1 - sampled.trust) * known.prior
    samples, segmentation = _SAMPLES_HOLD * sampled.trust, _SEGMENTATION_HOLDS * (1.05 - sampled.trust)
    wanted = (samples * sampled.alpha + segmentation * known.prior) / (samples + segmentation)
    start = np.where(unknown, guess, known.inside).astype(np.float32)
    alpha = closed_form_matte(guide, wanted.astype(np.float32), (samples + segmentation).astype(np.float32), start, unknown)
    haze = _HAZE * (1 - 0.7 * sampled.trust)
    low, high = haze * (1 - known.prior), 1 - haze * known.prior
    alpha = np.maximum(np.clip((alpha - low) / (high - low), 0.0, 1.0), known.least)
    return _own_piece(alpha.astype(np.float32), face_mask)


def _of_this_person(probability: Array, face_mask: Array | None) -> Array:
    """The segmentation [h, w] without others who stand about: what is unsure is this person's near what is sure to be, and nobody's else.

    Bystanders are small or out of focus, so that the segmentation is in doubt; hair is so, too, but never far from its head.
    """
    import cv2

    sure = probability > _SURE
    if face_mask is None or not (sure & face_mask).any():
        return probability
    _, pieces = cv2.connectedComponents((sure | face_mask).astype(np.uint8))
    # Above and below the face is this person, too, even beyond a scarf or a band of which the segmentation is not sure.
    column = pieces[:, face_mask.any(0)]
    own = np.isin(pieces, np.unique(column[column > 0]))
    height = float(max(face_mask.any(1).sum(), face_mask.any(0).sum()))
    near, far = _UNSURE_REACH
    together = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_CLOSE, ellipse(_TOGETHER * height))
    away = cv2.distanceTransform(1 - together, cv2.DIST_L2, 5) / height
    return (probability * np.clip((far - away) / (far - near), 0.0, 1.0)).astype(np.float32)


class Trimap(NamedTuple):
    """Certainly person, certainly scene (bool [h, w]), and between them what to believe if colours say nothing (float32 [h, w]).

    ``least`` float32 [h, w]: what the segmentation is sure of, and what looks like nothing of the scene, is no less a person than that.
    Hair between skin and wall has their mixture's colour, too.
    """

    inside: Array
    outside: Array
    prior: Array
    least: Array


def trimap(guide: Array, probability: Array, soft: Array, face_mask: Array | None = None) -> Trimap:
    """What the matte is computed from, with a band that is as wide as hair is likely.

    Args:
        guide: float32 [h, w, 3] in 0..1, the photo.
        probability: float32 [h, w], the segmentation; soft: float32 [h, w], the same on the photo's edges.
        face_mask: bool [h, w] that is certainly person; its height is the unit of the band. None takes half of the picture's.
    """
    import cv2

    side = len(guide)
    rows = np.flatnonzero(face_mask.any(1)) if face_mask is not None and face_mask.any() else np.arange(side // 4, 3 * side // 4)
    height, chin = float(len(rows)), float(rows[-1])
    person = (_own_piece(np.where(soft > 0.5, 1.0, 0.0), face_mask) > 0.5).astype(np.uint8)
    within, beyond = (cv2.distanceTransform(mask, cv2.DIST_L2, 3) / height for mask in (person, 1 - person))
    strange, usual = strangeness(guide, (beyond > _LEAST) & (probability < 0.1), _ROUND * height)
    foreign = strange > 1.0
    # Hair ends somewhere below the chin; and before a restless scene the segmentation knows more than colours do.
    plain = np.exp(-usual / RESTLESS)
    hair = plain * np.clip((chin - np.arange(side)) / (0.2 * height), 0.0, 1.0)[:, None]
    out, deep = hair * _HAIR_OUT + (1 - hair) * _EDGE_OUT, hair * _HAIR_IN + (1 - hair) * _EDGE_IN
    doubtful = (probability > 0.1) & (probability < 0.9)
    inside = (within > deep) & ~doubtful & (foreign | (probability > 0.99))
    # Beside the edge, what looks like the scene round it is scene; what does not may be a wisp or an ornament.
    outside = ~doubtful & ((beyond > out) | ((beyond > _LEAST) & ~foreign))
    outside |= (beyond > 2 * out) & (probability < 0.5) & ~(doubtful & foreign & (plain > 0.5))
    if face_mask is not None:
        inside |= face_mask
        outside &= ~face_mask
    # Where the segmentation is in doubt, colours that are not the scene's tip the scales.
    lean = 1.6 * plain * soft * (1 - soft) * np.clip(strange - 1.0, -0.7, 1.0)
    prior = np.clip((soft + lean - 0.3) / 0.4, 0.0, 1.0)
    # On its way from skin to hair a colour may pass the scene's: what such pixels lie between counts.
    unlike = cv2.morphologyEx(np.clip(strange - 1.0, 0.0, 1.0), cv2.MORPH_CLOSE, ellipse(_PASSING * height))
    sure = np.clip((probability - 0.8) / 0.15, 0.0, 1.0)
    least = cv2.GaussianBlur(unlike, (0, 0), 0.003 * height + 0.3) * prior * sure
    return Trimap(inside, outside, prior.astype(np.float32), least.astype(np.float32))


def ellipse(radius: float) -> Array:
    """A structuring element: a disc of at least one pixel's radius."""
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(radius)) + 1,) * 2)


def strangeness(guide: Array, scene: Array, radius: float) -> tuple[Array, Array]:
    """How little each pixel's colour fits the scene round it, and how much the scene itself varies there.

    Args:
        guide: float32 [h, w, 3] in 0..1.
        scene: bool [h, w], scene with perhaps a strand of hair before it.
        radius: of what counts as round a pixel, in pixels; beyond it the scene is continued smoothly.

    Returns:
        float32 [h, w] twice: the distance from the local mean, 1 being about as far as the scene itself goes; and its usual distance.
    """
    import cv2

    def mean(values: Array, share: Array, sigma: float) -> Array:
        # What is so smooth is computed on a small picture.
        step = max(1, int(sigma / 2))
        small = (-(-share.shape[1] // step), -(-share.shape[0] // step))
        pair = (cv2.resize(part, small, interpolation=cv2.INTER_AREA) for part in (share, values * share[..., None]))
        total, summed = (cv2.GaussianBlur(part, (0, 0), sigma / step) for part in pair)
        near = summed.reshape(*total.shape, -1) / np.maximum(total, 1e-3)[..., None]
        whole = push_pull(near, np.clip(10 * total, 0.0, 1.0) * (total > 0.02))
        return cv2.resize(whole, share.shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(*share.shape, -1)

    share = scene.astype(np.float32)
    for _ in range(2):
        stray = np.sqrt(((guide - mean(guide, share, radius / 2)) ** 2).sum(-1))
        usual = mean(stray[..., None], share, 2 * radius)[..., 0]
        strange = stray / (2.0 * usual + 0.02)
        # Once more without what stands before the scene.
        share = scene * np.exp(-(strange**2)).astype(np.float32)
    return strange, usual


def _own_piece(alpha: Array, face_mask: Array | None) -> Array:
    """``alpha`` [h, w] without what hangs together neither with the face nor, if there is none, with the largest piece: specks, scenery."""
    import cv2

    # A strand may be broken for a pixel or two; haze is no link.
    near = cv2.dilate((alpha > 0.25).astype(np.uint8), np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(near)
    votes = np.bincount(labels[face_mask], minlength=len(stats)) if face_mask is not None else stats[:, cv2.CC_STAT_AREA].copy()
    votes[0] = 0
    if not votes.any():
        return alpha
    return alpha * cv2.dilate((labels == votes.argmax()).astype(np.uint8), np.ones((3, 3), np.uint8))


def _guided_filter(guide: Array, values: Array, radius: int, epsilon: float) -> Array:
    """Edge-preserving smoothing of ``values`` [h, w] that follows the colours of ``guide`` [h, w, 3] in 0..1 (He et al., 2013, eq. 19)."""
    import cv2

    from triportrait.face.matte_kernels import local_lines

    def mean(array: Array) -> Array:
        return cv2.blur(array, (2 * radius + 1,) * 2, borderType=cv2.BORDER_REFLECT)

    values = values.astype(np.float32, copy=False)
    red, green, blue = (np.ascontiguousarray(guide[..., channel]) for channel in range(3))
    first = mean(cv2.merge([red * red, red * green, red * blue]))
    second = mean(cv2.merge([green * green, green * blue, blue * blue]))
    crosses = mean(cv2.merge([red * values, green * values, blue * values]))
    slope, offset = np.empty_like(guide), np.empty_like(values)
    local_lines(mean(guide), np.concatenate([first, second], -1), crosses, mean(values), epsilon, slope, offset)
    slope = mean(slope)
    return slope[..., 0] * red + slope[..., 1] * green + slope[..., 2] * blue + mean(offset)


@dataclass(frozen=True, slots=True)
class HeadCover:
    """The fitted head seen in the photo; s is the crop's side.

    Args:
        covered: bool [s, s], some skin of the mesh projects here.
        neck: float32 [s, s], how much that skin belongs to the neck (0 head .. 1 shoulders).
        depth: float32 [s, s], camera depth in decimetres, inf where not covered.
    """

    covered: Array
    neck: Array
    depth: Array


def head_cover(head: OpenHead, vertices: Array, motion: MotionFrame, side: int, focal: float) -> HeadCover:
    """Rasterise the fitted skin (``vertices`` [v, 3], unposed) at the photo's pose."""
    from triportrait.geometry.rasteriser import interpolate, rasterise

    pixels, depth = project(pose_points(vertices, motion.rotation_rad, motion.translation), side, focal)
    skin = head.triangles[(head.part[head.triangles] <= HeadPart.SOCKET).all(1)]
    fragments = rasterise(pixels.astype(np.float32), depth.astype(np.float32), skin, side, side, cull="back")
    neck = interpolate(fragments, skin, head.neck[:, None])[..., 0]
    return HeadCover(fragments.triangle >= 0, neck, fragments.depth)


def head_share(cover: HeadCover, landmarks: Array) -> Array:
    """Which part of each pixel belongs to the head rather than to neck and torso: float32 [s, s].

    On the mesh the neck weight decides; beside it (hair, hats) the nearest mesh pixel does. The step along the jaw is sharp, elsewhere
    soft.
    """
    import cv2

    side = cover.covered.shape[0]
    notch = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (side // 40) + 1,) * 2)
    on_mesh = 1.0 - np.clip((cover.neck - 0.02) / 0.06, 0.0, 1.0)
    nearest = nearest_pixels(cover.covered)
    # Notches below the ears, where the neck shows through between cheek and hair, belong to the head.
    share = cv2.morphologyEx(on_mesh[nearest].astype(np.float32), cv2.MORPH_CLOSE, notch)
    # The jaw's rim goes with the head, and a little of its shadow: a sliver left behind would be a second jaw.
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(4 * side / 512) + 1,) * 2)
    share = cv2.dilate(share, rim)
    face_height = float(np.linalg.norm(landmarks[FOREHEAD_TOP, :2] - landmarks[CHIN, :2]))
    # Nothing far below the chin is head, whatever lies nearest.
    along = landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2]
    along = along / np.linalg.norm(along)
    y, x = np.mgrid[:side, :side] + 0.5
    below = ((x - landmarks[CHIN, 0]) * along[0] + (y - landmarks[CHIN, 1]) * along[1]) / face_height
    share = share * np.clip(1.0 - (below - 0.05) / 0.25, 0.0, 1.0).astype(np.float32)
    soft = cv2.GaussianBlur(share, (0, 0), side / 60)
    near = np.clip(distance_of(nearest) / (side / 50), 0.0, 1.0).astype(np.float32)
    crisp = cv2.GaussianBlur(share, (0, 0), side / 400)
    return (near * soft + (1 - near) * crisp).astype(np.float32)


def settle_jaw(image: Array, alpha: Array, share: Array, landmarks: Array) -> Array:
    """``share`` with its step along the jaw moved onto the edge that the photo shows: float32 [s, s].

    The fitted jaw is bare and never exactly as wide as a real one. A beard's rim, or a sliver of cheek beside the fit, would stay behind
    with the torso and show as a second jaw. Near the step, a pixel's place between the colours on both sides decides (as in
    :func:`refine_matte`); beside the neck there is nothing but head.

    Args:
        image: uint8 [s, s, 3]; alpha: float32 [s, s], person; share: from :func:`head_share`; landmarks: [478, 2 or 3] in pixels.
    """
    import cv2

    side = len(image)
    unit = side / 512
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(10 * unit) + 1,) * 2)
    person = (alpha > 0.9).astype(np.uint8)
    head = ((share > 0.5) & (alpha > 0.5)).astype(np.uint8)
    inside, near = cv2.erode(head, reach), cv2.dilate(head, reach)
    outside = person * (1 - near)
    band = person.astype(bool) & (inside == 0) & (near == 1)
    guide = image.astype(np.float32) / 255
    front, back = push_pull(guide, inside.astype(np.float32)), push_pull(guide, outside.astype(np.float32))
    line = front - back
    length = np.maximum((line**2).sum(-1), 1e-6)
    mixture = np.clip(((guide - back) * line).sum(-1) / length, 0.0, 1.0)
    stray = ((guide - back - mixture[..., None] * line) ** 2).sum(-1)
    trust = np.clip((np.sqrt(length) - 0.12) / 0.2, 0.0, 1.0) * np.exp(-stray / 0.02) * band
    # The jaw alone: beside the ears hair hangs before everything, and far below the chin there is cloth.
    rows = np.arange(side)[:, None] + 0.5
    mouth, chin = float(landmarks[UPPER_LIP_INSIDE, 1]), float(landmarks[CHIN, 1])
    fade = 0.12 * max(chin - float(landmarks[FOREHEAD_TOP, 1]), 1.0)
    trust = trust * np.clip((rows - mouth) / fade, 0.0, 1.0) * np.clip((chin + fade - rows) / fade, 0.0, 1.0)
    trust = cv2.GaussianBlur(trust.astype(np.float32), (0, 0), unit)
    left, right = neck_sides(alpha, landmarks)
    columns = np.arange(side)[None, :]
    beside = ((columns < left) | (columns >= right)) & (near == 1) & (rows < chin) & (rows > mouth - fade)
    settled = (1 - trust) * share + trust * np.clip((mixture - 0.3) / 0.4, 0.0, 1.0)
    settled = np.where(beside, np.maximum(settled, share + (1 - share) * cv2.GaussianBlur(near.astype(np.float32), (0, 0), unit)), settled)
    # One step and no islands: what is thinner than a few pixels, or has no connection with the head, is not jaw.
    level = cv2.medianBlur(np.round(255 * settled).astype(np.uint8), 2 * max(1, round(4 * unit)) + 1)
    _, labels = cv2.connectedComponents((level > 127).astype(np.uint8))
    own = np.isin(labels, np.unique(labels[(inside > 0) & (level > 127)]))
    moved = (level / 255) * cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8))
    result = np.where(band & (rows > mouth - fade) & (rows < chin + fade), moved, share).astype(np.float32)
    return cv2.GaussianBlur(result, (0, 0), 0.7 * unit)


def neck_sides(alpha: Array, landmarks: Array) -> tuple[int, int]:
    """Left and right edge (pixels) of the neck where it is narrowest, from the person's outline just below the chin."""
    size = alpha.shape[0]
    face_height = float(np.linalg.norm(landmarks[FOREHEAD_TOP, :2] - landmarks[CHIN, :2]))
    chin_x, chin_y = landmarks[CHIN, :2]
    best = (0, size)
    for row in range(int(chin_y - 0.05 * face_height), int(chin_y + 0.2 * face_height)):
        column = int(np.clip(chin_x, 0, size - 1))
        if not 0 <= row < size or alpha[row, column] < 0.5:
            continue
        gaps = np.flatnonzero(alpha[row] < 0.5)
        left = int(gaps[gaps < column].max(initial=-1)) + 1
        right = int(gaps[gaps > column].min(initial=size))
        if right - left < best[1] - best[0]:
            best = (left, right)
    return best
