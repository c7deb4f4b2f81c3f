"""Render two portraits with our own renderer, ``triportrait.synth``, from the CC0 assets of the data bundle. Seeded; minutes.

It needs no Blender, and its pictures look drawn; those in examples/ come from ``render_example_portraits.py``.

python scripts/render_demo_portrait.py --data ../shared/data --out portraits
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from triportrait.media.images import write_png
from triportrait.synth.hair import HairStyle
from triportrait.synth.makehuman import Macro, MakeHuman, Posture
from triportrait.synth.portrait import Light, Person, background, build_scene, develop, load_hdri
from triportrait.synth.render import View, render
from triportrait.synth.shade import SoftBox

WOMAN = Person(
    macro=Macro(caucasian=0.85, asian=0.15, male=0.0, old=0.10, muscle=0.5, weight=0.52),
    details={
        "head/head-oval": 0.5,
        "nose/nose-scale-vert-decr": 0.15,
        "nose/nose-scale-horiz-decr": 0.25,
        "mouth/mouth-scale-horiz-incr": 0.15,
        "mouth/mouth-upperlip-volume-incr": 0.25,
        "mouth/mouth-lowerlip-volume-incr": 0.15,
        "chin/chin-width-decr": 0.3,
        "chin/chin-bones-decr": 0.3,
        "eyebrows/eyebrows-trans-up": 0.2,
        "eyebrows/eyebrows-angle-up": 0.35,
        "eyes/l-eye-scale-incr": 0.2,
        "eyes/r-eye-scale-incr": 0.2,
        "forehead/forehead-scale-vert-decr": 0.25,
        "asym/asym-nose-1-l": 0.2,
        "asym/asym-mouth-1-r": 0.2,
        "asym/asym-eye-1-l": 0.2,
        "asym/asym-brown-1-l": 0.3,
    },
    skin="young_lightskinned_female3",
    eyes="brownlight",
    iris_gain=(0.60, 0.55, 0.5),
    lip_gain=(1.0, 0.78, 0.80),
    brows="eyebrow010",
    brow_colour=(0.075, 0.042, 0.026),
    lashes="eyelashes01",
    clothes="female_casualsuit01",
    hair=HairStyle(
        kind="tied",
        length_dm=2.7,
        strands=110000,
        width_dm=0.0065,
        wave=0.018,
        colour=(0.16, 0.080, 0.042),
        hairline_px=62.0,
        part_dm=0.25,
        volume_dm=0.11,
        seed=3,
    ),
    posture=Posture(arms_down_rad=0.45, torso_yaw_rad=-0.12, head_rad=(0.02, 0.20, 0.05)),
    cloth_colour=(0.03, 0.09, 0.10),
)

MAN = Person(
    macro=Macro(caucasian=0.0, african=1.0, male=1.0, old=0.15, muscle=0.55, weight=0.55),
    details={"asym/asym-nose-2-l": 0.2, "asym/asym-mouth-2-r": 0.2, "asym/asym-eye-2-l": 0.2},
    skin="young_darkskinned_male",
    eyes="brownlight",
    iris_gain=(0.22, 0.16, 0.14),
    lip_gain=(1.0, 0.84, 0.84),
    sclera_gain=0.24,
    brows="eyebrow008",
    lashes="eyelashes01",
    clothes="male_casualsuit04",
    hair=HairStyle(kind="crop", length_dm=0.10, strands=60000, colour=(0.025, 0.019, 0.016), volume_dm=0.02, wave=0.03, seed=5),
    posture=Posture(arms_down_rad=0.45, torso_yaw_rad=0.12, head_rad=(0.02, -0.20, -0.02)),
    cloth_colour=(0.16, 0.13, 0.10),
)

SMILE = {"mouthSmileLeft": 0.32, "mouthSmileRight": 0.27, "browInnerUp": 0.15, "cheekSquintLeft": 0.1, "cheekSquintRight": 0.1}
KEY = SoftBox(-0.75, 0.45, 0.45, 0.55, (16.0, 15.0, 13.6))
RIM = SoftBox(2.0, 0.35, 0.28, 0.6, (26.0, 22.0, 17.0))

SETUPS = {
    "portrait": (WOMAN, Light("esplanade", 0.375, (KEY, RIM), background_blur_px=30.0, background_gain=0.55)),
    "portrait2": (MAN, Light("forest", 0.625, (KEY,), background_blur_px=30.0, background_gain=0.4)),
}


def photograph(data: Path, name: str, size_px: tuple[int, int], passes: int, samples: int) -> np.ndarray:
    """The finished picture ``name`` as uint8 [h, w, 3]."""
    person, light = SETUPS[name]
    rng = np.random.default_rng(20240607)
    assets = MakeHuman(data / "makehuman")
    width, height = size_px
    rest = assets.shape({**person.macro.weights(), **person.details})
    eyes = 0.5 * (assets.joint(rest, "l-eye") + assets.joint(rest, "r-eye"))
    distance = 14.0
    # 215 px per decimetre at 1024 px: head and shoulders, chin to hairline about 400 px.
    focal = 215.0 * width / 1024.0 * (distance - eyes[2])
    view = View((0.0, eyes[1] - 0.35, distance), size_px, focal, lens_radius_dm=0.10, focus_dm=distance - eyes[2] - 0.05)
    scene = build_scene(
        assets, load_hdri(data / "hdri" / "hdri_512x256.npz", light.hdri), person, light, view, rng, samples, expression=SMILE
    )
    radiance, cover = render(scene, view, passes, rng)
    picture = radiance + (1.0 - cover[..., None]) * background(light, scene.environment, view)
    middle = radiance[int(0.36 * height) : int(0.52 * height), int(0.42 * width) : int(0.58 * width)]
    exposure = EXPOSURE[name] / float(np.median(middle.mean(-1)))
    return develop(picture, rng, exposure)


EXPOSURE = {"portrait": 0.34, "portrait2": 0.16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("portraits"))
    parser.add_argument("--names", nargs="*", default=list(SETUPS))
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=44)
    parser.add_argument("--samples", type=int, default=320)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        start = time.perf_counter()
        size = (options.width, options.width)
        picture = photograph(options.data, name, size, options.passes, options.samples)
        write_png(options.out / f"{name}.png", picture)
        print(f"{options.out / name}.png: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
