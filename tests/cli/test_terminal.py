"""The last door before a terminal."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from triportrait import cli
from triportrait.cli import terminal
from triportrait.errors import MediaError, escaped

VERSION = [sys.executable, "-m", "triportrait", "--version"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain, 名, ü, 👩‍🚀", "plain, 名, ü, 👩‍🚀"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\r\x85", "two\\nlines\\r\\x85"),
        ("cod\u202egpj.exe", "cod\\u202egpj.exe"),
        (os.fsdecode(b"\xff.wav"), "\\udcff.wav"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_nothing_moves_the_cursor(raw: str, shown: str) -> None:
    assert escaped(raw) == shown


def test_messages_have_an_end() -> None:
    said = terminal.one_line("x" * 5_000 + "; the remedy")
    assert len(said) == terminal.LONGEST_MESSAGE and said.endswith("x; the remedy") and " ... " in said
    assert terminal.one_line("x" * 1_000) == "x" * 1_000


def test_a_sentence_passes_both_doors_with_one_gap() -> None:
    """An error cuts its own text; the door to the terminal must not cut it again."""
    error = MediaError("\x1b" * 90_000 + "; copy the file again.")
    said = terminal.one_line(f"triportrait: {error}")
    assert said.endswith("; copy the file again.") and said.count(" ... ") == 1 and said.isprintable()


@pytest.mark.parametrize("error", [MediaError("'\x1b]0;title\x07.png' is\nno picture"), ValueError("\x1b[2J" * 1_000)])
def test_errors_of_others_are_one_printable_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        def run(self) -> int:
            raise error

    assert cli._run(Failing()) in (1, 2)
    said = capsys.readouterr().err
    assert said.endswith("\n") and said[:-1].isprintable() and len(said) <= terminal.LONGEST_MESSAGE + 1


def test_a_file_name_in_the_arguments_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("\x1b[31m.png", "a\x9b2Jb.wav"):
        with pytest.raises(SystemExit):
            cli.main(["animate", "photo.png", name, "--no-such-flag", name, "-o", "x.mp4"])
        said = capfd.readouterr().err
        assert "\x1b" not in said and "\x9b" not in said and "no-such-flag" in said


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_are_no_error(closed: str, tmp_path: Path) -> None:
    """And what is opened afterwards does not get their numbers, to which native libraries write."""
    code = "import sys; from triportrait import cli; r = cli.main(['--version']); h = open('f', 'w').fileno(); sys.exit(r or 10 * (h < 3))"
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], cwd=tmp_path, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize(("stdout", "code"), [("/dev/full", 1), ("pipe", 141)])
def test_a_result_that_nobody_gets_is_no_success(stdout: str, code: int) -> None:
    if stdout == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(stdout, os.O_WRONLY)
    done = subprocess.run(VERSION, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert done.returncode == code and done.stderr == ""


def test_help_may_be_read_in_part() -> None:
    for command in ([], ["animate", "--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "triportrait", *command], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
        )
        os.close(writing)
        assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["animate", "--help"]])
def test_help_that_cannot_be_written_is_no_success(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "triportrait", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr == ""


def test_each_call_of_the_program_says_its_warnings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for _ in range(2):
        terminal.show_log()
        for _ in range(2):
            logging.getLogger("triportrait.somewhere").warning("careful")
    assert capsys.readouterr().err == "triportrait: careful\n" * 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_a_stream_cannot_hold_are_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding=encoding))
    terminal.mend_streams()
    terminal.say("名.mp4  (3 s)")
    assert terminal.exit_code() == 0
    assert held.getvalue().rstrip() == b"\\u540d.mp4  (3 s)"


def test_no_streams_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw, and in services."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["--version"]) == 0
    terminal.tell("nobody hears this")
    assert terminal.exit_code() == 0
