"""A writer of binary glTF 2.0 files (Khronos, ISO/IEC 12113): buffers, accessors, sparse morph targets. It knows nothing of heads."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triportrait.types import Array

_ARRAY_BUFFER, _INDEX_BUFFER = 34962, 34963
_COMPONENTS = {np.dtype(np.uint8): 5121, np.dtype(np.uint16): 5123, np.dtype(np.uint32): 5125, np.dtype(np.float32): 5126}
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
#: Displacements below this (metres) are none: nobody sees a tenth of a millimetre.
_STILL_M = 1e-4


@dataclass(slots=True)
class Gltf:
    """A file that grows: ``tree`` is its JSON."""

    tree: dict[str, Any] = field(default_factory=dict)
    _data: bytearray = field(default_factory=bytearray)
    _views: list[dict[str, Any]] = field(default_factory=list)
    _accessors: list[dict[str, Any]] = field(default_factory=list)

    def view(self, data: bytes, target: int | None = None) -> int:
        """The number of a new piece of the buffer."""
        self._data.extend(b"\0" * (-len(self._data) % 4))
        piece: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data)}
        if target is not None:
            piece["target"] = target
        self._data.extend(data)
        self._views.append(piece)
        return len(self._views) - 1

    def accessor(
        self, values: Array, *, bounds: bool = False, is_index: bool = False, is_vertex: bool = True, normalised: bool = False
    ) -> int:
        """The number of a new accessor for ``values`` [n] or [n, c].

        Args:
            bounds: state the least and the greatest values, which positions need.
            is_index: of triangles; is_vertex: a vertex's attribute.
            normalised: whole numbers that stand for 0..1.
        """
        values = np.ascontiguousarray(values)
        columns = 1 if values.ndim == 1 else values.shape[1]
        target = _INDEX_BUFFER if is_index else _ARRAY_BUFFER if is_vertex else None
        entry: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": _COMPONENTS[values.dtype],
            "count": len(values),
            "type": _SHAPES[columns],
        }
        if bounds:
            entry |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        if normalised:
            entry["normalized"] = True
        self._accessors.append(entry)
        return len(self._accessors) - 1

    def displacement(self, values: Array) -> int:
        """The number of a sparse accessor for a morph target's displacements [n, 3] in metres."""
        values = np.asarray(values, np.float32)
        moved = np.flatnonzero(np.abs(values).max(1) > _STILL_M)
        kept = values[moved]
        low, high = (np.minimum(kept.min(0), 0), np.maximum(kept.max(0), 0)) if len(moved) else (np.zeros(3), np.zeros(3))
        if len(moved) == len(values):
            low, high = kept.min(0), kept.max(0)
        entry: dict[str, Any] = {"componentType": 5126, "count": len(values), "type": "VEC3", "min": low.tolist(), "max": high.tolist()}
        if len(moved):
            kind = np.uint16 if len(values) <= 0xFFFF else np.uint32
            places = {"bufferView": self.view(moved.astype(kind).tobytes()), "componentType": _COMPONENTS[np.dtype(kind)]}
            entry["sparse"] = {"count": len(moved), "indices": places, "values": {"bufferView": self.view(kept.tobytes())}}
        self._accessors.append(entry)
        return len(self._accessors) - 1

    def image(self, data: bytes, mime_type: str) -> dict[str, Any]:
        """An entry of ``images``."""
        return {"bufferView": self.view(data), "mimeType": mime_type}

    def to_bytes(self) -> bytes:
        """The file."""
        self._data.extend(b"\0" * (-len(self._data) % 4))
        tree = self.tree | {"accessors": self._accessors, "bufferViews": self._views, "buffers": [{"byteLength": len(self._data)}]}
        text = json.dumps(tree, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        whole = 12 + 8 + len(text) + 8 + len(self._data)
        return b"".join(
            (
                struct.pack("<4sII", b"glTF", 2, whole),
                struct.pack("<I4s", len(text), b"JSON"),
                text,
                struct.pack("<I4s", len(self._data), b"BIN\0"),
                bytes(self._data),
            )
        )
