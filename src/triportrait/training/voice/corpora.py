"""Speech that the voice networks learn from: synthesised with exact phonemes, and tracked on real people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import STRIDE, MouthNetwork
from triportrait.motion.lips import close_lips, lip_opening
from triportrait.motion.speech_features import EXTRACTORS, RATE_HZ
from triportrait.training.voice.articulation import Style, curves_from_phones
from triportrait.training.voice.lip_tracks import LipTrack, curves_from_landmarks, load_speech_av
from triportrait.training.voice.synthesisers import Phone
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array

#: Curves the network predicts; all others belong to natural motion.
CURVES = tuple(
    name
    for name in ARKIT_EXPRESSIONS
    if name.startswith(("jawOpen", "jawForward", "mouth", "tongue"))
    and name not in ("mouthLeft", "mouthRight", "mouthShrugUpper", "mouthFrownLeft", "mouthFrownRight")
)
COLUMNS = [ARKIT_EXPRESSIONS.index(name) for name in CURVES]
#: How far curves fitted to 21 tracked points are trusted: shapes that such a fit cannot tell apart are left to the
#: articulation model.
TRACKED_TRUST = np.array(
    [
        1.0 if name in ("jawOpen", "mouthFunnel", "mouthPucker") else 0.3 if name.startswith(("mouthStretch", "mouthUpper")) else 0.0
        for name in CURVES
    ],
    np.float32,
)


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
