"""What a portrait shows: skin, hair and scene are told apart, also where their colours do not differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import triportrait.nn.parts as parts_module
from triportrait.errors import WeightsError
from triportrait.geometry.landmarks import BETWEEN_BROWS, CHIN, FOREHEAD_TOP
from triportrait.geometry.masks import face_hull
from triportrait.nn.parts import CLASSES, INPUTS, SIDE_PX, load_parts, own_person_mask, parts_input, portrait_parts
from triportrait.types import PreparedPortrait


def above_forehead(portrait: PreparedPortrait) -> tuple[slice, slice]:
    """Where hair is: a fifth of the face's height above the forehead's top point."""
    chin, top = portrait.landmarks[CHIN, :2], portrait.landmarks[FOREHEAD_TOP, :2]
    x, y = (top + 0.2 * (top - chin)).astype(int)
    return np.s_[y - 8 : y + 8, x - 8 : x + 8]


def test_face_hair_and_scene_are_told(astronaut_portrait: PreparedPortrait) -> None:
    seen = parts_input(astronaut_portrait.image, astronaut_portrait.landmarks, astronaut_portrait.person_alpha)
    assert seen.shape == (INPUTS, SIDE_PX, SIDE_PX) and seen.dtype == np.float32 and np.abs(seen).max() <= 1.0
    (shares,) = load_parts()(seen)
    assert shares.shape == (len(CLASSES), SIDE_PX, SIDE_PX) and np.abs(shares.sum(0) - 1).max() < 1e-3
    size = len(astronaut_portrait.image)
    whole = {name: cv2.resize(share, (size, size)) for name, share in zip(CLASSES, shares, strict=True)}
    face = face_hull(astronaut_portrait.landmarks, size)
    assert whole["skin"][face].mean() > 0.85
    assert whole["hair"][above_forehead(astronaut_portrait)].mean() > 0.5
    assert whole["scene"][:12, :12].mean() > 0.8


@pytest.mark.parametrize("look", ["as it is", "grey", "hair of the skin's colour"])
def test_skin_is_told_from_hair(astronaut_portrait: PreparedPortrait, look: str) -> None:
    """Also where no colour tells: of hair as light and as red as the face, colours alone see nothing."""
    image = astronaut_portrait.image.astype(np.float32)
    size = len(image)
    face = face_hull(astronaut_portrait.landmarks, size)
    hair = above_forehead(astronaut_portrait)
    if look == "grey":
        image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    elif look != "as it is":
        chin, top = astronaut_portrait.landmarks[CHIN, :2], astronaut_portrait.landmarks[FOREHEAD_TOP, :2]
        y, x = np.mgrid[:size, :size]
        above = ((x - top[0]) * (top - chin)[0] + (y - top[1]) * (top - chin)[1]) / ((top - chin) ** 2).sum()
        mask = cv2.GaussianBlur(((above > 0.08) & (astronaut_portrait.person_alpha > 0.5)).astype(np.float32), (0, 0), 3.0)[..., None]
        image = image + mask * (image[face].mean(0) - image[hair].reshape(-1, 3).mean(0))
    parts = portrait_parts(replace(astronaut_portrait, image=np.clip(image, 0, 255).astype(np.uint8)))
    for share in parts:
        assert share.shape == (size, size) and share.min() >= 0 and share.max() <= 1
    assert parts.skin[face].mean() > 0.85 and parts.skin[hair].mean() < 0.4 and parts.hair[face].mean() < 0.15


def test_a_hat_goes_on_as_hair_does_and_clothes_do_not(astronaut_portrait: PreparedPortrait, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worn counts as hair round the head alone: not on the face, where it is glasses, and not below the brows."""
    shares = np.zeros((len(CLASSES), SIDE_PX, SIDE_PX), np.float32)
    shares[CLASSES.index("other")] = 1.0
    monkeypatch.setattr(parts_module, "load_parts", lambda: lambda seen: (shares,))
    hair = portrait_parts(astronaut_portrait).hair
    size, brows = len(hair), int(astronaut_portrait.landmarks[BETWEEN_BROWS, 1])
    face = face_hull(astronaut_portrait.landmarks, size)
    assert not hair[face].any() and not hair[brows + 1 :].any() and hair[:brows][~face[:brows]].min() == 1.0


def test_a_bystander_is_not_the_person(astronaut_portrait: PreparedPortrait) -> None:
    """A segmentation takes both for persons; whose face it is decides, and the person stays whole."""
    own, size = astronaut_portrait.person_alpha, len(astronaut_portrait.image)
    place = np.array([[-0.8, 0.0, 1.28 * size], [0.0, 0.8, 0.2 * size]], np.float32)
    person = astronaut_portrait.image.astype(np.float32) * own[..., None]
    other, others = cv2.warpAffine(person, place, (size, size)), cv2.warpAffine(own, place, (size, size))
    scene = others[..., None] * 0 + np.array([150, 150, 140], np.float32)
    behind = other + (1 - others[..., None]) * scene
    image = np.clip(person + (1 - own[..., None]) * behind, 0, 255).astype(np.uint8)
    both = np.maximum(own, others)
    found = own_person_mask(image, astronaut_portrait.landmarks, both)
    assert found.shape == (size, size) and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    bystander = (others > 0.9) & (own < 0.02)
    assert bystander.mean() > 0.03
    assert found[bystander].mean() < 0.35 and found[own > 0.98].mean() > 0.9


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError):
        load_parts(tmp_path / "x.onnx")
