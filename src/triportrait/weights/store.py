"""Our own weight files: safetensors whose metadata carry the configuration, where the numbers came from, and a digest of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import OutputError, WeightsError
from triportrait.files import atomic_file
from triportrait.weights.reading import load_safetensors, newest_checkpoint, refuse_not_finite

if TYPE_CHECKING:
    import torch

FORMAT = "triportrait-weights-1"
#: The metadata entry that holds everything about a file, as JSON.
ENTRY = "triportrait"


@dataclass(frozen=True)
class Provenance:
    """Where numbers came from.

    Attributes:
        source_name: name of the published file, without its folder.
        source_sha256: of the published file.
        source_network: which network of it.
        importer: which version of the importer made this file.
        licence: under which terms its authors publish the numbers; they hold for the converted ones too.
    """

    source_name: str
    source_sha256: str
    source_network: str
    importer: str
    licence: str


@dataclass(frozen=True)
class StoredWeights:
    """A file of ours: ``tensors`` under our names, the architecture's ``config``, the ``layout`` it was made from."""

    layout: str
    config: Mapping[str, Any]
    tensors: dict[str, torch.Tensor]
    provenance: Provenance
    digest: str


def save_weights(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    *,
    layout: str,
    config: Mapping[str, Any],
    provenance: Provenance,
) -> None:
    """Write a file of ours; it appears whole or not at all. Equal arguments give equal bytes.

    Raises:
        OutputError: the target cannot be written.
    """
    target = Path(path)
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    description = {
        "format": FORMAT,
        "layout": layout,
        "config": dict(config),
        "provenance": asdict(provenance),
        "digest": digest_of(plain),
    }
    # One entry: safetensors writes several in an order that changes from run to run.
    metadata = {ENTRY: json.dumps(description, sort_keys=True)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{target}' cannot be written: {error.strerror or error}; choose another folder.") from error
    write_safetensors(target, plain, metadata)


def load_weights(path: str | os.PathLike[str], *, layout: str | None = None, verify: bool = False) -> StoredWeights:
    """Read a file of ours.

    Args:
        path: the file.
        layout: which layout it must have.
        verify: also compare the numbers with the digest written beside them and look for NaN and infinity.

    Raises:
        WeightsError: missing, damaged, not one of ours, of another layout, or changed since it was written.
    """
    file = newest_checkpoint(Path(path))
    tensors, metadata = load_safetensors(file)
    again = "import the published checkpoint again"
    if ENTRY not in metadata:
        raise WeightsError(f"'{file}' was not written by 'triportrait weights import'; import the published checkpoint first.")
    try:
        description = json.loads(metadata[ENTRY])
        if description["format"] != FORMAT:
            raise WeightsError(f"'{file}' was written by another version of triportrait ({description['format']}); {again}.")
        provenance = Provenance(**description["provenance"])
        stored = StoredWeights(description["layout"], description["config"], tensors, provenance, description["digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"'{file}' has damaged metadata ({error}); {again}.") from error
    if layout is not None and stored.layout != layout:
        raise WeightsError(f"'{file}' holds {stored.layout} weights where {layout} are needed; {again}.")
    if verify:
        refuse_not_finite(tensors, file)
        if digest_of(tensors) != stored.digest:
            raise WeightsError(f"'{file}' has changed since it was written; {again}.")
    return stored


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, kinds, shapes and bytes of the tensors, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save

    # Not the library's own writer: it puts another file in the part's place, which is unlocked and has other rights.
    data = save(dict(tensors), dict(metadata))
    with atomic_file(path) as part:
        part.write_bytes(data)
