"""From a video to a training clip: the real thing on tiny videos, and every reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import MediaError, NoFaceFound
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.training.data.clip import PrepareSettings, UnusableClip, pieces_of, prepare_clip
from triportrait.training.data.clips import encode_clip
from triportrait.training.data.sources import VideoSource, find_videos
from triportrait.training.data.work import sample_bytes, work_on
from triportrait.types import Waveform

SETTINGS = PrepareSettings(size_px=64)


@pytest.fixture(scope="module")
def frames(clip: Path) -> list[np.ndarray]:
    return [frame for _, frame in VideoReader(clip).frames()]


def video(path: Path, frames: list[np.ndarray], fps: float = 25.0, seconds_of_sound: float = 0.0) -> VideoSource:
    random = np.random.default_rng(0)
    sound = Waveform(0.1 * random.normal(size=round(seconds_of_sound * 16_000)).astype(np.float32), 16_000) if seconds_of_sound else None
    with VideoWriter(path, (frames[0].shape[1], frames[0].shape[0]), fps, audio=sound) as writer:
        for frame in frames:
            writer.write(frame)
    return find_videos(path)[0]


def reason(source: VideoSource, settings: PrepareSettings = SETTINGS) -> tuple[str, str]:
    outcome = work_on(source, settings).outcome
    return outcome.code, outcome.reason


def test_a_clip_holds_what_the_stages_need(clip: Path) -> None:
    source = find_videos(clip)[0]
    made, facts = prepare_clip(source, SETTINGS)
    assert len(made) == facts.frames == 25 and made.size_px == 64 and made.key == "clip"
    # Log-mel has 100 rows per second; someone speaks.
    assert made.speech.shape == (100, 82) and made.pitch_hz.shape == (100,) and (made.pitch_hz > 80).any()
    assert np.isfinite(made.speech).all() and made.identity.shape == (80,) and made.expression.shape == (25, 44)
    # The head layer covers the face, the torso layer lies below it, and the landmarks are in the crop.
    nose, chin = made.landmarks[0, 4].astype(int), made.landmarks[0, 152].astype(int)
    assert made.head_alpha[0, nose[1], nose[0]] > 250
    assert made.torso[0, -3, chin[0], 3] > 200 and made.torso[0, 2, 2, 3] < 10
    assert (made.landmarks > 0).all() and (made.landmarks < 64).all()
    assert facts.fit_px < 3 and facts.face_px == pytest.approx(np.ptp(made.landmarks[0], axis=0).max() * 256 / 64, rel=0.4)
    assert facts.note == "" and (facts.width, facts.height, facts.fps) == (256, 256, 25.0)


def test_large_pictures_and_published_boxes_give_the_same_crop(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """A 4K picture with the same face on one side, of which a CelebV-HQ box cuts out the person."""
    import cv2

    small = video(tmp_path / "small.mp4", frames[:8])
    wide = []
    for frame in frames[:8]:
        picture = np.full((2160, 3840, 3), 90, np.uint8)
        picture[:, :2160] = cv2.resize(frame, (2160, 2160), interpolation=cv2.INTER_CUBIC)
        wide.append(picture)
    large = replace(video(tmp_path / "large.mp4", wide), box=(0.0, 0.0, 0.5625, 1.0))
    one, _ = prepare_clip(small, SETTINGS)
    other, facts = prepare_clip(large, SETTINGS)
    assert (facts.width, facts.height) == (3840, 2160)
    assert np.abs(one.landmarks - other.landmarks).mean() < 1.5
    assert np.abs(one.frames[5].astype(int) - other.frames[5]).mean() < 12


def test_long_videos_are_cut_into_pieces_without_a_frame_lost_or_twice(clip: Path) -> None:
    pieces = pieces_of(find_videos(clip)[0], replace(SETTINGS, clip_seconds=0.4))
    assert [piece.key for piece in pieces] == ["clip--p0000", "clip--p0001", "clip--p0002"] or len(pieces) == 2
    frames = [frame for piece in pieces for _, frame in VideoReader(clip).frames(25.0, start_s=piece.start_s, seconds=piece.seconds)]
    whole = [frame for _, frame in VideoReader(clip).frames(25.0)]
    assert len(frames) == len(whole) and all(np.array_equal(a, b) for a, b in zip(frames, whole, strict=True))
    assert work_on(find_videos(clip)[0], replace(SETTINGS, clip_seconds=0.4)).pieces == tuple(pieces)


def test_of_a_video_with_a_cut_the_longer_side_is_taken(tmp_path: Path, frames: list[np.ndarray]) -> None:
    other = [np.clip(frame[:, ::-1] * 0.4 + 20, 0, 255).astype(np.uint8) for frame in frames[:6]]
    made, facts = prepare_clip(video(tmp_path / "v.mp4", other + frames), SETTINGS)
    assert len(made) == 25 and facts.note.startswith("between cuts: frames 6 to 30")
    alone, _ = prepare_clip(video(tmp_path / "alone.mp4", frames), SETTINGS)
    assert np.abs(made.landmarks - alone.landmarks).mean() < 0.3
    assert np.abs(made.frames[3].astype(int) - alone.frames[3]).mean() < 4


def test_no_sound_is_noted_or_refused_and_the_same_video_gives_the_same_bytes(tmp_path: Path, frames: list[np.ndarray]) -> None:
    source = video(tmp_path / "silent.mp4", frames[:8])
    made, facts = prepare_clip(source, SETTINGS)
    again, _ = prepare_clip(source, SETTINGS)
    assert sample_bytes(source, encode_clip(made), SETTINGS) == sample_bytes(source, encode_clip(again), SETTINGS)
    assert made.speech is None and made.pitch_hz is None and "has no sound track" in facts.note
    with pytest.raises(UnusableClip, match="no usable sound") as error:
        prepare_clip(source, replace(SETTINGS, need_sound=True))
    assert error.value.code == "E_NO_SOUND"
    # VoxCeleb2 keeps it in another file.
    beside = video(tmp_path / "sound.mp4", frames[:8], seconds_of_sound=0.32)
    heard, facts = prepare_clip(replace(source, sound=beside.path), SETTINGS)
    assert heard.speech.shape == (32, 82) and facts.note == ""


def test_hubert_features(tmp_path: Path, frames: list[np.ndarray]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.HubertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    transformers.HubertModel(config).save_pretrained(tmp_path / "hubert", safe_serialization=True)
    source = video(tmp_path / "v.mp4", frames[:8], seconds_of_sound=0.32)
    made, _ = prepare_clip(source, replace(SETTINGS, hubert=str(tmp_path / "hubert")))
    assert made.speech.shape == (16, 32) and made.pitch_hz.shape == (16,)


def test_what_cannot_be_used_says_why(tmp_path: Path, frames: list[np.ndarray]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 256, 256, 3)).astype(np.uint8)
    pair = [np.hstack([frame, frame[:, ::-1]]) for frame in frames[:10]]
    moved = [np.roll(frame, 150, axis=1) for frame in frames[8:16]]
    small = [np.pad(frame[::3, ::3], ((90, 90), (90, 90), (0, 0)), mode="edge") for frame in frames[:10]]
    assert reason(video(tmp_path / "8fps.mp4", frames[::3], fps=8)) == (
        "E_FRAME_RATE",
        "8.0 frames per second; at least 20 are needed",
    )
    assert reason(video(tmp_path / "noface.mp4", list(noise)))[0] == "E_NO_FACE"
    assert reason(video(tmp_path / "two.mp4", pair))[0] == "E_TWO_FACES"
    assert reason(video(tmp_path / "cut.mp4", frames[:8] + moved))[0] == "E_CUT"
    assert reason(video(tmp_path / "short.mp4", frames[:4])) == ("E_TOO_SHORT", "only 4 frames; at least 8 are needed")
    assert reason(video(tmp_path / "small.mp4", small))[0] == "E_SMALL_FACE"
    for quarter in (1, 2):
        turned = [np.ascontiguousarray(np.rot90(frame, quarter)) for frame in frames[:8]]
        assert reason(video(tmp_path / f"turned{quarter}.mp4", turned))[0] == "E_TURNED"
    gone = [*frames[:10], *([noise[0]] * 5)]
    with pytest.raises((NoFaceFound, UnusableClip)):
        prepare_clip(video(tmp_path / "gone.mp4", gone), SETTINGS)


def test_damaged_files_say_why(tmp_path: Path, frames: list[np.ndarray]) -> None:
    source = video(tmp_path / "whole.mp4", frames)
    data = Path(source.path).read_bytes()
    Path(source.path).write_bytes(data[: len(data) // 3])
    assert reason(source)[0] in ("E_MEDIA_FORMAT", "E_TOO_SHORT")
    Path(source.path).write_bytes(b"")
    assert reason(source)[0] == "E_MEDIA_FORMAT"
    Path(source.path).unlink()
    with pytest.raises(MediaError, match="There is no file"):
        prepare_clip(source, SETTINGS)


def test_bugs_of_ours_are_outcomes_too(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("triportrait.training.data.work.prepare_clip", broken)
    code, text = reason(find_videos(clip)[0])
    assert code == "E_INTERNAL" and "ZeroDivisionError: oops" in text
