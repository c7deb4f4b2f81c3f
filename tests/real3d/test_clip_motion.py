"""The Basel face model's motion of driving clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bfm_samples import synthetic_bfm
from triportrait.drivers import first_pose_of_clip
from triportrait.face.bfm import BfmHead
from triportrait.face.open_head import OpenHead
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.motion.smoothing import smooth_motion
from triportrait.real3d.bfm_fitting import BfmFitSettings, BfmFitter
from triportrait.real3d.clip_motion import own_motion_of_video


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, open_head: OpenHead) -> BfmHead:
    path = synthetic_bfm(tmp_path_factory.mktemp("bfm"), open_head)
    return BfmHead.from_file(path, index_mp468=path.with_name("index_mp468_from_mesh35709.npy"))


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame for _, frame in reader.frames(25.0)]


def test_of_a_clip_in_one_shot_every_frame_is_fitted_with_one_identity(head: BfmHead, clip: Path, face_tracker) -> None:
    landmarks = np.stack([row for row, _ in face_tracker.track(frames_of(clip))])[..., :2]
    fitter = BfmFitter(head, 256.0, BfmFitSettings.video())
    identity, _ = fitter.fit_person(landmarks[::2])
    expected = smooth_motion(fitter.fit_motion(landmarks, identity, 25.0))
    motion = own_motion_of_video(head, clip)
    for name in ("expression", "rotation_rad", "translation", "gaze_rad", "identity"):
        np.testing.assert_array_equal(getattr(motion, name), getattr(expected, name))


def test_cuts_and_absences_do_not_throw_the_head(head: BfmHead, clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody at the left, somebody at the right, then nobody."""
    path = tmp_path / "cut.mp4"
    with VideoWriter(path, (560, 300), 25.0) as writer:
        for index, take in enumerate([*frames_of(clip), *frames_of(clip)[:12]]):
            image = np.full((300, 560, 3), 60 if index < 14 else 140, np.uint8)
            left = 4 if index < 14 else 300
            if index < 26:
                image[20:276, left : left + 256] = take
            writer.write(image)
    motion = own_motion_of_video(head, path)
    assert len(motion) == 37 and motion.head_model == "bfm"
    assert np.ptp(motion.translation[:, :2], axis=0).max() < 0.3
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "cuts, or the face jumps, at 0.56 s" in said and "does not show the whole face in 11 of 37 frames" in said


def test_the_first_pose_of_a_clip_is_that_of_its_first_frame(clip: Path, tmp_path: Path) -> None:
    from triportrait.drivers import motion_of_video
    from triportrait.motion.files import save_motion

    whole = motion_of_video(clip)
    assert len(whole) > 1
    first = first_pose_of_clip(clip)
    assert first is not None
    np.testing.assert_allclose(first, whole.rotation_rad[0], atol=0.03)
    np.testing.assert_array_equal(first, motion_of_video(clip, most=1).rotation_rad[0])
    save_motion(whole, tmp_path / "motion.npz")
    np.testing.assert_allclose(first_pose_of_clip(tmp_path / "motion.npz"), whole.rotation_rad[0], atol=1e-6)
    with VideoWriter(tmp_path / "nobody.mp4", (64, 64), 25.0) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert first_pose_of_clip(tmp_path / "nobody.mp4") is None
