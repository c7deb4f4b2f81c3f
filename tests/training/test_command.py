"""Everything that ships is trained by one command, and what it writes is what the product loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from labelled_samples import write_parts
from training.oneshot.test_mouth_painter import windows
from training.oneshot.test_stage import ball_views
from training.test_coverings import write_faces
from training.voice.test_stage import spoken
from training_samples import painted_clip
from triportrait.avatar.mouth.painter_network import as_graph as as_painter
from triportrait.avatar.mouth.painter_network import load_mouth_painter
from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar
from triportrait.avatar.oneshot.image_to_plane import trained_plane_encoder
from triportrait.cli import main
from triportrait.errors import OptionError, OutputError
from triportrait.face.cover_network import load_cover_network
from triportrait.face.coverings import load_judge, lower_face
from triportrait.media.video import VideoReader
from triportrait.model import build_model
from triportrait.motion.audio import AudioDriver
from triportrait.motion.audio_network import AudioToMotion, as_graph, load_model, save_model
from triportrait.motion.speech_features import EnvelopeLogMel, LogMel
from triportrait.motion.sync_expert import load_sync_expert, sync_score
from triportrait.nn.parts import load_parts, parts_input
from triportrait.nn.parts_network import load_parts_network
from triportrait.synth.lifted_views import write_index, write_shard
from triportrait.training.command import MODELS, join_networks, recipe_of
from triportrait.training.data.clips import write_clips
from triportrait.training.data.mouths import write_windows
from triportrait.training.exporting import EXPORTED, check_export
from triportrait.training.options import Model, TrainOptions
from triportrait.training.voice.corpora import Tracked, speech_for, spoken_targets, write_spoken, write_tracked
from triportrait.types import Waveform


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little of all that networks learn from."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("clips", "views", "speech"):
        (folder / name).mkdir()
    write_clips(folder / "clips" / "train-00000.tar", [painted_clip(seed) for seed in range(3)], quality=None)
    write_clips(folder / "clips" / "val-00000.tar", [painted_clip(9)], quality=None)
    for split, seeds in (("train", (0, 1)), ("val", (2,))):
        write_shard(folder / "views" / f"{split}.npz", [ball_views(seed) for seed in seeds])
        write_index(folder / "views", split, [f"{split}.npz"], [len(seeds)], {})
    write_windows(folder / "mouths.npz", list(windows(4, 0)), [False, True] * 2)
    write_faces(folder / "faces.npz", 8, 0)
    write_parts(folder / "parts", 4)
    for number in range(3):
        write_spoken(folder / "speech" / f"train_{number:05d}.npz", spoken(number))
    write_spoken(folder / "speech" / "test_00000.npz", spoken(7))
    for split, seed in (("tracked", 3), ("trackedtest", 4)):
        clip = spoken(seed)
        write_tracked(folder / "speech" / f"{split}_a.npz", Tracked(clip.samples, spoken_targets(clip), "a", clip.phones))
    return folder


def train(model: str, data: Sequence[Path], out: Path, *more: object) -> Path:
    """Four steps of the tiny preset by the command line; the file of weights."""
    line = ["train", model, "--preset", "tiny", "--steps", "4", "--device", "cpu", "--data", *data, "-o", out, *more]
    assert main([str(word) for word in line]) == 0
    assert len((out / "log.jsonl").read_text().splitlines()) == 4 and (out / "state.pt").exists()
    return out / "model.safetensors"


def test_what_the_default_avatar_is_made_of(data: Path, tmp_path: Path, astronaut_portrait, open_head) -> None:  # noqa: ANN001
    """Planes and painter of four steps draw a frame; it is not the shipped networks' one."""
    planes = train("oneshot", [data / "views", data / "views"], tmp_path / "planes", "--shares", 1, 2)
    painter = train("mouth_painter", [data / "mouths.npz"], tmp_path / "painter", "--held-out", data / "mouths.npz")
    shipped = build_model("oneshot", open_head).avatar
    assert isinstance(shipped, CompactOneShotAvatar)
    trained = CompactOneShotAvatar(shipped.head, trained_plane_encoder(planes), as_painter(load_mouth_painter(painter)), shipped.renderer)
    heads = [avatar.render(avatar.prepare(astronaut_portrait), astronaut_portrait.motion) for avatar in (shipped, trained)]
    assert np.isfinite(heads[1].rgb).all() and np.abs(heads[0].rgb - heads[1].rgb).max() > 0.01


def test_voice_and_its_judge(data: Path, tmp_path: Path) -> None:
    lips = train("voice", [data / "speech"], tmp_path / "lips")
    expert = train("sync_expert", [data / "speech"], tmp_path / "expert")
    further = train("voice", [data / "speech"], tmp_path / "further", "--start", tmp_path / "lips")
    assert further.exists()
    voice = Waveform(spoken(5).samples.astype(np.float32) / 32767, 16_000)
    motion = AudioDriver(voice, model=as_graph(load_model(lips))).motion()
    assert len(motion) > 31 and np.isfinite(motion.expression).all()
    score = sync_score(motion, voice, load_sync_expert(expert))
    assert -1 <= score.similarity <= 1
    for run, measure in (("lips", "opening_correlation_val"), ("expert", "in_step_val")):
        assert measure in (tmp_path / run / "log.jsonl").read_text().splitlines()[-1]


def test_two_voices_are_joined(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Network B first or last: the file is what the driver takes, and it is the mean of both."""
    b = train("voice", [data / "speech"], tmp_path / "b")
    config = replace(load_model(b).config, features=LogMel.size, extractor=LogMel.name)
    torch.manual_seed(0)
    save_model(AudioToMotion(config), tmp_path / "a.safetensors")
    for number, pair in enumerate(([b.parent, tmp_path / "a.safetensors"], [tmp_path / "a.safetensors", b])):
        out = tmp_path / f"pair_{number}"
        assert main(["train", "voice", "--join", *map(str, pair), "-o", str(out)]) == 0
        assert capsys.readouterr().out.endswith(f"{out / 'model.safetensors'}\n")
    first, joined = (load_model(tmp_path / f"pair_{number}" / "model.safetensors") for number in range(2))
    for name, value in joined.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name
    voice = Waveform(spoken(5).samples.astype(np.float32) / 32767, 16_000)
    assert np.isfinite(AudioDriver(voice, model=as_graph(joined)).motion().expression).all()
    features = torch.randn(1, 40, LogMel.size + EnvelopeLogMel.size)
    parts = features.split([LogMel.size, EnvelopeLogMel.size], -1)
    openings = [load_model(path)(part)[1] for path, part in zip((tmp_path / "a.safetensors", b), parts, strict=True)]
    torch.testing.assert_close(joined(features)[1], torch.stack(openings).mean(0))
    for pair, words in (([b, b], "log-mel bands"), ([b], "two networks"), ([b, out], "several networks")):
        with pytest.raises(OptionError, match=words):
            join_networks(TrainOptions(model="voice", data=(), out=tmp_path / "x", join=tuple(pair)))
    assert not (tmp_path / "x").exists()


def test_joining_trains_nothing(data: Path, tmp_path: Path) -> None:
    pair, out = (tmp_path / "a", tmp_path / "b"), tmp_path / "out"
    with pytest.raises(OptionError, match="trains nothing"):
        join_networks(TrainOptions(model="voice", data=(data,), out=out, join=pair))
    with pytest.raises(OptionError, match="option of voice"):
        join_networks(TrainOptions(model="oneshot", data=(), out=out, join=pair))
    out.mkdir()
    (out / "model.safetensors").touch()
    with pytest.raises(OutputError, match="input"):
        join_networks(TrainOptions(model="voice", data=(), out=out, join=(out, tmp_path / "b")))


def test_who_tells_coverings(data: Path, tmp_path: Path, astronaut_portrait) -> None:  # noqa: ANN001
    faces = data / "faces.npz"
    network = load_cover_network(train("coverings", [faces], tmp_path / "coverings", "--held-out", faces))
    assert "found_val" in (tmp_path / "coverings" / "log.jsonl").read_text().splitlines()[-1]
    seen = torch.from_numpy(lower_face(astronaut_portrait.image, astronaut_portrait.landmarks))[None]
    with torch.inference_mode():
        logit = network(seen).item()
        assert np.isfinite(logit) and logit != load_cover_network()(seen).item()
    further = train("coverings", [faces], tmp_path / "further", "--start", tmp_path / "coverings", "--export")
    assert further.exists()
    # The exported file judges as the trained one does.
    with torch.inference_mode():
        own = load_cover_network(further)(seen).item()
    assert load_judge(further.with_suffix(".onnx"))(seen[0].numpy())[0][0] == pytest.approx(own, abs=1e-4)


def test_who_tells_the_parts(data: Path, tmp_path: Path, astronaut_portrait) -> None:  # noqa: ANN001
    file = train("parts", [data / "parts"], tmp_path / "parts", "--held-out", data / "parts", "--export")
    assert "skin_val" in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()[-1]
    seen = parts_input(astronaut_portrait.image, astronaut_portrait.landmarks, astronaut_portrait.person_alpha)
    with torch.inference_mode():
        own = load_parts_network(file)(torch.from_numpy(seen)[None])[0].softmax(0).numpy()
    # The exported file tells as the trained network does.
    assert np.abs(load_parts(file.with_suffix(".onnx"))(seen)[0] - own).max() < 1e-3
    further = train("parts", [data / "parts"], tmp_path / "further", "--start", tmp_path / "parts")
    assert further.exists()


def test_only_what_videos_are_made_with_is_exported(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--export is an option of"):
        check_export("sync_expert")
    assert set(EXPORTED) < set(MODELS)


def test_the_papers_four_stages_make_a_video(data: Path, tmp_path: Path, astronaut: np.ndarray) -> None:
    clips = [data / "clips"]
    train("real3d.image_to_plane", [*clips, data / "views"], tmp_path / "planes")
    train("real3d.motion_adapter", clips, tmp_path / "motion", "--start", tmp_path / "planes")
    train("real3d.torso", clips, tmp_path / "torso", "--start", tmp_path / "motion")
    train("real3d.audio_to_motion", clips, tmp_path / "voice")
    weights = tmp_path / "weights"
    weights.mkdir()
    (tmp_path / "torso" / "real3d_torso.safetensors").rename(weights / "real3d_torso.safetensors")
    (tmp_path / "voice" / "real3d_a2m.safetensors").rename(weights / "real3d_a2m.safetensors")
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    soundfile.write(tmp_path / "voice.wav", (0.2 * np.sin(np.arange(6400) * 0.07)).astype(np.float32), 16_000)
    line = [
        "animate",
        tmp_path / "photo.png",
        tmp_path / "voice.wav",
        "--preset",
        "paper",
        "--weights",
        weights,
        "-o",
        tmp_path / "out.mp4",
    ]
    assert main([str(word) for word in line]) == 0
    with VideoReader(tmp_path / "out.mp4") as reader:
        frames = [frame for _, frame in reader.frames(None)]
    assert len(frames) >= 9 and frames[0].shape == (64, 64, 3)


def test_names_of_the_command_line_are_those_of_the_table() -> None:
    assert set(Model.__args__) == set(MODELS)
    for name, model in MODELS.items():
        assert {"tiny", model.preset} <= set(model.recipes()), name
        assert recipe_of(TrainOptions(model=name, data=(), out=Path("x"))) == model.recipes()[model.preset]()


def test_corpora_are_mixed_by_kind(data: Path, tmp_path: Path) -> None:
    """Formant voices count half, joined voices six times, recordings 14 or 8 times; labels thrice."""
    clip = spoken(1)
    for name, voice in (
        ("train_0", "flite:slt"),
        ("train_1", "espeak:de"),
        ("train_2", "espeak:fr"),
        ("joined_0", "x"),
        ("recording_0", "y"),
    ):
        write_spoken(tmp_path / f"{name}.npz", type(clip)(clip.samples, clip.phones, voice))
    label = Tracked(clip.samples, spoken_targets(clip), "a", complete=True)
    write_tracked(tmp_path / "labelled_a.npz", label)
    voice, sync = speech_for("voice", [tmp_path]), speech_for("sync_expert", [tmp_path])
    assert [len(voice.spoken), len(voice.tracked)] == [1 + 1 + 6 + 14, 3] and [len(sync.spoken), len(sync.tracked)] == [3 + 8, 0]
    assert voice.tracked[0].complete and voice.tracked[0].phones == ()
    np.testing.assert_array_equal(voice.tracked[0].targets.expression, label.targets.expression)


@pytest.mark.parametrize(
    ("settings", "words"), [(("half=1",), "like False"), (("speed=1",), "names no setting"), (("rate=fast",), "a number")]
)
def test_settings_of_the_other_kind_are_refused(settings: tuple[str, ...], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        recipe_of(TrainOptions(model="voice", data=(), out=Path("x"), settings=settings))
