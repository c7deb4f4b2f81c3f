"""Phoneme times for real recordings with transcripts: ``python scripts/align_recordings.py --index CSV --out DIR``.

CSV has the columns ``file`` (relative to its folder's parent when it names one) and ``transcript``. The clips join those of
``synthesise_speech.py`` as ``DIR/recording_<number>.npz``. With ``--speech-av FOLDER`` the sentences of GRID get phonemes as
well (``DIR/grid_<clip>.npz``): those of flite's words, stretched to the corpus's word times. ``--model`` gives a network with a
viseme head, which then moves the boundaries to where it hears them.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import AudioToMotion, load_model
from triportrait.training.voice.alignment import aligned_phones, refined_phones
from triportrait.training.voice.stage import viseme_scores
from triportrait.training.voice.synthesisers import Phone, flite
from triportrait.types import Waveform

#: Letters of GRID's sentences as flite has to read them.
LETTERS = {"a": "ay"}


def phones_of(text: str, waveform: Waveform, voice: str, model: AudioToMotion | None) -> tuple[tuple[Phone, ...], float]:
    """Phonemes of a recording and the cost of the match."""
    phones, cost = aligned_phones(flite(text, voice), waveform)
    if model is not None:
        phones = refined_phones(phones, viseme_scores(model, waveform.samples))
    return phones, cost


def phones_in_words(
    words: list[tuple[float, float, str]], waveform: Waveform, lexicon: dict[str, tuple[Phone, ...]], model: AudioToMotion | None
) -> tuple[Phone, ...]:
    """Phonemes of a recording whose words have times: (start_s, end_s, word), silences are ``sil`` or ``sp``."""
    phones = []
    for start, end, word in words:
        if word in ("sil", "sp"):
            phones.append(Phone("pau", start, end))
            continue
        spoken = lexicon[word]
        first, scale = spoken[0].start_s, (end - start) / (spoken[-1].end_s - spoken[0].start_s)
        phones += [Phone(p.symbol, start + (p.start_s - first) * scale, start + (p.end_s - first) * scale) for p in spoken]
    seconds = len(waveform.samples) / waveform.rate_hz
    if phones[-1].end_s < seconds:
        phones.append(Phone("pau", phones[-1].end_s, seconds))
    return tuple(phones) if model is None else refined_phones(tuple(phones), viseme_scores(model, waveform.samples), 0.08)


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
    parser.add_argument("--index", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--voice", default="awb")
    parser.add_argument("--worst-cost", type=float, default=2.7, help="recordings that match worse are left out")
    parser.add_argument("--speech-av", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = load_model(options.model) if options.model else None
    kept = 0
    rows = []
    if options.index:
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
        words: dict[str, list[tuple[float, float, str]]] = {}
        with (options.speech_av / "words.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                words.setdefault(row["clip"], []).append((float(row["start_s"]), float(row["end_s"]), row["word"]))
        known = {word for clip in words.values() for *_, word in clip} - {"sil", "sp"}
        lexicon = {word: flite(LETTERS.get(word, word), options.voice).phones for word in known}
        lexicon = {word: tuple(phone for phone in phones if phone.symbol != "pau") for word, phones in lexicon.items()}
        with (options.speech_av / "index.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            waveform = read_audio(options.speech_av / row["audio"])
            phones = phones_in_words(words[row["clip"]], waveform, lexicon, model)
            save(options.out / f"grid_{row['clip']}.npz", waveform, phones, f"grid:{row['clip']}")
        print(f"{len(rows)} clips of GRID in {options.out}")


if __name__ == "__main__":
    main()
