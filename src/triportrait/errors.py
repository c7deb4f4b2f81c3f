"""Every error a user can cause. Each carries a stable code, one sentence and the remedy.

The command line prints ``str(error)`` and exits with ``exit_code``; nothing below ever shows a traceback to a user.
"""

from __future__ import annotations

#: A sentence is never longer, whatever a file puts into it.
_LONGEST_SENTENCE = 1200
_LONGEST_QUOTE = 60


def printable(text: str, limit: int = _LONGEST_SENTENCE) -> str:
    """Text that is safe on a terminal: what cannot be printed (control characters, line breaks, marks that turn the writing
    direction) is escaped as Python does it, and the middle of a text of more than ``limit`` characters is left out."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} ... {text[len(text) - limit // 2 :]}"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)


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


class ForkedProcess(TriPortraitError):
    """Something asked of a forked process that only the process it came from, or a fresh one, can do."""

    code = "E_FORKED"
