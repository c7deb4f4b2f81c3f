"""Laws of the dual discriminator at a tiny size, and its published size."""

from __future__ import annotations

import torch

from triportrait.training.real3d.discriminator import DualDiscriminator, batch_deviation

TINY = DualDiscriminator.Config(side=16, style=8, mapping_layers=2, base_channels=64, most_channels=8, group=2)


def test_published_size() -> None:
    with torch.device("meta"):
        model = DualDiscriminator(DualDiscriminator.Config())
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_359_744


def test_equal_pictures_have_no_deviation() -> None:
    x = torch.randn(1, 3, 4, 4).expand(4, -1, -1, -1)
    assert float(batch_deviation(x, 4)[:, 3].max()) <= 1.001e-4  # the root of the epsilon


def test_deviation_compares_within_groups() -> None:
    x = torch.zeros(4, 1, 2, 2)
    x[2] = 2.0  # group 0 is pictures 0 and 2
    deviation = batch_deviation(x, 2)[:, 1, 0, 0]
    torch.testing.assert_close(deviation, torch.tensor([1.0, 1e-4, 1.0, 1e-4]), atol=1e-5, rtol=1e-5)


def test_every_parameter_and_both_pictures_learn() -> None:
    torch.manual_seed(0)
    model = DualDiscriminator(TINY)
    image, raw = torch.randn(2, 3, 16, 16, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    logits = model(image, raw, torch.randn(2, 25))
    assert logits.shape == (2, 1)
    # R1 needs the gradient's own gradient.
    gradients = torch.autograd.grad(logits.sum(), [image, raw], create_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    sum(gradient.square().sum() for gradient in gradients).backward()
    model(image, raw, torch.randn(2, 25)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_camera_noise_comes_from_the_generator() -> None:
    torch.manual_seed(0)
    model = DualDiscriminator(DualDiscriminator.Config(**{**vars(TINY), "camera_noise": 1.0}))
    given = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 4, 4), torch.randn(2, 25)
    logits = [model(*given, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


def test_noise_on_the_camera_of_a_single_picture_is_no_number_problem() -> None:
    sizes = {"side": 16, "style": 8, "mapping_layers": 1, "base_channels": 64, "most_channels": 8}
    judge = DualDiscriminator(DualDiscriminator.Config(**sizes, camera_noise=1.0))
    told = judge(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 8, 8), torch.ones(1, 25), torch.Generator())
    assert torch.isfinite(told).all()
