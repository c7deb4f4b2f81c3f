"""What happens to videos on their way through the world, as functions from frames to frames, for tests and benchmarks."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = list[NDArray[np.uint8]]


def encoded(frames: Frames, crf: int, fps: int = 25) -> Frames:
    """The frames after x264 and back; sides are made even."""
    import av

    frames = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def resized(frames: Frames, size: tuple[int, int]) -> Frames:
    """Frames of another (w, h)."""
    shrinks = size[0] < frames[0].shape[1]
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC) for frame in frames]


def halved(frames: Frames, times: int = 2) -> Frames:
    """Frames of a half, or another whole part, of each side."""
    height, width = frames[0].shape[:2]
    return resized(frames, (width // times, height // times))


def cropped(frames: Frames, kept: float) -> Frames:
    """An off-centre part that keeps this share of each side."""
    height, width = (round(side * kept) for side in frames[0].shape[:2])
    top, left = (int((side - part) * share) for side, part, share in zip(frames[0].shape, (height, width), (0.37, 0.61), strict=False))
    return [frame[top : top + height, left : left + width] for frame in frames]


def at_rate(frames: Frames, fps: int, source_fps: int = 25) -> Frames:
    """Frames dropped to a lower rate."""
    return [frames[round(index * source_fps / fps)] for index in range(len(frames) * fps // source_fps)]


def middle_third(frames: Frames) -> Frames:
    """A cut in time."""
    return frames[len(frames) // 3 : 2 * len(frames) // 3]


def brightened(frames: Frames, gain: float = 1.2) -> Frames:
    """Every value times ``gain``."""
    return [np.clip(frame * gain, 0, 255).astype(np.uint8) for frame in frames]


def greyed(frames: Frames) -> Frames:
    """Without colour."""
    return [np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2) for frame in frames]


def pillarboxed(frames: Frames) -> Frames:
    """In the middle of a 16:9 picture, black at both sides."""
    height, width = frames[0].shape[:2]
    side = (height * 16 // 9 - width) // 2
    return [np.pad(frame, ((0, 0), (side, side), (0, 0))) for frame in frames]


def on_a_phone(frames: Frames) -> Frames:
    """Across a 9:16 picture of 540 x 960, an enlarged and blurred copy above and below."""
    shown = []
    for frame in frames:
        height = round(540 * frame.shape[0] / frame.shape[1])
        canvas = cv2.GaussianBlur(cv2.resize(frame[:, frame.shape[1] // 4 : -frame.shape[1] // 4], (540, 960)), (0, 0), 20)
        top = (960 - height) // 2
        canvas[top : top + height] = cv2.resize(frame, (540, height), interpolation=cv2.INTER_CUBIC)
        shown.append(canvas)
    return shown


def as_gif(frames: Frames, every: int = 2) -> Frames:
    """Every second frame, in 256 colours."""
    from PIL import Image

    file = io.BytesIO()
    pictures = [Image.fromarray(frame).quantize(256) for frame in frames[::every]]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=80, loop=0)
    shown = []
    with Image.open(file) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            shown.append(np.asarray(image.convert("RGB")))
    return shown


def psnr_db(frames: Frames, others: Frames) -> float:
    """Peak signal-to-noise ratio over all frames."""
    error = np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(frames, others, strict=True)])
    return float(10 * np.log10(255**2 / error))


def swaying(photograph: NDArray[np.uint8], count: int = 25) -> Frames:
    """A second of one photograph [512, 512, 3] that sways and breathes, as a talking portrait does."""
    frames = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        matrix = cv2.getRotationMatrix2D((256, 300), 2 * np.sin(angle), 1.1 + 0.02 * np.cos(angle))
        frames.append(cv2.warpAffine(photograph, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT))
    return frames
