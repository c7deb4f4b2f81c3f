"""Ears: what is one, and that it is a plate and not half a ball."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.lifted.outline import ears_reach, seen_ears
from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import BETWEEN_BROWS, OVAL, UPPER_LIP_INSIDE
from triportrait.geometry.masks import face_hull
from triportrait.types import Array, PreparedPortrait


def with_beside(portrait: PreparedPortrait, width_px: Array) -> tuple[PreparedPortrait, Array]:
    """The face with something beside its left edge, as wide in each row as ``width_px`` [s] says; and where that is, bool [s, s]."""
    size = len(portrait.image)
    face = face_hull(portrait.landmarks, size)
    x = np.arange(size)
    edge = np.where(face.any(1), face.argmax(1), size)
    there = (x[None] < edge[:, None]) & (x[None] >= edge[:, None] - width_px[:, None])
    alpha = (face | there).astype(np.float32)
    upright = replace(portrait.motion, rotation_rad=np.zeros(3, np.float32))
    return replace(portrait, person_alpha=alpha, head_alpha=alpha, motion=upright), there


def some_of(there: Array) -> Array:
    """A tenth of a place, bool [s, s]."""
    some = np.zeros_like(there)
    some.flat[np.flatnonzero(there)[::10]] = True
    return some


@pytest.fixture
def rows(astronaut_portrait: PreparedPortrait) -> tuple[Array, float, float]:
    """Each row's number, and the rows of brows and mouth."""
    points = astronaut_portrait.landmarks
    return np.arange(len(astronaut_portrait.image)) + 0.5, float(points[BETWEEN_BROWS, 1]), float(points[UPPER_LIP_INSIDE, 1])


def bump(row: Array, first: float, last: float, width_px: float) -> Array:
    """A half ellipse."""
    return width_px * np.sqrt(np.maximum(1.0 - ((row - 0.5 * (first + last)) / (0.5 * (last - first))) ** 2, 0.0))


def test_what_ends_beside_the_jaw_is_an_ear(astronaut_portrait: PreparedPortrait, rows) -> None:
    row, brows, mouth = rows
    portrait, there = with_beside(astronaut_portrait, bump(row, brows, brows + 0.8 * (mouth - brows), 30))
    likely, whole = seen_ears(portrait, some_of(there))
    assert whole[there].mean() > 0.7 and not whole[~there].any()
    np.testing.assert_array_equal(likely, whole)
    # What surely is hair is none, whatever of it has the skin's colour.
    assert not seen_ears(portrait, some_of(there), 0.95 * there)[1].any()
    assert seen_ears(portrait, some_of(there), 0.6 * there)[1].any()
    # Locks of another colour end there, too.
    assert not seen_ears(portrait, np.zeros_like(there))[1].any()


def test_hair_that_goes_on_is_none(astronaut_portrait: PreparedPortrait, rows) -> None:
    row, brows, mouth = rows
    portrait, there = with_beside(astronaut_portrait, np.where(row > brows - 50, 30, 0))
    likely, whole = seen_ears(portrait, some_of(there))
    assert not whole.any()
    # Of the face's colour it is skin that lies as far back as an ear, wherever it ends.
    likely, whole = seen_ears(portrait, there & (row[:, None] < 0.6 * brows + 0.4 * mouth))
    assert likely[there].any() and not whole.any()


def test_the_brim_of_a_hat_is_none(astronaut_portrait: PreparedPortrait, rows) -> None:
    row, brows, mouth = rows
    portrait, there = with_beside(astronaut_portrait, np.clip(brows + 0.4 * (mouth - brows) - row, 0, 40))
    assert not seen_ears(portrait, some_of(there))[1].any()


def test_narrow_ears_go_far_back(astronaut_portrait: PreparedPortrait, rows) -> None:
    row, brows, mouth = rows
    reaches = []
    for width_px in (26, 34, 44):
        portrait, there = with_beside(astronaut_portrait, bump(row, brows, brows + 0.8 * (mouth - brows), width_px))
        whole = seen_ears(portrait, some_of(there))[1]
        assert whole.any()
        reach = ears_reach(portrait, whole)
        left = portrait.landmarks[OVAL, 0].min()
        assert not reach[:, int(portrait.landmarks[1, 0]) + 2 :].any()
        reaches.append(float(reach[:, : int(left)].max()))
    assert reaches[0] > reaches[1] > reaches[2] > 0
    assert reaches[0] < 0.34


def test_an_ear_is_a_plate(astronaut_portrait: PreparedPortrait, open_head: OpenHead, rows) -> None:
    """From its rim inwards it comes evenly nearer, and there is nothing behind it."""
    row, brows, mouth = rows
    portrait, there = with_beside(astronaut_portrait, bump(row, brows, brows + 0.8 * (mouth - brows), 36))
    # As bright as a face in the middle of the photo, an ear has its colour.
    image = portrait.image.copy()
    image[there] = np.median(image[face_hull(portrait.landmarks, len(image))], axis=0).astype(np.uint8)
    portrait = replace(portrait, image=image)
    avatar = LiftedAvatar(open_head, whole_person=True)
    mantle = avatar.prepare(portrait).mantle
    middle = int(brows + 0.4 * (mouth - brows))
    columns = np.flatnonzero(there[middle])
    front = np.unique(mantle.triangles)
    near = front[
        (np.abs(mantle.pixels[front, 1] - middle) < 3)
        & (mantle.pixels[front, 0] > columns[0])
        & (mantle.pixels[front, 0] < columns[-1] - 4)
    ]
    order = near[np.argsort(mantle.pixels[near, 0])]
    x, z = mantle.pixels[order, 0], mantle.home[order, 2]
    slope, start = np.polyfit(x, z, 1)
    assert slope > 0 and np.abs(z - (slope * x + start)).max() < 0.2 * np.ptp(z)
    far = np.setdiff1d(np.unique(mantle.far_triangles), front)
    behind = far[
        (np.abs(mantle.pixels[far, 1] - middle) < 8) & (mantle.pixels[far, 0] > columns[0]) & (mantle.pixels[far, 0] < columns[-1] - 4)
    ]
    assert len(behind) and np.ptp(mantle.home[behind, 2]) < 0.1
