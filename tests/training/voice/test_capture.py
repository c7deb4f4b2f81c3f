"""Captured controls as curves of the open head: amounts, time, contacts and the clip that is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from triportrait.errors import EmptyMedia, MediaError
from triportrait.motion.audio_network import load_model
from triportrait.motion.lips import lip_opening
from triportrait.training.voice.capture import CONTROL_MAP, captured_curves, load_captured
from triportrait.training.voice.losses import liveliness_loss
from triportrait.types import ARKIT_EXPRESSIONS

NAMES = sorted({control for row in CONTROL_MAP.values() for control in row})


def test_controls_become_curves_at_25_rows_per_second() -> None:
    weights = np.zeros((61, len(NAMES)), np.float16)
    weights[:, NAMES.index("mouth_stretch_c")] = np.linspace(0.0, 0.6, 61)
    weights[:, NAMES.index("mouth_oh_c")] = 0.5
    curves = captured_curves(weights, NAMES)
    assert curves.shape == (51, len(ARKIT_EXPRESSIONS))
    np.testing.assert_allclose(curves[:, ARKIT_EXPRESSIONS.index("jawOpen")], np.linspace(0.2, 0.8, 51), atol=1e-3)
    np.testing.assert_allclose(curves[:, ARKIT_EXPRESSIONS.index("mouthPucker")], 0.25, atol=1e-3)
    with pytest.raises(MediaError, match="mouth_stretch_c"):
        captured_curves(weights[:, :3], [name for name in NAMES if name != "mouth_stretch_c"])


def test_a_clip_is_held_out_and_shut_pauses_are_contacts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights = np.zeros((360, len(NAMES)), np.float16)
        weights[180:, NAMES.index("mouth_stretch_c")] = 0.5
        np.savez(tmp_path / f"{name}.npz", weights=weights, names=np.array(NAMES))
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(12 * 16_000), 16_000)
    pieces = load_captured(tmp_path, load_model(), "two")
    assert [(split, piece.name) for split, piece in pieces] == [("captured", "one_00"), ("capturedtest", "two_00")]
    targets = pieces[0][1].targets
    assert targets.contact[25:140].min() > 0.9
    np.testing.assert_allclose(targets.opening, lip_opening(targets.expression, ARKIT_EXPRESSIONS), atol=1e-6)
    with pytest.raises(MediaError, match="three"):
        load_captured(tmp_path, load_model(), "three")
    (tmp_path / "two.npz").write_bytes(b"no arrays")
    with pytest.raises(MediaError, match="two.npz"):
        load_captured(tmp_path, load_model(), "one")
    (tmp_path / "none").mkdir()
    with pytest.raises(EmptyMedia):
        load_captured(tmp_path / "none", load_model(), "one")


def test_liveliness_asks_for_the_spread_and_the_speed_and_not_for_the_rows() -> None:
    random = torch.Generator().manual_seed(0)
    rows = 0.03 * torch.randn(4, 96, generator=random)
    assert liveliness_loss(rows.flip(1), rows) < 1e-4
    timid, fast = liveliness_loss(0.5 * rows, rows), liveliness_loss(rows[:, torch.randperm(96, generator=random)].cumsum(1), rows)
    assert timid > 0.5 and fast > 0.5
    assert liveliness_loss(0.5 * rows, rows) > liveliness_loss(0.8 * rows, rows)
