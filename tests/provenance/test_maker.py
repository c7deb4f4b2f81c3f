"""The maker's name: one number for all ways of writing it, kept in private, refused where it cannot be stated."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from triportrait.cli import main
from triportrait.errors import OptionError, OutputError
from triportrait.provenance.maker import NO_MAKER, Account, clear_maker, maker_number, shown_number, store_maker, stored_maker
from triportrait.provenance.marks import Finish, Marks


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(folder))
    return folder


def test_a_number_does_not_depend_on_how_a_name_is_written() -> None:
    """It stands in files that are out in the world: it can never change."""
    assert maker_number("Ada Example") == maker_number("  ada \t EXAMPLE ") == 0x53E179F0
    assert maker_number("Jos\u00e9") == maker_number("Jose\u0301") != maker_number("Jose")
    assert maker_number("") == maker_number("  ") == NO_MAKER
    assert shown_number(0x00ABCDEF) == "00AB-CDEF"
    numbers = {maker_number(f"maker {index}") for index in range(2000)}
    assert len(numbers) >= 1999 and NO_MAKER not in numbers and max(numbers).bit_length() == 32


def test_a_maker_is_kept_in_private_and_forgotten(home: Path) -> None:
    assert stored_maker() == "" and not clear_maker()
    file = store_maker(" Ada Example ")
    assert stored_maker() == "Ada Example"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(home.stat().st_mode) == 0o700
    store_maker("Bob")
    assert stored_maker() == "Bob" and [path.name for path in home.iterdir()] == ["maker.txt"]
    assert clear_maker() and stored_maker() == "" and not list(home.iterdir())


def test_texts_that_cannot_be_stated_are_refused(home: Path) -> None:
    for maker, consent, what in (("x" * 201, "", "201 characters"), ("", "x" * 1001, "consent has 1001"), ("a\nb", "", "one line")):
        with pytest.raises(OptionError, match=what):
            Account(maker, consent)
    with pytest.raises(OptionError, match="is empty"):
        store_maker("  ")
    home.mkdir()
    (home / "maker.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="triportrait maker set NAME"):
        stored_maker()


def test_a_folder_that_cannot_be_made_is_named(home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="TRIPORTRAIT_HOME"):
        store_maker("Ada")


def test_marks_take_the_stored_maker_unless_told_otherwise() -> None:
    assert Marks().account() == Account()
    store_maker("Ada Example")
    assert Marks().account().maker == "Ada Example"
    assert Marks(maker="Bob", consent=" yes ").account() == Account("Bob", "yes")
    assert Marks(maker="").account().number == NO_MAKER
    assert Marks(watermark=False, manifest=False).account().maker == "Ada Example"
    with pytest.raises(OptionError, match="--maker stands in"):
        Marks(maker="Bob", watermark=False, manifest=False).account()
    with pytest.raises(OptionError, match="--no-manifest"):
        Marks(consent="yes", manifest=False).account()


def test_small_frames_are_not_watermarked() -> None:
    assert Finish(Marks(label=False), (127, 300), 7).payload is None
    assert Finish(Marks(label=False), (128, 300), 7).payload == 7


def test_the_command_sets_shows_and_clears(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*words: str) -> str:
        assert main(["maker", *words]) == 0
        return capsys.readouterr().out

    assert "no maker is set" in answer("show")
    assert "53E1-79F0" in answer("set", "Ada Example")
    assert answer("show") == "Ada Example  (number 53E1-79F0)\n"
    assert "forgotten" in answer("clear") and "no maker was set" in answer("clear")
    assert main(["maker", "set", "  "]) == 2
    assert "give a name or an id" in capsys.readouterr().err
