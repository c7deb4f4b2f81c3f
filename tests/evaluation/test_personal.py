"""A person from the first part of a clip, judged on the rest: what is given, what is learned from, what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.test_reenact import FRAMES, Fakes, load, shift_of
from triportrait.errors import MediaError, OptionError
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
        track = PersonTrack(self.drive(first, frames, fps), np.zeros(len(frames)), np.ones(len(frames), bool), ())
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
    with pytest.raises(OptionError, match="no row 'middle'"):
        PersonalOptions(clips, ("middle",), tmp_path / "r.json")
