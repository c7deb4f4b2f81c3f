"""Train the audio-to-motion network: ``python scripts/train_audio_to_motion.py --synthesised DIR --shared
../shared/data --out DIR``.

Continues from ``OUT/state.pt`` when it exists. See docs/models/audio_to_motion.md for the data and the figures.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import load_model
from triportrait.training.voice.corpora import aligned, load_synthesised, load_tracked, pseudo_labelled
from triportrait.training.voice.stage import TrainingSettings, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthesised", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--phonemes", type=Path, default=None, help="folder of align_recordings.py with phonemes of the tracked clips")
    parser.add_argument("--start", type=Path, default=None, help="single network whose weights and sizes a new run begins with")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--half", action="store_true", help="bfloat16 convolutions, 1.5 times as fast where the processor has it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--align-with", type=Path, default=None, help="model that finds clips whose sound is out of step")
    parser.add_argument("--untranscribed", type=Path, default=None, help="folder of recordings to pseudo-label (every third is held out)")
    parser.add_argument("--teachers", type=Path, nargs="+", default=(), help="two models or more that label them")
    parser.add_argument("--sync-loss", type=float, default=0.0, help="weight of the synchrony expert's loss, 0.05 to 0.2")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    spoken, tracked = load_synthesised(options.synthesised, "train"), load_tracked(options.shared, "train", options.phonemes)
    # Formant synthesis is the least like people and counts half; voices joined from recorded speech and real ones are
    # few (the former ten seconds each) and count more.
    formant = [clip for clip in spoken if clip.voice.startswith("espeak")]
    joined, recordings = (load_synthesised(options.synthesised, split) for split in ("joined", "recording"))
    others = [clip for clip in spoken if not clip.voice.startswith("espeak")]
    spoken = others + formant[::2] + 6 * joined + 14 * recordings
    logging.info("%d joined clips, %d aligned recordings", len(joined), len(recordings))
    logging.info("%d synthesised and %d tracked clips", len(spoken), len(tracked))
    if options.align_with:
        before = tracked
        tracked = aligned(tracked, load_model(options.align_with))
        moved = sum(first is not second for first, second in zip(before, tracked, strict=True))
        logging.info("%d tracked clips brought into step", moved)
    if options.untranscribed and len(options.teachers) > 1:
        teachers = [load_model(path) for path in options.teachers]
        sounds = sorted(path for path in options.untranscribed.iterdir() if path.suffix in (".flac", ".mp3", ".wav"))
        labelled = [pseudo_labelled(read_audio(path, 16000).samples, path.stem, teachers) for i, path in enumerate(sounds) if i % 3]
        labelled = [clip for clip in labelled if clip is not None]
        logging.info("%d pseudo-labelled recordings of %d", len(labelled), len(sounds))
        tracked = tracked + 3 * labelled
    settings = TrainingSettings(
        steps=options.steps,
        batch=options.batch,
        fresh=3,
        memory=2500,
        tracked_share=0.2,
        half=options.half,
        sync_loss=options.sync_loss,
        rate=options.rate,
        seed=options.seed,
    )
    train(spoken, tracked, options.out, settings, start=load_model(options.start) if options.start else None)


if __name__ == "__main__":
    main()
