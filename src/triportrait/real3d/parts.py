"""The parts of Real3D-Portrait that a user brings: where weights, head model and HuBERT lie, what a weight file says of itself, and the
networks that it holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import MissingPart, WeightsError

if TYPE_CHECKING:
    import torch

    from triportrait.real3d.networks import PaperNetworks


@dataclass(frozen=True, slots=True)
class PaperFiles:
    """Where the user's parts lie: weights, the head model's file (None for weights trained here on the open head), HuBERT's folder (None
    where no voice is needed, or where the weights were trained on our own features); and which head model it is."""

    torso: Path
    audio_to_motion: Path | None
    head: Path | None
    hubert: Path | None
    head_model: str = "open"


def find_files(
    weights: Path | None = None, bfm: Path | None = None, hubert: Path | None = None, *, flame: Path | None = None, voice: bool = True
) -> PaperFiles:
    """The files, from the folders given or where ``triportrait weights import`` puts them.

    Args:
        weights: folder with ``real3d_torso.safetensors`` and ``real3d_a2m.safetensors``.
        bfm: ``BFM_model_front.mat`` or its folder.
        flame: FLAME's file or its folder, for weights trained here on FLAME.
        hubert: folder with ``config.json`` and ``model.safetensors``.
        voice: whether a voice is to be followed, which needs audio to motion and HuBERT, too.

    Raises:
        MissingPart: one sentence that names all that is missing and how to get it.
        WeightsError: voice and picture were trained on different head models.
    """
    from triportrait.real3d.head_models import file_of
    from triportrait.weights.home import weights_home

    home = weights_home()
    folder = weights or home
    speech = hubert or home / "hubert"
    torso, talk = folder / "real3d_torso.safetensors", folder / "real3d_a2m.safetensors"
    # Weights that 'triportrait train' made say what they were trained on.
    head_model = str(described(torso).get("head_model", "bfm"))
    face = None if head_model == "open" else file_of(head_model, flame if head_model == "flame" else bfm)
    own_features = described(talk).get("speech") == "log_mel"
    wanted = [(torso, "Real3D-Portrait's weights (real3d_torso)")]
    if voice:
        wanted.append((talk, "its audio-to-motion (real3d_a2m)"))
    if face is not None:
        wanted.append((face, f"FLAME ({face.name})" if head_model == "flame" else f"the Basel face model ({face.name})"))
    if voice and not own_features:
        wanted.append((speech / "model.safetensors", "HuBERT (hubert)"))
    missing = [f"{name}, not at '{path}'" for path, name in wanted if not path.is_file()]
    if missing:
        raise MissingPart(
            f"The paper's preset lacks {'; '.join(missing)}: 'triportrait weights list' says where their authors publish them, "
            "'triportrait weights import FILE' makes them usable, and --weights, --bfm, --flame and --hubert name other places."
        )
    if voice and (spoken := str(described(talk).get("head_model", "bfm"))) != head_model:
        raise WeightsError(
            f"'{talk}' speaks in the head model {spoken} and '{torso}' is driven in {head_model}; train both from clips of one kind"
        )
    return PaperFiles(torso, talk if voice else None, face, speech if voice and not own_features else None, head_model)


def can_hear(weights: Path | None = None, bfm: Path | None = None, hubert: Path | None = None, flame: Path | None = None) -> bool:
    """Whether all that a voice needs is there; arguments as for :func:`find_files`."""
    from triportrait.real3d.hubert import check_hubert

    try:
        found = find_files(weights, bfm, hubert, flame=flame)
        if found.hubert is not None:
            check_hubert(found.hubert)
    except MissingPart:
        return False
    return True


def described(path: Path) -> dict[str, Any]:
    """The configuration that a weight file of ours carries; empty where there is none. No weight is read."""
    from safetensors import SafetensorError, safe_open

    from triportrait.weights.store import ENTRY

    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})[ENTRY])["config"]
    except (OSError, KeyError, ValueError, SafetensorError):
        # Whoever loads the file says what is wrong with it.
        return {}


def load_networks(files: PaperFiles, head_threshold: float | None = None) -> tuple[PaperNetworks, dict[str, torch.nn.Module]]:
    """Networks with imported weights, ready to run.

    Args:
        files: where they lie.
        head_threshold: alpha above which the head hides the background entirely (published: ``--head_torso_threshold``; more where hair is
            translucent); None takes that of the weights.

    Raises:
        WeightsError: damaged files, or files of another kind.
    """
    import torch

    from triportrait.real3d.networks import SIZES, build, from_settings
    from triportrait.weights.store import load_weights

    stored = load_weights(files.torso, layout="real3d_torso")
    if "sizes" in stored.config:
        # Trained here: not folded, of any size.
        preset = from_settings(stored.config["sizes"])
    else:
        preset = SIZES[str(stored.config.get("preset", "paper"))]()
    if "image_to_plane" in stored.config:
        preset = replace(preset, image_to_plane=replace(preset.image_to_plane, **stored.config["image_to_plane"]))
    if head_threshold is not None:
        preset = replace(preset, super_resolution=replace(preset.super_resolution, head_threshold=head_threshold))
    state = dict(stored.tensors)
    if files.audio_to_motion is not None:
        voice = load_weights(files.audio_to_motion, layout="real3d_a2m")
        details: dict[str, Any] = dict(voice.config.get("audio_to_motion", {}))
        if "amplitudes" in details:
            details["amplitudes"] = tuple(details["amplitudes"])
        preset = replace(preset, audio_to_motion=replace(preset.audio_to_motion, **details))
        state |= {f"audio_to_motion.{key}": tensor for key, tensor in voice.tensors.items()}
    with torch.device("meta"):
        networks = build(preset)
    if files.audio_to_motion is None:
        del networks["audio_to_motion"]
    for name, network in networks.items():
        prefix = f"{name}."
        part = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        try:
            network.load_state_dict(part, assign=True)
        except RuntimeError as error:
            raise WeightsError(
                f"'{files.torso}' does not hold the weights of {name} in the sizes that it names; import them again"
            ) from error
        network.eval().requires_grad_(False)
    return preset, networks
