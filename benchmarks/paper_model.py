"""Seconds, GFLOP and peak memory of every stage of the paper's networks for one 512 px frame, on whatever device there is.

    python benchmarks/paper_model.py [--device cpu] [--threads 2] [--runs 3] [--precision float32] [--batch 1] [--compile] [--only STAGE]
    python benchmarks/paper_model.py --device cuda --precision bf16 --batch 8        (the bar: 60 frames a second in "frame")

The weights are random: what is measured does not depend on them, except that random planes leave no empty space to skip. Every stage
runs in a process of its own, so that its peak is its own. CPU seconds count all threads; they are the steadier figure on a busy machine
(threads that wait do not spin here, else they would count as work). One portrait serves all frames of a batch, as in a video.
"frame" is a whole frame of the networks with the tri-plane cached; "model" is what the pipeline runs for it besides: the motion picture
drawn from a face model of the real size, key points, and the finished bytes on the host.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from triportrait.geometry.cameras import camera_from_pose
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.head_super_resolution import SuperResolution
from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.image_to_plane import ImageToPlane
from triportrait.real3d.motion_adapter import MotionAdapter
from triportrait.real3d.volume import VolumeRenderer
from triportrait.types import TriPlane

#: Per portrait, per frame; "frame" is a whole frame with the tri-plane cached: motion adapter, volume, scene.
STAGES = ("image_to_plane", "scene_source", "motion_adapter", "volume", "super_resolution", "scene", "frame", "model")
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
    photo = [picture[:1] for picture in (random(3, 512, 512), random(2, 512, 512), random(3, 512, 512), random(68, 2))]
    given = (photo[0], (photo[1] > 0).float(), photo[2], photo[3])
    if stage == "scene_source":
        return lambda: scene.prepare(*given)
    source, points = scene.prepare(*given), random(68, 2)
    draw = torch.compile(scene) if compiled else scene
    if stage == "model":
        return whole_model(adapter, renderer, draw, device, batch)
    if stage == "scene":
        features, alpha = random(32, 128, 128), random(1, 128, 128).abs()
        return lambda: draw(features, alpha, source, points)

    def frame() -> torch.Tensor:
        render = renderer(TriPlane(canonical + adapter(pictures)), cameras)
        return draw(render.features, render.alpha, source, points)

    return frame


def whole_model(adapter: nn.Module, renderer: VolumeRenderer, scene: nn.Module, device: torch.device, batch: int) -> Run:
    """``PaperModel.steps`` as the pipeline calls it, on a made-up portrait."""
    import tempfile
    from dataclasses import replace

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from bfm_samples import synthetic_bfm
    from triportrait.drivers import default_head
    from triportrait.face.pncc import PnccRenderer
    from triportrait.real3d.avatar import OneShotAvatar, OneShotState
    from triportrait.real3d.head_models import load_bfm
    from triportrait.real3d.model import PaperModel, PaperState
    from triportrait.real3d.pipeline import _past_empty_space
    from triportrait.types import MotionFrame

    with tempfile.TemporaryDirectory() as folder:
        head = load_bfm(synthetic_bfm(Path(folder), default_head(), vertices=35_709))
    pncc = PnccRenderer(head, 512, cull=None)

    def picture(identity: np.ndarray, expression: np.ndarray, lid_closing: float = 0.0) -> np.ndarray:
        return pncc.render(head.vertices(identity, expression))

    def points(identity: np.ndarray, frame: MotionFrame) -> np.ndarray:
        return head.landmarks68(head.vertices(identity, frame.expression))[:, :2].clip(-1, 1)

    precision = str(torch.get_autocast_dtype(device.type)).removeprefix("torch.") if torch.is_autocast_enabled(device.type) else "float32"
    avatar = OneShotAvatar(adapter, adapter, _past_empty_space(renderer), picture, precision=precision)
    model = PaperModel(avatar, scene, points)
    identity, zero = np.zeros(80, np.float32), np.zeros(64, np.float32)
    still = torch.from_numpy(picture(identity, zero).copy())[None].to(device).repeat(1, 2, 1, 1)
    planes = (torch.rand((1, 3, 256, 256, 32), device=device) * 2 - 1).permute(0, 1, 4, 2, 3)
    source = scene.prepare(*(torch.rand((1, *shape), device=device) for shape in ((3, 512, 512), (2, 512, 512), (3, 512, 512), (68, 2))))
    portrait = SimpleNamespace(identity=identity)
    state = PaperState(portrait, OneShotState(planes, still, identity), source)
    row = MotionFrame(zero, np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(2, np.float32))
    rows = [replace(row, expression=zero + 0.1 * index) for index in range(batch)]
    return lambda: model.steps(state, rows)


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
    mixed = options.precision != "float32"
    with torch.inference_mode(), torch.autocast(device.type, getattr(torch, options.precision)) if mixed else nullcontext():
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
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16", "fp32", "bf16", "fp16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", choices=STAGES, help="one stage, as a line of JSON")
    options = parser.parse_args()
    options.precision = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(options.precision, options.precision)
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return
    name = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    print(f"{name}, {options.precision}, batch {options.batch}, {options.threads} threads; per picture")
    print(f"{'stage':18}{'when':>8}{'wall ms':>10}{'per s':>8}{'CPU ms':>10}{'GFLOP':>9}{'peak MB':>9}{'load':>7}")
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
    for stage in STAGES:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", stage]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        result = json.loads(done.stdout.splitlines()[-1])
        times = f"{1000 * result['wall_s']:10.1f}{1 / result['wall_s']:8.1f}{1000 * result['cpu_s']:10.1f}"
        rest = f"{result['gflop']:9.1f}{result['peak_mb']:9.0f}{os.getloadavg()[0]:7.1f}"
        print(f"{stage:18}{'once' if stage in ONCE else 'frame':>8}{times}{rest}", flush=True)


if __name__ == "__main__":
    main()
