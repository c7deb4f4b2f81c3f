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
    "real3d.image_to_plane",
    "real3d.motion_adapter",
    "real3d.torso",
    "real3d.audio_to_motion",
    "talk3d",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What a user may say about a run; None leaves it to the preset.

    Args:
        model: what to train.
        data: where from: folders of clips, of packed views or of speech, or files of mouth windows.
        out: folder of the run.
        preset: a name of the model's recipes; None takes the one that is meant to be used.
        start: file or folder of an earlier run.
        teacher: imported EG3D weights, for ``real3d.image_to_plane``.
        shares: how much of the batches comes from each folder of views, for ``oneshot``.
        held_out: files of mouth windows to be judged by, for ``mouth_painter``.
        steps, batch, accumulate, precision, seed: of the recipe.
        settings: further fields of the recipe, ``name=value`` with the value as JSON.
        device, devices, nodes: where; see :func:`triportrait.training.fabric.make_fabric`.
        workers: processes that make data ahead.
        stop_after: seconds after which the run is saved and left.
        plain: True trains without Lightning whatever is asked for; for boxes with torch alone.
    """

    model: str
    data: tuple[Path, ...]
    out: Path
    preset: str | None = None
    start: Path | None = None
    teacher: Path | None = None
    shares: tuple[float, ...] = ()
    held_out: tuple[Path, ...] = ()
    steps: int | None = None
    batch: int | None = None
    accumulate: int | None = None
    precision: str | None = None
    seed: int | None = None
    settings: tuple[str, ...] = ()
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    stop_after: float | None = None
    plain: bool | None = None


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
class SpeechOptions:
    """``triportrait data speech``: sound with phonemes, and sound with tracked lips."""

    clips: int = 2400
    """Synthesised clips to learn from (flite, festival and espeak-ng speak them)."""
    test_clips: int = 160
    """Synthesised clips of other voices, to be judged by."""
    joined_clips: int = 0
    """Clips of festival's voices that join recorded speech."""
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
    model: Path | None = None
    """Lips network that moves phoneme boundaries to where it hears them, and finds clips out of step. Default: the built-in one, for the
    latter alone."""
    untranscribed: Path | None = None
    """Folder of clean recordings without transcript, to be labelled by --teachers; every third is left for tests."""
    teachers: tuple[Path, ...] = ()
    """Two or more lips networks."""
    seed: int = 0
    """Of everything random."""
