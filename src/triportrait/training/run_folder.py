"""The folder of a training run: recipe, checkpoint, log, curve, pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triportrait.errors import OptionError, OutputError, TriPortraitError
from triportrait.files import atomic_file
from triportrait.types import Array

log = logging.getLogger(__name__)

#: Fields of a recipe that may change while a run goes on: they do not decide what is learned, or only for how long.
_FREE = frozenset({"steps", "log_every", "save_every", "validate_every", "validation_rows", "precision", "accumulate"})
_FORMAT = "triportrait.training.2"


def open_folder(folder: Path, described: dict[str, Any]) -> dict[str, Any] | None:
    """Prepare the folder of a new run, or read the state of the one that it holds.

    Args:
        folder: of the run.
        described: the stage's name and every field of its recipe.

    Raises:
        OptionError: the folder holds another run, or a model without a checkpoint.
        OutputError: it cannot be written.
    """
    path = folder / "recipe.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "state.pt").exists():
            if not path.exists() and any((folder / name).exists() for name in ("log.jsonl", "model.safetensors")):
                raise OptionError(f"'{folder}' holds a model and no checkpoint to go on with; choose another folder")
            (folder / "log.jsonl").write_text("", encoding="utf-8")
            write_whole(path, json.dumps(described, indent=1))
            return None
        if path.exists():
            _refuse_other_recipe(folder, json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(described)))
        write_whole(path, json.dumps(described, indent=1))
        state = read_state(folder / "state.pt")
        _drop_later_lines(folder / "log.jsonl", int(state["step"]))
        return state
    except TriPortraitError:
        raise
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be written: {error.strerror or error}; choose another folder") from None


def _refuse_other_recipe(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Fields that a younger version added are not compared: they had no other value then."""
    changed = [name for name in old if name in new and name not in _FREE and old[name] != new[name]]
    if changed:
        name = changed[0]
        raise OptionError(
            f"'{folder}' holds a run with another recipe ({name} is {old[name]!r} there and {new[name]!r} here); "
            "give the settings it began with, or another folder"
        )
    if old.get("steps") != new["steps"]:
        log.warning("the run was begun for %s steps and now goes to %s: rates follow the new length", old.get("steps"), new["steps"])


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint of :func:`save_state`.

    Raises:
        OptionError: it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file lets almost any exception out.
    except Exception as error:
        raise OptionError(f"'{path}' is no checkpoint that can be read ({type(error).__name__}); remove it to begin anew") from None


def restore(
    networks: nn.ModuleDict, averages: Mapping[str, nn.Module], optimisers: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[int, float]:
    """Put a checkpoint into networks, averages and optimisers; the step it was made after, and the processor seconds until then.

    Raises:
        OptionError: it belongs to other networks.
    """
    try:
        for name, network in networks.items():
            network.load_state_dict(state["networks"][name])
        for name, network in averages.items():
            network.load_state_dict(state["averages"][name])
        for which, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][which])
    except (KeyError, RuntimeError, ValueError) as error:
        raise OptionError(f"the checkpoint belongs to other networks ({str(error).splitlines()[0]}); choose another folder") from None
    return int(state["step"]), float(state["cpu_s"])


def save_state(
    path: Path,
    stage: str,
    *,
    networks: nn.ModuleDict,
    averages: Mapping[str, nn.Module],
    optimisers: Mapping[str, Any],
    step: int,
    cpu_s: float,
) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    state = {
        "format": _FORMAT,
        "stage": stage,
        "networks": {name: network.state_dict() for name, network in networks.items()},
        "averages": {name: network.state_dict() for name, network in averages.items()},
        "optimisers": {which: optimiser.state_dict() for which, optimiser in optimisers.items()},
        "step": step,
        "cpu_s": cpu_s,
    }
    try:
        with atomic_file(path) as part, part.open("wb") as file:
            torch.save(state, file)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; free some space and go on") from None


def _drop_later_lines(path: Path, step: int) -> None:
    """Lines of steps that a killed run made after its last checkpoint are made again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    write_whole(path, "".join(line + "\n" for line in kept))


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


# -- what people look at ----------------------------------------------------------------------------------------------------


class Writer:
    """Log lines, TensorBoard, validation pictures and curves; what is not installed is left out, once said."""

    def __init__(self, folder: Path, first: int, tensorboard: bool) -> None:
        self._folder, self._board = folder, None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.info("TensorBoard is not installed; log.jsonl has the same numbers")
            else:
                # What a killed run wrote after its last checkpoint is hidden.
                self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1 if first else None)

    def line(self, line: dict[str, float]) -> None:
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        log.info("%s", " ".join(f"{key} {value:.4g}" for key, value in line.items()))
        if self._board is not None:
            for key, value in line.items():
                if key != "step":
                    self._board.add_scalar(key, value, int(line["step"]))
            self._board.flush()

    def picture(self, picture: Array, step: int) -> None:
        try:
            from triportrait.media.images import write_png
        except ImportError:
            log.info("Pillow is not installed; there are no validation pictures")
            return
        folder = self._folder / "validation"
        folder.mkdir(exist_ok=True)
        write_png(folder / f"step_{step:08d}.png", picture)
        if self._board is not None:
            self._board.add_image("validation", picture, step, dataformats="HWC")

    def curve(self) -> None:
        try:
            plot_curve(self._folder / "log.jsonl", self._folder / "curve.png")
        except ImportError:
            log.info("Matplotlib is not installed; there is no curve.png")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


#: Fields of a log line that are no part of the loss and no measure.
_COSTS = frozenset({"step", "cpu_s", "seconds", "memory_gb", "rate"})


def plot_curve(log_path: Path, picture: Path) -> None:
    """Loss terms and held-out measures over the steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    trained = [line for line in lines if "loss" in line]
    held_out = sorted({key for line in lines for key in line if key.endswith(("_db", "_val"))})
    judged = [line for line in lines if any(key in line for key in held_out)]
    terms = [key for key in dict.fromkeys(key for line in trained for key in line) if key not in _COSTS and key not in held_out]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for key in terms:
        points = [(line["step"], line[key]) for line in trained if key in line and line[key] > 0]
        if points:
            left.plot(*zip(*points, strict=True), linewidth=1.2 if key == "loss" else 0.6, label=key)
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    if left.lines:
        left.legend(fontsize=7)
    for key in held_out:
        right.plot([line["step"] for line in judged if key in line], [line[key] for line in judged if key in line], ".-", label=key)
    right.set(xlabel="step", ylabel="held-out measures (_db: decibels)")
    if held_out:
        right.legend(fontsize=7)
    with atomic_file(picture) as part:
        figure.savefig(part, dpi=80, format="png")
    pyplot.close(figure)


def tile(pictures: Sequence[Sequence[Tensor]]) -> Array:
    """Rows of pictures [3, s, s] in -1..1, brought to the size of the first, as one uint8 [h, w, 3]."""
    side = pictures[0][0].shape[-1]
    rows = []
    for row in pictures:
        same = [
            torch.nn.functional.interpolate(p[None].float(), size=(side, side), mode="bilinear", align_corners=False)[0].cpu() for p in row
        ]
        rows.append(torch.cat(same, 2))
    grid = torch.cat(rows, 1).clamp(-1, 1)
    return ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
