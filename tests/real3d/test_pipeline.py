"""The paper's pipeline from a photograph and a voice to a video, with made-up weights, face model and HuBERT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from paper_samples import made_up_parts
from triportrait.errors import MissingPart, NumericError, OptionError, WeightsError
from triportrait.face.open_head import OpenHead
from triportrait.media.video import VideoReader
from triportrait.provenance.marks import Marks
from triportrait.real3d.model import PaperFrame
from triportrait.real3d.parts import find_files
from triportrait.real3d.pipeline import PaperOptions, PaperPipeline, PaperPortrait, load_pipeline, published_crop

pytest.importorskip("transformers")
BARE = Marks(False, False, False)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, open_head: OpenHead) -> dict[str, Path]:
    return made_up_parts(tmp_path_factory.mktemp("parts"), open_head)


@pytest.fixture(scope="module")
def pipeline(parts: dict[str, Path]) -> PaperPipeline:
    return load_pipeline(**parts)


@pytest.fixture(scope="module")
def portrait(pipeline: PaperPipeline, astronaut: np.ndarray) -> PaperPortrait:
    return pipeline.portrait(astronaut)


@pytest.fixture(scope="module")
def word(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.25 s of speech."""
    samples, rate_hz = soundfile.read(voice)
    path = tmp_path_factory.mktemp("word") / "word.wav"
    soundfile.write(path, samples[: rate_hz // 4], rate_hz)
    return path


def pictures(performance: object) -> np.ndarray:
    return np.stack([frame.image for frame in performance])


def test_a_photo_and_a_voice_become_a_video(portrait: PaperPortrait, word: Path, tmp_path: Path) -> None:
    out = portrait.talk(word).save(tmp_path / "out.mp4", marks=BARE)
    with VideoReader(out) as reader:
        frames = [frame for _, frame in reader.frames(None)]
    assert 5 <= len(frames) <= 7 and frames[0].shape == (64, 64, 3)


def test_the_same_input_gives_the_same_frames_and_motion_changes_them(portrait: PaperPortrait, word: Path) -> None:
    performance = portrait.talk(word, PaperOptions(temperature=2.0))
    first, second = pictures(performance), pictures(portrait.talk(word, PaperOptions(temperature=2.0)))
    np.testing.assert_array_equal(first, second)
    assert len(performance.motion()) == len(first) == performance.frame_count
    assert np.abs(first[0].astype(int) - first[-1]).max() > 0


def test_the_debug_panel_shows_what_the_networks_see(portrait: PaperPortrait, word: Path, tmp_path: Path) -> None:
    frame = next(portrait.talk(word).frames(debug=True))
    assert list(frame.debug) == ["source", "pncc", "raw", "depth"]
    assert all(panel.shape == (64, 64, 3) and panel.dtype == np.uint8 for panel in frame.debug.values())
    np.testing.assert_array_equal(frame.debug["source"], portrait.prepared.image)
    np.testing.assert_array_equal(frame.image, next(iter(portrait.talk(word))).image)
    own = portrait.prepared.motion
    opened, shut = (
        portrait.model.motion_picture(
            portrait.state, PaperFrame(own.expression, own.rotation_rad, own.translation, own.gaze_rad, lid_closing=k)
        ).copy()
        for k in (0.0, 1.0)
    )
    assert (opened != shut).any()
    out = portrait.talk(word).save(tmp_path / "panel.mp4", debug_panel=True, marks=BARE)
    with VideoReader(out) as reader:
        assert next(reader.frames(None))[1].shape == (64, 320, 3)


def test_frames_at_once_are_frames_one_by_one(portrait: PaperPortrait) -> None:
    own = portrait.prepared.motion

    def row_of(i: int) -> PaperFrame:
        expression, rotation = own.expression + np.float32(0.5 * i), own.rotation_rad + np.float32(0.06 * i)
        return PaperFrame(expression, rotation, own.translation, own.gaze_rad, lid_closing=0.3 * i)

    rows = [row_of(i) for i in range(3)]
    model, state = portrait.model, portrait.state
    singly = np.stack([model.step(state, row)[0] for row in rows])
    together = model.steps(state, rows)
    assert np.abs(singly.astype(int) - together).max() <= 1 and np.abs(singly[0].astype(int) - singly[2]).max() > 1
    seen = portrait.pipeline.avatar.look(state.avatar, rows, None, [row.lid_closing for row in rows])
    for index, row in enumerate(rows):
        one = portrait.pipeline.avatar.render(state.avatar, row, lid_closing=row.lid_closing)
        np.testing.assert_allclose(seen.features[index].numpy(), one.features.numpy(), atol=2e-3)
    scenes = [np.full((64, 64, 3), 80 * i, np.uint8) for i in range(3)]
    before = np.stack([model.step(state, row, scene)[0] for row, scene in zip(rows, scenes, strict=True)])
    assert np.abs(before.astype(int) - model.steps(state, rows, scenes)).max() <= 1


@pytest.mark.parametrize("settings", [{"batch": 4}, {"precision": "bfloat16"}, {"precision": "float16", "batch": 3}])
def test_batches_and_precisions_show_the_same_video(
    parts: dict[str, Path], portrait: PaperPortrait, astronaut: np.ndarray, word: Path, settings: dict
) -> None:
    other = load_pipeline(**parts, **settings).portrait(astronaut).talk(word)
    difference = np.abs(pictures(portrait.talk(word)).astype(int) - pictures(other))
    assert difference.max() <= 1 if "precision" not in settings else difference.mean() < 1.0


def test_compiled_networks_show_the_same_pictures(
    parts: dict[str, Path], portrait: PaperPortrait, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    # Traced as ever, but run without generating code, which takes a minute.
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend="aot_eager", fullgraph=True))
    pipeline = load_pipeline(**parts, compiled=True)
    other = pipeline.portrait(astronaut)
    motion = portrait.prepared.motion
    pairs = ((model.steps(state, [motion, motion])) for model, state in ((portrait.model, portrait.state), (other.model, other.state)))
    plain, compiled = pairs
    assert np.abs(plain.astype(int) - compiled).max() <= 1


def test_a_clip_drives_the_portrait(portrait: PaperPortrait, clip: Path) -> None:
    performance = portrait.drive(clip)
    motion = performance.motion()
    assert motion.head_model == "bfm" and abs(len(motion) - 25) <= 1
    np.testing.assert_allclose(motion.rotation_rad[0], portrait.prepared.motion.rotation_rad, atol=1e-5)
    assert next(iter(performance)).image.shape == (64, 64, 3)


def test_a_voice_takes_the_pose_of_a_clip_or_none(portrait: PaperPortrait, word: Path, clip: Path) -> None:
    still = portrait.talk(word, PaperOptions(pose="still")).motion()
    assert np.ptp(still.rotation_rad, axis=0).max() == 0
    moving = portrait.talk(word, PaperOptions(pose=str(clip))).motion()
    np.testing.assert_allclose(moving.rotation_rad[0], still.rotation_rad[0], atol=1e-5)
    assert np.ptp(moving.rotation_rad, axis=0).max() > 0
    with pytest.raises(OptionError, match="--pose"):
        portrait.talk(word, PaperOptions(pose="nowhere.mp4"))


def test_a_voice_borrows_the_head_motion_of_a_clip_that_begins_near(portrait: PaperPortrait, word: Path, tmp_path: Path) -> None:
    """Appendix D.1: of the ten nearest first poses the seed draws one."""
    from triportrait.motion.files import save_motion
    from triportrait.types import Motion

    own = portrait.prepared.motion.rotation_rad
    still = {name: np.zeros((30, size), np.float32) for name, size in (("expression", 44), ("translation", 3), ("gaze_rad", 2))}
    turn = np.linspace(0.0, 0.2, 30)[:, None] * np.array([[0.0, 1.0, 0.0]])
    for index in range(12):
        offset, speed = (0.01 * index, 1.0 + 0.1 * index) if index < 10 else (1.0, -1.0)
        rotation = (own + speed * turn + np.array([0.0, offset, 0.0])).astype(np.float32)
        save_motion(Motion(rotation_rad=rotation, **still), tmp_path / f"{index}.npz")
    turned = [
        portrait.talk(word, PaperOptions(head_motion=tmp_path, seed=seed, blink="none")).motion().rotation_rad[:, 1]
        for seed in (0, 0, 1, 2)
    ]
    np.testing.assert_array_equal(turned[0], turned[1])
    assert all(np.diff(one).min() > 0 for one in turned) and len({float(one[-1]) for one in turned}) > 1
    with pytest.raises(OptionError, match="give one of them"):
        PaperOptions(head_motion=tmp_path, pose="still")


def test_blinks_are_drawn_or_made_by_the_network(portrait: PaperPortrait, voice: Path) -> None:
    """Published weights get drawn blinks and a condition of zeros; the condition can be asked for, and is what weights of ours get."""
    pipeline, often = portrait.pipeline, {"blink": "120", "pose": "still"}
    none, drawn, made = (
        portrait.talk(voice, PaperOptions(**(often | changed))).motion()
        for changed in ({"blink": "none"}, {"blink_by": "auto"}, {"blink_by": "network"})
    )
    assert drawn.lid_closings.max() > 0.5 and not made.lid_closings.any() and not none.lid_closings.any()
    np.testing.assert_array_equal(drawn.expression, none.expression)
    assert np.abs(made.expression - none.expression).max() > 1e-4
    assert not pipeline.makes_blinks(PaperOptions())
    pipeline.trained_here = True
    try:
        assert pipeline.makes_blinks(PaperOptions()) and not pipeline.makes_blinks(PaperOptions(blink_by="picture"))
    finally:
        pipeline.trained_here = False


def test_a_clips_pose_starts_at_the_photographs_or_is_its_own(portrait: PaperPortrait, clip: Path) -> None:
    measured = portrait.pipeline.motion_of_video(clip)
    own = portrait.drive(clip, PaperOptions(pose_start="clip")).motion()
    np.testing.assert_allclose(own.rotation_rad, measured.rotation_rad, atol=1e-5)
    assert np.abs(portrait.drive(clip).motion().rotation_rad - own.rotation_rad).max() > 1e-3


def test_the_threshold_of_the_head_changes_the_picture(parts: dict[str, Path], portrait: PaperPortrait, astronaut: np.ndarray) -> None:
    motion = portrait.prepared.motion
    solid = load_pipeline(**parts, head_threshold=0.0).portrait(astronaut)
    assert np.abs(solid.model.steps(solid.state, [motion]).astype(int) - portrait.model.steps(portrait.state, [motion])).max() > 0


def test_blinks_close_the_eyes_of_the_motion_picture(pipeline: PaperPipeline) -> None:
    identity, expression = np.zeros(80, np.float32), np.zeros(64, np.float32)
    opened = pipeline.motion_picture(identity, expression).copy()
    shut = pipeline.motion_picture(identity, expression, 1.0)
    changed = (opened != shut).any(0)
    assert changed.any() and (opened[:, changed] == -1.0).all()


def test_source_picture_is_the_photographs_own_unless_published_behaviour_is_asked_for(
    parts: dict[str, Path], pipeline: PaperPipeline, portrait: PaperPortrait, astronaut: np.ndarray, word: Path
) -> None:
    own = pipeline.motion_picture(portrait.prepared.identity, portrait.prepared.motion.expression)
    portrait.talk(word)
    np.testing.assert_array_equal(portrait.state.avatar.pictures[0, 3:].numpy(), own)
    published = load_pipeline(**parts, published_behaviour=True)
    other = published.portrait(astronaut)
    performance = other.talk(word)
    first = pipeline.motion_picture(portrait.prepared.identity, performance.motion().expression[0])
    np.testing.assert_array_equal(other.state.avatar.pictures[0, 3:].numpy(), first)
    frames = pictures(performance)
    assert np.abs(frames.astype(int) - pictures(performance)).max() > 0, "random rays give other frames each time"


def test_another_background_stands_behind_the_person(portrait: PaperPortrait) -> None:
    own, _ = portrait.model.step(portrait.state, portrait.prepared.motion)
    green, _ = portrait.model.step(portrait.state, portrait.prepared.motion, np.full((64, 64, 3), (0, 255, 0), np.uint8))
    back, _ = portrait.model.step(portrait.state, portrait.prepared.motion, portrait.prepared.background)
    assert np.abs(own.astype(int) - green).max() > 10
    assert np.abs(own.astype(int) - back).max() <= 1


def test_what_is_missing_is_said_in_one_sentence(parts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingPart) as caught:
        find_files()
    text = str(caught.value)
    assert all(name in text for name in ("real3d_torso", "real3d_a2m", "BFM_model_front.mat", "hubert", "weights list"))
    assert "\n" not in text and text.count(". ") == 0
    with pytest.raises(MissingPart, match="lacks HuBERT"):
        find_files(parts["weights"], parts["bfm"], tmp_path)
    assert find_files(parts["weights"], parts["bfm"], voice=False).hubert is None
    assert find_files(parts["weights"], parts["bfm"].parent, voice=False).head == parts["bfm"]


def test_a_face_model_without_the_landmark_index_is_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    alone = tmp_path / parts["bfm"].name
    alone.write_bytes(parts["bfm"].read_bytes())
    with pytest.raises(WeightsError, match="index_mp468"):
        load_pipeline(parts["weights"], alone, voice=False)


REFUSED = [{"temperature": -1.0}, {"mouth_amplitude": 9.0}, {"blink": "300"}, {"blink_by": "me"}, {"pose_start": "here"}, {"seed": -1}]


@pytest.mark.parametrize("options", REFUSED)
def test_settings_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(OptionError):
        PaperOptions(**options)


def test_the_crop_gives_the_face_a_fifth_and_stays_inside() -> None:
    landmarks = np.tile((450.0, 360.0, 0.0), (478, 1))
    landmarks[0, :2], landmarks[1, :2] = (400, 300), (500, 420)
    left, top, side = published_crop(landmarks, (800, 1000))
    assert 100 * 120 / side**2 == pytest.approx(0.2)
    assert (left + side / 2, top + side / 2) == pytest.approx((450, 360))
    assert published_crop(landmarks * 1.5 - 300, (200, 200)) == (0.0, 0.0, 200.0)
    left, top, side = published_crop(landmarks, (430, 1000))
    assert 0 <= top and top + side <= 430


def animate(*arguments: object) -> int:
    from triportrait.cli import main

    return main(["animate", *map(str, arguments)])


def test_the_command_line_runs_the_whole(
    parts: dict[str, Path], astronaut_png: Path, word: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    places = [text for name, path in parts.items() for text in (f"--{name}", path)]
    bare = ("--no-label", "--no-watermark", "--no-manifest", "--device", "cpu")
    assert animate(astronaut_png, "--audio", word, "-o", out, "--preset", "paper", *places, *bare, "--background", "#204060") == 0
    with VideoReader(out) as reader:
        assert sum(1 for _ in reader.frames(None)) >= 5


def test_the_command_line_says_what_is_missing(astronaut_png: Path, word: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    assert animate(astronaut_png, "--audio", word, "-o", out, "--preset", "paper") == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and "weights import" in text
    assert animate(astronaut_png, "--audio", word, "-o", out, "--preset", "paper", "--mouth-gain", 2) == 2
    assert "--mouth-gain" in capsys.readouterr().err
    assert animate(astronaut_png, "--audio", word, "-o", out, "--bfm", tmp_path) == 2
    assert "--preset paper" in capsys.readouterr().err
    assert not out.exists()


def test_skipping_empty_space_changes_nothing_that_can_be_seen(seed: int) -> None:
    import torch

    from triportrait.geometry.cameras import camera_from_pose
    from triportrait.real3d.decoder import Decoder
    from triportrait.real3d.pipeline import _past_empty_space
    from triportrait.real3d.volume import VolumeRenderer
    from triportrait.types import TriPlane

    torch.manual_seed(seed)
    config = Decoder.Config(plane_channels=8, hidden=8, colours=8)
    volume = VolumeRenderer(Decoder(config), VolumeRenderer.Config(size_px=16, coarse=48, fine=48)).requires_grad_(False)
    line = torch.linspace(-1, 1, 32)
    bump = 3.0 - 40.0 * (line[:, None] ** 2 + line**2)  # a ball in the middle, strongly empty around it
    planes = TriPlane(bump.expand(1, 3, 8, 32, 32).contiguous())
    volume.decoder.hidden.weight.fill_(0.5)
    volume.decoder.hidden.bias.zero_()
    volume.decoder.out.weight[0].fill_(1.0)
    volume.decoder.out.bias[0] = -12.0
    occupied = volume.occupancy(planes, threshold=1e-5).cells.float().mean()
    assert 0.0 < occupied < 0.5
    cameras = torch.from_numpy(camera_from_pose(np.array((0.1, 0.2, 0.0)), np.zeros(3)).to_eg3d())[None]
    with torch.inference_mode():
        plain, skipping = volume(planes, cameras), _past_empty_space(volume)(planes, cameras)
    assert plain.alpha.max() > 0.5
    assert (plain.features - skipping.features).abs().max() < 2e-3
    assert (plain.alpha - skipping.alpha).abs().max() < 1e-3


def test_nan_in_the_weights_is_an_error(parts: dict[str, Path], astronaut: np.ndarray) -> None:
    broken = load_pipeline(**parts)
    portrait = broken.portrait(astronaut)
    broken.model.super_resolution.double_scene.to_colours.bias.data.fill_(float("nan"))
    with pytest.raises(NumericError, match="weights verify"):
        broken.model.step(portrait.state, portrait.prepared.motion)


def test_a_segmenter_of_the_users_cuts_the_layers(pipeline: PaperPipeline, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def classes(image: np.ndarray) -> np.ndarray:
        rows = np.zeros(image.shape[:2], np.uint8)
        rows[10:30, 16:48], rows[30:40, 24:40], rows[40:, 8:56] = 3, 2, 4
        return rows

    monkeypatch.setattr(pipeline, "segmenter", classes)
    portrait = pipeline.portrait(astronaut)
    assert portrait.layers.masks[0, 30:40, 24:40].all() and portrait.layers.masks[0].sum() == 160
    assert portrait.prepared.head_alpha.sum() == 20 * 32 and portrait.prepared.person_alpha[40:, 8:56].all()
    assert portrait.model.step(portrait.state, portrait.prepared.motion)[0].shape == (64, 64, 3)


def test_the_command_line_refuses_a_bad_segmenter(
    parts: dict[str, Path], astronaut_png: Path, word: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [text for name, path in parts.items() for text in (f"--{name}", path)]
    bad = ("--segmenter", tmp_path / "none.tflite")
    assert animate(astronaut_png, "--audio", word, "-o", tmp_path / "out.mp4", "--preset", "paper", *places, *bad) == 2
    assert "none.tflite" in capsys.readouterr().err
