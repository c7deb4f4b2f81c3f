"""The baselines: each reproduces the photo at the photo's own motion, and moves what it should move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.errors import MotionFileError
from triportrait.evaluation import baselines
from triportrait.geometry.cameras import pose_points, project
from triportrait.types import Avatar, MotionFrame, PreparedPortrait

SIDE = 256


class BallHead:
    """The front half of a ball of 1 dm radius; its one expression pushes everything below the middle down."""

    name = "ball"
    identity_size = 1
    expression_names = ("jawOpen",)

    def __init__(self) -> None:
        rings, turns = 24, 48
        polar, turn = np.meshgrid(np.linspace(0.02, 1.5, rings), np.linspace(0, 2 * np.pi, turns, False), indexing="ij")
        x, y, z = np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)
        self.rest = np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32)
        first = (np.arange(rings - 1)[:, None] * turns + np.arange(turns)).reshape(-1)
        side = (np.arange(rings - 1)[:, None] * turns + (np.arange(turns) + 1) % turns).reshape(-1)
        quads = np.stack([first, first + turns, side + turns, side], -1)
        self.triangles = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]]).astype(np.int32)

    def vertices(self, identity, expression, gaze_rad=None):
        moved = self.rest.copy()
        moved[:, 1] -= 0.2 * expression[0] * np.maximum(-self.rest[:, 1], 0)
        return moved


def landmarks_on_ball() -> np.ndarray:
    """468 points on a sunflower disc in the middle of the picture, and ten more."""
    i = np.arange(478)
    radius, turn = 0.25 * np.sqrt((i + 0.5) / 478), i * 2.399963
    points = np.stack([0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn), 0 * radius], -1)
    return (points * SIDE).astype(np.float32)


@pytest.fixture
def portrait() -> PreparedPortrait:
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32)
    image = np.clip(128 + 6 * (cv2.GaussianBlur(noise, (0, 0), 4) - 128), 0, 255).astype(np.uint8)
    landmarks = landmarks_on_ball()
    zeros = np.zeros((SIDE, SIDE), np.float32)
    rest = MotionFrame(np.zeros(1, np.float32), np.radians([3.0, -5.0, 2.0]), np.array([0.05, -0.02, 0.1]), np.zeros(2), landmarks[:, :2])
    return PreparedPortrait(
        photo=image,
        crop_box=(0.0, 0.0, float(SIDE)),
        image=image,
        person_alpha=zeros,
        head_alpha=zeros,
        torso=np.zeros((SIDE, SIDE, 4), np.uint8),
        background=image,
        landmarks=landmarks,
        identity=np.zeros(1, np.float32),
        vertex_offset=np.zeros_like(BallHead().rest),
        motion=rest,
        head_model="ball",
    )


def all_baselines() -> list[Avatar]:
    return [
        baselines.StaticAvatar(),
        baselines.SimilarityAvatar(),
        baselines.Mesh2dAvatar(),
        baselines.DepthWarpAvatar(BallHead()),
    ]


def draw(avatar: Avatar, portrait: PreparedPortrait, frame: MotionFrame) -> np.ndarray:
    return avatar.render(avatar.prepare(portrait), frame).rgb


def blob_portrait(portrait: PreparedPortrait, pixel: np.ndarray) -> PreparedPortrait:
    """Black but for a soft white spot round ``pixel``."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    spot = 255 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / (2 * 3.0**2))
    return replace(portrait, image=np.repeat(spot[..., None], 3, -1).astype(np.uint8))


def centre_of_light(rgb: np.ndarray) -> np.ndarray:
    light = rgb[..., 0].astype(np.float64)
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


@pytest.mark.parametrize("avatar", all_baselines(), ids=lambda avatar: avatar.name)
def test_photo_is_reproduced_at_its_own_motion(avatar, portrait):
    assert isinstance(avatar, Avatar)
    head = avatar.render(avatar.prepare(portrait), portrait.motion)
    assert head.rgb.shape == (SIDE, SIDE, 3) and head.rgb.dtype == np.float32
    assert head.alpha.min() == 1.0
    assert np.abs(head.rgb * 255 - portrait.image).max() <= 2.0


def test_every_baseline_can_be_made_by_name():
    assert tuple(baselines.make_baseline(name, BallHead()).name for name in baselines.BASELINE_NAMES) == tuple(
        avatar.name for avatar in all_baselines()
    )
    with pytest.raises(KeyError):
        baselines.make_baseline("lifted", BallHead())


@pytest.mark.parametrize("avatar", all_baselines()[1:3], ids=lambda avatar: avatar.name)
def test_landmark_baselines_say_what_they_need(avatar, portrait):
    with pytest.raises(MotionFileError, match="landmarks"):
        draw(avatar, portrait, replace(portrait.motion, landmarks=None))


def test_fit_similarity_recovers_what_was_applied():
    random = np.random.default_rng(2)
    source = random.normal(size=(30, 2))
    turn = 0.7
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    fit = baselines.fit_similarity(source, 1.7 * source @ rotation.T + (3, -4))
    assert fit.scale == pytest.approx(1.7)
    assert np.allclose(fit.rotation, rotation) and np.allclose(fit.translation, (3, -4))
    mirrored = baselines.fit_similarity(source, source * (-1, 1))
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1)
    assert baselines.fit_similarity(np.zeros((5, 2)), np.ones((5, 2))).translation == pytest.approx((1, 1))


def test_similarity_shifts_whole_pixels_exactly(portrait):
    moved = replace(portrait.motion, landmarks=portrait.motion.landmarks + np.float32([5, -3]))
    rgb = draw(baselines.SimilarityAvatar(), portrait, moved) * 255
    assert np.abs(rgb[:-3, 5:] - portrait.image[3:, :-5]).max() < 1.5


def test_mesh2d_moves_the_face_and_keeps_the_border(portrait):
    moved = replace(portrait.motion, landmarks=portrait.motion.landmarks + np.float32([6, -4]))
    rgb = draw(baselines.Mesh2dAvatar(), portrait, moved) * 255
    inner = slice(100, 150)
    assert np.abs(rgb[inner, inner] - portrait.image[104:154, 94:144]).max() < 1.5
    # The outermost row of pixels lies half a pixel from what does not move.
    assert np.abs(rgb[0] - portrait.image[0]).mean() < 3
    assert np.abs(rgb[:, -1] - portrait.image[:, -1]).mean() < 3


def test_mesh2d_follows_single_landmarks(portrait):
    index = 100
    spotted = blob_portrait(portrait, portrait.landmarks[index, :2])
    scaled = 128 + (portrait.motion.landmarks - 128) * np.float32(1.1)
    rgb = draw(baselines.Mesh2dAvatar(), spotted, replace(portrait.motion, landmarks=scaled))
    assert np.linalg.norm(centre_of_light(rgb) - scaled[index]) < 0.5


def test_depth_warp_moves_a_painted_vertex_where_the_head_model_says(portrait):
    head = BallHead()
    vertex = int(np.argmin(np.linalg.norm(head.rest - (0.3, -0.5, 0.81), axis=1)))
    motion = portrait.motion

    def where(frame: MotionFrame) -> np.ndarray:
        posed = pose_points(head.vertices(None, frame.expression), frame.rotation_rad, frame.translation)
        return project(posed[[vertex]], SIDE)[0][0]

    spotted = blob_portrait(portrait, where(motion))
    drawn = baselines.DepthWarpAvatar(head, nodes_per_side=64)
    for frame in (
        replace(motion, rotation_rad=np.radians([-6.0, 12.0, -8.0]), translation=np.array([-0.1, 0.1, -0.3])),
        replace(motion, expression=np.array([1.0], np.float32)),
    ):
        assert np.linalg.norm(where(frame) - where(motion)) > 5
        assert np.linalg.norm(centre_of_light(draw(drawn, spotted, frame)) - where(frame)) < 0.7


def test_depth_warp_depth_is_the_heads(portrait):
    state_frame = replace(portrait.motion, rotation_rad=np.zeros(3), translation=np.zeros(3))
    avatar = baselines.DepthWarpAvatar(BallHead())
    depth = avatar.render(avatar.prepare(portrait), state_frame).depth
    assert depth[SIDE // 2, SIDE // 2] == pytest.approx(9.0, abs=0.02)
    assert np.isfinite(depth).all() and 9.0 < depth[0, 0] < 10.2


def test_depth_warp_refuses_a_foreign_portrait(portrait):
    with pytest.raises(ValueError, match="'bfm'"):
        baselines.DepthWarpAvatar(BallHead()).prepare(replace(portrait, head_model="bfm"))
