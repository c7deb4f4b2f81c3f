"""The dual field: the law of its sum, its sizes, its axes, and a small scene learned by heart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from triportrait.avatar.oneshot.volume import pixel_places
from triportrait.erlnet.field import DualField, HeadDeformation, StaticDeformation, load_field, save_field, union
from triportrait.errors import WeightsError
from triportrait.geometry.cameras import pose_points
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS

TINY = DualField.Config(expression=4, channels=8, plane_px=16, hidden=16, samples=32)
HOME = (0.0, 0.0, -1.0)


def field(seed: int = 0) -> DualField:
    torch.manual_seed(seed)
    return DualField(TINY, HOME)


def pose(yaw: float = 0.0, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    turn, move = torch.tensor([[0.1, yaw, 0.05]]), torch.tensor([[0.1, -0.1, -1.2]])
    return turn.expand(batch, -1), move.expand(batch, -1), torch.zeros(batch, 4)


def test_densities_add_and_colours_are_weighted_by_them() -> None:
    one, two = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 3.0, 0.0])
    red, blue = torch.tensor([1.0, 0.0, 0.0]).expand(3, 3), torch.tensor([0.0, 0.0, 1.0]).expand(3, 3)
    density, colour = union((one, two), (red, blue))
    assert density.tolist() == [3.0, 3.0, 0.0]
    assert torch.allclose(colour, torch.tensor([[2 / 3, 0, 1 / 3], [0, 0, 1.0], [0, 0, 0]]))


@torch.no_grad()
def test_a_ray_is_the_sum_over_its_samples_written_out() -> None:
    dual = field()
    places = pixel_places(4)[None, 5:7]
    rotation, translation, expression = pose(0.3)
    seen = dual(places, rotation, translation, expression)
    step = 2 * TINY.range_dm / TINY.samples
    for ray in range(2):
        light, rgb = torch.tensor(1.0), torch.zeros(3)
        optical = {"head": 0.0, "static": 0.0}
        for k in range(TINY.samples):
            z = CAMERA_DISTANCE_DM - HOME[2] - TINY.range_dm + (k + 0.5) * step
            x, y = (float(places[0, ray, axis]) * z / FOCAL_IN_WIDTHS for axis in (0, 1))
            point = torch.tensor([[[x, -y, CAMERA_DISTANCE_DM - z]]])
            (sigma_h, c_h), (sigma_s, c_s) = dual.fields_at(point, rotation, translation, expression)
            sigma = sigma_h + sigma_s
            colour = (sigma_h[..., None] * c_h + sigma_s[..., None] * c_s) / sigma.clamp(min=1e-9)[..., None]
            passed = torch.exp(-sigma * step)
            rgb = rgb + light * (1 - passed)[0, 0] * colour[0, 0]
            light = light * passed[0, 0]
            optical["head"] += float(sigma_h * step)
            optical["static"] += float(sigma_s * step)
        assert torch.allclose(seen.rgb[0, ray], rgb, atol=1e-5) and float(seen.alpha[0, ray]) == pytest.approx(1 - float(light), abs=1e-5)
        assert float(seen.head_alpha[0, ray]) == pytest.approx(1 - math.exp(-optical["head"]), abs=1e-5)
        assert float(seen.static_alpha[0, ray]) == pytest.approx(1 - math.exp(-optical["static"]), abs=1e-5)
        # Beer and Lambert: what both let through is the product of what each lets through.
        left = (1 - seen.head_alpha[0, ray]) * (1 - seen.static_alpha[0, ray])
        assert float(1 - seen.alpha[0, ray]) == pytest.approx(float(left), abs=1e-5)


def test_the_heads_field_moves_with_the_head_and_the_static_one_stays() -> None:
    dual = field()
    at = torch.tensor([[[0.2, -0.3, 0.4], [-0.5, 0.1, 0.0]]])
    first, second = pose(0.0), pose(0.7)

    def posed(row) -> torch.Tensor:
        points = pose_points(at[0].numpy(), row[0][0].numpy(), row[1][0].numpy())
        return torch.from_numpy(points)[None].float()

    (one, _), (two, _) = (dual.fields_at(posed(row), *row)[0] for row in (first, second))
    assert torch.allclose(one, two, atol=1e-5)
    (_, (still, _)), (_, (turned, _)) = (dual.fields_at(posed(first), *row) for row in (first, second))
    assert torch.equal(still, turned)


def test_sizes_are_those_of_the_reconstruction() -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(HeadDeformation(53)) == 48_387 and count(StaticDeformation()) == 10_179
    dual = DualField(DualField.Config())
    assert dual.static.planes.numel() == 6_291_456 and dual.head.planes.shape == (3, 32, 256, 256)
    assert dual(
        pixel_places(2)[None], *(part[:, :44] if part.shape[1] == 4 else part for part in pose()[:2]), torch.zeros(1, 44)
    ).rgb.shape == (1, 4, 3)


def test_nothing_lies_outside_of_the_cubes() -> None:
    (head, _), (static, _) = field().fields_at(torch.tensor([[[5.0, 0.0, 0.0], [0.0, -9.0, 0.0]]]), *pose())
    assert not head.any() and not static.any()


def test_a_scene_of_two_balls_is_learned_by_heart() -> None:
    """A red ball turns with the head, a blue one stands still; both fields must take their own, seen from five poses."""
    size, yaws = 10, (-0.5, -0.25, 0.0, 0.25, 0.5)
    places = pixel_places(size)[None]

    def truth(yaw: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        middle = torch.tensor([0.8 * math.sin(yaw), 0.3])
        width = (CAMERA_DISTANCE_DM - HOME[2]) / FOCAL_IN_WIDTHS
        where = places[0] * width * torch.tensor([1.0, -1.0])
        red = ((where - middle).norm(dim=1) < 0.45).float()
        blue = ((where - torch.tensor([0.0, -0.7])).norm(dim=1) < 0.45).float() * (1 - red)
        return red[:, None] * torch.tensor([1.0, 0, 0]) + blue[:, None] * torch.tensor([0, 0, 1.0]), red, blue

    torch.manual_seed(0)
    dual = DualField(replace(TINY, samples=16), HOME)
    optimiser = torch.optim.Adam(dual.parameters(), 1e-2)
    turns = torch.tensor([[0.0, yaw, 0.0] for yaw in yaws])
    home = torch.tensor([list(HOME)])
    picture, red, blue = (torch.stack(parts) for parts in zip(*(truth(yaw) for yaw in yaws), strict=True))
    errors = []
    for _ in range(100):
        seen = dual(places.expand(len(yaws), -1, -1), turns, home.expand(len(yaws), -1), torch.zeros(len(yaws), 4))
        mattes = (seen.head_alpha - red).abs().mean() + (seen.static_alpha - blue).abs().mean()
        error = (seen.rgb - picture).square().mean()
        optimiser.zero_grad()
        (error + 0.1 * mattes).backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.02 < errors[0]
    # Between the poses that were seen, too, the head's ball is where the head has it, and the other has not moved.
    with torch.no_grad():
        between = dual(places, torch.tensor([[0.0, 0.375, 0.0]]), home, torch.zeros(1, 4))
    picture, red, blue = truth(0.375)
    assert float((between.rgb[0] - picture).square().mean()) < 0.04
    assert float(between.head_alpha[0][red > 0].mean()) > 0.6 > 0.4 > float(between.head_alpha[0][blue > 0].mean())


def test_a_field_comes_back_from_its_file(tmp_path) -> None:
    dual = field().eval()
    save_field(dual, tmp_path / "field.safetensors", {"steps": "3"})
    again = load_field(tmp_path / "field.safetensors")
    assert again.config == TINY
    row = pose(0.2)
    assert torch.allclose(again(pixel_places(4)[None], *row).rgb, dual(pixel_places(4)[None], *row).rgb, atol=2e-2)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError):
        load_field(tmp_path / "other.safetensors")
