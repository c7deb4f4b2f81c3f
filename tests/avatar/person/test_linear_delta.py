"""What a person's pictures lack: found again where it is there, left out where it is noise, and never outside the head layer."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.person.avatar import PersonAvatar
from triportrait.avatar.person.head_space import HeadSpace
from triportrait.avatar.person.learning import learn_delta
from triportrait.avatar.person.linear_delta import DrawnDelta, Residuals, delta_features, fit_linear_delta
from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import CHIN
from triportrait.types import Array, Motion, MotionFrame, PersonalDelta, PreparedPortrait

SIDE = 48


@pytest.fixture(scope="module")
def person(open_head: OpenHead) -> PersonAvatar:
    return PersonAvatar(LiftedAvatar(open_head, whole_person=True))


@pytest.fixture(scope="module")
def turned(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> MotionFrame:
    own = astronaut_portrait.motion
    expression = own.expression.copy()
    expression[open_head.expression_names.index("jawOpen")] = 0.5
    rotation = own.rotation_rad + np.radians((2.0, 9.0, 1.0)).astype(np.float32)
    return replace(own, expression=expression, rotation_rad=rotation, landmarks=None)


def made_up(noise: float, random: np.random.Generator, count: int = 120) -> tuple[Residuals, Array]:
    """Residuals that are a picture, and another times the first number of the motion; and those without noise."""
    features = random.standard_normal((count, 6))
    features[:, 0] = np.sin(np.arange(count) / 4.0)
    first, second = (np.zeros((SIDE, SIDE, 3), np.float32) for _ in range(2))
    first[10:30, 10:40] = (12.0, -8.0, 4.0)
    second[20:36, 12:36] = (-20.0, 10.0, 6.0)
    truth = (first + features[:, 0, None, None, None] * second).astype(np.float32)
    noisy = truth + noise * random.standard_normal(truth.shape).astype(np.float32)
    return Residuals(noisy, np.ones((count, SIDE, SIDE), bool), features, features), truth


def drawn(delta: PersonalDelta, features: Array) -> Array:
    coefficients = np.clip(delta.weights @ np.append(features, 1.0), delta.lowest, delta.highest)
    pictures = (delta.pictures.astype(np.float32) - 128.0) * delta.level[:, None, None, None]
    return np.tensordot(coefficients, pictures, 1)


def test_what_motion_explains_is_found_again() -> None:
    seen, truth = made_up(4.0, np.random.default_rng(0))
    delta = fit_linear_delta(seen)
    assert delta is not None
    inner = np.s_[6:-6, 6:-6]
    for row in (3, 50, 101):
        left = drawn(delta, seen.features[row])[inner] - truth[row][inner]
        assert np.abs(left).mean() < 0.15 * np.abs(truth[row][inner]).mean()


def test_what_no_motion_explains_is_left_out() -> None:
    random = np.random.default_rng(1)
    noise = 8.0 * random.standard_normal((120, SIDE, SIDE, 3)).astype(np.float32)
    seen = Residuals(noise, np.ones((120, SIDE, SIDE), bool), random.standard_normal((120, 20)), np.zeros((120, 1)))
    delta = fit_linear_delta(seen)
    if delta is not None:
        changes = np.stack([drawn(delta, row) for row in seen.features])
        assert np.abs(changes).mean() < 0.02 * np.abs(noise).mean()
    assert fit_linear_delta(replace(seen, differences=np.zeros_like(noise))) is None


def test_the_heads_own_picture_knows_the_frame_and_the_frame_knows_it(
    astronaut_portrait: PreparedPortrait, person: PersonAvatar, turned: MotionFrame
) -> None:
    state = person.prepare(astronaut_portrait)
    space = HeadSpace.of(person.head, state.sources[0].state, 128)
    places, seen = space.places(turned, 256)
    pixels, shown = space.pixels(turned, 256)
    assert 0.3 < shown.mean() < 0.9 and 0.05 < seen.mean() < 0.5
    rows, columns = np.nonzero(shown)
    x, y = (np.clip(pixels[rows, columns, axis].astype(int), 0, 255) for axis in (0, 1))
    met = seen[y, x]
    there = places[y[met], x[met]]
    away = np.linalg.norm(there - np.stack([columns[met], rows[met]], 1) - 0.5, axis=1)
    assert met.sum() > 4000 and np.median(away) < 0.6 and np.quantile(away, 0.95) < 2.5


def test_nothing_outside_the_head_layer_changes(astronaut_portrait: PreparedPortrait, person: PersonAvatar, turned: MotionFrame) -> None:
    """Even a change of every place by half of all levels leaves alpha, the scene and the shoulders as they are."""
    count = len(delta_features(turned, np.ones((3, 1))))
    pictures = np.full((1, 64, 64, 3), 255, np.uint8)
    weights = np.zeros((1, count + 1), np.float32)
    weights[0, -1] = 1.0
    one = np.ones(1, np.float32)
    delta = PersonalDelta(pictures, one, weights, one, one)
    plain = person.render(person.prepare(astronaut_portrait), turned)
    changed = person.render(person.prepare(replace(astronaut_portrait, delta=delta)), turned)
    np.testing.assert_array_equal(plain.alpha, changed.alpha)
    differs = np.abs(plain.rgb - changed.rgb).max(-1) > 0
    assert differs.any() and not differs[plain.alpha == 0].any()
    below = int(astronaut_portrait.landmarks[CHIN, 1]) + 90
    assert plain.alpha[below:].mean() > 0.3 and not differs[below:].any()
    assert (changed.rgb <= changed.alpha[..., None]).all() and (changed.rgb >= 0).all()


def test_a_tint_of_the_head_is_learned_from_frames(astronaut_portrait: PreparedPortrait, person: PersonAvatar, open_head: OpenHead) -> None:
    own, count = astronaut_portrait.motion, 100
    rotation = np.repeat(own.rotation_rad[None], count, 0).astype(np.float32)
    rotation[:, 1] += 0.12 * np.sin(np.arange(count) / 8.0)
    motion = Motion(
        np.repeat(own.expression[None], count, 0),
        rotation,
        np.repeat(own.translation[None], count, 0),
        np.repeat(own.gaze_rad[None], count, 0),
        head_model=open_head.name,
    )
    portrait = replace(astronaut_portrait, photo=astronaut_portrait.image, crop_box=(0.0, 0.0, float(len(astronaut_portrait.image))))
    state = person.prepare(portrait)

    def crops(wanted):
        for row in sorted(wanted):
            layer = person.render(state, motion[row])
            yield row, np.clip(255.0 * layer.rgb + (20.0, -14.0, 0.0) * layer.alpha[..., None] + 0.5, 0, 255).astype(np.uint8)

    # A video that gives next to nothing when it is read again teaches nothing.
    for few in (0, 3):
        assert learn_delta(person, portrait, lambda wanted, few=few: islice(crops(wanted), few), motion, np.ones(count, bool)) is None
    delta = learn_delta(person, portrait, crops, motion, np.ones(count, bool))
    assert delta is not None
    space = HeadSpace.of(open_head, state.sources[0].state, delta.pictures.shape[1])
    change = 255.0 * DrawnDelta(space, delta).picture(motion[10], np.ones((3, 1)))
    middle = change[len(change) // 2 - 8 : len(change) // 2 + 8, len(change) // 2 - 8 : len(change) // 2 + 8]
    np.testing.assert_allclose(middle.mean((0, 1)), (20.0, -14.0, 0.0), atol=2.0)
