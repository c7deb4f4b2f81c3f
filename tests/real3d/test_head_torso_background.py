"""Laws of the torso branch and the three-layer super-resolution at a tiny size, and the sizes of the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from triportrait.nn.warping import identity_field
from triportrait.real3d.head_torso_background import HtbSuperResolution, _solid_from
from triportrait.real3d.torso import TorsoNetwork
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
    detector_channels=(8, 8),
)
TINY = HtbSuperResolution.Config(head_side=16, head_channels=8, channels=8, out_channels=8, background_channels=4, torso=TINY_TORSO)
VARIANTS = {
    "published": TINY,
    "paper": replace(TINY, head_torso="blend", torso=replace(TINY_TORSO, mask_channels=0, head_channels=0)),
    "equation_5": replace(TINY, head_torso="blend", scene="blend"),
    "learned_alpha": replace(TINY, head_torso="learned"),
    "concatenation": replace(TINY, head_torso="concatenate", scene="concatenate"),
    "unsupervised_key_points": replace(TINY, torso=replace(TINY_TORSO, unsupervised_key_points=5)),
}
#: Those in which alpha alone decides what is in front.
BY_ALPHA = [name for name in VARIANTS if name not in ("learned_alpha", "concatenation")]


def given(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(1, 2, 64, 64)
    masks[:, :, 24:] = 1.0
    return {
        "torso": torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1,
        "masks": masks,
        "background": torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1,
        "landmarks": torch.rand(1, 68, 2, generator=generator) - 0.5,
        "head": torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1,
    }


SIZES = {
    "published": 54_976_359,
    "paper": 50_656_532,
}


@pytest.mark.parametrize(("variant", "count"), SIZES.items())
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
    # Noise is off in this network, some published layers are read by nothing, and without alpha nobody asks the torso for its own.
    allowed = ("torso.alpha.", "torso.motion.visible.") if variant == "concatenation" else ()
    unexpected = {name for name in unreached if "unread." not in name and not name.endswith("noise_strength")}
    assert all(name.startswith(allowed) for name in unexpected), unexpected


@pytest.mark.parametrize("variant", BY_ALPHA)
@torch.no_grad()
def test_an_opaque_head_hides_torso_and_background(variant: str) -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(VARIANTS[variant]).eval()
    features, alpha = torch.randn(1, 8, 16, 16), torch.full((1, 1, 16, 16), 1.0)
    first, second = given(0), given(1)
    second |= {name: first[name] for name in ("landmarks", "head")}
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


def same_weights(variant: str, like: HtbSuperResolution) -> HtbSuperResolution:
    """Another variant with the weights of a model where both have them."""
    model = HtbSuperResolution(VARIANTS[variant]).eval()
    model.load_state_dict(like.state_dict(), strict=False)
    return model


@torch.no_grad()
def test_concatenation_reads_no_alpha() -> None:
    torch.manual_seed(0)
    blind = replace(TINY_TORSO, head_channels=0)  # else the torso's motion sees alpha
    model = HtbSuperResolution(replace(VARIANTS["concatenation"], torso=blind)).eval()
    features, scene, other = torch.randn(1, 8, 16, 16), given(0), given(1)
    source = model.prepare(**scene)
    opaque, clear = (model(features, torch.full((1, 1, 16, 16), a), source, scene["landmarks"]) for a in (1.0, 0.0))
    torch.testing.assert_close(opaque, clear)
    behind = model(features, torch.ones(1, 1, 16, 16), model.prepare(**scene | {"torso": other["torso"]}), scene["landmarks"])
    assert (behind - opaque).abs().max() > 1e-4, "the torso shows through an opaque head"


@torch.no_grad()
def test_a_learned_alpha_is_never_above_the_rendered_one() -> None:
    torch.manual_seed(0)
    plain = HtbSuperResolution(TINY).eval()
    model = same_weights("learned_alpha", plain)
    features, alpha, scene = torch.randn(1, 8, 16, 16), 0.9 * torch.rand(1, 1, 16, 16), given()
    source = plain.prepare(**scene)

    def draw(network: HtbSuperResolution, alpha: torch.Tensor) -> torch.Tensor:
        return network(features, alpha, source, scene["landmarks"])

    model.alpha_predictor[-1].weight.zero_()
    model.alpha_predictor[-1].bias.fill_(30.0)
    torch.testing.assert_close(draw(model, alpha), draw(plain, alpha))
    model.alpha_predictor[-1].bias.fill_(0.0)
    assert (draw(model, alpha) - draw(plain, alpha)).abs().max() > 1e-3


def test_a_learned_alpha_counts_as_solid_where_most_of_it_is() -> None:
    alpha = torch.cat([torch.full((1, 1, 8, 8), 0.97), torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, 1, 8, 8)])
    alpha[0, 0, 0] = 0.0
    torch.testing.assert_close(_solid_from(alpha, 0.9).flatten(), torch.tensor([0.97, 0.9, 0.9]))


@torch.no_grad()
def test_unsupervised_key_points_follow_the_head_and_no_landmark() -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(VARIANTS["unsupervised_key_points"]).eval()
    features, alpha, scene = torch.randn(2, 8, 16, 16), torch.rand(1, 1, 16, 16).expand(2, -1, -1, -1), given()
    source = model.prepare(**scene)
    points = source.torso.key_points
    assert points.shape == (1, 5, 3) and points.abs().max() <= 1 and points[..., 2].abs().max() > 0
    assert (model.prepare(**scene | {"head": -scene["head"]}).torso.key_points - points).abs().max() > 1e-4
    frames = [model(features, alpha, source, scene["landmarks"] + shift) for shift in (0.0, 0.3)]
    assert torch.equal(*frames)
    with pytest.raises(ValueError, match="picture of the head"):
        model.prepare(**scene | {"head": None})


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_frames_at_once_are_frames_one_by_one(variant: str) -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(VARIANTS[variant]).eval()
    scene = given()
    source = model.prepare(**scene)
    features, alpha, landmarks = torch.randn(3, 8, 16, 16), torch.rand(3, 1, 16, 16), scene["landmarks"] + torch.rand(3, 68, 2) * 0.2
    singly = torch.cat([model(features[i : i + 1], alpha[i : i + 1], source, landmarks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(features, alpha, source, landmarks), singly, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_bfloat16_shows_the_same_picture(variant: str) -> None:
    torch.manual_seed(0)
    model = HtbSuperResolution(VARIANTS[variant]).eval()
    features, alpha, scene = torch.randn(1, 8, 16, 16), torch.rand(1, 1, 16, 16), given()
    exact = model(features, alpha, model.prepare(**scene), scene["landmarks"] + 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(features, alpha, model.prepare(**scene), scene["landmarks"] + 0.1).float()
    assert half.isfinite().all() and (half - exact).square().mean().sqrt() < 0.02 * exact.std()
