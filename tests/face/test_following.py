"""Whom a clip's motion is measured on: shots, several people, faces out of the picture.

The faces are squares and their tracker a threshold, so that every place and size is known; real faces are followed in test_pipeline.py.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from scipy import ndimage

from triportrait.errors import NoFaceFound
from triportrait.face.fitting import LandmarkFitter
from triportrait.face.following import FollowedFace, follow_face, people_apart
from triportrait.face.open_head import OpenHead
from triportrait.face.tracker import DetectedFace
from triportrait.geometry.cameras import pose_points, project
from triportrait.types import FOCAL_IN_WIDTHS

Box = tuple[int, int, int]
GRID = np.stack([*np.meshgrid(np.linspace(-0.5, 0.5, 22), np.linspace(-0.5, 0.5, 22)), np.zeros((22, 22))], -1).reshape(-1, 3)[:478]


def picture(*faces: Box, scene: int = 40, width: int = 200) -> np.ndarray:
    """Squares (centre x, centre y, side) on a plain scene [100, width, 3]."""
    image = np.full((100, width, 3), scene, np.uint8)
    for x, y, side in faces:
        image[max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = 250
    return image


class Squares:
    """A tracker of squares; as the real one it holds on to the face it has and otherwise takes whichever is most striking."""

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        labels, _ = ndimage.label(image[..., 0] > 240)
        faces = []
        for rows, columns in ndimage.find_objects(labels):
            # The side that is cut off by the picture's border is guessed, as MediaPipe does.
            side = max(rows.stop - rows.start, columns.stop - columns.start)
            x = columns.start + side / 2 if columns.start else columns.stop - side / 2
            faces.append(DetectedFace(np.float32(GRID * side + (x, (rows.start + rows.stop) / 2, 0))))
        return sorted(faces, key=lambda face: -face.width_px)

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
        last, missing = None, 0
        for frame in frames:
            faces = [face.landmarks for face in self.detect(frame)]
            near = [face for face in faces if last is None or np.linalg.norm(face.mean(0) - last.mean(0)) < 0.4 * np.ptp(last[:, 0])]
            if near or (faces and last is not None):
                last = (near or faces)[0]
                yield from ((last, False) for _ in range(missing))
                missing = 0
                yield last, True
            elif last is None:
                missing += 1
            else:
                yield last, False
        if last is None:
            raise NoFaceFound("no frame of the clip shows a face")

    def person_mask(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def score(self, image: np.ndarray) -> float:
        return max((face.score for face in self.detect(image)), default=0.0)


def follow(frames: Iterable[np.ndarray], number: int | None = None) -> list[FollowedFace]:
    return list(follow_face(Squares(), frames, number, "it"))


def places(rows: list[FollowedFace]) -> list[int]:
    return [round(float(row.landmarks[:, 0].mean())) for row in rows]


def shots(rows: list[FollowedFace]) -> list[int]:
    return [row.shot for row in rows]


@pytest.mark.parametrize(("there", "scene"), [((150, 50, 40), 90), ((50, 50, 20), 120), ((120, 50, 60), 60)])
def test_a_cut_begins_a_shot_in_the_frame_it_falls_on(there: Box, scene: int) -> None:
    rows = follow([picture((50, 50, 40))] * 10 + [picture(there, scene=scene)] * 10 + [picture((50, 50, 40))] * 10)
    assert shots(rows) == [0] * 10 + [1] * 10 + [2] * 10
    assert all(row.seen for row in rows)
    assert places(rows)[10] == there[0]


def test_a_face_that_jumps_without_a_change_of_the_scene_begins_a_shot() -> None:
    rows = follow([picture((50, 50, 20))] * 8 + [picture((150, 50, 20))] * 8)
    assert shots(rows) == [0] * 8 + [1] * 8


@pytest.mark.parametrize("what", ["walk", "flash", "jump cut", "slow rate", "step back"])
def test_what_is_no_cut_is_one_shot(what: str) -> None:
    frames = {
        "walk": [picture((40 + 6 * i, 50, 40)) for i in range(20)],
        "flash": [picture((50, 50, 40), scene=230 if i == 9 else 40) for i in range(20)],
        "jump cut": [picture((50 if i < 10 else 58, 50, 40), scene=40 if i < 10 else 90) for i in range(20)],
        "slow rate": [picture((50 + 8 * (i // 4), 50, 40)) for i in range(20)],
        "step back": [picture((100, 50, 80 - 3 * i)) for i in range(20)],
    }[what]
    rows = follow(frames)
    assert set(shots(rows)) == {0} and len(rows) == 20
    assert all(row.seen for row in rows)


@pytest.mark.parametrize(("number", "place"), [(None, 140), (1, 50), (2, 140)])
def test_one_of_two_people_is_followed(number: int | None, place: int, caplog: pytest.LogCaptureFixture) -> None:
    """Even when the other one comes to the front, or turns away for a moment."""
    with caplog.at_level(logging.WARNING, "triportrait"):
        frames = [picture((50, 50, 30 + i), (140, 50, 36)) for i in range(15)]
        frames[7] = picture((50, 50, 37) if place == 140 else (140, 50, 36))
        rows = follow(frames, number)
    assert places(rows) == [place] * 15
    assert [row.seen for row in rows] == [i != 7 for i in range(15)] and set(shots(rows)) == {0}
    assert sum("2 people" in record.message for record in caplog.records) == (number is None)


def test_a_number_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoFaceFound, match="it: there is no face 3 .* 2 are found"):
        follow([picture(), picture((50, 50, 30), (140, 50, 36))], 3)
    with pytest.raises(NoFaceFound, match="leave the number out"):
        follow([picture((50, 50, 30))], 2)


def test_a_clip_of_nobody_is_refused() -> None:
    with pytest.raises(NoFaceFound, match="it: no frame"):
        follow([picture()] * 3)
    with pytest.raises(NoFaceFound, match="it: there is no frame"):
        follow([])


def test_a_face_that_leaves_is_unseen_from_the_border_on() -> None:
    rows = follow([picture((100 + 8 * i, 50, 40)) for i in range(20)] + [picture()] * 10)
    seen = [row.seen for row in rows]
    assert seen == sorted(seen, reverse=True) and 10 <= sum(seen) <= 13
    # A close-up never shows the whole face.
    assert all(row.seen for row in follow([picture((10 + i % 2, 50, 90)) for i in range(10)]))


@pytest.mark.parametrize(("place", "shot"), [(50, 0), (150, 1)])
def test_who_comes_back_elsewhere_is_a_shot_of_its_own(place: int, shot: int) -> None:
    """A scene without anybody between two looks at a face; black frames first."""
    rows = follow([picture(scene=0)] * 3 + [picture((50, 50, 30))] * 9 + [picture(scene=150)] * 12 + [picture((place, 50, 30))] * 9)
    assert [row.seen for row in rows] == [False] * 3 + [True] * 9 + [False] * 12 + [True] * 9
    assert shots(rows)[-9:] == [shot] * 9 and set(shots(rows)[:12]) == {0}


def test_frames_are_not_kept() -> None:
    """No more than a few are alive while a clip without a face, and then one with, goes by."""
    alive = most = 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    def frames() -> Iterator[np.ndarray]:
        nonlocal alive, most
        for i in range(200):
            frame = picture((50 + i % 3, 50, 30)) if i > 100 else picture()
            alive += 1
            weakref.finalize(frame, died)
            most = max(most, alive)
            yield frame

    assert len(follow(frames())) == 200
    assert most <= 6


class Watched(Squares):
    """Counts the searches, whose squares are at least ``visible_px`` wide."""

    def __init__(self, visible_px: float = 0.0) -> None:
        self.searches, self._visible_px = 0, visible_px

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        self.searches += 1
        return [face for face in super().detect(image) if face.width_px >= self._visible_px]

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
        return Squares().track(frames)


def test_footage_of_nobody_is_hardly_searched() -> None:
    tracker = Watched()
    rows = list(follow_face(tracker, [picture()] * 1000 + [picture((50, 50, 30), (140, 50, 36))] * 3))
    assert tracker.searches < 80
    assert [row.seen for row in rows] == [False] * 1000 + [True] * 3 and {row.shot for row in rows} == {0}
    # The tracker takes whoever comes first to hand; the larger face is followed from the first frame that shows one.
    assert places(rows) == [140] * 1003


def test_whom_only_the_tracker_finds_is_not_searched_for_again() -> None:
    tracker = Watched(visible_px=60)
    rows = list(follow_face(tracker, [picture((50, 50, 30))] * 100))
    assert all(row.seen for row in rows) and tracker.searches < 10


def test_people_cannot_be_chosen_where_no_option_does_it(caplog: pytest.LogCaptureFixture) -> None:
    list(follow_face(Squares(), [picture((50, 50, 30), (140, 50, 36))] * 2, can_choose=False))
    assert [record.getMessage() for record in caplog.records] == ["the clip shows 2 people; the largest face is followed"]


class Shapes:
    """In place of the fit: people are told apart by how tall they are for their width."""

    def fit_person(self, rows: np.ndarray) -> tuple[float]:
        return (float(np.ptp(rows[..., 1]) / np.ptp(rows[..., 0])),)

    def fit_motion(self, rows: np.ndarray, person: float) -> None:
        return None

    def residual_px(self, rows: np.ndarray, person: float, motion: None) -> np.ndarray:
        return np.stack([np.full(468, np.ptp(row[:, 1]) / np.ptp(row[:, 0]) - person) for row in rows])


class Rectangles(Squares):
    """A tracker of rectangles."""

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        labels, _ = ndimage.label(image[..., 0] > 240)
        faces = []
        for rows, columns in ndimage.find_objects(labels):
            tall, wide = rows.stop - rows.start, columns.stop - columns.start
            landmarks = GRID * (wide, tall, 1) + ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2, 0)
            faces.append(DetectedFace(np.float32(landmarks)))
        return sorted(faces, key=lambda face: -face.width_px)


@pytest.mark.parametrize(("fitter", "place"), [(Shapes(), 165), (None, 95)])
def test_a_chosen_person_is_known_again_at_another_place(fitter: Shapes | None, place: int) -> None:
    """Person 1, who is tall, stands at the other side behind the cut; without a fitter whoever is the first there is followed."""

    def shot(tall: int, broad: int, scene: int) -> np.ndarray:
        image = np.full((100, 200, 3), scene, np.uint8)
        image[20:80, tall - 15 : tall + 15] = 250
        image[30:70, broad - 20 : broad + 20] = 250
        return image

    frames = [shot(50, 140, 40)] * 10 + [shot(165, 95, 120)] * 10
    rows = list(follow_face(Rectangles(), frames, 1, fitter=fitter))
    assert places(rows) == [50] * 10 + [place] * 10 and shots(rows) == [0] * 10 + [1] * 10


@pytest.mark.parametrize(("other", "changed", "shot"), [(True, True, 1), (False, True, 0), (True, False, 0)])
def test_somebody_else_in_the_same_place_is_told_by_shape(open_head: OpenHead, other: bool, changed: bool, shot: int) -> None:
    """A cut between two heads; a jump cut of one; a person is not looked at again where the picture does not change."""
    random = np.random.default_rng(1)
    identities = [random.normal(size=open_head.identity_size) for _ in range(2)]

    def seen(index: int) -> FollowedFace:
        behind = index >= 40
        head = open_head.shape(np.float32(identities[int(other and behind)]))
        expression = np.zeros(44)
        expression[open_head.expression_names.index("jawOpen")] = 0.15 + 0.15 * np.sin(index / 3)
        points = open_head.landmarks478(open_head.deform(head, expression, np.zeros(2)))
        pose = pose_points(points, np.array([0.1 * np.sin(index / 9), 0.2 * np.sin(index / 14) + 0.1 * behind, 0.0]), np.zeros(3))
        pixels = project(pose, 512.0, FOCAL_IN_WIDTHS)[0] + random.normal(size=(478, 2))
        return FollowedFace(np.float32(np.pad(pixels, ((0, 0), (0, 1)))), True, 0, (512, 512), changed and index == 40)

    rows = [seen(index) for index in range(70)]
    apart = list(people_apart(iter(rows), LandmarkFitter(open_head)))
    assert shots(apart) == [0] * 40 + [shot] * 30
    assert all(one.landmarks is two.landmarks for one, two in zip(rows, apart, strict=True))
