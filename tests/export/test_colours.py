"""The texture: the photo where it saw the surface, the other side where it did not, smooth colours where neither was seen."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.export.colours import Rim, SeenNodes, _Blocks, _faded, _filled, look, paint, strand_pattern
from triportrait.export.figure import _is_within
from triportrait.geometry.normals import vertex_normals
from triportrait.types import PreparedPortrait


@pytest.fixture(scope="module")
def cylinder() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and quads of a closed round column round the head's axis."""
    turn, height = np.meshgrid(np.linspace(0, 2 * np.pi, 48, endpoint=False), np.linspace(-0.8, 0.8, 17))
    points = np.stack([0.7 * np.sin(turn), height, 0.7 * np.cos(turn) - 0.4], -1).reshape(-1, 3)
    row, column = np.mgrid[:16, :48]
    a, b = row * 48 + column, row * 48 + (column + 1) % 48
    quads = np.stack([a, b, b + 48, a + 48], -1).reshape(-1, 4)
    triangles = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    return points, vertex_normals(points, triangles), quads


def test_the_front_is_seen_and_the_back_takes_its_colours(astronaut_portrait: PreparedPortrait, cylinder: tuple) -> None:
    points, normals, quads = cylinder
    size = len(astronaut_portrait.image)
    # The photo is grey, but green at the left and red at the right of the head.
    photo = np.full((size, size, 3), 120.0, np.float32)
    photo[:, : size // 2] = (60, 160, 60)
    photo[:, size // 2 :] = (160, 60, 60)
    triangles = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    seen = look(astronaut_portrait, photo, points, normals, triangles)
    colours = seen.colours(photo)
    front, back = normals[:, 2] > 0.9, normals[:, 2] < -0.9
    middle = np.abs(points[:, 1]) < 0.4
    assert seen.seen[front & middle].mean() > 0.8 and not seen.seen[back].any()
    assert np.isfinite(colours).all() and colours.min() >= 0 and colours.max() <= 255
    # Behind, the colours go smoothly from one side's to the other's.
    right, left = (colours[back & (points[:, 0] * sign > 0.15)].mean(0) for sign in (1, -1))
    assert right[0] > left[0] + 5 and left[1] > right[1] + 5
    across = np.sort(np.abs(np.diff(colours.reshape(17, 48, 3)[8], axis=0)).max(1))[:-3]
    assert across.max() < 45


def test_given_colours_are_kept(astronaut_portrait: PreparedPortrait, cylinder: tuple) -> None:
    points, normals, quads = cylinder
    photo = np.full((len(astronaut_portrait.image),) * 2 + (3,), 120.0, np.float32)
    given = np.full(points.shape, np.nan)
    given[400] = (10, 20, 30)
    triangles = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    colours = look(astronaut_portrait, photo, points, normals, triangles, given).colours(photo)
    np.testing.assert_allclose(colours[400], (10, 20, 30), atol=3.0)


def test_every_quad_shows_its_corners_colours(cylinder: tuple) -> None:
    points, normals, quads = cylinder
    photo = np.zeros((256, 256, 3), np.float32)
    photo[..., 0], photo[..., 1] = np.linspace(0, 255, 256)[None, :], np.linspace(0, 255, 256)[:, None]
    pixels = np.stack([128 + 80 * points[:, 0], 128 - 80 * points[:, 1]], 1).astype(np.float32)
    front = (normals[:, 2] > 0.3).astype(np.float64)
    rng = np.random.default_rng(4)
    filled = 60 + 40 * rng.random(3) + 50 * points[:, [2, 2, 2]] + 60
    none = np.zeros((len(points), 3))
    nodes = SeenNodes(pixels, front, pixels, np.zeros(len(points)), none, filled, none, points)
    sheet, _ = paint(photo, nodes, points, normals, quads, [])
    wanted = nodes.colours(photo)[quads]
    column, row = (np.clip(np.round(sheet.places[..., c] - 0.5).astype(int), 0, sheet.picture.shape[1 - c] - 1) for c in (0, 1))
    error = np.abs(sheet.picture[row, column].astype(float) - wanted).max(-1)
    assert np.median(error) < 3.0 and np.quantile(error, 0.99) < 20.0


def test_quads_smaller_than_a_texel_have_their_colour(cylinder: tuple) -> None:
    """A mouth's corner left a quad of a hundredth of a texel, which no texel's middle met."""
    points, normals, quads = cylinder
    photo, none = np.zeros((64, 64, 3), np.float32), np.zeros(len(points))
    tint = np.tile(np.array([200.0, 100.0, 50.0]), (len(points), 1))
    nodes = SeenNodes(
        np.zeros((len(points), 2), np.float32), none, np.zeros((len(points), 2), np.float32), none, 0 * tint, tint, 0 * tint, points
    )
    tiny = (points * 1e-4 + 3e-4).astype(np.float32)
    sheet, _ = paint(photo, nodes, tiny, normals, quads, [])
    column, row = (np.clip(sheet.places[..., c].astype(int), 0, sheet.picture.shape[1 - c] - 1) for c in (0, 1))
    assert np.abs(sheet.picture[row, column].astype(float) - tint[0]).max() < 3.0


def test_folded_quads_lie_beside_each_other_where_they_are_unfolded(cylinder: tuple) -> None:
    """A viewer that reads a texel beside a thin quad must find its neighbour's colour there, not another place's."""
    points, normals, quads = cylinder
    front = (normals[quads][..., 2] > 0.5).all(1)
    none = np.zeros(len(points))
    tint = 100.0 + 80.0 * points[:, [0, 1, 2]]
    nodes = SeenNodes(
        np.zeros((len(points), 2), np.float32), none, np.zeros((len(points), 2), np.float32), none, 0 * tint, tint, 0 * tint, points
    )
    thin = points * (1.0, 0.01, 1.0)
    sheet, _ = paint(np.zeros((512, 512, 3), np.float32), nodes, thin, normals, quads, [], front, points)
    places = sheet.places[front]
    for node in np.unique(quads[front]):
        assert np.ptp(places[quads[front] == node], axis=0).max() == 0.0
    column, row = (np.clip(places[..., c].astype(int), 0, sheet.picture.shape[1 - c] - 1) for c in (0, 1))
    assert np.quantile(np.abs(sheet.picture[row, column].astype(float) - tint[quads[front]]).max(-1), 0.95) < 4.0


def test_colours_cross_the_border_to_skin_but_not_to_hair_beside_it() -> None:
    points = np.array([[0, 0, 0], [0, 1, 0], [0.1, 0, 0], [0.1, 1, 0], [0.2, 0, 0], [0.2, 1, 0]], float)
    seen = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    below = np.array([[2, 3, 4], [3, 2, 5]])
    for is_hair, count in ((False, 2), (True, 1)):
        rim = Rim(np.array([0, 1]), below, np.ones(2, np.float32), np.full(2, is_hair))
        bridges = rim.bridges(points, seen)
        # The photo shows hair beside the first node alone.
        assert len(bridges) == count and bridges[-1].tolist() == [1, 3, 2]


def test_what_a_mirror_shows_fades_towards_its_border_and_stays_at_told_nodes(cylinder: tuple) -> None:
    points, _, quads = cylinder
    triangles = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    share = (points[:, 0] > 0.0).astype(float)
    faded = _faded(share, np.zeros(len(points), bool), triangles)
    assert not faded[share == 0.0].any() and faded[points[:, 0] > 0.65].min() > 0.9
    edge = (points[:, 0] > 0.0) & (points[:, 0] < 0.15)
    assert faded[edge].max() < 0.7
    np.testing.assert_allclose(_faded(share, share == 0.0, triangles), share)


def test_the_body_lends_the_head_no_colours(cylinder: tuple) -> None:
    points, _, quads = cylinder
    triangles = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)
    known = np.abs(points[:, 1]) > 0.75
    colours = np.where(points[:, 1:2] > 0.0, [200.0, 150.0, 120.0], [20.0, 40.0, 200.0])
    filled = _filled(points, colours, known, triangles, points[:, 1] > -0.3)
    np.testing.assert_allclose(filled[points[:, 1] > 0.35], np.tile([200.0, 150.0, 120.0], ((points[:, 1] > 0.35).sum(), 1)), atol=1.0)
    assert np.abs(np.diff(filled.reshape(17, 48, 3), axis=0)).max() < 60.0


def test_blocks_do_not_overlap() -> None:
    blocks, rng = _Blocks(64), np.random.default_rng(0)
    pictures = [np.full((*rng.integers(3, 30, 2), 3), float(k + 1)) for k in range(20)]
    places = [blocks.add(picture) for picture in pictures]
    whole = blocks.picture()
    for (left, top), picture in zip(places, pictures, strict=True):
        assert left % 8 == 0 and top % 8 == 0
        assert (whole[top : top + picture.shape[0], left : left + picture.shape[1]] == picture).all()


def test_strands_are_long_and_thin_and_the_skull_has_no_seam() -> None:
    turn, height = np.meshgrid(np.linspace(-np.pi, np.pi, 2000), np.linspace(-0.3, 0.6, 40))
    pattern = strand_pattern(np.stack([0.8 * np.sin(turn), height, -0.75 - 0.8 * np.cos(turn)], -1).reshape(-1, 3)).reshape(turn.shape)
    assert abs(pattern.mean()) < 0.15 and pattern.std() == pytest.approx(1.0, abs=0.15)
    # The ends of the row are one place.
    np.testing.assert_allclose(pattern[:, 0], pattern[:, -1], atol=0.05)
    # A twentieth of a decimetre: 10 columns, or 2 rows.
    assert np.abs(np.diff(pattern[:, ::20], axis=1)).mean() > 3.0 * np.abs(np.diff(pattern[::2], axis=0)).mean()


def test_what_lies_in_a_ring() -> None:
    ring = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)
    inside = _is_within(np.array([[1.0, 1.0], [3.0, 2.0], [2.0, 2.0], [-1.0, 1.0], [5.0, 1.0]]), ring)
    assert inside.tolist() == [True, True, False, False, False]
