"""Everything that ships is trained by one command, and what it writes is what the product loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from training.oneshot.test_mouth_painter import windows
from training.oneshot.test_stage import ball_views
from training.voice.test_stage import spoken
from training_samples import painted_clip
from triportrait.avatar.mouth.painter import load_painter
from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar
from triportrait.avatar.oneshot.planes import load_plane_encoder
from triportrait.cli import main
from triportrait.errors import OptionError
from triportrait.media.video import VideoReader
from triportrait.model import build_model
from triportrait.motion.audio import AudioDriver
from triportrait.motion.sync_expert import load_sync_expert, sync_score
from triportrait.motion.voice_graph import load_voice
from triportrait.synth.lifted_views import write_index, write_shard
from triportrait.training.command import MODELS, recipe_of
from triportrait.training.data.clips import write_clips
from triportrait.training.data.mouths import write_windows
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
    trained = CompactOneShotAvatar(shipped.head, load_plane_encoder(planes), load_painter(painter), shipped.renderer)
    heads = [avatar.render(avatar.prepare(astronaut_portrait), astronaut_portrait.motion) for avatar in (shipped, trained)]
    assert np.isfinite(heads[1].rgb).all() and np.abs(heads[0].rgb - heads[1].rgb).max() > 0.01


def test_voice_and_its_judge(data: Path, tmp_path: Path) -> None:
    lips = train("voice", [data / "speech"], tmp_path / "lips")
    expert = train("sync_expert", [data / "speech"], tmp_path / "expert")
    further = train("voice", [data / "speech"], tmp_path / "further", "--start", tmp_path / "lips")
    assert further.exists()
    voice = Waveform(spoken(5).samples.astype(np.float32) / 32767, 16_000)
    motion = AudioDriver(voice, model=load_voice(lips)).motion()
    assert len(motion) > 31 and np.isfinite(motion.expression).all()
    score = sync_score(motion, voice, load_sync_expert(expert))
    assert -1 <= score.similarity <= 1
    for run, measure in (("lips", "opening_correlation_val"), ("expert", "in_step_val")):
        assert measure in (tmp_path / run / "log.jsonl").read_text().splitlines()[-1]


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
