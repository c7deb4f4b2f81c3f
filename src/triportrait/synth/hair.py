"""Hair as strands: guide curves grown on the scalp, and many thin strands interpolated between them.

The hairline is a polygon in MakeHuman's skin texture, drawn by hand on its layout. Lengths are decimetres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.geometry.normals import vertex_normals
from triportrait.synth.makehuman import HEAD_CROP_PX
from triportrait.synth.surface import Mesh
from triportrait.types import Array

#: Upper half of the hairline in pixels of the head crop, from the middle of the forehead to the nape; mirrored at y = 738.
_HAIRLINE_PX = (
    (272, 738), (276, 690), (282, 650), (272, 612), (290, 580), (330, 556), (385, 532), (425, 516), (432, 503),
    (412, 498), (402, 470), (396, 430), (404, 402), (440, 384), (500, 388), (545, 360), (565, 300), (572, 200), (575, 40),
)  # fmt: skip
_HAIRLINE_MIRROR_PX = 738.0


@dataclass(frozen=True, slots=True)
class HairStyle:
    """How a head of hair grows.

    Args:
        kind: ``crop`` (short, swept), ``long`` (parted, falling) or ``tied`` (drawn back to the nape).
        length_dm: length of the longest strands.
        strands: number of strands.
        colour: linear RGB of the fibre's body.
        hairline_px: how far the hairline reaches beyond the usual one (a lower forehead), in texture pixels.
        part_dm: x of the parting (head's left positive) for ``long`` and ``tied``.
        volume_dm: how far the hair stands off the scalp.
        wave: amplitude of the waves, decimetres.
        width_dm: of a strand; several real hairs, which keeps the count low.
        seed: seed of all random choices.
    """

    kind: str = "crop"
    length_dm: float = 0.4
    strands: int = 60000
    colour: tuple[float, float, float] = (0.06, 0.035, 0.02)
    hairline_px: float = 0.0
    part_dm: float = 0.25
    volume_dm: float = 0.08
    wave: float = 0.012
    width_dm: float = 0.008
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Strands:
    """Curves of equal point count.

    Args:
        points: [n, s, 3] decimetres, root first.
        guide: [n, 3] int, the guides each strand follows.
        share: [n, 3] float, their weights.
        tone: [n] float, brightness of each strand around 1.
        fineness: [n] float in 0..1, width of each strand relative to a full one.
    """

    points: Array
    guide: Array
    share: Array
    tone: Array
    fineness: Array


def hairline_distance(uv: Array, beyond_px: float = 0.0) -> Array:
    """Signed distance [n] in texture pixels from the hairline (positive: on the scalp) for texture coordinates [n, 2].

    The forehead's part of the line lies ``beyond_px`` further towards the face; at the ears it stays.
    """
    upper = np.array(_HAIRLINE_PX, np.float64)
    lower = upper[::-1] * (1.0, -1.0) + (0.0, 2.0 * _HAIRLINE_MIRROR_PX)
    # The scalp lies on the left of the polygon, which is closed far outside the crop.
    polygon = np.concatenate([lower[:-1], upper, [(-400.0, -300.0), (-400.0, 1800.0)]])
    pixels = uv * (2048.0, -2048.0) + (-HEAD_CROP_PX[0][0], 2048.0 - HEAD_CROP_PX[1][0])
    inside = np.zeros(len(pixels), bool)
    nearest = np.full(len(pixels), np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        crosses = (a[1] > pixels[:, 1]) != (b[1] > pixels[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = (b[0] - a[0]) * (pixels[:, 1] - a[1]) / (b[1] - a[1]) + a[0]
        inside ^= crosses & (pixels[:, 0] < at)
        edge = b - a
        along = np.clip(((pixels - a) @ edge) / (edge @ edge), 0.0, 1.0)
        nearest = np.minimum(nearest, np.linalg.norm(pixels - a - along[:, None] * edge, axis=1))
    front = np.clip((205.0 - np.abs(pixels[:, 1] - _HAIRLINE_MIRROR_PX)) / 90.0, 0.0, 1.0)
    return np.where(inside, nearest, -nearest) + beyond_px * front


def sample_scalp(
    skin: Mesh, count: int, rng: np.random.Generator, beyond_px: float = 0.0, fade_px: float = 42.0
) -> tuple[Array, Array, Array]:
    """``count`` random roots, area-uniform, thinning out over ``fade_px`` at the hairline, which lies ``beyond_px`` lower.

    Returns:
        positions [n, 3], unit normals [n, 3] and distances [n] from the hairline in texture pixels.
    """
    triangles, triangles_uv = skin.triangles()
    centre_uv = skin.uv[triangles_uv].mean(1)
    near = (hairline_distance(centre_uv, beyond_px) > -30.0) & (centre_uv[:, 0] > HEAD_CROP_PX[0][0] / 2048.0)
    # Other islands of the texture lie inside the outline: hands, and the mouth's inside.
    centre = skin.vertices[triangles].mean(1)
    middle = np.array([0.0, skin.vertices[:, 1].max() - 1.05, 0.35])
    out = np.cross(*(skin.vertices[triangles[:, k]] - skin.vertices[triangles[:, 0]] for k in (1, 2)))
    near &= ((centre - middle) * out).sum(1) > 0.0
    near &= (np.abs(centre - middle) < (1.1, 1.35, 1.6)).all(1) & (np.linalg.norm(centre - middle, axis=1) > 0.62)
    near &= (centre[:, 1] > middle[1]) | (centre[:, 2] < 0.55)
    triangles, triangles_uv = triangles[near], triangles_uv[near]
    corners = skin.vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    pick = rng.choice(len(triangles), 2 * count + 1000, p=area / area.sum())
    first, second = np.sqrt(rng.random(len(pick))), rng.random(len(pick))
    weights = np.stack([1.0 - first, first * (1.0 - second), first * second], -1)[..., None]
    pieces = (corners[pick] * weights).sum(1)
    distance = hairline_distance((skin.uv[triangles_uv[pick]] * weights).sum(1), beyond_px)
    # An uneven line, as hair grows.
    distance += 7.0 * np.sin(pieces @ rng.normal(0.0, 9.0, (3, 3))).sum(1)
    keep = np.nonzero(rng.random(len(pick)) < (distance + 0.35 * fade_px) / fade_px)[0][:count]
    normals = vertex_normals(skin.vertices, skin.triangles()[0])[triangles]
    points = pieces[keep]
    normal = (normals[pick] * weights).sum(1)[keep]
    return points, normal / np.linalg.norm(normal, axis=1, keepdims=True), distance[keep]


def grow(skin: Mesh, style: HairStyle, guides: int = 1400) -> tuple[Array, Strands]:
    """Grow hair on the rest-pose body ``skin``.

    Returns:
        guide curves [g, s, 3] and the strands that follow them, of as many points.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(style.seed)
    steps = 10 if style.kind == "crop" else 26
    normals = vertex_normals(skin.vertices, skin.triangles()[0])
    tree = cKDTree(skin.vertices)
    top = skin.vertices[:, 1].max()
    if style.kind == "tied":
        field = _tied(style, top, skin.vertices[skin.vertices[:, 1] > top - 1.5, 2].min())
    else:
        field = {"crop": _crop, "long": _long}[style.kind](style, top)
    roots, root_normals, distance = sample_scalp(skin, guides, rng, style.hairline_px)
    root_normals = _unit(root_normals + rng.normal(0.0, 0.12, root_normals.shape))
    curves = _integrate(roots, root_normals, distance, field, style, steps, tree, skin.vertices, normals)
    child_roots, _, child_distance = sample_scalp(skin, style.strands, rng, style.hairline_px)
    curves = curves + _locks(curves, style, rng)
    side = np.sign(roots[:, 0] - style.part_dm) if style.kind == "long" else np.ones(guides)
    child_side = np.sign(child_roots[:, 0] - style.part_dm) if style.kind == "long" else np.ones(len(child_roots))
    guide = np.zeros((len(child_roots), 3), np.int64)
    gap = np.zeros((len(child_roots), 3))
    for s in np.unique(side):
        own, mine = np.nonzero(side == s)[0], child_side == s
        gap[mine], found = cKDTree(roots[own]).query(child_roots[mine], k=3)
        guide[mine] = own[found]
    share = 1.0 / (gap + 0.02) ** 2
    share /= share.sum(1, keepdims=True)
    follow = ((curves[guide] - curves[guide][:, :, :1]) * share[..., None, None]).sum(1)
    run = np.linspace(0.0, 1.0, steps)[None, :, None]
    # Clumping: towards the tip a strand closes in on its nearest guide.
    clump = curves[guide[:, 0]] - (child_roots[:, None] + follow)
    pull = (0.55 if style.kind == "crop" else 0.35) * rng.random((len(child_roots), 1, 1)) * run**1.5
    points = child_roots[:, None] + follow + pull * clump
    phase = rng.random((len(child_roots), 1, 3)) * 2.0 * np.pi
    speed = 1.0 + 5.0 * rng.random((len(child_roots), 1, 3))
    points += style.wave * run * np.sin(speed * run * 2.0 * np.pi * 0.5 + phase)
    points += rng.normal(0.0, 0.010, (len(child_roots), 1, 3)) * np.minimum(run * 4.0, 1.0)
    # A few strands leave the bulk altogether.
    loose = (rng.random((len(child_roots), 1, 1)) < 0.035) * rng.normal(0.0, 1.0, (len(child_roots), 1, 3))
    loose *= min(0.09, 0.25 * style.length_dm)
    points += loose * run**1.4
    length = 0.72 + 0.28 * rng.random(len(child_roots))
    length *= np.clip(0.35 + child_distance / 25.0, 0.35, 1.0) if style.kind == "crop" else 1.0
    # The first rows at the hairline do not lie as neatly as the rest.
    edge = (child_distance < 30.0) & (style.kind != "crop")
    stray = rng.normal(0.0, 0.045, (edge.sum(), 1, 3)) * rng.random((edge.sum(), 1, 1)) ** 2
    points[edge] += stray * np.sin(np.pi * np.minimum(run * 2.2, 1.0))
    points = _shorten(points, length)
    points = _push_out(points.reshape(-1, 3), tree, skin.vertices, normals, 0.004).reshape(points.shape)
    points[:, 0] = child_roots
    # Strands differ a little, locks differ more.
    tone = np.exp(rng.normal(0.0, 0.25, len(child_roots)) + rng.normal(0.0, 0.22, guides)[guide[:, 0]])
    # Hair is finest along the hairline.
    fineness = np.clip(0.25 + child_distance / 60.0, 0.25, 1.0) * rng.uniform(0.7, 1.0, len(child_roots))
    return curves, Strands(points, guide, share, tone, fineness)


def _locks(curves: Array, style: HairStyle, rng: np.random.Generator) -> Array:
    """Slow bends of each guide [g, s, 3], growing towards the tip: hair that was not combed a minute ago."""
    run = np.linspace(0.0, 1.0, curves.shape[1])[None, :, None]
    turns = rng.uniform(0.6, 2.2, (len(curves), 1, 3))
    phase = rng.uniform(0.0, 2.0 * np.pi, (len(curves), 1, 3))
    return 2.0 * style.wave * run * (np.sin(2.0 * np.pi * turns * run + phase) - np.sin(phase))


def _shorten(points: Array, length: Array) -> Array:
    """Each curve [n, s, 3] cut to the fraction ``length`` [n] of its points and resampled."""
    steps = points.shape[1]
    at = np.linspace(0.0, 1.0, steps)[None] * length[:, None] * (steps - 1)
    low = np.minimum(at.astype(np.int64), steps - 2)
    part = (at - low)[..., None]
    row = np.arange(len(points))[:, None]
    return points[row, low] * (1.0 - part) + points[row, low + 1] * part


def _height(points: Array, tree, vertices: Array, normals: Array) -> tuple[Array, Array]:  # type: ignore[no-untyped-def]
    """How far each point stands above the skin, and the normal there."""
    _, nearest = tree.query(points)
    return ((points - vertices[nearest]) * normals[nearest]).sum(1), normals[nearest]


def _push_out(points: Array, tree, vertices: Array, normals: Array, height: float | Array) -> Array:  # type: ignore[no-untyped-def]
    """Points moved along the nearest vertex normal until they stand ``height`` above the skin."""
    above, normal = _height(points, tree, vertices, normals)
    return points + np.maximum(height - above, 0.0)[:, None] * normal


#: (points, roots, root normals, heights above the skin, skin normals, run 0..1) -> (heading, length, stiffness)
Field = Callable[[Array, Array, Array, Array, Array, float], tuple[Array, Array, float]]


def _integrate(roots, root_normals, distance, field: Field, style, steps, tree, vertices, normals):  # type: ignore[no-untyped-def]
    points, heading, top = roots.copy(), root_normals.copy(), vertices[:, 1].max()
    if style.kind == "tied":  # drawn tight: it leaves the skin flat
        above, normal = _height(points, tree, vertices, normals)
        heading = _unit(0.12 * root_normals + field(points, roots, root_normals, above, normal, 0.0)[0])
    curves = [points]
    for step in range(1, steps):
        run = step / (steps - 1)
        above, normal = _height(points, tree, vertices, normals)
        target, length, stiff = field(points, roots, root_normals, above, normal, run)
        heading = heading * stiff + target * (1.0 - stiff)
        heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-9)
        points = points + heading * (length / (steps - 1))[:, None]
        rise = style.volume_dm * (np.clip(distance / 60.0, 0.1, 1.0)) * min(1.0, 3.0 * run)
        points = _push_out(points, tree, vertices, normals, rise)
        if style.kind != "crop":
            # Hair lies on the skull until it has come round its widest part.
            above, normal = _height(points, tree, vertices, normals)
            on_skull = np.clip((points[:, 1] - (top - 1.45)) / 0.3, 0.0, 1.0)
            points = points - (np.maximum(above - rise * 1.25, 0.0) * on_skull * 0.8)[:, None] * normal
        curves.append(points)
    return np.stack(curves, 1)


def _unit(vector: Array) -> Array:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def _crop(style: HairStyle, top: float) -> Field:
    def field(points, roots, root_normals, above, normal, run):  # type: ignore[no-untyped-def]
        height = smooth_step(np.clip((roots[:, 1] - (top - 0.95)) / 0.7, 0.0, 1.0))[:, None]  # 0 on the sides, 1 on top
        sides = np.array([0.0, -0.8, -0.55]) + 0.25 * root_normals
        swept = np.array([0.75, 0.15, 0.30]) + 0.55 * root_normals * (1.2 - run) - np.array([0.0, 0.5, 0.0]) * run
        # The front stands up and leans back to the side a little.
        front = np.clip((roots[:, 2:3] - 0.75) / 0.5, 0.0, 1.0)
        swept = swept + front * np.array([0.2, 0.55, -0.25])
        target = _unit(sides * (1.0 - height) + swept * height)
        length = style.length_dm * (0.22 + 0.78 * height[:, 0])
        return target, length, 0.45

    return field


def _long(style: HairStyle, top: float) -> Field:
    def field(points, roots, root_normals, above, normal, run):  # type: ignore[no-untyped-def]
        side = np.sign(roots[:, 0:1] - style.part_dm)
        # From the parting outwards and back along the skull, then down with the weight of the hair.
        skull = np.clip((points[:, 1:2] - (top - 1.25)) / 0.9, 0.0, 1.0)
        wish = side * skull * np.array([[1.0, 0.0, 0.0]]) + np.array([[0.0, -0.75, 0.0]])
        wish = wish + skull * np.array([[0.0, 0.0, -0.30]])
        outward = np.maximum((wish * normal).sum(1, keepdims=True), 0.0) * (skull > 0.0)
        inward = np.minimum((wish * normal).sum(1, keepdims=True), 0.0)
        target = _unit(wish - (outward + inward * (above < 0.15)[:, None]) * normal)
        # The back is cut shorter, or it would slide off the shoulders.
        ahead = np.clip((roots[:, 2] + 0.2) / 0.8, 0.0, 1.0)
        return target, style.length_dm * (0.74 + 0.26 * ahead), 0.5

    return field


def _tied(style: HairStyle, top: float, back: float) -> Field:
    knot = np.array([0.0, top - 1.22, back - 0.02])

    def field(points, roots, root_normals, above, normal, run):  # type: ignore[no-untyped-def]
        towards = knot - points
        remaining = np.linalg.norm(towards, axis=1)
        # Around the skull, not through it: the pull's tangential part.
        centre = np.array([0.0, top - 1.1, back + 0.95])
        out = _unit(points - centre)
        pull = _unit(towards)
        side = np.sign(roots[:, 0:1] - style.part_dm) * np.clip(1.0 - run * 3.0, 0.0, 1.0)
        target = pull - out * np.minimum((pull * out).sum(1, keepdims=True), 0.0) + side * np.array([[0.35, 0.0, 0.0]])
        length = np.minimum(1.25 * np.linalg.norm(knot - roots, axis=1), 20.0 * remaining)
        return _unit(target), length, 0.35

    return field


def ribbons(curves: Array, width_dm: float) -> tuple[Array, Array]:
    """Flat bands along ``curves`` [g, s, 3] for shadow rays: (vertices, triangles)."""
    along = _unit(np.gradient(curves, axis=1))
    centre = curves.reshape(-1, 3).mean(0)
    across = _unit(np.cross(along, curves - centre)) * (0.5 * width_dm)
    count, steps = curves.shape[:2]
    vertices = np.stack([curves - across, curves + across], 2).reshape(-1, 3)
    base = (np.arange(count)[:, None] * steps + np.arange(steps - 1)[None]).reshape(-1, 1) * 2
    triangles = np.concatenate([base + (0, 1, 2), base + (1, 3, 2)])
    return vertices, triangles
