"""The mantle: everything of a person that the face mesh is not, hair, ears, neck and shoulders, as one smooth body over the photo.

Its front is a grid over the photo, cut along the person's solid outline; its far side is the front mirrored at the head's outline, and both
share the points of that outline: a turn uncovers a round head without a gap. Softer hair beyond the outline lies in the outline's plane.
From the jaw down the sheet takes ever less of the head's motion (:mod:`neck`): nothing is cut there, so nothing tears.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from triportrait.avatar.lifted import vertex_kernels
from triportrait.avatar.lifted.hair import Scalp
from triportrait.avatar.lifted.neck import body_row, motion_share
from triportrait.avatar.lifted.outline import (
    BAND_PX,
    beyond_the_crop,
    ears_reach,
    mirrored,
    outline_depth,
    rise_of_face,
    seen_ears,
    sides,
    signed_distance,
)
from triportrait.avatar.lifted.surface import Surface
from triportrait.avatar.lifted.unseen_colours import PlainColours, bare_scalp, guess_places, like_the_face, sampled, without_features
from triportrait.avatar.lifted.warping import LoosePoints, face_frame
from triportrait.geometry.body import body_motion, body_pivot
from triportrait.geometry.cameras import pose_points
from triportrait.geometry.cutting import cut_triangles
from triportrait.geometry.fields import grid_triangles, harmonic_fill, smooth_step
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, RIM_INNER_CORNER, RIM_OUTER_CORNER
from triportrait.geometry.masks import face_hull, hull_mask
from triportrait.geometry.nearest import distance_of, distance_px, nearest_pixels, nearest_points
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.nn.parts import portrait_parts
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, MotionFrame, PreparedPortrait

#: Grid spacing, and how far the sheet reaches beyond the crop, in pixels of a 512 px crop; farther where a head's side is cut off.
_STEP_PX = 4
_MARGIN_PX, _WIDE_MARGIN_PX = 48, 112
#: Coarser cells reach so far: a body that walks has no end below.
_BEYOND_PX = 280
#: The far side's depth behind the outline's plane relative to the near side's before it.
_FAR_DEPTH = 0.7
#: Points of the mesh so near count fully, and at all, in :meth:`Mantle.behind`.
_BEHIND_DM = (0.25, 0.5)
#: Where the photo saw the sheet at a lower cosine than the first, stretch is not taken literally; from the second stretch on (relative to
#: the photo) the rim shows what the photo shows beside it, so much as the third per unit of stretch.
_STREAKS = np.array([0.1, 1.25, 0.7], np.float32)
#: The same where the photo shows the scene within the outline.
_TAINTED_STREAKS = np.array([0.1, 1.05, 1.5], np.float32)
#: What is seen at a lower cosine is rim, the more the lower.
_RIM_COSINE = np.float32(0.5)
#: The far side rises over these heights of the face (0 mouth, 1 brows).
_FAR_RISE = 0.08, 0.5
#: A part of the sheet with a larger share of the head's motion counts as head.
_OF_HEAD = 0.9
#: How well the photo must show the skin that a node of the sheet follows, 0..1.
_STEADY = 0.3
#: Skin with less of the neck is the head's.
_HEAD_NECK = 0.05
#: What lies beside the head's skin follows it entirely so far (sides of the crop), and ever less over so much more: hair and neck do not
#: open with the jaw.
_FADE = 0.02, 0.045
#: Heights are smoothed over so many nodes of the grid.
_EVEN_NODES = 1.5
#: Normals are evened so many nodes from the outline, and so often.
_RIM_STEPS, _RIM_ROUNDS = 4, 4
#: Keeps islands of the sheet without any known height solvable.
_REGULARISATION = 1e-9
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
        guess: [m, 8] float32, what is shown where the photo saw nothing: a pixel of the detail picture, the colour (0..255) of what faces
            the viewer, and that of the rim.
        far: [m] float32, 1 where the photo shows nothing from anywhere: on the far side, and beyond the crop where an ear would come twice.
        tainted: [m] float32, how far the photo shows the scene there.
        yielding: [m] float32, 1 where skin of the mesh is the better guess, more where it is a much better one.
        triangles: [k, 3] int32 of the front, and ``far_triangles`` of the far side.
        corner: [m, 3] int32 mesh vertices each node follows and ``weight`` [m, 3] float32 (barycentric times a fade with distance).
        share: [m] float32, 1 where a node moves with the head, 0 where it stays with the body.
        home: [m, 3] float32, where the photo's pose has the nodes (camera axes, decimetres), and ``source``, that pose.
        pivot: [2], of the body's own motion; see :func:`triportrait.geometry.body.body_motion`.
        warp: the nodes as what a warp moves.
        plain: the photo without its features.
    """

    rest: Array
    pixels: Array
    normal: Array
    facing: Array
    guess: Array
    far: Array
    tainted: Array
    yielding: Array
    triangles: Array
    far_triangles: Array
    corner: Array
    weight: Array
    share: Array
    home: Array
    source: MotionFrame
    pivot: Array
    warp: LoosePoints
    plain: PlainColours

    def follow(self, displacement: Array, frame: MotionFrame) -> Array:
        """Node positions in the head space of ``frame``, for mesh vertices moved by ``displacement`` [v, 3] from the photo's expression."""
        body = body_motion(frame, self.source, self.pivot)
        body[:, 3] -= frame.translation
        moved = np.empty_like(self.rest)
        turn = matrix_from_euler(frame.rotation_rad)
        vertex_kernels.follow(self.rest, self.corner, self.weight, displacement, self.share, self.home, turn.T @ body, moved)
        shift = self.warp.shift(frame)
        return moved if shift is None else moved + shift

    def guessed(self, frame: MotionFrame) -> Array:
        """How far each node shows its guess instead of the photo from the view of ``frame``: float32 [m].

        What the photo saw edge-on covers many pixels once it is turned to the viewer; its few pixels would be streaks.
        """
        stretched = streaks(self.facing, self.rest, self.normal, frame)
        soon = self.tainted * streaks(self.facing, self.rest, self.normal, frame, _TAINTED_STREAKS)
        return np.maximum(self.share * np.maximum(stretched, soon), self.far)

    def colours(self, frame: MotionFrame) -> Array:
        """What is shown where the photo saw nothing, from the view of ``frame``: float32 [m, 5], pixels of the detail picture and colours.

        Light stays where it is: a lit or dark rim is where the head is the rim now.
        """
        shown = np.empty((len(self.guess), 5), np.float32)
        vertex_kernels.rim_colours(self.guess, self.rest, self.normal, _camera(frame), _RIM_COSINE, shown)
        return shown

    def of_head(self, triangles: Array) -> Array:
        """Those of ``triangles`` [k, 3] that move with the head, at least nearly."""
        return np.ascontiguousarray(triangles[self.share[triangles].max(1) > _OF_HEAD])

    def behind(self, skin: Array, much: float) -> Mantle:
        """One whose ``yielding`` is ``much`` near these points of the mesh [n, 3] in head space, if there are any."""
        if not len(skin):
            return self
        near, far = _BEHIND_DM
        away = nearest_points(skin, self.rest)[0][:, 0]
        better = much * np.clip((far - away) / (far - near), 0.0, 1.0)
        return replace(self, yielding=np.maximum(self.yielding, better.astype(np.float32)))

    def carry(self, values: Array) -> Array:
        """A number per mesh vertex [v], which fades away from the mesh, at the nodes: float32 [m]."""
        carried = np.empty(len(self.corner), np.float32)
        vertex_kernels.carry(self.weight, self.corner, values, carried)
        return carried


@dataclass(frozen=True, slots=True)
class _SeenSkin:
    """The fitted skin at every pixel of the photo.

    Args:
        covered: bool [s, s], where there is any; corners [s, s, 3], its vertices, and barycentric [s, s, 3], their weights.
        face: [s, s], 1 near face landmarks; neck: [s, s].
        steady: bool [s, s], where it is the head's and seen well. Seen edge-on, neighbours on the picture lie far apart on the jaw and part
            when it opens; where some followed the jaw and others the neck, the sheet would tear.
    """

    covered: Array
    steady: Array
    corners: Array
    barycentric: Array
    face: Array
    neck: Array

    @staticmethod
    def of(head: FullHead, surface: Surface) -> _SeenSkin:
        covered = surface.fragments.triangle >= 0
        corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
        barycentric = surface.fragments.barycentric
        face = (surface.face[corners] * barycentric).sum(-1) * covered
        neck = (head.neck[corners] * barycentric).sum(-1)
        steady = covered & ((surface.seen[corners] * barycentric).sum(-1) > _STEADY) & (neck < _HEAD_NECK)
        return _SeenSkin(covered, steady if steady.any() else covered, corners, barycentric, face, neck)

    def follow(self, row: Array, column: Array) -> tuple[Array, Array]:
        """The mesh vertices that pixels [n] follow, [n, 3], and their weights, which fade away from the skin, [n, 3]."""
        nearest = nearest_pixels(self.steady)
        at = nearest[0][row, column], nearest[1][row, column]
        begins, width = (share * len(self.covered) for share in _FADE)
        fade = np.exp(-((np.maximum(distance_of(nearest)[row, column] - begins, 0.0) / width) ** 2))
        return self.corners[at], self.barycentric[at] * fade[:, None]


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The front's nodes, as a grid [h, w] and later as a list [n].

    Args:
        x, y: pixels of the photo.
        plane: camera depth of the outline's plane there, and squared: the square of the height over it (decimetres).
        growth: of that square per pixel from the outline inwards.
        ear: 1 on an ear, 0 elsewhere.
        rise: 0 at the mouth's height, 1 at the brows'.
        inside_px: pixels to the drawn outline, person_px: to the person's, positive inside.
        share: of the head's motion.
    """

    x: Array
    y: Array
    plane: Array
    rise: Array
    growth: Array
    ear: Array
    squared: Array
    inside_px: Array
    person_px: Array
    share: Array

    def with_ends(self, ends: Array, share: Array) -> _Nodes:
        """The grid as a list, and after it the nodes ``share`` [e] of the way between the two ``ends`` [e, 2]."""

        def listed(values: Array) -> Array:
            flat = values.ravel()
            return np.concatenate([flat, flat[ends[:, 0]] * (1 - share) + flat[ends[:, 1]] * share])

        return _Nodes(*(listed(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class _Sheets:
    """Triangles [k, 3] of the front and of the far side, both on the front's nodes, of which the first ``count`` are the grid's.

    ``form`` are those of the front that lie inside the outline: they tell which way it faces.
    """

    front: Array
    far: Array
    form: Array
    count: int


def build_mantle(
    portrait: PreparedPortrait,
    head: FullHead,
    surface: Surface,
    colours: Array,
    matte: Array,
    mesh: Array,
    *,
    whole_person: bool,
    share: Array | None = None,
) -> Mantle:
    """Depth by inflation: squared height over the outline's plane solves Laplace's equation between skull and outline.

    The square root rounds the sheet off towards the outline like a sphere, so that a turned head keeps a plausible contour.

    Args:
        portrait, head, surface: whose.
        colours: float32 [s, s, 3] 0..255, the photo without the scene shining through.
        matte: float32 [s, s], of what the sheet shows: the person, or the head alone.
        mesh: bool [s, s], where the photo shows skin that is drawn by itself.
        whole_person: the sheet bends at the neck; a head alone moves as one.
        share: [s, s], of the head's motion where the sheet bends; None takes :func:`triportrait.avatar.lifted.neck.motion_share`.
    """
    size, motion = portrait.image.shape[0], portrait.motion
    unit = size / 512
    seen = _SeenSkin.of(head, surface)
    alpha = beyond_the_crop(matte, margin := _margin(matte, portrait), body_row(portrait.landmarks), portrait.image)
    step, signed = _STEP_PX * unit, signed_distance(alpha, unit)
    skin = like_the_face(portrait, parts := portrait_parts(portrait))
    nodes = _inflated(portrait, head, surface, seen, signed, skin, parts.hair, whole_person=whole_person, share=share)
    nodes, sheets = _cut_at_outline(nodes, _shows_sheet(portrait, nodes, alpha, mesh), size)
    total, count = len(nodes.x), sheets.count

    # Both sides end in the outline's plane where they end at the scene.
    at_scene = np.where(np.arange(total) < count, 1.0, np.clip(nodes.person_px / step - 1.0, 0.0, 1.0))
    height = np.sqrt(nodes.squared * at_scene)
    # Flat below the ears: a chin mirrored behind itself would be a second chin.
    lift = np.clip((nodes.rise - _FAR_RISE[0]) / (_FAR_RISE[1] - _FAR_RISE[0]), 0.0, 1.0)
    # Behind an ear is nothing round, either.
    far_height = _FAR_DEPTH * smooth_step(lift) * (1.0 - nodes.ear) * height
    focal_px = portrait.focal * size
    matrix = matrix_from_euler(motion.rotation_rad)

    def in_head_space(depth: Array) -> Array:
        x, y = (nodes.x - size / 2) * depth / focal_px, (size / 2 - nodes.y) * depth / focal_px
        return (np.stack([x, y, CAMERA_DISTANCE_DM - depth], -1) - motion.translation) @ matrix

    posed = partial(pose_points, rotation_rad=motion.rotation_rad, translation=motion.translation)
    near, far = in_head_space(nodes.plane - height), in_head_space(nodes.plane + far_height)
    view = (np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - motion.translation) @ matrix - near
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    # Neither the head beside an ear nor the ear faces where the step between them does.
    on_ear = nodes.ear[sheets.form] > 0.5
    form = sheets.form[on_ear.all(1) | ~on_ear.any(1)]
    normal = vertex_normals(near, form)
    normal = np.where(np.linalg.norm(normal, axis=1, keepdims=True) < 0.5, view, normal)
    normal = _with_soft_rim(_even_rim(normal, form, nodes, step), nodes, step)

    row, column = (np.clip(v, 0, size - 1).astype(int) for v in (nodes.y, nodes.x))
    corner, weight = seen.follow(row, column)
    shown, _ = mirrored(nodes.x, nodes.y, matte, portrait.image)
    plain = without_features(portrait, colours, skin, parts.hair, signed[margin : margin + size, margin : margin + size])
    scale = focal_px / nodes.plane
    near_place, far_place, rim_place = guess_places(
        shown, nodes.inside_px, height * scale, far_height * scale, nodes.growth * scale**2, signed, plain.strands, margin
    )
    both = np.dstack([plain.low, plain.rim])
    near_colour, beside_ears = sampled(both, shown), sampled(plain.beside_ears, shown)
    # What lies beyond the crop's border is the photo mirrored; an ear would come twice.
    twofold = beside_ears[:, 3] * ((nodes.x < 0) | (nodes.x > size))
    near_colour += twofold[:, None] * (np.tile(beside_ears[:, :3], 2) - near_colour)
    guess = np.concatenate([np.hstack([near_place, near_colour]), np.hstack([far_place, sampled(both, rim_place)])])
    # The far side shares the outline's nodes; its own ones come after all others.
    drawn = [sheets.front, np.where(sheets.far < count, sheets.far + total, sheets.far)]
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
        far=twice(twofold, np.ones(total)),
        tainted=twice(sampled(np.maximum(plain.tainted, plain.bleached), shown), np.zeros(total)),
        yielding=twice((seen.face * skin)[row, column]),
        triangles=np.ascontiguousarray(renamed[: len(drawn[0])]),
        far_triangles=np.ascontiguousarray(renamed[len(drawn[0]) :]),
        corner=twice(corner, kind=np.int32),
        weight=twice(weight, np.zeros_like(weight)),
        share=twice(nodes.share),
        home=(home := twice(posed(near), posed(far))),
        source=motion,
        pivot=(body_pivot(portrait.landmarks) - size / 2) / focal_px,
        warp=LoosePoints.of(portrait, face_frame(head, surface.shape), home, 1.0 if share is None else twice(nodes.share)),
        plain=plain,
    )


def _inflated(
    portrait: PreparedPortrait,
    head: FullHead,
    surface: Surface,
    seen: _SeenSkin,
    signed: Array,
    skin: Array,
    hair: Array,
    *,
    whole_person: bool,
    share: Array | None,
) -> _Nodes:
    """A grid over the crop and a margin, its heights between skull and outline.

    Args:
        signed: float32, pixels to the outline, with the margin; skin: bool [s, s], from :func:`like_the_face`.
        hair: float32 [s, s], from :func:`portrait_parts`.
        whole_person: the sheet bends at the neck; share: as of :func:`build_mantle`.
    """
    size = portrait.image.shape[0]
    unit = size / 512
    step, margin = _STEP_PX * unit, (len(signed) - size) // 2
    line = np.arange(-margin, size + margin + 1e-3, step)
    # Rings where what is shown turns round: between them it is linear.
    beyond = np.arange(2, 1 + _BEYOND_PX // BAND_PX) * BAND_PX * unit
    beyond = beyond[beyond > margin]
    line = np.concatenate([-beyond[::-1], line, size + beyond])
    x, y = np.meshgrid(line, line)
    column, row = (np.clip(v, 0, size - 1).astype(int) for v in (x, y))
    rise_map = rise_of_face(portrait)
    scalp = Scalp.of(portrait, head, surface, bare_scalp(portrait, skin))
    ears, plates = seen_ears(portrait, skin, hair)
    plane, rise = outline_depth(portrait, head, scalp.vertices, rise_map, ears)[row, column], rise_map[row, column]
    # Rounded off towards the scene alone: where the torso goes on, the outline is a mere cut.
    whole = np.maximum(portrait.person_alpha, portrait.head_alpha)
    person = signed_distance(beyond_the_crop(whole, margin, body_row(portrait.landmarks), portrait.image), unit)
    down, across = _in_margin(y, x, margin, len(signed))
    inside_px = signed[down, across].astype(np.float64)
    # Slivers would be of no use.
    inside_px = np.where(np.abs(inside_px) < 0.12 * step, np.where(inside_px > 0, 0.12, -0.12) * step, inside_px)
    person_px = person[down, across].astype(np.float64)

    covered = scalp.covered
    height = np.where(covered[row, column], plane - scalp.depth[row, column], 0.0)
    in_crop = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    known = (covered & (scalp.facing > 0.3))[row, column] & in_crop & (person_px > 0)
    target = np.where(known, np.maximum(height, 0.05) ** 2, 0.0)
    squared = np.maximum(harmonic_fill(target, known | (person_px <= 0), _REGULARISATION), 0.0)
    squared = _even(squared, person_px > 0)
    squared, growth = _round_rim(squared, person_px, step)
    # An ear is no part of a round head but a plate that stands off it: it falls evenly to its rim.
    ear = in_crop & (person_px > 0) & plates[row, column]
    reach = ears_reach(portrait, plates)[row, column]
    for side in sides(portrait, x):
        one = ear & side
        if one.any():
            wide = max(float(person_px[one].max()), step)
            squared = np.where(one, (reach * np.clip(person_px / wide, 0.0, 1.0)) ** 2, squared)
    moved = np.ones(x.shape)
    if share is not None:
        moved = share[row, column].astype(np.float64)
    elif whole_person:
        moved = motion_share(x, y, portrait.landmarks, (seen.covered & (seen.neck < 0.02))[row, column] & in_crop)
    return _Nodes(x, y, plane, rise, growth, ear.astype(np.float64), squared, inside_px, person_px, moved)


def _shows_sheet(portrait: PreparedPortrait, nodes: _Nodes, alpha: Array, mesh: Array) -> Array:
    """Which nodes of the grid show the sheet, bool [h, w]: inside the face the mesh itself is drawn, the sheet keeps a rim under it.

    Args:
        alpha: the matte of what the sheet shows, with the margin.
        mesh: bool [s, s], as in :func:`build_mantle`.
    """
    import cv2

    size = portrait.image.shape[0]
    unit = size / 512
    column, row = (np.clip(v, 0, size - 1).astype(int) for v in (nodes.x, nodes.y))
    alive = alpha[_in_margin(nodes.y, nodes.x, (len(alpha) - size) // 2, len(alpha))] > 0.01
    # Where it closes, the eye is the mesh's alone: the sheet would show the open one.
    whole = cv2.morphologyEx(mesh.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((2 * round(2 * unit) + 1,) * 2, np.uint8)).astype(bool)
    inner = distance_px(~(face_hull(portrait.landmarks, size) & whole)) > _OVERLAP_PX * unit
    opening, lids = (_eyes(portrait.landmarks, size, reach) for reach in (0.0, _EYE_REACH))
    inner |= (opening & whole) | (lids & (distance_px(~whole) > 0.5 * _OVERLAP_PX * unit))
    return alive & ~inner[row, column]


def _margin(matte: Array, portrait: PreparedPortrait) -> int:
    """How far the sheet of a ``matte`` [s, s] reaches beyond the crop, in pixels."""
    cut = matte[: int(np.clip(body_row(portrait.landmarks), 0, len(matte))), [0, -1]] > 0.5
    return round((_WIDE_MARGIN_PX if cut.any() else _MARGIN_PX) * len(matte) / 512)


def _in_margin(y: Array, x: Array, margin: int, side: int) -> tuple[Array, Array]:
    """Rows and columns of pixels x, y of the crop in a picture of ``side`` with a margin round it."""
    down, across = (np.clip(v + margin, 0, side - 1).astype(int) for v in (y, x))
    return down, across


def _cut_at_outline(nodes: _Nodes, shown: Array, size: int) -> tuple[_Nodes, _Sheets]:
    """The grid cut along the outline; ``shown`` bool [h, w] are the nodes at which the front is drawn, ``size`` is the crop's side.

    Beyond the crop nothing is drawn outside the outline: the matte that softens it elsewhere ends with the crop.
    """
    in_front = np.tile(_touched(shown), 2)
    beyond = np.tile(_touched((nodes.x < 0) | (nodes.x > size) | (nodes.y < 0) | (nodes.y > size)), 2)
    behind = np.tile(_touched(nodes.rise > _FAR_RISE[0]), 2)
    chosen = in_front | behind
    triangles, parent, within, ends, share = cut_triangles(grid_triangles(*nodes.x.shape)[chosen], nodes.inside_px.ravel())
    in_front, behind, beyond = (flag[chosen][parent] for flag in (in_front, behind, beyond))
    in_front &= within | ~beyond
    cut = nodes.with_ends(ends, share)
    count = nodes.x.size
    # A cut lies on the outline, whatever rounding says.
    cut.inside_px[count:] = 0.0
    return cut, _Sheets(triangles[in_front], triangles[behind & within], triangles[in_front & within], count)


def cosines(points: Array, normals: Array, frame: MotionFrame) -> Array:
    """Between normals [n, 3] at head-space points [n, 3] and the view of ``frame``: float32 [n]."""
    view = _camera(frame) - points
    return np.einsum("nc,nc->n", normals, view) / np.linalg.norm(view, axis=1)


def streaks(then: Array, points: Array, normals: Array, frame: MotionFrame, law: Array = _STREAKS) -> Array:
    """How far a surface that the photo saw at cosines ``then`` [n] has become streaks in the view of ``frame``: float32 [n] in 0..1.

    Args:
        then, points, normals: as of :func:`cosines`.
        frame: the pose of the head.
        law: float32 [3], when streaks begin; see :func:`triportrait.avatar.lifted.vertex_kernels.streaks`.
    """
    result = np.empty_like(then)
    vertex_kernels.streaks(then, points, normals, _camera(frame), law, result)
    return result


def _camera(frame: MotionFrame) -> Array:
    """Where the camera is in the head space of ``frame``: float32 [3]."""
    return ((np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - frame.translation) @ matrix_from_euler(frame.rotation_rad)).astype(np.float32)


def _eyes(landmarks: Array, size: int, reach: float) -> Array:
    """The eyes' openings grown by ``reach`` widths of theirs and a cell of the grid: bool [s, s]."""
    import cv2

    mask: Any = np.zeros((size, size), np.uint8)
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        points = landmarks[rim, :2].astype(np.float32)
        width_px = float(np.linalg.norm(points[RIM_INNER_CORNER] - points[RIM_OUTER_CORNER]))
        grown = round(reach * width_px + _STEP_PX * size / 512)
        mask |= cv2.dilate(hull_mask(points, size), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1,) * 2))
    return mask.astype(bool)


def _even_rim(normal: Array, triangles: Array, nodes: _Nodes, step: float) -> Array:
    """Normals [n, 3]: near the outline each becomes the mean of those round it in the ``triangles`` [t, 3].

    How much is shown of the photo there follows them.

    The outline cuts the grid's cells at random, and a rim as steep as hair's would be photo and guess by turns.
    """
    rim = np.abs(nodes.inside_px) < _RIM_STEPS * step
    corners = triangles[rim[triangles].any(1)]
    evened = normal.astype(np.float64)
    for _ in range(_RIM_ROUNDS):
        total = np.zeros_like(evened)
        np.add.at(total, corners.ravel(), np.repeat(evened[corners].sum(1), 3, axis=0))
        length = np.linalg.norm(total, axis=1, keepdims=True)
        evened = np.where(rim[:, None] & (length > 1e-6), total / np.maximum(length, 1e-6), evened)
    return evened.astype(normal.dtype)


def _with_soft_rim(normal: Array, nodes: _Nodes, step: float) -> Array:
    """Normals [n, 3], beyond the outline those of the outline beside it: soft hair there becomes a guess where the outline does."""
    beyond = np.flatnonzero((nodes.inside_px < 0) & (nodes.inside_px > -4 * step))
    rim = np.flatnonzero((nodes.inside_px >= 0) & (nodes.inside_px < step / 2))
    if len(rim):
        at = np.stack([nodes.x, nodes.y, np.zeros(len(nodes.x))], -1)
        normal[beyond] = normal[rim[nearest_points(at[rim], at[beyond])[1][:, 0]]]
    return normal


def _even(values: Array, where: Array) -> Array:
    """``values`` [h, w] on the grid smoothed among those ``where`` bool [h, w] is True.

    Where known heights end, one row of the grid ends a node earlier than the next: turned, the edge of hair would be a saw.
    """
    import cv2

    weight = cv2.GaussianBlur(where.astype(np.float64), (0, 0), _EVEN_NODES)
    return np.where(where, cv2.GaussianBlur(values * where, (0, 0), _EVEN_NODES) / np.maximum(weight, 1e-6), values)


def _round_rim(squared: Array, inside_px: Array, step: float) -> tuple[Array, Array]:
    """Squared heights on the grid whose growth with the distance from the outline is even along it, and that growth (per pixel).

    Between the grid's nodes the outline runs anyhow: without this, a rim as steep as a sphere's would be a saw.
    """
    import cv2

    trusted = ((inside_px > 1.2 * step) & (inside_px < 4 * step)).astype(np.float32)
    growth = push_pull((squared / np.maximum(inside_px, step)).astype(np.float32)[..., None], trusted)[..., 0]
    weight = cv2.GaussianBlur(np.maximum(trusted, 1e-3), (0, 0), 3.0)
    growth = cv2.GaussianBlur(growth * np.maximum(trusted, 1e-3), (0, 0), 3.0) / weight
    part = smooth_step(np.clip((inside_px / step - 1.0) / 3.0, 0.0, 1.0))
    return np.where(inside_px > 0, part * squared + (1 - part) * growth * np.maximum(inside_px, 0.0), 0.0), growth


def _touched(nodes: Array) -> Array:
    """Which cells have a node that is True: bool, row by row."""
    return (nodes[:-1, :-1] | nodes[:-1, 1:] | nodes[1:, :-1] | nodes[1:, 1:]).ravel()
