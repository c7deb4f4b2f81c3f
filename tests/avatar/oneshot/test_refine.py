"""Refinement: the photo's own view gets better, nothing else is disturbed, and the result can be kept."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar, CompactState
from triportrait.avatar.oneshot.guide import render_guide
from triportrait.avatar.oneshot.refine import refine, use_refined
from triportrait.errors import MissingPart, OptionError
from triportrait.model import AVATARS, QUALITIES
from triportrait.pipeline import Portrait
from triportrait.provenance.marks import Marks
from triportrait.types import RefinedPlanes

UNMARKED = Marks(label=False, watermark=False, manifest=False)


@pytest.fixture(scope="module")
def avatar(open_head) -> CompactOneShotAvatar:
    return AVATARS["oneshot"](open_head).avatar


@pytest.fixture(scope="module")
def state(avatar, talking_portrait) -> CompactState:
    return avatar.prepare(talking_portrait.prepared)


@pytest.fixture(scope="module")
def result(avatar, state) -> tuple[CompactState, RefinedPlanes]:
    return refine(avatar, state, steps=4)


def volume(avatar: CompactOneShotAvatar, state: CompactState, yaw_degrees: float = 0.0) -> tuple[np.ndarray, float]:
    """What the compiled renderer draws, and its PSNR against the photo inside the head (at the photo's pose)."""
    own = state.lifted.portrait.motion
    frame = replace(own, rotation_rad=own.rotation_rad + np.radians([0, yaw_degrees, 0]).astype(np.float32), landmarks=None)
    guide = render_guide(state.mesh, frame, 128)
    drawn = avatar.renderer.draw(
        state.field, guide.depth, (frame.rotation_rad, frame.translation), (own.rotation_rad, own.translation), 10, 0.35, guide.offset
    )
    photo = state.planes.picture_for(128).transpose(1, 2, 0)
    inside = (photo[..., 3] > 0.9) & np.isfinite(guide.depth)
    return drawn.rgb, float(-10 * np.log10(((drawn.rgb - photo[..., :3])[inside] ** 2).mean()))


def test_the_own_view_gets_better_in_the_frames_too(avatar, state, result) -> None:
    better, report = result
    assert 0 < report.steps <= 4 and report.after_db > report.before_db + 0.3
    before, after = volume(avatar, state)[1], volume(avatar, better)[1]
    assert after > before + 0.3
    # The compiled renderer draws what was optimised.
    assert before == pytest.approx(report.before_db, abs=0.5) and after == pytest.approx(report.after_db, abs=0.5)
    assert after > 32


def test_turned_views_stay(avatar, state, result) -> None:
    for yaw in (-15.0, 15.0):
        change = np.abs(volume(avatar, state, yaw)[0] - volume(avatar, result[0], yaw)[0])
        assert 0 < change.mean() < 0.005


def test_the_same_steps_give_the_same_planes(avatar, state, result) -> None:
    again = refine(avatar, state, steps=4)[1]
    assert again.after_db == result[1].after_db
    np.testing.assert_array_equal(again.front, result[1].front)


def test_no_time_changes_nothing(avatar, state) -> None:
    same, report = refine(avatar, state, seconds=0.0)
    assert report.steps == 0 and report.before_db == report.after_db
    np.testing.assert_array_equal(same.field.front, state.field.front)


def test_kept_planes_are_drawn_again_and_only_by_their_own_network(avatar, state, result) -> None:
    kept = use_refined(avatar, state, result[1])
    np.testing.assert_array_equal(kept.field.front, result[0].field.front)
    np.testing.assert_array_equal(kept.field.down, result[0].field.down)
    assert result[1].network == avatar.encoder.fingerprint
    assert use_refined(avatar, state, replace(result[1], network="0" * 64)) is None
    assert use_refined(avatar, state, replace(result[1], across=result[1].across[:, ::2])) is None


def test_what_cannot_be_refined_says_so(open_head, avatar, state) -> None:
    with pytest.raises(MissingPart, match="'lifted' has no planes to refine; add --avatar oneshot"):
        refine(LiftedAvatar(open_head), state)
    for seconds in (-1.0, float("nan"), 1e9):
        with pytest.raises(OptionError, match="--refine is"):
            refine(avatar, state, seconds)


# -- avatar files and qualities in the pipeline ----------------------------------------------------------------------------


def pictures(portrait: Portrait) -> np.ndarray:
    return np.stack([frame.image for frame in portrait.idle(0.12)])


@pytest.mark.parametrize("avatar_name", ["lifted", "oneshot"])
def test_an_avatar_file_gives_the_video_that_the_photo_gives(avatar_name: str, talking_portrait: Portrait, tmp_path: Path) -> None:
    """To the last bit, where 1/255 is asked for: mattes are kept in full."""
    direct = Portrait(talking_portrait.prepared, avatar_name)
    if avatar_name == "oneshot":
        direct.refine(steps=2)
    again = Portrait.from_image(direct.save(tmp_path / "person.jpg"), avatar=avatar_name)
    np.testing.assert_array_equal(pictures(again), pictures(direct))
    full = [next(one.idle(0.04).frames(full_frame=True)).image for one in (again, direct)]
    np.testing.assert_array_equal(*full)


def test_planes_of_other_weights_are_left_out(talking_portrait: Portrait, result, caplog: pytest.LogCaptureFixture) -> None:
    foreign = replace(result[1], network="0" * 64)
    portrait = Portrait(talking_portrait.prepared, "oneshot", refined=foreign)
    assert portrait.refined is None and "refine it again" in caplog.text
    # An avatar without planes hands them on.
    assert Portrait(talking_portrait.prepared, "lifted", refined=foreign).refined is foreign


def test_an_avatar_file_needs_no_tracker(talking_portrait: Portrait, tmp_path: Path) -> None:
    path = talking_portrait.save(tmp_path / "person.avatar")
    code = (
        "import sys; from triportrait import Portrait; portrait = Portrait.from_image(sys.argv[1], avatar='lifted')\n"
        "next(portrait.idle(0.04).frames()); assert 'triportrait.face.mesh_tracker' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=os.environ)


@pytest.mark.parametrize("quality", QUALITIES)
def test_every_quality_gives_a_video(quality: str, talking_portrait: Portrait, tmp_path: Path) -> None:
    portrait = Portrait(talking_portrait.prepared, quality=quality)
    assert portrait.model.avatar.name == QUALITIES[quality].avatar
    if portrait.model.avatar.name == "oneshot":
        assert portrait.model.avatar.quality == QUALITIES[quality].volume
    assert portrait.idle(0.08).save(tmp_path / "o.mp4", marks=UNMARKED).stat().st_size > 1000


def test_a_quality_has_its_size(astronaut: np.ndarray) -> None:
    assert Portrait.from_image(astronaut, quality="draft").prepared.image.shape == (384, 384, 3)
    with pytest.raises(OptionError, match="--quality is 'best'; use draft, standard, high"):
        Portrait.from_image(astronaut, quality="best")
