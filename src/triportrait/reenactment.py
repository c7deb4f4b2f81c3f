"""The motion of a portrait's own person in other frames of the shot that the photo is taken from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from triportrait.concurrency import calm_libraries
from triportrait.drivers import default_head, default_tracker
from triportrait.shot_motion import SeenRow, followed_motion
from triportrait.types import FPS, Array, Motion, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker


@calm_libraries()
def motion_of_frames(
    portrait: PreparedPortrait,
    frames: Iterable[Array],
    fps: float = FPS,
    *,
    tracker: FaceTracker | None = None,
    head: OpenHead | None = None,
) -> Motion:
    """Motion of the portrait's own person in other frames of the same shot, in the portrait's crop (for reenactment).

    The crop box of the portrait applies to every frame; ``landmarks`` of the result are in its pixels.
    """
    from triportrait.face.body_following import BodyFollower
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.portrait import person_of
    from triportrait.face.warp_following import small_grey
    from triportrait.geometry.crops import cut

    tracker, head = default_tracker() if tracker is None else tracker, default_head() if head is None else head
    size = portrait.image.shape[0]
    left, top, side = portrait.crop_box
    follower = BodyFollower(tracker.person_mask)
    follower.see(portrait.image, portrait.landmarks)
    now = portrait.image

    def watched() -> Iterator[Array]:
        nonlocal now
        for frame in frames:
            now = cut(frame, portrait.crop_box, size)
            yield frame

    landmarks: list[Array] = []

    def seen() -> Iterator[SeenRow]:
        for points, found in tracker.track(watched()):
            landmarks.append((points[:, :2] - (left, top)) * (size / side))
            yield SeenRow(landmarks[-1], follower.see(now, landmarks[-1]), small_grey(now) if found else None)

    motion = followed_motion(seen(), person_of(portrait, head), LandmarkFitter(head, side_px=size), fps, portrait)
    return motion.with_rows(landmarks=np.stack(landmarks).astype(np.float32))
