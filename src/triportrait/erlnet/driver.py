"""The learned manner as a driver: a voice speaks in the style of a clip, expression and head pose both out of codes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from triportrait.drivers import DriverTools, VoiceDriver, motion_of_file
from triportrait.erlnet.hearing import Hearing
from triportrait.erlnet.model import FILES, ErlnetModel, Joined, PartStream, load_erlnet
from triportrait.erlnet.parts import PARTS, POSE, motion_of_rows
from triportrait.errors import OptionError
from triportrait.geometry.fields import smooth_step
from triportrait.motion.audio import CONTACT_FROM, CONTACT_TO, TEETH_FROM, TEETH_TO, AudioDriver, AudioSettings, ListeningFace, ramp
from triportrait.motion.controls import ControlTrack
from triportrait.motion.emotion import with_emotion
from triportrait.motion.lips import close_lips, lip_to_teeth
from triportrait.motion.natural import NaturalMotion
from triportrait.motion.options import DriveOptions
from triportrait.motion.pauses import PauseFinder
from triportrait.motion.speech_features import Prosody
from triportrait.motion.style import SpeakingStyle
from triportrait.types import ARKIT_EXPRESSIONS, BODY_COLUMNS, Array, Motion, PathLike, Sound, Waveform

if TYPE_CHECKING:
    from triportrait.media.pcm import Samples

#: Rows in which a face goes over from the photo's into what is spoken: 0.6 s.
_GROWN_ROWS = 15
_JAW = ARKIT_EXPRESSIONS.index("jawOpen")
_LIDS = [index for index, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith("eyeBlink")]
#: Logarithm of scale per decimetre by which breath lifts the shoulders, as in :mod:`triportrait.motion.natural`.
_NEARER_PER_RISE = 0.15
#: Curves that ``mouth_gain`` scales.
_MOUTH = [index for index, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith(("jaw", "mouth", "tongue"))]
#: Settings of a voice that codes have no handle for.
_FOREIGN = ("expressiveness", "controls")


class LearnedMotion:
    """A face that listens and moves in a style, see :class:`triportrait.motion.audio.ListeningFace`.

    Lips touch, and the lower lip meets the teeth, where the shipped voice network hears it, and they rest in pauses: codes alone do not do
    so dependably. Blinks, saccades and breath are those of natural motion: they are events that no code of 80 ms keeps.

    Args:
        model: the networks.
        style: float32 [s]; zeros for none.
        settings: the seed, and all controls but those of brows.
    """

    def __init__(self, model: ErlnetModel, style: Array, settings: AudioSettings) -> None:
        self._hearing, self._pauses = Hearing(), PauseFinder()
        self._natural = NaturalMotion(settings.controls, seed=settings.seed, curves=settings.curves)
        self._controls, self._track = settings.controls, ControlTrack(settings.controls, settings.curves)
        self._streams = [
            PartStream(model.parts[part.name], style, settings.controls.temperature, np.random.default_rng([settings.seed, number]))
            for number, part in enumerate(PARTS)
        ]
        # Codes of a pose jump from token to token by more than a head does.
        self._joined = Joined(self._streams[PARTS.index(POSE)].frames, POSE.size)
        self._rows = [np.zeros((0, part.size), np.float32) for part in PARTS]
        # What the lips are to touch, a row each: one another, and the teeth.
        self._touches = np.zeros((0, 2), np.float32)
        self._done = 0

    def hear(self, samples: Array) -> None:
        """Take the next samples [n] at 16 kHz."""
        heard, prosody = self._hearing.push(samples)
        self._follow(prosody)
        self._listen(heard)

    def end(self) -> None:
        """No more sound will come."""
        heard, prosody = self._hearing.finish()
        self._follow(prosody)
        self._pauses.end()
        self._natural.end()
        self._listen(heard)
        expression, pose = (stream.finish() for stream in self._streams)
        self._append(expression, np.concatenate([self._joined.push(pose), self._joined.finish()]))

    def _follow(self, prosody: Prosody) -> None:
        self._pauses.hear(prosody)
        self._natural.hear(prosody)

    def _listen(self, heard: Array) -> None:
        self._touches = np.concatenate([self._touches, heard[:, [self._hearing.contact, self._hearing.teeth]]])
        expression, pose = (stream.push(heard) for stream in self._streams)
        self._append(expression, self._joined.push(pose))

    def _append(self, *made: Array) -> None:
        self._rows = [np.concatenate([rows, more]) for rows, more in zip(self._rows, made, strict=True)]

    def take(self, most: int | None = None) -> Motion:
        """The rows that are determined, about a second behind the sound; of no more than ``most`` of them."""
        count = min(*map(len, self._rows), len(self._touches), self._pauses.ready)
        natural = self._natural.advance(count if most is None else min(count, most))
        count = len(natural)
        expression, pose = (rows[:count].copy() for rows in self._rows)
        (contact, teeth), pause = self._touches[:count].T, self._pauses.rows(count)
        self._rows, self._touches = [rows[count:] for rows in self._rows], self._touches[count:]
        grown = smooth_step(np.clip(np.arange(self._done, self._done + count) / _GROWN_ROWS, 0.0, 1.0))[:, None].astype(np.float32)
        pose *= self._controls.head_motion
        expression[:, _MOUTH] *= self._controls.mouth_gain
        expression[:, _JAW] *= 1.0 - pause
        motion = motion_of_rows(grown * expression, grown * pose)
        motion = self._with_events(motion, natural)
        touching = lip_to_teeth(motion.expression, ARKIT_EXPRESSIONS, ramp(teeth, TEETH_FROM, TEETH_TO) * (1.0 - pause))
        shut = np.maximum(ramp(contact, CONTACT_FROM, CONTACT_TO), pause)
        closed = close_lips(touching, ARKIT_EXPRESSIONS, shut, jaw_share=0.0)
        emotions = self._track.emotions(self._done, count)
        self._done += count
        return motion.with_rows(expression=with_emotion(closed, emotions))

    def _with_events(self, motion: Motion, natural: Motion) -> Motion:
        """Blinks, saccades and breath of natural motion; the eyes counter the turns of this head instead of that one's."""
        expression = motion.expression.copy()
        expression[:, _LIDS] = np.clip(expression[:, _LIDS] + natural.expression[:, _LIDS], 0.0, 1.0)
        turned = (motion.rotation_rad - natural.rotation_rad)[:, :2] * np.array([1.0, -1.0], np.float32)
        body = np.zeros((len(motion), len(BODY_COLUMNS)), np.float32)
        if natural.body is not None:
            # Shoulders that went along with the other head do not: what is left of them rises and comes nearer.
            body[:, 2] = natural.body[:, 2]
            body[:, 1] = natural.body[:, 2] / _NEARER_PER_RISE
        return motion.with_rows(
            expression=expression, gaze_rad=(natural.gaze_rad + self._controls.eye_contact * turned).astype(np.float32), body=body
        )


class LearnedSpeaker(AudioDriver):
    """A voice to motion relative to the portrait, as :class:`AudioDriver` gives it, by the learned manner.

    Args:
        voice, settings: as there.
        model, style: as for :class:`LearnedMotion`.
    """

    def __init__(
        self, voice: Waveform | Iterable[Waveform], settings: AudioSettings | None = None, *, model: ErlnetModel, style: Array | None = None
    ) -> None:
        super().__init__(voice, settings)
        self._manner = model
        self._style = np.zeros(model.style_size, np.float32) if style is None else style

    def _face(self) -> ListeningFace:
        return LearnedMotion(self._manner, self._style, self.settings)


class LearnedManner(VoiceDriver):
    """A voice in the manner of a clip, by networks of 'triportrait train erlnet.manner'; see :class:`triportrait.types.Driver`.

    Args:
        source, rate_hz, tools: as for :class:`VoiceDriver`.
        options: ``style`` is a video or motion file; without one the face speaks in no style in particular.
        weights: folder of the exported networks.

    Raises:
        OptionError: an option that this driver has no handle for, or a style that is no clip.
        WeightsError: the networks are missing, foreign or damaged.
        MediaError, EmptyMedia, MotionFileError: as for :class:`VoiceDriver`; the style's clip is too short.
    """

    def __init__(
        self,
        source: PathLike | Sound | Array | Iterable[Samples | Waveform],
        options: DriveOptions | None = None,
        *,
        weights: Path,
        rate_hz: int | None = None,
        **tools: Unpack[DriverTools],
    ) -> None:
        options = options or DriveOptions()
        check_learned_options(options)
        model = load_erlnet(weights)
        style = None
        if options.style is not None and not isinstance(options.style, SpeakingStyle):
            style = model.style(motion_of_file("--style", os.fspath(options.style), warp=False, **tools))
        super().__init__(source, replace(options, style=None), rate_hz=rate_hz, **tools)
        self.inputs = (*options.files(), *(weights / file for file in FILES.values()))
        self._speaker = partial(LearnedSpeaker, model=model, style=style)


def check_learned_options(options: DriveOptions) -> None:
    """Refuse what this driver has no handle for.

    Raises:
        OptionError: it would be left out silently.
    """
    plain = DriveOptions()
    for name in _FOREIGN:
        if getattr(options, name) != getattr(plain, name):
            raise OptionError(f"--{name.replace('_', '-')} does nothing with --voice-driver erlnet; leave one of them out")
    if isinstance(options.style, SpeakingStyle):
        raise OptionError("--voice-driver erlnet takes its style from a clip; give a video or a motion file")
