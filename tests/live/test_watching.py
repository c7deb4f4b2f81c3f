"""A portrait before a webcam: it does what is seen, waits for who is gone, idles, and comes back, without a jump."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from triportrait.live.motion import LiveMotion
from triportrait.live.quality import Step
from triportrait.live.session import LiveOptions, LiveSession
from triportrait.media.video import VideoReader
from triportrait.pipeline import Portrait
from triportrait.types import ARKIT_EXPRESSIONS, FPS

JAW = ARKIT_EXPRESSIONS.index("jawOpen")


class NoClock:
    """Everything is in time."""

    now = 0.0

    def now_s(self) -> float:
        return self.now

    def sleep_until(self, moment_s: float) -> None:
        self.now = moment_s


def test_a_face_before_the_webcam_is_followed_waited_for_and_found_again(talking_portrait: Portrait, clip: Path) -> None:
    options = LiveOptions()
    motion = LiveMotion(talking_portrait.prepared, options.drive, options.sample_rate_hz)
    session = LiveSession(motion, [Step("motion alone", None)], options, NoClock())
    run = session.run()
    with VideoReader(clip) as reader:
        spoken = [picture for _, picture in reader.frames(FPS)]
    nobody = np.zeros_like(spoken[0])
    rest = [spoken[0]] * 16
    pictures = [*rest, *spoken, *[nobody] * 40, *spoken]
    rows, seen = [], []
    for picture in pictures:
        seen.append(session.push_frame(picture))
        rows.append(next(run).motion)
    assert seen == [picture is not nobody for picture in pictures]
    jaw = np.array([row.expression[JAW] for row in rows])
    followed = slice(len(rest), len(rest) + len(spoken))
    # The clip is this portrait speaking; what was said is known.
    wanted = talking_portrait.talk(_voice_of(clip)).motion().expression[: len(spoken), JAW]
    lags = [np.corrcoef(jaw[followed][lag:], wanted[: len(wanted) - lag])[0, 1] for lag in range(4)]
    assert max(lags) > 0.8 and int(np.argmax(lags)) <= 2
    # For half a second the face stays as it was; then it idles with the mouth shut.
    gone = len(rest) + len(spoken)
    assert np.array_equal(rows[gone + 10].rotation_rad, rows[gone].rotation_rad)
    assert jaw[gone + 25 : gone + 40].max() < 0.02
    back = gone + 40
    assert jaw[back + 10 :].max() > 0.5 * jaw[followed].max()
    turns = np.stack([row.rotation_rad for row in rows])
    assert np.abs(np.diff(turns, axis=0)).max() < 0.06


def test_a_picture_without_a_face_changes_nothing(talking_portrait: Portrait) -> None:
    runs = []
    for pushes in (True, False):
        options = LiveOptions()
        motion = LiveMotion(talking_portrait.prepared, options.drive, options.sample_rate_hz)
        session = LiveSession(motion, [Step("motion alone", None)], options, NoClock())
        if pushes:
            assert not any(session.push_frame(np.zeros((240, 320, 3), np.uint8)) for _ in range(3))
        runs.append([frame.motion.expression for frame in islice(session.run(), 10)])
    assert np.array_equal(*runs)


def _voice_of(clip: Path):
    from triportrait.media.audio import read_audio

    return read_audio(clip)
