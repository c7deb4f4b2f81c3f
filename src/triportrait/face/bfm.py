"""The Basel face model as Deep3DFaceRecon arranges it (``BFM_model_front.mat``), read from a user's own file.

The file is not ours to give away: it is made from the Basel Face Model 2009, whose licence allows non-commercial use
only. Layout and conventions: spec 3.1 and 3.3. Vertices are decimetres, x to the subject's left, y up, z out of the
face.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triportrait.array_files import ArrayFileError, not_finite, read_mat, read_npy
from triportrait.errors import WeightsError
from triportrait.geometry.landmarks import ALL_POINTS
from triportrait.types import Array, expect

IDENTITY_SIZE, EXPRESSION_SIZE = 80, 64
WHERE_TO_GET = (
    "make it with Deep3DFaceRecon_pytorch from the Basel Face Model 2009 "
    "(https://faces.dmi.unibas.ch, registration, non-commercial licence)"
)
#: The published file has 35,709 vertices and needs 128 MB; its index files have some thousand numbers.
_LARGEST_BYTES, _LARGEST_INDEX_BYTES = 256 << 20, 8 << 20
#: What the MediaPipe index file says where no vertex corresponds to a landmark.
_UNMATCHED = -999


class BfmHead:
    """Implements :class:`triportrait.types.HeadModel`: 80 identity and 64 expression coefficients, a face without eyes.

    Args:
        mean: [v, 3] float32, decimetres; moved here so that its vertex mean is the origin.
        identity_basis: [3 v, 80] float32, already scaled by the standard deviations.
        expression_basis: [3 v, 64] float32.
        triangles: [f, 3] int32, 0-based.
        keypoints: [68] the file's 1-based vertex numbers of the 68 landmarks.
        index_mp468: [468] vertex index of MediaPipe's first 468 landmarks, -999 where there is none; or None.
        eye_triangles: 0-based indices of the triangles that close the eyes; PNCC leaves them out.
        published_keypoints: use the 1-based numbers as if they were 0-based, so that every landmark is the *next*
            vertex. Real3D-Portrait's torso key points and its blink, eye and mouth features were trained that way
            (``Face3DHelper``); its fitting code (``ParametricFaceModel``) subtracts 1, as the default here does.

    Raises:
        ValueError: shapes do not fit, or an index names what does not exist.
    """

    name = "bfm"
    identity_size = IDENTITY_SIZE
    expression_names = tuple(f"expression_{i:02d}" for i in range(EXPRESSION_SIZE))

    def __init__(
        self,
        mean: Array,
        identity_basis: Array,
        expression_basis: Array,
        triangles: Array,
        keypoints: Array,
        *,
        index_mp468: Array | None = None,
        eye_triangles: Array | None = None,
        published_keypoints: bool = False,
    ) -> None:
        count = expect(mean, "v 3", "mean")["v"]
        expect(identity_basis, f"{3 * count} {IDENTITY_SIZE}", "identity_basis")
        expect(expression_basis, f"{3 * count} {EXPRESSION_SIZE}", "expression_basis")
        expect(triangles, "f 3", "triangles")
        expect(keypoints, "68", "keypoints")
        mean = np.asarray(mean, np.float32)
        self.mean: Array = mean - mean.mean(0, dtype=np.float64).astype(np.float32)
        self._identity_basis = np.ascontiguousarray(identity_basis, np.float32)
        self._expression_basis = np.ascontiguousarray(expression_basis, np.float32)
        self.triangles: Array = _outward(self.mean, _indices(triangles, count, "triangles"))
        self.ncc_colours: Array = normalised_coordinates(self.mean)
        self.landmark_vertices = _indices(keypoints if published_keypoints else np.asarray(keypoints, np.int64) - 1, count, "keypoints")
        self._index_mp468 = None
        if index_mp468 is not None:
            expect(index_mp468, "468", "index_mp468")
            known = np.asarray(index_mp468) != _UNMATCHED
            self._index_mp468 = np.where(known, _indices(np.where(known, index_mp468, 0), count, "index_mp468"), -1)
        self.pncc_triangles: Array = np.ones(len(triangles), bool)
        if eye_triangles is not None:
            self.pncc_triangles[_indices(eye_triangles, len(triangles), "eye triangles")] = False
        # The published renderer tests `triangle index > 0`, so the first triangle it is given is never seen (spec 3.3).
        self.pncc_triangles[np.argmax(self.pncc_triangles)] = False

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        index_mp468: str | Path | None = None,
        eye_faces: Sequence[str | Path] = (),
        published_keypoints: bool = False,
    ) -> BfmHead:
        """Read ``BFM_model_front.mat`` and, where given, the arrays that come with it.

        Args:
            path: the ``.mat`` file.
            index_mp468: ``index_mp468_from_mesh35709.npy``, vertex index per MediaPipe landmark.
            eye_faces: ``.npy`` files with 1-based triangle numbers of the eyes.
            published_keypoints: see :class:`BfmHead`.

        Raises:
            WeightsError: a file is missing, damaged or of another layout; the text says where to get it.
        """
        path = Path(path)
        data = _read_mat(path)
        try:
            count = data["meanshape"].size // 3
            return cls(
                data["meanshape"].reshape(count, 3),
                data["idBase"],
                data["exBase"],
                np.asarray(data["tri"], np.int64) - 1,
                data["keypoints"].reshape(-1).astype(np.int64),
                index_mp468=None if index_mp468 is None else _read_indices(Path(index_mp468)),
                eye_triangles=np.concatenate([_read_indices(Path(p)) - 1 for p in eye_faces]) if eye_faces else None,
                published_keypoints=published_keypoints,
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} is not laid out like BFM_model_front.mat: {error}; {WHERE_TO_GET}") from error

    def vertices(self, identity: Array, expression: Array, gaze_rad: Array | None = None) -> Array:
        """Head-space vertices [v, 3] float32 for identity [80] and expression [64]; there are no eyeballs to turn."""
        expect(identity, f"{IDENTITY_SIZE}", "identity")
        expect(expression, f"{EXPRESSION_SIZE}", "expression")
        return self.mean + self.offset(identity, expression)

    def offset(self, identity: Array, expression: Array) -> Array:
        """What the coefficients add to the mean, [v, 3] float32; ten times this at the landmarks is ``idexp_lm3d``."""
        offset = self._identity_basis @ np.asarray(identity, np.float32)
        offset += self._expression_basis @ np.asarray(expression, np.float32)
        return offset.reshape(-1, 3)

    def landmarks68(self, vertices: Array) -> Array:
        """The 68 landmarks [68, 3] of ``vertices`` [v, 3]."""
        return vertices[self.landmark_vertices]

    def landmarks478(self, vertices: Array) -> Array:
        """MediaPipe's 478 landmarks [478, 3]; irises, unmatched ones, and all without ``index_mp468`` are NaN."""
        landmarks = np.full((ALL_POINTS, 3), np.nan, np.float32)
        if self._index_mp468 is not None:
            known = np.flatnonzero(self._index_mp468 >= 0)
            landmarks[known] = vertices[self._index_mp468[known]]
        return landmarks

    def landmark_bases(self) -> tuple[Array, Array, Array, Array]:
        """What MediaPipe's landmarks are made of, for fitting.

        Returns:
            which of the first 468 have a vertex [n], their mean [n, 3], and the bases [n, 3, 80] and [n, 3, 64]; float64.

        Raises:
            WeightsError: the head was read without ``index_mp468``.
        """
        if self._index_mp468 is None:
            raise WeightsError(
                "The face model has no index_mp468_from_mesh35709.npy beside it, which says where MediaPipe's landmarks lie on it; "
                "it comes with the Real3D-Portrait download of the face model."
            )
        known = np.flatnonzero(self._index_mp468 >= 0)
        vertices = self._index_mp468[known]
        rows = (3 * vertices[:, None] + np.arange(3)).reshape(-1)
        identity = self._identity_basis[rows].reshape(len(known), 3, -1).astype(np.float64)
        expression = self._expression_basis[rows].reshape(len(known), 3, -1).astype(np.float64)
        return known, self.mean[vertices].astype(np.float64), identity, expression


def normalised_coordinates(mean: Array) -> Array:
    """Min-max normalised coordinates per axis of a mean shape [v, 3]: PNCC's colours in 0..1 (``ncc_code.npy``)."""
    low, high = mean.min(0), mean.max(0)
    return ((mean - low) / np.maximum(high - low, 1e-9)).astype(np.float32)


def _outward(mean: Array, triangles: Array) -> Array:
    """The triangles wound so that the face, which looks along +z, is counter-clockwise from in front."""
    a, b, c = (mean[triangles[:, i]] for i in range(3))
    facing = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return np.ascontiguousarray(triangles if facing.sum() >= 0 else triangles[:, ::-1])


def _indices(values: Array, count: int, name: str) -> Array:
    values = np.asarray(values)
    if values.dtype.kind not in "iuf" or not np.array_equal(values, np.floor(values)):
        raise ValueError(f"{name} are not whole numbers")
    if values.size and not (values.min() >= 0 and values.max() < count):
        raise ValueError(f"{name} reach from {values.min()} to {values.max()}, expected 0..{count - 1}")
    return values.astype(np.int32)


def _read_mat(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise WeightsError(f"There is no face model file {path}; {WHERE_TO_GET}.")
    names = ["meanshape", "idBase", "exBase", "tri", "keypoints"]
    try:
        data = read_mat(path, names, _LARGEST_BYTES)
    except (ArrayFileError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as a MATLAB file ({error}); {WHERE_TO_GET}.") from error
    missing = [name for name in names if name not in data]
    if missing:
        raise WeightsError(f"{path} is not laid out like BFM_model_front.mat ({', '.join(missing)} missing); {WHERE_TO_GET}.")
    if (wrong := not_finite(data)) is not None:
        raise WeightsError(f"{path} holds NaN or infinity in {wrong}; {WHERE_TO_GET}.")
    return data


def _read_indices(path: Path) -> Array:
    if not path.is_file():
        raise WeightsError(f"There is no index file {path}; it comes with the Real3D-Portrait download of the face model.")
    try:
        return read_npy(path, _LARGEST_INDEX_BYTES).reshape(-1).astype(np.int64)
    except (ArrayFileError, OSError) as error:
        raise WeightsError(f"{path} is not an .npy file of whole numbers; download it again.") from error
