"""The Basel face model's files: checked, then copied as they are (``face.bfm`` reads them)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from triportrait.array_files import ArrayFileError, read_mat, read_npy
from triportrait.errors import OutputError, WeightsError
from triportrait.files import atomic_file
from triportrait.geometry.landmarks import FACE_POINTS
from triportrait.weights.reading import sha256_of

MODEL_FILE, INDEX_FILE = "BFM_model_front.mat", "index_mp468_from_mesh35709.npy"
PROVENANCE_FILE = "provenance.json"
_EYE_FILES = ("bfm_left_eye_faces.npy", "bfm_right_eye_faces.npy")
_GET_IT = "make it with Deep3DFaceRecon from the Basel Face Model 2009 (https://faces.dmi.unibas.ch)"

#: The published file has 35,709 vertices and needs 128 MB; its index files have some thousand numbers.
_LARGEST_BYTES, _LARGEST_INDEX_BYTES = 256 << 20, 8 << 20

#: Widths of the bases: identity, expression.
IDENTITY_SIZE, EXPRESSION_SIZE = 80, 64


def looks_like_bfm(path: Path) -> bool:
    """Whether a path is a MATLAB file or a folder with the face model in it."""
    if path.is_dir():
        return (path / MODEL_FILE).is_file()
    with path.open("rb") as file:
        return file.read(10) == b"MATLAB 5.0"


def import_bfm(path: Path, folder: Path) -> tuple[Path, int]:
    """Check the face model and copy it, with the index and eye files that lie beside it, into ``folder``.

    Returns:
        (the copy, its number of vertices).

    Raises:
        WeightsError: damaged, or of another layout.
        OutputError: the folder cannot be written.
    """
    source = path / MODEL_FILE if path.is_dir() else path
    vertices = check_bfm(source)
    files = {MODEL_FILE: source}
    files |= {name: beside for name in (INDEX_FILE, *_EYE_FILES) if (beside := source.parent / name).is_file()}
    if INDEX_FILE in files:
        _check_index(files[INDEX_FILE], vertices)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            # Its own place is no place to copy it to, by whatever name.
            if not ((folder / name).exists() and (folder / name).samefile(file)):
                with atomic_file(folder / name) as part:
                    shutil.copyfile(file, part)
        hashes = {name: sha256_of(folder / name) for name in files}
        with atomic_file(folder / PROVENANCE_FILE) as part:
            part.write_text(json.dumps({"source": os.fspath(source), "sha256": hashes}, indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be written: {error.strerror or error}; choose another folder.") from error
    return folder / MODEL_FILE, vertices


def verify_bfm(folder: Path) -> int:
    """Compare the copies with the hashes taken at the import; returns the number of vertices.

    Raises:
        WeightsError: changed, missing or damaged.
    """
    again = "run 'triportrait weights import' on the face model again"
    try:
        hashes = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"'{folder}' was not written by 'triportrait weights import' ({error}); {again}.") from error
    for name, expected in hashes.items():
        file = folder / Path(name).name
        if not file.is_file() or sha256_of(file) != expected:
            raise WeightsError(f"'{file}' is missing or has changed since it was imported; {again}.")
    return check_bfm(folder / MODEL_FILE)


def check_bfm(path: Path) -> int:
    """Number of vertices of a file laid out like ``BFM_model_front.mat`` (spec 3.1).

    Raises:
        WeightsError: it is not.
    """
    import numpy as np

    names = ("meanshape", "idBase", "exBase", "tri", "keypoints")
    try:
        data = read_mat(path, names, _LARGEST_BYTES)
    except (ArrayFileError, OSError) as error:
        raise WeightsError(f"'{path}' cannot be read as a MATLAB file ({error}); {_GET_IT}.") from error
    missing = next((name for name in names if name not in data), None)
    if missing is not None:
        raise WeightsError(f"'{path}' is not laid out like {MODEL_FILE}: '{missing}' is missing; {_GET_IT}.")
    vertices = data["meanshape"].size // 3
    shapes = {"idBase": (3 * vertices, IDENTITY_SIZE), "exBase": (3 * vertices, EXPRESSION_SIZE)}
    wrong = next((name for name, shape in shapes.items() if data[name].shape != shape), None)
    if wrong is None and (data["tri"].ndim != 2 or data["tri"].shape[1] != 3):
        wrong = "tri"
    if wrong is None and data["keypoints"].size != 68:
        wrong = "keypoints"
    if wrong is not None:
        raise WeightsError(f"'{path}' is not laid out like {MODEL_FILE}: '{wrong}' has the shape {data[wrong].shape}; {_GET_IT}.")
    for name in names:
        if data[name].dtype.kind not in "fiu" or not np.isfinite(data[name]).all():
            raise WeightsError(f"'{path}' holds no sensible numbers in '{name}'; {_GET_IT}.")
    for name in ("tri", "keypoints"):
        if data[name].min() < 1 or data[name].max() > vertices:
            raise WeightsError(f"'{path}': '{name}' names vertices that do not exist; {_GET_IT}.")
    return vertices


def _check_index(path: Path, vertices: int) -> None:
    get_it = "it comes with the Real3D-Portrait download of the face model"
    try:
        index = read_npy(path, _LARGEST_INDEX_BYTES)
    except (ArrayFileError, OSError) as error:
        raise WeightsError(f"'{path}' is no .npy file of whole numbers; {get_it}.") from error
    if index.size != FACE_POINTS or index.dtype.kind not in "iuf" or index.max() >= vertices:
        raise WeightsError(f"'{path}' does not map MediaPipe's 468 landmarks to the {vertices} vertices; {get_it}.")
