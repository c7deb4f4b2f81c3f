"""Inside the mouth: darker the deeper, teeth behind the lips, and the photo's own view while it fits."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.mouth import kernels as mouth_kernels
from triportrait.avatar.mouth.inside import (
    Exposure,
    InsidePicture,
    Membrane,
    MouthInside,
    _paleness,
    mouth_is_shut,
    seat_teeth,
    white_in,
)
from triportrait.avatar.mouth.parts import tongue, tongue_amounts, tooth_row
from triportrait.avatar.mouth.photo_teeth import SeenTeeth
from triportrait.avatar.mouth.seats import MouthLook, moved_up, seated, talking_lips
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import INNER_LIPS, LOWER_LIP_INSIDE, OUTER_LIPS, UPPER_LIP_INSIDE
from triportrait.geometry.masks import outline_mask
from triportrait.types import HeadPart

INSIDE = (HeadPart.SOCKET, HeadPart.TONGUE, HeadPart.GUMS, HeadPart.TEETH_UPPER, HeadPart.TEETH_LOWER)
WHITE = np.float32((200.0, 190.0, 180.0))
COLOUR = PhotoTone(np.zeros((256, 3), np.float32), 0.0)


def picture(head, jaw: float, white: np.ndarray = WHITE, **more: float) -> tuple[np.ndarray, np.ndarray]:
    """The inside of the mean head's mouth, 512 px, and where it is open."""
    expression = np.zeros(len(head.expression_names), np.float32)
    for name, value in {"jawOpen": jaw, **more}.items():
        expression[head.expression_names.index(name)] = value
    deformed = head.deform(head.mean, expression, np.zeros(2, np.float32))
    landmarks = head.landmarks478(deformed)

    def to_pixels(points):
        pixels, depth = project(pose_points(points, np.zeros(3), np.zeros(3)), 512)
        return pixels.astype(np.float32), depth.astype(np.float32)

    import cv2

    opening = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(opening, [np.round(to_pixels(landmarks)[0][INNER_LIPS]).astype(np.int32)], 1)
    drawn = MouthInside(head, white, COLOUR).draw(deformed, landmarks, expression, to_pixels, opening.astype(bool))
    rows, columns = drawn.rgb.shape[:2]
    return drawn.rgb, opening[drawn.top : drawn.top + rows, drawn.left : drawn.left + columns].astype(bool)


def test_a_mouth_that_opens_lets_light_in(open_head):
    slit, wide = (picture(open_head, jaw) for jaw in (0.06, 0.5))
    assert wide[1].sum() > 3 * slit[1].sum()
    assert wide[0][wide[1]].max() > 1.15 * slit[0][slit[1]].max()
    assert wide[0][..., :3].min() >= 0.0 and wide[0][..., :3].max() <= 255.0


def test_teeth_stand_above_the_tongue_and_look_white(open_head):
    rgb, opening = picture(open_head, 0.5, mouthUpperUpLeft=0.6, mouthUpperUpRight=0.6)
    middle = opening.shape[1] // 2
    rows = np.flatnonzero(opening[:, middle])
    upper = rgb[rows[0] : rows[0] + 4, middle - 4 : middle + 4]
    below = rgb[rows[-1] - 24 : rows[-1] - 12, middle - 4 : middle + 4]
    assert upper[..., 3].max() > 0.9 and (rgb[..., 3] >= 0).all() and (rgb[..., 3] <= 1).all()
    brightest = upper[..., :3].reshape(-1, 3)[upper[..., 0].argmax()]
    assert brightest[2] > 0.75 * brightest[0]  # hardly coloured
    flesh = below[below[..., 3] < 0.1]
    assert len(flesh) and (flesh[:, 0] > 1.3 * flesh[:, 2]).all()  # red


def test_the_light_is_the_photos(open_head):
    full, half = picture(open_head, 0.4)[0], picture(open_head, 0.4, WHITE / 2)[0]
    np.testing.assert_allclose(half[..., :3], full[..., :3] / 2, atol=0.01)
    np.testing.assert_array_equal(half[..., 3], full[..., 3])


def test_closed_lips_show_nothing(open_head):
    landmarks = open_head.landmarks478(open_head.mean)
    mouth = MouthInside(open_head, WHITE, COLOUR)
    still = np.zeros(len(open_head.expression_names), np.float32)
    drawn = mouth.draw(open_head.mean, landmarks, still, lambda points: (points[:, :2], points[:, 2]), np.zeros((8, 8), bool))
    assert drawn.rgb.shape == (0, 0, 4)


def test_lips_throw_a_shadow_and_corners_are_dark(open_head):
    rgb, opening = picture(open_head, 0.6)
    light = np.empty(opening.shape, np.float32)
    mouth_kernels.shadow(opening, np.float32(0.5), np.float32(6), np.float32(0.0), np.float32(3), np.float32(10), light)
    column = light[opening[:, rgb.shape[1] // 2], rgb.shape[1] // 2]
    assert (np.diff(column) >= -0.01).all() and column[0] < 0.6 < 0.95 < column[-1]
    first = np.flatnonzero(opening.any(0))[0]
    assert light[opening[:, first], first].max() < 0.7 * column[-1]


def test_the_throat_is_dark_but_no_hole(open_head):
    """Wide open, between tongue and palate, light falls off softly and flesh stays red."""
    rgb, opening = picture(open_head, 1.0)
    flesh = rgb[opening & (rgb[..., 3] < 0.1)][:, :3]
    level = flesh.max(1)
    assert level.min() > 0.04 * WHITE.max() and np.quantile(level, 0.1) < 0.45 * np.quantile(level, 0.95)
    assert (flesh[:, 0] > 1.2 * flesh[:, 1]).mean() > 0.95


def test_the_tongue_rises_for_an_l_and_comes_out_for_a_th(open_head):
    """Red above the lower teeth moves up with a little of the curve, and forwards with more of it."""
    names = open_head.expression_names

    def tip(out: float) -> np.ndarray:
        expression = np.zeros(len(names), np.float32)
        expression[names.index("jawOpen")], expression[names.index("tongueOut")] = 0.3, out
        points, _ = tongue(open_head).carried(open_head.deform(open_head.mean, expression, np.zeros(2)), tongue_amounts(expression, names))
        return points[0]

    rest, raised, out = tip(0.0), tip(0.09), tip(0.5)
    assert raised[1] > rest[1] + 0.1
    assert out[2] > rest[2] + 0.07 and out[1] < raised[1] - 0.1


def test_shrinking_takes_means():
    fine = np.arange(4 * 6 * 2, dtype=np.float32).reshape(4, 6, 2)
    small = np.empty((2, 3, 2), np.float32)
    mouth_kernels.shrink(fine, 2, small)
    np.testing.assert_allclose(small, fine.reshape(2, 2, 3, 2, 2).mean((1, 3)))


def test_white_follows_exposure_and_stays_near_the_skins_brightness(astronaut_portrait):
    face = np.float32((190.0, 150.0, 130.0))
    white = white_in(astronaut_portrait, face, None, COLOUR)
    assert 0.94 * face.max() <= white.max() <= 1.41 * face.max()
    assert white.min() >= 0.64 * white.max()
    from dataclasses import replace

    dark = replace(astronaut_portrait, image=(astronaut_portrait.image // 2))
    np.testing.assert_allclose(white_in(dark, face / 2, None, COLOUR), white / 2, rtol=0.03)


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


def test_a_wide_view_is_trusted_while_lips_and_jaw_are_as_in_the_photo():
    membrane = Membrane.of(ring(0.3) * 200 + 256, ring(0.3), 0.4, None)
    trust = [membrane.trust(ring(opening), 0.4) for opening in (0.1, 0.24, 0.3, 0.36, 0.5)]
    assert trust[2] == 1.0 and trust[0] == trust[-1] == 0.0 and 0 < trust[1] < 1 and 0 < trust[3] < 1
    assert membrane.trust(ring(0.3), 0.4 + 0.2) == 0.0  # a jaw that falls behind lips as far apart


def test_lips_that_are_hardly_parted_and_teeth_need_no_view(seen_teeth):
    assert Membrane.of(ring(0.1) * 200 + 256, ring(0.1), 0.2, None) is None
    assert Membrane.of(ring(0.3) * 200 + 256, ring(0.3), 0.4, seen_teeth(0.8)) is None
    assert Membrane.of(ring(0.3) * 200 + 256, ring(0.3), 0.4, seen_teeth(0.2)) is not None


@pytest.fixture
def seen_teeth():
    def of(share: float) -> SeenTeeth:
        teeth = np.arange(100).reshape(10, 10) < 100 * share
        return SeenTeeth(np.ones((10, 10), np.float32), teeth, teeth.astype(np.float32), WHITE)

    return of


def test_lips_that_touch_are_shut_and_parted_ones_are_not():
    assert mouth_is_shut(ring(0.0)) and mouth_is_shut(ring(-0.05)) and not mouth_is_shut(ring(0.05))


def test_exposure_holds_near_the_photos_opening():
    drawn = InsidePicture(np.full((40, 40, 4), 100.0, np.float32), 10, 10)
    opening = np.zeros((60, 60), bool)
    opening[15:45, 15:45] = True
    exposure = Exposure.of(drawn, np.full((60, 60, 3), 50, np.uint8), opening, 0.05)
    np.testing.assert_allclose(exposure.at(0.03), 0.5)
    np.testing.assert_allclose(exposure.at(0.075), 0.5**0.5, rtol=1e-5)
    np.testing.assert_allclose(exposure.at(0.2), 1.0)
    np.testing.assert_allclose(Exposure().at(0.1), 1.0)


def test_the_membrane_is_a_fan_over_the_inner_lips():
    landmarks = ring(0.2)
    membrane = Membrane.of(landmarks * 200 + 256, landmarks, 0.4, None)
    points = membrane.points(landmarks)
    assert len(points) == len(membrane.pixels) == len(INNER_LIPS) + 1
    np.testing.assert_allclose(membrane.pixels, points[:, :2] * 200 + 256, atol=1e-3)
    corner = points[membrane.triangles].astype(float)
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    x, y = landmarks[INNER_LIPS, :2].T.astype(float)
    lens = 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    assert 0.99 * lens <= area.sum() < 1.3 * lens  # it reaches a little under the lips


def plain_look(head: np.ndarray, lips: np.ndarray) -> MouthLook:
    """A head seen from far away at the height of its lips."""
    return MouthLook(head, lips, lambda points: (points[:, :2] * (200, -200) + 256, 10 - points[:, 2]))


def test_people_who_talk_show_their_teeth(open_head):
    """Rows are seated by what is usual at that opening; lips that a photo shows parted without teeth hide them."""
    names = open_head.expression_names
    rows = tooth_row(open_head, HeadPart.TEETH_LOWER), tooth_row(open_head, HeadPart.TEETH_UPPER)
    rest = np.zeros(len(names), np.float32)
    rest[names.index("mouthShrugUpper")] = 0.3
    curves = talking_lips(rest, names)
    assert curves[names.index("mouthShrugUpper")] == 0 and curves[names.index("jawOpen")] > 0.2
    middles = [UPPER_LIP_INSIDE, LOWER_LIP_INSIDE]
    head, talking = (open_head.deform(open_head.mean, e) for e in (rest, curves))
    closed, open_lips = (open_head.landmarks478(vertices)[middles] for vertices in (head, talking))
    closed[1, 1] = closed[0, 1] - 0.002
    for sink in (-0.04, 0.0, 0.04):
        sunk = tuple(moved_up(row, sink, 0.1) for row in rows)
        (low, high), (below, above) = seated(sunk, plain_look(head, closed), plain_look(talking, open_lips), upper_seen=False)
        look = plain_look(talking, open_lips)
        assert 0.025 < look.shown_dm(high, 0) < 0.06 and 0.015 < look.shown_dm(low, 1) < 0.07
        # Half of what lips do besides is believed.
        raised = open_lips + np.float32([[0, 0.04, 0], [0, 0, 0]])
        edge = high.carried(talking)[0][high.columns // 2]
        shown = plain_look(talking, raised).shown_dm(high, 0) - above.up_dm(edge, raised)
        assert 0.015 < shown - (look.shown_dm(high, 0) - above.up_dm(edge, open_lips)) < 0.03
    parted = closed.copy()
    parted[:, 1] += (0.05, -0.05)
    (_, hidden), (_, above) = seated(rows, plain_look(head, parted), plain_look(talking, open_lips), upper_seen=False)
    assert plain_look(head, parted).shown_dm(hidden, 0) < 0.0051 and above.less_dm > 0.01
    looks = plain_look(head, parted), plain_look(talking, open_lips)
    (bare, _), (below, _) = seated(rows, *looks, upper_seen=False, lower_seen=True)
    (covered, _), (less, _) = seated(rows, *looks, upper_seen=False)
    assert below.less_dm == 0.0 < less.less_dm and looks[0].shown_dm(covered, 1) < 0.0051 < looks[0].shown_dm(bare, 1)
    (_, kept), (_, none) = seated(rows, plain_look(head, parted), plain_look(talking, open_lips), upper_seen=True)
    assert kept is rows[1] and none is None


def test_a_look_from_above_hides_upper_teeth_and_shows_lower_ones(open_head):
    upper, lower = (tooth_row(open_head, part) for part in (HeadPart.TEETH_UPPER, HeadPart.TEETH_LOWER))
    lips = open_head.landmarks478(open_head.mean)[[UPPER_LIP_INSIDE, LOWER_LIP_INSIDE]]

    def tilted(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([points[:, 0], -points[:, 1] + 0.2 * points[:, 2]], 1) * 200 + 256, 10 - points[:, 2]

    look = MouthLook(open_head.mean, lips, tilted)
    assert look.hidden_dm(lower, 1) < -0.01 < 0.01 < look.hidden_dm(upper, 0)


def test_pale_lips_have_a_pale_tongue(astronaut_portrait):
    """Relative to the light, in colour photos alone; and paint on lips is not in the mouth."""
    from dataclasses import replace

    white, lips = np.full(3, 200.0, np.float32), astronaut_portrait.landmarks[OUTER_LIPS, :2]

    def paleness(colour: tuple[int, int, int], toned: float = 0.0) -> np.ndarray:
        image = np.array(astronaut_portrait.image)
        image[outline_mask(lips, len(image)) > 0] = colour
        return _paleness(replace(astronaut_portrait, image=image), white, toned)

    np.testing.assert_allclose(paleness((180, 118, 110)), 1.0, atol=0.01)
    pale, red = paleness((180, 160, 150)), paleness((180, 20, 40))
    assert pale[0] == 1.0 and (pale[1:] > 1.1).all() and (red > 0.9).all()
    np.testing.assert_allclose(paleness((180, 160, 150), toned=1.0), 1.0)
