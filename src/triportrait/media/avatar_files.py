"""Avatar files: a prepared :class:`~triportrait.types.Portrait` in one safetensors file, so that a photograph is tracked and fitted once.

Arrays are stored as they are (pictures 8 bit, mattes and numbers in single precision, so that the same frames come out); everything else is
JSON in one metadata entry. Nothing in a file is executed, every shape and kind is checked before an array is taken, and a digest tells
whether the file is as it was written.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from triportrait.errors import MediaError, printable
from triportrait.files import atomic_file, check_readable
from triportrait.media.images import MAX_PIXELS
from triportrait.types import (
    FOCAL_IN_WIDTHS,
    WARP_COLUMNS,
    Array,
    MotionFrame,
    PersonalDelta,
    PersonalManner,
    PreparedPortrait,
    RefinedPlanes,
)

FORMAT = "triportrait.avatar"
#: 1: one photograph; 2: a person of several pictures; 3: with a network beside their delta, or with pictures of
#: other takes; 4: whose hair's motion since the first picture is known. A file is written in the lowest that holds it, which older
#: versions read.
VERSION = 4
#: The metadata entry that holds the description, as JSON. One entry: safetensors writes several in an order that changes from run to run.
ENTRY = "triportrait"
#: Larger files hold no portrait of a photo that is read.
_LARGEST_BYTES = 256 << 20
#: The header names some twenty tensors a picture.
_LARGEST_HEADER_BYTES = 1 << 20
#: A person has so many pictures at most.
_MOST_OTHERS = 64
#: Numbers beyond these belong to no portrait, and what is computed from them overflows: pixels, coefficients, decimetres, radians.
_HIGHEST = {
    "landmarks": 1e5,
    "identity": 1e3,
    "vertex_offset": 100.0,
    "motion.expression": 1e4,
    "motion.rotation_rad": 1e2,
    "motion.translation": 1e4,
    "motion.gaze_rad": 1e2,
    "motion.landmarks": 1e6,
    "motion.body": 1e3,
    "motion.warp": 10.0,
    "manner.style": 100.0,
    "manner.voice": 1e3,
    "delta.level": 255.0,
    "delta.weights": 1e6,
    "delta.lowest": 1e6,
    "delta.highest": 1e6,
    "delta.network": 1e4,
    "planes.front": 1e6,
    "planes.across": 1e6,
    "planes.down": 1e6,
}
#: A face in the crop is wider and higher than this, in crop widths.
_SMALLEST_FACE = 0.02
#: Sides of a delta's pictures that are read, and so many of them at most.
_DELTA_SIDES_PX, _MOST_DELTA_PICTURES = (16, 1024), 128
#: Sides of crops that are read.
_SIDES_PX = (64, 2048)

#: Tensor -> kind and axes (equal letters are equal lengths), for every file. H x W is the photo, s the crop, v the mesh.
_PORTRAIT = {
    "photo": ("U8", "H W 3"),
    "image": ("U8", "s s 3"),
    "person_alpha": ("F32", "s s"),
    "head_alpha": ("F32", "s s"),
    "torso": ("U8", "s s 4"),
    "background": ("U8", "s s 3"),
    "landmarks": ("F32", "478 3"),
    "identity": ("F32", "i"),
    "vertex_offset": ("F32", "v 3"),
}
_MOTION = {
    "motion.expression": ("F32", "e"),
    "motion.rotation_rad": ("F32", "3"),
    "motion.translation": ("F32", "3"),
    "motion.gaze_rad": ("F32", "2"),
}
_LANDMARKS = {"motion.landmarks": ("F32", "478 2")}
_BODY = {"motion.body": ("F32", "4")}
_WARP = {"motion.warp": ("F32", str(len(WARP_COLUMNS)))}
#: How a person moves; each may be missing.
_MANNER = {"manner.style": ("F32", "y"), "manner.voice": ("F32", "l")}
#: What the pictures of a person lack; all of it, or nothing. The side u is one of :data:`_DELTA_SIDES_PX`.
_DELTA = {
    "delta.pictures": ("U8", "k u u 3"),
    "delta.level": ("F32", "k"),
    "delta.weights": ("F32", "k m"),
    "delta.lowest": ("F32", "k"),
    "delta.highest": ("F32", "k"),
}
#: Weights of the network that adds to it; only beside a delta.
_NETWORK = {"delta.network": ("F32", "w")}
#: What another picture of the person has; it is no larger than its crop.
_OTHER = {name: kind for name, kind in (_PORTRAIT | _MOTION | _LANDMARKS).items() if name not in ("photo", "identity")}
#: Planes may differ in their sizes, not in their channels.
_PLANES = {"planes.front": ("F32", "c h w"), "planes.across": ("F32", "c d w2"), "planes.down": ("F32", "c d2 h2")}
_KINDS = {"U8": np.uint8, "F32": np.float32}


@dataclass(frozen=True, slots=True)
class AvatarFile:
    """What :func:`load_avatar` returns; ``made_by`` is the version of this package that wrote it."""

    portrait: PreparedPortrait
    refined: RefinedPlanes | None
    made_by: str


def looks_like_avatar(path: str | os.PathLike[str]) -> bool:
    """Whether the first bytes are those of a safetensors file, whatever its name, or the name is an avatar file's.

    Anything unreadable is none.
    """
    try:
        if not Path(path).is_file():  # a pipe would keep us waiting
            return False
        with open(path, "rb") as file:
            head = file.read(9)
    except (OSError, ValueError):
        return False
    is_safetensors = len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27
    # Who reads a damaged one says so; no picture bears the name.
    return is_safetensors or Path(path).suffix.lower() == ".avatar"


def save_avatar(path: str | os.PathLike[str], portrait: PreparedPortrait, refined: RefinedPlanes | None = None) -> Path:
    """Write an avatar file; it appears whole or not at all. Equal arguments give equal bytes.

    Raises:
        OutputError: the target cannot be written.
    """
    from safetensors.numpy import save

    from triportrait import __version__

    tensors = _arrays(portrait, _PORTRAIT | _MOTION | _LANDMARKS)
    if portrait.motion.landmarks is None:
        del tensors["motion.landmarks"]
    manner = {name: getattr(portrait.manner, name.partition(".")[2]) for name in _MANNER}
    tensors |= {name: array for name, array in manner.items() if array is not None}
    if portrait.delta is not None:
        tensors |= {name: getattr(portrait.delta, name.partition(".")[2]) for name in _DELTA}
        if portrait.delta.network is not None:
            tensors["delta.network"] = portrait.delta.network
    bodies, warps = (_all_have(portrait, name) for name in ("body", "warp"))
    for number, other in enumerate(portrait.others):
        tensors |= {_of_other(number, name): array for name, array in _arrays(other, _each_other(bodies, warps)).items()}
    note = None
    if refined is not None:
        tensors |= {name: getattr(refined, name.partition(".")[2]) for name in _PLANES}
        note = {"network": refined.network, "steps": refined.steps, "before_db": refined.before_db, "after_db": refined.after_db}
    kinds = _expected(len(portrait.others), bodies, warps) | _LANDMARKS | _PLANES | _MANNER | _DELTA | _NETWORK
    tensors = {name: np.ascontiguousarray(array, _KINDS[kinds[name][0]]) for name, array in tensors.items()}
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": _version_of(portrait),
        "made_by": __version__,
        "head_model": portrait.head_model,
        "crop_box": [float(number) for number in portrait.crop_box],
        "focal": float(portrait.focal),
        "refined": note,
    }
    if portrait.others:
        description |= {"others": len(portrait.others), "bodies": bodies}
        if warps:
            description["warps"] = True
        other_takes = [number for number, other in enumerate(portrait.others) if not other.same_take]
        if other_takes:
            description["other_takes"] = other_takes
    description["digest"] = _digest(description, tensors)
    data = save(tensors, {ENTRY: json.dumps(description, sort_keys=True)})
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)


def load_avatar(path: str | os.PathLike[str]) -> AvatarFile:
    """Read an avatar file.

    Raises:
        MediaError: missing, foreign, written by a newer version, or damaged.
    """
    from pydantic import BaseModel, ConfigDict, Field, ValidationError
    from safetensors import SafetensorError, safe_open

    Place = Annotated[float, Field(ge=-1e5, le=1e5)]

    class Refined(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
        network: str = Field(pattern="^[0-9a-f]{64}$")
        steps: int = Field(ge=0)
        before_db: float
        after_db: float

    class Description(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
        format: str
        version: int
        made_by: str = Field(max_length=100)
        head_model: str = Field(min_length=1, max_length=100)
        crop_box: tuple[Place, Place, Annotated[float, Field(ge=1.0, le=1e5)]]
        focal: float = Field(gt=0.1 * FOCAL_IN_WIDTHS, lt=10 * FOCAL_IN_WIDTHS)
        refined: Refined | None
        others: int = Field(default=0, ge=0, le=_MOST_OTHERS)
        bodies: bool = False
        warps: bool = False
        other_takes: frozenset[Annotated[int, Field(ge=0, lt=_MOST_OTHERS)]] = frozenset()
        digest: str

    absolute = check_readable(path)
    damaged = f"'{path}' is no avatar file, or a damaged one; make it again with 'triportrait portrait save'."
    if absolute.stat().st_size > _LARGEST_BYTES or _header_bytes(absolute) > _LARGEST_HEADER_BYTES:
        raise MediaError(damaged)
    try:
        with safe_open(absolute, "np") as file:
            text = _expect_ours((file.metadata() or {}).get(ENTRY), path)
            description = Description.model_validate_json(text)
            expected = _expected(description.others, description.bodies, description.warps)
            if "motion.landmarks" in file.keys():  # noqa: SIM118 - not a dict
                expected = expected | _LANDMARKS
            expected = expected | {name: kind for name, kind in _MANNER.items() if name in file.keys()}  # noqa: SIM118
            if any(name in file.keys() for name in _DELTA):  # noqa: SIM118
                expected = expected | _DELTA
                if any(name in file.keys() for name in _NETWORK):  # noqa: SIM118
                    expected = expected | _NETWORK
            if description.refined is not None:
                expected = expected | _PLANES
            _expect_header(file, expected)
            tensors = {name: file.get_tensor(name) for name in expected}
        _expect_numbers(tensors)
        if _digest(json.loads(text), tensors) != description.digest:
            raise MediaError(f"'{path}' has changed since it was written; make it again with 'triportrait portrait save'.")
        portrait = _portrait(tensors, description.crop_box, description.focal, description.head_model)
        others = tuple(
            replace(_other(tensors, number, portrait), same_take=number not in description.other_takes)
            for number in range(description.others)
        )
        manner = PersonalManner(tensors.get("manner.style"), tensors.get("manner.voice"))
        delta = None
        if "delta.pictures" in tensors:
            delta = PersonalDelta(**{name.partition(".")[2]: tensors[name] for name in _DELTA}, network=tensors.get("delta.network"))
        portrait = replace(portrait, others=others, manner=manner, delta=delta)
    except SafetensorError:
        raise MediaError(damaged) from None
    except (ValidationError, ValueError, OSError) as error:
        raise MediaError(damaged) from error
    refined = None
    if description.refined is not None:
        planes = {name.partition(".")[2]: tensors[name] for name in _PLANES}
        refined = RefinedPlanes(**planes, **description.refined.model_dump())
    return AvatarFile(portrait, refined, description.made_by)


def _version_of(portrait: PreparedPortrait) -> int:
    """The oldest format that holds the portrait."""
    if _all_have(portrait, "warp"):
        return VERSION
    manner = portrait.manner
    has_network = portrait.delta is not None and portrait.delta.network is not None
    if has_network or any(not other.same_take for other in portrait.others):
        return 3
    learned = (manner.style, manner.voice, portrait.delta)
    return 2 if portrait.others or any(part is not None for part in learned) else 1


def _of_other(number: int, name: str) -> str:
    return f"other{number}.{name}"


def _all_have(portrait: PreparedPortrait, name: str) -> bool:
    """Whether there are other pictures, and of each the body, or the warp, is known."""
    return bool(portrait.others) and all(getattr(other.motion, name) is not None for other in portrait.others)


def _each_other(bodies: bool, warps: bool) -> dict[str, tuple[str, str]]:
    return _OTHER | (_BODY if bodies else {}) | (_WARP if warps else {})


def _expected(others: int, bodies: bool, warps: bool) -> dict[str, tuple[str, str]]:
    """Tensors of a portrait with so many others, as :data:`_PORTRAIT`."""
    each = _each_other(bodies, warps)
    return _PORTRAIT | _MOTION | {_of_other(number, name): kind for number in range(others) for name, kind in each.items()}


def _arrays(portrait: PreparedPortrait, names: Mapping[str, Any]) -> dict[str, Array]:
    """The named arrays of a portrait; those of its motion begin with ``motion.``."""
    return {
        name: getattr(portrait.motion, name.partition(".")[2]) if name.startswith("motion.") else getattr(portrait, name) for name in names
    }


def _portrait(tensors: Mapping[str, Array], crop_box: tuple[float, float, float], focal: float, head_model: str) -> PreparedPortrait:
    motion = MotionFrame(**{name.partition(".")[2]: array for name, array in tensors.items() if name.startswith("motion.")})
    parts: dict[str, Any] = {name: tensors[name] for name in _PORTRAIT}
    return PreparedPortrait(**parts, crop_box=crop_box, motion=motion, focal=focal, head_model=head_model)


def _other(tensors: Mapping[str, Array], number: int, portrait: PreparedPortrait) -> PreparedPortrait:
    """Another picture of the person: what it does not have of its own is the first one's."""
    first = _of_other(number, "")
    own = {name.removeprefix(first): array for name, array in tensors.items() if name.startswith(first)}
    side = float(len(portrait.image))
    own |= {"photo": own["image"], "identity": portrait.identity}
    return _portrait(own, (0.0, 0.0, side), portrait.focal, portrait.head_model)


def describe_avatar(path: str | os.PathLike[str]) -> str:
    """What is in an avatar file, line by line.

    Raises:
        MediaError: see :func:`load_avatar`.
    """
    found = load_avatar(path)
    portrait, refined = found.portrait, found.refined
    height, width = portrait.photo.shape[:2]
    left, top, side = portrait.crop_box
    pitch, yaw, roll = np.degrees(portrait.motion.rotation_rad)
    rows = {
        "file": f"{os.fspath(path)}, {os.path.getsize(path) / 1e6:.1f} MB",
        "format": f"avatar file {_version_of(portrait)}, written by triportrait {printable(found.made_by)}",
        "photo": f"{width} x {height} px, crop {side:.0f} px at ({left:.0f}, {top:.0f})",
        "portrait": f"{len(portrait.image)} x {len(portrait.image)} px",
        "head model": f"{printable(portrait.head_model)}, {len(portrait.identity)} shape coefficients, "
        f"{len(portrait.vertex_offset)} vertices",
        "pose": f"pitch {pitch:.1f}, yaw {yaw:.1f}, roll {roll:.1f} degrees",
        "refined": "no",
    }
    if portrait.manner.voice is not None:
        rows["voice"] = "the person's own way of opening the mouth was learned"
    if portrait.delta is not None:
        network = "" if portrait.delta.network is None else ", and a network beside them"
        rows["delta"] = f"{len(portrait.delta.level)} pictures of what the others lack{network}"
    if portrait.others:
        rows["pictures"] = f"{1 + len(portrait.others)} of one person"
    if refined is not None:
        rows["refined"] = f"{refined.steps} steps, own view {refined.before_db:.1f} -> {refined.after_db:.1f} dB"
        rows["network"] = refined.network[:12]
    return "\n".join(f"{name + ':':12}{value}" for name, value in rows.items())


def _header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8), "little")


def _expect_ours(text: str | None, path: str | os.PathLike[str]) -> str:
    """The description itself; foreign files and newer versions are told apart before anything else is looked at."""
    foreign = MediaError(f"'{path}' is a safetensors file but no avatar file; make one with 'triportrait portrait save'.")
    try:
        head = json.loads(text or "")
    except (ValueError, RecursionError):
        raise foreign from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise foreign
    version = head.get("version")
    if isinstance(version, int) and version > VERSION:
        raise MediaError(f"'{path}' has avatar format {version}, this version reads {VERSION}; update TriPortrait.")
    if text is None or version not in range(1, VERSION + 1):
        raise ValueError(f"version {version!r}")
    return text


def _expect_header(file: Any, expected: Mapping[str, tuple[str, str]]) -> None:
    """Names, kinds and shapes as the header announces them.

    Raises:
        ValueError: one is missing, too many, or different.
    """
    names = set(file.keys())
    if names != set(expected):
        raise ValueError(f"tensors {sorted(names ^ set(expected))} are missing or unknown")
    lengths: dict[str, int] = {}
    for name, (kind, axes) in expected.items():
        header = file.get_slice(name)
        shape, words = header.get_shape(), axes.split()
        wanted = [int(word) if word.isdigit() else lengths.setdefault(word, size) for word, size in zip(words, shape, strict=True)]
        if header.get_dtype() != kind or shape != wanted or 0 in shape:
            raise ValueError(f"{name} is {header.get_dtype()} {shape}, expected {kind} ({axes})")
    if lengths["H"] * lengths["W"] > MAX_PIXELS or not _SIDES_PX[0] <= lengths["s"] <= _SIDES_PX[1]:
        raise ValueError(f"a photo of {lengths['W']} x {lengths['H']} and a crop of {lengths['s']} px are out of range")
    if "u" in lengths and not (_DELTA_SIDES_PX[0] <= lengths["u"] <= _DELTA_SIDES_PX[1] and lengths["k"] <= _MOST_DELTA_PICTURES):
        raise ValueError(f"a delta of {lengths['k']} pictures of {lengths['u']} px is out of range")


def _expect_numbers(tensors: Mapping[str, Array]) -> None:
    """Finite numbers within their bounds, mattes within 0..1, landmarks that span a face.

    Raises:
        ValueError: they are not.
    """
    for full, array in tensors.items():
        name = full.partition(".")[2] if full.startswith("other") else full
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise ValueError(f"{full} holds values that are not numbers")
        if name in _HIGHEST and not np.abs(array).max() <= _HIGHEST[name]:
            raise ValueError(f"{full} is out of range")
        if name.endswith("_alpha") and not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{full} is not within 0..1")
        if name == "landmarks":
            # The shortest extent in any direction: landmarks on one point or line are no face, and no pose follows from them.
            spread = np.linalg.svd(np.cov(array[:, :2].astype(np.float64).T), compute_uv=False)
            if not math.sqrt(spread[-1]) > _SMALLEST_FACE * len(tensors["image"]) / 4:
                raise ValueError("the landmarks span no face")


def _digest(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """SHA-256 over the description, and names, kinds, shapes and bytes of the tensors in the order of their names."""
    plain = {name: value for name, value in description.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {list(array.shape)}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
