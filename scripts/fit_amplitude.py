"""Gains of :mod:`triportrait.motion.amplitude`: what the spread of each group of curves lacks on speech that was not learned from.

    python scripts/fit_amplitude.py --shared DIR [--model FILE] [--held-out facegood_3_15]

How much louder syllables open the mouth is fitted, by least squares, on the captured clips and the sentences of GRID that the network
learned from; both speakers count alike. The gains are the
ratios of real spread to the network's on the one that it did not learn, because a user's voice is a stranger's. The captured rig has no
spread lips, so spreading takes the ratio on the held-out sentences of GRID, whose speaker the network knows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from triportrait.media.audio import read_audio
from triportrait.motion import amplitude
from triportrait.motion.audio_network import as_graph, load_model
from triportrait.motion.lips import gap_weights, lip_opening
from triportrait.motion.speech_features import RATE_HZ
from triportrait.motion.voice_graph import MouthStream
from triportrait.training.voice.capture import captured_curves
from triportrait.training.voice.corpora import load_tracked
from triportrait.training.voice.measure import listened
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: At most so many sentences of each split of GRID.
SENTENCES = 60
#: What is measured of a group: one side, because the other moves alike.
SHAPES = {"rounding": ("mouthPucker", "mouthFunnel"), "spreading": ("mouthStretchLeft", "mouthSmileLeft")}


def rows_of(graph, samples: Array, real: Array, opening: Array) -> dict[str, Array]:
    """Real and predicted rows of one clip: openings, energies, and the sums of :data:`SHAPES`."""
    stream, names = MouthStream(graph), graph.config["curves"]
    curves = np.concatenate([part[0] for part in (stream.push(samples), stream.finish())])
    count = min(len(curves), len(real))
    rows = {"real_opening": opening[:count], "opening": np.maximum(curves[:count] @ gap_weights(names), 0.0)}
    rows["energy_db"] = listened(samples, count).energies_db
    for shape, members in SHAPES.items():
        rows[f"real_{shape}"] = sum(real[:count, ARKIT_EXPRESSIONS.index(name)] for name in members)
        rows[shape] = sum(curves[:count, names.index(name)] for name in members)
    return rows


def spread_ratio(clips: list[dict[str, Array]], shape: str, per_db: float = 0.0) -> float:
    """Real spread over predicted, all rows of the clips together."""
    real = np.concatenate([clip[f"real_{shape}"] for clip in clips])
    ours = np.concatenate([clip[shape] * louder(clip, per_db) for clip in clips])
    return float(real.std() / ours.std())


def louder(clip: dict[str, Array], per_db: float) -> Array:
    """The law's factor [t] for a share per decibel."""
    return 1.0 + per_db * (np.clip(clip["energy_db"], amplitude.LEAST_DB, amplitude.MOST_DB) - amplitude.USUAL_DB)


def louder_is_wider(speakers: list[list[dict[str, Array]]]) -> tuple[float, float]:
    """Gain at :data:`triportrait.motion.amplitude.USUAL_DB` and its growth per decibel, by least squares; all speakers count alike."""
    designs, wanted = [], []
    for clips in speakers:
        plain, real = (np.concatenate([clip[name] for clip in clips]) for name in ("opening", "real_opening"))
        slope = plain * np.concatenate([louder(clip, 1.0) - 1.0 for clip in clips])
        weight = 1.0 / np.sqrt(len(plain))
        designs.append(weight * np.stack([plain, slope], 1))
        wanted.append(weight * real)
    usual, per_db = np.linalg.lstsq(np.concatenate(designs), np.concatenate(wanted), rcond=None)[0]
    return float(usual), float(per_db)


def agreement(clips: list[dict[str, Array]], per_db: float) -> float:
    """Mean correlation of real and predicted opening."""
    return float(np.mean([np.corrcoef(clip["real_opening"], clip["opening"] * louder(clip, per_db))[0, 1] for clip in clips]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--held-out", default="facegood_3_15")
    options = parser.parse_args()
    graph = as_graph(load_model(options.model))
    captured = {}
    for path in sorted((options.shared / "speech_capture").glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            curves = captured_curves(data["weights"], [str(name) for name in data["names"]])
        samples = read_audio(path.with_suffix(".flac"), RATE_HZ).samples
        captured[path.stem] = rows_of(graph, samples, curves, lip_opening(curves, ARKIT_EXPRESSIONS))
    strangers = [captured.pop(options.held_out)]
    learned = list(captured.values())
    known, heard = (
        [
            rows_of(graph, clip.samples.astype(np.float32) / 32767, clip.targets.expression, clip.targets.opening)
            for clip in load_tracked(options.shared, split)[:SENTENCES]
        ]
        for split in ("val", "train")
    )
    usual, per_db = louder_is_wider([learned, heard])
    share = float(per_db / usual)
    ratios = {
        "strangers": {"opening": spread_ratio(strangers, "opening", share)},
        "known": {"opening": spread_ratio(known, "opening", share)},
    }
    for shape in SHAPES:
        ratios["strangers"][shape], ratios["known"][shape] = spread_ratio(strangers, shape), spread_ratio(known, shape)
    gains = {shape: ratios["strangers"][shape] for shape in ("opening", "rounding")}
    gains["spreading"] = ratios["known"]["spreading"]
    correlations = {
        name: {"plain": agreement(clips, 0.0), "louder is wider": agreement(clips, share)}
        for name, clips in (("strangers", strangers), ("learned", learned), ("known", known))
    }
    print(json.dumps({"gains": gains, "louder_per_db": share, "spread_ratios": ratios, "correlation": correlations}, indent=1))


if __name__ == "__main__":
    main()
