"""Laws of the dual discriminator at a tiny size, and its published size."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from triportrait.errors import OptionError, WeightsError
from triportrait.training.command import build_stage, recipe_of, run_training
from triportrait.training.options import TrainOptions
from triportrait.training.real3d.discriminator import DualDiscriminator, batch_deviation, load_discriminator
from triportrait.weights.importers import CONVERTERS
from triportrait.weights.store import Provenance, save_weights
from triportrait.weights.tables import key_table

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


# -- EG3D's own (appendix B.1) ----------------------------------------------------------------------------------------------


def filled(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Numbers by a formula of name and place."""

    def numbers(name: str, shape: torch.Size) -> torch.Tensor:
        return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * 0.37 + len(name)).reshape(shape)

    return {name: numbers(name, shape) for name, shape in shapes.items()}


def saved(path: Path, tensors: dict[str, torch.Tensor], layout: str = "eg3d_discriminator") -> Path:
    save_weights(path, tensors, layout=layout, config={}, provenance=Provenance("made_up.pkl", "0" * 64, "D", "1", "none"))
    return path


def test_the_published_keys_are_those_of_our_network() -> None:
    """Every published number has its place, and every place its number: shapes only, at the full size."""
    table = key_table("eg3d_discriminator")
    with torch.device("meta"):
        imported, _ = CONVERTERS["eg3d_discriminator"]({key: torch.empty(shape) for key, shape in table.shapes.items()})
        ours = DualDiscriminator(DualDiscriminator.Config()).state_dict()
    assert {key: tensor.shape for key, tensor in imported.items()} == {key: tensor.shape for key, tensor in ours.items()}


def test_it_begins_as_the_imported_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DualDiscriminator(TINY)
    numbers = filled({key: tensor.shape for key, tensor in network.state_dict().items()})
    load_discriminator(saved(tmp_path / "d.safetensors", numbers), network)
    assert all(torch.equal(tensor, numbers[key]) for key, tensor in network.state_dict().items())
    larger = DualDiscriminator(DualDiscriminator.Config(**{**vars(TINY), "side": 32}))
    with pytest.raises(OptionError, match="judges pictures of 32 px"):
        load_discriminator(tmp_path / "d.safetensors", larger)
    with pytest.raises(WeightsError, match="eg3d_discriminator are needed"):
        load_discriminator(saved(tmp_path / "g.safetensors", numbers, "eg3d"), network)


def test_a_stage_learns_on_from_it(shards: Path, tmp_path: Path) -> None:
    recipe = recipe_of(TrainOptions(model="real3d.image_to_plane", data=(shards,), out=tmp_path, preset="tiny", steps=4))
    numbers = filled({key: tensor.shape for key, tensor in DualDiscriminator(recipe.networks.discriminator).state_dict().items()})
    path = saved(tmp_path / "d.safetensors", numbers)
    options = TrainOptions(
        model="real3d.image_to_plane", data=(shards,), out=tmp_path / "run", preset="tiny", steps=4, discriminator=path, device="cpu"
    )
    begun = build_stage(options, recipe, "cpu").networks["discriminator"].state_dict()
    assert all(torch.equal(tensor, numbers[key]) for key, tensor in begun.items())
    assert run_training(options).finished
    learned = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["networks"]["discriminator"]
    assert any(not torch.equal(tensor, numbers[key]) for key, tensor in learned.items())
    alone = replace(options, settings=("adversarial_weight=0.0",))
    with pytest.raises(OptionError, match="no adversary"):
        build_stage(alone, recipe_of(alone), "cpu")
    with pytest.raises(OptionError, match="--discriminator is an option of"):
        build_stage(replace(options, model="real3d.audio_to_motion"), recipe, "cpu")
