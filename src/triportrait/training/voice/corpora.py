"""Speech that the voice networks learn from: synthesised with exact phonemes, and tracked on real people."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from triportrait.errors import EmptyMedia, MediaError, OutputError
from triportrait.files import atomic_file
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


def write_spoken(path: Path, clip: Spoken) -> None:
    """One clip of a folder of speech, whole or not at all; :func:`load_synthesised` reads it."""
    _write(path, {"samples": clip.samples, **_phone_columns(clip.phones), "voice": np.array(clip.voice)})


def write_tracked(path: Path, clip: Tracked) -> None:
    """The same of a tracked clip; :func:`load_packed_tracks` reads it."""
    targets = {name: getattr(clip.targets, name) for name in ("expression", "opening", "contact", "sure")}
    found = {name: value for name, value in targets.items() if value is not None}
    _write(path, {"samples": clip.samples, **_phone_columns(clip.phones), **found, "name": np.array(clip.name), "complete": clip.complete})


def _phone_columns(phones: Sequence[Phone]) -> dict[str, Array]:
    return {
        "symbols": np.array([phone.symbol for phone in phones], dtype=np.str_),
        "start_s": np.array([phone.start_s for phone in phones], np.float32),
        "end_s": np.array([phone.end_s for phone in phones], np.float32),
    }


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    try:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another folder") from None


def _clips(folder: Path, split: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Arrays of the files ``SPLIT_*.npz`` of a folder of speech, with their phonemes as ``phones``."""
    for path in sorted(folder.glob(f"{split}_*.npz"))[:limit]:
        try:
            with np.load(path, allow_pickle=False) as data:
                found: dict[str, Any] = {name: data[name] for name in data.files}
            rows = zip(found.pop("symbols"), found.pop("start_s"), found.pop("end_s"), strict=True)
            found["phones"] = tuple(Phone(str(symbol), float(start), float(end)) for symbol, start, end in rows)
            found["samples"] = found["samples"].astype(np.int16, copy=False)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise MediaError(f"'{path}' is no clip of 'triportrait data speech'; remove it and make it again") from None
        yield found


def load_synthesised(folder: Path, split: str, limit: int | None = None) -> list[Spoken]:
    """Clips of a folder of ``triportrait data speech``.

    Args:
        folder: of speech.
        split: ``train``, ``test``, ``joined``, ``joinedtest``, ``sung`` (synthesised) or ``recording`` (real, with found phoneme times).
        limit: clips at most.

    Raises:
        MediaError: a file is damaged.
    """
    return [Spoken(clip["samples"], clip["phones"], str(clip["voice"])) for clip in _clips(folder, split, limit)]


def load_packed_tracks(folder: Path, split: str) -> list[Tracked]:
    """Tracked clips of a folder of ``triportrait data speech``.

    Args:
        folder: of speech.
        split: ``tracked``, ``trackedtest`` (real lips), ``captured``, ``capturedtest`` (captured controls) or ``labelled``
            (pseudo-labels).

    Raises:
        MediaError: a file is damaged.
    """
    result = []
    for clip in _clips(folder, split):
        targets = LipTrack(clip["expression"], clip["opening"], clip["contact"], clip.get("sure"))
        result.append(Tracked(clip["samples"], targets, str(clip["name"]), clip["phones"], bool(clip["complete"])))
    return result


@dataclass(frozen=True, slots=True)
class Speech:
    """What a voice network learns from, and is judged by."""

    spoken: list[Spoken]
    tracked: list[Tracked]
    held_out_spoken: list[Spoken]
    held_out_tracked: list[Tracked]


#: Held-out clips of each kind that are looked at during a run.
_MOST_HELD_OUT = 40


def speech_for(model: Literal["voice", "sync_expert"], folders: Sequence[Path]) -> Speech:
    """The clips of some folders of speech in the shares in which a network hears them.

    Raises:
        EmptyMedia: there are none.
        MediaError: a file is damaged.
    """

    def spoken(split: str, limit: int | None = None) -> list[Spoken]:
        return [clip for folder in folders for clip in load_synthesised(folder, split, limit)]

    def tracked(split: str) -> list[Tracked]:
        return [clip for folder in folders for clip in load_packed_tracks(folder, split)]

    synthesised, recordings = spoken("train"), spoken("recording")
    if model == "sync_expert":
        learned, real = synthesised + 8 * recordings, tracked("tracked")
    else:
        # Formant synthesis is the least like people and counts half; voices joined from recorded speech and real ones are few (the
        # former ten seconds each) and count more.
        formant = [clip for clip in synthesised if clip.voice.startswith("espeak")]
        others = [clip for clip in synthesised if not clip.voice.startswith("espeak")]
        learned = others + formant[::2] + 6 * spoken("joined") + 14 * recordings + 3 * spoken("sung")
        # Some dozen pieces of fluent speech weigh as much as the sentences of GRID.
        real = tracked("tracked") + 3 * tracked("labelled") + 6 * tracked("captured")
    if not learned:
        where = ", ".join(f"'{folder}'" for folder in folders)
        raise EmptyMedia(f"there is no speech with phonemes in {where}; make some with 'triportrait data speech -o SPEECH'")
    held_out = tracked("trackedtest")[:_MOST_HELD_OUT] + tracked("capturedtest")[:_MOST_HELD_OUT]
    return Speech(learned, real, spoken("test", _MOST_HELD_OUT)[:_MOST_HELD_OUT], held_out)


def load_tracked(shared_data: Path, split: str, phones: Mapping[str, tuple[Phone, ...]] | None = None) -> list[Tracked]:
    """Clips of ``shared_data/speech_av`` with targets from :func:`curves_from_landmarks`.

    Args:
        shared_data: folder with ``speech_av/`` and ``ict_facekit.npz``.
        split: ``train`` or ``val``.
        phones: clip -> its phonemes, where they are known.
    """
    clips = []
    for name, (part, track) in load_speech_av(shared_data / "speech_av").items():
        if part == split:
            wave = read_audio(shared_data / "speech_av" / "audio" / f"{name}.flac")
            targets = curves_from_landmarks(track, shared_data / "ict_facekit.npz")
            clips.append(Tracked((wave.samples * 32767).astype(np.int16), targets, name, (phones or {}).get(name, ())))
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


def aligned(clips: Sequence[Tracked], model: MouthNetwork, most: int = 3) -> list[Tracked]:
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
