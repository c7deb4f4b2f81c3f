"""What a file says reaches a terminal escaped and short."""

from __future__ import annotations

import pytest

from triportrait.errors import LONGEST_SENTENCE, MediaError, MotionFileError, printable, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("ä 書 ü", "ä 書 ü"),
        ("12\u202f000\u00a0px", "12\u202f000\u00a0px"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown == str(MediaError(text))
    assert quoted(text) == f"'{shown}'"


def test_long_texts_are_shortened_and_keep_the_remedy() -> None:
    assert len(quoted("x" * 100_000)) < 80
    said = str(MotionFileError("a" * 100_000 + "; correct the cell"))
    assert len(said) <= LONGEST_SENTENCE and said.endswith("; correct the cell")
