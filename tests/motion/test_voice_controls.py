"""One declaration of a voice's settings: what every layer takes from it, and its ranges."""

from __future__ import annotations

import math

import pytest

from triportrait.errors import OptionError
from triportrait.motion import controls, voice_controls
from triportrait.motion.controls import Controls
from triportrait.motion.options import DriveOptions
from triportrait.motion.voice_controls import HIGHEST, VoiceControls


def test_the_driver_begins_with_the_defaults_of_the_interface() -> None:
    from triportrait.drivers import voice_settings

    assert voice_settings(DriveOptions()).controls == Controls()


@pytest.mark.parametrize("name", sorted(HIGHEST.keys() - {"blinks_per_minute"}))
def test_every_number_has_a_range(name: str) -> None:
    for value in (0.0, HIGHEST[name]):
        DriveOptions(**{name: value})
    for value in (-0.01, 1.01 * HIGHEST[name], math.nan, math.inf):
        with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} is .*; use a number from 0 to {HIGHEST[name]:g}"):
            DriveOptions(**{name: value})


def test_controls_over_time_have_the_ranges_of_the_flags() -> None:
    shared = controls.HIGHEST.keys() & HIGHEST.keys()
    assert {name: controls.HIGHEST[name] for name in shared} == {name: HIGHEST[name] for name in shared}
    felt = (*voice_controls.EMOTIONS, "arousal")
    assert {controls.HIGHEST[name] for name in felt} == {HIGHEST["emotion_strength"]}
    assert len(shared) + len(felt) == len(controls.NAMES)


@pytest.mark.parametrize(("blink", "rate"), [("driving", None), ("none", 0.0), ("natural", 26.0), ("12", 12.0), ("120", 120.0)])
def test_blinks(blink: str, rate: float | None) -> None:
    assert VoiceControls(blink=blink).blinks_per_minute() == rate
    if rate is not None:
        Controls(blinks_per_minute=rate)
