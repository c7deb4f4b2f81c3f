"""Blender objects, materials and parts of a person for ``render_example_portraits.py``, which says what they need.

All geometry stays in MakeHuman's frame: decimetres, y up, z towards the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import bpy
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from triportrait.synth import surface
from triportrait.synth.makehuman import MakeHuman
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class Curves:
    """Fibres of equal point count: points [n, s, 3] root first, radius [n] in dm at the root, tone [n] in 0..1 (random)."""

    points: Array
    radius: Array
    tone: Array


# Blender objects ---------------------------------------------------------------------------------------------------------


def add_mesh(name: str, mesh: surface.Mesh, material: bpy.types.Material, attributes: Mapping[str, Array] | None = None) -> None:
    """A smooth-shaded mesh with its texture coordinates and point attributes ([n] numbers or [n, 3] colours)."""
    faces = [[int(v) for v in face if v >= 0] for face in mesh.faces]
    data = bpy.data.meshes.new(name)
    data.from_pydata(mesh.vertices.tolist(), [], faces)
    if len(mesh.uv):
        corners = mesh.faces_uv[mesh.faces >= 0]
        data.uv_layers.new(name="UVMap").data.foreach_set("uv", mesh.uv[corners].astype(np.float32).ravel())
    for key, value in (attributes or {}).items():
        kind = "FLOAT" if value.ndim == 1 else "FLOAT_VECTOR"
        target = data.attributes.new(key, kind, "POINT").data
        target.foreach_set("value" if value.ndim == 1 else "vector", value.astype(np.float32).ravel())
    data.shade_smooth()
    data.materials.append(material)
    bpy.context.collection.objects.link(bpy.data.objects.new(name, data))


def add_fibres(name: str, curves: Curves, material: bpy.types.Material) -> None:
    """Hair as Cycles curves that taper to the tip."""
    count, steps = curves.points.shape[:2]
    data = bpy.data.hair_curves.new(name)
    data.add_curves([steps] * count)
    data.attributes["position"].data.foreach_set("vector", curves.points.astype(np.float32).ravel())
    taper = np.clip(1.6 * (1.0 - np.linspace(0.0, 1.0, steps)), 0.12, 1.0)
    radius = (curves.radius[:, None] * taper[None]).astype(np.float32)
    data.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", radius.ravel())
    data.attributes.new("tone", "FLOAT", "CURVE").data.foreach_set("value", curves.tone.astype(np.float32))
    data.materials.append(material)
    bpy.context.collection.objects.link(bpy.data.objects.new(name, data))


def add_image(name: str, pixels: Array, colour: bool) -> bpy.types.Image:
    """A float image of linear [h, w] or [h, w, 3], row 0 at the top."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, -1)
    height, width = pixels.shape[:2]
    image = bpy.data.images.new(name, width, height, float_buffer=True, is_data=not colour)
    if colour:
        image.colorspace_settings.name = "Linear Rec.709"
    rgba = np.concatenate([pixels, np.ones((height, width, 1))], -1)[::-1]
    image.pixels.foreach_set(np.ascontiguousarray(rgba, np.float32).ravel())
    image.pack()
    return image


class Nodes:
    """A short hand for node trees: ``nodes.add(type, {input: value or socket}, property=...)`` returns the node."""

    def __init__(self, tree: bpy.types.NodeTree) -> None:
        self.tree = tree
        tree.nodes.clear()

    def add(self, kind: str, inputs: Mapping[str | int, object] | None = None, **properties: object) -> bpy.types.Node:
        node = self.tree.nodes.new(kind)
        for key, value in properties.items():
            setattr(node, key, value)
        for key, value in (inputs or {}).items():
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, node.inputs[key])
            else:
                node.inputs[key].default_value = value
        return node

    def math(self, operation: str, *values: object) -> bpy.types.NodeSocket:
        return self.add("ShaderNodeMath", dict(enumerate(values)), operation=operation).outputs[0]

    def attribute(self, name: str, output: str = "Fac") -> bpy.types.NodeSocket:
        return self.add("ShaderNodeAttribute", attribute_name=name).outputs[output]


def new_material(name: str) -> tuple[bpy.types.Material, Nodes]:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    return material, Nodes(material.node_tree)


# Materials ---------------------------------------------------------------------------------------------------------------


def skin_material(maps: Array, roughness: float, dark: bool) -> bpy.types.Material:
    """Subsurface skin: colour, relief and gloss from ``maps`` [2048, 2048, 5], pores from noise, wet where lids touch eyes."""
    material, n = new_material("skin")
    albedo = n.add("ShaderNodeTexImage", image=add_image("albedo", maps[..., :3], True)).outputs["Color"]
    relief = n.add("ShaderNodeTexImage", image=add_image("relief", maps[..., 3] * 20.0 + 0.5, False)).outputs["Color"]
    gloss = n.add("ShaderNodeTexImage", image=add_image("gloss", maps[..., 4], False)).outputs["Color"]
    rest = n.attribute("rest", "Vector")
    wet = n.attribute("wet")
    pores = n.add("ShaderNodeTexVoronoi", {"Vector": rest, "Scale": 85.0, "Randomness": 1.0}, feature="SMOOTH_F1").outputs["Distance"]
    fine = n.add("ShaderNodeTexNoise", {"Vector": rest, "Scale": 60.0, "Detail": 4.0, "Roughness": 0.65}).outputs["Fac"]
    slow = n.add("ShaderNodeTexNoise", {"Vector": rest, "Scale": 9.0, "Detail": 3.0, "Roughness": 0.6}).outputs["Fac"]
    mottle = n.add("ShaderNodeTexNoise", {"Vector": rest, "Scale": 26.0, "Detail": 5.0, "Roughness": 0.7}).outputs["Color"]
    tinted = n.add("ShaderNodeMix", {0: 0.16, 6: albedo, 7: mottle}, data_type="RGBA", blend_type="OVERLAY", clamp_factor=True).outputs[2]
    # Pores are darker than the skin around them.
    speckle = n.math("ADD", n.math("MULTIPLY", pores, 0.30), n.math("MULTIPLY_ADD", fine, 0.34, 0.72))
    tinted = n.add("ShaderNodeMix", {0: 1.0, 6: tinted, 7: speckle}, data_type="RGBA", blend_type="MULTIPLY").outputs[2]
    bump = n.add("ShaderNodeBump", {"Height": relief, "Distance": 0.05, "Strength": 0.45}).outputs["Normal"]
    bump = n.add("ShaderNodeBump", {"Height": pores, "Distance": 0.007, "Strength": 0.6, "Normal": bump}).outputs["Normal"]
    bump = n.add("ShaderNodeBump", {"Height": fine, "Distance": 0.010, "Strength": 0.5, "Normal": bump}).outputs["Normal"]
    rough = n.math("MULTIPLY_ADD", gloss, -0.22, roughness + 0.07)
    rough = n.math("ADD", rough, n.math("MULTIPLY_ADD", fine, 0.25, -0.125))
    rough = n.math("ADD", rough, n.math("MULTIPLY_ADD", slow, 0.2, -0.1))
    rough = n.math("MULTIPLY_ADD", wet, -0.28, rough)
    skin = n.add(
        "ShaderNodeBsdfPrincipled",
        {
            "Base Color": tinted,
            "Roughness": rough,
            "IOR": 1.4,
            "Normal": bump,
            "Subsurface Weight": 1.0,
            "Subsurface Radius": (1.0, 0.38, 0.2) if not dark else (1.0, 0.5, 0.35),
            "Subsurface Scale": 0.022,
            "Sheen Weight": 0.0 if dark else 0.06,
            "Sheen Roughness": 0.4,
        },
        subsurface_method="RANDOM_WALK_SKIN",
    )
    n.add("ShaderNodeOutputMaterial", {"Surface": skin.outputs[0]})
    return material


def eye_materials() -> tuple[bpy.types.Material, bpy.types.Material]:
    """The eyeball, coloured per vertex, and the clear cornea before it, which mirrors and lets light pass unbent."""
    ball, n = new_material("eyeball")
    colour = n.attribute("colour", "Vector")
    white = n.attribute("white")
    inner = n.add(
        "ShaderNodeBsdfPrincipled",
        {
            "Base Color": colour,
            "Roughness": 0.35,
            "Subsurface Weight": white,
            "Subsurface Radius": (1.0, 0.6, 0.4),
            "Subsurface Scale": 0.02,
        },
    )
    inner.inputs["Specular IOR Level"].default_value = 0.1
    n.add("ShaderNodeOutputMaterial", {"Surface": inner.outputs[0]})
    cornea, n = new_material("cornea")
    rest = n.add("ShaderNodeNewGeometry").outputs["Position"]
    ripple = n.add("ShaderNodeTexNoise", {"Vector": rest, "Scale": 28.0, "Detail": 2.0}).outputs["Fac"]
    bump = n.add("ShaderNodeBump", {"Height": ripple, "Distance": 0.004, "Strength": 0.25}).outputs["Normal"]
    fresnel = n.add("ShaderNodeFresnel", {"IOR": 1.376}).outputs[0]
    mirror = n.add("ShaderNodeBsdfGlossy", {"Color": (1.0, 1.0, 1.0, 1.0), "Roughness": 0.04, "Normal": bump}).outputs[0]
    clear = n.add("ShaderNodeBsdfTransparent").outputs[0]
    both = n.add("ShaderNodeMixShader", {0: fresnel, 1: clear, 2: mirror}).outputs[0]
    n.add("ShaderNodeOutputMaterial", {"Surface": both})
    return ball, cornea


def hair_material(name: str, melanin: float, redness: float, grey: float, roughness: float = 0.26) -> bpy.types.Material:
    """Fibres by melanin; hairs whose tone lies below ``grey`` are white."""
    material, n = new_material(name)
    tone = n.attribute("tone")
    pigmented = n.math("GREATER_THAN", tone, grey)
    amount = n.math("MULTIPLY_ADD", pigmented, melanin - 0.10, 0.10)
    fibre = n.add(
        "ShaderNodeBsdfHairPrincipled",
        {
            "Melanin": amount,
            "Melanin Redness": redness,
            "Roughness": roughness,
            "Radial Roughness": 0.45,
            "Random Color": 0.35,
            "Random Roughness": 0.3,
        },
        parametrization="MELANIN",
        model="CHIANG",
    )
    n.add("ShaderNodeOutputMaterial", {"Surface": fibre.outputs[0]})
    return material


def cloth_material(colour: Array | None, texture: Array) -> bpy.types.Material:
    """Woven cotton or wool of one linear ``colour``, or of the garment's own linear ``texture`` [h, w, 3] without one."""
    material, n = new_material("cloth")
    rest = n.attribute("rest", "Vector")
    weave = n.add("ShaderNodeTexNoise", {"Vector": rest, "Scale": 45.0, "Detail": 6.0, "Roughness": 0.75}).outputs["Fac"]
    crease = n.add("ShaderNodeTexNoise", {"Vector": rest, "Scale": 1.5, "Detail": 1.0, "Roughness": 0.4, "Distortion": 0.5}).outputs["Fac"]
    bump = n.add("ShaderNodeBump", {"Height": crease, "Distance": 0.30, "Strength": 0.8}).outputs["Normal"]
    bump = n.add("ShaderNodeBump", {"Height": weave, "Distance": 0.012, "Strength": 0.6, "Normal": bump}).outputs["Normal"]
    plain: object = (*(colour if colour is not None else (0.0, 0.0, 0.0)), 1.0)
    if colour is None:
        plain = n.add("ShaderNodeTexImage", image=add_image("cloth", texture, True)).outputs["Color"]
    base = n.add("ShaderNodeMix", {0: 0.35, 6: plain, 7: weave}, data_type="RGBA", blend_type="OVERLAY").outputs[2]
    cloth = n.add(
        "ShaderNodeBsdfPrincipled",
        {"Base Color": base, "Roughness": 0.9, "Normal": bump, "Sheen Weight": 0.08, "Sheen Roughness": 0.5, "Diffuse Roughness": 0.7},
    )
    cloth.inputs["Specular IOR Level"].default_value = 0.15
    n.add("ShaderNodeOutputMaterial", {"Surface": cloth.outputs[0]})
    return material


# Parts of the sitter -----------------------------------------------------------------------------------------------------


def eyeball(
    centre: Array, radius: float, gaze: Array, iris: Array, sclera: float, rng: np.random.Generator
) -> tuple[surface.Mesh, dict[str, Array], surface.Mesh]:
    """Eyeball with a recessed iris, its point attributes, and the cornea with the tear film over both."""
    segments, rings = 240, 120
    limbus = np.arcsin(0.060 / radius)
    t = np.linspace(0.0, 1.0, rings)
    # Half of the rings lie within the iris.
    angle = np.interp(t, [0.0, 0.5, 1.0], [0.002, limbus * 1.15, 2.2])
    turn = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    theta, phi = np.meshgrid(angle, turn, indexing="ij")
    r = radius * np.sin(theta)
    share = np.clip(r / 0.060, 0.0, 1.4) * (theta < 1.3) + 1.4 * (theta >= 1.3)
    inside = np.clip((1.03 - share) / 0.10, 0.0, 1.0)
    depth = radius * np.cos(theta)
    flat = radius * np.cos(limbus) - 0.006 - 0.006 * (1.0 - np.clip(share, 0, 1) ** 2)
    z = depth + inside * (np.minimum(flat, depth) - depth)
    local = np.stack([r * np.cos(phi), r * np.sin(phi), z], -1).reshape(-1, 3)
    fibres = gaussian_filter(rng.normal(size=(rings, segments)), (9.0, 0.8), mode=("nearest", "wrap"))
    fibres = fibres / fibres.std()
    blotch = gaussian_filter(rng.normal(size=(rings, segments)), (6.0, 8.0), mode=("nearest", "wrap"))
    blotch = blotch / blotch.std()
    ring = np.exp(-(((share - 0.52) / 0.13) ** 2))
    glow = (0.75 + 0.75 * ring) * np.exp(0.33 * fibres + 0.2 * blotch)
    rim = 1.0 - 0.75 * np.clip((share - 0.80) / 0.2, 0.0, 1.0) ** 1.5
    colour = np.array(iris) * (glow * rim)[..., None] * np.stack([1.0 + 0.25 * ring, 1.0 + 0.05 * ring, 1.0 - 0.1 * ring], -1)
    pupil = np.clip((share - 0.36) / 0.05, 0.0, 1.0)[..., None]
    colour = colour * pupil + 0.002
    vein = gaussian_filter(rng.normal(size=(rings, segments)), (4.0, 1.0), mode=("nearest", "wrap"))
    vein = np.clip(vein / vein.std() - 1.0, 0.0, 1.5) * np.clip((theta - limbus - 0.1) / 0.5, 0.0, 1.0)
    red = np.clip((theta - limbus) / 0.8, 0.0, 1.0)[..., None]
    white = (
        sclera
        * np.array([0.60, 0.57, 0.545])
        * (1.0 - red * np.array([0.10, 0.30, 0.32]))
        * (1.0 - vein[..., None] * np.array([0.04, 0.16, 0.15]))
    )
    mix = np.clip((share - 0.93) / 0.16, 0.0, 1.0)[..., None]
    mix = mix * mix * (3.0 - 2.0 * mix)
    colour = colour * (1.0 - mix) + white * mix
    index = np.arange(rings * segments).reshape(rings, segments)
    following = np.roll(index, -1, 1)
    quads = np.stack([index[:-1], index[1:], following[1:], following[:-1]], -1).reshape(-1, 4)
    gaze = gaze / np.linalg.norm(gaze)
    right = np.cross([0.0, 1.0, 0.0], gaze)
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(gaze, right), gaze], -1)
    empty = np.zeros((0, 2))
    ball = surface.Mesh(local @ frame.T + centre, quads, empty, quads)
    bulge = 0.013 * np.clip(1.0 - (theta / (1.25 * limbus)) ** 2, 0.0, 1.0) ** 1.5
    shell = (radius * 1.006 + bulge)[..., None] * np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    film = surface.Mesh(shell.reshape(-1, 3) @ frame.T + centre, quads, empty, quads)
    return ball, {"colour": colour.reshape(-1, 3), "white": mix.reshape(-1)}, film


def painted_points(card: surface.Mesh, texture: Array, count: int, rng: np.random.Generator) -> Array:
    """Random points [n, 3] on ``card``, as likely as its texture is opaque there."""
    triangles, triangles_uv = card.triangles()
    corners, corners_uv = card.vertices[triangles], card.uv[triangles_uv]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    pick = rng.choice(len(triangles), 60 * count, p=area / area.sum())
    first, second = np.sqrt(rng.random(len(pick))), rng.random(len(pick))
    weights = np.stack([1.0 - first, first * (1.0 - second), first * second], -1)[..., None]
    points, uv = (corners[pick] * weights).sum(1), (corners_uv[pick] * weights).sum(1)
    height, width = texture.shape[:2]
    alpha = gaussian_filter(texture[..., 3], width / 110.0)
    at = alpha[np.clip(((1.0 - uv[:, 1]) * height).astype(int), 0, height - 1), np.clip((uv[:, 0] * width).astype(int), 0, width - 1)]
    keep = np.nonzero(rng.random(len(pick)) < at)[0][:count]
    return points[keep]


def brow_fibres(
    assets: MakeHuman, name: str, rest: Array, skin: surface.Mesh, normals: Array, count: int, rng: np.random.Generator
) -> Curves:
    """Brow hairs where MakeHuman's card is painted, combed outwards, upwards near the nose, flat against the skin."""
    card = assets.fit(f"eyebrows.{name}", rest)
    roots = painted_points(card, assets.texture(f"eyebrows/{name}.webp"), count, rng)
    tree = cKDTree(skin.vertices)
    _, near = tree.query(roots)
    normal = normals[near]
    roots = roots - ((roots - skin.vertices[near]) * normal).sum(1, keepdims=True) * normal
    side = np.sign(roots[:, 0])
    run = np.zeros(len(roots))
    above = np.zeros(len(roots))
    for s in (-1.0, 1.0):
        own = side == s
        x = np.abs(roots[own, 0])
        run[own] = (x - x.min()) / (np.ptp(x) + 1e-9)
        fit = np.polyfit(x, roots[own, 1], 2)
        above[own] = np.clip((roots[own, 1] - np.polyval(fit, x)) / 0.03, -1.0, 1.0)
    # Near the nose they stand up, then they lie along the brow; the upper ones come down a little.
    lift = np.interp(run, [0.0, 0.15, 0.4, 1.0], [2.2, 1.0, 0.35, -0.35]) - 0.45 * above
    heading = np.stack([side, lift, np.zeros(len(roots))], -1) + rng.normal(0.0, 0.16, (len(roots), 3))
    heading -= (heading * normal).sum(1, keepdims=True) * normal
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    length = np.interp(run, [0.0, 0.3, 1.0], [0.060, 0.085, 0.060]) * rng.uniform(0.6, 1.1, len(roots))
    t = np.linspace(0.0, 1.0, 6)[None, :, None]
    down = np.stack([0.3 * side, -0.7 - 0.3 * above, np.zeros(len(roots))], -1)[:, None]
    points = roots[:, None] + length[:, None, None] * (
        t * heading[:, None] + 0.28 * t * t * down + (0.30 * t - 0.22 * t * t) * normal[:, None]
    )
    return Curves(points, rng.uniform(0.00032, 0.0005, len(roots)), rng.random(len(roots)))


def lash_fibres(lids: Mapping[str, Array], length_dm: float, rng: np.random.Generator) -> Curves:
    """Lashes up to ``length_dm`` from the lid edges: upper ones curve out and up, lower ones out and down; grouped in uneven tufts."""
    strands = []
    for key, edge in lids.items():
        upper = "upper" in key
        count = 130 if upper else 70
        along = np.sort(rng.uniform(0.06, 0.97, count))
        along = along + 0.5 / count * np.sin(along * 190.0 + rng.uniform(0, 6))
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(edge, axis=0), axis=1))])
        arc /= arc[-1]
        root = np.stack([np.interp(along, arc, edge[:, k]) for k in range(3)], -1)
        outer = np.sign(edge[:, 0].mean())
        fan = outer * np.interp(along, [0.0, 0.5, 1.0], [-0.35, 0.15, 0.9])
        reach = (
            np.interp(along, [0.0, 0.25, 0.75, 1.0], [0.35, 0.8, 1.0, 0.65])
            * rng.uniform(0.65, 1.05, count)
            * length_dm
            * (1.0 if upper else 0.53)
        )
        t = np.linspace(0.0, 1.0, 8)[None, :, None]
        out = np.stack([fan + rng.normal(0, 0.12, count), np.full(count, -0.25 if upper else -0.45), np.ones(count)], -1)
        curl = np.stack([0.2 * fan, np.full(count, 1.05 if upper else -0.25), np.full(count, -0.35)], -1)
        strands.append(root[:, None] + reach[:, None, None] * (t * out[:, None] + t * t * curl[:, None]))
    points = np.concatenate(strands)
    return Curves(points, rng.uniform(0.0004, 0.0007, len(points)), np.ones(len(points)))


def lid_edges(assets: MakeHuman, name: str, rest: Array, centres: Mapping[int, Array], radius: float) -> dict[str, Array]:
    """The four lid edges as curves [k, 3], inner corner first: the root rows of MakeHuman's lash cards, brought to the surface."""
    card = assets.fit(f"eyelashes.{name}", rest)
    ends = np.stack([card.faces, np.roll(card.faces, 1, 1)]).reshape(2, -1)
    links = coo_matrix((np.ones(ends.shape[1]), ends), shape=2 * [len(card.vertices)])
    count, label = connected_components(links)
    edges = {}
    for strip in (card.vertices[label == k] for k in range(count)):
        centre = centres[int(np.sign(strip[0, 0]))]
        # A card has five rows; the first begins behind the lid.
        row = strip[np.argsort(np.linalg.norm(strip - centre, axis=1))[: len(strip) // 5]]
        row = row[np.argsort(np.abs(row[:, 0]))]
        away = row - centre
        reach = np.sqrt(np.maximum((1.035 * radius) ** 2 - away[:, 0] ** 2 - away[:, 1] ** 2, 0.0))
        row[:, 2] = np.maximum(row[:, 2], centre[2] + reach)
        upper = strip[:, 1].mean() > centre[1] - 0.01
        edges[f"{'upper' if upper else 'lower'}{np.sign(strip[0, 0]):.0f}"] = row
    return edges


def skin_fibres(
    skin: surface.Mesh, normals: Array, chance: Array, count: int, length_dm: float, radius_dm: float, rng: np.random.Generator
) -> Curves:
    """Short hairs that lean down the face, rooted where ``chance`` [n] per vertex allows: stubble, or down."""
    triangles, _ = skin.triangles()
    corners = skin.vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    pick = rng.choice(len(triangles), count, p=(weight := area * chance[triangles].mean(1)) / weight.sum())
    first, second = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1.0 - first, first * (1.0 - second), first * second], -1)[..., None]
    roots = (corners[pick] * weights).sum(1)
    normal = (normals[triangles][pick] * weights).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    down = np.array([0.0, -1.0, 0.0]) + np.sign(roots[:, :1]) * [[0.25, 0.0, 0.0]] + rng.normal(0.0, 0.35, (count, 3))
    down -= (down * normal).sum(1, keepdims=True) * normal
    t = np.linspace(0.0, 1.0, 4)[None, :, None]
    length = (length_dm * rng.uniform(0.4, 1.3, count))[:, None, None]
    points = roots[:, None] + length * (t * (0.75 * normal + 0.55 * down)[:, None] + t * t * (0.35 * down - 0.25 * normal)[:, None])
    return Curves(points, radius_dm * rng.uniform(0.7, 1.2, count), rng.random(count))


def beard_chance(skin: surface.Mesh, rest: Array, assets: MakeHuman) -> Array:
    """[n]: where a beard grows, 0..1: jaw, chin and upper lip, below a line from the ear to the mouth's corner."""
    eyes = 0.5 * (assets.joint(rest, "l-eye") + assets.joint(rest, "r-eye"))
    x, y, z = (skin.vertices - eyes).T
    x = np.abs(x)
    mouth = -0.70
    cheek = np.interp(x, [0.0, 0.22, 0.30, 0.55, 0.75], [-0.50, -0.50, -0.74, -0.62, -0.15])
    chance = np.clip((cheek - y) / 0.10, 0.0, 1.0) * np.clip((y + 1.32) / 0.22, 0.0, 1.0)
    lips = np.exp(-((x / 0.27) ** 4) - (((y - mouth) / 0.085) ** 4))
    chance *= 1.0 - np.clip(2.0 * lips, 0.0, 1.0)
    return chance * (z > -0.95) * np.clip((0.80 - x) / 0.08, 0.0, 1.0)
