"""Laws of writing the invisible watermark: unseen, and refused where it does not fit. What it survives: test_reading.py."""

from __future__ import annotations

import numpy as np
import pytest

from marked_clips import Frames, psnr_db
from triportrait.provenance.watermark import Watermarker


def test_unseen(clip: Frames, marked: Frames) -> None:
    assert psnr_db(clip, marked) >= 42
    assert all(frame.dtype == np.uint8 and frame.shape == (512, 512, 3) for frame in marked)


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_flat_ground_stays_almost_flat(level: int, payload: int) -> None:
    frame = np.full((512, 512, 3), level, np.uint8)
    change = Watermarker((512, 512), payload).apply(frame).astype(int) - level
    assert abs(change).max() <= 4
    assert np.sqrt(np.mean(change.astype(float) ** 2)) <= 0.9


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="127 x 512 frame cannot hold"):
        Watermarker((127, 512))
    with pytest.raises(ValueError, match="payload is 4294967296"):
        Watermarker((512, 512), 1 << 32)
    with pytest.raises(ValueError, match="expected"):
        Watermarker((512, 512)).apply(np.zeros((256, 512, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        Watermarker((128, 128)).apply(np.zeros((128, 128, 3), np.float32))
