"""Random people for the procedural teacher: who they are, what they wear, how light falls on them, where the camera stands."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from triportrait.synth.makehuman import Macro
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: Skin textures by (dark, male): names and the age in 0..1 that they look like.
_SKINS = {
    (False, True): (
        ("young_lightskinned_male", 0.1),
        ("young_lightskinned_male2", 0.1),
        ("young_lightskinned_male3", 0.1),
        ("middleage_lightskinned_male", 0.45),
        ("middleage_lightskinned_male2", 0.45),
    ),
    (False, False): (("young_lightskinned_female2", 0.1), ("young_lightskinned_female3", 0.1), ("middleage_lightskinned_female2", 0.45)),
    (True, True): (("young_darkskinned_male", 0.1), ("middleage_darkskinned_male", 0.45), ("old_darkskinned_male", 0.8)),
}
_HAIR_COLOURS = {
    "black": (0.012, 0.010, 0.009),
    "darkbrown": (0.030, 0.017, 0.010),
    "brown": (0.075, 0.040, 0.022),
    "lightbrown": (0.16, 0.092, 0.050),
    "blond": (0.34, 0.23, 0.12),
    "red": (0.17, 0.050, 0.018),
    "grey": (0.22, 0.21, 0.20),
    "white": (0.50, 0.49, 0.47),
}
_FEMALE_CLOTHES = ("female_casualsuit01", "female_elegantsuit01", "female_sportsuit01")
_MALE_CLOTHES = (
    "male_casualsuit02",
    "male_casualsuit03",
    "male_casualsuit04",
    "male_casualsuit05",
    "male_casualsuit06",
    "male_elegantsuit01",
    "male_worksuit01",
)
#: Fitted hair meshes and grown styles (see ``procedural_head``), with how often men and women wear them.
HAIRSTYLES = {
    "card:short01": (1.0, 0.3),
    "card:short02": (1.2, 0.5),
    "card:short03": (0.5, 0.15),
    "card:short04": (1.0, 0.3),
    "card:bob02": (0.05, 0.6),
    "card:long01": (0.15, 1.6),
    "card:ponytail01": (0.1, 1.2),
    "card:braid01": (0.1, 0.4),
    "grown:crop": (1.6, 0.15),
    "grown:brush": (1.5, 0.25),
    "grown:swept": (0.7, 0.2),
    "grown:long": (0.1, 1.3),
    "grown:tied": (0.1, 1.2),
    "bald": (0.9, 0.0),
}
#: (unpaired or paired) details that vary; the second number is the spread of a normal weight.
_DETAILS = {
    "head/head-scale-horiz": 0.18,
    "head/head-scale-vert": 0.15,
    "head/head-scale-depth": 0.15,
    "head/head-fat": 0.25,
    "head/head-age": 0.15,
    "forehead/forehead-scale-vert": 0.2,
    "forehead/forehead-nubian": 0.15,
    "forehead/forehead-temple": 0.2,
    "eyebrows/eyebrows-angle": 0.25,
    "eyebrows/eyebrows-trans": 0.25,
    "nose/nose-scale-vert": 0.2,
    "nose/nose-scale-horiz": 0.25,
    "nose/nose-scale-depth": 0.2,
    "nose/nose-hump": 0.25,
    "nose/nose-curve": 0.25,
    "nose/nose-point": 0.25,
    "nose/nose-width1": 0.2,
    "nose/nose-width2": 0.2,
    "nose/nose-width3": 0.2,
    "nose/nose-volume": 0.2,
    "mouth/mouth-scale-horiz": 0.25,
    "mouth/mouth-upperlip-volume": 0.25,
    "mouth/mouth-lowerlip-volume": 0.25,
    "mouth/mouth-upperlip-height": 0.2,
    "mouth/mouth-lowerlip-height": 0.2,
    "mouth/mouth-cupidsbow": 0.25,
    "mouth/mouth-angles": 0.15,
    "chin/chin-width": 0.25,
    "chin/chin-height": 0.2,
    "chin/chin-prominent": 0.2,
    "chin/chin-bones": 0.2,
    "chin/chin-jaw-drop": 0.15,
    "neck/neck-scale-horiz": 0.2,
    "neck/neck-double": 0.12,
}
_BOTH_SIDES = {
    "cheek/{}-cheek-bones": 0.25,
    "cheek/{}-cheek-volume": 0.25,
    "cheek/{}-cheek-inner": 0.2,
    "eyes/{}-eye-scale": 0.2,
    "eyes/{}-eye-bag": 0.2,
    "eyes/{}-eye-height2": 0.2,
    "eyes/{}-eye-corner1": 0.2,
    "eyes/{}-eye-corner2": 0.2,
    "ears/{}-ear-scale": 0.25,
    "ears/{}-ear-wing": 0.2,
    "eyes/{}-eye-eyefold": 0.2,
}
_ENDINGS = (("-decr", "-incr"), ("-down", "-up"), ("-concave", "-convex"), ("-in", "-out"), ("-backward", "-forward"))


@dataclass(frozen=True, slots=True)
class Lamp:
    """A soft lamp: direction [3] towards it (head space), angular radius, linear RGB in units of the environment's mean."""

    direction: tuple[float, float, float]
    radius_rad: float
    radiance: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ProceduralPerson:
    """Who a procedural head is; everything random has been drawn.

    Args:
        macro, details: shape; ``details`` are target weights by full name.
        skin, skin_gain: texture and linear RGB factor.
        eyes, brows, lashes, clothes: names of textures and meshes; ``cloth_colour`` linear RGB or None for the texture's own.
        hair: key of :data:`HAIRSTYLES`; hair_colour: linear RGB; hair_length: 0..1 of what the style allows.
        brow_colour: linear RGB.
        beard: None, ``stubble``, ``goatee``, ``moustache``, ``short``, ``full``; beard_amount: 0..1.
        glasses: None, ``round``, ``square``, ``wide``; glasses_colour: linear RGB; tint: of the lenses, 0 clear .. 1 dark.
        hdri, turn, lamps, exposure: light; exposure is the median display luminance of the face.
        torso_rad: (pitch, yaw, roll) of the torso relative to the head.
        white_balance: [3] factor on radiance.
        background: seed of the scene behind.
    """

    macro: Macro
    details: dict[str, float]
    skin: str
    skin_gain: tuple[float, float, float]
    eyes: str
    brows: str
    lashes: str
    clothes: str
    cloth_colour: tuple[float, float, float] | None
    hair: str
    hair_colour: tuple[float, float, float]
    hair_length: float
    brow_colour: tuple[float, float, float]
    beard: str | None
    beard_amount: float
    glasses: str | None
    glasses_colour: tuple[float, float, float]
    tint: float
    hdri: int
    turn: float
    lamps: tuple[Lamp, ...]
    exposure: float
    torso_rad: tuple[float, float, float]
    white_balance: tuple[float, float, float]
    background: int
    seed: int = 0
    neutral: dict[str, float] = field(default_factory=dict)


def random_person(random: np.random.Generator, target_names: set[str], hdris: int) -> ProceduralPerson:
    """A plausible adult. ``target_names`` are the shapes that exist, ``hdris`` the number of environment maps."""
    male = float(random.random() < 0.5)
    race = random.choice(["caucasian", "african", "asian", "mixed"], p=[0.36, 0.24, 0.24, 0.16])
    if race == "mixed":
        shares = random.dirichlet((0.7, 0.7, 0.7))
    else:
        shares = np.array([race == "caucasian", race == "african", race == "asian"], float) * 0.9 + random.dirichlet((1, 1, 1)) * 0.1
    old = float(random.choice([random.uniform(0.0, 0.25), random.uniform(0.2, 0.55), random.uniform(0.5, 0.9)], p=[0.5, 0.33, 0.17]))
    macro = Macro(
        float(shares[0]),
        float(shares[1]),
        float(shares[2]),
        0.92 * male + 0.04 + float(random.uniform(-0.04, 0.04)),
        old,
        float(random.uniform(0.35, 0.65)),
        float(np.clip(random.normal(0.5, 0.14), 0.2, 0.85)),
    )
    dark = shares[1] > 0.55
    skins = _SKINS.get((bool(dark), bool(male)), _SKINS[(False, bool(male))])
    ages = np.array([age for _, age in skins])
    skin, _ = skins[random.choice(len(skins), p=_normalised(np.exp(-(((ages - old) / 0.3) ** 2)) + 0.02))]
    return ProceduralPerson(
        macro=macro,
        details=_details(random, target_names, male),
        skin=skin,
        skin_gain=_skin_gain(random, shares, skin),
        eyes=str(
            random.choice(
                ["brown", "brownlight"]
                if shares[0] < 0.6 or random.random() < 0.45
                else ["blue", "bluegreen", "green", "grey", "lightblue", "deepblue", "brownlight"]
            )
        ),
        brows=f"eyebrow{random.integers(1, 13):03d}",
        lashes=f"eyelashes{random.integers(1, 5):02d}",
        clothes=str(random.choice(_MALE_CLOTHES if male else _FEMALE_CLOTHES)),
        cloth_colour=_cloth_colour(random),
        **_hair(random, bool(male), old, shares),
        **_glasses(random),
        **_light(random, hdris),
        exposure=float(np.clip(random.normal(0.49 - 0.17 * shares[1], 0.065), 0.22, 0.62)),
        torso_rad=_three(np.radians(random.normal(0.0, (3.0, 11.0, 3.0)))),
        background=int(random.integers(1 << 31)),
        seed=int(random.integers(1 << 31)),
    )


def _three(values: Array) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return first, second, third


def _normalised(values: Array) -> Array:
    return values / values.sum()


def _paired(name: str, value: float, targets: set[str]) -> dict[str, float]:
    for low, high in _ENDINGS:
        if name + low in targets and name + high in targets:
            return {name + (low if value < 0 else high): abs(value)}
    return {}


def _details(random: np.random.Generator, targets: set[str], male: float) -> dict[str, float]:
    details: dict[str, float] = {}
    # MakeHuman's brows hang low and frown, its women's least of all.
    lift = {
        "eyebrows/eyebrows-angle": 0.3 - 0.15 * male,
        "eyebrows/eyebrows-trans": 0.35 - 0.2 * male,
        "chin/chin-width": 0.25 * male - 0.3,
        "chin/chin-bones": 0.2 * male - 0.25,
        "mouth/mouth-angles": 0.1,
    }
    for name, spread in _DETAILS.items():
        value = lift.get(name, 0.0) + float(np.clip(random.normal(0.0, spread), -2 * spread, 2 * spread))
        details |= _paired(name, float(np.clip(value, -0.8, 0.8)), targets)
    for name, spread in _BOTH_SIDES.items():
        value = float(np.clip(random.normal(0.0, spread), -2 * spread, 2 * spread))
        for side in "lr":
            details |= _paired(name.format(side), value + float(random.normal(0.0, 0.03)), targets)
    shape = random.choice(["oval", "round", "square", "rectangular", "diamond", "triangular", "invertedtriangular"])
    details[f"head/head-{shape}"] = float(random.uniform(0.0, 0.5))
    for _ in range(4):
        name = str(random.choice(sorted(t for t in targets if t.startswith("asym/"))))
        details[name] = float(random.uniform(0.0, 0.35))
    return details


def _skin_gain(random: np.random.Generator, shares: Array, skin: str) -> tuple[float, float, float]:
    """Melanin darkens blue most; the dark textures are African already."""
    melanin = 0.10 * shares[0] + 0.28 * shares[2] + (0.35 if "dark" in skin else 1.7) * shares[1] + abs(random.normal(0.0, 0.12))
    if "dark" in skin:
        melanin += random.uniform(-0.5, 0.1)
    gain = np.exp(-melanin * np.array([0.62, 0.85, 1.05])) * np.exp(random.normal(0.0, 0.05) + random.normal(0.0, (0.01, 0.025, 0.04)))
    if "dark" in skin:
        gain = gain * (0.88, 1.0, 1.12)
    return _three(np.clip(gain, 0.05, 1.9))


def _cloth_colour(random: np.random.Generator) -> tuple[float, float, float] | None:
    if random.random() < 0.25:
        return None
    import colorsys

    saturation = random.uniform(0.0, 0.75) ** 1.5
    value = random.choice([random.uniform(0.02, 0.12), random.uniform(0.1, 0.45), random.uniform(0.5, 0.8)], p=[0.45, 0.38, 0.17])
    return colorsys.hsv_to_rgb(random.random(), saturation, value)


def _hair(random: np.random.Generator, male: bool, old: float, shares: Array) -> dict:
    weights = np.array([pair[0 if male else 1] for pair in HAIRSTYLES.values()])
    if old < 0.2:
        weights[list(HAIRSTYLES).index("bald")] *= 0.4
    hair = str(random.choice(list(HAIRSTYLES), p=_normalised(weights)))
    names = list(_HAIR_COLOURS)
    light = float(shares[0])
    odds = np.array([1.2 - 0.9 * light, 1.0, 0.15 + 0.9 * light, 0.6 * light + 0.05, 0.6 * light + 0.02, 0.2 * light + 0.02, 0, 0])
    if old > 0.45:
        odds[:6] *= 1.3 * max(0.0, 0.95 - old)
        odds[6:] += (0.9, 2.2 * max(0.0, old - 0.5))
    colour = np.array(_HAIR_COLOURS[str(random.choice(names, p=_normalised(odds)))]) * np.exp(random.normal(0.0, 0.18))
    if random.random() < 0.015 and old < 0.5:
        colour = random.uniform(0.02, 0.4, 3)
    colour = tuple(float(x) for x in colour)
    brow = tuple(0.5 * x + 0.006 for x in colour) if max(colour) < 0.2 else tuple(0.35 * x + 0.01 for x in colour)
    beard = None
    if male and random.random() < 0.55:
        beard = str(random.choice(["stubble", "goatee", "moustache", "short", "full"], p=[0.35, 0.12, 0.1, 0.25, 0.18]))
    return {
        "hair": hair,
        "hair_colour": colour,
        "hair_length": float(random.random()),
        "brow_colour": brow,
        "beard": beard,
        "beard_amount": float(random.uniform(0.5, 1.0)),
    }


def _glasses(random: np.random.Generator) -> dict:
    style = str(random.choice(["round", "square", "wide"])) if random.random() < 0.22 else None
    dark = random.random() < 0.6
    colour = np.full(3, random.uniform(0.005, 0.04)) if dark else random.uniform(0.03, 0.4, 3)
    tint = 1.0 if random.random() < 0.15 else 0.0
    return {"glasses": style, "glasses_colour": _three(colour), "tint": tint}


def _light(random: np.random.Generator, hdris: int) -> dict:
    lamps = []
    if random.random() < 0.7:
        lamps.append(_lamp(random, random.uniform(-1.3, 1.3), random.uniform(-0.1, 0.9), random.uniform(2.0, 11.0), 0.45))
    if random.random() < 0.3:
        lamps.append(
            _lamp(random, random.choice([-1, 1]) * random.uniform(1.7, 2.7), random.uniform(0.0, 0.7), random.uniform(3.0, 14.0), 0.3)
        )
    balance = np.exp(random.normal(0.0, 0.07) * np.array([1.0, 0.0, -1.0]))
    return {
        "hdri": int(random.integers(hdris)),
        "turn": float(random.random()),
        "lamps": tuple(lamps),
        "white_balance": _three(balance),
    }


def _lamp(random: np.random.Generator, azimuth: float, elevation: float, strength: float, radius: float) -> Lamp:
    """Azimuth 0 is the camera, positive to image right."""
    direction = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warm = random.normal(0.0, 0.12)
    colour = strength * np.array([1.0 + warm, 1.0, 1.0 - warm])
    return Lamp(_three(direction), float(radius * random.uniform(0.6, 1.3)), _three(colour))


# -- what people do ---------------------------------------------------------------------------------------------------------

_MOUTHS = {
    "aa": {"jawOpen": 0.55, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "ee": {
        "jawOpen": 0.18,
        "mouthStretchLeft": 0.45,
        "mouthStretchRight": 0.45,
        "mouthUpperUpLeft": 0.2,
        "mouthUpperUpRight": 0.2,
        "mouthLowerDownLeft": 0.35,
        "mouthLowerDownRight": 0.35,
    },
    "oo": {"jawOpen": 0.15, "mouthPucker": 0.7, "mouthFunnel": 0.35},
    "oh": {"jawOpen": 0.4, "mouthFunnel": 0.6},
    "mm": {"mouthPressLeft": 0.4, "mouthPressRight": 0.4, "mouthRollLower": 0.25, "mouthRollUpper": 0.2},
    "ff": {"jawOpen": 0.08, "mouthRollLower": 0.5, "mouthUpperUpLeft": 0.25, "mouthUpperUpRight": 0.25},
    "sh": {"jawOpen": 0.1, "mouthFunnel": 0.5, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "smile": {"mouthSmileLeft": 0.75, "mouthSmileRight": 0.75, "cheekSquintLeft": 0.45, "cheekSquintRight": 0.45},
    "laugh": {
        "mouthSmileLeft": 0.7,
        "mouthSmileRight": 0.7,
        "jawOpen": 0.35,
        "mouthUpperUpLeft": 0.35,
        "mouthUpperUpRight": 0.35,
        "cheekSquintLeft": 0.6,
        "cheekSquintRight": 0.6,
        "eyeSquintLeft": 0.4,
        "eyeSquintRight": 0.4,
    },
    "frown": {"mouthFrownLeft": 0.6, "mouthFrownRight": 0.6, "browDownLeft": 0.4, "browDownRight": 0.4},
    "wide": {"jawOpen": 0.85},
    "puff": {"cheekPuff": 0.6, "mouthPressLeft": 0.3, "mouthPressRight": 0.3},
    "left": {"mouthLeft": 0.5, "jawLeft": 0.3},
    "right": {"mouthRight": 0.5, "jawRight": 0.3},
    "tongue": {"jawOpen": 0.45, "tongueOut": 0.5},
    "rest": {},
}


def random_expression(random: np.random.Generator, strength: float = 1.0, blink: float = 0.25) -> tuple[dict[str, float], Array]:
    """ARKit weights by name and gaze [2] (pitch up, yaw to image right; radians).

    ``strength`` scales all but blinks; ``blink`` is the chance that eyes are partly or wholly shut.
    """
    weights: dict[str, float] = {}
    names = list(_MOUTHS)
    odds = _normalised(np.array([0.35 if name in ("tongue", "puff", "left", "right") else 1.0 for name in names]))
    for share in random.dirichlet((0.8, 0.5)):
        for name, value in _MOUTHS[str(random.choice(names, p=odds))].items():
            weights[name] = weights.get(name, 0.0) + share * value * random.uniform(0.6, 1.3) * strength
    brows = random.choice(["none", "up", "down", "worried", "one"], p=[0.4, 0.2, 0.15, 0.15, 0.1])
    amount = random.uniform(0.2, 0.9) * strength
    moves = {
        "none": (),
        "up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
        "down": ("browDownLeft", "browDownRight"),
        "worried": ("browInnerUp",),
        "one": (str(random.choice(["browOuterUpLeft", "browOuterUpRight"])),),
    }
    for name in moves[brows]:
        weights[name] = max(weights.get(name, 0.0), amount)
    if brows == "up" and random.random() < 0.5:
        weights["eyeWideLeft"] = weights["eyeWideRight"] = 0.6 * amount
    if random.random() < blink:
        shut = float(random.choice([1.0, random.uniform(0.2, 0.95)]))
        wink = random.random() < 0.06
        weights["eyeBlinkLeft"], weights["eyeBlinkRight"] = (shut, 0.0 if wink else shut)
        weights.pop("eyeWideLeft", None), weights.pop("eyeWideRight", None)
    for name in random.choice(ARKIT_EXPRESSIONS, 3):
        if "Blink" not in name and name not in ("tongueOut", "mouthClose"):
            weights[name] = weights.get(name, 0.0) + float(random.uniform(0.0, 0.2)) * strength
    gaze = random.normal(0.0, (0.10, 0.18)) if random.random() < 0.6 else np.zeros(2)
    gaze = np.clip(gaze, (-0.35, -0.5), (0.35, 0.5))
    return {name: float(min(value, 1.0)) for name, value in weights.items()}, gaze.astype(np.float32)
