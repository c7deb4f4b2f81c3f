"""From a published file to one of ours: recognise, check strictly, fold, save with provenance."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import WeightsError
from triportrait.files import refuse_inputs
from triportrait.weights.bfm import MODEL_FILE, import_bfm, looks_like_bfm
from triportrait.weights.catalogue import licence_of_layout
from triportrait.weights.home import weights_home
from triportrait.weights.names import BARE, SINGLE
from triportrait.weights.reading import Checkpoint, newest_checkpoint, read_checkpoint, refuse_not_finite, sha256_of
from triportrait.weights.speech_folders import import_speech_folder, speech_folder
from triportrait.weights.store import ENTRY, Provenance, load_weights, save_weights
from triportrait.weights.tables import check, recognise

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

#: Rises whenever a converter gives other numbers or names for the same file.
IMPORTER_VERSION = "1"
#: Talk3D's arrays of a person: style, cameras, turns of the head, landmarks (spec A.2), and the names of its checkpoints (spec A.8).
TALK3D_ARRAYS = ("inversion_w_person.pt", "inversion_0-0_angles.pt", "angles.pt", "landmarks.pt")
_TALK3D_CHECKPOINT = re.compile(r"\d+_(\d+)(_tune)?\.pt")


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        layout: what the file was recognised as.
        source: the published file.
        target: the file of ours.
        sha256: of the published file.
        published_numbers: trained numbers in the published file.
        stored_numbers: numbers in ours, after folding.
        left_out: networks of the file that were not imported.
        licence: the terms, which hold for the converted file, too.
    """

    layout: str
    source: Path
    target: Path
    sha256: str
    published_numbers: int
    stored_numbers: int
    left_out: tuple[str, ...]
    licence: str

    def __str__(self) -> str:
        left_out = f"; not imported: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.source} -> {self.target}\n  {self.layout}, {self.published_numbers / 1e6:.3f} M published numbers, "
            f"{self.stored_numbers / 1e6:.3f} M stored{left_out}\n  SHA-256 {self.sha256}\n  licence: {self.licence}"
        )


def import_checkpoint(
    path: str | os.PathLike[str], out_folder: str | os.PathLike[str] | None = None, *, network: str | None = None
) -> ImportReport:
    """Import one published file.

    Args:
        path: a checkpoint, a folder with checkpoints of one training, one of Talk3D's arrays of a person, the face model or its
            folder, the folder of HuBERT or wav2vec2, or a file of ours (checked and copied).
        out_folder: where to; by default where :func:`triportrait.weights.home.find_weights` looks.
        network: which network of the file, where it holds several.

    Raises:
        WeightsError: anything is wrong with the file; nothing is written then.
        OutputError: the folder cannot be written, or the file is there already and would be written over.
    """
    folder = Path(out_folder) if out_folder is not None else weights_home()
    source = Path(path)
    if source.exists() and (source.is_dir() or source.is_file()) and looks_like_bfm(source):
        target, vertices = import_bfm(source, folder / "bfm")
        numbers = vertices * 3 * 145
        return ImportReport("bfm", source, target, sha256_of(target), numbers, numbers, (), licence_of_layout("bfm"))
    if source.is_dir() and (kind := speech_folder(source)) is not None:
        licence, target = licence_of_layout(kind.name), folder / kind.name
        file, sha256, numbers = import_speech_folder(kind, source, target, IMPORTER_VERSION, licence)
        return ImportReport(kind.name, file, target, sha256, numbers, numbers, (), licence)
    checkpoint = read_checkpoint(source, network)
    if ENTRY in checkpoint.info.metadata:
        return _copy_of_ours(checkpoint, folder)
    return _convert_track(checkpoint, folder) if set(checkpoint.tensors) == {SINGLE} else _convert(checkpoint, folder)


def importable(path: str | os.PathLike[str]) -> list[Path]:
    """What :func:`import_checkpoint` takes in a folder and the three levels below it; a file is returned as it is.

    Raises:
        WeightsError: a folder without anything.
    """
    root = Path(path)
    if not root.is_dir():
        return [root]
    try:
        found = sorted(_importable(root, 3))
    except OSError as error:
        raise WeightsError(f"The folder '{root}' cannot be searched ({error.strerror}); name the file itself.") from error
    if not found:
        raise WeightsError(
            f"The folder '{root}' holds no model_ckpt_steps_*.ckpt, *.pkl, Talk3D, {MODEL_FILE}, HuBERT or wav2vec2; name the file itself."
        )
    return found


def _importable(folder: Path, depth: int) -> set[Path]:
    if any(folder.glob("model_ckpt_steps_*.ckpt")):
        return {folder}
    if speech_folder(folder) is not None:
        return {folder}
    found = set(folder.glob("*.pkl")) | _of_talk3d(folder) | ({folder} if looks_like_bfm(folder) else set())
    if depth:
        for below in folder.iterdir():
            if below.is_dir() and not below.is_symlink():
                found |= _importable(below, depth - 1)
    return found


def _of_talk3d(folder: Path) -> set[Path]:
    """Talk3D's arrays of a person, and the checkpoint of the latest iteration, the tuned one of two (spec A.2, A.8)."""
    found = {path for name in TALK3D_ARRAYS if (path := folder / name).is_file()}
    steps = {(int(match[1]), bool(match[2])): path for path in folder.glob("*.pt") if (match := _TALK3D_CHECKPOINT.fullmatch(path.name))}
    return found | ({steps[max(steps)]} if steps else set())


def _convert_track(checkpoint: Checkpoint, folder: Path) -> ImportReport:
    from triportrait.weights.talk3d import talk3d_track

    published, info = checkpoint.tensors[SINGLE], checkpoint.info
    track = talk3d_track(published)
    if track is None:
        raise WeightsError(
            f"'{info.path}' holds one array of shape {list(published.shape)}, which is none of Talk3D's ({', '.join(TALK3D_ARRAYS)}); "
            "use the files its authors' code wrote."
        )
    return _save(checkpoint, folder, *track, {}, published.numel())


def _convert(checkpoint: Checkpoint, folder: Path) -> ImportReport:
    published, info = checkpoint.tensors, checkpoint.info
    table = recognise(published, info.path)
    check(published, table, info.path)
    state, parts = CONVERTERS[table.layout](published)
    refuse_not_finite(state, info.path)
    layout, config = table.layout, {"published": dict(table.config), **parts}
    if layout == "eg3d" and (info.network == BARE or "fixed" in info.path.name):
        # No file says which axes its planes span: released corrections have it in their name, and Talk3D tunes one of these (spec C.2).
        config["prior"] = {"layout": "eg3d_fixed"}
    if layout == "eg3d" and info.network == BARE:
        layout = "talk3d_generator"
    trained = sum(tensor.numel() for key, tensor in published.items() if key not in table.buffers)
    return _save(checkpoint, folder, layout, state, config, trained)


def _save(
    checkpoint: Checkpoint, folder: Path, layout: str, state: Mapping[str, torch.Tensor], config: Mapping[str, Any], published_numbers: int
) -> ImportReport:
    info, licence = checkpoint.info, licence_of_layout(layout)
    target = folder / f"{layout}.safetensors"
    provenance = Provenance(info.path.name, info.sha256, info.network, IMPORTER_VERSION, licence)
    refuse_inputs(target, [info.path])
    save_weights(target, state, layout=layout, config=config, provenance=provenance)
    return ImportReport(layout, info.path, target, info.sha256, published_numbers, _numbers(state), info.others, licence)


def _head(published: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, Any]]:
    from triportrait.weights.real3d_head import head_state, image_to_plane_config

    return head_state(published), {"image_to_plane": image_to_plane_config(published)}


def _torso(published: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, Any]]:
    """The complete model: the head's parts, and a super-resolution that contains the head's own."""
    from triportrait.weights import real3d_head as head
    from triportrait.weights.real3d_torso import htb_super_resolution_state

    parts = {
        "image_to_plane": head.image_to_plane_state(published),
        "motion_adapter": head.motion_adapter_state(published),
        "decoder": head.decoder_state(published),
        "htb_super_resolution": htb_super_resolution_state(published),
    }
    state = {f"{part}.{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}
    return state, {"image_to_plane": head.image_to_plane_config(published)}


def _audio_to_motion(published: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, Any]]:
    from triportrait.weights.real3d_a2m import audio_to_motion_config, audio_to_motion_state

    return audio_to_motion_state(published), {"audio_to_motion": audio_to_motion_config(published)}


def _eg3d(published: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, Any]]:
    from triportrait.weights.eg3d import eg3d_state

    return eg3d_state(published), {}


def _eg3d_discriminator(published: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, Any]]:
    from triportrait.weights.eg3d import discriminator_state

    return discriminator_state(published), {}


def _talk3d(published: Mapping[str, torch.Tensor]) -> tuple[State, dict[str, Any]]:
    from triportrait.weights.talk3d import talk3d_state

    return talk3d_state(published), {}


#: Layout -> function from published tensors to (ours, keyword arguments of the parts' configurations).
CONVERTERS: dict[str, Callable[[Mapping[str, torch.Tensor]], tuple[State, dict[str, Any]]]] = {
    "real3d_head": _head,
    "real3d_torso": _torso,
    "real3d_a2m": _audio_to_motion,
    "eg3d": _eg3d,
    "eg3d_discriminator": _eg3d_discriminator,
    "talk3d": _talk3d,
}


def _copy_of_ours(checkpoint: Checkpoint, folder: Path) -> ImportReport:
    stored = load_weights(newest_checkpoint(checkpoint.info.path), verify=True)
    target = folder / f"{stored.layout}.safetensors"
    refuse_inputs(target, [newest_checkpoint(checkpoint.info.path)])
    save_weights(target, stored.tensors, layout=stored.layout, config=stored.config, provenance=stored.provenance)
    numbers = _numbers(stored.tensors)
    return ImportReport(
        stored.layout,
        checkpoint.info.path,
        target,
        stored.provenance.source_sha256,
        numbers,
        numbers,
        (),
        stored.provenance.licence,
    )


def _numbers(state: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in state.values())
