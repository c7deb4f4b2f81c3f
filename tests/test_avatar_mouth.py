"""Inside the mouth: darker the deeper, teeth behind the lips, and the photo's own view while it fits."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.mouth import Membrane, interior_colours, seat_teeth
from triportrait.geometry.landmarks import INNER_LIPS
from triportrait.types import HeadPart

INSIDE = (HeadPart.SOCKET, HeadPart.TONGUE, HeadPart.GUMS, HeadPart.TEETH_UPPER, HeadPart.TEETH_LOWER)


def test_only_the_inside_is_coloured(open_head):
    colours = interior_colours(open_head, open_head.mean, 180.0)
    assert colours.shape == (len(open_head.mean), 3) and np.isfinite(colours).all()
    assert colours.min() >= 0.0 and colours.max() <= 255.0
    inside = np.isin(open_head.part, INSIDE)
    assert not colours[~inside].any() and colours[inside].min() > 0.0


@pytest.mark.parametrize("part", INSIDE)
def test_deeper_is_darker(open_head, part):
    colours = interior_colours(open_head, open_head.mean, 180.0)[open_head.part == part].sum(1)
    order = np.argsort(open_head.mean[open_head.part == part, 2])
    assert (np.diff(colours[order]) >= -1e-3).all()
    assert colours[order[0]] < colours[order[-1]]


def test_teeth_are_lighter_than_the_tongue_and_the_light_is_the_faces(open_head):
    bright, dim = (interior_colours(open_head, open_head.mean, level) for level in (150.0, 75.0))
    front = {part: bright[open_head.part == part].sum(1).max() for part in INSIDE}
    assert front[HeadPart.TEETH_UPPER] > front[HeadPart.TONGUE] > front[HeadPart.SOCKET]
    np.testing.assert_allclose(dim, bright / 2, rtol=1e-5)
    tongue = bright[open_head.part == HeadPart.TONGUE].mean(0)
    assert tongue[0] > tongue[1] and tongue[0] > tongue[2]  # red


def test_seated_teeth_stand_behind_the_lips(open_head):
    """The mean head needs no shift; a head moved as a whole takes its teeth along; lips alone call them after."""
    np.testing.assert_allclose(seat_teeth(open_head, open_head.mean), 0.0, atol=1e-5)
    shift = np.float32((0.1, -0.2, 0.3))
    np.testing.assert_allclose(seat_teeth(open_head, open_head.mean + shift), 0.0, atol=1e-5)
    inner = np.isin(open_head.part, INSIDE[1:])[:, None]
    np.testing.assert_allclose(seat_teeth(open_head, open_head.mean + np.where(inner, np.float32(0), shift)), shift, atol=1e-4)


def ring(opening: float, width: float = 0.4) -> np.ndarray:
    """Landmarks [478, 3] whose inner lips are a lens of this height."""
    landmarks = np.zeros((478, 3), np.float32)
    angle = np.arange(20) / 20 * 2 * np.pi
    landmarks[INNER_LIPS] = np.stack([-0.5 * width * np.cos(angle), 0.5 * opening * np.sin(angle), 0 * angle], -1)
    return landmarks


def test_the_view_between_the_lips_is_trusted_until_they_open_much_wider():
    membrane = Membrane.of(ring(0.1) * 200 + 256, ring(0.1))
    trust = [membrane.trust(ring(opening)) for opening in (0.05, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5)]
    assert trust[1] == 1.0 and trust[-1] == 0.0
    assert trust[1:] == sorted(trust[1:], reverse=True)


def test_the_membrane_is_a_fan_over_the_inner_lips():
    landmarks = ring(0.1)
    membrane = Membrane.of(landmarks * 200 + 256, landmarks)
    points = membrane.points(landmarks)
    assert len(points) == len(membrane.pixels) == len(INNER_LIPS) + 1
    np.testing.assert_allclose(membrane.pixels, points[:, :2] * 200 + 256, atol=1e-3)
    corner = points[membrane.triangles].astype(float)
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    x, y = landmarks[INNER_LIPS, :2].T.astype(float)
    lens = 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    assert 0.99 * lens <= area.sum() < 1.3 * lens  # it reaches a little under the lips
