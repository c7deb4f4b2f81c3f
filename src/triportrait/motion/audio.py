"""The voice as a driver: mouth curves from the network of :mod:`audio_network`, everything else from natural motion.

Streaming and offline run the same code: what is pending is kept, and every chunk is computed with the context that
the whole would have given it, so that both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from triportrait.concurrency import calm_libraries
from triportrait.errors import MediaError
from triportrait.geometry.fields import smooth_step
from triportrait.motion.amplitude import GAINS, in_group, with_unsaid
from triportrait.motion.controls import ControlCurves, Controls
from triportrait.motion.emotion import with_emotion
from triportrait.motion.lips import TEETH_ROLL, close_lips, gap_weights, lip_to_teeth
from triportrait.motion.natural import NaturalMotion
from triportrait.motion.pauses import PauseFinder
from triportrait.motion.personal_voice import VOICE_GAIN, PersonalVoice
from triportrait.motion.speech_features import RATE_HZ, Prosody, ProsodyTracker
from triportrait.motion.style import SpeakingStyle
from triportrait.motion.timing import join_motion
from triportrait.motion.voice_graph import MouthStream, load_voice
from triportrait.nn.runtime import Graph
from triportrait.types import ARKIT_EXPRESSIONS, Array, Motion, PersonalManner, Waveform


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """What the driver takes besides the sound.

    Args:
        controls: amounts of everything.
        seed: of everything random.
        style: manner of a person (see :func:`triportrait.motion.style.style_of`).
        curves: any of the controls over time; they take the place of the numbers.
        voice: how a person's mouth differs from the network's, from :func:`triportrait.motion.personal_voice.learn_voice`.
    """

    controls: Controls = Controls()
    seed: int = 0
    style: SpeakingStyle | None = None
    curves: ControlCurves | None = None
    voice: Array | None = None

    def of_person(self, manner: PersonalManner) -> AudioSettings:
        """The same with a person's own voice, and their own manner where no other is asked for."""
        style = self.style
        if style is None and manner.style is not None:
            style = SpeakingStyle.from_numbers(manner.style)
        return replace(self, style=style, voice=manner.voice)


def mouth_expression(
    curves: Array,
    contact: Array,
    names: tuple[str, ...],
    opening: float | Array = 1.0,
    shape: float | Array = 1.0,
    added: Array | None = None,
    held: Array | None = None,
    around: tuple[Array, Array] | None = None,
) -> Array:
    """The network's rows as full expression rows, lips brought together where it is sure of a contact: [t, 44].

    Args:
        opening: gain of all curves but those of ``shape``, a number or [t].
        shape: factor on the gains of rounding and spreading (:mod:`triportrait.motion.amplitude`), a number or [t].
        added: [t], openings in face heights by which the jaw goes farther down.
        held: [t, 2], how surely a vowel is held and how far the lips then stand apart at least, in face heights
            (:mod:`triportrait.motion.held_vowels`).
        around: :func:`touches` [2] of the rows before and after; None: there are none.
    """
    gains = np.repeat(np.reshape(np.asarray(opening, np.float32), (-1, 1)), len(names), 1)
    for group in ("rounding", "spreading"):
        columns = in_group(names, group)
        gains[:, columns] = GAINS[group] * np.reshape(np.asarray(shape, np.float32), (-1, 1))
    expression = np.zeros((len(curves), len(ARKIT_EXPRESSIONS)), np.float32)
    expression[:, [ARKIT_EXPRESSIONS.index(name) for name in names]] = np.clip(curves * gains, 0.0, 1.0)
    # No sound rolls the lower lip in farther than the teeth, where it would be gone.
    roll = ARKIT_EXPRESSIONS.index("mouthRollLower")
    expression[:, roll] = np.minimum(expression[:, roll], TEETH_ROLL)
    if added is not None:
        jaw = ARKIT_EXPRESSIONS.index("jawOpen")
        expression[:, jaw] = np.minimum(expression[:, jaw] + added / gap_weights(ARKIT_EXPRESSIONS)[jaw], 1.0)
    if held is not None:
        gaps = gap_weights(ARKIT_EXPRESSIONS)
        jaw = ARKIT_EXPRESSIONS.index("jawOpen")
        missing = np.maximum(held[:, 1] - expression @ gaps, 0.0) * held[:, 0]
        expression[:, jaw] = np.minimum(expression[:, jaw] + missing / gaps[jaw], 1.0)
        contact = contact * (1.0 - held[:, 0])
    touch = eased(touches(curves, contact, names), *(around or (np.zeros(2), np.zeros(2))))
    expression = lip_to_teeth(expression, ARKIT_EXPRESSIONS, touch[:, 1])
    return close_lips(expression, ARKIT_EXPRESSIONS, touch[:, 0], jaw_share=0.0)


def touches(curves: Array, contact: Array, names: tuple[str, ...]) -> Array:
    """How far lips touch each other, and the lower one the teeth, in each of the network's rows by itself: [t, 2] in 0..1."""
    teeth = curves[:, names.index("mouthRollLower")] if "mouthRollLower" in names else np.zeros(len(curves))
    return np.stack([ramp(contact, CONTACT_FROM, CONTACT_TO), ramp(teeth, TEETH_FROM, TEETH_TO)], axis=1)


def eased(touch: Array, before: Array, after: Array) -> Array:
    """:func:`touches` [t, 2] in which the lower lip does not jump to the teeth or from them: it takes two rows of 40 ms to roll in.

    Lips that touch each other are left as they are: the network's opening is small beside a contact anyway.

    Args:
        before, after: [2] of the rows around them.
    """
    teeth = np.concatenate([before[None, 1], touch[:, 1], after[None, 1]])
    return np.stack([touch[:, 0], np.maximum(touch[:, 1], 0.5 * np.maximum(teeth[:-2], teeth[2:]))], axis=1)


def ramp(values: Array, low: float, high: float) -> Array:
    """0 up to ``low``, 1 from ``high``, smooth between."""
    return smooth_step(np.clip((values - low) / (high - low), 0.0, 1.0))


#: Contact probabilities between which lips are brought together.
CONTACT_FROM, CONTACT_TO = 0.085, 0.33

#: The curve mouthRollLower between which the lower lip is brought to the teeth. The network gives the mean of what may
#: come, 0.45 times the probability of a contact.
TEETH_FROM, TEETH_TO = 0.02, 0.055


class ListeningFace(Protocol):
    """What turns sound into motion as it comes in."""

    def hear(self, samples: Array) -> None:
        """Take the next samples [n] at 16 kHz."""
        ...

    def end(self) -> None:
        """No more sound will come."""
        ...

    def take(self, most: int | None = None) -> Motion:
        """The rows that are determined; of no more than ``most`` of them."""
        ...


class VoiceMotion:
    """A face that listens as sound comes in: mouth from the network; blinks, brows, gaze and head from :class:`NaturalMotion`.

    Args:
        settings: see :class:`AudioSettings`.
        model: of :func:`triportrait.motion.voice_graph.load_voice`.
    """

    def __init__(self, settings: AudioSettings, model: Graph) -> None:
        self._model = model
        self._names = model.config["curves"]
        self._mouth, self._prosody, self._pauses = MouthStream(model), ProsodyTracker(), PauseFinder()
        self._natural = NaturalMotion(settings.controls, seed=settings.seed, curves=settings.curves, style=settings.style)
        manner = None if settings.style is None else settings.style.manner
        self._match = None if manner is None else manner.mouth_match()
        self._own = None if settings.voice is None else PersonalVoice(settings.voice)
        # Mouth rows whose natural motion is not determined yet, and how the person's own voice changes them.
        self._curves, self._contact = np.zeros((0, len(self._names)), np.float32), np.zeros(0, np.float32)
        self._gains, self._added = np.zeros(0, np.float32), np.zeros(0, np.float32)
        self._touched, self._ended = np.zeros(2), False

    def hear(self, samples: Array) -> None:
        """Take the next samples [n] at 16 kHz."""
        if self._own is not None:
            self._own.push(samples)
        self._wait(*self._mouth.push(samples))
        self._follow(self._prosody.push(samples))

    def end(self) -> None:
        """No more sound will come."""
        if self._own is not None:
            self._own.finish()
        self._wait(*self._mouth.finish())
        self._follow(self._prosody.finish())
        self._natural.end()
        self._pauses.end()
        self._ended = True

    def take(self, most: int | None = None) -> Motion:
        """The rows that are determined, at most about 0.3 s behind the sound; of no more than ``most`` of them."""
        # The lower lip begins to roll in before it is at the teeth: the row after the last one must be known.
        count = max(min(len(self._curves) - (not self._ended), self._pauses.ready), 0)
        motion = self._natural.advance(count if most is None else min(count, most))
        rows = len(motion)
        # Who has a voice of their own opens the mouth as was learned from them.
        known = GAINS["opening"] if self._own is None else VOICE_GAIN * self._gains[:rows]
        gains = self._natural.mouth_gains
        talk = (1.0 - self._pauses.rows(rows))[:, None]
        noise = talk * np.minimum(gains, 1.0)[:, None] * self._natural.unsaid
        spoken = talk * self._spoken(known, gains)
        if self._match is not None:
            spoken = self._match.rested(talk * self._spoken(known, gains * self._match.gains(spoken)))
        spoken = with_unsaid(spoken, ARKIT_EXPRESSIONS, noise)
        if rows:
            self._touched = touches(self._curves[rows - 1 : rows], self._contact[rows - 1 : rows], self._names)[0]
        self._curves, self._contact = self._curves[rows:], self._contact[rows:]
        self._gains, self._added = self._gains[rows:], self._added[rows:]
        expression = np.clip(self._changed(spoken) + motion.expression, 0.0, 1.0)
        return motion.with_rows(expression=with_emotion(expression, self._natural.emotions))

    def _spoken(self, opening: float | Array, gains: Array) -> Array:
        rows = len(gains)
        held = self._natural.held * np.stack([np.ones_like(gains), gains], axis=1)
        curves, contact, added = self._curves[:rows], self._contact[:rows], self._added[:rows]
        following = touches(self._curves[rows : rows + 1], self._contact[rows : rows + 1], self._names)
        around = self._touched, following[0] if len(following) else np.zeros(2)
        return mouth_expression(curves, contact, self._names, gains * opening, gains, added, held, around)

    def _changed(self, spoken: Array) -> Array:
        """What the mouth says, rows [t, 44] in order; for those who let it say something else."""
        return spoken

    def _follow(self, heard: Prosody) -> None:
        self._natural.hear(heard)
        self._pauses.hear(heard)

    def _wait(self, curves: Array, opening: Array, contact: Array) -> None:
        unchanged = np.ones(len(curves), np.float32), np.zeros(len(curves), np.float32)
        self._append(curves, contact, *(unchanged if self._own is None else self._own.change(curves, opening, contact)))

    def _append(self, curves: Array, contact: Array, gains: Array, added: Array) -> None:
        """Rows of the mouth that come next."""
        self._curves, self._contact = np.concatenate([self._curves, curves]), np.concatenate([self._contact, contact])
        self._gains, self._added = np.concatenate([self._gains, gains]), np.concatenate([self._added, added])


class AudioDriver:
    """A voice as a driver: mouth from the network; blinks, brows, gaze and head from :class:`NaturalMotion`.

    Args:
        voice: the sound, or blocks of it (all of one rate, any length).
        settings: see :class:`AudioSettings`.
        model: another network than the embedded one.
    """

    def __init__(
        self,
        voice: Waveform | Iterable[Waveform],
        settings: AudioSettings | None = None,
        model: Graph | None = None,
    ) -> None:
        self._voice = voice
        self.settings = settings or AudioSettings()
        self._model = model or load_voice()

    def chunks(self) -> Iterator[Motion]:
        """Motion as the sound comes in; at most about 0.3 s behind it. Memory does not grow with length.

        Raises:
            MediaError: the voice has no samples, or its blocks change their rate.
        """
        with calm_libraries():
            yield from self._chunks()

    def _chunks(self) -> Iterator[Motion]:
        face, heard = self._face(), 0
        for samples in self._blocks():
            heard += len(samples)
            face.hear(samples)
            if len(chunk := face.take()):
                yield chunk
        if not heard:
            raise MediaError("the voice has no sound; give a recording that is longer than 0 s")
        face.end()
        if len(chunk := face.take()):
            yield chunk

    def _face(self) -> ListeningFace:
        """Who listens; for those who let another one do so."""
        return VoiceMotion(self.settings, self._model)

    def motion(self) -> Motion:
        """All chunks in one, relative to the portrait's own pose (the first row's rotation, translation and gaze are zero)."""
        parts = list(self.chunks())
        return join_motion(parts)

    def _blocks(self) -> Iterator[Array]:
        """16 kHz blocks of at most ten seconds; resampling keeps its state from block to block."""
        blocks = (self._voice,) if isinstance(self._voice, Waveform) else self._voice
        resampler, rate = None, None
        for block in blocks:
            if rate is None:
                rate = block.rate_hz
                if rate != RATE_HZ:
                    import soxr

                    resampler = soxr.ResampleStream(rate, RATE_HZ, 1, dtype="float32")
            elif block.rate_hz != rate:
                raise MediaError(f"the voice changes from {rate} to {block.rate_hz} Hz; give blocks of one rate")
            for start in range(0, len(block.samples), 10 * rate):
                samples = np.nan_to_num(np.asarray(block.samples[start : start + 10 * rate], np.float32))
                if resampler is not None:
                    samples = resampler.resample_chunk(samples)
                yield samples
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
