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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from triportrait.errors import NumericError, OptionError
from triportrait.nn.sound_gradients import sound_gradients
from triportrait.training.fabric import SingleDevice, on_device, share_norms, trained_alone
from triportrait.training.run_folder import Writer, open_folder, read_state, restore, save_state
from triportrait.types import Array

Values = dict[str, float]
log = logging.getLogger(__name__)

#: A run with so many steps in a row that give no number is broken.
NAN_LIMIT = 20


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
    networks: nn.ModuleDict
    frozen: nn.ModuleDict

    @property
    def recipe(self) -> Recipe: ...
    @property
    def averaged(self) -> tuple[str, ...]: ...

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
    """How a run ended.

    Args:
        step: that it reached.
        finished: whether that was the last.
        interrupted: whether a signal stopped it.
        averaged: the stage's networks with averaged weights, by name, in evaluation mode.
        speaks: whether this is the process that speaks for all.
    """

    step: int
    finished: bool
    interrupted: bool
    averaged: nn.ModuleDict
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
        stage: what to train; afterwards its ``networks`` hold the last weights.
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
    if stage.recipe.precision not in ("fp32", "bf16"):
        raise OptionError(f"precision is {stage.recipe.precision!r}; use fp32 or bf16")
    with sound_gradients():
        return _Run(stage, folder, fabric or SingleDevice(), tensorboard).go(stop_after, workers)


class _Run:
    """What one call of :func:`train_stage` holds: a stage on its devices, its averaged networks, its folder."""

    def __init__(self, stage: Stage, folder: Path, fabric: Any, tensorboard: bool) -> None:
        self._stage, self._folder, self._fabric = stage, folder, fabric
        self._data = _StepData(stage, fabric.global_rank, fabric.world_size)
        state = open_folder(folder, {"stage": stage.name, **asdict(stage.recipe)}) if fabric.is_global_zero else None
        fabric.barrier()
        if state is None and (folder / "state.pt").exists():
            state = read_state(folder / "state.pt")
        if not stage.recipe.dropout:
            for module in stage.networks.modules():
                if isinstance(module, nn.modules.dropout._DropoutNd):
                    module.p = 0.0
        self._average = {name: deepcopy(stage.networks[name]).requires_grad_(False) for name in stage.averaged}
        if fabric.world_size > 1:
            share_norms(stage.networks, fabric.device)
        self._module = fabric.setup_module(_Losses(stage))
        stage.frozen.to(fabric.device).eval().requires_grad_(False)
        for network in self._average.values():
            network.to(fabric.device)
        self._optimisers: dict[str, Any] = {}
        self._owners: dict[str, tuple[str, ...]] = {}
        for which, (optimiser, names) in stage.optimisers().items():
            self._optimisers[which], self._owners[which] = fabric.setup_optimizers(optimiser), names
        self._first, spent = 0, 0.0
        if state is not None:
            self._first, spent = restore(stage.networks, self._average, self._optimisers, state)
        self._writer = Writer(folder, self._first, tensorboard) if fabric.is_global_zero else None
        stage.networks.train()
        self._began = self._drawn = time.monotonic()
        self._cpu = time.process_time() - spent

    def go(self, stop_after: float | None, workers: int) -> RunResult:
        """All steps that are left, or those until a signal or ``stop_after`` seconds."""
        steps, done, missed = self._stage.recipe.steps, self._first, 0
        loader = torch.utils.data.DataLoader(
            self._data,
            batch_size=None,
            sampler=range(self._first, steps),
            num_workers=workers,
            persistent_workers=False,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_leave_signals_to_the_parent,
        )
        with _signals() as asked:
            for step, parts in zip(range(self._first, steps), loader, strict=True):
                values, is_sound = self._step(step, parts)
                missed = 0 if is_sound else missed + 1
                if missed >= NAN_LIMIT:
                    raise NumericError(f"the loss was no number for {missed} steps in a row at step {step}; lower the learning rate")
                done = step + 1
                stop = self._agreed(asked() or (stop_after is not None and time.monotonic() - self._began > stop_after))
                self._record(step, values, stop)
                if stop and done < steps:
                    break
            interrupted = asked() or (stop_after is None and done < steps)
        if self._writer is not None:
            self._writer.close()
        self._fabric.barrier()
        averaged = nn.ModuleDict(self._average).eval()
        return RunResult(done, done >= steps, interrupted and done < steps, averaged, self._fabric.is_global_zero)

    def _step(self, step: int, parts: Sequence[Any]) -> tuple[dict[str, Tensor], bool]:
        """All passes of a step; its terms, and whether all of them gave numbers."""
        stage, fabric, recipe = self._stage, self._fabric, self._stage.recipe
        # Dropout and the like; what makes rows has seeds of its own.
        torch.manual_seed((recipe.seed * 1_000_003 + step) * 4096 + fabric.global_rank)
        parts = on_device(parts, lambda tensor: tensor.to(fabric.device, non_blocking=True))
        values: dict[str, Tensor] = {}
        is_sound = True
        for which in stage.passes(step):
            terms, norm = _gradients(stage, self._module, fabric, self._optimisers[which], self._owners[which], parts, step, which)
            finite = torch.isfinite(norm) & torch.isfinite(torch.as_tensor(sum(terms.values())))
            if fabric.world_size > 1:
                finite = fabric.all_reduce(finite.float(), reduce_op="mean") == 1.0
            if bool(finite):
                self._optimisers[which].step()
            else:
                is_sound = False
            values |= {name if which == "generator" else f"{which}_{name}": term for name, term in terms.items()}
        if is_sound:
            _follow(self._average, stage.networks, min(recipe.average, (step + 1) / (step + 10)))
        else:
            log.warning("step %d gave no number and is left out", step)
        return values, is_sound

    def _agreed(self, stop: bool) -> bool:
        """Whether any process wants to stop."""
        if self._fabric.world_size == 1:
            return stop
        return bool(self._fabric.all_reduce(torch.tensor(float(stop), device=self._fabric.device), reduce_op="sum") > 0)

    def _record(self, step: int, values: Mapping[str, Tensor], stop: bool) -> None:
        """Log, validate and save after a step, each when its turn has come."""
        stage, recipe, done = self._stage, self._stage.recipe, step + 1
        end = done == recipe.steps
        line: Values = {}
        if done % recipe.log_every == 0 or end:
            names = sorted(values)
            numbers = self._fabric.all_reduce(torch.stack([values[name].float() for name in names]), reduce_op="mean").tolist()
            terms = dict(zip(names, numbers, strict=True))
            total = sum(value for name, value in terms.items() if not name.startswith("discriminator_"))
            line = {"loss": total, **terms, "rate": stage.rates(stage.passes(step)[0], step)[0]}
        if self._writer is None:
            return
        if done % recipe.validate_every == 0 or end:
            line |= _validate(stage, self._average, self._writer, done)
        if line:
            seconds = (time.monotonic() - self._began) / (done - self._first)
            costs = {"seconds": round(seconds, 4), "memory_gb": round(_memory_gb(self._fabric.device), 3)}
            self._writer.line({"step": done, "cpu_s": round(time.process_time() - self._cpu, 2), **line, **costs})
        if done % recipe.save_every == 0 or end or stop:
            cpu_s = time.process_time() - self._cpu
            save_state(
                self._folder / "state.pt",
                stage.name,
                networks=stage.networks,
                averages=self._average,
                optimisers=self._optimisers,
                step=done,
                cpu_s=cpu_s,
            )
            notes = {"steps": str(done), "stage": stage.name, "recipe": json.dumps(asdict(recipe))}
            stage.save(self._average, self._folder, notes)
            # Drawing costs a second: a short run does it at its end.
            if end or stop or time.monotonic() - self._drawn > 30:
                self._writer.curve()
                self._drawn = time.monotonic()


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
def _follow(average: Mapping[str, nn.Module], networks: nn.ModuleDict, keep: float) -> None:
    for name, network in average.items():
        for slow, fast in zip(network.parameters(), networks[name].parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
        for kept, new in zip(network.buffers(), networks[name].buffers(), strict=True):
            kept.copy_(new)


def _validate(stage: Stage, average: dict[str, nn.Module], writer: Writer, done: int) -> Values:
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
            if handler is not None:  # None: it was not Python's, and cannot be put back
                signal.signal(number, handler)
