"""The dual field in the pipeline: the photo at its own pose, a still torso, a neck of both fields, and nothing torn between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.dual_field.skinning import skinning
from triportrait.avatar.dual_field.static_field import StaticField
from triportrait.avatar.lifted.neck import belonging, optical_depth
from triportrait.avatar.lifted.surface import fit_surface
from triportrait.geometry.body import body_motion, body_pivot
from triportrait.geometry.cameras import project
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.model import AVATARS
from triportrait.types import Avatar, MotionFrame


@pytest.fixture(scope="module")
def model(open_head):
    return AVATARS["dual_field"](open_head)


@pytest.fixture(scope="module")
def state(model, astronaut_portrait):
    return model.prepare(astronaut_portrait)


@pytest.fixture(scope="module")
def share(open_head, astronaut_portrait):
    return skinning(astronaut_portrait, open_head, fit_surface(astronaut_portrait, open_head))


def turned(portrait, pitch_deg: float, yaw_deg: float) -> MotionFrame:
    turn = np.radians((pitch_deg, yaw_deg, 0)).astype(np.float32)
    return replace(portrait.motion, rotation_rad=portrait.motion.rotation_rad + turn, landmarks=None)


def below_chin(portrait, heights: float) -> np.ndarray:
    """Rows of an upright portrait that lie so many heights of the face below the chin, bool [s]."""
    chin, top = portrait.landmarks[CHIN, 1], portrait.landmarks[FOREHEAD_TOP, 1]
    return np.arange(len(portrait.image)) > chin + heights * (chin - top)


def test_it_is_an_avatar_of_the_whole_person(model) -> None:
    assert isinstance(model.avatar, Avatar) and model.avatar.name == "dual_field" and model.avatar.whole_person


def test_the_photos_own_motion_gives_the_photo(model, state, astronaut_portrait) -> None:
    picture, layer = model.step(state, astronaut_portrait.motion)
    person = astronaut_portrait.person_alpha > 0.99
    assert -10 * np.log10(np.square(picture.astype(float) - astronaut_portrait.image)[person].mean() / 255**2) > 30
    assert (layer.alpha[person] < 0.97).mean() < 0.003
    # Torso and collar are the photo's own pixels.
    below = person & below_chin(astronaut_portrait, 0.5)[:, None]
    assert np.abs(picture.astype(int) - astronaut_portrait.image)[below][1:-1].mean() < 0.5


@pytest.mark.parametrize("yaw", [-25, 25])
def test_what_lies_below_the_collar_stands_still(model, state, astronaut_portrait, yaw) -> None:
    below = (astronaut_portrait.person_alpha > 0.5) & below_chin(astronaut_portrait, 0.5)[:, None]
    rest, away = (model.step(state, turned(astronaut_portrait, 0, angle))[0].astype(int) for angle in (0, yaw))
    assert (np.abs(away - rest).max(-1)[below] <= 1).mean() == 1.0


@pytest.mark.parametrize(("pitch", "yaw"), [(0, 0), (12, 0), (-12, 0), (0, 45), (0, -45)])
def test_every_frame_is_a_proper_layer_without_a_hole_at_the_neck(model, state, astronaut_portrait, pitch, yaw) -> None:
    frame = turned(astronaut_portrait, pitch, yaw)
    layer = model.avatar.render(state.avatar, frame)
    assert np.isfinite(layer.rgb).all() and layer.rgb.dtype == np.float32
    assert layer.rgb.min() >= 0 and (layer.rgb.max(-1) <= layer.alpha + 2e-3).all()
    np.testing.assert_array_equal(layer.rgb, model.avatar.render(state.avatar, frame).rgb)
    # Under the middle of the chin, down to the collar, nothing of the scene shows.
    column = int(astronaut_portrait.landmarks[CHIN, 0])
    rows = slice(int(astronaut_portrait.landmarks[CHIN, 1]) - 20, len(layer.alpha))
    assert layer.alpha[rows, column].min() > 0.95


def test_a_neck_moves_less_the_farther_it_lies_below_the_jaw(share, astronaut_portrait) -> None:
    points = astronaut_portrait.landmarks
    nose, chin = points[4, :2].astype(int), points[CHIN, :2].astype(int)
    pit = int(body_pivot(points)[1])
    assert share[nose[1], nose[0]] == pytest.approx(1, abs=1e-3) and share[pit + 20 :, chin[0]].max() < 1e-6
    middle = share[chin[1] : pit, chin[0]]
    assert (np.diff(middle) < 0.01).all() and middle[0] > 0.5 and 0.1 < middle[len(middle) // 2] < 0.9


def test_a_neck_bends_between_the_models_skinning_and_an_even_membrane(open_head, share, astronaut_portrait) -> None:
    surface = fit_surface(astronaut_portrait, open_head)
    covered = surface.fragments.triangle >= 0
    corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
    own = 1 - (open_head.neck[corners] * surface.fragments.barycentric).sum(-1)
    skin = covered & (own > 0.1) & (own < 0.9) & (share > 0) & below_chin(astronaut_portrait, 0.0)[:, None]
    # Half of the model's weight is there at least, and no more than if the membrane moved with the head altogether.
    assert skin.sum() > 200 and ((share >= 0.5 * own - 0.06) & (share <= 0.5 * own + 0.56))[skin].mean() > 0.97


def test_the_neck_belongs_to_both_fields(state, share, astronaut_portrait) -> None:
    # What is not painted behind the head is shared out: both optical depths together are the photo's.
    head, static = state.avatar.head.lifted.photo[..., 3], state.avatar.static.layer[..., 3]
    part = belonging(share)
    both = (part > 0.05) & (part < 0.3) & (astronaut_portrait.person_alpha > 0.99)
    assert both.sum() > 50
    whole = optical_depth(astronaut_portrait.person_alpha)
    assert (optical_depth(head) + optical_depth(static) >= whole - 0.05)[both].all()
    np.testing.assert_allclose(optical_depth(head)[both], (part * whole)[both], atol=0.02)


@pytest.mark.parametrize("body", [None, (0.2, -0.1, 0.05, 0.1), (0.0, 0.0, 0.0, 0.0)])
def test_the_static_field_moves_with_the_body_as_any_other_point_of_it(state, astronaut_portrait, body) -> None:
    static: StaticField = state.avatar.static
    size, source = len(astronaut_portrait.image), astronaut_portrait.motion
    frame = replace(source, translation=source.translation + np.float32([0.3, -0.2, 0.1]), body=None if body is None else np.array(body))
    place = np.array([[120.0, 400.0], [300.0, 480.0], [256.0, 256.0]])
    away = 10 - float(source.translation[2])
    point = np.concatenate([(place - size / 2) * (1, -1) * away / static.focal_px, np.full((3, 1), 10 - away)], 1)
    pivot = (body_pivot(astronaut_portrait.landmarks) - size / 2) / static.focal_px
    motion = body_motion(frame, source, pivot)
    there, _ = project(point @ motion[:, :3].T + motion[:, 3], size, astronaut_portrait.focal)
    back = static.back(frame)
    np.testing.assert_allclose(there @ back[:, :2].T + back[:, 2], place, atol=0.05)


@pytest.mark.parametrize("lean_dm", [-0.8, 0.8])
def test_a_head_that_leans_is_not_drawn_over_by_its_neck(model, state, astronaut_portrait, lean_dm) -> None:
    rest = astronaut_portrait.motion
    frame = replace(rest, translation=rest.translation + np.float32([0, 0, lean_dm]), landmarks=None)
    layer, head = model.avatar.render(state.avatar, frame), model.avatar.head.render(state.avatar.head, frame)
    solid = (head.alpha > 0.9995) & (np.arange(len(head.alpha)) < astronaut_portrait.landmarks[CHIN, 1] - 10)[:, None]
    assert solid.sum() > 5000 and np.abs(layer.rgb - head.rgb)[solid].max() < 0.02


def test_a_covered_mouth_is_not_painted(model, state) -> None:
    assert state.avatar.head.mouth is not None and model.with_still_mouth(state).avatar.head.mouth is None
