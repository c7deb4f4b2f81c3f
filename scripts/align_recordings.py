"""Phoneme times for real recordings with transcripts: ``python scripts/align_recordings.py --index CSV --out DIR``.

CSV has the columns ``file`` (relative to its folder's parent when it names one) and ``transcript``. The clips join those of
``synthesise_speech.py`` as ``DIR/recording_<number>.npz``.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from triportrait.media.audio import read_audio
from triportrait.training.alignment import aligned_phones
from triportrait.training.synthesis import flite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--voice", default="awb")
    parser.add_argument("--worst-cost", type=float, default=2.7, help="recordings that match worse are left out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = 0
    with options.index.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        waveform = read_audio(options.index.parent / row["file"])
        phones, cost = aligned_phones(flite(row["transcript"], options.voice), waveform)
        if cost > options.worst_cost:
            continue
        kept += 1
        path = options.out / f"recording_{number:05d}.npz"
        part = path.with_suffix(".part.npz")
        np.savez_compressed(
            part,
            samples=(np.clip(waveform.samples, -1, 1) * 32767).astype(np.int16),
            symbols=np.array([phone.symbol for phone in phones]),
            start_s=np.array([phone.start_s for phone in phones], np.float32),
            end_s=np.array([phone.end_s for phone in phones], np.float32),
            voice=np.array(f"recording:{row['file']}"),
        )
        os.replace(part, path)
    print(f"{kept} of {len(rows)} recordings in {options.out}")


if __name__ == "__main__":
    main()
