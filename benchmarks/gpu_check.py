"""Does everything of the paper run on this machine's graphics card, and how fast? One torch process, no network, less than 8 minutes.

    python benchmarks/gpu_check.py [--device cuda] [--json gpu_check.json] [--compile] [--tiny]

Three parts: the golden frame of Real3D-Portrait through the networks on the device (its limit is that of the tests; TF32 is off), a steady
frame in float32 and bfloat16 (``--compile`` also through ``torch.compile``, which takes minutes), and one optimiser step of every stage of
Real3D-Portrait. ``--tiny`` takes networks of a few thousand parameters and no golden frame:
that runs on a CPU in seconds. Every line is printed as it comes; a part that fails is named, the others go on, and the exit status says so.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

STAGES = ("image_to_plane", "motion_adapter", "torso", "audio_to_motion")
Row = dict[str, Any]


def moved(value: Any, device: torch.device) -> Any:
    """Tensors on the device, within data classes and dictionaries, too."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: moved(getattr(value, field.name), device) for field in fields(value)})
    return value


def waited(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mb(device: torch.device) -> float:
    return round(torch.cuda.max_memory_allocated(device) / 2**20) if device.type == "cuda" else float("nan")


def golden_frame(device: torch.device) -> Row:
    """The whole frame of the tests, its networks on the device: the largest error over the largest value."""
    from golden import test_real3d_head as head
    from golden_folder import golden, golden_fill, key_shapes
    from triportrait.real3d.decoder import Decoder
    from triportrait.real3d.head_torso_background import HtbSuperResolution
    from triportrait.real3d.image_to_plane import ImageToPlane
    from triportrait.real3d.volume import VolumeRenderer
    from triportrait.types import TriPlane
    from triportrait.weights import real3d_head
    from triportrait.weights.real3d_torso import htb_super_resolution_state

    reference, volume = golden("real3d/frame.json"), golden("real3d/vr.json")
    case, seed = reference["cases"]["main"], reference["seed"]
    with torch.no_grad():
        state = head.published(real3d_head.IMAGE_TO_PLANE, golden("real3d/i2p_128.json"))
        encoder = ImageToPlane(ImageToPlane.Config(**real3d_head.image_to_plane_config(state)))
        encoder.load_state_dict(real3d_head.image_to_plane_state(state))
        canonical = encoder.eval().to(device)(head.head_image(512, golden("real3d/i2p_512.json")).to(device))
        adapter = head.motion_adapter(head.published(real3d_head.MOTION_ADAPTER, golden("real3d/ma.json"))).to(device)
        changed = canonical + adapter(head.motion_pictures(512, seed).to(device))
        decoder = Decoder()
        decoder.load_state_dict(real3d_head.decoder_state(head.published(real3d_head.DECODER, volume)))
        camera = torch.tensor([volume["inputs"]["camera_main"]], device=device)
        render = VolumeRenderer(decoder.eval().to(device))(TriPlane(changed), camera)
        network = HtbSuperResolution(HtbSuperResolution.Config.published()).eval()
        keys = key_shapes("real3d_torso.json", (real3d_head.SUPER_RESOLUTION,))
        network.load_state_dict(htb_super_resolution_state(golden_fill().fill_real3d(keys, seed)))
        source, points = (moved(part, device) for part in head.scene(network, seed))
        image = network.to(device)(render.features, render.alpha, source, points)
    seen = {"planes": (changed, "plane"), "depth": (render.depth, "image_depth"), "frame": (image.clamp(-1, 1), "image")}
    errors = {name: golden_fill().compare9(tensor.cpu(), case[key])[0] for name, (tensor, key) in seen.items()}
    if max(errors.values()) > head.FRAME_ERROR:
        raise AssertionError(f"errors {errors} beyond the limit {head.FRAME_ERROR:g}")
    return errors


def steady_frame(device: torch.device, precision: str, compiled: bool, tiny: bool) -> Row:
    """Milliseconds of a frame of the networks with the tri-plane cached, the least of five."""
    import paper_model

    mixed = precision != "float32"
    with torch.inference_mode(), torch.autocast(device.type, getattr(torch, precision)) if mixed else nullcontext():
        run = tiny_frame(device) if tiny else paper_model.build("frame", device, 1, compiled)
        run()
        seconds = [paper_model.timed(run, device)[0] for _ in range(5)]
    return {"ms": round(1000 * min(seconds), 2), "frames_a_second": round(1 / min(seconds), 1), "peak_mb": peak_mb(device)}


def tiny_frame(device: torch.device) -> Callable[[], object]:
    """A frame of the networks in their size for tests."""
    from triportrait.geometry.cameras import camera_from_pose
    from triportrait.real3d.networks import build, tiny
    from triportrait.real3d.volume import VolumeRenderer
    from triportrait.types import TriPlane

    sizes = tiny()
    networks = {name: network.eval().to(device) for name, network in build(sizes).items()}
    side, channels = sizes.photo_px, sizes.decoder.plane_channels
    planes = networks["image_to_plane"](torch.rand(1, 3, side, side, device=device))
    renderer = VolumeRenderer(networks["decoder"], sizes.volume)
    camera = torch.from_numpy(camera_from_pose(torch.zeros(3).numpy(), torch.zeros(3).numpy()).to_eg3d()).to(device)[None]
    scene, points = networks["htb_super_resolution"], torch.rand(1, 68, 2, device=device)
    pictures = [torch.rand(1, count, side, side, device=device) for count in (3, 2, 3, 9)]
    source = scene.prepare(*pictures[:3], points)
    if planes.shape[2] != channels:
        raise AssertionError("planes and decoder do not fit")

    def frame() -> torch.Tensor:
        render = renderer(TriPlane(planes + networks["motion_adapter"](pictures[3])), camera)
        return scene(render.features.float(), render.alpha.float(), source, points)

    return frame


def training_step(device: torch.device, name: str, tiny: bool) -> Row:
    """One step of a stage of Real3D-Portrait on made-up clips."""
    from training_steps import noisy_clip

    from triportrait.training import command
    from triportrait.training.data.clips import split_clips, write_clips
    from triportrait.training.real3d import audio_to_motion, image_to_plane, motion_adapter, torso

    recipe = replace(command.MODELS[f"real3d.{name}"].recipes()["tiny" if tiny else "small"](), batch=2)
    is_voice = name == "audio_to_motion"
    size = 64 if is_voice else recipe.networks.inference.photo_px
    shape = (recipe.frames, size, recipe.network.features) if is_voice else (4, size, 8)
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder) / "clips.tar", [noisy_clip(seed, *shape) for seed in range(2)])
        clips = split_clips([folder])[0]
        made: dict[str, Callable[[], Any]] = {
            "image_to_plane": lambda: image_to_plane.ImageToPlaneStage(recipe, [clips], []),
            "motion_adapter": lambda: motion_adapter.MotionAdapterStage(recipe, clips, None),
            "torso": lambda: torso.TorsoStage(recipe, clips, None),
            "audio_to_motion": lambda: audio_to_motion.AudioToMotionStage(recipe, audio_to_motion.VoiceClips(clips), None),
        }
        stage = made[name]()
        batch = moved(stage.rows(1, range(2)), device)
    stage.networks.to(device)
    stage.frozen.eval().to(device)
    waited(device)
    began, losses = time.perf_counter(), []
    for which, (optimiser, names) in stage.optimisers().items():
        for other, network in stage.networks.items():
            network.requires_grad_(other in names)
        loss = sum(stage.losses(batch, 4, which).values())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    waited(device)
    if not all(map(math.isfinite, losses)):
        raise AssertionError(f"losses {losses}")
    return {"s": round(time.perf_counter() - began, 3), "loss": round(sum(losses), 4), "peak_mb": peak_mb(device)}


def checks(device: torch.device, tiny: bool, compiled: bool) -> dict[str, Callable[[], Row]]:
    """The parts by name."""
    parts: dict[str, Callable[[], Row]] = {} if tiny else {"golden frame": lambda: golden_frame(device)}
    for precision in ("float32", "bfloat16"):
        for is_compiled in (False, True) if compiled and not tiny else (False,):
            name = f"frame {precision}{' compiled' if is_compiled else ''}"
            parts[name] = lambda p=precision, c=is_compiled: steady_frame(device, p, c, tiny)
    for name in STAGES:
        parts[f"train {name}"] = lambda n=name: training_step(device, n, tiny)
    return parts


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}")
    results: dict[str, Row] = {}
    for name, run in checks(device, options.tiny, options.compile).items():
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            results[name] = run()
        except Exception as error:  # the other parts tell more than the first that fails
            results[name] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(f"{name:28}" + "  ".join(f"{key} {value}" for key, value in results[name].items()), flush=True)
    options.json.write_text(json.dumps({"card": card, "torch": torch.__version__, "results": results}, indent=1), encoding="utf-8")
    return int(any("failed" in row for row in results.values()))


if __name__ == "__main__":
    raise SystemExit(main())
