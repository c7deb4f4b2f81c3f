"""``triportrait train``: the networks that ship, and those of the papers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from triportrait.cli.terminal import say, tell
from triportrait.training.options import Model, TrainOptions


@dataclass(frozen=True, kw_only=True)
class Train(TrainOptions):
    """Train a network, or go on where a killed or interrupted run stopped. See docs/guides/training.md."""

    # What these mean stands in TrainOptions; here they are written as the command line has them.
    model: Positional[Model]
    out: Annotated[Path, arg(aliases=("-o",))]
    settings: Annotated[UseAppendAction[tuple[str, ...]], arg(name="set")] = ()

    def run(self) -> int:
        from triportrait.training.command import join_networks, run_training
        from triportrait.training.exporting import check_export, export_trained

        if self.export:
            check_export(self.model)
        logging.getLogger("triportrait").setLevel(logging.INFO)
        if self.join:
            joined = join_networks(self)
            say(export_trained(self.model, joined) if self.export else joined)
            return 0
        result = run_training(self)
        if not result.speaks:
            return 0
        if result.interrupted:
            tell(f"triportrait: stopped and saved after step {result.step}; the same line goes on from there")
            return 130
        if self.export:
            say(export_trained(self.model, self.out / "model.safetensors"))
        say(f"{self.out}  ({result.step} steps)")
        return 0
