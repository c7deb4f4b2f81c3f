"""Warps measured on pictures of noise whose motion is known."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from triportrait.face.following import FollowedFace
from triportrait.face.warp_following import WarpFollower, small_grey, with_squares
from triportrait.geometry.warp import AROUND, SIDE_PX, FaceFrame, PhotoGrid, warp_weights
from triportrait.types import FOCAL_IN_WIDTHS, MotionFrame

STILL = MotionFrame(*(np.zeros(n, np.float32) for n in (44, 3, 3, 2)))
PX_PER_DM = FOCAL_IN_WIDTHS * SIDE_PX / 10.0
#: Eyes .4 above the middle of the picture, a mouth .3 below it.
FACE = FaceFrame(0.45, 0.4, -0.3)


def noise(seed: int = 1) -> np.ndarray:
    values = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, (SIDE_PX, SIDE_PX)).astype(np.float32), (0, 0), 2.5)
    return np.repeat(np.clip((values - 0.5) * 1100 + 120, 0, 255).astype(np.uint8)[..., None], 3, -1)


def grid(moved: tuple[float, float] = (0.0, 0.0), below: int = SIDE_PX) -> PhotoGrid:
    """A photo whose geometry moves every pixel by ``moved``; samples lie above the row ``below``, and the face is in the middle."""
    places = (np.stack(np.meshgrid(np.arange(SIDE_PX), np.arange(SIDE_PX)), -1) + moved).astype(np.float32)
    side = np.arange(8, SIDE_PX - 8, 5)
    samples = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    decimetres = (samples - SIDE_PX / 2) / PX_PER_DM * (1, -1)
    around, face = samples[:, 1] < below, np.abs(decimetres).max(1) < 0.5
    on_face = FACE.weights(np.pad(decimetres[face], ((0, 0), (0, 1))))
    focal_px = FOCAL_IN_WIDTHS * SIDE_PX
    return PhotoGrid(noise(), lambda frame: places, samples[around], warp_weights(decimetres[around]), samples[face], on_face, focal_px)


def around(warp: np.ndarray) -> np.ndarray:
    """The places round the head [20, 2], pixels."""
    return warp[: 2 * AROUND].reshape(-1, 2) * PX_PER_DM


def on_face(warp: np.ndarray) -> np.ndarray:
    return warp[2 * AROUND :].reshape(-1, 2) * PX_PER_DM


def seen(shift_px: np.ndarray) -> np.ndarray:
    """The photo with each pixel moved by ``shift_px`` [256, 256, 2]."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    back = shift_px.astype(np.float32)
    for _ in range(8):  # where a pixel comes from
        back = cv2.remap(shift_px.astype(np.float32), x - back[..., 0], y - back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return small_grey(cv2.remap(noise(), x - back[..., 0], y - back[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def test_a_picture_that_does_what_geometry_says_has_no_warp() -> None:
    warp, sure = WarpFollower(grid((6.0, -3.0))).see(seen(np.full((SIDE_PX, SIDE_PX, 2), (6.0, -3.0))), STILL)
    assert (sure == 1.0).all() and np.abs(warp).max() * PX_PER_DM < 0.3


def test_what_goes_beyond_geometry_is_found_in_its_place() -> None:
    """The hair above swings to the right while the rest stays; the picture's y counts down, a warp's up."""
    swing = np.clip((SIDE_PX / 2 - np.mgrid[:SIDE_PX, :SIDE_PX][0]) / 60.0, 0.0, 1.0)[..., None] * (5.0, 2.0)
    grey = seen(swing + (6.0, -3.0))
    follower = WarpFollower(grid((6.0, -3.0)))
    warp, _ = follower.see(grey, STILL)
    found = warp_weights(np.array([[0.0, 0.9], [0.5, 0.9], [0.0, -0.9]])) @ around(warp)
    np.testing.assert_allclose(found, [[5.0, -2.0], [5.0, -2.0], [0.0, 0.0]], atol=0.7)


def test_a_cheek_that_bulges_is_found_on_the_face() -> None:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    bulge = np.exp(-((x - 160) ** 2 + (y - 128) ** 2) / (2 * 14.0**2))[..., None] * (3.0, 0.0)
    warp, _ = WarpFollower(grid()).see(seen(bulge), STILL)
    cheek, other = ((np.array([[px - 128.0, 0.0, 0.0]]) / PX_PER_DM) for px in (160, 100))
    # As far as a few places can tell: they stand 20 pixels apart.
    assert 1.5 < (FACE.weights(cheek) @ on_face(warp))[0, 0] < 3.5
    assert np.abs(FACE.weights(other) @ on_face(warp)).max() < 0.4


def test_places_that_nobody_sees_go_with_their_neighbours() -> None:
    warp, _ = WarpFollower(grid(below=120)).see(seen(np.full((SIDE_PX, SIDE_PX, 2), (4.0, 0.0))), STILL)
    across = around(warp).reshape(5, 4, 2)[..., 0]
    np.testing.assert_allclose(across[1], 4.0, atol=0.4)
    assert (across[4] < across[1]).all() and (across[4] > 0.0).all()


def test_nothing_moves_without_samples_or_far() -> None:
    other = small_grey(noise(9))
    far_off = replace(STILL, translation=np.float32([0, 0, -20]))
    nearly = WarpFollower(grid()).see(seen(np.full((SIDE_PX, SIDE_PX, 2), (43.0, 0.0))), far_off)
    length = np.linalg.norm(nearly[0].reshape(-1, 2), axis=1)
    assert length.max() == pytest.approx(0.4, abs=1e-5)
    none = np.zeros((0, 2), int)
    nothing = replace(
        grid(), around=none, around_weights=np.zeros((0, 20), np.float32), face=none, face_weights=np.zeros((0, 72), np.float32)
    )
    warp, sure = WarpFollower(nothing).see(other, STILL)
    assert not sure.any() and not warp.any()


def test_several_threads_may_ask_at_once() -> None:
    follower, pictures = WarpFollower(grid()), [seen(np.full((SIDE_PX, SIDE_PX, 2), (k, 0.0))) for k in (1.0, 2.0, 3.0, 4.0)]
    alone = [follower.see(picture, STILL)[0] for picture in pictures]
    start = threading.Barrier(4)

    def look(picture: np.ndarray) -> list[np.ndarray]:
        start.wait(10)
        return [follower.see(picture, STILL)[0] for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for one, again in zip(alone, pool.map(look, pictures), strict=True):
            for found in again:
                np.testing.assert_array_equal(found, one)


def test_each_shot_keeps_its_first_picture_and_squares_of_the_rest() -> None:
    points = np.random.default_rng(3).uniform(80, 160, (478, 3)).astype(np.float32)
    picture = noise()
    rows = [
        FollowedFace(points, seen, shot, (SIDE_PX, SIDE_PX), picture=picture)
        for shot, seen in ((0, False), (0, True), (0, True), (1, True))
    ]
    found = list(with_squares(rows))
    assert [row.picture is not None for row in found] == [False, True, False, True]
    assert [row.square is not None for row in found] == [False, True, True, True]
    assert found[1].picture is not None and found[1].picture.shape == (512, 512, 3)
    assert all(row.square is None or (row.square.shape, row.square.dtype) == ((256, 256), np.uint8) for row in found)
    # The square stays where the shot first shows the face.
    elsewhere = FollowedFace(points + 30, True, 0, (SIDE_PX, SIDE_PX), picture=picture)
    again = list(with_squares([rows[1], elsewhere]))
    assert again[1].square is not None and again[0].square is not None
    assert np.abs(again[1].square.astype(int) - again[0].square).mean() < 2.0
