"""The tracker's networks against what MediaPipe said of the same pictures (numbers recorded by scripts/record_tracker_golden.py)."""

from __future__ import annotations

import numpy as np
import pytest

import tracker_samples
from golden_folder import golden_folder
from triportrait.face.detection import far_detector, near_detector
from triportrait.face.mesh import FaceMesh, MeshFollower
from triportrait.face.segmentation import PersonSegmenter

#: MediaPipe's own thresholds: of its detectors, and of the search of its mesh.
LEAST = {"near": 0.5, "far": 0.6}
MESH_LEAST = 0.3
NAMES = [f"{name}{kind}" for name in ("astronaut", "portrait", "portrait2") for kind in ("", ", turned", ", dark")]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(golden_folder() / "golden_tracker.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def pictures(astronaut: np.ndarray) -> dict[str, np.ndarray]:
    found = dict(tracker_samples.pictures(astronaut))
    assert list(found) == NAMES
    return found


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


def percent_of_width(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far landmarks lie from those in hundredths of a pixel, in hundredths of the face's width."""
    distance = np.linalg.norm(found[:, :2] - expected[:, :2] / 100, axis=1)
    return 100 * distance / np.ptp(expected[:, 0] / 100)


@pytest.mark.parametrize("name", NAMES)
def test_landmarks_are_mediapipes(name, pictures, golden, mesh):
    found = MeshFollower(mesh, near_detector(), MESH_LEAST).look(pictures[name])
    expected = golden[f"{name}: landmarks"]
    away = percent_of_width(found, expected)
    assert np.median(away) <= 0.1 and away.max() <= 0.5
    assert np.abs(found[:, 2] - expected[:, 2] / 100).max() <= 0.005 * np.ptp(found[:, 0])


@pytest.mark.parametrize("which", ["near", "far"])
@pytest.mark.parametrize("name", NAMES)
def test_detections_are_mediapipes(name, which, pictures, golden):
    detector = near_detector() if which == "near" else far_detector()
    faces = detector(pictures[name], LEAST[which])
    expected = golden[f"{name}: {which}"] / 100
    assert bool(faces) == bool(len(expected))
    if faces:
        np.testing.assert_allclose(np.vstack([faces[0].low, faces[0].high, faces[0].points]), expected, atol=0.002 * len(pictures[name]))


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_mediapipes(name, pictures, golden):
    step = tracker_samples.MASK_STEP
    mask = PersonSegmenter()(pictures[name])[::step, ::step]
    np.testing.assert_allclose(mask, golden[f"{name}: mask"] / 255, atol=0.01)


def test_a_face_that_moves_is_followed_as_mediapipe_does(astronaut, golden, mesh):
    follower = MeshFollower(mesh, near_detector(), MESH_LEAST)
    for number, frame in enumerate(tracker_samples.clip(astronaut)):
        away = percent_of_width(follower.look(frame), golden[f"frame {number}: landmarks"])
        assert np.median(away) <= 0.1 and away.max() <= 0.5
