"""What a person's own voice (:mod:`triportrait.motion.personal_voice`) adds to a lip network, as JSON.

    python scripts/evaluate_personal_voice.py --shared DIR [--seconds 60] [--model FILE] [--clips FOLDER]

GRID's speaker s1: learned from sentences of split ``train``, judged on those of ``val``, by the correlation of the bare opening with the
tracked one. ``--model`` is a network that may never have heard him; the one that ships has. ``--clips`` are talking videos: the first five
seconds of each are given, and the last five judged.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch

from triportrait.evaluation.clip_folder import find_clips
from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import as_graph, load_model
from triportrait.motion.personal_voice import VOICE_GAIN, PersonalVoice, learn_voice
from triportrait.motion.speech_features import RATE_HZ
from triportrait.motion.voice_graph import MouthStream, load_voice
from triportrait.nn.runtime import Graph
from triportrait.training.voice.corpora import Tracked, load_tracked
from triportrait.training.voice.lip_tracks import lip_opening_of
from triportrait.types import FPS, Array

GIVEN_S = 5.0


def openings(network: Graph, samples: Array, learned: Array | None) -> tuple[Array, Array]:
    """The opening [t] in face heights that the network says, and what the person's voice makes of it."""
    stream = MouthStream(network)
    curves, said, contact = (np.concatenate(parts) for parts in zip(stream.push(samples), stream.finish(), strict=True))
    plain = VOICE_GAIN * np.maximum(said, 0.0)
    if learned is None:
        return plain, plain
    voice = PersonalVoice(learned)
    voice.push(samples)
    voice.finish()
    gains, added = voice.change(curves, said, contact)
    return plain, gains * plain + added


def correlations(made: tuple[Array, Array], tracked: Array) -> tuple[float, float]:
    """Of both openings with the tracked one."""
    count = min(len(tracked), len(made[0]))
    first, second = (0.0 if one[:count].std() < 1e-6 else float(np.corrcoef(one[:count], tracked[:count])[0, 1]) for one in made)
    return first, second


def of_speaker(network: Graph, shared: Path, seconds: float) -> dict[str, float]:
    """GRID's speaker: ``seconds`` of his sentences are learned."""

    def sound(clip: Tracked) -> Array:
        return clip.samples.astype(np.float32) / 32767

    clips = load_tracked(shared, "train")
    given = clips[: math.ceil(seconds * RATE_HZ / len(clips[0].samples))]
    opening = np.concatenate([clip.targets.opening for clip in given])
    learned = learn_voice(np.concatenate([sound(clip) for clip in given]), opening, np.ones(len(opening), bool), network)
    found = [correlations(openings(network, sound(clip), learned), clip.targets.opening) for clip in load_tracked(shared, "val")]
    plain, own = np.mean(found, 0)
    given_s = sum(len(clip.samples) for clip in given) / RATE_HZ
    return {"given_s": given_s, "judged_clips": len(found), "network": float(plain), "own_voice": float(own)}


def of_clips(network: Graph, folder: Path) -> dict[str, dict[str, float]]:
    """Talking videos, and their mean.

    Raises:
        MediaError: there is no such folder, or no video in it.
    """
    from triportrait.face.mesh_tracker import MeshTracker
    from triportrait.face.tracker import track_clip
    from triportrait.media.video import VideoReader

    rows = {}
    for path in find_clips(folder):
        with VideoReader(path) as reader:
            track = track_clip(MeshTracker(), (frame for _, frame in reader.frames(FPS)), FPS)
        tracked, samples = lip_opening_of(track), read_audio(path, RATE_HZ).samples
        given, judged = round(GIVEN_S * FPS), max(len(tracked) - round(GIVEN_S * FPS), round(GIVEN_S * FPS))
        learned = learn_voice(samples[: round(GIVEN_S * RATE_HZ)], tracked[:given], np.asarray(track.found[:given], bool), network)
        plain, own = correlations(tuple(one[judged:] for one in openings(network, samples, learned)), tracked[judged:])
        rows[path.stem] = {"network": plain, "own_voice": own}
    rows["mean"] = {name: float(np.mean([row[name] for row in rows.values()])) for name in ("network", "own_voice")}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with speech_av/ and ict_facekit.npz")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the speaker's sentences that are learned")
    parser.add_argument("--model", type=Path, help="model.safetensors of 'triportrait train voice'; without it the network that ships")
    parser.add_argument("--clips", type=Path, help="folder of talking videos")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_voice() if options.model is None else as_graph(load_model(options.model))
    report: dict[str, object] = {"grid_s1": of_speaker(network, options.shared, options.seconds)}
    if options.clips:
        report["clips"] = of_clips(network, options.clips)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
