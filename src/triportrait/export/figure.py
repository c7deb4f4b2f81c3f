"""The figure that every 3D file shows: parts with places, colours and blendshapes, and a skeleton. It knows no file format."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from triportrait.avatar.lifted import shading_kernels as kernels
from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.lifted.lids import closed_expression
from triportrait.avatar.lifted.outline import rise_of_face
from triportrait.avatar.lifted.surface import face_weight
from triportrait.avatar.lifted.unseen_colours import like_the_face, sampled
from triportrait.avatar.mouth.parts import MouthPart, tongue_amounts
from triportrait.export.colours import Rim, continued, look, paint
from triportrait.export.curves import Blendshape, blendshapes
from triportrait.export.hull import Hull, build_hull, triangles_of
from triportrait.export.skeleton import BONES, bone, on_bone
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import grid_triangles, harmonic_fill, smooth_step
from triportrait.geometry.landmarks import CHIN, EYE_LEFT_RIM, EYE_RIGHT_RIM, FOREHEAD_TOP, INNER_LIPS, JAW_ENDS_OF_68, OUTER_LIPS
from triportrait.geometry.nearest import distance_px, nearest_points
from triportrait.geometry.normals import vertex_normals
from triportrait.types import ARKIT_EXPRESSIONS, Array, HeadPart, PreparedPortrait

#: The face that is drawn by itself: vertices with at least so much of it, and not on the neck; below the hull from this depth on (dm).
_FACE, _NECK, _DEEP_DM = 0.05, 0.2, 0.2
#: Borders so near lips and lids are those of the face's openings (decimetres).
_OPENING_DM = 0.12
#: Round eyes and mouth, so far (decimetres), the hull is left out where it lies so deep below the face: it would show in their openings.
_COVERED, _ROUND_OPENINGS_DM = 0.85, 0.3
#: The face's border lies so far below (decimetres); it goes deeper by what it stands off the hull more than this, and at most so much.
_DIVES_DM, _STANDS_OFF_DM, _DIVES_MOST_DM = 0.06, 0.03, 0.4
#: Nodes with more than this share of the head's motion have colours of the head alone.
_ON_HEAD = 0.5
#: Displacements below this are none, and up to twice as much they are smaller (decimetres): a curve's tail is not seen, but fills files.
_TAIL_DM = 2e-3
#: The skull has hair if the photo shows it on this share of the head, so far above the forehead (heights of the face). It begins from
#: here to there behind the ears' front, beside ears and above them, with a change between those heights, and ends at the nape (decimetres).
_HAIR, _HAIR_ABOVE = 0.02, 0.03
_BEHIND_EARS_DM, _BEHIND_TOP_DM, _ABOVE_EARS_DM, _NAPE_DM = (0.3, 0.45), (-0.15, 0.15), (0.3, 0.6), (-0.55, -0.2)
#: Hair that so much faces the viewer is shown by the photo. Behind it hair looks like the nearest of that, of so many places of so many,
#: and as far as this (decimetres) ever more like the usual one.
_SHOWN, _NEAREST_HAIRS, _HAIRS, _HAIR_REACHES_DM = 0.2, 12, 1500, 0.8
#: Strands are finer than this, and hair hangs where a row has so much of it at both sides (pixels of a 512 px crop).
_STRAND_PX, _HANGING_PX = 4, 10
#: The jaw's curve at which the mouth's inside is lit; lips, which a file cannot let throw shadows, take this share of it from teeth.
_LIT_AT, _TEETH_SHADE = 0.35, 0.72
#: Lids that closing stretches by this factor, in area, were folded away in the photo.
_FOLDED = 2.0
#: Beside them what is stretched by this factor is plain skin, too.
_DRAWN_OUT = 1.2
#: The edge of an upper lid is what falls so far (widths of the eye); it has the colour of the darkest lashes, this share of them, so
#: much in the middle of the lid and ever less towards its corners.
_LASH_FALLS, _DARKEST, _LASH_SHARE = 0.08, 0.15, 0.8
#: A place of the photo that is so much inside an open eye is no lid.
_IN_EYE = 0.25
#: Lashes reach so far from an opening, in widths of the eye; what keeps a membrane solvable where all is unknown.
_LASHES, _WHISPER = 0.14, 1e-6
#: The bag behind the mouth: its middle behind the lips (decimetres), where along its depth it is open, and its share of the lining's light.
_BAG_BEHIND_DM, _BAG_OPEN, _BAG_SHADE = 0.38, 0.85, 0.6
#: Rows of teeth have so many texels per texel of their own picture.
_TEETH_SCALE = 0.5
#: Coverage from which a texel is a tooth's.
_ALPHA = 0.5


@dataclass(frozen=True, slots=True)
class Part:
    """Triangles of one material.

    Args:
        name: of the material.
        triangles: [f, 3]; position: [n, 3] decimetres, at rest.
        displacement: [t, n, 3] for each blendshape, or None for what stands still.
        joints, weights: [n, 4] bones.
        texels: [n, 2] places in ``picture`` in texels, or None.
        rgb: [n, 3] colours 0..255, or None.
        picture: uint8 [h, w, 3 or 4], or None.
    """

    name: str
    triangles: Array
    position: Array
    displacement: Array | None
    joints: Array
    weights: Array
    texels: Array | None = None
    rgb: Array | None = None
    picture: Array | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A person: the head's moving parts, the still rest, names of the blendshapes, and places of the bones (decimetres)."""

    head: list[Part]
    body: list[Part]
    names: list[str]
    bones: dict[str, Array] = field(default_factory=dict)


def build_figure(portrait: PreparedPortrait, head: OpenHead) -> Figure:
    """Of one portrait."""
    state = LiftedAvatar(head, whole_person=True).prepare(portrait)
    rest = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    neutral = head.deform(state.shape, rest, np.zeros(2, np.float32))
    shapes = blendshapes(head, state.shape)
    face, deep = _face(portrait, head, state)
    hull = build_hull(portrait, head, state, deep)
    moving, still = _skin(portrait, head, state, neutral, shapes, face, deep, hull)
    bones = {name: np.array(one.place, np.float32) for name, one in BONES.items()}
    bones |= dict(zip(("LeftEye", "RightEye"), head.eye_centres(state.shape).astype(np.float32), strict=True))
    mouth = _mouth(head, state, neutral, shapes)
    return Figure([moving, *mouth], [still], [shape.name for shape in shapes], bones)


def _face(portrait: PreparedPortrait, head: OpenHead, state: LiftedState) -> tuple[Array, Array]:
    """Triangles [f, 3] of the face, and how deep inside it each vertex lies: float32 [v], 0 at its border and 1 well inside."""
    weight = face_weight(head, state.source)
    before_ears = head.mean[:, 2] > head.landmarks68(head.mean)[list(JAW_ENDS_OF_68), 2].min() - 0.02
    size, motion = len(portrait.image), portrait.motion
    pixels, _ = project(pose_points(state.source, motion.rotation_rad, motion.translation), size, portrait.focal)
    x, y = (np.clip(pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    inside = (np.maximum(portrait.person_alpha, portrait.head_alpha)[y, x] > 0.5) | (pixels < 0).any(1) | (pixels >= size).any(1)
    chosen = (head.part == HeadPart.SKIN) & (weight > _FACE) & (head.neck < _NECK) & before_ears
    triangles = head.triangles[(chosen[head.triangles].all(1)) & inside[head.triangles].any(1)]
    # Edges of one triangle alone are the border; eyes and mouth are bordered, too, but lie in the middle of the face.
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    single, count = np.unique(edges, axis=0, return_counts=True)
    rim = np.unique(single[count == 1])
    openings = head.landmarks478(state.source)[np.concatenate([INNER_LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM])]
    rim = rim[nearest_points(openings, state.source[rim])[0][:, 0] > _OPENING_DM]
    deep = np.zeros(len(weight), np.float32)
    used = np.unique(triangles)
    deep[used] = np.clip(nearest_points(state.source[rim], state.source[used])[0][:, 0] / _DEEP_DM, 0.0, 1.0)
    return triangles, deep


def _skin(
    portrait: PreparedPortrait,
    head: OpenHead,
    state: LiftedState,
    neutral: Array,
    shapes: list[Blendshape],
    face: Array,
    deep: Array,
    hull: Hull,
) -> tuple[Part, Part]:
    """Face, eyeballs and hull: what moves, and what stands still."""
    count, photo = len(state.source), continued(state.photo[..., :3], state.photo[..., 3])
    rings = [head.landmarks478(state.source)[ring] for ring in (OUTER_LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM)]
    near = nearest_points(np.concatenate(rings), hull.points)[0][:, 0] < _ROUND_OPENINGS_DM
    # Of an open mouth or eye the hull is the lid.
    lid = np.any([_is_within(hull.points[:, :2], ring[:, :2]) for ring in rings], axis=0)
    hidden = near & ((hull.covered > _COVERED) | (lid & (hull.normals[:, 2] > 0.0)))
    shown = hull.quads[~hidden[hull.quads].all(1)]
    eyes = [state.triangles[state.kind == kind] for kind in (kernels.EYE_LEFT, kernels.EYE_RIGHT)]
    normals = np.concatenate([vertex_normals(state.source, np.ascontiguousarray(face)), hull.normals])
    # The face's border, a saw of triangles, dives below the hull.
    rim = _rim(portrait, state.source, face, deep, hull, shown)
    sunk = _dive(state.source, normals[:count], deep, hull, rim)
    points = np.concatenate([state.source + sunk, hull.points])
    solid = np.concatenate([face, triangles_of(shown) + count]).astype(np.int32)
    behind, strands = _back_of_head(portrait, photo, head, hull)
    lids = _lids(portrait, head, state, face)
    given = np.concatenate([lids, behind])
    strands = np.concatenate([np.zeros((count, 3)), strands])
    on_head = np.concatenate([np.ones(count, bool), hull.share > _ON_HEAD])
    seen = look(portrait, photo, points, normals, np.ascontiguousarray(solid), given, strands, rim, on_head)
    quads = np.concatenate([face[:, [0, 1, 2, 2]], shown + count])
    is_lid = np.concatenate([np.isfinite(lids).all(1), np.zeros(len(behind), bool)])
    closed = head.deform(state.shape, closed_expression(head, portrait.motion), portrait.motion.gaze_rad)
    shut = np.concatenate([closed, hull.points])
    sheet, begins = paint(photo, seen, points, normals, quads, list(state.eye_textures), is_lid[quads].any(1), shut)

    shift = neutral - state.source
    place = np.concatenate([neutral + sunk, hull.points + hull.carried(shift)])
    moved = np.stack([np.concatenate([shape.displacement, hull.carried(shape.displacement)]) for shape in shapes])
    moved = without_tails(moved)
    moves = (moved != 0.0).any((0, 2))
    joints, weights = np.zeros((len(points), 4), np.uint8), np.zeros((len(points), 4), np.float32)
    joints[:, 0], joints[count:, 1] = bone("Head"), bone("Spine2")
    weights[:count, 0], weights[count:, 0], weights[count:, 1] = 1.0, hull.share, 1.0 - hull.share
    joints[weights == 0.0] = 0
    for side, name in enumerate(("LeftEye", "RightEye")):
        joints[head.eye_vertices[side], 0] = bone(name)

    def part(name: str, chosen: Array, with_eyes: bool) -> Part:
        flat, texels = quads[chosen].reshape(-1), sheet.places[chosen].reshape(-1, 2)
        corners = np.arange(len(flat)).reshape(-1, 4)
        is_quad = quads[chosen][:, 2] != quads[chosen][:, 3]
        triangles = np.concatenate([corners[:, :3], corners[is_quad][:, [0, 2, 3]]])
        if with_eyes:
            for triangle, begin in zip(eyes, begins, strict=True):
                triangles = np.concatenate([triangles, len(flat) + np.arange(triangle.size).reshape(-1, 3)])
                flat = np.concatenate([flat, triangle.reshape(-1)])
                texels = np.concatenate([texels, state.source_pixels[triangle.reshape(-1)] + np.array(begin, np.float32)])
        # Corners of the same node and place are one vertex.
        key = np.column_stack([flat, np.round(texels * 16).astype(np.int64)])
        _, first, renamed = np.unique(key, axis=0, return_index=True, return_inverse=True)
        renamed = renamed.reshape(-1)
        used, triangles = flat[first], renamed[triangles]
        degenerate = (triangles[:, 0] == triangles[:, 1]) | (triangles[:, 1] == triangles[:, 2]) | (triangles[:, 0] == triangles[:, 2])
        kept, renumbered = np.unique(triangles[~degenerate], return_inverse=True)
        used, first = used[kept], first[kept]
        displacement = moved[:, used] if with_eyes else None
        return Part(
            name,
            renumbered.reshape(-1, 3),
            place[used],
            displacement,
            joints[used],
            weights[used],
            texels=texels[first],
            picture=sheet.picture,
        )

    moving = moves[quads].any(1)
    return part("skin", moving, True), part("skin", ~moving, False)


def _rim(portrait: PreparedPortrait, source: Array, face: Array, deep: Array, hull: Hull, shown: Array) -> Rim:
    """Where the face ends on the hull, of whose nodes the quads ``shown`` [q, 4] have those that are drawn."""
    used, drawn = np.unique(face), np.unique(shown)
    nodes = used[deep[used] < 1.0]
    _, below = nearest_points(hull.points[drawn], source[nodes], 3)
    below, motion = drawn[below], portrait.motion
    hair = ((portrait.head_alpha > 0.95) & ~like_the_face(portrait)).astype(np.float32)[..., None]
    pixels, _ = project(pose_points(hull.points[below[:, 0]], motion.rotation_rad, motion.translation), len(hair), portrait.focal)
    is_hair = sampled(hair, pixels.astype(np.float32)).reshape(-1) > 0.5
    return Rim(nodes, below + len(source), smooth_step(1.0 - deep[nodes]), is_hair)


def _dive(source: Array, normals: Array, deep: Array, hull: Hull, rim: Rim) -> Array:
    """Displacements [v, 3] that take the face's border, a saw of triangles, below the hull."""
    # Where the face stands off the hull, its border would be that of a mask.
    below = rim.below - len(source)
    above = ((source[rim.nodes][:, None] - hull.points[below]) * hull.normals[below]).sum(-1).mean(1)
    depth = np.zeros(len(source))
    depth[rim.nodes] = _DIVES_DM * (1.0 - np.clip(2.0 * deep[rim.nodes], 0.0, 1.0))
    depth[rim.nodes] += smooth_step(1.0 - deep[rim.nodes]) * np.clip(above - _STANDS_OFF_DM, 0.0, _DIVES_MOST_DM)
    return np.asarray(-depth[:, None] * normals, np.float32)


def _is_within(points: Array, ring: Array) -> Array:
    """Which of points [n, 2] lie in the polygon ``ring`` [k, 2]: bool [n], by the parity of crossings."""
    after = np.roll(ring, -1, axis=0)
    (x, y), (x0, y0), (x1, y1) = points.T[:, :, None], ring.T[:, None], after.T[:, None]
    between = (y0 > y) != (y1 > y)
    beyond = x < x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0)
    return np.asarray((between & beyond).sum(1) % 2 == 1)


def _lids(portrait: PreparedPortrait, head: OpenHead, state: LiftedState, face: Array) -> Array:
    """Colours [v, 3] of the skin that open lids fold away, as it is closed; not a number elsewhere.

    The few pixels that the photo has of it would be streaks.
    """
    import cv2

    size, motion = len(portrait.image), portrait.motion
    closed = head.deform(state.shape, closed_expression(head, motion), motion.gaze_rad)
    pixels, _ = project(pose_points(state.source, motion.rotation_rad, motion.translation), size, portrait.focal)

    def area(places: Array) -> Array:
        first, second = places[face[:, 1]] - places[face[:, 0]], places[face[:, 2]] - places[face[:, 0]]
        cross = np.cross(np.pad(first, ((0, 0), (0, 3 - first.shape[1]))), np.pad(second, ((0, 0), (0, 3 - second.shape[1]))))
        return np.linalg.norm(cross, axis=1)

    stretch = area(closed) / np.maximum(area(pixels), 1e-6)
    usual = float(np.median(stretch))
    moves = state.lid[face].max((1, 2)) > 0.2
    is_lid = np.zeros(len(state.source), bool)
    is_lid[face[(stretch > _FOLDED * usual) & moves]] = True
    # What the photo shows beside the folded skin must not be drawn out over it.
    is_lid[face[is_lid[face].any(1) & (stretch > _DRAWN_OUT * usual) & moves]] = True
    # The lids' margins lie in the photo's open eyes, whose colours no lid has.
    opened = np.maximum(*(eye_opening(portrait, rim) for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM))).astype(np.float32)
    margin = (sampled(opened[..., None], pixels).reshape(-1) > _IN_EYE) & (head.part == HeadPart.SKIN)
    is_lid |= margin
    # Nor do they have the colours of the lashes.
    width_px = float(np.ptp(portrait.landmarks[EYE_LEFT_RIM, 0]) + np.ptp(portrait.landmarks[EYE_RIGHT_RIM, 0])) / 2
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(_LASHES * width_px) + 1,) * 2)
    around = cv2.dilate((opened > 0.0).astype(np.uint8), reach)
    falls = state.lids.closed_pixels[:, 1] - pixels[:, 1] > _LASH_FALLS * width_px
    is_lid |= falls & (sampled(around[..., None].astype(np.float32), pixels).reshape(-1) > 0.5) & (state.lid.max(1) > 0.2)
    is_lid &= head.part == HeadPart.SKIN
    # A membrane: it has no border, neither to what lies above the lids nor to what lies below them.
    rows, columns = (slice(max(int(at.min()) - 2, 0), int(at.max()) + 3) for at in np.nonzero(around))
    skin = np.array(state.photo[..., :3], np.float32)
    for channel in range(3):
        skin[rows, columns, channel] = harmonic_fill(skin[rows, columns, channel], around[rows, columns] == 0, _WHISPER)
    result = np.full(state.source.shape, np.nan)
    result[is_lid] = sampled(skin, state.lids.closed_pixels[is_lid])
    # Those at the edge of the upper lids show where it ends.
    lashes = state.photo[(around > 0) & (opened == 0.0), :3]
    if len(lashes):
        upper = np.flatnonzero(margin & falls)
        middles = np.array([portrait.landmarks[rim, 0].mean() for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM)])
        aside = np.abs(pixels[upper, :1] - middles).min(1) / (0.5 * width_px)
        share = _LASH_SHARE * np.clip(1.0 - aside**2, 0.0, 1.0)[:, None]
        result[upper] += share * (lashes[lashes.sum(1) <= np.quantile(lashes.sum(1), _DARKEST)].mean(0) - result[upper])
    return result


def _back_of_head(portrait: PreparedPortrait, photo: Array, head: OpenHead, hull: Hull) -> tuple[Array, Array]:
    """Colours and the contrast of strands [n, 3] at the hull's nodes that are hair, whatever the ears beside it look like.

    That is the skull behind the ears, down to the nape or as far as hair hangs at both sides. Colours are not a number elsewhere.
    """
    import cv2

    size = len(portrait.image)
    unit = size / 512
    colours, strands = np.full(hull.points.shape, np.nan), np.zeros(hull.points.shape)
    not_face = (portrait.head_alpha > 0.95) & ~like_the_face(portrait)
    chin, top = portrait.landmarks[CHIN, :2], portrait.landmarks[FOREHEAD_TOP, :2]
    y, x = np.mgrid[:size, :size] + 0.5
    above = ((x - top[0]) * (top - chin)[0] + (y - top[1]) * (top - chin)[1]) / max(float(((top - chin) ** 2).sum()), 1.0)
    hair = not_face & (above > _HAIR_ABOVE)
    if hair.sum() <= _HAIR * (portrait.head_alpha > 0.95).sum():
        return colours, strands
    # Fine detail, and no shine or shadow: those have a place of their own.
    fine = photo - cv2.GaussianBlur(photo, (0, 0), _STRAND_PX * unit)
    inner = cv2.erode(hair.astype(np.uint8), np.ones((2 * round(_STRAND_PX * unit) + 1,) * 2, np.uint8)) > 0
    contrast = np.median(np.abs(fine[inner if inner.any() else hair]), axis=0) / 0.6745
    ear = float(head.landmarks68(head.mean)[list(JAW_ENDS_OF_68), 2].mean())
    height, behind = hull.points[:, 1], ear - hull.points[:, 2]
    low, high = _ABOVE_EARS_DM
    over_ears = smooth_step(np.clip((height - low) / (high - low), 0.0, 1.0))
    first, last = (far + over_ears * (near - far) for near, far in (_BEHIND_TOP_DM, _BEHIND_EARS_DM))
    share = smooth_step(np.clip((behind - first) / (last - first), 0.0, 1.0))
    # Rows with loose hair on both sides have it behind the neck, too.
    loose = not_face & (rise_of_face(portrait) < 0.01)
    beside = np.arange(size) < portrait.landmarks[:, 0].min(), np.arange(size) > portrait.landmarks[:, 0].max()
    rows = np.flatnonzero(np.all([(loose & side).sum(1) > _HANGING_PX * unit for side in beside], axis=0))
    motion = portrait.motion
    pixels, _ = project(pose_points(hull.points, motion.rotation_rad, motion.translation), size, portrait.focal)
    hangs = (pixels[:, 1] < rows.max() - _HANGING_PX * unit) & (hull.normals[:, 2] < -0.1) if len(rows) else np.zeros(len(share), bool)
    nape = smooth_step(np.clip((height - _NAPE_DM[0]) / (_NAPE_DM[1] - _NAPE_DM[0]), 0.0, 1.0))
    share = share * np.where(hangs, 1.0, nape)
    # Where the photo shows hair, that is how it looks.
    inside = ((pixels > 0.0) & (pixels < size)).all(1)
    is_hair = (
        inside & (sampled(inner.astype(np.float32)[..., None], pixels.astype(np.float32)).reshape(-1) > 0.5) & (hull.normals[:, 2] > _SHOWN)
    )
    # Not the forehead, which some photos show paler than the face.
    far = distance_px(portrait.head_alpha <= 0.95)
    usual = np.median(photo[hair & (far <= np.median(far[hair]))], axis=0)
    told = (share > 0.5) & ~is_hair
    colours[told] = usual
    shown = np.flatnonzero(is_hair)
    if len(shown) and told.any():
        shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _HAIRS)).astype(int)]
        away, index = nearest_points(hull.points[shown], hull.points[told], min(_NEAREST_HAIRS, len(shown)))
        weight = 1.0 / (away + 0.1) ** 2
        near = (sampled(photo, pixels[shown].astype(np.float32))[index] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
        colours[told] += np.exp(-((away[:, :1] / _HAIR_REACHES_DM) ** 2)) * (near - usual)
    return colours, share[:, None] * contrast


def without_tails(displacement: Array) -> Array:
    """Displacements [..., 3] (decimetres) whose smallest are 0, without a step."""
    length = np.linalg.norm(displacement, axis=-1, keepdims=True)
    return displacement * np.clip(length / _TAIL_DM - 1.0, 0.0, 1.0)


def _mouth(head: OpenHead, state: LiftedState, neutral: Array, shapes: list[Blendshape]) -> list[Part]:
    """Lining and tongue with colours, and the rows of teeth with a picture, in the light of an open mouth."""
    opened = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    opened[ARKIT_EXPRESSIONS.index("jawOpen")] = _LIT_AT
    lit = head.deform(state.shape, opened, np.zeros(2, np.float32))
    baked = state.inside.baked(lit, head.landmarks478(lit))
    lining = _coloured(baked.lining_triangles, neutral[baked.lining], [s.displacement[baked.lining] for s in shapes], baked.lining_rgb)
    (tongue, *rows), (tongue_light, *row_light) = baked.parts, baked.light
    flesh = _sampled_texture(tongue)[:, :3] * tongue_light
    place = _carried(tongue, neutral, np.zeros_like(opened), head)
    moved = [_carried(tongue, neutral + s.displacement, s.expression, head) - place for s in shapes]
    parts = [_joined(_joined(lining, _cavity(head, neutral, shapes, baked.lining_rgb)), _coloured(tongue.triangles, place, moved, flesh))]
    teeth: list[Part] = []
    # A picture ends at white; what a photo shows lighter than that gets more light.
    peaks = [max(1.0, float(np.quantile(row.texture[row.texture[..., 3] > _ALPHA, :3], 0.99))) for row in rows]
    pictures = [_teeth_picture(row, peak) for row, peak in zip(rows, peaks, strict=True)]
    wide = max(picture.shape[1] for picture in pictures)
    pictures = [np.pad(picture, ((0, 0), (0, wide - picture.shape[1]), (0, 0)), mode="edge") for picture in pictures]
    both, top = np.concatenate(pictures), 0
    for row, light, picture, peak in zip(rows, row_light, pictures, peaks, strict=True):
        place, _ = row.carried(neutral)
        moved = [row.carried(neutral + s.displacement)[0] - place for s in shapes]
        part = _coloured(row.triangles, place, moved, light)
        texels = row.texels * np.float32(_TEETH_SCALE) + np.array([0, top], np.float32)
        light = light * np.float32(_TEETH_SHADE * peak)
        teeth.append(Part("teeth", part.triangles, place, part.displacement, part.joints, part.weights, texels, light, both))
        top += len(picture)
    return [*parts, _joined(*teeth)]


def _cavity(head: OpenHead, neutral: Array, shapes: list[Blendshape], lining_rgb: Array) -> Part:
    """A dark bag behind teeth and lining, so that no view between the lips leaves the head."""
    lips = head.landmarks478(neutral)[INNER_LIPS]
    jaw = head.part == HeadPart.TEETH_LOWER
    around, along = np.meshgrid(np.linspace(0.0, 2.0 * np.pi, 17), np.linspace(0.0, np.pi, 13))
    wide = np.sin(along) ** 0.35
    ball = np.stack([wide * np.cos(around), wide * np.sin(around), np.cos(along)], -1).reshape(-1, 3)
    half_width = 0.5 * float(np.ptp(lips[:, 0]))
    place = lips.mean(0) + np.array([0.0, -0.05, -_BAG_BEHIND_DM]) + ball * (half_width + 0.04, 0.24, 0.28)
    triangles = grid_triangles(*around.shape)
    triangles = triangles[ball[triangles, 2].max(1) < _BAG_OPEN]
    low = 0.5 - 0.5 * ball[:, 1:2]
    moved = [low * s.displacement[jaw].mean(0) for s in shapes]
    dark = np.tile(_BAG_SHADE * np.quantile(lining_rgb, 0.1, axis=0), (len(place), 1))
    used, renumbered = np.unique(triangles, return_inverse=True)
    return _coloured(renumbered.reshape(-1, 3), place[used].astype(np.float32), [m[used].astype(np.float32) for m in moved], dark[used])


def _carried(part: MouthPart, vertices: Array, expression: Array, head: OpenHead) -> Array:
    return part.carried(vertices, tongue_amounts(expression, head.expression_names))[0]


def _coloured(triangles: Array, place: Array, moved: list[Array], rgb: Array) -> Part:
    return Part("mouth", triangles, place, np.stack(moved), *on_bone("Head", len(place)), rgb=rgb)


def _joined(first: Part, second: Part) -> Part:
    """Two parts of one material as one."""

    def both(name: str, axis: int = 0) -> Array | None:
        values = [getattr(part, name) for part in (first, second)]
        return None if values[0] is None else np.concatenate(values, axis=axis)

    triangles = np.concatenate([first.triangles, second.triangles + len(first.position)])
    position, joints, weights = (
        np.concatenate([getattr(part, name) for part in (first, second)]) for name in ("position", "joints", "weights")
    )
    return Part(first.name, triangles, position, both("displacement", 1), joints, weights, both("texels"), both("rgb"), first.picture)


def _sampled_texture(part: MouthPart) -> Array:
    row, column = (np.clip(part.texels[:, c].astype(int), 0, part.texture.shape[1 - c] - 1) for c in (1, 0))
    return part.texture[row, column]


def _teeth_picture(row: MouthPart, peak: float) -> Array:
    """A row of teeth as uint8 [h, w, 4]: reflectances relative to ``peak``, and coverage."""
    import cv2

    texture = np.ascontiguousarray(row.texture[..., :4])
    size = (round(texture.shape[1] * _TEETH_SCALE), round(texture.shape[0] * _TEETH_SCALE))
    small = cv2.resize(texture, size, interpolation=cv2.INTER_AREA) / np.array([peak, peak, peak, 1.0], np.float32)
    return np.clip(255.0 * small + 0.5, 0, 255).astype(np.uint8)
