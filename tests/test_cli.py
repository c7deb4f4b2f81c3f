"""The command line as a user meets it: what works, and what each bad input says.

Every refusal is one sentence on standard error that names the thing, exit code 2, no output file and nothing left beside it.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from triportrait import cli
from triportrait.cli import progress
from triportrait.cli.animate import Driver
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.motion.files import save_motion
from triportrait.types import ARKIT_EXPRESSIONS, Motion, Waveform

PROFILE = Path(__file__).parent / "data" / "profile.jpg"


@pytest.fixture(scope="session")
def inputs(astronaut: np.ndarray, voice: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad material."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)

    def picture(name: str, image: np.ndarray) -> None:
        Image.fromarray(image).save(folder / name)

    picture("photo.png", astronaut)
    assert cli.main(["portrait", "save", str(folder / "photo.png"), "--size", "128", "-o", str(folder / "photo.avatar")]) == 0
    small = np.array(Image.fromarray(astronaut).resize((256, 256), Image.Resampling.LANCZOS))
    picture("far.png", small)
    picture("noise.png", rng.integers(0, 255, (300, 300, 3), dtype=np.uint8))
    head = astronaut[:300, 70:370]
    both = np.full((300, 560, 3), 128, np.uint8)
    both[:210, 20:230] = np.array(Image.fromarray(head).resize((210, 210), Image.Resampling.LANCZOS))
    both[:, 250:550] = head
    picture("two.png", both)
    shutil.copy(PROFILE, folder / "profile.jpg")
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:20_000])
    (folder / "text.jpg").write_text("This is not a picture.")
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(png_of(20_000, 20_000))

    shutil.copy(voice, folder / "voice.wav")
    soundfile.write(folder / "nothing.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "silence.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "blip.wav", np.zeros(100), 16_000)
    (folder / "text.wav").write_text("This is not sound.")

    shutil.copy(clip, folder / "clip.mp4")
    (folder / "cut.mp4").write_bytes(clip.read_bytes()[:-5_000] if not faststart(clip) else clip.read_bytes()[:600])
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n")
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    with VideoWriter(folder / "mute.mp4", (256, 256)) as writer:
        for _ in range(5):
            writer.write(small)
    tone = Waveform((0.1 * np.sin(np.arange(8_000))).astype(np.float32), 16_000)
    with VideoWriter(folder / "nobody.mp4", (64, 64), audio=tone) as writer:
        for _ in range(5):
            writer.write(np.full((64, 64, 3), 90, np.uint8))
    with av.open(str(folder / "sound_only.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with av.open(str(folder / "frameless.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()

    np.savez(folder / "other.npz", weights=np.zeros(3))
    (folder / "text.npz").write_text("This is no archive.")
    (folder / "other.csv").write_text("name,age\nAda,36\n")
    (folder / "photo.npz").write_bytes((folder / "photo.png").read_bytes())
    motion = Motion(np.zeros((5, 44), np.float32), *(np.zeros((5, n), np.float32) for n in (3, 3, 2)))
    from triportrait.motion.files import save_motion

    save_motion(motion, folder / "motion.npz")
    save_motion(motion, folder / "motion.csv")
    good = (folder / "motion.npz").read_bytes()
    (folder / "cut.npz").write_bytes(good[: len(good) // 2])
    save_motion(motion.with_rows(head_model="bfm", expression_names=tuple(f"e{i}" for i in range(44))), folder / "bfm.npz")
    with zipfile.ZipFile(folder / "motion.npz") as archive:
        arrays = {name[:-4]: np.load(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    np.savez(folder / "nan.npz", **(arrays | {"rotation_rad": np.full((5, 3), np.nan, np.float32)}))
    np.savez(folder / "short.npz", **(arrays | {"gaze_rad": np.zeros((4, 2), np.float32)}))
    np.savez(folder / "wild.npz", **(arrays | {"expression": np.full((5, 44), 7.0, np.float32)}))
    csv = (folder / "motion.csv").read_text()
    (folder / "words.csv").write_text(csv.replace("0.040000,0,", "0.040000,much,", 1))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    return folder


def png_of(width: int, height: int) -> bytes:
    """A black 1-bit PNG of any size: a bomb of a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def faststart(path: Path) -> bool:
    data = path.read_bytes()
    return data.index(b"moov") < data.index(b"mdat")


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs commands among the inputs; results go to the folder that is returned, as ``$OUT`` in arguments."""
    monkeypatch.chdir(inputs)
    monkeypatch.delenv("TRIPORTRAIT_DEBUG", raising=False)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", float("inf"))  # however slow the machine
    return tmp_path


def run(line: str, out: Path) -> int:
    return cli.main([word.replace("$OUT", str(out)) for word in line.split()])


ANIMATE = "animate photo.png --size 128 --audio voice.wav -o $OUT/o.mp4"
#: The same of a photo that is prepared already, which saves that time.
ANIMATE_SAVED = "animate photo.avatar --audio voice.wav -o $OUT/o.mp4"

#: Command line -> words of the sentence: the thing, then the remedy.
REFUSED = [
    # Photographs.
    (ANIMATE.replace("photo.png", "noise.png"), "noise.png: no face found", "use a photo of a person"),
    (ANIMATE.replace("photo.png", "far.png"), "far.png: the face is only", "use a closer photo"),
    (ANIMATE.replace("photo.png", "profile.jpg"), "profile.jpg: the face is turned away", "less than 60 degrees"),
    (ANIMATE.replace("photo.png", "text.jpg"), "'text.jpg' is not a picture", "save it as JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF"),
    (ANIMATE.replace("photo.png", "clip.mp4"), "'clip.mp4' is not a picture", "save it as JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF"),
    (ANIMATE.replace("photo.png", "cut.png"), "'cut.png' is a damaged or cut-off picture", "copy it again"),
    (ANIMATE.replace("photo.png", "empty.png"), "'empty.png' is an empty file", "copy it again"),
    (ANIMATE.replace("photo.png", "huge.png"), "'huge.png' has more than 66 megapixels", "scale it down"),
    (ANIMATE.replace("photo.png", "missing.png"), "no file 'missing.png'", "check the path"),
    (ANIMATE.replace("photo.png", "folder"), "'folder' is a folder", "name a file in it"),
    (ANIMATE.replace("photo.png", "pipe"), "'pipe' is a pipe or a device", "copy it"),
    (ANIMATE.replace("photo.png", "n" * 300), "nnn' cannot be read: file name too long", ""),
    (ANIMATE.replace("photo.png", "two.png --face 3"), "two.png: there is no face 3; 2 found", "counted from the left"),
    (ANIMATE.replace("photo.png", "two.png --face 0"), "two.png: there is no face 0; 2 found", "counted from the left"),
    (ANIMATE + " --face 2", "photo.png: there is no face 2", "leave the number out"),
    # Voices.
    (ANIMATE.replace("voice.wav", "nothing.wav"), "'nothing.wav' has a sound track of 0 s", "give a file with speech"),
    (ANIMATE.replace("voice.wav", "mute.mp4"), "'mute.mp4' has no sound track", "give a file with speech"),
    (ANIMATE.replace("voice.wav", "text.wav"), "'text.wav' is not audio or video", "convert it"),
    (ANIMATE.replace("voice.wav", "photo.png"), "'photo.png' is not audio or video", "convert it"),
    (ANIMATE.replace("voice.wav", "missing.wav"), "no file 'missing.wav'", "check the path"),
    (ANIMATE.replace("voice.wav", "folder"), "'folder' is a folder", "name a file in it"),
    # Driving videos.
    (ANIMATE.replace("--audio voice.wav", "--driving nobody.mp4"), "'nobody.mp4': no frame of the clip shows a face", "use a clip of"),
    (ANIMATE.replace("--audio voice.wav", "--driving sound_only.mp4"), "'sound_only.mp4' has no pictures", "give a video"),
    (ANIMATE.replace("--audio voice.wav", "--driving frameless.mp4"), "'frameless.mp4' has no pictures", "give a video"),
    (ANIMATE.replace("--audio voice.wav", "--driving cut.mp4"), "'cut.mp4'", "copy it again"),
    (ANIMATE.replace("--audio voice.wav", "--driving playlist.mp4"), "'playlist.mp4' is not audio or video", "convert it"),
    (ANIMATE.replace("--audio voice.wav", "--driving concat.mp4"), "'concat.mp4' is not audio or video", "convert it"),
    (ANIMATE.replace("--audio voice.wav", "--driving voice.wav"), "'voice.wav' has no pictures", "give a video"),
    (ANIMATE.replace("--audio voice.wav", "--driving photo.png"), "'photo.png' is not audio or video", "convert it"),
    (ANIMATE.replace("--audio voice.wav", "--driving missing.mp4"), "no file 'missing.mp4'", "check the path"),
    # Motion files.
    *(
        (ANIMATE.replace("--audio voice.wav", f"--motion {name}"), *words)
        for name, *words in (
            ("other.npz", "other.npz is not a motion file", "triportrait extract"),
            ("text.npz", "text.npz is not a motion file", "triportrait extract"),
            ("cut.npz", "cut.npz is not a motion file", "triportrait extract"),
            ("photo.npz", "photo.npz is not a motion file", "triportrait extract"),
            ("photo.png", "photo.png has no ending of a motion file", "give a .npz or .csv"),
            ("nan.npz", "nan.npz: rotation_rad holds values that are not numbers", "make the file again"),
            ("short.npz", "short.npz is damaged", "make it again"),
            ("wild.npz", "wild.npz: frame 0, browDownLeft is 7", "lie between 0 and 1"),
            ("bfm.npz", "head model 'bfm'", "extract it again"),
            ("other.csv", "other.csv has no column time_s", "keep the heading row"),
            ("words.csv", "words.csv: line 6, column browDownLeft: 'much' is not a number", "correct the cell"),
            ("missing.npz", "no file 'missing.npz'", "check the path"),
            ("n" * 300 + ".npz", "cannot be read", ""),
        )
    ),
    # Outputs.
    (ANIMATE.replace("$OUT/o.mp4", "$OUT/no/o.mp4"), "no/o.mp4' cannot be written: there is no folder", "create it first"),
    (ANIMATE.replace("$OUT/o.mp4", "$OUT/o.avi"), "o.avi' should end in .mp4", "written in that format"),
    (ANIMATE.replace("$OUT/o.mp4", "/proc/o.mp4"), "'/proc/o.mp4' cannot be written", ""),
    (ANIMATE.replace("$OUT/o.mp4", "$OUT/" + "n" * 300 + ".mp4"), "cannot be written: file name too long", ""),
    ("animate photo.png --size 128 --driving clip.mp4 -o clip.mp4", "'clip.mp4' is an input, too", "choose another output"),
    # Settings.
    ("animate photo.png photo.png -o $OUT/o.mp4", "is a picture and cannot drive", "give a voice, a video or a motion file"),
    ("animate photo.png voice.wav --audio voice.wav -o $OUT/o.mp4", "say the same thing twice", "give one of them"),
    ("animate photo.png absent.wav -o $OUT/o.mp4", "There is no file", "check the path"),
    ("animate photo.png -o $OUT/o.mp4", "nothing to drive the portrait with", "give --audio, --driving or --motion"),
    (ANIMATE + " --driving clip.mp4", "--audio and --driving both move the mouth", "use --audio A --pose V"),
    (ANIMATE.replace("--audio voice.wav", "--driving clip.mp4 --motion motion.npz"), "--driving and --motion", "give one of them"),
    (ANIMATE + " --full-frame --background white", "--background and --debug-panel work on the crop", "leave out --full-frame"),
    (ANIMATE + " --full-frame --debug-panel", "--background and --debug-panel work on the crop", "leave out --full-frame"),
    (ANIMATE.replace("128", "100"), "--size is 100", "from 128 to 1024"),
    (ANIMATE.replace("128", "257"), "--size is 257", "use an even number"),
    (ANIMATE.replace("128", "100000"), "--size is 100000", "from 128 to 1024"),
    (ANIMATE.replace("128", "-512"), "--size is -512", "from 128 to 1024"),
    (ANIMATE + " --crf 52", "--crf is 52", "from 0 (lossless) to 51"),
    (ANIMATE + " --crf -1", "--crf is -1", "from 0 (lossless) to 51"),
    *(
        (f"{ANIMATE} --{name} {value}", f"--{name} is {value}", "use a number from 0 to 5")
        for name in ("mouth-gain", "head-motion", "expressiveness")
        for value in ("nan", "inf", "-1", "1000")
    ),
    *(
        (f"{ANIMATE} --blink {value}", f"--blink is '{value}'", "natural, none, driving or a number")
        for value in ("often", "nan", "-3", "1e9")
    ),
    (ANIMATE + " --seed -1", "--seed is -1", "use 0 or a positive whole number"),
    (ANIMATE + " --avatar clay", "no avatar 'clay'", "available: dual_field, lifted"),
    (ANIMATE + " --pose stil", "--pose is 'stil'", "driving, still, natural, or a video or motion file"),
    (ANIMATE + " --driver-face 1", "--driver-face chooses a person in a video", "leave it out"),
    ("animate photo.png --driving clip.mp4 --driver-face 0 -o $OUT/o.mp4", "--driver-face is 0", "counted from the left"),
    ("extract clip.mp4 --driver-face 2 -o $OUT/o.npz", "there is no face 2", "leave the number out"),
    (ANIMATE + " --head-motion half", "--head-motion is 'half'", "a number, a video or motion file"),
    (ANIMATE + " --emotion sad --emotion-strength 2", "--emotion-strength is 2", "from 0 to 1"),
    (ANIMATE + " --style unheard.mp4", "--style is 'unheard.mp4'", "a video or motion file"),
    (ANIMATE + " --controls other.npz", "other.npz holds no controls", "make it with"),
    (ANIMATE + " --pose voice.wav", "'voice.wav' has no pictures", "give a video"),
    (ANIMATE + " --pose other.npz", "other.npz is not a motion file", "triportrait extract"),
    (ANIMATE + " --background purplish", "--background is 'purplish', neither a colour nor a file", "#rrggbb"),
    (ANIMATE + " --background #12345", "--background is '#12345', neither a colour nor a file", "#rrggbb"),
    (ANIMATE + " --background voice.wav", "voice.wav: a background is a colour", "a picture or a video"),
    (ANIMATE + " --background text.jpg", "'text.jpg' is not", "convert it"),
    (ANIMATE + " --consent yes --no-manifest", "--consent stands in the signed statement", "leave out --no-manifest"),
    (ANIMATE + " --maker Ada --no-watermark --no-manifest", "--maker stands in the watermark", "leave one of them on"),
    # The other commands.
    ("extract nobody.mp4 -o $OUT/m.npz", "'nobody.mp4': no frame of the clip shows a face", "use a clip of one person"),
    ("extract missing.mp4 -o $OUT/m.npz", "no file 'missing.mp4'", "check the path"),
    ("extract clip.mp4 -o $OUT/m.txt", "m.txt' has no ending of a motion file", "name it .npz, .csv or .json"),
    ("extract clip.mp4 -o $OUT/no/m.npz", "cannot be written: there is no folder", "create it first"),
    ("motion nothing.wav -o $OUT/m.npz", "'nothing.wav' has a sound track of 0 s", "give a file with speech"),
    ("motion voice.wav -o $OUT/m.npz --mouth-gain nan", "--mouth-gain is nan", "from 0 to 5"),
    ("motion voice.wav -o $OUT/m", "m' has no ending of a motion file", "name it .npz"),
    ("detect missing.mp4", "no file 'missing.mp4'", "check the path"),
    ("detect text.jpg", "'text.jpg' is not audio or video", "convert it"),
]


@pytest.mark.parametrize(("line", "thing", "remedy"), REFUSED, ids=[line.replace("$OUT/", "")[:110] for line, *_ in REFUSED])
def test_a_bad_input_is_one_sentence(
    line: str, thing: str, remedy: str, here: Path, inputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in inputs.iterdir())
    assert run(line, here) == 2
    shown, said = capfd.readouterr()
    assert shown == ""
    assert thing in said and remedy in said
    assert said.startswith("triportrait: ") and said.count("\n") == 1 and said.endswith("\n")
    assert "Traceback" not in said and "internal error" not in said
    assert list(here.iterdir()) == []
    assert sorted(path.name for path in inputs.iterdir()) == before


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [image for _, image in reader.frames(None)]


def sound_seconds(path: Path) -> float:
    from triportrait.media.audio import read_audio

    return read_audio(path).seconds


def only(folder: Path, name: str) -> Path:
    """The one file in a folder."""
    assert [path.name for path in folder.iterdir()] == [name]
    return folder / name


@pytest.mark.parametrize(
    ("name", "flag"), [("voice.wav", "audio"), ("sound_only.mp4", "audio"), ("clip.mp4", "driving"), ("motion.npz", "motion")]
)
def test_a_driver_without_a_flag_is_known_by_what_it_is(name: str, flag: str, here: Path, inputs: Path) -> None:
    driver = Driver().with_file(inputs / name)
    assert getattr(driver, flag) == inputs / name and len(driver.files()) == 1


@pytest.mark.parametrize("chosen", ["", " --face 2", " --face 1"])
def test_of_several_faces_the_largest_or_the_chosen(chosen: str, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(ANIMATE.replace("photo.png", "two.png --full-frame --crf 4 --no-label --no-watermark") + chosen, here) == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    if chosen:
        assert warnings == []
    else:
        assert warnings == ["two.png: 2 faces found, taking the largest; --face N chooses another (from the left)"]
    frames = np.stack(frames_of(only(here, "o.mp4"))).astype(int)
    moved = np.abs(frames - frames[0]).max(axis=(0, 3))
    left, right = moved[:210, 20:230].mean(), moved[:, 250:550].mean()
    assert (left > 3 * right) if chosen == " --face 1" else (right > 3 * left)


def test_the_result_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(ANIMATE, here) == 0
    shown, said = capfd.readouterr()
    target = only(here, "o.mp4")
    assert shown.startswith(f"{target}  (") and shown.endswith(" s)\n") and shown.count("\n") == 1
    assert said == ""
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_silence_keeps_the_mouth_shut(here: Path, inputs: Path, face_tracker) -> None:
    out = here / "o.mp4"
    assert run("animate photo.png --size 256 --audio silence.wav --blink none --head-motion 0 -o $OUT/o.mp4", here) == 0
    assert run("animate photo.png --size 256 --audio voice.wav --blink none --head-motion 0 -o $OUT/v.mp4", here) == 0

    def opening(path: Path) -> np.ndarray:
        rows = np.stack([row for row, _ in face_tracker.track(frames_of(path))])
        return np.linalg.norm(rows[:, 13, :2] - rows[:, 14, :2], axis=1) / np.linalg.norm(rows[:, 10, :2] - rows[:, 152, :2], axis=1)

    silent, speaking = opening(out), opening(here / "v.mp4")
    assert len(silent) == 25
    # Lips at rest read as a small constant gap; what speech adds to it is the range.
    assert np.ptp(silent) < 0.1 * np.ptp(speaking)
    assert silent.max() < np.quantile(speaking, 0.25) + 0.1 * np.ptp(speaking)


@pytest.mark.parametrize("seconds", [0.00625, 0.05, 0.33])
def test_very_short_voices(seconds: float, here: Path) -> None:
    soundfile.write(here / "short.wav", 0.1 * np.random.default_rng(0).standard_normal(round(16_000 * seconds)), 16_000)
    assert run(ANIMATE_SAVED.replace("voice.wav", "$OUT/short.wav"), here) == 0
    assert abs(len(frames_of(here / "o.mp4")) - seconds * 25) <= 1


@pytest.mark.parametrize(
    ("rate_hz", "channels", "kind"),
    [(8_000, 1, "wav"), (44_100, 2, "flac"), (96_000, 1, "wav"), (48_000, 8, "wav"), (24_000, 2, "ogg"), (22_050, 1, "mp3")],
)
def test_voices_of_every_kind(rate_hz: int, channels: int, kind: str, here: Path, voice: Path) -> None:
    import soxr

    samples, rate = soundfile.read(voice)
    samples = 3.0 * soxr.resample(samples[: 2 * rate // 5], rate, rate_hz)  # clipped, too
    soundfile.write(here / f"voice.{kind}", np.repeat(np.clip(samples, -1, 1)[:, None], channels, axis=1), rate_hz)
    assert run(ANIMATE_SAVED.replace("voice.wav", f"$OUT/voice.{kind}"), here) == 0
    frames = len(frames_of(here / "o.mp4"))
    assert abs(frames / 25 - len(samples) / rate_hz) <= 1 / 25 + (0.06 if kind == "mp3" else 0)
    assert abs(sound_seconds(here / "o.mp4") - frames / 25) <= 1 / 25


def test_a_cut_clip_is_used_as_far_as_it_goes(here: Path, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Index at the front, end missing: a warning names the file, and the frames that are there drive."""
    data = clip.read_bytes()
    (here / "cut.mp4").write_bytes(data[: int(len(data) * 0.7)])
    assert run("animate photo.png --size 128 --driving $OUT/cut.mp4 -o $OUT/o.mp4", here) == 0
    assert any("cut.mp4' is damaged or cut off" in record.getMessage() for record in caplog.records)
    assert 5 <= len(frames_of(here / "o.mp4")) < 25


# -- nothing half-written --------------------------------------------------------------------------------------------------


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["start", "encoding", "end"])
def test_a_disk_that_fills_up(
    when: str, here: Path, inputs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from triportrait import files

    if when == "start":
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    elif when == "encoding":
        encode = VideoWriter._encode
        monkeypatch.setattr(VideoWriter, "_encode", lambda self, image: full_disk() if self._encoded == 7 else encode(self, image))
    elif when == "end":
        monkeypatch.setattr(files.os, "fsync", full_disk)
    (here / "out").mkdir()
    (here / "out" / "o.mp4").write_text("precious")
    assert run(ANIMATE.replace("$OUT", "$OUT/out"), here) == 2
    said = capfd.readouterr().err
    assert said.startswith("triportrait: ") and said.count("\n") == 1
    assert "o.mp4" in said and "cannot be written" in said and ".part" not in said
    assert only(here / "out", "o.mp4").read_text() == "precious"


# -- inputs stay, and what fails at the end is known at the beginning -------------------------------------------------


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minutes of preparation must not begin."""
    from triportrait import drivers, pipeline

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr(pipeline.Portrait, "from_image", begun)
    monkeypatch.setattr(pipeline, "prepare", begun)
    monkeypatch.setattr(drivers, "motion_of_video", begun)


def linked(here: Path, inputs: Path) -> None:
    """A clip under the names ``in.mp4``, ``hard.mp4``, ``soft.mp4`` and in the folder ``library``."""
    (here / "library").mkdir()
    shutil.copy(inputs / "clip.mp4", here / "in.mp4")
    os.link(here / "in.mp4", here / "hard.mp4")
    (here / "soft.mp4").symlink_to(here / "in.mp4")
    os.link(here / "in.mp4", here / "library" / "clip.mp4")


@pytest.mark.parametrize("target", ["in", "hard", "soft", "library/clip"])
@pytest.mark.parametrize(
    "option",
    ["--style $OUT/in.mp4", "--pose $OUT/in.mp4", "--head-motion $OUT/library", "--background $OUT/in.mp4", "--driving $OUT/in.mp4"],
)
@pytest.mark.usefixtures("no_work")
def test_no_input_is_written_over(option: str, target: str, here: Path, inputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    linked(here, inputs)
    voice = "" if "--driving" in option else "--audio voice.wav"
    assert run(f"animate photo.png {voice} {option} -o $OUT/{target}.mp4", here) == 2
    said = capfd.readouterr().err
    assert "choose another output" in said and said.count("\n") == 1
    assert (here / "in.mp4").read_bytes() == (inputs / "clip.mp4").read_bytes()
    assert not list(here.rglob(".*"))


@pytest.mark.parametrize(
    "line",
    [
        "motion voice.wav --controls $OUT/c.csv -o $OUT/c.csv",
        "motion voice.wav --style $OUT/c.csv -o $OUT/hard.csv",
        "evaluate reenact --clips $OUT -o $OUT/index.csv",
        "evaluate audio --clips $OUT -o $OUT/hard.json",
        "evaluate cross --clips $OUT --sheets -o $OUT/new.json",
        "portrait save $OUT/c.csv -o $OUT/hard.csv",
        "train real3d.torso --data $OUT/data --start $OUT/run -o $OUT/run",
        "train real3d.torso --data $OUT/data -o $OUT/data",
        "data prepare $OUT/data -o $OUT/data",
        "data views --portraits $OUT/data -o $OUT/data",
        "data pairs --clips $OUT/data -o $OUT/data",
        "data people --portraits $OUT/data -o $OUT/data",
        "data speech --tracked $OUT/data -o $OUT/data",
    ],
)
@pytest.mark.usefixtures("no_work")
def test_no_command_writes_over_what_it_reads(line: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "c.csv").write_text("precious")
    (here / "clip.mp4").write_text("precious")
    (here / "new_sheets").mkdir()
    for name, read in (("hard.csv", "c.csv"), ("hard.json", "clip.mp4"), ("index.csv", "c.csv"), ("new_sheets/clip.png", "clip.mp4")):
        os.link(here / read, here / name)
    for name in ("run", "data"):
        (here / name).mkdir()
        (here / name / "model.safetensors").write_text("precious")
    before = {path: path.read_text() for path in here.rglob("*") if path.is_file()}
    assert run(line, here) == 2
    said = capfd.readouterr().err
    assert "choose another output" in said and said.count("\n") == 1
    assert {path: path.read_text() for path in here.rglob("*") if path.is_file()} == before


def test_the_interface_refuses_inputs_too(here: Path, inputs: Path, talking_portrait, voice: Path) -> None:
    from triportrait.background import Background
    from triportrait.errors import OutputError
    from triportrait.motion.options import DriveOptions
    from triportrait.motion.timing import join_motion
    from triportrait.pipeline import save_portrait

    linked(here, inputs)
    save_motion(join_motion([talking_portrait.talk(voice).motion()] * 5), here / "style.csv")
    shutil.copy(voice, here / "voice.mp4")
    shutil.copy(here / "style.csv", here / "library" / "pose.csv")
    (here / "library" / "clip.mp4").unlink()
    os.link(here / "library" / "pose.csv", here / "pose.mp4")
    os.link(here / "style.csv", here / "style.mp4")
    options = DriveOptions(style=here / "style.csv", head_motion=here / "library")
    performance = talking_portrait.talk(here / "voice.mp4", options)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    for name in ("voice.mp4", "style.mp4", "pose.mp4", "hard.mp4"):
        with pytest.raises(OutputError, match="choose another output"):
            performance.save(here / name, background=Background(str(here / "in.mp4")))
    with pytest.raises(OutputError, match="choose another output"):
        save_portrait(here / "in.mp4", here / "soft.mp4")
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "option",
    [
        "--style text.wav",
        "--style photo.png",
        "--style missing.mp4",
        "--style $OUT/short.csv",
        "--controls text.wav",
        "--controls photo.png",
        "--pose text.jpg",
        "--pose sound_only.mp4",
        "--head-motion $OUT/empty",
        "--head-motion $OUT/library",
        "--background cut.png",
        "--background text.jpg",
        "--background sound_only.mp4",
    ],
)
@pytest.mark.usefixtures("no_work")
def test_option_files_are_looked_at_before_the_work(option: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "library").mkdir()
    (here / "library" / "pose.csv").write_text("no motion")
    (here / "empty").mkdir()
    save_motion(Motion(*(np.zeros((9, width), np.float32) for width in (len(ARKIT_EXPRESSIONS), 3, 3, 2))), here / "short.csv")
    assert run(f"animate photo.png --audio voice.wav {option} -o $OUT/o.mp4", here) == 2
    said = capfd.readouterr().err
    assert said.startswith("triportrait: ") and said.count("\n") == 1
    assert sorted(path.name for path in here.iterdir()) == ["empty", "library", "short.csv"]


@pytest.mark.parametrize("drive", ["--audio mute.mp4", "--driving sound_only.mp4", "--driving text.wav", "--audio nothing.wav"])
@pytest.mark.usefixtures("no_work")
def test_drivers_are_looked_at_before_the_work(drive: str, here: Path) -> None:
    assert run(f"animate photo.png {drive} -o $OUT/o.mp4", here) == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("encoder", ["libx264", "aac"])
@pytest.mark.usefixtures("no_work")
def test_a_missing_encoder_is_known_before_the_work(
    encoder: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    known = av.Codec

    def without(name: str, mode: str) -> av.Codec:
        if name == encoder:
            raise ValueError("no codec")
        return known(name, mode)

    monkeypatch.setattr(av, "Codec", without)
    assert run(ANIMATE, here) == 2
    assert "pip install" in capfd.readouterr().err


@pytest.mark.parametrize("name", [b"\xff", b"caf\xe9"])
@pytest.mark.usefixtures("no_work")
def test_a_folder_that_ffmpeg_cannot_name_is_known_before_the_work(name: bytes, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = here / os.fsdecode(name)
    folder.mkdir()
    assert cli.main(["animate", "photo.png", "--audio", "voice.wav", "-o", str(folder / "o.mp4")]) == 2
    assert "no UTF-8 text; choose another folder" in capfd.readouterr().err
    assert list(folder.iterdir()) == []


def test_without_streams_a_video_is_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run(ANIMATE, here) == 0
    assert len(frames_of(only(here, "o.mp4"))) == 25


def test_a_bug_of_ours_is_one_sentence_too(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from triportrait import model

    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(model, "fuse", broken)
    assert run(ANIMATE, here) == 1
    said = capfd.readouterr().err
    assert said.startswith("triportrait: internal error (ZeroDivisionError: division by zero)") and said.count("\n") == 1
    assert list(here.iterdir()) == []


def test_nan_never_reaches_a_video(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from triportrait.motion import audio

    true = audio.mouth_expression

    def poisoned(*arguments: object) -> np.ndarray:
        rows = true(*arguments)
        rows[10:] = np.nan
        return rows

    monkeypatch.setattr(audio, "mouth_expression", poisoned)
    assert run(ANIMATE, here) == 2
    assert "NaN or infinity" in capfd.readouterr().err
    assert list(here.iterdir()) == []


@pytest.fixture(scope="module")
def long_voice(inputs: Path, voice: Path) -> Path:
    samples, rate_hz = soundfile.read(voice)
    soundfile.write(inputs / "long.wav", np.tile(samples, 600), rate_hz)
    return inputs / "long.wav"


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "triportrait.cli", *arguments],
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        # A suite that runs in the background of a shell ignores SIGINT, one of nohup SIGHUP, and so would its children.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
    )


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_job_leaves_nothing(sent: signal.Signals, code: int, here: Path, inputs: Path, long_voice: Path) -> None:
    target = here / "o.mp4"
    target.write_text("precious")
    process = start(["animate", "photo.avatar", "--audio", "long.wav", "-o", str(target)])
    try:
        deadline = time.monotonic() + 120
        # The hidden file has begun: the job is in the middle of it.
        while not any(path.stat().st_size for path in here.glob(".*.part")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sent)
        shown, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert shown == "" and "Traceback" not in said
    # A slow machine may have come to a line of progress.
    lines = [line for line in said.splitlines() if not line.startswith("rendering: ")]
    assert lines == (["triportrait: interrupted; nothing half-written is left"] if sent == signal.SIGINT else [])
    assert only(here, "o.mp4").read_text() == "precious"


# -- in a process of its own: what only shows there ------------------------------------------------------------------------


def test_a_fresh_process_says_nothing_but_the_result(here: Path, inputs: Path) -> None:
    """Libraries may write past Python; paths and locale are as bad as they get; the home folder cannot be written."""
    folder = here / "mit Leerzeichen ü 视频"
    folder.mkdir()
    for name in ("photo.png", "clip.mp4"):
        shutil.copy(inputs / name, folder / f"ä {name}")
    target = folder / "ergebnis ö.mp4"
    process = start(
        ["animate", str(folder / "ä photo.png"), "--size", "128", "--driving", str(folder / "ä clip.mp4"), "-o", str(target)],
        LC_ALL="C",
        LANG="C",
        HOME="/proc",
        TRIPORTRAIT_HOME="/proc/none",
        TMPDIR="/missing",
        PYTHONWARNINGS="default",
    )
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert shown.startswith(str(target)) and shown.count("\n") == 1
    expected = ("signing with a key for this occasion", "tracking: ", "rendering: ", "compiling, once")
    assert [line for line in said.splitlines() if not any(words in line for words in expected)] == []
    assert len(frames_of(target)) == 25


def test_progress_is_quiet_where_no_terminal_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    with progress.ProgressBar() as tell_progress:
        for frame in range(1, 601):
            tell_progress("rendering", frame, 600)
            now += 0.125
    lines = capsys.readouterr().err.splitlines()
    assert 6 <= len(lines) <= 7
    assert lines[0] == "rendering: 82/600, 8.0 fps, 65 s left"


def test_the_network_is_never_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"the network was asked for {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert run(ANIMATE, here) == 0
    assert run("extract $OUT/o.mp4 -o $OUT/m.npz", here) == 0
    assert run("detect $OUT/o.mp4", here) == 0


# -- the other commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".npz", ".csv", ".json", ".livelink.csv"])
def test_extract_writes_every_format(ending: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(f"extract clip.mp4 -o $OUT/m{ending}", here) == 0
    shown, said = capfd.readouterr()
    assert shown == f"{here / 'm'}{ending}  (25 frames)\n" and said == ""
    only(here, f"m{ending}")


def test_a_voice_becomes_motion(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("motion voice.wav -o $OUT/m.json", here) == 0
    shown = capfd.readouterr().out
    assert "(25 frames, " in shown and "x real time)" in shown
    document = json.loads((here / "m.json").read_text())
    assert document["fps"] == 25.0 and len(document["frames"]) == 25
    column = document["expression_names"].index("jawOpen")
    assert max(frame["expression"][column] for frame in document["frames"]) > 0.05


def test_detect_tells_generated_from_recorded(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(ANIMATE, here) == 0
    capfd.readouterr()
    assert run("detect $OUT/o.mp4", here) == 0
    assert capfd.readouterr().out.startswith("AI-generated\n  watermark: TriPortrait, no maker named")
    assert run("detect clip.mp4", here) == 0
    assert capfd.readouterr().out.startswith("No mark found")


def test_doctor_finds_everything(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    shown, said = capfd.readouterr()
    assert "face tracker: MeshTracker" in shown and "MISSING" not in shown and said == ""


@pytest.mark.parametrize("arguments", [["animate"], ["animate", "a.png", "-o", "b.mp4", "--size", "big"], ["sing"]])
def test_usage_errors_exit_with_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert "Traceback" not in capfd.readouterr().err


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    from triportrait import __version__

    assert cli.main(["--version"]) == 0
    assert capfd.readouterr().out == f"{__version__}\n"
