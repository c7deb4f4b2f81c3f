"""Every error a user can cause. Each carries a stable code, one sentence and the remedy.

The command line prints ``str(error)`` and exits with ``exit_code``; nothing below ever shows a traceback to a user.
"""

from __future__ import annotations

import unicodedata

#: A sentence is never longer, whatever a file puts into it.
LONGEST_SENTENCE = 1200
_LONGEST_QUOTE = 60
_GAP = " ... "
#: They turn the direction of the text after them.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def escaped(text: str, keep: str = "") -> str:
    """Text that moves no cursor: control characters, line ends, half characters and marks that turn the writing direction
    are escaped as Python does it, except those in ``keep``. Spaces of all kinds and joined emoji stay as they are."""
    return "".join(c if c in keep or not _is_control(c) else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING


def printable(text: str, limit: int = LONGEST_SENTENCE) -> str:
    """:func:`escaped` text of at most ``limit`` characters; what is too much is left out of its middle, because the end of a
    sentence is its remedy."""
    # Cut before it is escaped, too: a file's text may be as long as the file.
    return _cut(escaped(_cut(text, limit)), limit)


def _cut(text: str, limit: int) -> str:
    kept = limit - len(_GAP)
    return text if len(text) <= limit else text[: kept // 2] + _GAP + text[len(text) - (kept - kept // 2) :]


def quoted(value: object, limit: int = _LONGEST_QUOTE) -> str:
    """What a file says, for a sentence: in quotation marks, printable and short."""
    return f"'{printable(str(value), limit)}'"


class TriPortraitError(Exception):
    """Base of all errors whose cause lies with an input, not with our code. Its text is safe on a terminal (:func:`printable`)."""

    code = "E_INPUT"
    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class OptionError(TriPortraitError):
    """A setting outside its range, or settings that exclude each other."""

    code = "E_OPTION"


class MediaError(TriPortraitError):
    """A file that cannot be opened, is of the wrong kind, is broken, or is too large."""

    code = "E_MEDIA_FORMAT"


class TooLarge(MediaError):
    """Dimensions or length beyond what is decoded."""

    code = "E_TOO_LARGE"


class EmptyMedia(MediaError):
    """A video without frames, or sound of no length."""

    code = "E_EMPTY"


class NoFaceFound(TriPortraitError):
    """No usable face: none at all, too small, or turned too far away."""

    code = "E_NO_FACE"


class OutputError(TriPortraitError):
    """The result cannot be written where it was asked for."""

    code = "E_IO"


class MotionFileError(TriPortraitError):
    """A motion file that is not one of ours, or whose columns do not fit."""

    code = "E_MOTION"


class WeightsError(TriPortraitError):
    """A weights or head-model file that is missing, foreign or damaged."""

    code = "E_CHECKPOINT"


class NumericError(TriPortraitError):
    """NaN or infinity where a picture should be."""

    code = "E_NUMERIC"


class MissingPart(TriPortraitError):
    """An optional package or a user's own file is needed for this request."""

    code = "E_MISSING"
