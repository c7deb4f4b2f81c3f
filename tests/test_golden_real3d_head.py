"""Image-to-plane, motion adapter, renderer and vanilla super-resolution against the published modules' outputs.

Tolerances are those of the folder's README.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from golden_folder import check, check_fill, golden, golden_fill, key_shapes
from triportrait.avatar.image_to_plane import ImageToPlane
from triportrait.avatar.motion_adapter import MotionAdapter
from triportrait.weights import real3d_head

NETWORK_ERROR = 2e-5


def published(prefix: str, reference: dict[str, Any]) -> dict[str, torch.Tensor]:
    state = golden_fill().fill_real3d(key_shapes("real3d_head.json", (prefix,)), reference["seed"])
    check_fill(state, reference)
    return state


def small_embedding_norms(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The change of the ``_eps`` cases: what the norms see is so small that their eps shows."""
    return {key: tensor * 0.01 if "patch_embed" in key and ".norm." in key else tensor for key, tensor in state.items()}


def ready(network: torch.nn.Module) -> torch.nn.Module:
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def image_to_plane_published() -> Iterator[dict[str, torch.Tensor]]:
    yield published(real3d_head.IMAGE_TO_PLANE, golden("real3d/i2p_128.json"))
    gc.collect()


@pytest.fixture(scope="module")
def image_to_plane(image_to_plane_published: dict[str, torch.Tensor]) -> ImageToPlane:
    network = ImageToPlane(ImageToPlane.Config(**real3d_head.image_to_plane_config(image_to_plane_published)))
    network.load_state_dict(real3d_head.image_to_plane_state(image_to_plane_published))
    return ready(network)


def head_image(side_px: int, reference: dict[str, Any]) -> torch.Tensor:
    fill = golden_fill()
    x, y = fill.grid(side_px)
    image = fill.field((1, 3, side_px, side_px), "i2p.img", reference["seed"], 0.5, 0, (-1, 1))
    image[..., torch.from_numpy(~((x / 0.7) ** 2 + ((y + 0.1) / 0.8) ** 2 < 1))] = -1
    check(image, reference["input_check"]["img"], 1e-6)
    return image


@pytest.mark.parametrize("side_px", [128, 512])
def test_image_to_plane(image_to_plane: ImageToPlane, side_px: int) -> None:
    reference = golden(f"real3d/i2p_{side_px}.json")
    seen: dict[str, torch.Tensor] = {}
    parts = {"low_reso_encoder": image_to_plane.encoder, "low_reso_vit": image_to_plane.low, "high_reso_encoder": image_to_plane.detail}
    hooks = [part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out})) for name, part in parts.items()]
    planes = image_to_plane(head_image(side_px, reference))
    for hook in hooks:
        hook.remove()
    case = reference["cases"][f"in{side_px}"]
    for name in parts:
        check(seen[name], case[name], NETWORK_ERROR)
    check(planes, case["planes"], NETWORK_ERROR)


def test_image_to_plane_norm_eps(image_to_plane: ImageToPlane, image_to_plane_published: dict[str, torch.Tensor]) -> None:
    reference = golden("real3d/i2p_128.json")
    changed = real3d_head.image_to_plane_state(small_embedding_norms(image_to_plane_published))
    image_to_plane.load_state_dict(changed)
    planes = image_to_plane(head_image(128, reference))
    image_to_plane.load_state_dict(real3d_head.image_to_plane_state(image_to_plane_published))
    check(planes, reference["cases"]["in128_eps"]["planes"], NETWORK_ERROR)


@pytest.fixture(scope="module")
def motion_adapter_published() -> dict[str, torch.Tensor]:
    return published(real3d_head.MOTION_ADAPTER, golden("real3d/ma.json"))


def motion_adapter(state: dict[str, torch.Tensor]) -> MotionAdapter:
    network = MotionAdapter()
    network.load_state_dict(real3d_head.motion_adapter_state(state))
    return ready(network)


def motion_pictures(side_px: int, seed: int) -> torch.Tensor:
    fill = golden_fill()
    x, y = fill.grid(side_px)
    outside = torch.from_numpy(~((x / 0.55) ** 2 + ((y - 0.05) / 0.7) ** 2 < 1))
    pictures = [fill.field((1, 3, side_px, side_px), f"ma.{name}", seed, 0.4, 0, (-1, 1)) for name in ("cano", "src", "drv")]
    pictures = torch.cat(pictures, 1)
    pictures[..., outside] = -1
    return pictures


@pytest.mark.parametrize("side_px", [128, 512])
def test_motion_adapter(motion_adapter_published: dict[str, torch.Tensor], side_px: int) -> None:
    reference = golden("real3d/ma.json")
    network = motion_adapter(motion_adapter_published)
    seen: dict[str, torch.Tensor] = {}
    parts = {"prenet": network.squeeze, "fuse_head": network.fuse}
    parts |= {f"c{i + 1}": stage for i, stage in enumerate(network.stages)}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    planes = network(motion_pictures(side_px, reference["seed"]))
    case = reference["cases"][f"in{side_px}"]
    for name in parts:
        check(seen[name], case[name], NETWORK_ERROR)
    check(planes, case["planes"], NETWORK_ERROR)


def test_motion_adapter_norm_eps(motion_adapter_published: dict[str, torch.Tensor]) -> None:
    reference = golden("real3d/ma.json")
    network = motion_adapter(small_embedding_norms(motion_adapter_published))
    check(network(motion_pictures(128, reference["seed"])), reference["cases"]["in128_eps"]["planes"], NETWORK_ERROR)


def test_importer_names_what_is_foreign_or_missing(motion_adapter_published: dict[str, torch.Tensor]) -> None:
    first = next(iter(motion_adapter_published))
    with pytest.raises(real3d_head.WeightsError, match="foreign"):
        real3d_head.motion_adapter_state(motion_adapter_published | {f"{real3d_head.MOTION_ADAPTER}foreign": torch.zeros(1)})
    with pytest.raises(real3d_head.WeightsError, match="missing"):
        real3d_head.motion_adapter_state({key: value for key, value in motion_adapter_published.items() if key != first})
