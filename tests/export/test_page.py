"""The page: it holds everything, asks nothing of anybody, and its curves are those of the voice."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import OptionError
from triportrait.export import page
from triportrait.export.page import Speech, curves_of, page_of
from triportrait.types import ARKIT_EXPRESSIONS, Motion, Waveform


def motion_of(frames: int) -> Motion:
    rng = np.random.default_rng(2)
    values = rng.random((frames, len(ARKIT_EXPRESSIONS)), np.float32)
    pose = rng.uniform(-0.5, 0.5, (frames, 3)).astype(np.float32)
    return Motion(values, pose, np.zeros((frames, 3), np.float32), pose[:, :2])


def test_a_page_holds_the_head_the_voice_and_the_viewer() -> None:
    motion = motion_of(25)
    speech = Speech(Waveform(np.sin(np.arange(24_000) / 20).astype(np.float32), 24_000), motion)
    text = page_of(b"glTF-bytes", speech, "Ann & <Bob>")
    assert "<title>Ann &amp; &lt;Bob&gt;</title>" in text
    assert base64.b64decode(re.search(r'id="avatar">(.*?)</script>', text).group(1)) == b"glTF-bytes"
    sound = base64.b64decode(re.search(r'id="sound"[^>]*>(.*?)</script>', text).group(1))
    assert sound[:4] == b"RIFF" and len(sound) == 44 + 2 * 24_000
    said = json.loads(re.search(r'id="motion">(.*?)</script>', text).group(1))
    assert said["frames"] == 25 and said["curves"] == list(ARKIT_EXPRESSIONS)
    # The viewer once; and no address is ever asked.
    assert text.count("export class Viewer") == 1 and "%VIEWER%" not in text and not re.search(r"^import\b", text, re.MULTILINE)
    assert "default-src 'none'" in text and not re.search(r'(src|href)="?https?:', text)


def test_every_button_has_a_label_and_no_placeholder_is_left() -> None:
    text = page_of(b"", None)
    buttons = re.findall(r"<button[^>]*>([^<]+)</button>", text)
    assert len(buttons) == 5 and all(button.strip() for button in buttons)
    assert not re.search(r"%[A-Z_]+%", text.split('<script type="module">')[0]) and 'id="motion">null<' in text


def test_curves_come_back_as_they_were() -> None:
    motion = motion_of(9)
    said = curves_of(motion)
    values = np.frombuffer(base64.b64decode(said["values"]), np.uint8).reshape(9, -1) / 255.0
    np.testing.assert_allclose(values, motion.expression, atol=0.5 / 255 + 1e-6)
    poses = np.frombuffer(base64.b64decode(said["poses"]), "<i2").reshape(9, 5) / 32767.0 * np.pi
    np.testing.assert_allclose(poses, np.concatenate([motion.rotation_rad, motion.gaze_rad], axis=1), atol=1e-4)


def test_a_voice_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "LONGEST_S", 0.5)
    monkeypatch.setattr(page, "read_audio", lambda path, rate_hz: Waveform(np.zeros(rate_hz, np.float32), rate_hz))
    with pytest.raises(OptionError, match="cut it"):
        Speech.of(tmp_path / "long.wav")
