"""Tensors to arrays, and performances to what a node gives: pictures, masks, sound and a video."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy.utils import ProgressBar
from comfy_api.latest import InputImpl, Types, io
from triportrait import DriveOptions, Motion, Performance, Portrait, Waveform
from triportrait.background import Background
from triportrait.errors import OptionError
from triportrait.provenance.marks import Finish, Marks

#: A minute of 512 px pictures is 4.7 GB as a tensor.
MOST_PICTURES = 1500
#: Of the sound of what has none.
SILENCE_HZ = 44_100


def waveform_of(audio: dict[str, Any]) -> Waveform:
    """The first of a batch of sounds, its channels mixed."""
    samples = audio["waveform"][0].cpu().numpy().astype(np.float32).mean(0)
    return Waveform(samples, int(audio["sample_rate"]))


def pixels_of(images: torch.Tensor) -> np.ndarray:
    """A batch of pictures as uint8 [b, h, w, 3]."""
    return (np.clip(images[..., :3].cpu().numpy(), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def drawn(performance: Performance, audio: dict[str, Any] | None, background: str, pictures: bool) -> io.NodeOutput:
    """Draw a performance, marked; see :func:`picture_outputs`."""
    scene = Background(background) if background else None
    bar = ProgressBar(performance.frame_count or 1)
    shown, masks = [], []
    for image, mask in marked(performance, scene):
        if len(shown) == MOST_PICTURES:
            raise OptionError(f"the clip has more than {MOST_PICTURES} pictures; switch pictures off and take VIDEO")
        shown.append(image)
        masks.append(mask)
        bar.update_absolute(len(shown), max(performance.frame_count, len(shown)))
        if not pictures:
            break
    count, file = len(shown), None
    if not pictures:
        file, count = written(performance, scene, bar)
    batch, mask = (torch.from_numpy(np.stack(layers)).float() / 255.0 for layers in (shown, masks))
    if audio is None:
        silence = np.zeros((1, 1, round(count / performance.fps * SILENCE_HZ)), np.float32)
        audio = {"waveform": torch.from_numpy(silence), "sample_rate": SILENCE_HZ}
    rate = Fraction(performance.fps).limit_denominator(1001)
    parts = Types.VideoComponents(images=batch, audio=audio, frame_rate=rate)
    video = InputImpl.VideoFromComponents(parts) if file is None else InputImpl.VideoFromFile(file)
    return io.NodeOutput(batch, mask, audio, video)


def marked(performance: Performance, scene: Background | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures uint8 [s, s, 3] with label and watermark, and masks uint8 [s, s]: the person without a scene, else all."""
    side, marks = len(performance.portrait.prepared.image), Marks()
    finish = Finish(marks, (side, side), marks.account().number)
    for frame in performance.frames(background=scene):
        if frame.alpha is None:
            yield finish(frame.image), np.full((side, side), 255, np.uint8)
        else:
            yield finish.without_scene(frame.image, frame.alpha)


def written(performance: Performance, scene: Background | None, bar: ProgressBar) -> tuple[str, int]:
    """A signed file in ComfyUI's folder for what is temporary, and how many pictures it has."""
    path = Path(tempfile.mkdtemp(prefix="triportrait_", dir=folder_paths.get_temp_directory())) / "video.mp4"
    count = 0

    def note(what: str, done: int, total: int) -> None:
        nonlocal count
        count = done
        bar.update_absolute(done, max(total, done))

    performance.save(path, background=scene, progress=note)
    return str(path), count


def performed(avatar: Portrait, motion: Motion, audio: dict[str, Any] | None, **options: Any) -> Performance:
    """Motion on an avatar, whose file carries the sound."""
    performance = avatar.perform(motion, DriveOptions(**options))
    performance.sound = None if audio is None else waveform_of(audio)
    return performance
