"""Twelve clips of voice-driven portraits as contact sheets at 5 fps with the waveform beneath, for docs/voice_gallery.md.

    python scripts/make_voice_gallery.py [--data ../shared/data] [--out docs] [--only 1 5]

The portraits are our own renderings, or AI-generated and CC0; the voices are our own synthesis, public domain or CC0. Only small
renderings are written, no sound.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

from triportrait import pipeline
from triportrait.media.audio import read_audio
from triportrait.motion import options as motion_options
from triportrait.motion.sync_expert import sync_score
from triportrait.types import Waveform

Array = np.ndarray
FRAMES, CELL_PX, WAVE_PX, TEXT_PX = 25, 96, 34, 18
SECONDS = FRAMES / 5


@dataclass(frozen=True)
class Clip:
    """A portrait, a voice (or a made-up sound), and options."""

    photo: str
    voice: str
    options: dict = field(default_factory=dict)
    start_s: float = 0.0


def emotional(photo: str, voice: str, emotion: str) -> Clip:
    return Clip(photo, voice, {"emotion": emotion, "emotion_strength": 0.9})


LIVELY = {"head_motion": 1.5, "expressiveness": 1.5, "mouth_gain": 1.3}
CALM = {"head_motion": 0.3, "temperature": 0.3, "expressiveness": 0.5}
CLIPS = (
    Clip("examples/portrait.png", "examples/speech.wav"),
    Clip("examples/portrait2.png", "speech/ljspeech/LJ001-0073.flac"),
    Clip("portraits/cc0/female_47.jpg", "speech/cc0_multilingual/pl_PL_gosia.mp3"),
    Clip("portraits/cc0/male_28.jpg", "speech/cc0_multilingual/pt_BR_faber.mp3"),
    emotional("portraits/cc0/female_83.jpg", "speech/cc0_multilingual/hu_HU_anna.mp3", "happy"),
    emotional("portraits/cc0/male_91.jpg", "speech/cc0_multilingual/nl_NL_ronnie.mp3", "angry"),
    emotional("portraits/cc0/female_96.jpg", "speech/cc0_multilingual/it_IT_paola.mp3", "sad"),
    emotional("portraits/cc0/male_32.jpg", "speech/cc0_multilingual/ru_RU_denis.mp3", "surprised"),
    Clip("examples/portrait.png", "silence"),
    Clip("examples/portrait2.png", "noise"),
    Clip("portraits/cc0/female_47.jpg", "speech/cc0_multilingual/sk_SK_lili.mp3", LIVELY),
    Clip("portraits/cc0/male_28.jpg", "speech/cc0_multilingual/en_US_joe.mp3", CALM),
)


def sound_file(voice: str, data: Path, folder: Path) -> Path:
    """The recording, or six made-up seconds."""
    if voice in ("silence", "noise"):
        path = folder / f"{voice}.wav"
        loudness = {"silence": 0.0, "noise": 0.03}[voice]
        soundfile.write(path, loudness * np.random.default_rng(0).standard_normal(6 * 16000), 16000)
        return path
    return Path(voice) if voice.startswith("examples/") else data / voice


def waveform(samples: Array, width: int) -> Array:
    """A strip uint8 [h, width, 3] of the sound's envelope."""
    picture = np.full((WAVE_PX, width, 3), 24, np.uint8)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    peak = np.array([np.abs(samples[a:b]).max(initial=0.0) for a, b in zip(edges[:-1], edges[1:], strict=True)])
    height = np.round(peak / max(float(peak.max(initial=0.0)), 0.05) * (WAVE_PX / 2 - 2)).astype(int)
    for x, reach in enumerate(height):
        picture[WAVE_PX // 2 - reach : WAVE_PX // 2 + reach + 1, x] = (110, 190, 255)
    return picture


def face_cut(image: Array, landmarks: Array) -> tuple[slice, slice]:
    """Rows and columns of a square around the face with some room for its movements."""
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    side = min(int(1.3 * float((high - low).max())), min(image.shape[:2]))
    centre = (low + high) / 2
    corner = np.clip(np.round(centre - side / 2), 0, np.array(image.shape[1::-1]) - side).astype(int)
    return slice(corner[1], corner[1] + side), slice(corner[0], corner[0] + side)


def strip(number: int, clip: Clip, data: Path, seed: int) -> Array:
    """One clip's row: label, frames, waveform."""
    photo = Path(clip.photo) if clip.photo.startswith("examples/") else data / clip.photo
    with tempfile.TemporaryDirectory() as folder:
        sound = sound_file(clip.voice, data, Path(folder))
        portrait = pipeline.Portrait.from_image(photo)
        motion = portrait.talk(sound, motion_options.DriveOptions(seed=seed, **clip.options)).motion()
        samples = read_audio(sound, 16000).samples
    cut = face_cut(portrait.prepared.image, portrait.prepared.landmarks)
    cells = []
    for index in range(FRAMES):
        row = round(index * motion.fps / 5)
        if row < len(motion):
            image = portrait.model.step(portrait.state, motion[row])[0][cut]
            cells.append(np.asarray(Image.fromarray(image).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)))
        else:
            cells.append(np.full((CELL_PX, CELL_PX, 3), 24, np.uint8))
    shown = np.zeros(int(SECONDS * 16000), np.float32)
    shown[: len(samples)] = samples[: len(shown)]
    frames = np.concatenate(cells, axis=1)
    words = f"{number}  {Path(clip.photo).stem} + {Path(clip.voice).stem}  " + ", ".join(f"{k} {v}" for k, v in clip.options.items())
    if np.abs(samples).max() > 0.05 and clip.voice != "noise":
        score = sync_score(motion, Waveform(samples, 16000))
        words += f"   (sync {score.similarity:.2f}, lag {score.lag_frames:+d} frames)"
    head = Image.new("RGB", (frames.shape[1], TEXT_PX), (24, 24, 24))
    ImageDraw.Draw(head).text((4, 3), words, fill=(235, 235, 235), font=ImageFont.load_default(12))
    return np.concatenate([np.asarray(head), frames, waveform(shown, frames.shape[1])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--only", type=int, nargs="*", default=[1, 2, 3], help="which of the three sheets")
    options = parser.parse_args()
    for sheet in options.only:
        numbers = range(4 * (sheet - 1), 4 * sheet)
        rows = [strip(number + 1, CLIPS[number], options.data, number) for number in numbers]
        Image.fromarray(np.concatenate(rows)).save(options.out / f"voice_gallery_{sheet}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
