"""A person from the first part of a clip, judged on the rest: what is given, what is learned from, what is drawn."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluation.test_reenact import FRAMES, Fakes, load, shift_of
from triportrait import cli
from triportrait.errors import MediaError, OptionError
from triportrait.evaluation import personal
from triportrait.evaluation.personal import ROWS, PersonalOptions, PersonalTools, run_personal
from triportrait.face.person import PersonTrack
from triportrait.types import PersonalDelta


class People(Fakes):
    """Avatars lag by 4 pixels for a photo, by 2 for a person, and not at all for one with a delta."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[int] = []
        self.learned: list[int] = []

    def make_renderer(self, name: str, portrait):
        late = 0 if portrait.delta is not None else 2 if portrait.others else 4
        assert (name == "person") == (portrait.delta is not None or bool(portrait.others))
        renderer = super().make_renderer("follow", portrait)
        return lambda frame: np.roll(renderer(frame), -late, axis=1)

    def make_person(self, takes, fps, box):
        frames = [frame for take in takes for frame in take.read()]
        self.given.append(len(frames))
        first = self.prepare_portrait(frames[0])
        track = PersonTrack(
            self.drive(first, frames, fps),
            np.zeros((len(frames), 478, 3), np.float32),
            np.zeros(len(frames)),
            np.ones(len(frames), bool),
            (),
        )
        return replace(first, others=(first,)), track

    def learn(self, portrait, takes, track, row) -> PersonalDelta:
        shifts = [shift_of(frame) for take in takes for frame in take.read()]
        assert shifts == [round(yaw * 2) for yaw in np.degrees(track.motion.rotation_rad[:, 1])]
        self.learned.append(len(portrait.others))
        one = np.ones(1, np.float32)
        return PersonalDelta(np.zeros((1, 16, 16, 3), np.uint8), one, np.ones((1, 3), np.float32), one, one)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(str(FRAMES).encode())
    return folder


def test_every_row_is_judged_on_what_was_not_given(clips: Path, tmp_path: Path) -> None:
    people = People()
    options = PersonalOptions(clips, ROWS, tmp_path / "r.json", plots=False, every=2)
    report = run_personal(options, tools=PersonalTools(people.tools(), people.make_person, people.learn))
    assert report == load(options.out)
    entry = report["clips"]["a.mp4"]
    assert entry["given_frames"] == people.given[0] == FRAMES // 2
    assert people.learned == [1, 0]
    errors = [entry["avatars"][name]["metrics"]["l1"] for name in ("first", "personal", "personal+linear", "one source")]
    assert errors[0] > errors[1] > errors[2] == errors[3] == pytest.approx(0.0, abs=1e-6)


def test_a_clip_that_is_too_short(clips: Path, tmp_path: Path) -> None:
    (clips / "b.mp4").write_bytes(b"1")
    people = People()
    options = PersonalOptions(clips, ROWS, tmp_path / "r.json", plots=False, every=2)
    report = run_personal(options, tools=PersonalTools(people.tools(), people.make_person, people.learn))
    assert "too few" in report["clips"]["b.mp4"]["reason"]
    with pytest.raises(MediaError):
        run_personal(
            PersonalOptions(tmp_path, ROWS, tmp_path / "s.json", plots=False),
            tools=PersonalTools(people.tools(), people.make_person, people.learn),
        )


def test_a_person_of_some_clips_is_judged_on_others(clips: Path, tmp_path: Path) -> None:
    for name in ("anna_1", "anna_2", "anna_3"):
        (clips / f"{name}.mp4").write_bytes(str(FRAMES).encode())
    people = People()
    parts = PersonalTools(people.tools(), people.make_person, people.learn)

    def options(given: tuple[str, ...], judged: tuple[str, ...]) -> PersonalOptions:
        return PersonalOptions(clips, ROWS, tmp_path / "r.json", plots=False, every=4, given_clips=given, judged_clips=judged)

    report = run_personal(options(("anna_[12]*",), ("anna_3", "a.mp4")), tools=parts)
    # The person is made once, of all frames of two clips.
    assert people.given == [2 * FRAMES] and people.learned == [1, 0]
    assert list(report["clips"]) == ["a.mp4", "anna_3.mp4"]
    entry = report["clips"]["anna_3.mp4"]
    assert entry["given_clips"] == 2 and entry["evaluated_frames"] == len(range(0, FRAMES, 4))
    for given, judged, what in ((("nobody*",), ("a",), "nobody"), (("anna*",), ("anna_3",), "given and judged"), (("a",), ("b*",), "b")):
        with pytest.raises(MediaError, match=what):
            run_personal(options(given, judged), tools=parts)
    with pytest.raises(OptionError, match="go together"):
        options(("anna_1",), ())
    for more, what in (({"learn": 2.0}, "--learn"), ({"seed": 1}, "--seed")):
        with pytest.raises(OptionError, match=f"{what} does nothing without"):
            PersonalOptions(clips, ROWS, tmp_path / "r.json", **more)
    with pytest.raises(OptionError, match="no row 'middle'"):
        PersonalOptions(clips, ("middle",), tmp_path / "r.json")


class OneWorker(Executor):
    """One process of a pool, without the process: what is submitted arrives as a copy of its own, as it does there."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, work, /, *arguments, **named) -> Future:
        sent = pickle.dumps((work, arguments, named))
        work, arguments, named = pickle.loads(sent)
        done: Future = Future()
        done.set_result(work(*arguments, **named))
        return done


def minutes_of(minutes: float, ablation: str) -> None:
    return None


def test_a_process_makes_the_person_of_given_clips_once(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("anna_1", "anna_2"):
        (clips / f"{name}.mp4").write_bytes(str(FRAMES).encode())
    people, asked_for = People(), []

    def tools_of(teacher_of) -> PersonalTools:
        asked_for.append(teacher_of.args)
        return PersonalTools(people.tools(), people.make_person, people.learn)

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", OneWorker)
    monkeypatch.setattr(personal, "default_personal_tools", tools_of)
    rows = ("personal", "personal+delta")
    more = {"given_clips": ("anna_1",), "judged_clips": ("anna_2", "a.mp4"), "learn": 2.0, "seed": 7}
    options = PersonalOptions(clips, rows, tmp_path / "r.json", plots=False, every=4, jobs=2, **more)
    report = run_personal(options, teacher_of=partial(minutes_of, 2.0))
    assert [entry["status"] for entry in report["clips"].values()] == ["ok", "ok"]
    assert people.given == [FRAMES] and people.learned == [1] and asked_for == [(2.0,)]
    assert report["options"]["learn"] == 2.0 and report["options"]["seed"] == 7


def test_how_long_the_network_learned_stands_in_the_report(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So figures of four minutes do not stand beside those of eight; a wrong number is refused before anybody is made."""
    found: list[PersonalOptions] = []

    def run(options: PersonalOptions, **_: object) -> None:
        found.append(options)
        options.out.with_suffix(".md").write_text("done")

    monkeypatch.setattr(personal, "run_personal", run)
    words = ["evaluate", "personal", "--clips", str(clips), "-o", str(tmp_path / "r.json")]
    assert cli.main(words) == 0
    assert cli.main([*words, "--rows", "personal+delta"]) == 0
    assert cli.main([*words, "--rows", "personal+delta", "--learn", "8", "--seed", "3"]) == 0
    assert [(options.learn, options.seed) for options in found] == [(None, None), (4.0, 0), (8.0, 3)]
    for more in (["--learn", "8"], ["--rows", "personal+delta", "--learn", "0"], ["--rows", "personal+delta", "--learn", "601"]):
        assert cli.main([*words, *more]) == 2
    assert len(found) == 3
