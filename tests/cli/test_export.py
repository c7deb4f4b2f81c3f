"""``triportrait export`` refuses in one sentence what cannot be done, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from triportrait import cli

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("a.vrm", [], "names who may use it; add --author"),
        ("a.vrm", ["--author", " "], "names who may use it; add --author"),
        ("a.fbx", [], "ends in none of .glb, .html, .vrm, .mp4; choose one of them"),
        ("a.html", ["--audio", "missing.wav"], "There is no file 'missing.wav'; check the path."),
        ("a.mp4", ["--audio", "missing.wav"], "--audio belongs to an .html page, not to a .mp4 file"),
        ("a.html", ["--on-floor"], "--on-floor belongs to a .glb file, not to a .html file"),
        ("a.glb", ["--author", "me"], "--name and --author belong to a .vrm file"),
        ("nowhere/a.glb", [], "there is no folder"),
    ],
)
def test_one_sentence_and_nothing_written(
    name: str, more: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(EXAMPLES / "portrait.png"), "-o", name, *more]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_broken_avatar_file_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "me.avatar"
    broken.write_bytes(b"junk")
    assert cli.main(["export", str(broken), "-o", str(tmp_path / "me.glb")]) == 2
    assert "is no avatar file, or a damaged one; make it again" in capsys.readouterr().err
    assert not (tmp_path / "me.glb").exists()
