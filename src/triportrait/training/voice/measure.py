"""Lip-sync figures of an audio-to-motion network: against tracked lips, against known phonemes, and in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.motion.amplitude import GAINS
from triportrait.motion.audio import mouth_expression
from triportrait.motion.audio_network import MouthNetwork, as_graph
from triportrait.motion.lips import lip_opening
from triportrait.motion.natural import NaturalMotion
from triportrait.motion.speech_features import RATE_HZ, LogMel, ProsodyTracker
from triportrait.motion.voice_graph import MouthStream
from triportrait.training.voice.articulation import VISEMES, visemes_of
from triportrait.training.voice.augment import music_bed, noise
from triportrait.training.voice.corpora import Tracked, load_synthesised, load_tracked
from triportrait.training.voice.lip_tracks import lip_opening_of
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array


def predict(model: MouthNetwork, samples: Array) -> tuple[Array, Array]:
    """What the driver would show: expression [t, 44], and the lip opening it gives [t], for 16 kHz ``samples``."""
    stream = MouthStream(as_graph(model))
    parts = [stream.push(samples), stream.finish()]
    curves, contact = (np.concatenate([part[i] for part in parts]) for i in (0, 2))
    heard = listened(samples, len(curves))
    expression = mouth_expression(curves, contact, model.config.curves, GAINS["opening"], held=heard.held)
    return expression, lip_opening(expression, ARKIT_EXPRESSIONS)


def listened(samples: Array, rows: int) -> NaturalMotion:
    """Natural motion that has heard 16 kHz ``samples`` for ``rows``: what it says of loudness and held vowels is what the driver takes."""
    natural, tracker = NaturalMotion(), ProsodyTracker()
    for prosody in (tracker.push(samples), tracker.finish()):
        natural.hear(prosody)
    natural.end()
    natural.advance(rows)
    return natural


def correlation_by_lag(predicted: Array, tracked: Array, most: int = 5) -> dict[int, float]:
    """Pearson correlation for each lag in frames; positive = the prediction comes late."""
    result = {}
    for lag in range(-most, most + 1):
        first = predicted[max(lag, 0) : len(predicted) + min(lag, 0)]
        second = tracked[max(-lag, 0) : len(tracked) + min(-lag, 0)]
        steady = first.std() < 1e-6 or second.std() < 1e-6
        result[lag] = 0.0 if steady else float(np.corrcoef(first, second)[0, 1])
    return result


def openings(model: MouthNetwork, clip: Tracked) -> tuple[Array, Array]:
    """Predicted and tracked lip opening of a clip, each [t] in face heights."""
    _, predicted = predict(model, clip.samples.astype(np.float32) / 32767)
    tracked = clip.targets.opening
    count = min(len(predicted), len(tracked))
    return predicted[:count], tracked[:count]


def mean_opening_correlation(model: MouthNetwork, clips: Sequence[Tracked]) -> float:
    """Mean over clips of the correlation of predicted and tracked lip opening."""
    return float(np.mean([correlation_by_lag(*openings(model, clip), 0)[0] for clip in clips]))


def against_tracks(model: MouthNetwork, shared_data: Path, split: str = "val") -> dict:
    """Correlation and lag of lip opening on ``speech_av``, per clip and mean, and the opening in tracked pauses."""
    clips, silence = {}, []
    for clip in load_tracked(shared_data, split):
        opening, tracked = openings(model, clip)
        by_lag = correlation_by_lag(opening, tracked)
        best = max(by_lag, key=by_lag.__getitem__)
        error = float(np.abs(opening - tracked).mean())
        clips[clip.name] = {"correlation": by_lag[0], "best_lag": best, "at_best_lag": by_lag[best], "l1": error}
        silence.append((opening, tracked))
    values = np.array([row["correlation"] for row in clips.values()])
    lags = np.array([row["best_lag"] for row in clips.values()])
    all_predicted, all_tracked = (np.concatenate(column) for column in zip(*silence, strict=True))
    shut = all_tracked < 0.005
    return {
        "clips": len(clips),
        "correlation_mean": float(values.mean()),
        "correlation_median": float(np.median(values)),
        "correlation_worst": float(values.min()),
        "correlation_pooled": float(np.corrcoef(all_predicted, all_tracked)[0, 1]),
        "best_lag_median": float(np.median(lags)),
        "best_lag_within_1": float(np.mean(np.abs(lags) <= 1)),
        "l1_face_heights": float(np.abs(all_predicted - all_tracked).mean()),
        "shut_when_tracked_shut": float(np.mean(all_predicted[shut] < 0.1 * np.quantile(all_predicted, 0.95))),
        "amplitude_ratio": float(np.quantile(all_predicted, 0.95) / np.quantile(all_tracked, 0.95)),
        "per_clip": clips,
    }


def against_phonemes(model: MouthNetwork, folder: Path, limit: int | None = None) -> dict:
    """Contacts of unseen synthesised voices: lips at /p b m/, teeth at /f v/, rounding, rest in silence.

    Closed means an opening below 5 % of the range, the 95th percentile of the clip's opening; the looser 10 % is
    given too.
    """
    column = {name: ARKIT_EXPRESSIONS.index(name) for name in ("mouthPucker", "mouthFunnel", "mouthRollLower")}
    closed, nearly, teeth, rounded, silent = [], [], [], [], []
    by_voice: dict[str, list[Any]] = {}
    for clip in load_synthesised(folder, "test", limit):
        samples = clip.samples.astype(np.float32) / 32767
        # Half a second of digital silence before, two after: the mouth may breathe before it closes.
        pad = np.zeros(8000, np.float32)
        expression, opening = predict(model, np.concatenate([pad, samples, pad, pad, pad, pad]))
        rested, opening = opening[-15:], opening[:-38]
        span = max(float(np.quantile(opening, 0.95)), 1e-4)
        rounding = expression[:, column["mouthPucker"]] + expression[:, column["mouthFunnel"]]
        middle = float(np.median(rounding[12:-50]))
        silent.extend((opening[2:9] / span).tolist())
        silent.extend((rested / span).tolist())
        for phone in clip.phones:
            row = round((0.5 + (phone.start_s + phone.end_s) / 2) * FPS)
            kinds = visemes_of(phone.symbol)
            if row >= len(opening):
                continue
            if kinds == ("p",):
                hit = opening[row] < 0.05 * span
                closed.append(hit)
                nearly.append(opening[row] < 0.1 * span)
                language = clip.voice.split("+")[0]
                by_voice.setdefault(language, []).append(hit)
            elif kinds == ("f",):
                teeth.append(expression[row, column["mouthRollLower"]] > 0.15 and opening[row] < 0.4 * span)
            elif len(kinds) == 1 and VISEMES[kinds[0]].targets[2] >= 0.4 and phone.end_s - phone.start_s > 0.06:
                rounded.append(rounding[row] > middle)
    return {
        "bilabials": len(closed),
        "closed_at_5_percent": float(np.mean(closed)),
        "closed_at_10_percent": float(np.mean(nearly)),
        "closed_by_voice": {name: float(np.mean(hits)) for name, hits in sorted(by_voice.items())},
        "labiodentals": len(teeth),
        "teeth": float(np.mean(teeth)),
        "rounded_vowels": len(rounded),
        "rounded": float(np.mean(rounded)),
        "silence_rows": len(silent),
        "silence_opening_mean": float(np.mean(silent)),
        "silence_below_5_percent": float(np.mean(np.array(silent) < 0.05)),
    }


def against_videos(model: MouthNetwork, folder: Path) -> dict:
    """Correlation of predicted and tracked lip opening on talking clips of people and voices that were never seen.

    Beside it: the correlation outside rows where the network hears no speech for 0.12 s (people breathe with open or
    closed mouths, which no sound tells), that of plain loudness, and what wrong pairs of sound and picture reach (mean
    and 95th percentile at lag 0), so that chance can be told from lip-sync.
    """
    from triportrait.face.mesh_tracker import MeshTracker
    from triportrait.face.tracker import track_clip
    from triportrait.media.audio import read_audio
    from triportrait.media.video import VideoReader

    clips, predictions, tracks = {}, {}, {}
    for path in sorted(folder.glob("*.mp4")):
        with VideoReader(path) as reader:
            track = track_clip(MeshTracker(), (frame for _, frame in reader.frames(FPS)), FPS)
        tracked = lip_opening_of(track)
        samples = read_audio(path, RATE_HZ).samples
        _, opening = predict(model, samples)
        extractor = LogMel()
        energy = np.concatenate([extractor.push(samples), extractor.finish()])[:, 80]
        energy = energy[: len(energy) // 4 * 4].reshape(-1, 4).mean(axis=1)
        count = min(len(opening), len(tracked), len(energy))
        opening, tracked, energy = opening[:count], tracked[:count], energy[:count]
        predictions[path.stem], tracks[path.stem] = opening, tracked
        by_lag = correlation_by_lag(opening, tracked)
        best = max(by_lag, key=by_lag.__getitem__)
        # 0.12 s within which nothing comes within 20 dB of the level.
        heard = np.convolve(energy > 0.0, np.ones(3), mode="same") > 0
        clips[path.stem] = {
            "correlation": by_lag[0],
            "best_lag": best,
            "at_best_lag": by_lag[best],
            "while_speaking": float(np.corrcoef(opening[heard], tracked[heard])[0, 1]),
            "loudness_best": max(correlation_by_lag(energy, tracked).values()),
            "opening_p95": float(np.quantile(opening, 0.95)),
            "tracked_p95": float(np.quantile(tracked, 0.95)),
        }
    wrong = []
    for first, opening in predictions.items():
        for second, tracked in tracks.items():
            if first != second:
                count = min(len(opening), len(tracked))
                wrong.append(correlation_by_lag(opening[:count], tracked[:count], 0)[0])
    return {
        "correlation_mean": float(np.mean([row["correlation"] for row in clips.values()])),
        "while_speaking_mean": float(np.mean([row["while_speaking"] for row in clips.values()])),
        "wrong_pairs_mean": float(np.mean(wrong)),
        "wrong_pairs_p95": float(np.quantile(wrong, 0.95)),
        "per_clip": clips,
    }


def without_speech(model: MouthNetwork, seed: int = 0) -> dict:
    """Share of rows with closed lips (opening below 0.004 face heights) in digital silence, noise and music of 20 s each."""
    random = np.random.default_rng(seed)
    count = 20 * 16000
    sounds = {
        "silence": np.zeros(count),
        "white_noise": 0.02 * noise(count, 0.0, random),
        "pink_noise": 0.05 * noise(count, 1.0, random),
        "hum": 0.02 * np.sin(np.arange(count) * 2 * np.pi * 50 / 16000),
        "music": 0.05 * music_bed(count, random),
    }
    result = {}
    for name, sound in sounds.items():
        _, opening = predict(model, sound.astype(np.float32))
        result[name] = float(np.mean(opening < 0.004))
    return result
