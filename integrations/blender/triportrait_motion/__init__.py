"""Blender add-on: motion curves of TriPortrait onto shape keys by name, its head motion onto a bone, and heads from GLB files."""

from __future__ import annotations

import bpy
import numpy as np
from bpy.props import BoolProperty, StringProperty
from bpy.types import Operator
from bpy_extras.io_utils import ImportHelper
from mathutils import Matrix

from .curves import Curves, read

#: Our axes (x to the image's right, y up, z to the viewer) in Blender's (z up, y away from the viewer).
_TO_BLENDER = Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0)))


def _write(owner: bpy.types.ID, data_path: str, frames: np.ndarray, values: np.ndarray, index: int = 0) -> None:
    """Keys of one animated value, in place of those that were there."""
    animation = owner.animation_data or owner.animation_data_create()
    if animation.action is None:
        animation.action = bpy.data.actions.new(f"{owner.name} TriPortrait")
    curve = animation.action.fcurve_ensure_for_datablock(owner, data_path, index=index)
    curve.keyframe_points.clear()
    curve.keyframe_points.add(len(frames))
    curve.keyframe_points.foreach_set("co", np.stack([frames, values], axis=1).astype(np.float32).ravel())
    curve.update()


def animate_shape_keys(mesh: bpy.types.Object, motion: Curves, frames: np.ndarray) -> int:
    """Curves onto the shape keys that bear their names, whatever the case; returns how many did."""
    keys = mesh.data.shape_keys
    if keys is None:
        return 0
    wanted = {name.lower(): values for name, values in motion.curves.items()}
    found = [key for key in keys.key_blocks if key.name.lower() in wanted]
    for key in found:
        _write(keys, f'key_blocks["{key.name}"].value', frames, wanted[key.name.lower()])
    return len(found)


def animate_head(armature: bpy.types.Object, motion: Curves, frames: np.ndarray, bone: str) -> bool:
    """The head's turns onto a bone; False where there is no such bone."""
    if bone not in armature.pose.bones:
        return False
    pose = armature.pose.bones[bone]
    pose.rotation_mode = "QUATERNION"
    rest = pose.bone.matrix_local.to_3x3()
    turns = np.empty((len(frames), 4), np.float32)
    for row, (pitch, yaw, roll) in enumerate(motion.rotation_rad):
        turn = Matrix.Rotation(roll, 3, "Z") @ Matrix.Rotation(yaw, 3, "Y") @ Matrix.Rotation(pitch, 3, "X")
        turn = _TO_BLENDER @ turn @ _TO_BLENDER.transposed()
        turns[row] = (rest.transposed() @ turn @ rest).to_quaternion()
        if row and turns[row] @ turns[row - 1] < 0.0:
            turns[row] *= -1.0
    for index in range(4):
        _write(armature, f'pose.bones["{bone}"].rotation_quaternion', frames, turns[:, index], index)
    return True


class TRIPORTRAIT_OT_import_motion(Operator, ImportHelper):
    """Put motion curves onto the shape keys and the head bone of what is selected"""

    bl_idname = "triportrait.import_motion"
    bl_label = "TriPortrait motion (.npz, .csv)"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.npz;*.csv", options={"HIDDEN"})
    with_head: BoolProperty(name="Head motion", description="Turn the head's bone, too", default=True)
    bone: StringProperty(name="Head bone", default="Head")

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            motion = read(self.filepath)
        except ValueError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        scene = context.scene
        rate = scene.render.fps / scene.render.fps_base
        count = len(motion.rotation_rad)
        frames = scene.frame_current + np.arange(count) * rate / motion.fps
        chosen = list(context.selected_objects) or list(scene.objects)
        keys = sum(animate_shape_keys(each, motion, frames) for each in chosen if each.type == "MESH")
        skeletons = {each for each in chosen if each.type == "ARMATURE"} | {each.find_armature() for each in chosen if each.type == "MESH"}
        heads = sum(animate_head(each, motion, frames, self.bone) for each in skeletons - {None}) if self.with_head else 0
        if not keys and not heads:
            self.report({"ERROR"}, "nothing selected has shape keys with ARKit names; select a head, or import one")
            return {"CANCELLED"}
        scene.frame_end = max(scene.frame_end, int(np.ceil(frames[-1])))
        self.report({"INFO"}, f"{count} rows on {keys} shape keys and {heads} head bones")
        return {"FINISHED"}


class TRIPORTRAIT_OT_import_head(Operator, ImportHelper):
    """Import a head of 'triportrait export' and select it"""

    bl_idname = "triportrait.import_head"
    bl_label = "TriPortrait head (.glb)"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.glb", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        return bpy.ops.import_scene.gltf(filepath=self.filepath)


_CLASSES = (TRIPORTRAIT_OT_import_motion, TRIPORTRAIT_OT_import_head)


def _entries(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    for each in _CLASSES:
        menu.layout.operator(each.bl_idname, text=each.bl_label)


def register() -> None:
    """Blender calls it when the add-on is switched on."""
    for each in _CLASSES:
        bpy.utils.register_class(each)
    bpy.types.TOPBAR_MT_file_import.append(_entries)


def unregister() -> None:
    """And when it is switched off."""
    bpy.types.TOPBAR_MT_file_import.remove(_entries)
    for each in reversed(_CLASSES):
        bpy.utils.unregister_class(each)
