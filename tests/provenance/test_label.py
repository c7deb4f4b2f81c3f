"""Laws of the visible badge."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.provenance.label import draw_label, draw_label_over

CORNERS = ("bottom right", "bottom left", "top right", "top left")


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("shape", [(512, 512), (256, 256), (720, 1280)])
def test_only_the_corner_changes(corner: str, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = frame.copy()
    labelled = draw_label(frame, corner=corner)
    assert labelled.shape == frame.shape and labelled.dtype == np.uint8
    np.testing.assert_array_equal(frame, before)
    rows, columns = np.nonzero((labelled != frame).any(axis=2))
    vertical, horizontal = corner.split()
    reach = 0.12 * min(shape)
    assert rows.size
    assert (rows < reach).all() if vertical == "top" else (rows >= shape[0] - reach).all()
    assert (columns < reach).all() if horizontal == "left" else (columns >= shape[1] - reach).all()


@pytest.mark.parametrize("level", [0, 64, 128, 255])
def test_letters_stand_out_on_any_ground(level: int) -> None:
    """WCAG asks 4.5:1 between text and its ground for readable text."""
    labelled = draw_label(np.full((512, 512, 3), level, np.uint8)).astype(float)
    corner = labelled[470:, 440:].max(axis=2)
    letters, plate = corner.max(), np.median(corner[corner < np.clip(level, 1, None)]) if level else 0.0

    def luminance(value: float) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    # The ground itself may be brighter than the letters; then what counts is letters against the plate around them.
    letters = min(letters, 255 * 0.92 + 20)
    assert (luminance(letters) + 0.05) / (luminance(plate) + 0.05) >= 4.5


@pytest.mark.parametrize("level", [0, 90, 255])
def test_over_a_person_without_a_scene_it_looks_as_before_that_scene(level: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    alpha = random.choice(np.array([0, 3, 120, 255], np.uint8), (256, 256))

    def before_scene(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
        share = opacity[..., None] / 255.0
        return share * colours + (1 - share) * level

    expected = draw_label(np.round(before_scene(image, alpha)).astype(np.uint8))
    assert np.abs(before_scene(*draw_label_over(image, alpha)) - expected).max() <= 2.5


def test_a_longer_text_makes_a_wider_badge() -> None:
    frame = np.full((512, 512, 3), 200, np.uint8)
    short, long = (np.count_nonzero(draw_label(frame, text) != frame) for text in ("AI", "AI-generated"))
    assert long > 2 * short


def test_too_small_a_frame_stays_as_it_is() -> None:
    frame = np.full((12, 12, 3), 90, np.uint8)
    np.testing.assert_array_equal(draw_label(frame), frame)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="no corner 'middle'"):
        draw_label(np.zeros((64, 64, 3), np.uint8), corner="middle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32"):
        draw_label(np.zeros((64, 64, 3), np.float32))
