"""Streaming equals whole; pitch and level mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.motion.speech_features import (
    EnvelopeLogMel,
    LogMel,
    ProsodyTracker,
    SpeechFeatures,
    envelope_filterbank,
    mel_filterbank,
)


def voice(seconds: float, pitch_hz: float, random: np.random.Generator, level: float = 0.1) -> np.ndarray:
    time_s = np.arange(int(seconds * 16000)) / 16000
    tone = sum(np.sin(2 * np.pi * pitch_hz * k * time_s + random.uniform(0, 6)) / k for k in range(1, 12))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * time_s)
    return (level * tone * syllables + 0.001 * random.standard_normal(len(time_s))).astype(np.float32)


def pieces(samples: np.ndarray, random: np.random.Generator):
    start = 0
    while start < len(samples):
        size = int(random.integers(0, 1500))
        yield samples[start : start + size]
        start += size


@pytest.mark.parametrize("kind", [LogMel, EnvelopeLogMel])
@pytest.mark.parametrize("seconds", [0.001, 0.0125, 0.3, 2.37])
def test_streamed_log_mel_equals_whole(seconds: float, kind: type[LogMel]) -> None:
    random = np.random.default_rng(3)
    samples = voice(seconds, 130.0, random)
    extractor = kind()
    assert isinstance(extractor, SpeechFeatures)
    whole = np.concatenate([extractor.push(samples), extractor.finish()])
    # The same object again: finish() leaves nothing behind.
    streamed = np.concatenate([extractor.push(piece) for piece in pieces(samples, random)] + [extractor.finish()])
    assert whole.shape == (-(-len(samples) // 160), extractor.size)
    np.testing.assert_allclose(streamed, whole, atol=1e-4)


def test_streamed_prosody_equals_whole() -> None:
    random = np.random.default_rng(4)
    samples = voice(1.7, 160.0, random)
    tracker = ProsodyTracker()
    parts = [tracker.push(samples), tracker.finish()]
    streamed = [tracker.push(piece) for piece in pieces(samples, random)] + [tracker.finish()]
    for field in ("pitch_hz", "voicing", "energy_db"):
        whole = np.concatenate([getattr(part, field) for part in parts])
        assert len(whole) == 170
        np.testing.assert_allclose(np.concatenate([getattr(part, field) for part in streamed]), whole, atol=1e-3)


@pytest.mark.parametrize("pitch_hz", [75.0, 110.0, 180.0, 240.0, 390.0])
def test_pitch_of_a_buzz(pitch_hz: float) -> None:
    tracked = ProsodyTracker().push(voice(1.0, pitch_hz, np.random.default_rng(0)))
    voiced = tracked.pitch_hz[tracked.energy_db > -15]
    assert np.median(voiced) == pytest.approx(pitch_hz, rel=0.01)
    assert np.mean(np.abs(voiced / pitch_hz - 1) < 0.03) > 0.95


def test_noise_has_no_pitch() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert np.mean(ProsodyTracker().push(noise).pitch_hz > 0) < 0.1


@pytest.mark.parametrize("kind", [LogMel, EnvelopeLogMel])
def test_gain_does_not_show_in_the_features(kind: type[LogMel]) -> None:
    samples = voice(4.0, 140.0, np.random.default_rng(5), level=0.1)
    loud, quiet = kind().push(4.0 * samples), kind().push(samples)
    np.testing.assert_allclose(loud, quiet, atol=1e-3)


def test_filterbank_covers_the_band() -> None:
    bank = mel_filterbank()
    assert bank.shape == (80, 257)
    np.testing.assert_allclose(bank.sum(axis=1), 1.0, rtol=1e-5)
    assert (bank[:, 4:240].sum(axis=0) > 0).all()


def test_a_microphone_fades_from_the_envelopes() -> None:
    random = np.random.default_rng(6)
    time_s = np.arange(16 * 16000) / 16000
    samples = 0.1 * random.standard_normal(len(time_s)) * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time_s))
    samples = samples.astype(np.float32)
    spectrum = np.fft.rfft(samples)
    tilt_db = np.interp(np.fft.rfftfreq(len(samples), 1 / 16000), [0, 500, 3000, 8000], [0, 0, -10, -14])
    coloured = np.fft.irfft(spectrum * 10 ** (tilt_db / 20), len(samples)).astype(np.float32)

    def far(extractor: type[LogMel], rows: slice) -> float:
        """Mean difference of the bands in dB (both kinds of rows are scaled)."""
        first, second = extractor().push(samples)[rows], extractor().push(coloured)[rows]
        return float(np.abs(first[:, :-2] - second[:, :-2]).mean()) * (12.0 if extractor is EnvelopeLogMel else 20.0)

    late = slice(1400, 1580)
    assert far(EnvelopeLogMel, late) < 0.4 * far(LogMel, late)
    assert far(EnvelopeLogMel, late) < 0.5 * far(EnvelopeLogMel, slice(0, 60))


def test_envelopes_hide_the_pitch() -> None:
    random = np.random.default_rng(7)
    low, high = (voice(3.0, pitch, random) for pitch in (110.0, 150.0))
    rows = slice(100, 280)
    plain, wide = (
        np.abs(np.diff(kind().push(low)[rows, :12].mean(axis=0) - kind().push(high)[rows, :12].mean(axis=0))).mean() * scale
        for kind, scale in ((LogMel, 20.0), (EnvelopeLogMel, 12.0))
    )
    assert wide < 0.5 * plain


def test_envelope_bands_overlap_without_gaps() -> None:
    bank = envelope_filterbank()
    assert bank.shape == (40, 257)
    np.testing.assert_allclose(bank.sum(axis=1), 1.0, rtol=1e-5)
    assert (bank[:, 6:220].sum(axis=0) > 0).all()
