"""Folders of speech networks for ``transformers``: configurations as they are, weights as safetensors instead of a pickle."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import OutputError, WeightsError
from triportrait.files import atomic_file, refuse_inputs
from triportrait.weights.reading import read_checkpoint
from triportrait.weights.store import ENTRY, FORMAT, Provenance, digest_of, write_safetensors

if TYPE_CHECKING:
    import torch

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_SOURCES = ("model.safetensors", "pytorch_model.bin")
_OTHERS = ("preprocessor_config.json",)


@dataclass(frozen=True)
class SpeechFolder:
    """A speech network as ``transformers`` keeps it.

    Attributes:
        name: ``model_type`` in its configuration, the prefix of its keys, and the name of the imported folder.
        says: what people call it.
        page: where it can be had.
        needs_classes: whether its last layer (``lm_head``) is read.
    """

    name: str
    says: str
    page: str
    needs_classes: bool = False

    @property
    def get_it(self) -> str:
        """What to do; completes a sentence."""
        return f"run 'triportrait weights fetch {self.name}', or download the folder from {self.page}"


#: What can be imported, by ``model_type``.
SPEECH_FOLDERS = {
    one.name: one
    for one in (
        SpeechFolder("hubert", "HuBERT", "https://huggingface.co/facebook/hubert-large-ls960-ft"),
        SpeechFolder("wav2vec2", "wav2vec2", "https://huggingface.co/cpierse/wav2vec2-large-xlsr-53-esperanto", True),
    )
}


def speech_folder(path: Path) -> SpeechFolder | None:
    """Which network lies in one of transformers' folders; None for anything else."""
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return SPEECH_FOLDERS.get(str(config.get("model_type"))) if isinstance(config, dict) else None


def import_speech_folder(kind: SpeechFolder, folder: Path, target: Path, importer: str, licence: str) -> tuple[Path, str, int]:
    """Check the tensors against their configuration and write ``target`` for ``transformers``, which then reads no pickle.

    Returns:
        (the weights file that was read, its SHA-256, how many numbers it holds).

    Raises:
        WeightsError: incomplete, damaged, or not what its configuration says.
        OutputError: the folder cannot be written.
    """
    source = next((folder / name for name in _SOURCES if (folder / name).is_file()), None)
    if source is None:
        raise WeightsError(f"The folder '{folder}' holds no {' and no '.join(_SOURCES)}; {kind.get_it}.")
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    checkpoint = read_checkpoint(source)
    _check(kind, checkpoint.tensors, config, source)
    refuse_inputs(target / WEIGHTS_FILE, [source])
    provenance = Provenance(source.name, checkpoint.info.sha256, checkpoint.info.network, importer, licence)
    _write(kind, checkpoint.tensors, folder, target, provenance)
    return source, checkpoint.info.sha256, sum(tensor.numel() for tensor in checkpoint.tensors.values())


def _write(kind: SpeechFolder, tensors: dict[str, torch.Tensor], folder: Path, target: Path, provenance: Provenance) -> None:
    description = {
        "format": FORMAT,
        "layout": kind.name,
        "config": {},
        "provenance": asdict(provenance),
        "digest": digest_of(tensors),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG_FILE, *_OTHERS):
            if (folder / name).is_file() and not ((target / name).exists() and (target / name).samefile(folder / name)):
                with atomic_file(target / name) as part:
                    shutil.copyfile(folder / name, part)
        # transformers asks for "format".
        write_safetensors(target / WEIGHTS_FILE, tensors, {"format": "pt", ENTRY: json.dumps(description, sort_keys=True)})
    except OSError as error:
        raise OutputError(f"'{target}' cannot be written: {error.strerror or error}; choose another folder.") from error


def _check(kind: SpeechFolder, tensors: dict[str, torch.Tensor], config: dict[str, Any], path: Path) -> None:
    """The layers that the configuration promises, with their widths, and nothing from another network."""
    try:
        width, layers, inner = (int(config[name]) for name in ("hidden_size", "num_hidden_layers", "intermediate_size"))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"'{path.parent / CONFIG_FILE}' is no complete configuration of {kind.says} ({error}); {kind.get_it}."
        ) from error
    # Published with the network for recognising speech; the bare network has no prefix.
    stem = f"{kind.name}." if any(key.startswith(f"{kind.name}.") for key in tensors) else ""
    groups = tuple(f"{stem}{group}" for group in ("feature_extractor.", "feature_projection.", "encoder.", "masked_spec_embed"))
    foreign = next((key for key in tensors if not key.startswith((*groups, "lm_head."))), None)
    if foreign is not None:
        raise WeightsError(f"'{path}' holds the foreign key '{foreign}'; {kind.get_it}.")
    if kind.needs_classes and not {"lm_head.weight", "lm_head.bias"} <= tensors.keys():
        raise WeightsError(f"'{path}' lacks the layer 'lm_head' that gives the classes of sounds; {kind.get_it}.")
    for layer in range(layers):
        expected = {f"attention.{name}_proj.weight": [width, width] for name in ("q", "k", "v", "out")}
        expected |= {
            "feed_forward.intermediate_dense.weight": [inner, width],
            "feed_forward.output_dense.weight": [width, inner],
        }
        for name, shape in expected.items():
            key = f"{stem}encoder.layers.{layer}.{name}"
            if key not in tensors:
                raise WeightsError(f"'{path}': the key '{key}' is missing; {kind.get_it}.")
            if list(tensors[key].shape) != shape:
                raise WeightsError(f"'{path}': '{key}' has the shape {list(tensors[key].shape)} instead of {shape}; {kind.get_it}.")
    if any(key.startswith(f"{stem}encoder.layers.{layers}.") for key in tensors):
        raise WeightsError(f"'{path}' holds more than the {layers} layers of its configuration; {kind.get_it}.")
