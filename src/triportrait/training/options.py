"""What a user may say to ``triportrait train`` and ``triportrait data``. Light: the command line reads it for ``--help``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Called with what is being done, how much of it is done, and how much there is as far as is known.
Progress = Callable[[str, int, int], None]

#: What ``triportrait train`` can train.
Model = Literal[
    "oneshot",
    "mouth_painter",
    "voice",
    "sync_expert",
    "coverings",
    "parts",
    "real3d.image_to_plane",
    "real3d.motion_adapter",
    "real3d.torso",
    "real3d.audio_to_motion",
    "talk3d",
    "erlnet.field",
    "erlnet.manner",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """``triportrait train``: a run; None leaves a setting to the preset."""

    model: str
    """What to train."""
    data: tuple[Path, ...] = ()
    """What to learn from: folders of clips, packed views or speech, or files of mouths or lower faces (all from 'triportrait data')."""
    out: Path
    """Folder of the run: checkpoint, model, log, curve, validation pictures."""
    preset: str | None = None
    """tiny (a try), compact (our networks), small (the paper's networks at 256 px), paper, or another; a wrong name lists them.
    Default: compact or small."""
    variant: str | None = None
    """Of real3d.*: an ablation of the paper's Table 4, or its text; 'triportrait weights describe --ablations' explains them."""
    start: Path | None = None
    """Folder or model.safetensors of an earlier run."""
    teacher: Path | None = None
    """Imported EG3D weights, the paper's teacher of real3d.image_to_plane."""
    discriminator: Path | None = None
    """Imported EG3D discriminator, which the adversary of real3d.image_to_plane, motion_adapter or torso begins as."""
    shares: tuple[float, ...] = ()
    """How much of the batches of oneshot comes from each folder. Default: every row is drawn alike."""
    held_out: tuple[Path, ...] = ()
    """What mouth_painter, coverings or parts is judged by: files of mouths, files of lower faces, folders of labelled portraits."""
    join: tuple[Path, ...] = ()
    """Two finished networks of voice (folders or files), on log-mel and on wide bands: they become one, and nothing is trained."""
    export: bool = False
    """Write the ONNX file that videos are made with (model.onnx in the run's folder), too; also of a run that is finished."""
    steps: int | None = None
    """Length of the run; what happens at a step moves along."""
    batch: int | None = None
    """Rows of a step, over all devices."""
    accumulate: int | None = None
    """Parts that a device computes its rows in, for small memories."""
    precision: Literal["fp32", "bf16"] | None = None
    """Of the computations; weights stay in single precision."""
    seed: int | None = None
    """Of everything random."""
    settings: tuple[str, ...] = ()
    """Another setting of the recipe, name=value; may be given several times."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    devices: int = 1
    """Devices of this machine."""
    nodes: int = 1
    """Machines."""
    workers: int | None = None
    """Processes that make data ahead. Default: 8 with a GPU, else 0."""


@dataclass(frozen=True, kw_only=True)
class Talk3DOptions:
    """A person by Talk3D's networks."""

    prior: Path | None = None
    """Imported EG3D weights, into which the person is inverted (see 'triportrait weights list'); without it no network is trained."""
    preset: Literal["paper", "tiny"] = "paper"
    """paper: Talk3D's sizes, for a GPU; tiny: a try with a tiny generator."""
    steps: int | None = None
    """Length of the last stage. Default: the preset's."""
    inversion_steps: int | None = None
    """Length of the inversion. Default: 600."""
    tuning_steps: int | None = None
    """Length of the generator's tuning. Default: 400."""
    wav2vec2: Path | None = None
    """Folder of wav2vec2, whose classes of sounds then drive, as published. Default: our own log-mel features."""
    seed: int = 0
    """Of everything random."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""


@dataclass(frozen=True, kw_only=True)
class PersonalizeOptions(Talk3DOptions):
    """``triportrait personalize --prior``: a run; what lies in its folder of an earlier run is gone on with."""

    clip: Path
    """Video of one person who speaks, with sound; minutes are better than seconds."""
    out: Path
    """Folder of the person."""


@dataclass(frozen=True, slots=True)
class ViewsOptions:
    """``triportrait data views``: lifted portraits, procedural heads, or both."""

    portraits: Path | None = None
    """Folder of portraits: pictures, or an index.csv with the columns file and split."""
    split: Literal["train", "val"] = "train"
    """Which of the portraits. Without index.csv every tenth picture is held out."""
    limit: int = 400
    """Portraits at most, in a shuffled order."""
    skip: int = 0
    """Portraits (in that order), or procedural heads, that earlier runs packed."""
    views: int = 7
    """Turned views of a portrait or head; held-out portraits have seven fixed ones."""
    per_shard: int = 100
    """Rows of a file."""
    procedural: Path | None = None
    """Data bundle for procedural heads (folders makehuman and hdri)."""
    heads: int = 300
    """Procedural heads whose expression stays."""
    moving: int = 100
    """Procedural heads whose views have other expressions."""
    seed: int = 0
    """Of order and turns."""


@dataclass(frozen=True, slots=True)
class PairsOptions:
    """``triportrait data pairs``: real frames of one person."""

    videos: Path | None = None
    """Folder of square head-and-shoulders clips (.mp4)."""
    clips: Path | None = None
    """Folder of shards that 'triportrait data prepare' wrote."""
    sources: int = 2
    """Frames of each clip that serve as photograph."""
    views: int = 7
    """Other frames for each of them."""
    per_shard: int = 100
    """Rows of a file."""
    limit: int | None = None
    """Videos at most."""


@dataclass(frozen=True, slots=True)
class MouthsOptions:
    """``triportrait data mouths``: drawn mouths and what they should look like."""

    portraits: Path | None = None
    """Folder of portraits: pictures, or an index.csv with the columns file and split."""
    pairs: Path | None = None
    """Folder of square head-and-shoulders clips (.mp4)."""
    split: Literal["train", "val"] = "train"
    """Which of them; one clip in nine is held out."""
    limit: int = 600
    """Portraits at most."""
    per_clip: int = 12
    """Windows of a clip."""
    closed: float = 0.4
    """Share of portraits with closed lips that are taken."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, slots=True)
class CoveringsOptions:
    """``triportrait data coverings``: lower faces as they are and covered."""

    portraits: Path | None = None
    """Folder of portraits: pictures, or an index.csv with the columns file and split."""
    split: Literal["train", "val"] = "train"
    """Which of them. Without index.csv every tenth picture is held out."""
    limit: int = 600
    """Portraits at most, in a shuffled order."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, slots=True)
class PartsOptions:
    """``triportrait data parts``: portraits and synthetic people whose pixels are labelled."""

    portraits: Path | None = None
    """Folder of portraits: pictures, or an index.csv with the columns file and split."""
    procedural: Path | None = None
    """Data bundle for synthetic people (folders makehuman and hdri)."""
    split: Literal["train", "val"] = "train"
    """Which of them. Without index.csv every tenth picture is held out."""
    limit: int = 2000
    """Portraits at most, in a shuffled order."""
    people: int = 400
    """Synthetic people."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, slots=True)
class PeopleOptions:
    """``triportrait data people``: clips of synthetic people."""

    procedural: Path | None = None
    """Data bundle for procedural heads (folders makehuman and hdri)."""
    portraits: Path | None = None
    """Folder of portraits to lift and to move: pictures, or an index.csv with the columns file and split."""
    clips: int = 40
    """Clips of each kind."""
    skip: int = 0
    """Clips of each kind that earlier runs made."""
    frames: int = 12
    """Frames of a clip, 25 per second."""
    size: int = 256
    """Side of the pictures in pixels."""


@dataclass(frozen=True, slots=True)
class MannerOptions:
    """``triportrait data manner``: people who speak, each in a manner of their own."""

    videos: tuple[Path, ...] = ()
    """Folders of videos, of one person each, or of one person in each subfolder."""
    tracked: Path | None = None
    """Folder of one filmed speaker with tracked landmarks (index.csv, audio, landmarks)."""
    captured: Path | None = None
    """Folder of fluent speech with captured facial controls (NAME.flac, NAME.npz)."""
    captured_held_out: str = ""
    """NAME of the captured clip that is only judged by. Default: the last."""
    voices: tuple[Path, ...] = ()
    """Folders of recordings of at least four seconds, which synthetic people speak."""
    people: int = 64
    """Synthetic people; each says five of the recordings in a manner drawn by chance, and one of ten people is held out."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """``triportrait data speech``: sound with phonemes, and sound with tracked lips."""

    clips: int = 2400
    """Synthesised clips to learn from (flite, festival and espeak-ng speak them)."""
    test_clips: int = 160
    """Synthesised clips of other voices, to be judged by."""
    joined_clips: int = 0
    """Clips of festival's voices that join recorded speech."""
    sung_clips: int = 0
    """Clips of seven seconds of sung syllables, made by formulas."""
    recordings: Path | None = None
    """CSV of real recordings with the columns file and transcript; flite's words are warped onto them."""
    voice: str = "awb"
    """Voice of flite for that."""
    worst_cost: float = 2.7
    """Recordings that match worse are left out."""
    tracked: Path | None = None
    """Folder of filmed speakers with tracked faces (index.csv, audio, landmarks; words.csv gives them phonemes)."""
    head: Path | None = None
    """ict_facekit.npz, which explains their lips. Default: beside the folder."""
    captured: Path | None = None
    """Folder of fluent speech with captured facial controls (NAME.flac, NAME.npz)."""
    captured_held_out: str = ""
    """NAME of the captured clip that is only judged by; without it the seed draws one."""
    model: Path | None = None
    """Lips network that moves phoneme boundaries to where it hears them, and finds clips out of step. Default: the built-in one, for the
    latter alone."""
    untranscribed: Path | None = None
    """Folder of clean recordings without transcript, to be labelled by --teachers; every third is left for tests."""
    teachers: tuple[Path, ...] = ()
    """Two or more lips networks."""
    seed: int = 0
    """Of everything random."""
