"""EG3D's generator and dual discriminator against the published modules' outputs, and the published renderer's parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from golden_folder import check_digest, golden, golden_fill, key_list
from triportrait.geometry.cameras import look_at_camera
from triportrait.real3d.compositing import composite
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.eg3d_prior import Prior
from triportrait.real3d.rays import camera_rays
from triportrait.real3d.sampling import LAYOUTS, sample_planes
from triportrait.training.real3d.discriminator import DualDiscriminator
from triportrait.weights.eg3d import discriminator_state, eg3d_state

CAMERA = "camera_yaw+.3_pitch-.1_pivot(0,0,.2)_r2.7"


def filled(network: str) -> dict[str, torch.Tensor]:
    """A published state dict with deterministic values."""
    shapes = dict(key_list("eg3d.json")[network])
    # The list has this one of the training set besides; the references were filled without it (spec C.6: 176 tensors).
    shapes.pop("dataset_label_std", None)
    return golden_fill().fill_state({key: torch.zeros(shape) for key, shape in shapes.items()}, "unit")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return golden("golden_eg3d.json")


@pytest.fixture(scope="module")
def camera(reference: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(reference[CAMERA])[None]


@pytest.fixture(scope="module")
def generator() -> dict[str, torch.Tensor]:
    return eg3d_state(filled("G"))


@pytest.fixture(scope="module")
def decoder(generator: dict[str, torch.Tensor]) -> Decoder:
    network = Decoder()
    network.load_state_dict({key.removeprefix("decoder."): value for key, value in generator.items() if key.startswith("decoder.")})
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prior(generator: dict[str, torch.Tensor]) -> Prior:
    network = Prior(Prior.Config())
    network.load_state_dict({key.removeprefix("prior."): value for key, value in generator.items() if key.startswith("prior.")})
    return network.eval().requires_grad_(False)


def test_styles_and_planes(prior: Prior, reference: dict[str, Any], camera: torch.Tensor) -> None:
    styles = prior.styles(golden_fill().noise_in((1, 512), 4), camera)
    check_digest(styles, reference["mapping_ws"])
    check_digest(prior.planes(styles).planes.flatten(1, 2), reference["planes"])


def test_super_resolution(prior: Prior, reference: dict[str, Any], camera: torch.Tensor) -> None:
    styles = prior.styles(golden_fill().noise_in((1, 512), 4), camera)
    check_digest(prior.super_resolve(golden_fill().noise_in((1, 32, 128, 128), 9), styles), reference["sr8xdc"])


@torch.no_grad()
def test_dual_discriminator(reference: dict[str, Any], camera: torch.Tensor) -> None:
    network = DualDiscriminator(DualDiscriminator.Config()).eval()
    network.load_state_dict(discriminator_state(filled("D")))
    image = golden_fill().wave((4, 3, 512, 512), 0.011, 0.2) * 0.8
    raw = golden_fill().wave((4, 3, 128, 128), 0.017, 0.5) * 0.8
    cameras = camera * torch.tensor([1, 0.9, 1.1, 1.2])[:, None]
    check_digest(network(image, raw, cameras), reference["dual_disc_logits"])


def test_look_at_camera(reference: dict[str, Any]) -> None:
    camera = look_at_camera(0.3, -0.1, 2.7, (0.0, 0.0, 0.2), 4.2647)
    np.testing.assert_allclose(camera.to_eg3d(), reference[CAMERA], atol=1e-6)


def test_rays(reference: dict[str, Any], camera: torch.Tensor) -> None:
    origins, directions = camera_rays(camera, 16)
    expected = reference["rays_16x16"]
    for result, name in (
        (origins[0, 0], "o"),
        (directions[0, 0], "d_first"),
        (directions[0, -1], "d_last"),
        (directions[0, 17], "d_idx17"),
    ):
        torch.testing.assert_close(result, torch.tensor(expected[name]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("layout", "name"), [("eg3d_original", "orig"), ("eg3d_fixed", "fixed")])
def test_plane_lookup_and_decoder(decoder: Decoder, reference: dict[str, Any], layout: str, name: str) -> None:
    assert layout in LAYOUTS
    fill = golden_fill()
    points, planes = fill.noise_in((1, 64, 3), 5) * 0.28, fill.noise_in((1, 3, 32, 64, 64), 6)
    # The mean over three planes of which two are empty is a third of the last.
    single = [3 * sample_planes(planes * torch.eye(3)[i][None, :, None, None, None], points, layout) for i in range(3)]
    check_digest(torch.stack(single, 1), reference[f"sample_planes_{name}"])
    density, colours = decoder(sample_planes(planes, points, layout))
    check_digest(colours, reference[f"decoder_rgb_{name}"])
    check_digest(density[..., None], reference[f"decoder_sigma_{name}"])


def test_compositing(reference: dict[str, Any]) -> None:
    fill = golden_fill()
    depths = torch.linspace(2.25, 3.3, 96).expand(1, 5, -1)
    features, depth, alpha = composite(depths, fill.noise_in((1, 5, 96, 1), 8)[..., 0] * 4, fill.noise_in((1, 5, 96, 32), 7).sigmoid())
    for result, name in ((features, "rgb"), (depth[..., None], "depth"), (alpha[..., None], "alpha")):
        check_digest(result, reference[f"march_{name}"])
