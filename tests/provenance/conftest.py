"""Clips with and without mark."""

from __future__ import annotations

import numpy as np
import pytest

from marked_clips import Frames, swaying
from triportrait.provenance.watermark import Watermarker

PAYLOAD = 0xDEADBEEF


@pytest.fixture(scope="session")
def clip(astronaut: np.ndarray) -> Frames:
    """A second of one real photograph in motion."""
    return swaying(astronaut)


@pytest.fixture(scope="session")
def marked(clip: Frames) -> Frames:
    """The same, with the watermark."""
    watermarker = Watermarker((512, 512), PAYLOAD)
    return [watermarker.apply(frame) for frame in clip]


@pytest.fixture(scope="session")
def payload() -> int:
    """What the marked clip's watermark says."""
    return PAYLOAD
