"""The weights in an ONNX file of :mod:`triportrait.nn.export`, for training, which goes on from them; needs torch and ``onnx``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triportrait.errors import MissingPart

if TYPE_CHECKING:
    from torch import Tensor

#: What the names of a network's weights begin with in a file: the attribute of a wrapper that holds the network.
NETWORK = "network."


def read_weights(data: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and the network's weights of an ONNX file's bytes.

    Raises:
        MissingPart: ``onnx`` is not installed.
        ValueError: no ONNX file.
    """
    import torch

    onnx = onnx_package()
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's errors differ between its releases
        raise ValueError("not an ONNX file") from error
    tensors = {
        part.name.removeprefix(NETWORK): torch.from_numpy(onnx.numpy_helper.to_array(part).copy())
        for part in model.graph.initializer
        if part.name.startswith(NETWORK)
    }
    return {part.key: part.value for part in model.metadata_props}, tensors


def onnx_package() -> Any:
    """The package ``onnx``, with what torch needs to write its files.

    Raises:
        MissingPart: it is not installed.
    """
    try:
        import onnx
        import onnx.numpy_helper
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise MissingPart(
            "ONNX files are written and read for training with onnx and onnxscript; pip install 'triportrait[train]'"
        ) from error
    return onnx
