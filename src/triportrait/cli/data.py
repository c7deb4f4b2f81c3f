"""``triportrait data``: videos become training data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say, say_lines, tell


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
            size_px=self.size, clip_seconds=self.clip_seconds, minimum_fps=self.minimum_fps,
            hubert=str(self.hubert) if self.hubert else None, need_sound=self.need_sound,
        )  # fmt: skip
        options = PrepareOptions(
            self.videos, self.out, layout=self.layout, settings=settings, workers=self.workers, ray=self.ray,
            videos_per_shard=self.videos_per_shard, retry_failed=self.retry_failed,
        )  # fmt: skip
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
class Data:
    """Training data from videos: prepare, verify."""

    action: Annotated[DataPrepare, subcommand("prepare")] | Annotated[DataVerify, subcommand("verify")]

    def run(self) -> int:
        return self.action.run()
