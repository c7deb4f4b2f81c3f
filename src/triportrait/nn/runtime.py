"""Networks that run where a video is made: ONNX files behind ONNX Runtime, arrays in and arrays out; torch is not needed.

A file carries the metadata ``format`` and ``config`` of :mod:`triportrait.nn.model_files`. Training writes such files with
:mod:`triportrait.nn.export`. A network that was just trained runs behind the same call (:class:`triportrait.nn.export.TorchGraph`).

``TRIPORTRAIT_FAST`` chooses what executes graphs of fixed shapes where OpenVINO is installed (``pip install 'triportrait[fast]'``):
``bf16`` (the default then, where the CPU multiplies bfloat16; colours differ by less than 2/255), ``fp32`` (equal to 1e-5) or ``0``
(ONNX Runtime).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from triportrait.concurrency import Guard, built_once
from triportrait.errors import WeightsError
from triportrait.nn.model_files import Config, Embedded, damaged, expect_kind, place_of, shown, with_tuples, words_of
from triportrait.types import Array

if TYPE_CHECKING:
    from triportrait.types import PathLike

log = logging.getLogger(__name__)

#: Environment variable, see the module.
FAST = "TRIPORTRAIT_FAST"
#: Of ONNX Runtime, which reads it when it is imported.
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


class Graph(Protocol):
    """A network behind one call.

    Args:
        config: what the network was built from.
        shapes: of its inputs, by name, in order; None where a length may vary.
    """

    @property
    def config(self) -> Config: ...

    @property
    def shapes(self) -> Mapping[str, tuple[int | None, ...]]: ...

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Arrays in the order of ``shapes``; the answers in the order of the file."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """A file's bytes and what they say of themselves."""

    data: bytes
    config: Config
    shapes: dict[str, tuple[int | None, ...]]


class OnnxGraph:
    """A graph behind ONNX Runtime; safe to call from several threads and in forked children.

    Args:
        read: the file.
        session: of ONNX Runtime.
    """

    def __init__(self, read: _Read, session: Any) -> None:
        self._read, self._session = read, session
        self.config, self.shapes = read.config, read.shapes

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        return tuple(self._session.run(None, dict(zip(self.shapes, arrays, strict=True))))


class _OpenVinoGraph:
    """The same behind OpenVINO, for graphs whose shapes are fixed."""

    def __init__(self, plain: OnnxGraph, compiled: Any) -> None:
        self._plain, self._compiled = plain, compiled
        self.config, self.shapes = plain.config, plain.shapes
        self._own = threading.local()
        self._process = os.getpid()

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        if os.getpid() != self._process:  # OpenVINO's threads did not follow into this forked child; ONNX Runtime has none here
            return self._plain(*arrays)
        # One request cannot serve two threads at once.
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        answer = request.infer([np.ascontiguousarray(array) for array in arrays], share_inputs=True, share_outputs=False)
        return tuple(answer[output] for output in self._compiled.outputs)


def load_graph(source: PathLike | Embedded, kind: str, *, fast: bool = False) -> Graph:
    """The network of an ONNX file.

    Args:
        source: the file, or one that ships with the package.
        kind: what it must hold, ``NAME.VERSION``.
        fast: whether OpenVINO may execute it.

    Raises:
        WeightsError: missing, damaged, or of another kind or version.
    """
    plain = _open(source, kind)
    setting = os.environ.get(FAST, "bf16")
    if not fast or setting == "0" or importlib.util.find_spec("openvino") is None:
        return plain
    try:
        with _COMPILING.lock:
            return _OpenVinoGraph(plain, _compile(plain._read.data, setting))
    except Exception as error:  # foreign code: whatever it raises, ONNX Runtime can do the same
        lines = str(error).strip().splitlines() or [type(error).__name__]
        log.warning("OpenVINO cannot run %s (%s); ONNX Runtime does it instead, %s=0 avoids the attempt", words_of(kind), lines[0], FAST)
        return plain


@built_once(maxsize=8)
def shipped_graph(embedded: Embedded, kind: str) -> Graph:
    """A network that ships with the package, one for all callers; arguments as for :func:`load_graph`.

    Raises:
        WeightsError: its file is missing or damaged.
    """
    return load_graph(embedded, kind)


def _open(source: PathLike | Embedded, kind: str) -> OnnxGraph:
    # From 1.32 on (1.24 did not), importing it starts a thread that sends Microsoft what runs here, and keeps a number of this machine.
    os.environ[_NO_TELEMETRY] = "1"
    import onnxruntime

    try:
        data = place_of(source).read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"the {words_of(kind)} weights '{shown(source)}' do not exist; check the path") from None
    except OSError as error:
        raise damaged(source, kind) from error
    options = onnxruntime.SessionOptions()
    # Frames are what runs in parallel; threads that spin while they wait would cost processor time that others need.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map
        expect_kind(source, kind, metadata)
        config = with_tuples(json.loads(metadata["config"]))
        shapes = {part.name: tuple(side if isinstance(side, int) else None for side in part.shape) for part in session.get_inputs()}
    except WeightsError:
        raise
    except Exception as error:  # ONNX Runtime's own errors have no common ancestor
        raise damaged(source, kind) from error
    return OnnxGraph(_Read(data, config, shapes), session)


#: Python's list of modules, which importing OpenVINO touches, is the process's.
_COMPILING = Guard()


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO tells Intel over the network that it was imported, unless its telemetry package is missing: here it is."""
    name = "openvino_telemetry"
    if name in sys.modules:  # somebody else's decision
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _compile(data: bytes, setting: str) -> Any:
    if setting not in ("bf16", "fp32"):
        raise ValueError(f"{FAST} is {setting!r}; use bf16, fp32 or 0")
    with _no_telemetry():
        import openvino
    core = openvino.Core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if setting == "bf16" and native else "f32",
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(core.read_model(data), "CPU", options)
