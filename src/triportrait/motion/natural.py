"""Natural motion that no network has to learn: blinks, gaze, brows and the head, random but seeded, never periodic,
in step with the voice.

Rows come out in order and any chunking gives the same numbers, because every process draws from its own generator at
fixed rows and looks at most 160 ms ahead. Sources of the statistics:

* Blinks: A. R. Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", 1997 (17 per minute at rest,
  26 in conversation); intervals are close to log-normal; S. VanderWerf et al., "Eyelid movements", 2003 (closing
  about 0.1 s, opening about 0.2 s). Blinks gather at phrase ends: F. Cummins, "Gaze and blinking in dyadic
  conversation", 2012.
* Head: U. Hadar et al., "Kinematics of head movements accompanying speech during conversation", 1983 (speakers move
  their heads most of the time, listeners rarely; fast small movements go with stress); K. Munhall et al., "Visual
  prosody and speech intelligibility", 2004.
* Gaze: S. Lee, J. Badler and N. Badler, "Eyes Alive", 2002 (fixations of about a second, small saccades most
  frequent); the eyes counter the head's turns (vestibulo-ocular reflex), which is what looks like eye contact.
* Brows rise with pitch accents: C. Cave et al., "About the relationship between eyebrow movements and F0 variations",
  1996.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from triportrait.geometry.rotations import matrix_from_euler
from triportrait.motion.speech_features import Prosody
from triportrait.types import ARKIT_EXPRESSIONS, Motion

Array = np.ndarray

#: Prosody rows per second.
_PROSODY_HZ = 100.0

#: Motion rows that the accent detector looks ahead.
_AHEAD = 3

#: About where the skull turns on the neck, in decimetres of head space.
NECK_PIVOT_DM = np.array([0.0, -0.7, -0.3])

#: Bounds of pitch, yaw, roll in radians at amount 1; reached softly.
HEAD_LIMITS_RAD = np.radians([5.5, 8.0, 4.5])


@dataclass(frozen=True, slots=True)
class NaturalSettings:
    """How much of everything.

    Args:
        head_motion: 1 = natural, 0 = still; scales rotation and translation.
        blinks_per_minute: mean rate; 0 turns blinks off.
        gaze_motion: 1 = natural saccades, 0 = none.
        eye_contact: share of the head's turns that the eyes counter, 0..1.
    """

    head_motion: float = 1.0
    blinks_per_minute: float = 22.0
    gaze_motion: float = 1.0
    eye_contact: float = 0.85

    def __post_init__(self) -> None:
        for name in ("head_motion", "blinks_per_minute", "gaze_motion"):
            if not 0 <= getattr(self, name) <= 120:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 up")
        if not 0 <= self.eye_contact <= 1:
            raise ValueError(f"eye_contact is {self.eye_contact}, expected 0 to 1")


#: No head motion, no blinks, eyes at rest.
STILL = NaturalSettings(0.0, 0.0, 0.0, 0.0)


def blink_shape(since_s: float, close_s: float, hold_s: float, open_s: float) -> float:
    """Lid closure 0..1 at ``since_s`` after a blink's start: fast down, short hold, slower up."""
    if since_s <= 0 or since_s >= close_s + hold_s + open_s:
        return 0.0
    if since_s < close_s:
        return math.sin(0.5 * math.pi * since_s / close_s) ** 2
    if since_s < close_s + hold_s:
        return 1.0
    left = 1 - (since_s - close_s - hold_s) / open_s
    return left * left * (3 - 2 * left)


def _smooth_step(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return value**3 * (10 - 15 * value + 6 * value * value)


class _Drift:
    """Smooth noise without a period: white noise through a critically damped filter, at rest at the start; unit deviation."""

    def __init__(self, size: int, cutoff_hz: float, dt: float, random: np.random.Generator) -> None:
        self._random = random
        self._dt = dt
        self._rate = 2 * math.pi * cutoff_hz
        # Stationary deviation of x'' = w^2 (n - x) - 2 w x' under white noise of unit density is sqrt(w) / 2.
        self._drive = 2.0 / math.sqrt(self._rate * dt)
        self.value = np.zeros(size)
        self._speed = np.zeros(size)

    def step(self) -> Array:
        noise = self._random.standard_normal(len(self.value)) * self._drive
        self._speed += (self._rate**2 * (noise - self.value) - 2 * self._rate * self._speed) * self._dt
        self.value = self.value + self._speed * self._dt
        return self.value


class NaturalMotion:
    """A stream of natural motion rows.

    Call :meth:`hear` with prosody as it comes, :meth:`advance` to take the rows that are determined, :meth:`end` when
    the sound is over (rows then go on for as long as asked, idle). Without any prosody call :meth:`end` at once: the
    head idles.

    Args:
        settings: amounts.
        seed: of everything random.
        fps: rows per second.
        expressiveness: scale of brow movements and nods.
    """

    def __init__(
        self, settings: NaturalSettings | None = None, seed: int = 0, fps: float = 25.0, expressiveness: float = 1.0
    ) -> None:
        self.settings = settings or NaturalSettings()
        self._expressiveness = expressiveness
        self._fps, self._dt = fps, 1.0 / fps
        streams = [np.random.default_rng([seed, number]) for number in range(8)]
        self._drift = _Drift(3, 0.22, self._dt, streams[0])
        self._sway = _Drift(3, 0.15, self._dt, streams[1])
        self._lively = _Drift(3, 0.9, self._dt, streams[7])
        self._posture_random, self._nod_random, self._blink_random, self._gaze_random, self._brow_random = streams[2:7]
        self._row = 0
        self._ended = False
        # Voice per prosody row that is still needed; ``_voice_start`` is the number of its first row.
        self._energy: list[float] = []
        self._pitch: list[float] = []
        self._voice_start = 0
        self._rows_heard: dict[int, tuple[float, float]] = {}
        # Voice state.
        self._speaking = 0.0
        self._silent_s = 10.0
        self._mean_pitch = 0.0
        self._threshold = 0.35
        self._last_accent_s = -10.0
        # Head.
        self._posture_from, self._posture_to = np.zeros(3), np.zeros(3)
        self._posture_start_s, self._posture_length_s = 0.0, 1.0
        self._next_posture_s = float(self._posture_random.uniform(0.8, 2.5))
        self._nods: list[tuple[float, float, float, Array]] = []
        self._energy_slow = 0.0
        # Lids, gaze, brows.
        self._blinks: list[tuple[float, float, float, float, float]] = []
        self._last_blink_s = -1.0
        self._next_blink_s = self._interval(first=True)
        self._gaze, self._gaze_from = np.zeros(2), np.zeros(2)
        self._saccade_start_s = -1.0
        self._next_saccade_s = float(self._gaze_random.uniform(0.5, 1.5))
        self._averted = False
        self._raises: list[tuple[float, float, float, float]] = []
        self._brow_drift = _Drift(2, 0.2, self._dt, self._brow_random)

    # --- the voice
    # -------------------------------------------------------------------------------------------------------------------

    def hear(self, prosody: Prosody) -> None:
        """Take the next prosody rows."""
        self._energy.extend(prosody.energy_db.tolist())
        self._pitch.extend(prosody.pitch_hz.tolist())

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
        energy = self._energy[first : last + 1]
        if not energy:
            return -60.0, 0.0
        pitch = sorted(value for value in self._pitch[first : last + 1] if value > 0)
        return max(energy), pitch[len(pitch) // 2] if pitch else 0.0

    def _forget(self) -> None:
        keep = int((self._row - 4) * _PROSODY_HZ / self._fps) - self._voice_start
        if keep > 1000:
            del self._energy[:keep], self._pitch[:keep]
            self._voice_start += keep

    # --- rows
    # ------------------------------------------------------------------------------------------------------------------------

    def advance(self, limit: int) -> Motion:
        """The next rows that are determined, ``limit`` at most."""
        count = limit
        if not self._ended:
            heard = self._voice_start + len(self._energy)
            ready = int((heard - 1) * self._fps / _PROSODY_HZ - 0.5) - _AHEAD
            count = max(0, min(limit, ready - self._row))
        expression = np.zeros((count, len(ARKIT_EXPRESSIONS)), np.float32)
        rotation, translation, gaze = np.zeros((count, 3)), np.zeros((count, 3)), np.zeros((count, 2))
        for index in range(count):
            now_s = self._row * self._dt
            accent = self._listen(now_s)
            rotation[index], translation[index] = self._head(now_s, accent)
            self._lids(now_s, expression[index])
            gaze[index] = self._eyes(now_s, rotation[index])
            self._brows(now_s, accent, expression[index])
            self._row += 1
        self._forget()
        # Turning on the neck moves the head's centre too.
        translation += NECK_PIVOT_DM - matrix_from_euler(rotation) @ NECK_PIVOT_DM
        return Motion(
            np.clip(expression, 0.0, 1.0),
            rotation.astype(np.float32),
            translation.astype(np.float32),
            gaze.astype(np.float32),
            fps=self._fps,
        )

    def _listen(self, now_s: float) -> float:
        """Follow the voice to this row; the strength 0..1 of an accent that begins here, 0 = none."""
        energy, pitch = self._voice(self._row)
        voiced = energy > -22.0
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

    def _head(self, now_s: float, accent: float) -> tuple[Array, Array]:
        random = self._posture_random
        drift, sway, lively = self._drift.step(), self._sway.step(), self._lively.step()
        if now_s >= self._next_posture_s:
            done = _smooth_step((now_s - self._posture_start_s) / self._posture_length_s)
            self._posture_from = self._posture_from + (self._posture_to - self._posture_from) * done
            self._posture_to = random.standard_normal(3) * np.radians([1.5, 3.2, 1.6])
            self._posture_start_s, self._posture_length_s = now_s, float(random.uniform(0.5, 1.3))
            pause = float(np.exp(random.normal(math.log(1.6), 0.6)))
            self._next_posture_s = now_s + self._posture_length_s + pause * (1.0 if self._speaking > 0.5 else 2.2)
        posture = self._posture_from + (self._posture_to - self._posture_from) * _smooth_step(
            (now_s - self._posture_start_s) / self._posture_length_s
        )
        nod_random = self._nod_random
        if accent > 0 and nod_random.random() < 0.35 + 0.35 * accent:
            axis = np.array([1.0, nod_random.normal(0.0, 0.6), nod_random.normal(0.0, 0.4)])
            size = math.radians(float(nod_random.uniform(1.0, 3.0))) * (0.5 + accent) * self._expressiveness
            # One nod in six goes up.
            size *= -0.7 if nod_random.random() < 1 / 6 else 1.0
            down, up = float(nod_random.uniform(0.2, 0.32)), float(nod_random.uniform(0.3, 0.6))
            self._nods.append((now_s, down, up, axis * size))
        nod = np.zeros(3)
        for start, down, up, size in self._nods:
            since = now_s - start
            nod += size * (_smooth_step(since / down) - _smooth_step((since - down) / up))
        self._nods = [row for row in self._nods if now_s - row[0] < row[1] + row[2]]
        liveliness = 0.55 + 0.45 * self._speaking
        rotation = (drift * np.radians([0.9, 1.5, 0.9]) + posture) * liveliness + nod
        # Speech shakes the head with its loudness: small, quick and in all directions.
        rotation = rotation + lively * np.radians([0.9, 1.2, 0.7]) * (0.2 + 1.4 * self._energy_slow) * self._speaking
        rotation[0] -= math.radians(0.7) * self._energy_slow * self._speaking * self._expressiveness
        limits = HEAD_LIMITS_RAD
        rotation = self.settings.head_motion * limits * np.tanh(rotation / limits)
        # Breathing and swaying move the head by some millimetres.
        shift = self.settings.head_motion * 0.05 * np.tanh(sway / 2.0)
        # The first half second grows out of the portrait's own pose, which is row 0.
        grow = _smooth_step(now_s / 0.5)
        return rotation * grow, shift * grow

    def _interval(self, first: bool = False) -> float:
        """Seconds to the next blink: log-normal with the mean that the rate asks for."""
        rate = self.settings.blinks_per_minute
        draw = float(np.exp(self._blink_random.normal(-0.18, 0.6)))
        if rate <= 0:
            return math.inf
        return max(draw * 60.0 / rate * (0.6 if first else 1.0), 0.5)

    def _lids(self, now_s: float, expression: Array) -> None:
        random = self._blink_random
        # A phrase just ended: people blink then, which takes the place of a blink that was due.
        ended = abs(self._silent_s - 0.2) < self._dt / 2 and now_s > 1.0
        chance = random.random() if ended else 1.0
        soon = (
            ended
            and chance < 0.5
            and now_s - self._last_blink_s > 0.4 * 60.0 / max(self.settings.blinks_per_minute, 1e-6)
        )
        if now_s >= self._next_blink_s or soon:
            close, hold, opening = random.uniform(0.08, 0.11), random.uniform(0.04, 0.06), random.uniform(0.16, 0.24)
            size = float(random.uniform(0.92, 1.0))
            self._blinks.append((now_s, float(close), float(hold), float(opening), size))
            if random.random() < 0.07:
                later = now_s + float(close + hold + opening + random.uniform(0.05, 0.15))
                self._blinks.append((later, float(close), float(hold), float(opening), size))
            self._last_blink_s = now_s
            self._next_blink_s = now_s + self._interval()
        closed = max((size * blink_shape(now_s - at, c, h, o) for at, c, h, o, size in self._blinks), default=0.0)
        self._blinks = [row for row in self._blinks if now_s - row[0] < row[1] + row[2] + row[3]]
        _raise(expression, "eyeBlink", closed)
        _raise(expression, "browDown", 0.06 * closed)
        _raise(expression, "cheekSquint", 0.08 * closed)

    def _eyes(self, now_s: float, rotation: Array) -> Array:
        random = self._gaze_random
        if now_s >= self._next_saccade_s:
            self._gaze_from = self._gaze.copy()
            away = random.random()
            # Looking away: rare, rather in pauses, and always back afterwards.
            avert = not self._averted and away < (0.05 if self._speaking > 0.5 else 0.12)
            self._averted = avert
            if avert:
                side = 1.0 if random.random() < 0.5 else -1.0
                self._gaze = np.radians([random.normal(1.0, 3.0), side * random.uniform(4.0, 9.0)])
                wait = float(random.uniform(0.4, 1.1))
            else:
                self._gaze = np.radians(random.standard_normal(2) * [0.7, 1.3])
                wait = float(np.clip(np.exp(random.normal(math.log(0.9), 0.6)), 0.2, 4.0))
            self._saccade_start_s = now_s
            self._next_saccade_s = now_s + wait
        # A saccade of a few degrees lasts 30 to 50 ms.
        done = _smooth_step((now_s - self._saccade_start_s + self._dt) / 0.06)
        gaze = (self._gaze_from + (self._gaze - self._gaze_from) * done) * self.settings.gaze_motion
        # Head down (positive pitch) is countered by eyes up (positive).
        gaze = gaze + self.settings.eye_contact * np.array([rotation[0], -rotation[1]])
        return np.zeros(2) if self._row == 0 else gaze

    def _brows(self, now_s: float, accent: float, expression: Array) -> None:
        random = self._brow_random
        drift = self._brow_drift.step()
        if accent > 0 and random.random() < 0.15 + 0.45 * accent:
            size = float(random.uniform(0.12, 0.32)) * (0.6 + 0.6 * accent)
            self._raises.append((now_s, float(random.uniform(0.12, 0.2)), float(random.uniform(0.1, 0.4)), size))
        lift = 0.0
        for start, rise, hold, size in self._raises:
            since = now_s - start
            lift = max(lift, size * (_smooth_step(since / rise) - _smooth_step((since - rise - hold) / 0.35)))
        self._raises = [row for row in self._raises if now_s - row[0] < row[1] + row[2] + 0.35]
        amount = self._expressiveness * _smooth_step(now_s / 0.5)
        inner = amount * max(lift + 0.035 * drift[0], 0.0)
        _raise(expression, "browInnerUp", inner)
        _raise(expression, "browOuterUp", 0.75 * inner)
        _raise(expression, "eyeWide", 0.25 * inner)
        _raise(expression, "browDown", amount * max(0.04 * drift[1], 0.0))


def _raise(row: Array, name: str, value: float) -> None:
    """Add ``value`` to a curve of ARKit, or to both sides of it."""
    for side in ("",) if name in ARKIT_EXPRESSIONS else ("Left", "Right"):
        row[_COLUMN[name + side]] += value


_COLUMN = {name: index for index, name in enumerate(ARKIT_EXPRESSIONS)}


def idle_motion(
    frames: int,
    fps: float = 25.0,
    settings: NaturalSettings | None = None,
    seed: int = 0,
    prosody: Prosody | None = None,
) -> Motion:
    """Natural motion of ``frames`` rows, of a silent person or in step with ``prosody``; the mouth does not move."""
    natural = NaturalMotion(settings, seed, fps)
    if prosody is not None:
        natural.hear(prosody)
    natural.end()
    return natural.advance(frames)
