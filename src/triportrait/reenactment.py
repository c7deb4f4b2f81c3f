"""The motion of a portrait's own person in other frames of the shot that the photo is taken from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from triportrait.concurrency import calm_libraries
from triportrait.drivers import calm_motion, default_head, default_tracker
from triportrait.types import CAMERA_DISTANCE_DM, FPS, Array, Motion, PreparedPortrait

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
    from triportrait.face.body_following import BodyFollower, in_decimetres
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.portrait import person_of
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

    rows, bodies = [], []
    for points, _ in tracker.track(watched()):
        rows.append((points[:, :2] - (left, top)) * (size / side))
        bodies.append(follower.see(now, rows[-1]))
    landmarks = np.stack(rows)
    fitter = LandmarkFitter(head, side_px=size)
    person = person_of(portrait, head)
    motion = fitter.fit_motion(landmarks, person, fps)
    away = CAMERA_DISTANCE_DM - float(portrait.motion.translation[2])
    body = in_decimetres(np.stack(bodies), away / (portrait.focal * size))
    return calm_motion(motion.with_rows(body=body), landmarks, person, fitter).with_rows(landmarks=landmarks.astype(np.float32))
