"""Pictures become one: by plain sums, each drawn only where it counts."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.person import blend_kernels as kernels
from triportrait.avatar.person.blending import Drawn, blended, head_map, part_of, sharper
from triportrait.geometry.parts import PicturePart, around
from triportrait.types import PreparedPortrait, RenderedHead

SIZE = 64


def picture(random: np.random.Generator, height: int = SIZE, width: int = SIZE) -> RenderedHead:
    alpha = random.uniform(0, 1, (height, width)).astype(np.float32)
    return RenderedHead(alpha[..., None] * random.uniform(0, 1, (height, width, 3)).astype(np.float32), alpha, np.ones_like(alpha))


def test_pictures_count_by_their_shares_and_as_far_as_their_photos_saw() -> None:
    random = np.random.default_rng(0)
    of_head = random.uniform(0, 1, (SIZE, SIZE)).astype(np.float32)
    whole, part = picture(random), picture(random, 20, 30)
    seen = [random.uniform(0, 1, one.alpha.shape).astype(np.float32) for one in (whole, part)]
    sharp, low = np.float32([[0.7, 0.1], [0.3, 0.9]]), np.float32([[0.6, 0.2], [0.4, 0.8]])
    pictures = tuple((one.rgb, one.alpha, by) for one, by in zip((whole, part), seen, strict=True))
    places = np.int32([[0, 0, SIZE, SIZE], [11, 5, 20, 30]])
    rgb, change = np.empty((2, SIZE, SIZE, 3), np.float32)
    alpha = np.empty((SIZE, SIZE), np.float32)
    kernels.blend(pictures, places, of_head, sharp, low, np.zeros((SIZE, SIZE, 2), np.float32), rgb, alpha, change)
    there = np.s_[11:31, 5:35]

    def mean(shares: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
        counts = [0.1 + 0.9 * by for by in (seen[0][there], seen[1])]
        weights = [count * (body + (head - body) * of_head[there]) for count, (head, body) in zip(counts, shares, strict=True)]
        return sum(w[..., None] * v for w, v in zip(weights, values, strict=True)) / sum(weights)[..., None]

    alphas = [whole.alpha[there][..., None], part.alpha[..., None]]
    np.testing.assert_allclose(rgb[there], mean(sharp, [whole.rgb[there], part.rgb]), atol=1e-5)
    np.testing.assert_allclose(alpha[there], mean(sharp, alphas)[..., 0], atol=1e-5)
    wanted = mean(low, [whole.rgb[there], part.rgb]) / mean(low, alphas) * alpha[there][..., None]
    np.testing.assert_allclose(change[there] + rgb[there], wanted, atol=1e-4)
    for made, own in ((rgb, whole.rgb), (alpha, whole.alpha)):
        made[there], own[there] = 0, 0
        np.testing.assert_allclose(made, own, atol=1e-5)


def test_two_outlines_become_one_between_them_and_no_ghost() -> None:
    column = np.arange(512) + 0.5
    ends = (280.0, 300.0)
    pictures = []
    for end in ends:
        alpha = np.ascontiguousarray(np.broadcast_to(np.clip(end - column + 0.5, 0, 1), (512, 512)), np.float32)
        pictures.append(Drawn(RenderedHead(alpha[..., None] * np.float32([0.8, 0.6, 0.4]), alpha, alpha), PicturePart(0, 0, 512, 512)))
    before = 0.0
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        share = np.array([1 - part, part])
        rgb, alpha = blended(pictures, share, share, np.ones((512, 512), np.float32))
        end = float(alpha[256].sum())
        assert before <= end and ends[0] - 2 < end < ends[1] + 2, (part, end)
        assert ((alpha[256] > 0.06) & (alpha[256] < 0.94)).sum() <= 4, part
        np.testing.assert_allclose(
            rgb[256][alpha[256] > 0.99], np.tile(np.float32([0.8, 0.6, 0.4]), ((alpha[256] > 0.99).sum(), 1)), atol=0.01
        )
        before = end


def test_what_one_photo_did_not_see_comes_from_another() -> None:
    side = PicturePart(0, 0, SIZE, SIZE)
    full, none = np.ones((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32)
    pictures = [
        Drawn(RenderedHead(np.full((SIZE, SIZE, 3), value, np.float32), full, full, seen=seen), side)
        for value, seen in ((0.25, none), (0.75, full))
    ]
    rgb, _ = blended(pictures, np.array([0.5, 0.5]), np.array([0.5, 0.5]), full)
    assert np.all(np.abs(rgb - 0.75) < 0.06)


def test_what_is_added_stays_within_the_matte() -> None:
    random = np.random.default_rng(1)
    one, more = picture(random), random.normal(0, 0.5, (SIZE, SIZE, 3)).astype(np.float32)
    settled, changed = one.rgb.copy(), one.rgb.copy()
    kernels.settle(more, one.alpha, settled)
    np.testing.assert_allclose(settled, np.clip(one.rgb + more, 0, one.alpha[..., None]), atol=1e-6)
    kernels.add_change(more, one.alpha, changed)
    np.testing.assert_allclose(changed, np.clip(one.rgb + one.alpha[..., None] * more, 0, one.alpha[..., None]), atol=1e-6)


def test_a_window_takes_the_light_of_its_place() -> None:
    random = np.random.default_rng(4)
    around_it, one, other = (random.uniform(0, 1, (20, 30, 3)).astype(np.float32) for _ in range(3))
    mask = np.clip(1.5 - np.hypot(*np.mgrid[-10:10, -15:15] / 8), 0, 1).astype(np.float32)
    shown, result = np.zeros_like(one), around_it.copy()
    kernels.add_share(one, np.float32(0.75), shown)
    kernels.add_share(other, np.float32(0.25), shown)
    kernels.lay_window(shown, mask, result)
    change, ring = 0.75 * one + 0.25 * other - around_it, mask * (1 - mask)
    change -= (change * ring[..., None]).sum((0, 1)) / ring.sum()
    np.testing.assert_allclose(result, around_it + mask[..., None] * change, atol=1e-5)


def test_faint_pictures_give_no_detail() -> None:
    np.testing.assert_allclose(sharper(np.array([0.5, 0.0, 0.5])), [0.5, 0.0, 0.5])
    shares = sharper(np.array([0.75, 0.2, 0.05]))
    assert shares[2] == 0.0 and shares[0] > 0.9 and np.isclose(shares.sum(), 1.0)


def test_parts_are_drawn_as_far_as_they_count(astronaut_portrait: PreparedPortrait) -> None:
    """Pictures cut to their parts give what whole ones give."""
    random = np.random.default_rng(2)
    size = len(astronaut_portrait.image)
    of_head = head_map(astronaut_portrait.landmarks[:, :2], size)
    head, body = np.array([0.6, 0.4, 0.0]), np.array([0.5, 0.0, 0.5])
    parts = [part_of(of_head, *shares) for shares in zip(head, body, strict=True)]
    assert parts[0] == PicturePart(0, 0, size, size) and parts[1].height < size and parts[2].top > 0
    full = np.ones((size, size), np.float32)
    pictures = [RenderedHead(random.uniform(0, 1, (size, size, 3)).astype(np.float32), full, full) for _ in parts]
    whole = blended([Drawn(one, parts[0]) for one in pictures], head, body, of_head)
    cut = [RenderedHead(one.rgb[part.box], one.alpha[part.box], one.depth[part.box]) for one, part in zip(pictures, parts, strict=True)]
    partly = blended([Drawn(one, part) for one, part in zip(cut, parts, strict=True)], head, body, of_head)
    for one, other in zip(whole, partly, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_drawn_part_knows_what_it_holds() -> None:
    box, beside = PicturePart(10, 12, 8, 4), PicturePart(2, 12, 8, 4)
    part = around([box, beside])
    assert part == PicturePart(2, 12, 16, 4)
    drawn = Drawn(picture(np.random.default_rng(3), 4, 16), part)
    assert drawn.holds(box) and not drawn.holds(PicturePart(0, 12, 8, 4))
    np.testing.assert_array_equal(drawn.colours(box), drawn.picture.rgb[:, 8:])
