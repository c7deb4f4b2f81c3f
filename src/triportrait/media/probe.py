"""What a file is, from its header."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from triportrait.files import check_readable
from triportrait.media.audio import AudioReader
from triportrait.media.containers import open_container, video_stream
from triportrait.media.images import image_size, looks_like_image
from triportrait.media.video import VideoReader


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Facts about a media file.

    Args:
        kind: what it is; a sound file with a cover picture is ``"audio"``.
        seconds: length as the header announces it; 0 for pictures and when unknown.
        fps: average frame rate; 0 for pictures and sound.
        size: (width, height) in pixels as shown, None for sound.
        has_audio: whether it has a sound track.
    """

    kind: Literal["image", "video", "audio"]
    seconds: float = 0.0
    fps: float = 0.0
    size: tuple[int, int] | None = None
    has_audio: bool = False


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Look at a file without decoding more than its first frame or samples.

    Raises:
        MediaError: missing, unreadable, damaged, or neither picture, video nor sound.
    """
    if looks_like_image(check_readable(path)):
        return MediaInfo("image", size=image_size(path))
    with open_container(path) as container:
        moving = video_stream(container) is not None
    if moving:
        video = VideoReader(path)
        return MediaInfo("video", video.seconds, video.fps, video.size, video.has_audio)
    return MediaInfo("audio", AudioReader.open(path).seconds, has_audio=True)
