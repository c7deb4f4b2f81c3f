"""The FLAME head model (2020 and 2023 releases), read from a user's own ``.pkl`` or ``.npz``.

The file is not ours to give away: https://flame.is.tue.mpg.de, registration, non-commercial licence. Own code, from
the published formula: ``template + shape + expression + pose correctives``, then linear blend skinning of five joints
(root, neck, jaw, left eye, right eye). The file's metres become decimetres; its axes are already ours.

Pickles are read by an unpickler that builds descriptions of arrays and sparse matrices, and plain containers, and
refuses everything else, so a file from anywhere cannot run code. numpy itself never reads such a description: a record
type with lying flags would make it take the file's bytes for pointers. Arrays are made here, from bytes of one of the
plain number types.
"""

from __future__ import annotations

import codecs
import io
import math
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.array_files import ArrayArchive, ArrayFileError
from triportrait.errors import MissingPart, WeightsError
from triportrait.face.bfm import normalised_coordinates
from triportrait.geometry.landmarks import ALL_POINTS
from triportrait.geometry.rotations import matrix_from_euler, matrix_from_vector
from triportrait.types import Array, expect

IDENTITY_SIZE, EXPRESSION_SIZE, JOINTS = 300, 100, 5
_SHAPE_SIZE = IDENTITY_SIZE + EXPRESSION_SIZE
_NECK, _JAW, _LEFT_EYE, _RIGHT_EYE = 1, 2, 3, 4
_DECIMETRES_PER_METRE = 10.0
#: Names under which FLAME is published, and those of the two files that say where landmarks lie on it.
MODEL_FILES = ("generic_model.pkl", "flame2023.pkl", "flame2023_no_jaw.pkl", "flame.npz")
LANDMARK_FILE, MEDIAPIPE_FILE = "landmark_embedding.npy", "mediapipe_landmark_embedding.npz"
WHERE_TO_GET = "download FLAME 2020 or 2023 from https://flame.is.tue.mpg.de (registration, non-commercial licence)"

_NAMES = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
#: A FLAME file has 50 to 110 MB.
_LARGEST_BYTES = 256 << 20
#: Numbers in a sparse matrix, written out.
_LARGEST_DENSE = 4_000_000
#: Names under which pickles mention number types, besides ``f4`` and the like.
_NUMBER_TYPES = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}

#: Share of a full jaw rotation that stands for its derivative.
_SMALL = 0.01

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
    def from_file(cls, path: str | Path, *, landmarks: str | Path | None = None, mediapipe: str | Path | None = None) -> FlameHead:
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
        names = _NAMES
        missing = [name for name in names if name not in data]
        if missing:
            raise WeightsError(f"{path} is not a FLAME model ({', '.join(missing)} missing); {WHERE_TO_GET}.")
        try:
            arrays = {name: _array(data[name], name) for name in names}
            template, shape_basis, pose_basis, joint_regressor, weights = (arrays[name] for name in names[:5])
            return cls(
                template,
                shape_basis,
                pose_basis,
                joint_regressor,
                weights,
                # The root's parent is 2**32 - 1 in the file.
                np.concatenate([[0], arrays["kintree_table"][0, 1:].astype(np.int64)]),
                arrays["f"].astype(np.int64),
                landmarks=None if landmarks is None else _read_landmarks(Path(landmarks)),
                mediapipe=None if mediapipe is None else _read_mediapipe(Path(mediapipe)),
            )
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise WeightsError(f"{path} is not laid out like FLAME 2020 or 2023: {error}; {WHERE_TO_GET}.") from error

    def vertices(self, identity: Array, expression: Array, gaze_rad: Array | None = None, neck_rad: Array | None = None) -> Array:
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
        shaped = self._shaped(identity)
        rotations = np.stack([np.eye(3)] * JOINTS)
        if neck_rad is not None:
            rotations[_NECK] = matrix_from_euler(neck_rad)
        if gaze_rad is not None:
            rotations[[_LEFT_EYE, _RIGHT_EYE]] = matrix_from_euler(np.array([-gaze_rad[0], gaze_rad[1], 0.0]))
        return self._expressed(shaped, self._joint_regressor @ shaped, np.asarray(expression, np.float32), rotations, slice(None))

    def _shaped(self, identity: Array) -> Array:
        """Vertices [v, 3] of a person at rest."""
        return self.template + (self._identity_basis[:, : len(identity)] @ np.asarray(identity, np.float32)).reshape(-1, 3)

    def _expressed(self, shaped: Array, joints: Array, expression: Array, rotations: Array, rows: Array | slice) -> Array:
        """The vertices ``rows`` of a shaped person under an expression [103] and its jaw, and further rotations [5, 3, 3]."""
        rotations[_JAW] = matrix_from_vector(expression[EXPRESSION_SIZE:] * JAW_FULL_RAD)
        corrective = (rotations[1:] - np.eye(3)).reshape(-1).astype(np.float32)
        bases = (self._expression_basis, self._pose_basis)
        expressed, posed = (basis.reshape(-1, 3, basis.shape[1])[rows].reshape(-1, basis.shape[1]) for basis in bases)
        offset = expressed @ expression[:EXPRESSION_SIZE] + posed @ corrective
        return self._skin(shaped[rows] + offset.reshape(-1, 3), joints, rotations, self._weights[rows])

    def _skin(self, points: Array, joints: Array, rotations: Array, weights: Array) -> Array:
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
        blended = weights @ np.concatenate([turned.reshape(JOINTS, 9), moved], 1).astype(np.float32)
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
        landmarks = np.full((ALL_POINTS, 3), np.nan, np.float32)
        if self._mediapipe is not None:
            numbers, triangle, corner_weights = self._mediapipe
            landmarks[numbers] = self._on_surface(vertices, triangle, corner_weights)
        return landmarks

    def landmark_bases(self) -> tuple[Array, Array, Array, Array]:
        """What MediaPipe's landmarks are made of near the face at rest, for fitting; the jaw's rotations are taken for small.

        Returns:
            which of the 478 are known [n], their mean [n, 3], and the bases [n, 3, 300] and [n, 3, 103]; float64, decimetres.

        Raises:
            MissingPart: the model was read without ``mediapipe``.
        """
        numbers, triangle, corner_weights = self._known_landmarks()
        corners = self.triangles[triangle]

        def at_landmarks(basis: Array) -> Array:
            return np.einsum("nk,nkce->nce", corner_weights, basis.reshape(-1, 3, basis.shape[1])[corners].astype(np.float64))

        rest = np.zeros((4, len(self.expression_names)), np.float32)
        rest[1:, EXPRESSION_SIZE:] = _SMALL * np.eye(3)
        mean, *opened = self.landmark_points(np.zeros(0), rest).astype(np.float64)
        jaw = np.stack([(points - mean) / _SMALL for points in opened], -1)
        return numbers, mean, at_landmarks(self._identity_basis), np.concatenate([at_landmarks(self._expression_basis), jaw], -1)

    def landmark_points(self, identity: Array, expression: Array) -> Array:
        """The landmarks of :meth:`landmark_bases` for one identity [<= 300] and rows of expression [t, 103]: [t, n, 3], exact.

        Raises:
            MissingPart: the model was read without ``mediapipe``.
        """
        _, triangle, corner_weights = self._known_landmarks()
        rows, corner = np.unique(self.triangles[triangle], return_inverse=True)
        corner, shaped = corner.reshape(-1, 3), self._shaped(identity)
        joints, still = self._joint_regressor @ shaped, np.stack([np.eye(3)] * JOINTS)
        places = [self._expressed(shaped, joints, np.asarray(row, np.float32), still.copy(), rows)[corner] for row in expression]
        return np.einsum("nk,tnkc->tnc", corner_weights, np.stack(places))

    def _known_landmarks(self) -> tuple[Array, Array, Array]:
        """The embedding of MediaPipe's landmarks, in the order of their numbers."""
        if self._mediapipe is None:
            raise MissingPart(f"FLAME is fitted by {MEDIAPIPE_FILE}, which comes from https://flame.is.tue.mpg.de: put it beside the model")
        order = np.argsort(self._mediapipe[0])
        numbers, triangle, corner_weights = (part[order] for part in self._mediapipe)
        return numbers, triangle, corner_weights

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


class _Array(_Plain):
    """numpy.ndarray as a pickle describes it; :func:`_array` makes an array of it."""

    def __init__(self, *_args: Any) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = ()
        self.dtype: Any = None
        self.fortran = False
        self.data: Any = b""

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise pickle.UnpicklingError("it describes an array in an unusual way")
        _, shape, self.dtype, fortran, self.data = state
        self.shape, self.fortran = _checked_shape(shape), bool(fortran)


class _NumberType:
    """numpy.dtype as a pickle describes it: a plain number type, objects ("O8", kept as a list), or refused."""

    __slots__ = ("order", "word")

    def __init__(self, word: Any) -> None:
        plain = word.lstrip("<>|=") if isinstance(word, str) else ""
        if plain not in _NUMBER_TYPES and plain not in ("O", "O8"):
            raise pickle.UnpicklingError("it holds an array of no plain numbers")
        self.word, self.order = plain, word[0] if word[0] in "<>" else "<"

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, base, names, fields, ...): a plain type has none of the last three.
        if not (isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=") and set(state[2:5]) == {None}):
            raise pickle.UnpicklingError("it holds an array of no plain numbers")
        self.order = ">" if state[1] == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.word)


class _Function:
    """A function that a pickle may call; nothing can be written to it, unlike to a function of Python."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if not (isinstance(shape, tuple) and len(shape) <= 8 and all(type(axis) is int and 0 <= axis < 1 << 40 for axis in shape)):
        raise pickle.UnpicklingError("it describes an array in an unusual way")
    return shape


def _number_type(word: Any, *_flags: Any) -> _NumberType:
    """Stands for ``numpy.dtype``."""
    return _NumberType(word)


def _reconstruct_array(*_arguments: Any) -> _Array:
    """Stands for ``numpy.core.multiarray._reconstruct``; shape and data follow as the state."""
    return _Array()


def _array_of_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands for ``numpy.core.numeric._frombuffer``."""
    array = _Array()
    array.shape, array.dtype, array.fortran, array.data = _checked_shape(shape), dtype, order == "F", data
    return array


def _scalar(dtype: Any, data: Any = b"") -> _Array:
    """Stands for ``numpy.core.multiarray.scalar``."""
    return _array_of_buffer(data, dtype, (), "C")


def _reconstruct_plain(kind: type, _base: type, _state: Any) -> _Plain:
    """Stands for ``copyreg._reconstructor``, for the classes above only."""
    if not (isinstance(kind, type) and issubclass(kind, _Plain)):
        raise pickle.UnpicklingError("it rebuilds an object that is no array")
    return kind()


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stands for ``codecs.encode``, by which Python 3 writes bytes in old pickle protocols."""
    if not isinstance(text, str) or codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError("it encodes text in an unusual way")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    reconstructor = _Function(_reconstruct_plain)
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Function(_number_type),
        ("_codecs", "encode"): _Function(_encode_latin1),
        ("copyreg", "_reconstructor"): reconstructor,
        ("copy_reg", "_reconstructor"): reconstructor,
        ("collections", "OrderedDict"): OrderedDict,
        ("chumpy.ch", "Ch"): _Chumpy,
        ("chumpy", "Ch"): _Chumpy,
    }
    # What numpy names in a pickle, under the module names of its versions 1 and 2.
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = _Function(_reconstruct_array)
        allowed[f"{core}.multiarray", "scalar"] = _Function(_scalar)
        allowed[f"{core}.numeric", "_frombuffer"] = _Function(_array_of_buffer)
    for module in ("builtins", "__builtin__"):
        allowed.update({(module, "set"): set, (module, "frozenset"): frozenset, (module, "object"): object})
    for layout, kind in (("csc", _ColumnSparse), ("csr", _RowSparse)):
        for module in (f"scipy.sparse.{layout}", f"scipy.sparse._{layout}"):
            for suffix in ("matrix", "array"):
                allowed[module, f"{layout}_{suffix}"] = kind
    return allowed


class _DataUnpickler(pickle.Unpickler):
    """Builds descriptions of arrays and sparse matrices, and plain containers; every other name in the pickle is refused."""

    _ALLOWED = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain data") from None


def _check_memo(content: bytes) -> None:
    """The memo of an unpickler is as long as the largest number in it: numbers that leave gaps ask for memory only."""
    stored = 0
    for code, argument, _ in pickletools.genops(content):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            stored += 1
            if isinstance(argument, int) and argument > stored + 1024:  # MEMOIZE has no number of its own
                raise pickle.UnpicklingError("it numbers its objects in an unusual way")


def load_plain_pickle(content: bytes, name: str) -> Any:
    """What a pickle of arrays holds, without running anything in it.

    Arrays come as descriptions, not yet as arrays of numpy.

    Raises:
        WeightsError: damaged, or it holds anything but arrays, sparse matrices, chumpy arrays and plain containers.
    """
    try:
        _check_memo(content)
        return _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a foreign or damaged pickle can make the reader stumble over anything
        raise WeightsError(f"{name} cannot be read as plain data: {error}; {WHERE_TO_GET}.") from error


def _array(value: Any, name: str) -> Array:
    """A numeric array from an array, a pickle's description of one, a chumpy stand-in or a sparse stand-in."""
    if isinstance(value, _Chumpy):
        value = value.state.get("x")
    if isinstance(value, _Sparse):
        value = _dense(value, name)
    if isinstance(value, _Array):
        value = _numbers(value, name)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise ValueError(f"{name} is no array of finite numbers")
    return value


def _numbers(described: _Array, name: str) -> Array:
    """The array of a description: its bytes must be exactly those of its shape."""
    kind, data = described.dtype, described.data
    if isinstance(data, str):  # Python 2 wrote bytes as text
        data = data.encode("latin1", errors="replace")
    if not isinstance(kind, _NumberType) or kind.word.startswith("O") or not isinstance(data, bytes | bytearray):
        raise ValueError(f"{name} is no array of numbers")
    if math.prod(described.shape) * kind.dtype.itemsize != len(data):
        raise ValueError(f"{name} is cut off")
    return np.frombuffer(data, kind.dtype).reshape(described.shape, order="F" if described.fortran else "C")


def _dense(matrix: _Sparse, name: str) -> Array:
    state = matrix.state
    shape = state.get("_shape", state.get("shape"))
    parts = [part for part in map(state.get, ("data", "indices", "indptr")) if isinstance(part, _Array)]
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(axis, int | _Array) for axis in shape)):
        raise ValueError(f"{name} is no sparse matrix")
    if len(parts) != 3:
        raise ValueError(f"{name} is no sparse matrix")
    shape = tuple(int(_numbers(axis, name)) if isinstance(axis, _Array) else axis for axis in shape)
    if min(shape) < 0 or shape[0] * shape[1] > _LARGEST_DENSE:
        raise ValueError(f"{name} is a matrix of {shape[0]} x {shape[1]}, which is too large")
    data, indices, starts = (_numbers(part, name) for part in parts)
    from scipy.sparse import csc_matrix, csr_matrix

    kind = csc_matrix if isinstance(matrix, _ColumnSparse) else csr_matrix
    sparse = kind((data, indices, starts), shape=shape)
    sparse.check_format(full_check=True)
    return sparse.toarray()


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise WeightsError(f"There is no FLAME file {path}; {WHERE_TO_GET}.")
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise WeightsError(f"{path} has more than {_LARGEST_BYTES >> 20} MB, which no FLAME file has; {WHERE_TO_GET}.")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _read(path: Path) -> dict[str, Any]:
    content = _bytes(path)
    data = _npz(path, _NAMES) if content[:2] == b"PK" else load_plain_pickle(content, str(path))
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds no named arrays; {WHERE_TO_GET}.")
    return data


def _npz(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    try:
        with ArrayArchive(path, names) as archive:
            # Arrays of objects (a sparse J_regressor, say) cannot be read without pickle: the archive refuses them.
            if sum(header.size_bytes for header in archive.headers.values()) > _LARGEST_BYTES:
                raise ArrayFileError(f"unpacks to more than {_LARGEST_BYTES >> 20} MB")
            return {name: archive.read(name) for name in archive.headers}
    except (ArrayFileError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as an .npz file of numbers ({error}); {WHERE_TO_GET}.") from error


def _read_landmarks(path: Path) -> tuple[Array, Array]:
    """``landmark_embedding.npy``: a pickled dictionary behind an .npy header, which is skipped."""
    content = _bytes(path)
    try:
        stream = io.BytesIO(content)
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise WeightsError(f"{path} is not an .npy file; take landmark_embedding.npy from DECA's data.") from error
    data = load_plain_pickle(stream.read(), str(path))
    if isinstance(data, _Array) and isinstance(data.data, list) and len(data.data) == 1:
        data = data.data[0]
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
    _bytes(path)
    data = _npz(path, ("landmark_indices", "lmk_face_idx", "lmk_b_coords"))
    try:
        numbers = _array(data["landmark_indices"], "landmark_indices").reshape(-1).astype(np.int64)
        triangle = _array(data["lmk_face_idx"], "lmk_face_idx").reshape(len(numbers)).astype(np.int64)
        corner_weights = _array(data["lmk_b_coords"], "lmk_b_coords").reshape(len(numbers), 3)
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} does not hold landmark_indices, lmk_face_idx and lmk_b_coords; "
            f"take mediapipe_landmark_embedding.npz from https://flame.is.tue.mpg.de."
        ) from error
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < ALL_POINTS):
        raise WeightsError(f"{path} names MediaPipe landmarks outside 0..477; download it again.")
    return numbers, triangle, corner_weights
