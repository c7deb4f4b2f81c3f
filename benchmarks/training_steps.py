"""Costs of training: ``python benchmarks/training_steps.py [--preset small] [--counted]``.

Runs two steps of every stage on clips of random pictures, each stage in a process of its own, and prints seconds, memory and counted work
(matrix products and convolutions, forward and backward, two per multiply-add). ``--counted`` computes nothing: it counts work and saved
activations of the networks at the paper's size on PyTorch's ``meta`` device, where a real step needs a large GPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from triportrait.training.data.clips import ClipSet, TrainingClip, split_clips, write_clips

STAGES = ("image_to_plane", "motion_adapter", "torso", "audio_to_motion")


def noisy_clip(seed: int, frames: int, size_px: int, features: int) -> TrainingClip:
    """Pictures of noise round a real head's coefficients: costs do not depend on what is seen."""
    random = np.random.default_rng(seed)

    def picture(*shape: int) -> np.ndarray:
        return random.integers(0, 256, shape, np.uint8)

    matte = np.zeros((frames, size_px, size_px), np.uint8)
    matte[:, size_px // 5 : -size_px // 5, size_px // 4 : -size_px // 4] = 255
    points = np.tile(random.uniform(0.3, 0.7, (478, 2)) * size_px, (frames, 1, 1)).astype(np.float32)
    return TrainingClip(
        frames=picture(frames, size_px, size_px, 3),
        head_alpha=matte,
        torso=picture(frames, size_px, size_px, 4),
        background=picture(size_px, size_px, 3),
        identity=np.zeros(80, np.float32),
        expression=random.uniform(0, 0.3, (frames, 44)).astype(np.float32),
        rotation_rad=np.zeros((frames, 3), np.float32),
        translation=np.tile(np.float32([0, -0.2, -3]), (frames, 1)),
        gaze_rad=np.zeros((frames, 2), np.float32),
        landmarks=points,
        fps=25.0,
        head_model="open",
        key=f"noise_{seed}",
        speech=random.normal(size=(2 * frames, features)).astype(np.float16),
        pitch_hz=np.full(2 * frames, 120.0, np.float32),
    )


def run_stage(name: str, preset: str, batch: int, threads: int) -> None:
    """Two steps of a stage, the second one timed; prints a JSON line."""
    from triportrait.training import command
    from triportrait.training.real3d import audio_to_motion, image_to_plane, motion_adapter, torso

    torch.set_num_threads(threads)
    recipe = replace(command.MODELS[f"real3d.{name}"].recipes()[preset](), batch=batch, precision="fp32")
    if hasattr(recipe, "r1_weight"):
        # Every 16th step has the discriminator's gradient penalty, too; it cannot be counted.
        recipe = replace(recipe, r1_weight=0.0)
    size = 64 if name == "audio_to_motion" else recipe.networks.inference.photo_px
    frames = recipe.frames if name == "audio_to_motion" else 4
    features = recipe.network.features if name == "audio_to_motion" else 8
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder) / "clips.tar", [noisy_clip(seed, frames, size, features) for seed in range(2)])
        clips: ClipSet = split_clips([folder])[0]
        if name == "image_to_plane":
            stage = image_to_plane.ImageToPlaneStage(recipe, [clips], [])
        elif name == "motion_adapter":
            stage = motion_adapter.MotionAdapterStage(recipe, clips, None)
        elif name == "torso":
            stage = torso.TorsoStage(recipe, clips, None)
        else:
            stage = audio_to_motion.AudioToMotionStage(recipe, audio_to_motion.VoiceClips(clips), None)
        began = time.perf_counter()
        batch_rows = stage.rows(1, range(batch))
        making = time.perf_counter() - began
        stage.frozen.eval()
        optimisers = stage.optimisers()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        # Late, so that the adversary is in it.
        step = max(recipe.steps // 16 * 16 - 4, 4)

        def one() -> None:
            for which, (optimiser, names) in optimisers.items():
                for other, network in stage.networks.items():
                    network.requires_grad_(other in names)
                optimiser.zero_grad(set_to_none=True)
                sum(stage.losses(batch_rows, step, which).values()).backward()
                optimiser.step()

        with FlopCounterMode(display=False) as counter:
            one()
        began, cpu = time.perf_counter(), time.process_time()
        one()
        costs = {
            "stage": name,
            "preset": preset,
            "batch": batch,
            "step_s": round(time.perf_counter() - began, 2),
            "step_cpu_s": round(time.process_time() - cpu, 2),
            "rows_s": round(making, 2),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "before_gb": round(before, 2),
            "gflop": round(counter.get_total_flops() / 1e9, 1),
        }
    sys.stdout.write(json.dumps(costs) + "\n")


def saved_bytes(run) -> int:  # noqa: ANN001 - any function
    """Bytes that a forward pass keeps for its backward pass."""
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            seen[storage._cdata] = storage.nbytes()
        alive.append(storage)
        return tensor

    alive: list[object] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(seen.values())


def count_paper() -> None:
    """Work and activations per picture of the networks at the paper's size."""
    from triportrait.real3d.head_super_resolution import SuperResolution
    from triportrait.training.real3d.discriminator import DualDiscriminator
    from triportrait.training.real3d.heads import all_networks
    from triportrait.training.real3d.sizes import paper_networks

    sizes = paper_networks()
    with torch.device("meta"):
        networks = all_networks(sizes)
        picture, features = torch.empty(1, 3, 512, 512), torch.empty(1, 32, 128, 128)
        alpha, masks, points = torch.empty(1, 1, 128, 128), torch.empty(1, 2, 512, 512), torch.empty(1, 68, 2)
        cameras = torch.empty(1, 25)
        torso = networks["htb_super_resolution"]
        assert isinstance(networks["super_resolution"], SuperResolution) and isinstance(networks["discriminator"], DualDiscriminator)
        runs = {
            "image_to_plane": lambda: networks["image_to_plane"](picture),
            "motion_adapter": lambda: networks["motion_adapter"](torch.empty(1, 9, 512, 512)),
            "super_resolution": lambda: networks["super_resolution"](features),
            "htb_super_resolution": lambda: torso(features, alpha, torso.prepare(picture, masks, picture, points), points),
            "discriminator": lambda: networks["discriminator"](picture, picture, cameras),
        }
        for name, run in runs.items():
            networks[name].train()
            with FlopCounterMode(display=False) as counter:
                run().sum().backward()
            work = counter.get_total_flops() / 1e9
            numbers = sum(parameter.numel() for parameter in networks[name].parameters())
            # Adam in single precision: weight, gradient, two moments; and the average.
            line = {
                "network": name,
                "gflop_forward_backward": round(work),
                "activations_gb_fp32": round(saved_bytes(run) / 2**30, 2),
                "weights_and_adam_gb": round(20 * numbers / 2**30, 2),
            }
            sys.stdout.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--stage", choices=STAGES, default=None, help="run this one here instead of all in processes of their own")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--counted", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.counted:
        count_paper()
    elif options.stage:
        run_stage(options.stage, options.preset, options.batch, options.threads)
    else:
        for name in STAGES:
            rest = ["--preset", options.preset, "--batch", str(options.batch), "--threads", str(options.threads)]
            subprocess.run([sys.executable, __file__, "--stage", name, *rest], check=True)


if __name__ == "__main__":
    main()
