"""The head models that Real3D-Portrait's networks can be driven in: ``open`` (ours), ``bfm`` and ``flame`` (a user's own files).

One place says for each of them where its file lies and how landmarks are fitted.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from triportrait.errors import MissingPart, OptionError
from triportrait.types import Array, Motion

if TYPE_CHECKING:
    from triportrait.face.bfm import BfmHead
    from triportrait.face.flame import FlameHead
    from triportrait.face.open_head import OpenHead

HEAD_MODELS = ("open", "bfm", "flame")

DrivenHead: TypeAlias = "OpenHead | BfmHead | FlameHead"
UserHead: TypeAlias = "BfmHead | FlameHead"

#: A user's head models, and what to do where the file is not there.
_MISSING = {
    "bfm": "the Basel face model is not at '{path}'; 'triportrait weights import BFM_model_front.mat' puts it there",
    "flame": "FLAME is not at '{path}'; copy generic_model.pkl or flame2023.pkl there, with its two files of landmarks "
    "(docs/guides/prepare_data.md)",
}


class HeadFitter(Protocol):
    """Landmarks [t, 478, >=2] in pixels of a square crop -> coefficients of a user's head model."""

    def fit_person(self, landmarks: Array) -> tuple[Array, Motion]:
        """Identity [i] shared by all rows, and their motion."""
        ...

    def fit_motion(self, landmarks: Array, identity: Array, fps: float = 25.0) -> Motion:
        """Expression and pose of every row for a known identity."""
        ...

    def residual_px(self, landmarks: Array, motion: Motion) -> Array:
        """Distances [t, n] of the fitted landmarks from those that were seen, in pixels of a 512-px crop."""
        ...


def file_of(name: str, place: Path | None = None) -> Path:
    """Where a user's head model lies.

    Args:
        name: ``bfm`` or ``flame``.
        place: its file or folder; None takes the folder of that name among the imported weights.
    """
    from triportrait.face.flame import MODEL_FILES
    from triportrait.weights.bfm import MODEL_FILE
    from triportrait.weights.home import weights_home

    place = weights_home() / name if place is None else place
    if not (place.is_dir() or place.suffix not in (".mat", ".pkl", ".npz")):
        return place
    names = (MODEL_FILE,) if name == "bfm" else MODEL_FILES
    return next((place / one for one in names if (place / one).is_file()), place / names[0])


def load_head(name: str, place: Path | None = None) -> DrivenHead:
    """A head model, ready to be fitted and drawn.

    Args:
        name: one of :data:`HEAD_MODELS`.
        place: see :func:`file_of`.

    Raises:
        OptionError: there is no such head model.
        MissingPart: its file, or what comes with it, is not there.
        WeightsError: a file is damaged or of another kind.
    """
    if name == "open":
        from triportrait.drivers import default_head

        return default_head()
    return load_user_head(name, place)


def load_user_head(name: str, place: Path | None = None) -> UserHead:
    """A head model of a user's own file; see :func:`load_head`."""
    if name not in _MISSING:
        raise OptionError(f"there is no head model {name!r}; use {', '.join(HEAD_MODELS)}")
    path = file_of(name, place)
    if not path.is_file():
        raise MissingPart(_MISSING[name].format(path=path))
    return _loaded(name, path)


@lru_cache(maxsize=2)
def _loaded(name: str, path: Path) -> UserHead:
    head = load_bfm(path) if name == "bfm" else load_flame(path)
    head.landmark_bases()  # says at once when the landmark index is missing
    return head


def load_bfm(path: Path) -> BfmHead:
    """The Basel face with the index and eye files beside it; key points as the published torso was trained with."""
    from triportrait.face.bfm import BfmHead
    from triportrait.weights.bfm import INDEX_FILE

    index = path.with_name(INDEX_FILE)
    eyes = [file for side in ("left", "right") if (file := path.with_name(f"bfm_{side}_eye_faces.npy")).is_file()]
    return BfmHead.from_file(path, index_mp468=index if index.is_file() else None, eye_faces=eyes, published_keypoints=True)


def load_flame(path: Path) -> FlameHead:
    """FLAME with the two files of landmarks beside it.

    Raises:
        MissingPart: one of them is not there.
        WeightsError: a file is damaged or of another kind.
    """
    from triportrait.face.flame import LANDMARK_FILE, MEDIAPIPE_FILE, FlameHead

    landmarks, mediapipe = path.with_name(LANDMARK_FILE), path.with_name(MEDIAPIPE_FILE)
    for file, source in ((landmarks, "DECA's data"), (mediapipe, "https://flame.is.tue.mpg.de")):
        if not file.is_file():
            raise MissingPart(f"FLAME's landmarks are not at '{file}'; the file comes with {source}, put it beside the model")
    return FlameHead.from_file(path, landmarks=landmarks, mediapipe=mediapipe)


def fitter_of(head: UserHead, side_px: float, *, video: bool = False) -> HeadFitter:
    """Fits a user's head model to landmarks in a crop of ``side_px``; ``video`` takes the weights of driving clips."""
    from triportrait.face.bfm import BfmHead
    from triportrait.real3d.bfm_fitting import BfmFitSettings, BfmFitter
    from triportrait.real3d.flame_fitting import FlameFitter

    settings = BfmFitSettings.video() if video else None
    return BfmFitter(head, side_px, settings) if isinstance(head, BfmHead) else FlameFitter(head, side_px, settings)
