"""``triportrait data``: training data from videos, portraits, synthetic people and speech."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say, say_lines, tell
from triportrait.training.options import (
    CoveringsOptions,
    MannerOptions,
    MouthsOptions,
    PairsOptions,
    PartsOptions,
    PeopleOptions,
    SpeechOptions,
    ViewsOptions,
)

if TYPE_CHECKING:
    from triportrait.training.data.views import Packed


@dataclass
class DataPrepare:
    """Turn videos of talking people into training shards. Interrupted, the same line goes on; what fails is in report.csv, exit code 3."""

    videos: Positional[Path]
    """Folder of videos (CelebV-HQ, TalkingHead-1KH and VoxCeleb2 as published are recognised), or one video."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for shards, index.json and report.csv."""
    layout: Literal["auto", "folder", "celebv_hq", "talkinghead_1kh", "voxceleb2"] = "auto"
    """How the folder is laid out."""
    size: int = 512
    """Side of the pictures in pixels."""
    clip_seconds: float = 4.0
    """Longer videos are cut into clips of this length; memory grows with it."""
    minimum_fps: float = 20.0
    """Slower videos are refused."""
    hubert: Path | None = None
    """Folder of HuBERT for speech features. Default: built-in log-mel features."""
    need_sound: bool = False
    """Refuse clips without sound."""
    head: Literal["open", "bfm", "flame"] = "open"
    """Head model whose coefficients the clips hold: ours, or the Basel face or FLAME of your own files (docs/guides/prepare_data.md)."""
    workers: int = 2
    """Processes of this machine; about 1 GB each."""
    ray: str | None = None
    """Address of a Ray cluster that does the work instead (auto, or HOST:PORT)."""
    videos_per_shard: int = 64
    """Videos whose clips share a shard."""
    retry_failed: bool = False
    """Begin clips that failed in earlier runs again."""

    def run(self) -> int:
        from triportrait.training.data.clip import PrepareSettings
        from triportrait.training.data.prepare import PrepareOptions, prepare

        settings = PrepareSettings(
            size_px=self.size,
            clip_seconds=self.clip_seconds,
            minimum_fps=self.minimum_fps,
            hubert=str(self.hubert) if self.hubert else None,
            need_sound=self.need_sound,
            head=self.head,
        )
        options = PrepareOptions(
            self.videos,
            self.out,
            layout=self.layout,
            settings=settings,
            workers=self.workers,
            ray=self.ray,
            videos_per_shard=self.videos_per_shard,
            retry_failed=self.retry_failed,
        )
        try:
            with ProgressBar("clips/s") as progress:
                summary = prepare(options, progress)
        except KeyboardInterrupt:
            tell("triportrait: interrupted; the same line goes on where this one ended")
            return 130
        say(f"{self.out}  ({summary.prepared} clips in {summary.shards} shards, {summary.new} of them new)")
        if summary.failed:
            tell(f"triportrait: {summary.failed} clips failed; {self.out / 'report.csv'} says why")
        return 3 if summary.failed else 0


@dataclass
class DataVerify:
    """Check a folder of shards: sizes, hashes, counts, and that every clip is complete."""

    shards: Positional[Path]
    """Folder that 'triportrait data prepare' wrote."""

    def run(self) -> int:
        from triportrait.training.data.shards import verify

        wrong = verify(self.shards)
        say_lines("\n".join(wrong) if wrong else f"{self.shards}: all is well")
        return 2 if wrong else 0


@dataclass
class DataViews:
    """Pack views of lifted portraits and of procedural heads, for 'train oneshot'."""

    options: OmitArgPrefixes[ViewsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the shards; give each kind a folder of its own to weigh them with --shares."""

    def run(self) -> int:
        from triportrait.training.data.views import pack_views

        return _packed(pack_views, self.options, self.out, "rows")


@dataclass
class DataPairs:
    """Pack pairs of real frames of one person, for 'train oneshot'."""

    options: OmitArgPrefixes[PairsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the shards."""

    def run(self) -> int:
        from triportrait.training.data.pairs import pack_pairs

        return _packed(pack_pairs, self.options, self.out, "rows")


@dataclass
class DataMouths:
    """Make windows of drawn mouths and what they should look like, for 'train mouth_painter'."""

    options: OmitArgPrefixes[MouthsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """File to write, ending in .npz."""

    def run(self) -> int:
        from triportrait.training.data.mouths import pack_mouths

        return _packed(pack_mouths, self.options, self.out, "windows")


@dataclass
class DataCoverings:
    """Make lower faces as they are and with something painted over the mouth, for 'train coverings'."""

    options: OmitArgPrefixes[CoveringsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """File to write, ending in .npz."""

    def run(self) -> int:
        from triportrait.training.data.coverings import pack_coverings

        return _packed(pack_coverings, self.options, self.out, "lower faces")


@dataclass
class DataParts:
    """Label what the pixels of portraits and of synthetic people show, for 'train parts'."""

    options: OmitArgPrefixes[PartsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the labelled pictures; those that are there are kept, so the same line goes on where an interrupted one ended."""

    def run(self) -> int:
        from triportrait.training.data.parts import pack_parts

        return _packed(pack_parts, self.options, self.out, "pictures")


@dataclass
class DataPeople:
    """Make clips of synthetic people, for 'train real3d.*' where there are no videos."""

    options: OmitArgPrefixes[PeopleOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the shards."""

    def run(self) -> int:
        from triportrait.training.data.synthetic import pack_people

        return _packed(pack_people, self.options, self.out, "clips")


@dataclass
class DataSpeech:
    """Make speech with the times of its phonemes, and sound with tracked lips, for 'train voice' and 'train sync_expert'."""

    options: OmitArgPrefixes[SpeechOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the clips; clips that are there are kept, so the same line goes on where an interrupted one ended."""

    def run(self) -> int:
        from triportrait.training.voice.speech import pack_speech

        logging.getLogger("triportrait").setLevel(logging.INFO)
        with ProgressBar("clips/s") as progress:
            count = pack_speech(self.options, self.out, progress)
        say(f"{self.out}  ({count} clips)")
        return 0


@dataclass
class DataManner:
    """Pack people who speak, filmed, captured or synthetic, for 'train erlnet.manner'."""

    options: OmitArgPrefixes[MannerOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the clips; those that are there are kept, so the same line goes on where an interrupted one ended."""

    def run(self) -> int:
        from triportrait.training.erlnet.pack import pack_manners

        return _packed(pack_manners, self.options, self.out, "sources")


def _packed(pack: Callable[..., Packed], options: object, out: Path, what: str) -> int:
    """Run a packer; 3 when it left something out."""
    logging.getLogger("triportrait").setLevel(logging.INFO)
    with ProgressBar("items/s") as progress:
        result = pack(options, out, progress)
    say(f"{out}  ({result.made} {what})")
    if result.left_out:
        tell(f"triportrait: {result.left_out} sources could not be used and were left out")
    return 3 if result.left_out else 0


@dataclass
class Data:
    """Training data: from videos (prepare, verify), and for our networks (views, pairs, mouths, coverings, parts, speech, people,
    manner)."""

    action: (
        Annotated[DataPrepare, subcommand("prepare")]
        | Annotated[DataVerify, subcommand("verify")]
        | Annotated[DataViews, subcommand("views")]
        | Annotated[DataPairs, subcommand("pairs")]
        | Annotated[DataMouths, subcommand("mouths")]
        | Annotated[DataCoverings, subcommand("coverings")]
        | Annotated[DataParts, subcommand("parts")]
        | Annotated[DataSpeech, subcommand("speech")]
        | Annotated[DataPeople, subcommand("people")]
        | Annotated[DataManner, subcommand("manner")]
    )

    def run(self) -> int:
        return self.action.run()
