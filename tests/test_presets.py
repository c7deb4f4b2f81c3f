"""Sizes of the paper, and imported weights that fit them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from triportrait import presets
from triportrait.geometry.cameras import camera_from_pose
from triportrait.render.volume import VolumeRenderer
from triportrait.types import TriPlane
from triportrait.weights.importers import CONVERTERS
from triportrait.weights.tables import key_table


def test_paper_has_the_sizes_of_table_6() -> None:
    assert presets.parameter_counts(presets.paper()) == {
        "image_to_plane": 87_332_960,
        "motion_adapter": 5_705_694,
        "decoder": 4_257,
        "htb_super_resolution": 54_976_359,
        "audio_to_motion": 11_864_064,
    }
    assert presets.parameter_counts(presets.paper("paper"))["htb_super_resolution"] == 50_656_532
    # The published file holds two weights of losses besides.
    table = key_table("real3d_torso")
    published = sum(torch.Size(shape).numel() for key, shape in table.shapes.items() if key not in table.buffers)
    counts = presets.parameter_counts(presets.paper())
    assert sum(counts.values()) - counts["audio_to_motion"] + 2 == published == 148_019_272


def test_imported_files_fit_the_paper_preset_exactly() -> None:
    """Names and shapes after folding are those of the modules; on the meta device, where tensors have shapes only."""
    with torch.device("meta"):
        networks = presets.build(presets.paper())
        complete, audio_to_motion = (
            CONVERTERS[layout](published(layout))[0] for layout in ("real3d_torso", "real3d_a2m")
        )
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
    return {
        key: torch.empty(shape, dtype=torch.int64 if key in table.integers else torch.float32)
        for key, shape in table.shapes.items()
    }


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
    preset = presets.tiny()
    networks = {name: network.eval() for name, network in presets.build(preset).items()}
    assert sum(p.numel() for network in networks.values() for p in network.parameters()) < 200_000
    px = preset.photo_px
    with torch.no_grad():
        planes = networks["image_to_plane"](torch.rand(1, 3, px, px) * 2 - 1)
        planes = planes + networks["motion_adapter"](torch.rand(1, 9, px, px) * 2 - 1)
        camera = torch.from_numpy(camera_from_pose(np.zeros(3), np.zeros(3)).to_eg3d())[None]
        head = VolumeRenderer(networks["decoder"], preset.volume)(TriPlane(planes), camera)
        network, landmarks = networks["htb_super_resolution"], torch.rand(1, 68, 2) - 0.5
        source = network.prepare(
            torch.rand(1, 3, px, px), torch.ones(1, 2, px, px), torch.rand(1, 3, px, px), landmarks
        )
        frame = network(head.features, head.alpha, source, landmarks + 0.05)
    assert frame.shape == (1, 3, px, px) and bool(torch.isfinite(frame).all())
