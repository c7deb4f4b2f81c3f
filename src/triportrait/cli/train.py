"""``triportrait train``: the networks that ship, and those of the papers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from triportrait.cli.terminal import say, tell
from triportrait.training.options import Model, TrainOptions


@dataclass
class Train:
    """Train a network, or go on where a killed or interrupted run stopped. See docs/guides/training.md."""

    model: Positional[Model]
    """What to train."""
    data: tuple[Path, ...]
    """What to learn from: folders of clips, packed views or speech, or files of mouths (all from 'triportrait data')."""
    out: Annotated[Path, arg(aliases=("-o",))]
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
    """Files of mouths that mouth_painter is judged by."""
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
        from triportrait.training.command import run_training

        logging.getLogger("triportrait").setLevel(logging.INFO)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        result = run_training(TrainOptions(settings=values.pop("set"), **values))
        if not result.speaks:
            return 0
        if result.interrupted:
            tell(f"triportrait: stopped and saved after step {result.step}; the same line goes on from there")
            return 130
        say(f"{self.out}  ({result.step} steps)")
        return 0
