"""Trained networks as the ONNX files that :mod:`triportrait.nn.runtime` runs, and back; needs torch and ``onnx``.

A file holds the graph, the network's weights in half precision under the names they have in torch, and the metadata of
:mod:`triportrait.nn.model_files`. So one file serves both sides: the program runs its graph, and training goes on from its weights.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.errors import MissingPart
from triportrait.files import atomic_file
from triportrait.nn.model_files import FORMAT, Config
from triportrait.types import Array

if TYPE_CHECKING:
    from triportrait.types import PathLike

#: Attribute of a wrapper that holds the network whose weights a file keeps.
_NETWORK = "network."
#: Smaller tensors stay in single precision: they cost nothing.
_SMALL = 16


class TorchGraph:
    """A network in torch behind the call of :class:`triportrait.nn.runtime.Graph`, e.g. one that was just trained.

    Args:
        module: takes and returns tensors by position.
        config: what the network was built from.
        shapes: of the inputs, by name; None where a length may vary.
    """

    def __init__(self, module: nn.Module, config: Config, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
        self.module, self.config, self.shapes = module.eval(), config, dict(shapes)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        with torch.inference_mode():
            answer = self.module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        parts = (answer,) if isinstance(answer, Tensor) else answer
        return tuple(part.detach().numpy() for part in parts)


def export_graph(
    path: PathLike,
    wrapper: nn.Module,
    shapes: Mapping[str, tuple[int | None, ...]],
    outputs: Sequence[str],
    *,
    kind: str,
    config: Mapping[str, Any],
    integers: Iterable[str] = (),
    length: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network as an ONNX file, whole or not at all.

    Args:
        path: the file.
        wrapper: what is run; its attribute ``network`` is the network whose weights the file keeps.
        shapes: of its inputs, by name, in order; None is the varying length, and ``-k`` is k times that length.
        outputs: names of the answers.
        kind: what it is, ``NAME.VERSION``; config: what the network is built from; metadata: notes that are kept beside it.
        integers: names of inputs that are int64; the others are float32.
        length: a length to trace with; needed where one varies.

    Raises:
        MissingPart: ``onnx`` or ``onnxscript`` is not installed.
        OutputError: the file cannot be written.
    """
    onnx = _onnx()
    whole = set(integers)
    trace = length or 1
    example, dynamic = [], {}
    axis = torch.export.Dim("length", min=1, max=1 << 20)
    for name, shape in shapes.items():
        sides = [trace if side is None else -side * trace if side < 0 else side for side in shape]
        example.append(torch.zeros(sides, dtype=torch.int64 if name in whole else torch.float32))
        varying = {i: axis if side is None else -side * axis for i, side in enumerate(shape) if side is None or side < 0}
        dynamic[name] = varying
    program = _traced(wrapper.eval(), tuple(example), tuple(dynamic.values()), list(shapes), list(outputs))
    model = onnx.load_from_string(program)
    _store_half(onnx, model, wrapper)
    model.graph.doc_string = model.doc_string = ""
    for node in model.graph.node:  # traces of where in the source a node came from
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    notes = {**(metadata or {}), "format": FORMAT + kind, "config": json.dumps(dict(config))}
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    with atomic_file(path) as part:
        part.write_bytes(model.SerializeToString())


def read_weights(data: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and the network's weights of an ONNX file's bytes.

    Raises:
        MissingPart: ``onnx`` is not installed.
        ValueError: no ONNX file.
    """
    onnx = _onnx()
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's errors differ between its releases
        raise ValueError("not an ONNX file") from error
    tensors = {
        part.name.removeprefix(_NETWORK): torch.from_numpy(onnx.numpy_helper.to_array(part).copy())
        for part in model.graph.initializer
        if part.name.startswith(_NETWORK)
    }
    return {part.key: part.value for part in model.metadata_props}, tensors


def _traced(wrapper: nn.Module, example: tuple[Tensor, ...], dynamic: Any, inputs: list[str], outputs: list[str]) -> bytes:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            wrapper,
            example,
            dynamo=True,
            # Optimising would fold weights into constants of other names.
            optimize=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dynamic if any(dynamic) else None,
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


def _store_half(onnx: Any, model: Any, wrapper: nn.Module) -> None:
    """Weights become half precision, widened where they are used; what the graph leaves out is kept for training."""
    graph = model.graph
    state = wrapper.state_dict()
    there = {part.name for part in graph.initializer}
    for name, value in state.items():
        if name not in there and name.startswith(_NETWORK):
            graph.initializer.append(onnx.numpy_helper.from_array(value.detach().numpy(), name))
    widened = []
    for part in graph.initializer:
        if part.name not in state or part.data_type != onnx.TensorProto.FLOAT or state[part.name].numel() <= _SMALL:
            continue
        part.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(part).astype(np.float16), part.name))
        wide = f"{part.name}:wide"
        widened.append(onnx.helper.make_node("Cast", [part.name], [wide], to=onnx.TensorProto.FLOAT))
        for node in graph.node:
            for i, taken in enumerate(node.input):
                if taken == part.name:
                    node.input[i] = wide
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    # The graph's record of inner shapes knows the old types.
    del graph.value_info[:]


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise MissingPart(
            "ONNX files are written and read for training with onnx and onnxscript; pip install 'triportrait[train]'"
        ) from error
    return onnx
