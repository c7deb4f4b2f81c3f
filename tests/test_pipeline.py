"""Files in, talking portraits out: the whole way, on a real photograph and a voice of ours."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import triportrait
from triportrait.background import Background
from triportrait.drivers import motion_of_video
from triportrait.errors import EmptyMedia, NoFaceFound, OptionError
from triportrait.face.portrait import PortraitOptions
from triportrait.geometry.curve_range import lowest_curves
from triportrait.media.audio import read_audio
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.motion.files import load_motion, save_motion
from triportrait.motion.lips import lip_opening
from triportrait.motion.options import DriveOptions
from triportrait.pipeline import Portrait, prepare
from triportrait.provenance.detect import detect
from triportrait.provenance.maker import NO_MAKER, maker_number
from triportrait.provenance.marks import Marks
from triportrait.reenactment import motion_of_frames
from triportrait.types import WARP_COLUMNS, Motion, MotionFrame

ROOT = Path(__file__).resolve().parents[1]
UNMARKED = Marks(label=False, watermark=False, manifest=False)


def read(path: Path) -> np.ndarray:
    """All frames of a video: uint8 [t, h, w, 3]."""
    with VideoReader(path) as reader:
        return np.stack([image for _, image in reader.frames(None)])


def images(frames) -> np.ndarray:
    return np.stack([frame.image for frame in frames])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def opening_of(landmarks: np.ndarray) -> np.ndarray:
    """Inner lip gap in face heights [t] of tracked landmarks [t, 478, 3]."""
    gap = np.linalg.norm(landmarks[:, 13, :2] - landmarks[:, 14, :2], axis=1)
    return gap / np.linalg.norm(landmarks[:, 10, :2] - landmarks[:, 152, :2], axis=1)


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of the example speech."""
    samples, rate_hz = soundfile.read(ROOT / "examples" / "speech.wav")
    path = tmp_path_factory.mktemp("sentence") / "sentence.wav"
    soundfile.write(path, samples[: 3 * rate_hz], rate_hz)
    return path


@pytest.fixture(scope="module")
def talking(talking_portrait: Portrait, sentence: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut saying it, with all marks."""
    return talking_portrait.talk(sentence).save(tmp_path_factory.mktemp("talking") / "talking.mp4")


@pytest.fixture(scope="module")
def clip_motion(clip: Path) -> Motion:
    """What the clip's person does."""
    return motion_of_video(clip)


# -- a voice ---------------------------------------------------------------------------------------------------------------


def test_a_photo_talks(talking_portrait: Portrait, sentence: Path, talking: Path, face_tracker) -> None:
    frames, sound = read(talking), read_audio(talking)
    assert frames.shape == (75, 256, 256, 3)
    assert abs(sound.seconds - len(frames) / 25) <= 1 / 25
    # The voice is in it, in step: the best lag is within a tenth of a frame.
    voice = read_audio(sentence).samples
    lags = range(-400, 401, 8)
    match = [float(np.dot(voice[400:-800], sound.samples[400 + lag : len(voice) - 800 + lag])) for lag in lags]
    assert abs(lags[int(np.argmax(match))]) <= 64

    seen = list(face_tracker.track(frames))
    assert all(found for _, found in seen)
    landmarks = np.stack([row for row, _ in seen])
    motion = talking_portrait.talk(sentence).motion()
    asked = lip_opening(motion.expression, motion.expression_names)
    assert len(motion) == 75 and np.ptp(asked) > 0.02
    assert np.corrcoef(opening_of(landmarks), asked)[0, 1] > 0.9
    # The head follows its pose: 2 px at 256.
    nose = landmarks[:, 4, 0] - landmarks[0, 4, 0]
    assert np.corrcoef(nose, motion.rotation_rad[:, 1] - motion.rotation_rad[0, 1])[0, 1] > 0.8
    # The rest of the picture stays.
    corner = frames[:, :24, :24].astype(float)
    assert np.abs(corner - corner[0]).mean() < 2.0


def test_the_file_says_what_it_is(talking: Path, sentence: Path) -> None:
    report = detect(read(talking), talking)
    assert report.is_marked
    assert report.watermark.found and report.maker_number == NO_MAKER
    assert report.manifest.state in ("trusted", "valid") and report.manifest.is_generated
    assert set(report.manifest.ingredients) == {"voice"}
    assert report.manifest.watermark_payload == NO_MAKER


def test_the_file_says_who_made_it_and_that_the_person_agreed(talking_portrait: Portrait, voice: Path, tmp_path: Path) -> None:
    marks = Marks(maker="Ada Example", consent="She wrote so.")
    out = talking_portrait.talk(voice).save(tmp_path / "out.mp4", marks=marks)
    report = detect(read(out), out)
    assert report.maker_number == maker_number("Ada Example") and report.number_fits_statement
    assert (report.manifest.maker, report.manifest.consent) == ("Ada Example", "She wrote so.")


def test_a_maker_that_cannot_be_stated_is_refused_first(talking_portrait: Portrait, voice: Path, tmp_path: Path) -> None:
    for marks in (Marks(maker="a\nb"), Marks(consent="yes", manifest=False)):
        with pytest.raises(OptionError):
            talking_portrait.talk(voice).save(tmp_path / "out.mp4", marks=marks)
    assert not list(tmp_path.iterdir())


def test_marks_can_be_left_out(clip: Path) -> None:
    assert not detect(read(clip), clip).is_marked


def test_seeds_reproduce(talking_portrait: Portrait, sentence: Path) -> None:
    one, again, other = (talking_portrait.talk(sentence, DriveOptions(seed=seed)).motion() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.rotation_rad, again.rotation_rad)
    np.testing.assert_array_equal(one.expression, again.expression)
    assert np.abs(one.rotation_rad - other.rotation_rad).max() > 0.005


def test_frames_come_out_the_same_each_time(talking_portrait: Portrait, voice: Path, tmp_path: Path) -> None:
    """Streamed, twice, and in chunks of another size: the same pictures; and files of the same bytes."""
    performance = talking_portrait.talk(voice)
    first = images(performance)
    np.testing.assert_array_equal(first, images(performance.frames()))
    whole = performance.motion()
    joined = [talking_portrait.model.step(talking_portrait.state, row)[0] for row in whole]
    np.testing.assert_array_equal(first, joined)
    files = [performance.save(tmp_path / f"{i}.mp4", marks=Marks(manifest=False)).read_bytes() for i in (1, 2)]
    assert files[0] == files[1]
    times = [frame.time_s for frame in islice(performance, 3)]
    assert times == pytest.approx([0.0, 0.04, 0.08])


def test_controls_of_a_voice(talking_portrait: Portrait, sentence: Path) -> None:
    def motion(**options):
        return talking_portrait.talk(sentence, DriveOptions(**options)).motion()

    plain = motion()
    names = plain.expression_names
    opening = {gain: lip_opening(motion(mouth_gain=gain).expression, names).max() for gain in (0.0, 0.5, 1.0, 1.5)}
    assert opening[0.0] < 0.005 < opening[0.5] < opening[1.0] < opening[1.5]
    still = motion(pose="still")
    own = talking_portrait.prepared.motion
    np.testing.assert_allclose(still.rotation_rad, np.tile(own.rotation_rad, (len(still), 1)), atol=1e-6)
    np.testing.assert_allclose(still.translation, np.tile(own.translation, (len(still), 1)), atol=1e-6)
    assert np.ptp(motion(head_motion=2.0).rotation_rad, axis=0).max() > np.ptp(plain.rotation_rad, axis=0).max()
    blink = plain.column("eyeBlinkLeft")
    assert np.ptp(motion(blink="none").expression[:, blink]) < 0.2
    assert motion(blink="60").expression[:, blink].max() > own.expression[blink] + 0.5


# -- a driving video -------------------------------------------------------------------------------------------------------


def test_a_photo_does_what_a_clip_does(talking_portrait: Portrait, clip: Path, tmp_path: Path, face_tracker) -> None:
    """The astronaut drives the astronaut: the copy does what the clip does."""
    out = talking_portrait.drive(clip).save(tmp_path / "driven.mp4", marks=UNMARKED)
    driving, driven = read(clip), read(out)
    assert driven.shape == driving.shape
    assert abs(read_audio(out).seconds - 1.0) <= 0.04
    tracks = [np.stack([row for row, _ in face_tracker.track(frames)]) for frames in (driving, driven)]
    # At 256 px, with the head in motion, the tracker alone is worth some hundredths.
    assert np.corrcoef(opening_of(tracks[0]), opening_of(tracks[1]))[0, 1] > 0.8
    # Every landmark stays within 2 % of the picture of the clip's.
    assert np.linalg.norm(tracks[0][..., :2] - tracks[1][..., :2], axis=-1).mean() < 0.02 * 256


def test_extract_edit_render(talking_portrait: Portrait, clip_motion: Motion, tmp_path: Path, face_tracker) -> None:
    motion = clip_motion
    assert len(motion) == 25 and motion.fps == 25.0
    assert (motion.expression >= lowest_curves(motion.expression_names)).all() and motion.expression.max() <= 1.0
    save_motion(motion, tmp_path / "motion.csv")
    with (tmp_path / "motion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    heading = next(i for i, row in enumerate(rows) if row[0] == "time_s")
    jaw = rows[heading].index("jawOpen")
    for frame, row in enumerate(rows[heading + 1 :]):
        row[jaw] = "0.6" if 10 <= frame < 15 else "0"
    with (tmp_path / "edited.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    edited = load_motion(tmp_path / "edited.csv")
    np.testing.assert_allclose(edited.rotation_rad, motion.rotation_rad, atol=1e-6)
    np.testing.assert_array_equal(edited.expression[:, edited.column("jawOpen")] == 0.6, np.isin(np.arange(25), range(10, 15)))

    frames = images(talking_portrait.perform(tmp_path / "edited.csv"))
    opening = opening_of(np.stack([row for row, _ in face_tracker.track(frames)]))
    assert opening[10:15].min() > np.delete(opening, range(10, 15)).max() + 0.02


def test_a_saved_motion_is_the_motion(talking_portrait: Portrait, clip: Path, clip_motion: Motion, tmp_path: Path) -> None:
    motion = clip_motion
    save_motion(motion, tmp_path / "motion.npz")
    direct = images(talking_portrait.perform(motion))
    np.testing.assert_array_equal(direct, images(talking_portrait.perform(tmp_path / "motion.npz")))
    np.testing.assert_array_equal(direct, images(talking_portrait.drive(clip)))


def test_a_motion_file_with_a_voice_beside_it(talking_portrait: Portrait, clip_motion: Motion, voice: Path, tmp_path: Path) -> None:
    save_motion(clip_motion, tmp_path / "motion.npz")
    out = talking_portrait.perform(tmp_path / "motion.npz", sound=voice).save(tmp_path / "out.mp4")
    assert abs(read_audio(out).seconds - 1.0) <= 0.04
    assert set(detect(read(out), out).manifest.ingredients) == {"motion", "voice"}


def test_clips_of_any_rate_keep_their_length(talking_portrait: Portrait, clip: Path, tmp_path: Path) -> None:
    frames = read(clip)
    with VideoWriter(tmp_path / "slow.mp4", (256, 256), 12.5) as writer:
        for frame in frames[::2]:
            writer.write(frame)
    driven = talking_portrait.drive(tmp_path / "slow.mp4")
    assert len(images(driven)) == 26 and driven.fps == 25.0


@pytest.mark.parametrize("reference", ["first", "neutral"])
def test_the_reference_row_shows_the_photo(talking_portrait: Portrait, clip_motion: Motion, reference: str) -> None:
    """Where the clip is at its reference, the portrait looks as photographed (lips aside, which may be closed)."""
    from triportrait.motion.retarget import neutral_row

    motion = clip_motion
    row = 0 if reference == "first" else neutral_row(motion)
    placed = talking_portrait.perform(motion, DriveOptions(reference=reference)).motion()
    np.testing.assert_allclose(placed.rotation_rad[row], talking_portrait.prepared.motion.rotation_rad, atol=1e-5)
    frame = images(talking_portrait.perform(motion, DriveOptions(reference=reference)))[row]
    assert psnr(frame, talking_portrait.prepared.image) > 26.0


# -- clips with cuts, absences, several people ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def takes(clip: Path) -> np.ndarray:
    """The clip's frames to and fro: 49 of 256 x 256."""
    frames = read(clip)
    return np.concatenate([frames, frames[-2::-1]])


def written(path: Path, frames: list[np.ndarray]) -> Path:
    with VideoWriter(path, (frames[0].shape[1], frames[0].shape[0]), 25.0) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))
    return path


def largest_steps(motion: Motion) -> tuple[float, float]:
    """From row to row: of the translation in decimetres and of the angles in radians."""
    return float(np.abs(np.diff(motion.translation, axis=0)).max()), float(np.abs(np.diff(motion.rotation_rad, axis=0)).max())


@pytest.mark.parametrize("second", ["at the other side", "in the corner, smaller and mirrored"])
def test_a_cut_to_somebody_elsewhere_does_not_throw_the_head(
    takes: np.ndarray, tmp_path: Path, second: str, caplog: pytest.LogCaptureFixture
) -> None:
    def shot(take: np.ndarray, first: bool) -> np.ndarray:
        image = np.full((300, 560, 3), 60 if first else 140, np.uint8)
        if first:
            image[20:276, 10:266] = take
        elif second == "at the other side":
            image[40:296, 300:556] = take
        else:
            image[100:292, 340:532] = np.array(Image.fromarray(take[:, ::-1]).resize((192, 192)))
        return image

    path = written(tmp_path / "shots.mp4", [shot(take, i // 16 % 2 == 0) for i, take in enumerate(takes[:48])])
    motion = motion_of_video(path)
    assert len(motion) == 48
    # Thrown, it would go by decimetres; the farthest axis, towards the camera, is the least sure.
    assert np.ptp(motion.translation, axis=0).max() < 0.6
    assert max(largest_steps(motion)) < 0.3
    said = [record.message for record in caplog.records if "cuts" in record.message]
    assert len(said) == 1 and "shots.mp4" in said[0] and "0.64 s, 1.28 s" in said[0]


@pytest.mark.parametrize("absence", ["black", "leaves sideways"])
def test_a_face_out_of_sight_rests(
    talking_portrait: Portrait, takes: np.ndarray, tmp_path: Path, absence: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = list(takes)
    if absence == "black":
        frames[15:32] = [np.zeros_like(frame) for frame in frames[15:32]]
    else:
        frames = [np.pad(frame, ((0, 0), (120, 120), (0, 0)), mode="edge") for frame in frames]
        for i in range(12, 35):
            frames[i] = np.roll(frames[i], min(40 * (i - 11), 40 * (35 - i), 300), axis=1)
            frames[i][:, : min(40 * (i - 11), 40 * (35 - i), 300)] = 90
    path = written(tmp_path / "away.mp4", frames)
    placed = talking_portrait.drive(path).motion()
    own = talking_portrait.prepared.motion
    away = np.linalg.norm(placed.translation - own.translation, axis=1)
    # Nothing jumps: from the moment that the face is gone, the head goes back to where the photo has it.
    assert (np.diff(away[18:29]) < 1e-3).all() and away[28] < 0.5 * away.max()
    np.testing.assert_allclose(placed.rotation_rad[28], own.rotation_rad, atol=0.05)
    if absence == "black":
        np.testing.assert_allclose(placed.translation[28], own.translation, atol=0.02)
    assert np.abs(placed.translation - own.translation).max() < 0.65
    said = [record.message for record in caplog.records if "does not show" in record.message]
    assert len(said) == 1 and "of 49 frames" in said[0]


def test_one_of_two_people_drives(takes: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The one at the left speaks; the other, larger, is a still."""
    still = np.array(Image.fromarray(takes[0]).resize((320, 320)))
    frames = []
    for take in takes[:25]:
        image = np.full((320, 576, 3), 90, np.uint8)
        image[32:288, :256], image[:, 256:] = take, still
        frames.append(image)
    path = written(tmp_path / "two.mp4", frames)
    alone = motion_of_video(written(tmp_path / "one.mp4", list(takes[:25])))
    largest, left = motion_of_video(path), motion_of_video(path, face=1)
    jaw = alone.column("jawOpen")
    assert np.ptp(largest.expression[:, jaw]) < 0.3 * np.ptp(left.expression[:, jaw])
    assert np.corrcoef(left.expression[:, jaw], alone.expression[:, jaw])[0, 1] > 0.9
    assert sum("2 people" in record.message for record in caplog.records) == 1
    with pytest.raises(NoFaceFound, match=r"two\.mp4': there is no face 3"):
        motion_of_video(path, face=3)
    with pytest.raises(OptionError, match="counted from the left"):
        DriveOptions(driver_face=0)


def test_a_person_is_chosen_only_where_a_video_shows_some(
    talking_portrait: Portrait, clip_motion: Motion, voice: Path, tmp_path: Path
) -> None:
    save_motion(clip_motion, tmp_path / "pose.npz")
    for options, reason in (
        (DriveOptions(driver_face=2), "none is given"),
        (DriveOptions(driver_face=2, head_motion=tmp_path), "names a folder"),
        (DriveOptions(driver_face=2, pose=str(tmp_path / "pose.npz")), "names a motion file"),
    ):
        with pytest.raises(OptionError, match=f"^--driver-face chooses a person .*{reason}.*leave it out$"):
            talking_portrait.talk(voice, options)
        with pytest.raises(OptionError, match=reason):
            talking_portrait.perform(clip_motion, options)
    with pytest.raises(OptionError, match="none is given"):
        talking_portrait.idle(1.0, DriveOptions(driver_face=1))


@pytest.mark.parametrize(("quarter", "way"), [(1, "90 degrees to the right"), (2, "180 degrees")])
def test_a_clip_that_lies_drives_as_it_would_upright(
    takes: np.ndarray, tmp_path: Path, quarter: int, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two people laid down the left one is followed; somebody upside down is alone. Both speak, after a moment of nobody."""
    frames = [np.full((300, 560, 3), 90, np.uint8)] * 3
    for take in takes[:13]:
        image = np.full((300, 560, 3), 90, np.uint8)
        image[20:276, 4:260] = take
        if quarter == 1:
            image[30:286, 300:556] = takes[0]
        frames.append(image)
    number = 1 if quarter == 1 else None
    upright = motion_of_video(written(tmp_path / "upright.mp4", frames), face=number)
    caplog.clear()
    lying = motion_of_video(written(tmp_path / "lying.mp4", [np.rot90(frame, quarter) for frame in frames]), face=number)
    assert [record.getMessage() for record in caplog.records] == [
        f"'{tmp_path / 'lying.mp4'}' is not upright; its frames are turned by {way}"
    ]
    jaw = upright.column("jawOpen")
    assert np.corrcoef(upright.expression[3:, jaw], lying.expression[3:, jaw])[0, 1] > 0.9
    np.testing.assert_allclose(lying.rotation_rad[3:], upright.rotation_rad[3:], atol=0.05)
    np.testing.assert_allclose(lying.translation[3:, :2], upright.translation[3:, :2], atol=0.1)


def nose_of(portrait: Portrait, row: MotionFrame) -> np.ndarray:
    """The tip of the nose in pixels of the crop."""
    from triportrait.drivers import default_head
    from triportrait.geometry.cameras import pose_points, project

    head, prepared = default_head(), portrait.prepared
    points = head.landmarks478(head.shape(prepared.identity) + prepared.vertex_offset)[4:5].astype(np.float64)
    return project(pose_points(points, row.rotation_rad, row.translation), prepared.image.shape[0], prepared.focal)[0][0]


@pytest.mark.parametrize("way", [(4.0, 0.0, 0.0), (-1.5, 2.0, 0.0), (0.0, -3.0, 0.0), (0.0, 0.0, 7.0), (1.0, 1.0, -20.0)])
@pytest.mark.parametrize("part", ["driver", "pose"])
def test_a_head_stays_on_its_neck_whatever_a_motion_file_says(
    talking_portrait: Portrait, sentence: Path, tmp_path: Path, way: tuple[float, ...], part: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody walks away in a second: the head stays in the picture, and what is drawn stays in one piece."""
    from scipy import ndimage

    away = np.concatenate([np.zeros(30), np.linspace(0, 1, 25)])[:, None] * np.array(way)
    turn = np.concatenate([np.zeros(30), np.linspace(0, 1.2, 25)])[:, None] * (0.3, 1.0, 0.3)
    path = tmp_path / "walk.npz"
    save_motion(Motion(np.zeros((55, 44), np.float32), np.float32(turn), np.float32(away), np.zeros((55, 2), np.float32)), path)
    if part == "driver":
        performance = talking_portrait.perform(path)
    else:
        performance = talking_portrait.talk(sentence, DriveOptions(pose=str(path)))
    said = [record.message for record in caplog.records if "farther than a portrait" in record.message]
    assert len(said) == 1 and "turned" in said[0]
    motion = performance.motion()
    green = next(Background("green").frames(256, 25.0))
    image, _ = talking_portrait.model.step(talking_portrait.state, motion[54], green)
    person = np.abs(image.astype(int) - (0, 177, 64)).sum(-1) > 60
    pieces, count = ndimage.label(person)
    assert np.bincount(pieces[person]).max() > 0.98 * person.sum()
    nose = nose_of(talking_portrait, motion[54])
    assert (nose > 40).all() and (nose < 216).all()


# -- pose ------------------------------------------------------------------------------------------------------------------


def test_still_keeps_the_pose(talking_portrait: Portrait, clip_motion: Motion) -> None:
    motion = talking_portrait.perform(clip_motion, DriveOptions(pose="still")).motion()
    own = talking_portrait.prepared.motion
    np.testing.assert_array_equal(motion.rotation_rad, np.tile(own.rotation_rad, (25, 1)))
    np.testing.assert_array_equal(motion.translation, np.tile(own.translation, (25, 1)))
    assert np.ptp(motion.expression[:, motion.column("jawOpen")]) > 0.02


def test_natural_pose_replaces_the_clips(talking_portrait: Portrait, clip_motion: Motion) -> None:
    natural = [talking_portrait.perform(clip_motion, DriveOptions(pose="natural", seed=seed)).motion() for seed in (0, 0, 1)]
    driving = talking_portrait.perform(clip_motion).motion()
    np.testing.assert_array_equal(natural[0].rotation_rad, natural[1].rotation_rad)
    assert np.abs(natural[0].rotation_rad - natural[2].rotation_rad).max() > 1e-3
    np.testing.assert_array_equal(natural[0].expression, driving.expression)


@pytest.mark.parametrize("kind", ["video", "motion file"])
def test_the_head_of_one_and_the_mouth_of_another(
    talking_portrait: Portrait, clip: Path, clip_motion: Motion, sentence: Path, tmp_path: Path, kind: str
) -> None:
    source = clip
    if kind == "motion file":
        source = tmp_path / "pose.npz"
        save_motion(clip_motion, source)
    voice_alone = talking_portrait.talk(sentence, DriveOptions(pose="still")).motion()
    both = talking_portrait.talk(sentence, DriveOptions(pose=str(source))).motion()
    np.testing.assert_array_equal(both.expression, voice_alone.expression)
    clip_pose = talking_portrait.perform(clip_motion, DriveOptions(reference="first")).motion()
    # 25 rows to and fro over 75.
    for start, rows in ((0, slice(None)), (24, slice(None, None, -1)), (48, slice(None))):
        np.testing.assert_allclose(both.rotation_rad[start : start + 25], clip_pose.rotation_rad[rows], atol=1e-5)


def test_the_head_comes_from_one_of_the_nearest_clips_of_a_library(
    talking_portrait: Portrait, clip_motion: Motion, sentence: Path, tmp_path: Path
) -> None:
    own = talking_portrait.prepared.motion
    turn = np.linspace(-0.3, 0.3, 60)[:, None] * np.array([[0.2, 1.0, 0.1]])
    still = {name: np.zeros((60, size), np.float32) for name, size in (("expression", 44), ("translation", 3), ("gaze_rad", 2))}
    # Ten that begin near to the photo's pose and turn to one side, three that begin far away and turn to the other.
    for index in range(13):
        offset, way = (0.02 * index, 1.0) if index < 10 else (0.9, -1.0)
        rotation = (own.rotation_rad + way * (turn - turn[0]) + np.array([0.0, offset, 0.0])).astype(np.float32)
        still["translation"][:, 0] = np.linspace(0.0, 0.01 * index, 60)
        save_motion(Motion(rotation_rad=rotation, **still), tmp_path / f"{index}.npz")
    options = [DriveOptions(head_motion=tmp_path, eye_contact=1.0, gaze_motion=0.0, seed=seed) for seed in range(6)]
    motions = [talking_portrait.talk(sentence, one).motion() for one in (options[0], *options)]
    motion = motions[0]
    # Chance takes one, and the seed is all of chance; never one that begins far away.
    np.testing.assert_array_equal(motions[1].translation, motion.translation)
    assert len({float(one.translation[50, 0]) for one in motions}) > 2
    assert all(np.diff(one.rotation_rad[:30, 1]).min() > 0 for one in motions)
    # It starts in the portrait's own pose and goes on as the clip does.
    np.testing.assert_allclose(motion.rotation_rad[0], own.rotation_rad, atol=1e-4)
    assert np.diff(motion.rotation_rad[:30, 1]).min() > 0
    assert motion.rotation_rad[24, 1] - own.rotation_rad[1] == pytest.approx(24 * 0.6 / 59, rel=0.1)
    # The eyes stay where they looked.
    assert np.corrcoef(motion.gaze_rad[:30, 1], motion.rotation_rad[:30, 1])[0, 1] < -0.99
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="no video and no motion file"):
        talking_portrait.talk(sentence, DriveOptions(head_motion=str(tmp_path / "empty")))
    with pytest.raises(OptionError, match="give one of them"):
        DriveOptions(pose="still", head_motion=str(tmp_path))


def test_emotion_is_laid_over_a_clip_and_takes_its_opposite_away(talking_portrait: Portrait, clip_motion: Motion, sentence: Path) -> None:
    plain, sad = (talking_portrait.perform(clip_motion, DriveOptions(emotion=emotion)).motion() for emotion in ("neutral", "sad"))
    assert sad.expression[:, sad.column("mouthFrownLeft")].mean() > plain.expression[:, plain.column("mouthFrownLeft")].mean() + 0.2
    # The astronaut's own smile goes when the voice is sad.
    options = DriveOptions(emotion="sad", emotion_strength=1.0)
    smile = [talking_portrait.talk(sentence, o).motion() for o in (DriveOptions(), options)]
    smile = [motion.expression[-20:, motion.column("mouthSmileLeft")].mean() for motion in smile]
    assert smile[1] < 0.5 * smile[0]


def test_idle(talking_portrait: Portrait) -> None:
    idle = talking_portrait.idle(2.0, DriveOptions(seed=3))
    frames = images(idle)
    assert len(frames) == 50 and idle.sound is None
    motion = idle.motion()
    assert lip_opening(motion.expression, motion.expression_names).max() < 0.01
    assert np.ptp(motion.rotation_rad, axis=0).max() > 0.005


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_idle_refuses_impossible_lengths(talking_portrait: Portrait, seconds: float) -> None:
    with pytest.raises(OptionError, match="no length for idling"):
        talking_portrait.idle(seconds)


# -- pictures --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["colour", "name", "picture", "video"])
def test_backgrounds(talking_portrait: Portrait, voice: Path, clip: Path, tmp_path: Path, kind: str) -> None:
    first = np.full((180, 320, 3), (200, 30, 60), np.uint8)
    if kind == "picture":
        first[:, :160] = (20, 200, 40)
        Image.fromarray(first).save(tmp_path / "scene.png")
    if kind == "video":
        with VideoWriter(tmp_path / "scene.mp4", (320, 180), 25.0, crf=0) as writer:
            for level in (40, 120, 200):
                writer.write(np.full((180, 320, 3), level, np.uint8))
    what = {"colour": "#204060", "name": "green"}.get(kind) or str(tmp_path / ("scene.png" if kind == "picture" else "scene.mp4"))
    performance = talking_portrait.talk(voice)
    frames = images(islice(performance.frames(background=Background(what)), 5))
    plain = images(islice(performance.frames(), 5))
    far = talking_portrait.prepared.person_alpha < 0.004
    far &= np.roll(far, 8, 0) & np.roll(far, -8, 0) & np.roll(far, 8, 1) & np.roll(far, -8, 1)
    far[:30] = False  # hair that moves
    assert far.mean() > 0.1
    if kind == "picture":
        left, right = far.copy(), far.copy()
        left[:, 126:], right[:, :130] = False, False
        assert np.abs(frames[:, left].astype(int) - (20, 200, 40)).max() <= 3
        assert np.abs(frames[:, right].astype(int) - (200, 30, 60)).max() <= 3
    elif kind == "video":
        for frame, level in zip(frames, (40, 120, 200, 40, 120), strict=True):  # starts again at its end
            assert np.abs(frame[far].astype(int) - level).max() <= 4
    else:
        assert np.abs(frames[:, far].astype(int) - ((32, 64, 96) if kind == "colour" else (0, 177, 64))).max() <= 3
    inside = talking_portrait.prepared.person_alpha > 0.999
    inside &= np.roll(inside, 16, 1) & np.roll(inside, -16, 1)
    inside[:90] = False  # hair lets light through
    assert np.abs(frames[:, inside].astype(int) - plain[:, inside]).mean() < 2.0


def test_full_frame_touches_nothing_outside_the_crop(astronaut: np.ndarray, voice: Path, tmp_path: Path) -> None:
    wide = np.pad(astronaut, ((40, 10), (200, 101), (0, 0)), mode="reflect")
    portrait = Portrait.from_image(wide, PortraitOptions(256))
    left, top, side = portrait.prepared.crop_box
    rows, columns = np.indices(wide.shape[:2])
    inside = (columns >= np.floor(left)) & (columns < np.ceil(left + side)) & (rows >= np.floor(top)) & (rows < np.ceil(top + side))
    frames = list(islice(portrait.talk(voice).frames(full_frame=True), 0, 25, 6))
    for frame in frames:
        np.testing.assert_array_equal(frame.image[~inside], wide[~inside])
    moved = np.abs(frames[-1].image[inside].astype(int) - frames[0].image[inside])
    assert moved.max() > 20
    # No seam: right inside the border the picture is still the photo's.
    box = slice(int(top) + 1, int(top + side) - 1), slice(int(left) + 1, int(left + side) - 1)
    for frame in frames:
        got, photo = frame.image[box].astype(int), wide[box].astype(int)
        for edge in (np.s_[:2], np.s_[:, :2], np.s_[:, -2:]):
            assert np.abs(got[edge] - photo[edge]).mean() < 1.5
    # An odd size is written as the next even one; lossless but for the conversion to 4:2:0.
    out = portrait.talk(voice).save(tmp_path / "full.mp4", full_frame=True, marks=UNMARKED, crf=0)
    written = read(out)
    assert written.shape == (25, 562, 814, 3)
    assert psnr(written[12, :562, :813], images(portrait.talk(voice).frames(full_frame=True))[12]) > 34


def test_the_debug_panel_has_five_panels(talking_portrait: Portrait, voice: Path, tmp_path: Path) -> None:
    frame = list(islice(talking_portrait.talk(voice).frames(debug=True), 10))[-1]
    assert list(frame.debug) == ["source", "pncc", "raw", "depth"]
    np.testing.assert_array_equal(frame.debug["source"], talking_portrait.prepared.image)
    for name, panel in frame.debug.items():
        assert panel.shape == (256, 256, 3) and panel.dtype == np.uint8, name
    covered = talking_portrait.prepared.head_alpha > 0.9
    for name in ("pncc", "raw", "depth"):
        drawn = frame.debug[name].max(axis=2) > 8
        assert drawn[covered].mean() > 0.6 and drawn[:20, :20].mean() == 0.0, name
    nose, ear = talking_portrait.prepared.landmarks[[4, 234], :2].astype(int)
    assert frame.debug["depth"][nose[1], nose[0], 0] > frame.debug["depth"][ear[1], ear[0], 0]

    out = talking_portrait.talk(voice).save(tmp_path / "panel.mp4", debug_panel=True, marks=UNMARKED)
    written = read(out)
    assert written.shape == (25, 256, 5 * 256, 3)
    assert psnr(written[9, :, :256], talking_portrait.prepared.image) > 28
    assert psnr(written[9, :, -256:], frame.image) > 28


def test_marks_change_little(talking_portrait: Portrait, voice: Path, talking: Path) -> None:
    """Label apart, the watermark costs little, and both are on every frame."""
    from triportrait.provenance.marks import Finish

    frame = next(iter(talking_portrait.talk(voice))).image
    marked = Finish(Marks(label=False, manifest=False), (256, 256), 0)(frame)
    assert psnr(frame, marked) > 40
    labelled = Finish(Marks(watermark=False, manifest=False), (256, 256), 0)(frame)
    changed = np.argwhere(np.abs(labelled.astype(int) - frame).max(axis=2) > 0)
    assert len(changed) and changed.min() > 128  # bottom right


# -- photographs -----------------------------------------------------------------------------------------------------------


def variants(astronaut: np.ndarray, folder: Path) -> dict[str, Path]:
    photo = Image.fromarray(astronaut)
    grey = photo.convert("L")
    clear = photo.convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.arange(512)[None] < 400, 255, 0).repeat(512, 0).astype(np.uint8)))
    rotated = photo.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    pictures = {
        "alpha.png": lambda path: clear.save(path),
        "grey.png": lambda path: grey.save(path),
        "sixteen bits.png": lambda path: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path),
        "turned.jpg": lambda path: rotated.save(path, quality=95, exif=exif),
        "cmyk.jpg": lambda path: photo.convert("CMYK").save(path, quality=95),
        "palette.png": lambda path: photo.quantize(256).save(path),
        "web.webp": lambda path: photo.save(path, quality=95),
        "odd größe 333x401 图.png": lambda path: photo.crop((70, 0, 403, 401)).save(path),
        "narrow.png": lambda path: photo.crop((150, 10, 301, 512)).save(path),
        "tight.png": lambda path: photo.crop((165, 55, 285, 195)).resize((257, 300)).save(path),
        "large.jpg": lambda path: photo.resize((3001, 3001), Image.Resampling.BICUBIC).save(path, quality=90),
    }
    for name, save in pictures.items():
        save(folder / name)
    return {name: folder / name for name in pictures}


NAMES = [
    "alpha.png",
    "grey.png",
    "sixteen bits.png",
    "turned.jpg",
    "cmyk.jpg",
    "palette.png",
    "web.webp",
    "odd größe 333x401 图.png",
    "narrow.png",
    "tight.png",
    "large.jpg",
]


@pytest.fixture(scope="module")
def photographed(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Portrait]:
    """The portrait of a photo by its name, made once."""
    photos = variants(astronaut, tmp_path_factory.mktemp("photos"))
    return cache(lambda name: Portrait.from_image(photos[name], PortraitOptions(256)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("full_frame", [False, True], ids=["crop", "full frame"])
def test_photographs_of_every_kind(
    photographed: Callable[[str], Portrait], plain_frame: np.ndarray, voice: Path, name: str, full_frame: bool, face_tracker
) -> None:
    portrait = photographed(name)
    frame = list(islice(portrait.talk(voice).frames(full_frame=full_frame), 3))[-1].image
    assert frame.shape == (portrait.prepared.photo.shape if full_frame else (256, 256, 3))
    assert len(face_tracker.detect(frame)) == 1
    if not full_frame and name not in ("narrow.png", "tight.png", "odd größe 333x401 图.png"):
        # The same person as in the plain photo, upright.
        assert np.corrcoef(frame.mean(2).ravel(), plain_frame.mean(2).ravel())[0, 1] > 0.9


@pytest.fixture(scope="module")
def plain_frame(photographed: Callable[[str], Portrait], voice: Path) -> np.ndarray:
    return list(islice(photographed("web.webp").talk(voice), 3))[-1].image


def test_paths_of_every_kind(astronaut: np.ndarray, voice: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Ordner mit Leerzeichen" / "Übung 视频 😀 'quoted' %d"
    folder.mkdir(parents=True)
    photo, sound, video, out = (folder / name for name in ("ä b.png", "-ß.wav", "視 频.mp4", "é #1.mp4"))
    Image.fromarray(astronaut).save(photo)
    sound.write_bytes(voice.read_bytes())
    video.write_bytes(clip.read_bytes())
    portrait = Portrait.from_image(str(photo), PortraitOptions(128))
    portrait.talk(str(sound)).save(str(out))
    assert set(detect(read(out), out).manifest.ingredients) == {"portrait", "voice"}
    out.unlink()
    portrait.drive(video).save(out, background=Background(str(video)))
    assert sorted(path.name for path in folder.iterdir()) == sorted(["ä b.png", "-ß.wav", "視 频.mp4", "é #1.mp4"])


def test_a_photo_in_memory_is_the_photo_in_a_file(astronaut: np.ndarray, astronaut_png: Path) -> None:
    np.testing.assert_array_equal(prepare(astronaut).image, prepare(astronaut_png).image)


def test_the_public_names(astronaut_png: Path, voice: Path, tmp_path: Path) -> None:
    """What the README shows."""
    portrait = triportrait.Portrait.from_image(astronaut_png)
    assert isinstance(portrait.talk(voice), triportrait.Performance)
    for frame in islice(portrait.talk(voice), 2):
        assert frame.image.shape == (512, 512, 3) and frame.image.dtype == np.uint8
    steps: list[tuple[str, int, int]] = []
    out = portrait.talk(voice, triportrait.DriveOptions(mouth_gain=1.2)).save(
        tmp_path / "talk.mp4", progress=lambda *step: steps.append(step)
    )
    assert out.is_file() and steps == [("rendering", index, 25) for index in range(1, 26)]


def test_motion_of_frames_of_the_same_shot(talking_portrait: Portrait, clip: Path) -> None:
    motion = motion_of_frames(talking_portrait.prepared, read(clip))
    assert motion.landmarks.shape == (25, 478, 2)
    # The photo is the first frame: nothing has moved there besides, and nothing jumps.
    assert motion.warp is not None and motion.warp.shape == (25, len(WARP_COLUMNS)) and np.isfinite(motion.warp).all()
    assert np.abs(motion.warp).max() <= 0.4 and np.abs(np.diff(motion.warp, axis=0)).max() < 0.1


def test_shoulders_have_no_warp_where_the_photo_goes_on_beyond_the_crop(talking_portrait: Portrait, clip_motion: Motion) -> None:
    warp = np.random.default_rng(5).normal(0, 0.1, (len(clip_motion), len(WARP_COLUMNS))).astype(np.float32)
    performance = talking_portrait.perform(clip_motion.with_rows(warp=warp), triportrait.DriveOptions(reference="first"))
    still, moving = (list(performance._rows(still_body=still)) for still in (True, False))
    assert all(row.warp is not None for row in (*still, *moving))
    shoulders = np.s_[32:40]
    assert not any(row.warp[shoulders].any() or row.body.any() for row in still)
    assert moving[3].warp[shoulders].any()
    np.testing.assert_array_equal(still[3].warp[:32], moving[3].warp[:32])


def test_no_frames_is_an_error(talking_portrait: Portrait, clip_motion: Motion) -> None:
    motion = clip_motion
    empty = motion.with_rows(
        expression=motion.expression[:0],
        rotation_rad=motion.rotation_rad[:0],
        translation=motion.translation[:0],
        gaze_rad=motion.gaze_rad[:0],
        body=None,
        warp=None,
    )
    with pytest.raises(EmptyMedia, match="give a longer one"):
        talking_portrait.perform(empty)


# -- real clips ------------------------------------------------------------------------------------------------------------


def test_a_real_clip(talking_portrait: Portrait, shared: Path, face_tracker, tmp_path: Path) -> None:
    """Somebody else's face and sound drive the astronaut."""
    clip = shared / "data" / "clips" / "vasa1_l2.mp4"
    with VideoReader(clip) as reader:
        start = [frame for _, frame in islice(reader.frames(25.0), 50)]
    with VideoWriter(tmp_path / "start.mp4", (start[0].shape[1], start[0].shape[0]), 25.0, crf=12) as writer:
        for frame in start:
            writer.write(frame)
    motion = motion_of_video(tmp_path / "start.mp4")
    assert len(motion) == 50
    frames = images(talking_portrait.perform(motion))
    asked = opening_of(np.stack([row for row, _ in face_tracker.track(start)]))
    shown = opening_of(np.stack([row for row, _ in face_tracker.track(frames)]))
    assert np.corrcoef(asked, shown)[0, 1] > 0.8


# -- sound from memory, stills, the person alone ---------------------------------------------------------------------------


def test_a_file_and_its_samples_say_the_same(talking_portrait: Portrait, voice: Path, tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(voice, dtype="float32")
    pcm = np.round(samples * 32768).astype("<i2")
    expected = talking_portrait.talk(voice).motion()
    pieces = (pcm[at : at + 700].tobytes() for at in range(0, len(pcm), 700))
    performances = [
        talking_portrait.talk(samples, rate_hz=rate_hz),
        talking_portrait.talk(triportrait.Waveform(samples, rate_hz)),
        talking_portrait.talk(pieces, rate_hz=rate_hz),
    ]
    for performance in performances:
        for _ in range(2):  # an iterator can be gone through again, too
            motion = performance.motion()
            assert len(motion) == len(expected)
            assert np.abs(motion.expression - expected.expression).max() < 2e-3
    assert [performance.frame_count for performance in performances] == [25, 25, 0]

    spoken = read_audio(performances[2].save(tmp_path / "out.mp4", marks=UNMARKED)).samples
    heard = samples[: len(spoken)]
    assert np.corrcoef(spoken[: len(heard)], heard)[0, 1] > 0.98


def test_a_still_does_what_it_is_told(talking_portrait: Portrait) -> None:
    own = talking_portrait.prepared
    rest = talking_portrait.still().image.astype(float)
    # Without a wish it is the photo.
    assert np.abs(rest - own.image).mean() < 6.0
    chin, eyes = own.landmarks[152, :2].astype(int), own.landmarks[[33, 263], :2].mean(0).astype(int)
    opened = np.abs(talking_portrait.still({"jawOpen": 0.6}).image - rest).mean(axis=2)
    assert opened[chin[1] - 20 : chin[1], chin[0] - 8 : chin[0] + 8].mean() > 5 * opened[eyes[1] - 4 : eyes[1] + 4].mean()
    for wish in ({"rotation_rad": (0.0, 0.2, 0.0)}, {"gaze_rad": (0.0, 0.3)}, {"emotion": "happy"}, {"translation_dm": (0.2, 0.0, 0.0)}):
        assert np.abs(talking_portrait.still(**wish).image - rest).max() > 20
    with pytest.raises(OptionError, match="no curve"):
        talking_portrait.still({"jawOpened": 0.5})
    with pytest.raises(OptionError, match="from 0 to 1"):
        talking_portrait.still({"jawOpen": float("nan")})


def test_the_person_alone_before_a_scene_is_the_person_before_that_scene(talking_portrait: Portrait) -> None:
    for colour, level in (("#000000", (0, 0, 0)), ("#2060a0", (0x20, 0x60, 0xA0))):
        expected = talking_portrait.still({"jawOpen": 0.4}, background=Background(colour)).image.astype(float)
        frame = talking_portrait.still({"jawOpen": 0.4}, background=Background("transparent"))
        assert frame.alpha is not None and frame.alpha.min() == 0 and frame.alpha.max() == 255
        alpha = frame.alpha[..., None] / 255.0
        assert np.abs(alpha * frame.image + (1 - alpha) * level - expected).max() <= 3.0


def test_a_transparent_video_keeps_its_marks(talking_portrait: Portrait, voice: Path, tmp_path: Path, caplog) -> None:
    out = talking_portrait.talk(voice).save(tmp_path / "out.mov", background=Background("transparent"))
    assert not caplog.records
    with VideoReader(out) as reader:
        pictures = np.stack([image for _, image in reader.frames(None)])
    report = detect(pictures, out)
    assert report.watermark.found and report.manifest.state in ("trusted", "valid")
    talking_portrait.talk(voice).save(tmp_path / "out.webm", background=Background("transparent"))
    assert len(caplog.records) == 1 and "WebM" in caplog.text or ".webm" in caplog.text
    assert (tmp_path / "out.webm.provenance.json").is_file()
    with pytest.raises(OptionError, match="leave out --debug-panel"):
        next(talking_portrait.talk(voice).frames(debug=True, background=Background("transparent")))
