"""Fixtures every test may use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from triportrait.face.mesh_tracker import MeshTracker
    from triportrait.face.open_head import OpenHead
    from triportrait.pipeline import Portrait as TalkingPortrait
    from triportrait.types import PreparedPortrait

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state; the number is handed to those who seed generators of their own."""
    random.seed(0)
    np.random.seed(0)
    return 0


@pytest.fixture(scope="session", autouse=True)
def gradients() -> Iterator[None]:
    """Tests compute gradients as training does."""
    try:
        from triportrait.nn.sound_gradients import sound_gradients
    except ModuleNotFoundError:
        yield
        return
    with sound_gradients():
        yield


@pytest.fixture(scope="session", autouse=True)
def signing_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keys made by tests never reach the user's own folder."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPORTRAIT_HOME", str(folder))
        yield folder


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
def face_tracker() -> MeshTracker:
    """One tracker for all tests, the pipeline's own: its networks take a while to load."""
    from triportrait.drivers import default_tracker

    return default_tracker()


@pytest.fixture(scope="session")
def astronaut_portrait(astronaut: np.ndarray, face_tracker: MeshTracker, open_head: OpenHead) -> PreparedPortrait:
    """The astronaut, prepared once with the ordinary options."""
    from triportrait.face.portrait import prepare_portrait

    return prepare_portrait(astronaut, face_tracker, open_head)


@pytest.fixture(scope="session")
def talking_portrait(astronaut: np.ndarray) -> TalkingPortrait:
    """The astronaut ready to perform, at 256 px."""
    from triportrait.face.portrait import PortraitOptions
    from triportrait.pipeline import Portrait

    return Portrait.from_image(astronaut, PortraitOptions(256))


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first second of the example speech."""
    import soundfile

    samples, rate_hz = soundfile.read(ROOT / "examples" / "speech.wav")
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    soundfile.write(path, samples[:rate_hz], rate_hz)
    return path


@pytest.fixture(scope="session")
def clip(talking_portrait: TalkingPortrait, voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driving video with sound: the astronaut saying the first second of the example speech, 25 frames of 256 x 256, unmarked."""
    from triportrait.provenance.marks import Marks

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return talking_portrait.talk(voice).save(path, marks=Marks(False, False, False))
