"""The mantle: hair, ears and everything else of a head that the face mesh is not, as one closed, smooth body over the photo.

Its front is a grid over the photo, cut along the head's solid outline; its far side is the front mirrored at the outline, and both share
the points of that outline: a turn uncovers a round head without a gap. Softer hair beyond the outline lies in the outline's plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.surface import Surface
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rasteriser import rasterise
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, HeadPart, MotionFrame, PreparedPortrait

#: Grid spacing, and how far the sheet reaches beyond the crop, in pixels of a 512 px crop.
_STEP_PX = 4
_MARGIN_PX = 48
#: Hair lies this far in front of the skull that the model knows (decimetres).
_HAIR_DM = 0.07
#: Head-space depth of the outline beside the brows and above (a skull is widest behind its ears), and beside the mouth (the jaw's corner),
#: where the fitted head's own outline is far away.
_CROWN_Z_DM, _JAW_Z_DM = -0.85, -0.6
#: What that counts for beside the fitted outline.
_USUAL_WEIGHT = 2e-4
#: The far side's depth behind the outline's plane relative to the near side's before it.
_FAR_DEPTH = 0.7
#: The solid outline: the matte smoothed by so many pixels of a 512 px crop, at this level.
_OUTLINE_PX, _OUTLINE_LEVEL = 2.5, 0.8
#: From this stretch on (relative to the photo) the rim shows what the photo shows beside it, so much per unit of stretch.
_STRETCH, _PULL = 1.25, 0.7
#: Where the photo saw the sheet at a lower cosine than this, stretch is not taken literally.
_GLANCE = 0.1
#: So far from the outline the guessed texture turns back inwards, and how far it goes at most (pixels of a 512 px crop).
_TURN_BACK_PX, _TEXTURE_PX = 12, 56
#: How strong it is there.
_TEXTURE = 0.8
#: The far side rises over these heights of the face (0 mouth, 1 brows).
_FAR_RISE = 0.08, 0.5
#: The sheet keeps a rim of so many pixels of a 512 px crop over the mesh, and half as many over lids.
_OVERLAP_PX = 12
#: So far (in widths of the eye) round the opening the lids are the mesh's alone.
_EYE_REACH = 0.3


@dataclass(frozen=True, slots=True)
class Mantle:
    """m nodes: of a grid over the photo, of the outline, and of the far side.

    Args:
        rest: [m, 3] float32 head-space positions in the photo's expression.
        pixels: [m, 2] float32, the photo pixel each node shows.
        normal: [m, 3] float32, unit normals in head space, and ``facing`` [m] float32: their cosine with the photo's view.
        guess: [m, 5] float32, what is shown where the photo saw nothing: a pixel of the detail picture, and a colour (0..255).
        far: [m] float32, 1 on the far side, which is a guess from everywhere.
        yielding: [m] float32, 1 where skin of the mesh is the better guess.
        triangles: [k, 3] int32 of the front, and ``far_triangles`` of the far side.
        corner: [m, 3] int32 mesh vertices each node follows and ``weight`` [m, 3] float32 (barycentric times a fade with distance).
        low: [s, s, 3] float32, the photo's colours without its features, and ``detail`` [s, s, 3], its texture of mean 0.
    """

    rest: Array
    pixels: Array
    normal: Array
    facing: Array
    guess: Array
    far: Array
    yielding: Array
    triangles: Array
    far_triangles: Array
    corner: Array
    weight: Array
    low: Array
    detail: Array

    def follow(self, displacement: Array) -> Array:
        """Node positions [m, 3] for mesh vertices moved by ``displacement`` [v, 3] from the photo's expression."""
        return self.rest + np.einsum("mk,mkc->mc", self.weight, displacement[self.corner])

    def guessed(self, frame: MotionFrame) -> Array:
        """How far each node shows its guess instead of the photo from the view of ``frame``: float32 [m].

        What the photo saw edge-on covers many pixels once it is turned to the viewer; its few pixels would be streaks.
        """
        return np.maximum(stretched(self.facing, cosines(self.rest, self.normal, frame)), self.far)

    def carry(self, values: Array) -> Array:
        """A number per mesh vertex [v], which fades away from the mesh, at the nodes: float32 [m]."""
        return (self.weight * values[self.corner]).sum(1)


def build_mantle(portrait: PreparedPortrait, head: FullHead, surface: Surface, colours: Array, mesh: Array) -> Mantle:
    """Depth by inflation: squared height over the outline's plane solves Laplace's equation between skull and outline.

    The square root rounds the sheet off towards the outline like a sphere, so that a turned head keeps a plausible contour.

    Args:
        portrait, head, surface: whose.
        colours: float32 [s, s, 3] 0..255, the photo without the scene shining through.
        mesh: bool [s, s], where the photo shows skin that is drawn by itself.
    """
    import cv2
    from scipy.ndimage import distance_transform_edt

    size = portrait.image.shape[0]
    unit = size / 512
    step, margin = _STEP_PX * unit, round(_MARGIN_PX * unit)
    line = np.arange(-margin, size + margin + 1e-3, step)
    x, y = np.meshgrid(line, line)
    column, row = (np.clip(v, 0, size - 1).astype(int) for v in (x, y))

    covered = surface.fragments.triangle >= 0
    corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
    barycentric = surface.fragments.barycentric
    face = (surface.face[corners] * barycentric).sum(-1) * covered
    neck = (head.neck[corners] * barycentric).sum(-1)
    motion = portrait.motion
    matrix = matrix_from_euler(motion.rotation_rad)
    rise_map = _rise(portrait)
    plane, rise = _outline_depth(portrait, head, rise_map)[row, column], rise_map[row, column]
    alpha = _beyond_the_crop(portrait.head_alpha, margin)
    signed = _signed_distance(alpha, unit)
    # Rounded off towards the scene alone: where the torso goes on, the outline is a mere cut.
    person = _signed_distance(_beyond_the_crop(np.maximum(portrait.person_alpha, portrait.head_alpha), margin), unit)
    down, across = (np.clip(v + margin, 0, len(alpha) - 1).astype(int) for v in (y, x))
    inside_px = signed[down, across].astype(np.float64)
    # Slivers would be of no use.
    inside_px = np.where(np.abs(inside_px) < 0.12 * step, np.where(inside_px > 0, 0.12, -0.12) * step, inside_px)
    person_px = person[down, across].astype(np.float64)

    hair = _HAIR_DM * (1 - face[row, column])
    height = np.where(covered[row, column], plane - surface.fragments.depth[row, column] + hair, 0.0)
    in_crop = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    known = (covered & (_facing(surface, covered) > 0.3) & (neck < 0.02))[row, column] & in_crop & (person_px > 0)
    target = np.where(known, np.maximum(height, 0.05) ** 2, 0.0)
    squared = np.maximum(_laplace(target, known | (person_px <= 0)), 0.0)
    squared, growth = _round_rim(squared, person_px, step)

    # Inside the face the mesh itself is drawn; the sheet keeps a rim under it.
    alive = alpha[down, across] > 0.01
    # Where it closes, the eye is the mesh's alone: the sheet would show the open one.
    whole = cv2.morphologyEx(mesh.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((2 * round(2 * unit) + 1,) * 2, np.uint8)).astype(bool)
    inner = distance_transform_edt(face_hull(portrait.landmarks, size) & whole) > _OVERLAP_PX * unit
    opening, lids = (_eyes(portrait.landmarks, size, reach) for reach in (0.0, _EYE_REACH))
    inner |= (opening & whole) | (lids & (distance_transform_edt(whole) > 0.5 * _OVERLAP_PX * unit))
    inner = inner[row, column]
    triangles, cell = _grid_triangles(*x.shape)
    in_front = _touched(alive & ~inner)[cell]
    behind = _touched(rise > _FAR_RISE[0])[cell]
    triangles, parent, within, ends, share = _cut(triangles[in_front | behind], inside_px.ravel())
    in_front, behind = (flag[in_front | behind][parent] for flag in (in_front, behind))
    count, outline = x.size, len(ends)

    def at_nodes(values: Array) -> Array:
        flat = values.reshape(count, -1)
        both = flat[ends[:, 0]] * (1 - share[:, None]) + flat[ends[:, 1]] * share[:, None]
        return np.concatenate([flat, both])[:, 0]

    x, y, plane, rise, growth, squared = (at_nodes(v) for v in (x, y, plane, rise, growth, squared))
    inside_px = np.concatenate([inside_px.ravel(), np.zeros(outline)])
    # Both sides end in the outline's plane where they end at the scene.
    person_px = np.concatenate([person_px.ravel(), at_nodes(person_px)[count:]])
    at_scene = np.where(np.arange(len(x)) < count, 1.0, np.clip(person_px / step - 1.0, 0.0, 1.0))
    height = np.sqrt(squared * at_scene)
    # Flat below the ears: a chin mirrored behind itself would be a second chin.
    lift = np.clip((rise - _FAR_RISE[0]) / (_FAR_RISE[1] - _FAR_RISE[0]), 0.0, 1.0)
    far_height = _FAR_DEPTH * lift * lift * (3 - 2 * lift) * height
    focal_px = portrait.focal * size

    def in_head_space(depth: Array) -> Array:
        posed = np.stack([(x - size / 2) * depth / focal_px, (size / 2 - y) * depth / focal_px, CAMERA_DISTANCE_DM - depth], -1)
        return (posed - motion.translation) @ matrix

    near, far = in_head_space(plane - height), in_head_space(plane + far_height)
    view = np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - motion.translation
    view = view @ matrix - near
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    normal = vertex_normals(near, triangles[in_front & within])
    # Soft hair beyond the outline lies flat.
    flat = (inside_px < 0) | (np.linalg.norm(normal, axis=1) < 0.5)
    normal = np.where(flat[:, None], view, normal)

    pixel_row, pixel_column = (np.clip(v, 0, size - 1).astype(int) for v in (y, x))
    distance, (near_row, near_column) = distance_transform_edt(~covered, return_indices=True)
    at = near_row[pixel_row, pixel_column], near_column[pixel_row, pixel_column]
    fade = np.exp(-((distance[pixel_row, pixel_column] / (0.08 * size)) ** 2))
    following = barycentric[at] * fade[:, None]
    skin = _like_the_face(portrait)
    shown, _ = _mirrored(x, y, portrait.head_alpha)
    low, detail = _without_features(portrait, colours, skin, signed[margin : margin + size, margin : margin + size])
    scale = focal_px / plane
    near_place, far_place, rim_place = _guess_places(
        shown, inside_px, height * scale, far_height * scale, growth * scale**2, signed, margin
    )
    guess = np.concatenate([np.hstack([near_place, sampled(low, shown)]), np.hstack([far_place, sampled(low, rim_place)])])
    # The far side shares the outline's nodes; its own ones come after all others.
    total = count + outline
    back = triangles[behind & within]
    drawn = [triangles[in_front], np.where(back < count, back + total, back)]
    used, renamed = np.unique(np.concatenate(drawn), return_inverse=True)
    renamed = renamed.reshape(-1, 3).astype(np.int32)

    def twice(values: Array, far_values: Array | None = None, kind: type = np.float32) -> Array:
        return np.ascontiguousarray(np.concatenate([values, values if far_values is None else far_values])[used], kind)

    return Mantle(
        rest=twice(near, far),
        pixels=twice(shown),
        normal=twice(normal, -normal),
        facing=twice(np.maximum((normal * view).sum(1), 0.0)),
        guess=np.ascontiguousarray(guess[used], np.float32),
        far=twice(np.zeros(total), np.ones(total)),
        yielding=twice((face * skin)[pixel_row, pixel_column]),
        triangles=np.ascontiguousarray(renamed[: len(drawn[0])]),
        far_triangles=np.ascontiguousarray(renamed[len(drawn[0]) :]),
        corner=twice(corners[at], kind=np.int32),
        weight=twice(following, np.zeros_like(following)),
        low=low,
        detail=detail,
    )


def cosines(points: Array, normals: Array, frame: MotionFrame) -> Array:
    """Between normals [n, 3] at head-space points [n, 3] and the view of ``frame``: float32 [n]."""
    camera = (np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - frame.translation) @ matrix_from_euler(frame.rotation_rad)
    view = camera.astype(np.float32) - points
    return np.einsum("nc,nc->n", normals, view) / np.linalg.norm(view, axis=1)


def stretched(then: Array, now: Array) -> Array:
    """How far a surface that the photo saw at cosines ``then`` [n] has become streaks under cosines ``now`` [n]: float32 0..1."""
    stretch = (np.maximum(now, 0.0) + _GLANCE) / (np.maximum(then, 0.0) + _GLANCE)
    return np.clip(_PULL * (stretch - _STRETCH), 0.0, 1.0).astype(np.float32)


def _rise(portrait: PreparedPortrait) -> Array:
    """0 at the mouth's height and below, 1 at the brows' and above: float64 [s, s]."""
    size = len(portrait.image)
    y, x = np.mgrid[:size, :size] + 0.5
    brows, mouth = portrait.landmarks[9, :2], portrait.landmarks[13, :2]
    up = (brows - mouth) / max(float(((brows - mouth) ** 2).sum()), 1.0)
    rise = np.clip((x - mouth[0]) * up[0] + (y - mouth[1]) * up[1], 0.0, 1.0)
    return rise * rise * (3 - 2 * rise)


def _outline_depth(portrait: PreparedPortrait, head: FullHead, rise: Array) -> Array:
    """Camera depth of the head's outline near each pixel, float64 [s, s]: the fitted head's own, far from it a usual skull's."""
    import cv2

    size, motion = len(rise), portrait.motion
    matrix = matrix_from_euler(motion.rotation_rad)
    jaw, crown = (CAMERA_DISTANCE_DM - float((matrix @ (0, 0.3, z) + motion.translation)[2]) for z in (_JAW_Z_DM, _CROWN_Z_DM))
    usual = jaw + (crown - jaw) * rise
    # Of a head in half profile the one side's outline is its cheek, the other's the back of its skull.
    vertices = head.deform(head.shape(portrait.identity) + portrait.vertex_offset, motion.expression, motion.gaze_rad)
    skin = head.triangles[(head.part[head.triangles] == HeadPart.SKIN).all(1) & (head.neck[head.triangles] < 0.02).all(1)]
    pixels, depth = project(pose_points(vertices, motion.rotation_rad, motion.translation), size, portrait.focal)
    drawn = rasterise(pixels.astype(np.float32), depth.astype(np.float32), np.ascontiguousarray(skin), size, size, cull="back")
    covered = (drawn.triangle >= 0).astype(np.uint8)
    filled = cv2.morphologyEx(np.pad(covered, 1), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))[1:-1, 1:-1]
    rim = covered.astype(bool) & (cv2.erode(filled, np.ones((3, 3), np.uint8), borderValue=1) == 0)
    known = (rim & (rise > 0.02)).astype(np.float32)
    own = np.where(rim, np.minimum(drawn.depth, 20.0) - usual, 0.0).astype(np.float32)
    away = push_pull(np.dstack([own]), np.maximum(known, _USUAL_WEIGHT))[..., 0]
    return usual + cv2.GaussianBlur(away, (0, 0), 12 * size / 512)


def _eyes(landmarks: Array, size: int, reach: float) -> Array:
    """The eyes' openings grown by ``reach`` widths of theirs and a cell of the grid: bool [s, s]."""
    import cv2

    mask = np.zeros((size, size), np.uint8)
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        points = landmarks[rim, :2].astype(np.float32)
        eye = np.zeros_like(mask)
        cv2.fillConvexPoly(eye, np.round(cv2.convexHull(points)[:, 0]).astype(np.int32), 1)
        grown = round(reach * float(np.linalg.norm(points[8] - points[0])) + _STEP_PX * size / 512)
        mask |= cv2.dilate(eye, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1,) * 2))
    return mask.astype(bool)


def _mirrored(x: Array, y: Array, alpha: Array) -> tuple[Array, Array]:
    """What lies beyond the crop of side s is the photo mirrored: its pixels [..., 2] for pixels x, y [...], and where the head may be.

    A crown cut off by the upper border closes above it as a circle would: what is mirrored is drawn together sideways.
    """
    size = len(alpha)
    shown = np.stack([size - np.abs(size - np.abs(x)), size - np.abs(size - np.abs(y))], -1)
    centre, half, growth = _crown(alpha)
    inside, beyond = np.sqrt(half**2 + growth * np.abs(y)), np.sqrt(np.maximum(half**2 - growth * np.abs(y), 1e-3))
    above = y < 0
    shown[..., 0] = np.where(above, np.clip(centre + (x - centre) * inside / beyond, 0, size), shown[..., 0])
    return shown, ~above | ((np.abs(x - centre) < beyond) & (half**2 > growth * np.abs(y)))


def _beyond_the_crop(alpha: Array, margin: int) -> Array:
    """The head's matte continued by ``margin`` pixels on all sides: float32."""
    line = np.arange(-margin, len(alpha) + margin) + 0.5
    shown, there = _mirrored(*np.meshgrid(line, line), alpha)
    size = len(alpha)
    column, row = (np.clip(shown[..., c], 0, size - 1).astype(int) for c in (0, 1))
    wide = np.where(there, alpha[row, column], 0.0).astype(np.float32)
    # Only what the border cuts goes on beyond it, and closes like a bow: mirrored as it is, half an ear would become a whole one.
    for border, beyond in ((0, slice(margin - 1, None, -1)), (-1, slice(margin + size, None))):
        reach = np.pad(_bows(alpha[:, border] > 0.5, margin), margin, mode="edge")
        wide[:, beyond] *= np.arange(margin)[None, :] < reach[:, None]
    reach = np.pad(_bows(alpha[-1] > 0.5, margin), margin, mode="edge")
    wide[margin + size :] *= np.arange(margin)[:, None] < reach[None, :]
    return wide


def _bows(cut: Array, limit: float) -> Array:
    """Half ellipses over the runs of ``cut`` [n] bool, at most ``limit`` and half as high as long; those at the ends open: float64 [n]."""
    height = np.zeros(len(cut))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], cut.astype(int), [0]])))
    for first, last in edges.reshape(-1, 2):
        place = np.arange(first, last) + 0.5
        low, high = (first if first else -len(cut)), (last if last < len(cut) else 2 * len(cut))
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        height[first:last] = min(limit, 0.6 * half) * np.sqrt(np.maximum(1.0 - ((place - middle) / half) ** 2, 0.0))
    return height


def _signed_distance(alpha: Array, unit: float) -> Array:
    """Pixels to the outline of the solid head, positive inside: float32 like ``alpha``. One piece without holes, and smooth."""
    import cv2
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    solid = cv2.GaussianBlur(alpha, (0, 0), _OUTLINE_PX * unit) > _OUTLINE_LEVEL
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8))
    if len(stats) > 1:
        solid = labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    solid = binary_fill_holes(solid)
    if solid.all() or not solid.any():
        return np.full(alpha.shape, 1e3 if solid.all() else -1e3, np.float32)
    distance = (distance_transform_edt(solid) - distance_transform_edt(~solid)).astype(np.float32)
    return cv2.GaussianBlur(distance, (0, 0), 1.5 * unit)


def _round_rim(squared: Array, inside_px: Array, step: float) -> tuple[Array, Array]:
    """Squared heights on the grid whose growth with the distance from the outline is even along it, and that growth (per pixel).

    Between the grid's nodes the outline runs anyhow: without this, a rim as steep as a sphere's would be a saw.
    """
    import cv2

    trusted = ((inside_px > 1.2 * step) & (inside_px < 4 * step)).astype(np.float32)
    growth = push_pull((squared / np.maximum(inside_px, step)).astype(np.float32)[..., None], trusted)[..., 0]
    weight = cv2.GaussianBlur(np.maximum(trusted, 1e-3), (0, 0), 3.0)
    growth = cv2.GaussianBlur(growth * np.maximum(trusted, 1e-3), (0, 0), 3.0) / weight
    part = np.clip((inside_px / step - 1.0) / 3.0, 0.0, 1.0)
    part = part * part * (3 - 2 * part)
    return np.where(inside_px > 0, part * squared + (1 - part) * growth * np.maximum(inside_px, 0.0), 0.0), growth


def _grid_triangles(rows: int, columns: int) -> tuple[Array, Array]:
    """All triangles of a grid of nodes, counter-clockwise seen from the viewer: [k, 3] int64, and the cell of each [k]."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    cell = np.arange(len(a))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]), np.concatenate([cell, cell])


def _touched(nodes: Array) -> Array:
    """Which cells have a node that is True: bool, row by row."""
    return (nodes[:-1, :-1] | nodes[:-1, 1:] | nodes[1:, :-1] | nodes[1:, 1:]).ravel()


def _cut(triangles: Array, value: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Triangles [k, 3] cut where ``value`` [n], which is nowhere 0, changes its sign.

    Returns:
        triangles [j, 3], the one each is a part of [j], whether it is where ``value`` is positive [j]; of new nodes n, n + 1, .. the two
        nodes each lies between [e, 2], and how far it is from the first to the second [e].
    """
    inside = value[triangles] > 0
    count = inside.sum(1)
    whole = (count == 0) | (count == 3)
    mixed = np.flatnonzero(~whole)
    # Turned so that the corner which is alone on its side comes first.
    alone = np.where(count[mixed, None] == 1, inside[mixed], ~inside[mixed]).argmax(1)
    a, b, c = (triangles[mixed, (alone + k) % 3] for k in range(3))
    edges = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)]), axis=1)
    ends, which = np.unique(edges, axis=0, return_inverse=True)
    which = which.reshape(-1) + len(value)
    p, q = which[: len(mixed)], which[len(mixed) :]
    pieces = [triangles[whole], np.stack([a, p, q], 1), np.stack([p, b, c], 1), np.stack([p, c, q], 1)]
    first = inside[mixed, alone]
    first_end, second_end = value[ends[:, 0]], value[ends[:, 1]]
    return (
        np.concatenate(pieces),
        np.concatenate([np.flatnonzero(whole), mixed, mixed, mixed]),
        np.concatenate([count[whole] == 3, first, ~first, ~first]),
        ends,
        first_end / (first_end - second_end),
    )


def _guess_places(
    shown: Array, inside_px: Array, height_px: Array, far_px: Array, growth_px: Array, signed: Array, margin: int
) -> tuple[Array, Array, Array]:
    """Pixels [n, 2] whose texture the rim and the far side show, and those whose colour the far side has.

    Texture goes back inwards from where the rim turns away, at the photo's own scale along the surface, and on so on the far side.
    """
    import cv2

    size = len(signed) - 2 * margin
    unit = size / 512
    down, across = np.gradient(cv2.GaussianBlur(signed, (0, 0), 4 * unit))
    column, row = (np.clip(shown[:, c] + margin, 0, len(signed) - 1).astype(int) for c in (0, 1))
    into = np.stack([across, down], -1)[row, column]
    into /= np.maximum(np.linalg.norm(into, axis=1, keepdims=True), 1e-3)
    turn = _TURN_BACK_PX * unit
    turn_length = np.hypot(turn, np.sqrt(np.maximum(growth_px * turn, 0.0)))
    depth = np.maximum(inside_px, 0.0)
    near_way = np.maximum(turn + turn_length - np.hypot(depth, height_px) - depth, 0.0) * (depth < turn)
    far_way = turn + turn_length + np.hypot(depth, far_px) - depth
    limit = _TEXTURE_PX * unit
    places = [shown + into * np.minimum(way, limit)[:, None] for way in (near_way, far_way)]
    places.append(shown - into * np.maximum(depth - turn, 0.0)[:, None])
    return tuple(np.clip(place, 0, size) for place in places)


def _without_features(portrait: PreparedPortrait, colours: Array, skin: Array, signed: Array) -> tuple[Array, Array]:
    """The photo's colours just inside the outline, smoothed along it, and its texture of mean 0: float32 [s, s, 3] each.

    Eyes, brows, lips and ears have no part in them: there is no second of any behind the outline.
    """
    import cv2

    size = len(colours)
    unit = size / 512
    points = portrait.landmarks[:, :2].astype(np.float32)
    feature = np.zeros((size, size), np.uint8)
    for rim, low, high in ((EYE_LEFT_RIM, 1.6, 2.6), (EYE_RIGHT_RIM, 1.6, 2.6), (OUTER_LIPS, 1.15, 1.4)):
        hull = cv2.convexHull(points[rim])[:, 0]
        middle = hull.mean(0)
        cv2.fillConvexPoly(feature, np.round(middle + (hull - middle) * (low, high)).astype(np.int32), 1)
    face = face_hull(portrait.landmarks, size)
    # Skin beside the face is an ear.
    beside = cv2.dilate(face.astype(np.uint8), np.ones((2 * round(2 * unit) + 1,) * 2, np.uint8)) == 0
    ear = cv2.dilate((skin & beside & (_rise(portrait) < 0.97)).astype(np.uint8), np.ones((2 * round(3 * unit) + 1,) * 2, np.uint8))
    solid = signed > 4 * unit
    plain = (solid & (feature == 0) & (ear == 0)).astype(np.float32)
    if not plain.any():
        return colours, np.zeros_like(colours)
    # Skin goes on as skin, hair as hair.
    tone = cv2.GaussianBlur(skin.astype(np.float32), (0, 0), 2.0 * unit)[..., None]
    low = tone * _spread(colours, plain * skin, 9 * unit) + (1 - tone) * _spread(colours, plain * ~skin, 9 * unit)
    # Smooth skin needs no texture; strands do.
    bare = cv2.dilate((skin | face).astype(np.uint8), np.ones((2 * round(3 * unit) + 1,) * 2, np.uint8))
    strands = cv2.GaussianBlur(plain * (1 - bare), (0, 0), 3 * unit)
    fine = (colours - cv2.GaussianBlur(colours, (0, 0), 5.0 * unit)) * (_TEXTURE * strands * plain)[..., None]
    return low, np.ascontiguousarray(fine)


def _spread(colours: Array, known: Array, width_px: float) -> Array:
    """Colours [s, s, 3] blurred over what is ``known`` [s, s], and far from that continued; as they are where nothing is known."""
    import cv2

    if not known.any():
        return colours
    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), width_px)
    mean = cv2.GaussianBlur(colours * known[..., None].astype(np.float32), (0, 0), width_px) / np.maximum(weight, 1e-3)[..., None]
    return push_pull(mean, np.clip(weight / 0.05, 0.0, 1.0) * (weight > 2e-3))


def sampled(picture: Array, places: Array) -> Array:
    """Bilinear values [n, c] of [s, s, c] at pixels [n, 2]."""
    import cv2

    places = places.astype(np.float32) - 0.5
    rows = np.array_split(np.arange(len(places)), -(-len(places) // 30000))
    parts = [cv2.remap(picture, places[None, r, 0], places[None, r, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0] for r in rows]
    return np.concatenate(parts)


def _like_the_face(portrait: PreparedPortrait) -> Array:
    """Where the photo has the face's colour, whatever its brightness: bool [s, s]."""
    import cv2

    size = len(portrait.image)
    colour = cv2.GaussianBlur(portrait.image, (0, 0), 2.0 * size / 512).astype(np.float64) + 4.0
    chroma = colour / colour.sum(-1, keepdims=True)
    own = np.median(chroma[face_hull(portrait.landmarks, size)], axis=0)
    near = np.linalg.norm(chroma - own, axis=-1) < 0.035
    return cv2.morphologyEx(near.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(bool)


def _crown(alpha: Array) -> tuple[float, float, float]:
    """The head at the crop's upper border: the middle and half width of its chord there, and how fast that half width's square grows
    downwards (all in pixels; a circle's chord does so evenly). Without growth the head goes on as wide as it is."""
    rows = max(2, len(alpha) // 32)
    chords = [np.flatnonzero(alpha[row] > 0.5) for row in (0, rows)]
    if not len(chords[0]):
        return len(alpha) / 2, 0.0, 0.0
    halves = [(chord[-1] - chord[0] + 1) / 2 if len(chord) else 0.0 for chord in chords]
    return float(chords[0][0] + halves[0]), halves[0], max(0.0, (halves[1] ** 2 - halves[0] ** 2) / rows)


def face_hull(landmarks: Array, size: int) -> Array:
    """Hull of the face's landmarks: bool [s, s]."""
    import cv2

    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(landmarks[:468, :2].astype(np.float32))
    cv2.fillConvexPoly(mask, np.round(hull).astype(np.int32), 1)
    return mask.astype(bool)


def _facing(surface: Surface, covered: Array) -> Array:
    """Cosine between the seen skin and the view, from the depth buffer's triangles: [s, s]."""
    scale = surface.depth[:, None] / (surface.depth.mean() or 1.0)
    unprojected = np.concatenate([surface.pixels * scale, surface.depth[:, None]], 1).astype(np.float64)
    # In pixel units the depth axis must be stretched by the focal length; the mean depth serves for all.
    spread = np.ptp(surface.pixels[:, 0]) / max(np.ptp(surface.source[:, 0]), 1e-6)
    unprojected[:, 2] *= spread
    corner = unprojected[surface.skin]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    cosine = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    return cosine[np.maximum(surface.fragments.triangle, 0)] * covered


def _laplace(values: Array, fixed: Array) -> Array:
    """Harmonic fill of a grid [h, w]: ``values`` where ``fixed``, the mean of the neighbours elsewhere (free at the border)."""
    from scipy.sparse import coo_matrix, eye
    from scipy.sparse.linalg import spsolve

    if fixed.all():
        return values
    height, width = values.shape
    index = np.arange(height * width).reshape(height, width)
    pairs = np.concatenate(
        [
            np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
            np.stack([index[:-1].ravel(), index[1:].ravel()], 1),
        ]
    )
    i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
    adjacency = coo_matrix((np.ones(len(i)), (i, j)), shape=(index.size,) * 2).tocsr()
    free = np.flatnonzero(~fixed.ravel())
    degree = np.asarray(adjacency.sum(1)).ravel()
    inner = adjacency[free]
    matrix = coo_matrix((degree[free], (np.arange(len(free)),) * 2)).tocsr() - inner[:, free]
    known = np.where(fixed, values, 0.0).ravel()
    solution = known.copy()
    # A whisper of regularisation keeps islands without any fixed neighbour solvable.
    solution[free] = spsolve((matrix + 1e-9 * eye(len(free))).tocsc(), inner @ known)
    return solution.reshape(height, width)
