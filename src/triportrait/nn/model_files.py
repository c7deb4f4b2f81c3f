"""The one door for our own weights: safetensors files that say in their metadata what they hold and how it is built.

The metadata carry ``format`` (``triportrait.KIND``, where a kind is a name and the version of its architecture, as in
``mouth_painter.2``), ``config`` (JSON, what the network is built from) and whatever notes its training left.

Nothing is imported with this module but numpy, so that a head model can be read where torch is not wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from triportrait.array_files import not_finite
from triportrait.errors import WeightsError, quoted
from triportrait.files import atomic_file

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import torch
    from torch import nn

    from triportrait.types import Array, PathLike

    Network = TypeVar("Network", bound=nn.Module)

FORMAT = "triportrait."

Config = dict[str, Any]
#: Metadata of a file that names no format -> the configuration in it; a KeyError says that there is none.
BeforeFormats = Callable[[Mapping[str, str]], Config]


class Embedded(NamedTuple):
    """A weights file that ships with the package: ``data/NAME`` of ``package``."""

    package: str
    name: str


def save_network(
    path: PathLike,
    network: nn.Module | Mapping[str, torch.Tensor],
    *,
    kind: str,
    config: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights and configuration as one safetensors file, whole or not at all.

    Args:
        path: the file.
        network: whose weights are stored in half precision; or tensors, which are stored as they are.
        kind: what it is, ``NAME.VERSION``.
        config: what the network is built from; what JSON can hold; lists come back as tuples.
        metadata: notes that are kept beside it.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    if isinstance(network, Mapping):
        tensors = {name: value.detach().contiguous() for name, value in network.items()}
    else:
        state = network.state_dict()
        tensors = {name: (value.half() if value.is_floating_point() else value).detach().contiguous() for name, value in state.items()}
    data = save(tensors, {**(metadata or {}), "format": FORMAT + kind, "config": json.dumps(dict(config))})
    with atomic_file(path) as part:
        part.write_bytes(data)


def load_network(
    source: PathLike | Embedded,
    kind: str,
    build: Callable[[Config], Network],
    *,
    before: BeforeFormats | None = None,
) -> Network:
    """The network of a file from :func:`save_network` or ``export_graph``, with float32 weights, in evaluation mode.

    Args:
        source: the file, or one that ships with the package.
        kind: what it must hold.
        build: makes the network, without its weights, from its configuration.
        before: reads the configuration of files that were written before they named their format; None: there are none.

    Raises:
        WeightsError: missing, damaged, of another kind or version, weights that do not fit, or NaN or infinity in them.
    """
    import torch

    tensors, config = _read(source, kind, "pt", before)
    try:
        # Networks are kept for later callers, who may want gradients even when the first one did not.
        with torch.inference_mode(False):
            network = build(config)
            network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()})
    # A configuration from a file can stumble anywhere in a network's constructor.
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise damaged(source, kind) from error
    return network.eval()


def load_arrays(source: PathLike | Embedded, kind: str, *, before: BeforeFormats | None = None) -> dict[str, Array]:
    """The tensors of a file from :func:`save_network` as numpy's arrays, in the types in which they are stored; without torch.

    Raises:
        WeightsError: as :func:`load_network`.
    """
    return _read(source, kind, "np", before)[0]


def _read(source: PathLike | Embedded, kind: str, framework: str, before: BeforeFormats | None) -> tuple[dict[str, Any], Config]:
    from safetensors import SafetensorError, safe_open

    place = place_of(source)
    try:
        if place.name.endswith(".onnx"):
            from triportrait.nn.export import read_weights

            metadata, tensors = read_weights(place.read_bytes())
            config = _config(source, kind, metadata, before)
        else:
            with resources.as_file(place) as path, safe_open(path, framework=framework) as file:
                metadata = file.metadata() or {}
                config = _config(source, kind, metadata, before)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise WeightsError(f"the {words_of(kind)} weights '{shown(source)}' do not exist; {_remedy(source, 'check the path')}") from None
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise damaged(source, kind) from error
    if (wrong := not_finite(tensors)) is not None:
        raise WeightsError(f"'{shown(source)}' holds NaN or infinity in {quoted(wrong)}; {_remedy(source)}")
    return tensors, config


def place_of(source: PathLike | Embedded) -> Traversable:
    """Where a file lies."""
    return resources.files(source.package) / "data" / source.name if isinstance(source, Embedded) else Path(source)


def _config(source: PathLike | Embedded, kind: str, metadata: Mapping[str, str], before: BeforeFormats | None) -> Config:
    if before is not None and not metadata.get("format", "").startswith(FORMAT):
        config = before(metadata)
    else:
        expect_kind(source, kind, metadata)
        config = json.loads(metadata["config"])
    if not isinstance(config, dict):
        raise TypeError("a configuration is a dictionary")
    return with_tuples(config)


def expect_kind(source: PathLike | Embedded, kind: str, metadata: Mapping[str, str]) -> None:
    """Refuse a file whose ``metadata`` name another kind, or none.

    Raises:
        WeightsError: it is not what ``kind`` says.
    """
    found = metadata.get("format", "")
    if not found.startswith(FORMAT):
        raise WeightsError(f"'{shown(source)}' is not a file of {words_of(kind)} weights of this program; {_remedy(source)}")
    if found != FORMAT + kind:
        raise _is_another(source, kind, found.removeprefix(FORMAT))


def with_tuples(value: Any) -> Any:
    """A configuration from JSON, with tuples for lists: JSON knows lists only; configurations are frozen and hold tuples."""
    if isinstance(value, dict):
        return {name: with_tuples(item) for name, item in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def _is_another(source: PathLike | Embedded, kind: str, found: str) -> WeightsError:
    (name, _, version), (wanted, _, ours) = found.rpartition("."), kind.rpartition(".")
    if name != wanted:
        return WeightsError(f"'{shown(source)}' holds {quoted(found)} where {words_of(kind)} weights are needed; give another file")
    if version.isdecimal() and int(version) > int(ours):
        return WeightsError(f"'{shown(source)}' was written by a newer version of this program ({quoted(found)}); install that version")
    return WeightsError(f"'{shown(source)}' was written by an older version of this program ({quoted(found)}); train it again")


def damaged(source: PathLike | Embedded, kind: str) -> WeightsError:
    """The error of a file that cannot be read as what it should hold."""
    return WeightsError(f"'{shown(source)}' cannot be read as {words_of(kind)} weights, or is damaged; {_remedy(source)}")


def words_of(kind: str) -> str:
    """A kind as people say it."""
    return kind.rpartition(".")[0].replace("_", "-")


def shown(source: PathLike | Embedded) -> str:
    """A file's name for people."""
    return f"{source.package.replace('.', '/')}/data/{source.name}" if isinstance(source, Embedded) else str(source)


def _remedy(source: PathLike | Embedded, otherwise: str = "copy the file again, or give another one") -> str:
    return "install the package again" if isinstance(source, Embedded) else otherwise
