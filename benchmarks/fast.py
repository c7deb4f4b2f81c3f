"""What the extra ``fast`` gains: the mouth painter and a whole head layer on ONNX Runtime and OpenVINO, in turns in one run, one thread.

pip install 'triportrait[fast]'; OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/fast.py [PHOTO] [--rounds 40]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from triportrait import pipeline
from triportrait.avatar.mouth.painter import CHANNELS, HEIGHT_PX, WIDTH_PX, load_painter
from triportrait.nn import runtime
from triportrait.nn.runtime import Graph

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
    networks: dict[str, Graph] = {}
    for name, setting in (("ONNX Runtime", "0"), ("OpenVINO fp32", "fp32"), ("OpenVINO bf16", "bf16")):
        os.environ[runtime.FAST] = setting
        begin = time.perf_counter()
        networks[name] = load_painter()
        print(f"{name}: ready after {time.perf_counter() - begin:.1f} s")
    channels = np.random.default_rng(0).random((HEIGHT_PX, WIDTH_PX, CHANNELS), np.float32)
    show("painter", medians({name: lambda i, network=network: network(channels) for name, network in networks.items()}, options.rounds))

    portrait = pipeline.Portrait(pipeline.prepare(options.photo), "oneshot")
    take = portrait.idle(options.rounds / 25)
    next(iter(take))
    motion, avatar, state = take.motion(), portrait.model.avatar, portrait.state.avatar

    def head(network: Graph) -> Callable[[int], object]:
        def run(i: int) -> object:
            avatar.painter = network
            return avatar.render(state, motion[i])

        return run

    show("head layer", medians({name: head(network) for name, network in networks.items()}, min(options.rounds, len(motion))))


if __name__ == "__main__":
    main()
