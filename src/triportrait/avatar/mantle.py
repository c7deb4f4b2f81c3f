"""The mantle: hair, ears and everything else of a head that the face mesh is not, as one continuous sheet over the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.surface import Surface
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, FullHead, Portrait

Array = np.ndarray

#: Grid spacing, and how far the sheet reaches beyond the crop, in pixels of a 512 px crop.
_STEP_PX = 4
_MARGIN_PX = 24
#: Hair lies this far in front of the skull that the model knows (decimetres).
_HAIR_DM = 0.07
#: Head-space depth of the outline beside the brows and above (a skull is widest behind its ears), and beside the mouth (the jaw's corner).
_CROWN_Z_DM, _JAW_Z_DM = -0.85, -0.6
#: The far side's depth behind that plane relative to the near side's before it.
_FAR_DEPTH = 0.7
_BACK_GAP_DM = 0.02
#: From this stretch on (relative to the photo) the rim looks inwards, so far per unit of stretch: at most to where the head has been solid
#: for so many pixels of a 512 px crop.
_STRETCH, _PULL, _RIM_PX = 1.25, 0.7, 7
#: How much steeper the matte becomes there.
_CRISPER = 3.0
#: The far side shows the near side's rim, drawn out by the inverse of this.
_RIM_SHARE = 0.35


@dataclass(frozen=True, slots=True)
class Mantle:
    """m nodes of a grid over the photo.

    Args:
        rest: [m, 3] float32 head-space positions in the photo's expression.
        pixels: [m, 2] float32, the photo pixel each node shows.
        inward: [m, 2] float32, from there to where the photo shows the head solidly, 0 inside; on the far side to its colours' place.
        joined: [m] float32, 1 where near and far side are one surface.
        snapped: [n] indices of nodes just outside the photo's outline, and ``snap`` [m, 3] float32, the way onto it in head space.
        grid: rows and columns of the sheet's nodes, and their distance in pixels.
        triangles: [k, 3] int32 of the sheet, and ``far_triangles`` of its mirror image behind the head.
        corner: [m, 3] int32 mesh vertices each node follows and ``weight`` [m, 3] float32 (barycentric times a fade with distance).
    """

    rest: Array
    pixels: Array
    inward: Array
    joined: Array
    snapped: Array
    snap: Array
    grid: tuple[int, int, float]
    triangles: Array
    far_triangles: Array
    corner: Array
    weight: Array

    def follow(self, displacement: Array) -> Array:
        """Node positions [m, 3] for mesh vertices moved by ``displacement`` [v, 3] from the photo's expression."""
        return self.rest + np.einsum("mk,mkc->mc", self.weight, displacement[self.corner])

    def shown(self, places: Array) -> Array:
        """What the nodes show while they stand at pixels ``places`` [m, 2]: float32 [m, 4].

        The photo's pixel with their colour, how much crisper than in the photo the matte's edge is to be, and the least matte. Where a turn
        stretches the sheet's steep rim over many pixels, what is stretched is solid hair instead of the outline's mixture; its edge stays
        an edge, or goes over into the far side without one.
        """
        rows, columns, step = self.grid
        here = places[: rows * columns].reshape(rows, columns, 2)
        across, along = (np.linalg.norm(np.diff(here, axis=axis), axis=-1) / step for axis in (1, 0))
        stretch = np.zeros((rows, columns), np.float32)
        np.maximum(stretch[:, :-1], across, out=stretch[:, :-1])
        np.maximum(stretch[:, 1:], across, out=stretch[:, 1:])
        np.maximum(stretch[:-1], along, out=stretch[:-1])
        np.maximum(stretch[1:], along, out=stretch[1:])
        pull = np.clip(_PULL * (stretch / np.median(stretch) - _STRETCH), 0.0, 1.0).reshape(-1, 1)
        moved = np.concatenate([pull, np.ones_like(pull)]) * self.inward
        pull = np.concatenate([pull, pull])
        return np.concatenate([self.pixels + moved, 1.0 + _CRISPER * pull, pull * self.joined[:, None]], 1).astype(np.float32)

    def carry(self, values: Array) -> Array:
        """A number per mesh vertex [v], which fades away from the mesh, at the nodes: float32 [m]."""
        return (self.weight * values[self.corner]).sum(1)


def build_mantle(portrait: Portrait, head: FullHead, surface: Surface) -> Mantle:
    """Depth by inflation: squared height over the outline's plane solves Laplace's equation between skull and outline.

    The square root rounds the sheet off towards the outline like a sphere, so that a turned head keeps a plausible contour.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, grey_dilation

    size = portrait.image.shape[0]
    step = _STEP_PX * size / 512
    margin = _MARGIN_PX * size / 512
    line = np.arange(-margin, size + margin + step, step, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    column, row = (np.clip(v, 0, size - 1).astype(int) for v in (x, y))

    covered = surface.fragments.triangle >= 0
    corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
    barycentric = surface.fragments.barycentric
    face = (surface.face[corners] * barycentric).sum(-1) * covered
    neck = (head.neck[corners] * barycentric).sum(-1)

    # Camera depth of the outline, for each row of nodes across the face.
    motion = portrait.motion
    matrix = matrix_from_euler(motion.rotation_rad)
    brows, mouth = portrait.landmarks[9, :2], portrait.landmarks[13, :2]
    up = (brows - mouth) / max(float(((brows - mouth) ** 2).sum()), 1.0)
    rise = np.clip((x - mouth[0]) * up[0] + (y - mouth[1]) * up[1], 0.0, 1.0)
    rise = rise * rise * (3 - 2 * rise)
    jaw, crown = (CAMERA_DISTANCE_DM - float((matrix @ (0, 0.3, z) + motion.translation)[2]) for z in (_JAW_Z_DM, _CROWN_Z_DM))
    plane = jaw + (crown - jaw) * rise
    surface_depth = surface.fragments.depth[row, column]
    hair = _HAIR_DM * (1 - face[row, column])
    height = np.where(covered[row, column], plane - surface_depth + hair, 0.0)
    facing = _facing(surface, covered)
    known = (covered & (facing > 0.3) & (neck < 0.02) & (portrait.head_alpha > 0.5))[row, column]
    outside = (portrait.person_alpha < 0.03)[row, column]
    target = np.where(known, np.maximum(height, 0.05) ** 2, 0.0)
    squared = _laplace(target, known | outside)
    depth = plane - np.sqrt(np.maximum(squared, 0.0))
    focal_px = portrait.focal * size
    posed = np.stack(
        [(x - size / 2) * depth / focal_px, (size / 2 - y) * depth / focal_px, CAMERA_DISTANCE_DM - depth], -1
    )
    rest = (posed - motion.translation) @ matrix

    distance, (near_row, near_column) = distance_transform_edt(~covered, return_indices=True)
    at = near_row[row, column], near_column[row, column]
    fade = np.exp(-((distance[row, column] / (0.08 * size)) ** 2))
    # Inside the face the mesh itself is drawn; the sheet keeps a rim under it.
    inner = distance_transform_edt(face_hull(portrait.landmarks, size))[row, column] > 12 * size / 512
    alive = (portrait.head_alpha > 0.01)[row, column]
    # Beyond the crop's border the sheet repeats the photo mirrored: hair cut off by the frame goes on as hair.
    shown = np.stack([size - np.abs(size - np.abs(x)), size - np.abs(size - np.abs(y))], -1)
    centre, half, growth = _crown(portrait.head_alpha)
    # A crown cut off by the upper border closes above it as a circle would: what is mirrored is drawn together sideways.
    inside, beyond = np.sqrt(half**2 + growth * np.abs(y)), np.sqrt(np.maximum(half**2 - growth * np.abs(y), 1e-3))
    above_crop = y < 0
    alive &= ~above_crop | ((np.abs(x - centre) < beyond + step) & (half**2 > growth * (np.abs(y) - step)))
    shown[..., 0] = np.where(above_crop, np.clip(centre + (x - centre) * inside / beyond, 0, size), shown[..., 0])
    front = _cells(alive & ~inner, alive)
    # The far side of the head is the near side mirrored at the outline's plane: a turn uncovers hair that continues the hair at the rim.
    far_depth = plane + _FAR_DEPTH * (plane - depth) + _BACK_GAP_DM
    far = posed * (far_depth / depth)[..., None]
    far[..., 2] = CAMERA_DISTANCE_DM - far_depth
    back = (far - motion.translation) @ matrix
    # Hair has a far side. A chin mirrored behind itself would be a second chin, an ear a second ear; skin above the brows is a bald skull.
    skin = _like_the_face(portrait)[row, column]
    rounded = alive & (depth < plane - 0.02) & ((rise > 0.9) | ((rise > 0.25) & ~skin))
    away = _cells(rounded, rounded) + x.size
    joined = gaussian_filter(grey_dilation((rounded & ~above_crop).astype(np.float32), (5, 5)), 1.0) * ~above_crop
    solid = distance_transform_edt(portrait.head_alpha > 0.97) > _RIM_PX * size / 512
    inward, far_shown = _towards(solid, shown, 3 * _RIM_PX * size / 512)
    # Where the two sides meet, the sheet ends on the outline itself: cells that end beyond it would be stairs.
    to_row, to_column = distance_transform_edt(portrait.head_alpha < 0.5, return_distances=False, return_indices=True)
    step_x, step_y = to_column[row, column] + 0.5 - x, to_row[row, column] + 0.5 - y
    near = (portrait.head_alpha[row, column] < 0.5) & (np.hypot(step_x, step_y) < 3 * step) & ~above_crop
    onto = np.stack([step_x, -step_y, np.zeros_like(step_x)], -1) * (near * depth / focal_px)[..., None]
    # Both sides end in the same points.
    onto = onto @ matrix
    snap = np.concatenate([onto, onto + near[..., None] * (rest - back)]).reshape(-1, 3).astype(np.float32)
    following = (barycentric[at] * fade[..., None]).reshape(-1, 3)
    return Mantle(
        np.concatenate([rest.reshape(-1, 3), back.reshape(-1, 3)]).astype(np.float32),
        np.tile(shown.reshape(-1, 2), (2, 1)).astype(np.float32),
        np.concatenate([inward, far_shown - shown]).reshape(-1, 2).astype(np.float32),
        np.tile(joined.ravel(), 2).astype(np.float32),
        np.flatnonzero(np.tile(near.ravel(), 2)),
        snap,
        (*x.shape, float(step)),
        front,
        away,
        np.tile(corners[at].reshape(-1, 3), (2, 1)).astype(np.int32),
        np.concatenate([following, np.zeros_like(following)]).astype(np.float32),
    )


def _like_the_face(portrait: Portrait) -> Array:
    """Where the photo has the face's colour, whatever its brightness: bool [s, s]."""
    import cv2

    size = len(portrait.image)
    colour = cv2.GaussianBlur(portrait.image, (0, 0), 2.0 * size / 512).astype(np.float64) + 4.0
    chroma = colour / colour.sum(-1, keepdims=True)
    own = np.median(chroma[face_hull(portrait.landmarks, size)], axis=0)
    near = np.linalg.norm(chroma - own, axis=-1) < 0.035
    return cv2.morphologyEx(near.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(bool)


def _towards(solid: Array, shown: Array, limit_px: float) -> tuple[Array, Array]:
    """For pixels ``shown`` [h, w, 2]: the way to the nearest solid one, at most ``limit_px``, and what the far side shows for them."""
    from scipy.ndimage import distance_transform_edt

    if not solid.any() or solid.all():
        return np.zeros_like(shown), shown
    size = len(solid)
    column, row = (np.clip(shown[..., c], 0, size - 1).astype(int) for c in (0, 1))
    inside = solid[row, column]
    nearest = []
    for mask in (solid, ~solid):
        rows, columns = distance_transform_edt(~mask, return_distances=False, return_indices=True)
        nearest.append(np.stack([columns[row, column], rows[row, column]], -1) + 0.5)
    way = np.where(inside[..., None], 0.0, nearest[0] - shown)
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    inward = way * np.minimum(1.0, limit_px / np.maximum(length, 1e-6))
    far = np.where(inside[..., None], nearest[1] + _RIM_SHARE * (shown - nearest[1]), shown + inward)
    return inward, far


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
    pairs = np.concatenate([
        np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
        np.stack([index[:-1].ravel(), index[1:].ravel()], 1),
    ])
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


def _cells(wanted: Array, alive: Array) -> Array:
    """Two triangles for each grid cell that touches ``wanted`` nodes and lies beside ``alive`` ones: [k, 3] int32."""
    rows, columns = wanted.shape
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    flat_wanted, flat_alive = wanted.ravel(), alive.ravel()
    use = np.zeros(a.shape, bool)
    for corner in (a, b, c, d):
        use |= flat_wanted[corner]
    touched = np.zeros(a.shape, bool)
    for corner in (a, b, c, d):
        touched |= flat_alive[corner]
    use &= touched
    return np.concatenate([
        np.stack([a[use], c[use], b[use]], 1), np.stack([b[use], c[use], d[use]], 1)
    ]).astype(np.int32)
