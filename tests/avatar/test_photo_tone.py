"""Toned photographs: what is drawn anew has their tone, and colour photographs are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.mouth.inside import white_in
from triportrait.avatar.mouth.photo_teeth import SeenTeeth
from triportrait.avatar.photo_tone import LUMA, PhotoTone
from triportrait.types import MotionFrame


def toned(image, kind):
    """A colour picture developed in one tone."""
    level = (image @ LUMA)[..., None] / 255
    curves = {
        "black and white": (1.0, 1.0, 1.0),
        "sepia": (0.8, 1.0, 1.35),
        "cyanotype": (1.6, 1.0, 0.7),
    }
    return np.clip(np.rint(255 * level ** np.array(curves[kind])), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["black and white", "sepia", "cyanotype"])
def test_a_toned_photo_is_known_and_its_tone_found(astronaut_portrait, kind):
    image = toned(astronaut_portrait.image, kind)
    tone = PhotoTone.of(replace(astronaut_portrait, image=image))
    assert tone.strength == 1.0
    # Its own pixels lie on the line already; foreign ones come to lie on it.
    middle = image[200:300, 200:300].reshape(-1, 3).astype(np.float32)
    assert np.abs(tone.apply(middle) - middle).mean() < 3
    red = tone.apply(np.float32([[160, 80, 70]]))
    nearest = np.abs(image.reshape(-1, 3) @ LUMA - red[0] @ LUMA).argmin()
    assert np.abs(red[0] - image.reshape(-1, 3)[nearest]).max() < 8


def test_colour_photos_are_left_exactly_as_they_are(astronaut_portrait):
    tone = PhotoTone.of(astronaut_portrait)
    assert tone.strength == 0.0
    colours = np.random.default_rng(0).uniform(0, 255, (50, 3)).astype(np.float32)
    assert tone.apply(colours) is colours and tone.taken_off(colours) is colours and tone.change(colours, -colours) is not colours
    np.testing.assert_array_equal(tone.change(colours, -colours), -colours)


def test_the_law_is_continuous(astronaut_portrait):
    colour = astronaut_portrait.image.astype(np.float64)
    grey = toned(astronaut_portrait.image, "black and white").astype(np.float64)
    mixtures = [np.uint8(grey + share * (colour - grey)) for share in (0, 0.1, 0.2, 0.3, 1)]
    strengths = [PhotoTone.of(replace(astronaut_portrait, image=image)).strength for image in mixtures]
    assert strengths[0] == 1.0 and strengths[-1] == 0.0 and strengths == sorted(strengths, reverse=True)


@pytest.mark.parametrize("kind", ["black and white", "sepia"])
def test_an_opened_mouth_keeps_the_photos_tone(astronaut_portrait, open_head, kind):
    portrait = replace(
        astronaut_portrait,
        **{name: toned(getattr(astronaut_portrait, name), kind) for name in ("image", "background")},
        torso=np.dstack([toned(astronaut_portrait.torso[..., :3], kind), astronaut_portrait.torso[..., 3]]),
    )
    avatar, motion = LiftedAvatar(open_head), portrait.motion
    expression = motion.expression.copy()
    expression[open_head.expression_names.index("jawOpen")] = 0.6
    drawn = avatar.draw(avatar.prepare(portrait), MotionFrame(expression, motion.rotation_rad, motion.translation, motion.gaze_rad))
    inside = 255 * drawn.rgb[np.isin(drawn.surface, (2, 3))]
    assert len(inside) > 200
    expected = toned(np.rint(inside @ LUMA)[..., None].repeat(3, 1), kind) if kind == "black and white" else None
    if expected is not None:
        assert np.abs(inside - expected).max() < 3
    else:
        # Sepia is warm at every lightness, by less than a tongue is.
        tone = PhotoTone.of(portrait)
        assert np.abs(inside - tone.apply(inside)).mean() < 3


def test_relit_skin_stays_on_the_tone_and_coloured_details_stay(astronaut_portrait):
    image = toned(astronaut_portrait.image, "sepia")
    tone, alpha = PhotoTone.of(replace(astronaut_portrait, image=image)), np.ones((20, 20), np.float32)
    skin = image[200:220, 250:270].astype(np.float32)
    relit = 0.6 * skin
    settled = 255 * tone.settled(relit / 255, alpha)
    off, before = (np.abs(picture - tone.apply(picture)).mean() for picture in (settled, relit))
    assert off < 0.3 * before and np.abs((settled - relit) @ LUMA).max() < 2
    lips = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (20, 20, 3))
    np.testing.assert_allclose(tone.settled(lips, alpha), lips, atol=1e-6)
    assert PhotoTone.of(astronaut_portrait).settled(lips, alpha) is lips


def test_teeth_are_told_from_lips_without_colour(astronaut_portrait):
    grey = replace(astronaut_portrait, image=toned(astronaut_portrait.image, "black and white"))
    assert SeenTeeth.of(grey, PhotoTone.of(grey), np.full(3, 200.0)) is not None
    # With lips as light as teeth nothing tells.
    flat = replace(grey, image=np.full_like(grey.image, 140))
    assert SeenTeeth.of(flat, PhotoTone.of(flat), np.full(3, 200.0)) is None


def test_white_has_no_colour_where_the_photo_has_none(astronaut_portrait):
    grey = replace(astronaut_portrait, image=toned(astronaut_portrait.image, "black and white"))
    white = white_in(grey, np.float32([150, 150, 150]), None, PhotoTone.of(grey))
    assert np.ptp(white) < 1e-3


def test_a_lamps_colour_reaches_the_teeth_when_eyes_and_skin_agree(astronaut_portrait):
    lamp = np.array([1.0, 0.35, 0.3])
    lit = replace(astronaut_portrait, image=np.uint8(astronaut_portrait.image * lamp))
    face = np.float32([190, 150, 130])
    own, red = (white_in(p, f, None, PhotoTone.of(astronaut_portrait)) for p, f in ((astronaut_portrait, face), (lit, face * lamp)))
    assert (own / own.max()).min() >= 0.65
    assert (red / red.max()).min() < 0.55
