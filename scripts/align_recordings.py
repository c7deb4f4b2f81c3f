"""Phoneme times for real recordings with transcripts: ``python scripts/align_recordings.py --index CSV --out DIR``.

CSV has the columns ``file`` (relative to its folder's parent when it names one) and ``transcript``. The clips join those of
``synthesise_speech.py`` as ``DIR/recording_<number>.npz``. With ``--speech-av FOLDER`` the sentences of GRID are aligned as
well (``DIR/grid_<clip>.npz``, phonemes of the tracked clips). ``--model`` gives a network with a viseme head, which then moves
the boundaries to where it hears them.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import AudioToMotion, load_model
from triportrait.training.alignment import aligned_phones, refined_phones
from triportrait.training.audio_to_motion import viseme_scores
from triportrait.training.synthesis import Phone, flite
from triportrait.types import Waveform

#: Letters of GRID's sentences as flite has to read them.
LETTERS = {"a": "ay"}


def phones_of(text: str, waveform: Waveform, voice: str, model: AudioToMotion | None) -> tuple[tuple[Phone, ...], float]:
    """Phonemes of a recording and the cost of the match."""
    phones, cost = aligned_phones(flite(text, voice), waveform)
    if model is not None:
        phones = refined_phones(phones, viseme_scores(model, waveform.samples))
    return phones, cost


def save(path: Path, waveform: Waveform, phones: tuple[Phone, ...], voice: str) -> None:
    """Write one clip in the layout of ``synthesise_speech.py``."""
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part,
        samples=(np.clip(waveform.samples, -1, 1) * 32767).astype(np.int16),
        symbols=np.array([phone.symbol for phone in phones]),
        start_s=np.array([phone.start_s for phone in phones], np.float32),
        end_s=np.array([phone.end_s for phone in phones], np.float32),
        voice=np.array(voice),
    )
    os.replace(part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--voice", default="awb")
    parser.add_argument("--worst-cost", type=float, default=2.7, help="recordings that match worse are left out")
    parser.add_argument("--speech-av", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = load_model(options.model) if options.model else None
    kept = 0
    with options.index.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        waveform = read_audio(options.index.parent / row["file"])
        phones, cost = phones_of(row["transcript"], waveform, options.voice, model)
        if cost <= options.worst_cost:
            kept += 1
            save(options.out / f"recording_{number:05d}.npz", waveform, phones, f"recording:{row['file']}")
    print(f"{kept} of {len(rows)} recordings in {options.out}")
    if options.speech_av:
        with (options.speech_av / "index.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            waveform = read_audio(options.speech_av / row["audio"])
            text = " ".join(LETTERS.get(word, word) for word in row["sentence"].split())
            phones, _ = phones_of(text, waveform, options.voice, model)
            save(options.out / f"grid_{row['clip']}.npz", waveform, phones, f"grid:{row['clip']}")
        print(f"{len(rows)} clips of GRID in {options.out}")


if __name__ == "__main__":
    main()
