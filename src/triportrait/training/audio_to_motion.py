"""Training of the audio-to-motion network: corpora, augmentation, losses and a resumable loop for one CPU core.

Sources: synthesised speech with exact phoneme times through the coarticulation model, and the tracked speaker of
``speech_av``. Every example is augmented as a waveform and its targets are moved with it (pauses, speed), so that
nothing can drift apart.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import STRIDE, AudioToMotion, AudioToMotionConfig, MouthNetwork, save_model
from triportrait.motion.lips import close_lips, gap_weights, lip_opening
from triportrait.motion.speech_features import EXTRACTORS, RATE_HZ, EnvelopeLogMel, LogMel
from triportrait.training.articulation import VISEMES, Style, curves_from_phones, viseme_rows
from triportrait.training.lip_tracks import LipTrack, curves_from_landmarks, load_speech_av
from triportrait.training.loop import Recipe, Values, train_stage
from triportrait.training.sync_loss import sync_loss
from triportrait.training.synthesis import Phone
from triportrait.types import ARKIT_EXPRESSIONS

Array = np.ndarray

log = logging.getLogger(__name__)

#: Curves the network predicts; all others belong to natural motion.
CURVES = tuple(
    name
    for name in ARKIT_EXPRESSIONS
    if name.startswith(("jawOpen", "jawForward", "mouth", "tongue"))
    and name not in ("mouthLeft", "mouthRight", "mouthShrugUpper", "mouthFrownLeft", "mouthFrownRight")
)

_COLUMNS = [ARKIT_EXPRESSIONS.index(name) for name in CURVES]

#: How far curves fitted to 21 tracked points are trusted: shapes that such a fit cannot tell apart are left to the
#: articulation model.
_TRACKED_TRUST = np.array(
    [
        1.0
        if name in ("jawOpen", "mouthFunnel", "mouthPucker")
        else 0.3
        if name.startswith(("mouthStretch", "mouthUpper"))
        else 0.0
        for name in CURVES
    ],
    np.float32,
)

FPS = 25.0

_SILENCE = list(VISEMES).index("sil")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A synthesised clip: int16 samples at 16 kHz and its phonemes."""

    samples: Array
    phones: tuple[Phone, ...]
    voice: str


@dataclass(frozen=True, slots=True)
class Tracked:
    """A real clip: int16 samples at 16 kHz, its targets, and its phonemes where they are known.

    Targets from landmarks do not tell all curves; those that do, pseudo-labels, are ``complete``.
    """

    samples: Array
    targets: LipTrack
    name: str
    phones: tuple[Phone, ...] = ()
    complete: bool = False


def load_synthesised(folder: Path, split: str, limit: int | None = None) -> list[Spoken]:
    """Clips of ``scripts/synthesise_speech.py`` (splits train and test) and ``align_recordings.py`` (recording)."""
    clips = []
    for path in sorted(folder.glob(f"{split}_*.npz"))[:limit]:
        with np.load(path, allow_pickle=False) as data:
            rows = zip(data["symbols"], data["start_s"], data["end_s"], strict=True)
            phones = tuple(Phone(str(symbol), float(start), float(end)) for symbol, start, end in rows)
            clips.append(Spoken(data["samples"], phones, str(data["voice"])))
    return clips


def load_tracked(shared_data: Path, split: str, phone_folder: Path | None = None) -> list[Tracked]:
    """Clips of ``speech_av`` with targets from :func:`curves_from_landmarks`; phonemes of ``align_recordings.py``."""
    clips = []
    phones = {}
    if phone_folder is not None:
        phones = {clip.voice.removeprefix("grid:"): clip.phones for clip in load_synthesised(phone_folder, "grid")}
    for name, (part, track) in load_speech_av(shared_data / "speech_av").items():
        if part == split:
            wave = read_audio(shared_data / "speech_av" / "audio" / f"{name}.flac")
            targets = curves_from_landmarks(track, shared_data / "ict_facekit.npz")
            clips.append(Tracked((wave.samples * 32767).astype(np.int16), targets, name, phones.get(name, ())))
    return clips


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


def _some_music(count: int, random: np.random.Generator) -> Array:
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
        samples = samples + _some_music(count, random) * level * 10 ** (-random.uniform(8.0, 30.0) / 20)
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


def _loudness(samples: Array) -> Array:
    """0..1 at 100 per second, 0.5 at the clip's speech level."""
    count = len(samples) // 160
    energy = np.sqrt(np.mean(samples[: count * 160].reshape(count, 160) ** 2, axis=1) + 1e-10)
    speaking = energy > 0.1 * energy.max()
    reference = np.exp(np.mean(np.log(energy[speaking])))
    smooth = np.convolve(20 * np.log10(energy / reference), np.ones(9) / 9, mode="same")
    return np.clip(0.5 + smooth / 40.0, 0.0, 1.0)


def spoken_targets(clip: Spoken, style: Style | None = None) -> LipTrack:
    """The coarticulation model's targets for an untouched clip."""
    samples = clip.samples.astype(np.float32) / 32767
    frames = -(-len(samples) * 25 // RATE_HZ)
    expression, contact = curves_from_phones(clip.phones, frames, FPS, style, _loudness(samples))
    return LipTrack(expression, lip_opening(expression, ARKIT_EXPRESSIONS), contact)


class _Warp:
    """Spectra of a speaker with another vocal tract: frequencies are multiplied by ``factor``.

    Source: L. Lee and R. Rose, "Speaker normalization using efficient frequency warping procedures", 1996.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        # Linear up to 6.4 kHz at most, then bent so that the band's end stays where it is.
        bins = np.arange(257.0)
        knee = min(0.8, 0.8 * factor) * 256
        source = np.where(
            bins <= knee, bins / factor, knee / factor + (bins - knee) * (256 - knee / factor) / (256 - knee)
        )
        self._low = np.minimum(source.astype(int), 255)
        self._mix = (source - self._low).astype(np.float32)

    def _power(self, windows: Array) -> Array:
        power = super()._power(windows)
        return power[:, self._low] * (1 - self._mix) + power[:, self._low + 1] * self._mix


class WarpedLogMel(_Warp, LogMel):
    """:class:`LogMel` of another vocal tract."""


class WarpedEnvelopeLogMel(_Warp, EnvelopeLogMel):
    """:class:`EnvelopeLogMel` of another vocal tract."""


_WARPED = {"log_mel": WarpedLogMel, "envelope_log_mel": WarpedEnvelopeLogMel}


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


def example(
    clip: Spoken | Tracked, frames: int, random: np.random.Generator, extractor: str = "log_mel"
) -> tuple[Array, ...]:
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
    expression = _resample_rows(targets.expression[:, _COLUMNS], speed)
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
    curve_rows = np.zeros((frames, len(_COLUMNS)), np.float32)
    opening_rows, contact_rows = np.zeros(frames, np.float32), np.ones(frames, np.float32)
    sure_row, viseme_row = np.ones(frames, np.float32), np.full(frames, _SILENCE)
    first = before - start
    target_slice = slice(max(first, 0), min(first + rows, frames))
    source_slice = slice(target_slice.start - first, target_slice.stop - first)
    window[target_slice.start * 640 : target_slice.stop * 640] = samples[
        source_slice.start * 640 : source_slice.stop * 640
    ]
    curve_rows[target_slice] = expression[source_slice]
    opening_rows[target_slice], contact_rows[target_slice] = opening[source_slice], contact[source_slice]
    sure_row[target_slice], viseme_row[target_slice] = sure[source_slice], visemes[source_slice]
    if random.random() < 0.03:
        # Nobody speaks: noise or music only.
        if random.random() < 0.5:
            window = _some_music(len(window), random)
        else:
            window = noise(len(window), float(random.uniform(0, 2)), random)
        window = 0.05 * window.astype(np.float32)
        curve_rows[:], opening_rows[:], contact_rows[:], sure_row[:], viseme_row[:] = 0.0, 0.0, 1.0, 1.0, _SILENCE
    ears = _WARPED[extractor](float(np.exp(random.uniform(-0.16, 0.2))) if random.random() < 0.7 else 1.0)
    heard = augment(window, random)
    # Running means of level and spectrum: as at the start of a recording, or as later on.
    warm = random.random() < 0.5
    features = np.concatenate([ears.push(np.tile(heard, 2) if warm else heard), ears.finish()])[-4 * frames :]
    # The lower lip at the teeth is as rare and as visible as a bilabial.
    teeth = (curve_rows[:, CURVES.index("mouthRollLower")] > 0.3) & isinstance(clip, Spoken)
    articulated = np.maximum(_articulated(contact_rows), teeth.astype(np.float32))
    partly = isinstance(clip, Tracked) and not clip.complete
    trust = _TRACKED_TRUST if partly else np.ones(len(CURVES), np.float32)
    return features, curve_rows, opening_rows, contact_rows, articulated, trust, sure_row, viseme_row


def roughen(features: torch.Tensor) -> torch.Tensor:
    """Hide what a voice should not be known by: bands masked, a random smooth tilt, a little noise; [b, k, f] -> same.

    The last two features are energy and level, all others bands.

    Source: D. Park et al., "SpecAugment", 2019 (frequency masks only: lips need every moment).
    """
    batch, count = len(features), features.shape[-1] - 2
    bands = torch.arange(count)
    result = features + 0.05 * torch.randn_like(features)
    knots = torch.randn(batch, 1, 6) * 0.12
    tilt = functional.interpolate(knots, size=count, mode="linear", align_corners=True)
    result[..., :count] += tilt
    for _ in range(2):
        start = torch.randint(0, count, (batch, 1))
        width = torch.randint(0, max(count // 6, 2), (batch, 1))
        masked = (bands >= start) & (bands < start + width)
        mean = result[..., :count].mean(dim=1, keepdim=True)
        result[..., :count] = torch.where(masked[:, None], mean, result[..., :count])
    return result


def losses(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    targets: tuple[torch.Tensor, ...],
    curve_weight: torch.Tensor,
) -> torch.Tensor:
    """Curves and opening (L1 + L2), their velocity, contact, the opening that the curves themselves give, and how well
    that follows the target over the window (it counts in full where the window's lips move)."""
    curves, opening, logit = outputs
    curves_t, opening_t, contact_t, articulated, trust, sure, *_ = targets
    curve_weight = curve_weight * trust[:, None]
    # Openings are some hundredths of a face height: 15 brings them to the scale of curves.
    scale = 15.0
    importance = sure * (1.0 + 3.0 * articulated)
    from_curves = curves @ torch.from_numpy(gap_weights(CURVES))
    given = curves_t @ torch.from_numpy(gap_weights(CURVES))
    difference = (curves - curves_t) * curve_weight
    shape = (difference.abs() + 2.0 * difference**2).mean(-1)
    gap = scale * (opening - opening_t)
    own_gap = scale * (from_curves - given)
    amount = gap.abs() + 2.0 * gap**2 + 0.5 * (own_gap.abs() + 2.0 * own_gap**2)
    steps = ((curves[:, 1:] - curves[:, :-1]) - (curves_t[:, 1:] - curves_t[:, :-1])) * curve_weight
    gap_steps = scale * ((opening[:, 1:] - opening[:, :-1]) - (opening_t[:, 1:] - opening_t[:, :-1]))
    # A missed closure is seen, a closure too many hardly.
    weight = importance + 1.5 * sure * articulated * contact_t
    contact = functional.binary_cross_entropy_with_logits(logit, contact_t, weight=weight)
    # Where nothing is sure there is nothing to follow.
    follow = (concordance_loss(sure * from_curves, sure * opening_t) + concordance_loss(sure * opening, sure * opening_t)) / 2
    both = sure[:, 1:] * sure[:, :-1]
    return (
        (importance * (shape + amount)).mean()
        + 1.0 * (both[..., None] * steps.abs()).mean()
        + 0.5 * (both * gap_steps.abs()).mean()
        + 1.0 * contact
        + 0.5 * follow
    )


def concordance_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One less the concordance correlation of rows [b, t], the mean over windows.

    Unlike squared error it does not shrink the amplitude of what is uncertain. Source: L. Lin, "A concordance
    correlation coefficient to evaluate reproducibility", 1989, equation 1.
    """
    mean_p, mean_t = predicted.mean(1, keepdim=True), target.mean(1, keepdim=True)
    covariance = ((predicted - mean_p) * (target - mean_t)).mean(1)
    spread = predicted.var(1, unbiased=False) + target.var(1, unbiased=False) + (mean_p - mean_t)[:, 0] ** 2
    # A window at rest has nothing to follow: 1e-5 is a movement of 0.003 face heights.
    return (1.0 - (2 * covariance + 1e-5) / (spread + 1e-5)).mean()


def viseme_loss(logits: torch.Tensor, visemes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the sounds where they are known: logits [b, t, v], numbers [b, t]."""
    if not (visemes >= 0).any():
        return logits.sum() * 0.0
    return functional.cross_entropy(logits.flatten(0, 1), visemes.flatten(), ignore_index=-1, label_smoothing=0.05)


#: The embedded network.
DEFAULT_CONFIG = AudioToMotionConfig(
    features=EnvelopeLogMel.size,
    channels=128,
    front_channels=96,
    dilations=(1, 2, 4, 8, 1),
    curves=CURVES,
    extractor=EnvelopeLogMel.name,
    visemes=len(VISEMES),
    dropout=0.1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings(Recipe):
    """Length and shape of a run."""

    steps: int = 3000
    batch: int = 20
    frames: int = 96
    tracked_share: float = 0.3
    rate: float = 1.5e-3
    average: float = 0.995
    log_every: int = 10
    save_every: int = 200
    #: Examples made anew for each step; the rest of the batch is drawn from the last ``memory`` ones (making costs
    #: more than learning).
    fresh: int = 8
    memory: int = 1600
    #: Convolutions in bfloat16: 1.5 times as fast where the processor has it.
    half: bool = False
    #: Weight of the synchrony expert's loss (:func:`triportrait.training.sync_loss.sync_loss`), for networks on its features; 0 = none.
    sync_loss: float = 0.0


def aligned(clips: list[Tracked], model: MouthNetwork, most: int = 3) -> list[Tracked]:
    """Tracked clips with sound and picture brought into step.

    Some recordings of the corpus run one to three frames apart. Where another lag explains the lips clearly better
    (correlation higher by 0.06) according to ``model``, a network trained on the corpus as it is, the targets move.
    """
    result = []
    for clip in clips:
        extractor = EXTRACTORS[model.config.extractor]()
        rows = [extractor.push(clip.samples.astype(np.float32) / 32767), extractor.finish()]
        with torch.inference_mode():
            opening = model(torch.from_numpy(np.concatenate(rows))[None])[1][0].numpy()
        tracked = clip.targets.opening
        count = min(len(opening), len(tracked))
        scores = {}
        for lag in range(-most, most + 1):
            # Positive: the lips in the picture are early, the prediction comes late.
            first, second = opening[max(lag, 0) : count + min(lag, 0)], tracked[max(-lag, 0) : count + min(-lag, 0)]
            scores[lag] = float(np.corrcoef(first, second)[0, 1])
        best = max(scores, key=scores.__getitem__)
        if best and scores[best] > scores[0] + 0.06:
            index = np.clip(np.arange(len(tracked)) - best, 0, len(tracked) - 1)
            sure = None if clip.targets.sure is None else clip.targets.sure[index]
            targets = LipTrack(clip.targets.expression[index], tracked[index], clip.targets.contact[index], sure)
            clip = replace(clip, targets=targets)
        result.append(clip)
    return result


def pseudo_labelled(samples: Array, name: str, models: Sequence[MouthNetwork], apart: float = 0.01, least: float = 0.5) -> Tracked | None:
    """A real recording without transcript, labelled by networks that were trained differently.

    Targets are the networks' means; a row is as sure as they agree: openings ``apart`` face heights apart count
    exp(-1/2), contact probabilities on either side of one half not at all.

    Args:
        samples: [n] at 16 kHz, clean.
        models: at least two of the same curves.
        least: mean certainty below which nothing is learned from the clip.

    Source: pseudo-labels of D.-H. Lee, 2013, with the agreement of Q. Xie et al., "Self-training with noisy student", 2020
    (the student hears the sound augmented, the teachers hear it clean).
    """
    curves, openings, contacts = [], [], []
    for model in models:
        extractor = EXTRACTORS[model.config.extractor]()
        rows = np.concatenate([extractor.push(samples), extractor.finish()])
        with torch.inference_mode():
            given, opening, logit = model(torch.from_numpy(rows[: len(rows) // STRIDE * STRIDE])[None])
        curves.append(given[0].clamp(0.0, 1.0).numpy())
        openings.append(opening[0].clamp(min=0.0).numpy())
        contacts.append(torch.sigmoid(logit[0]).numpy())
    touching = np.mean(contacts, axis=0)
    agreed = np.all(np.array(contacts) > 0.5, axis=0) | np.all(np.array(contacts) < 0.5, axis=0)
    spread = np.std(openings, axis=0) * 2
    sure = (np.exp(-0.5 * (spread / apart) ** 2) * agreed).astype(np.float32)
    if sure.mean() < least:
        return None
    expression = np.zeros((len(touching), len(ARKIT_EXPRESSIONS)), np.float32)
    for column, curve in enumerate(models[0].config.curves):
        expression[:, ARKIT_EXPRESSIONS.index(curve)] = np.mean(curves, axis=0)[:, column]
    contact = np.clip((touching - 0.2) / 0.6, 0.0, 1.0).astype(np.float32)
    expression = close_lips(expression, ARKIT_EXPRESSIONS, contact, jaw_share=0.0)
    targets = LipTrack(expression, lip_opening(expression, ARKIT_EXPRESSIONS), contact, sure)
    return Tracked((np.clip(samples, -1, 1) * 32767).astype(np.int16), targets, name, complete=True)


def viseme_scores(model: AudioToMotion, samples: Array) -> Array:
    """How much better than by chance each sound fits: log posterior less log share, [rows at 100 Hz, visemes].

    The network names sounds 25 times per second; shifting its input by one feature row gives the moments between.
    """
    extractor = EXTRACTORS[model.config.extractor]()
    rows = torch.from_numpy(np.concatenate([extractor.push(samples), extractor.finish()]))
    count = len(rows) // STRIDE
    result = np.empty((count * STRIDE, model.config.visemes), np.float32)
    rows = torch.cat([rows, rows[-1:].expand(STRIDE, -1)])
    with torch.inference_mode():
        for shift in range(STRIDE):
            logits = model.visemes(model.trunk(rows[None, shift : shift + count * STRIDE]))[0]
            result[shift::STRIDE] = torch.log_softmax(logits, -1).numpy()
    share = np.log(np.exp(result).mean(axis=0) + 0.01)
    return np.maximum(result - share, -6.0)


def curve_weights(spoken: list[Spoken], tracked: list[Tracked]) -> torch.Tensor:
    """Weights that bring curves of different size together: 0.15 over the standard deviation, between 0.5 and 4."""
    rows = [spoken_targets(clip).expression for clip in spoken[:100]] + [
        clip.targets.expression for clip in tracked[:100]
    ]
    deviation = np.concatenate(rows)[:, _COLUMNS].std(axis=0)
    weight = np.clip(0.15 / np.maximum(deviation, 1e-3), 0.5, 4.0)
    weight[CURVES.index("mouthRollLower")] = 5.0
    return torch.from_numpy(weight.astype(np.float32))


class LipStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Examples are numbered through. A step makes ``fresh`` new ones and takes the rest of its batch from the last ``memory`` ones; those are
    held, or made again where a run was resumed: they are the same.

    Args:
        spoken, tracked: clips to learn from.
        settings: what to do.
        config: sizes of the network.
    """

    name = "lips"
    averaged = ("audio_to_motion",)

    def __init__(
        self, spoken: list[Spoken], tracked: list[Tracked], settings: TrainingSettings, config: AudioToMotionConfig | None = None
    ) -> None:
        self.recipe, self._spoken, self._tracked = settings, spoken, tracked
        torch.manual_seed(settings.seed)
        self.networks = nn.ModuleDict({"audio_to_motion": AudioToMotion(config or DEFAULT_CONFIG)})
        self.frozen = nn.ModuleDict()
        self._weight = curve_weights(spoken, tracked)
        self._held: dict[int, tuple[Array, ...]] = {}

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        optimiser = torch.optim.AdamW(self.networks.parameters(), lr=self.recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1.0)))
        return [self.recipe.rate * warm * (0.02 + 0.98 * cosine)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def _example(self, number: int) -> tuple[Array, ...]:
        if number not in self._held:
            random = np.random.default_rng([self.recipe.seed, number])
            pool = self._tracked if self._tracked and random.random() < self.recipe.tracked_share else self._spoken
            clip = pool[int(random.integers(len(pool)))]
            extractor = self.networks["audio_to_motion"].config.extractor
            self._held[number] = example(clip, self.recipe.frames, random, extractor)
        return self._held[number]

    def rows(self, step: int, rows: Sequence[int]) -> list[Tensor]:
        settings = self.recipe
        # The first step makes a whole batch.
        new = settings.batch if step == 0 else min(settings.fresh, settings.batch)
        made = settings.batch + min(settings.fresh, settings.batch) * step
        oldest = max(0, made - settings.memory)
        chosen = []
        for row in rows:
            random = np.random.default_rng([settings.seed, step, row])
            chosen.append(made - new + row if row < new else int(random.integers(oldest, made)))
        examples = [self._example(number) for number in chosen]
        for number in [number for number in self._held if number < oldest]:
            del self._held[number]
        return [torch.from_numpy(np.stack(column)) for column in zip(*examples, strict=True)]

    def losses(self, batch: list[Tensor], step: int, which: str) -> dict[str, Tensor]:
        model = self.networks["audio_to_motion"]
        features, *targets = batch
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.recipe.half):
            trunk = model.trunk(roughen(features)).float()
        outputs = model.motion(trunk)
        terms = {"lips": losses(outputs, tuple(targets), self._weight)}
        if model.config.visemes:
            terms["visemes"] = 0.3 * viseme_loss(model.visemes(trunk), targets[-1])
        if self.recipe.sync_loss:
            terms["sync"] = self.recipe.sync_loss * sync_loss(features, outputs[0], CURVES)
        return terms

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        """Held-out measures are those of scripts/evaluate_audio_to_motion.py."""
        return {}, None

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        settings = json.dumps({"batch": self.recipe.batch, "frames": self.recipe.frames})
        save_model(networks["audio_to_motion"], folder / "model.safetensors", {"steps": notes["steps"], "settings": settings})


def train(
    spoken: list[Spoken],
    tracked: list[Tracked],
    folder: Path,
    settings: TrainingSettings,
    config: AudioToMotionConfig | None = None,
    start: AudioToMotion | None = None,
) -> AudioToMotion:
    """Train or continue; ``folder`` holds ``state.pt`` and ``model.safetensors`` (averaged weights).

    A new run begins with the weights of ``start`` where given (a viseme head that it lacks begins at random); sizes are then its own.
    """
    if start is not None:
        config = replace(start.config, visemes=len(VISEMES), dropout=DEFAULT_CONFIG.dropout)
    stage = LipStage(spoken, tracked, settings, config)
    if start is not None:
        stage.networks["audio_to_motion"].load_state_dict(start.state_dict(), strict=False)
    train_stage(stage, folder, tensorboard=False)
    return stage.networks_average["audio_to_motion"]
