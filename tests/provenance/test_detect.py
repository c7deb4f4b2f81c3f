"""Both marks joined into one answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marked_clips import Frames, on_a_phone
from triportrait.cli import main
from triportrait.provenance.detect import detect
from triportrait.provenance.maker import Account, maker_number
from triportrait.provenance.manifest import sign_video
from triportrait.provenance.watermark import Watermarker

ADA = maker_number("Ada Example")


@pytest.fixture
def picture(astronaut_png: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path / "home"))
    return astronaut_png


@pytest.fixture(scope="module")
def by_ada(astronaut: np.ndarray) -> np.ndarray:
    """A picture whose watermark bears Ada's number."""
    return Watermarker((512, 512), ADA).apply(astronaut)


def test_each_mark_is_enough_and_none_is_none(picture: Path, astronaut: np.ndarray, by_ada: np.ndarray) -> None:
    nothing = detect([astronaut], picture)
    assert not nothing.is_marked and nothing.maker_number is None and "No mark found" in str(nothing)
    watermark_only = detect([by_ada], picture)
    assert watermark_only.is_marked and watermark_only.maker_number == ADA and "maker's number 53E1-79F0" in str(watermark_only)
    sign_video(picture, {"portrait": "00" * 32}, "A title", "TriPortrait 0.1.0")
    both = detect([by_ada], picture)
    assert both.is_marked and both.manifest.state == "trusted"
    assert "made with TriPortrait 0.1.0 from portrait" in str(both)
    manifest_only = detect([], picture)
    assert manifest_only.is_marked and "no frame could be looked at" in str(manifest_only)


def test_number_and_signed_name_are_held_against_each_other(picture: Path, astronaut: np.ndarray, by_ada: np.ndarray) -> None:
    sign_video(picture, {}, "A title", account=Account("Ada Example", "She wrote so."))
    report = detect([by_ada], picture)
    assert report.number_fits_statement is True
    assert 'the statement names "Ada Example", which agrees' in str(report) and 'consent: "She wrote so."' in str(report)
    other = detect([Watermarker((512, 512), ADA ^ 5).apply(astronaut)], picture)
    assert other.number_fits_statement is False and "does NOT agree" in str(other)
    nobody = detect([Watermarker((512, 512)).apply(astronaut)], picture)
    assert nobody.number_fits_statement is False and "no maker named" in str(nobody)


def test_a_name_can_be_asked_for(picture: Path, astronaut: np.ndarray, by_ada: np.ndarray) -> None:
    assert '"ada EXAMPLE"? yes, the watermark bears 53E1-79F0' in str(detect([by_ada], picture, maker="ada EXAMPLE"))
    assert '"Eve"? no, the watermark does not bear' in str(detect([by_ada], picture, maker="Eve"))
    assert '"Eve"? cannot be told' in str(detect([astronaut[:128, :128]], picture, maker="Eve"))


def test_what_happened_to_the_picture_is_said(picture: Path, by_ada: np.ndarray) -> None:
    assert "turned by 90 degrees, mirrored" in str(detect([np.rot90(by_ada[:, ::-1], -1)], picture))
    assert "cropped to 75% x 100%" in str(detect([by_ada[:, :384]], picture))
    frames: Frames = on_a_phone([by_ada])
    assert "within a larger picture of which it takes 100% x 56%" in str(detect(frames, picture))


def test_a_broken_manifest_alone_marks_nothing(picture: Path, astronaut: np.ndarray) -> None:
    sign_video(picture, {}, "A title", account=Account("Ada Example"))
    changed = bytearray(picture.read_bytes())
    changed[-100] ^= 1
    picture.write_bytes(changed)
    report = detect([astronaut], picture)
    assert not report.is_marked and report.manifest.state == "invalid" and report.number_fits_statement is None
    assert "changed after signing" in str(report)


def test_the_command_takes_pictures_and_animations(
    by_ada: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path / "home"))
    frames = [Image.fromarray(by_ada).quantize(256)] * 2
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(by_ada).save(tmp_path / "a.png")
    Image.fromarray(by_ada).save(tmp_path / "a.jpg", quality=90)
    for name in ("a.gif", "a.png", "a.jpg"):
        assert main(["detect", str(tmp_path / name), "--maker", "Ada Example"]) == 0
        assert "yes, the watermark bears 53E1-79F0" in capsys.readouterr().out, name
    assert main(["detect", str(tmp_path / "a.png"), "--maker", "x" * 201]) == 2
