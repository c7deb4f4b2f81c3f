"""What natural motion is made of: smooth noise, muscles that follow a target, and breath; row by row."""

from __future__ import annotations

import math

import numpy as np

from triportrait.types import Array


class Drift:
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


class Follower:
    """Moves towards a target as muscles do: critically damped, the target itself softened; exact for any row length."""

    def __init__(self, size: int, dt: float) -> None:
        self.value, self._speed, self._soft = np.zeros(size), np.zeros(size), np.zeros(size)
        self._dt = dt

    def step(self, target: Array, hertz: float) -> Array:
        rate, dt = 2 * math.pi * hertz, self._dt
        self._soft = target + (self._soft - target) * math.exp(-2.5 * rate * dt)
        # Closed form of a critically damped step towards a constant.
        away = self.value - self._soft
        push = self._speed + rate * away
        fade = math.exp(-rate * dt)
        self.value = self._soft + (away + push * dt) * fade
        self._speed = (self._speed - rate * push * dt) * fade
        return self.value


class Breath:
    """Depth of a breath, row by row, from 0 (the photo's) up to 1 at rest and 1.6 in the pauses of speech; never periodic.

    At rest breath comes and goes about 15 times a minute. A speaker breathes in quickly and deeply in pauses and lets it out slowly over
    the words: A. Winkworth et al., "Breathing patterns during spontaneous speech", 1995.
    """

    def __init__(self, dt: float, random: np.random.Generator) -> None:
        self._random, self._dt = random, dt
        self._follower = Follower(1, dt)
        self._aim, self._left_s = 0.0, 0.3
        self._in_pause = False

    def step(self, speaks: bool, silent_s: float) -> float:
        """The next row's depth."""
        self._left_s -= self._dt
        pauses = speaks and silent_s > 0.12
        if speaks:
            if pauses and not self._in_pause:
                self._aim = 1.0 + 0.6 * float(self._random.random())
            elif not pauses:
                self._aim = max(self._aim - self._dt / 2.6, 0.0)
        elif self._left_s <= 0:
            self._aim = float(self._random.uniform(0.8, 1.1)) if self._aim < 0.5 else float(self._random.uniform(0.0, 0.1))
            # In takes a little less time than out.
            self._left_s = float(self._random.uniform(1.6, 2.1) if self._aim > 0.5 else self._random.uniform(2.0, 2.8))
        self._in_pause = pauses
        return float(self._follower.step(np.array([self._aim]), 0.9 if speaks else 0.35)[0])
