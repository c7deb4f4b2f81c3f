"""Image-to-plane, motion adapter, renderer and vanilla super-resolution against the published modules' outputs.

Tolerances are those of the folder's README.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from golden.test_real3d_torso import landmarks, torso_picture
from golden_folder import check, check_fill, golden, golden_fill, key_shapes
from triportrait.geometry.cameras import camera_from_pose, smooth_cameras
from triportrait.motion.smoothing import smooth_box
from triportrait.real3d.compositing import composite, interval_weights
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.head_super_resolution import SuperResolution
from triportrait.real3d.head_torso_background import HtbSuperResolution, SceneSource
from triportrait.real3d.image_to_plane import ImageToPlane
from triportrait.real3d.motion_adapter import MotionAdapter
from triportrait.real3d.rays import box_crossings, camera_rays, published_bounds
from triportrait.real3d.sampling import SamplePositions, importance_depths, sample_planes, stratified_depths
from triportrait.real3d.volume import VolumeRenderer
from triportrait.types import TriPlane
from triportrait.weights import real3d_head
from triportrait.weights.real3d_torso import htb_super_resolution_state

NETWORK_ERROR = 2e-5
POINT_ERROR = 1e-4
RENDER_ERROR = 5e-5
FRAME_ERROR, FRAME_PROJECTION = 2e-4, 1e-2


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


def image_to_plane_outputs(network: ImageToPlane, side_px: int) -> dict[str, torch.Tensor]:
    """The outputs of the network and of its parts, published names."""
    outputs: dict[str, torch.Tensor] = {}
    parts = {"low_reso_encoder": network.encoder, "low_reso_vit": network.low, "high_reso_encoder": network.detail}
    hooks = [part.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out})) for name, part in parts.items()]
    outputs["planes"] = network(head_image(side_px, golden(f"real3d/i2p_{side_px}.json")))
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.fixture(scope="module")
def full_size(image_to_plane: ImageToPlane) -> dict[str, torch.Tensor]:
    return image_to_plane_outputs(image_to_plane, 512)


def test_image_to_plane_at_full_size(full_size: dict[str, torch.Tensor]) -> None:
    case = golden("real3d/i2p_512.json")["cases"]["in512"]
    for name, tensor in full_size.items():
        check(tensor, case[name], NETWORK_ERROR)


def test_image_to_plane_at_quarter_size(image_to_plane: ImageToPlane) -> None:
    case = golden("real3d/i2p_128.json")["cases"]["in128"]
    for name, tensor in image_to_plane_outputs(image_to_plane, 128).items():
        check(tensor, case[name], NETWORK_ERROR)


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


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    network = Decoder()
    network.load_state_dict(real3d_head.decoder_state(published(real3d_head.DECODER, golden("real3d/vr.json"))))
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def planes() -> TriPlane:
    reference = golden("real3d/vr.json")
    field = golden_fill().field((1, 3, 32, 256, 256), "vr.planes", reference["seed"], 2.5)
    check(field, reference["input_check"]["planes"], 1e-6)
    return TriPlane(field, "eg3d_original")


def test_decoder_at_points(decoder: Decoder, planes: TriPlane) -> None:
    reference = golden("real3d/vr.json")
    points = golden_fill().rand_in((1, 512, 3), "vr.points", reference["seed"], -0.6, 0.6)
    density, colours = decoder(sample_planes(planes.planes, points, planes.layout))
    check(colours, reference["cases"]["points"]["rgb"], POINT_ERROR)
    check(density[..., None], reference["cases"]["points"]["sigma"], POINT_ERROR)


def hashed(name: str, seed: int) -> torch.Tensor:
    values = golden_fill().unit(f"vr.{name}", 16384 * 48, seed).astype(np.float32)
    return torch.from_numpy(values).view(1, 16384, 48)


@pytest.mark.parametrize("case", ["main_mid", "main_hash", "miss_mid"])
def test_volume_renderer(decoder: Decoder, planes: TriPlane, case: str) -> None:
    reference = golden("real3d/vr.json")
    seed, (camera, sampling) = reference["seed"], case.split("_")
    cameras = torch.tensor([reference["inputs"][f"camera_{camera}"]])
    positions = SamplePositions(hashed("jitter", seed), hashed("u", seed)) if sampling == "hash" else None
    renderer = VolumeRenderer(decoder, VolumeRenderer.Config(published_misses=True))
    with torch.no_grad():
        render = renderer(planes, cameras, positions)
    case = reference["cases"][case]
    check(render.features, case["feature_image"], RENDER_ERROR)
    check(render.depth, case["depth_image"], RENDER_ERROR)
    check(render.alpha, case["weights_image"], RENDER_ERROR)


@pytest.mark.parametrize("case", ["main_mid", "main_hash", "miss_mid"])
def test_rays_and_samples(decoder: Decoder, planes: TriPlane, case: str) -> None:
    reference = golden("real3d/vr.json")
    seed, (camera, sampling) = reference["seed"], case.split("_")
    case = reference["cases"][case]
    origins, directions = camera_rays(torch.tensor([reference["inputs"][f"camera_{camera}"]]), 128)
    near, far, hit = box_crossings(origins, directions, -0.5, 0.5)
    check(directions, case["ray_dirs"], 1e-6)
    # Where every ray hits, the spread that projections are measured in is 0.
    check(hit[..., None].float(), case["ray_valid"], 0.0, float("inf"))
    near, far = published_bounds(near, far, hit)
    jitter: torch.Tensor | float = hashed("jitter", seed)[:, ::37] if sampling == "hash" else 0.5
    quantiles = hashed("u", seed)[:, ::37] if sampling == "hash" else torch.linspace(0, 1, 48)
    coarse = stratified_depths(near[:, ::37], far[:, ::37], 48, jitter)
    check(coarse[0], case["depths_coarse"], RENDER_ERROR)
    points = origins[:, ::37, None] + coarse[..., None] * directions[:, ::37, None]
    density, _ = decoder(sample_planes(planes.planes, points.flatten(1, 2), planes.layout))
    weights = interval_weights(coarse, density.view_as(coarse))
    check(weights[0], case["weights_coarse"], POINT_ERROR)
    check(importance_depths(coarse, weights, quantiles)[0], case["depths_fine"], RENDER_ERROR)


def test_compositing_alone() -> None:
    reference = golden("real3d/compositing.json")
    seed, fill = reference["seed"], golden_fill()

    def depths(shape: tuple[int, ...], name: str, high: float) -> torch.Tensor:
        steps = fill.rand_in(shape, name, seed, 0.005, high)
        return 2.2 + torch.cumsum(steps, 2)[..., 0]

    def expect_equal(tensor: torch.Tensor, name: str) -> None:
        output = reference["outputs"][name]
        np.testing.assert_allclose(tensor.numpy().reshape(output["shape"]), np.reshape(output["val"], output["shape"]), atol=1e-6)

    colours = fill.rand_in((1, 16, 24, 4), "vr.comp_col", seed, 0, 1)
    densities = fill.rand_in((1, 16, 24, 1), "vr.comp_den", seed, -6, 8)[..., 0]
    along = depths((1, 16, 24, 1), "vr.comp_dz", 0.08)
    features, depth, _ = composite(along, densities, colours)
    expect_equal(features, "rgb")
    expect_equal(depth, "depth")
    expect_equal(interval_weights(along, densities), "weights")

    along = depths((1, 8, 48, 1), "vr.imp_dz", 0.04)
    weights = 10 * fill.rand_in((1, 8, 47, 1), "vr.imp_w", seed, 0, 0.08)[..., 0] ** 2
    uniform = torch.from_numpy(fill.unit("vr.u", 8 * 48, seed).astype(np.float32)).view(1, 8, 48)
    expect_equal(importance_depths(along, weights, uniform), "fine_hash")
    expect_equal(importance_depths(along, weights, torch.linspace(0, 1, 48)), "fine_mid")


@pytest.mark.parametrize("side_px", [128, 160])
def test_super_resolution(side_px: int) -> None:
    reference = golden("real3d/sr.json")
    network = SuperResolution()
    network.load_state_dict(real3d_head.super_resolution_state(published(real3d_head.SUPER_RESOLUTION, reference)))
    network = ready(network)
    seen: list[torch.Tensor] = []
    network.blocks[0].register_forward_hook(lambda _, __, out: seen.append(out[0]))
    name = "sr.x" if side_px == 128 else f"sr.x{side_px}"
    features = golden_fill().field((1, 32, side_px, side_px), name, reference["seed"], 0.6, 0, (-1, 1))
    case = reference["cases"][f"in{side_px}"]
    check(network(features), case["image"], NETWORK_ERROR)
    if "block0_x" in case:
        check(seen[0], case["block0_x"], NETWORK_ERROR)


def scene(network: HtbSuperResolution, seed: int) -> tuple[SceneSource, torch.Tensor]:
    """Source and driving landmarks of the super-resolution's golden."""
    background = golden_fill().field((1, 3, 512, 512), "ht.bg", seed, 0.5, 0, (-1, 1))
    source_points, driving_points = landmarks(seed)
    return network.prepare(*torso_picture("ht.torso", 512, seed), background, source_points), driving_points


def test_whole_frame(full_size: dict[str, torch.Tensor], motion_adapter_published: dict[str, torch.Tensor], decoder: Decoder) -> None:
    """Image, motion pictures, camera, torso and background to the final picture."""
    reference, volume, canonical = golden("real3d/frame.json"), golden("real3d/vr.json"), full_size["planes"]
    case, seed = reference["cases"]["main"], reference["seed"]
    network = HtbSuperResolution(HtbSuperResolution.Config.published())
    keys = key_shapes("real3d_torso.json", (real3d_head.SUPER_RESOLUTION,))
    network.load_state_dict(htb_super_resolution_state(golden_fill().fill_real3d(keys, seed)))
    seen: dict[str, torch.Tensor] = {}
    network.eval().requires_grad_(False)
    network.torso.register_forward_hook(lambda _, __, layer: seen.update(occlusion_2=layer.alpha))

    changed = canonical + motion_adapter(motion_adapter_published)(motion_pictures(512, seed))
    with torch.no_grad():
        render = VolumeRenderer(decoder)(TriPlane(changed), torch.tensor([volume["inputs"]["camera_main"]]))
        source, driving_points = scene(network, seed)
        image = network(render.features, render.alpha, source, driving_points)
    seen |= {
        "cano_planes": canonical,
        "plane": changed,
        "image_raw": render.features[:, :3].clamp(-1, 1),
        "image_depth": render.depth,
        "weights_img": render.alpha,
        "image": image.clamp(-1, 1),
    }
    assert seen.keys() == case.keys()
    for name, tensor in seen.items():
        check(tensor, case[name], FRAME_ERROR, FRAME_PROJECTION)


def test_cameras_and_their_smoothing() -> None:
    reference = golden("real3d/camera.json")
    # The published code rounds poses to float32 first.
    rotations, translations = (np.array(reference[name], np.float32) for name in ("euler", "trans"))
    cameras = [camera_from_pose(*pose, focal=4.2647) for pose in zip(rotations, translations, strict=True)]
    np.testing.assert_allclose([camera.to_eg3d() for camera in cameras], reference["camera"], atol=1e-6)
    smooth = smooth_cameras(cameras[-12:])
    np.testing.assert_allclose([camera.to_eg3d() for camera in smooth], reference["smoothed_last12"], atol=1e-6)


def test_smoothing_of_key_points() -> None:
    reference = golden("real3d/camera.json")
    points = golden_fill().rand_in((12, 136), "cam.kp", reference["seed"], -1, 1).numpy()
    check(torch.from_numpy(smooth_box(points)), reference["kp_smoothed"], 1e-6)


def test_whole_head_is_imported_strictly() -> None:
    tensors = {key: torch.zeros(shape) for key, shape in key_shapes("real3d_head.json").items()}
    state = real3d_head.head_state(tensors)
    networks = {
        "image_to_plane": ImageToPlane(),
        "motion_adapter": MotionAdapter(),
        "decoder": Decoder(),
        "super_resolution": SuperResolution(),
    }
    for name, network in networks.items():
        network.load_state_dict({key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")})
    with pytest.raises(real3d_head.WeightsError, match="stranger.weight"):
        real3d_head.head_state(tensors | {"stranger.weight": torch.zeros(1)})
    with pytest.raises(real3d_head.WeightsError, match="block1.torgb.bias"):
        real3d_head.head_state({key: tensor for key, tensor in tensors.items() if key != "superresolution.block1.torgb.bias"})


def trained_super_resolution() -> SuperResolution:
    return SuperResolution(SuperResolution.Config(trained_form=True))


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (ImageToPlane, 87_332_960),
        (MotionAdapter, 5_705_694),
        (Decoder, 4_257),
        (SuperResolution, 1_107_846),
        (trained_super_resolution, 1_649_578),
    ],
)
def test_parameter_counts_are_the_published_ones(network: Callable[[], torch.nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in network().parameters()) == parameters


@pytest.mark.parametrize(("low_blocks", "predictor_blocks", "millions"), [(2, 1, 62.07), (10, 3, 154.67)])
def test_sizes_of_the_ablation(low_blocks: int, predictor_blocks: int, millions: float) -> None:
    with torch.device("meta"):
        network = ImageToPlane(ImageToPlane.Config(low_blocks=low_blocks, predictor_blocks=predictor_blocks))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
