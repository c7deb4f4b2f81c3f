"""Gains of :mod:`triportrait.motion.amplitude`: what the spread of each group of curves lacks on speech that was not learned from.

    python scripts/fit_amplitude.py --shared DIR [--model FILE] [--held-out facegood_3_15]

The gains are the ratios of real spread to the network's on a speaker that it did not learn, because a user's voice is a stranger's. So
experts for known speakers, which take the gains into account, are left out. Pauses are shut as the driver shuts them. The captured rig has
no spread lips, so spreading takes the ratio on the held-out sentences of GRID, whose speaker the network knows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import AudioToMotionEnsemble, as_graph, load_model
from triportrait.motion.lips import gap_weights, lip_opening
from triportrait.motion.pauses import PauseFinder
from triportrait.motion.speech_features import RATE_HZ, ProsodyTracker
from triportrait.motion.voice_graph import MouthStream
from triportrait.nn.runtime import Graph
from triportrait.training.voice.capture import captured_curves
from triportrait.training.voice.corpora import load_tracked
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: At most so many sentences of GRID.
SENTENCES = 60
#: What is measured of a group: one side, because the other moves alike.
SHAPES = {"rounding": ("mouthPucker", "mouthFunnel"), "spreading": ("mouthStretchLeft", "mouthSmileLeft")}


def rows_of(graph: Graph, samples: Array, real: Array, opening: Array) -> dict[str, Array]:
    """Real and predicted rows of one clip: openings, and the sums of :data:`SHAPES`."""
    stream, names = MouthStream(graph), graph.config["curves"]
    curves = np.concatenate([part[0] for part in (stream.push(samples), stream.finish())])
    spoken = 1.0 - pauses_of(samples)
    count = min(len(curves), len(real), len(spoken))
    curves = curves[:count] * spoken[:count, None]
    rows = {"real_opening": opening[:count], "opening": np.maximum(curves @ gap_weights(names), 0.0)}
    for shape, members in SHAPES.items():
        rows[f"real_{shape}"] = sum(real[:count, ARKIT_EXPRESSIONS.index(name)] for name in members)
        rows[shape] = sum(curves[:, names.index(name)] for name in members)
    return rows


def pauses_of(samples: Array) -> Array:
    """How far the driver shuts the lips for pauses: [t]."""
    tracker, pauses = ProsodyTracker(), PauseFinder()
    for prosody in (tracker.push(samples), tracker.finish()):
        pauses.hear(prosody)
    pauses.end()
    return pauses.rows(pauses.ready)


def spread_ratio(clips: list[dict[str, Array]], shape: str) -> float:
    """Real spread over predicted, all rows of the clips together."""
    real, ours = (np.concatenate([clip[name] for clip in clips]) for name in (f"real_{shape}", shape))
    return float(real.std() / ours.std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--held-out", default="facegood_3_15")
    options = parser.parse_args()
    model = load_model(options.model)
    if isinstance(model, AudioToMotionEnsemble):
        model = AudioToMotionEnsemble(model.networks)
    graph = as_graph(model)
    path = options.shared / "speech_capture" / f"{options.held_out}.npz"
    with np.load(path, allow_pickle=False) as data:
        curves = captured_curves(data["weights"], [str(name) for name in data["names"]])
    samples = read_audio(path.with_suffix(".flac"), RATE_HZ).samples
    strangers = [rows_of(graph, samples, curves, lip_opening(curves, ARKIT_EXPRESSIONS))]
    known = [
        rows_of(graph, clip.samples.astype(np.float32) / 32767, clip.targets.expression, clip.targets.opening)
        for clip in load_tracked(options.shared, "val")[:SENTENCES]
    ]
    ratios = {
        name: {shape: spread_ratio(clips, shape) for shape in ("opening", *SHAPES)}
        for name, clips in (("strangers", strangers), ("known", known))
    }
    gains = {**ratios["strangers"], "spreading": ratios["known"]["spreading"]}
    print(json.dumps({"gains": gains, "spread_ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
