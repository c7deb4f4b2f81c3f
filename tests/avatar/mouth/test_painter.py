"""The mouth painter: where it looks, what it may change, and its file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from triportrait.avatar.mouth.painter import (
    CHANNELS,
    HEIGHT_PX,
    WIDTH_PX,
    PhotoMouth,
    cut_window,
    lip_masks,
    load_painter,
    mouth_window,
    paint_mouth,
)
from triportrait.avatar.mouth.painter_network import (
    MouthPainter,
    MouthPainterConfig,
    as_graph,
    change_weight,
    export_mouth_painter,
    load_mouth_painter,
    save_mouth_painter,
)
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.errors import WeightsError
from triportrait.geometry.landmarks import OUTER_LIPS

SMALL = MouthPainterConfig((8, 8, 16, 16))


def loud_painter():
    """A painter that changes whatever it may."""
    model = MouthPainter(SMALL).eval()
    with torch.no_grad():
        model.last.bias.fill_(-1.0)
    return model


@dataclass
class Layer:
    rgb: np.ndarray
    alpha: np.ndarray
    surface: np.ndarray


def head_layer(portrait):
    """The photo as if it were a drawn head."""
    rgb = portrait.image.astype(np.float32) / 255
    return Layer(rgb, np.ones(rgb.shape[:2], np.float32), np.ones(rgb.shape[:2], np.uint8))


def painted(model, portrait):
    landmarks = portrait.landmarks[:, :2]
    window = mouth_window(landmarks, portrait, portrait.motion)
    layer = head_layer(portrait)
    before = layer.rgb.copy()
    paint_mouth(as_graph(model), layer, landmarks, window, PhotoMouth.of(portrait), PhotoTone.of(portrait))
    return before, layer.rgb


def test_the_window_follows_the_mouth(astronaut_portrait):
    portrait = astronaut_portrait
    window = mouth_window(portrait.landmarks[:, :2], portrait, portrait.motion)
    masks = lip_masks(portrait.landmarks[:, :2], window)
    rows, columns = np.nonzero(masks[..., 1] > 0.5)
    assert abs(columns.mean() - (WIDTH_PX - 1) / 2) < 4 and abs(rows.mean() - (HEIGHT_PX - 1) / 2) < 8
    assert 0.35 < np.ptp(columns) / WIDTH_PX < 0.8
    # A head half as far away fills the same window with twice the pixels.
    near = replace(portrait.motion, translation=np.array([0, 0, 10 - (10 - portrait.motion.translation[2]) / 2], np.float32))
    wide = mouth_window(2 * portrait.landmarks[:, :2], portrait, near)
    np.testing.assert_allclose(wide[:, :2], 2 * window[:, :2], rtol=1e-5)


def test_a_rolled_head_gives_the_same_masks(astronaut_portrait):
    portrait = astronaut_portrait
    points = portrait.landmarks[:, :2] - portrait.landmarks[13, :2]
    angle = np.radians(35)
    turned = points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright, rolled = (lip_masks(p + 256, mouth_window(p + 256, portrait, portrait.motion)) for p in (points, turned))
    assert np.abs(upright - rolled).max() < 0.2


def test_it_begins_as_what_was_drawn_and_changes_only_the_mouth(astronaut_portrait):
    rgb, same = painted(MouthPainter(SMALL).eval(), astronaut_portrait)
    np.testing.assert_array_equal(rgb, same)
    rgb, changed = painted(loud_painter(), astronaut_portrait)
    where = np.abs(changed - rgb).max(-1) > 1e-6
    low, high = astronaut_portrait.landmarks[OUTER_LIPS, :2].min(0) - 22, astronaut_portrait.landmarks[OUTER_LIPS, :2].max(0) + 22
    assert where.sum() > 500
    rows, columns = np.nonzero(where)
    assert columns.min() >= low[0] and columns.max() <= high[0] and rows.min() >= low[1] and rows.max() <= high[1]
    assert changed.min() >= 0 and changed.max() <= 1


def test_a_mouth_outside_the_picture_is_left_alone(astronaut_portrait):
    portrait = astronaut_portrait
    layer = head_layer(portrait)
    before = layer.rgb.copy()
    away = portrait.landmarks[:, :2] + 2000
    window = mouth_window(away, portrait, portrait.motion)
    paint_mouth(as_graph(loud_painter()), layer, away, window, PhotoMouth.of(portrait), PhotoTone.of(portrait))
    np.testing.assert_array_equal(before, layer.rgb)


def test_where_the_head_ends_so_does_the_paint(astronaut_portrait):
    portrait, layer = astronaut_portrait, head_layer(astronaut_portrait)
    landmarks = portrait.landmarks[:, :2]
    layer.alpha[:, : int(landmarks[13, 0])] = 0.5
    layer.rgb *= layer.alpha[..., None]
    model = MouthPainter(SMALL).eval()
    with torch.no_grad():
        model.last.bias.fill_(1.0)
    window = mouth_window(landmarks, portrait, portrait.motion)
    paint_mouth(as_graph(model), layer, landmarks, window, PhotoMouth.of(portrait), PhotoTone.of(portrait))
    assert (layer.rgb.max(-1) <= layer.alpha).all() and (layer.rgb.max(-1) == 0.5).sum() > 500


def test_the_weight_is_one_on_the_lips_and_zero_far_away():
    channels = torch.zeros(1, CHANNELS, HEIGHT_PX, WIDTH_PX)
    channels[:, 4, 40:60, 50:90] = 1
    channels[:, 5, 48:52, 60:80] = 1
    weight = change_weight(channels)[0, 0]
    assert weight[42:45, 55:85].min() > 1 - 1e-6
    assert weight[:20].max() == 0 and weight[:, :30].max() == 0
    assert weight[48:52, 60:80].max() == 0  # the mouth's inside


def test_the_weight_is_the_lips_grown_and_softened():
    channels = (torch.rand(2, CHANNELS, HEIGHT_PX, WIDTH_PX, generator=torch.Generator().manual_seed(0)) > 0.999).float()
    near = functional.avg_pool2d(functional.max_pool2d(channels[:, 3:5].amax(1, keepdim=True), 15, 1, 7), 15, 1, 7)
    inside = functional.avg_pool2d(functional.max_pool2d(channels[:, 5:6], 3, 1, 1), 3, 1, 1)
    torch.testing.assert_close(change_weight(channels), near * (1 - inside), atol=1e-6, rtol=0)


def test_between_the_lips_only_the_light_changes():
    """Smoothly, by a bounded factor, and nowhere else."""
    x = torch.full((1, CHANNELS, HEIGHT_PX, WIDTH_PX), 0.3)
    x[:, 3:7] = 0
    x[:, 4, 40:60, 50:90] = x[:, 5, 42:58, 55:85] = 1
    model = MouthPainter(SMALL).eval()
    with torch.no_grad():
        model.light.bias.fill_(9.0)
        bright = model(x)[0]
    inside = x[0, 5] > 0
    assert torch.allclose(bright[:, ~inside], x[0, :3][:, ~inside])
    gain = bright[:, inside] / 0.3
    assert 1.3 < float(gain.min()) and float(gain.max()) < 1.5


def test_cutting_the_whole_picture_is_the_identity():
    random = np.random.default_rng(0)
    picture = random.random((HEIGHT_PX, WIDTH_PX, 3)).astype(np.float32)
    np.testing.assert_allclose(cut_window(picture, np.array([[1.0, 0, 0], [0, 1, 0]])), picture, atol=1e-6)


def test_file_round_trip_and_refusals(tmp_path):
    model = loud_painter()
    save_mouth_painter(model, tmp_path / "m.safetensors", {"steps": "3"})
    again = load_mouth_painter(tmp_path / "m.safetensors")
    assert again.config == SMALL and not list(tmp_path.glob("*.part"))
    x = torch.rand(1, CHANNELS, HEIGHT_PX, WIDTH_PX)
    torch.testing.assert_close(again(x), model(x), atol=2e-3, rtol=0)
    # What the avatar takes is the same painter, trained or exported.
    export_mouth_painter(model, tmp_path / "m.onnx")
    channels = x[0].permute(1, 2, 0).numpy()
    changes = [painter(channels)[0] for painter in (as_graph(again), load_painter(tmp_path / "m.onnx"))]
    np.testing.assert_allclose(changes[0], changes[1], atol=1e-5)
    assert np.abs(changes[0] - (model(x) - x[:, :3])[0].permute(1, 2, 0).detach().numpy()).max() < 2e-3
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:500])
    for name in ("broken", "absent"):
        with pytest.raises(WeightsError):
            load_mouth_painter(tmp_path / f"{name}.safetensors")


def test_the_embedded_painter_is_small():
    assert sum(p.numel() for p in load_mouth_painter().parameters()) < 1_000_000
