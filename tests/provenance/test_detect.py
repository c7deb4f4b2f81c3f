"""Both marks joined into one answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triportrait.provenance.detect import detect
from triportrait.provenance.manifest import sign_video
from triportrait.provenance.watermark import Watermarker


@pytest.fixture
def picture(astronaut_png: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path / "home"))
    return astronaut_png


def test_each_mark_is_enough_and_none_is_none(picture: Path, astronaut: np.ndarray) -> None:
    marked = Watermarker((512, 512), 99).apply(astronaut)
    nothing = detect([astronaut], picture)
    assert not nothing.is_marked and "No mark found" in str(nothing)
    watermark_only = detect([marked], picture)
    assert watermark_only.is_marked and "payload 99" in str(watermark_only)
    sign_video(picture, {"portrait": "00" * 32}, "A title", "TriPortrait 0.1.0")
    both = detect([marked], picture)
    assert both.is_marked and both.manifest.state == "trusted"
    assert "made with TriPortrait 0.1.0 from portrait" in str(both)
    manifest_only = detect([], picture)
    assert manifest_only.is_marked and "no frame could be looked at" in str(manifest_only)


def test_a_broken_manifest_alone_marks_nothing(picture: Path, astronaut: np.ndarray) -> None:
    sign_video(picture, {}, "A title")
    changed = bytearray(picture.read_bytes())
    changed[-100] ^= 1
    picture.write_bytes(changed)
    report = detect([astronaut], picture)
    assert not report.is_marked and report.manifest.state == "invalid"
    assert "changed after signing" in str(report)
