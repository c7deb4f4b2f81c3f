"""A pickle read as a description: nothing it names is looked up, imported or called.

Every class and function of the pickle becomes an inert :class:`Record` that only remembers its name, its arguments and
its state. What is in it is interpreted afterwards, by us: tensors inside pickled ``nn.Module`` objects, such as EG3D's
network pickles, whose own loader executes source code stored in the file (spec of EG3D, C.6).
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Modules nested deeper than this are taken for an attack on the walk, not for a network.
MAXIMUM_DEPTH = 64


class InertPickleError(Exception):
    """The pickle is damaged or holds no network; the text says which."""


class Record:
    """What a pickle says of one object. ``origin`` is the dotted name of its class or function, kept as text."""

    origin = ""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: Any
    pairs: list[tuple[Any, Any]]
    values: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        record = object.__new__(cls)
        record.args, record.kwargs, record.state, record.pairs, record.values = args, kwargs, None, [], []
        return record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments are kept by ``__new__``, which unpickling calls alone for most objects."""

    def __call__(self, *args: Any, **kwargs: Any) -> Record:
        return Record(*args, **kwargs)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))

    def append(self, value: Any) -> None:
        self.values.append(value)

    def extend(self, values: Any) -> None:
        self.values.extend(values)

    add = append


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(file, encoding="latin1")
        self.named: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        origin = f"{module}.{name}"
        if origin not in self.named:
            self.named[origin] = type("Record", (Record,), {"origin": origin, "__slots__": ()})
        return self.named[origin]

    def persistent_load(self, pid: Any) -> Any:
        raise InertPickleError("it refers to storages outside the pickle")


def read_inert(path: Path) -> tuple[Any, list[str]]:
    """The first object of a pickle with Records for all objects, and the names of all classes and functions it mentions.

    Raises:
        InertPickleError: cut off or damaged.
    """
    with path.open("rb") as file:
        unpickler = _InertUnpickler(file)
        try:
            return unpickler.load(), sorted(unpickler.named)
        except InertPickleError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # damaged pickles let almost any exception out
            raise InertPickleError(f"it is cut off or damaged ({type(error).__name__}: {error})") from error


def mapping_of(node: Any) -> Mapping[Any, Any]:
    """The items of a dictionary, or of a Record of a dictionary class; empty for anything else."""
    if isinstance(node, dict):
        return node
    if isinstance(node, Record):
        if node.pairs:
            return {key: value for key, value in node.pairs if isinstance(key, str | int)}
        if node.origin == "collections.OrderedDict" and node.args and isinstance(node.args[0], list | tuple):
            return {pair[0]: pair[1] for pair in node.args[0] if isinstance(pair, list | tuple) and len(pair) == 2}
    return {}


def module_state(node: Any) -> Mapping[Any, Any]:
    """The ``__dict__`` of a pickled module; empty when the node is none.

    NVIDIA's persistent classes are a call with one dictionary that holds ``state`` (and ``module_src``, which is only
    text here); ordinary modules carry their state themselves.
    """
    if not isinstance(node, Record):
        return {}
    for state in (node.state, *(mapping_of(argument).get("state") for argument in node.args)):
        found = mapping_of(state)
        if "_parameters" in found or "_modules" in found:
            return found
    return {}


def tensors_of_module(node: Any, limit_bytes: int) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a pickled module under their ``state_dict`` names.

    Args:
        node: from :func:`read_inert`.
        limit_bytes: all tensors together may have this size.

    Raises:
        InertPickleError: a tensor whose description does not fit its storage, too many bytes, a module inside itself.
    """
    tensors: dict[str, torch.Tensor] = {}
    left = [limit_bytes]

    def walk(module: Any, prefix: str, depth: int) -> None:
        if depth > MAXIMUM_DEPTH:
            raise InertPickleError("its modules are nested without end")
        state = module_state(module)
        if depth and not state:
            raise InertPickleError(f"'{prefix.rstrip('.')}' is no module")
        transient = state.get("_non_persistent_buffers_set")
        transient = transient if isinstance(transient, set | list | tuple) else ()
        for group in ("_parameters", "_buffers"):
            for name, value in mapping_of(state.get(group)).items():
                if value is not None and name not in transient:
                    tensors[f"{prefix}{name}"] = _tensor(value, f"{prefix}{name}", left)
        for name, child in mapping_of(state.get("_modules")).items():
            if child is not None:
                walk(child, f"{prefix}{name}.", depth + 1)

    walk(node, "", 0)
    return tensors


def plain_data(node: Any, budget: list[int] | None = None) -> Any:
    """Numbers, texts, lists and dictionaries as they are; anything else as the text ``<name of its class>``.

    At most ten thousand values are taken: a pickle may contain itself, many times over.
    """
    budget = [10_000] if budget is None else budget
    budget[0] -= 1
    if budget[0] < 0:
        return "<more>"
    if node is None or isinstance(node, bool | int | str):
        return node
    if isinstance(node, float):
        return node if math.isfinite(node) else str(node)
    if isinstance(node, list | tuple | set):
        return [plain_data(value, budget) for value in node if budget[0] > 0]
    items = mapping_of(node)
    if items or isinstance(node, dict):
        return {str(key): plain_data(value, budget) for key, value in items.items() if budget[0] > 0}
    return f"<{node.origin or 'object'}>" if isinstance(node, Record) else f"<{type(node).__name__}>"


def _tensor(node: Any, name: str, left: list[int]) -> torch.Tensor:
    import torch

    if isinstance(node, Record) and node.origin.startswith("torch._utils._rebuild_parameter") and node.args:
        return _tensor(node.args[0], name, left)
    if not (isinstance(node, Record) and node.origin in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")):
        raise InertPickleError(f"'{name}' is no tensor")
    storage, offset, size, stride = (*node.args, None, None, None, None)[:4]
    size, stride = _whole_numbers(size), _whole_numbers(stride)
    if size is None or stride is None or len(size) != len(stride) or not isinstance(offset, int) or offset < 0:
        raise InertPickleError(f"'{name}' has no sensible shape")
    values = _storage(storage, name)
    count = math.prod(size)
    if count and offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= len(values):
        raise InertPickleError(f"'{name}' reaches beyond its storage")
    left[0] -= count * values.dtype.itemsize
    if left[0] < 0:
        raise InertPickleError("its tensors are larger than the file")
    return torch.as_strided(values, size, stride, offset).contiguous().clone()


def _storage(node: Any, name: str) -> torch.Tensor:
    """A pickled storage, flat. Its bytes are again a pickle, of torch's older format; torch's safe reader takes it."""
    import torch

    if not (isinstance(node, Record) and node.origin == "torch.storage._load_from_bytes" and node.args and isinstance(node.args[0], bytes)):
        raise InertPickleError(f"'{name}' has no storage")
    try:
        storage = torch.load(io.BytesIO(node.args[0]), map_location="cpu", weights_only=True)
        return torch.tensor([], dtype=storage.dtype).set_(storage)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged storage makes torch stumble over
        raise InertPickleError(f"the storage of '{name}' cannot be read ({type(error).__name__})") from error


def _whole_numbers(node: Any) -> tuple[int, ...] | None:
    if isinstance(node, Record) and node.origin == "torch.Size" and node.args:
        node = node.args[0]
    if isinstance(node, list | tuple) and all(isinstance(n, int) and n >= 0 for n in node):
        return tuple(node)
    return None
