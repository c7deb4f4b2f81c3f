"""Where the authors of published weights publish them, under which terms, and what they become here.

Nothing listed here belongs to this project and nothing is downloaded unless 'triportrait weights fetch NAME' asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from triportrait.errors import WeightsError


@dataclass(frozen=True)
class PublishedFile:
    """One file of an entry.

    Attributes:
        name: file name as published.
        address: where it can be had directly; None where its authors give only a page for people.
        sha256: of the file, where it is known.
    """

    name: str
    address: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Entry:
    """Something published that can be used here.

    Attributes:
        name: what it is called here; ``find_weights(name)`` after the import.
        what: one line.
        files: what its authors call the files.
        page: where its authors publish it.
        licence: the terms, as far as its authors state them.
        layouts: which key tables its files fit; empty for what is used as it is.
        needed_for: what does not work without it.
    """

    name: str
    what: str
    files: tuple[PublishedFile, ...]
    page: str
    licence: str
    layouts: tuple[str, ...] = ()
    needed_for: str = ""


_REAL3D_PAGE = "https://github.com/yerfor/Real3DPortrait (README, 'Pre-trained Real3D-Portrait': Google Drive or Baidu)"
_REAL3D_LICENCE = (
    "the repository says MIT, parts of its code carry NVIDIA's non-commercial header, and the training data are for "
    "research; ask the authors before any commercial use"
)
_EG3D_PAGE = "https://catalog.ngc.nvidia.com/orgs/nvidia/teams/research/models/eg3d"
_EG3D_FILES = "https://api.ngc.nvidia.com/v2/models/nvidia/research/eg3d/versions/1/files/"
_EG3D_LICENCE = "NVIDIA Source Code License for EG3D: research and evaluation only, not commercial"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "real3d_torso",
        "Real3D-Portrait, complete: image to plane, motion adapter, renderer, head-torso-background super-resolution",
        (PublishedFile("240210_real3dportrait_orig/secc2plane_torso_orig/model_ckpt_steps_100000.ckpt"),),
        _REAL3D_PAGE,
        _REAL3D_LICENCE,
        ("real3d_torso",),
        "--preset paper",
    ),
    Entry(
        "real3d_head",
        "Real3D-Portrait without torso (not in the public archive; the complete model contains it)",
        (PublishedFile("secc2plane_orig/model_ckpt_steps_*.ckpt"),),
        _REAL3D_PAGE,
        _REAL3D_LICENCE,
        ("real3d_head",),
    ),
    Entry(
        "real3d_a2m",
        "Real3D-Portrait's audio to motion: flow-enhanced VAE on HuBERT and pitch",
        (PublishedFile("240210_real3dportrait_orig/audio2secc_vae/model_ckpt_steps_400000.ckpt"),),
        _REAL3D_PAGE,
        _REAL3D_LICENCE,
        ("real3d_a2m",),
        "--preset paper with a voice",
    ),
    Entry(
        "hubert",
        "HuBERT large, fine-tuned on 960 h of LibriSpeech: the speech features of audio to motion",
        tuple(
            PublishedFile(name, f"https://huggingface.co/facebook/hubert-large-ls960-ft/resolve/main/{name}")
            for name in ("config.json", "preprocessor_config.json", "pytorch_model.bin")
        ),
        "https://huggingface.co/facebook/hubert-large-ls960-ft",
        "Apache-2.0",
        (),
        "--preset paper with a voice",
    ),
    Entry(
        "bfm",
        "Basel Face Model 2009 as Deep3DFaceRecon arranges it, with the map to MediaPipe's landmarks",
        (PublishedFile("BFM_model_front.mat"), PublishedFile("index_mp468_from_mesh35709.npy")),
        "https://faces.dmi.unibas.ch (registration); the README of Real3D-Portrait names the derived files ('3DMM BFM Model')",
        "Basel Face Model licence: signed form, non-commercial research only",
        (),
        "--preset paper",
    ),
    Entry(
        "eg3d",
        "EG3D, FFHQ rebalanced, 512 px with 128 px neural rendering (ffhq512-128.pkl fits, too): the prior for pre-training",
        (PublishedFile("ffhqrebalanced512-128.pkl", _EG3D_FILES + "ffhqrebalanced512-128.pkl"),),
        _EG3D_PAGE,
        _EG3D_LICENCE,
        ("eg3d", "eg3d_discriminator"),
        "training from EG3D's prior",
    ),
    Entry(
        "talk3d",
        "Talk3D, one person: the tuned generator, that person's style and cameras, and how the tri-plane changes with voice, lids and head",
        (
            PublishedFile("G_tune.pkl"),
            PublishedFile("inversion_w_person.pt"),
            PublishedFile("inversion_0-0_angles.pt"),
            PublishedFile("May_demo.pt"),
        ),
        "https://github.com/cvlab-kaist/Talk3D (README); for others its code writes them, the last as <epoch>_<iter>.pt or *_tune.pt",
        "CC BY-NC 4.0 and, for the generator, NVIDIA Source Code License for EG3D: not commercial",
        ("talk3d", "talk3d_generator", "talk3d_person", "talk3d_cameras", "talk3d_rotation", "talk3d_landmarks"),
        "--preset talk3d",
    ),
    Entry(
        "wav2vec2",
        "wav2vec2 large, fine-tuned on Esperanto (44 classes): the speech features of Talk3D's published weights",
        tuple(
            PublishedFile(name, f"https://huggingface.co/cpierse/wav2vec2-large-xlsr-53-esperanto/resolve/main/{name}")
            for name in ("config.json", "preprocessor_config.json", "pytorch_model.bin")
        ),
        "https://huggingface.co/cpierse/wav2vec2-large-xlsr-53-esperanto",
        "Apache-2.0",
        (),
        "--preset talk3d with imported weights",
    ),
)


def entry(name: str) -> Entry:
    """The entry of this name.

    Raises:
        WeightsError: there is none; the text lists all.
    """
    for candidate in CATALOGUE:
        if candidate.name == name:
            return candidate
    raise WeightsError(f"The catalogue has no '{name}'; it has {', '.join(one.name for one in CATALOGUE)}.")


def licence_of_layout(layout: str) -> str:
    """The terms of the published files that fit a key table, or of the entry of that name."""
    return next((one.licence for one in CATALOGUE if layout in (one.name, *one.layouts)), "unknown; ask its authors")
