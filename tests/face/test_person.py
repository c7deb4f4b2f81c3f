"""A person from a video or from photographs: what is chosen, what is refused, and the way from a clip to a talking video."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from triportrait import Portrait, cli
from triportrait.errors import OptionError
from triportrait.face.mesh_tracker import MeshTracker
from triportrait.face.open_head import OpenHead
from triportrait.face.person import PersonOptions, _exposed_like, _Plate, choose_pictures, person_of_takes
from triportrait.face.takes import Take
from triportrait.geometry.crops import cut
from triportrait.geometry.shapes import FaceShape
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.pipeline import prepare_person


@pytest.fixture(scope="module")
def frames(clip: Path) -> list[np.ndarray]:
    """Four seconds: the clip to and fro."""
    with VideoReader(clip) as reader:
        second = [frame for _, frame in reader.frames(None)]
    return [*second, *second[::-1], *second, *second[::-1]]


@pytest.fixture(scope="module")
def video(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("person") / "clip.mp4"
    with VideoWriter(path, frames[0].shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_pictures_are_far_apart_and_begin_with_the_calmest() -> None:
    rotation = np.zeros((60, 3))
    rotation[:, 1] = np.radians(np.linspace(-20.0, 20.0, 60))
    shapes = [FaceShape(0.0, 0.6, 0.0, 0.0, np.array([0.3, 0.3])) for _ in range(60)]
    shapes[40] = FaceShape(0.3, 0.6, 0.0, 0.1, np.array([0.3, 0.3]))
    usable = np.ones(60, bool)
    usable[0] = False
    chosen = choose_pictures(rotation, shapes, usable, 4)
    assert abs(np.degrees(rotation[chosen[0], 1])) < 1.0
    assert chosen[1] == 40 and {1, 59} == set(chosen[2:])
    # Nothing is taken twice, and nothing that shows no more.
    assert choose_pictures(rotation[:1].repeat(9, 0), shapes[:9], usable[1:10], 4) == [0]


def test_hair_before_a_scene_of_its_colour_is_hair_and_scenery_beside_it_is_none() -> None:
    """The mask takes a pale curtain beside dark hair for the person; behind the hair the garden is as dark as it."""
    random = np.random.default_rng(0)
    size = 256
    scene = np.full((size, size, 3), (40, 34, 30), np.uint8)
    scene[:, 150:] = (170, 168, 165)
    scene = np.clip(scene + random.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
    hair = np.zeros((size, size), bool)
    hair[40:, 60:150] = True
    image = scene.copy()
    image[hair] = np.clip((44, 36, 32) + random.normal(0, 2, (int(hair.sum()), 3)), 0, 255)
    mask = hair.astype(np.float32)
    mask[40:, 150:165] = 1.0
    everywhere = np.ones((size, size), bool)
    # A gleam on the hair looks as the curtain does elsewhere.
    plate_picture = scene.copy()
    plate_picture[90:100, 100:110] = image[90:100, 100:110] = 150
    plate = _Plate(plate_picture, np.zeros((size, size), np.float32), everywhere, everywhere)
    persons = plate.persons(image, mask)
    assert persons[45:250, 62:146].min() > 0.9
    assert persons[45:250, 154:164].max() < 0.1


def test_a_video_becomes_a_person_who_talks(video: Path, voice: Path, tmp_path: Path) -> None:
    out, made, report = tmp_path / "me.avatar", tmp_path / "out.mp4", tmp_path / "report.json"
    assert cli.main(["personalize", str(video), "-o", str(out), "--sources", "3", "--report", str(report)]) == 0
    assert '"pictures": 3' in report.read_text()
    portrait = Portrait.from_image(out)
    learned = portrait.prepared.delta
    assert f'"delta_pictures": {0 if learned is None else len(learned.level)}' in report.read_text()
    assert portrait.model.avatar.name == "person" and len(portrait.prepared.others) == 2
    # The same person in all of them, and the scene that the first one has.
    for other in portrait.prepared.others:
        np.testing.assert_array_equal(other.identity, portrait.prepared.identity)
        np.testing.assert_array_equal(other.background, portrait.prepared.background)
        assert other.motion.body is not None
    assert cli.main(["animate", str(out), str(voice), "-o", str(made)]) == 0
    with VideoReader(made) as reader:
        assert len([frame for _, frame in reader.frames(None)]) == 25


def test_several_takes_become_one_person(frames: list[np.ndarray], face_tracker: MeshTracker, open_head: OpenHead) -> None:
    """The second one is framed in another way: it has a square of its own, and nobody knows where its body is to the first one's."""
    shots = [frames[:60], [frame[:, 40:] for frame in frames[60:]]]
    takes = [Take(partial(iter, shot), f"take {number}") for number, shot in enumerate(shots)]
    person, track = person_of_takes(takes, 25.0, face_tracker, open_head, PersonOptions(size_px=256, sources=3))
    assert [(take.start, take.count) for take in track.takes] == [(0, 60), (60, len(frames) - 60)]
    first, second = (take.box for take in track.takes)
    assert person.crop_box == first and len(person.others) == 2
    assert track.motion.body is None or not track.motion.body[60:].any()
    crops = dict(track.crops(takes, [3, 70], 256))
    np.testing.assert_array_equal(crops[3], cut(frames[3], first, 256))
    np.testing.assert_array_equal(crops[70], cut(shots[1][10], second, 256))


def test_the_head_is_drawn_from_the_take_that_looks_most_like_all(
    frames: list[np.ndarray], face_tracker: MeshTracker, open_head: OpenHead
) -> None:
    """Three takes in different light: the first picture is of the middle one, whichever comes first."""
    shots = [[np.clip(frame * light, 0, 255).astype(np.uint8) for frame in frames[:50]] for light in (0.6, 1.0, 0.8)]
    takes = [Take(partial(iter, shot), f"take {number}") for number, shot in enumerate(shots)]
    person, track = person_of_takes(takes, 25.0, face_tracker, open_head, PersonOptions(size_px=256, sources=3))
    third = np.stack([crop for _, crop in track.crops(takes, range(100, 150), 256)])
    assert (third == person.image).all((1, 2, 3)).any()
    assert len(person.others) == 2 and not all(other.same_take for other in person.others)


def test_photos_and_videos_are_not_mixed(video: Path, astronaut_png: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"give videos alone or photos alone"):
        prepare_person([video, astronaut_png])
    assert cli.main(["personalize", str(video), "-o", str(tmp_path / "a.avatar"), "--learn", "-1"]) == 2
    assert not (tmp_path / "a.avatar").exists()


def test_minutes_to_learn_where_nothing_is_learned(
    video: Path, astronaut_png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, more, says in (
        (astronaut_png, ["--learn", "2"], "--learn needs a video"),
        (video, ["--learn", "2", "--replace-look", str(astronaut_png)], "--learn does nothing with --replace-look"),
        (video, ["--learn", "700"], "--learn is 700; use more than 0 minutes and up to 600; 0 learns nothing."),
    ):
        assert cli.main(["personalize", str(source), "-o", str(tmp_path / "a.avatar"), *more]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
        assert not (tmp_path / "a.avatar").exists()


def test_photos_become_a_person(astronaut_png: Path, frames: list[np.ndarray], tmp_path: Path) -> None:
    from triportrait.media.images import write_png

    second = tmp_path / "second.png"
    write_png(second, frames[20])
    person = prepare_person([astronaut_png, second], PersonOptions(size_px=256))
    assert len(person.others) == 1 and person.others[0].motion.body is None
    np.testing.assert_array_equal(person.identity, person.others[0].identity)


def test_what_makes_no_person_is_refused_in_one_sentence(
    frames: list[np.ndarray], face_tracker: MeshTracker, open_head: OpenHead, tmp_path: Path
) -> None:
    def refused(pictures: list[np.ndarray]) -> str:
        def read() -> Iterator[np.ndarray]:
            return iter(pictures)

        with pytest.raises(OptionError) as error:
            person_of_takes([Take(read, "the clip")], 25.0, face_tracker, open_head, PersonOptions(size_px=256))
        return str(error.value)

    assert "for 1.0 s; give 4 s of video or more" in refused(frames[:25])
    pair = [np.concatenate([frame, frame], axis=1) for frame in frames[:3]]
    assert "several people" in refused(pair)
    nobody = np.zeros_like(frames[0])
    # Somebody else comes in after the first frame, and stays.
    width = nobody.shape[1]
    entering = [
        np.concatenate([nobody, frame], axis=1)[:, (shown := min(8 * index, width)) : shown + width]
        for index, frame in enumerate(frames[:60])
    ]
    joined = [np.concatenate([frame, beside], axis=1) for frame, beside in zip(frames, entering, strict=False)]
    assert "several people" in refused(joined)
    cut = [np.concatenate([frame, nobody] if index < 40 else [nobody, frame], axis=1) for index, frame in enumerate(frames[:60])]
    assert "has a cut at 1.6 s" in refused(cut)
    with pytest.raises(OptionError, match="--sources is 0"):
        PersonOptions(sources=0)
    assert cli.main(["personalize", str(tmp_path / "none.mp4"), "-o", str(tmp_path / "a.avatar")]) == 2


def test_exposure_is_told_by_the_same_place() -> None:
    """A picture taken twice as bright becomes like the first; where little is seen of the place, nothing changes."""
    random = np.random.default_rng(0)
    first = random.integers(60, 120, (64, 64, 3)).astype(np.uint8)
    scene = np.zeros((64, 64), bool)
    scene[:, :20] = True
    brighter = np.clip(first * 1.25, 0, 255).astype(np.uint8)
    # The face is in another light, which is none of the camera's doing.
    brighter[:, 40:] //= 2
    again = _exposed_like(first, brighter, scene, scene)
    assert np.abs(again[:, :40].astype(int) - first[:, :40]).max() <= 2
    assert again[:, 40:].mean() < 0.6 * first[:, 40:].mean()
    np.testing.assert_array_equal(_exposed_like(first, brighter, np.zeros_like(scene), scene), brighter)
