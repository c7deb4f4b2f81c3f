"""Who turns a voice into motion, by name.

A new way to speak is a subclass of :class:`triportrait.drivers.VoiceDriver` and a line in :data:`SPEAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from triportrait.drivers import VoiceDriver
from triportrait.errors import OptionError
from triportrait.motion.options import DriveOptions


def natural(options: DriveOptions, weights: Path | None) -> Callable[..., VoiceDriver]:
    """The shipped voice network, and natural motion."""
    if weights is not None:
        raise OptionError(f"the voice driver natural has no weights; leave out ':{weights}'")
    return VoiceDriver


def erlnet(options: DriveOptions, weights: Path | None) -> Callable[..., VoiceDriver]:
    """The learned manner of the folder of a run of 'triportrait train erlnet.manner --export'."""
    from triportrait.erlnet.driver import LearnedManner, check_learned_options
    from triportrait.erlnet.model import load_erlnet

    if weights is None:
        raise OptionError("erlnet needs its networks, and none ship; use --voice-driver erlnet:FOLDER")
    check_learned_options(options)
    load_erlnet(weights)
    return partial(LearnedManner, weights=weights)


#: Voice drivers by name: the options, and the user's weights or None, to what takes the sound as :class:`VoiceDriver` does.
SPEAKERS: dict[str, Callable[[DriveOptions, Path | None], Callable[..., VoiceDriver]]] = {"natural": natural, "erlnet": erlnet}


def voice_driver_of(options: DriveOptions) -> Callable[..., VoiceDriver]:
    """What the options' ``voice_driver`` names, such as ``natural`` or ``erlnet:FOLDER``; its files are looked at.

    Raises:
        OptionError: no such driver, or an option that it has no handle for.
        WeightsError: its weights are missing, foreign or damaged.
    """
    name, _, place = options.voice_driver.partition(":")
    if name not in SPEAKERS:
        raise OptionError(f"--voice-driver is {options.voice_driver!r}; use natural or erlnet:FOLDER")
    return SPEAKERS[name](options, Path(place) if place else None)
