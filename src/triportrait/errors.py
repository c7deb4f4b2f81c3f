"""Every error a user can cause. Each carries a stable code, one sentence and the remedy.

The command line prints ``str(error)`` and exits with ``exit_code``; nothing below ever shows a traceback to a user.
"""

from __future__ import annotations


class TriPortraitError(Exception):
    """Base of all errors whose cause lies with an input, not with our code."""

    code = "E_INPUT"
    exit_code = 2


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
