"""Natural motion that no network has to learn: blinks, gaze, brows and the head, random but seeded, never periodic,
in step with the voice.

Rows come out in order and any chunking gives the same numbers, because every process draws from its own generator at
fixed rows and looks at most 160 ms ahead. Kinds, timing and rates follow the literature:

* Blinks: A. R. Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", 1997 (17 per minute at rest,
  26 in conversation, log-normal); S. VanderWerf et al., "Eyelid movements", 2003 (closing about 0.1 s, opening about
  0.2 s). Speaking itself adds blinks: M. Brych et al., "How the motor aspect of speaking influences the blink rate",
  2021; they gather at the ends of phrases: T. Nakano and S. Kitazawa, "Eyeblink entrainment at breakpoints of speech",
  2010; and go with large shifts of gaze: C. Evinger et al., "Not looking while leaping", 1994.
* Head: U. Hadar et al., "Kinematics of head movements accompanying speech during conversation", 1983 (speakers move
  their heads most of the time, listeners rarely; slow, ordinary (1.8 to 3.7 Hz) and rapid movements; fast small ones
  go with stress, new postures with new phrases); H. P. Graf et al., "Visual prosody: facial movements accompanying
  speech", 2002 (nods, nods with overshoot and abrupt swings mark accents and phrase boundaries); H. Yehia et al.,
  "Linking facial animation, head motion and speech acoustics", 2002 (the head follows the fundamental frequency);
  K. Munhall et al., "Visual prosody and speech intelligibility", 2004.
* Gaze: S. Lee, J. Badler and N. Badler, "Eyes Alive", 2002 (fixations of about a second, small saccades most
  frequent, looking away rather at a phrase's beginning and while thinking); the eyes counter the head's turns
  (vestibulo-ocular reflex), which is what looks like eye contact, and lead the head when both go elsewhere.
* Brows rise with pitch accents and stay up or down over phrases: C. Cave et al., "About the relationship between
  eyebrow movements and F0 variations", 1996; M. Flecha-Garcia, "Eyebrow raises in dialogue and their relation to
  discourse structure, utterance function and pitch accents in English", 2010.

Sizes are those of lively speakers on video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.motion.amplitude import UNSAID, UNSAID_HZ
from triportrait.motion.arousal import Arousal
from triportrait.motion.controls import NAMES, ControlCurves, Controls, control_rows
from triportrait.motion.emotion import EMOTIONS, MANNERS, with_emotion
from triportrait.motion.held_vowels import HeldVowels
from triportrait.motion.processes import Breath, Drift, Follower
from triportrait.motion.speech_features import Prosody
from triportrait.motion.style import NATURAL_STYLE, SpeakingStyle
from triportrait.motion.voice_controls import BLINKS_AT_REST_PER_MINUTE, BLINKS_PER_MINUTE
from triportrait.types import ARKIT_EXPRESSIONS, BODY_COLUMNS, Array, Motion

#: Prosody rows per second.
_PROSODY_HZ = 100.0

#: Motion rows that the accent detector looks ahead.
_AHEAD = 3

#: About where the head turns on the neck, in decimetres of head space: at the skull's joint, far behind the face. On 34 clips of GRID, 11
#: speakers, a radian of yaw takes the head .76 sideways, and one of pitch .54 down.
NECK_PIVOT_DM = np.array([0.0, -0.9, -0.7])

#: How far the mouth's corners drift, whatever is said: smile, frown, dimple and sideways. On ten speakers of GRID, who read commands, what
#: is slower than 2 Hz deviates by .07, .04, .04 and .03, and the smiles of nine who talk by .18; this lies between them. Curves end at
#: zero, which takes a quarter of it.
_CORNERS, _CORNERS_HZ = np.array([0.16, 0.09, 0.07]) / 0.77, 0.35
_SIDEWAYS, _ONE_SIDED = 0.06, 0.3
#: Who talks moves the head farther, and the brows, than the sizes below make it: means of nine videos. A manner has sizes of its own.
_TALKING_HEAD, _TALKING_BROWS = 1.25, 1.65
#: Bounds of pitch, yaw, roll in radians at amount 1; reached softly.
HEAD_LIMITS_RAD = np.radians([9.5, 17.0, 11.0])

#: Blinks at rest per blink in conversation.
_AT_REST = BLINKS_AT_REST_PER_MINUTE / BLINKS_PER_MINUTE


#: Shoulders take this share of the head's shift along, and this one of its roll, that slowly.
_CARRIED, _TILTED, _CARRIED_HZ = 0.35, 0.08, 0.6
#: Shoulders rise so far, in decimetres, with a full quiet breath.
_BREATH_DM = 0.035


def blink_shape(since_s: float, close_s: float, hold_s: float, open_s: float) -> float:
    """Lid closure 0..1 at ``since_s`` after a blink's start: fast down, short hold, slower up."""
    if since_s <= 0 or since_s >= close_s + hold_s + open_s:
        return 0.0
    if since_s < close_s:
        return math.sin(0.5 * math.pi * since_s / close_s) ** 2
    if since_s < close_s + hold_s:
        return 1.0
    return smooth_step(1 - (since_s - close_s - hold_s) / open_s)


def _smooth_step(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return value**3 * (10 - 15 * value + 6 * value * value)


class NaturalMotion:
    """A stream of natural motion rows.

    Call :meth:`hear` with prosody as it comes, :meth:`advance` to take the rows that are determined, :meth:`end` when
    the sound is over (rows then go on for as long as asked, idle). Without any prosody call :meth:`end` at once: the
    head idles.

    Args:
        controls: amounts of everything.
        seed: of everything random.
        fps: rows per second.
        curves: controls over time.
        style: whose manner the head, brows, lids and eyes have.
    """

    def __init__(
        self,
        controls: Controls | None = None,
        *,
        seed: int = 0,
        fps: float = 25.0,
        curves: ControlCurves | None = None,
        style: SpeakingStyle | None = None,
    ) -> None:
        self._controls, self._curves = controls or Controls(), curves
        self._style = style or NATURAL_STYLE
        manner = self._style.manner
        self._head_match = None if manner is None else manner.head_match(1.0 / fps)
        self._brow_match = None if manner is None else manner.brow_match()
        self._fps, self._dt = fps, 1.0 / fps
        streams = [np.random.default_rng([seed, number]) for number in range(13)]
        self._drift = Drift(3, 0.2, self._dt, streams[0])
        self._sway = Drift(3, 0.17, self._dt, streams[1])
        self._lively = Drift(3, 1.1, self._dt, streams[7])
        self._mood = Drift(1, 0.12, self._dt, streams[8])
        self._unsaid = Drift(len(UNSAID), UNSAID_HZ, self._dt, streams[11])
        self._corners = Drift(3, _CORNERS_HZ, self._dt, streams[12])
        self._posture_random, self._nod_random, self._blink_random, self._gaze_random, self._brow_random = streams[2:7]
        self._row = 0
        self._ended = False
        # Voice per prosody row that is still needed; ``_voice_start`` is the number of its first row.
        self._energy: list[float] = []
        self._pitch: list[float] = []
        self._held: list[tuple[float, float]] = []
        self._vowels = HeldVowels()
        self._voice_start = 0
        self._rows_heard: dict[int, tuple[float, float]] = {}
        # Voice state.
        self._speaking = 0.0
        self._silent_s = 10.0
        self._unpitched_s = 10.0
        self._mean_pitch = 0.0
        self._arousal = Arousal(self._dt)
        self._lift = 0.0
        self._threshold = 0.35
        self._last_accent_s = -10.0
        self._energy_slow = 0.0
        self._phrase_begins = False
        # Head.
        self._posture, self._beat = np.zeros(3), np.zeros(3)
        self._slow, self._quick = Follower(3, self._dt), Follower(3, self._dt)
        self._posture_rate_hz = 0.5
        self._breath = Breath(self._dt, streams[10])
        self._carried = Follower(3, self._dt)
        self._next_posture_s = float(self._posture_random.uniform(0.8, 2.5))
        self._nods: list[tuple[float, float, float, float, Array]] = []
        # Lids, gaze, brows.
        self._blinks: list[tuple[float, float, float, float, float]] = []
        self._last_blink_s = -1.0
        self._due = 0.0
        self._next_due = self._draw_due() * 0.6
        self._shift = 0.0
        self._gaze, self._gaze_from = np.zeros(2), np.zeros(2)
        self._saccade_start_s = -1.0
        self._next_saccade_s = float(self._gaze_random.uniform(0.5, 1.5))
        self._averted = False
        self._raises: list[tuple[float, float, float, float]] = []
        self._brow_level, self._brow = np.zeros(2), Follower(2, self._dt)
        self._next_brow_s = 1.0
        self._brow_drift = Drift(2, 0.3, self._dt, streams[9])
        #: Emotion weights [k, 4] of the rows that :meth:`advance` gave last.
        self.emotions = np.zeros((0, len(EMOTIONS)), np.float32)
        #: Mouth gains [k] of these rows.
        self.mouth_gains = np.zeros(0, np.float32)
        #: How surely a vowel is held in these rows, 0..1, and how far the lips then stand apart in face heights: [k, 2].
        self.held = np.zeros((0, 2), np.float32)
        #: Noise [k, 3] of what the voice does not tell of the mouth in these rows, for :func:`triportrait.motion.amplitude.with_unsaid`.
        self.unsaid = np.zeros((0, len(UNSAID)), np.float32)

    # --- the voice
    # -------------------------------------------------------------------------------------------------------------------

    def hear(self, prosody: Prosody) -> None:
        """Take the next prosody rows."""
        self._energy.extend(prosody.energy_db.tolist())
        self._pitch.extend(prosody.pitch_hz.tolist())
        self._held.extend(self._vowels.follow(prosody))

    def take_back(self, count: int) -> None:
        """The last ``count`` prosody rows were never heard: others come in their place. Rows that were given stay."""
        kept = max(len(self._energy) - count, 0)
        del self._energy[kept:], self._pitch[kept:], self._held[kept:]
        self._rows_heard = {row: voice for row, voice in self._rows_heard.items() if row < self._row}

    def set_controls(self, controls: Controls) -> None:
        """Other amounts from the next row on."""
        self._controls = controls

    def end(self) -> None:
        """No more prosody will come."""
        self._ended = True

    def _voice(self, row: int) -> tuple[float, float]:
        """Loudest energy (dB) and median pitch (Hz, 0 = none) of motion row ``row``."""
        known = self._rows_heard.get(row)
        if known is None:
            known = self._rows_heard[row] = self._measure(row)
            self._rows_heard.pop(row - 16, None)
        return known

    def _measure(self, row: int) -> tuple[float, float]:
        step = _PROSODY_HZ / self._fps
        first = max(int((row - 0.5) * step) - self._voice_start, 0)
        last = int((row + 0.5) * step) - self._voice_start
        # Before the first row there was nothing.
        energy = self._energy[first : max(last + 1, 0)]
        if not energy:
            return -60.0, 0.0
        pitch = sorted(value for value in self._pitch[first : max(last + 1, 0)] if value > 0)
        return max(energy), pitch[len(pitch) // 2] if pitch else 0.0

    def _vowel(self, row: int) -> tuple[float, float]:
        """Share and opening of what is held in motion row ``row`` and as far after it as is known without waiting."""
        step = _PROSODY_HZ / self._fps
        first = int(row * step) - self._voice_start
        rows = self._held[max(first, 0) : max(first + int(_AHEAD * step), 0)]
        shares = sum(share for share, _ in rows)
        return (shares / len(rows), sum(share * opening for share, opening in rows) / shares) if shares > 0 else (0.0, 0.0)

    def _forget(self) -> None:
        keep = int((self._row - 4) * _PROSODY_HZ / self._fps) - self._voice_start
        if keep > 1000:
            del self._energy[:keep], self._pitch[:keep], self._held[:keep]
            self._voice_start += keep

    # --- rows
    # ------------------------------------------------------------------------------------------------------------------------

    def advance(self, limit: int) -> Motion:
        """The next rows that are determined, ``limit`` at most. Emotions are not in them yet: see :attr:`emotions`."""
        count = limit
        if not self._ended:
            heard = self._voice_start + len(self._energy)
            ready = int((heard - 1) * self._fps / _PROSODY_HZ - 0.5) - _AHEAD
            count = max(0, min(limit, ready - self._row))
        expression = np.zeros((count, len(ARKIT_EXPRESSIONS)), np.float32)
        rotation, translation, gaze, body = (np.zeros((count, width)) for width in (3, 3, 2, len(BODY_COLUMNS)))
        emotions, gains = np.zeros((count, len(EMOTIONS)), np.float32), np.ones(count, np.float32)
        held, unsaid = (np.zeros((count, width), np.float32) for width in (2, len(UNSAID)))
        table = control_rows(self._controls, self._curves, self._row, count)
        for index in range(count):
            now_s = self._row * self._dt
            amounts = self._amounts(table[index], now_s, emotions[index])
            gains[index] = amounts.mouth_gain
            held[index] = self._vowel(self._row)
            accent = self._listen(now_s)
            rotation[index], translation[index] = self._head(now_s, accent, amounts)
            # Turning on the neck moves the head's centre too.
            translation[index] += NECK_PIVOT_DM - matrix_from_euler(rotation[index]) @ NECK_PIVOT_DM
            body[index] = self._body(now_s, rotation[index], translation[index], amounts)
            self._lids(now_s, expression[index], amounts)
            gaze[index] = self._eyes(now_s, rotation[index], amounts)
            self._brows(now_s, accent, expression[index], amounts)
            self._mouth_corners(now_s, expression[index], amounts)
            unsaid[index] = self._unsaid.step() * amounts.chance * self._speaking * _smooth_step(now_s / 0.5)
            self._row += 1
        self._forget()
        self.emotions, self.mouth_gains, self.held, self.unsaid = emotions, gains, held, unsaid
        return Motion(
            np.clip(expression, 0.0, 1.0),
            rotation.astype(np.float32),
            translation.astype(np.float32),
            gaze.astype(np.float32),
            fps=self._fps,
            body=body.astype(np.float32),
        )

    def _amounts(self, controls: Array, now_s: float, emotion: Array) -> _Amounts:
        """Controls, style and emotion of one row in one; the emotion's weights are written to ``emotion``."""
        value = dict(zip(NAMES, controls.tolist(), strict=True))
        # An emotion is never frozen, and grows in the first half second out of the photograph.
        breath = (1.0 + 0.12 * math.tanh(float(self._mood.step()[0])) * min(value["temperature"], 1.0)) * _smooth_step(now_s / 0.6)
        weights = [min(value[name] * breath, 1.0) for name in EMOTIONS]
        emotion[:] = weights
        share = max(sum(weights), 1.0)
        felt = [(weight / share, MANNERS[name]) for weight, name in zip(weights, EMOTIONS, strict=True) if weight > 0]

        def manner(name: str, neutral: float = 1.0) -> float:
            return neutral + sum(weight * (getattr(how, name) - neutral) for weight, how in felt)

        style = self._style
        is_factor = style.manner is None
        # One number for all that shows it: who is excited moves head and brows more, and blinks and looks about more often.
        excited = math.exp(value["arousal"] * self._arousal.level)
        return _Amounts(
            mouth_gain=value["mouth_gain"] * manner("mouth_gain") * (style.mouth_gain if is_factor else 1.0),
            expressiveness=value["expressiveness"] * manner("expressiveness") * excited**0.8,
            brows=style.brow_gain if is_factor else 1.0,
            head=value["head_motion"] * manner("head_motion") * excited**0.5 * np.array(style.head_gain if is_factor else (1.0, 1.0, 1.0)),
            head_rate=manner("head_rate") * style.head_rate,
            pitch_rad=manner("pitch_rad", 0.0) * min(value["head_motion"], 1.0),
            blinks_per_s=value["blinks_per_minute"] * manner("blink_rate") * style.blink_rate * excited**0.3 / 60.0,
            gaze=value["gaze_motion"] * style.gaze_gain * excited**0.3,
            gaze_pitch_rad=manner("gaze_pitch_rad", 0.0) * min(value["gaze_motion"], 1.0),
            eye_contact=min(value["eye_contact"] * style.eye_contact, 1.0),
            chance=value["temperature"],
            smile=style.smile if is_factor else 0.0,
        )

    def _listen(self, now_s: float) -> float:
        """Follow the voice to this row; the strength 0..1 of an accent that begins here, 0 = none."""
        energy, pitch = self._voice(self._row)
        aside = 12 * math.log2(pitch / self._mean_pitch) if pitch > 0 and self._mean_pitch > 0 else 0.0
        # An octave error is no excitement.
        self._arousal.step(energy, aside, pitch > 0 and abs(aside) < 9)
        self._unpitched_s = 0.0 if pitch > 0 else self._unpitched_s + self._dt
        # Noise is loud, too, but nobody speaks for long without a voice.
        voiced = energy > -22.0 and self._unpitched_s < 0.6
        self._phrase_begins = voiced and self._silent_s > 0.22
        self._silent_s = 0.0 if voiced else self._silent_s + self._dt
        self._speaking += ((1.0 if self._silent_s < 0.3 else 0.0) - self._speaking) * self._dt / 0.25
        loudness = min(max((energy + 30.0) / 30.0, 0.0), 1.0)
        self._energy_slow += (loudness - self._energy_slow) * self._dt / 0.15
        lift = 0.0
        if pitch > 0:
            if self._mean_pitch == 0:
                self._mean_pitch = pitch
            lift = 12 * math.log2(pitch / self._mean_pitch)
            # An octave error is no accent.
            if abs(lift) < 9:
                self._mean_pitch += (pitch - self._mean_pitch) * self._dt / 3.0
            else:
                lift = 0.0
                self._mean_pitch += (pitch - self._mean_pitch) * self._dt / 12.0
            self._lift += (lift - self._lift) * self._dt / 0.12
        else:
            self._lift -= self._lift * self._dt / 0.4
        around = [self._voice(self._row + step)[0] for step in (-3, -2, -1, 1, 2, 3)]
        if energy < -14.0 or pitch == 0 or energy < max(around) or now_s - self._last_accent_s < 0.25:
            return 0.0
        strength = 0.55 * min(max((energy + 14.0) / 14.0, 0.0), 1.0) + 0.45 * min(max(lift / 6.0, 0.0), 1.0)
        # About a third of the syllables stand out: the threshold follows the syllables heard so far.
        self._threshold += 0.1 * ((0.6 if strength > self._threshold else -0.4) * 0.12)
        if strength < self._threshold:
            return 0.0
        self._last_accent_s = now_s
        return min(max(strength, 0.2), 1.0)

    def _head(self, now_s: float, accent: float, amounts: _Amounts) -> tuple[Array, Array]:
        random = self._posture_random
        drift, sway, lively = self._drift.step(), self._sway.step(), self._lively.step()
        chance = amounts.chance
        self._shift = 0.0
        # A new posture at the beginning of most phrases, otherwise now and then.
        begins = self._phrase_begins and now_s > 0.8 and random.random() < 0.7
        if now_s >= self._next_posture_s or begins:
            before = self._posture
            new = random.standard_normal(3) * np.radians([3.2, 9.0, 4.8])
            # A head turned aside leans, too, rather to the same side.
            new[2] += 0.2 * new[1]
            self._posture = new * (0.55 + 0.45 * self._speaking) * chance
            self._shift = float(self._posture[1] - before[1])
            self._posture_rate_hz = float(random.uniform(0.5, 0.95))
            pause = float(np.exp(random.normal(math.log(1.8), 0.5)))
            self._next_posture_s = now_s + 0.5 + pause / amounts.head_rate * (1.0 if self._speaking > 0.5 else 1.8)
        posture = self._slow.step(self._posture, self._posture_rate_hz * amounts.head_rate)

        nod_random = self._nod_random
        if accent > 0:
            # Every accent sends the head a little elsewhere; the next one takes it from there.
            draws = 1.25 * np.tanh(nod_random.standard_normal(3))
            kind, ahead, size, down, up = nod_random.random(5)
            reach = (0.45 + 0.75 * accent) * (0.35 + 0.65 * chance)
            self._beat = 0.25 * self._beat + draws * np.radians([1.7, 8.4, 4.2]) * reach * chance
            if kind < 0.35 + 0.35 * accent:
                axis = np.array([1.0, 0.35 * draws[1], 0.3 * draws[2]])
                angle = math.radians(2.0 + 3.0 * (0.5 + (size - 0.5) * min(chance, 1.0))) * (0.4 + 0.8 * accent) * amounts.expressiveness
                # One nod in six goes up.
                angle *= -0.7 if ahead < 1 / 6 else 1.0
                rebound = 0.3 if kind < 0.2 else 0.0
                self._nods.append((now_s, 0.16 + 0.1 * down, 0.26 + 0.24 * up, rebound, axis * angle))
        elif self._silent_s > 0.35:
            self._beat = self._beat * (1 - self._dt / 0.8)
        beat = self._quick.step(self._beat, 1.45 * amounts.head_rate)
        nod = np.zeros(3)
        for start, down, up, rebound, size in self._nods:
            since = now_s - start
            nod += size * (_smooth_step(since / down) - (1 + rebound) * _smooth_step((since - down) / up))
            nod += size * rebound * _smooth_step((since - down - up) / (1.2 * up))
        self._nods = [row for row in self._nods if now_s - row[0] < row[1] + 2.2 * row[2]]

        liveliness = 0.6 + 0.4 * self._speaking
        rotation = posture + beat + nod + drift * np.radians([1.0, 1.8, 1.3]) * liveliness * chance
        # Speech shakes the head with its loudness: small, quick and in all directions.
        rotation = rotation + lively * np.radians([0.6, 1.1, 0.75]) * (0.15 + 1.2 * self._energy_slow) * self._speaking * chance
        # Up with a rising voice, a little up with a loud one.
        rise = math.radians(0.55 * max(min(self._lift, 6.0), -6.0) + 0.6 * self._energy_slow)
        rotation[0] -= rise * self._speaking * amounts.expressiveness
        limits = HEAD_LIMITS_RAD
        rotation = limits * np.tanh((_TALKING_HEAD if self._head_match is None else 1.0) * rotation / limits)
        if self._head_match is not None:
            rotation = self._head_match.matched(rotation)
        rotation = amounts.head * rotation
        rotation[0] += amounts.pitch_rad
        # Breathing and swaying move the head by some millimetres; a speaker leans about a little more.
        shift = amounts.head * np.array([0.12, 0.08, 0.12]) * (0.6 + 0.4 * self._speaking) * np.tanh(sway / 1.5) * chance
        # The first half second grows out of the portrait's own pose, which is row 0.
        grow = _smooth_step(now_s / 0.5)
        return rotation * grow, shift * grow

    def _body(self, now_s: float, rotation: Array, translation: Array, amounts: _Amounts) -> Array:
        """Shoulders that breathe, and lag behind their head: x, y, log scale, roll."""
        depth = self._breath.step(self._speaking > 0.5, self._silent_s) * min(float(np.mean(amounts.head)), 1.0)
        aim = np.array([translation[0], translation[1], rotation[2]]) * (_CARRIED, _CARRIED, _TILTED)
        carried = self._carried.step(aim, _CARRIED_HZ)
        grow = _smooth_step(now_s / 0.5)
        lifted = grow * depth * _BREATH_DM
        return np.array([carried[0], carried[1] + lifted, 0.15 * lifted, carried[2]])

    def _draw_due(self) -> float:
        """Expected blinks until the next one: log-normal, mean 1."""
        return max(float(np.exp(self._blink_random.normal(-0.18, 0.6))), 0.2)

    def _lids(self, now_s: float, expression: Array, amounts: _Amounts) -> None:
        random = self._blink_random
        rate = amounts.blinks_per_s * (_AT_REST + (1.0 - _AT_REST) * self._speaking)
        self._due += rate * self._dt
        # A phrase just ended, or the head goes elsewhere: people blink then, which takes the place of a blink that was
        # half due.
        ended = abs(self._silent_s - 0.2) < self._dt / 2 and now_s > 1.0
        turned = abs(self._shift) > 0.12
        chance = random.random() if ended or turned else 1.0
        soon = chance < 0.6 and self._due > 0.25 * self._next_due and rate > 0
        if now_s - self._last_blink_s > 0.5 and (self._due >= self._next_due or soon) and rate > 0:
            close, hold, opening = random.uniform(0.08, 0.11), random.uniform(0.04, 0.06), random.uniform(0.16, 0.24)
            size = float(random.uniform(0.92, 1.0))
            self._blinks.append((now_s, float(close), float(hold), float(opening), size))
            if random.random() < 0.07:
                later = now_s + float(close + hold + opening + random.uniform(0.05, 0.15))
                self._blinks.append((later, float(close), float(hold), float(opening), size))
            self._last_blink_s = now_s
            self._due, self._next_due = 0.0, self._draw_due()
        closed = max((size * blink_shape(now_s - at, c, h, o) for at, c, h, o, size in self._blinks), default=0.0)
        self._blinks = [row for row in self._blinks if now_s - row[0] < row[1] + row[2] + row[3]]
        _raise(expression, "eyeBlink", closed)
        _raise(expression, "browDown", 0.06 * closed)
        _raise(expression, "cheekSquint", 0.08 * closed)
        _raise(expression, "mouthSmile", amounts.smile * _smooth_step(now_s / 0.6))

    def _eyes(self, now_s: float, rotation: Array, amounts: _Amounts) -> Array:
        random = self._gaze_random
        turned = abs(self._shift) > 0.09
        if now_s >= self._next_saccade_s or turned:
            self._gaze_from = self._gaze.copy()
            away = random.random()
            # Looking away: rare, rather in pauses or with a turn of the head, and always back afterwards.
            avert = not self._averted and away < (0.35 if turned else 0.05 if self._speaking > 0.5 else 0.12)
            self._averted = avert
            side = 1.0 if random.random() < 0.5 else -1.0
            if avert:
                if turned:
                    side = math.copysign(1.0, self._shift)
                self._gaze = np.radians([random.normal(0.5, 3.0), side * random.uniform(4.0, 10.0)])
                wait = float(random.uniform(0.5, 1.3))
            else:
                self._gaze = np.radians(random.standard_normal(2) * [0.8, 1.5])
                wait = float(np.clip(np.exp(random.normal(math.log(0.9), 0.6)), 0.2, 4.0))
            self._saccade_start_s = now_s
            self._next_saccade_s = now_s + wait
        # A saccade of a few degrees lasts 30 to 50 ms.
        done = _smooth_step((now_s - self._saccade_start_s + self._dt) / 0.06)
        gaze = (self._gaze_from + (self._gaze - self._gaze_from) * done) * amounts.gaze * min(amounts.chance, 1.5)
        # Head down (positive pitch) is countered by eyes up (positive).
        gaze = gaze + amounts.eye_contact * np.array([rotation[0], -rotation[1]])
        gaze[0] += amounts.gaze_pitch_rad * _smooth_step(now_s / 0.6)
        return np.zeros(2) if self._row == 0 else gaze

    def _brows(self, now_s: float, accent: float, expression: Array, amounts: _Amounts) -> None:
        random = self._brow_random
        drift = self._brow_drift.step()
        chance = amounts.chance
        if accent > 0:
            draw, size, rise, hold = random.random(4)
            if draw < 0.12 + 0.5 * accent:
                height = (0.42 + 0.42 * (size - 0.5) * min(chance, 1.0)) * (0.6 + 0.6 * accent)
                self._raises.append((now_s, 0.12 + 0.08 * rise, 0.1 + 0.35 * hold, height))
        # Over phrases brows stay somewhat up, or down, or at rest.
        if (self._phrase_begins and now_s > 0.8) or now_s >= self._next_brow_s:
            lift, frown = random.normal(0.04, 0.42), random.normal(-0.04, 0.28)
            lively = (0.25 + 0.75 * self._speaking) * chance
            self._brow_level = np.array([max(lift, 0.0), max(frown, 0.0) if lift < 0.1 else 0.0]) * lively
            self._next_brow_s = now_s + float(np.exp(random.normal(math.log(2.4), 0.5)))
        level = self._brow.step(self._brow_level, 0.8)
        lift = 0.0
        for start, rise, hold, size in self._raises:
            since = now_s - start
            lift = max(lift, size * (_smooth_step(since / rise) - _smooth_step((since - rise - hold) / 0.35)))
        self._raises = [row for row in self._raises if now_s - row[0] < row[1] + row[2] + 0.35]
        inner = max(lift + float(level[0]) + 0.04 * chance * drift[0], 0.0)
        down = max(float(level[1]) - 0.5 * lift + 0.04 * chance * drift[1], 0.0)
        amount = amounts.expressiveness * amounts.brows * _smooth_step(now_s / 0.5)
        match = self._brow_match
        amount *= _TALKING_BROWS if match is None else match.factor(0.9 * inner - down)
        inner, down = _within_reach(amount * inner), _within_reach(amount * down)
        if match is not None:
            match.came_out(0.9 * inner - down)
        # High brows are seen at their outer ends, low raises rather in the middle.
        _raise(expression, "browInnerUp", inner)
        _raise(expression, "browOuterUp", 0.8 * inner)
        _raise(expression, "eyeWide", 0.16 * amount * lift)
        _raise(expression, "browDown", down)

    def _mouth_corners(self, now_s: float, expression: Array, amounts: _Amounts) -> None:
        mood, dimple, aside = self._corners.step() * min(amounts.chance, 1.0) * _smooth_step(now_s / 0.5)
        # A manner has its own smiles.
        if self._style.manner is not None:
            return
        smile, frown, drawn_in = amounts.expressiveness * np.maximum(_CORNERS * (mood, -mood, dimple), 0.0)
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            _raise(expression, f"mouthSmile{side}", smile * max(1.0 + _ONE_SIDED * sign * aside, 0.0))
        _raise(expression, "mouthFrown", frown)
        _raise(expression, "mouthDimple", drawn_in)
        _raise(expression, "mouthLeft" if aside > 0 else "mouthRight", amounts.expressiveness * _SIDEWAYS * abs(aside))


@dataclass(frozen=True, slots=True)
class _Amounts:
    """Everything that scales one row."""

    mouth_gain: float
    expressiveness: float
    brows: float
    head: Array
    head_rate: float
    pitch_rad: float
    blinks_per_s: float
    gaze: float
    gaze_pitch_rad: float
    eye_contact: float
    chance: float
    smile: float


def _within_reach(size: float) -> float:
    """A brow's curve that nears 1 instead of being cut off there."""
    return size if size < 0.6 else 0.6 + 0.4 * math.tanh((size - 0.6) / 0.4)


def _raise(row: Array, name: str, value: float) -> None:
    """Add ``value`` to a curve of ARKit, or to both sides of it."""
    for column in _COLUMNS[name]:
        row[column] += value


def _columns(name: str) -> Sequence[int]:
    sides = ("",) if name in ARKIT_EXPRESSIONS else ("Left", "Right")
    return tuple(ARKIT_EXPRESSIONS.index(name + side) for side in sides)


_RAISED = ("eyeBlink", "eyeWide", "browDown", "browInnerUp", "browOuterUp", "cheekSquint")
_DRIFTING = ("mouthSmile", "mouthSmileLeft", "mouthSmileRight", "mouthFrown", "mouthDimple", "mouthLeft", "mouthRight")
_COLUMNS = {name: _columns(name) for name in (*_RAISED, *_DRIFTING)}


def idle_motion(
    frames: int,
    fps: float = 25.0,
    *,
    controls: Controls | None = None,
    seed: int = 0,
    prosody: Prosody | None = None,
    curves: ControlCurves | None = None,
    style: SpeakingStyle | None = None,
) -> Motion:
    """Natural motion of ``frames`` rows, of a silent person or in step with ``prosody``; the mouth does not speak."""
    natural = NaturalMotion(controls, seed=seed, fps=fps, curves=curves, style=style)
    if prosody is not None:
        natural.hear(prosody)
    natural.end()
    motion = natural.advance(frames)
    return motion.with_rows(expression=with_emotion(motion.expression, natural.emotions))
