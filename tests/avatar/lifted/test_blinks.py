"""A closed eye shows nothing of the open one: its frame does not depend on what the open eye looks like."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triportrait import drivers, pipeline
from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.lifted.shading_kernels import close_gaps
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM
from triportrait.model import AVATARS
from triportrait.types import ARKIT_EXPRESSIONS, MotionFrame, PreparedPortrait

EXAMPLES = Path(__file__).parents[3] / "examples"
#: A colour that no eye has, and the levels of 255 by which a pixel may change: 4 % of the way from an eye to that colour.
PAINT, LEVELS = np.float32([255, 0, 255]), 8


def painted(portrait: PreparedPortrait) -> PreparedPortrait:
    """The portrait with other eyes."""
    image = portrait.image.astype(np.float32)
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        image += eye_opening(portrait, rim)[..., None] * (PAINT - image)
    return replace(portrait, image=image.astype(np.uint8))


def with_other_eyes(own: LiftedState, other: LiftedState) -> LiftedState:
    """What was prepared from painted eyes, less what eyes rightly tell of: teeth are as white as eyes."""
    kept = {name: getattr(own, name) for name in ("inside", "light", "tone")}
    kept["lids"] = replace(other.lids, pictures=other.lids.pictures._replace(light=own.lids.pictures.light))
    return replace(other, **kept, eye_textures=np.ones_like(own.eye_textures) * PAINT)


def changed_pixels(avatar: Any, own: Any, other: Any, motion: MotionFrame) -> list[int]:
    """For three turns, how many pixels of the frame with closed lids change with the colour of the photo's open eyes."""
    shut = motion.expression.copy()
    for half in ("Left", "Right"):
        shut[ARKIT_EXPRESSIONS.index(f"eyeBlink{half}")] = 1.0
        shut[ARKIT_EXPRESSIONS.index(f"eyeWide{half}")] = 0.0

    def changed(turn_deg: float, expression: np.ndarray) -> int:
        turned = (motion.rotation_rad + np.radians([0, turn_deg, 0])).astype(np.float32)
        frame = replace(motion, expression=expression, rotation_rad=turned, landmarks=None)
        one, two = (avatar.render(state, frame).rgb for state in (own, other))
        return int((np.abs(one - two).max(-1) > LEVELS / 255).sum())

    assert changed(0, motion.expression) > 100  # open, it does depend on that
    return [changed(turn_deg, shut) for turn_deg in (-15, 0, 15)]


@pytest.mark.parametrize("name", ["portrait.png", "portrait2.png"])
def test_closed_eyes_show_nothing_of_the_open_ones(name: str) -> None:
    """Neither with ``oneshot``, whose volume is made of the painted photo as well, nor with the ``lifted`` avatar under it."""
    avatar, portrait = AVATARS["oneshot"](drivers.default_head()).avatar, pipeline.prepare(EXAMPLES / name)
    own, other = avatar.prepare(portrait), avatar.prepare(painted(portrait))
    other = replace(other, lifted=with_other_eyes(own.lifted, other.lifted), mouth=own.mouth)
    assert changed_pixels(avatar, own, other, portrait.motion) == [0, 0, 0]
    assert changed_pixels(avatar.lifted, own.lifted, other.lifted, portrait.motion) == [0, 0, 0]


def test_nor_do_those_of_faces_drawn_at_random(open_head, shared):
    """``benchmarks/blink.py`` lists more."""
    folder, avatar = shared / "data" / "portraits", LiftedAvatar(open_head)
    with open(folder / "index.csv", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    worst = {}
    for row in random.Random(7).sample(rows, 8):
        portrait = pipeline.prepare(folder / row["file"])
        own = avatar.prepare(portrait)
        other = with_other_eyes(own, avatar.prepare(painted(portrait)))
        worst[row["file"]] = max(changed_pixels(avatar, own, other, portrait.motion))
    assert max(worst.values()) <= 5, worst


def test_gaps_in_a_mesh_show_what_lies_deeper_beside_them():
    triangle, depth = np.full((9, 9), 1, np.int32), np.full((9, 9), 4.0, np.float32)
    triangle[:, 5:], depth[:, 5:] = 2, 5.0
    triangle[3:6, 4] = triangle[4, 3] = triangle[0, 0] = -1
    depth[triangle < 0] = np.inf
    weights = np.ones((9, 9, 1), np.float32) * np.float32([0.2, 0.3, 0.5])
    weights[triangle < 0] = 0
    close_gaps(triangle, weights, depth, np.int32([[2, 6, 2, 6]]))
    assert (triangle[3:6, 4] == 2).all() and (depth[3:6, 4] == 5).all() and triangle[4, 3] > 0
    np.testing.assert_allclose(weights[2:7, 2:7], np.broadcast_to(np.float32([0.2, 0.3, 0.5]), (5, 5, 3)))
    assert triangle[0, 0] == -1 and np.isinf(depth[0, 0])  # outside the boxes
    wide = np.full((9, 9), 1, np.int32)
    wide[:, 3:6] = -1
    before = wide.copy()
    close_gaps(wide, weights, depth, np.int32([[2, 6, 2, 6]]))
    np.testing.assert_array_equal(wide, before)  # what is wider is no gap
