"""Render examples/portrait.png and examples/portrait2.png with Cycles from the CC0 assets of the data bundle. Seeded.

This is a tool for making the two examples, not a part of the package. It needs Blender as a module, in an environment of
its own (Python 3.11; about 1 GB), next to what ``triportrait.synth`` imports:

    python3.11 -m venv /tmp/cycles && /tmp/cycles/bin/pip install bpy==4.5.14 scipy opencv-python-headless numba pillow
    PYTHONPATH=src /tmp/cycles/bin/python scripts/render_example_portraits.py --data ../shared/data --out examples

One core takes three to five minutes of its own time for a picture. All geometry stays in MakeHuman's frame (decimetres, y up,
z towards the camera), in which Blender's camera needs no turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import bpy
import numpy as np
import portrait_parts as parts

from triportrait.geometry.normals import vertex_normals
from triportrait.media.images import write_png
from triportrait.synth import portrait, surface
from triportrait.synth.hair import HairStyle, grow
from triportrait.synth.makehuman import Macro, MakeHuman, Posture
from triportrait.synth.render import View
from triportrait.synth.shade import Environment
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class Lamp:
    """A square soft box: where it stands from the eyes (dm), side (dm), radiance relative to the environment's mean, colour."""

    position: tuple[float, float, float]
    side: float
    radiance: float
    colour: tuple[float, float, float] = (1.0, 0.95, 0.88)


@dataclass(frozen=True, slots=True)
class Sitter:
    """Who sits there: MakeHuman's parts by name, our own hair, and the light.

    Args:
        person: shape, skin, brows, lashes, garment and hair as in ``synth.portrait``.
        melanin, melanin_redness, hair_roughness: of the hair's fibres; ``grey`` is the share of white hairs.
        iris: linear RGB of the iris; sclera: a factor on the white; lash_dm: length of the upper lashes.
        wool: count of fibres that stand off the garment.
        stubble_dm: mean length of the beard, 0 for none; stubble: its count of hairs.
        hdri, turn, background_gain, background_zoom: the scene and how it is seen behind the sitter.
        face: linear brightness of the face's middle in the picture.
        roughness: of the skin where it is neither oily nor dry.
        expression: weights of MakeHuman's ``arkit/*`` targets by their ARKit names.
    """

    person: portrait.Person
    lamps: tuple[Lamp, ...]
    hdri: str
    turn: float
    melanin: float = 0.8
    melanin_redness: float = 0.6
    grey: float = 0.0
    hair_roughness: float = 0.26
    iris: tuple[float, float, float] = (0.062, 0.030, 0.013)
    sclera: float = 1.0
    lash_dm: float = 0.085
    stubble_dm: float = 0.0
    stubble: int = 0
    wool: int = 0
    background_gain: float = 0.6
    background_zoom: float = 2.5
    face: float = 0.34
    roughness: float = 0.46
    expression: Mapping[str, float] = field(default_factory=dict)


def dress(assets: MakeHuman, sitter: Sitter, camera: Array, rng: np.random.Generator) -> Array:
    """Put all of the sitter into Blender's scene; returns the point between the eyes, posed [3]."""
    person, pose = sitter.person, sitter.person.posture
    weights = {**person.macro.weights(), **person.details, **{f"arkit/{k}": v for k, v in sitter.expression.items()}}
    rest = assets.shape(weights)
    joints = {name: assets.joint(rest, name) for name in ("l-shoulder", "r-shoulder", "neck", "l-eye", "r-eye")}
    lowest = joints["neck"][1] - 3.4
    garment = f"clothes.{person.clothes}"
    skin = assets.body(rest, lowest, garment)
    for _ in range(2):
        skin = surface.subdivide(skin)
    normals = vertex_normals(skin.vertices, skin.triangles()[0])

    def posed(points: Array) -> Array:
        return pose.apply(points.reshape(-1, 3), joints).reshape(points.shape)

    def posed_fibres(curves: parts.Curves) -> parts.Curves:
        return parts.Curves(posed(curves.points), curves.radius, curves.tone)

    ball, cornea = parts.eye_materials()
    mesh = assets.fit("eyes.high-poly", rest)
    centres, wet = {}, np.zeros(len(skin.vertices))
    for sign in (1, -1):
        own = mesh.vertices[np.sign(mesh.vertices[:, 0]) == sign]
        low, high = own.min(0), own.max(0)
        radius = 0.25 * float((high - low)[:2].sum())
        centre = 0.5 * (low + high)
        centre[2] = high[2] - radius - 0.004
        centres[sign] = centre
        there = posed(centre[None])[0]
        eye, attributes, film = parts.eyeball(there, radius, camera - there, np.array(sitter.iris), sitter.sclera, rng)
        parts.add_mesh(f"eye{sign}", eye, ball, attributes)
        parts.add_mesh(f"cornea{sign}", film, cornea)
        gap = np.abs(np.linalg.norm(skin.vertices - centre, axis=1) - radius)
        wet = np.maximum(wet, np.clip(1.0 - gap / 0.014, 0.0, 1.0))
    maps = portrait.skin_map(assets, person, rng)
    shown = skin.with_vertices(posed(skin.vertices))
    # Light reaches less deep into dark skin; the chin tells.
    dark = float(np.median(maps[900:1100, 1900:2000, :3])) < 0.15
    parts.add_mesh("skin", shown, parts.skin_material(maps, sitter.roughness, dark), {"rest": skin.vertices, "wet": wet})
    brows = parts.hair_material(
        "brow", sitter.melanin + 0.05 if sitter.grey < 0.3 else sitter.melanin, sitter.melanin_redness, 0.5 * sitter.grey
    )
    parts.add_fibres("brows", posed_fibres(parts.brow_fibres(assets, person.brows, rest, skin, normals, 1200, rng)), brows)
    lids = parts.lid_edges(assets, person.lashes, rest, centres, radius)
    parts.add_fibres("lashes", posed_fibres(parts.lash_fibres(lids, sitter.lash_dm, rng)), parts.hair_material("lash", 0.97, 0.2, 0.0))
    _, strands = grow(skin, person.hair)
    count = len(strands.points)
    radii = 0.5 * person.hair.width_dm * strands.fineness
    hair = parts.Curves(posed(strands.points), radii, rng.random(count))
    parts.add_fibres(
        "hair",
        hair,
        parts.hair_material("hair", sitter.melanin, sitter.melanin_redness, sitter.grey, sitter.hair_roughness),
    )
    face = np.clip((skin.vertices[:, 2] - 0.55) / 0.3, 0.0, 1.0) * (skin.vertices[:, 1] > joints["neck"][1])
    face *= 1.0 - np.clip(wet * 20.0, 0.0, 1.0)
    fuzz = parts.skin_fibres(skin, normals, face, 26000, 0.022, 0.00012, rng)
    parts.add_fibres("down", posed_fibres(fuzz), parts.hair_material("down", 0.12, 0.3, 0.0))
    if sitter.stubble:
        beard = parts.skin_fibres(skin, normals, parts.beard_chance(skin, rest, assets), sitter.stubble, sitter.stubble_dm, 0.0004, rng)
        parts.add_fibres(
            "beard", posed_fibres(beard), parts.hair_material("beard", sitter.melanin, sitter.melanin_redness, min(3.0 * sitter.grey, 0.9))
        )
    cloth = assets.fit(garment, rest)
    cloth = cloth.keep_faces(cloth.vertices[cloth.faces[:, :3], 1].min(1) > lowest)
    for _ in range(2):
        cloth = surface.subdivide(cloth)
    flat = cloth.vertices
    cloth = portrait.folds(cloth, joints["neck"], rng)
    texture = portrait.linear(assets.texture(f"clothes/{person.clothes}.jpg")[..., :3])
    colour = None if person.cloth_colour is None else np.array(person.cloth_colour)
    parts.add_mesh("cloth", cloth.with_vertices(posed(cloth.vertices)), parts.cloth_material(colour, texture), {"rest": flat})
    if sitter.wool:
        wool_normals = vertex_normals(cloth.vertices, cloth.triangles()[0])
        wool = parts.skin_fibres(cloth, wool_normals, np.ones(len(cloth.vertices)), sitter.wool, 0.035, 0.0003, rng)
        parts.add_fibres("wool", posed_fibres(wool), parts.hair_material("wool", 0.75, 0.2, 0.0, 0.6))
    return posed(0.5 * (joints["l-eye"] + joints["r-eye"])[None])[0]


def light_scene(sitter: Sitter, environment: Array, behind: Array, eyes: Array) -> None:
    """The map ``environment`` [256, 512, 3] around the sitter, the soft boxes, and the picture ``behind`` that the camera sees."""
    world = bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    n = parts.Nodes(world.node_tree)
    along = n.add("ShaderNodeTexCoord").outputs["Generated"]
    # Blender's maps have z upwards and +x in the middle; ours y upwards and -z in the middle.
    turned = n.add("ShaderNodeMapping", {"Vector": along, "Rotation": (np.pi / 2, 0.0, -np.pi / 2)}, vector_type="POINT")
    image = parts.add_image("environment", environment, True)
    sky = n.add("ShaderNodeTexEnvironment", {"Vector": turned.outputs[0]}, image=image)
    around = n.add("ShaderNodeBackground", {"Color": sky.outputs["Color"], "Strength": 1.0}).outputs[0]
    window = n.add("ShaderNodeTexCoord").outputs["Window"]
    picture = n.add("ShaderNodeTexImage", {"Vector": window}, image=parts.add_image("behind", behind, True), extension="EXTEND")
    direct = n.add("ShaderNodeBackground", {"Color": picture.outputs["Color"], "Strength": 1.0}).outputs[0]
    seen = n.add("ShaderNodeLightPath").outputs["Is Camera Ray"]
    n.add("ShaderNodeOutputWorld", {"Surface": n.add("ShaderNodeMixShader", {0: seen, 1: around, 2: direct}).outputs[0]})
    for lamp in sitter.lamps:
        data = bpy.data.lights.new("lamp", "AREA")
        data.shape, data.size = "SQUARE", lamp.side
        data.color = lamp.colour
        data.energy = lamp.radiance * np.pi * lamp.side**2
        light = bpy.data.objects.new("lamp", data)
        where = np.array(lamp.position)
        back_axis = where / np.linalg.norm(where)
        right = np.cross([0.0, 1.0, 0.0], back_axis)
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, np.cross(back_axis, right), back_axis], -1)
        matrix[:3, 3] = eyes + where
        light.matrix_world = matrix.T.tolist()
        bpy.context.collection.objects.link(light)


def set_camera(position: Array, focal_px: float, size_px: int, focus_dm: float, f_number: float) -> None:
    data = bpy.data.cameras.new("camera")
    data.sensor_width = 36.0
    data.lens = 36.0 * focal_px / size_px
    data.dof.use_dof = True
    data.dof.focus_distance = focus_dm
    # Blender takes a unit for a metre; ours is a decimetre.
    data.dof.aperture_fstop = f_number / 10.0
    data.dof.aperture_blades = 9
    camera = bpy.data.objects.new("camera", data)
    camera.location = position
    bpy.context.collection.objects.link(camera)
    bpy.context.scene.camera = camera


def cycles_radiance(size_px: int, samples: int, seed: int, threads: int) -> Array:
    """The scene as linear RGB [size, size, 3]."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x = scene.render.resolution_y = size_px
    scene.render.resolution_percentage = 100
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", samples, seed
    cycles.use_adaptive_sampling, cycles.adaptive_threshold = True, 0.015
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_input_passes, cycles.denoising_prefilter = "RGB_ALBEDO_NORMAL", "ACCURATE"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 8, 2, 3
    cycles.transmission_bounces, cycles.transparent_max_bounces = 8, 16
    cycles.sample_clamp_indirect, cycles.sample_clamp_direct = 6.0, 40.0
    cycles.caustics_reflective = cycles.caustics_refractive = False
    scene.cycles_curves.shape = "RIBBONS"
    scene.view_layers[0].cycles.denoising_store_passes = False
    path = Path(bpy.app.tempdir) / "radiance.exr"
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_mode, scene.render.image_settings.color_depth = "RGB", "32"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    pixels = np.empty(size_px * size_px * 4, np.float32)
    image.pixels.foreach_get(pixels)
    return pixels.reshape(size_px, size_px, 4)[::-1, :, :3].astype(np.float64)


def photograph(data: Path, sitter: Sitter, size_px: int, samples: int, threads: int) -> Array:
    """The finished picture of ``sitter`` as uint8 [size, size, 3]."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    rng = np.random.default_rng(20240607)
    assets = MakeHuman(data / "makehuman")
    hdri = portrait.load_hdri(data / "hdri" / "hdri_512x256.npz", sitter.hdri)
    weights = {**sitter.person.macro.weights(), **sitter.person.details}
    rest = assets.shape(weights)
    level = 0.5 * (assets.joint(rest, "l-eye") + assets.joint(rest, "r-eye"))
    distance, scale = 12.0, 220.0 / 1024.0
    position = np.array([level[0], level[1] - 0.35, level[2] + distance])
    eyes = dress(assets, sitter, position, rng)
    position[0] = 0.8 * eyes[0]
    focal_px = scale * size_px * distance
    view = View(tuple(position), (size_px, size_px), focal_px, lens_radius_dm=0.1, focus_dm=distance)
    around = Environment.build(hdri, sitter.turn, ()).image
    around = around / float(np.minimum(around.mean(-1), 20.0).mean())
    light = portrait.Light(sitter.hdri, sitter.turn, (), sitter.background_zoom, 26.0, sitter.background_gain)
    light_scene(sitter, around, portrait.background(light, around, view), eyes)
    set_camera(position, focal_px, size_px, position[2] - eyes[2] - 0.10, 7.0)
    picture = cycles_radiance(size_px, samples, 1, threads)
    rows, columns = slice(int(0.40 * size_px), int(0.54 * size_px)), slice(int(0.42 * size_px), int(0.58 * size_px))
    exposure = sitter.face / float(np.median(picture[rows, columns].mean(-1)))
    return portrait.develop(picture, rng, exposure)


WOMAN = portrait.Person(
    macro=Macro(caucasian=0.9, asian=0.1, male=0.0, old=0.12, muscle=0.5, weight=0.5),
    details={
        "head/head-oval": 0.4,
        "nose/nose-scale-vert-decr": 0.15,
        "nose/nose-scale-horiz-decr": 0.2,
        "mouth/mouth-upperlip-volume-incr": 0.2,
        "chin/chin-width-decr": 0.2,
        "eyebrows/eyebrows-trans-up": 0.45,
        "eyebrows/eyebrows-angle-up": 0.2,
        "eyes/l-eye-scale-incr": 0.25,
        "eyes/r-eye-scale-incr": 0.25,
        "forehead/forehead-scale-vert-decr": 0.25,
        "asym/asym-nose-1-l": 0.1,
        "asym/asym-mouth-1-r": 0.12,
    },
    skin="young_lightskinned_female3",
    eyes="brownlight",
    lip_gain=(1.0, 0.80, 0.82),
    brows="eyebrow008",
    lashes="eyelashes01",
    clothes="female_casualsuit01",
    hair=HairStyle(
        kind="long",
        length_dm=2.75,
        strands=90000,
        colour=(0.10, 0.05, 0.03),
        hairline_px=50.0,
        part_dm=0.2,
        volume_dm=0.15,
        wave=0.05,
        width_dm=0.0019,
        seed=3,
    ),
    posture=Posture(arms_down_rad=0.55, torso_yaw_rad=-0.36, head_rad=(0.02, 0.30, 0.04)),
    cloth_colour=(0.030, 0.035, 0.045),
)
MAN = portrait.Person(
    macro=Macro(caucasian=0.3, african=0.7, male=1.0, old=0.42, muscle=0.5, weight=0.5),
    details={
        "asym/asym-nose-2-l": 0.1,
        "asym/asym-mouth-2-r": 0.1,
        "forehead/forehead-scale-vert-decr": 0.3,
        "eyebrows/eyebrows-trans-up": 0.2,
    },
    skin="middleage_darkskinned_male",
    eyes="brown",
    skin_gain=(1.15, 1.12, 1.1),
    lip_gain=(1.0, 0.9, 0.9),
    brows="eyebrow009",
    lashes="eyelashes01",
    clothes="male_casualsuit03",
    hair=HairStyle(
        kind="crop",
        length_dm=0.09,
        strands=60000,
        colour=(0.025, 0.019, 0.016),
        volume_dm=0.02,
        wave=0.03,
        width_dm=0.0028,
        hairline_px=48.0,
        seed=5,
    ),
    posture=Posture(arms_down_rad=0.6, torso_yaw_rad=0.36, head_rad=(0.02, -0.30, -0.02)),
    cloth_colour=(0.012, 0.016, 0.025),
)
KEY = Lamp((-5.5, 2.6, 9.5), 3.2, 30.0)
SITTERS = {
    "portrait": Sitter(
        WOMAN,
        (KEY, Lamp((7.0, 5.0, -11.0), 4.0, 12.0)),
        "apartment",
        0.0,
        melanin=0.68,
        wool=60000,
        face=0.42,
        expression={"mouthSmileLeft": 0.22, "mouthSmileRight": 0.19, "browInnerUp": 0.25, "eyeWideLeft": 0.1, "eyeWideRight": 0.1},
    ),
    "portrait2": Sitter(
        MAN,
        (replace(KEY, radiance=46.0),),
        "forest",
        0.625,
        melanin=1.0,
        grey=0.08,
        hair_roughness=0.42,
        iris=(0.030, 0.014, 0.007),
        sclera=0.78,
        lash_dm=0.05,
        stubble_dm=0.04,
        stubble=30000,
        face=0.15,
        roughness=0.42,
        expression={"mouthSmileLeft": 0.15, "mouthSmileRight": 0.18, "browInnerUp": 0.2, "eyeWideLeft": 0.1, "eyeWideRight": 0.1},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "examples")
    parser.add_argument("--names", nargs="*", default=list(SITTERS))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        start = time.perf_counter()
        picture = photograph(options.data, SITTERS[name], options.size, options.samples, options.threads)
        write_png(options.out / f"{name}.png", picture)
        print(f"{options.out / name}.png: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
