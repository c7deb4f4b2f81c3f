"""The FLAME head model (2020 and 2023 releases), read from a user's own ``.pkl`` or ``.npz``.

The file is not ours to give away: https://flame.is.tue.mpg.de, registration, non-commercial licence. Own code, from
the published formula: ``template + shape + expression + pose correctives``, then linear blend skinning of five joints
(root, neck, jaw, left eye, right eye). The file's metres become decimetres; its axes are already ours.

Pickles are read by an unpickler that can build arrays, sparse matrices and plain containers and refuses everything
else, so a file from anywhere cannot run code.
"""

from __future__ import annotations

import codecs
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import MissingPart, WeightsError
from triportrait.face.bfm import normalised_coordinates
from triportrait.geometry.rotations import matrix_from_euler, matrix_from_vector
from triportrait.types import expect

Array = np.ndarray

IDENTITY_SIZE, EXPRESSION_SIZE, JOINTS = 300, 100, 5
_SHAPE_SIZE = IDENTITY_SIZE + EXPRESSION_SIZE
_NECK, _JAW, _LEFT_EYE, _RIGHT_EYE = 1, 2, 3, 4
_DECIMETRES_PER_METRE = 10.0
WHERE_TO_GET = "download FLAME 2020 or 2023 from https://flame.is.tue.mpg.de (registration, non-commercial licence)"

#: Jaw rotation about x, y, z in radians at which the curves jawOpen, jawLeft (subject's left) and jawRoll reach 1.
JAW_FULL_RAD = (0.35, 0.12, 0.12)


class FlameHead:
    """Implements :class:`triportrait.types.HeadModel`: 300 identity coefficients, 100 expressions, jaw, gaze.

    Args:
        template: [v, 3] metres.
        shape_basis: [v, 3, 400], 300 identity directions before 100 expressions.
        pose_basis: [v, 3, 36], correctives for the rotations of joints 1..4.
        joint_regressor: [5, v].
        weights: [v, 5] skinning weights.
        parents: [5] parent of every joint; the root's is ignored.
        triangles: [f, 3], 0-based.
        landmarks: triangle [68] and weights [68, 3] of the 68 landmarks, or None.
        mediapipe: landmark number [n], triangle [n] and weights [n, 3] of MediaPipe landmarks, or None.

    Raises:
        ValueError: shapes do not fit, or an index names what does not exist.
    """

    name = "flame"
    identity_size = IDENTITY_SIZE
    expression_names = (*(f"expression_{i:03d}" for i in range(EXPRESSION_SIZE)), "jawOpen", "jawLeft", "jawRoll")

    def __init__(
        self,
        template: Array,
        shape_basis: Array,
        pose_basis: Array,
        joint_regressor: Array,
        weights: Array,
        parents: Array,
        triangles: Array,
        *,
        landmarks: tuple[Array, Array] | None = None,
        mediapipe: tuple[Array, Array, Array] | None = None,
    ) -> None:
        count = expect(template, "v 3", "v_template")["v"]
        expect(shape_basis, f"{count} 3 {_SHAPE_SIZE}", "shapedirs")
        expect(pose_basis, f"{count} 3 {9 * (JOINTS - 1)}", "posedirs")
        expect(joint_regressor, f"{JOINTS} {count}", "J_regressor")
        expect(weights, f"{count} {JOINTS}", "weights")
        expect(parents, f"{JOINTS}", "kintree_table")
        faces = expect(triangles, "f 3", "f")["f"]
        parents = np.asarray(parents).astype(np.int64)
        if not all(0 <= parents[joint] < joint for joint in range(1, JOINTS)):
            raise ValueError(f"kintree_table names parents {parents.tolist()}, expected each before its child")
        if faces and not (np.min(triangles) >= 0 and np.max(triangles) < count):
            raise ValueError(f"f names vertices outside 0..{count - 1}")
        self.template: Array = np.asarray(template, np.float32) * np.float32(_DECIMETRES_PER_METRE)
        basis = np.asarray(shape_basis, np.float32).reshape(3 * count, _SHAPE_SIZE) * np.float32(_DECIMETRES_PER_METRE)
        self._identity_basis = np.ascontiguousarray(basis[:, :IDENTITY_SIZE])
        self._expression_basis = np.ascontiguousarray(basis[:, IDENTITY_SIZE:])
        self._pose_basis = np.asarray(pose_basis, np.float32).reshape(3 * count, -1) * np.float32(_DECIMETRES_PER_METRE)
        # One order in memory, whatever the file's: a product's last bits depend on it, and sparse matrices come out in either.
        self._joint_regressor = np.ascontiguousarray(joint_regressor, np.float32)
        self._weights = np.ascontiguousarray(weights, np.float32)
        self._parents = parents
        self.triangles: Array = np.ascontiguousarray(triangles, np.int32)
        self.ncc_colours: Array = normalised_coordinates(self.template)
        self.pncc_triangles: Array = _largest_part(self.triangles, count)
        self._landmarks = landmarks
        self._mediapipe = mediapipe
        for name, (triangle, corner_weights) in (
            ("68 landmarks", landmarks or (np.zeros(68, int), np.zeros((68, 3)))),
            ("MediaPipe landmarks", mediapipe[1:] if mediapipe else (np.zeros(0, int), np.zeros((0, 3)))),
        ):
            expect(corner_weights, f"{len(triangle)} 3", f"weights of the {name}")
            if len(triangle) and not (triangle.min() >= 0 and triangle.max() < max(faces, 1)):
                raise ValueError(f"the {name} name triangles outside 0..{faces - 1}")

    @classmethod
    def from_file(
        cls, path: str | Path, *, landmarks: str | Path | None = None, mediapipe: str | Path | None = None
    ) -> FlameHead:
        """Read a FLAME model and, where given, the embeddings of its landmarks.

        Args:
            path: ``generic_model.pkl``, ``flame2023.pkl`` or an ``.npz`` with the same names.
            landmarks: ``landmark_embedding.npy`` of DECA with ``full_lmk_faces_idx`` and ``full_lmk_bary_coords``.
            mediapipe: ``mediapipe_landmark_embedding.npz`` with ``landmark_indices``, ``lmk_face_idx`` and
                ``lmk_b_coords``.

        Raises:
            WeightsError: a file is missing, damaged, of another layout, or holds objects that are no plain data.
        """
        path = Path(path)
        data = _read(path)
        names = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
        missing = [name for name in names if name not in data]
        if missing:
            raise WeightsError(f"{path} is not a FLAME model ({', '.join(missing)} missing); {WHERE_TO_GET}.")
        try:
            arrays = {name: _array(data[name], name) for name in names}
            return cls(
                *(arrays[name] for name in names[:5]),
                # The root's parent is 2**32 - 1 in the file.
                np.concatenate([[0], arrays["kintree_table"][0, 1:].astype(np.int64)]),
                arrays["f"].astype(np.int64),
                landmarks=None if landmarks is None else _read_landmarks(Path(landmarks)),
                mediapipe=None if mediapipe is None else _read_mediapipe(Path(mediapipe)),
            )
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise WeightsError(f"{path} is not laid out like FLAME 2020 or 2023: {error}; {WHERE_TO_GET}.") from error

    def vertices(
        self, identity: Array, expression: Array, gaze_rad: Array | None = None, neck_rad: Array | None = None
    ) -> Array:
        """Head-space vertices [v, 3] float32.

        Args:
            identity: [300]; a shorter array leaves the rest 0.
            expression: [103], 100 expressions, jawOpen, jawLeft, jawRoll.
            gaze_rad: [2] pitch (up positive) and yaw (towards +x positive) of both eyes.
            neck_rad: [3] pitch, yaw, roll of the head against the neck.
        """
        expect(expression, f"{len(self.expression_names)}", "expression")
        if not len(identity) <= IDENTITY_SIZE:
            raise ValueError(f"identity has {len(identity)} coefficients, expected at most {IDENTITY_SIZE}")
        identity = np.asarray(identity, np.float32)
        expression = np.asarray(expression, np.float32)
        shaped = self.template + (self._identity_basis[:, : len(identity)] @ identity).reshape(-1, 3)
        joints = self._joint_regressor @ shaped
        rotations = np.stack([np.eye(3)] * JOINTS)
        if neck_rad is not None:
            rotations[_NECK] = matrix_from_euler(neck_rad)
        rotations[_JAW] = matrix_from_vector(expression[EXPRESSION_SIZE:] * JAW_FULL_RAD)
        if gaze_rad is not None:
            rotations[[_LEFT_EYE, _RIGHT_EYE]] = matrix_from_euler(np.array([-gaze_rad[0], gaze_rad[1], 0.0]))
        corrective = (rotations[1:] - np.eye(3)).reshape(-1).astype(np.float32)
        offset = self._expression_basis @ expression[:EXPRESSION_SIZE] + self._pose_basis @ corrective
        return self._skin(shaped + offset.reshape(-1, 3), joints, rotations)

    def _skin(self, points: Array, joints: Array, rotations: Array) -> Array:
        """Linear blend skinning: every joint turns about where its parents have moved it."""
        turned, moved = np.empty((JOINTS, 3, 3)), np.empty((JOINTS, 3))
        for joint in range(JOINTS):
            parent = self._parents[joint]
            if joint == 0:
                turned[joint], position = rotations[joint], joints[joint].astype(np.float64)
            else:
                turned[joint] = turned[parent] @ rotations[joint]
                position = turned[parent] @ joints[joint] + moved[parent]
            moved[joint] = position - turned[joint] @ joints[joint]
        blended = self._weights @ np.concatenate([turned.reshape(JOINTS, 9), moved], 1).astype(np.float32)
        return np.einsum("vij,vj->vi", blended[:, :9].reshape(-1, 3, 3), points) + blended[:, 9:]

    def landmarks68(self, vertices: Array) -> Array:
        """The 68 landmarks [68, 3] of ``vertices`` [v, 3].

        Raises:
            MissingPart: the model was read without ``landmarks``.
        """
        if self._landmarks is None:
            raise MissingPart(
                "FLAME's 68 landmarks need landmark_embedding.npy, which comes with DECA's data: "
                "pass it as FlameHead.from_file(..., landmarks=PATH)."
            )
        return self._on_surface(vertices, *self._landmarks)

    def landmarks478(self, vertices: Array) -> Array:
        """MediaPipe's 478 landmarks [478, 3]; those the embedding does not name, or all without one, are NaN."""
        landmarks = np.full((478, 3), np.nan, np.float32)
        if self._mediapipe is not None:
            numbers, triangle, corner_weights = self._mediapipe
            landmarks[numbers] = self._on_surface(vertices, triangle, corner_weights)
        return landmarks

    def _on_surface(self, vertices: Array, triangle: Array, corner_weights: Array) -> Array:
        return np.einsum("nk,nkc->nc", corner_weights, vertices[self.triangles[triangle]]).astype(np.float32)


def _largest_part(triangles: Array, count: int) -> Array:
    """Mask [f] of the triangles in the largest connected part: the skin; FLAME's eyeballs are parts of their own."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    start, end = triangles.reshape(-1), np.roll(triangles, -1, axis=1).reshape(-1)
    graph = coo_matrix((np.ones(len(start)), (start, end)), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    of_triangle = label[triangles[:, 0]]
    return of_triangle == np.bincount(of_triangle).argmax() if len(triangles) else np.zeros(0, bool)


class _Plain:
    """Stands for a foreign class in a pickle: keeps the state as a dictionary and can do nothing."""

    def __new__(cls, *_args: Any) -> _Plain:
        return super().__new__(cls)

    def __init__(self, *_args: Any) -> None:
        self.state: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Chumpy(_Plain):
    """chumpy.Ch: its values are in ``x``."""


class _Sparse(_Plain):
    """A compressed scipy.sparse matrix."""


class _ColumnSparse(_Sparse):
    """scipy.sparse.csc_matrix."""


class _RowSparse(_Sparse):
    """scipy.sparse.csr_matrix."""


def _reconstruct_plain(kind: type, _base: type, _state: Any) -> _Plain:
    """Stands for ``copyreg._reconstructor``, for the classes above only."""
    if not (isinstance(kind, type) and issubclass(kind, _Plain)):
        raise pickle.UnpicklingError("it rebuilds an object that is no array")
    return kind()


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stands for ``codecs.encode``, by which Python 3 writes bytes in old pickle protocols."""
    if codecs.lookup(encoding).name != "iso8859-1" or not isinstance(text, str):
        raise pickle.UnpicklingError("it encodes text in an unusual way")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode_latin1,
        ("copyreg", "_reconstructor"): _reconstruct_plain,
        ("copy_reg", "_reconstructor"): _reconstruct_plain,
        ("collections", "OrderedDict"): OrderedDict,
        ("chumpy.ch", "Ch"): _Chumpy,
        ("chumpy", "Ch"): _Chumpy,
    }
    # What numpy itself names in a pickle, under the module names of numpy 1 and 2.
    reconstruct, from_buffer = np.empty(1).__reduce__()[0], np.empty(1).__reduce_ex__(5)[0]
    scalar = np.float64(0).__reduce__()[0]
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    for module in ("builtins", "__builtin__"):
        allowed.update({(module, "set"): set, (module, "frozenset"): frozenset, (module, "object"): object})
    for layout, kind in (("csc", _ColumnSparse), ("csr", _RowSparse)):
        for module in (f"scipy.sparse.{layout}", f"scipy.sparse._{layout}"):
            for suffix in ("matrix", "array"):
                allowed[module, f"{layout}_{suffix}"] = kind
    return allowed


class _DataUnpickler(pickle.Unpickler):
    """Builds arrays, sparse matrices and plain containers; every other name in the pickle is refused."""

    _ALLOWED = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain data") from None


def load_plain_pickle(content: bytes, name: str) -> Any:
    """What a pickle of arrays holds, without running anything in it.

    Raises:
        WeightsError: damaged, or it holds anything but arrays, sparse matrices, chumpy arrays and plain containers.
    """
    try:
        return _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a foreign or damaged pickle can make the reader stumble over anything
        raise WeightsError(f"{name} cannot be read as plain data: {error}; {WHERE_TO_GET}.") from error


def _array(value: Any, name: str) -> Array:
    """A numeric array from an array, a chumpy stand-in or a sparse stand-in."""
    if isinstance(value, _Chumpy):
        value = value.state.get("x")
    if isinstance(value, _Sparse):
        value = _dense(value, name)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise ValueError(f"{name} is no array of finite numbers")
    return value


def _dense(matrix: _Sparse, name: str) -> Array:
    state = matrix.state
    shape = state.get("_shape", state.get("shape"))
    parts = [state.get(part) for part in ("data", "indices", "indptr")]
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(part, np.ndarray) for part in parts)):
        raise ValueError(f"{name} is no sparse matrix")
    from scipy.sparse import csc_matrix, csr_matrix

    kind = csc_matrix if isinstance(matrix, _ColumnSparse) else csr_matrix
    sparse = kind(tuple(parts), shape=shape)
    sparse.check_format(full_check=True)
    return sparse.toarray()


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise WeightsError(f"There is no FLAME file {path}; {WHERE_TO_GET}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _read(path: Path) -> dict[str, Any]:
    content = _bytes(path)
    data = _npz(content, path) if content[:2] == b"PK" else load_plain_pickle(content, str(path))
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds no named arrays; {WHERE_TO_GET}.")
    return data


def _npz(content: bytes, path: Path) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            # Arrays of objects (a sparse J_regressor, say) cannot be read without pickle; they count as missing.
            return {name: archive[name] for name in archive.files if not _holds_objects(archive, name)}
    except Exception as error:  # zipfile, zlib and numpy each have errors of their own
        raise WeightsError(f"{path} cannot be read as an .npz file ({error}); {WHERE_TO_GET}.") from error


def _holds_objects(archive: Any, name: str) -> bool:
    with archive.zip.open(f"{name}.npy" if f"{name}.npy" in archive.zip.namelist() else name) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return bool(read(stream)[2].hasobject)


def _read_landmarks(path: Path) -> tuple[Array, Array]:
    """``landmark_embedding.npy``: a pickled dictionary behind an .npy header, which is skipped."""
    content = _bytes(path)
    try:
        stream = io.BytesIO(content)
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise WeightsError(f"{path} is not an .npy file; take landmark_embedding.npy from DECA's data.") from error
    holder = load_plain_pickle(stream.read(), str(path))
    data = holder.item() if isinstance(holder, np.ndarray) and holder.size == 1 else holder
    try:
        triangle = _array(data["full_lmk_faces_idx"], "full_lmk_faces_idx").reshape(68).astype(np.int64)
        corner_weights = _array(data["full_lmk_bary_coords"], "full_lmk_bary_coords").reshape(68, 3)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{path} does not hold full_lmk_faces_idx and full_lmk_bary_coords of 68 landmarks; "
            "take landmark_embedding.npy from DECA's data."
        ) from error
    return triangle, corner_weights


def _read_mediapipe(path: Path) -> tuple[Array, Array, Array]:
    data = _npz(_bytes(path), path)
    try:
        numbers = _array(data["landmark_indices"], "landmark_indices").reshape(-1).astype(np.int64)
        triangle = _array(data["lmk_face_idx"], "lmk_face_idx").reshape(len(numbers)).astype(np.int64)
        corner_weights = _array(data["lmk_b_coords"], "lmk_b_coords").reshape(len(numbers), 3)
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} does not hold landmark_indices, lmk_face_idx and lmk_b_coords; "
            f"take mediapipe_landmark_embedding.npz from https://flame.is.tue.mpg.de."
        ) from error
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < 478):
        raise WeightsError(f"{path} names MediaPipe landmarks outside 0..477; download it again.")
    return numbers, triangle, corner_weights
