"""The lifted avatar on a real photograph: it reproduces the photo, has no holes, and moves only what it should."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.shading_kernels import INTERIOR, TEETH, soften_edges
from triportrait.composite.fusion import fuse
from triportrait.composite.torso import TorsoState, prepare_torso, warp_torso
from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.geometry.parts import PicturePart
from triportrait.types import ARKIT_EXPRESSIONS, Avatar, MotionFrame, PreparedPortrait, RenderedHead


@pytest.fixture(scope="module")
def avatar(open_head: OpenHead) -> LiftedAvatar:
    return LiftedAvatar(open_head)


@pytest.fixture(scope="module")
def state(avatar: LiftedAvatar, astronaut_portrait: PreparedPortrait) -> LiftedState:
    return avatar.prepare(astronaut_portrait)


@pytest.fixture(scope="module")
def torso(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> TorsoState:
    return prepare_torso(astronaut_portrait, open_head)


@pytest.fixture(scope="module")
def still(avatar: LiftedAvatar, state: LiftedState, astronaut_portrait: PreparedPortrait) -> RenderedHead:
    return avatar.render(state, astronaut_portrait.motion)


def moved(
    portrait: PreparedPortrait,
    *,
    turn_degrees: tuple[float, float, float] = (0, 0, 0),
    gaze_rad: tuple[float, float] = (0, 0),
    **curves: float,
) -> MotionFrame:
    """The photo's own motion, turned further, with gaze added and some curves set."""
    expression = portrait.motion.expression.copy()
    for name, value in curves.items():
        expression[ARKIT_EXPRESSIONS.index(name)] = value
    return replace(
        portrait.motion,
        expression=expression,
        rotation_rad=(portrait.motion.rotation_rad + np.radians(turn_degrees)).astype(np.float32),
        gaze_rad=(portrait.motion.gaze_rad + np.array(gaze_rad)).astype(np.float32),
    )


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray | slice = slice(None)) -> float:
    error = (a[where].astype(np.float64) - b[where].astype(np.float64)) ** 2
    return 10 * np.log10(255.0**2 / error.mean())


def eye_boxes(portrait: PreparedPortrait, grow: float) -> np.ndarray:
    """bool [s, s]: the boxes round both eyes, grown by so many eye widths."""
    boxes = np.zeros(portrait.image.shape[:2], bool)
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        low, high = portrait.landmarks[rim, :2].min(0), portrait.landmarks[rim, :2].max(0)
        margin = grow * (high - low)[0]
        (left, top), (right, bottom) = (low - margin).astype(int), (high + margin).astype(int)
        boxes[top : bottom + 1, left : right + 1] = True
    return boxes


def change(a: RenderedHead, b: RenderedHead) -> np.ndarray:
    """Squared difference [s, s] of two head layers."""
    return ((a.rgb - b.rgb) ** 2).sum(-1)


MOVES = {
    "still": {},
    "right": {"turn_degrees": (0, 20, 0)},
    "left": {"turn_degrees": (0, -20, 0)},
    "down": {"turn_degrees": (12, 0, 0)},
    "up": {"turn_degrees": (-12, 0, 0)},
    "tilt": {"turn_degrees": (0, 0, 15)},
    "talking": {"turn_degrees": (3, 8, -4), "jawOpen": 0.6, "mouthFunnel": 0.4},
    "laughing": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "jawOpen": 0.4, "eyeSquintLeft": 0.7, "eyeSquintRight": 0.7},
    "blinking": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "looking": {"gaze_rad": (0.2, -0.3)},
}


def test_it_is_an_avatar(avatar):
    assert isinstance(avatar, Avatar) and avatar.name == "lifted"


def test_the_photos_own_motion_gives_the_photo(astronaut_portrait, still, torso):
    portrait = astronaut_portrait
    picture = fuse(still, warp_torso(torso, portrait.motion), portrait.background)
    assert psnr(picture, portrait.image) > 30.0
    assert psnr(picture, portrait.image, portrait.head_alpha > 0.99) > 34.0
    assert np.median(np.abs(picture.astype(int) - portrait.image)) <= 1
    # The matte is the photo's where the head ends in the open.
    above_mouth = slice(0, int(portrait.landmarks[13, 1]))
    assert np.abs(still.alpha - portrait.head_alpha)[above_mouth].mean() < 0.01


@pytest.mark.parametrize("name", MOVES)
def test_every_frame_is_a_proper_layer(avatar, state, astronaut_portrait, name):
    layer = avatar.render(state, moved(astronaut_portrait, **MOVES[name]))
    size = astronaut_portrait.image.shape[0]
    assert layer.rgb.shape == (size, size, 3) and layer.alpha.shape == layer.depth.shape == (size, size)
    assert layer.rgb.dtype == layer.alpha.dtype == layer.depth.dtype == np.float32
    assert np.isfinite(layer.rgb).all() and np.isfinite(layer.alpha).all() and not np.isnan(layer.depth).any()
    assert layer.alpha.min() >= 0.0 and layer.alpha.max() <= 1.0 + 1e-6
    assert layer.rgb.min() >= 0.0 and (layer.rgb.max(-1) <= layer.alpha + 1e-3).all()  # premultiplied
    assert np.isfinite(layer.depth[layer.alpha > 0.9]).mean() > 0.98
    assert 0.7 < layer.alpha.sum() / state.portrait.head_alpha.sum() < 1.4


@pytest.mark.parametrize("name", MOVES)
def test_no_move_tears_a_hole(avatar, state, astronaut_portrait, name):
    from scipy.ndimage import binary_erosion, binary_fill_holes

    alpha = avatar.render(state, moved(astronaut_portrait, **MOVES[name])).alpha
    inside = binary_erosion(binary_fill_holes(alpha > 0.5), iterations=5)
    assert inside.sum() > 30_000
    assert (alpha[inside] < 0.5).sum() == 0


def test_a_turn_moves_the_nose_by_its_depth(avatar, state, astronaut_portrait, open_head):
    """The picture itself turns, not only the matte: the nose's patch is found again where geometry puts it."""
    import cv2

    from triportrait.geometry.cameras import pose_points, project

    portrait = astronaut_portrait
    frame = moved(portrait, turn_degrees=(0, 10, 0))
    grey = [cv2.cvtColor(layer, cv2.COLOR_RGB2GRAY) for layer in (avatar.render(state, f).rgb for f in (portrait.motion, frame))]
    tip = open_head.landmarks478(state.source)[[4]]
    before, after = (project(pose_points(tip, f.rotation_rad, f.translation), 512, portrait.focal)[0][0] for f in (portrait.motion, frame))
    assert after[0] - before[0] > 8
    x, y = before.astype(int)
    window = np.s_[y - 56 : y + 56, x - 56 : x + 56]
    match = cv2.matchTemplate(grey[1][window], grey[0][y - 24 : y + 24, x - 24 : x + 24], cv2.TM_CCOEFF_NORMED)
    _, best, _, place = cv2.minMaxLoc(match)
    assert best > 0.7
    assert np.linalg.norm(np.array(place) - 32 - (after - before)) < 4.0


def test_the_same_motion_gives_the_same_picture(avatar, state, astronaut_portrait, still):
    frame = moved(astronaut_portrait, **MOVES["talking"])
    first = avatar.render(state, frame)
    kept = first.rgb.copy()
    avatar.render(state, moved(astronaut_portrait, **MOVES["left"]))
    second = avatar.render(state, frame)
    np.testing.assert_array_equal(first.rgb, kept)  # a later frame does not overwrite an earlier one
    np.testing.assert_array_equal(second.rgb, first.rgb)
    np.testing.assert_array_equal(second.alpha, first.alpha)
    np.testing.assert_array_equal(avatar.render(state, astronaut_portrait.motion).rgb, still.rgb)


def arrays_of(value: object) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value]
    if is_dataclass(value):
        return [array for field in fields(value) for array in arrays_of(getattr(value, field.name))]
    return []


def test_a_part_is_what_the_whole_shows_there(avatar, state, astronaut_portrait):
    names, rest = avatar.head.expression_names, astronaut_portrait.motion
    expression = rest.expression.copy()
    expression[[names.index(name) for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")]] = (0.4, 0.5, 0.5)
    frame = replace(rest, expression=expression)
    whole = avatar.render(state, frame)
    points = astronaut_portrait.landmarks[:468, :2]
    middle, side = points.mean(0).astype(int), int(np.ptp(points, axis=0).max())
    left, top = int(middle[0]) - side // 2, int(middle[1]) - side // 2
    part = avatar.render_part(state, frame, PicturePart(left, top, side, side - 20))
    assert part.rgb.shape == (side - 20, side, 3) and part.alpha.shape == (side - 20, side)
    # The outermost pixels have no neighbours to be softened with, and folds of lips none to be filled from.
    inner = np.s_[2:-2, 2:-2]
    for name in ("rgb", "alpha"):
        there = getattr(whole, name)[top : top + side - 20, left : left + side]
        np.testing.assert_allclose(getattr(part, name)[inner], there[inner], atol=2e-3)


def test_without_its_mouth_a_part_is_the_same_round_the_lips(avatar, state, astronaut_portrait):
    frame = moved(astronaut_portrait, **MOVES["talking"])
    size = len(astronaut_portrait.image)
    part = PicturePart(0, 0, size, size)
    whole, bare = (avatar.render_part(state, frame, part, mouth=mouth) for mouth in (True, False))
    differs = np.abs(whole.rgb - bare.rgb).max(-1) > 1e-6
    lips = avatar.draw(state, frame).landmarks[OUTER_LIPS]
    rows, columns = np.nonzero(differs)
    assert len(rows) > 50
    assert (rows > lips[:, 1].min()).all() and (rows < lips[:, 1].max()).all()
    assert (columns > lips[:, 0].min()).all() and (columns < lips[:, 0].max()).all()


def test_nothing_that_is_handed_in_changes(avatar, astronaut_portrait):
    portrait_before = [array.copy() for array in arrays_of(astronaut_portrait)]
    state = avatar.prepare(astronaut_portrait)
    frame = moved(astronaut_portrait, **MOVES["talking"])
    state_before, frame_before = ([array.copy() for array in arrays_of(value)] for value in (state, frame))
    assert len(portrait_before) > 10 and len(state_before) > 20
    avatar.render(state, frame)
    for value, before in ((astronaut_portrait, portrait_before), (state, state_before), (frame, frame_before)):
        for now, then in zip(arrays_of(value), before, strict=True):
            np.testing.assert_array_equal(now, then)


def test_preparing_is_deterministic(avatar, state, astronaut_portrait):
    for now, then in zip(arrays_of(avatar.prepare(astronaut_portrait)), arrays_of(state), strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_blink_changes_the_eyes_alone(avatar, state, astronaut_portrait, still):
    shut = avatar.render(state, moved(astronaut_portrait, **MOVES["blinking"]))
    changed = change(still, shut)
    assert changed[eye_boxes(astronaut_portrait, 0.6)].sum() > 0.99 * changed.sum()
    # The irises are gone: what shows in their place differs, and is as even as skin.
    for iris in (468, 473):
        x, y = astronaut_portrait.landmarks[iris, :2].astype(int)
        patch = np.s_[y - 2 : y + 3, x - 2 : x + 3]
        assert (shut.rgb[patch].mean() - still.rgb[patch].mean()) > 0.15  # brown iris, light lid


def test_one_eye_blinks_alone(avatar, state, astronaut_portrait, still):
    changed = change(still, avatar.render(state, moved(astronaut_portrait, eyeBlinkLeft=1.0)))
    middle = int(astronaut_portrait.landmarks[168, 0])
    assert changed[:, middle:].sum() > 0.99 * changed.sum()  # the subject's left is image right


def test_gaze_changes_the_eyes_alone_and_moves_the_iris(avatar, state, astronaut_portrait, still):
    right = avatar.render(state, moved(astronaut_portrait, gaze_rad=(0.0, 0.3)))
    changed = change(still, right)
    assert changed[eye_boxes(astronaut_portrait, 0.4)].sum() > 0.99 * changed.sum()
    for iris, rim in ((473, EYE_LEFT_RIM), (468, EYE_RIGHT_RIM)):
        points = astronaut_portrait.landmarks[rim, :2]
        y = int(astronaut_portrait.landmarks[iris, 1])
        left, end = int(points[:, 0].min()), int(points[:, 0].max())
        dark = [np.clip(0.5 - layer.rgb[y - 1 : y + 2, left:end].mean((0, 2)), 0, None) for layer in (still, right)]
        centre = [(row * np.arange(len(row))).sum() / row.sum() for row in dark]
        assert centre[1] > centre[0] + 1.0


def test_the_jaw_changes_the_lower_face_alone(avatar, state, astronaut_portrait, still):
    changed = change(still, avatar.render(state, moved(astronaut_portrait, jawOpen=0.8)))
    nose = int(astronaut_portrait.landmarks[4, 1])
    assert changed[:nose].sum() < 0.03 * changed.sum()
    assert changed.sum() > 50


def test_hair_goes_along_with_raised_brows(avatar, state, astronaut_portrait, still):
    """The mantle follows the face it lies beside, and lies still far from it."""
    import cv2

    raised = avatar.render(state, moved(astronaut_portrait, browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0))
    face = np.zeros((512, 512), np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.round(astronaut_portrait.landmarks[:468, :2]).astype(np.int32))[:, 0], 1)
    from_face = cv2.distanceTransform(1 - face, cv2.DIST_L2, 5)
    changed = np.sqrt(change(still, raised))
    beside, far = (from_face > 4) & (from_face < 20), from_face > 90
    above = np.arange(512)[:, None] < astronaut_portrait.landmarks[10, 1]
    assert changed[beside & above].mean() > 0.02
    assert changed[far].mean() < 0.002


def test_an_opened_mouth_shows_its_dark_inside(avatar, state, astronaut_portrait):
    upper, lower = astronaut_portrait.landmarks[13, :2], astronaut_portrait.landmarks[14, :2]
    layers = [avatar.render(state, moved(astronaut_portrait, jawOpen=value, mouthSmileLeft=0, mouthSmileRight=0)) for value in (0.0, 1.0)]
    column = int(0.5 * (upper[0] + lower[0]))
    below = np.s_[int(upper[1]) : int(upper[1]) + 60, column - 8 : column + 8]
    assert layers[1].rgb[below].mean((1, 2)).min() < layers[0].rgb[below].mean((1, 2)).min() - 0.1


def test_the_state_holds_the_photo(state, astronaut_portrait):
    solid = astronaut_portrait.person_alpha == 1.0
    np.testing.assert_array_equal(state.photo[solid][:, :3], astronaut_portrait.image[solid])
    np.testing.assert_array_equal(state.photo[..., 3], astronaut_portrait.head_alpha)


def soften(rgb: np.ndarray, alpha: np.ndarray, surface: np.ndarray, depth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    soft_rgb, soft_alpha = rgb.copy(), alpha.copy()
    soften_edges(soft_rgb, soft_alpha, surface, np.full(alpha.shape, 10.0, np.float32) if depth is None else depth)
    return soft_rgb, soft_alpha


def test_soften_edges_leaves_flat_regions_as_they_are():
    rng = np.random.default_rng(2)
    rgb = rng.uniform(0, 1, (20, 30, 3)).astype(np.float32)
    alpha, surface = np.ones((20, 30), np.float32), np.ones((20, 30), np.uint8)
    soft_rgb, soft_alpha = soften(rgb, alpha, surface)
    np.testing.assert_array_equal(soft_rgb, rgb)
    np.testing.assert_array_equal(soft_alpha, alpha)
    # A gentle slope of the matte (hair) is no edge.
    slope = np.broadcast_to(np.linspace(0, 1, 30, dtype=np.float32), (20, 30)).copy()
    np.testing.assert_array_equal(soften(rgb, slope, surface)[1], slope)


def test_soften_edges_smooths_steps_and_only_them():
    rgb = np.zeros((20, 30, 3), np.float32)
    alpha, surface = np.zeros((20, 30), np.float32), np.zeros((20, 30), np.uint8)
    rgb[:, 15:], alpha[:, 15:], surface[:, 15:] = 0.8, 1.0, 1
    soft_rgb, soft_alpha = soften(rgb, alpha, surface)
    np.testing.assert_allclose(soft_alpha[5:-5, 13:17], np.broadcast_to([0, 0.25, 0.75, 1], (10, 4)), atol=1e-6)
    np.testing.assert_allclose(soft_rgb, soft_alpha[..., None] * np.float32([0.8] * 3), atol=1e-6)
    np.testing.assert_array_equal(soft_alpha[:, :13], alpha[:, :13])
    np.testing.assert_array_equal(soft_alpha[:, 17:], alpha[:, 17:])
    # Two surfaces of the same matte meet: their colours blend.
    rgb = np.where(np.arange(30)[None, :, None] < 15, np.float32(0.2), np.float32(0.6)) * np.ones((20, 1, 3), np.float32)
    surface = np.where(surface == 0, np.uint8(1), np.uint8(3))
    soft_rgb, soft_alpha = soften(rgb, np.ones_like(alpha), surface)
    assert (soft_alpha == 1).all()
    np.testing.assert_allclose(soft_rgb[5:-5, 13:17, 0], np.broadcast_to([0.2, 0.3, 0.5, 0.6], (10, 4)), atol=1e-6)
    # So do those of two parts of one surface, of which one hides the other.
    same = np.ones_like(surface)
    np.testing.assert_array_equal(soften(rgb, np.ones_like(alpha), same)[0], rgb)
    depth = np.where(np.arange(30) < 15, np.float32(10.0), np.float32(10.2)) * np.ones((20, 1), np.float32)
    np.testing.assert_allclose(soften(rgb, np.ones_like(alpha), same, depth)[0], soft_rgb, atol=1e-6)


def test_soften_edges_is_the_tent_where_anything_ends():
    """Row by row in place as from a copy; what lies between two sheets becomes the mean of the head round it."""
    rng = np.random.default_rng(5)
    alpha = np.where(rng.uniform(size=(24, 31)) < 0.1, 0.2, 1.0).astype(np.float32)
    rgb = (rng.uniform(0, 1, (24, 31, 3)) * alpha[..., None]).astype(np.float32)
    surface = (rng.uniform(size=alpha.shape) < 0.05).astype(np.uint8)
    around = np.lib.stride_tricks.sliding_window_view
    patches, mattes, kinds = (around(a, (3, 3), (0, 1)) for a in (rgb, alpha, surface))
    tent = np.outer([1, 2, 1], [1, 2, 1]) / 16
    jumps, ends = np.ptp(mattes, (2, 3)) > 0.4, np.ptp(kinds, (2, 3)) > 0
    solid = mattes > 0.9
    between = jumps & (mattes[..., 1, 1] < 0.9) & (solid.sum((2, 3)) >= 5)
    blurred = (patches * tent).sum((3, 4))
    mean = (patches * solid[:, :, None]).sum((3, 4)) / np.maximum(solid.sum((2, 3)), 1)[..., None]
    plain_rgb, plain_alpha = rgb.copy(), alpha.copy()
    plain_rgb[1:-1, 1:-1] = np.where(between[..., None], mean, np.where((jumps | ends)[..., None], blurred, rgb[1:-1, 1:-1]))
    plain_alpha[1:-1, 1:-1] = np.where(between, 1, np.where(jumps | ends, (mattes * tent).sum((2, 3)), alpha[1:-1, 1:-1]))
    soft_rgb, soft_alpha = soften(rgb, alpha, surface)
    np.testing.assert_allclose(soft_rgb, plain_rgb, atol=1e-6)
    np.testing.assert_allclose(soft_alpha, plain_alpha, atol=1e-6)


@pytest.mark.parametrize("yaw_deg", [-25, 0, 25])
def test_the_mouths_inside_shows_between_the_lips_alone(avatar, state, astronaut_portrait, yaw_deg):
    """No gap in the skin's mesh shows it through a cheek."""
    motion = astronaut_portrait.motion
    drawn = avatar.draw(state, replace(motion, rotation_rad=motion.rotation_rad + np.float32([0, np.radians(yaw_deg), 0]), landmarks=None))
    inside = np.isin(drawn.surface, (1 + INTERIOR, 1 + TEETH))
    lips = drawn.landmarks[OUTER_LIPS]
    row, column = np.nonzero(inside)
    low, high = lips.min(0) - 9, lips.max(0) + 9
    assert ((column > low[0]) & (column < high[0]) & (row > low[1]) & (row < high[1])).all()
