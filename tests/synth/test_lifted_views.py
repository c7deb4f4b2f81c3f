"""Laws of packed views: depth and shards round-trip, crops beyond the photo are padded, views agree with their cameras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import MediaError
from triportrait.face.mesh_tracker import MeshTracker
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import camera_from_pose
from triportrait.synth import lifted_views as lv
from triportrait.types import CAMERA_DISTANCE_DM, MotionFrame, PreparedPortrait, RenderedHead


def random_views(name: str, seed: int, views: int = 3) -> lv.LiftedViews:
    random = np.random.default_rng(seed)
    return lv.LiftedViews(
        name,
        random.integers(0, 256, (4, lv.PHOTO_PX, lv.PHOTO_PX), np.uint8),
        random.integers(0, 256, (views, 6, lv.VIEW_PX, lv.VIEW_PX), np.uint8),
        random.normal(size=(views, 3)).astype(np.float32),
        random.normal(size=(views, 3)).astype(np.float32),
        random.normal(size=(views, 25)).astype(np.float32),
    )


def test_depth_survives_its_bytes() -> None:
    depth = np.array([[14.0, 15.7, np.inf, 16.59], [15.0, 10.0, 15.2, 30.0]], np.float32)
    back = lv.depth_from_bytes(lv.depth_to_bytes(depth, -5.0), -5.0)
    step = 2 * lv.DEPTH_RANGE_DM / 254
    near = np.abs(depth - (CAMERA_DISTANCE_DM + 5.0)) <= lv.DEPTH_RANGE_DM
    np.testing.assert_allclose(back[near], depth[near], atol=0.51 * step)
    assert np.isnan(back[0, 2])
    assert back[1, 1] == pytest.approx(15 - lv.DEPTH_RANGE_DM) and back[1, 3] == pytest.approx(15 + lv.DEPTH_RANGE_DM)


def test_shards_hold_what_was_put_in(tmp_path: Path) -> None:
    rows = [random_views(f"photo {i}", i) for i in range(3)]
    size = lv.write_shard(tmp_path / "a.npz", rows[:2])
    lv.write_shard(tmp_path / "b.npz", rows[2:])
    lv.write_index(tmp_path, "train", ["a.npz", "b.npz"], [2, 1], {})
    lv.write_index(tmp_path, "val", ["b.npz"], [1], {})
    assert size == (tmp_path / "a.npz").stat().st_size
    for split, expected in (("train", rows), ("val", rows[2:])):
        back = list(lv.read_split(tmp_path, split))
        assert [row.name for row in back] == [row.name for row in expected]
        for got, put in zip(back, expected, strict=True):
            for name in ("photo", "views", "rotation_rad", "translation", "camera"):
                np.testing.assert_array_equal(getattr(got, name), getattr(put, name))
    assert [row.name for row in lv.read_split(tmp_path, "train", 1)] == ["photo 0"]
    assert not list(tmp_path.glob("*.part"))


def test_missing_and_damaged_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="val"):
        list(lv.read_split(tmp_path, "val"))
    lv.write_index(tmp_path, "val", ["gone.npz"], [1], {})
    with pytest.raises(MediaError, match="gone.npz"):
        list(lv.read_split(tmp_path, "val"))
    (tmp_path / "gone.npz").write_bytes(b"PK\x03\x04 not a shard")
    with pytest.raises(MediaError):
        list(lv.read_split(tmp_path, "val"))


def test_turns_keep_to_their_range() -> None:
    turns = lv.training_turns_deg(500, np.random.default_rng(0))
    assert (np.abs(turns[:, 1]) >= 3).all() and (np.abs(turns[:, 1]) <= 22).all() and (np.abs(turns[:, 0]) <= 12).all()
    assert turns[:, 1].min() < -15 and turns[:, 1].max() > 15


def test_shrinking_averages_blocks_and_finite_depth() -> None:
    depth = np.array([[1, np.inf], [3, np.inf]], np.float32).repeat(2, 1)
    head = RenderedHead(np.ones((2, 4, 3), np.float32)[:, :2], np.array([[1, 0], [1, 0]], np.float32), depth[:, 1:3])
    small = lv.shrink(head, 1)
    assert small.alpha[0, 0] == 0.5 and small.depth[0, 0] == 2.0
    with pytest.raises(ValueError, match="does not divide"):
        lv.shrink(head, 3)


def test_a_plane_that_turns_is_seen_but_what_it_hides_is_not() -> None:
    """A flat wall at the origin shows the same points from both poses; a surface far in front of it was never photographed."""
    size = 32
    frame = MotionFrame(np.zeros(1, np.float32), *np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    wall = RenderedHead(np.ones((size, size, 3), np.float32), np.ones((size, size), np.float32), np.full((size, size), 10, np.float32))
    assert lv.seen_by(wall, frame, wall, frame).all()
    assert not lv.seen_by(replace(wall, depth=wall.depth - 1), frame, wall, frame).any()


def test_a_tight_photo_is_padded_not_moved(astronaut: np.ndarray, face_tracker: MeshTracker, open_head: OpenHead) -> None:
    tight = astronaut[40:260, 150:300]
    portrait = lv.padded_portrait(tight, face_tracker, open_head, 128)
    left, top, side = portrait.crop_box
    assert left < 0 and left + side > tight.shape[1]
    low, high = portrait.landmarks[:, :2].min(0), portrait.landmarks[:, :2].max(0)
    np.testing.assert_allclose((0.5 * (low + high))[0], 64, atol=0.5)
    assert (high - low).max() == pytest.approx(128 / 2.3, rel=0.01)
    outside = int(np.ceil(-left * 128 / side))
    assert not portrait.person_alpha[:, : outside - 1].any() and not portrait.head_alpha[:, : outside - 1].any()
    assert portrait.head_alpha.max() > 0.9


def test_views_agree_with_their_cameras(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    from triportrait.avatar.lifted.avatar import LiftedAvatar

    turns = [(0.0, 15.0), (-8.0, -10.0)]
    row = lv.lifted_views(astronaut_portrait, LiftedAvatar(open_head), turns, "astronaut")
    motion = astronaut_portrait.motion
    assert row.views.shape == (3, 6, 128, 128) and row.photo.shape == (4, 256, 256)
    np.testing.assert_allclose(np.degrees(row.rotation_rad[1] - motion.rotation_rad), (0, 15, 0), atol=1e-3)
    np.testing.assert_allclose(row.camera[1], camera_from_pose(row.rotation_rad[1], row.translation[1]).to_eg3d(), atol=1e-5)
    # The first view is the photo itself; its solid part is seen, and matte and colours are premultiplied.
    small = row.photo.reshape(4, 128, 2, 128, 2).mean((2, 4))
    solid = row.views[0, 3] == 255
    assert np.abs(small[:3, solid] - row.views[0, :3][:, solid]).mean() < 4
    assert (row.views[0, 5][solid] == 255).mean() > 0.97
    assert (row.views[:, :3].max(1) <= row.views[:, 3]).all()
    # A turn uncovers a little of what the photo hides.
    share = (row.views[1, 5][row.views[1, 3] == 255] == 255).mean()
    assert 0.5 < share < 1.0
