"""Drivers behind one protocol, parts that are handed in, and options that change what they claim to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from triportrait import drivers, pipeline, shot_motion
from triportrait.drivers import DRIVERS
from triportrait.errors import MediaError
from triportrait.face.fitting import LandmarkFitter, Person
from triportrait.face.open_head import OpenHead
from triportrait.face.tracker import DetectedFace
from triportrait.geometry.cameras import pose_points, project
from triportrait.motion.controls import ControlCurves
from triportrait.motion.files import save_motion
from triportrait.motion.options import DriveOptions
from triportrait.motion.style import SpeakingStyle
from triportrait.motion.timing import join_motion
from triportrait.performance import Performance
from triportrait.pipeline import Portrait, prepare
from triportrait.types import ARKIT_EXPRESSIONS, Driver, FrameModel, Motion, MotionFrame, PreparedPortrait

ROWS = ("expression", "rotation_rad", "translation", "gaze_rad")


def acted(frames: int = 60, seed: int = 0) -> Motion:
    """Somebody whose mouth, lids and head move; neither the first nor the last row is the one at rest."""
    random, time = np.random.default_rng(seed), np.arange(frames, dtype=np.float32)
    expression = np.zeros((frames, len(ARKIT_EXPRESSIONS)), np.float32)
    expression[:, ARKIT_EXPRESSIONS.index("jawOpen")] = 0.2 + 0.2 * np.cos(0.4 * time)
    expression[20:24, [ARKIT_EXPRESSIONS.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]] = 0.9
    rotation = 0.1 * np.sin(0.1 * time[:, None] + random.uniform(0, 6, 3)) * [0.3, 1.0, 0.1]
    still = np.zeros((frames, 3), np.float32)
    return Motion(expression, rotation.astype(np.float32), still, still[:, :2])


def same(one: Motion, other: Motion, rows: Iterable[str] = ROWS) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in rows)


# -- the protocol ----------------------------------------------------------------------------------------------------------


def test_every_driver_stands_behind_the_protocol(talking_portrait: Portrait, voice: Path, clip: Path, tmp_path: Path) -> None:
    inputs = {"voice": voice, "video": clip, "motion": save_motion(acted(), tmp_path / "acted.npz") or tmp_path / "acted.npz", "idle": 1.0}
    assert set(inputs) == set(DRIVERS)
    assert isinstance(talking_portrait.model, FrameModel)
    for kind, make in DRIVERS.items():
        driver = make(inputs[kind], DriveOptions(), progress=None, tracker=None, head=None)
        assert isinstance(driver, Driver), kind
        chunks = driver.chunks(talking_portrait.prepared)
        once, again = join_motion(chunks), join_motion(chunks)
        assert same(once, again) and len(once) == driver.frame_count and once.fps == driver.fps, kind
        performance = talking_portrait.driven_by(driver)
        assert (performance.sound, performance.sources, performance.fps) == (driver.sound, driver.sources, driver.fps)
        assert same(performance.motion(), once), kind


class Nodding:
    """A newcomer's driver: one class, nothing else."""

    fps, frame_count, sound, inputs = 25.0, 4, None, ()

    def __init__(self) -> None:
        self.sources: dict[str, Path] = {}

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        own = portrait.motion
        rows = {name: np.tile(getattr(own, name), (4, 1)).astype(np.float32) for name in ROWS}
        rows["rotation_rad"][:, 0] += [0.0, 0.1, 0.2, 0.1]
        return [Motion(**rows)]


def test_a_driver_of_ones_own_moves_a_portrait(talking_portrait: Portrait) -> None:
    performance = talking_portrait.driven_by(Nodding())
    frames = np.stack([frame.image for frame in performance])
    assert len(frames) == 4 and np.abs(frames[2].astype(int) - frames[0]).max() > 20
    np.testing.assert_array_equal(frames[1], frames[3])


def test_motion_of_another_head_model_is_refused(talking_portrait: Portrait) -> None:
    driver = drivers.MotionDriver(replace(acted(), head_model="bfm"))
    with pytest.raises(MediaError, match="extract it again"):
        talking_portrait.driven_by(driver)


# -- parts handed in -------------------------------------------------------------------------------------------------------


class FakeTracker:
    """Sees one face where it is told, wherever it looks."""

    def __init__(self, landmarks: np.ndarray) -> None:
        self.landmarks, self.seen = landmarks.astype(np.float32), 0

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        self.seen += 1
        return [DetectedFace(self.landmarks)]

    def track(self, frames):
        for _ in frames:
            self.seen += 1
            yield self.landmarks, True

    def person_mask(self, image: np.ndarray) -> np.ndarray:
        self.seen += 1
        mask = np.zeros(image.shape[:2], np.float32)
        mask[len(mask) // 8 :, len(mask) // 8 : -len(mask) // 8] = 1.0
        return mask

    def score(self, image: np.ndarray) -> float:
        return 1.0


def test_a_tracker_and_a_head_that_are_handed_in_take_the_place_of_the_defaults(
    astronaut: np.ndarray, astronaut_portrait: PreparedPortrait, open_head, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise AssertionError("the default was looked up")

    for module in (drivers, pipeline):
        for name in ("default_tracker", "default_head"):
            monkeypatch.setattr(module, name, refused)
    left, top, side = astronaut_portrait.crop_box
    points = astronaut_portrait.landmarks * (side / len(astronaut_portrait.image)) + np.float32([left, top, 0.0])
    tracker = FakeTracker(points)
    portrait = Portrait.from_image(astronaut, avatar="lifted", quality="draft", tracker=tracker, head=open_head)
    assert tracker.seen >= 2 and portrait.model.head is open_head
    # The fit is that of the landmarks we gave; the matte is the box we gave.
    np.testing.assert_allclose(portrait.prepared.motion.rotation_rad, astronaut_portrait.motion.rotation_rad, atol=0.02)
    assert prepare(astronaut, tracker=tracker, head=open_head).person_alpha[300:, 100:400].min() > 0.9
    before = tracker.seen
    motion = portrait.drive(clip).motion()
    assert tracker.seen >= before + len(motion), "clips that drive are looked at by the same tracker"
    assert np.ptp(motion.rotation_rad, axis=0).max() < 1e-4, "which sees one pose all the time"
    before = tracker.seen
    portrait.idle(0.2, DriveOptions(pose=str(clip)))
    assert tracker.seen > before


# -- every option changes what it claims to change -------------------------------------------------------------------------


def columns(*starts: str) -> list[int]:
    return [i for i, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith(starts)]


MOUTH, LIDS, BROWS = columns("jaw", "mouth", "tongue"), columns("eyeBlink"), columns("brow")
PARTS = {
    "mouth": lambda motion: motion.expression[:, MOUTH],
    "lids": lambda motion: motion.expression[:, LIDS],
    "brows": lambda motion: motion.expression[:, BROWS],
    "head": lambda motion: np.hstack([motion.rotation_rad, motion.translation]),
    "gaze": lambda motion: motion.gaze_rad,
}
SMILE = SpeakingStyle(smile=0.3)
LOOK_AWAY = ControlCurves({"head_motion": np.zeros(1, np.float32)})

#: Option -> kind of driver, settings of both, another value, what changes and what must not.
CLAIMS = {
    "pose": ("motion", {}, "still", {"head"}, {"mouth", "lids", "brows"}),
    "mouth_gain": ("voice", {}, 2.0, {"mouth"}, {"head", "gaze", "lids"}),
    "blink": ("idle", {}, "none", {"lids"}, {"mouth"}),
    "head_motion": ("idle", {}, 0.0, {"head"}, {"mouth"}),
    "expressiveness": ("voice", {}, 4.0, {"brows", "mouth"}, set()),
    "reference": ("motion", {}, "first", {"mouth"}, set()),
    "seed": ("idle", {}, 1, {"head", "gaze", "mouth"}, set()),
    "eye_contact": ("idle", {}, 0.0, {"gaze"}, {"mouth", "head"}),
    "gaze_motion": ("idle", {}, 0.0, {"gaze"}, {"mouth", "head"}),
    "temperature": ("idle", {}, 0.0, {"head", "mouth"}, set()),
    "emotion": ("idle", {}, "sad", {"mouth", "brows"}, set()),
    "emotion_strength": ("motion", {"emotion": "sad"}, 0.2, {"mouth", "brows"}, {"head", "gaze"}),
    "style": ("idle", {}, SMILE, {"mouth"}, {"lids", "head", "gaze"}),
    "controls": ("idle", {}, LOOK_AWAY, {"head"}, {"mouth"}),
    "driver_face": ("video", {}, 2, {"head"}, set()),
    "mouth": ("voice", {}, "still", {"mouth"}, {"head", "gaze", "lids"}),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_every_option_changes_what_it_claims_to_change(
    name: str, talking_portrait: Portrait, voice: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, common, value, changed, kept = CLAIMS[name]
    # Two people in the clip, who move differently.
    monkeypatch.setattr(drivers, "motion_of_video", lambda path, fps, progress=None, face=None, **_: acted(60, face or 1))
    source = {"voice": voice, "idle": 8.0, "motion": acted(), "video": clip}[kind]

    def motion(**settings: object) -> Motion:
        options = DriveOptions(**common, **settings)
        stand_in = SimpleNamespace(prepared=talking_portrait.prepared, model=None, state=None, source=None)
        return Performance(stand_in, DRIVERS[kind](source, options), still_mouth=options.holds_mouth(False)).motion()

    plain, other = motion(), motion(**{name: value})
    found = {part for part, of in PARTS.items() if np.abs(of(plain) - of(other)).max() > 1e-3}
    assert changed <= found, f"--{name} left {changed - found} alone"
    assert not kept & found, f"--{name} touched {kept & found}"


def test_the_claims_name_every_option() -> None:
    """But one: another voice driver takes networks, see ``tests/erlnet``."""
    assert {*CLAIMS, "voice_driver"} == {field.name for field in fields(DriveOptions)}


def test_rows_of_a_portrait_are_where_the_photo_is(talking_portrait: Portrait) -> None:
    """The photo's own row, carried over by landmarks, falls on the photo's landmarks."""
    from triportrait.face.portrait import moved_landmarks

    prepared = talking_portrait.prepared
    moved = moved_landmarks(prepared, drivers.default_head())
    np.testing.assert_allclose(moved(prepared.motion), prepared.landmarks[:, :2], atol=1e-3)
    own = prepared.motion
    aside = MotionFrame(own.expression, own.rotation_rad, own.translation + np.float32([0.2, 0, 0]), own.gaze_rad)
    assert np.all(moved(aside)[:, 0] > prepared.landmarks[:, 0])


def test_motion_is_calmed_piece_by_piece_as_at_once(open_head: OpenHead) -> None:
    count, random = 120, np.random.default_rng(6)
    fitter = LandmarkFitter(open_head)
    person = Person(np.zeros(open_head.identity_size), np.zeros((468, 3)))
    wave = np.sin(np.linspace(0.0, 12.0, count))[:, None]
    expression = np.zeros((count, 44), np.float32)
    expression[:, ARKIT_EXPRESSIONS.index("jawOpen")] = 0.2 + 0.15 * wave[:, 0]
    turn = (0.1 * wave * (1.0, 0.5, 0.2)).astype(np.float32)
    motion = Motion(expression, turn, np.zeros((count, 3), np.float32), np.zeros((count, 2), np.float32))
    rows = []
    for frame in motion:
        points = open_head.landmarks478(open_head.vertices(person.identity, frame.expression, frame.gaze_rad)).astype(np.float64)
        rows.append(project(pose_points(points, frame.rotation_rad, frame.translation), 512.0)[0])
    landmarks = np.stack(rows) + random.normal(0.0, 0.3, (count, 478, 2))
    fitted = fitter.fit_motion(landmarks, person)
    at_once = shot_motion.calm_motion(fitted, landmarks, person, fitter)
    cuts = [slice(0, 50), slice(50, 100), slice(100, count)]
    calmed = join_motion(shot_motion.calmed(iter([(fitted.rows(cut), landmarks[cut]) for cut in cuts]), person, fitter))
    assert len(calmed) == count
    np.testing.assert_allclose(calmed.rotation_rad, at_once.rotation_rad, atol=1e-3)
    np.testing.assert_allclose(calmed.expression, at_once.expression, atol=0.03)
    trembles, calm = (np.abs(np.diff(one.rotation_rad, 2, axis=0)).mean() for one in (fitted, at_once))
    assert calm < 0.7 * trembles
