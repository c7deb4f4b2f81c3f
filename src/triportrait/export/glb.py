"""A portrait as a GLB file: photo texture, the 52 ARKit blendshapes, 15 visemes, and bones, for any viewer.

The head is what ``lifted`` draws: the model's skin with the photo on it, eyeballs, teeth and tongue, and the sheet of hair, ears, neck and
shoulders, whose far side closes it. The sheet's share of the head's motion is its weight on the head's bone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.avatar.lifted import shading_kernels as kernels
from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.drivers import default_head
from triportrait.export.gltf import Gltf
from triportrait.face.open_head import OpenHead
from triportrait.files import atomic_file
from triportrait.geometry.cameras import project
from triportrait.types import ARKIT_EXPRESSIONS, Array, HeadPart, PathLike, PreparedPortrait

#: Gaze (pitch, yaw in radians) of ARKit's curves for the eyes; of each only the eye that it names moves.
LOOKS: dict[str, tuple[float, float]] = {
    "eyeLookUpLeft": (0.5, 0.0),
    "eyeLookUpRight": (0.5, 0.0),
    "eyeLookDownLeft": (-0.5, 0.0),
    "eyeLookDownRight": (-0.5, 0.0),
    "eyeLookOutLeft": (0.0, 0.6),
    "eyeLookInRight": (0.0, 0.6),
    "eyeLookInLeft": (0.0, -0.6),
    "eyeLookOutRight": (0.0, -0.6),
}
#: Oculus's visemes as curves of ARKit's.
VISEMES: dict[str, Mapping[str, float]] = {
    "viseme_sil": {},
    "viseme_PP": {"mouthPressLeft": 0.4, "mouthPressRight": 0.4, "mouthRollLower": 0.2, "mouthRollUpper": 0.2},
    "viseme_FF": {"jawOpen": 0.06, "mouthRollLower": 0.5, "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2},
    "viseme_TH": {"jawOpen": 0.15, "tongueOut": 0.35, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_DD": {"jawOpen": 0.15, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_kk": {"jawOpen": 0.18, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_CH": {"jawOpen": 0.08, "mouthFunnel": 0.4, "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2},
    "viseme_SS": {
        "jawOpen": 0.08,
        "mouthStretchLeft": 0.2,
        "mouthStretchRight": 0.2,
        "mouthLowerDownLeft": 0.3,
        "mouthLowerDownRight": 0.3,
    },
    "viseme_nn": {"jawOpen": 0.12, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15},
    "viseme_RR": {"jawOpen": 0.12, "mouthFunnel": 0.25, "mouthPucker": 0.2},
    "viseme_aa": {"jawOpen": 0.42, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_E": {"jawOpen": 0.26, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2},
    "viseme_I": {"jawOpen": 0.18, "mouthStretchLeft": 0.3, "mouthStretchRight": 0.3, "mouthSmileLeft": 0.15, "mouthSmileRight": 0.15},
    "viseme_O": {"jawOpen": 0.3, "mouthFunnel": 0.3, "mouthPucker": 0.3},
    "viseme_U": {"jawOpen": 0.1, "mouthPucker": 0.7},
}
#: Bones: name -> parent and place in head space (decimetres). Heads turn about the head model's own origin.
BONES: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "Hips": (None, (0.0, -7.0, -0.6)),
    "Spine": ("Hips", (0.0, -3.0, -0.6)),
    "Neck": ("Spine", (0.0, -1.2, -0.4)),
    "Head": ("Neck", (0.0, 0.0, 0.0)),
    "LeftEye": ("Head", (0.0, 0.0, 0.0)),
    "RightEye": ("Head", (0.0, 0.0, 0.0)),
}
_METRES = np.float32(0.1)
#: Sheet that the photo saw at a smaller cosine shows its guessed colours: the photo would be streaks.
_EDGE_ON = 0.4
#: So much of the crop's side beyond its border the sheet goes on.
_BEYOND = 0.01
#: Light on what lies in the mouth.
_TEETH, _TONGUE, _LINING = (0.27, 0.24, 0.2), (0.15, 0.045, 0.04), (0.015, 0.005, 0.005)


@dataclass(frozen=True, slots=True)
class _Part:
    """Triangles of one material: positions [n, 3] in decimetres, a displacement [t, n, 3] for each blendshape, bones and weights [n, 4],
    and texture places [n, 2] or colours [n, 4], linear 0..1."""

    triangles: Array
    position: Array
    displacement: Array
    joints: Array
    weights: Array
    texture: Array | None = None
    colour: Array | None = None
    material: int = 0


def write_glb(portrait: PreparedPortrait, path: PathLike, head: OpenHead | None = None) -> Path:
    """Write a portrait as a GLB file; it appears whole or not at all.

    Raises:
        OutputError: the target cannot be written.
    """
    data = glb_of(portrait, head)
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)


def glb_of(portrait: PreparedPortrait, head: OpenHead | None = None) -> bytes:
    """A portrait as the bytes of a GLB file."""
    head = default_head() if head is None else head
    state = LiftedAvatar(head, whole_person=True).prepare(portrait)
    rest = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    neutral = head.deform(state.shape, rest, np.zeros(2, np.float32))
    names, moved = _blendshapes(head, state, neutral)
    file = Gltf()
    primitives = [_primitive(file, part) for part in _parts(head, state, neutral, moved)]
    mesh = {"name": "Wolf3D_Head", "primitives": primitives, "weights": [0.0] * len(names), "extras": {"targetNames": names}}
    nodes, joints = _skeleton(head, state)
    nodes.append({"name": "Wolf3D_Head", "mesh": 0, "skin": 0})
    roots = [0, len(nodes) - 1]
    file.tree = {
        "asset": {"version": "2.0", "generator": "TriPortrait"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": roots}],
        "nodes": nodes,
        "meshes": [mesh],
        "skins": [{"joints": joints, "inverseBindMatrices": _inverse_binds(file, head, state), "skeleton": joints[0]}],
        "materials": _MATERIALS,
        "textures": [{"source": index, "sampler": 0} for index in range(3)],
        "samplers": [{"wrapS": 33071, "wrapT": 33071, "magFilter": 9729, "minFilter": 9987}],
        "images": _images(file, state),
    }
    return file.to_bytes()


def _material(name: str, texture: int | None, **more: Any) -> dict[str, Any]:
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture}
    return {"name": name, "pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}, **more}


_SKIN, _LEFT, _RIGHT, _PLAIN, _SHEET = range(5)
_MATERIALS = [
    _material("skin", 0),
    _material("left eye", 1),
    _material("right eye", 2),
    _material("plain", None, doubleSided=True),
    _material("hair and body", 0, doubleSided=True, alphaMode="MASK", alphaCutoff=0.5),
]


def _blendshapes(head: OpenHead, state: LiftedState, neutral: Array) -> tuple[list[str], Array]:
    """Names [t] and displacements [t, v, 3] of the mesh."""
    still, rest = np.zeros(2, np.float32), np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    names, moved = list(ARKIT_EXPRESSIONS), []
    for curve in range(len(ARKIT_EXPRESSIONS)):
        one = rest.copy()
        one[curve] = 1.0
        moved.append(head.deform(state.shape, one, still) - neutral)
    for name, gaze in LOOKS.items():
        side = 0 if name.endswith("Left") else 1
        own = np.zeros(len(neutral), bool)
        own[head.eye_vertices[side]] = True
        half = (neutral[:, 0] > 0) if side == 0 else (neutral[:, 0] <= 0)
        own |= half & np.isin(head.part, (HeadPart.SKIN, HeadPart.SOCKET))
        moved.append((head.deform(state.shape, rest, np.array(gaze, np.float32)) - neutral) * own[:, None])
        names.append(name)
    for name, curves in VISEMES.items():
        one = rest.copy()
        for said, value in curves.items():
            if said in ARKIT_EXPRESSIONS:
                one[ARKIT_EXPRESSIONS.index(said)] = value
        moved.append(head.deform(state.shape, one, still) - neutral)
        names.append(name)
    return names, np.stack(moved)


def _parts(head: OpenHead, state: LiftedState, neutral: Array, moved: Array) -> list[_Part]:
    size, count = len(state.photo), len(neutral)
    joints, weights = _on("Head", count)
    # The face's rim stands back, so that hair hangs over it: a viewer has no other order than depth.
    place = neutral - np.stack([0 * state.bias, 0 * state.bias, np.where(head.part == HeadPart.SKIN, state.bias, 0)], 1)

    def mesh_part(which: Array, material: int, **more: Any) -> _Part:
        return _compact(state.triangles[which], place, moved, joints, weights, material, **more)

    parts = [mesh_part(state.kind == kernels.SKIN, _SKIN, texture=state.source_pixels / size)]
    for eye, material, bone in ((kernels.EYE_LEFT, _LEFT, "LeftEye"), (kernels.EYE_RIGHT, _RIGHT, "RightEye")):
        texture = state.source_pixels / state.eye_textures.shape[1]
        part = mesh_part(state.kind == eye, material, texture=texture)
        own = _on(bone, len(part.position))
        parts.append(_Part(part.triangles, part.position, part.displacement, *own, texture=part.texture, material=material))
    mouth = np.full((count, 4), 1.0, np.float32)
    teeth = (head.part == HeadPart.TEETH_UPPER) | (head.part == HeadPart.TEETH_LOWER)
    mouth[:, :3] = np.select(
        [teeth[:, None], (head.part == HeadPart.TONGUE)[:, None]], [np.array(_TEETH), np.array(_TONGUE)], np.array(_LINING)
    )
    inner = ~np.isin(state.kind, (kernels.SKIN, kernels.EYE_LEFT, kernels.EYE_RIGHT))
    parts.append(mesh_part(inner, _PLAIN, colour=mouth))
    return [*parts, *_sheet(state, neutral, moved)]


def _sheet(state: LiftedState, neutral: Array, moved: Array) -> list[_Part]:
    """Hair, ears, neck and shoulders, and their far side."""
    sheet, size = state.mantle, len(state.photo)

    def carried(displacement: Array) -> Array:
        return np.asarray(np.einsum("mk,mkc->mc", sheet.weight, displacement[sheet.corner]) * sheet.share[:, None], np.float32)

    place = sheet.rest + carried(neutral - state.source)
    shifts = np.stack([carried(displacement) for displacement in moved])
    joints = np.zeros((len(place), 4), np.uint8)
    joints[:, 0] = np.where(sheet.share > 0.0, _bone("Head"), 0)
    joints[:, 1] = np.where(sheet.share < 1.0, _bone("Spine"), 0)
    weights = np.stack([sheet.share, 1.0 - sheet.share, 0 * sheet.share, 0 * sheet.share], 1).astype(np.float32)
    colour = np.concatenate([(np.clip(sheet.guess[:, 2:5], 0, 255) / 255.0) ** 2.2, np.ones((len(place), 1))], 1).astype(np.float32)
    # Beyond the crop the sheet goes on as a mirror image, which only a moving picture needs.
    pixels, _ = project(sheet.home, size, state.portrait.focal)
    inside: Array = np.all((pixels > -_BEYOND * size) & (pixels < (1 + _BEYOND) * size), axis=1)
    front, far = (triangles[inside[triangles].all(1)] for triangles in (sheet.triangles, sheet.far_triangles))
    edge_on = sheet.facing[front].mean(1) < _EDGE_ON
    parts = []
    if (~edge_on).any():
        seen = front[~edge_on]
        parts.append(_compact(seen, place, shifts, joints, weights, _SHEET, texture=sheet.pixels / size))
    guessed = np.concatenate([front[edge_on], far])
    if len(guessed):
        parts.append(_compact(guessed, place, shifts, joints, weights, _PLAIN, colour=colour))
    return parts


def _compact(
    triangles: Array,
    position: Array,
    displacement: Array,
    joints: Array,
    weights: Array,
    material: int,
    *,
    texture: Array | None = None,
    colour: Array | None = None,
) -> _Part:
    """A part that holds no vertex but those of its triangles."""
    used, numbered = np.unique(triangles, return_inverse=True)
    return _Part(
        numbered.reshape(-1, 3),
        position[used],
        displacement[:, used],
        joints[used],
        weights[used],
        None if texture is None else texture[used],
        None if colour is None else colour[used],
        material,
    )


def _bone(name: str) -> int:
    return list(BONES).index(name)


def _on(bone: str, count: int) -> tuple[Array, Array]:
    """Joints and weights [count, 4] of vertices that follow one bone."""
    joints, weights = np.zeros((count, 4), np.uint8), np.zeros((count, 4), np.float32)
    joints[:, 0], weights[:, 0] = _bone(bone), 1.0
    return joints, weights


def _primitive(file: Gltf, part: _Part) -> dict[str, Any]:
    kind = np.uint16 if len(part.position) <= 0xFFFF else np.uint32
    attributes = {"POSITION": file.accessor((part.position * _METRES).astype(np.float32), bounds=True)}
    if part.texture is not None:
        attributes["TEXCOORD_0"] = file.accessor(part.texture.astype(np.float32))
    if part.colour is not None:
        attributes["COLOR_0"] = file.accessor(part.colour.astype(np.float32))
    attributes |= {"JOINTS_0": file.accessor(part.joints), "WEIGHTS_0": file.accessor(part.weights)}
    return {
        "attributes": attributes,
        "indices": file.accessor(part.triangles.reshape(-1).astype(kind), is_index=True),
        "material": part.material,
        "targets": [{"POSITION": file.displacement(moved * _METRES)} for moved in part.displacement],
    }


def _places(head: OpenHead, state: LiftedState) -> dict[str, Array]:
    """Where the bones begin, in metres of head space."""
    places = {name: np.array(place, np.float32) * _METRES for name, (_, place) in BONES.items()}
    for name, centre in zip(("LeftEye", "RightEye"), head.eye_centres(state.shape), strict=True):
        places[name] = centre.astype(np.float32) * _METRES
    return places


def _skeleton(head: OpenHead, state: LiftedState) -> tuple[list[dict[str, Any]], list[int]]:
    """Nodes, the first of which is the armature, and the numbers of the joints."""
    places, names = _places(head, state), list(BONES)
    nodes: list[dict[str, Any]] = [{"name": "Armature", "children": [1]}]
    for name, (parent, _) in BONES.items():
        start = places[parent] if parent is not None else np.zeros(3, np.float32)
        children = [1 + names.index(other) for other, (above, _) in BONES.items() if above == name]
        node: dict[str, Any] = {"name": name, "translation": (places[name] - start).tolist()}
        nodes.append(node | ({"children": children} if children else {}))
    return nodes, list(range(1, 1 + len(names)))


def _inverse_binds(file: Gltf, head: OpenHead, state: LiftedState) -> int:
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(BONES), 1, 1))
    for matrix, place in zip(matrices, _places(head, state).values(), strict=True):
        matrix[3, :3] = -place  # column by column, as glTF stores matrices
    return file.accessor(matrices.reshape(len(BONES), 16), is_vertex=False)


def _images(file: Gltf, state: LiftedState) -> list[dict[str, Any]]:
    from PIL import Image

    def encoded(picture: Array, kind: str) -> bytes:
        stream = io.BytesIO()
        options: dict[str, Any] = {"quality": 92} if kind == "JPEG" else {"optimize": True}
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(stream, kind, **options)
        return stream.getvalue()

    photo = np.dstack([state.photo[..., :3], 255.0 * state.photo[..., 3]])
    eyes = [file.image(encoded(texture, "JPEG"), "image/jpeg") for texture in state.eye_textures]
    return [file.image(encoded(photo, "PNG"), "image/png"), *eyes]
