"""How the fitted head lies in its photograph: which vertices are seen, which only guessed, and with what colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.mouth.inside import seat_teeth
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, FACE_POINTS
from triportrait.geometry.nearest import nearest_points
from triportrait.geometry.neighbours import NeighbourMean
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rasteriser import Fragments, rasterise
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: Skin farther than this from any face landmark is skull, not face (decimetres).
_FACE_REACH_DM = 0.16


@dataclass(frozen=True, slots=True)
class Surface:
    """The head of one portrait at the photo's pose; v vertices, s the crop's side.

    Args:
        shape: [v, 3] float32, expressionless head with the portrait's offsets; the skull drawn in under the photo's outline.
        source: [v, 3] float32, the head as in the photo, unposed.
        pixels: [v, 2] float32 and ``depth`` [v] float32: where it projects.
        skin: [f, 3] int32 triangles of the skin alone.
        fragments: the skin seen from the camera (front faces).
        face: [v] float32, 1 in the face proper, falling to 0 on the skull.
        seen: [v] float32, how well the photo shows a vertex.
    """

    shape: Array
    source: Array
    pixels: Array
    depth: Array
    skin: Array
    fragments: Fragments
    face: Array
    seen: Array


def fit_surface(portrait: PreparedPortrait, head: FullHead) -> Surface:
    """Project the portrait's head, draw the skull in under the outline, and find what is seen."""
    size = portrait.image.shape[0]
    motion = portrait.motion
    shape = head.shape(portrait.identity) + portrait.vertex_offset
    inside = (head.part > HeadPart.SKIN) & (head.part < HeadPart.EYE_LEFT)
    shape[inside] += seat_teeth(head, shape)
    is_skin = head.part == HeadPart.SKIN
    skin = np.ascontiguousarray(head.triangles[(head.part[head.triangles] <= HeadPart.SOCKET).all(1)])

    source = head.deform(shape, motion.expression, motion.gaze_rad)
    face = face_weight(head, source)
    shape = shape + _carve(portrait, head, source, is_skin & (face < 0.99) & (head.neck < 0.05), face)
    source = head.deform(shape, motion.expression, motion.gaze_rad)
    posed = pose_points(source, motion.rotation_rad, motion.translation)
    pixels, depth = project(posed, size, portrait.focal)
    pixels, depth = pixels.astype(np.float32), depth.astype(np.float32)
    fragments = rasterise(pixels, depth, skin, size, size, cull="back")

    seen = _seen(portrait, posed, pixels, depth, skin, fragments) * is_skin
    return Surface(shape, source, pixels, depth, skin, fragments, face, seen.astype(np.float32))


def hidden_vertices(portrait: PreparedPortrait, head: FullHead, vertices: Array, skin: Array) -> Array:
    """How far the photo would not show each of the head's ``vertices`` [v, 3], unposed, e.g. in another expression: float32 [v] in 0..1.

    Args:
        skin: [f, 3] int32 triangles.
    """
    size, motion = len(portrait.image), portrait.motion
    posed = pose_points(vertices, motion.rotation_rad, motion.translation)
    pixels, depth = (values.astype(np.float32) for values in project(posed, size, portrait.focal))
    fragments = rasterise(pixels, depth, skin, size, size, cull="back")
    return _replaced(_seen(portrait, posed, pixels, depth, skin, fragments) * (head.part == HeadPart.SKIN)).astype(np.float32)


def _seen(portrait: PreparedPortrait, posed: Array, pixels: Array, depth: Array, skin: Array, fragments: Fragments) -> Array:
    """How well the photo shows posed vertices [v, 3] which lie at ``pixels`` [v, 2] in ``depth`` [v]: [v] in 0..1."""
    size = len(portrait.image)
    view = np.array([0, 0, 10.0]) - posed
    facing = (vertex_normals(posed, skin) * view).sum(1) / np.linalg.norm(view, axis=1)
    x, y = (np.clip(pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    inside = (pixels >= 0).all(1) & (pixels < size).all(1)
    front = depth < fragments.depth[y, x] + 0.04
    solid = portrait.person_alpha[y, x] > 0.9
    return np.clip((facing - 0.12) / 0.2, 0, 1) * (inside & front & solid)


def _replaced(seen: Array) -> Array:
    """How far a spread colour replaces the photo's on vertices that it shows so well."""
    return np.clip(1.0 - seen / 0.6, 0.0, 1.0)


def face_weight(head: FullHead, source: Array) -> Array:
    """1 where face landmarks are near, 0 on skull, ears and neck: [v] float32."""
    anchors = head.landmarks478(source)[:FACE_POINTS]
    distance = nearest_points(anchors, source)[0][:, 0]
    return np.clip(1.5 - distance / _FACE_REACH_DM, 0.0, 1.0).astype(np.float32)


def _carve(portrait: PreparedPortrait, head: FullHead, source: Array, chosen: Array, face: Array) -> Array:
    """Offsets [v, 3] that pull skull vertices towards the head's axis until the photo's outline hides them.

    A bald model is never exactly as wide as a real head; where it is wider, guessed skin would stick out beside the hair.
    """
    import cv2

    size = portrait.image.shape[0]
    solid = cv2.erode((portrait.head_alpha > 0.95).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    index = np.flatnonzero(chosen)
    axis = np.array([0.0, 0.35, -0.55])
    best = np.full(len(index), 0.65)
    for scale in (0.7, 0.75, 0.8, 0.85, 0.9, 0.93):
        moved = axis + (source[index] - axis) * scale
        pixels, _ = project(pose_points(moved, portrait.motion.rotation_rad, portrait.motion.translation), size, portrait.focal)
        x, y = (np.clip(pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
        inside = solid[y, x] | (pixels < 0).any(1) | (pixels >= size).any(1)
        best[inside] = scale
    target = axis + (source[index] - axis) * best[:, None]
    # Ears are the mantle's: the model's own are never where the photo's are.
    target[:, 0] = np.clip(target[:, 0], -0.62, 0.62)
    offset = np.zeros_like(source)
    amount = (1.0 - face[index])[:, None]
    offset[index] = amount * (target - source[index])
    return _smooth_over(offset, head.triangles, index, 6).astype(np.float32)


def _smooth_over(values: Array, triangles: Array, index: Array, rounds: int) -> Array:
    """Average neighbours a few times at ``index`` (values [v, c]); other vertices stay."""
    mean = NeighbourMean.of(triangles, len(values))
    values = values.copy()
    for _ in range(rounds):
        values[index] = mean(values)[index]
    return values


def spread_colours(surface: Surface, portrait: PreparedPortrait, head: FullHead) -> Array:
    """A colour for every skin vertex: seen ones from the photo, the rest spread over the mesh from them.

    Returns:
        [v, 4] float32: RGB 0..255, and how much this colour replaces the photo (1 = the photo does not show the vertex).
    """
    import cv2

    size = portrait.image.shape[0]
    x, y = (np.clip(surface.pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    soft = cv2.GaussianBlur(portrait.image, (0, 0), 1.5).astype(np.float64)
    colour = soft[y, x]
    skin = head.part == HeadPart.SKIN
    # Vertices at the lids' margins lie in the photo's open eyes, whose colours no lid has.
    opened = cv2.GaussianBlur(np.maximum(*(eye_opening(portrait, rim) for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM))), (0, 0), 1.5)
    fixed = (surface.seen > 0.6) & skin & (opened[y, x] < 0.02)
    hidden = np.flatnonzero(skin & ~fixed)
    if not fixed.any():
        colour[hidden] = 127.0
    # Hair continues as hair, skin as skin; and the other half of a head is a better guess than its rim.
    for group in (surface.face >= 0.5, surface.face < 0.5):
        known = np.flatnonzero(fixed & (group if (fixed & group).any() else True))
        rows = hidden[group[hidden]]
        if not len(known) or not len(rows):
            continue
        direct, near = nearest_points(surface.shape[known], surface.shape[rows])
        mirrored, opposite = nearest_points(surface.shape[known], surface.shape[rows] * (-1, 1, 1))
        colour[rows] = colour[known[np.where(mirrored + 0.1 < direct, opposite, near)[:, 0]]]
    mean = NeighbourMean.of(head.triangles, len(colour))
    for _ in range(12):
        colour[hidden] = mean(colour)[hidden]
    return np.concatenate([colour, _replaced(surface.seen)[:, None]], 1).astype(np.float32)


def lay_over(colours: Array, vertices: Array, own: Array, amount: Array) -> None:
    """Let ``own`` [k, 3], 0..255, replace the photo at ``vertices`` [k] by an ``amount`` [k, 1] of 0..1, in ``colours`` [v, 4], in place.

    The last channel of ``colours`` is how far the other three replace the photo already: what is hidden anyway keeps its colour as far as
    it counted.
    """
    before = colours[vertices]
    total = amount + (1.0 - amount) * before[:, 3:]
    before[:, :3] += amount / np.maximum(total, 1e-6) * (own - before[:, :3])
    before[:, 3:] = total
    colours[vertices] = before
