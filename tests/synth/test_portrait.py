"""Laws of the synthetic head: linear targets, fitted parts on the skin, closed subdivision, light, equal seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triportrait.synth import shade, surface
from triportrait.synth.hair import HairStyle, hairline_distance
from triportrait.synth.makehuman import Macro, MakeHuman, Posture
from triportrait.synth.portrait import Light, Person, build_scene, develop, load_hdri
from triportrait.synth.render import View, render


@pytest.fixture(scope="module")
def assets(shared: Path) -> MakeHuman:
    return MakeHuman(shared / "data" / "makehuman")


def _cube() -> surface.Mesh:
    corners = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    faces = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    return surface.Mesh(corners, faces, corners[:, :2], faces)


def test_targets_add_linearly(assets: MakeHuman) -> None:
    one, two = "head/head-oval", "nose/nose-hump-incr"
    base = assets.shape({})
    both = assets.shape({one: 0.4, two: -0.7})
    expected = base + 0.4 * (assets.shape({one: 1.0}) - base) - 0.7 * (assets.shape({two: 1.0}) - base)
    np.testing.assert_allclose(both, expected, atol=1e-9)


def test_macro_weights_sum_to_one_person(assets: MakeHuman) -> None:
    weights = Macro(caucasian=0.6, asian=0.4, male=0.3, old=0.2, muscle=0.7, weight=0.4).weights()
    assert set(weights) <= set(assets.target_names)
    for family in ("universal", "races"):
        total = sum(v for k, v in weights.items() if ("universal" in k) == (family == "universal"))
        assert total == pytest.approx(1.0)


@pytest.mark.parametrize("proxy", ["eyes.high-poly", "eyebrows.eyebrow001", "eyelashes.eyelashes01", "hair.short01"])
def test_fitted_parts_follow_the_head(assets: MakeHuman, proxy: str) -> None:
    vertices = assets.shape(Macro(male=1.0).weights())
    moved = assets.fit(proxy, vertices + (0.1, -0.2, 0.3)).vertices
    np.testing.assert_allclose(moved, assets.fit(proxy, vertices).vertices + (0.1, -0.2, 0.3), atol=1e-4)
    from scipy.spatial import cKDTree

    gap, _ = cKDTree(vertices).query(moved - (0.1, -0.2, 0.3))
    assert np.median(gap) < 0.12  # decimetres


def test_posture_leaves_a_resting_body_alone(assets: MakeHuman) -> None:
    vertices = assets.shape(Macro().weights())
    joints = {name: assets.joint(vertices, name) for name in ("l-shoulder", "r-shoulder", "neck")}
    np.testing.assert_allclose(Posture(arms_down_rad=0.0).apply(vertices, joints), vertices, atol=1e-12)
    turned = Posture(arms_down_rad=0.0, head_rad=(0.0, 0.2, 0.0)).apply(vertices, joints)
    crown, feet = vertices[:, 1].argmax(), vertices[:, 1] < 0.0
    np.testing.assert_allclose(turned[feet], vertices[feet], atol=1e-12)
    radius = np.linalg.norm((turned - joints["neck"])[crown])
    assert radius == pytest.approx(np.linalg.norm((vertices - joints["neck"])[crown]))


def test_subdivision_rounds_a_cube_and_keeps_it_closed() -> None:
    mesh = surface.subdivide(surface.subdivide(_cube()))
    assert mesh.faces.shape == (96, 4)
    _, uses = np.unique(np.sort(np.stack([mesh.faces, np.roll(mesh.faces, -1, 1)], -1).reshape(-1, 2), 1), axis=0, return_counts=True)
    assert (uses == 2).all()
    assert np.linalg.norm(mesh.vertices, axis=1).max() < 1.2
    np.testing.assert_allclose(mesh.vertices.mean(0), 0.0, atol=1e-12)
    flat = surface.subdivide(_cube(), smooth=False)
    assert np.abs(flat.vertices).max(1) == pytest.approx(1.0)


def test_light_under_an_even_sky_is_pi_and_a_roof_halves_it() -> None:
    environment = shade.Environment.build(np.ones((64, 128, 3)), 0.0)
    directions, radiance = environment.directions(4000, np.random.default_rng(0))
    roof = np.array([[0.0, 1.0, -99.0], [0.0, 1.0, 99.0], [199.0, 1.0, 0.0]])
    away = surface.Occluders.build(roof + (0.0, -50.0, 0.0), np.array([[0, 1, 2]]), np.ones(1))
    near = surface.Occluders.build(roof * (1.0, 0.01, 1.0), np.array([[0, 1, 2]]), np.ones(1))
    point, up = np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]])
    lit, bare, _ = surface.gather_light(point, up, directions, radiance, away)
    np.testing.assert_allclose(lit, np.pi, rtol=0.03)
    np.testing.assert_allclose(bare, lit)
    lit, _, _ = surface.gather_light(point, up, directions, radiance, near)
    np.testing.assert_allclose(lit, 0.5 * np.pi, rtol=0.06)


def test_scattering_keeps_even_light_and_spreads_red_furthest() -> None:
    mesh = surface.subdivide(surface.subdivide(surface.subdivide(_cube())))
    triangles, _ = mesh.triangles()
    even = np.ones((len(mesh.vertices), 3))
    np.testing.assert_allclose(shade.scatter(even, mesh.vertices, triangles, (0.5, 0.2, 0.1)), 1.0)
    spot = np.zeros_like(even)
    spot[0] = 1.0
    left = shade.scatter(spot, mesh.vertices, triangles, (0.2, 0.1, 0.05))[0]
    assert left[0] < left[1] < left[2] < 1.0


def test_hairline_has_scalp_above_and_face_below() -> None:
    pixels = np.array([[150.0, 600.0], [150.0, 876.0], [455.0, 650.0], [600.0, 738.0], [100.0, 300.0]])
    uv = np.stack([(pixels[:, 0] + 1264.0) / 2048.0, 1.0 - (pixels[:, 1] + 320.0) / 2048.0], -1)
    np.testing.assert_array_equal(hairline_distance(uv) > 0.0, [True, True, False, False, True])


def test_rendering_is_deterministic_and_shows_a_lit_head(assets: MakeHuman, shared: Path) -> None:
    person = Person(
        macro=Macro(male=1.0),
        details={},
        skin="young_lightskinned_male",
        eyes="blue",
        brows="eyebrow001",
        lashes="eyelashes01",
        clothes="male_casualsuit04",
        hair=HairStyle(strands=1500),
    )
    hdri = load_hdri(shared / "data" / "hdri" / "hdri_512x256.npz", "lobby")
    view = View((0.0, 7.2, 14.0), (96, 96), 260.0)

    def photograph(who: Person) -> np.ndarray:
        rng = np.random.default_rng(4)
        scene = build_scene(assets, hdri, who, Light("lobby"), view, rng, light_samples=24, levels=0)
        radiance, cover = render(scene, view, 2, rng)
        assert np.isfinite(radiance).all()
        assert cover[48, 48] == 1.0 and cover[2, 2] == 0.0
        return develop(radiance, rng, 0.4 / float(np.median(radiance[40:56, 40:56])))

    first = photograph(person)
    np.testing.assert_array_equal(photograph(person), first)
    blond = photograph(replace(person, hair=HairStyle(strands=1500, colour=(0.5, 0.4, 0.2))))
    assert np.abs(blond.astype(int) - first).mean() > 0.5
    assert 60 < first[40:56, 40:56].mean() < 220
