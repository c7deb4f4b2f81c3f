"""Videos in pieces: an interrupted one goes on, each frame is drawn once, and the result is the uninterrupted one's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

import triportrait.performance
from triportrait.background import Background
from triportrait.media.video import VideoReader
from triportrait.motion.options import DriveOptions
from triportrait.performance import PIECES_SUFFIX, Performance
from triportrait.pipeline import Portrait
from triportrait.provenance.marks import Marks

EXAMPLES = Path(__file__).parents[1] / "examples"
PLAIN = Marks(label=True, watermark=True, manifest=False)


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the example speech."""
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    soundfile.write(path, samples[: 2 * rate_hz], rate_hz)
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Counter[float]:
    """How often each row was drawn, by its jaw and turn."""
    monkeypatch.setattr(triportrait.performance, "PIECE_FRAMES", 10)
    seen: Counter[float] = Counter()
    draw = Performance._pictures

    def counted(self: Performance, rows, scenes):
        def told():
            for row in rows:
                seen[float(np.sum(row.expression, dtype=np.float64) + np.sum(row.rotation_rad, dtype=np.float64))] += 1
                yield row

        return draw(self, told(), scenes)

    monkeypatch.setattr(Performance, "_pictures", counted)
    return seen


def frames_of(video: Path) -> list[np.ndarray]:
    with VideoReader(video) as reader:
        return [frame for _, frame in reader.frames(None)]


class Broken(Exception):
    pass


def broken_after(count: int):
    def progress(what: str, done: int, total: int) -> None:
        if done == count:
            raise Broken

    return progress


@pytest.mark.parametrize("scene", [None, "clip"])
def test_an_interrupted_video_goes_on_and_is_the_uninterrupted_one(
    talking_portrait: Portrait, sentence: Path, clip: Path, tmp_path: Path, drawn: Counter[float], scene: str | None
) -> None:
    performance = talking_portrait.talk(sentence, DriveOptions(seed=4))
    background = None if scene is None else Background(str(clip))
    whole = performance.save(tmp_path / "whole.mp4", marks=PLAIN, resume=True, background=background)
    drawn.clear()
    video = tmp_path / "video.mp4"
    for count in (25, 43):
        with pytest.raises(Broken):
            performance.save(video, marks=PLAIN, resume=True, background=background, progress=broken_after(count))
        assert not video.exists()
    told: list[int] = []
    performance.save(video, marks=PLAIN, resume=True, background=background, progress=lambda what, done, total: told.append(done))
    assert video.read_bytes() == whole.read_bytes()
    assert told[:4] == [10, 20, 30, 40] and told[-1] == performance.frame_count == len(frames_of(video))
    # Pieces that were whole were not drawn again; the piece that was cut off was, and the first row tells the portrait each time.
    first = next(iter(drawn))
    assert drawn.total() <= 3 + 50 + 2 * 10 and drawn[first] == 1 + 3
    assert list(drawn.values()).count(1) >= 25
    assert not (tmp_path / f"video.mp4{PIECES_SUFFIX}").exists()


def test_pieces_join_to_what_is_written_at_once(talking_portrait: Portrait, sentence: Path, tmp_path: Path, drawn: Counter[float]) -> None:
    performance = talking_portrait.talk(sentence)
    unmarked = Marks(label=False, watermark=False, manifest=False)
    at_once = performance.save(tmp_path / "once.mp4", marks=unmarked)
    joined = performance.save(tmp_path / "joined.mp4", marks=unmarked, resume=True)
    with VideoReader(at_once) as one, VideoReader(joined) as other:
        assert (one.frame_count, one.fps, one.size, one.has_audio) == (other.frame_count, other.fps, other.size, other.has_audio)
        assert abs(one.seconds - other.seconds) < 0.001
    # Both are as near to what was drawn; their key frames lie in other places.
    drawn_frames = [frame.image.astype(int) for frame in performance]
    near, also = (
        np.mean([np.abs(a - b).mean() for a, b in zip(drawn_frames, frames_of(video), strict=True)]) for video in (at_once, joined)
    )
    assert also < 1.15 * near and len(drawn_frames) == performance.frame_count


def test_pieces_of_another_video_are_left_alone(talking_portrait: Portrait, sentence: Path, tmp_path: Path, drawn: Counter[float]) -> None:
    video = tmp_path / "video.mp4"
    with pytest.raises(Broken):
        talking_portrait.talk(sentence, DriveOptions(seed=1)).save(video, marks=PLAIN, resume=True, progress=broken_after(30))
    other = talking_portrait.talk(sentence, DriveOptions(seed=2))
    other.save(video, marks=PLAIN, resume=True)
    assert video.read_bytes() == other.save(tmp_path / "other.mp4", marks=PLAIN, resume=True).read_bytes()
    # So are those with other marks, and a piece that somebody has cut off.
    with pytest.raises(Broken):
        other.save(video, marks=PLAIN, resume=True, progress=broken_after(30))
    piece = sorted((tmp_path / f"video.mp4{PIECES_SUFFIX}").glob("*.mp4"))[1]
    piece.write_bytes(piece.read_bytes()[:3000])
    plain = Marks(label=False, watermark=True, manifest=False)
    assert other.save(video, marks=plain, resume=True).read_bytes() != (tmp_path / "other.mp4").read_bytes()
    with pytest.raises(Broken):
        other.save(video, marks=PLAIN, resume=True, progress=broken_after(30))
    other.save(video, marks=PLAIN, resume=True)
    assert video.read_bytes() == (tmp_path / "other.mp4").read_bytes()


def rgba_of(video: Path) -> np.ndarray:
    """Frames with alpha, by the decoders that know it, and the seconds of sound."""
    if video.suffix == ".zip":
        from PIL import Image

        with zipfile.ZipFile(video) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".png"))
            return np.stack([np.asarray(Image.open(archive.open(name))) for name in names])
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9" if video.suffix == ".webm" else "prores", "r")
        if stream.codec_context.extradata:
            decoder.extradata = stream.codec_context.extradata
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet if packet.size else None)]
        return np.stack([frame.to_ndarray(format="rgba") for frame in frames])


@pytest.mark.parametrize("kind", ["webm", "mov", "zip"])
def test_a_transparent_video_goes_on_with_its_alpha(
    talking_portrait: Portrait, sentence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(triportrait.performance, "PIECE_FRAMES", 10)
    performance, clear = talking_portrait.talk(sentence), Background("transparent")
    model, seen = type(talking_portrait.model), []
    cut_out = model.cut_out
    monkeypatch.setattr(model, "cut_out", lambda self, state, row: seen.append(row) or cut_out(self, state, row))
    whole = performance.save(tmp_path / f"whole.{kind}", background=clear, marks=PLAIN, resume=True)
    count = len(seen)
    seen.clear()
    video = tmp_path / f"video.{kind}"
    for done in (15, 33):
        with pytest.raises(Broken):
            performance.save(video, background=clear, marks=PLAIN, resume=True, progress=broken_after(done))
        assert not video.exists()
    performance.save(video, background=clear, marks=PLAIN, resume=True)
    assert video.read_bytes() == whole.read_bytes() and not (tmp_path / f"video.{kind}{PIECES_SUFFIX}").exists()
    # Only the pieces that were cut off were drawn again.
    assert count == 50 and len(seen) <= count + 2 * 15
    # What is joined is what is written at once: pictures, alpha, time and sound.
    at_once = performance.save(tmp_path / f"once.{kind}", background=clear, marks=PLAIN)
    joined, direct = rgba_of(video).astype(int), rgba_of(at_once).astype(int)
    assert joined.shape == direct.shape and direct[..., 3].min() == 0 and direct[..., 3].max() > 240
    assert np.abs(joined[..., 3] - direct[..., 3]).mean() < 0.5
    solid = direct[..., 3] > 250
    assert np.abs(joined - direct)[solid].mean() < 1.5
    if kind == "zip":
        with zipfile.ZipFile(video) as one, zipfile.ZipFile(at_once) as other:
            assert one.namelist() == other.namelist() and one.read("sound.wav") == other.read("sound.wav")
    else:
        with VideoReader(video) as one, VideoReader(at_once) as other:
            assert (one.fps, one.size, one.has_audio) == (other.fps, other.size, other.has_audio)
            assert abs(one.seconds - other.seconds) < 0.041


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_the_command_goes_on_after_kill_9(tmp_path: Path) -> None:
    """A whole run is killed once its first piece is there; the next one keeps that piece."""
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    voice, video = tmp_path / "voice.wav", tmp_path / "out.mp4"
    soundfile.write(voice, np.tile(samples, 2)[: 12 * rate_hz], rate_hz)
    options = ["--quality", "draft", "--resume", "--threads", "1", "--no-manifest"]
    command = [sys.executable, "-m", "triportrait", "animate", str(EXAMPLES / "portrait.png"), str(voice), "-o", str(video), *options]
    folder = tmp_path / f"out.mp4{PIECES_SUFFIX}"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120.0
    while time.monotonic() < until and process.poll() is None and not list(folder.glob("[0-9]*.mp4")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("[0-9]*.mp4")}
    assert kept and not video.exists()
    copies = {path: path.read_bytes() for path in kept}
    again = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while again.poll() is None:
        for path, moment in kept.items():
            # Until the end the pieces lie there untouched.
            if path.exists():
                assert path.stat().st_mtime_ns == moment and path.read_bytes() == copies[path]
        time.sleep(0.05)
    assert again.returncode == 0 and not folder.exists()
    with VideoReader(video) as reader:
        assert reader.frame_count == 300 and len(list(reader.frames(None))) == 300
