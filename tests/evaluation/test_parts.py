"""What evaluations borrow: crops, tracking picture by picture, baselines as finished pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triportrait.evaluation import parts
from triportrait.types import MotionFrame, PreparedPortrait

SIDE = 64


def square(shift: int) -> np.ndarray:
    image = np.full((SIDE, SIDE, 3), 60, np.uint8)
    image[16:48, 16 + shift : 48 + shift] = 180
    return image


def portrait_of(image: np.ndarray) -> PreparedPortrait:
    i = np.arange(478)
    radius, turn = 12 * np.sqrt((i + 0.5) / 478), i * 2.399963
    points = np.stack([32 + radius * np.cos(turn), 32 + radius * np.sin(turn), 0 * radius], -1).astype(np.float32)
    zeros = np.zeros((SIDE, SIDE), np.float32)
    motion = MotionFrame(np.zeros(44), np.zeros(3), np.zeros(3), np.zeros(2), points[:, :2])
    return PreparedPortrait(
        photo=image,
        crop_box=(0.0, 0.0, float(SIDE)),
        image=image,
        person_alpha=zeros,
        head_alpha=zeros,
        torso=np.zeros((SIDE, SIDE, 4), np.uint8),
        background=image,
        landmarks=points,
        identity=np.zeros(80, np.float32),
        vertex_offset=np.zeros((1, 3), np.float32),
        motion=motion,
    )


def test_track_each_looks_at_every_picture_alone():
    class Tracker:
        def detect(self, image):
            return [] if image[0, 0, 0] == 0 else [type("Face", (), {"landmarks": np.full((478, 3), image[0, 0, 0])})]

    frames = (np.full((10, 20, 3), value, np.uint8) for value in (0, 7, 0, 9))
    track = parts.track_each(Tracker(), frames)
    assert track.size == (20, 10) and track.found.tolist() == [False, True, False, True]
    assert track.landmarks[:, 0, 0].tolist() == [0, 7, 7, 9]


def test_baseline_renderer_gives_finished_pictures():
    portrait = portrait_of(square(0))
    moved = replace(portrait.motion, landmarks=portrait.motion.landmarks + np.float32([6, 0]))
    still, moving = (parts.baseline_renderer(name, portrait, None)(moved) for name in ("static", "similarity"))
    assert np.array_equal(still, square(0))
    assert np.abs(moving.astype(int) - square(6)).max() <= 2
