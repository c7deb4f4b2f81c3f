"""A mouth painter with fewer channels, made of a larger one, as 'triportrait train mouth_painter --start' takes it.

    python scripts/prune_mouth_painter.py --channels 16 16 32 64 -o pruned.safetensors [--from run/model.safetensors]

Of each group of a group norm those channels stay whose scale and shift are largest; convolutions keep their rows and columns. Such a
network paints worse than the larger one until it has learned some hundred steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from triportrait.avatar.mouth.painter_network import MouthPainter, MouthPainterConfig, load_mouth_painter, save_mouth_painter

#: Of every group norm of the network.
GROUPS = 8


def strongest(scale: Tensor, shift: Tensor, count: int) -> Tensor:
    """Numbers of ``count`` channels of a group norm [c], as many of each group."""
    strength = (scale.abs() + shift.abs()).reshape(GROUPS, -1)
    kept = strength.argsort(1, descending=True)[:, : count // GROUPS].sort(1).values
    return (kept + strength.shape[1] * torch.arange(GROUPS)[:, None]).flatten()


def pruned(large: MouthPainter, channels: tuple[int, int, int, int]) -> MouthPainter:
    """The network with ``channels``, each a multiple of the groups and at most the large one's."""
    weights, kept = large.state_dict(), {}
    was = large.config.channels

    def convolution(name: str, rows: Tensor, columns: Tensor) -> None:
        kept[f"{name}.weight"], kept[f"{name}.bias"] = weights[f"{name}.weight"][rows][:, columns], weights[f"{name}.bias"][rows]

    def block(name: str, taken: Tensor, level: int) -> Tensor:
        for first in (0, 3):
            norm = f"{name}.{first + 1}"
            rows = strongest(weights[f"{norm}.weight"], weights[f"{norm}.bias"], channels[level])
            convolution(f"{name}.{first}", rows, taken)
            kept[f"{norm}.weight"], kept[f"{norm}.bias"] = weights[f"{norm}.weight"][rows], weights[f"{norm}.bias"][rows]
            taken = rows
        return taken

    taken = torch.arange(weights["down.0.0.weight"].shape[1])
    skips = []
    for level in range(len(was)):
        taken = block(f"down.{level}", taken, level)
        skips.append(taken)
    for number, level in enumerate(reversed(range(len(was) - 1))):
        taken = block(f"up.{number}", torch.cat([taken, was[level + 1] + skips[level]]), level)
    convolution("last", torch.arange(3), taken)
    convolution("light", torch.arange(3), skips[-1])
    small = MouthPainter(MouthPainterConfig(channels))
    small.load_state_dict(kept)
    return small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs=4, required=True)
    parser.add_argument("--from", dest="large", type=Path, help="weights; default: the embedded ones")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    save_mouth_painter(pruned(load_mouth_painter(options.large), tuple(options.channels)), options.out)


if __name__ == "__main__":
    main()
