"""How far do people open their lips for each sound? ``python scripts/fit_articulation.py --shared DIR --speech DIR``

Fits levels and dominance of the coarticulation model (:mod:`triportrait.training.voice.articulation`) to tracked lips and prints them
beside the model's own. ``--speech`` is a folder of ``triportrait data speech --tracked``. Clips of other speakers in
``SHARED/pairs`` have no sound: their file names tell the sentence, and its word times are sought with each model (same freedom
for all), so that models can be compared on people that they were not fitted to.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.face.mesh_tracker import MeshTracker
from triportrait.face.tracker import track_clip
from triportrait.media.video import VideoReader
from triportrait.motion.lips import FACE_HEIGHT_CM, gap_weights
from triportrait.training.voice.articulation import ARTICULATORS, VISEMES, visemes_of
from triportrait.training.voice.corpora import load_packed_tracks
from triportrait.training.voice.lip_tracks import lip_opening_of
from triportrait.training.voice.synthesisers import flite

FPS, FINE, ROWS = 25, 4, 75
NAMES = list(VISEMES)
SILENCE, TEETH = NAMES.index("sil"), NAMES.index("f")
#: Letters of a GRID file's name: command, colour, preposition, letter, digit, adverb.
CODE: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: "ay" if letter == "a" else letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split(), strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
TIMES = torch.arange(ROWS * FINE).sub((FINE - 1) / 2) / (FPS * FINE)


def level_cm(name: str) -> float:
    """Lip opening of a sound's target."""
    target = dict(zip(ARTICULATORS, VISEMES[name].targets, strict=True))
    teeth = VISEMES[name].teeth
    curves = {
        "jawOpen": target["jaw"] * (1 - 0.6 * teeth),
        "mouthFunnel": target["funnel"],
        "jawForward": 0.25 * target["funnel"],
        "mouthLowerDownLeft": 2 * target["lower"] * (1 - teeth),
        "mouthUpperUpLeft": 2 * target["upper"],
        "mouthShrugLower": target["shrug"],
    }
    return max(float(gap_weights(list(curves)) @ np.array(list(curves.values()))) * FACE_HEIGHT_CM, 0.05)


@dataclass(frozen=True)
class Spoken:
    """Segments (starts, ends, sounds), the tracked opening in centimetres, and rows that are speech."""

    segments: tuple[Tensor, Tensor, Tensor]
    opening: Tensor
    speech: Tensor


class Opening(nn.Module):
    """The lip opening of the coarticulation model, with gradients: segments -> centimetres [75]."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor([level_cm(name) for name in NAMES]).log())
        self.dominance = nn.Parameter(torch.tensor([VISEMES[name].opening for name in NAMES]).log())
        self.pause = nn.Parameter(torch.tensor(0.1).log())

    def forward(self, starts: Tensor, ends: Tensor, sounds: Tensor) -> Tensor:
        centre, half, length = (starts + ends) / 2, (ends - starts) / 2, ends - starts
        silent = sounds == SILENCE
        levels = torch.where(silent, self.pause.exp(), self.level.exp()[sounds])
        offset = TIMES[:, None] - centre
        core = torch.where(silent, torch.maximum(0.5 * half, half - 0.06), 0.5 * half)
        outside = offset.sign() * torch.relu(offset.abs() - core)
        weight = self.dominance.exp()[sounds] * torch.exp(-torch.where(outside < 0, -outside / 0.045, outside / 0.05))
        track = (weight @ levels) / (weight.sum(1) + 0.04)
        lips, teeth = torch.zeros(len(TIMES)), torch.zeros(len(TIMES))
        for index, sound in enumerate(sounds.tolist()):
            viseme = VISEMES[NAMES[sound]]
            if not (viseme.lips or viseme.teeth):
                continue
            hold = torch.clamp(0.8 * length[index], min=0.05)
            rise = torch.clamp(0.6 * length[max(index - 1, 0)], 0.02, 0.075)
            fall = torch.clamp(0.6 * length[min(index + 1, len(sounds) - 1)], 0.02, 0.06)
            before = ((TIMES - starts[index] + rise) / rise).clamp(0, 1)
            after = ((starts[index] + hold + fall - TIMES) / fall).clamp(0, 1)
            gate = (0.5 - 0.5 * torch.cos(torch.pi * before)) * (0.5 - 0.5 * torch.cos(torch.pi * after))
            lips, teeth = (torch.maximum(lips, gate), teeth) if viseme.lips else (lips, torch.maximum(teeth, gate))
        track = track * (1 - lips) * (1 - teeth) + teeth * (1 - lips) * self.level[TEETH].exp()
        return track.reshape(ROWS, FINE).mean(1)


def relative_sounds(word: str) -> list[tuple[int, float, float]]:
    """Sounds of a word with start and end as shares of its length."""
    phones = [phone for phone in flite(word, "awb").phones if phone.symbol != "pau"]
    first, seconds = phones[0].start_s, phones[-1].end_s - phones[0].start_s
    found = []
    for phone in phones:
        names = visemes_of(phone.symbol)
        step = (phone.end_s - phone.start_s) / len(names) / seconds
        begin = (phone.start_s - first) / seconds
        found += [(NAMES.index(name), begin + i * step, begin + (i + 1) * step) for i, name in enumerate(names)]
    return found


def segments_of(words: list[list[tuple[int, float, float]]], edges: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Words between ``edges`` [words + 1] seconds, silence around them."""
    starts, ends, sounds = [edges.new_zeros(1)], [edges[:1]], [SILENCE]
    for index, word in enumerate(words):
        for sound, first, last in word:
            starts.append((edges[index] + first * (edges[index + 1] - edges[index]))[None])
            ends.append((edges[index] + last * (edges[index + 1] - edges[index]))[None])
            sounds.append(sound)
    return torch.cat([*starts, edges[-1:]]), torch.cat([*ends, edges.new_tensor([ROWS / FPS])]), torch.tensor([*sounds, SILENCE])


def misfit(model: Opening, words: list, edges: Tensor, opening: Tensor) -> tuple[Tensor, Tensor]:
    """Unexplained share of the lips' variance, with the person's own amplitude and own openings before and after; and the model's row."""
    given = model(*segments_of(words, edges))
    time_s = torch.arange(ROWS) / FPS
    before, after = torch.sigmoid((edges[0] - 0.06 - time_s) * 40), torch.sigmoid((time_s - edges[-1] - 0.06) * 40)
    design = torch.stack([given * (1 - before) * (1 - after), before, after], 1)
    weights = torch.linalg.solve(design.T @ design + 1e-3 * torch.eye(3), design.T @ opening)
    weights = torch.cat([weights[:1].clamp(min=0.2), weights[1:]])
    return ((design @ weights - opening) ** 2).mean() / opening.var(), given


def best_edges(model: Opening, words: list, lengths: Tensor, opening: Tensor) -> tuple[Tensor, float]:
    """Word times with which the model explains the lips best, and the unexplained share."""
    tried = []
    with torch.no_grad():
        for rate in (0.8, 0.9, 1.0, 1.12, 1.25, 1.4):
            for start in np.arange(0.1, 2.9 - float(lengths.sum()) * rate, 0.08):
                edges = torch.cat([torch.tensor([start]), start + torch.cumsum(lengths * rate, 0)]).float()
                tried.append((float(misfit(model, words, edges, opening)[0]), rate, float(start)))
    _, rate, begin = min(tried)
    logs, start = (lengths * rate).log().requires_grad_(), torch.tensor(begin, requires_grad=True)
    first = logs.detach().clone()
    optimiser = torch.optim.Adam([{"params": [logs], "lr": 0.03}, {"params": [start], "lr": 0.012}])
    for _ in range(80):
        edges = torch.cat([start[None], start + torch.cumsum(logs.exp(), 0)])
        stretch = logs - first
        loss = misfit(model, words, edges, opening)[0] + 0.15 * (stretch - stretch.mean()).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    edges = edges.detach()
    with torch.no_grad():
        return edges, float(misfit(model, words, edges, opening)[0])


def fit(clips: list[Spoken], steps: int = 160, prior: float = 0.003, seed: int = 0) -> Opening:
    """Levels and dominance that explain the clips; ``prior`` holds what they hardly tell."""
    model, own = Opening(), Opening()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        loss = sum(((value - was) ** 2).sum() for value, was in zip(model.parameters(), own.parameters(), strict=True)) * prior
        for index in random.choice(len(clips), min(24, len(clips)), replace=False):
            clip = clips[index]
            loss = loss + (torch.where(clip.speech, 1.0, 0.3) * (model(*clip.segments) - clip.opening) ** 2).mean() / 24
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.requires_grad_(False)


def speech_clips(speech: Path, split: str) -> list[Spoken]:
    """The tracked speaker with his phonemes."""
    clips = []
    for clip in load_packed_tracks(speech, split):
        rows = []
        for phone in clip.phones:
            names = visemes_of(phone.symbol)
            step = (phone.end_s - phone.start_s) / len(names)
            rows += [(phone.start_s + i * step, phone.start_s + (i + 1) * step, NAMES.index(name)) for i, name in enumerate(names)]
        starts, ends = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
        sounds = torch.tensor([row[2] for row in rows])
        times = torch.arange(ROWS) / FPS
        speech = sounds[(torch.searchsorted(starts, times + 1e-6) - 1).clamp(min=0)] != SILENCE
        clips.append(Spoken((starts, ends, sounds), torch.from_numpy(clip.targets.opening[:ROWS] * FACE_HEIGHT_CM), speech))
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=160)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held = (speech_clips(options.speech, split) for split in ("tracked", "trackedtest"))
    own, fitted = Opening().requires_grad_(False), fit(train, options.steps)
    for name, model in (("table", own), ("fitted", fitted)):
        scores = [np.corrcoef(model(*clip.segments)[clip.speech], clip.opening[clip.speech])[0, 1] for clip in held]
        print(f"{name}: correlation with the held-out lips of the fitted speaker while he speaks {np.nanmean(scores):.3f}")
    for path in sorted((options.shared / "pairs").glob("grid_*.mp4")):
        if path.stem.startswith("grid_s1"):
            continue
        with VideoReader(path) as reader:
            track = track_clip(MeshTracker(), (frame for _, frame in reader.frames(FPS)), FPS)
        opening = torch.from_numpy(lip_opening_of(track)[:ROWS] * FACE_HEIGHT_CM)
        spoken = [letters[letter] for letters, letter in zip(CODE, path.stem.split("_")[-1], strict=True)]
        words = [relative_sounds(word) for word in spoken]
        lengths = torch.tensor([0.22 + 0.02 * len(word) for word in words])
        left = {name: best_edges(model, words, lengths, opening)[1] for name, model in (("table", own), ("fitted", fitted))}
        print(f"{path.stem}: unexplained share of the lips' variance, table {left['table']:.2f}, fitted {left['fitted']:.2f}")
    for index, name in enumerate(NAMES):
        print(
            f"{name:3s} level {own.level[index].exp():.2f} -> {fitted.level[index].exp():.2f} cm, "
            f"dominance {own.dominance[index].exp():.2f} -> {fitted.dominance[index].exp():.2f}"
        )


if __name__ == "__main__":
    main()
