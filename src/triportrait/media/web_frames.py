"""Sound and pictures as PyAV's frames, which WebRTC sends and receives."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np

from triportrait.errors import MediaError
from triportrait.media.images import picture_from_bytes

#: The clock of pictures in RTP (RFC 6184, RFC 7741).
_CLOCK_HZ = 90_000


def sound_frame(pcm: bytes, rate_hz: int, first: int) -> Any:
    """PCM of 16 bit, mono, whose first sample has the number ``first``, as an audio frame."""
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2")[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, first, Fraction(1, rate_hz)
    return frame


def picture_frame(jpeg: bytes, pts_us: int) -> Any:
    """A JPEG as a video frame.

    Raises:
        MediaError: it is none.
    """
    frame = av.VideoFrame.from_ndarray(picture_from_bytes(jpeg, "the picture"), format="rgb24")
    frame.pts, frame.time_base = pts_us * _CLOCK_HZ // 1_000_000, Fraction(1, _CLOCK_HZ)
    return frame


class Listener:
    """Turns the frames of a microphone into PCM.

    Args:
        rate_hz: of what comes out.
    """

    def __init__(self, rate_hz: int) -> None:
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)

    def pcm(self, frame: Any) -> bytes:
        """PCM of 16 bit, mono.

        Raises:
            MediaError: a frame of another kind than those before, or none of sound.
        """
        try:
            return b"".join(part.to_ndarray().astype("<i2").tobytes() for part in self._resampler.resample(frame))
        except (av.FFmpegError, ValueError, TypeError) as error:
            raise MediaError(f"the sound cannot be read: {error}; send it in one format") from error
