"""Sound as it is found outside a studio: noise, music, telephones, codecs, other rooms and voices."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from triportrait.motion.speech_features import RATE_HZ, EnvelopeLogMel, LogMel, SpeechFeatures
from triportrait.types import Array


def noise(count: int, colour: float, random: np.random.Generator) -> Array:
    """Noise of power ``1 / f^colour``, unit RMS."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-colour / 2)
    sound = np.fft.irfft(spectrum, count)
    return sound / max(float(np.sqrt(np.mean(sound**2))), 1e-9)


def music_bed(count: int, random: np.random.Generator) -> Array:
    """A bed of plucked chords, unit RMS."""
    time_s = np.arange(count) / RATE_HZ
    sound = np.zeros(count)
    start = 0.0
    while start < count / RATE_HZ:
        root = 110.0 * 2 ** (random.integers(0, 24) / 12)
        length = float(random.uniform(0.25, 0.8))
        decay = float(random.uniform(1.0, 6.0))
        # A string is heard until it has lost 60 dB.
        heard = slice(int(np.ceil(start * RATE_HZ)), int((start + 6.9 / decay) * RATE_HZ))
        since = time_s[heard] - start
        envelope = np.exp(-since * decay)
        for step in (0, random.choice([3, 4]), 7):
            for harmonic in (1, 2, 3, 4):
                tone = root * 2 ** (step / 12) * harmonic
                if tone < 7000:
                    sound[heard] += envelope * np.sin(2 * np.pi * tone * since + random.uniform(0, 6.28)) / harmonic**1.5
        start += length
    return sound / max(float(np.sqrt(np.mean(sound**2))), 1e-9)


@lru_cache(maxsize=1)
def _music_beds() -> tuple[Array, ...]:
    """Beds of 8 seconds, made once: making one costs more than all other augmentation."""
    random = np.random.default_rng(7)
    return tuple(music_bed(8 * RATE_HZ, random).astype(np.float32) for _ in range(12))


def some_music(count: int, random: np.random.Generator) -> Array:
    """A piece of a ready bed, longer ones repeated, at a random speed."""
    beds = _music_beds()
    bed = beds[int(random.integers(len(beds)))]
    positions = (float(random.uniform(0, len(bed))) + np.arange(count) * float(random.uniform(0.7, 1.4))) % (len(bed) - 1)
    return bed[positions.astype(int)]


def telephone(samples: Array) -> Array:
    """As a telephone carries it: 300 to 3400 Hz, 8 bits of mu-law companding (ITU-T G.711) at 8 kHz; timing stays."""
    count = len(samples)
    spectrum = np.fft.rfft(samples)
    hertz = np.arange(len(spectrum)) * RATE_HZ / count
    spectrum *= (hertz > 300) & (hertz < 3400)
    narrow = np.fft.irfft(spectrum, count)[::2]
    peak = max(float(np.abs(narrow).max()), 1e-6)
    companded = np.sign(narrow) * np.log1p(255 * np.abs(narrow) / peak) / np.log(256)
    steps = np.round(companded * 127) / 127
    carried = np.sign(steps) * (256 ** np.abs(steps) - 1) / 255 * peak
    # Zeros between the samples and the same band again: sampled at 16 kHz.
    spread = np.zeros(count)
    spread[::2] = 2 * carried
    return np.fft.irfft(np.fft.rfft(spread) * (hertz < 3600), count)


def transform_codec(samples: Array, random: np.random.Generator) -> Array:
    """As a lossy transform codec (MP3, AAC, Opus) leaves it at a low bit rate: 32 ms blocks whose bins are rounded in steps
    of the band's own level, so that weak ones vanish; timing stays."""
    size, hop = 512, 256
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    padded = np.pad(samples, (hop, size + hop))
    starts = np.arange(0, len(padded) - size + 1, hop)
    bins = np.fft.rfft(padded[starts[:, None] + np.arange(size)] * window, axis=1)
    # Bands of about equal width for the ear; high ones are rounded more coarsely.
    edges = np.unique(np.round(np.geomspace(4, 257, 18)).astype(int))
    edges[0] = 0
    coarse = float(random.uniform(0.6, 1.8))
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        level = np.sqrt(np.mean(np.abs(bins[:, low:high]) ** 2, axis=1, keepdims=True)) + 1e-9
        step = level * coarse * (0.5 + high / 257)
        part = bins[:, low:high] / step
        bins[:, low:high] = (np.round(part.real) + 1j * np.round(part.imag)) * step
    result = np.zeros(len(padded))
    for start, block in zip(starts, np.fft.irfft(bins, size, axis=1) * window, strict=True):
        result[start : start + size] += block
    return result[hop : hop + len(samples)]


def augment(samples: Array, random: np.random.Generator) -> Array:
    """Room, colour of the microphone, noise or music, band limit, codec, clipping and gain; timing stays."""
    count = len(samples)
    if random.random() < 0.35:
        seconds = float(random.uniform(0.08, 0.5))
        tail = int(seconds * RATE_HZ)
        response = random.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
        response *= float(random.uniform(0.05, 0.5)) / np.sqrt(np.sum(response**2))
        response[0] = 1.0
        size = 1 << int(np.ceil(np.log2(count + tail)))
        samples = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[:count]
    if random.random() < 0.7:
        spectrum = np.fft.rfft(samples)
        hertz = np.arange(len(spectrum)) * RATE_HZ / count
        knots = np.array([0, 150, 400, 1000, 2500, 5000, 8000])
        gains_db = random.normal(0.0, 4.0, len(knots))
        if random.random() < 0.2:
            gains_db[:2] -= 20.0
        if random.random() < 0.25:
            gains_db[-2:] -= random.uniform(10.0, 40.0)
        spectrum *= 10 ** (np.interp(hertz, knots, gains_db) / 20)
        samples = np.fft.irfft(spectrum, count)
    level = max(float(np.sqrt(np.mean(samples**2))), 1e-4)
    kind = random.random()
    if kind < 0.45:
        ratio_db = random.uniform(8.0, 45.0)
        samples = samples + noise(count, float(random.uniform(0.0, 1.5)), random) * level * 10 ** (-ratio_db / 20)
    elif kind < 0.6:
        samples = samples + some_music(count, random) * level * 10 ** (-random.uniform(8.0, 30.0) / 20)
    elif kind < 0.8:
        samples = samples + noise(count, 0.5, random) * 10 ** (-random.uniform(60.0, 90.0) / 20)
    codec = random.random()
    if codec < 0.05:
        samples = telephone(samples)
    elif codec < 0.15:
        samples = transform_codec(samples, random)
    gain = 10 ** (random.uniform(-24.0, 6.0) / 20)
    samples = samples * gain
    if random.random() < 0.1:
        samples = np.clip(samples, -2.5 * level * gain, 2.5 * level * gain)
    return np.clip(samples, -1.0, 1.0).astype(np.float32)


class _Warp:
    """Spectra of a speaker with another vocal tract: frequencies are multiplied by ``factor``.

    Source: L. Lee and R. Rose, "Speaker normalization using efficient frequency warping procedures", 1996.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        # Linear up to 6.4 kHz at most, then bent so that the band's end stays where it is.
        bins = np.arange(257.0)
        knee = min(0.8, 0.8 * factor) * 256
        source = np.where(bins <= knee, bins / factor, knee / factor + (bins - knee) * (256 - knee / factor) / (256 - knee))
        self._low = np.minimum(source.astype(int), 255)
        self._mix = (source - self._low).astype(np.float32)

    def _power(self, windows: Array) -> Array:
        power = super()._power(windows)  # type: ignore[misc]  # a mix-in: the class beside it has it
        return power[:, self._low] * (1 - self._mix) + power[:, self._low + 1] * self._mix


class WarpedLogMel(_Warp, LogMel):
    """:class:`LogMel` of another vocal tract."""


class WarpedEnvelopeLogMel(_Warp, EnvelopeLogMel):
    """:class:`EnvelopeLogMel` of another vocal tract."""


WARPED: dict[str, Callable[[float], SpeechFeatures]] = {"log_mel": WarpedLogMel, "envelope_log_mel": WarpedEnvelopeLogMel}


def roughen(features: torch.Tensor) -> torch.Tensor:
    """Hide what a voice should not be known by: bands masked, a random smooth tilt, a little noise; [b, k, f] -> same.

    The last two features are energy and level, all others bands.

    Source: D. Park et al., "SpecAugment", 2019 (frequency masks only: lips need every moment).
    """
    batch, count, place = len(features), features.shape[-1] - 2, features.device
    bands = torch.arange(count, device=place)
    result = features + 0.05 * torch.randn_like(features)
    knots = torch.randn(batch, 1, 6, device=place) * 0.12
    tilt = functional.interpolate(knots, size=count, mode="linear", align_corners=True)
    result[..., :count] += tilt
    for _ in range(2):
        start = torch.randint(0, count, (batch, 1), device=place)
        width = torch.randint(0, max(count // 6, 2), (batch, 1), device=place)
        masked = (bands >= start) & (bands < start + width)
        mean = result[..., :count].mean(dim=1, keepdim=True)
        result[..., :count] = torch.where(masked[:, None], mean, result[..., :count])
    return result
