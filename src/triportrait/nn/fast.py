"""Small networks on OpenVINO where it is installed (``pip install 'triportrait[fast]'``): the same answers in less time on a CPU.

``TRIPORTRAIT_FAST`` decides: ``bf16`` (default with the extra, where the CPU multiplies bfloat16; colours differ by less than 1/255),
``fp32`` (equal to 1e-5), ``0`` (torch). Anything that goes wrong is told in one line and torch goes on.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from triportrait.concurrency import Guard

log = logging.getLogger(__name__)

#: Environment variable, see the module.
SETTING = "TRIPORTRAIT_FAST"


#: Python's list of modules, which compiling touches, is the process's.
_COMPILING = Guard()


class Compiled(nn.Module):
    """A network behind OpenVINO, for one input of one shape; safe to call from several threads.

    Args:
        module: what it was made from, kept for its attributes.
        compiled: OpenVINO's ``CompiledModel``.
    """

    def __init__(self, module: nn.Module, compiled: Any) -> None:
        super().__init__()
        self.module = module
        self._compiled = compiled
        self._own = threading.local()
        self._process = os.getpid()

    def forward(self, x: Tensor) -> Tensor:
        """As the module's; float32 without gradient."""
        if os.getpid() != self._process:  # OpenVINO's threads did not follow into this forked child; torch needs none
            return self.module(x.detach())
        # One request cannot serve two threads at once.
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        answer = request.infer([x.detach().contiguous().numpy()], share_inputs=True, share_outputs=False)[0]
        return torch.from_numpy(answer)


def accelerated(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """``module`` (one float32 input of ``shape``, one output, evaluation only) on OpenVINO, or itself; see the module's text."""
    setting = os.environ.get(SETTING, "bf16")
    if setting == "0" or importlib.util.find_spec("openvino") is None:
        return module
    try:
        with _COMPILING.lock:
            return Compiled(module, _compile(module, shape, setting))
    except Exception as error:  # foreign code: whatever it raises, torch can do the same
        lines = str(error).strip().splitlines() or [type(error).__name__]
        log.warning("OpenVINO cannot run %s (%s); torch does it instead, %s=0 avoids the attempt", type(module).__name__, lines[0], SETTING)
        return module


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


def _compile(module: nn.Module, shape: tuple[int, ...], setting: str) -> Any:
    if setting not in ("bf16", "fp32"):
        raise ValueError(f"{SETTING} is {setting!r}; use bf16, fp32 or 0")
    with _no_telemetry():
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(shape)
    with torch.inference_mode():
        # Tracing is on its way out in torch, which says so in a warning, but it is what OpenVINO reads best; shapes are fixed here.
        traced = torch.jit.trace(module, example, check_trace=False)
    # openvino.convert_model would do this too, but it is made to report its use.
    frontend = FrontEndManager().load_by_framework("pytorch")
    # The graph does not keep its decoder alive.
    decoder = TorchScriptPythonDecoder(traced, example_input=example)
    graph = frontend.load(decoder)
    (place,) = graph.get_inputs()
    graph.set_element_type(place, openvino.Type.f32)
    graph.set_partial_shape(place, openvino.PartialShape(shape))
    core = openvino.Core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if setting == "bf16" and native else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(frontend.convert(graph), "CPU", options)
