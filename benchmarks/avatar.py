"""Processor time of an avatar: start-up, a frame's stages, and frames that are marked and encoded.

python benchmarks/avatar.py [PHOTO] [--quality draft|standard|high] [--avatar NAME] [--frames 100] [--size 512]

Milliseconds are those of the processor, on one thread, so that other programs count little. A stage is a function of the code and lies
within those above it that are less indented. The last lines make a video with as many threads as ``--threads`` says.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
#: Module, class or nothing, function, and how deep the stage lies.
_STAGES = (
    ("avatar.oneshot.avatar", "CompactOneShotAvatar", "render", 0),
    ("avatar.lifted.avatar", "LiftedAvatar", "draw", 1),
    ("avatar.lifted.moved_head", "MovedHead", "of", 2),
    ("avatar.lifted.avatar", "LiftedAvatar", "_draw_mesh", 2),
    ("avatar.lifted.mantle", "Mantle", "follow", 2),
    ("avatar.lifted.avatar", "LiftedAvatar", "_draw_mantle", 2),
    ("avatar.lifted.relight", "Light", "gain", 2),
    ("avatar.lifted.avatar", "LiftedAvatar", "_between_lips", 2),
    ("avatar.lifted.shading_kernels", None, "shade", 2),
    ("avatar.lifted.shading_kernels", None, "soften_edges", 2),
    ("avatar.oneshot.avatar", None, "paint_mouth", 1),
    ("avatar.oneshot.avatar", "CompactOneShotAvatar", "_volume", 1),
    ("avatar.oneshot.avatar", None, "render_guide", 2),
    ("avatar.oneshot.avatar", None, "_blend", 1),
    ("avatar.dual_field.integral_kernels", None, "integrate", 0),
    ("model", None, "warp_torso", 0),
    ("model", None, "fuse", 0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=EXAMPLES / "portrait.png")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=None, help="default: the quality's")
    parser.add_argument("--quality", default="standard")
    parser.add_argument("--avatar", default=None, help="default: the quality's")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TRIPORTRAIT_THREADS"] = str(options.threads)

    start = time.perf_counter()
    from triportrait import drivers, pipeline
    from triportrait.face.portrait import PortraitOptions
    from triportrait.model import quality_of

    drivers.default_head(), drivers.default_tracker()
    loaded = time.perf_counter()
    size_px = options.size or quality_of(options.quality).size_px
    prepared = pipeline.prepare(options.photo, PortraitOptions(size_px))
    fitted = time.perf_counter()
    portrait = pipeline.Portrait(prepared, options.avatar, quality=options.quality)
    first = portrait.idle(options.frames / 25)
    next(iter(first))
    ready = time.perf_counter()
    print(
        f"start-up {ready - start:.2f} s: imports {loaded - start:.2f}, tracking, fitting, layers {fitted - loaded:.2f}, "
        f"lifting, first frame {ready - fitted:.2f}"
    )

    motion = first.motion()
    stages(portrait, motion)
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        portrait.perform(motion).save(Path(folder) / "speed.mp4")
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{1e3 * processor / len(motion):7.2f} ms  a frame at {size_px} px, marked and encoded")
    print(
        f"{len(motion) / wall:.1f} frames a second on {options.threads} threads; load {os.getloadavg()[0]:.1f}, peak memory {peak:.2f} GB"
    )


def stages(portrait: Any, motion: Any) -> None:
    """Draw every frame, and print how long each stage takes of one."""
    spent: dict[str, float] = {}
    restore = [_timed(module, owner, name, spent) for module, owner, name, _ in _STAGES]
    spent["step"] = -time.thread_time()
    for row in motion:
        portrait.model.step(portrait.state, row)
    spent["step"] += time.thread_time()
    for undo in restore:
        undo()
    print(f"{1e3 * spent['step'] / len(motion):7.2f} ms  a frame as a picture")
    for _, owner, name, depth in _STAGES:
        label = f"{owner}.{name}" if owner else name
        if label in spent:
            print(f"{1e3 * spent[label] / len(motion):7.2f} ms  {'  ' * (depth + 1)}{label}")


def _timed(module: str, owner: str | None, name: str, spent: dict[str, float]) -> Callable[[], None]:
    """Let a function add its processor time to ``spent``; the answer takes that back."""
    place: Any = importlib.import_module(f"triportrait.{module}")
    place = getattr(place, owner) if owner else place
    kept, function, label = vars(place)[name], getattr(place, name), f"{owner}.{name}" if owner else name

    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        begin = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[label] = spent.get(label, 0.0) + time.thread_time() - begin

    setattr(place, name, staticmethod(timed) if isinstance(kept, staticmethod) else timed)
    return lambda: setattr(place, name, kept)


if __name__ == "__main__":
    main()
