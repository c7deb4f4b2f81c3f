"""Pictures with alpha: what is written is read back by other decoders, with its sound."""

from __future__ import annotations

import io
import wave
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from triportrait.errors import EmptyMedia, OptionError, OutputError
from triportrait.media.audio import read_audio
from triportrait.media.transparent import TransparentWriter, check_transparent_output
from triportrait.types import Waveform

SIZE = (63, 48)
SOUND = Waveform((0.4 * np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000)).astype(np.float32), 16_000)


def picture(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and a disc of alpha that moves."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    image = np.stack([2 * x + 60, 3 * y + 60, 128 + 0 * x], axis=2).astype(np.uint8)
    away = np.hypot(x - 20 - index, y - 24)
    return image, np.clip((18 - away) * 40 + 128, 0, 255).astype(np.uint8)


def write(path: Path, count: int = 10, **more) -> None:
    with TransparentWriter(path, SIZE, 25.0, **more) as writer:
        for index in range(count):
            writer.write(*picture(index))


def read(path: Path) -> list[np.ndarray]:
    """RGBA frames, by the decoder that knows alpha."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            return [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if path.suffix != ".webm":
            return [frame.to_ndarray(format="rgba") for frame in container.decode(stream)]
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        return [frame.to_ndarray(format="rgba") for packet in container.demux(stream) for frame in decoder.decode(packet)]


@pytest.mark.parametrize(("name", "colour", "opacity"), [("a.webm", 12, 12), ("a.mov", 4, 2), ("a.zip", 0, 0)])
def test_colours_alpha_and_sound_come_back(name: str, colour: int, opacity: int, tmp_path: Path) -> None:
    write(tmp_path / name, audio=SOUND, crf=18)
    frames = read(tmp_path / name)
    assert len(frames) == 10
    for index, frame in enumerate(frames):
        image, alpha = picture(index)
        seen = frame[: SIZE[1], : SIZE[0]]
        assert np.abs(seen[..., 3].astype(int) - alpha).mean() <= opacity
        assert np.abs(seen[..., :3].astype(int) - image)[alpha > 250].max() <= colour + 8 * (colour > 0)
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name) as archive, wave.open(io.BytesIO(archive.read("sound.wav"))) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32767.0
            assert sound.getframerate() == 16_000
    else:
        samples = read_audio(tmp_path / name).samples
    # Sound has the length of the pictures, up to a packet of the codec.
    assert abs(len(samples) - 6400) <= 16_000 * 0.03
    assert abs(np.abs(samples[1000:5000]).max() - 0.4) < 0.05


def test_a_film_that_fails_leaves_nothing(tmp_path: Path) -> None:
    for name in ("a.webm", "a.zip"):
        with pytest.raises(RuntimeError), TransparentWriter(tmp_path / name, SIZE) as writer:
            writer.write(*picture(0))
            raise RuntimeError
        with pytest.raises(EmptyMedia), TransparentWriter(tmp_path / name, SIZE):
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "crf", "error", "words"), [
    ("a.mp4", 18, OutputError, "cannot be transparent"),
    ("a.gif", 18, OutputError, "name it .webm"),
    ("a.mov", 20, OptionError, "leave it out"),
    ("a.webm", 60, OptionError, "0 to 51"),
    ("nowhere/a.zip", 18, OutputError, "no folder"),
])  # fmt: skip
def test_what_cannot_be_written_is_known_before(name: str, crf: int, error: type, words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        check_transparent_output(tmp_path / name, crf)
