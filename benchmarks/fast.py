"""What the extra ``fast`` gains: the mouth's painter and a whole head layer on torch and on OpenVINO, in turns in one run, one thread.

pip install 'triportrait[fast]'; OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/fast.py [PHOTO] [--rounds 40]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from triportrait import pipeline
from triportrait.avatar.mouth.painter import CHANNELS, HEIGHT_PX, WIDTH_PX, embedded_mouth_painter
from triportrait.nn import fast

EXAMPLES = Path(__file__).parents[1] / "examples"


def medians(runs: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of functions of the round's number, called in turns."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(-3, rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run(i)
            if i >= 0:
                spent[name].append(time.process_time() - begin)
    return {name: 1e3 * float(np.median(values)) for name, values in spent.items()}


def show(title: str, values: dict[str, float]) -> None:
    """Times, and ratios to the first."""
    print(title)
    first = next(iter(values.values()))
    for name, value in values.items():
        print(f"  {name:28s} {value:7.2f} ms  x{first / value:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=EXAMPLES / "portrait.png")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    painter = embedded_mouth_painter().to(memory_format=torch.channels_last)
    networks: dict[str, torch.nn.Module] = {"torch": painter}
    for setting in ("fp32", "bf16"):
        os.environ[fast.SETTING] = setting
        begin = time.perf_counter()
        networks[f"OpenVINO {setting}"] = fast.accelerated(painter, (1, CHANNELS, HEIGHT_PX, WIDTH_PX))
        print(f"OpenVINO {setting}: ready after {time.perf_counter() - begin:.1f} s")
    x = torch.rand(1, HEIGHT_PX, WIDTH_PX, CHANNELS).permute(0, 3, 1, 2)

    def plain(network: torch.nn.Module, half: bool = False) -> Callable[[int], object]:
        def run(i: int) -> object:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                return network(x)

        return run

    runs = {name: plain(network) for name, network in networks.items()}
    runs["torch, bf16 autocast"] = plain(painter, True)
    show("painter", medians(runs, options.rounds))

    portrait = pipeline.Portrait(pipeline.prepare(options.photo), "oneshot")
    take = portrait.idle(options.rounds / 25)
    next(iter(take))
    motion, avatar, state = take.motion(), portrait.model.avatar, portrait.state.avatar

    def head(network: torch.nn.Module) -> Callable[[int], object]:
        def run(i: int) -> object:
            avatar.painter = network
            return avatar.render(state, motion[i])

        return run

    show("head layer", medians({name: head(network) for name, network in networks.items()}, min(options.rounds, len(motion))))


if __name__ == "__main__":
    main()
