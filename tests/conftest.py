"""Fixtures every test may use."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

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
