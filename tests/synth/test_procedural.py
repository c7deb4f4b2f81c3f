"""Laws of the procedural teacher: labels agree with each other, expressions move what they name, torch draws the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.geometry.rasteriser import interpolate, rasterise
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.synth import deferred, deferred_torch
from triportrait.synth import lifted_views as lv
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.synth.procedural_views import labelled_views, novel_poses, random_row, view_row
from triportrait.synth.real_pairs import PairFrames, refine_pose
from triportrait.types import FOCAL_IN_WIDTHS, Motion

STRAIGHT = np.zeros(2, np.float32)
SOURCE = HeadPose({}, STRAIGHT, np.radians([2.0, -6.0, 1.0]), np.array([0.05, 0.0, -5.0]))
TALKING = {"jawOpen": 0.5, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}


@pytest.fixture(scope="module")
def factory(shared: Path) -> HeadFactory:
    return HeadFactory(shared / "data")


@pytest.fixture(scope="module")
def head(factory: HeadFactory) -> ProceduralHead:
    person = random_person(np.random.default_rng(4), factory.targets, len(factory.hdri))
    return ProceduralHead(factory, replace(person, hair="card:short01", beard="short", glasses="round", tint=0.0), 24)


def lips_and_lids(landmarks: np.ndarray) -> tuple[float, float]:
    """Opening of the lips and of the left eye, decimetres."""
    return float(landmarks[13, 1] - landmarks[14, 1]), float(landmarks[386, 1] - landmarks[374, 1])


def test_the_open_head_follows_its_landmarks(head: ProceduralHead) -> None:
    model = head.factory.head
    gap = np.linalg.norm(model.landmarks478(head.open_head({}, STRAIGHT))[:468] - head.landmarks478({}, STRAIGHT)[:468], axis=1)
    assert np.median(gap) < 0.02 and gap.max() < 0.2  # decimetres


def test_expressions_move_what_they_name(head: ProceduralHead) -> None:
    closed, open_ = lips_and_lids(head.landmarks478({}, STRAIGHT)), lips_and_lids(head.landmarks478(TALKING, STRAIGHT))
    assert open_[0] > closed[0] + 0.1
    assert closed[1] > 0.06 and open_[1] < 0.03
    own = lips_and_lids(head.factory.head.landmarks478(head.open_head(TALKING, STRAIGHT)))
    assert own[0] == pytest.approx(open_[0], rel=0.5)
    right = head.landmarks478({}, np.array([0.0, 0.3], np.float32)) - head.landmarks478({}, STRAIGHT)
    assert right[473, 0] > 0.02 and right[468, 0] > 0.02  # both irises towards image right


def test_labels_agree(head: ProceduralHead) -> None:
    poses = novel_poses(SOURCE, 2, np.random.default_rng(0))
    views = list(labelled_views(head, SOURCE, poses, 64))
    for view in views:
        picture = view.picture
        np.testing.assert_allclose(picture.labels.sum(0), 1.0, atol=1e-5)
        np.testing.assert_allclose(picture.labels[deferred.BACKGROUND], 1 - picture.person_alpha, atol=1e-5)
        assert (picture.head_alpha <= picture.person_alpha + 1e-5).all()
        assert np.isfinite(picture.depth[picture.head_alpha > 0.5]).all()
        face = picture.labels[deferred.FACE_SKIN] > 0.9
        assert face.sum() > 100
        assert (view.pncc[0][face] > -1).mean() > 0.85  # eyes and the mouth's inside are holes
    assert all(view.picture.labels[label].max() > 0.5 for view in views for label in (deferred.HAIR, deferred.CLOTHES, deferred.BODY_SKIN))
    own = views[0].picture
    assert views[0].seen[own.head_alpha > 0.9].mean() > 0.97


def test_offsets_lead_back_to_the_photograph(head: ProceduralHead) -> None:
    """What a talking view shows lies, after its offset, on the surface that the source view shows."""
    pose = HeadPose(TALKING, STRAIGHT, SOURCE.rotation_rad + np.radians([0, 9, 0]), SOURCE.translation)
    first, second = labelled_views(head, SOURCE, [pose], 96, pncc=False)
    assert np.abs(second.picture.offset).max() > 0.1
    cheek = second.picture.labels[deferred.FACE_SKIN] > 0.99
    assert second.seen[cheek].mean() > 0.7
    still = second.picture._replace(offset=np.zeros_like(second.picture.offset))
    layers = [lv.RenderedHead(p.head_rgb, p.head_alpha, p.depth) for p in (second.picture, first.picture)]
    with_offset = lv.seen_by(layers[0], second.frame, layers[1], first.frame, offset=second.picture.offset)
    without = lv.seen_by(layers[0], second.frame, layers[1], first.frame, offset=still.offset)
    assert with_offset[cheek].mean() >= without[cheek].mean()


def test_rows_pack_and_come_back(head: ProceduralHead, tmp_path: Path) -> None:
    pose = HeadPose(TALKING, STRAIGHT, SOURCE.rotation_rad, SOURCE.translation)
    row = view_row(head, SOURCE, [pose], "one", moving=True)
    lv.write_shard(tmp_path / "m.npz", [row])
    lv.write_index(tmp_path, "moving", ["m.npz"], [1], {})
    (back,) = lv.read_split(tmp_path, "moving")
    for name in ("photo", "views", "offset", "expression", "gaze_rad", "rotation_rad"):
        np.testing.assert_array_equal(getattr(back, name), getattr(row, name))
    assert back.offset is not None and np.abs(lv.offset_from_bytes(back.offset[1])).max() > 0.05 and not back.offset[0].any()
    assert lv.splits_of(tmp_path) == ("moving",)


def test_equal_numbers_give_equal_rows(factory: HeadFactory, head: ProceduralHead) -> None:
    one, two = (random_row(factory, 5, 1, head=head) for _ in range(2))
    np.testing.assert_array_equal(one.views, two.views)
    assert (one.views != random_row(factory, 6, 1, head=head).views).any()


def test_torch_draws_the_same_head(head: ProceduralHead) -> None:
    moment = head.moment(HeadPose(TALKING, STRAIGHT, SOURCE.rotation_rad, SOURCE.translation), SOURCE)
    size = 96
    picture = deferred_torch.draw(deferred_torch.to_torch(head.sheets), moment, FOCAL_IN_WIDTHS, size)
    triangles = head.sheets.triangles[deferred_torch.solid(head.sheets)]
    posed = torch.from_numpy(moment.posed)
    depth = 10.0 - posed[:, 2]
    pixels = 0.5 * size + posed[:, :2] * posed.new_tensor([1.0, -1.0]) * (FOCAL_IN_WIDTHS * size / depth)[:, None]
    fragments = rasterise(pixels.numpy(), depth.numpy(), triangles, size, size, cull="back")
    np.testing.assert_array_equal(picture.fragments.triangle.numpy(), fragments.triangle)
    np.testing.assert_array_equal(picture.depth.numpy(), fragments.depth)
    light = interpolate(fragments, triangles, np.concatenate([moment.light, moment.offset], 1))
    np.testing.assert_allclose(picture.offset.permute(1, 2, 0).numpy(), light[..., 3:], atol=1e-5)
    # The whole picture path, one sample per pixel: wherever it shows the same surface, depth, offsets and classes are the same.
    whole = deferred.draw(head.sheets, moment, head.light.levels, head.exposure, FOCAL_IN_WIDTHS, size, 1)
    shown = np.isfinite(whole.depth)
    near = shown & (np.abs(np.where(shown, whole.depth, 0.0) - fragments.depth) < 1e-4)
    assert near.sum() > 0.45 * shown.sum()  # the rest is hair, beard, lashes and brows
    np.testing.assert_allclose(whole.offset[near], picture.offset.permute(1, 2, 0).numpy()[near], atol=1e-3)
    face = (picture.label.numpy() == deferred.FACE_SKIN) & (picture.head.numpy() >= 0.5)
    assert (face == (whole.labels.argmax(0) == deferred.FACE_SKIN))[near].mean() > 0.999
    assert picture.rgb.requires_grad is False and torch.isfinite(picture.rgb).all()


def test_pictures_refine_a_pose(head: ProceduralHead) -> None:
    """A pose that is off by more than a degree is brought closer to the true one by the pictures alone."""
    size = 192
    true = HeadPose({}, STRAIGHT, SOURCE.rotation_rad + np.radians([2.0, 5.0, 0.0]), SOURCE.translation)
    pictures = [view.picture for view in labelled_views(head, SOURCE, [true], size, 2, pncc=False)]
    images = np.stack([(255 * (p.person_rgb + 0.5 * (1 - p.person_alpha[..., None]))).astype(np.uint8) for p in pictures])
    alpha = np.stack([p.head_alpha for p in pictures])
    background = np.full((size, size, 3), 127, np.uint8)
    frames = PairFrames("pair", images, alpha, alpha, background, np.zeros((2, 478, 2), np.float32))
    wrong = true.rotation_rad + np.radians([1.0, -1.3, 0.6])
    rotation = np.stack([SOURCE.rotation_rad, wrong]).astype(np.float32)
    move = np.stack([SOURCE.translation, true.translation + (0.02, -0.015, 0.0)]).astype(np.float32)
    motion = Motion(np.zeros((2, 44), np.float32), rotation, move, np.zeros((2, 2), np.float32))
    model = head.factory.head
    refined = refine_pose(frames, model, model.shape(head.identity) + head.vertex_offset, motion, 0, 1)
    assert refined.after < 0.8 * refined.before

    def error(rotation_rad: np.ndarray, translation: np.ndarray) -> float:
        points = head.landmarks478({}, STRAIGHT)[:468]
        posed = [points @ matrix_from_euler(r).T + t for r, t in ((rotation_rad, translation), (true.rotation_rad, true.translation))]
        return float(np.linalg.norm((posed[0] - posed[1])[:, :2], axis=1).mean())

    assert error(refined.frame.rotation_rad, refined.frame.translation) < 0.6 * error(wrong, move[1])
