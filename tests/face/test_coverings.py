"""What a photo hides: coverings are told from mouths, and a covered mouth stays still."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from triportrait.errors import OptionError
from triportrait.face import coverings
from triportrait.face.coverings import eyes_are_closed, load_judge, lower_face, mouth_is_wide_open, remarks
from triportrait.face.portrait import PortraitOptions
from triportrait.geometry.landmarks import LID_PAIRS
from triportrait.media.images import read_image
from triportrait.motion.options import DriveOptions
from triportrait.motion.retarget import hold_mouth
from triportrait.pipeline import Portrait
from triportrait.types import ARKIT_EXPRESSIONS, Motion

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LOWER = ("jaw", "mouth", "tongue", "cheek", "nose")
MASK = [6, 347, 323, 365, 152, 136, 93, 118]


def with_mask(image, landmarks, colour):
    """A cloth from the bridge of the nose to the chin."""
    result = image.copy()
    cv2.fillPoly(result, [np.round(landmarks[MASK, :2]).astype(np.int32)], colour, cv2.LINE_AA)
    return result


def with_microphone(image, landmarks, colour):
    """A ball before the lips, its handle below."""
    result = image.copy()
    x, y = np.round(landmarks[[13, 14], :2].mean(0)).astype(int).tolist()
    radius = round(0.75 * float(np.linalg.norm(landmarks[61, :2] - landmarks[291, :2])))
    cv2.line(result, (x, y), (x, len(image)), [level // 2 for level in colour], radius)
    cv2.circle(result, (x, y), radius, colour, -1, cv2.LINE_AA)
    return result


@pytest.fixture(scope="module", params=["astronaut", "portrait.png", "portrait2.png"])
def face(request, face_tracker, astronaut):
    """A picture and the landmarks of its face."""
    picture = astronaut if request.param == "astronaut" else read_image(EXAMPLES / request.param)[..., :3]
    return picture, face_tracker.detect(picture)[0].landmarks


def logit(image, landmarks):
    with torch.inference_mode():
        return float(load_judge()(lower_face(image, landmarks))[0][0])


def test_bare_faces_are_not_covered(face):
    image, landmarks = face
    grey = np.uint8(image.mean(-1))[..., None].repeat(3, 2)
    dark = np.uint8(image * 0.4)
    assert max(logit(picture, landmarks) for picture in (image, grey, dark)) < 0


def test_a_mirrored_face_is_not_covered(face):
    image, landmarks = face
    mirrored = landmarks * np.float32([-1, 1, 1]) + np.float32([image.shape[1], 0, 0])
    # The subject's left becomes the right: the rows that lower_face looks at change places.
    for left, right in ((33, 263), (108, 337), (69, 299)):
        mirrored[[left, right]] = mirrored[[right, left]]
    assert logit(np.ascontiguousarray(image[:, ::-1]), mirrored) < 0


@pytest.mark.parametrize("colour", [(150, 190, 220), (240, 240, 238), (25, 25, 28), (200, 150, 130), (60, 90, 70)])
def test_masks_of_any_colour_cover(face, colour):
    image, landmarks = face
    assert logit(with_mask(image, landmarks, colour), landmarks) > 2


@pytest.mark.parametrize("colour", [(30, 30, 32), (150, 150, 155)])
def test_a_microphone_covers(face, colour):
    image, landmarks = face
    assert logit(with_microphone(image, landmarks, colour), landmarks) > 2


def test_shut_eyes_and_wide_open_mouths_are_said(astronaut_portrait):
    assert remarks(astronaut_portrait) == []
    shut, wide = astronaut_portrait.landmarks.copy(), astronaut_portrait.landmarks.copy()
    shut[LID_PAIRS[:, 0]] = shut[LID_PAIRS[:, 1]] + (0.0, 0.5, 0.0)
    wide[14, 1] = wide[13, 1] + 0.2 * (wide[152, 1] - wide[10, 1])
    assert eyes_are_closed(replace(astronaut_portrait, landmarks=shut)) and mouth_is_wide_open(replace(astronaut_portrait, landmarks=wide))
    # A wink is no sleep.
    shut[LID_PAIRS[:3]] = astronaut_portrait.landmarks[LID_PAIRS[:3]]
    assert not eyes_are_closed(replace(astronaut_portrait, landmarks=shut))


def test_holding_the_mouth_leaves_everything_else(astronaut_portrait):
    rows = np.random.default_rng(0).uniform(0, 1, (4, len(ARKIT_EXPRESSIONS))).astype(np.float32)
    motion = Motion(rows, np.ones((4, 3), np.float32), np.ones((4, 3), np.float32), np.ones((4, 2), np.float32))
    held, own = hold_mouth(motion, astronaut_portrait.motion), astronaut_portrait.motion.expression
    for column, name in enumerate(ARKIT_EXPRESSIONS):
        expected = np.full(4, own[column]) if name.startswith(LOWER) else rows[:, column]
        np.testing.assert_array_equal(held.expression[:, column], expected)
    np.testing.assert_array_equal(held.rotation_rad, motion.rotation_rad)


@pytest.fixture(scope="module")
def masked(astronaut, face_tracker):
    """The astronaut with a cloth before the mouth."""
    return with_mask(astronaut, face_tracker.detect(astronaut)[0].landmarks, (150, 190, 220))


def moves_mouth(motion, own):
    lower = [i for i, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith(LOWER)]
    return np.abs(motion.expression[:, lower] - own.expression[lower]).max() > 0


def test_a_covered_portrait_says_so_once_and_keeps_its_mouth(masked, voice, caplog, monkeypatch):
    looks, look = [], coverings.lower_face
    monkeypatch.setattr(coverings, "lower_face", lambda *given: looks.append(1) or look(*given))
    with caplog.at_level(logging.WARNING):
        portrait = Portrait.from_image(masked, PortraitOptions(128), avatar="lifted")
        motion = portrait.talk(voice).motion()
    said = [record.message for record in caplog.records if "mouth is covered" in record.message]
    assert len(said) == 1 and "--mouth free" in said[0]
    assert portrait.prepared.mouth_is_covered and len(looks) == 1, "a photo is looked at once"
    assert not moves_mouth(motion, portrait.prepared.motion)
    assert np.ptp(motion.rotation_rad, axis=0).max() > 1e-3
    # Whoever knows better says so.
    assert moves_mouth(portrait.talk(voice, DriveOptions(mouth="free")).motion(), portrait.prepared.motion)


def test_an_open_mouth_can_be_kept_still(talking_portrait, voice):
    own = talking_portrait.prepared.motion
    assert moves_mouth(talking_portrait.talk(voice).motion(), own)
    assert not moves_mouth(talking_portrait.talk(voice, DriveOptions(mouth="still")).motion(), own)
    with pytest.raises(OptionError, match="--mouth is 'shut'"):
        DriveOptions(mouth="shut")


def test_the_papers_preset_is_told_of_coverings_too(astronaut_portrait):
    covered = replace(astronaut_portrait, mouth_is_covered=True)
    assert "stays still" in remarks(covered)[0]
    (told,) = remarks(covered, holds_mouth=False)
    assert "covered" in told and "still" not in told and "--mouth" not in told
