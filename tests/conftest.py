"""Fixtures every test may use."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import MediaPipeTracker
    from triportrait.types import Portrait

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state; the number is handed to those who seed generators of their own."""
    random.seed(0)
    np.random.seed(0)
    return 0


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material beside the repository; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the shared material in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real photograph, public domain: uint8 [512, 512, 3]."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture
def astronaut_png(astronaut: np.ndarray, tmp_path: Path) -> Path:
    """The same photograph as a PNG file."""
    from PIL import Image

    path = tmp_path / "astronaut.png"
    Image.fromarray(astronaut).save(path)
    return path


@pytest.fixture(scope="session")
def open_head() -> OpenHead:
    """The embedded head model."""
    from triportrait.face.open_head import OpenHead

    return OpenHead.embedded()


@pytest.fixture(scope="session")
def face_tracker() -> MediaPipeTracker:
    """One tracker for all tests: its networks take a while to load."""
    from triportrait.face.tracker import MediaPipeTracker

    return MediaPipeTracker()


@pytest.fixture(scope="session")
def astronaut_portrait(astronaut: np.ndarray, face_tracker: MediaPipeTracker, open_head: OpenHead) -> Portrait:
    """The astronaut, prepared once with the ordinary options."""
    from triportrait.face.portrait import prepare_portrait

    return prepare_portrait(astronaut, face_tracker, open_head)
