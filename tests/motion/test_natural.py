"""Natural motion: rates, bounds, rest at the start, no period, and chunks that equal the whole."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.errors import OptionError
from triportrait.motion.controls import Controls
from triportrait.motion.lips import lip_opening
from triportrait.motion.natural import HEAD_LIMITS_RAD, NaturalMotion, blink_shape, idle_motion
from triportrait.motion.processes import Breath
from triportrait.motion.speech_features import Prosody
from triportrait.types import ARKIT_EXPRESSIONS, Motion

FIELDS = ("expression", "rotation_rad", "translation", "gaze_rad", "body")


def fake_speech(seconds: float, seed: int = 0) -> Prosody:
    """Syllables at an uneven rate in phrases of two to four seconds, with pitch accents."""
    random = np.random.default_rng(seed)
    count = int(seconds * 100)
    energy, pitch = np.full(count, -50.0), np.zeros(count)
    at = 0.3
    while at < seconds - 3:
        end = at + random.uniform(2, 4)
        while at < end:
            centre, width, size = at + 0.1, random.uniform(0.04, 0.08), random.uniform(-12, 0)
            rows = np.arange(int((at) * 100), min(int((at + 0.22) * 100), count))
            bump = size - 8 * ((rows / 100 - centre) / width) ** 2
            energy[rows] = np.maximum(energy[rows], bump)
            pitch[rows] = np.where(bump > -25, 120 * 2 ** ((size + 6) / 24), 0)
            at += random.uniform(0.15, 0.3)
        at = end + random.uniform(0.3, 0.9)
    return Prosody(pitch.astype(np.float32), (pitch > 0).astype(np.float32), energy.astype(np.float32))


def blinks(motion: Motion) -> int:
    lid = motion.expression[:, motion.column("eyeBlinkLeft")]
    return int(np.sum((lid[1:] > 0.6) & (lid[:-1] <= 0.6)))


def test_chunks_equal_the_whole() -> None:
    prosody = fake_speech(20)
    whole = idle_motion(500, seed=7, prosody=prosody)
    natural, random, parts = NaturalMotion(seed=7), np.random.default_rng(1), []
    start = 0
    while start < 2000:
        stop = start + int(random.integers(1, 90))
        columns = [getattr(prosody, name)[start:stop] for name in ("pitch_hz", "voicing", "energy_db")]
        natural.hear(Prosody(*columns))
        parts.append(natural.advance(int(random.integers(0, 40))))
        start = stop
    natural.end()
    parts.append(natural.advance(500 - sum(map(len, parts))))
    for field in FIELDS:
        np.testing.assert_array_equal(np.concatenate([getattr(part, field) for part in parts]), getattr(whole, field))


def test_seeds_and_start() -> None:
    first, again, other = idle_motion(100, seed=1), idle_motion(100, seed=1), idle_motion(100, seed=2)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert np.abs(first.rotation_rad - other.rotation_rad).max() > 0.005
    for motion in (first, other):
        assert not motion.rotation_rad[0].any() and not motion.translation[0].any() and not motion.gaze_rad[0].any()


@pytest.mark.parametrize("speech", [False, True])
def test_bounds_and_smoothness(speech: bool) -> None:
    motion = idle_motion(25 * 120, seed=3, prosody=fake_speech(120) if speech else None)
    degrees = np.degrees(motion.rotation_rad)
    assert (np.abs(degrees).max(axis=0) <= np.degrees(HEAD_LIMITS_RAD)).all()
    assert (degrees.std(axis=0) > [0.8, 1.5, 0.8]).all()
    # No jump: less than 5 degrees within 40 ms (speakers on video: 2.4 to 10), and no jerk from one such step to the next.
    steps = np.diff(degrees, axis=0)
    assert np.abs(steps).max() < 5.0
    assert np.abs(np.diff(steps, axis=0)).max() < 2.0
    assert np.abs(motion.translation).max() < 0.5
    assert motion.expression.min() >= 0 and motion.expression.max() <= 1
    assert np.degrees(np.abs(motion.gaze_rad)).max() < 25


def test_speech_enlivens() -> None:
    speaking = idle_motion(25 * 100, seed=5, prosody=fake_speech(100))
    silent = idle_motion(25 * 100, seed=5)

    def speed(motion: Motion) -> float:
        return float(np.abs(np.diff(motion.rotation_rad, axis=0)).mean())

    brow = speaking.column("browInnerUp")
    assert speed(speaking) > 1.5 * speed(silent)
    assert speaking.expression[:, brow].std() > 1.5 * silent.expression[:, brow].std()


def test_blink_rate_and_shape() -> None:
    counts = [blinks(idle_motion(25 * 180, seed=seed)) / 3 for seed in range(4)]
    assert 16 < np.mean(counts) < 28
    lid = idle_motion(25 * 60, seed=2).expression[:, Motion.column(idle_motion(2), "eyeBlinkLeft")]
    # Every blink shuts the eye on at least one frame.
    peaks = [lid[i] for i in range(1, len(lid) - 1) if lid[i] > 0.3 and lid[i] >= lid[i - 1] and lid[i] > lid[i + 1]]
    assert min(peaks) > 0.85
    assert blink_shape(0.0, 0.1, 0.05, 0.2) == 0 and blink_shape(0.12, 0.1, 0.05, 0.2) == 1 and blink_shape(1, 0.1, 0.05, 0.2) == 0


def test_never_periodic() -> None:
    motion = idle_motion(25 * 240, seed=9)
    lid = motion.expression[:, motion.column("eyeBlinkLeft")]
    starts = np.flatnonzero((lid[1:] > 0.6) & (lid[:-1] <= 0.6))
    intervals = np.diff(starts) / 25
    assert intervals.std() / intervals.mean() > 0.35
    yaw = motion.rotation_rad[:, 1] - motion.rotation_rad[:, 1].mean()
    correlation = np.correlate(yaw, yaw, "full")[len(yaw) - 1 :] / np.dot(yaw, yaw)
    assert correlation[25 * 10 : 25 * 120].max() < 0.5


def test_amounts() -> None:
    still = idle_motion(200, controls=Controls(head_motion=0.0, blinks_per_minute=0.0, gaze_motion=0.0, eye_contact=0.0))
    assert not still.rotation_rad.any() and not still.gaze_rad.any() and blinks(still) == 0
    assert np.abs(still.translation).max() < 1e-6
    full, half = idle_motion(200, seed=1), idle_motion(200, controls=Controls(head_motion=0.5), seed=1)
    np.testing.assert_allclose(half.rotation_rad, 0.5 * full.rotation_rad, atol=1e-6)
    assert blinks(idle_motion(25 * 120, controls=Controls(blinks_per_minute=40))) > 55
    with pytest.raises(OptionError, match="eye_contact"):
        Controls(eye_contact=2)


def test_eyes_counter_the_head() -> None:
    motion = idle_motion(2000, controls=Controls(gaze_motion=0.0, eye_contact=1.0), seed=2)
    # Looking down (positive pitch) asks for eyes up (positive), turning to image right (positive yaw) for eyes to the
    # left (negative).
    np.testing.assert_allclose(motion.gaze_rad[:, 0], motion.rotation_rad[:, 0], atol=1e-6)
    np.testing.assert_allclose(motion.gaze_rad[:, 1], -motion.rotation_rad[:, 1], atol=1e-6)


def test_shoulders_breathe_and_follow_their_head() -> None:
    still = idle_motion(1500, seed=4, controls=Controls(head_motion=0.0))
    assert not still.body.any()
    breath = Breath(0.04, np.random.default_rng(3))
    depth = np.array([breath.step(False, 10.0) for _ in range(1500)])
    spectrum = np.abs(np.fft.rfft(depth - depth.mean()))
    assert 0.18 < np.fft.rfftfreq(1500, 0.04)[spectrum.argmax()] < 0.33 and 0.6 < np.ptp(depth) < 1.4
    talking = idle_motion(1500, seed=4, prosody=fake_speech(60))
    assert not talking.body[0].any() and np.abs(talking.body[:, :2]).max() < 0.3
    head, shoulders = talking.translation[:, 0], talking.body[:, 0]
    lags = [np.corrcoef(head[: len(head) - lag], shoulders[lag:])[0, 1] for lag in range(25)]
    assert max(lags) > 0.8 and 2 <= int(np.argmax(lags)) <= 20
    assert np.abs(np.diff(talking.body, axis=0)).max() < 0.02


def test_a_speaker_breathes_deeper_in_pauses() -> None:
    breath, quiet = Breath(0.04, np.random.default_rng(0)), Breath(0.04, np.random.default_rng(0))
    rows = [(True, 0.0)] * 100 + [(True, 0.04 * i) for i in range(1, 20)] + [(True, 0.0)] * 90
    spoken = np.array([breath.step(*row) for row in rows])
    rest = np.array([quiet.step(False, 10.0) for _ in range(400)])
    assert 100 < spoken.argmax() < 135 and spoken[95] < 0.1 and spoken[-1] < 0.2 * spoken.max()
    assert spoken.max() > 0.9 * rest.max()


def test_the_mouths_corners_drift_and_part_no_lips() -> None:
    """As far as those of ten speakers of GRID do; ``temperature`` 0 leaves them alone."""
    motion = idle_motion(25 * 60, seed=3, prosody=fake_speech(60))
    smile, frown = (motion.expression[:, motion.column(name)] for name in ("mouthSmileLeft", "mouthFrownLeft"))
    assert 0.02 < smile.std() < 0.12 and smile[0] == 0 and not (smile * frown).any()
    assert lip_opening(motion.expression, ARKIT_EXPRESSIONS).max() < 1e-3
    calm = idle_motion(25 * 20, controls=Controls(temperature=0.0), seed=3, prosody=fake_speech(20))
    assert not calm.expression[:, calm.column("mouthSmileLeft")].any()


def test_a_turning_head_turns_at_the_top_of_the_spine() -> None:
    """Its middle goes to the side it looks to, and down when it nods."""
    motion = idle_motion(25 * 120, seed=3, prosody=fake_speech(120))
    rotation = motion.rotation_rad.astype(float)
    sideways = np.linalg.lstsq(rotation, motion.translation[:, 0], rcond=None)[0]
    down = np.linalg.lstsq(rotation, motion.translation[:, 1], rcond=None)[0]
    assert sideways[1] > 0.4 and sideways[2] < -0.4 and down[0] < -0.4
