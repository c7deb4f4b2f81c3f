"""Where a marked frame lies: cut out of pictures that show less of it, and out of those that show more."""

from __future__ import annotations

import numpy as np
import pytest

from marked_clips import Frames
from triportrait.provenance.placement import LOOKS, WHOLE, Placement, find_placement, mirror
from triportrait.provenance.votes import DETAIL_PX, canonical, detail, mark_score


def test_a_whole_picture_is_the_frame(marked: Frames) -> None:
    fine = detail(marked[0])
    np.testing.assert_allclose(WHOLE.cut(fine), canonical(fine), atol=1e-5)
    assert WHOLE.kept == WHOLE.share == (1.0, 1.0)


@pytest.mark.parametrize(
    ("place", "kept", "share"),
    [
        (Placement(128, 256, -64, 0), (0.5, 1.0), (1.0, 1.0)),
        (Placement(256, 512, 0, 100), (1.0, 1.0), (1.0, 0.5)),
        (Placement(300, 200, 20, -30), (1.0, 200 / 256), (256 / 300, 1.0)),
    ],
)
def test_a_cut_takes_what_the_picture_shows(place: Placement, kept: tuple[float, float], share: tuple[float, float]) -> None:
    cut = place.cut(np.ones((DETAIL_PX, DETAIL_PX), np.float32))
    assert cut.shape == (256, 256) and place.kept == kept and place.share == share
    assert cut.mean() == pytest.approx(kept[0] * kept[1])


def test_a_mirrored_part_is_found_where_it_lies(marked: Frames) -> None:
    """Of four fifths of the width, from a tenth on; the score there is the one that the detector gives."""
    fine = mirror(detail(marked[0][:, 51:461]))
    score, place, is_mirrored = find_placement(fine, 410 / 512)
    assert is_mirrored and score == mark_score(place.cut(mirror(fine))) > 8
    np.testing.assert_allclose((place.width, place.height, place.left, place.top), (205, 256, -25.5, 0), atol=1)


def test_the_looks_of_a_search_are_counted_well() -> None:
    """The false-positive bound counts each size, place and mirroring, for pictures of every shape."""
    from triportrait.provenance.placement import _sizes

    for aspect in (0.01, 0.5625, 1.0, 1.7778, 100.0):
        sizes = list(_sizes(aspect))
        assert len(sizes) == len(set(sizes)) < 700
        assert 2 * sum((abs(width - 192) + 1) * (abs(height - 192) + 1) for width, height in sizes) < LOOKS
