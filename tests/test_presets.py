"""Sizes of the paper, and imported weights that fit them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from triportrait import presets
from triportrait.geometry.cameras import camera_from_pose
from triportrait.real3d import networks as real3d_networks
from triportrait.real3d.avatar import OneShotAvatar
from triportrait.real3d.image_to_plane import ImageToPlane
from triportrait.real3d.variants import VARIANTS
from triportrait.real3d.volume import VolumeRenderer
from triportrait.talk3d import networks as talk3d_networks
from triportrait.types import MotionFrame, TriPlane
from triportrait.weights.importers import CONVERTERS
from triportrait.weights.tables import key_table


def test_paper_has_the_sizes_of_table_6() -> None:
    assert presets.parameter_counts(real3d_networks.paper()) == {
        "image_to_plane": 87_332_960,
        "motion_adapter": 5_705_694,
        "decoder": 4_257,
        "htb_super_resolution": 54_976_359,
        "audio_to_motion": 11_864_064,
    }
    # The published file holds two weights of losses besides.
    table = key_table("real3d_torso")
    published = sum(torch.Size(shape).numel() for key, shape in table.shapes.items() if key not in table.buffers)
    counts = presets.parameter_counts(real3d_networks.paper())
    assert sum(counts.values()) - counts["audio_to_motion"] + 2 == published == 148_019_272


def test_personal_has_the_published_size() -> None:
    """Spec A.4: the trained numbers of the main stage."""
    counts = presets.parameter_counts(talk3d_networks.personal())
    assert counts == {"tokens": 74_277, "delta_plane": 16_725_568} and sum(counts.values()) == 16_799_845


def test_imported_files_fit_the_personal_preset_exactly() -> None:
    with torch.device("meta"):
        networks, (state, _) = presets.build(talk3d_networks.personal()), CONVERTERS["talk3d"](published("talk3d"))
    for part, network in networks.items():
        own = {key.removeprefix(f"{part}."): state.pop(key) for key in list(state) if key.startswith(f"{part}.")}
        network.load_state_dict(own, assign=True)
    # What is left is the tuned generator's, which EG3D's part of the program draws with.
    assert state and all(key.startswith("super_resolution.") for key in state)


def test_imported_files_fit_the_paper_preset_exactly() -> None:
    """Names and shapes after folding are those of the modules; on the meta device, where tensors have shapes only."""
    with torch.device("meta"):
        networks = presets.build(real3d_networks.paper())
        complete, audio_to_motion = (CONVERTERS[layout](published(layout))[0] for layout in ("real3d_torso", "real3d_a2m"))
    networks.pop("audio_to_motion").load_state_dict(audio_to_motion, assign=True)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in complete.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    assert parts.keys() == networks.keys()
    for part, network in networks.items():
        network.load_state_dict(parts[part], assign=True)


def published(layout: str) -> dict[str, torch.Tensor]:
    table = key_table(layout)
    return {key: torch.empty(shape, dtype=torch.int64 if key in table.integers else torch.float32) for key, shape in table.shapes.items()}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_frozen_and_equal_each_time(name: str) -> None:
    preset = presets.PRESETS[name]()
    assert preset == presets.PRESETS[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.image_to_plane = None
    lines = presets.describe(name).splitlines()
    assert lines[-1].startswith("together")
    assert ("Table 6" in lines[0]) == (name == "paper")


def test_tiny_goes_all_the_way_from_photo_to_frame() -> None:
    """Every part fits the next one."""
    torch.manual_seed(0)
    preset = real3d_networks.tiny()
    networks = {name: network.eval() for name, network in presets.build(preset).items()}
    assert sum(p.numel() for network in networks.values() for p in network.parameters()) < 200_000
    px = preset.photo_px
    with torch.no_grad():
        planes = networks["image_to_plane"](torch.rand(1, 3, px, px) * 2 - 1)
        planes = planes + networks["motion_adapter"](torch.rand(1, 9, px, px) * 2 - 1)
        camera = torch.from_numpy(camera_from_pose(np.zeros(3), np.zeros(3)).to_eg3d())[None]
        head = VolumeRenderer(networks["decoder"], preset.volume)(TriPlane(planes), camera)
        network, landmarks = networks["htb_super_resolution"], torch.rand(1, 68, 2) - 0.5
        source = network.prepare(torch.rand(1, 3, px, px), torch.ones(1, 2, px, px), torch.rand(1, 3, px, px), landmarks)
        frame = network(head.features, head.alpha, source, landmarks + 0.05)
    assert frame.shape == (1, 3, px, px) and bool(torch.isfinite(frame).all())


def test_the_published_codes_image_to_plane_comes_in_three_sizes() -> None:
    counts = []
    for config in (ImageToPlane.Config(low_blocks=2), ImageToPlane.Config(), ImageToPlane.Config(low_blocks=10, predictor_blocks=3)):
        with torch.device("meta"):
            counts.append(sum(parameter.numel() for parameter in ImageToPlane(config).parameters()))
    assert counts == [62_071_904, 87_332_960, 154_670_176]


def test_the_variants_have_the_sizes_that_the_guide_says() -> None:
    base = real3d_networks.paper()
    sizes = {name: variant.networks(base) for name, variant in VARIANTS.items()}
    counts = {
        (name, part): presets.parameter_counts(networks, [part])[part]
        for name, networks in sizes.items()
        for part, field in presets._SIZED.items()
        if getattr(networks, field) != getattr(base, field)
    }
    assert counts == {
        ("40m", "image_to_plane"): 43_434_144,
        ("200m", "image_to_plane"): 196_771_936,
        # 16 candidates more to weigh and to look through, and the detector (13.1 M).
        ("unsupervised_key_points", "htb_super_resolution"): 69_280_279,
        # Without the predictor of alpha that nothing reads (11,585), with two layers of 21 numbers that mix colours.
        ("concatenation", "htb_super_resolution"): 54_976_359 - 11_585 + 2 * 21,
        ("equation_5", "htb_super_resolution"): 49_885_908,
        ("paper_text", "image_to_plane"): 85_535_904,
        ("paper_text", "motion_adapter"): 5_705_685,
        ("paper_text", "htb_super_resolution"): 59_765_396,
        ("paper_text", "audio_to_motion"): 7_543_936,
    }
    assert {name for name, networks in sizes.items() if networks.inpaint_background != base.inpaint_background} == {"no_inpainting"}


@pytest.mark.parametrize("name", ["concatenation", "unsupervised_key_points", "paper_text"])
def test_networks_of_variants_draw_and_learn(name: str) -> None:
    torch.manual_seed(0)
    preset = VARIANTS[name].networks(real3d_networks.tiny())
    network, px = presets.build(preset)["htb_super_resolution"], preset.photo_px
    landmarks, photo = torch.rand(1, 68, 2) - 0.5, torch.rand(4, 1, 3, px, px) * 2 - 1
    source = network.prepare(photo[0], torch.ones(1, 2, px, px), photo[1], landmarks, photo[2])
    frame = network(torch.randn(1, 8, 16, 16), torch.rand(1, 1, 16, 16), source, landmarks)
    (frame - photo[3]).square().mean().backward()
    assert frame.shape == (1, 3, px, px)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
    changed = {"concatenation": "scene_colours", "unsupervised_key_points": "torso.detector", "paper_text": "torso_encoder"}[name]
    assert sum(float(parameter.grad.abs().sum()) for parameter in network.get_submodule(changed).parameters()) > 0


@pytest.mark.parametrize("pictures", [2, 3])
def test_the_motion_adapter_takes_two_pictures_or_three(pictures: int) -> None:
    torch.manual_seed(0)
    preset = real3d_networks.tiny()
    preset = dataclasses.replace(preset, motion_adapter=dataclasses.replace(preset.motion_adapter, pictures=pictures))
    networks, px = presets.build(preset, ("image_to_plane", "motion_adapter", "decoder")), preset.photo_px
    own = MotionFrame(np.zeros(4, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(2, np.float32))
    image, alpha = np.full((px, px, 3), 99, np.uint8), np.ones((px, px), np.float32)
    portrait = SimpleNamespace(image=image, head_alpha=alpha, motion=own, identity=np.zeros(3))

    def draw(identity: np.ndarray, expression: np.ndarray, lid_closing: float = 0.0) -> np.ndarray:
        return np.full((3, px, px), expression[0], np.float32)

    volume = VolumeRenderer(networks["decoder"], preset.volume)
    avatar = OneShotAvatar(networks["image_to_plane"].eval(), networks["motion_adapter"].eval(), volume, draw, px, pictures)
    state = avatar.prepare(portrait)
    assert state.pictures.shape == (1, 3 * (pictures - 1), px, px)
    moved = dataclasses.replace(own, expression=np.ones(4, np.float32))
    still, other = (avatar.render(state, row).rgb for row in (own, moved))
    assert np.isfinite(other).all() and np.abs(still - other).max() > 1e-5


@pytest.mark.parametrize("name", ["published", "concatenation", "unsupervised_key_points"])
def test_networks_make_everything_on_their_own_device(name: str) -> None:
    """No tensor of theirs lies on the CPU when they and their inputs do not: the meta device refuses to mix, as a GPU does."""
    preset = VARIANTS[name].networks(real3d_networks.tiny()) if name in VARIANTS else real3d_networks.tiny()
    px = preset.photo_px
    with torch.device("meta"):
        networks = presets.build(preset)
        photo, pictures = torch.empty(1, 3, px, px), torch.empty(2, 9, px, px)
        masks, landmarks = torch.empty(1, 2, px, px), torch.empty(1, 68, 2)
        features, alpha = torch.empty(2, 8, 16, 16), torch.empty(2, 1, 16, 16)
    planes = networks["image_to_plane"].eval()(photo) + networks["motion_adapter"].eval()(pictures)
    scene = networks["htb_super_resolution"].eval()
    frames = scene(features, alpha, scene.prepare(photo, masks, photo, landmarks, photo), landmarks.expand(2, -1, -1))
    assert planes.device.type == frames.device.type == "meta" and frames.shape == (2, 3, px, px)
