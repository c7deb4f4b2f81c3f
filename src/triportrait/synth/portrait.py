"""A person from MakeHuman's parts, lit by an HDRI and a soft box, photographed.

``build_scene`` gathers the light once (seconds to a minute on one core); ``render.render`` then takes the picture, and
``develop`` turns radiance into an 8-bit photograph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.synth import shade, surface
from triportrait.synth.hair import HairStyle, grow, ribbons
from triportrait.synth.makehuman import HEAD_CROP_PX, Macro, MakeHuman, Posture
from triportrait.synth.render import Scene, View
from triportrait.synth.shade import CLOTH, EYE, LASH, SKIN, Environment, SoftBox
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class Person:
    """Who stands there; names are those of MakeHuman's files without extension.

    Args:
        macro: the broad strokes; ``details`` adds further targets by name.
        skin, eyes, brows, lashes, clothes: textures and fitted meshes.
        hair: strands grown on the scalp.
        skin_gain: [3] factor on the linear skin colour.
        cloth_colour: linear RGB that replaces the garment's hue, or None to keep its texture.
        brow_colour: linear RGB of the brows; the lashes are darker.
        scalp_tint: how strongly the scalp takes the hair's colour, 0..1.
        iris_gain, lip_gain: [3] factors on the linear colour of irises and lips; sclera_gain: on the whites.
    """

    macro: Macro
    details: Mapping[str, float]
    skin: str
    eyes: str
    brows: str
    lashes: str
    clothes: str
    hair: HairStyle
    posture: Posture = field(default_factory=Posture)
    skin_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cloth_colour: tuple[float, float, float] | None = None
    brow_colour: tuple[float, float, float] = (0.03, 0.018, 0.011)
    scalp_tint: float = 0.6
    iris_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lip_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sclera_gain: float = 0.68


@dataclass(frozen=True, slots=True)
class Light:
    """What lights and backs the person.

    Args:
        hdri: name in ``hdri_512x256.npz``; ``turn`` rolls it (fraction of a circle), its middle is behind the person.
        lamps: soft boxes added to it.
        background_zoom: the picture shows this many times the true angle of the environment (a wider view, as if nearer).
        background_blur_px: radius of the out-of-focus disc at 1024 px width.
        background_gain: exposure of the background relative to the person.
    """

    hdri: str
    turn: float = 0.0
    lamps: tuple[SoftBox, ...] = ()
    background_zoom: float = 3.0
    background_blur_px: float = 26.0
    background_gain: float = 1.0
    background_pitch_rad: float = 0.0


def load_hdri(path: Path, name: str) -> Array:
    """Radiance [256, 512, 3] of map ``name`` in the bundle's ``hdri_512x256.npz``."""
    with np.load(path) as maps:
        row = [str(n) for n in maps["names"]].index(name)
        return maps["images"][row].astype(np.float64) * float(maps["scale"][row])


def linear(srgb: Array) -> Array:
    """sRGB values in 0..1 as linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def skin_map(assets: MakeHuman, person: Person, rng: np.random.Generator) -> Array:
    """[2048, 2048, 5] float32: linear albedo, height (dm), gloss. The texture's fine contrast doubles as relief."""
    from scipy.ndimage import gaussian_filter

    srgb = assets.skin(person.skin)
    albedo = linear(srgb) * np.array(person.skin_gain)
    grey = srgb.mean(-1)
    height = 0.010 * (grey - gaussian_filter(grey, 2.5)) + 0.014 * (grey - gaussian_filter(grey, 9.0))
    noise = rng.normal(size=grey.shape).astype(np.float32)
    pores = np.minimum(gaussian_filter(noise, 1.1) * 3.9, 0.6)
    lumps = gaussian_filter(rng.normal(size=grey.shape).astype(np.float32), 7.0) * 24.0
    height = height + 0.00045 * pores + 0.0009 * lumps
    y, x = np.mgrid[0:2048, 0:2048].astype(np.float32)
    x, y = x - HEAD_CROP_PX[0][0], y - HEAD_CROP_PX[1][0]

    def spot(cx: float, cy: float, rx: float, ry: float, soft: float = 1.0) -> Array:
        return np.clip((1.0 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) / soft, 0.0, 1.0)

    lips = spot(603.0, 738.0, 36.0, 52.0, 0.35)
    redness = np.clip((srgb[..., 0] - srgb[..., 1] - 0.16) / 0.12, 0.0, 1.0) * lips
    # Oily forehead, nose and chin; mottled, ruddier cheeks, nose and ears.
    oily = 0.14 * spot(330.0, 738.0, 90.0, 150.0) + 0.35 * spot(500.0, 738.0, 60.0, 34.0) + 0.2 * spot(680.0, 738.0, 40.0, 60.0)
    gloss = 0.30 + oily + 0.55 * redness + 0.05 * lumps
    mottle = gaussian_filter(rng.normal(size=grey.shape).astype(np.float32), 16.0) * 56.0
    blush = 0.5 * (spot(525.0, 610.0, 75.0, 75.0) + spot(525.0, 866.0, 75.0, 75.0)) + 0.6 * spot(520.0, 738.0, 40.0, 40.0)
    red = 0.025 * mottle + 0.11 * blush
    albedo = albedo * np.stack([1.0 + 0.3 * red, 1.0 - red, 1.0 - 0.8 * red], -1)
    spots = np.clip(gaussian_filter(rng.normal(size=grey.shape).astype(np.float32), 1.6) * 5.6 - 3.2, 0.0, 1.0)
    albedo = albedo * (1.0 - spots[..., None] * np.array([0.14, 0.24, 0.28]))
    albedo = albedo * (1.0 + lips[..., None] * (np.array(person.lip_gain) - 1.0))
    scalp = scalp_map(person.hair.hairline_px)
    root = np.array(person.hair.colour)
    amount = (person.scalp_tint * scalp)[..., None]
    albedo = albedo * (1.0 - amount) + amount * root
    gloss = np.clip(gloss * (1.0 - 0.8 * scalp), 0.0, 1.0)
    return np.concatenate([albedo, height[..., None], gloss[..., None]], -1).astype(np.float32)


def scalp_map(beyond_px: float) -> Array:
    """[2048, 2048]: 1 under the hair, fading over the hairline."""
    from scipy.ndimage import zoom

    from triportrait.synth.hair import hairline_distance

    v, u = np.meshgrid(1.0 - (np.arange(256) + 0.5) / 256.0, (np.arange(256) + 0.5) / 256.0, indexing="ij")
    distance = hairline_distance(np.stack([u.reshape(-1), v.reshape(-1)], -1), beyond_px).reshape(256, 256)
    amount = np.clip((distance + 4.0) / 50.0, 0.0, 1.0)
    # Left of the crop lies the rest of the body, not scalp.
    amount *= (u > HEAD_CROP_PX[0][0] / 2048.0 + 0.004) & (v < 0.84)
    return zoom(amount, 8, order=1)


def _darker(colour: tuple[float, float, float], share: float) -> tuple[float, float, float]:
    """A linear colour with this share of its light."""
    red, green, blue = colour
    return share * red, share * green, share * blue


def _card(assets: MakeHuman, name: str, colour: tuple[float, float, float] | None, relief: float = 0.5) -> Array:
    """A texture as [1024, 1024, 4]: linear colour (replaced by ``colour`` where given) and alpha."""
    import cv2

    texture = assets.texture(name)
    texture = cv2.resize(texture, (1024, 1024), interpolation=cv2.INTER_AREA if len(texture) > 1024 else cv2.INTER_LINEAR)
    rgb = linear(texture[..., :3])
    if colour is not None:
        shade_ = rgb.mean(-1, keepdims=True)
        visible = texture[..., 3] > 0.5
        rgb = np.array(colour) * np.clip(shade_ / max(float(np.median(shade_[visible])), 1e-3), 0.5, 1.6) ** relief
    return np.concatenate([rgb, texture[..., 3:]], -1).astype(np.float32)


@dataclass
class _Pile:
    """Meshes collected into one set of arrays."""

    vertices: list[Array] = field(default_factory=list)
    triangles: list[Array] = field(default_factory=list)
    uv: list[Array] = field(default_factory=list)
    material: list[Array] = field(default_factory=list)
    texture: list[Array] = field(default_factory=list)
    opacity: list[Array] = field(default_factory=list)
    count: int = 0

    def add(self, mesh: surface.Mesh, material: int, texture: int, opacity: Array | float = 1.0) -> slice:
        corners, corners_uv = mesh.triangles()
        self.vertices.append(mesh.vertices)
        self.triangles.append(corners + self.count)
        self.uv.append(mesh.uv[corners_uv])
        self.material.append(np.full(len(corners), material))
        self.texture.append(np.full(len(corners), texture))
        self.opacity.append(np.broadcast_to(np.asarray(opacity, np.float64), (len(corners),)))
        start, self.count = self.count, self.count + len(mesh.vertices)
        return slice(start, self.count)


def build_scene(
    assets: MakeHuman,
    hdri: Array,
    person: Person,
    light: Light,
    view: View,
    rng: np.random.Generator,
    light_samples: int = 256,
    levels: int = 2,
    expression: Mapping[str, float] | None = None,
) -> Scene:
    """Shape, dress, pose and light a person; ``expression`` adds ``arkit/*`` targets by their ARKit names."""
    weights = {**person.macro.weights(), **person.details}
    weights.update({f"arkit/{name}": value for name, value in (expression or {}).items()})
    rest = assets.shape(weights)
    joints = {name: assets.joint(rest, name) for name in ("l-shoulder", "r-shoulder", "neck", "l-eye", "r-eye")}
    pose = person.posture
    dressed = _dressed(assets, rest, joints, person, view, rng, levels)
    pile, vertices, triangles = dressed.pile, np.concatenate(dressed.pile.vertices), np.concatenate(dressed.pile.triangles)
    normals = vertex_normals(vertices, triangles)
    curves, strands = grow(dressed.skin, person.hair)
    curves = pose.apply(curves.reshape(-1, 3), joints).reshape(curves.shape)
    points = pose.apply(strands.points.reshape(-1, 3), joints).reshape(strands.points.shape)
    occluders = _occluders(pile, vertices, triangles, curves)
    environment = Environment.build(hdri, light.turn, light.lamps)
    directions, radiance = environment.directions(light_samples, rng)
    radiance = radiance / np.pi
    eye_position = np.asarray(view.position, np.float64)
    gathered = _gathered(dressed, vertices, triangles, normals, eye_position, (directions, radiance), occluders)
    roots = curves.reshape(-1, 3)
    fibre = surface.gather_light(roots, np.zeros(roots.shape), directions, radiance, occluders, 0.03, True)
    lit, _, lean = ((part.reshape(curves.shape)[strands.guide] * strands.share[..., None, None]).sum(1) for part in fibre)
    colour = shade.strand_radiance(points, strands.tone, lit, lean, eye_position, person.hair.colour)
    return Scene(
        vertices=vertices,
        normals=normals,
        light=gathered,
        triangles=triangles,
        uv=np.concatenate(pile.uv),
        material=np.concatenate(pile.material),
        texture=np.concatenate(pile.texture),
        skin=skin_map(assets, person, rng),
        textures=np.stack(dressed.textures),
        eye_frames=dressed.eye_frames,
        environment=environment.image,
        levels=environment.levels,
        strand_points=points,
        strand_colour=colour,
        strand_width_dm=person.hair.width_dm * strands.fineness,
    )


@dataclass(frozen=True, slots=True)
class _Dressed:
    """The posed parts, the unposed ``skin``, textures [1024, 1024, 4], eye frames, and which vertices are skin and eyes."""

    pile: _Pile
    skin: surface.Mesh
    textures: list[Array]
    eye_frames: Array
    skin_part: slice
    eye_part: slice


def _dressed(
    assets: MakeHuman, rest: Array, joints: Mapping[str, Array], person: Person, view: View, rng: np.random.Generator, levels: int
) -> _Dressed:
    """Skin, eyes, brows, lashes and clothes; ``levels``: how often meshes are subdivided."""
    clothes_name = f"clothes.{person.clothes}"
    lowest = joints["neck"][1] - 2.4
    pose = person.posture

    def posed(mesh: surface.Mesh) -> surface.Mesh:
        return mesh.with_vertices(pose.apply(mesh.vertices, joints))

    def refined(mesh: surface.Mesh, times: int) -> surface.Mesh:
        for _ in range(times):
            mesh = surface.subdivide(mesh, True)
        return mesh

    pile = _Pile()
    skin = refined(assets.body(rest, lowest, clothes_name), levels)
    skin_part = pile.add(posed(skin), SKIN, -1)
    textures = [_iris(_card(assets, f"eyes/{person.eyes}.webp", None), person)]
    eyes, frames = _eyes(assets, rest, joints, pose, view)
    eye_part = pile.add(eyes, EYE, 0)
    for category, name, colour in (
        ("eyebrows", person.brows, person.brow_colour),
        ("eyelashes", person.lashes, _darker(person.brow_colour, 0.35)),
    ):
        mesh = refined(assets.fit(f"{category}.{name}", rest), 1)
        card = _card(assets, f"{category}/{name}.webp", colour)
        card[..., 3] = np.minimum(card[..., 3] * (1.3 if category == "eyebrows" else 1.0), 1.0)
        textures.append(card)
        pile.add(posed(mesh), LASH, len(textures) - 1, 0.08)
    clothes = assets.fit(clothes_name, rest)
    clothes = clothes.keep_faces(clothes.vertices[clothes.faces[:, :3], 1].min(1) > lowest)
    textures.append(_weave(_card(assets, f"clothes/{person.clothes}.jpg", person.cloth_colour, 0.0), rng))
    pile.add(posed(folds(refined(clothes, levels), joints["neck"], rng)), CLOTH, len(textures) - 1)
    return _Dressed(pile, skin, textures, frames, skin_part, eye_part)


def _occluders(pile: _Pile, vertices: Array, triangles: Array, curves: Array) -> surface.Occluders:
    """What throws shadows: all parts, and bands along the hair's guides [g, s, 3]."""
    bands, band_triangles = ribbons(curves, 0.085)
    # Thin at the roots, or each guide along the hairline throws a shadow of its own on the forehead.
    run = np.arange(curves.shape[1] - 1) / (curves.shape[1] - 1.0)
    band_opacity = np.tile(0.42 * np.clip(run * 5.0, 0.08, 1.0), 2 * len(curves))
    return surface.Occluders.build(
        np.concatenate([vertices, bands]),
        np.concatenate([triangles, band_triangles + len(vertices)]),
        np.concatenate([*pile.opacity, band_opacity]),
    )


def _gathered(
    dressed: _Dressed,
    vertices: Array,
    triangles: Array,
    normals: Array,
    eye: Array,
    lights: tuple[Array, Array],
    occluders: surface.Occluders,
) -> Array:
    """Light at the vertices that ``eye`` [3] may see, from directions and their radiance: [v, 9], as in :class:`Scene`."""
    toward = eye - vertices
    visible = (toward * normals).sum(1) > -0.35 * np.linalg.norm(toward, axis=1)
    lit, bare, lean = (np.zeros_like(vertices) for _ in range(3))
    lit[visible], bare[visible], lean[visible] = surface.gather_light(vertices[visible], normals[visible], *lights, occluders)
    open_ = lit.mean(1) / np.maximum(bare.mean(1), 1e-9)
    # One bounce: what a point does not see of the light it sees of nearby skin and cloth.
    lit += (1.0 - open_)[:, None] * 0.32 * np.array([0.50, 0.27, 0.19]) * lit[visible].mean(0)
    part = triangles[np.concatenate(dressed.pile.material) == SKIN]
    skin, eyes = dressed.skin_part, dressed.eye_part
    lit[skin] = shade.scatter(lit[skin], vertices[skin], part, (0.036, 0.018, 0.010))
    lit[eyes] = 0.75 * lit[eyes] + 0.25 * lit[eyes].mean(0)
    lean /= np.maximum(np.linalg.norm(lean, axis=1, keepdims=True), 1e-9)
    return np.concatenate([lit, lean, open_[:, None], np.zeros((len(vertices), 2))], 1)


def _iris(texture: Array, person: Person) -> Array:
    """The eye texture [1024, 1024, 4] with both irises tinted, wider pupils, a dark rim and paler veins."""
    y, x = np.mgrid[0:1024, 0:1024]
    result = texture.copy()
    for cx, cy in ((296.0, 714.0), (725.0, 298.0)):
        radius = np.hypot(x - cx, y - cy) / 118.0
        inside = np.clip((1.06 - radius) / 0.1, 0.0, 1.0)[..., None]
        pupil = np.clip((radius - 0.36) / 0.05, 0.02, 1.0)
        rim = (pupil * (1.0 - 0.55 * np.exp(-(((radius - 0.98) / 0.12) ** 2))))[..., None]
        result[..., :3] *= (1.0 + inside * (np.array(person.iris_gain) - 1.0)) * rim
    grey = result[..., :3].mean(-1, keepdims=True)
    white = np.clip((grey - 0.3) / 0.2, 0.0, 1.0)
    result[..., :3] = result[..., :3] * (1.0 - 0.4 * white) + 0.4 * white * grey * (1.02, 1.0, 0.98)
    result[..., :3] *= 1.0 - (1.0 - person.sclera_gain) * white
    return result


def folds(cloth: surface.Mesh, neck: Array, rng: np.random.Generator) -> surface.Mesh:
    """The garment with a raised band around the neck and soft folds, which painted textures lack."""
    from scipy.spatial import cKDTree

    corners, _ = cloth.triangles()
    normals = vertex_normals(cloth.vertices, corners)
    edges = np.sort(np.stack([cloth.faces, np.roll(cloth.faces, -1, 1)], -1).reshape(-1, 2), 1)
    edges, uses = np.unique(edges[edges[:, 0] >= 0], axis=0, return_counts=True)
    rim = np.unique(edges[uses == 1])
    rim = rim[(cloth.vertices[rim, 1] > neck[1] - 1.6) & (np.abs(cloth.vertices[rim, 0]) < 1.1)]
    lift = np.zeros(len(cloth.vertices))
    away = np.ones(len(cloth.vertices))
    if len(rim):
        gap, _ = cKDTree(cloth.vertices[rim]).query(cloth.vertices)
        lift += 0.035 * np.clip((0.24 - gap) / 0.06, 0.0, 1.0)
        away = np.clip((gap - 0.2) / 0.5, 0.0, 1.0)
    for _ in range(14):
        # Ridges: |sin| has sharp valleys like folded cloth; they run mostly up and down, drawn to the armpits.
        direction = rng.normal(size=3) * (1.0, 0.55, 0.6)
        direction *= 2.0 * np.pi / (rng.uniform(0.7, 2.2) * np.linalg.norm(direction))
        bend = 0.8 * np.sin(cloth.vertices @ rng.normal(0.0, 1.6, (3,)) + rng.uniform(0.0, 6.3))
        wave = np.abs(np.sin(0.5 * (cloth.vertices @ direction) + bend + rng.uniform(0.0, 6.3)))
        lift += 0.020 * (1.0 - np.sqrt(wave * wave + 0.02)) * away
    return cloth.with_vertices(cloth.vertices + lift[:, None] * normals)


def _weave(texture: Array, rng: np.random.Generator) -> Array:
    """Thread-scale and cloudy variation on a cloth texture [1024, 1024, 4]."""
    from scipy.ndimage import gaussian_filter

    threads = gaussian_filter(rng.normal(size=(1024, 1024)), (0.4, 1.6)) + gaussian_filter(rng.normal(size=(1024, 1024)), (1.6, 0.4))
    cloud = gaussian_filter(rng.normal(size=(1024, 1024)), 12.0) * 30.0
    gain = np.exp(0.11 * threads + 0.04 * cloud)[..., None]
    return np.concatenate([texture[..., :3] * gain, texture[..., 3:]], -1).astype(np.float32)


def _eyes(assets: MakeHuman, rest: Array, joints: Mapping[str, Array], pose: Posture, view: View) -> tuple[surface.Mesh, Array]:
    """The posed eyeballs without their transparent corneas, looking at the camera, and their frames (see ``Scene``)."""
    mesh = assets.fit("eyes.high-poly", rest)
    # The corneas share one disc in the lower right of the texture.
    cornea = mesh.uv[mesh.faces_uv[:, :3]].mean(1)
    mesh = mesh.keep_faces(~((cornea[:, 0] > 0.84) & (cornea[:, 1] < 0.16)))
    mesh = surface.subdivide(mesh)
    points = mesh.vertices.copy()
    frames = np.zeros((2, 4, 3))
    turn = matrix_from_euler(np.array([0.0, pose.torso_yaw_rad, 0.0])) @ matrix_from_euler(np.asarray(pose.head_rad))
    for row, sign in enumerate((1.0, -1.0)):
        own = sign * points[:, 0] > 0.0
        low, high = points[own].min(0), points[own].max(0)
        centre = 0.5 * (low + high)
        radius = 0.25 * float((high - low)[:2].sum())
        centre[2] = high[2] - radius
        there = pose.apply(centre[None], joints)[0]
        gaze = turn.T @ (np.asarray(view.position) - there)
        gaze /= np.linalg.norm(gaze)
        # Pitch and yaw that turn +z into the gaze.
        rotation = matrix_from_euler(np.array([-np.arcsin(gaze[1]), np.arctan2(gaze[0], gaze[2]), 0.0]))
        points[own] = (points[own] - centre) @ rotation.T + centre
        frames[row, 0], frames[row, 1], frames[row, 2, 0] = there, turn @ gaze, radius
    return mesh.with_vertices(pose.apply(points, joints)), frames


def background(light: Light, environment_image: Array, view: View) -> Array:
    """[h, w, 3] radiance of the environment behind the person, out of focus (each point a disc)."""
    import cv2

    width, height = view.size_px
    half_width, half_height = width // 2, height // 2
    y, x = np.mgrid[0:half_height, 0:half_width].astype(np.float64) * 2.0 + 1.0
    angle = light.background_zoom / view.focal_px
    direction = np.stack([(x - 0.5 * width) * angle, (0.5 * height - y) * angle + np.tan(light.background_pitch_rad), -np.ones_like(x)], -1)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    lookup = Environment(environment_image, environment_image[None])
    picture = lookup.lookup(direction.reshape(-1, 3)).reshape(half_height, half_width, 3)
    # Highlights keep their energy, so that they open into discs.
    radius = light.background_blur_px * width / 2048.0
    size = int(np.ceil(radius)) * 2 + 1
    disc = np.clip(radius + 0.5 - np.hypot(*(np.mgrid[0:size, 0:size] - size // 2)), 0.0, 1.0)
    picture = cv2.filter2D(picture, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.5)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC) * light.background_gain


def develop(
    radiance: Array,
    rng: np.random.Generator,
    exposure: float,
    grain: float = 0.008,
    warmth: float = 0.0,
    vignette: float = 0.10,
) -> Array:
    """Radiance [h, w, 3] -> uint8 sRGB [h, w, 3]: exposure, veil of the lens, filmic curve, vignette, sensor grain."""
    import cv2

    height, width = radiance.shape[:2]
    picture = radiance * exposure * np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    glow = cv2.GaussianBlur(np.minimum(picture, 6.0), (0, 0), 0.012 * width)
    picture = 0.965 * picture + 0.035 * glow
    y, x = np.mgrid[0:height, 0:width]
    radius = np.hypot((x - 0.5 * width) / (0.5 * width), (y - 0.5 * height) / (0.5 * height)) / np.sqrt(2.0)
    picture = picture * (1.0 - vignette * radius**2 * 2.0)[..., None]
    # Filmic: a short toe, a straight middle, a long shoulder (Hable's form with own constants).
    curve = picture * (1.35 * picture + 0.06) / (picture * (1.30 * picture + 0.62) + 0.065)
    encoded = np.where(curve <= 0.0031308, 12.92 * curve, 1.055 * np.maximum(curve, 1e-9) ** (1.0 / 2.4) - 0.055)
    # Grain: sensor noise is finer in the light and a little correlated after demosaicing.
    noise = rng.normal(size=(height, width, 3)) * 0.6 + rng.normal(size=(height, width, 1))
    coarse = cv2.GaussianBlur(noise, (0, 0), 0.6) * 1.6
    grained = encoded + grain * coarse * (1.2 - 0.7 * np.clip(encoded, 0.0, 1.0))
    return (np.clip(grained, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
