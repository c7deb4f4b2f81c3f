"""The mantle: every node shows its own pixel, both sides are one closed smooth body, and it follows the face beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.lifted.mantle import Mantle, _margin, build_mantle, streaks
from triportrait.avatar.lifted.outline import _bows, _strands, beyond_the_crop, mirrored
from triportrait.avatar.lifted.surface import Surface, fit_surface
from triportrait.avatar.lifted.unseen_colours import _without_scene, guess_places, without_features
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.cutting import cut_triangles
from triportrait.geometry.fields import grid_triangles
from triportrait.geometry.landmarks import OVAL
from triportrait.geometry.nearest import distance_px
from triportrait.geometry.rasteriser import rasterise
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import Array, PreparedPortrait


@pytest.fixture(scope="module")
def surface(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> Surface:
    return fit_surface(astronaut_portrait, open_head)


@pytest.fixture(scope="module")
def mantle(astronaut_portrait: PreparedPortrait, open_head: OpenHead, surface: Surface) -> Mantle:
    """Of the head alone."""
    return built(astronaut_portrait, open_head, surface, astronaut_portrait.head_alpha, False)


@pytest.fixture(scope="module")
def person(astronaut_portrait: PreparedPortrait, open_head: OpenHead, surface: Surface) -> Mantle:
    """Of head, neck and shoulders."""
    return built(astronaut_portrait, open_head, surface, astronaut_portrait.person_alpha, True)


def built(portrait: PreparedPortrait, head: OpenHead, surface: Surface, matte: np.ndarray, whole_person: bool) -> Mantle:
    colours, mesh = portrait.image.astype(np.float32), np.ones((512, 512), bool)
    return build_mantle(portrait, head, surface, colours, matte, mesh, whole_person=whole_person)


def nodes_of(triangles: np.ndarray) -> np.ndarray:
    return np.unique(triangles)


def posed(mantle: Mantle, portrait: PreparedPortrait) -> tuple[np.ndarray, np.ndarray]:
    points = pose_points(mantle.rest, portrait.motion.rotation_rad, portrait.motion.translation)
    return project(points, portrait.image.shape[0], portrait.focal)


def test_in_the_photos_pose_each_node_lies_on_its_own_pixel(mantle, astronaut_portrait):
    pixels, _ = posed(mantle, astronaut_portrait)
    inside = ((pixels > 0) & (pixels < 512)).all(1)
    near = np.intersect1d(nodes_of(mantle.triangles), np.flatnonzero(inside))
    assert len(near) > 2000
    np.testing.assert_allclose(pixels[near], mantle.pixels[near], atol=0.05)


def test_both_sides_meet_in_the_outline_and_nowhere_else(mantle, astronaut_portrait):
    _, depth = posed(mantle, astronaut_portrait)
    near, far = nodes_of(mantle.triangles), nodes_of(mantle.far_triangles)
    shared = np.intersect1d(near, far)
    own = np.setdiff1d(far, near)
    assert len(shared) > 100 and (mantle.far[own] == 1).all() and not mantle.far[near].any()
    # Every edge of the far side that has one triangle only lies on the shared outline, or at the height of the mouth, where it is flat.
    edges = np.sort(np.concatenate([mantle.far_triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    single, count = np.unique(edges, axis=0, return_counts=True)
    free = np.setdiff1d(np.unique(single[count == 1]), shared)
    brows = astronaut_portrait.landmarks[9, 1]
    assert (mantle.pixels[free, 1] > brows).all()
    # Behind the front, at the same pixel.
    places = {tuple(np.round(p, 3)): d for p, d in zip(mantle.pixels[near], depth[near], strict=True)}
    keys = [tuple(np.round(p, 3)) for p in mantle.pixels[own]]
    pairs = np.array([(places[key], d) for key, d in zip(keys, depth[own], strict=True) if key in places])
    assert len(pairs) > 500 and (pairs[:, 1] >= pairs[:, 0] - 1e-3).all()


@pytest.mark.parametrize("yaw_deg", [-25, -12, 12, 25])
def test_a_turned_outline_is_smooth_and_its_body_solid(mantle, astronaut_portrait, yaw_deg):
    """Above the ears the drawn body has no holes, and its edge no teeth: opening and closing by a disc change hardly anything."""
    import cv2

    motion = astronaut_portrait.motion
    points = pose_points(mantle.rest, motion.rotation_rad + np.radians([0, yaw_deg, 0]), motion.translation)
    pixels, depth = project(points, 512, astronaut_portrait.focal)
    alpha = np.clip(mantle.pixels, 0, 511).astype(int)
    solid = astronaut_portrait.head_alpha[alpha[:, 1], alpha[:, 0]] > 0.9
    triangles = np.concatenate([mantle.triangles[solid[mantle.triangles].all(1)], mantle.far_triangles])
    drawn = (rasterise(pixels.astype(np.float32), depth.astype(np.float32), triangles, 512, 512).triangle >= 0).astype(np.uint8)
    drawn = drawn[: int(astronaut_portrait.landmarks[9, 1])]
    drawn[:, 0] = drawn[:, -1] = 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    edge = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    length = sum(len(part) for part in edge)
    changed = sum(int((cv2.morphologyEx(drawn, how, disc) != drawn).sum()) for how in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE))
    assert changed < 0.35 * length


def test_only_what_turns_towards_the_viewer_is_guessed(mantle, astronaut_portrait):
    motion = astronaut_portrait.motion
    front = mantle.far == 0
    assert not mantle.guessed(motion)[front].any()
    turned = mantle.guessed(replace(motion, rotation_rad=motion.rotation_rad + np.float32([0, 0.4, 0])))
    centre = 0.5 * (mantle.pixels[front, 0].min() + mantle.pixels[front, 0].max())
    left = front & (mantle.pixels[:, 0] < centre)
    assert turned[left].sum() > 3 * turned[front & ~left].sum()
    # In the photo's own view nothing is a streak; what it saw edge-on is one when it faces the viewer.
    then, points = np.float32([0.05, 0.5, 1.0]), np.zeros((3, 3), np.float32)
    to_camera = np.array([0, 0, 10]) - motion.translation
    facing = np.tile((to_camera / np.linalg.norm(to_camera)) @ matrix_from_euler(motion.rotation_rad), (3, 1)).astype(np.float32)
    found = streaks(then, points, facing, motion)
    assert (np.diff(found) <= 0).all() and found[0] == 1 and found[2] == 0


def test_hair_through_which_the_scene_shines_is_guessed_as_soon_as_it_turns(mantle, astronaut_portrait):
    """Hair is brown here and the wall blue: blue pixels within the outline are the wall's, whatever the matte says."""
    hair, wall = np.full((1, 4, 3), (90.0, 60.0, 30.0), np.float32), np.full((1, 4, 3), (20.0, 60.0, 200.0), np.float32)
    share = np.float32([0.0, 0.2, 0.5, 1.0])[None, :, None]
    clean = _without_scene(hair + share * (wall - hair), hair, wall)[0]
    np.testing.assert_allclose(clean, [1.0, 0.5, 0.0, 0.0], atol=1e-5)
    tainted = replace(mantle, tainted=np.ones_like(mantle.tainted))
    motion = astronaut_portrait.motion
    front = mantle.far == 0
    assert not tainted.guessed(motion)[front].any()
    turned = replace(motion, rotation_rad=motion.rotation_rad + np.float32([0, 0.2, 0]))
    assert tainted.guessed(turned)[front].sum() > 2 * mantle.guessed(turned)[front].sum()


def test_texture_of_hair_goes_on_with_hair_alone():
    """Hair is a band of 30 px within a round outline: whatever is shown of it lies in that band, behind the rim's own first pixels."""
    y, x = np.mgrid[:512, :512] - 256.0
    signed = (200.0 - np.hypot(x, y)).astype(np.float32)
    strands = (signed > 0) & (signed < 30)
    angle = np.linspace(0, 2 * np.pi, 40)
    depth = np.repeat([0.5, 5.0, 11.0], len(angle))
    out = np.tile(np.stack([np.cos(angle), np.sin(angle)], -1), (3, 1))
    shown = 256 + out * (200.0 - depth[:, None])
    far_px, growth = np.linspace(0, 90, len(depth)), np.full(len(depth), 40.0)
    near, far, _ = guess_places(shown, depth, far_px, far_px, growth, signed, strands.astype(np.float32), 0)
    for places in (near, far):
        inside = 200.0 - np.hypot(*(places - 256).T)
        assert inside.min() > 3 and inside.max() < 33
    assert np.ptp(np.hypot(*(far - shown).T)) > 10


def test_a_dark_rim_of_hair_does_not_spread(astronaut_portrait):
    """Uncovered hair has the colour of what faced the viewer, for the light stays where it is."""
    y, x = np.mgrid[:512, :512]
    centre = astronaut_portrait.landmarks[:, :2].mean(0)
    head = (np.hypot(x - centre[0], y - centre[1]) < 150).astype(np.float32)
    signed = (150.0 - np.hypot(x - centre[0], y - centre[1])).astype(np.float32)
    picture = np.where((signed > 14)[..., None], (60.0, 90.0, 160.0), (10.0, 15.0, 30.0)).astype(np.float32)
    scene = np.full((512, 512, 3), 240, np.uint8)
    portrait = replace(astronaut_portrait, image=picture.astype(np.uint8), head_alpha=head, person_alpha=head, background=scene)
    plain = without_features(portrait, picture, np.zeros((512, 512), bool), head, signed)
    rim = (signed > 0) & (signed < 8) & (y < centre[1] - 100)
    assert plain.low[rim].mean(0)[2] > 90 and plain.strands[head == 0].max() == 0


def test_soft_hair_beyond_the_outline_is_guessed_with_the_outline(mantle, astronaut_portrait):
    """Left as it is, the photo's light rim would stand round a guess of another tone."""
    motion = astronaut_portrait.motion
    turned = mantle.guessed(replace(motion, rotation_rad=motion.rotation_rad + np.float32([0, 0.35, 0])))
    matte = astronaut_portrait.head_alpha[tuple(np.clip(mantle.pixels[:, ::-1], 0, 511).astype(int).T)]
    soft = (mantle.far == 0) & (matte > 0.02) & (matte < 0.5)
    assert soft.sum() > 100 and (turned[soft] > 0.5).mean() > 0.15


def test_heights_are_even(mantle, astronaut_portrait):
    """Neighbouring rows of the grid end at the same depth: turned, the edge between face and hair is no saw."""
    place, depth = posed(mantle, astronaut_portrait)
    inside = (mantle.far == 0) & ((place > 8) & (place < 504)).all(1) & (np.abs(place / 4 - np.round(place / 4)) < 1e-3).all(1)
    # The outline itself is round.
    deep = distance_px(astronaut_portrait.head_alpha < 0.9) > 24
    inside[inside] = deep[tuple(place[inside][:, ::-1].astype(int).T)]
    grid = np.full((129, 129), np.nan)
    column, row = np.round(place[inside] / 4).astype(int).T
    grid[row, column] = depth[inside]
    bend = np.abs(np.diff(grid, 2, axis=0))
    assert np.isfinite(bend).sum() > 1000 and np.nanquantile(bend, 0.99) < 0.03


def test_an_ear_at_the_border_does_not_come_twice(astronaut_portrait, open_head, surface, monkeypatch):
    def everywhere(portrait: PreparedPortrait, beside: np.ndarray, skin: np.ndarray) -> np.ndarray:
        return np.ones_like(beside)

    monkeypatch.setattr("triportrait.avatar.lifted.unseen_colours._ears_at_borders", everywhere)
    wide = np.maximum(astronaut_portrait.head_alpha, (np.indices((512, 512))[0] < 200).astype(np.float32))
    mantle = built(astronaut_portrait, open_head, surface, wide, False)
    place, _ = posed(mantle, astronaut_portrait)
    aside = np.abs(place[:, 0] - 256) - 256
    guessed = mantle.guessed(astronaut_portrait.motion) > 0.9
    assert guessed[aside > 4].all() and not guessed[(aside < -4) & (mantle.far == 0)].any()


def test_hair_is_covered_and_air_is_not_needed(mantle, astronaut_portrait):
    """Drawn in the photo's pose, sheet and face leave no pixel of the head bare."""
    pixels, depth = posed(mantle, astronaut_portrait)
    drawn = rasterise(pixels.astype(np.float32), depth.astype(np.float32), mantle.triangles, 512, 512).triangle >= 0
    hair = astronaut_portrait.head_alpha > 0.3
    top = int(astronaut_portrait.landmarks[10, 1]) - 4
    assert drawn[:top][hair[:top]].all()
    assert not drawn[:10, :10].any()


def test_depths_are_a_heads(mantle, astronaut_portrait):
    _, depth = posed(mantle, astronaut_portrait)
    near = nodes_of(mantle.triangles)
    assert np.isfinite(mantle.rest).all()
    assert np.ptp(depth[near]) < 2.5  # decimetres
    head = 10 - astronaut_portrait.motion.translation[2]
    assert np.abs(depth[near] - head).max() < 2.0


def test_a_resting_face_leaves_the_sheet_at_rest(mantle, person, open_head, astronaut_portrait):
    for sheet in (mantle, person):
        still = sheet.follow(np.zeros_like(open_head.mean), astronaut_portrait.motion)
        np.testing.assert_allclose(still, sheet.rest, atol=2e-5)


def test_a_turn_leaves_the_shoulders_in_place_and_no_neighbours_part(person, open_head, astronaut_portrait):
    """Between the head, which turns, and the body, which stays, every edge of the sheet keeps its length nearly."""
    motion = astronaut_portrait.motion
    turned = replace(motion, rotation_rad=motion.rotation_rad + np.float32([0, 0.35, 0]))
    nodes = person.follow(np.zeros_like(open_head.mean), turned)
    posed_now = pose_points(nodes, turned.rotation_rad, turned.translation)
    np.testing.assert_allclose(posed_now[person.share == 0], person.home[person.share == 0], atol=1e-4)
    head = person.share == 1
    np.testing.assert_allclose(posed_now[head], pose_points(person.rest, turned.rotation_rad, turned.translation)[head], atol=1e-4)
    assert 0.1 < head.mean() < 0.9 and (person.share == 0).mean() > 0.1
    edges = np.concatenate([person.triangles[:, pair] for pair in ([0, 1], [1, 2])])
    bent = edges[(person.share[edges] > 0).all(1) & (person.share[edges] < 1).all(1)]
    then, now = (np.linalg.norm(points[bent[:, 0]] - points[bent[:, 1]], axis=1) for points in (person.home, posed_now))
    assert len(bent) > 300 and np.quantile(now / then, 0.99) < 1.6


def test_the_body_goes_with_a_head_that_walks_away(person, open_head, astronaut_portrait):
    motion = astronaut_portrait.motion
    body = person.share == 0
    for way, least in ((0.05, 0.3), (3.0, 0.85)):
        walked = replace(motion, translation=motion.translation + np.float32([way, 0, 0]))
        nodes = person.follow(np.zeros_like(open_head.mean), walked)
        gone = (pose_points(nodes, walked.rotation_rad, walked.translation) - person.home)[body, 0]
        assert least * way < gone.min() and gone.max() < way


def test_the_sheet_follows_what_it_lies_beside(mantle, open_head, astronaut_portrait):
    assert mantle.weight.min() >= -1e-5 and mantle.weight.sum(1).max() <= 1 + 1e-4
    shift = np.float32((0.1, -0.2, 0.05))
    moved = mantle.follow(np.broadcast_to(shift, open_head.mean.shape), astronaut_portrait.motion) - mantle.rest
    np.testing.assert_allclose(moved, mantle.weight.sum(1, keepdims=True) * shift, atol=1e-5)
    assert np.linalg.norm(moved, axis=1).max() > 0.2  # beside the face it goes along
    assert not moved[mantle.far == 1].any()  # the far side stays


def test_indices_name_what_exists(mantle, open_head):
    for triangles in (mantle.triangles, mantle.far_triangles):
        assert triangles.dtype == np.int32 and triangles.min() >= 0 and triangles.max() < len(mantle.rest)
    assert mantle.corner.min() >= 0 and mantle.corner.max() < len(open_head.mean)
    assert mantle.pixels.min() >= -0.01 and mantle.pixels.max() <= 512.01


def test_a_cut_keeps_every_area_and_puts_its_nodes_on_the_line():
    rows, columns = 6, 7
    y, x = (v.ravel() for v in np.mgrid[:rows, :columns].astype(float))
    value = x + 0.37 * y - 3.1
    triangles = grid_triangles(rows, columns)
    pieces, parent, inside, ends, share = cut_triangles(triangles, value)
    points = np.stack([x, y], 1)
    both = np.concatenate([points, points[ends[:, 0]] * (1 - share[:, None]) + points[ends[:, 1]] * share[:, None]])

    def area(t):
        (ax, ay), (bx, by) = (both[t[:, 1]] - both[t[:, 0]]).T, (both[t[:, 2]] - both[t[:, 0]]).T
        return 0.5 * (ax * by - ay * bx)

    new = both[len(x) :]
    np.testing.assert_allclose(new[:, 0] + 0.37 * new[:, 1], 3.1, atol=1e-9)
    np.testing.assert_allclose(np.bincount(parent, area(pieces)), area(triangles), atol=1e-9)
    assert (np.sign(area(pieces)) == np.sign(area(triangles))[0]).all()
    middle = both[pieces].mean(1)
    np.testing.assert_array_equal(middle[:, 0] + 0.37 * middle[:, 1] > 3.1, inside)


def test_beyond_the_crop_only_what_the_border_cuts_goes_on():
    alpha = np.zeros((64, 64), np.float32)
    alpha[20:40, 30:] = 1.0
    alpha[5:10, 40:60] = 1.0
    wide = beyond_the_crop(alpha, 16)
    np.testing.assert_array_equal(wide[16:-16, 16:-16], alpha)
    beyond = wide[16:-16, -16:]
    assert beyond[20:40].any() and not beyond[:20].any() and not beyond[40:].any() and not wide[:, :16].any()
    assert (np.diff(beyond[30]) <= 0).all() and beyond[30].sum() > beyond[22].sum()
    body = beyond_the_crop(alpha, 16, body_row=19)[16:-16, -16:]
    assert body[20:40].all() and not body[:20].any()
    widening = beyond_the_crop(alpha, 16, body_row=34)[16:-16, -16:].sum(1)
    assert (np.diff(widening[26:40]) >= 0).all() and np.diff(widening[20:40]).max() <= 4 and widening[39] == 16
    cut = np.array([True] * 4 + [False] * 4 + [True] * 8 + [False] * 4)
    bows = _bows(np.repeat(cut[:, None], 3, 1).astype(np.float32), 3.0)
    assert bows[0] >= bows[3] > 0 and not bows[4:8].any() and 0 < bows[8:16].max() <= 3.0


@pytest.mark.parametrize("beyond", [10, 20, 60])
def test_a_round_head_that_the_border_cuts_goes_on_round(beyond: int) -> None:
    """What a circle has beyond the border is about what the cubic has, whether little of it is cut off or nearly half."""
    y, x = np.mgrid[:256, :256] + 0.5
    alpha = (np.hypot(x - 80 + beyond, y - 128) < 80).astype(np.float32)
    bows = _bows(alpha[:, :8], 200.0)
    assert bows.max() == pytest.approx(beyond, rel=0.4, abs=2)


def test_strands_go_on_beyond_the_border_in_their_direction() -> None:
    """Stripes that sink to the left do so beyond the left border, too, and stay as they are where nothing has a direction."""
    y, x = np.mgrid[:256, :256] + 0.5
    stripes = np.repeat((127 + 100 * np.sin((y + 0.6 * x) / 5))[..., None], 3, -1).astype(np.uint8)
    alpha = np.ones((256, 256), np.float32)
    at_x, at_y = np.meshgrid(np.arange(-18.0, 0.0), np.arange(60.0, 200.0))
    wanted = 127 + 100 * np.sin((at_y + 0.6 * at_x) / 5)

    def error(photo: Array | None) -> float:
        shown, _ = mirrored(at_x, at_y, alpha, photo)
        return float(np.abs(127 + 100 * np.sin((shown[..., 1] + 0.6 * shown[..., 0]) / 5) - wanted).mean())

    assert error(stripes) < 0.4 * error(None)
    even = np.full_like(stripes, 100)
    at_x, at_y = np.meshgrid(np.arange(-60.0, 316.0, 7.0), np.arange(-40.0, 360.0, 7.0))
    np.testing.assert_allclose(mirrored(at_x, at_y, alpha, even)[0], mirrored(at_x, at_y, alpha)[0], atol=1e-6)


def test_hanging_strands_change_their_direction_smoothly() -> None:
    """Where they lean to the right above and to the left below, no row is moved far from its neighbour."""
    y, x = np.mgrid[:256, :20] + 0.5
    hanging = np.repeat((127 + 100 * np.sin((x + 0.06 * (y - 128) ** 2 / 64) / 2))[..., None], 3, -1).astype(np.float32)
    slope = _strands(hanging)
    assert np.abs(np.diff(slope)).max() < 0.1 and np.abs(slope[120:136]).max() < 0.3


def test_hair_beyond_the_border_shows_hair(astronaut_portrait: PreparedPortrait) -> None:
    """Outline and picture go on alike: what is alive beyond the border is not taken from the scene."""
    size = 256
    y, x = np.mgrid[:size, :size] + 0.5
    alpha = (np.hypot(x - 20, y - 128) < 90).astype(np.float32)
    photo = np.repeat((127 + 100 * np.sin((y + 0.6 * x) / 5))[..., None], 3, -1).astype(np.uint8)
    wide = beyond_the_crop(alpha, 40, photo=photo)
    line = np.arange(-40, size + 40) + 0.5
    at_x, at_y = np.meshgrid(line, line)
    shown, _ = mirrored(at_x, at_y, alpha, photo)
    column, row = (np.clip(shown[..., c], 0, size - 1).astype(int) for c in (0, 1))
    alive = (wide > 0.5) & (at_x < 0)
    assert alive.sum() > 1000 and alpha[row, column][alive].min() > 0.5


def test_the_sheet_reaches_farther_where_the_border_cuts_a_head(astronaut_portrait: PreparedPortrait) -> None:
    size = len(astronaut_portrait.image)
    inside = np.zeros((size, size), np.float32)
    inside[20:, 60:-60] = 1.0
    cut = inside.copy()
    cut[80:120, :70] = 1.0
    assert _margin(inside, astronaut_portrait) < _margin(cut, astronaut_portrait)
    only_body = inside.copy()
    only_body[-1:, :] = 1.0
    assert _margin(only_body, astronaut_portrait) == _margin(inside, astronaut_portrait)


def test_a_guess_yields_to_better_skin(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    mantle = LiftedAvatar(open_head, whole_person=True).prepare(astronaut_portrait).mantle
    point = mantle.rest[:1]
    away = np.linalg.norm(mantle.rest - point, axis=1)
    behind = mantle.behind(point, 4.0)
    assert behind.yielding[0] == 4.0
    np.testing.assert_array_equal(behind.yielding[away > 0.6], mantle.yielding[away > 0.6])
    assert mantle.behind(point[:0], 4.0) is mantle


def test_a_jaw_that_opens_tears_no_sheet(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    """Beside the jaw hair does not open with it and neighbours move alike, whether jaw or neck is nearer to them."""
    avatar = LiftedAvatar(open_head, whole_person=True)
    state = avatar.prepare(astronaut_portrait)
    own = astronaut_portrait.motion
    expression = own.expression.copy()
    expression[open_head.expression_names.index("jawOpen")] = 1.0
    frame = replace(own, expression=expression)
    vertices = open_head.deform(state.shape, expression, own.gaze_rad)
    moved = state.mantle.follow(vertices - state.source, frame) - state.mantle.rest
    places, triangles = state.mantle.pixels, state.mantle.triangles
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    apart_px = np.linalg.norm(places[ends[:, 0]] - places[ends[:, 1]], axis=1)
    torn = np.linalg.norm(moved[ends[:, 0]] - moved[ends[:, 1]], axis=1)[apart_px > 2.0]
    assert np.linalg.norm(moved, axis=1).max() > 0.3
    assert torn.max() < 0.1
    far = np.linalg.norm(places[:, None] - astronaut_portrait.landmarks[OVAL, :2], axis=-1).min(1) > 60.0
    assert np.linalg.norm(moved[far], axis=1).max() < 0.004
