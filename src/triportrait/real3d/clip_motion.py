"""The motion of the person in a driving clip in a user's head model; the Basel face as the published inference measures it (spec 3.2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from triportrait.drivers import Progress, counted, default_tracker
from triportrait.motion.timing import join_motion
from triportrait.types import FPS, Array, Motion, PathLike

if TYPE_CHECKING:
    from triportrait.face.following import FollowedFace
    from triportrait.face.tracker import FaceTracker
    from triportrait.motion.shots import Shot
    from triportrait.real3d.head_models import UserHead

#: Rows of a shot's beginning, every tenth, that the driver's identity is measured on, and rows tracked at a time.
_PERSON_FRAMES, _PERSON_ROWS, _FIT_ROWS = 200, 10, 256


def own_motion_of_video(head: UserHead, path: PathLike, progress: Progress | None = None, *, tracker: FaceTracker | None = None) -> Motion:
    """Expression and pose of the largest face in a clip, by the published weights of the fit. Bounded memory for any length.

    Cuts, absences and clips that lie on their side are treated as in :func:`triportrait.drivers.motion_of_video`, but of two people who
    take turns in the same place nobody is told apart.

    Args:
        head: the Basel face or FLAME.
        path: the clip.
        progress: called after each frame.
        tracker: finds the face; None takes the default.

    Raises:
        MediaError: not a readable video.
        NoFaceFound: nobody in it.
    """
    from triportrait.face.following import follow_face
    from triportrait.media.video import VideoReader
    from triportrait.motion.shots import join_shots, tell_of_shots

    name = f"'{os.fspath(path)}'"
    with VideoReader(path) as reader:
        total = max(1, round(reader.seconds * FPS)) if reader.seconds else 0
        frames = counted((frame for _, frame in reader.frames(FPS)), progress, "tracking", total)
        followed = follow_face(default_tracker() if tracker is None else tracker, frames, name=name, can_choose=False)
        shots = [_shot_of(head, rows) for _, rows in groupby(followed, key=lambda row: row.shot)]
    tell_of_shots(name, [shot.seen for shot in shots], FPS)
    return join_shots(shots)


def _shot_of(head: UserHead, rows: Iterator[FollowedFace]) -> Shot:
    """Fit the person of one shot and smooth the motion."""
    from triportrait.motion.shots import Shot
    from triportrait.motion.smoothing import smooth_motion
    from triportrait.real3d.head_models import fitter_of

    opening = list(islice(rows, _PERSON_FRAMES))
    shown = [row for row in opening if row.seen] or opening
    if not shown[0].landmarks.any():  # nobody in this shot
        count = len(opening) + sum(1 for _ in rows)
        curves, turn, move, gaze = (np.zeros((count, size), np.float32) for size in (len(head.expression_names), 3, 3, 2))
        return Shot(Motion(curves, turn, move, gaze, FPS, head.expression_names, head.name), np.zeros(count, bool))
    # The whole picture, made square: the fit's camera looks at its middle.
    size = np.array(shown[0].size)
    side = float(size.max())
    corner = 0.5 * (size - side)
    fitter = fitter_of(head, side, video=True)

    def in_square(rows: list[FollowedFace]) -> Array:
        return np.stack([row.landmarks for row in rows])[..., :2] - corner

    identity, _ = fitter.fit_person(in_square(shown[:: max(1, len(shown) // _PERSON_ROWS)]))
    pieces, seen = [], []
    rows = chain(opening, rows)
    while batch := list(islice(rows, _FIT_ROWS)):
        pieces.append(fitter.fit_motion(in_square(batch), identity, FPS))
        seen += [row.seen for row in batch]
    return Shot(smooth_motion(join_motion(pieces)), np.array(seen))
