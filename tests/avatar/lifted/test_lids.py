"""Lids are one drawing whose geometry moves: it begins as the photo, its margin comes down, and its colours are skin's."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.lids import STRIP_TEXELS, behind_sunglasses, closed_expression
from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, IRIS_CENTRES, LID_PAIRS
from triportrait.geometry.masks import face_hull
from triportrait.types import ARKIT_EXPRESSIONS, MotionFrame, PreparedPortrait

RIMS = (EYE_LEFT_RIM, EYE_RIGHT_RIM)


@pytest.fixture(scope="module")
def avatar(open_head: OpenHead) -> LiftedAvatar:
    return LiftedAvatar(open_head)


@pytest.fixture(scope="module")
def state(avatar: LiftedAvatar, astronaut_portrait: PreparedPortrait) -> LiftedState:
    return avatar.prepare(astronaut_portrait)


def closing(portrait: PreparedPortrait, part: float) -> MotionFrame:
    """The photo's motion with lids that have gone this part of their way."""
    expression = portrait.motion.expression.copy()
    for half in ("Left", "Right"):
        blink = ARKIT_EXPRESSIONS.index(f"eyeBlink{half}")
        expression[blink] += part * (1 - expression[blink])
    return replace(portrait.motion, expression=expression, landmarks=None)


def near_eyes(portrait: PreparedPortrait, margin: float) -> np.ndarray:
    near = np.zeros((512, 512), bool)
    for rim in RIMS:
        low, high = portrait.landmarks[rim, :2].min(0), portrait.landmarks[rim, :2].max(0)
        wide = margin * (high - low)[0]
        (left, top), (right, bottom) = (low - wide).astype(int), (high + wide).astype(int)
        near[top:bottom, left:right] = True
    return near


def closure(avatar: LiftedAvatar, state: LiftedState, frame: MotionFrame) -> np.ndarray:
    head = avatar.head
    return state.lids.closure(head.landmarks478(head.deform(state.shape, frame.expression, frame.gaze_rad)))


def test_closed_expressions_shut_both_lids_and_leave_the_rest(open_head, astronaut_portrait):
    expression = closed_expression(open_head, astronaut_portrait.motion)
    for half in ("Left", "Right"):
        assert expression[ARKIT_EXPRESSIONS.index(f"eyeBlink{half}")] == 1.0
        assert expression[ARKIT_EXPRESSIONS.index(f"eyeWide{half}")] == 0.0
    other = [i for i, name in enumerate(ARKIT_EXPRESSIONS) if not name.startswith(("eyeBlink", "eyeWide"))]
    np.testing.assert_array_equal(expression[other], astronaut_portrait.motion.expression[other])


def test_the_closure_goes_from_the_photos_to_shut(avatar, state, astronaut_portrait):
    parts = [closure(avatar, state, closing(astronaut_portrait, part)) for part in (0.0, 0.3, 0.6, 1.0)]
    np.testing.assert_allclose(parts[0], 0.0, atol=1e-4)
    np.testing.assert_allclose(parts[-1], 1.0, atol=1e-3)
    assert (np.diff(parts, axis=0) > 0.05).all()


def test_a_lid_begins_as_the_photo_and_changes_only_the_eyes(avatar, state, astronaut_portrait):
    opened, begun, shut = (avatar.draw(state, closing(astronaut_portrait, part)).rgb for part in (0.0, 0.02, 1.0))
    near = near_eyes(astronaut_portrait, 0.3)
    assert np.abs(begun - opened)[near].mean() < 3 / 255
    assert np.abs(shut - opened)[near].mean() > 6 / 255
    changed = np.abs(shut - opened).max(-1) > 0.03
    # Where two surfaces meet, a pixel may change sides.
    assert changed[~near_eyes(astronaut_portrait, 0.9)].sum() <= 2


def test_the_margin_comes_down_with_the_lid(avatar, state, astronaut_portrait):
    """The dark line of the lashes stands at the mesh's own margin, at every closure: nothing fades in elsewhere."""
    drawn = [avatar.draw(state, closing(astronaut_portrait, part)) for part in (0.7, 0.85, 1.0)]
    for pair in (LID_PAIRS[4], LID_PAIRS[1]):
        rows = []
        for layer in drawn:
            x, y = layer.landmarks[pair[0]].astype(int)
            column = layer.rgb[y - 12 : y + 7, x - 2 : x + 3].mean((1, 2))
            rows.append(int(column.argmin()) - 12)
        assert max(rows) - min(rows) <= 4 and max(np.abs(rows)) <= 5, rows


def test_closed_lids_have_the_colour_of_skin(avatar, state, astronaut_portrait):
    opened, shut = (255 * avatar.draw(state, closing(astronaut_portrait, part)).rgb for part in (0.0, 1.0))
    for iris, rim in zip(IRIS_CENTRES, RIMS, strict=True):
        x, y = astronaut_portrait.landmarks[iris, :2].astype(int)
        below = int(astronaut_portrait.landmarks[rim, 1].max()) + 12
        lid, eye = (picture[y - 3 : y + 1, x - 2 : x + 3].mean((0, 1)) for picture in (shut, opened))
        cheek = astronaut_portrait.image[below : below + 10, x - 10 : x + 10].mean((0, 1))
        assert np.linalg.norm(lid - cheek) < 0.6 * np.linalg.norm(eye - cheek)


def test_shut_lids_are_lit_like_what_lies_above_and_below(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    """A deep socket's shade does not make the lid that leaves it as dark, nor does the skin beyond the fold stay so."""
    image = np.full_like(astronaut_portrait.image, (200, 150, 120))
    for rim in RIMS:
        points = astronaut_portrait.landmarks[rim, :2]
        (left, top), (right, bottom) = points.min(0).astype(int), points.max(0).astype(int)
        image[top - 40 : (top + bottom) // 2, left - 10 : right + 10] = (50, 37, 30)
    avatar = LiftedAvatar(open_head)
    portrait = replace(astronaut_portrait, image=image)
    state = avatar.prepare(portrait)
    opened, shut = (255 * avatar.draw(state, closing(portrait, part)).rgb for part in (0.0, 1.0))
    for iris in IRIS_CENTRES:
        x, y = portrait.landmarks[iris, :2].astype(int)
        lid = shut[y - 6 : y - 2, x - 3 : x + 4].mean()
        assert 1.4 * image[:, x].min(0).mean() < lid < 0.8 * 157
        assert shut[y - 16 : y - 13, x - 3 : x + 4].mean() > 1.1 * opened[y - 16 : y - 13, x - 3 : x + 4].mean()


def test_lashes_tilt_from_above_the_margin_to_below(avatar, state):
    landmarks = avatar.head.landmarks478(state.source)
    columns, rows = STRIP_TEXELS.T
    tips, roots = rows == rows.max(), np.isclose(rows, rows[1])
    for amount, above in ((0.0, True), (1.0, False)):
        strips, triangles = state.lids.strips(landmarks, np.full(2, amount, np.float32))
        assert triangles.max() < len(columns)
        for strip in strips:
            assert (strip[tips, 1] > strip[roots, 1]).all() == above
            assert (strip[tips, 1] < strip[roots, 1]).all() != above


def test_sunglasses_stay_closed_to_lids(avatar, astronaut_portrait):
    assert not behind_sunglasses(astronaut_portrait)
    image = astronaut_portrait.image.copy()
    image[near_eyes(astronaut_portrait, 0.45)] = (12, 14, 16)
    dark = replace(astronaut_portrait, image=image)
    assert behind_sunglasses(dark)
    own = avatar.prepare(dark)
    shut = avatar.draw(own, closing(dark, 1.0)).rgb
    assert np.abs(255 * shut - image)[near_eyes(astronaut_portrait, 0.2)].max() < 12


def test_black_eyes_have_lids_of_some_colour(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    """Behind black glasses nothing is seen; nothing is divided by that."""
    black = np.where(face_hull(astronaut_portrait.landmarks, len(astronaut_portrait.image))[..., None], 0, astronaut_portrait.image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = LiftedAvatar(open_head).prepare(replace(astronaut_portrait, image=black.astype(np.uint8)))
    assert all(np.isfinite(part).all() for part in state.lids.pictures)
