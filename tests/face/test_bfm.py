"""The BFM layout on synthetic files, and its conventions against the published golden numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from golden_folder import golden, golden_fill
from triportrait.errors import WeightsError
from triportrait.face.bfm import BfmHead
from triportrait.face.pncc import pncc
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import HeadModel

SIDE = 12


def synthetic(random: np.random.Generator) -> dict[str, np.ndarray]:
    """A bulged 12 x 12 sheet in the file's layout: interleaved coordinates, 1-based numbers, MATLAB's row vectors."""
    x, y = np.meshgrid(np.linspace(-0.9, 0.9, SIDE), np.linspace(0.9, -0.9, SIDE))
    mean = np.stack([x, y, 0.7 - 0.6 * (x**2 + y**2)], -1).reshape(-1, 3) + (0.1, 0.2, 0.3)
    corner = (np.arange(SIDE - 1)[:, None] * SIDE + np.arange(SIDE - 1)).reshape(-1)
    clockwise = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + SIDE], -1),
            np.stack([corner + 1, corner + SIDE + 1, corner + SIDE], -1),
        ]
    )
    count = SIDE * SIDE
    return {
        "meanshape": mean.reshape(1, -1),
        "idBase": 0.01 * random.normal(size=(3 * count, 80)),
        "exBase": 0.01 * random.normal(size=(3 * count, 64)),
        "tri": clockwise + 1,
        "keypoints": random.permutation(count - 1)[:68].reshape(1, -1) + 1,
        "meantex": np.zeros((1, 3 * count)),
    }


@pytest.fixture
def data(seed: int) -> dict[str, np.ndarray]:
    return synthetic(np.random.default_rng(seed))


@pytest.fixture
def path(data: dict[str, np.ndarray], tmp_path: Path) -> Path:
    savemat(tmp_path / "BFM_model_front.mat", data)
    return tmp_path / "BFM_model_front.mat"


def test_a_file_becomes_a_head_model_with_a_centred_mean(path, data):
    head = BfmHead.from_file(path)
    assert isinstance(head, HeadModel)
    mean = data["meanshape"].reshape(-1, 3)
    neutral = head.vertices(np.zeros(80), np.zeros(64))
    assert neutral.dtype == np.float32
    np.testing.assert_allclose(neutral, mean - mean.mean(0), atol=1e-6)
    identity, expression = np.eye(80)[3], 2 * np.eye(64)[5]
    moved = (data["idBase"][:, 3] + 2 * data["exBase"][:, 5]).reshape(-1, 3)
    np.testing.assert_allclose(head.vertices(identity, expression) - neutral, moved, atol=1e-6)
    assert head.ncc_colours.min(0).tolist() == [0, 0, 0] and head.ncc_colours.max(0).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="expression"):
        head.vertices(identity, np.zeros(44))


def test_triangles_come_out_counter_clockwise_and_draw_with_culling(path):
    head = BfmHead.from_file(path)
    picture = pncc(head, head.vertices(np.zeros(80), np.zeros(64)), 64)
    assert (picture != -1).any(0)[32, 32]
    np.testing.assert_array_equal(picture, pncc(head, head.mean, 64, cull=None))


def test_eyes_and_the_first_triangle_are_left_out_of_pncc(path, tmp_path):
    for name, numbers in (("left", [1, 2, 50]), ("right", [70, 71])):
        np.save(tmp_path / f"{name}.npy", np.array(numbers))
    head = BfmHead.from_file(path, eye_faces=[tmp_path / "left.npy", tmp_path / "right.npy"])
    assert np.flatnonzero(~head.pncc_triangles).tolist() == [0, 1, 2, 49, 69, 70]


def test_landmarks_subtract_one_unless_the_published_shift_is_asked_for(path, data):
    vertices = BfmHead.from_file(path).mean
    numbers = data["keypoints"].reshape(-1)
    np.testing.assert_array_equal(BfmHead.from_file(path).landmarks68(vertices), vertices[numbers - 1])
    shifted = BfmHead.from_file(path, published_keypoints=True)
    np.testing.assert_array_equal(shifted.landmarks68(vertices), vertices[numbers])


def test_mediapipe_landmarks_are_nan_where_the_model_has_none(path, tmp_path):
    assert np.isnan(BfmHead.from_file(path).landmarks478(np.zeros((SIDE * SIDE, 3)))).all()
    index = np.arange(468) % (SIDE * SIDE)
    index[[93, 127]] = -999
    np.save(tmp_path / "index.npy", index)
    head = BfmHead.from_file(path, index_mp468=tmp_path / "index.npy")
    landmarks = head.landmarks478(head.mean)
    assert np.flatnonzero(np.isnan(landmarks[:, 0])).tolist() == [93, 127, *range(468, 478)]
    np.testing.assert_array_equal(landmarks[200], head.mean[200 - SIDE * SIDE])


@pytest.mark.parametrize(
    "change",
    [
        {"idBase": np.zeros((9, 80))},
        {"tri": np.array([[1, 2, 9999]])},
        {"tri": np.array([[0, 1, 2]])},
        {"tri": np.array([[0.5, 1, 2]])},
        {"keypoints": np.arange(60)},
        {"meanshape": np.array(["text"])},
        {"exBase": None},
    ],
)
def test_a_foreign_layout_is_one_sentence_with_a_remedy(data, tmp_path, change):
    data.update(change)
    path = tmp_path / "model.mat"
    savemat(path, {name: value for name, value in data.items() if value is not None})
    with pytest.raises(WeightsError, match="(?s)model.mat.*non-commercial"):
        BfmHead.from_file(path)


def test_missing_and_damaged_files_are_one_sentence_with_a_remedy(path, tmp_path):
    with pytest.raises(WeightsError, match="no face model file"):
        BfmHead.from_file(tmp_path / "nothing.mat")
    for content in (b"", b"not a MATLAB file at all, just text", path.read_bytes()[:4000]):
        broken = tmp_path / "broken.mat"
        broken.write_bytes(content)
        with pytest.raises(WeightsError, match=r"broken\.mat.*non-commercial"):
            BfmHead.from_file(broken)
    with pytest.raises(WeightsError, match="index file"):
        BfmHead.from_file(path, index_mp468=tmp_path / "nothing.npy")
    (tmp_path / "text.npy").write_text("text")
    with pytest.raises(WeightsError, match=r"text\.npy"):
        BfmHead.from_file(path, index_mp468=tmp_path / "text.npy")


def test_shape_pose_projection_and_landmarks_are_the_published_ones():
    fill, reference = golden_fill(), golden("real3d/bfm.json")
    seed = reference["seed"]
    draw = {
        "mean": fill.rand_in((1, 180), "bfm.mean", seed, -0.9, 0.9),
        "id": 0.01 * fill.rand_in((180, 80), "bfm.id", seed),
        "exp": 0.01 * fill.rand_in((180, 64), "bfm.exp", seed),
        "idc": fill.rand_in((5, 80), "bfm.idc", seed),
        "exc": fill.rand_in((5, 64), "bfm.exc", seed),
        "euler": fill.rand_in((5, 3), "bfm.euler", seed, -0.4, 0.4),
        "trans": fill.rand_in((5, 3), "bfm.trans", seed, -0.3, 0.3),
    }
    draw = {name: value.numpy() for name, value in draw.items()}
    mean, sheet = draw["mean"].reshape(-1, 3), np.array([[0, 1, 2]])
    keypoints = np.array(reference["inputs"]["keypoints_1based"])
    heads = [BfmHead(mean, draw["id"], draw["exp"], sheet, keypoints, published_keypoints=published) for published in (False, True)]
    fitting, shifted = heads
    rows = {name: [] for name in ("shape", "face_vertex", "landmark_fit_px", "lm2d", "idexp_lm3d", "rotation")}
    for identity, expression, euler, translation in zip(draw["idc"], draw["exc"], draw["euler"], draw["trans"], strict=True):
        vertices = fitting.vertices(identity, expression)
        posed = pose_points(vertices, euler, translation)
        pixels, depth = project(posed, 224.0, 1015.0 / 224.0)
        rows["shape"].append(vertices)
        rows["face_vertex"].append(np.concatenate([posed[:, :2], depth[:, None]], 1))
        rows["landmark_fit_px"].append(fitting.landmarks68(pixels) * (1, -1) + (0, 224))
        rows["lm2d"].append(shifted.landmarks68(pixels) / 224)
        rows["idexp_lm3d"].append(10 * shifted.landmarks68(shifted.offset(identity, expression)))
        rows["rotation"].append(matrix_from_euler(euler).T)
    for name, values in rows.items():
        error, projection_error = fill.compare9(torch.tensor(np.array(values)), reference["cases"]["main"][name])
        assert error < 1e-6, name
        assert projection_error < 1e-3, name
