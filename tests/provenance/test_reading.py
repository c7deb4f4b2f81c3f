"""Laws of reading the watermark: back after what videos go through, and never seen where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from marked_clips import (
    Frames,
    as_gif,
    at_rate,
    brightened,
    cropped,
    encoded,
    greyed,
    halved,
    middle_third,
    on_a_phone,
    pillarboxed,
    psnr_db,
    resized,
    swaying,
)
from triportrait.provenance.placement import WHOLE
from triportrait.provenance.reading import DETECTION_SCORE, FRAME_LIMIT, detect_watermark, false_positive_bound
from triportrait.provenance.watermark import Watermarker


@pytest.mark.parametrize("crf", [18, 23, 28])
def test_every_bit_survives_h264(marked: Frames, payload: int, crf: int) -> None:
    seen = detect_watermark(encoded(marked, crf), search=False)
    assert (seen.found, seen.payload, seen.frames, seen.is_former) == (True, payload, 25, False)
    assert seen.placement == WHOLE and not seen.mirrored and not seen.quarter_turns


@pytest.mark.parametrize("size", [(256, 256), (384, 384), (640, 360), (1024, 1024)])
def test_every_bit_survives_resizing(marked: Frames, payload: int, size: tuple[int, int]) -> None:
    seen = detect_watermark(encoded(resized(marked, size), 23), search=False)
    assert (seen.found, seen.payload) == (True, payload)


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: encoded(at_rate(frames, 15), 23, 15),
        lambda frames: encoded(middle_third(frames), 23),
        lambda frames: encoded(brightened(frames), 23),
        lambda frames: encoded(greyed(frames), 23),
        lambda frames: as_gif(frames[:9]),
        lambda frames: frames[12:13],
    ],
    ids=["15 fps", "middle third", "brighter", "grey", "gif", "one picture"],
)
def test_every_bit_survives(marked: Frames, payload: int, change: Callable[[Frames], Frames]) -> None:
    seen = detect_watermark(change(marked), search=False)
    assert (seen.found, seen.payload) == (True, payload)


@pytest.mark.parametrize("name", ["portrait.png", "portrait2.png"])
def test_half_size_and_strong_compression_of_the_examples(name: str, payload: int) -> None:
    """More than a second at rest, which is what an encoder spares bits for."""
    from triportrait.media.images import read_image

    photo = read_image(Path(__file__).parents[2] / "examples" / name)[..., :3]
    marked = Watermarker((512, 512), payload).apply(resized([photo], (512, 512))[0])
    seen = detect_watermark(encoded(halved([marked] * 30), 28), search=False)
    assert (seen.found, seen.payload) == (True, payload)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_turned_and_mirrored(marked: Frames, payload: int, quarter_turns: int, mirrored: bool) -> None:
    """Mirrored first and turned clockwise then, which the detector undoes the other way round."""
    frames = [np.rot90(frame[:, ::-1] if mirrored else frame, -quarter_turns) for frame in marked[:3]]
    seen = detect_watermark(frames, search=False)
    assert (seen.payload, seen.quarter_turns, seen.mirrored) == (payload, quarter_turns, mirrored)


@pytest.mark.parametrize(
    ("change", "kept", "share"),
    [
        (lambda frames: [frame[:, 112:400] for frame in frames], (0.5625, 1.0), (1.0, 1.0)),
        (lambda frames: cropped(frames, 0.75), (0.75, 0.75), (1.0, 1.0)),
        (lambda frames: [frame[:, ::-1] for frame in cropped(frames, 0.9)], (0.9, 0.9), (1.0, 1.0)),
        (pillarboxed, (1.0, 1.0), (0.5625, 1.0)),
        (on_a_phone, (1.0, 1.0), (1.0, 0.5625)),
    ],
    ids=["portrait format", "zoomed in", "cropped and mirrored", "pillarbox", "phone"],
)
def test_parts_and_larger_pictures(
    marked: Frames, payload: int, change: Callable[[Frames], Frames], kept: tuple[float, float], share: tuple[float, float]
) -> None:
    frames = encoded(change(marked[:10]), 23)
    seen = detect_watermark(frames)
    assert seen.found and seen.payload == payload
    np.testing.assert_allclose(seen.placement.kept, kept, atol=2 / 256)
    np.testing.assert_allclose(seen.placement.share, share, atol=1.5 / 256)
    assert detect_watermark(frames, search=False).payload is None


@pytest.mark.parametrize("word", [0, 1, 0x55555555, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [(512, 512), (1280, 720), (255, 333), (128, 128)])
def test_payload_and_size_return_without_a_codec(astronaut: np.ndarray, size: tuple[int, int], word: int) -> None:
    watermarker = Watermarker(size, word)
    frames = [watermarker.apply(frame) for frame in resized([astronaut], size)]
    seen = detect_watermark(frames, search=False)
    assert (seen.found, seen.payload) == (True, word)


def test_a_payload_too_faint_to_read_can_be_asked_for(marked: Frames, payload: int) -> None:
    """In noise the mark is found and its number is unreadable: right and wrong guesses differ all the same."""
    noise = 20 * np.random.default_rng(0).normal(size=(512, 512, 1))
    faint = [np.clip(marked[0] + noise, 0, 255).astype(np.uint8)]
    right, wrong = (detect_watermark(faint, expected=guess, search=False) for guess in (payload, payload ^ 0x10001))
    assert right.found and right.payload is None and right.bears_expected is True
    assert wrong.found and wrong.bears_expected is None
    assert detect_watermark(faint, search=False).bears_expected is None
    assert detect_watermark(marked[:1], expected=payload ^ 1, search=False).bears_expected is False


def test_the_former_mark_is_still_read() -> None:
    """The stored picture bears the constant that every video did once; it names no maker."""
    from PIL import Image

    picture = np.asarray(Image.open(Path(__file__).parents[1] / "data/former_mark.jpg"))
    seen = detect_watermark([picture], expected=0x3D50, search=False)
    assert (seen.found, seen.payload, seen.is_former) == (True, 0x3D50, True)


def test_unmarked_scores_are_standard_normal_and_none_is_found(astronaut: np.ndarray) -> None:
    """100 unlike pictures in 8 orientations: cuts of a photograph, turned, and noise of several colours."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    scores = []
    for index in range(100):
        if index % 4:
            side = int(rng.integers(64, 400))
            top, left = rng.integers(0, 512 - side, 2)
            picture = np.rot90(astronaut[top : top + side, left : left + side], int(rng.integers(4)))
        else:
            noise = cv2.GaussianBlur(rng.normal(size=(256, 256, 3)), (0, 0), rng.uniform(0.5, 8))
            picture = np.uint8(np.clip(128 + 50 * noise / noise.std(), 0, 255))
        seen = detect_watermark([picture], search=False)
        assert not seen.found
        scores.append(seen.score)
    # The best of eight standard normal numbers.
    levels = norm.cdf(scores) ** 8
    assert abs(np.mean(levels) - 0.5) < 4 / np.sqrt(12 * 100)
    assert max(scores) < DETECTION_SCORE - 1.5


def test_unmarked_clips_are_not_found(clip: Frames) -> None:
    assert not detect_watermark(encoded(clip[:1], 28)).found
    noise = np.random.default_rng(1).integers(0, 256, (3, 300, 200, 3), dtype=np.uint8)
    assert not detect_watermark(noise, search=False).found
    assert not detect_watermark(encoded(clip, 28), search=False).found
    assert false_positive_bound() < 1e-6


def test_nothing_to_look_at() -> None:
    for frames in ([], [np.zeros((64, 48, 3), np.uint8)], [np.full((512, 512, 3), 255, np.uint8)]):
        seen = detect_watermark(frames)
        assert (seen.found, seen.score, seen.payload, seen.frames) == (False, 0.0, None, len(frames))


def test_frames_beyond_the_limit_are_not_drawn() -> None:
    frames = iter([np.zeros((8, 8, 3), np.uint8)] * (FRAME_LIMIT + 3))
    assert detect_watermark(frames, search=False).frames == FRAME_LIMIT
    assert len(list(frames)) == 3


@pytest.mark.parametrize("name", ["latentsync_demo1", "vasa1_10"])
def test_real_clips(shared: Path, name: str, payload: int) -> None:
    from triportrait.media.video import VideoReader

    with VideoReader(shared / "data/clips" / f"{name}.mp4") as reader:
        clip = [frame for _, frame in reader.frames(None, seconds=1.0)]
    watermarker = Watermarker(reader.size, payload)
    marked = [watermarker.apply(frame) for frame in clip]
    assert psnr_db(clip, marked) >= 42
    for after in (encoded(marked, 28), encoded(halved(marked), 23)):
        seen = detect_watermark(after, search=False)
        assert (seen.found, seen.payload) == (True, payload)
    assert not detect_watermark(clip, search=False).found


def test_a_real_portrait(shared: Path, payload: int) -> None:
    """One of the 1,379, drawn by a seed."""
    from triportrait.media.images import read_image

    portraits = sorted((shared / "data/portraits").glob("*/*.jpg"))
    photo = read_image(portraits[int(np.random.default_rng(9).integers(len(portraits)))])
    watermarker = Watermarker((512, 512), payload)
    frames = swaying(resized([photo], (512, 512))[0], 10)
    seen = detect_watermark(encoded([watermarker.apply(frame) for frame in frames], 28), search=False)
    assert (seen.found, seen.payload) == (True, payload)
    assert not detect_watermark(frames, search=False).found
