"""Experts for the speakers whose lips a finished pair of voice networks has learned from: :class:`audio_network.KnownSpeakers`.

    python scripts/fit_known_speakers.py --shared DIR --speech SPEECH [--model FILE] -o OUT.safetensors [--held-out CLIP ...] [--half CLIP]

Trained further, a network takes the manner of the few speakers that it hears for everybody's. Here it stays as it is. Experts on its last
rows learn the captured speaker (``shared/data/speech_capture``) and GRID's from their lips; what they add to anybody else's rows counts as
an error (Z. Li and D. Hoiem, "Learning without forgetting", 2016), and so do other contacts and teeth on the captured speaker, whose rig
does not show them. Curves are what the driver's gains (:mod:`triportrait.motion.amplitude`), which are fitted on strangers, turn into the
real ones. The networks' rows are computed once; what follows takes some minutes on one core.

``--held-out`` names captured clips that nothing is learned from, ``--half`` one of which the first half is learned; the jaw's correlation
on all of them, and on GRID's held-out sentences, is printed. The file that videos are made with is written beside OUT.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from triportrait.media.audio import read_audio
from triportrait.motion.amplitude import GAINS, in_group
from triportrait.motion.audio import CONTACT_FROM, CONTACT_TO, TEETH_FROM, TEETH_TO
from triportrait.motion.audio_network import AudioToMotionEnsemble, KnownSpeakers, export_model, load_model, save_model
from triportrait.motion.lips import gap_weights
from triportrait.motion.speech_features import EXTRACTORS, RATE_HZ
from triportrait.training.voice.augment import noise, some_music
from triportrait.training.voice.capture import CONTROL_MAP, captured_curves
from triportrait.training.voice.corpora import COLUMNS, CURVES, load_packed_tracks, load_synthesised
from triportrait.training.voice.losses import concordance_loss, liveliness_loss
from triportrait.types import Array

#: Places of the experts among the gate's answers; 0 is everybody else.
GRID, CAPTURED = 1, 2
JAW, ROLL = CURVES.index("jawOpen"), CURVES.index("mouthRollLower")
#: Clips of every split of synthesised speech and recordings: one in so many is heard again, so that nothing changes there.
AGAIN = {"train": 2, "joined": 1, "recording": 1, "sung": 4}
#: The piece of fluent speech is heard so much more often than its length has it: the other captured clips are lists of words.
FLUENT, FLUENT_TIMES = "facegood_3_15", 3
#: Windows of a step, and their rows. The gate is judged after its mean is full.
CLIPS, ROWS = {"captured": 8, "grid": 8, "others": 32}, 120
STEPS, RATE = 400, 3e-3


class Clips:
    """Clips of one kind as rows of both networks' trunks, with targets; windows of them are drawn by length."""

    def __init__(self, clips: Sequence[tuple[Tensor, ...]]) -> None:
        self.clips = list(clips)
        lengths = np.array([len(clip[0]) for clip in self.clips], np.float64)
        self._shares = lengths / lengths.sum()

    def windows(self, count: int, random: np.random.Generator) -> list[Tensor]:
        """``count`` windows of :data:`ROWS` rows, one array a column."""
        drawn = []
        for place in random.choice(len(self.clips), count, p=self._shares):
            clip = self.clips[place]
            first = int(random.integers(0, max(len(clip[0]) - ROWS, 0) + 1))
            rows = torch.arange(first, first + ROWS).clamp(max=len(clip[0]) - 1)
            drawn.append([column[rows] for column in clip])
        return [torch.stack(column) for column in zip(*drawn, strict=True)]


def trunks(model: AudioToMotionEnsemble, samples: Array) -> Tensor:
    """The networks' last rows side by side [t, w]."""
    ears = EXTRACTORS[model.config.extractor]()
    rows = np.concatenate([ears.push(np.asarray(samples, np.float32)), ears.finish()])
    rows = rows[: len(rows) // 4 * 4]
    with torch.no_grad():
        parts = torch.from_numpy(rows)[None].split([network.config.features for network in model.networks], dim=-1)
        return torch.cat([network.trunk(part)[0] for network, part in zip(model.networks, parts, strict=True)], -1)


def captured_clips(model: AudioToMotionEnsemble, folder: Path) -> dict[str, tuple[Tensor, ...]]:
    """Trunks, curves [t, c] and the opening [t] by the data's own account, of each captured clip."""
    clips = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            weights, names = data["weights"].astype(np.float32), [str(name) for name in data["names"]]
        column = dict(zip(names, weights.T, strict=True))
        lips = [column[f"mouth_{name}_{side}"] for name in ("lowerLipDepress", "upperLipRaise") for side in "lr"]
        opening = column["mouth_stretch_c"] + 0.4 * column["mouth_oh_c"] + 0.15 * np.sum(lips, axis=0)
        curves = captured_curves(weights, names)[:, COLUMNS]
        opening = np.interp(np.arange(len(curves)) * 30 / 25, np.arange(len(opening)), opening)
        trunk = trunks(model, read_audio(path.with_suffix(".flac"), RATE_HZ).samples)
        count = min(len(trunk), len(curves))
        targets = (torch.from_numpy(np.asarray(part[:count], np.float32)) for part in (curves, opening))
        clips[path.stem] = (trunk[:count], *targets)
    return clips


def grid_clips(model: AudioToMotionEnsemble, folder: Path, split: str) -> list[tuple[Tensor, ...]]:
    """Trunks, opening [t] and contact [t] of GRID's sentences."""
    clips = []
    for clip in load_packed_tracks(folder, split):
        trunk = trunks(model, clip.samples.astype(np.float32) / 32767)
        count = min(len(trunk), len(clip.targets.opening))
        targets = (torch.from_numpy(np.asarray(part[:count], np.float32)) for part in (clip.targets.opening, clip.targets.contact))
        clips.append((trunk[:count], *targets))
    return clips


def other_clips(model: AudioToMotionEnsemble, speech: Path, shared: Path) -> list[tuple[Tensor, ...]]:
    """Trunks of everybody else, of noise, and of music."""
    sounds = [read_audio(path, RATE_HZ).samples for path in sorted((shared / "speech" / "cc0_multilingual").iterdir())]
    for split, step in AGAIN.items():
        for clip in load_synthesised(speech, split)[::step]:
            sounds.append(np.pad(clip.samples.astype(np.float32) / 32767, (RATE_HZ // 2, int(1.4 * RATE_HZ))))
    random = np.random.default_rng(0)
    for place in range(30):
        count = 5 * RATE_HZ
        sounds.append(0.05 * (some_music(count, random) if place % 2 else noise(count, float(random.uniform(0, 2)), random)))
    return [(trunks(model, sound),) for sound in sounds]


class Mouth:
    """A pair of networks from its trunks on, with and without experts.

    Args:
        model: the pair.
        known: the experts.
    """

    def __init__(self, model: AudioToMotionEnsemble, known: KnownSpeakers) -> None:
        self._networks, self.known = model.networks, known
        gains = np.full(len(CURVES), GAINS["opening"], np.float32)
        for group in ("rounding", "spreading"):
            gains[in_group(CURVES, group)] = GAINS[group]
        self.gains, self._gaps = torch.from_numpy(gains), torch.from_numpy(gap_weights(CURVES))

    def plain(self, trunk: Tensor) -> tuple[Tensor, Tensor]:
        """Curves [b, t, c] and contact logits [b, t] without experts."""
        parts = trunk.split([network.config.channels for network in self._networks], dim=-1)
        with torch.no_grad():
            outputs = [network.motion(part) for network, part in zip(self._networks, parts, strict=True)]
            contact = torch.stack([torch.sigmoid(output[2]) for output in outputs]).mean(0)
            return torch.stack([output[0].clamp(0.0, 1.0) for output in outputs]).mean(0), torch.logit(contact, eps=1e-6)

    def spoken(self, trunk: Tensor, leak: float = 0.1) -> tuple[Tensor, Tensor]:
        """The same with them; beyond 0 and 1 the curves go on by a tenth, so that there is something to learn from."""
        curves, contact = self.plain(trunk)
        added = self.known(trunk)
        curves = curves + added[..., :-1]
        inside = curves.clamp(0.0, 1.0)
        return inside + leak * (curves - inside), contact + added[..., -1]

    def gap(self, curves: Tensor) -> Tensor:
        """What the curves part the lips by, behind the gains, in face heights."""
        return (curves * self.gains) @ self._gaps

    def lips(self, curves: Tensor, contact: Tensor) -> Tensor:
        """Opening as the driver has it, contacts and teeth included."""
        teeth = _ramp(curves[..., ROLL], TEETH_FROM, TEETH_TO)
        kept = torch.ones(len(CURVES))
        for name, share in (("jawOpen", 0.4), ("mouthFunnel", 0.3), ("mouthLowerDownLeft", 0.0), ("mouthLowerDownRight", 0.0)):
            kept[CURVES.index(name)] = share
        gap = self.gap(curves * (1.0 - (1.0 - kept) * teeth[..., None])).clamp(min=0.0)
        return gap * (1.0 - _ramp(torch.sigmoid(contact), CONTACT_FROM, CONTACT_TO))


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    share = ((values - low) / (high - low)).clamp(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def who_loss(known: KnownSpeakers, trunk: Tensor, speaker: int) -> Tensor:
    """Cross-entropy of the gate in windows of one speaker; channels of the trunk are left out by chance."""
    kept = (torch.rand(len(trunk), 1, trunk.shape[2]) > 0.3) / 0.7
    rows = known.config["rows"] - 1
    return -torch.log(known.shares(known.gate(trunk * kept))[..., speaker] + 1e-6).mean() if rows < trunk.shape[1] else trunk.sum() * 0.0


def unchanged_loss(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], curves: float) -> Tensor:
    """How much experts change: contact logits, the lip's roll against that of teeth, and with weight ``curves`` all other curves."""
    wrong = after[0] - before[0]
    touching = (after[1] - before[1]).square().mean() + (wrong[..., ROLL] / TEETH_FROM).square().mean()
    others = wrong.square().sum(-1).mean() - wrong[..., ROLL].square().mean()
    return 0.3 * touching + curves / len(CURVES) * others


def captured_loss(mouth: Mouth, trunk: Tensor, curves: Tensor) -> Tensor:
    """Distance from captured curves, how well jaw and opening follow them, and that contacts stay."""
    seen = [place for place, name in enumerate(CURVES) if name in CONTROL_MAP]
    before, after = mouth.plain(trunk), mouth.spoken(trunk)
    wrong = (after[0] - curves / mouth.gains)[..., seen]
    # A jaw's curve goes some three times as far as the opening that the concordance loss is made for.
    jaws = (0.3 * after[0][..., JAW], 0.3 * curves[..., JAW] / mouth.gains[JAW])
    follow = concordance_loss(*jaws) + 0.5 * concordance_loss(mouth.gap(after[0]), mouth.gap(curves / mouth.gains))
    return 2.0 * (wrong.abs() + 2.0 * wrong.square()).mean() + follow + unchanged_loss(before, after, 0.0)


def grid_loss(mouth: Mouth, trunk: Tensor, opening: Tensor, contact: Tensor) -> Tensor:
    """Distance from tracked openings, how well and how lively the lips follow them, and contacts about the threshold of both ramps."""
    curves, logit = mouth.spoken(trunk)
    lips, middle = mouth.lips(curves, logit), 0.5 * (CONTACT_FROM + CONTACT_TO)
    touching = functional.binary_cross_entropy_with_logits(logit - math.log(middle / (1.0 - middle)), contact)
    follow = concordance_loss(lips, opening) + 0.3 * liveliness_loss(lips, opening)
    return 15.0 * (lips - opening).abs().mean() + follow + 0.3 * touching


def learn(mouth: Mouth, captured: Clips, grid: Clips, others: Clips, steps: int) -> None:
    """All experts and the gate, by AdamW with a cosine of its rate."""
    random = np.random.default_rng(0)
    known = mouth.known
    optimiser = torch.optim.AdamW(known.parameters(), lr=RATE, weight_decay=0.02)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (0.02 + 0.49 * (1.0 + math.cos(math.pi * step / steps)))
        trunk, curves, _ = captured.windows(CLIPS["captured"], random)
        loss = captured_loss(mouth, trunk, curves) + who_loss(known, trunk, CAPTURED)
        trunk, opening, contact = grid.windows(CLIPS["grid"], random)
        loss = loss + grid_loss(mouth, trunk, opening, contact) + who_loss(known, trunk, GRID)
        (trunk,) = others.windows(CLIPS["others"], random)
        # Who takes a stranger for somebody known does harm to all users; the other way round, to one speaker.
        loss = loss + 2.0 * unchanged_loss(mouth.plain(trunk), mouth.spoken(trunk), 100.0) + 8.0 * who_loss(known, trunk, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step} loss {float(loss.detach()):.3f}", flush=True)


def agreement(ours: Tensor, real: Tensor) -> float:
    """Pearson's correlation of rows [t]."""
    return float(np.corrcoef(ours.numpy(), real.numpy())[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="folder of 'triportrait data speech'")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--half", default=None)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = load_model(options.model)
    if not isinstance(before, AudioToMotionEnsemble):
        parser.error("experts belong to a pair; join two networks first with 'triportrait train voice --join'")
    model = AudioToMotionEnsemble(before.networks, {}).requires_grad_(False).eval()
    assert model.known is not None
    clips = captured_clips(model, options.shared / "speech_capture")
    held_out = {name: clips.pop(name) for name in options.held_out}
    if options.half is not None:
        middle = len(clips[options.half][0]) // 2
        held_out[f"{options.half}, second half"] = tuple(column[middle:] for column in clips[options.half])
        clips[options.half] = tuple(column[:middle] for column in clips[options.half])
    captured = [clip for name, clip in clips.items() for _ in range(FLUENT_TIMES if name == FLUENT else 1)]
    grid, others = grid_clips(model, options.speech, "tracked"), other_clips(model, options.speech, options.shared)
    mouth = Mouth(model, model.known.requires_grad_(True).train())
    learn(mouth, Clips(captured), Clips(grid), Clips(others), options.steps)
    model.known.requires_grad_(False).eval()
    found = {}
    with torch.no_grad():
        for name, (trunk, _, opening) in {**held_out, **{f"{name} (learned)": clip for name, clip in clips.items()}}.items():
            jaws = [mouth.plain(trunk)[0][..., JAW], mouth.spoken(trunk[None], 0.0)[0][0, :, JAW]]
            found[name] = [round(agreement(jaw, opening), 3) for jaw in jaws]
        rows = grid_clips(model, options.speech, "trackedtest")
        pairs = [(mouth.lips(*mouth.plain(trunk)), mouth.lips(*mouth.spoken(trunk[None], 0.0))[0], opening) for trunk, opening, _ in rows]
        found["GRID, held out"] = [round(float(np.mean([agreement(pair[place], pair[2]) for pair in pairs])), 3) for place in (0, 1)]
    print(json.dumps({"correlation without and with experts": found}, indent=1))
    save_model(model, options.out)
    export_model(model, options.out.with_suffix(".onnx"))


if __name__ == "__main__":
    main()
