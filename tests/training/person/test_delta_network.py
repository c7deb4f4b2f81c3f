"""A person's network: the shipped graph computes what torch does, the ablations leave out what they name, and it learns what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from triportrait.avatar.person.learned_delta import EMBEDDED, KIND, PICTURE_PX, DrawnNetwork, fits
from triportrait.avatar.person.learning import HeadsPicture
from triportrait.avatar.person.linear_delta import Residuals
from triportrait.nn.runtime import shipped_graph
from triportrait.training.person.network import NUMBERS, Ablation, DeltaNetwork, draw_ablation, flat_weights
from triportrait.training.person.teaching import teach
from triportrait.types import ARKIT_EXPRESSIONS

YAW = len(ARKIT_EXPRESSIONS) + 1


def network(ablation: Ablation | None = None) -> DeltaNetwork:
    torch.manual_seed(3)
    return DeltaNetwork(ablation=ablation)


@torch.no_grad()
def said(made: DeltaNetwork, row: np.ndarray, depth: np.ndarray) -> np.ndarray:
    return made(torch.from_numpy(row)[None], torch.from_numpy(depth))[0][0].permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    return np.tile(np.linspace(-1.0, 1.0, PICTURE_PX, dtype=np.float32), (PICTURE_PX, 1))


@pytest.fixture(scope="module")
def row() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(NUMBERS).astype(np.float32)


def test_the_shipped_graph_is_the_network(depth: np.ndarray, row: np.ndarray) -> None:
    made = network()
    (change,) = shipped_graph(EMBEDDED, KIND)(row, depth, flat_weights(made))
    expected = said(made, row, depth)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(change, expected, atol=1e-4)  # of changes as large as 2


def test_the_middle_row_adds_nothing(depth: np.ndarray) -> None:
    assert np.abs(said(network(), np.zeros(NUMBERS, np.float32), depth)).max() < 1e-4


@pytest.mark.parametrize("number", [YAW, ARKIT_EXPRESSIONS.index("eyeBlinkLeft"), ARKIT_EXPRESSIONS.index("jawOpen")])
def test_tokens_that_are_left_out_say_nothing(depth: np.ndarray, row: np.ndarray, number: int) -> None:
    other = row.copy()
    other[number] += 2.0
    blind = network(Ablation(without_lids_and_rotation=True))
    assert (said(network(), row, depth) != said(network(), other, depth)).any()
    assert (said(blind, row, depth) == said(blind, other, depth)).all() == (number != ARKIT_EXPRESSIONS.index("jawOpen"))


@pytest.mark.parametrize("without_split", [False, True])
@torch.no_grad()
def test_split_planes_see_one_another_as_profiles(without_split: bool) -> None:
    made = network(Ablation(without_split=without_split)).delta.down[0]
    planes = torch.zeros(1, 3 * 8, 64, 64)
    calm = made(planes)
    planes[:, 0, 20, 30] = 1.0  # one pixel of the first plane
    second = ((made(planes) - calm).abs()[0, 16:32].amax(0) > 1e-7).numpy()
    rows, columns = second.any(1).sum(), second.any(0).sum()
    # A line of the second plane, or the same spot in it.
    assert (max(rows, columns), min(rows, columns) < 8) == (5 if without_split else 64, True)


def test_a_network_without_split_is_drawn_by_pytorch(row: np.ndarray, depth: np.ndarray) -> None:
    left_out = Ablation(without_split=True)
    made = network(left_out)
    weights = flat_weights(made)
    draw_ablation(Ablation(without_lids_and_rotation=True))
    assert not fits(weights)
    draw_ablation(left_out)
    space = SimpleNamespace(size_px=PICTURE_PX, depth=lambda: depth)
    assert fits(weights) and fits(flat_weights(network()))
    np.testing.assert_allclose(DrawnNetwork(space, weights).picture(row), said(made, row, depth), atol=1e-5)  # type: ignore[arg-type]


def steps(count: int) -> Callable[[], float]:
    left = iter(range(count + 1))
    return lambda: next(left) / count


def made_up(rest: np.ndarray, yaw: np.ndarray) -> tuple[Residuals, HeadsPicture]:
    numbers = np.zeros((len(yaw), NUMBERS))
    numbers[:, YAW] = yaw
    side = rest.shape[1]
    shown = np.ones((len(yaw), side, side), bool)
    landmarks = np.random.default_rng(0).uniform(0.4 * side, 0.6 * side, (478, 2)).astype(np.float32)
    head = HeadsPicture(np.full((side, side, 3), 128.0, np.float32), np.zeros((side, side), np.float32), landmarks)
    return Residuals(rest.astype(np.float32), shown, numbers.copy(), numbers), head


def test_it_learns_what_no_linear_map_says_and_nothing_from_noise() -> None:
    random = np.random.default_rng(1)
    yaw = np.sin(np.arange(60) / 3.0) + 0.05 * random.standard_normal(60)
    light = np.zeros((48, 48, 3))
    light[14:34, 14:34] = (40.0, 20.0, -20.0)
    seen, head = made_up(np.abs(yaw)[:, None, None, None] * light, yaw)
    learned = teach(seen, head, steps(120), seed=0)
    assert learned is not None and fits(learned)
    noise = replace(seen, differences=(20.0 * random.standard_normal(seen.differences.shape)).astype(np.float32))
    assert teach(noise, head, steps(50), seed=0) is None


def test_the_last_steps_are_looked_at_and_too_few_are_called_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    yaw = np.sin(np.arange(30) / 3.0)
    seen, head = made_up(np.zeros((30, 24, 24, 3)), yaw)
    gains = iter((0.3, 0.0))
    monkeypatch.setattr("triportrait.training.person.teaching._explained", lambda *_: next(gains))
    # Fewer steps than lie between two looks: what they gained counts, and without a gain it was the time that lacked.
    state = torch.random.get_rng_state()
    assert teach(seen, head, steps(3), seed=0) is not None
    assert teach(seen, head, steps(3), seed=0) is None
    assert next(gains, None) is None and "time for 3 steps only" in caplog.text and "explains nothing" not in caplog.text
    # Whoever draws random numbers besides goes on as if nothing had been learned.
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_seed_draws_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, head = made_up(np.zeros((30, 24, 24, 3)), np.sin(np.arange(30) / 3.0))
    monkeypatch.setattr("triportrait.training.person.teaching._explained", lambda *_: 0.3)
    first, again, other = (teach(seen, head, steps(1), seed=seed) for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
