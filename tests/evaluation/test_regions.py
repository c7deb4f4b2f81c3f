"""Regions of a real frame and the shift of hair, on a drawn head whose every place is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from triportrait.evaluation import regions
from triportrait.geometry.landmarks import CHIN, EYE_LEFT_RIM, EYE_RIGHT_RIM, FOREHEAD_TOP, LIPS, OVAL

SIDE = 256


def landmarks() -> np.ndarray:
    """478 points in an ellipse 80 x 110 px round (128, 130): its outline in the right order, eyes and lips in their places."""
    i = np.arange(478)
    radius, turn = np.sqrt((i + 0.5) / 478) * 0.9, i * 2.399963
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)
    around = 2 * np.pi * np.arange(len(OVAL)) / len(OVAL)
    points[OVAL] = np.stack([np.sin(around), -np.cos(around)], -1)
    for part, middle, size in ((EYE_RIGHT_RIM, (-0.4, -0.3), 0.15), (EYE_LEFT_RIM, (0.4, -0.3), 0.15), (LIPS, (0.0, 0.6), 0.3)):
        turn = 2 * np.pi * np.arange(len(part)) / len(part)
        points[part] = middle + size * np.stack([np.cos(turn), 0.4 * np.sin(turn)], -1)
    return points * (40, 55) + (128, 130)


def person() -> np.ndarray:
    """Head with hair (an ellipse about the face) on shoulders."""
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(mask, (128, 122), (62, 82), 0, 0, 360, (1,), -1)
    cv2.rectangle(mask, (40, 215), (216, 256), (1,), -1)
    return mask


def picture(shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Hair of random texture over a flat scene, moved by so many pixels."""
    texture = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), 2)
    texture = np.clip((texture - 0.5) * 900 + 120, 0, 255)
    moved = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
    hair, inside = (cv2.warpAffine(layer, moved, (SIDE, SIDE)) for layer in (texture, person()))
    return np.repeat((hair * inside + 60 * (1 - inside)).astype(np.uint8)[..., None], 3, -1)


def test_regions_cover_the_picture_once_and_lie_where_they_should() -> None:
    masks = regions.region_masks(landmarks(), person())
    assert tuple(masks) == regions.REGIONS
    assert np.sum(list(masks.values()), axis=0).max() == 1
    chin, forehead = landmarks()[CHIN], landmarks()[FOREHEAD_TOP]
    assert masks["hair_ears_neck"][int(forehead[1]) - 20, 128] and masks["face"][140, 128]
    eye, mouth = landmarks()[EYE_LEFT_RIM].mean(0).astype(int), landmarks()[LIPS].mean(0).astype(int)
    assert masks["eyes"][eye[1], eye[0]] and not any(mask[mouth[1], mouth[0]] for mask in masks.values())
    assert masks["torso"][245, 128] and not masks["torso"][: int(chin[1])].any()
    assert masks["outline"][40, 128] and masks["background"][10, 10]
    top, left, right = regions.hair_areas(landmarks(), person())
    assert top[38, 128] and not top[76:].any() and left[:, :128].sum() == left.sum() and right[:, :128].sum() == 0
    jaw, neck = regions.near_jaw(landmarks(), person())
    assert jaw[185, 128] and not jaw[:112].any() and neck[193:197, 128].all() and not (jaw & neck).any()


def test_hair_that_moved_is_found_where_it_went() -> None:
    frame = regions.FrameRegions.of(landmarks(), person(), np.ones((SIDE, SIDE), bool))
    made = [picture((3, 0)), picture((-3, 2))]
    values = regions.region_figures(made, [picture()] * 2, [frame] * 2)
    assert values["hair_top_x_px"] == pytest.approx(3.0, abs=0.25)
    assert values["hair_top_y_px"] == pytest.approx(np.sqrt(2.0), abs=0.25)
    assert values["hair_side_x_px"] == pytest.approx(3.0, abs=0.25)
    assert values["hair_matched"] == 1 and values["hair_sharpness"] == pytest.approx(1.0, abs=0.1)
    assert values["l1_hair_ears_neck"] > 0.02 and values["l1_background"] < 1e-3
    blurred = [cv2.GaussianBlur(picture(), (0, 0), 2.5)]
    values = regions.region_figures(blurred, [picture()], [frame])
    assert values["hair_sharpness"] < 0.7 and values["hair_top_x_px"] < 0.2


def test_without_a_face_nothing_is_measured() -> None:
    values = regions.region_figures([picture()], [picture()], [None])
    assert set(values) == {*(f"l1_{name}" for name in regions.REGIONS), *regions.HAIR_KEYS} and np.isnan(list(values.values())).all()
