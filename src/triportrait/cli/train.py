"""``triportrait train``: one stage of the networks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from triportrait.cli.terminal import say, tell


@dataclass
class Train:
    """Train a stage, or go on where a killed or interrupted run stopped. See docs/training.md."""

    stage: Positional[Literal["image_to_plane", "motion_adapter", "torso", "audio_to_motion"]]
    """What to train; in this order, each starting from the one before."""
    data: tuple[Path, ...]
    """Folders of clips (from 'triportrait data prepare') or of packed views."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder of the run: checkpoint, model, log, curve, validation pictures."""
    preset: str = "compact"
    """tiny (a try), compact (small networks), small (the paper's networks at 256 px), paper, or a variant; a wrong name lists them."""
    start: Path | None = None
    """Folder or model.safetensors of an earlier stage."""
    teacher: Path | None = None
    """Imported EG3D weights, the paper's teacher of image_to_plane."""
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
    set: UseAppendAction[tuple[str, ...]] = ()
    """Another setting of the recipe, name=value; may be given several times."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    devices: int = 1
    """Devices of this machine."""
    nodes: int = 1
    """Machines."""
    workers: int | None = None
    """Processes that make data ahead. Default: 8 with a GPU, else 0."""

    def run(self) -> int:
        from triportrait.training.command import TrainOptions, run_training

        logging.getLogger("triportrait").setLevel(logging.INFO)
        result = run_training(
            TrainOptions(
                stage=self.stage, preset=self.preset, data=self.data, out=self.out, start=self.start, teacher=self.teacher,
                steps=self.steps, batch=self.batch, accumulate=self.accumulate, precision=self.precision, seed=self.seed,
                settings=self.set, device=self.device, devices=self.devices, nodes=self.nodes, workers=self.workers,
            )
        )  # fmt: skip
        if not result.speaks:
            return 0
        if result.interrupted:
            tell(f"triportrait: stopped and saved after step {result.step}; the same line goes on from there")
            return 130
        say(f"{self.out}  ({result.step} steps)")
        return 0
