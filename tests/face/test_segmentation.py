"""Segmenters: what is refused, and the six classes of one that a user brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import WeightsError
from triportrait.face import segmentation
from triportrait.face.segmentation import ClassSegmenter, PersonSegmenter


def test_a_file_that_is_no_six_class_segmenter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    # The one that ships tells persons from the rest, and says so.
    shutil.copy(Path(segmentation.__file__).parent / "data" / "person_mask.onnx", tmp_path / "person.onnx")
    for name in ("none", "bad", "person"):
        with pytest.raises(WeightsError, match="cannot be used; convert"):
            ClassSegmenter(tmp_path / f"{name}.onnx")


@pytest.mark.parametrize("classes", [5, 6])
def test_each_pixel_is_the_class_of_its_largest_share(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Graph:
        config, shapes = {}, {"picture": (1, 32, 32, 3)}

        def __call__(self, picture: np.ndarray) -> tuple[np.ndarray]:
            left = picture[0, :, :, :1] > 100
            return (np.concatenate([*[np.zeros((32, 32, 1))] * (classes - 2), left, ~left], -1).astype(np.float32),)

    monkeypatch.setattr(segmentation, "load_graph", lambda *_: Graph())
    segmenter = ClassSegmenter(Path("any.onnx"))
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :64] = 200
    if classes == 5:
        with pytest.raises(WeightsError, match="6 classes"):
            segmenter(picture)
        return
    shown = segmenter(picture)
    assert shown.shape == (64, 128) and shown.dtype == np.uint8
    assert (shown[:, :60] == 4).all() and (shown[:, 68:] == 5).all()


@pytest.mark.parametrize("shape", [(512, 512), (512, 300), (200, 512)])
def test_a_mask_is_as_large_as_its_picture(shape: tuple[int, int], astronaut: np.ndarray) -> None:
    mask = PersonSegmenter()(astronaut[: shape[0], : shape[1]])
    assert mask.shape == shape and mask.dtype == np.float32 and 0.0 <= mask.min() < mask.max() <= 1.0
