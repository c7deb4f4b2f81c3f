"""What the program computes, as hashes: taken before a change of the code's shape and compared after it.

    python benchmarks/fingerprint.py before.json
    python benchmarks/fingerprint.py after.json --against before.json

Every entry is a SHA-256 over the bytes of arrays, on one thread. Equal hashes mean equal bits; on another machine they may differ.
``--only demo,motion`` takes some of the groups: demo, avatars, motion, training, published.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
# The tests make their own small data. Their folders stand in for this one, whose files have the same names.
sys.path[0] = str(ROOT / "tests")

import numpy as np  # noqa: E402
import torch  # noqa: E402

#: Frames of the demo and of each avatar.
_DEMO_FRAMES, _AVATAR_FRAMES = 30, 3
_TRAINING_STEPS = 10

Entries = Iterator[tuple[str, str]]


def digest(*parts: Any) -> str:
    """SHA-256 over shapes, types and bytes of arrays, tensors, mappings of them, or bytes."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            total.update(part)
        elif isinstance(part, Mapping):
            for key in sorted(part):
                total.update(key.encode())
                total.update(digest(part[key]).encode())
        else:
            array = np.ascontiguousarray(part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part)
            total.update(f"{array.shape}{array.dtype}".encode())
            total.update(array.tobytes())
    return total.hexdigest()[:16]


def demo() -> Entries:
    """The frames of ``make demo``, as they go to the encoder."""
    from triportrait.pipeline import Portrait
    from triportrait.provenance.maker import NO_MAKER
    from triportrait.provenance.marks import Finish, Marks

    performance = Portrait.from_image(EXAMPLES / "portrait.png").talk(EXAMPLES / "speech.wav")
    finish = None
    for index, frame in enumerate(islice(performance.frames(), _DEMO_FRAMES)):
        finish = finish or Finish(Marks(), (frame.image.shape[1], frame.image.shape[0]), NO_MAKER)
        yield f"demo/{index:02d}", digest(finish(frame.image))


def avatars() -> Entries:
    """Every avatar and every baseline of the evaluation, on both examples."""
    from triportrait.drivers import default_head
    from triportrait.evaluation.baselines import BASELINE_NAMES
    from triportrait.evaluation.parts import baseline_renderer, landmarks_of_motion
    from triportrait.pipeline import Portrait, make_renderer

    for photo in ("portrait.png", "portrait2.png"):
        portrait = Portrait.from_image(EXAMPLES / photo, avatar="lifted")
        motion = portrait.talk(EXAMPLES / "speech.wav").motion()
        rows = list(landmarks_of_motion(portrait.prepared, motion, default_head()))[20::15][:_AVATAR_FRAMES]
        # Those that need no weights of the user's.
        for name in ("lifted", "oneshot"):
            draw = make_renderer(name, portrait.prepared)
            yield f"avatar/{name}/{photo}", digest(*(draw(row) for row in rows))
        for name in sorted(BASELINE_NAMES):
            draw = baseline_renderer(name, portrait.prepared, default_head())
            yield f"baseline/{name}/{photo}", digest(*(draw(row) for row in rows))


def motion() -> Entries:
    """Motion of the example voice as every kind of motion file."""
    from triportrait.drivers import motion_of_audio, voice_settings
    from triportrait.motion.files import write_motion
    from triportrait.motion.options import DriveOptions
    from triportrait.motion.timing import join_motion

    whole = join_motion(motion_of_audio(EXAMPLES / "speech.wav", voice_settings(DriveOptions())))
    yield "motion/rows", digest(whole.expression, whole.rotation_rad, whole.translation, whole.gaze_rad)
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("csv", "json", "livelink.csv"):
            path = Path(folder) / f"voice.{ending}"
            write_motion((whole,), path)
            yield f"motion/{ending}", digest(path.read_bytes())


def weights_of(folder: Path) -> str:
    from safetensors.torch import load_file

    return digest(load_file(folder / "model.safetensors"))


def training() -> Entries:
    """Ten steps of every stage at its tiny size."""
    from training.oneshot.test_mouth_painter import windows
    from training.oneshot.test_stage import ball_views
    from training.real3d.test_stages import make
    from training.voice.test_stage import spoken
    from training_samples import painted_clip
    from triportrait.motion.audio_network import AudioToMotionConfig
    from triportrait.training.data.clips import write_clips
    from triportrait.training.data.mouths import write_windows
    from triportrait.training.loop import train_stage
    from triportrait.training.oneshot import recipe as oneshot_recipe
    from triportrait.training.oneshot import views as oneshot_views
    from triportrait.training.oneshot.mouth_painter import MouthPainterStage, read_windows
    from triportrait.training.oneshot.mouth_painter import tiny as tiny_painter
    from triportrait.training.oneshot.stage import OneshotStage
    from triportrait.training.voice.corpora import CURVES
    from triportrait.training.voice.stage import VoiceRecipe, VoiceStage
    from triportrait.training.voice.sync_expert import SyncRecipe, SyncStage

    steps = _TRAINING_STEPS
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shards = folder / "shards"
        shards.mkdir()
        write_clips(shards / "train-00000.tar", [painted_clip(seed) for seed in range(3)], quality=None)
        write_clips(shards / "val-00000.tar", [painted_clip(9)], quality=None)
        for name in ("image_to_plane", "motion_adapter", "torso", "audio_to_motion"):
            start = folder / "motion_adapter" if name == "torso" else None
            train_stage(make(name, shards, start, steps=steps, validate_every=steps), folder / name, tensorboard=False)
            yield f"training/real3d.{name}", weights_of(folder / name)
        views = oneshot_views.ViewSet.of(ball_views(seed) for seed in range(3))
        train_stage(OneshotStage(replace(oneshot_recipe.tiny(), steps=steps), views, views), folder / "oneshot")
        yield "training/oneshot", weights_of(folder / "oneshot")
        write_windows(folder / "train.npz", list(windows(6, 0)), [False, True] * 3)
        write_windows(folder / "val.npz", list(windows(2, 1)), [False] * 2)
        recipe = replace(tiny_painter(), steps=steps, adversarial_from=5)
        painter = MouthPainterStage(recipe, read_windows([folder / "train.npz"]), read_windows([folder / "val.npz"])[0])
        train_stage(painter, folder / "painter", tensorboard=False)
        yield "training/mouth_painter", weights_of(folder / "painter")
        clips = [spoken(seed) for seed in range(3)]
        config = AudioToMotionConfig(channels=24, front_channels=16, dilations=(1, 2), curves=CURVES)
        heard = VoiceRecipe(network=config, steps=steps, batch=4, frames=64, fresh=2, save_every=steps, rate=4e-3)
        train_stage(VoiceStage(clips, [], heard), folder / "voice", tensorboard=False)
        yield "training/voice", weights_of(folder / "voice")
        train_stage(SyncStage(clips, [], SyncRecipe(steps=steps, batch=4, frames=48)), folder / "sync", tensorboard=False)
        yield "training/sync_expert", weights_of(folder / "sync")


def formula_fill(network: torch.nn.Module) -> None:
    """Weights that depend on the keys and shapes alone."""
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
                spread = 1.0 / max(1, value[0].numel() if value.ndim > 1 else value.numel()) ** 0.5
                drawn = torch.randn(value.shape, generator=random) * spread
                value.copy_(drawn.abs() + 0.5 if key.endswith("var") else drawn)


def published() -> Entries:
    """Frames of the paper's networks at their tiny size, on weights by formula."""
    from triportrait.drivers import default_head
    from triportrait.real3d.networks import build, tiny
    from triportrait.real3d.pipeline import PaperPipeline

    preset = tiny()
    networks = build(preset)
    for network in networks.values():
        formula_fill(network)
        network.eval().requires_grad_(False)
    pipeline = PaperPipeline(networks, preset, default_head(), prepared_layers=True)
    portrait = pipeline.portrait(EXAMPLES / "portrait.png")
    own = portrait.prepared.motion
    turned = replace(own, rotation_rad=own.rotation_rad + np.float32([0.05, 0.2, 0.0]))
    for name, row in (("own", own), ("turned", turned)):
        yield f"published/{name}", digest(portrait.model.step(portrait.state, row)[0])


GROUPS = {"demo": demo, "avatars": avatars, "motion": motion, "training": training, "published": published}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", default=",".join(GROUPS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    for group in options.only.split(","):
        for name, value in GROUPS[group]():
            found[name] = value
            print(f"{name:45s} {value}", flush=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text(encoding="utf-8"))
    compared = [name for name in found if name in before]
    changed = [name for name in compared if found[name] != before[name]]
    print(f"{len(compared)} compared, {len(changed)} changed: {', '.join(changed) or 'none'}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
