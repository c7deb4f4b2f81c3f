"""Talk3D from the user's files to a video, with made-up weights and a made-up recogniser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from person_samples import made_up_person
from triportrait import cli
from triportrait.drivers import IdleDriver
from triportrait.errors import MissingPart, OptionError, WeightsError
from triportrait.media.video import VideoReader
from triportrait.personal import PersonalPipeline, find_files, load_person
from triportrait.provenance.marks import Marks
from triportrait.talk3d.driver import PersonalOptions
from triportrait.talk3d.model import PersonalFrame
from triportrait.weights.store import load_weights, save_weights

pytest.importorskip("transformers")
BARE = Marks(False, False, False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_person(tmp_path_factory.mktemp("person"))


@pytest.fixture(scope="module")
def person(folder: Path) -> PersonalPipeline:
    return load_person(folder, device="cpu")


def pictures(performance: object) -> np.ndarray:
    return np.stack([frame.image for frame in performance])


def test_a_voice_and_a_persons_weights_become_a_video(
    folder: Path, voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert cli.main(["animate", str(voice), "--preset", "talk3d", "--weights", str(folder), "-o", str(out), "--device", "cpu"]) == 0
    with VideoReader(out) as reader:
        frames = [frame for _, frame in reader.frames(None)]
    assert len(frames) == 25 and frames[0].shape == (64, 64, 3)
    assert str(out) in capsys.readouterr().out


def test_the_voice_moves_the_picture_and_the_same_input_gives_the_same_frames(person: PersonalPipeline, voice: Path) -> None:
    options = PersonalOptions(pose="still", blink="none")
    performance = person.talk(voice, options)
    first, again = pictures(performance), pictures(person.talk(voice, options))
    np.testing.assert_array_equal(first, again)
    assert len(first) == performance.frame_count == 25
    # Head and lids are still: what changes is the voice's.
    speech = [row.speech for row in performance.motion()]
    assert np.abs(speech[3] - speech[15]).max() > 0
    tokens = person.model.avatar._tokens
    still = (torch.zeros(1), torch.zeros(1, 3), torch.zeros(1, 3, 2))
    voices = [tokens(torch.from_numpy(np.ascontiguousarray(windows))[None], *still)[0, 0] for windows in (speech[3], speech[15])]
    assert not torch.equal(*voices)


def test_the_cameras_of_the_persons_video_are_taken_to_and_fro(person: PersonalPipeline, voice: Path) -> None:
    rows = list(person.talk(voice, PersonalOptions(camera_window=1)).motion())
    stored = person.model.avatar.person.cameras
    for row, camera in zip(rows, [*stored, *stored[-2::-1]], strict=False):
        np.testing.assert_allclose(row.camera.camera_to_world, camera.camera_to_world, atol=1e-12)


def test_poses(person: PersonalPipeline, voice: Path, clip: Path) -> None:
    still = person.talk(voice, PersonalOptions(pose="still")).motion()
    natural = person.talk(voice, PersonalOptions(pose="natural")).motion()
    followed = person.talk(voice, PersonalOptions(pose=str(clip))).motion()
    assert np.abs(still.rotation_rad).max() == 0 < np.abs(natural.rotation_rad).max()
    assert np.abs(followed.rotation_rad).max() > 0 and followed.cameras is None
    own = person.drive(clip).motion()
    np.testing.assert_allclose(own.rotation_rad[:20], followed.rotation_rad[:20], atol=1e-5)


def test_a_still_head_is_seen_by_the_mean_camera(person: PersonalPipeline) -> None:
    known = person.model.avatar.person
    camera, turn, points = known.turned(np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(camera.camera_to_world, known.rest.camera_to_world, atol=1e-12)
    np.testing.assert_allclose(turn, known.rotation_deg.mean(0), atol=1e-4)
    np.testing.assert_allclose(points, known.points.mean(0), atol=1e-5)
    turned, degrees, moved = known.turned(np.array([0.0, 0.3, 0.0]), np.zeros(3))
    # Positive yaw turns the nose to the image's right, so the camera goes to the subject's other side.
    assert degrees[1] > turn[1] + 10 and turned.camera_to_world[0, 3] < camera.camera_to_world[0, 3]
    assert moved[0, 0] > points[0, 0]


def test_any_driver_moves_head_and_lids(person: PersonalPipeline) -> None:
    frames = pictures(person.driven_by(IdleDriver(0.2)))
    assert frames.shape == (5, 64, 64, 3)


def test_lids_change_the_planes(person: PersonalPipeline) -> None:
    own = person.prepared.motion
    shut = own.expression.copy()
    shut[:] = 1.0
    rows = [PersonalFrame(one, own.rotation_rad, own.translation, own.gaze_rad) for one in (own.expression, shut)]
    avatar = person.model.avatar
    planes = avatar.planes(rows, [avatar.placed(row) for row in rows]).planes
    assert not torch.equal(planes[0], planes[1])


def test_what_is_missing_is_named_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match=r"networks.*G_tune.pkl.*inversion_w_person.pt.*angles.pt.*wav2vec2.*weights import.*personalize"):
        find_files(tmp_path)
    assert find_files(folder).rotation is None


def test_options_and_files_that_do_not_fit(
    person: PersonalPipeline, folder: Path, voice: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    for arguments, words in (
        (["photo.png", str(voice)], "the weights are the person"),
        ([str(voice), "--emotion", "happy"], "--emotion does nothing with --preset talk3d"),
        ([str(voice), "--background", "white"], "--background does nothing"),
        ([str(voice), "--camera-window", "4"], "--camera-window is 4"),
        ([str(voice), "--pose", "nowhere.mp4"], "--pose is 'nowhere.mp4'"),
        ([str(voice), "--published-behaviour"], "--published-behaviour does nothing"),
    ):
        assert cli.main(["animate", *arguments, "--preset", "talk3d", "--weights", str(folder), "-o", str(out)]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(OptionError, match="--blink"):
        PersonalOptions(blink="often")


def test_files_of_two_persons_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "wav2vec2").symlink_to(folder / "wav2vec2")
    cameras = load_weights(tmp_path / "talk3d_cameras.safetensors")
    rows = {"rotation_deg": torch.zeros(3, 3)}
    save_weights(tmp_path / "talk3d_rotation.safetensors", rows, layout="talk3d_rotation", config={}, provenance=cameras.provenance)
    with pytest.raises(WeightsError, match="3 turns of the head and 6 cameras"):
        load_person(tmp_path, device="cpu")


def test_a_tuned_super_resolution_is_drawn_with(person: PersonalPipeline, folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "wav2vec2").symlink_to(folder / "wav2vec2")
    stored, generator = load_weights(folder / "talk3d.safetensors"), load_weights(folder / "talk3d_generator.safetensors")
    stem = "prior.super_resolution."
    tuned = {key.removeprefix("prior."): value + 0.3 for key, value in generator.tensors.items() if key.startswith(stem)}
    path = tmp_path / "talk3d.safetensors"
    save_weights(path, stored.tensors | tuned, layout="talk3d", config=stored.config, provenance=stored.provenance)
    again = load_person(tmp_path, device="cpu")
    assert np.abs(again.prepared.image.astype(int) - person.prepared.image).max() > 0
