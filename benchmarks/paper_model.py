"""Seconds, GFLOP and peak memory of every stage of the paper's networks for one 512 px frame, on whatever device there is.

    python benchmarks/paper_model.py [--device cpu] [--threads 2] [--runs 3] [--dtype float32] [--batch 1] [--compile] [--only STAGE]

The weights are random: what is measured does not depend on them, except that random planes leave no empty space to skip. Every stage
runs in a process of its own, so that its peak is its own. CPU seconds count all threads; they are the steadier figure on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from triportrait.avatar.image_to_plane import ImageToPlane
from triportrait.avatar.motion_adapter import MotionAdapter
from triportrait.composite.super_resolution_network import HtbSuperResolution
from triportrait.geometry.cameras import camera_from_pose
from triportrait.render.decoder import Decoder
from triportrait.render.super_resolution import SuperResolution
from triportrait.render.volume import VolumeRenderer
from triportrait.types import TriPlane

#: Per portrait, per frame; "frame" is a whole frame with the tri-plane cached: motion adapter, volume, scene.
STAGES = ("image_to_plane", "scene_source", "motion_adapter", "volume", "super_resolution", "scene", "frame")
#: Stages that run once per portrait.
ONCE = ("image_to_plane", "scene_source")

Run = Callable[[], object]


def ready(network: nn.Module, device: torch.device) -> nn.Module:
    """For inference, flat convolutions channels-last."""
    for module in network.eval().requires_grad_(False).to(device).modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.to(memory_format=torch.channels_last)
    return network


def build(stage: str, device: torch.device, batch: int, compiled: bool) -> Run:
    """The stage with its networks and inputs as a call without arguments."""

    def random(*shape: int) -> torch.Tensor:
        return torch.rand((batch, *shape), device=device) * 2 - 1

    def network(module: nn.Module) -> nn.Module:
        module = ready(module, device)
        return torch.compile(module) if compiled else module

    if stage == "image_to_plane":
        encoder, image = network(ImageToPlane()), random(3, 512, 512)
        return lambda: encoder(image)
    if stage == "super_resolution":
        vanilla, features = network(SuperResolution()), random(32, 128, 128)
        return lambda: vanilla(features)

    adapter, pictures = network(MotionAdapter()), random(9, 512, 512)
    canonical = random(3, 256, 256, 32).permute(0, 1, 4, 2, 3)
    view = camera_from_pose(np.array((0.05, 0.1, 0.02)), np.zeros(3)).to_eg3d()
    renderer, cameras = ready(VolumeRenderer(Decoder()), device), torch.from_numpy(view).to(device).expand(batch, -1)
    if stage == "motion_adapter":
        return lambda: adapter(pictures)
    if stage == "volume":
        return lambda: renderer(TriPlane(canonical), cameras)

    scene = ready(HtbSuperResolution(HtbSuperResolution.Config.published()), device)
    masks = (random(2, 512, 512) > 0).float()
    given = (random(3, 512, 512), masks, random(3, 512, 512), random(68, 2))
    if stage == "scene_source":
        return lambda: scene.prepare(*given)
    source, points = scene.prepare(*given), random(68, 2)
    draw = torch.compile(scene) if compiled else scene
    if stage == "scene":
        features, alpha = random(32, 128, 128), random(1, 128, 128).abs()
        return lambda: draw(features, alpha, source, points)

    def frame() -> torch.Tensor:
        render = renderer(TriPlane(canonical + adapter(pictures)), cameras)
        return draw(render.features, render.alpha, source, points)

    return frame


def attention_flop(query: list[int], key: list[int], value: list[int], *_: object, **__: object) -> int:
    """The counter does not know the attention kernel of the CPU."""
    return sdpa_flop_count(query, key, value)


def peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(run: Run, device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(stage: str, options: argparse.Namespace) -> dict[str, float]:
    """One stage: the least wall and CPU seconds of a picture, GFLOP, peak memory."""
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    mixed = options.dtype != "float32"
    with torch.no_grad(), torch.autocast(device.type, getattr(torch, options.dtype)) if mixed else nullcontext():
        run = build(stage, device, options.batch, options.compile)
        run()
        times = [timed(run, device) for _ in range(options.runs)]
        peak = peak_mb(device)
        gflop = float("nan")
        if not options.compile:
            kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            with FlopCounterMode(display=False, custom_mapping={kernel: attention_flop}) as counter:
                run()
            gflop = counter.get_total_flops() / 1e9
    wall, cpu = (min(column) / options.batch for column in zip(*times, strict=True))
    return {"wall_s": wall, "cpu_s": cpu, "gflop": gflop / options.batch, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="frames at once")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", choices=STAGES, help="one stage, as a line of JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return
    print(f"{options.device}, {options.dtype}, batch {options.batch}, {options.threads} threads; per picture")
    print(f"{'stage':18}{'when':>8}{'wall ms':>10}{'CPU ms':>10}{'GFLOP':>9}{'peak MB':>9}")
    for stage in STAGES:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", stage], check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        times = f"{1000 * result['wall_s']:10.1f}{1000 * result['cpu_s']:10.1f}{result['gflop']:9.1f}{result['peak_mb']:9.0f}"
        print(f"{stage:18}{'once' if stage in ONCE else 'frame':>8}{times}", flush=True)


if __name__ == "__main__":
    main()
