"""The loop: exact resume (also after kill -9), the same learning however a batch is split, refusals, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from triportrait.errors import MissingPart, NumericError, OptionError
from triportrait.training.fabric import SingleDevice, make_fabric
from triportrait.training.loop import Recipe, RunResult, train_stage

COSTS = ("cpu_s", "seconds", "memory_gb")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyRecipe(Recipe):
    rate: float = 0.05
    pause_s: float = 0.0


class Toy:
    """Learns a wave with batch norm and dropout, and has an adversary, so that nothing of the loop is left out."""

    name = "toy"
    averaged = ("student",)

    def __init__(self, recipe: ToyRecipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        student = nn.Sequential(nn.Linear(2, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.networks = nn.ModuleDict({"student": student, "adversary": nn.Linear(1, 1)})
        self.frozen = nn.ModuleDict()

    def optimisers(self):  # noqa: ANN201
        student, adversary = (torch.optim.AdamW(self.networks[name].parameters()) for name in ("student", "adversary"))
        return {"generator": (student, ("student",)), "discriminator": (adversary, ("adversary",))}

    def rates(self, which: str, step: int) -> list[float]:
        return [self.recipe.rate]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator", "discriminator") if step % 2 else ("generator",)

    def rows(self, step: int, rows) -> dict[str, torch.Tensor]:  # noqa: ANN001
        time.sleep(self.recipe.pause_s)
        x = torch.stack([torch.rand(2, generator=torch.Generator().manual_seed(step * 1000 + row)) for row in rows])
        return {"x": x, "y": torch.sin(3 * x.sum(1, keepdim=True))}

    def losses(self, batch, step: int, which: str) -> dict[str, torch.Tensor]:  # noqa: ANN001
        answer = self.networks["student"](batch["x"])
        if which == "discriminator":
            return {"told": (self.networks["adversary"](answer.detach()) - 1).square().mean()}
        return {"near": (answer - batch["y"]).square().mean(), "liked": 0.01 * self.networks["adversary"](answer).square().mean()}

    def validate(self, networks):  # noqa: ANN001, ANN201
        x = torch.linspace(0, 1, 32)[:, None].expand(-1, 2)
        error = (networks["student"](x) - torch.sin(3 * x.sum(1, keepdim=True))).square().mean()
        return {"error_val": float(error)}, np.zeros((4, 4, 3), np.uint8)

    def save(self, networks, folder: Path, notes: dict[str, str]) -> None:  # noqa: ANN001
        (folder / "notes.json").write_text(json.dumps(notes))


RECIPE = ToyRecipe(steps=24, batch=8, log_every=1, save_every=5, validate_every=8, average=0.9)
#: For one process and for two, see test_training_stages.py; there Lightning is loaded anyway.
TWICE = replace(RECIPE, dropout=False)


def curve(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in COSTS} for line in lines]


def run(folder: Path, recipe: ToyRecipe = RECIPE, **options) -> tuple[Toy, RunResult]:  # noqa: ANN003
    toy = Toy(recipe)
    return toy, train_stage(toy, folder, **options)


def assert_same(first: list[dict[str, float]], second: list[dict[str, float]], tolerance: float) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        assert all(abs(a[k] - b[k]) <= tolerance * max(1.0, abs(a[k])) for k in a), (a, b)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_run_in_parts_is_the_run_in_one(tmp_path: Path) -> None:
    whole, learned = run(tmp_path / "whole")
    for _ in range(3):
        run(tmp_path / "parts", stop_after=0.0)
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 0.0}\n{"step": 10, "lo')
    parts, learned_in_parts = run(tmp_path / "parts")
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")
    for a, b in ((whole.networks, parts.networks), (learned.averaged, learned_in_parts.averaged)):
        for name, value in a.state_dict().items():
            torch.testing.assert_close(b.state_dict()[name], value, rtol=0, atol=0)
    errors = [line["error_val"] for line in curve(tmp_path / "whole") if "error_val" in line]
    assert len(errors) == 3 and errors[-1] < 0.8 * errors[0]
    for name in ("curve.png", "recipe.json", "notes.json", "validation/step_00000008.png", "tensorboard"):
        assert (tmp_path / "whole" / name).exists(), name


def test_data_workers_change_nothing(tmp_path: Path) -> None:
    run(tmp_path / "in_between", replace(RECIPE, steps=8))
    run(tmp_path / "ahead", replace(RECIPE, steps=8), workers=2)
    assert curve(tmp_path / "in_between") == curve(tmp_path / "ahead")


def test_lightning_and_the_stand_in_learn_the_same(tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=10)
    run(tmp_path / "plain", recipe, fabric=SingleDevice())
    run(tmp_path / "fabric", recipe, fabric=make_fabric("cpu", plain=False))
    assert curve(tmp_path / "plain") == curve(tmp_path / "fabric")
    half = replace(recipe, precision="bf16")
    run(tmp_path / "plain16", half, fabric=SingleDevice())
    run(tmp_path / "fabric16", half, fabric=make_fabric("cpu", plain=False))
    assert curve(tmp_path / "plain16") == curve(tmp_path / "fabric16")
    assert curve(tmp_path / "plain16") != curve(tmp_path / "plain")


def test_accumulation_is_one_batch_without_batch_norm(tmp_path: Path) -> None:
    class Plain(Toy):
        def __init__(self, recipe: ToyRecipe) -> None:
            super().__init__(recipe)
            self.networks["student"][1] = nn.Identity()

    for name, parts in (("one", 1), ("four", 4)):
        train_stage(Plain(replace(RECIPE, accumulate=parts, dropout=False)), tmp_path / name)
    assert_same(curve(tmp_path / "one"), curve(tmp_path / "four"), 1e-5)


def test_dead_steps_are_left_out_and_many_are_an_error(tmp_path: Path) -> None:
    class Broken(Toy):
        dead = {3}

        def losses(self, batch, step: int, which: str) -> dict[str, torch.Tensor]:  # noqa: ANN001
            terms = super().losses(batch, step, which)
            return {name: term * float("nan") for name, term in terms.items()} if step in self.dead else terms

    toy = Broken(RECIPE)
    train_stage(toy, tmp_path / "once")
    assert all(torch.isfinite(value).all() for name, value in toy.networks.named_parameters())
    Broken.dead = set(range(100))
    with pytest.raises(NumericError, match="20 steps"):
        train_stage(Broken(replace(RECIPE, steps=50)), tmp_path / "always")


def test_other_runs_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", replace(RECIPE, steps=2))
    with pytest.raises(OptionError, match="rate is 0.05 there and 0.1 here"):
        run(tmp_path / "run", replace(RECIPE, steps=2, rate=0.1))
    run(tmp_path / "run", replace(RECIPE, steps=4))  # longer is fine
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").write_text("mine")
    with pytest.raises(OptionError, match="no checkpoint to go on with"):
        run(tmp_path / "other")
    (tmp_path / "run" / "state.pt").write_bytes(b"half of a")
    with pytest.raises(OptionError, match="no checkpoint that can be read"):
        run(tmp_path / "run", replace(RECIPE, steps=4))
    with pytest.raises(OptionError, match="multiple of 3"):
        run(tmp_path / "odd", replace(RECIPE, accumulate=3))
    with pytest.raises(OptionError, match="precision"):
        run(tmp_path / "eight", replace(RECIPE, precision="fp8"))
    if not torch.cuda.is_available():
        with pytest.raises(MissingPart, match="CUDA"):
            make_fabric("cuda")


PROGRAM = """
import sys; sys.path.insert(0, {tests!r})
import logging, torch; logging.disable(logging.WARNING); torch.set_num_threads(1)
from pathlib import Path
from dataclasses import replace
from training.test_loop import RECIPE, Toy
from triportrait.training.loop import train_stage
result = train_stage(Toy(replace(RECIPE, **{changes!r})), Path({folder!r}), tensorboard=False)
assert result.finished or result.interrupted
"""


def start(folder: Path, changes: dict) -> subprocess.Popen:
    program = folder.with_suffix(".py")
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parents[1]), changes=changes, folder=str(folder)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(program)], env=environment)


def wait_for_step(folder: Path, step: int) -> None:
    for _ in range(6000):
        lines = (folder / "log.jsonl").read_text().splitlines() if (folder / "log.jsonl").exists() else []
        if len(lines) >= step:
            return
        time.sleep(0.01)
    raise AssertionError("the run makes no progress")


def test_kill_9_and_ctrl_c_lose_nothing(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    folder = tmp_path / "killed"
    process = start(folder, {"pause_s": 0.05})
    wait_for_step(folder, 7)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= torch.load(folder / "state.pt", weights_only=True)["step"] < 24
    (folder / "state.part").write_bytes(b"a checkpoint that was being written")
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["pause_s"] == 0.05
    process = start(folder, {"pause_s": 0.05})
    wait_for_step(folder, 12)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    reached = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert 12 <= reached < 24
    run(folder, replace(RECIPE, pause_s=0.05))
    assert curve(folder) == curve(tmp_path / "whole")


@pytest.mark.parametrize("text", ["{}", '{"stage": "torso", "steps": 3}'])
def test_the_recipe_is_whole_or_the_old_one(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triportrait.training.run_folder import write_whole

    path = tmp_path / "recipe.json"
    write_whole(path, text)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", lambda self, words, **_: (self.write_bytes(words[:3].encode()), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            write_whole(path, '{"stage": "head"}')
    assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


def test_a_closed_terminal_asks_a_run_to_save() -> None:
    from triportrait.training import loop

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with loop._signals() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with loop._signals() as asked:  # under nohup
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)
