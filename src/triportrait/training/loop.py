"""The one training loop. A step is a function of (seed, step, row) and of the state in the checkpoint alone.

So a run that was killed goes on exactly where its last checkpoint was, a batch may be split over processes and accumulated parts
without changing what is learned, and data can be made ahead by worker processes. A stage (:class:`Stage`) says what is trained and on
what; the loop does everything else: precision and processes (Fabric), accumulation, gradient limit, NaN guard, averaged weights,
checkpoints, logs, curves, validation pictures, leaving on a signal.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from triportrait.errors import NumericError, OptionError, OutputError, TriPortraitError
from triportrait.files import atomic_file
from triportrait.training.fabric import SingleDevice, on_device, share_norms, trained_alone
from triportrait.types import Array

Values = dict[str, float]
log = logging.getLogger(__name__)

#: A run with so many steps in a row that give no number is broken.
NAN_LIMIT = 20
#: Fields of a recipe that may change while a run goes on: they do not decide what is learned, or only for how long.
_FREE = frozenset({"steps", "log_every", "save_every", "validate_every", "validation_rows", "precision", "accumulate"})
_FORMAT = "triportrait.training.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What every stage's recipe has; the stages add theirs.

    Args:
        steps: length of the run; learning rates may follow it.
        batch: rows of a step, over all processes and accumulated parts.
        accumulate: parts that a process's rows are computed in, one after the other.
        precision: ``"fp32"`` or ``"bf16"`` (mixed: weights stay in single precision).
        average: of the exponential moving average of weights.
        gradient_limit: norm to which gradients are cut.
        dropout: False turns all dropout of the networks off.
        seed: of everything random.
        log_every, save_every, validate_every: steps.
    """

    steps: int = 1000
    batch: int = 1
    accumulate: int = 1
    precision: str = "fp32"
    average: float = 0.999
    gradient_limit: float = 1.0
    dropout: bool = True
    seed: int = 0
    log_every: int = 20
    save_every: int = 250
    validate_every: int = 500


class Stage(Protocol):
    """What is trained, and on what.

    Attributes:
        name: of the stage.
        recipe: what decides the run.
        networks: everything that has weights to be learned, by name.
        averaged: names of networks whose averaged weights are the result.
        frozen: networks that serve the losses; moved to the device, never saved.
    """

    name: str
    recipe: Recipe
    networks: nn.ModuleDict
    averaged: tuple[str, ...]
    frozen: nn.ModuleDict

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        """Pass -> its optimiser and the names of the networks that it changes."""
        ...

    def rates(self, which: str, step: int) -> Sequence[float]:
        """Learning rates of a pass's parameter groups."""
        ...

    def passes(self, step: int) -> Sequence[str]:
        """Passes of a step, in order."""
        ...

    def rows(self, step: int, rows: Sequence[int]) -> Any:
        """Rows of a step's batch as tensors in dictionaries; everything random about a row is a function of (seed, step, row)."""
        ...

    def losses(self, batch: Any, step: int, which: str) -> dict[str, Tensor]:
        """Weighted terms of a pass's loss, means over rows; their sum is what falls."""
        ...

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        """Measures on held-out data and a picture uint8 [h, w, 3] to look at, with averaged networks in evaluation mode."""
        ...

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        """Write what others load, atomically."""
        ...


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the step it reached, whether that was the last, whether a signal stopped it, and whether this is the process that
    speaks for all."""

    step: int
    finished: bool
    interrupted: bool
    speaks: bool = True


class _Losses(nn.Module):
    """A stage as a module in its precision, so that processes can be wrapped around it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.networks = stage.networks
        self._stage = stage

    def forward(self, batch: Any, step: int, which: str) -> dict[str, Tensor]:
        device = next(self.networks.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._stage.recipe.precision == "bf16"):
            return self._stage.losses(batch, step, which)


class _StepData(torch.utils.data.Dataset):
    """Step -> this process's parts of its batch."""

    def __init__(self, stage: Stage, rank: int, world: int) -> None:
        recipe = stage.recipe
        parts = world * recipe.accumulate
        if recipe.batch % parts:
            raise OptionError(
                f"a batch of {recipe.batch} rows cannot be split over {world} processes times {recipe.accumulate} accumulated parts; "
                f"use a multiple of {parts}"
            )
        self._stage, size = stage, recipe.batch // parts
        own = range(rank * recipe.accumulate, (rank + 1) * recipe.accumulate)
        self._rows = [range(part * size, (part + 1) * size) for part in own]

    def __len__(self) -> int:
        return self._stage.recipe.steps

    def __getitem__(self, step: int) -> list[Any]:
        return [self._stage.rows(step, rows) for rows in self._rows]


def train_stage(
    stage: Stage, folder: Path, fabric: Any | None = None, *, stop_after: float | None = None, workers: int = 0, tensorboard: bool = True
) -> RunResult:
    """Train, or go on where ``folder`` left off.

    Args:
        stage: what to train; afterwards its ``networks`` hold the last weights, and ``networks_average`` the averaged ones.
        folder: gets ``state.pt``, ``recipe.json``, ``log.jsonl``, ``curve.png``, ``validation/``, ``tensorboard/``, and what the stage
            saves.
        fabric: where to run, already launched; None takes the CPU.
        stop_after: seconds of wall time after which the run is saved and left; None goes to the end.
        workers: processes that make data ahead; 0 makes it in between.
        tensorboard: also write TensorBoard's files, where it is installed.

    Raises:
        NumericError: the loss is no number for many steps in a row.
        OptionError: the folder holds a run of another stage or recipe, or the batch cannot be split.
        OutputError: the folder cannot be written.
    """
    recipe = stage.recipe
    if recipe.precision not in ("fp32", "bf16"):
        raise OptionError(f"precision is {recipe.precision!r}; use fp32 or bf16")
    fabric = fabric or SingleDevice()
    data = _StepData(stage, fabric.global_rank, fabric.world_size)
    state = _open_folder(folder, stage) if fabric.is_global_zero else None
    fabric.barrier()
    if state is None and (folder / "state.pt").exists():
        state = _read_state(folder / "state.pt")

    if not recipe.dropout:
        for module in stage.networks.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
    average = {name: deepcopy(stage.networks[name]).requires_grad_(False) for name in stage.averaged}
    if fabric.world_size > 1:
        share_norms(stage.networks, fabric.device)
    module = fabric.setup_module(_Losses(stage))
    stage.frozen.to(fabric.device).eval().requires_grad_(False)
    for network in average.values():
        network.to(fabric.device)
    optimisers, owners = {}, {}
    for which, (optimiser, names) in stage.optimisers().items():
        optimisers[which], owners[which] = fabric.setup_optimizers(optimiser), names
    first, spent = 0, 0.0
    if state is not None:
        first, spent = _restore(stage, average, optimisers, state)
    writer = _Writer(folder, first, tensorboard) if fabric.is_global_zero else None
    stage.networks.train()

    loader = torch.utils.data.DataLoader(
        data, batch_size=None, sampler=range(first, recipe.steps), num_workers=workers, persistent_workers=False,
        prefetch_factor=4 if workers else None, worker_init_fn=_leave_signals_to_the_parent,
    )  # fmt: skip
    began, cpu, missed, done, last = time.monotonic(), time.process_time() - spent, 0, first, time.monotonic()
    with _signals() as asked:
        for step, parts in zip(range(first, recipe.steps), loader, strict=True):
            # Dropout and the like; what makes rows has seeds of its own.
            torch.manual_seed((recipe.seed * 1_000_003 + step) * 4096 + fabric.global_rank)
            parts = on_device(parts, lambda tensor: tensor.to(fabric.device, non_blocking=True))
            values: dict[str, Tensor] = {}
            bad = False
            for which in stage.passes(step):
                terms, norm = _gradients(stage, module, fabric, optimisers[which], owners[which], parts, step, which)
                finite = torch.isfinite(norm) & torch.isfinite(sum(terms.values()))
                if fabric.world_size > 1:
                    finite = fabric.all_reduce(finite.float(), reduce_op="mean") == 1.0
                if bool(finite):
                    optimisers[which].step()
                else:
                    bad = True
                values |= {name if which == "generator" else f"{which}_{name}": term for name, term in terms.items()}
            missed = missed + 1 if bad else 0
            if bad:
                log.warning("step %d gave no number and is left out", step)
            if missed >= NAN_LIMIT:
                raise NumericError(f"the loss was no number for {missed} steps in a row at step {step}; lower the learning rate")
            if not bad:
                _follow(average, stage.networks, min(recipe.average, (step + 1) / (step + 10)))

            done = step + 1
            stop = asked() or (stop_after is not None and time.monotonic() - began > stop_after)
            if fabric.world_size > 1:
                stop = bool(fabric.all_reduce(torch.tensor(float(stop), device=fabric.device), reduce_op="sum") > 0)
            end = done == recipe.steps
            line: Values = {}
            if done % recipe.log_every == 0 or end:
                names = sorted(values)
                numbers = fabric.all_reduce(torch.stack([values[name].float() for name in names]), reduce_op="mean").tolist()
                terms_now = dict(zip(names, numbers, strict=True))
                total = sum(value for name, value in terms_now.items() if not name.startswith("discriminator_"))
                line = {"loss": total, **terms_now, "rate": stage.rates(stage.passes(step)[0], step)[0]}
            if fabric.is_global_zero:
                if done % recipe.validate_every == 0 or end:
                    line |= _validate(stage, average, writer, done)
                if line:
                    now = time.monotonic()
                    costs = {"seconds": round((now - began) / (done - first), 4), "memory_gb": round(_memory_gb(fabric.device), 3)}
                    writer.line({"step": done, "cpu_s": round(time.process_time() - cpu, 2), **line, **costs})
                if done % recipe.save_every == 0 or end or stop:
                    _save_state(folder / "state.pt", stage, average, optimisers, done, time.process_time() - cpu)
                    stage.save(average, folder, {"steps": str(done), "stage": stage.name, "recipe": json.dumps(asdict(recipe))})
                    # Drawing costs a second: a short run does it at its end.
                    if end or stop or time.monotonic() - last > 30:
                        writer.curve()
                        last = time.monotonic()
            if stop and not end:
                break
        interrupted = asked() or (stop_after is None and done < recipe.steps)
    if fabric.is_global_zero:
        writer.close()
    fabric.barrier()
    stage.networks_average = nn.ModuleDict(average).eval()
    return RunResult(done, done >= recipe.steps, interrupted and done < recipe.steps, fabric.is_global_zero)


def _gradients(
    stage: Stage, module: nn.Module, fabric: Any, optimiser: Any, names: Sequence[str], parts: Sequence[Any], step: int, which: str
) -> tuple[dict[str, Tensor], Tensor]:
    """One pass's gradients over all parts, cut to the limit; the mean terms and the norm before cutting."""
    for group, rate in zip(optimiser.param_groups, stage.rates(which, step), strict=True):
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    with trained_alone(dict(stage.networks), set(names)):
        for index, part in enumerate(parts):
            with fabric.no_backward_sync(module, enabled=index + 1 < len(parts)):
                terms = module(part, step, which)
                fabric.backward(sum(terms.values()) / len(parts))
            for name, term in terms.items():
                means[name] = means.get(name, 0.0) + term.detach() / len(parts)
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"] if parameter.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, stage.recipe.gradient_limit)
    return means, norm.detach()


@torch.no_grad()
def _follow(average: Mapping[str, nn.Module], networks: Mapping[str, nn.Module], keep: float) -> None:
    for name, network in average.items():
        for slow, fast in zip(network.parameters(), networks[name].parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
        for slow, fast in zip(network.buffers(), networks[name].buffers(), strict=True):
            slow.copy_(fast)


def _validate(stage: Stage, average: dict[str, nn.Module], writer: _Writer, done: int) -> Values:
    was = {name: network.training for name, network in average.items()}
    for network in average.values():
        network.eval()
    with torch.no_grad():
        measures, picture = stage.validate(average)
    for name, network in average.items():
        network.train(was[name])
    if picture is not None:
        writer.picture(picture, done)
    return measures


def _leave_signals_to_the_parent(_: int) -> None:
    """A worker of the data must outlive Ctrl-C and a closed terminal, so that the loop can end its step."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _memory_gb(device: torch.device) -> float:
    """Most memory so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def _signals() -> Iterator[Any]:
    """Inside, SIGINT, SIGTERM and SIGHUP ask the loop to save and leave; a second one interrupts at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        log.warning("saving after this step and leaving; the same command goes on from there")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none; 'nohup' asks that it do nothing
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- folder and checkpoint --------------------------------------------------------------------------------------------------


def _open_folder(folder: Path, stage: Stage) -> dict[str, Any] | None:
    """Prepare the folder of a new run, or read the state of the one that it holds."""
    described = {"stage": stage.name, **asdict(stage.recipe)}
    path = folder / "recipe.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "state.pt").exists():
            if not path.exists() and any((folder / name).exists() for name in ("log.jsonl", "model.safetensors")):
                raise OptionError(f"'{folder}' holds a model and no checkpoint to go on with; choose another folder")
            (folder / "log.jsonl").write_text("", encoding="utf-8")
            _write_whole(path, json.dumps(described, indent=1))
            return None
        if path.exists():
            _refuse_other_recipe(folder, json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(described)))
        _write_whole(path, json.dumps(described, indent=1))
        state = _read_state(folder / "state.pt")
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


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file lets almost any exception out.
    except Exception as error:
        raise OptionError(f"'{path}' is no checkpoint that can be read ({type(error).__name__}); remove it to begin anew") from None


def _restore(stage: Stage, average: dict[str, nn.Module], optimisers: dict[str, Any], state: dict[str, Any]) -> tuple[int, float]:
    """Weights, averages and optimisers of a checkpoint; also of the first version, which held one network."""
    if "format" not in state and len(stage.networks) == 1:
        (name,) = stage.networks
        which = next(iter(optimisers))
        state = {
            "networks": {name: state["model"]}, "averages": {name: state["average"]}, "optimisers": {which: state["optimiser"]},
            "step": state["step"], "cpu_s": state.get("cpu_s", 0.0),
        }  # fmt: skip
    try:
        for name, network in stage.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, network in average.items():
            network.load_state_dict(state["averages"][name])
        for which, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][which])
    except (KeyError, RuntimeError, ValueError) as error:
        raise OptionError(f"the checkpoint belongs to other networks ({str(error).splitlines()[0]}); choose another folder") from None
    return int(state["step"]), float(state["cpu_s"])


def _save_state(path: Path, stage: Stage, average: dict[str, nn.Module], optimisers: dict[str, Any], step: int, cpu_s: float) -> None:
    state = {
        "format": _FORMAT,
        "stage": stage.name,
        "networks": {name: network.state_dict() for name, network in stage.networks.items()},
        "averages": {name: network.state_dict() for name, network in average.items()},
        "optimisers": {which: optimiser.state_dict() for which, optimiser in optimisers.items()},
        "step": step,
        "cpu_s": cpu_s,
    }
    with atomic_file(path) as part, part.open("wb") as file:
        torch.save(state, file)


def _drop_later_lines(path: Path, step: int) -> None:
    """Lines of steps that a killed run made after its last checkpoint are made again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    _write_whole(path, "".join(line + "\n" for line in kept))


def _write_whole(path: Path, text: str) -> None:
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


# -- what people look at ----------------------------------------------------------------------------------------------------


class _Writer:
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

    def line(self, line: Values) -> None:
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


def recipe_from(base: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``changes`` that are not None, checked against the recipe's fields.

    Raises:
        OptionError: the recipe has no such setting.
    """
    names = {field.name for field in fields(base)}
    given = {name: value for name, value in changes.items() if value is not None}
    for name in given:
        if name not in names:
            raise OptionError(f"the recipe has no setting {name!r}; it has {', '.join(sorted(names))}")
    return given
