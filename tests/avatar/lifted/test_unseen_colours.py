"""What goes on where the photo shows nothing more."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from triportrait.avatar.lifted.unseen_colours import like_the_face, without_features
from triportrait.geometry.landmarks import NOSE_TIP
from triportrait.geometry.masks import face_hull
from triportrait.types import PreparedPortrait


def lit_from_behind(portrait: PreparedPortrait) -> tuple[PreparedPortrait, np.ndarray]:
    """Even skin before black, of which light from behind bleaches a band along the cheek on the right; and that band, bool [s, s]."""
    face = face_hull(portrait.landmarks, len(portrait.image))
    image = np.where(face[..., None], np.uint8([150, 100, 80]), np.uint8([20, 15, 12])).astype(np.uint8)
    band = np.zeros_like(face)
    for row in range(int(portrait.landmarks[NOSE_TIP, 1]) - 20, int(portrait.landmarks[NOSE_TIP, 1]) + 40):
        band[row, np.flatnonzero(face[row])[-24:]] = True
    image[band] = (255, 248, 240)
    alpha = face.astype(np.float32)
    return replace(portrait, image=image, head_alpha=alpha, person_alpha=alpha, background=np.zeros_like(image)), band


def test_light_from_behind_bleaches_no_cheek_that_turns_to_the_viewer(astronaut_portrait: PreparedPortrait) -> None:
    portrait, band = lit_from_behind(astronaut_portrait)
    skin = like_the_face(portrait)
    assert skin[band].mean() > 0.9
    signed = cv2.distanceTransform((portrait.head_alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    plain = without_features(portrait, portrait.image.astype(np.float32), skin, np.zeros(skin.shape, np.float32), signed)
    inner = cv2.erode(band.astype(np.uint8), np.ones((13, 9), np.uint8)).astype(bool)
    assert plain.bleached[inner].min() > 0.5
    assert plain.bleached[signed > 60].max() < 0.1
    # Darker than the photo, redder, and lighter than the rest of the face.
    low = plain.low[inner].mean(0)
    assert 150 < low[0] < 235 and low[2] / low[0] < 0.8
