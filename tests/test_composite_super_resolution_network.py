"""Laws of the torso branch and the three-layer super-resolution at a tiny size, and the sizes of the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from triportrait.composite.super_resolution_network import HtbSuperResolution
from triportrait.composite.torso_network import TorsoNetwork
from triportrait.nn.warping import identity_field
from triportrait.weights.real3d_torso import fold_htb_super_resolution, trained_htb_super_resolution_state
from triportrait.weights.tables import key_table

TINY_TORSO = TorsoNetwork.Config(
    appearance_channels=(8, 8, 8),
    volume_channels=4,
    depth=4,
    residual_blocks=1,
    motion_channels=(8, 8),
    motion_out=4,
    generator_channels=(8, 8, 8),
    occlusion_channels=4,
    head_channels=4,
)
TINY = HtbSuperResolution.Config(head_side=16, head_channels=8, channels=8, out_channels=8, background_channels=4, torso=TINY_TORSO)
VARIANTS = {
    "published": TINY,
    "paper": replace(TINY, head_torso="blend", torso=replace(TINY_TORSO, mask_channels=0, head_channels=0)),
    "equation_5": replace(TINY, head_torso="blend", scene="blend"),
}


def given(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(1, 2, 64, 64)
    masks[:, :, 24:] = 1.0
    return {
        "torso": torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1,
        "masks": masks,
        "background": torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1,
        "landmarks": torch.rand(1, 68, 2, generator=generator) - 0.5,
    }


@pytest.mark.parametrize(("variant", "count"), [("published", 54_976_359), ("paper", 50_656_532)])
def test_published_sizes(variant: str, count: int) -> None:
    with torch.device("meta"):
        model = HtbSuperResolution(getattr(HtbSuperResolution.Config, variant)(trained_form=True))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def trained(config: HtbSuperResolution.Config) -> HtbSuperResolution.Config:
    return replace(config, trained_form=True, torso=replace(config.torso, trained_form=True))


def test_trained_form_takes_the_published_keys() -> None:
    published = {key: torch.empty(shape, device="meta") for key, shape in key_table("real3d_torso").shapes.items()}
    with torch.device("meta"):
        model = HtbSuperResolution(HtbSuperResolution.Config.published(trained_form=True))
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert {key: tensor.shape for key, tensor in trained_htb_super_resolution_state(published).items()} == shapes


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_folding_changes_nothing(variant: str) -> None:
    torch.manual_seed(0)
    whole = HtbSuperResolution(trained(VARIANTS[variant])).eval()
    for name, tensor in whole.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.3)
    folded = HtbSuperResolution(VARIANTS[variant]).eval()
    folded.load_state_dict(fold_htb_super_resolution(whole.state_dict()))
    features, alpha, scene = torch.randn(1, 8, 16, 16), torch.rand(1, 1, 16, 16), given()
    pictures = [model(features, alpha, model.prepare(**scene), scene["landmarks"] + 0.1) for model in (whole, folded)]
    torch.testing.assert_close(*pictures, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("trained_form", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_draws_a_picture(variant: str, trained_form: bool) -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(trained(VARIANTS[variant]) if trained_form else VARIANTS[variant])
    scene = given()
    image = model(torch.randn(1, 8, 16, 16), torch.rand(1, 1, 16, 16), model.prepare(**scene), scene["landmarks"] + 0.1)
    assert image.shape == (1, 3, 64, 64) and image.isfinite().all()
    image.square().mean().backward()
    unreached = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    # Noise is off in this network, and some published layers are read by nothing.
    assert all("unread." in name or name.endswith("noise_strength") for name in unreached), unreached


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_an_opaque_head_hides_torso_and_background(variant: str) -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(VARIANTS[variant]).eval()
    features, alpha = torch.randn(1, 8, 16, 16), torch.full((1, 1, 16, 16), 1.0)
    first, second = given(0), given(1)
    second["landmarks"] = first["landmarks"]
    images = [model(features, alpha, model.prepare(**scene), first["landmarks"]) for scene in (first, second)]
    torch.testing.assert_close(images[0], images[1])
    shown = [model(features, 0 * alpha, model.prepare(**scene), first["landmarks"]) for scene in (first, second)]
    assert (shown[0] - shown[1]).abs().max() > 1e-3


@torch.no_grad()
def test_alpha_over_the_threshold_is_solid_before_the_background() -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(VARIANTS["equation_5"]).eval()
    features, scene = torch.randn(1, 8, 16, 16), given()
    source = model.prepare(**scene)
    without_background = replace(source, background=0 * source.background, background_features=0 * source.background_features)
    for alpha, hidden in ((0.95, True), (0.2, False)):
        opacity = torch.full((1, 1, 16, 16), alpha)
        pictures = [model(features, opacity, s, scene["landmarks"]) for s in (source, without_background)]
        assert torch.allclose(*pictures) is hidden


@torch.no_grad()
def test_a_torso_at_rest_is_not_warped() -> None:
    torch.manual_seed(0)
    network = TorsoNetwork(TINY_TORSO).eval()
    scene = given()
    source = network.prepare(scene["torso"][..., ::2, ::2], scene["masks"], scene["landmarks"])
    field, _ = network.motion(source, network.select(scene["landmarks"]), torch.randn(1, 4, 32, 32))
    torch.testing.assert_close(field, identity_field((4, 8, 8), field)[None])
