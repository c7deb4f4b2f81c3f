"""Training examples of the voice networks: clips augmented as waveforms, their targets moved along, numbered through.

Targets move with the sound (pauses, speed), so that nothing can drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triportrait.motion.speech_features import RATE_HZ
from triportrait.training.loop import Recipe
from triportrait.training.voice.articulation import VISEMES, Style, viseme_rows
from triportrait.training.voice.augment import WARPED, augment, noise, some_music
from triportrait.training.voice.corpora import COLUMNS, CURVES, TRACKED_TRUST, Spoken, Tracked, spoken_targets
from triportrait.types import FPS, Array

_SILENCE = list(VISEMES).index("sil")


def _resample_rows(rows: Array, speed: float) -> Array:
    """Rows of a clip that is played ``speed`` times as fast."""
    count = max(int(len(rows) / speed), 1)
    at = np.arange(count) * speed
    low = np.minimum(at.astype(int), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    mix = (at - low).astype(np.float32)
    if rows.ndim == 2:
        mix = mix[:, None]
    return rows[low] * (1 - mix) + rows[high] * mix


def _articulated(contact: Array) -> Array:
    """1 in contacts of at most 0.3 s (bilabials, not pauses) and one row around them, else 0."""
    touching = np.concatenate([[False], contact > 0.5, [False]])
    edges = np.flatnonzero(np.diff(touching.astype(int)))
    result = np.zeros(len(contact), np.float32)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start <= 8 and start > 0 and end < len(contact):
            result[max(start - 1, 0) : end + 1] = 1.0
    return result


def example(clip: Spoken | Tracked, frames: int, random: np.random.Generator, extractor: str = "log_mel") -> tuple[Array, ...]:
    """One augmented training example of ``frames`` rows.

    Returns:
        features [4 frames, f], curves [frames, c], opening [frames], contact [frames], articulated contacts [frames],
        trust per curve [c], certainty of the row [frames] and number of the viseme [frames] (-1 = not known).
    """
    speed = float(np.exp(random.normal(0.0, 0.14)))
    if isinstance(clip, Spoken):
        # Silence after the last sound shows how the mouth comes to rest.
        clip = Spoken(np.pad(clip.samples, (0, int(1.4 * RATE_HZ))), clip.phones, clip.voice)
        targets = spoken_targets(clip, Style.sample(random))
    else:
        targets = clip.targets
    samples = clip.samples.astype(np.float32) / 32767
    positions = np.arange(int(len(samples) / speed)) * speed
    samples = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    expression = _resample_rows(targets.expression[:, COLUMNS], speed)
    opening, contact = _resample_rows(targets.opening, speed), _resample_rows(targets.contact, speed)

    sure = np.ones(len(opening), np.float32) if targets.sure is None else _resample_rows(targets.sure, speed)
    visemes = np.full(len(opening), -1)
    if clip.phones:
        visemes = viseme_rows(clip.phones, np.arange(len(opening)) * speed / FPS)

    rows = min(len(opening), len(samples) // 640)
    # Place the clip in a window with room before it, or cut a window out of it.
    before = int(random.integers(0, 25)) if random.random() < 0.6 else 0
    start = int(random.integers(0, max(rows - frames + before + 12, 1))) if rows + before > frames else 0
    window = np.zeros(frames * 640, np.float32)
    curve_rows = np.zeros((frames, len(COLUMNS)), np.float32)
    opening_rows, contact_rows = np.zeros(frames, np.float32), np.ones(frames, np.float32)
    sure_row, viseme_row = np.ones(frames, np.float32), np.full(frames, _SILENCE)
    first = before - start
    target_slice = slice(max(first, 0), min(first + rows, frames))
    source_slice = slice(target_slice.start - first, target_slice.stop - first)
    window[target_slice.start * 640 : target_slice.stop * 640] = samples[source_slice.start * 640 : source_slice.stop * 640]
    curve_rows[target_slice] = expression[source_slice]
    opening_rows[target_slice], contact_rows[target_slice] = opening[source_slice], contact[source_slice]
    sure_row[target_slice], viseme_row[target_slice] = sure[source_slice], visemes[source_slice]
    if random.random() < 0.03:
        # Nobody speaks: noise or music only.
        if random.random() < 0.5:
            window = some_music(len(window), random)
        else:
            window = noise(len(window), float(random.uniform(0, 2)), random)
        window = 0.05 * window.astype(np.float32)
        curve_rows[:], opening_rows[:], contact_rows[:], sure_row[:], viseme_row[:] = 0.0, 0.0, 1.0, 1.0, _SILENCE
    ears = WARPED[extractor](float(np.exp(random.uniform(-0.16, 0.2))) if random.random() < 0.7 else 1.0)
    heard = augment(window, random)
    # Running means of level and spectrum: as at the start of a recording, or as later on.
    warm = random.random() < 0.5
    features = np.concatenate([ears.push(np.tile(heard, 2) if warm else heard), ears.finish()])[-4 * frames :]
    # The lower lip at the teeth is as rare and as visible as a bilabial.
    teeth = (curve_rows[:, CURVES.index("mouthRollLower")] > 0.3) & isinstance(clip, Spoken)
    articulated = np.maximum(_articulated(contact_rows), teeth.astype(np.float32))
    partly = isinstance(clip, Tracked) and not clip.complete
    trust = TRACKED_TRUST if partly else np.ones(len(CURVES), np.float32)
    return features, curve_rows, opening_rows, contact_rows, articulated, trust, sure_row, viseme_row


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRecipe(Recipe):
    """What the recipes of both voice networks have.

    Args:
        frames: rows of an example, 25 per second.
        tracked_share: of examples from tracked clips, where there are some.
        rate: of AdamW at its highest.
        fresh: examples made anew for each step; the rest of the batch is drawn from the last ``memory`` ones, because making one costs more
            than learning from it.
    """

    frames: int = 96
    tracked_share: float = 0.2
    rate: float = 1.5e-3
    fresh: int = 3
    memory: int = 2500


class Examples:
    """Examples numbered through, each a function of seed and number.

    A step makes ``recipe.fresh`` new ones and takes the rest of its batch from the last ``recipe.memory`` ones. Those are held, or made
    again where a run was resumed: they are the same.

    Args:
        spoken, tracked: clips.
        recipe: how many and how long.
        extractor: name of the features.
    """

    def __init__(self, spoken: Sequence[Spoken], tracked: Sequence[Tracked], recipe: SpeechRecipe, extractor: str) -> None:
        self._spoken, self._tracked, self._recipe, self._extractor = spoken, tracked, recipe, extractor
        self._held: dict[int, tuple[Array, ...]] = {}

    def rows(self, step: int, rows: Sequence[int]) -> list[tuple[Array, ...]]:
        """Rows of a step's batch; each as :func:`example` gives it."""
        recipe = self._recipe
        # The first step makes a whole batch.
        new = recipe.batch if step == 0 else min(recipe.fresh, recipe.batch)
        made = recipe.batch + min(recipe.fresh, recipe.batch) * step
        oldest = max(0, made - recipe.memory)
        chosen = []
        for row in rows:
            random = np.random.default_rng([recipe.seed, step, row])
            chosen.append(made - new + row if row < new else int(random.integers(oldest, made)))
        examples = [self._example(number) for number in chosen]
        for number in [number for number in self._held if number < oldest]:
            del self._held[number]
        return examples

    def _example(self, number: int) -> tuple[Array, ...]:
        if number not in self._held:
            recipe = self._recipe
            random = np.random.default_rng([recipe.seed, number])
            pool = self._tracked if self._tracked and random.random() < recipe.tracked_share else self._spoken
            clip = pool[int(random.integers(len(pool)))]
            self._held[number] = example(clip, recipe.frames, random, self._extractor)
        return self._held[number]
