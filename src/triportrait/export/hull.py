"""The body of a portrait as one closed surface: skull with its hair, ears, neck and shoulders, without a seam and without a hole.

It is the boundary of a solid on a grid of voxels: the head model's skin, swollen by the hair that the photo's outline shows, joined with
what the photo shows beside it (ears, hanging hair, shoulders) and cut by the photo's outline. The boundary is found by surface nets
(Gibson, "Constrained elastic surface nets", 1998). Space is the head's, as the photo poses it, in decimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedState
from triportrait.avatar.lifted.hair import Scalp
from triportrait.avatar.lifted.neck import body_row
from triportrait.avatar.lifted.outline import beyond_the_crop, outline_depth, rise_of_face, seen_ears, signed_distance
from triportrait.avatar.lifted.surface import face_weight, fit_surface
from triportrait.avatar.lifted.unseen_colours import bare_scalp, like_the_face, sampled
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import CHIN, UPPER_LIP_INSIDE
from triportrait.geometry.nearest import distance_px, nearest_points
from triportrait.geometry.neighbours import NeighbourMean
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rasteriser import draw_attributes, rasterise
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.nn.parts import portrait_parts
from triportrait.types import CAMERA_DISTANCE_DM, Array, HeadPart, PreparedPortrait

#: A voxel's side; the field ends at this distance from the surface; a texel of the views by which the model is carved (decimetres).
_VOXEL_DM, _BAND_DM, _TEXEL_DM = 0.055, 0.16, 0.012
#: Those views, from so far away (decimetres), pitch and yaw in radians: round the head at three heights, and from above.
_FAR_DM = np.float32(100.0)
_VIEWS = [(pitch, yaw) for pitch in (-0.6, 0.0, 0.6) for yaw in np.radians(np.arange(0, 360, 45))] + [(1.5, 0.0)]
#: Pixels of a 512 px crop beyond its upper border, where a cut crown closes.
_ABOVE_PX = 48
#: Half the depth of what stands beside the model: of ears and hair, and of a body (decimetres).
_BESIDE_HALF_DM, _BODY_HALF_DM = 0.22, 0.85
#: Hair hangs at most so far behind the outline's plane, if there are so many pixels of a 512 px crop of it on both sides in a row, of
#: what has more than this share of the head's motion.
_HANGING_DM, _HANGING_PX, _LOOSE = 0.9, 10, 0.15
#: Of the model's neck so much belongs to the solid, above and inside of these (decimetres); its shoulders are the photo's, and from the
#: third height on they lie before its neck.
_NECK_ENDS_DM, _NECK_HALF_DM, _CHEST_DM = -1.5, 0.72, -1.3
#: A neck is no farther back and at each side no wider than this, from the first to the second height on (decimetres): the model's goes on
#: as a back.
_NECK_BACK_DM, _NECK_WIDE_DM, _NECK_BACK_FROM_DM = -0.95, 0.62, (-0.3, -0.95)
#: Heights of the head (decimetres) between which hair at the back ends.
_NAPE_DM = -0.75, -0.2
#: Rounds of smoothing: of the hair's thickness, of the field, of the surface.
_THICKNESS_ROUNDS, _FIELD_ROUNDS, _SURFACE_ROUNDS = 12, 2, 8
#: Gaps of twice so many voxels are closed.
_CLOSED_VOXELS = 2
#: What stands off the model follows it less, by this distance (decimetres).
_FADE_DM = 0.2
#: From the first height over the face on, hair is seen, and below the second one it is the face's own surface (decimetres).
_ABOVE_FACE_DM = 0.05, 0.02
#: Below the face the hull lies by this much, so that the face is what one sees (decimetres).
_SUNK_DM = 0.03


@dataclass(frozen=True, slots=True)
class Hull:
    """n nodes.

    Args:
        points: [n, 3] float32 in the head's space and the photo's expression; normals: [n, 3] outwards.
        quads: [q, 4] int32, counter-clockwise from outside.
        corner: [n, 3] int32 vertices of the head model that a node follows, and ``weight`` [n, 3] float32, which fades away from them.
        share: [n] float32, 1 where a node moves with the head, 0 where it stays with the body.
        covered: [n] float32, 1 deep below the face, which is drawn by itself.
    """

    points: Array
    normals: Array
    quads: Array
    corner: Array
    weight: Array
    share: Array
    covered: Array

    def triangles(self) -> Array:
        """[2 q, 3] int32, those of one quad after each other."""
        return triangles_of(self.quads)

    def carried(self, displacement: Array) -> Array:
        """Displacements [n, 3] of the nodes for those [v, 3] of the model's vertices."""
        return np.asarray(np.einsum("nk,nkc->nc", self.weight, displacement[self.corner]), np.float32)


def triangles_of(quads: Array) -> Array:
    """Two triangles of each quad [q, 4]: [2 q, 3]."""
    return np.ascontiguousarray(quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3))


def build_hull(portrait: PreparedPortrait, head: OpenHead, state: LiftedState, face: Array) -> Hull:
    """The closed surface round one portrait.

    Args:
        state: the lifted portrait, of the whole person.
        face: [v] float32, how deep in the drawn face each vertex of the model lies: 0 at its border and outside, 1 well inside.
    """
    solid = _Solid.of(portrait, head, state)
    points, quads = surface_nets(solid.field, solid.origin, _VOXEL_DM)
    points, quads = largest_piece(points, quads)
    mean = NeighbourMean.of(triangles_of(quads), len(points))
    for _ in range(_SURFACE_ROUNDS):  # Taubin's pair of steps, which keeps the volume
        points = points + 0.5 * (mean(points) - points)
        points = points - 0.52 * (mean(points) - points)
    near, index = nearest_points(solid.skin, points, 3)
    closeness = 1.0 / (near + 0.02) ** 2
    weight = closeness / closeness.sum(1, keepdims=True)
    covered = (weight * face[solid.vertices[index]]).sum(1)
    normals = vertex_normals(points, triangles_of(quads))
    # Hair that stands before the face is seen.
    above = (weight * ((points[:, None] - solid.skin[index]) * solid.normals[index]).sum(-1)).sum(1)
    high, low = _ABOVE_FACE_DM
    under = smooth_step(np.clip((high - above) / (high - low), 0.0, 1.0))
    points = points - normals * (_SUNK_DM * smooth_step(np.clip(2.0 * covered - 0.6, 0.0, 1.0)) * under)[:, None]
    on_head = (weight * solid.on_face[index]).sum(1) * under
    share = np.maximum(_share(portrait, state, points), np.minimum(2.0 * on_head, 1.0))
    for _ in range(4):
        share = 0.5 * share + 0.5 * mean(share[:, None])[:, 0]
    fade = np.exp(-((np.maximum(near[:, :1] - 0.05, 0.0) / _FADE_DM) ** 2))
    return Hull(
        points.astype(np.float32),
        normals.astype(np.float32),
        quads.astype(np.int32),
        solid.vertices[index].astype(np.int32),
        (weight * fade).astype(np.float32),
        share.astype(np.float32),
        (covered * under).astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class _Solid:
    """A field [x, y, z], positive inside, whose first node lies at ``origin`` [3].

    ``skin`` [k, 3] are the places of the model's vertices ``vertices`` [k] without hair, with their ``normals`` [k, 3]; ``on_face`` [k]
    tells the face.
    """

    field: Array
    origin: Array
    skin: Array
    normals: Array
    vertices: Array
    on_face: Array

    @staticmethod
    def of(portrait: PreparedPortrait, head: OpenHead, state: LiftedState) -> _Solid:
        size, motion, sheet = len(portrait.image), portrait.motion, state.mantle
        unit, margin = size / 512, round(_ABOVE_PX * size / 512)
        surface = fit_surface(portrait, head)
        skin = like_the_face(portrait, parts := portrait_parts(portrait))
        scalp = Scalp.of(portrait, head, surface, bare_scalp(portrait, skin))
        matrix = matrix_from_euler(motion.rotation_rad)
        grown = _with_hair(head, surface.source, surface.skin, (scalp.vertices - motion.translation) @ matrix, portrait)
        is_skin = head.part == HeadPart.SKIN
        kept = is_skin & _above_shoulders(surface.shape)
        triangles = head.triangles[kept[head.triangles].all(1)]

        matte = np.maximum(portrait.person_alpha, portrait.head_alpha)
        signed = signed_distance(beyond_the_crop(matte, margin, body_row(portrait.landmarks), portrait.image), unit)
        pixels, _ = project(sheet.home, size, portrait.focal)
        inside = ((pixels > -margin) & (pixels < size)).all(1)
        inside &= sheet.far < 0.5
        bounds = np.concatenate([sheet.rest[inside], grown[kept]])
        low, high = bounds.min(0) - 0.2, bounds.max(0) + 0.2
        low[2] = min(low[2], grown[kept, 2].min() - 0.2)
        axes = [np.arange(a, b + _VOXEL_DM, _VOXEL_DM) for a, b in zip(low, high, strict=True)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        shape = nodes.shape[:3]
        places, depth = project(pose_points(nodes.reshape(-1, 3), motion.rotation_rad, motion.translation), size, portrait.focal)
        dm_per_px = depth / (portrait.focal * size)
        within = sampled(signed, places + margin).reshape(-1) * dm_per_px
        border = np.minimum(np.minimum(places[:, 0], size - places[:, 0]), size - places[:, 1]) * dm_per_px

        # Eyes, teeth and lining close the openings of the face.
        closing = head.triangles[(head.part[head.triangles] > HeadPart.SKIN).all(1)]
        model = depth_behind(grown, np.ascontiguousarray(np.concatenate([triangles, closing])), nodes.reshape(-1, 3))
        front, plane, beside, hanging = _sheets(portrait, head, state, surface.source, scalp, skin, parts.hair)
        share = np.clip(sampled(_share_picture(portrait, state), places), 0.0, 1.0).reshape(-1)
        radius = _BODY_HALF_DM + share * (_BESIDE_HALF_DM - _BODY_HALF_DM)
        depth_in = np.clip(np.minimum(within, border + 0.2), 0.0, radius)
        half = np.sqrt(depth_in * (2.0 * radius - depth_in))
        front_at, plane_at, beside_at = (sampled(picture, places).reshape(-1) for picture in (front, plane, beside))
        back_at = np.maximum(plane_at, front_at) + half
        slab = np.minimum(depth - front_at, back_at - depth)
        # Above the crop there is the model alone.
        slab = np.where((beside_at > 0.5) & (places[:, 1] > 0.0), slab, -1.0)
        # Hair that hangs on both sides of a neck hangs behind it, too.
        hung = np.clip(sampled(hanging, places).reshape(-1) * dm_per_px, 0.0, _HANGING_DM)
        half = np.sqrt(hung * (2.0 * _HANGING_DM - hung))
        slab = np.maximum(slab, np.where(hung > 0.0, np.minimum(depth - plane_at, plane_at + half - depth), -1.0))
        slab = np.clip(slab, -_BAND_DM, _BAND_DM)
        field = _closed(np.maximum(model, slab).reshape(shape), _CLOSED_VOXELS)
        field = np.minimum(field, np.minimum(within, border).reshape(shape))
        for _ in range(_FIELD_ROUNDS):
            field = _blurred(field)
        field[[0, -1]] = field[:, [0, -1]] = field[:, :, [0, -1]] = -_BAND_DM
        on_face = face_weight(head, surface.source)
        vertices = np.flatnonzero(kept)
        normals = vertex_normals(surface.source, surface.skin)
        return _Solid(field.astype(np.float64), low, surface.source[vertices], normals[vertices], vertices, on_face[vertices])


def _with_hair(head: OpenHead, source: Array, skin: Array, swollen: Array, portrait: PreparedPortrait) -> Array:
    """The model's vertices [v, 3] with hair on them; at the back as thick as at the top and the sides.

    Args:
        source: [v, 3] the bald head, ``skin`` its triangles; swollen: [v, 3], with the hair that the photo's outline shows.
    """
    motion = portrait.motion
    normal = vertex_normals(source, skin)
    thickness = np.linalg.norm(swollen - source, axis=1)
    view = (np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - motion.translation) @ matrix_from_euler(motion.rotation_rad) - source
    facing = (normal * view).sum(1) / np.linalg.norm(view, axis=1)
    is_skin = head.part == HeadPart.SKIN
    ring = is_skin & (np.abs(facing) < 0.35) & (source[:, 1] > 0.35) & (source[:, 2] < 0.1)
    usual = float(np.median(thickness[ring])) if ring.any() else 0.02
    low, high = _NAPE_DM
    there = smooth_step(np.clip((source[:, 1] - low) / (high - low), 0.0, 1.0))
    behind = smooth_step(np.clip(0.1 - 2.0 * facing, 0.0, 1.0))
    thickness = np.where(is_skin, thickness + behind * (usual * there - thickness), thickness)
    mean = NeighbourMean.of(skin, len(source))
    loose = np.flatnonzero(is_skin & (source[:, 2] < -0.2))
    for _ in range(_THICKNESS_ROUNDS):
        thickness[loose] = 0.5 * thickness[loose] + 0.5 * mean(thickness[:, None])[loose, 0]
    grown = source + normal * thickness[:, None]
    first, last = _NECK_BACK_FROM_DM
    below = smooth_step(np.clip((grown[:, 1] - first) / (last - first), 0.0, 1.0))
    grown[:, 2] += below * np.maximum(_NECK_BACK_DM - grown[:, 2], 0.0)
    grown[:, 0] += below * (np.clip(grown[:, 0], -_NECK_WIDE_DM, _NECK_WIDE_DM) - grown[:, 0])
    return grown


def _sheets(
    portrait: PreparedPortrait, head: OpenHead, state: LiftedState, source: Array, scalp: Scalp, skin: Array, hair: Array
) -> tuple[Array, Array, Array, Array]:
    """Pictures [s, s] float32 of what the photo shows beside the model: depth of its front, of the outline's plane, and 1 where it is.

    The last one is the distance (pixels) to the border of what hangs on both sides of the neck, 0 elsewhere.
    """
    import cv2

    size, motion = len(portrait.image), portrait.motion
    sheet = state.mantle
    pixels, away = project(sheet.home, size, portrait.focal)
    shown, depth = np.zeros((size, size, 1), np.float32), np.full((size, size), np.inf, np.float32)
    draw_attributes(pixels.astype(np.float32), away.astype(np.float32), sheet.triangles, away.astype(np.float32)[:, None], shown, depth)
    known = np.isfinite(depth)
    front = push_pull(shown, known.astype(np.float32))[..., 0]
    ears, _ = seen_ears(portrait, skin, hair)
    plane = outline_depth(portrait, head, scalp.vertices, rise_of_face(portrait), ears).astype(np.float32)
    is_model = (head.part == HeadPart.SKIN) & _above_shoulders(source) & (source[:, 1] > _CHEST_DM)
    triangles = np.ascontiguousarray(head.triangles[is_model[head.triangles].all(1)])
    at, far = project(pose_points(source, motion.rotation_rad, motion.translation), size, portrait.focal)
    drawn = rasterise(at.astype(np.float32), far.astype(np.float32), triangles, size, size).triangle >= 0
    unit = size / 512
    # Hair that hangs before neck and jaw is no skin of theirs.
    hair = (portrait.head_alpha > 0.6) & ~skin & (scalp.depth > front + 0.03)
    hair = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2 * round(3 * unit) + 1,) * 2, np.uint8)) > 0
    inner = cv2.erode(drawn.astype(np.uint8), np.ones((2 * round(4 * unit) + 1,) * 2, np.uint8)) > 0
    beside = (~inner | hair).astype(np.float32)
    loose = (portrait.person_alpha > 0.6) & ~skin & (~drawn | hair) & (_share_picture(portrait, state)[..., 0] > _LOOSE)
    loose &= np.arange(size)[:, None] > portrait.landmarks[UPPER_LIP_INSIDE, 1]
    middle = np.arange(size)[None, :] > portrait.landmarks[CHIN, 0]
    enough = [(loose & side).sum(1) > _HANGING_PX * unit for side in (middle, ~middle)]
    between = np.cumsum(loose, 1) * np.cumsum(loose[:, ::-1], 1)[:, ::-1] > 0
    hung = between & (enough[0] & enough[1])[:, None]
    rows = np.flatnonzero(hung.any(1))
    reach = np.zeros((size, size), np.float32)
    if len(rows):
        # Above it is the head: nothing ends there.
        up = hung | (hung[rows[0]] & (np.arange(size)[:, None] < rows[0]))
        begun = np.arange(size)[:, None] - rows[0] + 8.0 * unit
        reach = (np.minimum(distance_px(~up), begun) * hung).astype(np.float32)
    return front, plane, cv2.GaussianBlur(beside, (0, 0), 1.5 * unit), cv2.GaussianBlur(reach, (0, 0), 4.0 * unit)


def _above_shoulders(points: Array) -> Array:
    """Which of the model's vertices [v, 3] are head and neck: bool [v]."""
    beside = np.abs(points[:, 0]) > _NECK_HALF_DM
    return (points[:, 1] > _NECK_ENDS_DM) & ~(beside & (points[:, 1] < -0.9))


def _share_picture(portrait: PreparedPortrait, state: LiftedState) -> Array:
    """Share of the head's motion at each pixel of the photo: float32 [s, s, 1]."""
    size, sheet = len(portrait.image), state.mantle
    pixels, away = project(sheet.home, size, portrait.focal)
    shown, depth = np.zeros((size, size, 1), np.float32), np.full((size, size), np.inf, np.float32)
    draw_attributes(pixels.astype(np.float32), away.astype(np.float32), sheet.triangles, sheet.share[:, None], shown, depth)
    return push_pull(shown, np.isfinite(depth).astype(np.float32)).reshape(size, size, 1)


def _share(portrait: PreparedPortrait, state: LiftedState, points: Array) -> Array:
    motion = portrait.motion
    pixels, _ = project(pose_points(points, motion.rotation_rad, motion.translation), len(portrait.image), portrait.focal)
    return np.clip(sampled(_share_picture(portrait, state), pixels).reshape(-1), 0.0, 1.0)


def _closed(field: Array, reach: int) -> Array:
    """A field [x, y, z] whose gaps of up to twice ``reach`` voxels are filled (a morphological closing)."""
    for best in (np.maximum, np.minimum):
        for _ in range(reach):
            for axis in range(3):
                first, last = (tuple(s if a == axis else slice(None) for a in range(3)) for s in (slice(1, None), slice(None, -1)))
                grown = field.copy()
                grown[first] = best(grown[first], field[last])
                grown[last] = best(grown[last], field[first])
                field = grown
    return field


def _blurred(field: Array) -> Array:
    """A field [x, y, z] by the taps 1 2 1 along each axis."""
    for axis in range(3):
        padded = np.pad(field, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        low, middle, high = (np.take(padded, np.arange(k, k + field.shape[axis]), axis) for k in range(3))
        field = 0.25 * (low + high) + 0.5 * middle
    return field


def depth_behind(vertices: Array, triangles: Array, nodes: Array) -> Array:
    """How far each node lies behind a surface as seen from all around, negative where some view shows it before the surface.

    Space carving (Kutulakos and Seitz, "A theory of shape by space carving", 2000) with depths: exact at the surface, whatever holes,
    folds and normals the mesh has, as long as no view looks through a hole. Beside the surface's outline in a view it is minus the
    distance to that outline. The view that shows a node most tells how far it is outside, which is too far: between nodes the surface of
    the grid lies a little inside, below the face that is drawn over it.

    Args:
        vertices: [v, 3]; triangles: [f, 3] int32.
        nodes: [n, 3].

    Returns:
        float32 [n], cut off at the band's width on both sides.
    """
    behind = np.full(len(nodes), np.float32(_BAND_DM))
    middle = 0.5 * (vertices.max(0) + vertices.min(0))
    half = float(np.linalg.norm(vertices - middle, axis=1).max()) + 2.0 * _BAND_DM
    side = int(np.ceil(2.0 * half / _TEXEL_DM))
    for pitch, yaw in _VIEWS:
        turn = matrix_from_euler(np.array([pitch, yaw, 0.0]))
        seen, places = (((points - middle) @ turn.T).astype(np.float32) for points in (vertices, nodes))
        pixels, at = ((points[:, :2] + half) / np.float32(_TEXEL_DM) for points in (seen, places))
        drawn = rasterise(pixels, _FAR_DM - seen[:, 2], triangles, side, side)
        there = drawn.triangle >= 0
        corners = seen[triangles, :2]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        outside_in = first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]
        # Through an opening one sees a back: there the surface goes on as beside it.
        known = there & outside_in[np.maximum(drawn.triangle, 0)]
        away = push_pull(np.where(known, drawn.depth, 0.0).astype(np.float32)[..., None], known.astype(np.float32))
        outside = (-_TEXEL_DM * distance_px(there)).astype(np.float32)
        depth, beside = (sampled(picture, at).reshape(-1) for picture in (away, outside[..., None]))
        np.minimum(behind, np.where(beside < -0.5 * _TEXEL_DM, beside, _FAR_DM - places[:, 2] - depth), out=behind)
    return np.maximum(behind, np.float32(-_BAND_DM))


def surface_nets(field: Array, origin: Array, step: float) -> tuple[Array, Array]:
    """The surface at which ``field`` [x, y, z] is 0, as points [n, 3] and quads [q, 4], counter-clockwise from where it is negative.

    Each cell that the surface crosses gives one point, the mean of the crossings of its edges (Gibson 1998); each edge that it crosses
    gives one quad, of the four cells round that edge. Nodes on the grid's border must be negative.
    """
    inside = field > 0
    shape = np.array(field.shape)
    total, count = np.zeros((*(shape - 1), 3)), np.zeros(shape - 1)
    crossings = []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        edge = np.argwhere(inside[low] != inside[high])
        first, second = field[tuple(edge.T)], field[tuple((edge + np.eye(3, dtype=int)[axis]).T)]
        place = edge.astype(np.float64)
        place[:, axis] += first / (first - second)
        b, c = (axis + 1) % 3, (axis + 2) % 3
        cells = []
        for down_b, down_c in ((1, 1), (0, 1), (0, 0), (1, 0)):
            cell = edge.copy()
            cell[:, b] -= down_b
            cell[:, c] -= down_c
            np.add.at(total, tuple(cell.T), place)
            np.add.at(count, tuple(cell.T), 1.0)
            cells.append(cell)
        crossings.append((cells, first > 0))
    number = np.full(count.shape, -1)
    used = count > 0
    number[used] = np.arange(used.sum())
    quads = []
    for cells, outwards in crossings:
        quad = np.stack([number[tuple(cell.T)] for cell in cells], 1)
        quads.append(np.where(outwards[:, None], quad, quad[:, ::-1]))
    return origin + step * total[used] / count[used][:, None], np.concatenate(quads)


def largest_piece(points: Array, quads: Array) -> tuple[Array, Array]:
    """The piece of most points of a surface of points [n, 3] and quads [q, 4]."""
    label = np.arange(len(points))
    a, b = quads.reshape(-1), np.roll(quads, -1, axis=1).reshape(-1)
    while True:
        least = np.minimum(label[a], label[b])
        before = label.copy()
        np.minimum.at(label, a, least)
        np.minimum.at(label, b, least)
        label = label[label]
        if (label == before).all():
            break
    kept = label == np.bincount(label).argmax()
    renamed = np.cumsum(kept) - 1
    return points[kept], renamed[quads[kept[quads].all(1)]]
