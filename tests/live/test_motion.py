"""The endless motion: the same face as a recording's, and a mouth that closes when it is interrupted."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from triportrait.errors import OptionError
from triportrait.live.motion import LiveMotion
from triportrait.live.quality import Step
from triportrait.live.session import LiveOptions, LiveSession
from triportrait.motion.lips import lip_opening
from triportrait.motion.options import DriveOptions
from triportrait.pipeline import Portrait
from triportrait.types import ARKIT_EXPRESSIONS, Waveform

SPEECH, RATE_HZ = soundfile.read(Path(__file__).resolve().parents[2] / "examples" / "speech.wav", dtype="float32")
SLOT = RATE_HZ // 25


class NoClock:
    """Everything is in time."""

    now = 0.0

    def now_s(self) -> float:
        return self.now

    def sleep_until(self, moment_s: float) -> None:
        self.now = moment_s


def session(portrait: Portrait, **drive) -> LiveSession:
    options = LiveOptions(sample_rate_hz=RATE_HZ, drive=DriveOptions(**drive))
    return LiveSession(LiveMotion(portrait.prepared, options.drive, RATE_HZ), [Step("motion alone", None)], options, NoClock())


def test_live_and_recorded_are_the_same_face(talking_portrait: Portrait) -> None:
    speech = SPEECH[: 60 * SLOT]
    live = session(talking_portrait)
    live.push_audio(speech)
    rows = [frame.motion for frame in islice(live.run(), 40)]
    expected = talking_portrait.talk(Waveform(speech, RATE_HZ)).motion()
    for name in ("expression", "rotation_rad", "translation", "gaze_rad"):
        got = np.stack([getattr(row, name) for row in rows])
        assert np.abs(got - getattr(expected, name)[:40]).max() < 1e-4, name


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
def test_a_voice_that_is_there_begins_at_once_and_says_what_it_would_have_said(talking_portrait: Portrait, rate_hz: int) -> None:
    options = LiveOptions(sample_rate_hz=rate_hz)
    live = LiveSession(LiveMotion(talking_portrait.prepared, options.drive, rate_hz), [Step("motion alone", None)], options, NoClock())
    run, speech = live.run(), SPEECH[int(np.argmax(np.abs(SPEECH) > 0.03)) :][: 60 * SLOT]
    for turn in range(3):
        before = list(islice(run, 40))
        live.push_audio(speech, RATE_HZ)
        live.flush()
        frames = list(islice(run, 60))
        assert frames[0].reply == turn + 1 and not before[-1].reply
        rows = np.stack([frame.motion.expression for frame in frames])
        if not turn:
            sound = np.concatenate([np.zeros(40 * SLOT, np.float32), speech])
            expected = talking_portrait.talk(Waveform(sound, RATE_HZ)).motion().expression[40:]
            jaw = ARKIT_EXPRESSIONS.index("jawOpen")
            # The first rows open; from there on it is the same mouth, up to what resampling changes.
            assert np.abs(rows[3:50, jaw] - expected[3:50, jaw]).max() < 0.03
            assert rows[0, jaw] < 0.1


def test_an_interrupted_mouth_closes_within_160_ms_and_opens_again(talking_portrait: Portrait) -> None:
    jaw = ARKIT_EXPRESSIONS.index("jawOpen")
    voiced = SPEECH[int(np.argmax(np.abs(SPEECH) > 0.03)) :]
    for cut in range(30, 90, 6):
        live, twin = (session(talking_portrait) for _ in range(2))
        runs = live.run(), twin.run()
        for one, run in zip((live, twin), runs, strict=True):
            list(islice(run, 10))
            one.push_audio(voiced)
        last = [list(islice(run, cut))[-1] for run in runs][0]
        live.interrupt()
        after, on = ([frame.motion for frame in islice(run, 30)] for run in runs)
        opened = np.array([row.expression[jaw] for row in [last.motion, *after]])
        # 40 ms may pass before the first of these frames.
        assert (opened[3:] < 0.02).all()
        assert max(float(lip_opening(row.expression, ARKIT_EXPRESSIONS)) for row in after[3:]) < 0.01
        assert (np.diff(opened[:4]) <= 0.01).all()
        # Head, lids and gaze go on as if nothing had been, and learn of the silence little by little.
        lid = ARKIT_EXPRESSIONS.index("eyeBlinkLeft")
        assert np.array_equal(after[0].rotation_rad, on[0].rotation_rad) and np.array_equal(after[0].gaze_rad, on[0].gaze_rad)
        assert after[0].expression[lid] == on[0].expression[lid]
        for row, other in zip(after[:4], on[:4], strict=True):
            assert np.abs(row.rotation_rad - other.rotation_rad).max() < 0.01
    live.push_audio(voiced)
    assert max(frame.motion.expression[jaw] for frame in islice(runs[0], 60)) > 0.1


def test_controls_change_a_face_within_some_rows_and_without_a_jump(talking_portrait: Portrait) -> None:
    live = session(talking_portrait, head_motion=0.0)
    run, brow = live.run(), ARKIT_EXPRESSIONS.index("browInnerUp")
    before = [next(run).motion.expression[brow] for _ in range(25)]
    live.set_controls(emotion="surprised", emotion_strength=0.8)
    after = [next(run).motion.expression[brow] for _ in range(20)]
    assert after[0] > before[-1] + 0.02 and after[-1] > before[-1] + 0.2
    assert np.abs(np.diff([before[-1], *after])).max() < 0.5 * (after[-1] - before[-1])
    with pytest.raises(OptionError, match="set_controls"):
        LiveMotion(talking_portrait.prepared, DriveOptions(controls="curves.csv"), RATE_HZ)


def test_pictures_of_all_steps_show_the_same_person(talking_portrait: Portrait) -> None:
    with talking_portrait.live(LiveOptions(sample_rate_hz=RATE_HZ)) as live:
        frame = next(live.run())
        steps = [step for step in live._steps if step.draw is not None]
        pictures = [step.draw(frame.motion).astype(float) for step in steps if step.draw is not None]
    assert [step.name for step in live._steps] == ["oneshot 256 px", "lifted 256 px", "lifted 256 px, every other picture", "motion alone"]
    assert all(picture.shape == (256, 256, 3) for picture in pictures)
    assert all(np.abs(picture - pictures[0]).mean() < 4.0 for picture in pictures)
    assert replace(live.stats, lead_s=0.0).frames == 1
