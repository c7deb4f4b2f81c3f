"""Image-to-plane network and motion adapter at small sizes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from triportrait.nn.tokens import Attention, TokenBlock, picture_of, tokens_of
from triportrait.real3d.image_to_plane import ImageToPlane, with_coordinates
from triportrait.real3d.motion_adapter import MotionAdapter, StageFusion
from triportrait.real3d.planes import planes_from_channels

TINY = ImageToPlane.Config(
    plane_channels=4,
    encoder_width=4,
    encoder_blocks=(1, 1, 1, 1),
    encoder_channels=8,
    token_width=16,
    heads=2,
    low_blocks=2,
    low_channels=8,
    branch_channels=6,
    detail_stem=4,
    predictor_channels=(8, 6),
)
TINY_ADAPTER = {"plane_channels": 4, "widths": (4, 8), "depths": (1, 2), "heads": (1, 2), "reductions": (2, 1), "channels": 8, "layers": 1}


def tiny(**changes: object) -> ImageToPlane:
    fields = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__}
    return ImageToPlane(ImageToPlane.Config(**fields | changes))


@pytest.mark.parametrize("changes", [{}, {"has_encoder": False}, {"predictor_blocks": 2, "detail_layers": 10}])
def test_every_size_gives_planes_and_learns(changes: dict[str, object]) -> None:
    network = tiny(**changes)
    planes = network(torch.rand((2, 3, 64, 32)) * 2 - 1)
    assert planes.shape == (2, 3, 4, 32, 16)
    planes.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert sum(float(p.grad.abs().sum()) > 0 for p in network.parameters()) > 0.9 * len(list(network.parameters()))


def test_the_encoder_is_a_choice() -> None:
    assert any(key.startswith("encoder.") for key in tiny().state_dict())
    assert not any(key.startswith("encoder.") for key in tiny(has_encoder=False).state_dict())


def test_pictures_of_a_batch_do_not_mix() -> None:
    network = tiny().eval()
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-5, rtol=1e-4)


def test_coordinates_are_row_then_column() -> None:
    grid = with_coordinates(torch.zeros((1, 3, 2, 4)))[0, 3:]
    assert grid[0].tolist() == [[0, 0, 0, 0], [0.5] * 4] and grid[1].tolist() == [[0, 0.25, 0.5, 0.75]] * 2


def test_planes_are_turned() -> None:
    picture = torch.arange(3 * 2 * 2 * 2.0).view(1, 6, 2, 2)
    planes, plain = planes_from_channels(picture), picture.view(1, 3, 2, 2, 2)
    assert torch.equal(planes[:, 0], plain[:, 0].flip(2)) and torch.equal(planes[:, 1], plain[:, 1].flip(2))
    assert torch.equal(planes[:, 2], plain[:, 2].flip((2, 3)))


def test_tokens_are_views_of_pictures() -> None:
    tokens = torch.rand(2, 12, 5)
    picture = picture_of(tokens, 3)
    assert picture.shape == (2, 5, 3, 4) and picture.data_ptr() == tokens.data_ptr()
    assert torch.equal(tokens_of(picture), tokens) and tokens_of(picture).data_ptr() == tokens.data_ptr()


@pytest.mark.parametrize("reduction", [1, 2])
def test_attention_by_its_formula(reduction: int) -> None:
    attention = Attention(6, 2, reduction).double()
    tokens = torch.rand(1, 16, 6, dtype=torch.float64)
    seen = tokens if reduction == 1 else attention.reduce_norm(attention.reduce(picture_of(tokens, 4)).flatten(2).transpose(1, 2))
    query, (key, value) = attention.query(tokens), attention.key_value(seen).chunk(2, 2)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = torch.softmax(query[..., part] @ key[..., part].transpose(1, 2) / 3**0.5, -1)
        heads.append(scores @ value[..., part])
    torch.testing.assert_close(attention(tokens, 4), attention.projection(torch.cat(heads, 2)))


def test_a_dropped_path_leaves_the_tokens() -> None:
    block = TokenBlock(4, 1, 2, drop_path=1.0)
    picture = torch.rand(1, 4, 3, 3)
    assert torch.equal(block.train()(picture), picture) and not torch.equal(block.eval()(picture), picture)


def test_fusion_before_enlarging_equals_fusion_after() -> None:
    fusion = StageFusion((4, 6, 8), 5).double().eval()
    stages = [torch.rand(2, width, 16 >> i, 16 >> i, dtype=torch.float64) for i, width in enumerate((4, 6, 8))]
    large = []
    for stage, project in zip(stages, fusion.project, strict=True):
        projected = project(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        large.append(functional.interpolate(projected, size=(16, 16), mode="bilinear", align_corners=False))
    mixed = fusion.mix(torch.cat(large[::-1], 1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(fusion(stages), functional.relu(fusion.norm(mixed)))


@pytest.mark.parametrize("pictures", [2, 3])
def test_motion_adapter_takes_two_or_three_pictures(pictures: int) -> None:
    network = MotionAdapter(MotionAdapter.Config(pictures=pictures, **TINY_ADAPTER))
    planes = network(torch.rand((2, 3 * pictures, 32, 32)) * 2 - 1)
    assert planes.shape == (2, 3, 4, 16, 16)
    planes.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("network", [tiny(), MotionAdapter(MotionAdapter.Config(**TINY_ADAPTER))], ids=["image_to_plane", "motion_adapter"])
def test_autocast(network: torch.nn.Module) -> None:
    network.eval()
    channels = 3 if isinstance(network, ImageToPlane) else 9
    image = torch.rand((1, channels, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(image)
    torch.testing.assert_close(mixed.float(), exact, atol=0.05 * float(exact.abs().max()), rtol=0)
