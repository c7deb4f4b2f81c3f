"""One texture for a whole person: the photo where it saw the surface, and smooth colours where it did not.

What the photo saw too flat, or not at all, shows the mirrored place of the other side, in the tone that surrounds it, and where that was
not seen either, colours that spread over the surface from what was seen. Such quads lie in pictures of the surface from other sides, where
it is not stretched. No quad has a seam to its neighbours, for all pictures give its corners the same colours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from triportrait.avatar.lifted.unseen_colours import sampled
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.filling import push_pull
from triportrait.geometry.nearest import distance_px, nearest_points
from triportrait.geometry.neighbours import NeighbourMean
from triportrait.geometry.rasteriser import draw_attributes, draw_fragments
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, PreparedPortrait

#: A surface is seen from the first cosine with the photo's view on, and wholly from the second; so far from the person's outline (pixels of
#: a 512 px crop); and if nothing lies this much before it (decimetres).
_COSINES, _RIM_PX, _BEFORE_DM = (0.22, 0.45), (3.0, 8.0), 0.06
#: A mirrored place counts if the photo's surface is so near, and ever less up to twice that; rounds of smoothing by which what it shows
#: fades towards its border, for nothing else makes that border soft.
_MIRRORED_DM, _MIRROR_ROUNDS = 0.12, 24
#: Hair that the photo shows so near the face's border is what one sees there (decimetres).
_BESIDE_DM = 0.22
#: Rounds of smoothing between the colours of head and body.
_NECK_ROUNDS = 6
#: Nearest seen nodes from which colours begin to spread, of at most so many; rounds of spreading, and what a
#: round of plain means leaves of the smoothest error.
_NEAREST, _MOST, _ROUNDS, _SLOWEST = 12, 3000, 250, 0.9985
#: Side of a cell in texels: a block of JPEG, so that cells do not blur each other.
CELL = 8
#: Sides from which the surface is drawn where the photo does not show it: towards the viewer, and up; a texel of those pictures and the
#: distance from which they are taken (decimetres), and a rim round them in texels.
_SIDES = (((1, 0, 0), (0, 1, 0)), ((-1, 0, 0), (0, 1, 0)), ((0, 0, -1), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)), ((0, -1, 1), (0, 1, 0)))
_AXES = (*_SIDES[:4], ((0, -1, 0), (0, 0, 1)), ((0, 0, 1), (0, 1, 0)))
_TEXEL_DM, _FAR_DM, _EDGE_PX = 0.013, 100.0, 3
#: A texel of what is folded away.
_UNFOLDED_TEXEL_DM = 0.005
#: The skull's middle and the reach of the crown's whorl (decimetres); strands once round the head with their shares of the pattern,
#: and the length (decimetres) over which one keeps its brightness.
_SKULL_DM, _WHORL_DM = (0.0, 0.35, -0.75), 0.35
_STRANDS, _STRAND_ROWS, _STRAND_DM = ((90, 0.6), (260, 0.8)), 16, 0.45
#: A quad whose corners are seen at least so well shows the photo itself.
_WHOLLY = 0.98


@dataclass(frozen=True, slots=True)
class SeenNodes:
    """What is known of the colours of n nodes.

    Args:
        pixels: [n, 2] float32, where the photo has them, and ``seen`` [n] 0..1, how well.
        mirror: [n, 2] float32, where it has their mirror images, ``mirror_seen`` [n] 0..1, and ``tone`` [n, 3], what to add there.
        filled: [n, 3] float32 0..255, spread colours.
        strands: [n, 3] float32, how much the hair's strands are brighter or darker than ``filled``, and ``place`` [n, 3] (decimetres),
            which strand it is.
    """

    pixels: Array
    seen: Array
    mirror: Array
    mirror_seen: Array
    tone: Array
    filled: Array
    strands: Array
    place: Array

    def at(self, chosen: Array) -> SeenNodes:
        """Those of the numbers ``chosen`` [k]."""
        return SeenNodes(*(getattr(self, one.name)[chosen] for one in fields(self)))

    def colours(self, photo: Array) -> Array:
        """Of all nodes [n, 3], 0..255."""
        own, other = sampled(photo, self.pixels), sampled(photo, self.mirror) + self.tone
        filled = self.filled + self.strands * strand_pattern(self.place)[:, None]
        rest = filled + self.mirror_seen[:, None] * (other - filled)
        return rest + self.seen[:, None] * (own - rest)


@dataclass(frozen=True, slots=True)
class Rim:
    """The border of a surface that ends on another one, where both must have one colour.

    Args:
        nodes: [r] int, those near the border; below: [r, 3] int, the nearest nodes of the other surface.
        share: [r] float32, how much a node is to be like those: 1 at the border, 0 well inside.
        is_hair: [r] bool, where the other surface is hair.
    """

    nodes: Array
    below: Array
    share: Array
    is_hair: Array

    def bridges(self, points: Array, seen: Array) -> Array:
        """Triangles [b, 3] over which colours spread from one surface to the other: not to hair that the photo shows beside the border.

        Args:
            points: [n, 3]; seen: [n] 0..1, how well the photo shows each.
        """
        drawn = np.unique(self.below)
        shown = points[drawn[seen[drawn] > 0.9]]
        near = nearest_points(shown, points[self.nodes])[0][:, 0] < _BESIDE_DM if len(shown) else np.zeros(len(self.nodes), bool)
        chosen = (self.share > 0.5) & ~(self.is_hair & near)
        return np.column_stack([self.nodes[chosen], self.below[chosen][:, :2]]).astype(np.int32)


def look(
    portrait: PreparedPortrait,
    photo: Array,
    points: Array,
    normals: Array,
    triangles: Array,
    given: Array | None = None,
    strands: Array | None = None,
    rim: Rim | None = None,
    on_head: Array | None = None,
) -> SeenNodes:
    """What the photo tells of the colours of a surface.

    Args:
        photo: [s, s, 3] float32, colours of the person, continued beyond the outline.
        points: [n, 3] in the head's space and the photo's expression; normals: [n, 3]; triangles: [f, 3] int32, all that hides.
        given: [n, 3] colours of nodes that look otherwise than the photo shows them; not a number for all others.
        strands: [n, 3] contrast of the strands of hair on them; without it there are none.
        rim: where one of several surfaces ends on another one.
        on_head: [n] bool, nodes of the head, which the body lends no colours.
    """
    pixels, seen, mirror, mirror_seen = _visible(portrait, len(photo), points, normals, triangles)
    told = np.zeros(len(points), bool) if given is None else np.isfinite(given).all(1)
    seen, mirror_seen = seen * ~told, mirror_seen * ~told
    if rim is not None:
        triangles = np.concatenate([triangles, rim.bridges(points, seen)])
    mirror_seen = _faded(mirror_seen, told, triangles)
    own, opposite = sampled(photo, pixels), sampled(photo, mirror)
    tone = np.zeros((len(points), 3))
    both = np.flatnonzero((seen > 0.9) & (mirror_seen > 0.9))
    if len(both):
        tone = _spread(points, both, (own - opposite)[both], triangles)
    known = (seen > 0.9) | (mirror_seen > 0.9) | told
    colours = np.where((seen > 0.9)[:, None], own, np.clip(opposite + tone, 0.0, 255.0))
    if given is not None:
        colours[told] = given[told]
    filled = _filled(points, colours, known, triangles, on_head)
    strands = np.zeros((len(points), 3)) if strands is None else strands
    result = SeenNodes(pixels, seen, mirror, mirror_seen, tone, filled, strands, points)
    if rim is not None:
        below = result.colours(photo)[rim.below].mean(1)
        filled[rim.nodes] += rim.share[:, None] * (below - filled[rim.nodes])
    return result


def _visible(portrait: PreparedPortrait, size: int, points: Array, normals: Array, triangles: Array) -> tuple[Array, Array, Array, Array]:
    """Where a photo of ``size`` pixels has nodes, and how well it shows them (0..1), and the same of their mirror images.

    Args:
        points, normals, triangles: as for :func:`look`.

    Returns:
        pixels [n, 2] and shares [n], of the nodes and of their mirror images.
    """
    motion = portrait.motion
    unit = size / 512
    eye = (np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - motion.translation) @ matrix_from_euler(motion.rotation_rad)
    person = np.maximum(portrait.person_alpha, portrait.head_alpha)
    inside = distance_px(np.pad(person < 0.6, 1, constant_values=False))[1:-1, 1:-1]
    low, high = (limit * unit for limit in _RIM_PX)
    solid = np.clip((np.minimum(inside, 1e3) - low) / (high - low), 0.0, 1.0).astype(np.float32)[..., None]

    def projected(places: Array) -> tuple[Array, Array]:
        pixels, depth = project(pose_points(places, motion.rotation_rad, motion.translation), size, portrait.focal)
        return pixels.astype(np.float32), depth.astype(np.float32)

    pixels, depth = projected(points)
    nearest = np.full((size, size), np.inf, np.float32)
    number, weight = np.full((size, size), -1, np.int32), np.zeros((size, size, 3), np.float32)
    draw_fragments(pixels, depth, triangles, number, weight, nearest)

    def seen_at(places: Array, directions: Array, at: Array, away: Array, far: float) -> Array:
        view = eye - places
        cosine = (directions * view).sum(1) / np.linalg.norm(view, axis=1)
        first, last = _COSINES
        column, row = (np.clip(at[:, c].astype(int), 0, size - 1) for c in (0, 1))
        ahead = away - nearest[row, column]
        within = ((at >= 1.0) & (at <= size - 1.0)).all(1)
        clear = within & (ahead < _BEFORE_DM)
        if np.isfinite(far):
            clear = clear * np.clip(2.0 + ahead / far, 0.0, 1.0)
        return smooth_step(np.clip((cosine - first) / (last - first), 0.0, 1.0)) * sampled(solid, at).reshape(-1) * clear

    seen = seen_at(points, normals, pixels, depth, np.inf)
    other = points * (-1, 1, 1)
    mirror, mirror_depth = projected(other)
    mirror_seen = seen_at(other, normals * (-1, 1, 1), mirror, mirror_depth, _MIRRORED_DM)
    return pixels, seen, mirror, mirror_seen


def _filled(points: Array, colours: Array, known: Array, triangles: Array, on_head: Array | None) -> Array:
    """Colours [n, 3] of all nodes for those of the ``known`` ones [n]; with ``on_head`` [n], of head and body by themselves."""
    filled = np.zeros((len(points), 3))
    for side in [np.ones(len(points), bool)] if on_head is None else [on_head, ~on_head]:
        here = np.flatnonzero(known & side)
        here = here if len(here) else np.flatnonzero(known) if known.any() else np.arange(len(points))
        filled[side] = _spread(points, here, colours[here], triangles[side[triangles].all(1)])[side]
    if on_head is not None:
        mean = NeighbourMean.of(triangles, len(points))
        for _ in range(_NECK_ROUNDS):
            filled = np.where(known[:, None], filled, 0.5 * filled + 0.5 * mean(filled))
    return filled


def _faded(share: Array, told: Array, triangles: Array) -> Array:
    """A share [n] of nodes that falls to 0 before its border; at that of the nodes that are ``told`` [n] it stays as it is."""
    mean, wide = NeighbourMean.of(triangles, len(share)), np.where(told, 1.0, share)[:, None]
    for _ in range(_MIRROR_ROUNDS):
        wide = 0.5 * wide + 0.5 * mean(wide)
    return np.minimum(share, np.clip(2.0 * wide[:, 0] - 1.0, 0.0, 1.0))


def _spread(points: Array, known: Array, values: Array, triangles: Array) -> Array:
    """Values [k, c] of the ``known`` nodes, spread over the surface: [n, c].

    It begins with the mean of the nearest known nodes, by squared distance, and goes on to Laplace's equation on the mesh.
    """
    chosen = np.linspace(0, len(known) - 1, min(len(known), _MOST)).astype(int)
    distance, index = nearest_points(points[known[chosen]], points, min(_NEAREST, len(chosen)))
    weight = 1.0 / (distance + 0.02) ** 2
    result = (values[chosen][index] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    mean = NeighbourMean.of(triangles, len(points))
    lonely = np.bincount(triangles.ravel(), minlength=len(points)) == 0
    fixed = lonely.copy()
    fixed[known] = True
    result[known] = values
    before, pace = result, 1.0
    for _ in range(_ROUNDS):  # Chebyshev's semi-iteration (Golub and Varga 1961): plain means would need thousands of rounds
        after = np.where(fixed[:, None], result, before + pace * (mean(result) - before))
        before, result = result, after
        pace = 1.0 / (1.0 - 0.25 * _SLOWEST**2 * pace) if pace > 1.0 else 1.0 / (1.0 - 0.5 * _SLOWEST**2)
    return result


def strand_pattern(place: Array) -> Array:
    """Brightness of strands that fall from the crown, at places [n, 3] (decimetres) of a head's surface: float32 [n], mean 0, variance 1.

    Value noise (Perlin 1985) that is long down the strands and short across them; near the crown, where all meet, it fades.
    """
    right, up, back = (np.asarray(place, np.float64) - _SKULL_DM).T * ((1.0,), (1.0,), (-1.0,))
    around, away = np.arctan2(right, back) / (2.0 * np.pi) + 0.5, np.hypot(right, back)
    down = np.where(up > 0.0, np.arctan2(away, up), 0.5 * np.pi - up)
    random, total = np.random.default_rng(0), np.zeros(len(around))
    for across, share in _STRANDS:
        grid = random.standard_normal((_STRAND_ROWS, across)).astype(np.float32)
        grid = np.concatenate([grid, grid[:, :1]], axis=1)
        # Strands are no meridians: they wander a little.
        column = (around + 0.006 * np.sin(2.5 * down + 8.0 * np.pi * around)) % 1.0 * across
        row = np.clip(down / _STRAND_DM, 0.0, _STRAND_ROWS - 1.001)
        total += share * _bilinear(grid, column, row)
    return np.asarray(total * smooth_step(np.clip(away / _WHORL_DM, 0.0, 1.0)), np.float32)


def _bilinear(grid: Array, column: Array, row: Array) -> Array:
    """Values of a grid [r, c] between its nodes, of variance 1 for nodes of variance 1."""
    x, y = np.minimum(column.astype(int), grid.shape[1] - 2), row.astype(int)
    right, low = column - x, row - y
    weights = ((1 - right) * (1 - low), right * (1 - low), (1 - right) * low, right * low)
    values = (grid[y, x], grid[y, x + 1], grid[y + 1, x], grid[y + 1, x + 1])
    return np.asarray(sum(w * v for w, v in zip(weights, values, strict=True)) / np.sqrt(sum(w * w for w in weights)))


def continued(photo: Array, alpha: Array) -> Array:
    """The colours of a person, [s, s, 3] of the photo where ``alpha`` [s, s] is solid, and beyond the outline what lies inside it."""
    return np.clip(push_pull(photo.astype(np.float32), (alpha > 0.95).astype(np.float32)), 0.0, 255.0)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A texture and the places of quads in it.

    Args:
        picture: uint8 [h, w, 3].
        places: [q, 4, 2] float32 texels of the quads' corners.
    """

    picture: Array
    places: Array


def paint(
    photo: Array,
    nodes: SeenNodes,
    points: Array,
    normals: Array,
    quads: Array,
    extra: list[Array],
    folded: Array | None = None,
    unfolded: Array | None = None,
) -> tuple[Sheet, list[tuple[int, int]]]:
    """The texture of a surface of quads [q, 4], and of one of triangles [a, b, c, c], which may lie closely above it.

    Of a triangle the fourth corner lies opposite its second one.

    Quads that the photo does not show well lie in pictures of the surface from other sides, and those that no side shows in cells of
    their own.

    Args:
        photo: [s, s, 3] float32, 0..255, from :func:`continued`; it is the texture's upper part.
        nodes, points, normals: of the quads' corners, [n, 3] each.
        extra: more pictures [h, w, 3], at most as wide together as the photo, which stand below it.
        folded: [q] bool, quads that are larger than any view of ``points`` shows them: a picture of their own shows them from the front,
            where their corners are ``unfolded`` [n, 3].

    Returns:
        the texture, and where each of ``extra`` begins: column and row.
    """
    width = -(-len(photo) // CELL) * CELL
    blocks = _Blocks(width)
    blocks.add(photo)
    begins = [blocks.add(picture) for picture in extra]
    places = nodes.pixels[quads].astype(np.float32)
    left = nodes.seen[quads].min(1) < _WHOLLY
    is_triangle = quads[:, 2] == quads[:, 3]
    own = np.zeros(len(quads), bool) if folded is None else left & folded
    left = left & ~own
    triangles = np.ascontiguousarray(quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32))
    if unfolded is not None and own.any():
        # Neighbours stay neighbours: what a viewer reads beside a quad that is thinner than a pixel has the colours of the next one.
        # What lies below others even then has its place with all other quads.
        is_flat = _front_facing(unfolded, quads)
        left, own = left | (own & ~is_flat), own & is_flat
        flat = triangles[np.repeat(own, 2)]
        view = _View.of(np.array((0, 0, 1)), np.array((0, 1, 0)), unfolded, normals, flat)
        # From corner to corner: between a lid that is told and the skin above it the photo shows the eye.
        none = np.zeros(len(points))
        plain = replace(nodes, seen=none, mirror_seen=none, filled=nodes.colours(photo), strands=np.zeros((len(points), 3)))
        chart, at = view.chart(photo, plain, flat, np.unique(quads[own]), width, _UNFOLDED_TEXEL_DM)
        places[own] = at[quads[own]] + np.array(blocks.add(chart), np.float32)
    for sides in (_SIDES, _AXES, _AXES):
        # First all of it is in the way; then what is still to be shown, such as the insides of lips.
        inside = np.repeat(left, 2) if sides is _AXES else np.ones(len(triangles), bool)
        views = [_View.of(np.array(towards), np.array(up), points, normals, triangles[inside]) for towards, up in sides]
        scores = np.stack([view.score[quads].min(1) for view in views])
        best = np.where(left & (scores.max(0) > 0.0), scores.argmax(0), -1)
        for number, view in enumerate(views):
            # Each surface has pictures of its own: what lies a little before it would cover it.
            for mine in ((best == number) & is_triangle, (best == number) & ~is_triangle):
                if not mine.any():
                    continue
                chart, at = view.chart(photo, nodes, triangles[np.repeat(mine, 2)], np.unique(quads[mine]), width)
                places[mine] = at[quads[mine]] + np.array(blocks.add(chart), np.float32)
        left = left & (best < 0)
    if left.any():
        begin = np.array([blocks.add(cell) for cell in _cells(photo, nodes, quads[left])], np.float32) + 0.5
        last = CELL - 1.0
        places[left] = begin[:, None] + np.array([[0, 0], [last, 0], [last, last], [0, last]], np.float32)
    return Sheet(blocks.picture(), places), begins


def _front_facing(points: Array, quads: Array) -> Array:
    """Which quads [q, 4] show their front along z: bool [q]; a triangle has a corner twice."""
    (ax, ay), (bx, by) = ((points[quads[:, k + 2], :2] - points[quads[:, k], :2]).T for k in (0, 1))
    return np.asarray(ax * by > ay * bx)


class _Blocks:
    """Pictures beside and below each other in one of ``width`` columns, each from a multiple of a cell on."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._blocks: list[tuple[int, int, Array]] = []
        self._left = self._top = self._bottom = 0

    def add(self, picture: Array) -> tuple[int, int]:
        """Column and row at which ``picture`` [h, w, c] stands from now on."""
        height, width = (-(-side // CELL) * CELL for side in picture.shape[:2])
        if self._left + width > self._width:
            self._left, self._top = 0, self._bottom
        place = self._left, self._top
        self._blocks.append((*place, picture))
        self._left += width
        self._bottom = max(self._bottom, self._top + height)
        return place

    def picture(self) -> Array:
        """All of them: uint8 [h, width, 3]."""
        whole = np.full((self._bottom, self._width, 3), 128.0, np.float32)
        for left, top, block in self._blocks:
            whole[top : top + block.shape[0], left : left + block.shape[1]] = block
        return (np.clip(whole, 0.0, 255.0) + 0.5).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _View:
    """A surface from one side without perspective.

    ``places`` [n, 3] of its nodes (right, down, away; decimetres), and ``score`` [n], how well it shows each.
    """

    places: Array
    score: Array

    @staticmethod
    def of(towards: Array, up: Array, points: Array, normals: Array, triangles: Array) -> _View:
        towards = towards / np.linalg.norm(towards)
        right = np.cross(up, towards)
        right = right / np.linalg.norm(right)
        places = np.stack([points @ right, -(points @ np.cross(towards, right)), _FAR_DM - points @ towards], 1).astype(np.float32)
        low, high = places.min(0), places.max(0)
        at = (places[:, :2] - low[:2]) / np.float32(_TEXEL_DM)
        across, down = (int(np.ceil(side)) + 1 for side in (high - low)[:2] / _TEXEL_DM)
        nearest = np.full((down, across), np.inf, np.float32)
        draw_fragments(
            at, places[:, 2].copy(), triangles, np.full((down, across), -1, np.int32), np.zeros((down, across, 3), np.float32), nearest
        )
        column, row = at[:, 0].astype(int), at[:, 1].astype(int)
        clear = places[:, 2] < nearest[row, column] + _BEFORE_DM
        cosine = normals @ towards
        return _View(places, np.where(clear, cosine, 0.0) * (cosine > _COSINES[0]))

    def chart(
        self, photo: Array, nodes: SeenNodes, triangles: Array, used: Array, most_px: int, texel_dm: float = _TEXEL_DM
    ) -> tuple[Array, Array]:
        """A picture [h, w, 3] that holds the nodes ``used``, and the texels [n, 2] of all nodes in it."""
        low, high = self.places[used, :2].min(0), self.places[used, :2].max(0)
        texel = max(texel_dm, float((high - low)[0]) / (most_px - 2 * _EDGE_PX - 2))
        at = ((self.places[:, :2] - low) / np.float32(texel) + np.float32(_EDGE_PX)).astype(np.float32)
        across, down = (int(np.ceil(side / texel)) + 2 * _EDGE_PX for side in high - low)
        values = np.column_stack(
            [nodes.pixels, nodes.seen, nodes.mirror, nodes.mirror_seen, nodes.tone, nodes.filled, nodes.strands, nodes.place]
        )
        values = values.astype(np.float32)
        shown, depth = np.zeros((down, across, values.shape[1]), np.float32), np.full((down, across), np.inf, np.float32)
        draw_attributes(at, self.places[:, 2].copy(), triangles, values, shown, depth)
        known = np.isfinite(depth)
        flat = shown[known]
        colours = np.zeros((down, across, 3), np.float32)
        parts = np.split(flat, [2, 3, 5, 6, 9, 12, 15], axis=1)
        if known.any():
            colours[known] = SeenNodes(*(part[:, 0] if part.shape[1] == 1 else part for part in parts)).colours(photo)
        # Quads that are smaller than a texel may miss all texels' middles.
        column, row = (np.clip(at[used, c].astype(int), 0, side - 1) for c, side in ((0, across), (1, down)))
        missed = ~known[row, column]
        if missed.any():
            colours[row[missed], column[missed]] = nodes.at(used[missed]).colours(photo)
            known[row[missed], column[missed]] = True
        return push_pull(colours, known.astype(np.float32)), at


def _cells(photo: Array, nodes: SeenNodes, quads: Array) -> Array:
    """Colours [k, CELL, CELL, 3] of quads [k, 4]."""
    line = np.arange(CELL) / (CELL - 1.0)
    down, right = (v.ravel() for v in np.meshgrid(line, line, indexing="ij"))
    mix = np.stack([(1 - right) * (1 - down), right * (1 - down), right * down, (1 - right) * down])
    triangle = quads[:, 2] == quads[:, 3]

    def over(values: Array) -> Array:
        corners = values[quads].astype(np.float32).reshape(len(quads), 4, -1)
        corners[triangle, 3] = corners[triangle, 0] + corners[triangle, 2] - corners[triangle, 1]
        return np.einsum("qkc,kt->qtc", corners, mix).reshape(len(quads) * CELL * CELL, -1)

    whole = SeenNodes(
        over(nodes.pixels),
        np.clip(over(nodes.seen)[:, 0], 0.0, 1.0),
        over(nodes.mirror),
        np.clip(over(nodes.mirror_seen)[:, 0], 0.0, 1.0),
        over(nodes.tone),
        over(nodes.filled),
        over(nodes.strands),
        over(nodes.place),
    )
    return whole.colours(photo).reshape(len(quads), CELL, CELL, 3)
