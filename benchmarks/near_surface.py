"""Speed of the compiled near-surface renderer on one core: its guide, the march, and the paths they replace.

    python benchmarks/near_surface.py [PHOTO] [--repeats 60]

The head is brought so near that half of all rays meet it. Times are the thread's own CPU time, which a busy machine disturbs least: the
best of many repeats and the median.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from triportrait import drivers

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES_PX, SAMPLES = (64, 128, 192), (6, 8, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=EXAMPLES / "portrait.png")
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()

    import numpy as np
    import torch

    from triportrait import pipeline
    from triportrait.avatar.lifted.avatar import LiftedAvatar
    from triportrait.avatar.oneshot.guide import guide_mesh, render_guide
    from triportrait.avatar.oneshot.guide_plain import expression_offsets
    from triportrait.avatar.oneshot.image_to_plane import ViewPlanes, load_image_to_plane
    from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
    from triportrait.avatar.oneshot.volume import Slab, march_to_surface, pixel_places
    from triportrait.avatar.oneshot.volume_kernels import pack_field, render_near_surface
    from triportrait.synth.lifted_views import lifted_views
    from triportrait.training.oneshot.losses import draw
    from triportrait.training.oneshot.views import ViewSet, collate

    torch.set_num_threads(1)

    def clock(work: Callable[[], object], repeats: int = options.repeats, now: Callable[[], float] = time.thread_time) -> str:
        work()
        times = []
        for _ in range(repeats):
            start = now()
            work()
            times.append(1e3 * (now() - start))
        return f"{min(times):6.2f} ({np.median(times):6.2f})"

    head, portrait = drivers.default_head(), pipeline.prepare(options.photo)
    avatar, network = LiftedAvatar(head), load_image_to_plane()
    state = avatar.prepare(portrait)
    mesh = guide_mesh(state, head)
    views = ViewSet.of([lifted_views(portrait, avatar, [], "photo")])
    batch = collate(views, torch.tensor([0]), torch.tensor([[0]]), network.config.photo_px, 128)
    with torch.no_grad():
        planes = network.encode(batch.picture, batch.prior, batch.known, batch.source[0])
    source = tuple(part[0].numpy() for part in batch.source)
    expression = portrait.motion.expression.copy()
    expression[head.expression_names.index("jawOpen")] = 0.5
    turned = portrait.motion.rotation_rad + np.float32([0.05, 0.25, 0.0])
    frame = replace(portrait.motion, expression=expression, rotation_rad=turned, landmarks=None)
    # Forward until half of the picture is head.
    for _ in range(40):
        if np.isfinite(render_guide(mesh, frame, 128).depth).mean() >= 0.5:
            break
        frame = replace(frame, translation=frame.translation + np.float32([0, 0, 0.1]))
    target = frame.rotation_rad, frame.translation
    poses = tuple(torch.from_numpy(np.asarray(part, np.float32))[None, None] for part in target)

    def field(of: ViewPlanes, size: int, layers: list[tuple[np.ndarray, np.ndarray]]):
        sized = of.for_size(size)
        arrays = [part[0].numpy() for part in (sized.front, sized.across, sized.down, sized.picture)]
        return pack_field(*arrays, sized.prior[0, 0].numpy(), layers, DEPTH_RANGE_DM)

    layers = [(network.decoder[i].weight.detach().numpy(), network.decoder[i].bias.detach().numpy()) for i in (0, 2, 4)]
    print("milliseconds of CPU on one thread, best (median)")
    print(f"laying out planes, once per portrait: {clock(lambda: field(planes, 128, layers), 10)}")
    for size in SIZES_PX:
        guide = render_guide(mesh, frame, size)
        packed = field(planes, size, layers)
        sent = np.isfinite(guide.depth).mean()
        print(f"\n{size} px, {100 * sent:.0f} % of rays sent")
        print(f"  guide                         {clock(lambda: render_guide(mesh, frame, size))}")  # noqa: B023 - called at once
        print(f"  expression_offsets alone      {clock(lambda: expression_offsets(state, head, frame, size))}")  # noqa: B023
        for samples in SAMPLES:

            def march(threads: int = 1, samples: int = samples, field=packed, guide=guide) -> object:
                return render_near_surface(field, guide.depth, target, source, samples, 0.35, guide.offset, threads=threads)

            both = clock(lambda: march(2), now=time.perf_counter)  # noqa: B023
            print(f"  {samples:2d} samples                    {clock(march)}; two threads, wall time {both}")
    size = 128
    guide = render_guide(mesh, frame, size)
    filled = torch.from_numpy(np.where(np.isfinite(guide.depth), guide.depth, 15.0))[None, None, None]
    offset = torch.from_numpy(guide.offset)[None, None]
    with torch.no_grad():
        places, turns = pixel_places(size)[None], (poses[0][0], poses[1][0])
        print("\n128 px, torch, all rays")
        print(f"  march_to_surface              {clock(lambda: march_to_surface(places, planes.prior, turns, batch.source, 1.6), 5)}")
        drawn = clock(lambda: draw(network, planes, filled, poses, batch.source, Slab(10, 0.35), offset=offset), 5)
        print(f"  draw, 10 samples              {drawn}")
    random = np.random.default_rng(0)
    print("\n128 px, 10 samples, wider networks with random weights")
    for channels, hidden in ((16, 64), (32, 64), (32, 96)):

        def weights(outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
            return random.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32), np.zeros(outputs, np.float32)

        wide = ViewPlanes(
            *(part.repeat(1, channels // 16, 1, 1) for part in (planes.front, planes.across, planes.down)), planes.picture, planes.prior
        )
        packed = field(wide, size, [weights(hidden, channels + 8), weights(hidden, hidden), weights(5, hidden)])
        took = clock(lambda: render_near_surface(packed, guide.depth, target, source, 10, 0.35, guide.offset))  # noqa: B023
        print(f"  {channels} channels, {hidden} hidden          {took}")


if __name__ == "__main__":
    main()
