"""Every stage of the paper learns, resumes exactly (also after kill -9), and learns the same with two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional

import training.test_loop as loop
from training_samples import FEATURES, painted_clip
from triportrait.errors import EmptyMedia, MediaError, OptionError, TriPortraitError, WeightsError
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.eg3d_prior import Prior, load_generator
from triportrait.real3d.networks import from_settings, tiny
from triportrait.real3d.parts import PaperFiles, load_networks
from triportrait.real3d.pipeline import HalvedLogMel, load_pipeline
from triportrait.synth.lifted_views import LiftedViews
from triportrait.training.command import recipe_of, run_training
from triportrait.training.data.clips import ClipSet, split_clips, write_clips
from triportrait.training.loop import train_stage
from triportrait.training.oneshot.views import ViewSet
from triportrait.training.options import TrainOptions
from triportrait.training.real3d import audio_to_motion, heads, image_to_plane, motion_adapter, perceptual, torso
from triportrait.training.real3d.examples import PairOptions, clip_row, numpy_generator
from triportrait.weights.store import Provenance, save_weights

COSTS = ("cpu_s", "seconds", "memory_gb")
STAGES = ("image_to_plane", "motion_adapter", "torso", "audio_to_motion")


@pytest.fixture(scope="module")
def heads_start(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion adapter that was trained for one step: what the torso stage begins with."""
    folder = tmp_path_factory.mktemp("start") / "run"
    train_stage(make("motion_adapter", shards, None, steps=1), folder, tensorboard=False)
    return folder


def make(name: str, shards: Path, start: Path | None, **changes) -> object:  # noqa: ANN003
    clips, held_out = ClipSet([shards], "train"), ClipSet([shards], "val")
    if name == "image_to_plane":
        return image_to_plane.ImageToPlaneStage(replace(image_to_plane.tiny(), **changes), [clips], [held_out])
    if name == "motion_adapter":
        return motion_adapter.MotionAdapterStage(replace(motion_adapter.tiny(), **changes), clips, held_out)
    if name == "torso":
        return torso.TorsoStage(replace(torso.tiny(), **changes), clips, held_out, start)
    voices = (audio_to_motion.VoiceClips(part) for part in (clips, held_out))
    return audio_to_motion.AudioToMotionStage(replace(audio_to_motion.tiny(), **changes), *voices)


def curve(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in COSTS} for line in lines]


@pytest.mark.parametrize("name", STAGES)
def test_the_loss_falls(name: str, shards: Path, heads_start: Path, tmp_path: Path) -> None:
    # Without the adversary, whose part of the loss may rise.
    changes = {} if name == "audio_to_motion" else {"adversarial_weight": 0.0}
    stage = make(name, shards, heads_start, steps=10, validate_every=10, **changes)
    batch = stage.rows(1, range(stage.recipe.batch))
    stage.frozen.eval()
    stage.networks.train()

    def judge() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(sum(stage.losses(batch, 1, "generator").values()))

    before = judge()
    train_stage(stage, tmp_path / "run", tensorboard=False)
    assert judge() < 0.85 * before
    last = curve(tmp_path / "run")[-1]
    assert "expression_val" in last or last["novel_db"] > 3
    assert (tmp_path / "run" / "validation" / "step_00000010.png").exists()


@pytest.mark.parametrize("name", STAGES)
def test_resume_is_exact(name: str, shards: Path, heads_start: Path, tmp_path: Path) -> None:
    """With the adversary from step 4 on, and everything else."""
    whole, parts = (make(name, shards, heads_start, steps=6, validate_every=6) for _ in range(2))
    train_stage(whole, tmp_path / "whole", tensorboard=False)
    train_stage(parts, tmp_path / "parts", tensorboard=False, stop_after=0.0)
    parts = make(name, shards, heads_start, steps=6, validate_every=6, save_every=5)
    train_stage(parts, tmp_path / "parts", tensorboard=False)
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")
    if name != "audio_to_motion":
        assert {"adversarial", "discriminator_r1"} <= set(curve(tmp_path / "whole")[4])
    for key, value in whole.networks.state_dict().items():
        torch.testing.assert_close(parts.networks.state_dict()[key], value, rtol=0, atol=0, msg=key)


PROGRAM = """
import sys; sys.path.insert(0, {tests!r})
import logging, torch; logging.disable(logging.WARNING); torch.set_num_threads(1)
from pathlib import Path
import training.test_loop as loop
from training.real3d.test_stages import STAGES, make
from triportrait.training.fabric import make_fabric
from triportrait.training.loop import train_stage
fabric = make_fabric("cpu", devices=2); fabric.launch()
for name in STAGES:
    train_stage(make(name, Path({shards!r}), Path({start!r}), dropout=False, steps=5), Path({out!r}) / name, fabric, tensorboard=False)
loop.run(Path({out!r}) / "toy", loop.TWICE, fabric=fabric, tensorboard=False)
"""


def test_two_processes_learn_what_one_learns(shards: Path, heads_start: Path, tmp_path: Path) -> None:
    """Each of two gloo processes takes one row of two; batch norms, adversary and penalties included."""
    program = tmp_path / "two.py"
    places = {"tests": Path(__file__).parents[2], "shards": shards, "start": heads_start, "out": tmp_path / "two"}
    program.write_text(PROGRAM.format(**{name: str(path) for name, path in places.items()}))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    two = subprocess.Popen([sys.executable, str(program)], env=environment, stderr=subprocess.PIPE, text=True)
    for name in STAGES:
        train_stage(make(name, shards, heads_start, dropout=False, steps=5), tmp_path / "one" / name, tensorboard=False)
    loop.run(tmp_path / "one" / "toy", loop.TWICE, tensorboard=False)
    _, errors = two.communicate()
    assert two.returncode == 0, errors[-2000:]
    loop.assert_same(loop.curve(tmp_path / "one" / "toy"), loop.curve(tmp_path / "two" / "toy"), 1e-5)
    for name in STAGES:
        one, both = curve(tmp_path / "one" / name), curve(tmp_path / "two" / name)
        assert len(one) == len(both) == 5
        for a, b in zip(one, both, strict=True):
            for key in a:
                # What is measured on averaged networks waits for biases that a batch norm cancels: rounding moves those.
                if not key.endswith(("_db", "_val")):
                    # Rounding grows from step to step, fastest through the adversary.
                    limit = 2e-4 if a["step"] <= 3 else 1e-2
                    assert abs(a[key] - b[key]) <= limit * max(1.0, abs(a[key])), (name, a["step"], key, a[key], b[key])
        assert abs(one[0]["loss"] - both[0]["loss"]) <= 1e-5 * one[0]["loss"], name


def test_kill_9_in_the_middle_of_a_command(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = [sys.executable, "-m", "triportrait.cli", "train", "real3d.audio_to_motion", "--preset", "tiny", "--data", str(shards)]
    line += ["--steps", "40", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*line, "--out", str(out)], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(6000):
        if (out / "log.jsonl").exists() and len((out / "log.jsonl").read_text().splitlines()) >= 12:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    options = TrainOptions(model="real3d.audio_to_motion", preset="tiny", data=(shards,), out=out, steps=40, device="cpu")
    assert 10 <= torch.load(out / "state.pt", weights_only=True)["step"] < 40
    assert run_training(options).finished
    assert run_training(replace(options, out=tmp_path / "whole")).finished
    for a, b in zip(curve(out), curve(tmp_path / "whole"), strict=True):
        assert all(abs(a[key] - b[key]) <= 1e-6 for key in b)


# -- data -------------------------------------------------------------------------------------------------------------------


def test_rows_are_functions_of_their_number(shards: Path) -> None:
    stage = make("motion_adapter", shards, None)
    together, apart = stage.rows(3, range(4)), [stage.rows(3, [row]) for row in range(4)]
    for name, value in together.items():
        assert torch.equal(value, torch.cat([row[name] for row in apart])), name
    assert not torch.equal(together["target"], stage.rows(4, range(4))["target"])


def test_a_row_shows_what_it_says(shards: Path) -> None:
    clips = ClipSet([shards], "train")
    options = PairOptions(64, apart=3, motion=True, scene=True)
    row = clip_row(clips, options, numpy_generator(0, 0, 0))
    assert row["pictures"].shape == (6, 64, 64) and row["driving"].shape == (3, 3, 64, 64)
    # The painted head is its own PNCC: where the matte is full, the picture is no background.
    solid = row["matte"][0] > 0.99
    assert float((row["target"][:, solid] - row["whole"][:, solid]).abs().max()) < 0.03
    assert float(row["target"][:, row["matte"][0] == 0].max()) == -1.0
    x, y, half = row["lips"].tolist()
    chin = row["target_points"][8]
    assert half > 0.03 and abs(x - float(chin[0])) < 0.2 and y < float(chin[1])
    assert float(row["torso_masks"].sum()) > 50 and float(row["background"].std()) < 1


def test_packed_views_and_eg3d_are_teachers_too(shards: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        LiftedViews(
            "x",
            random.integers(0, 256, (4, 256, 256), np.uint8),
            random.integers(0, 256, (3, 6, 128, 128), np.uint8),
            random.uniform(-0.2, 0.2, (3, 3)).astype(np.float32),
            np.zeros((3, 3), np.float32),
            np.zeros((3, 25), np.float32),
        )
        for _ in range(2)
    ]
    sizes = tiny()
    prior = Prior(Prior.Config(8, 16, 25, 2, 32, 8, base_channels=64, most_channels=8, render_side=16, super_channels=(8, 8)))
    # Begins as the teacher's, so the sizes of a style must agree.
    recipe = replace(image_to_plane.tiny(), steps=4, adversarial_weight=0.0)
    views = ViewSet.of(rows)
    stage = image_to_plane.ImageToPlaneStage(recipe, [views], [views])
    train_stage(stage, tmp_path / "views", tensorboard=False)
    with pytest.raises(OptionError, match="other sizes"):
        image_to_plane.ImageToPlaneStage(recipe, [], [], teacher=(prior, Decoder(sizes.decoder)))
    prior = Prior(Prior.Config(8, 512, 25, 2, 32, 8, base_channels=64, most_channels=8, render_side=16, super_channels=(8, 8)))
    stage = image_to_plane.ImageToPlaneStage(recipe, [views], [], shares=[1.0, 3.0], teacher=(prior, Decoder(sizes.decoder)))
    batches = [stage.rows(step, range(2)) for step in range(8)]
    assert {"latent" in batch for batch in batches} == {True, False}
    before = prior.mapping.layers[0].weight.clone()
    train_stage(stage, tmp_path / "taught", tensorboard=False)
    assert torch.equal(before, prior.mapping.layers[0].weight)


def test_cameras_of_appendix_b1_and_of_the_published_code_stand_where_they_should(tmp_path: Path) -> None:
    prior = Prior(Prior.Config(8, 512, 25, 2, 32, 8, base_channels=64, most_channels=8, render_side=16, super_channels=(8, 8)))
    ranges = {}
    for name in ("paper", "paper_published"):
        recipe = image_to_plane.RECIPES[name]()
        recipe = replace(image_to_plane.tiny(), nearest_radius=recipe.nearest_radius, farthest_radius=recipe.farthest_radius)
        stage = image_to_plane.ImageToPlaneStage(recipe, [], [], teacher=(prior, Decoder(tiny().decoder)))
        rows = stage.rows(0, range(200))
        cameras = torch.cat([rows["source_camera"], rows["target_camera"]])[:, :16].unflatten(1, (4, 4))[:, :3, 3]
        away = (cameras - torch.tensor([0.0, 0.0, 0.2])).norm(dim=1)
        ranges[name] = (round(float(away.min()), 1), round(float(away.max()), 1))
        near = rows["condition"][:, :16].unflatten(1, (4, 4))[:, :3, 3] - torch.tensor([0.0, 0.0, 0.2])
        assert 2.7 <= float(near.norm(dim=1).min()) and float(near.norm(dim=1).max()) <= 3.2001
    assert ranges == {"paper": (2.4, 5.0), "paper_published": (2.7, 4.0)}
    with pytest.raises(OptionError, match="nearest_radius 5 to farthest_radius 4"):
        image_to_plane.ImageToPlaneStage(replace(recipe, nearest_radius=5.0, farthest_radius=4.0), [], [])


def test_pixels_cost_their_square_or_their_amount(shards: Path) -> None:
    """Eq. 7 against eq. 3, on pictures that are wrong by 0.1 everywhere."""
    assert (image_to_plane.paper().pixel_error, image_to_plane.published().pixel_error) == ("squared", "absolute")
    assert motion_adapter.paper().pixel_error == "absolute"
    ones, lips = torch.ones(1, 1, 64, 64), torch.tensor([[0.0, 0.25, 0.15]])
    for kind, cost in (("absolute", 0.1), ("squared", 0.01)):
        stage = make("image_to_plane", shards, None, pixel_error=kind, lip_weight=1.0, lip_perceptual_weight=0.0)
        terms = stage.picture_terms(ones * 0.3, ones[..., ::4, ::4] * 0.3, ones * 0.2, ones, lips)
        assert [float(terms[name]) for name in ("picture", "raw", "lips")] == pytest.approx([cost] * 3, rel=1e-4)
    with pytest.raises(OptionError, match="use absolute or squared"):
        make("image_to_plane", shards, None, pixel_error="none")


def test_an_imported_eg3d_teaches_from_the_command_line(shards: Path, tmp_path: Path) -> None:
    """The file says its sizes and which axes its planes span; decoder and super-resolution begin as the teacher's."""
    prior = Prior(
        Prior.Config(8, 512, 25, 2, 32, 8, "eg3d_fixed", base_channels=64, most_channels=8, render_side=16, super_channels=(8, 8))
    )
    networks = {"prior": prior, "decoder": Decoder(tiny().decoder)}
    state = {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}
    config = {name: asdict(network.config) for name, network in networks.items()}
    provenance = Provenance("ffhq-fixed-triplane512-128.pkl", "0" * 64, "G_ema", "1", "none")
    save_weights(tmp_path / "eg3d.safetensors", state, layout="eg3d", config=config, provenance=provenance)
    usual = {"model": "real3d.image_to_plane", "preset": "tiny", "data": (shards,), "device": "cpu", "steps": 4}
    teacher = tmp_path / "eg3d.safetensors"
    assert load_generator(teacher)[0].config.layout == "eg3d_fixed"
    assert run_training(TrainOptions(**usual, out=tmp_path / "run", teacher=teacher)).finished
    assert (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(WeightsError, match="holds triportrait_stage weights where a generator"):
        run_training(TrainOptions(**usual, out=tmp_path / "other", teacher=tmp_path / "run" / "model.safetensors"))
    with pytest.raises(OptionError, match="other sizes than this preset's"):
        run_training(TrainOptions(**(usual | {"preset": "small"}), out=tmp_path / "other", teacher=teacher))


def test_even_motion_costs_nothing_and_a_jerk_does() -> None:
    start, speed = torch.randn(2, 3, 4, 5, 5), torch.randn(2, 3, 4, 5, 5)
    assert motion_adapter.second_difference(start, start + speed, start + 2 * speed) < 1e-10
    jerk = motion_adapter.second_difference(start, start + 0.1, start)
    assert float(jerk) == pytest.approx(0.04, rel=1e-4)


def test_ways_of_the_laplacian(shards: Path) -> None:
    values = {}
    for kind in ("neighbours", "perturbed", "none"):
        stage = make("motion_adapter", shards, None, laplacian=kind, adversarial_weight=0.0)
        torch.nn.init.normal_(stage.networks["motion_adapter"].out.weight, std=0.1)
        terms = stage.losses(stage.rows(1, [0]), 1, "generator")
        values[kind] = float(terms["laplacian"].detach()) if "laplacian" in terms else None
    assert values["neighbours"] > 0 and values["perturbed"] > 0 and values["none"] is None


def test_voices_need_sound_of_one_kind(tmp_path: Path) -> None:
    write_clips(tmp_path / "a.tar", [painted_clip(0, sound=False)])
    with pytest.raises(EmptyMedia, match="sound"):
        audio_to_motion.VoiceClips(ClipSet([tmp_path / "a.tar"]))
    one = painted_clip(1)
    other = replace(painted_clip(2), speech=np.zeros((32, FEATURES + 1), np.float16))
    write_clips(tmp_path / "b.tar", [one, other])
    with pytest.raises(MediaError, match="differ"):
        audio_to_motion.VoiceClips(ClipSet([tmp_path / "b.tar"]))
    write_clips(tmp_path / "c.tar", [one])
    voices = audio_to_motion.VoiceClips(ClipSet([tmp_path / "c.tar"]))
    piece = voices.piece(0, 4, 8)
    assert piece["real"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0] and torch.equal(piece["motion"][3], piece["motion"][7])
    assert torch.equal(piece["speech"][:8, 0], torch.from_numpy(one.speech[16::2, 0].astype(np.float32)))
    assert 0.05 < float(piece["amplitude"]) < 1.0


def test_blinks_are_marked_in_their_middle() -> None:
    clip = painted_clip(3, frames=21)
    assert np.flatnonzero(audio_to_motion.blink_marks(clip.landmarks)).tolist() == [10]


def test_without_a_held_out_file_some_clips_are_held_out(shards: Path, tmp_path: Path) -> None:
    train, val = split_clips([shards])
    assert len(train) == 3 and len(val) == 1
    write_clips(tmp_path / "clips.tar", [painted_clip(seed, frames=2, sound=False) for seed in range(3)])
    train, val = split_clips([tmp_path])
    assert train.keys == ("painted_0", "painted_1") and val.keys == ("painted_2",)


# -- losses -----------------------------------------------------------------------------------------------------------------


def test_the_substitute_sees_blur_shift_and_contrast() -> None:
    truth = functional.interpolate(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1, size=(64, 64))
    look = perceptual.PerceptualLoss()
    assert float(look(truth, truth)) < 1e-6
    blurred, grey = functional.avg_pool2d(truth, 5, 1, 2), torch.zeros_like(truth)
    assert 0.1 < float(look(blurred, truth)) < float(look(grey, truth))
    assert float(look(truth.roll(1, -1), truth)) > 0.05
    assert float(perceptual.structural_similarity(truth, -truth)) < 0


def test_vgg_reads_the_published_names(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def layer(out: int, channels: int) -> dict[str, torch.Tensor]:
        return {"weight": torch.randn(out, channels, 3, 3, generator=generator) * 0.05, "bias": torch.zeros(out)}

    # Narrower than the real ones, which are 64 to 512 wide.
    widths = [4, 4, 6, 6, 8, 8, 8, 8, 10, 10, 10, 10, 12]
    numbers = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28]
    state, channels = {}, 3
    for number, width in zip(numbers, widths, strict=True):
        state |= {f"features.{number}.{part}": value for part, value in layer(width, channels).items()}
        channels = width
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg19.pth")
    face, channels = {}, 3
    names = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1")
    for name, width in zip(names, [*widths[:7], 10, 10, 10, 12], strict=True):
        face |= {f"conv{name}.{part}": value for part, value in layer(width, channels).items()}
        channels = width
    torch.save(face, tmp_path / "vgg_face.pth")
    look = perceptual.PerceptualLoss.from_home(tmp_path)
    assert set(look.networks) == {"vgg19", "vgg_face"}
    picture = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    assert float(look(picture, picture)) == 0.0 and float(look(-picture, picture)) > 0.01
    # The first activation, by hand.
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (0.5 * picture + 0.5 - mean) / deviation
    wanted = functional.relu(functional.conv2d(x, state["features.0.weight"], state["features.0.bias"], padding=1))
    torch.testing.assert_close(look.networks["vgg19"](picture)[0], wanted)
    full = perceptual.Vgg(perceptual.VGG19_BLOCKS, perceptual._IMAGENET)
    assert sum(parameter.numel() for parameter in full.parameters()) == 12_944_960  # up to relu5_1
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")
    with pytest.raises(WeightsError, match="not vgg19"):
        perceptual.PerceptualLoss.from_home(tmp_path)


# -- files and options ------------------------------------------------------------------------------------------------------


def test_stages_hand_on_their_networks(shards: Path, heads_start: Path, tmp_path: Path) -> None:
    later = make("torso", shards, heads_start)
    stored = torch.load(heads_start / "state.pt", weights_only=True)["averages"]
    for name in ("motion_adapter", "image_to_plane", "decoder"):
        for key, value in later.frozen[name].state_dict().items():
            assert torch.equal(value, stored[name][key]), (name, key)
    larger = replace(motion_adapter.small(), batch=1)
    with pytest.raises(OptionError, match="another size"):
        motion_adapter.MotionAdapterStage(larger, ClipSet([shards], "train"), None, heads_start)
    with pytest.raises(WeightsError):
        heads.load_start(tmp_path / "none", {})


def test_what_was_trained_is_what_the_pipeline_loads(shards: Path, heads_start: Path, tmp_path: Path) -> None:
    whole, voice = make("torso", shards, heads_start, steps=1), make("audio_to_motion", shards, None, steps=1)
    drawn = train_stage(whole, tmp_path / "torso", tensorboard=False).averaged
    heard = train_stage(voice, tmp_path / "voice", tensorboard=False).averaged
    files = PaperFiles(tmp_path / "torso" / "real3d_torso.safetensors", tmp_path / "voice" / "real3d_a2m.safetensors", tmp_path, None)
    preset, networks = load_networks(files)
    assert preset.photo_px == 64 and preset.audio_to_motion.features == FEATURES
    trained = {**drawn, **heard, **{name: whole.frozen[name] for name in whole.served}}
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, trained[name].state_dict()[key]), (name, key)
    with pytest.raises(WeightsError, match="another version"):
        from_settings({"wings": 2})


def test_a_model_trained_on_the_open_head_talks(shards: Path, heads_start: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    """No Basel face and no HuBERT are asked for: the files say what they were trained on."""
    for name in ("torso", "audio_to_motion"):
        train_stage(make(name, shards, heads_start, steps=1), tmp_path / name, tensorboard=False)
    folder = tmp_path / "weights"
    folder.mkdir()
    (tmp_path / "torso" / "real3d_torso.safetensors").rename(folder / "real3d_torso.safetensors")
    (tmp_path / "audio_to_motion" / "real3d_a2m.safetensors").rename(folder / "real3d_a2m.safetensors")
    sound = (0.2 * np.sin(np.arange(8000) * 0.07)).astype(np.float32)
    soundfile.write(tmp_path / "voice.wav", sound, 16_000)
    pipeline = load_pipeline(folder, device="cpu")
    assert pipeline.head.name == "open" and pipeline.hubert is None
    frames = list(pipeline.portrait(astronaut).talk(tmp_path / "voice.wav").frames())
    assert 12 <= len(frames) <= 14 and frames[0].image.shape == (64, 64, 3)


def test_halved_features_do_not_depend_on_how_the_sound_comes() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    whole, parts = HalvedLogMel(), HalvedLogMel()
    at_once = np.concatenate([whole.push(sound), whole.finish()])
    bit_by_bit = np.concatenate([*(parts.push(piece) for piece in np.array_split(sound, 7)), parts.finish()])
    np.testing.assert_allclose(at_once, bit_by_bit, atol=1e-5)
    assert abs(len(at_once) - 50) <= 1 and at_once.shape[1] == HalvedLogMel.size == FEATURES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "all"}, "the models are"),
        ({"preset": "huge"}, "it has tiny"),
        ({"data": ()}, "data prepare"),
        ({"data": (Path("/nowhere"),)}, "no data at"),
        ({"preset": "compact", "model": "oneshot"}, "packed views"),
        ({"model": "real3d.torso"}, "--start"),
        ({"start": Path("/nowhere")}, "start from"),
        ({"steps": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"seed": -1}, "--seed"),
        ({"batch": 3, "accumulate": 2}, "multiple of 2"),
        ({"settings": ("speed=3",)}, "names no setting"),
        ({"settings": ("rate=fast",)}, "expected a number"),
        ({"devices": 0}, "--devices"),
        ({"teacher": Path("x")}, "--teacher"),
        ({"shares": (1.0,)}, "--shares"),
        ({"held_out": (Path("x"),)}, "--held-out"),
        ({"model": "oneshot", "preset": "tiny"}, "data views"),
        ({"model": "voice"}, "data speech"),
        ({"model": "sync_expert"}, "data speech"),
        ({"model": "mouth_painter"}, "data mouths"),
    ],
)
def test_refusals_say_what_to_do(change: dict, words: str, shards: Path, tmp_path: Path) -> None:
    usual = {"model": "real3d.motion_adapter", "preset": "tiny", "data": (shards,), "out": tmp_path / "run", "device": "cpu"}
    options = TrainOptions(**(usual | change))
    with pytest.raises(TriPortraitError, match=words):
        run_training(options)


def test_a_shorter_run_keeps_its_proportions(tmp_path: Path) -> None:
    options = TrainOptions(
        model="real3d.motion_adapter",
        preset="paper",
        data=(),
        out=tmp_path,
        steps=15_000,
        settings=("rate=3e-4", "laplacian=none", "apart=10"),
    )
    recipe, whole = recipe_of(options), motion_adapter.paper()
    assert recipe.adversarial_from * 10 == whole.adversarial_from and dict(recipe.delays)["decoder"] == 600
    assert (recipe.rate, recipe.laplacian, recipe.apart) == (3e-4, "none", 10)


def test_rates_follow_delays_and_the_paper(tmp_path: Path) -> None:
    stage = object.__new__(image_to_plane.ImageToPlaneStage)
    stage.recipe = image_to_plane.paper()
    rates: Callable[[int], list[float]] = lambda step: stage.rates("generator", step)  # noqa: E731
    assert rates(1999)[1] == 0.0 < rates(2000)[1] and rates(29_999)[2] == 0.0 < rates(30_000)[2]
    assert rates(3999)[0] == pytest.approx(1e-4) and rates(199_999)[0] == pytest.approx(1e-4 * 0.95**39)
