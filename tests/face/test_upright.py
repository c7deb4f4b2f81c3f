"""Photographs and clips that are not upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triportrait.face.following import follow_face
from triportrait.face.upright import TURNS, turned_upright_in_clip, upright_photo


@pytest.mark.parametrize("quarter", [1, 2, 3])
@pytest.mark.parametrize("which", ["astronaut", "portrait2"])
def test_a_photo_that_is_not_upright_is_turned(which, quarter, astronaut, face_tracker, caplog):
    from PIL import Image

    example = Path(__file__).resolve().parents[2] / "examples" / "portrait2.png"
    upright = astronaut if which == "astronaut" else np.asarray(Image.open(example).convert("RGB").resize((512, 512)))
    photo, faces = upright_photo(face_tracker, np.ascontiguousarray(np.rot90(upright, quarter)), "it.jpg")
    np.testing.assert_array_equal(photo, upright)
    np.testing.assert_array_equal(faces[0].landmarks, face_tracker.detect(upright)[0].landmarks)
    assert [record.getMessage() for record in caplog.records] == [f"it.jpg is not upright; it is turned by {TURNS[4 - quarter]}"]


def test_an_upright_photo_stays_as_it_is(astronaut, face_tracker, caplog):
    photo, faces = upright_photo(face_tracker, astronaut, "it.jpg")
    assert photo is astronaut and len(faces) == 1 and not caplog.records


@pytest.mark.parametrize("quarter", [0, 1, 2])
def test_a_clip_that_is_not_upright_is_turned_before_anybody_is_followed(quarter, astronaut, face_tracker, caplog):
    """Landmarks, the picture's size, and what counts as inside it belong to the same frames."""
    frames = [np.roll(astronaut[:480], 4 * step, axis=1) for step in range(4)]
    upright = np.stack([row for row, _ in face_tracker.track(frames)])
    turned = [np.ascontiguousarray(np.rot90(frame, quarter)) for frame in frames]
    rows = list(follow_face(face_tracker, iter(turned), name="it.mp4"))
    np.testing.assert_array_equal(np.stack([row.landmarks for row in rows]), upright)
    assert {row.size for row in rows} == {(512, 480)} and all(row.seen and row.shot == 0 for row in rows)
    said = [f"it.mp4 is not upright; its frames are turned by {TURNS[4 - quarter]}"] if quarter else []
    assert [record.getMessage() for record in caplog.records] == said


def test_pictures_of_nobody_turn_no_clip(face_tracker, seed):
    noise = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), np.uint8).repeat(6, 0).repeat(6, 1)
    for picture in (noise, np.full((300, 400, 3), 90, np.uint8)):
        assert turned_upright_in_clip(face_tracker, picture) == (0, [])
