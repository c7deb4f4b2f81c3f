"""Likeness of faces: alignment and arithmetic here; the network itself where the extra `identity` is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from triportrait.evaluation import identity
from triportrait.evaluation.learned import align_face
from triportrait.evaluation.learned_rows import likeness, likeness_by_frame
from triportrait.evaluation.metric_weights import MetricNetworks

INSTALLED = all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))


def test_the_chip_has_the_points_where_dlib_wants_them() -> None:
    """A picture whose colours are its coordinates, shown turned and small: corners come out at their places."""
    turn, scale = np.radians(20), 1.7
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = np.zeros((478, 2))
    for (index,), place in zip(identity._POINTS, identity._CHIP_POINTS, strict=True):
        landmarks[index] = (place - 75) @ matrix.T + 200
    y, x = np.mgrid[:400, :400] + 0.5
    picture = np.stack([x, y, np.zeros_like(x)], -1).astype(np.float32)
    chip = align_face(picture, landmarks, identity._POINTS, identity._CHIP_POINTS, 150)
    assert chip.shape == (150, 150, 3)
    for place in identity._CHIP_POINTS:
        column, row = (place - 0.5).round().astype(int)
        exact = ((column + 0.5, row + 0.5) - np.array([75.0, 75.0])) @ matrix.T + 200
        np.testing.assert_allclose(chip[row, column, :2], exact, atol=0.1)


def test_distances_and_cosines() -> None:
    random = np.random.default_rng(0)
    people = random.normal(size=(50, 128))
    assert identity.distances(people, people).max() == 0
    centre = people.mean(0)
    np.testing.assert_allclose(identity.centred_cosines(people, people, centre), 1.0)
    assert abs(identity.centred_cosines(people[:-1], people[1:], centre).mean()) < 0.1


def test_without_the_extra_the_reason_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity.importlib.util, "find_spec", lambda name: None)
    identity.find_face_embedder.cache_clear()
    picture, points = np.zeros((64, 64, 3), np.uint8), np.zeros((1, 478, 2))
    values, reasons = likeness(MetricNetworks(None), (picture, points[0]), [picture], points, np.array([True]))
    more, why = likeness_by_frame([picture], points, [picture], points, np.array([True]))
    identity.find_face_embedder.cache_clear()
    assert np.isnan(values["face_distance"]) and np.isnan(more["face_distance_real"])
    assert reasons["face_distance"] == why["face_distance_real"] == identity.REMEDY and "triportrait[identity]" in identity.REMEDY


@pytest.mark.skipif(not INSTALLED, reason="pip install 'triportrait[identity]'")
def test_one_person_is_near_and_another_far(shared: Path) -> None:
    from triportrait.drivers import default_tracker
    from triportrait.evaluation.reenact import shrink
    from triportrait.media.images import read_image
    from triportrait.pipeline import prepare

    embed, _ = identity.find_face_embedder()
    assert embed is not None
    rows = []
    for path in sorted((shared / "data" / "portraits").rglob("*.jpg"))[:2]:
        image = prepare(read_image(path)).image
        for picture in (image, image[:, ::-1], np.uint8(0.8 * image)):
            face = default_tracker().detect(np.ascontiguousarray(picture))[0]
            rows.append(embed([shrink(picture, 256)], face.landmarks[None, :, :2] / 2)[0])
    first, second = np.stack(rows[:3]), np.stack(rows[3:])
    assert identity.distances(first, first[0]).max() < 0.35 and identity.distances(second, second[0]).max() < 0.35
    assert identity.distances(first[:, None], second[None]).min() > identity.SAME_PERSON
