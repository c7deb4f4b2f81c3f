"""A portrait as a GLB file: photo texture, the 52 ARKit blendshapes, 15 visemes, and bones, for any viewer; never more than 5 MB."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.drivers import default_head
from triportrait.errors import OutputError
from triportrait.export.figure import Figure, Part, build_figure
from triportrait.export.gltf import Gltf
from triportrait.export.skeleton import BONES, FLOOR_DM, axes, on_bone
from triportrait.face.open_head import OpenHead
from triportrait.files import atomic_file
from triportrait.types import Array, PathLike, PreparedPortrait

#: No file is larger (bytes).
MOST_BYTES = 5_000_000
_METRES = np.float32(0.1)
#: Qualities of the skin's JPEG, the best that leaves the file small enough is taken, and by how much its sides shrink after the last one.
_QUALITIES, _SMALLER = (95, 92, 88, 84, 80), 0.75
#: The skin's picture is not drawn together below this side (pixels).
_LEAST_PX = 256
_ALPHA_CUTOFF = 0.5


def write_glb(portrait: PreparedPortrait, path: PathLike, head: OpenHead | None = None, on_floor: bool = False) -> Path:
    """Write a portrait as a GLB file; it appears whole or not at all.

    Args:
        on_floor: let what is drawn reach the floor (:func:`with_soles`).

    Raises:
        OutputError: the target cannot be written.
    """
    data = glb_of(portrait, head, on_floor)
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)


def glb_of(portrait: PreparedPortrait, head: OpenHead | None = None, on_floor: bool = False) -> bytes:
    """A portrait as the bytes of a GLB file; with ``on_floor`` what is drawn reaches the floor (:func:`with_soles`).

    Raises:
        OutputError: it cannot be made small enough.
    """
    figure = build_figure(portrait, default_head() if head is None else head)
    return file_of(with_soles(figure) if on_floor else figure).to_bytes()


def with_soles(figure: Figure) -> Figure:
    """A figure with a triangle of no size under each foot, which shows nothing.

    Programs for whole people, such as TalkingHead, put the lowest point of what is drawn on the floor, where a bust would sink.
    """
    place = np.repeat([[*figure.bones[name][:1], FLOOR_DM, figure.bones[name][2]] for name in ("LeftToeBase", "RightToeBase")], 3, axis=0)
    joints, weights = (np.concatenate(both) for both in zip(on_bone("LeftToeBase", 3), on_bone("RightToeBase", 3), strict=True))
    soles = Part("mouth", np.arange(6).reshape(2, 3), place.astype(np.float32), None, joints, weights, rgb=np.zeros((6, 3), np.float32))
    return replace(figure, body=[*figure.body, soles])


def file_of(figure: Figure, room_bytes: int = 0) -> Gltf:
    """A figure as a file that others may add to.

    Args:
        room_bytes: what will be added.

    Raises:
        OutputError: it cannot be made small enough.
    """
    file = Gltf()
    pictures: list[Array] = []
    meshes = []
    for name, parts in (("Wolf3D_Head", figure.head), ("Wolf3D_Body", figure.body)):
        parts = [part for part in parts if len(part.triangles)]
        if not parts:
            continue
        mesh: dict[str, Any] = {"name": name, "primitives": [_primitive(file, part, pictures) for part in parts]}
        if parts[0].displacement is not None:
            mesh |= {"weights": [0.0] * len(figure.names), "extras": {"targetNames": figure.names}}
        meshes.append(mesh)
    nodes = _skeleton(figure)
    roots = [0]
    for index, mesh in enumerate(meshes):
        roots.append(len(nodes))
        nodes.append({"name": mesh["name"], "mesh": index, "skin": 0})
    joints = list(range(len(BONES)))
    file.tree = {
        "asset": {"version": "2.0", "generator": "TriPortrait"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"name": "Armature", "nodes": roots}],
        "nodes": nodes,
        "meshes": meshes,
        "skins": [{"joints": joints, "inverseBindMatrices": _inverse_binds(file, figure), "skeleton": joints[0]}],
        "materials": _MATERIALS,
        "textures": [{"source": index, "sampler": 0} for index in range(len(pictures))],
        # Cells of the skin's picture are no neighbours: a smaller picture of them would mix their colours.
        "samplers": [{"wrapS": 33071, "wrapT": 33071, "magFilter": 9729, "minFilter": 9729}],
    }
    smallest = [_encoded(picture, "PNG") if picture.shape[2] == 4 else b"" for picture in pictures]
    room = MOST_BYTES - room_bytes - len(file.to_bytes()) - sum(map(len, smallest)) - 1024
    skin = _within(pictures[0], room)
    file.tree["images"] = [file.image(data or skin, "image/png" if data else "image/jpeg") for data in smallest]
    return file


def _material(name: str, texture: int | None, **more: Any) -> dict[str, Any]:
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture}
    return {"name": name, "pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}, **more}


_MATERIALS = [
    # Between parted lips one sees a turned cheek from within.
    _material("skin", 0, doubleSided=True),
    _material("mouth", None, doubleSided=True),
    _material("teeth", 1, doubleSided=True, alphaMode="MASK", alphaCutoff=_ALPHA_CUTOFF),
]
_NUMBERS = {material["name"]: number for number, material in enumerate(_MATERIALS)}


def _primitive(file: Gltf, part: Part, pictures: list[Array]) -> dict[str, Any]:
    kind = np.uint16 if len(part.position) < 0xFFFF else np.uint32
    attributes = {"POSITION": file.accessor(_standing(part.position), bounds=True)}
    if part.texels is not None and part.picture is not None:
        if not any(part.picture is picture for picture in pictures):
            pictures.append(part.picture)
        share = part.texels / np.array([part.picture.shape[1], part.picture.shape[0]], np.float32)
        attributes["TEXCOORD_0"] = file.accessor(np.round(np.clip(share, 0.0, 1.0) * 65535).astype(np.uint16), normalised=True)
    if part.rgb is not None:
        linear = _linear(np.clip(part.rgb, 0.0, 255.0) / 255.0)
        colour = np.column_stack([linear, np.ones(len(linear))])
        attributes["COLOR_0"] = file.accessor(np.round(65535 * colour).astype(np.uint16), normalised=True)
    weights = np.round(255 * part.weights).astype(np.uint8)
    weights[:, 0] += 255 - weights.sum(1, dtype=np.int64).astype(np.uint8)
    attributes |= {"JOINTS_0": file.accessor(np.where(weights > 0, part.joints, 0).astype(np.uint8))}
    attributes |= {"WEIGHTS_0": file.accessor(weights, normalised=True)}
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": file.accessor(part.triangles.reshape(-1).astype(kind), is_index=True),
        "material": _NUMBERS[part.name],
    }
    if part.displacement is not None:
        primitive["targets"] = [{"POSITION": file.displacement(moved * _METRES)} for moved in part.displacement]
    return primitive


def _linear(srgb: Array) -> Array:
    """Linear intensities of sRGB values 0..1 (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def mesh_node(file: Gltf) -> int:
    """The number of the node of the mesh with blendshapes."""
    return next(number for number, node in enumerate(file.tree["nodes"]) if node["name"] == "Wolf3D_Head")


def _standing(places: Array) -> Array:
    """Places [..., 3] of head space (decimetres) in metres above the floor."""
    return ((places - np.array([0.0, FLOOR_DM, 0.0], np.float32)) * _METRES).astype(np.float32)


def _skeleton(figure: Figure) -> list[dict[str, Any]]:
    """The bones' nodes, in their order."""
    numbers, turned = {name: number for number, name in enumerate(BONES)}, axes()
    nodes: list[dict[str, Any]] = []
    for name, one in BONES.items():
        place = _standing(figure.bones[name])
        if one.parent is not None:
            place = (place - _standing(figure.bones[one.parent])) @ turned[one.parent]
        node: dict[str, Any] = {"name": name, "translation": [round(float(value), 5) for value in place]}
        if one.turn[3] != 1.0:
            node["rotation"] = list(one.turn)
        children = [numbers[other] for other, below in BONES.items() if below.parent == name]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _inverse_binds(file: Gltf, figure: Figure) -> int:
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(BONES), 1, 1))
    for matrix, (name, turn) in zip(matrices, axes().items(), strict=True):
        # Column by column, as glTF stores matrices: of a rotation's inverse that is the rotation itself.
        matrix[:3, :3] = turn
        matrix[3, :3] = -_standing(figure.bones[name]) @ turn
    return file.accessor(matrices.reshape(len(BONES), 16), is_vertex=False)


def _encoded(picture: Array, kind: str, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **(options or {"optimize": True}))
    return stream.getvalue()


def _within(picture: Array, room_bytes: int) -> bytes:
    """The best JPEG of a picture [h, w, 3] that takes at most ``room_bytes``: full size as long as a quality fits, else ever smaller.

    Colours are as fine as brightness: a block of 8 texels then holds one cell of the skin's picture alone.
    """
    from PIL import Image

    while True:
        for quality in _QUALITIES:
            data = _encoded(picture, "JPEG", quality=quality, subsampling=0)
            if len(data) <= room_bytes:
                return data
        if min(picture.shape[:2]) * _SMALLER < _LEAST_PX:
            raise OutputError(f"this portrait does not fit into {MOST_BYTES / 1e6:g} MB; use a photo of fewer pixels")
        width, height = (round(side * _SMALLER) for side in (picture.shape[1], picture.shape[0]))
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
