"""Nodes of the V3 schema. Pictures are IMAGE [B, H, W, C] in 0..1, sound is AUDIO with a waveform [B, C, T]."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io
from triportrait import DriveOptions, Motion, Portrait
from triportrait.drivers import motion_of_audio, motion_of_video, voice_settings
from triportrait.errors import OptionError
from triportrait.face.portrait import PortraitOptions
from triportrait.media.video import VideoWriter
from triportrait.model import quality_of
from triportrait.motion.retarget import mouth_gain as with_mouth_gain
from triportrait.motion.timing import join_motion
from triportrait.motion.voice_controls import EMOTIONS
from triportrait.types import ARKIT_EXPRESSIONS

from .drawing import drawn, performed, pixels_of, waveform_of

CATEGORY = "TriPortrait"
Avatar, MotionCurves = io.Custom("TP_AVATAR"), io.Custom("TP_MOTION")


def voice_inputs() -> list[io.Input]:
    """Widgets of how a voice moves the face, named as the fields of DriveOptions."""
    return [
        io.Combo.Input("emotion", options=["neutral", *EMOTIONS, "auto"], default="neutral"),
        io.Float.Input("emotion_strength", default=0.6, min=0.0, max=1.0, step=0.05),
        io.Float.Input("head_motion", default=1.0, min=0.0, max=2.0, step=0.1),
        io.Float.Input("mouth_gain", default=1.0, min=0.0, max=2.0, step=0.1),
        io.Float.Input("expressiveness", default=1.0, min=0.0, max=2.0, step=0.1),
        io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=True),
    ]


def look_inputs() -> list[io.Input]:
    """Widgets of what is shown."""
    return [
        io.String.Input(
            "background",
            default="",
            tooltip="Empty: the photo's own; a colour (#204060, green); or transparent: MASK is the person.",
        ),
        io.Boolean.Input(
            "pictures", default=True, tooltip="Off for clips of more than a minute: VIDEO alone, a signed file, and its first picture."
        ),
    ]


def picture_outputs() -> list[io.Output]:
    """What every node that draws gives."""
    return [
        io.Image.Output(display_name="images"),
        io.Mask.Output(display_name="mask"),
        io.Audio.Output(display_name="audio"),
        io.Video.Output(display_name="video"),
    ]


class LoadPortrait(io.ComfyNode):
    """A photo, or an avatar file, becomes an avatar."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitLoadPortrait",
            display_name="Load Portrait",
            category=CATEGORY,
            description="Prepares the person of a photo; of an avatar file it reads what was prepared.",
            inputs=[
                io.Image.Input("image", optional=True),
                io.Combo.Input("quality", options=["draft", "standard", "high"], default="standard"),
                io.Int.Input("face", default=0, min=0, max=20, tooltip="Which face, counted from the left; 0 takes the largest."),
                io.String.Input("avatar_file", default="", tooltip="A file of Save Avatar instead of an image."),
            ],
            outputs=[Avatar.Output(display_name="avatar")],
        )

    @classmethod
    def execute(cls, quality: str, face: int, avatar_file: str, image: torch.Tensor | None = None) -> io.NodeOutput:
        if avatar_file:
            return io.NodeOutput(Portrait.from_image(avatar_file, quality=quality))
        if image is None:
            raise OptionError("there is neither an image nor an avatar file; connect an image")
        options = PortraitOptions(quality_of(quality).size_px, face=face or None)
        return io.NodeOutput(Portrait.from_image(pixels_of(image)[0], options, quality=quality))


class Talk(io.ComfyNode):
    """An avatar says what is in a sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitTalk",
            display_name="Talk",
            category=CATEGORY,
            inputs=[Avatar.Input("avatar"), io.Audio.Input("audio"), *voice_inputs(), *look_inputs()],
            outputs=picture_outputs(),
        )

    @classmethod
    def execute(cls, avatar: Portrait, audio: dict[str, Any], background: str, pictures: bool, **voice: Any) -> io.NodeOutput:
        return drawn(avatar.talk(waveform_of(audio), DriveOptions(**voice)), audio, background, pictures)


class Drive(io.ComfyNode):
    """An avatar does what a person in a batch of pictures does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitDrive",
            display_name="Drive",
            category=CATEGORY,
            description="Takes the pictures of a video, one person in them, as Load Video gives them.",
            inputs=[
                Avatar.Input("avatar"),
                io.Image.Input("images"),
                io.Audio.Input("audio", optional=True),
                io.Float.Input("fps", default=25.0, min=1.0, max=120.0, step=0.001),
                io.Float.Input("mouth_gain", default=1.0, min=0.0, max=2.0, step=0.1),
                *look_inputs(),
            ],
            outputs=picture_outputs(),
        )

    @classmethod
    def execute(
        cls,
        avatar: Portrait,
        images: torch.Tensor,
        fps: float,
        mouth_gain: float,
        background: str,
        pictures: bool,
        audio: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        height, width = images.shape[1:3]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "driving.mp4"
            with VideoWriter(path, (width, height), fps, crf=8) as writer:
                for index in range(len(images)):
                    writer.write(pixels_of(images[index : index + 1])[0])
            motion = motion_of_video(path)
        return drawn(performed(avatar, motion, audio, mouth_gain=mouth_gain), audio, background, pictures)


class MotionFromVoice(io.ComfyNode):
    """A voice becomes motion curves, to be edited and rendered."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitMotionFromVoice",
            display_name="Motion from Voice",
            category=CATEGORY,
            inputs=[io.Audio.Input("audio"), *voice_inputs()],
            outputs=[MotionCurves.Output(display_name="motion")],
        )

    @classmethod
    def execute(cls, audio: dict[str, Any], **voice: Any) -> io.NodeOutput:
        return io.NodeOutput(join_motion(motion_of_audio(waveform_of(audio), voice_settings(DriveOptions(**voice)))))


class EditMotion(io.ComfyNode):
    """Amounts of mouth and head, one curve, and where the motion begins and ends."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitEditMotion",
            display_name="Edit Motion",
            category=CATEGORY,
            inputs=[
                MotionCurves.Input("motion"),
                io.Float.Input("mouth", default=1.0, min=0.0, max=2.0, step=0.05),
                io.Float.Input(
                    "head", default=1.0, min=0.0, max=2.0, step=0.05, tooltip="Scales how far it leaves the first frame's pose."
                ),
                io.Combo.Input("curve", options=["none", *ARKIT_EXPRESSIONS], default="none"),
                io.Float.Input("add", default=0.0, min=-1.0, max=1.0, step=0.01, tooltip="Is added to the curve in every frame."),
                io.Float.Input("begin_s", default=0.0, min=0.0, max=36000.0, step=0.04),
                io.Float.Input("end_s", default=0.0, min=0.0, max=36000.0, step=0.04, tooltip="0 keeps the end."),
            ],
            outputs=[MotionCurves.Output(display_name="edited")],
        )

    @classmethod
    def execute(cls, motion: Motion, mouth: float, head: float, curve: str, add: float, begin_s: float, end_s: float) -> io.NodeOutput:
        begin, end = round(begin_s * motion.fps), round(end_s * motion.fps) or len(motion)
        if not begin < end <= len(motion):
            raise OptionError(f"begin_s and end_s leave nothing of {len(motion) / motion.fps:.2f} s of motion; choose a part of it")
        motion = motion.rows(slice(begin, end))
        if mouth != 1.0:
            motion = with_mouth_gain(motion, mouth)
        if curve != "none":
            expression = motion.expression.copy()
            expression[:, motion.column(curve)] = np.clip(expression[:, motion.column(curve)] + add, 0.0, 1.0)
            motion = motion.with_rows(expression=expression)
        names = ("rotation_rad", "translation", "body", "warp")
        moved = {name: getattr(motion, name) for name in names if getattr(motion, name) is not None}
        return io.NodeOutput(motion.with_rows(**{name: rows[:1] + head * (rows - rows[:1]) for name, rows in moved.items()}))


class Render(io.ComfyNode):
    """Motion curves on an avatar."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitRender",
            display_name="Render",
            category=CATEGORY,
            inputs=[Avatar.Input("avatar"), MotionCurves.Input("motion"), io.Audio.Input("audio", optional=True), *look_inputs()],
            outputs=picture_outputs(),
        )

    @classmethod
    def execute(
        cls, avatar: Portrait, motion: Motion, background: str, pictures: bool, audio: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        return drawn(performed(avatar, motion, audio), audio, background, pictures)


class SaveAvatar(io.ComfyNode):
    """An avatar file in ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TriPortraitSaveAvatar",
            display_name="Save Avatar",
            category=CATEGORY,
            is_output_node=True,
            inputs=[Avatar.Input("avatar"), io.String.Input("filename_prefix", default="triportrait/person")],
            outputs=[io.String.Output(display_name="path")],
        )

    @classmethod
    def execute(cls, avatar: Portrait, filename_prefix: str) -> io.NodeOutput:
        folder, name, counter, *_ = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
        return io.NodeOutput(str(avatar.save(Path(folder) / f"{name}_{counter:05}_.avatar")))


class TriPortraitExtension(ComfyExtension):
    """All nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadPortrait, Talk, Drive, MotionFromVoice, EditMotion, Render, SaveAvatar]


async def comfy_entrypoint() -> TriPortraitExtension:
    """Where ComfyUI begins."""
    return TriPortraitExtension()
