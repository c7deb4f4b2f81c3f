"""The photo's teeth: found in a smile, kept while the jaw opens, not invented behind closed lips."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.mouth.photo_teeth import SeenTeeth
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.landmarks import INNER_LIPS
from triportrait.types import PreparedPortrait

NEUTRAL = np.full(3, 200.0, np.float32)


def lips(portrait: PreparedPortrait) -> np.ndarray:
    mask = np.zeros(portrait.image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(portrait.landmarks[INNER_LIPS, :2]).astype(np.int32)], 1)
    return mask.astype(bool)


@pytest.fixture(scope="module")
def seen(astronaut_portrait) -> SeenTeeth:
    found = SeenTeeth.of(astronaut_portrait, PhotoTone.of(astronaut_portrait), NEUTRAL)
    assert found is not None
    return found


def test_a_smile_shows_white_teeth_between_the_lips(seen, astronaut_portrait):
    inside = lips(astronaut_portrait)
    assert seen.teeth.sum() > 0.3 * inside.sum()
    assert not (seen.teeth & ~cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))).astype(bool)).any()
    assert seen.colour.min() > 0.7 * seen.colour.max()


@pytest.mark.parametrize("colour", [(150, 80, 80), (60, 20, 20)])
def test_tongues_and_shadows_are_no_teeth(astronaut_portrait, colour):
    image = astronaut_portrait.image.copy()
    image[cv2.dilate(lips(astronaut_portrait).astype(np.uint8), np.ones((5, 5))).astype(bool)] = colour
    assert SeenTeeth.of(replace(astronaut_portrait, image=image), PhotoTone.of(astronaut_portrait), NEUTRAL) is None


def opened(portrait: PreparedPortrait, avatar: LiftedAvatar, by: float) -> np.ndarray:
    expression = portrait.motion.expression.copy()
    expression[avatar.head.expression_names.index("jawOpen")] += by
    return avatar.draw(avatar.prepare(portrait), replace(portrait.motion, expression=expression, landmarks=None)).rgb * 255


def test_upper_teeth_stay_where_they_are_while_the_jaw_opens(seen, astronaut_portrait, open_head):
    """Marks painted on the photo's upper teeth are found there again."""
    rows, columns = np.nonzero(seen.teeth)
    middle = int(np.median(columns))
    top = rows[np.abs(columns - middle) < 4].min()
    place = (slice(top + 2, top + 8), slice(middle - 4, middle + 4))
    image = astronaut_portrait.image.copy()
    image[place] = (120, 215, 235)  # a light blue: still bright and not red
    avatar = LiftedAvatar(open_head)
    plain, marked = (opened(replace(astronaut_portrait, image=picture), avatar, 0.35) for picture in (astronaut_portrait.image, image))
    difference = marked - plain
    y, x = np.nonzero(difference[..., 2] - difference[..., 0] > 25)
    assert len(y) > 15
    assert abs(x.mean() - middle) < 6 and abs(y.mean() - (top + 5)) < 6


def test_rows_that_bite_are_told_apart(astronaut_portrait):
    """Teeth from lip to lip with a dark line between the rows: the upper ones end at that line, and nowhere in particular without it."""
    from triportrait.avatar.mouth.photo_teeth import _lower_edge, upper_edge

    inside = cv2.dilate(lips(astronaut_portrait).astype(np.uint8), np.ones((15, 3), np.uint8)).astype(bool)
    landmarks = astronaut_portrait.landmarks.copy()
    rows, columns = np.nonzero(inside)
    image = astronaut_portrait.image.copy()
    image[inside] = (225, 215, 205)
    seen = SeenTeeth(inside.astype(np.float32), inside, inside.astype(np.float32), np.float32((250, 240, 230)))
    portrait = replace(astronaut_portrait, image=image, landmarks=landmarks)
    _, y = upper_edge(seen, portrait)
    assert np.isnan(y).all()
    middle = int(np.median(rows))
    image[middle] = (120, 100, 95)
    _, y = upper_edge(seen, replace(portrait, image=image))
    told = np.isfinite(y)
    assert told.mean() > 0.6 and abs(np.median(y[told]) - middle - 0.5) < 1.01
    # The lower teeth begin below that line.
    begins = _lower_edge(seen, np.full(5, np.median(columns)), np.full(5, middle + 0.5))
    assert np.isfinite(begins).all() and (begins >= middle).all()


def test_teeth_are_found_under_a_coloured_lamp(seen, astronaut_portrait):
    """Red light on the photo makes its teeth as red as lips; seen in that light they are teeth all the same."""
    lamp = np.float32((1.0, 0.55, 0.45))
    image = (astronaut_portrait.image * lamp).astype(np.uint8)
    again = SeenTeeth.of(replace(astronaut_portrait, image=image), PhotoTone.of(astronaut_portrait), 200 * lamp)
    assert again is not None
    both = (again.teeth & seen.teeth).sum() / (again.teeth | seen.teeth).sum()
    assert both > 0.9 and again.colour[2] < 0.6 * again.colour[0]


def test_the_photo_is_drawn_again_from_its_own_motion(astronaut_portrait, open_head):
    """The teeth are texture on the rows, and no second picture: as in the photo they look like the photo."""
    avatar = LiftedAvatar(open_head)
    state = avatar.prepare(astronaut_portrait)
    assert state.membrane is None
    drawn = avatar.draw(state, astronaut_portrait.motion).rgb * 255
    inside = cv2.erode(lips(astronaut_portrait).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert np.abs(drawn - astronaut_portrait.image)[inside].mean() < 22


def test_lower_teeth_go_down_with_the_jaw(astronaut_portrait, open_head):
    """And the row that a closed bite shows is the photo's."""
    avatar = LiftedAvatar(open_head)
    lower, upper = avatar.prepare(astronaut_portrait).inside._rows
    names = open_head.expression_names
    heights = []
    for jaw in (0.0, 0.5):
        expression = np.zeros(len(names), np.float32)
        expression[names.index("jawOpen")] = jaw
        deformed = open_head.deform(open_head.mean, expression, np.zeros(2))
        heights.append([row.carried(deformed)[0][row.columns // 2, 1] for row in (lower, upper)])
    (low, high), (low_open, high_open) = heights
    assert low - low_open > 0.1 and abs(high - high_open) < 0.01
