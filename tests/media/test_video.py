"""Video in and out: the right frame at the right time, sound in step, and what damaged files do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError, TooLarge
from triportrait.media import video as video_module
from triportrait.media.audio import AudioReader, read_audio
from triportrait.media.probe import MediaInfo, probe
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.types import Waveform

SIZE = (64, 48)


def numbered(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A frame whose eight columns spell its index in binary: uint8 [h, w, 3]."""
    bits = [(index >> bit) & 1 for bit in range(8)]
    return np.repeat(np.repeat(np.uint8(bits)[None] * 255, size[1], 0), size[0] // 8, 1)[..., None].repeat(3, 2)


def number(image: np.ndarray) -> int:
    columns = image.mean((0, 2)).reshape(8, -1).mean(1)
    return int(sum(1 << bit for bit in range(8) if columns[bit] > 127))


def write_raw(path: Path, times_s: list[float], size: tuple[int, int] = SIZE, rotation: int | None = None, **options: str) -> None:
    """A video with numbered frames at chosen times, written with PyAV alone."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"crf": "10", "preset": "ultrafast"}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(numbered(index, size), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds at 25 fps with a tone."""
    path = tmp_path / "clip.mp4"
    tone = (0.3 * np.sin(np.arange(32_000) * 0.2)).astype(np.float32)
    with VideoWriter(path, SIZE, 25.0, audio=Waveform(tone, 16_000)) as writer:
        for index in range(50):
            writer.write(numbered(index))
    return path


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", ["plain.mp4", "mit Leerzeichen ü.mp4", "视频.MP4"])
def test_round_trip(tmp_path: Path, name: str, background: bool) -> None:
    with VideoWriter(tmp_path / name, SIZE, background=background, metadata={"comment": "Über"}) as writer:
        for index in range(60):
            writer.write(numbered(index))
    with VideoReader(tmp_path / name) as reader:
        assert (reader.size, reader.fps, reader.frame_count, reader.has_audio) == (SIZE, 25.0, 60, False)
        assert [(index, number(image)) for index, image in reader.frames()] == [(i, i) for i in range(60)]
        assert sum(1 for _ in reader) == 60
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with av.open(str(tmp_path / name)) as container:
        assert container.metadata["comment"] == "Über"


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (230, 180, 150), (255, 255, 255), (0, 0, 0)]
    with VideoWriter(tmp_path / "a.mp4", SIZE) as writer:
        for colour in colours:
            writer.write(np.full((48, 64, 3), colour, np.uint8))
    for (_, image), colour in zip(VideoReader(tmp_path / "a.mp4"), colours, strict=True):
        np.testing.assert_allclose(image.reshape(-1, 3).mean(0), colour, atol=3)


def test_photo_survives(tmp_path: Path, astronaut: np.ndarray) -> None:
    with VideoWriter(tmp_path / "a.mp4", (512, 512)) as writer:
        writer.write(astronaut)
    ((_, image),) = VideoReader(tmp_path / "a.mp4")
    error = image.astype(float) - astronaut
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 34
    np.testing.assert_allclose(error.mean((0, 1)), 0, atol=0.5)


def test_odd_sizes_keep_their_last_column(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", (63, 47)) as writer:
        writer.write(np.full((47, 63, 3), 200, np.uint8))
    ((_, image),) = VideoReader(tmp_path / "a.mp4")
    assert image.shape == (48, 64, 3) and image.min() > 195


@pytest.mark.parametrize("background", [False, True])
def test_same_frames_same_bytes(tmp_path: Path, background: bool) -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (40, 12, 16, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    sound = Waveform(random.normal(0, 0.1, 16_000 * 2).astype(np.float32), 16_000)
    for name in ("a.mp4", "b.mp4"):
        with VideoWriter(tmp_path / name, (256, 192), audio=sound, background=background and name == "b.mp4") as writer:
            for frame in frames:
                writer.write(frame)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(("rate", "fps"), [(16_000, 25.0), (44_100, 30.0), (11_000, 29.97)])
def test_flash_and_click_meet(tmp_path: Path, rate: int, fps: float, background: bool) -> None:
    """Sound goes in as a file, as an array and as blocks; each click has to fall on its flash."""
    seconds, moments = 8, (1, 3, 6)
    samples = np.zeros(seconds * rate, np.float32)
    for moment in moments:
        samples[moment * rate : moment * rate + rate // 100] = 0.8 * np.sin(np.arange(rate // 100) * 0.6)
    soundfile.write(tmp_path / "clicks.wav", samples, rate, subtype="FLOAT")

    def blocks() -> Iterator[np.ndarray]:
        yield from np.array_split(samples, 37)

    for audio in (tmp_path / "clicks.wav", Waveform(samples, rate), blocks()):
        with VideoWriter(tmp_path / "out.mp4", SIZE, fps, audio=audio, audio_rate_hz=rate, background=background) as writer:
            for index in range(round(seconds * fps)):
                lit = any(index == round(moment * fps) for moment in moments)
                writer.write(np.full((48, 64, 3), 255 if lit else 0, np.uint8))
        flashes = [index / fps for index, image in VideoReader(tmp_path / "out.mp4").frames(fps) if image.mean() > 127]
        heard = read_audio(tmp_path / "out.mp4", 48_000)
        loud = np.flatnonzero(np.abs(heard.samples) > 0.3) / 48_000
        clicks = [loud[0], *loud[1:][np.diff(loud) > 0.5]]
        np.testing.assert_allclose(flashes, moments, atol=0.5 / fps)
        np.testing.assert_allclose(clicks, flashes, atol=1.0 / fps)
        assert abs(heard.seconds - seconds) <= 1.0 / fps


@pytest.mark.parametrize("sound_seconds", [0.5, 5.0])
def test_sound_gets_the_length_of_the_pictures(tmp_path: Path, sound_seconds: float) -> None:
    sound = Waveform(np.full(int(sound_seconds * 16_000), 0.25, np.float32), 16_000)
    with VideoWriter(tmp_path / "a.mp4", SIZE, audio=sound) as writer:
        for index in range(50):
            writer.write(numbered(index))
    assert abs(read_audio(tmp_path / "a.mp4").seconds - 2.0) <= 0.04
    with av.open(str(tmp_path / "a.mp4")) as container:
        lengths = [float(stream.duration * stream.time_base) for stream in container.streams]
    assert abs(lengths[0] - lengths[1]) <= 0.04


def test_stereo_music_stays_stereo(tmp_path: Path) -> None:
    left = (0.5 * np.sin(np.arange(44_100) * 0.05)).astype(np.float32)
    soundfile.write(tmp_path / "two.wav", np.stack([left, 0 * left], 1), 44_100)
    with VideoWriter(tmp_path / "a.mp4", SIZE, audio=tmp_path / "two.wav") as writer:
        for index in range(25):
            writer.write(numbered(index))
    reader = AudioReader.open(tmp_path / "a.mp4")
    assert (reader.rate_hz, reader.channels) == (44_100, 2)
    both = np.concatenate(list(reader.blocks(44_100, channels=2)))
    assert np.abs(both[:, 0]).max() > 0.4 and np.abs(both[:, 1]).max() < 0.05


@pytest.mark.parametrize(("rate", "expected"), [(30, 50), (60, 50), (24, 50), (50, 50), (12.5, 50)])
def test_any_rate_becomes_25(tmp_path: Path, rate: float, expected: int) -> None:
    times = [index / rate for index in range(round(2 * rate))]
    write_raw(tmp_path / "a.mp4", times)
    seen = [(index / 25.0, times[number(image)]) for index, image in VideoReader(tmp_path / "a.mp4").frames(25.0)]
    assert abs(len(seen) - expected) <= 1
    # A frame stands on the tick nearest to its time; a repeated one is older by at most one of its own intervals.
    for tick, recorded in seen:
        assert -0.0201 <= tick - recorded <= max(0.0201, 1 / rate - 0.0199)


def test_variable_rate_is_placed_by_time_stamps(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.06, 0.5, 0.56, 1.3, 1.34]
    write_raw(tmp_path / "a.mp4", times)
    shown = [number(image) for _, image in VideoReader(tmp_path / "a.mp4").frames(25.0)]
    assert shown[:3] == [0, 1, 3] and 2 not in shown
    assert [shown.index(4) / 25, shown.index(6) / 25] == pytest.approx([0.5, 1.3], abs=0.021)
    assert shown[11] == 3 and shown[30] == 5 and shown[-1] == 7
    assert [number(image) for _, image in VideoReader(tmp_path / "a.mp4").frames(None)] == list(range(8))


@pytest.mark.parametrize("start_tick", [1, 7, 24, 49])
@pytest.mark.parametrize("first_s", [0.0, 3.2])
def test_a_piece_is_a_piece_of_the_whole(tmp_path: Path, start_tick: int, first_s: float) -> None:
    """Also far from key frames, and when the file's clock does not start at zero."""
    write_raw(tmp_path / "a.mkv", [first_s + index / 25 for index in range(60)])
    reader = VideoReader(tmp_path / "a.mkv")
    whole = [number(image) for _, image in reader.frames(25.0)]
    piece = list(reader.frames(25.0, start_s=start_tick / 25, seconds=0.4))
    assert [index for index, _ in piece] == list(range(10))
    assert [number(image) for _, image in piece] == whole[start_tick : start_tick + 10]
    rest = [number(image) for _, image in reader.frames(25.0, start_s=start_tick / 25)]
    assert rest == whole[start_tick:]


def test_a_piece_that_starts_in_a_still_shows_it(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.mp4", [0.0, 0.04, 1.0, 1.04, 1.08])
    shown = [number(image) for _, image in VideoReader(tmp_path / "a.mp4").frames(25.0, start_s=0.6, seconds=0.5)]
    assert shown[:10] == [1] * 10 and shown[10:] == [2, 3]
    with pytest.raises(ValueError, match="positive length"):
        VideoReader(tmp_path / "a.mp4").frames(25.0, start_s=-1.0)


def test_repeated_frames_are_independent(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.mp4", [0.0, 0.2, 0.4, 0.6])
    for _, image in VideoReader(tmp_path / "a.mp4").frames(25.0):
        assert image.max() > 0 or number(image) == 0
        image[:] = 0
    images = [image for _, image in VideoReader(tmp_path / "a.mp4").frames(25.0)]
    assert len({id(image) for image in images}) == len(images) == 16


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    write_raw(tmp_path / "a.mp4", [index / 25 for index in range(5)], rotation=rotation)
    reader = VideoReader(tmp_path / "a.mp4")
    turned = np.rot90(numbered(3), rotation // 90)
    images = [image for _, image in reader]
    assert reader.size == turned.shape[1::-1] and images[3].shape == turned.shape
    assert np.abs(images[3].astype(int) - turned).mean() < 12


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_quality_that_x264_does_not_know_is_refused_at_once(tmp_path: Path, crf: int) -> None:
    with pytest.raises(OptionError, match=f"--crf is {crf}; use a number from 0"):
        VideoWriter(tmp_path / "o.mp4", (64, 64), crf=crf)
    assert not list(tmp_path.iterdir())


def test_phone_video_stands_upright(tmp_path: Path) -> None:
    """ISO 14496-12: the tkhd matrix (0 1 0, -1 0 0), which phones held upright write, turns the frame clockwise."""
    write_raw(tmp_path / "a.mp4", [0.0, 0.04], movflags="+faststart")
    data = (tmp_path / "a.mp4").read_bytes()
    fixed = [value << 16 for value in (1, 0, 0, 0, 1, 0)]
    unit = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    at = data.index(unit, data.index(b"tkhd"))
    turned = [0, 1 << 16, 0, -1 << 16, 0, 0]
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    (tmp_path / "a.mp4").write_bytes(data[:at] + matrix + data[at + len(matrix) :])
    _, image = list(VideoReader(tmp_path / "a.mp4"))[1]
    expected = np.rot90(numbered(1), -1)
    assert image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() < 12


def test_scaled_on_request(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.mp4", [0.0, 0.04], size=(320, 160))
    for side, size in ((80, (80, 40)), (1_000, (320, 160))):
        _, image = next(VideoReader(tmp_path / "a.mp4").frames(max_side=side))
        assert image.shape == (size[1], size[0], 3)


def test_unfinished_iteration_is_closed(clip: Path) -> None:
    with VideoReader(clip) as reader:
        frames = reader.frames()
        next(frames)
    assert list(frames) == []
    assert sum(1 for _ in VideoReader(clip)) == 50


def test_probe(tmp_path: Path, clip: Path, astronaut_png: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000, np.float32), 16_000)
    assert probe(clip) == MediaInfo("video", 2.0, 25.0, SIZE, True)
    assert probe(astronaut_png) == MediaInfo("image", size=(512, 512))
    assert probe(tmp_path / "a.wav") == MediaInfo("audio", 0.5, has_audio=True)
    (tmp_path / "text.mp4").write_text("nothing")
    with pytest.raises(MediaError):
        probe(tmp_path / "text.mp4")


def test_cover_picture_is_no_video(tmp_path: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut[:64, :64]).save(tmp_path / "cover.jpg")
    with av.open(str(tmp_path / "song.mp3"), "w") as output, av.open(str(tmp_path / "cover.jpg")) as cover:
        sound = output.add_stream("mp3", rate=16_000, layout="mono")
        picture = output.add_stream_from_template(cover.streams.video[0])
        picture.disposition = picture.disposition.attached_pic
        for packet in cover.demux(video=0):
            if packet.size:
                packet.stream = picture
                output.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    assert probe(tmp_path / "song.mp3").kind == "audio"
    with pytest.raises(MediaError, match="no pictures"):
        VideoReader(tmp_path / "song.mp3")


def test_no_video_is_one_sentence(tmp_path: Path, clip: Path, astronaut_png: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is not a video. " * 100)
    (tmp_path / "cut off.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 5_000)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    soundfile.write(tmp_path / "sound.wav", np.zeros(100, np.float32), 16_000)
    with av.open(str(tmp_path / "no frame.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    names = ["text.mp4", "cut off.mp4", "empty.mp4", "folder.mp4", "missing.mp4", "sound.wav", "no frame.mkv"]
    for path in [*(tmp_path / name for name in names), astronaut_png]:
        with pytest.raises(MediaError) as caught:
            VideoReader(path)
        text = str(caught.value)
        assert str(path) in text and text.endswith(".") and "\n" not in text, text


def test_video_without_sound_is_no_sound(tmp_path: Path) -> None:
    write_raw(tmp_path / "silent.mp4", [0.0, 0.04])
    with pytest.raises(MediaError, match="no sound track"):
        read_audio(tmp_path / "silent.mp4")


@pytest.mark.parametrize("kept", [0.4, 0.6, 0.9])
def test_truncated_with_index_in_front(tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture, astronaut: np.ndarray) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, (256, 256)) as writer:
        for index in range(100):
            writer.write(np.ascontiguousarray(np.roll(astronaut[:256, :256], 3 * index, 1)))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    count = sum(1 for _ in VideoReader(path))
    assert 100 * kept - 30 <= count < 100
    assert "cut off" in caplog.text


def test_truncated_without_index_is_one_sentence(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.mp4", [index / 25 for index in range(50)])
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="cut-off recording"):
        VideoReader(tmp_path / "a.mp4")


@pytest.mark.parametrize("kind", ["ffconcat", "m3u8", "sdp"])
def test_playlists_are_refused(tmp_path: Path, clip: Path, kind: str) -> None:
    text = {
        "ffconcat": f"ffconcat version 1.0\nfile '{clip.name}'\n",
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip.name}\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }[kind]
    path = tmp_path / "innocent.mp4"
    path.write_text(text)
    for read in (VideoReader, read_audio, probe):
        with pytest.raises(MediaError, match="not audio or video of a kind"):
            read(path)


def test_large_frames_are_refused_before_decoding(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(TooLarge, match="64 x 48"):
        VideoReader(clip)


@pytest.mark.parametrize("seed_number", range(40))
def test_mutated_videos_never_raise_anything_else(clip: Path, seed_number: int) -> None:
    random = np.random.default_rng(seed_number)
    data = np.frombuffer(clip.read_bytes(), np.uint8).copy()
    # Half of the damage hits the index, which +faststart puts in front.
    places = random.integers(0, 3_000 if seed_number % 2 else len(data), 12) % len(data)
    data[places] = random.integers(0, 256, 12)
    clip.write_bytes(data.tobytes())
    try:
        for index, image in VideoReader(clip).frames():
            assert image.dtype == np.uint8
            if index > 500:
                break
        read_audio(clip)
    except MediaError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize("background", [False, True])
def test_an_exception_leaves_nothing(tmp_path: Path, background: bool) -> None:
    target = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, SIZE, background=background) as writer:
        for index in range(30):
            writer.write(numbered(index))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    target.write_bytes(b"old")
    with pytest.raises(EmptyMedia, match="not a single frame"), VideoWriter(target, SIZE, background=background):
        pass
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_unwritable_outputs_are_known_at_construction(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for target in ("folder.mp4", "missing/a.mp4", "a.avi", "a"):
        with pytest.raises(OutputError):
            VideoWriter(tmp_path / target, SIZE)
    with pytest.raises(MediaError, match="no file"):
        VideoWriter(tmp_path / "a.mp4", SIZE, audio=tmp_path / "missing.wav")
    with pytest.raises(ValueError, match="expected uint8"), VideoWriter(tmp_path / "a.mp4", SIZE) as writer:
        writer.write(np.zeros((10, 10, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.mp4"]


FULL_DISK = """
import resource, sys
import numpy as np
from triportrait.errors import OutputError
from triportrait.media.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
random = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], (256, 256), background=sys.argv[2] == "1") as writer:
        for _ in range(200):
            writer.write(random.integers(0, 256, (256, 256, 3), dtype=np.uint8))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("background", [0, 1])
def test_a_disk_that_fills_up(tmp_path: Path, background: int) -> None:
    """A limit on the file's size stands in for the full disk: both make write() fail midway."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.mp4"), str(background)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written" in result.stdout and not result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("background", [False, True])
def test_errors_of_the_sound_surface(tmp_path: Path, background: bool) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros(1_600, np.float32)
        raise MediaError("The sound broke.")

    with (
        pytest.raises(MediaError, match="The sound broke"),
        VideoWriter(tmp_path / "a.mp4", SIZE, audio=broken(), background=background) as writer,
    ):
        for index in range(200):
            writer.write(numbered(index % 256))
    assert not list(tmp_path.iterdir())


def test_the_writer_keeps_no_hold_of_the_array(tmp_path: Path) -> None:
    canvas = np.zeros((48, 64, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", SIZE, background=True) as writer:
        for index in range(60):
            canvas[:] = numbered(index)
            writer.write(canvas)
    assert [number(image) for _, image in VideoReader(tmp_path / "a.mp4")] == list(range(60))
