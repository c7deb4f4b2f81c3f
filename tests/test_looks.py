"""A look that was edited in one picture is found in all pictures of the person; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triportrait import Portrait, cli
from triportrait.errors import OptionError
from triportrait.face.mesh_tracker import MeshTracker
from triportrait.face.open_head import OpenHead
from triportrait.face.person import PersonOptions
from triportrait.geometry.masks import face_hull
from triportrait.looks import with_look
from triportrait.media.images import read_image, write_png
from triportrait.media.video import VideoReader
from triportrait.pipeline import prepare_person, read_avatar
from triportrait.types import PreparedPortrait

#: Levels that the edit adds to red, green and blue of the whole person.
TINT = np.array([30.0, -20.0, 10.0])


@pytest.fixture(scope="module")
def person(astronaut: np.ndarray, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedPortrait:
    with VideoReader(clip) as reader:
        frames = [frame for _, frame in reader.frames(None)]
    files = [tmp_path_factory.mktemp("looks") / name for name in ("first.png", "second.png")]
    for file, picture in zip(files, (astronaut, frames[20]), strict=True):
        write_png(file, picture)
    return prepare_person(files, PersonOptions(size_px=256))


def tinted(one: PreparedPortrait) -> np.ndarray:
    return np.clip(one.image + one.person_alpha[..., None] * TINT + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("which", [0, 1])
def test_a_tint_of_one_picture_is_in_the_other_one(
    person: PreparedPortrait, face_tracker: MeshTracker, open_head: OpenHead, which: int
) -> None:
    pictures = (person, *person.others)
    made = with_look(person, tinted(pictures[which]), face_tracker, open_head)
    after = (made, *made.others)
    np.testing.assert_array_equal(after[which].image, tinted(pictures[which]))
    other, now = pictures[1 - which], after[1 - which]
    face = face_hull(other.landmarks, len(other.image)).astype(bool)
    # Clipped colours can change less.
    free = face & (other.image > 40).all(-1) & (other.image < 220).all(-1)
    change = now.image.astype(float) - other.image
    np.testing.assert_allclose(np.median(change[free], 0), TINT, atol=4.0)
    assert np.abs(change[other.person_alpha < 0.01]).mean() < 2.0
    np.testing.assert_array_equal(now.identity, other.identity)
    np.testing.assert_array_equal(now.motion.expression, other.motion.expression)


def test_an_edit_that_changes_nothing_changes_nothing(person: PreparedPortrait, face_tracker: MeshTracker, open_head: OpenHead) -> None:
    made = with_look(person, person.image, face_tracker, open_head)
    assert np.abs(made.others[0].image.astype(int) - person.others[0].image).max() <= 1


def test_from_the_command_line(person: PreparedPortrait, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder, edited, out = (tmp_path / name for name in ("me.avatar", "pictures", "edited.png", "other.avatar"))
    Portrait(person).save(file)
    assert cli.main(["portrait", "pictures", str(file), "-o", str(folder)]) == 0
    np.testing.assert_array_equal(read_image(folder / "picture_2.png"), person.others[0].image)
    write_png(edited, tinted(person))
    assert cli.main(["personalize", str(file), "-o", str(out), "--replace-look", str(edited)]) == 0
    portrait, _ = read_avatar(out)
    np.testing.assert_array_equal(portrait.image, tinted(person))
    capsys.readouterr()
    for arguments, words in (
        (["portrait", "pictures", str(file), "-o", str(folder)], "exists already"),
        (["personalize", str(file), "-o", str(tmp_path / "a.avatar")], "--replace-look"),
    ):
        assert cli.main(arguments) != 0 and words in capsys.readouterr().err
    assert not (tmp_path / "a.avatar").exists()


def test_a_picture_of_something_else_is_refused(person: PreparedPortrait, face_tracker: MeshTracker, open_head: OpenHead) -> None:
    with pytest.raises(OptionError, match="none of the person's pictures"):
        with_look(person, 255 - person.image, face_tracker, open_head)
    with pytest.raises(OptionError, match="uncut"):
        with_look(person, person.image[:-4], face_tracker, open_head)
