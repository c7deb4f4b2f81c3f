"""Sound from every container: right samples, right time, bounded memory."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from triportrait.errors import EmptyMedia, MediaError
from triportrait.media.audio import AudioReader, Hearing, read_audio, stream_audio, stream_voice

RATE = 44_100


def voice(seconds: float, rate: int = RATE) -> np.ndarray:
    """A chirp from 100 to 3,000 Hz: float32 [n]."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.6 * np.sin(2 * np.pi * (100 * t + 0.5 * 2_900 / seconds * t**2))).astype(np.float32)


def encode(path: Path, samples: np.ndarray, codec: str, rate: int, layout: str = "mono", **options: int) -> None:
    """Write float32 [n] or [n, c] with one of FFmpeg's encoders."""
    samples = samples.reshape(len(samples), -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), options.get("start", 0)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_of_every_depth(tmp_path: Path, subtype: str) -> None:
    samples = voice(0.5, 16_000)
    soundfile.write(tmp_path / "声音 ä.wav", samples, 16_000, subtype=subtype)
    waveform = read_audio(tmp_path / "声音 ä.wav", 16_000)
    assert waveform.samples.dtype == np.float32
    np.testing.assert_allclose(waveform.samples, samples, atol=0.5 / 64 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", "flac", RATE),
        ("a.mp3", "mp3", RATE),
        ("a.m4a", "aac", RATE),
        ("a.ogg", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.aac", "aac", RATE),
        ("a.mkv", "aac", RATE),
    ],
)
def test_every_container_gives_the_same_sound_at_the_same_time(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    samples = voice(2.0, rate)
    encode(tmp_path / name, samples, codec, rate)
    got = read_audio(tmp_path / name, 16_000).samples
    # Raw AAC has no room for its encoder delay: there the sound comes one frame of 1024 samples late.
    expected = soxr.resample(np.pad(samples, (1024 if name == "a.aac" else 0, 0)), rate, 16_000)
    assert abs(len(got) - len(expected)) <= 0.05 * 16_000
    overlap = min(len(expected), len(got)) - 1_600
    assert np.corrcoef(got[:overlap], expected[:overlap])[0, 1] > 0.98


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_streamed_is_whole(tmp_path: Path, rate: int) -> None:
    samples = voice(3.3, rate)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    whole = soxr.resample(samples, rate, 16_000)
    for block_seconds in (0.04, 0.333, 10.0):
        blocks = list(stream_audio(tmp_path / "a.wav", 16_000, block_seconds))
        assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * 16_000)}
        joined = np.concatenate(blocks)
        assert len(joined) == len(whole)
        np.testing.assert_allclose(joined, whole, atol=1e-4)


def test_channels_are_mixed_down(tmp_path: Path) -> None:
    left, right = voice(0.5, 16_000), np.zeros(8_000, np.float32)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "two.wav").samples, left / 2, atol=1e-5)
    both = np.concatenate(list(AudioReader.open(tmp_path / "two.wav").blocks(16_000, channels=2)))
    np.testing.assert_allclose(both, np.stack([left, right], 1), atol=1e-5)
    surround = np.zeros((8_000, 6), np.float32)
    surround[:, 2] = left  # speech stands in the centre of 5.1
    encode(tmp_path / "six.mkv", surround, "flac", 16_000, "5.1")
    mono = read_audio(tmp_path / "six.mkv").samples
    assert np.corrcoef(mono, left)[0, 1] > 0.999 and np.abs(mono).max() > 0.25 * np.abs(left).max()


def test_numbers_outside_the_range_are_tamed(tmp_path: Path) -> None:
    samples = np.array([0.0, 5.0, -5.0, np.nan, np.inf, 0.25] * 1_000, np.float32)
    soundfile.write(tmp_path / "wild.wav", samples, 16_000, subtype="FLOAT")
    got = read_audio(tmp_path / "wild.wav", 16_000).samples
    assert np.isfinite(got).all() and np.abs(got).max() <= 1.0


def test_a_hole_in_the_time_stamps_is_silence(tmp_path: Path) -> None:
    """Browser recordings leave out packets while nobody speaks."""
    click = voice(0.5, 48_000)
    with av.open(str(tmp_path / "hole.mkv"), "w") as container:
        stream = container.add_stream("flac", rate=48_000, layout="mono")
        for start in (0, 96_000):
            frame = av.AudioFrame.from_ndarray((click[None] * 32_767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), start
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None)) if start else None
    waveform = read_audio(tmp_path / "hole.mkv", 16_000)
    assert abs(waveform.seconds - 2.5) < 0.15
    assert np.abs(waveform.samples[10_000:30_000]).max() < 1e-3 < np.abs(waveform.samples[34_000:]).max()


def test_no_sound_is_one_sentence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(EmptyMedia, match="0 s"):
        read_audio(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("RIFF? no." * 50)
    soundfile.write(tmp_path / "cut.flac", voice(1.0), RATE)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:60])
    (tmp_path / "folder.wav").mkdir()
    for name in ("text.wav", "cut.flac", "folder.wav", "missing.wav"):
        with pytest.raises(MediaError) as caught:
            stream_audio(tmp_path / name)  # before the first block is asked for
        assert str(caught.value).endswith(".") and name in str(caught.value)


MEASURE = """
import resource, sys
from triportrait.media.audio import stream_audio
count = sum(len(block) for block in stream_audio(sys.argv[1], 16_000, 1.0))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peak_kib = {}
    for seconds in (20, 600):
        path = tmp_path / f"{seconds}.wav"
        with soundfile.SoundFile(path, "w", 48_000, 1, subtype="PCM_16") as file:
            for _ in range(seconds // 20):
                file.write(voice(20.0, 48_000))
        printed = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
        count, peak_kib[seconds] = map(int, printed.stdout.split())
        assert count == seconds * 16_000
    assert peak_kib[600] - peak_kib[20] <= 60 * 1024


@pytest.mark.parametrize("rate", [1, 100, 3_999, 800_000])
def test_impossible_sample_rates_are_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", voice(0.1), rate)
    with pytest.raises(MediaError, match="samples per second, which no recording has"):
        AudioReader.open(tmp_path / "a.wav")


@pytest.mark.parametrize("format", ["AIFF", "CAF", "W64", "AU"])
def test_formats_of_recorders(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format.lower()}"
    soundfile.write(path, voice(0.5, 16_000), 16_000, format=format, subtype="PCM_16")
    assert np.abs(read_audio(path).samples - voice(0.5, 16_000)).max() < 1e-4


def speech(seconds: float = 3.0, rate: int = 16_000) -> np.ndarray:
    """Syllables of a buzz with silence between them: float32 [n]."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sign(np.sin(2 * np.pi * 130 * t)) * np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)).astype(np.float32)


def heard(path: Path, samples: np.ndarray, subtype: str = "FLOAT") -> tuple[Hearing, np.ndarray]:
    soundfile.write(path, samples, 16_000, subtype=subtype)
    return AudioReader.open(path).hearing(), np.concatenate(list(stream_voice(path)))


@pytest.mark.parametrize("balance", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 0.3)])
def test_ordinary_sound_is_heard_as_it_is_mixed(tmp_path: Path, balance: tuple[float, float]) -> None:
    hearing, samples = heard(tmp_path / "a.wav", speech()[:, None] * balance)
    assert hearing == Hearing()
    np.testing.assert_array_equal(samples, read_audio(tmp_path / "a.wav").samples)


@pytest.mark.parametrize("balance", [(1.0, -1.0), (0.5, -0.6), (-0.7, 1.0)])
def test_channels_that_cancel_each_other_are_heard(tmp_path: Path, balance: tuple[float, float]) -> None:
    hearing, samples = heard(tmp_path / "a.wav", speech()[:, None] * balance)
    loudest = int(np.argmax(np.abs(balance)))
    assert hearing == Hearing(loudest)
    np.testing.assert_allclose(samples, speech() * balance[loudest], atol=1e-6)


@pytest.mark.parametrize(("level_db", "subtype"), [(-50, "PCM_16"), (-60, "PCM_24"), (-65, "FLOAT")])
def test_a_quiet_voice_is_raised_for_analysis(tmp_path: Path, level_db: float, subtype: str) -> None:
    quiet = speech() * np.float32(10 ** (level_db / 20))
    hearing, samples = heard(tmp_path / "a.wav", np.concatenate([np.zeros(32_000, np.float32), quiet]), subtype)
    assert hearing.channel is None and hearing.gain > 10
    assert 0.05 < np.sqrt(np.mean(samples[32_000:] ** 2)) < 0.3
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples[32_000:], quiet, atol=2**-15)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_hardly_any_voice_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, noise: float) -> None:
    hearing, _ = heard(tmp_path / "a.wav", noise * np.random.default_rng(0).standard_normal(48_000))
    assert hearing == Hearing() and "hardly any voice was found" in caplog.text
