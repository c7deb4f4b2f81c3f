"""A portrait as one HTML file: the head, its voice, and a viewer. It opens by a double click and asks nothing of any server."""

from __future__ import annotations

import base64
import html
import io
import json
import wave
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from triportrait.drivers import motion_of_audio
from triportrait.errors import OptionError
from triportrait.export.glb import glb_of
from triportrait.face.open_head import OpenHead
from triportrait.files import atomic_file
from triportrait.media.audio import read_audio
from triportrait.motion.timing import join_motion
from triportrait.types import Motion, PathLike, PreparedPortrait, Waveform

#: The voice in the page: samples per second, mono; and how long it may be.
RATE_HZ, LONGEST_S = 24_000, 600.0
_TITLE = "Talking portrait"


@dataclass(frozen=True, slots=True)
class Speech:
    """What the portrait says: the sound, and how the head moves with it."""

    sound: Waveform
    motion: Motion

    @staticmethod
    def of(voice: PathLike) -> Speech:
        """A recording and the motion that the voice driver makes of it.

        Raises:
            OptionError: it is longer than a page can hold.
            MediaError: it cannot be read.
        """
        sound = read_audio(voice, RATE_HZ)
        if sound.seconds > LONGEST_S:
            length = f"'{voice}' lasts {sound.seconds:.0f} s and a page holds {LONGEST_S:.0f} s"
            raise OptionError(f"{length}; cut it, or make a video with 'triportrait animate'")
        return Speech(sound, join_motion(motion_of_audio(voice)))


def write_page(portrait: PreparedPortrait, path: PathLike, voice: PathLike | None = None, head: OpenHead | None = None) -> Path:
    """Write a portrait as an HTML file; it appears whole or not at all.

    Args:
        voice: a recording that the page plays.

    Raises:
        OutputError: the target cannot be written, or the portrait does not fit.
        OptionError, MediaError: the voice is too long or cannot be read.
    """
    speech = None if voice is None else Speech.of(voice)
    text = page_of(glb_of(portrait, head), speech)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def page_of(glb: bytes, speech: Speech | None, title: str = _TITLE) -> str:
    """The page around a head, the bytes of a GLB file."""
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _own("viewer.css"),
        "AVATAR": _base64(glb),
        "SOUND": "" if speech is None else _base64(_wav(speech.sound)),
        "SOUND_TYPE": "" if speech is None else "audio/wav",
        "MOTION": "null" if speech is None else json.dumps(curves_of(speech.motion)),
        "VIEWER": _own("viewer.js"),
        "PAGE": _own("page.js"),
    }
    # Piece by piece, so that no part is searched for the name of another one.
    pieces = _own("viewer.html").split("%")
    return "".join(parts[piece] if odd % 2 and piece in parts else piece for odd, piece in enumerate(pieces))


def curves_of(motion: Motion) -> dict[str, object]:
    """Motion as the page wants it.

    Curves are bytes, 255 is 1. Poses are 16 bits, 32767 is half a turn: pitch, yaw and roll of the head, pitch and yaw of the gaze.
    """
    values = np.clip(np.round(255.0 * motion.expression), 0, 255).astype(np.uint8)
    poses = np.concatenate([motion.rotation_rad, motion.gaze_rad], axis=1) / np.pi
    return {
        "fps": motion.fps,
        "frames": len(values),
        "curves": list(motion.expression_names),
        "values": _base64(values.tobytes()),
        "poses": _base64(np.clip(np.round(32767.0 * poses), -32767, 32767).astype("<i2").tobytes()),
    }


def _wav(sound: Waveform) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate_hz)
        file.writeframes(np.clip(np.round(32767.0 * sound.samples), -32768, 32767).astype("<i2").tobytes())
    return stream.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _own(name: str) -> str:
    return files("triportrait.export").joinpath("web", name).read_text(encoding="utf-8")
