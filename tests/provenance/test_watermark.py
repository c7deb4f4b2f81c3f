"""Laws of the invisible watermark: unseen, read back after what videos go through, and never seen where it is not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from triportrait.provenance.watermark import CROP_DETECTION_SCORE, DETECTION_SCORE, Watermarker, detect_watermark

Frames = list[NDArray[np.uint8]]
PAYLOAD = 0xBEEF


def encoded(frames: Frames, crf: int) -> Frames:
    """The frames after x264 and back; sides are made even."""
    import av

    frames = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def resized(frames: Frames, size: tuple[int, int]) -> Frames:
    import cv2

    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


def psnr_db(frames: Frames, others: Frames) -> float:
    error = np.mean([(a.astype(float) - b) ** 2 for a, b in zip(frames, others, strict=True)])
    return float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray) -> Frames:
    """A second of one real photograph that sways and breathes, as a talking portrait does."""
    import cv2

    frames = []
    for index in range(25):
        angle = 2 * np.pi * index / 25
        matrix = cv2.getRotationMatrix2D((256, 300), 2 * np.sin(angle), 1.1 + 0.02 * np.cos(angle))
        frames.append(cv2.warpAffine(astronaut, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT))
    return frames


@pytest.fixture(scope="module")
def marked(clip: Frames) -> Frames:
    watermarker = Watermarker((512, 512), PAYLOAD)
    return [watermarker.apply(frame) for frame in clip]


def test_unseen(clip: Frames, marked: Frames) -> None:
    assert psnr_db(clip, marked) >= 42
    assert all(frame.dtype == np.uint8 and frame.shape == (512, 512, 3) for frame in marked)


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_flat_ground_stays_almost_flat(level: int) -> None:
    frame = np.full((512, 512, 3), level, np.uint8)
    change = Watermarker((512, 512), PAYLOAD).apply(frame).astype(int) - level
    assert abs(change).max() <= 4
    assert np.sqrt(np.mean(change.astype(float) ** 2)) <= 0.9


@pytest.mark.parametrize("crf", [18, 23, 28])
def test_every_bit_survives_h264(marked: Frames, crf: int) -> None:
    seen = detect_watermark(encoded(marked, crf))
    assert (seen.found, seen.payload, seen.frames) == (True, PAYLOAD, 25)
    assert seen.kept == (1.0, 1.0) and not seen.mirrored


@pytest.mark.parametrize("size", [(256, 256), (384, 384), (640, 360), (1024, 1024)])
def test_every_bit_survives_resizing(marked: Frames, size: tuple[int, int]) -> None:
    seen = detect_watermark(encoded(resized(marked, size), 23))
    assert (seen.found, seen.payload) == (True, PAYLOAD)


def test_mirrored(marked: Frames) -> None:
    seen = detect_watermark([frame[:, ::-1] for frame in encoded(marked, 23)])
    assert (seen.found, seen.payload, seen.mirrored) == (True, PAYLOAD, True)


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        (lambda frame: frame[:, 112:400], (0.5625, 1.0)),
        (lambda frame: frame[64:448, 30:414], (0.75, 0.75)),
    ],
    ids=["portrait format", "zoomed in"],
)
def test_cropped(marked: Frames, cut: Callable[[np.ndarray], np.ndarray], kept: tuple[float, float]) -> None:
    seen = detect_watermark(encoded([cut(frame) for frame in marked], 23))
    assert seen.score >= CROP_DETECTION_SCORE and seen.payload == PAYLOAD
    np.testing.assert_allclose(seen.kept, kept, atol=1 / 256)
    assert not detect_watermark([cut(frame) for frame in marked], search_crops=False).found


@pytest.mark.parametrize("payload", [0, 1, 0x5555, 0xFFFF])
@pytest.mark.parametrize("size", [(512, 512), (1280, 720), (255, 333), (128, 128)])
def test_payload_and_size_return_without_a_codec(astronaut: np.ndarray, size: tuple[int, int], payload: int) -> None:
    watermarker = Watermarker(size, payload)
    frames = [watermarker.apply(frame) for frame in resized([astronaut], size)]
    seen = detect_watermark(frames, search_crops=False)
    assert (seen.found, seen.payload) == (True, payload)


def test_unmarked_scores_are_standard_normal_and_none_is_found(astronaut: np.ndarray) -> None:
    """1,000 unlike pictures: cuts of a photograph, turned, and noise of several colours."""
    import cv2

    rng = np.random.default_rng(0)
    scores = []
    for index in range(1000):
        if index % 4:
            side = int(rng.integers(64, 400))
            top, left = rng.integers(0, 512 - side, 2)
            picture = np.rot90(astronaut[top : top + side, left : left + side], int(rng.integers(4)))
        else:
            noise = cv2.GaussianBlur(rng.normal(size=(256, 256, 3)), (0, 0), rng.uniform(0.5, 8))
            picture = np.uint8(np.clip(128 + 50 * noise / noise.std(), 0, 255))
        seen = detect_watermark([picture], search_crops=False)
        assert not seen.found and not seen.mirrored
        scores.append(seen.score)
    assert abs(np.mean(scores)) < 4 / np.sqrt(1000)
    assert abs(np.std(scores) - 1) < 0.1
    assert max(scores) < DETECTION_SCORE - 2


def test_unmarked_clips_are_not_found(clip: Frames) -> None:
    from scipy.stats import norm

    assert not detect_watermark(clip).found
    assert not detect_watermark(encoded(clip, 28)).found
    noise = np.random.default_rng(1).integers(0, 256, (3, 300, 200, 3), dtype=np.uint8)
    assert not detect_watermark(noise).found
    assert 2 * 251 * norm.sf(DETECTION_SCORE) < 1e-7
    assert 2e6 * norm.sf(CROP_DETECTION_SCORE) < 1e-7


def test_nothing_to_look_at() -> None:
    for frames in ([], [np.zeros((64, 48, 3), np.uint8)], [np.full((512, 512, 3), 255, np.uint8)]):
        seen = detect_watermark(frames)
        assert (seen.found, seen.score, seen.payload, seen.frames) == (False, 0.0, None, len(frames))


def test_frames_beyond_the_limit_are_not_drawn(marked: Frames) -> None:
    frames = iter(marked)
    assert detect_watermark(frames, frame_limit=4).frames == 4
    assert len(list(frames)) == len(marked) - 4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="127 x 512 frame cannot hold"):
        Watermarker((127, 512))
    with pytest.raises(ValueError, match="frame_limit is 0"):
        detect_watermark([], frame_limit=0)
    with pytest.raises(ValueError, match="payload is 65536"):
        Watermarker((512, 512), 65536)
    with pytest.raises(ValueError, match="expected"):
        Watermarker((512, 512)).apply(np.zeros((256, 512, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        Watermarker((128, 128)).apply(np.zeros((128, 128, 3), np.float32))


@pytest.mark.parametrize("name", ["latentsync_demo1", "vasa1_10"])
def test_real_clips(shared, name: str) -> None:
    import av

    with av.open(str(shared / "data/clips" / f"{name}.mp4")) as container:
        decoded = container.decode(video=0)
        clip = [next(decoded).to_ndarray(format="rgb24") for _ in range(25)]
    watermarker = Watermarker((512, 512), PAYLOAD)
    marked = [watermarker.apply(frame) for frame in clip]
    assert psnr_db(clip, marked) >= 42
    for after in (encoded(marked, 28), encoded(resized(marked, (256, 256)), 23)):
        seen = detect_watermark(after)
        assert (seen.found, seen.payload) == (True, PAYLOAD)
    assert not detect_watermark(clip).found
