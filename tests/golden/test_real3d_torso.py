"""Torso branch and head-torso-background super-resolution against the published model's outputs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from golden_folder import check, check_fill, golden, golden_fill, key_shapes
from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.torso import TorsoNetwork
from triportrait.weights.real3d_torso import htb_super_resolution_state, torso_state

#: The torso of the published segmentation: neck and clothes.
TORSO_MASKS = [2, 4]


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    reference = golden("real3d/htbsr.json")
    state = golden_fill().fill_real3d(key_shapes("real3d_torso.json", ["superresolution."]), reference["seed"])
    check_fill(state, reference)
    return state


def landmarks(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = golden_fill().rand_in((1, 68, 2), "torso.kp_s", seed, -0.8, 0.8)
    return source, source + golden_fill().rand_in((1, 68, 2), "torso.kp_d", seed, -0.1, 0.1)


def torso_picture(name: str, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    masks = golden_fill().segmap512()[:, TORSO_MASKS]
    picture = golden_fill().field((1, 3, side, side), name, seed, 0.5, 0, (-1, 1))
    step = 512 // side
    return torch.where(masks.sum(1, keepdim=True)[..., ::step, ::step] == 0, -1.0, picture), masks


@torch.no_grad()
def test_torso(published: dict[str, torch.Tensor]) -> None:
    reference = golden("real3d/torso.json")
    seed, expected = reference["seed"], reference["cases"]["main"]
    network = TorsoNetwork(TorsoNetwork.Config()).eval()
    prefix = "superresolution.torso_model."
    network.load_state_dict(torso_state({key: value for key, value in published.items() if key.startswith(prefix)}))
    picture, masks = torso_picture("torso.img", 256, seed)
    source_points, driving_points = landmarks(seed)
    head_rgb = golden_fill().field((1, 3, 256, 256), "torso.head", seed, 0.5, 0, (-1, 1))
    head_alpha = golden_fill().field((1, 1, 256, 256), "torso.w", seed, 0.4, 0.6, (0, 1))

    seen: dict[str, torch.Tensor] = {}
    network.appearance.register_forward_hook(lambda module, given, result: seen.update(appearance=result))
    source = network.prepare(picture, masks, source_points)
    layer = network(source, driving_points, head_rgb, head_alpha)
    field, visible = network.motion(source, network.select(driving_points), torch.cat([head_rgb, head_alpha], 1))
    # The second map is published but read by nothing, so only its layer's weights are needed here.
    features, _ = network.motion.features(source, network.select(driving_points), torch.cat([head_rgb, head_alpha], 1))
    layer_name = f"{prefix}motion_field_estimator.occlusion_conv"
    unread = functional.conv2d(features.flatten(1, 2), published[f"{layer_name}.weight"], published[f"{layer_name}.bias"], padding=3)

    results = {
        "appearance": seen["appearance"],
        "deformation": field,
        "mfe_occlusion": torch.sigmoid(unread),
        "mfe_occlusion_2": visible,
        "hid": layer.hidden,
        "rgb_torso": layer.rgb,
        "occlusion_2": layer.alpha,
    }
    for name, result in results.items():
        check(result, expected[name], 3e-5)


@torch.no_grad()
def test_htb_super_resolution(published: dict[str, torch.Tensor]) -> None:
    reference, fill = golden("real3d/htbsr.json"), golden_fill()
    seed, expected = reference["seed"], reference["cases"]["main"]
    network = HtbSuperResolution(HtbSuperResolution.Config.published()).eval()
    network.load_state_dict(htb_super_resolution_state(published))
    features = fill.field((1, 32, 128, 128), "ht.x", seed, 0.6, 0, (-1, 1))
    alpha = fill.field((1, 1, 128, 128), "ht.w", seed, 0.4, 0.6, (0, 1))
    background = fill.field((1, 3, 512, 512), "ht.bg", seed, 0.5, 0, (-1, 1))
    torso, masks = torso_picture("ht.torso", 512, seed)
    source_points, driving_points = landmarks(seed)

    seen: dict[str, torch.Tensor] = {}
    network.double_head.register_forward_hook(lambda module, given, result: seen.update(block0_x=result[0]))
    network.torso.register_forward_hook(lambda module, given, result: seen.update(occlusion_2=result.alpha))
    network.head_torso_block.register_forward_hook(lambda module, given, result: seen.update(head_torso_x=result[0]))
    network.scene_mix.register_forward_hook(lambda module, given, result: seen.update(fuse_fg_bg=result))
    source = network.prepare(torso, masks, background, source_points)
    seen["image"] = network(features, alpha, source, driving_points)
    for name, result in expected.items():
        check(seen[name], result, 3e-5)
