"""Laws of rendering near a surface: twins of the numpy geometry, and sums that keep their light."""

from __future__ import annotations

import numpy as np
import torch

from triportrait.avatar.oneshot import volume as ns
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rotations import matrix_from_euler

SOURCE = torch.tensor([[0.1, -0.2, 0.05]]), torch.tensor([[0.1, 0.05, -5.0]])
TARGET = torch.tensor([[-0.1, 0.2, 0.0]]), torch.tensor([[0.0, 0.1, -4.0]])


def test_rotations_equal_their_numpy_twin() -> None:
    angles = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    np.testing.assert_allclose(ns.rotation_matrix(torch.from_numpy(angles)).numpy(), matrix_from_euler(angles), atol=1e-12)


def test_a_head_point_is_met_where_the_photo_shows_it() -> None:
    """A point of the head, seen by the target's ray at its depth, must arrive where the source camera projects it."""
    head = np.random.default_rng(1).uniform(-0.5, 0.5, (7, 3))
    pixels, depth = project(pose_points(head, TARGET[0][0].numpy(), TARGET[1][0].numpy()), 1.0)
    places = torch.from_numpy(pixels - 0.5).float()[None]
    points = ns.carry_to_source(places, torch.from_numpy(depth).float()[None, :, None], TARGET, SOURCE, 1.6)[0, :, 0].numpy()
    expected, away = project(pose_points(head, SOURCE[0][0].numpy(), SOURCE[1][0].numpy()), 1.0)
    np.testing.assert_allclose(points[:, :2], 2 * expected - 1, atol=1e-4)
    np.testing.assert_allclose(points[:, 2], (away - 15.0) / 1.6, atol=1e-4)


def test_places_are_pixel_centres_and_patches_are_cut_from_them() -> None:
    whole = ns.pixel_places(8).view(8, 8, 2)
    assert whole[0, 0].tolist() == [0.5 / 8 - 0.5] * 2 and (whole + whole.flip(0, 1)).abs().max() < 1e-6
    torch.testing.assert_close(ns.pixel_places(8, slice(2, 4), slice(5, 8)).view(2, 3, 2), whole[2:4, 5:8])


def test_samples_surround_the_guess_in_order() -> None:
    slab = ns.Slab(8, 0.4)
    guide = torch.tensor([10.0, 12.0])
    plain = ns.slab_depths(guide, slab)
    torch.testing.assert_close(plain.mean(-1), guide)
    jitter = torch.rand(2, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    moved = ns.slab_depths(guide, slab, jitter)
    assert (moved.diff(dim=-1) > 0).all() and ((moved - guide[:, None]).abs() <= 0.4).all()


def test_light_is_neither_made_nor_lost() -> None:
    random = torch.Generator().manual_seed(0)
    density = 30 * torch.rand(5, 8, generator=random)
    depth = torch.linspace(9, 10, 8).expand(5, 8)
    colour, alpha, mean = ns.composite(density, torch.ones(5, 8, 3), depth, 0.1)
    torch.testing.assert_close(colour[:, 0], alpha)
    torch.testing.assert_close(alpha, 1 - torch.exp(-0.1 * density.sum(-1)))  # Beer and Lambert
    assert ((mean >= 9) & (mean <= 10)).all()


def test_a_wall_hides_what_is_behind_it() -> None:
    density = torch.tensor([[0.0, 1e4, 1e4]])
    colour = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]])
    rgb, alpha, depth = ns.composite(density, colour, torch.tensor([[1.0, 2.0, 3.0]]), 0.1)
    torch.testing.assert_close(rgb, torch.tensor([[0.0, 1.0, 0.0]]))
    assert alpha.item() == 1 and depth.item() == 2


def test_filling_keeps_what_is_known_and_stays_between() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.rand(2, 1, 32, 32, generator=random)
    known = (torch.rand(2, 1, 32, 32, generator=random) > 0.7).float()
    filled = ns.fill_smoothly(values, known)
    torch.testing.assert_close(filled * known, values * known)
    assert filled.min() >= values.min() - 1e-6 and filled.max() <= values.max() + 1e-6


def test_a_march_meets_a_plane_where_it_is() -> None:
    """The prior is a plane of constant depth in the source picture; the distance to it along every ray is known in closed form."""
    places = ns.pixel_places(16)[None]
    depth = ns.march_to_surface(places, torch.full((1, 1, 8, 8), 0.1), TARGET, SOURCE, 1.6)
    points = ns.carry_to_source(places, depth[..., None], TARGET, SOURCE, 1.6)[0, :, 0]
    inside = points[:, :2].abs().amax(-1) < 1
    assert inside.sum() > 100
    torch.testing.assert_close(points[inside, 2], torch.full((int(inside.sum()),), 0.1), rtol=0, atol=2e-3)


def test_offsets_are_added_in_head_space() -> None:
    """A ray's samples moved by an offset arrive where the head points moved by it would be seen."""
    head = np.random.default_rng(3).uniform(-0.5, 0.5, (5, 3))
    offset = np.random.default_rng(4).uniform(-0.1, 0.1, (5, 3))
    pixels, depth = project(pose_points(head, TARGET[0][0].numpy(), TARGET[1][0].numpy()), 1.0)
    places, depth = torch.from_numpy(pixels - 0.5).float()[None], torch.from_numpy(depth).float()[None, :, None]
    moved = torch.from_numpy(offset).float()[None]
    points = ns.carry_to_source(places, depth, TARGET, SOURCE, 1.6, offset=moved)[0, :, 0].numpy()
    expected, _ = project(pose_points(head + offset, SOURCE[0][0].numpy(), SOURCE[1][0].numpy()), 1.0)
    np.testing.assert_allclose(points[:, :2], 2 * expected - 1, atol=1e-4)
