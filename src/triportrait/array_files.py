"""Arrays from files of strangers: names, kinds and shapes are read and bounded before anything is allocated.

``.npy`` and ``.npz`` (numpy's format description, ``numpy.lib.format``) and MATLAB 5 (its "MAT-File Format" manual, version 5).
Arrays of numbers and of text only: no objects, no records, so nothing in a file can name a class or a pointer.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np

from triportrait.types import Array

#: Kinds of numbers that are read: truth values, whole numbers, floating point.
NUMBERS = "biuf"
#: Bytes of the list of contents of an archive, at most: it is read into memory whole.
_LARGEST_CONTENTS = 1 << 18
_ZIP_END = struct.Struct("<4s4H2LH")


class ArrayFileError(ValueError):
    """A file of arrays that is damaged, or announces what is not read; the text completes "FILE ..."."""


class ArrayHeader(NamedTuple):
    """What a file announces of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], kinds: str = NUMBERS + "U") -> ArrayHeader:
    """The header of an ``.npy`` stream, which then stands at the data.

    Raises:
        ArrayFileError: damaged, or an array of another kind.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=10_000)  # type: ignore[call-arg]  # numpy 1.26's own types lack it
    except Exception as error:  # the header is a Python literal: damaged ones make its reader stumble over anything
        raise ArrayFileError("is damaged") from error
    # Records and arrays in arrays have kind "V"; what is left is numbers and text.
    if dtype.kind not in kinds or not 1 <= dtype.itemsize <= 4096 or any(axis < 0 for axis in shape):
        raise ArrayFileError("holds arrays of another kind than numbers")
    return ArrayHeader(tuple(map(int, shape)), dtype, bool(fortran))


def read_array(stream: IO[bytes], header: ArrayHeader) -> Array:
    """The array behind a header; its size is the caller's to bound.

    Raises:
        ArrayFileError: cut off.
    """
    # In pieces: a stream that ends early is noticed before the whole is allocated.
    data = bytearray()
    while len(data) < header.size_bytes:
        piece = stream.read(min(1 << 20, header.size_bytes - len(data)))
        if not piece:
            raise ArrayFileError("is cut off")
        data += piece
    array = np.frombuffer(data, header.dtype, math.prod(header.shape))
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def read_npy(path: Path, limit_bytes: int) -> Array:
    """An ``.npy`` file of numbers.

    Raises:
        ArrayFileError: damaged, of another kind, or larger than ``limit_bytes``.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = read_header(file, NUMBERS)
        if header.size_bytes > min(limit_bytes, path.stat().st_size):
            raise ArrayFileError("is cut off or too large")
        return read_array(file, header)


class ArrayArchive:
    """An ``.npz`` file: :attr:`headers` tells what is in it, :meth:`read` reads one array.

    Args:
        path: the file.
        names: arrays that are looked at; others are left alone.

    Raises:
        ArrayFileError: damaged, or an array of ``names`` is of another kind.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        _bound_contents(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, UnicodeDecodeError) as error:
            raise ArrayFileError("is damaged") from error
        self.headers: dict[str, ArrayHeader] = {}
        wanted = set(names)
        try:
            for entry in self._archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in wanted and name not in self.headers:
                    self.headers[name] = self._header(entry)
        except BaseException:
            self.close()
            raise

    def _header(self, entry: zipfile.ZipInfo) -> ArrayHeader:
        with self._stream(entry.filename) as stream:
            header = read_header(stream)
            if header.size_bytes > entry.file_size:
                raise ArrayFileError("is cut off")
            return header

    def _stream(self, filename: str) -> IO[bytes]:
        try:
            return self._archive.open(filename)
        # Damaged and encrypted entries, and unknown ways of packing.
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, KeyError, struct.error) as error:
            raise ArrayFileError("is damaged") from error

    def read(self, name: str) -> Array:
        """The array ``name`` of :attr:`headers`.

        Raises:
            ArrayFileError: damaged.
        """
        listed = self._archive.namelist()
        try:
            with self._stream(f"{name}.npy" if f"{name}.npy" in listed else name) as stream:
                header = read_header(stream)
                if header != self.headers[name]:
                    raise ArrayFileError("is damaged")
                return read_array(stream, header)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise error if isinstance(error, ArrayFileError) else ArrayFileError("is damaged") from error

    def close(self) -> None:
        self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _bound_contents(path: Path) -> None:
    """The reader of archives takes the whole list of contents into memory: look at its size first."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - (1 << 16) - _ZIP_END.size)
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _ZIP_END.size:
        raise ArrayFileError("is damaged")
    contents = _ZIP_END.unpack_from(tail, at)[5]
    # The 64-bit form of the list, for archives beyond 4 GB, announces sizes elsewhere.
    if contents > _LARGEST_CONTENTS or b"PK\6\7" in tail[max(0, at - 20) : at]:
        raise ArrayFileError("holds more than a file of arrays does")


# -- MATLAB 5 -------------------------------------------------------------------------------------------------------------

_COMPRESSED, _MATRIX = 15, 14
#: Bytes of a number by the file's code for it; codes 8, 10 and 11 are reserved.
_MAT_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
#: Classes of numeric arrays; lower ones are cells, structures, objects, text and sparse matrices.
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x800
_HEADER_BYTES = 4096


def read_mat(path: Path, names: Iterable[str], limit_bytes: int) -> dict[str, Array]:
    """Numeric arrays of a MATLAB 5 file, by name; those that are not in it are left out.

    Raises:
        ArrayFileError: damaged, an array of ``names`` is no array of numbers, or they need more than ``limit_bytes``.
        OSError: it cannot be read.
    """
    from scipy.io import loadmat

    wanted = list(names)
    announced = _mat_sizes(path, set(wanted))
    if sum(announced.values()) > limit_bytes:
        raise ArrayFileError(f"holds arrays of more than {limit_bytes >> 20} MB")
    try:
        data = loadmat(str(path), variable_names=wanted)
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise ArrayFileError("is damaged") from error
    found = {name: data[name] for name in wanted if name in data}
    if any(not isinstance(array, np.ndarray) or array.dtype.kind not in NUMBERS for array in found.values()):
        raise ArrayFileError("holds arrays of another kind than numbers")
    return found


def _mat_sizes(path: Path, names: set[str]) -> dict[str, int]:
    """Bytes of the arrays ``names``, as numbers of eight bytes, from their headers alone."""
    size = path.stat().st_size
    found: dict[str, int] = {}
    with path.open("rb") as file:
        head = file.read(128)
        if len(head) < 128 or head[:10] != b"MATLAB 5.0" or head[126:] not in (b"IM", b"MI"):
            raise ArrayFileError("is not a MATLAB 5 file")
        order = "<" if head[126:] == b"IM" else ">"
        while (at := file.tell()) < size:
            kind, count = _unpack(order + "2L", file.read(8))
            if kind not in (_COMPRESSED, _MATRIX) or count > size - at - 8:
                raise ArrayFileError("is cut off or damaged")
            start = file.read(min(count, _HEADER_BYTES))
            if kind == _COMPRESSED:
                try:
                    start = zlib.decompressobj().decompress(start, _HEADER_BYTES)
                except zlib.error as error:
                    raise ArrayFileError("is damaged") from error
                _, count = _unpack(order + "2L", start[:8])
                start = start[8:]
            name, needed = _mat_header(start, order, count, names)
            if name in names:
                found[name] = found.get(name, 0) + needed
            file.seek(at + 8 + _unpack(order + "2L", _again(file, at))[1])
    return found


def _again(file: IO[bytes], at: int) -> bytes:
    file.seek(at)
    return file.read(8)


def _mat_header(start: bytes, order: str, count: int, names: set[str]) -> tuple[str, int]:
    """(name, bytes it needs) of a matrix element of ``count`` bytes that begins with ``start``."""
    place = 0

    def element() -> bytes:
        nonlocal place
        kind, length = _unpack(order + "2L", start[place : place + 8])
        if kind >> 16:  # small elements keep length, kind and data in eight bytes
            length, offset, step = kind >> 16, place + 4, 8
        else:
            offset, step = place + 8, 8 + -(-length // 8) * 8
        place += step
        data = start[offset : offset + length]
        if len(data) != length:
            raise ArrayFileError("is damaged")
        return data

    flags, shape, name = element(), element(), element().decode("latin1")
    if name not in names:
        return name, 0
    flag = _unpack(order + "L", flags[:4])[0]
    if flag & 0xFF not in _NUMERIC_CLASSES or flag & _COMPLEX:
        raise ArrayFileError("holds arrays of another kind than numbers")
    axes = struct.unpack(f"{order}{len(shape) // 4}l", shape[: len(shape) // 4 * 4])
    kind, length = _unpack(order + "2L", start[place : place + 8])
    kind, length = (kind & 0xFFFF, kind >> 16) if kind >> 16 else (kind, length)
    numbers = math.prod(axes)
    if any(axis < 0 for axis in axes) or kind not in _MAT_BYTES or length > count or numbers * _MAT_BYTES[kind] != length:
        raise ArrayFileError("is damaged")
    # Numbers may be stored shorter than they are.
    return name, 8 * numbers


def _unpack(form: str, data: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(form, data)
    except struct.error as error:
        raise ArrayFileError("is cut off or damaged") from error


# -- numbers --------------------------------------------------------------------------------------------------------------


def not_finite(arrays: Mapping[str, Any]) -> str | None:
    """The name of the first array (numpy's or torch's) that holds NaN or infinity, or None."""
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return name
        elif array.is_floating_point() and not bool(array.isfinite().all()):
            return name
    return None
