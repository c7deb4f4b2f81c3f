"""Shoulders followed through a clip of noise pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from triportrait.face.body_following import BodyFollower, in_decimetres, with_bodies
from triportrait.face.following import FollowedFace
from triportrait.geometry.body import body_pivot, body_similarity
from triportrait.geometry.landmarks import CHIN, OVAL

SIDE = 400


def landmarks() -> np.ndarray:
    """478 points in an ellipse of 120 x 160 px round (200, 130), its outline in the right order."""
    i = np.arange(478)
    radius, turn = np.sqrt((i + 0.5) / 478) * 0.9, i * 2.399963
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)
    around = 2 * np.pi * np.arange(len(OVAL)) / len(OVAL)
    points[OVAL] = np.stack([np.sin(around), -np.cos(around)], -1)
    return points * (60, 80) + (200, 130)


def noise(seed: int) -> np.ndarray:
    values = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), 2.5)
    return np.clip((values - 0.5) * 1100 + 120, 0, 255)


def frame(body: np.ndarray, head: tuple[float, float] = (0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """A picture in which everything below the chin has moved by ``body`` (pixels) and the face by ``head``, and its landmarks."""
    at = landmarks()
    matrix = body_similarity(body, 1.0, body_pivot(at))
    shoulders = cv2.warpAffine(noise(1), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    picture, below = np.full((SIDE, SIDE), 90.0), np.zeros((SIDE, SIDE))
    below[int(at[CHIN, 1]) + 40 :] = 1
    shown = cv2.warpAffine(below, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE) > 0.5
    picture[shown] = shoulders[shown]
    moved = at + head
    cv2.ellipse(picture, (round(200 + head[0]), round(130 + head[1])), (60, 80), 0, 0, 360, (200.0,), -1)
    return np.repeat(picture.astype(np.uint8)[..., None], 3, -1), np.concatenate([moved, np.zeros((478, 1))], -1)


def everything(picture: np.ndarray) -> np.ndarray:
    return np.ones(picture.shape[:2], np.float32)


def test_the_bodys_own_motion_is_found_whatever_the_head_does() -> None:
    follower = BodyFollower(everything)
    assert not follower.see(*frame(np.zeros(4))).any()
    body = np.array([6.0, -4.0, 0.03, 0.03])
    found = follower.see(*frame(body, (-12.0, 5.0)))
    np.testing.assert_allclose(found[:2], body[:2], atol=1.0)
    np.testing.assert_allclose(found[2:], body[2:], atol=0.012)


def test_a_way_there_and_back_leaves_no_drift() -> None:
    follower = BodyFollower(everything)
    way = np.concatenate([np.linspace(0, 45, 16), np.linspace(45, 0, 16)])
    seen = np.array([follower.see(*frame(np.array([x, 0.4 * x, 0.0, 0.0]))) for x in way])
    np.testing.assert_allclose(seen[:, 0], way, atol=1.5)
    assert np.abs(seen[-1]).max() < 0.3


def test_each_shot_begins_anew() -> None:
    first, (second, points) = frame(np.zeros(4)), frame(np.array([5.0, 0, 0, 0]))
    rows = [FollowedFace(p, True, shot, (SIDE, SIDE), picture=x) for shot, x, p in ((0, *first), (0, second, points), (1, second, points))]
    rows.append(FollowedFace(points, False, 1, (SIDE, SIDE), picture=second))
    found = list(with_bodies(rows, everything))
    assert found[1].body[0] == pytest.approx(5.0, abs=0.8) and not found[2].body.any() and np.isnan(found[3].body).all()


def test_without_anything_to_follow_nothing_is_told() -> None:
    follower = BodyFollower(lambda picture: np.zeros(picture.shape[:2], np.float32))
    follower.see(*frame(np.zeros(4)))
    assert np.isnan(follower.see(*frame(np.array([5.0, 0, 0, 0])))).all()


def test_gaps_are_bridged_and_too_many_refused() -> None:
    bodies = np.stack([np.arange(6.0), np.zeros(6), np.zeros(6), np.zeros(6)], 1)
    bodies[2:4] = np.nan
    np.testing.assert_allclose(in_decimetres(bodies, 0.5)[:, 0], np.arange(6) / 2)
    bodies[1:5] = np.nan
    assert in_decimetres(bodies, 0.5) is None
