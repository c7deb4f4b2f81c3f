"""Head and torso at their line, on drawn heads whose every place is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from triportrait.errors import MotionFileError
from triportrait.evaluation import neck
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, JAW_ANGLES, OVAL
from triportrait.types import MotionFrame, PreparedPortrait

SIDE = 256


def landmarks(scale: float = 1.0) -> np.ndarray:
    """The face's outline is an ellipse 80 x 110 px round (128, 110); the other points lie in its middle."""
    points = np.tile([128.0, 110.0], (478, 1))
    around = 2 * np.pi * np.arange(len(OVAL)) / len(OVAL)
    points[OVAL] = np.stack([np.sin(around), -np.cos(around)], -1) * (40, 55) + (128, 110)
    return points * scale


def person() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(mask, (128, 110), (43, 58), 0, 0, 360, 1, -1)
    cv2.rectangle(mask, (100, 150), (156, 256), 1, -1)
    cv2.rectangle(mask, (40, 200), (216, 256), 1, -1)
    return mask.astype(bool)


def picture(level: float = 90.0, step: float = 60.0) -> np.ndarray:
    """A face that is brighter than the rest by ``step``."""
    image = np.full((SIDE, SIDE, 3), level, np.float32)
    cv2.fillPoly(image, [np.round(landmarks()[OVAL] - 0.5).astype(np.int32)], (level + step,) * 3)
    return image.astype(np.uint8)


def portrait() -> PreparedPortrait:
    image = picture()
    rest = MotionFrame(np.zeros(44, np.float32), np.zeros(3, np.float32), np.zeros(3), np.zeros(2))
    return PreparedPortrait(
        photo=image,
        crop_box=(0.0, 0.0, float(SIDE)),
        image=image,
        person_alpha=person().astype(np.float32),
        head_alpha=np.zeros((SIDE, SIDE), np.float32),
        torso=np.zeros((SIDE, SIDE, 4), np.uint8),
        background=image,
        landmarks=np.concatenate([landmarks(), np.zeros((478, 1))], -1).astype(np.float32),
        identity=np.zeros(80, np.float32),
        vertex_offset=np.zeros((1, 3), np.float32),
        motion=rest,
    )


def frame() -> neck.NeckFrame:
    return neck.NeckFrame.of(landmarks(), person(), np.ones((SIDE, SIDE), bool))


def test_the_line_goes_from_angle_to_angle_round_the_chin() -> None:
    line = neck.head_torso_line(landmarks())
    points = landmarks()
    assert np.array_equal(line[0], points[JAW_ANGLES[1]]) and np.array_equal(line[-1], points[JAW_ANGLES[0]])
    assert (line == points[CHIN]).all(1).any() and not (line == points[FOREHEAD_TOP]).all(1).any()


def test_the_band_lies_on_both_sides_of_the_line_and_on_the_person_alone() -> None:
    band = neck.neck_band(landmarks(), person())
    chin = round(landmarks()[CHIN, 1])
    assert band[chin - 15 : chin + 15, 128].all() and not band[: chin - 18, 128].any() and not band[chin + 18 :, 128].any()
    assert not (band & ~person()).any()
    larger = neck.neck_band(landmarks(2.0), np.ones((2 * SIDE, 2 * SIDE), bool))
    assert larger.sum() == pytest.approx(4 * neck.neck_band(landmarks(), np.ones((SIDE, SIDE), bool)).sum(), rel=0.03)
    outside = neck.NeckFrame.of(landmarks(), person(), np.zeros((SIDE, SIDE), bool))
    assert not outside.band.any() and not outside.places.any()


def test_the_seam_is_looked_for_where_the_person_goes_on_below() -> None:
    places = frame().places
    # The neck is 56 px wide: beside it the jaw is the outline.
    assert places[len(places) // 2] and 0.2 < places.mean() < 0.9
    assert not neck.places_on_person(landmarks(), np.zeros((SIDE, SIDE), bool)).any()


def test_the_seam_ratio_is_that_of_the_steps_across_the_line() -> None:
    own = frame().places

    def ratio(step: float) -> float:
        return neck.seam_ratio([picture(step=step)], landmarks()[None], [frame()], picture(), landmarks(), own)

    assert ratio(60.0) == pytest.approx(1.0)
    assert ratio(30.0) == pytest.approx(0.5, abs=0.02) and ratio(90.0) == pytest.approx(1.5, abs=0.02)
    assert np.isnan(neck.seam_ratio([picture()], landmarks()[None], [None], picture(), landmarks(), own))
    assert np.isnan(neck.seam_ratio([picture()], landmarks()[None], [frame()], picture(), landmarks(), np.zeros_like(own)))


def test_errors_and_changes_are_those_of_the_band() -> None:
    brighter = picture(level=100.0)
    values = neck.neck_figures([brighter], [picture()], [frame()])
    assert values["neck_l1"] == pytest.approx(10 / 255, abs=1e-4)
    # Both have the same edges, and a flat difference has none.
    assert values["neck_gradient_error"] == pytest.approx(0.0, abs=1e-6)
    assert neck.neck_figures([picture(step=30.0)], [picture()], [frame()])["neck_gradient_error"] > 0.005
    assert neck.temporal_difference([picture(), brighter, picture()], [frame()] * 3) == pytest.approx(10 / 255, abs=1e-4)
    assert np.isnan(neck.temporal_difference([picture()], [frame()])) and np.isnan(neck.neck_figures([], [], [])["neck_l1"])


def test_what_lies_below_the_collar_is_watched_while_the_head_turns() -> None:
    subject = portrait()
    below = neck.below_collar(subject.landmarks, subject.person_alpha > 0.5)
    assert below[250, 60] and not below[:190].any()
    rows: list[MotionFrame] = []

    def still(row: MotionFrame) -> np.ndarray:
        rows.append(row)
        moved = subject.image.copy()
        moved[:180] += np.uint8(50 * abs(row.rotation_rad[1]))
        return moved

    assert neck.still_share(still, subject) == 1.0
    assert np.degrees([row.rotation_rad[1] for row in rows]) == pytest.approx([0, -25, 25], abs=1e-4)

    def half(row: MotionFrame) -> np.ndarray:
        moved = subject.image.copy()
        moved[:, :128] += np.uint8(20 if row.rotation_rad[1] > 0.1 else 0)
        return moved

    assert neck.still_share(half, subject) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(neck.still_share(still, replace(subject, person_alpha=np.zeros((SIDE, SIDE), np.float32))))


def test_what_follows_landmarks_says_why_it_cannot_be_turned() -> None:
    def refuses(row: MotionFrame) -> np.ndarray:
        raise MotionFileError("no landmarks")

    values, reasons = neck.stillness(refuses, portrait())
    assert np.isnan(values["neck_still_share"]) and reasons == {"neck_still_share": "no landmarks"}
