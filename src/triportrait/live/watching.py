"""A portrait that follows whoever sits before a webcam: look, smooth, put on the portrait; and what happens while nobody is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from triportrait.drivers import default_head, default_tracker
from triportrait.errors import NoFaceFound
from triportrait.geometry.fields import smooth_step
from triportrait.motion.one_euro import OneEuroFilter
from triportrait.motion.retarget import relative, within_reach
from triportrait.motion.timing import join_motion
from triportrait.types import FPS, Array, Motion, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.face.fitting import Person
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker

#: So long a face is looked at, relaxed, before it is followed; and at least so many looks.
CALIBRATION_S, _CALIBRATION_LOOKS = 0.5, 6
#: So long a face that is out of sight is waited for, then the portrait idles; and so long it takes from the one to the other.
HOLD_S, _EASE_S = 0.5, 0.4
#: What trembles at rest, as in :mod:`triportrait.motion.smoothing`: curves, radians of the head, decimetres, radians of the eyes.
_NOISE = (0.02, 0.004, 0.01, 0.015)
#: At rest the filter averages over a tenth of a second; a blink (50 times the noise in 100 ms) passes within a frame.
_CUTOFF_HZ, _SLOPE = 1.5, 0.03
#: A crop has so many face widths, its face in the middle.
_CROP_FACES = 2.3


class WatchedFace:
    """The face before a webcam on a portrait. :meth:`see` and :meth:`over` may be called from two threads.

    Args:
        portrait: who follows.
        tracker: finds the face; None takes the default.
        head: is fitted to it; None takes the default.
    """

    def __init__(self, portrait: PreparedPortrait, tracker: FaceTracker | None = None, head: OpenHead | None = None) -> None:
        from triportrait.face.fitting import LandmarkFitter

        self._own = portrait.motion
        self._tracker = default_tracker() if tracker is None else tracker
        self._fitter = LandmarkFitter(default_head() if head is None else head)
        self._picture: Array | None = None
        self._track: Iterator[tuple[Array, bool]] | None = None
        self._first: list[tuple[float, Array]] = []
        self._crop = np.zeros(2), 1.0
        self._person: Person | None = None
        self._relaxed: Motion | None = None
        self._seen_s = 0.0
        noise = [np.full(size, value) for size, value in zip((len(self._own.expression), 3, 3, 2), _NOISE, strict=True)]
        self._smooth = OneEuroFilter(np.concatenate(noise), cutoff_hz=_CUTOFF_HZ, slope=_SLOPE)
        #: The last row on the portrait, and the rows that were asked for since.
        self._latest: tuple[Motion, list[int]] | None = None
        self._share = 0.0

    @property
    def is_calibrated(self) -> bool:
        """Whether the face has been looked at for long enough to be followed."""
        return self._relaxed is not None

    def see(self, image: Array, moment_s: float) -> bool:
        """Look at a picture.

        Args:
            image: uint8 [h, w, 3] RGB, upright.
            moment_s: when it was taken, by any clock.

        Returns:
            Whether it shows a face.
        """
        points = self._look(image)
        if points is None:
            return False
        if self._person is None or self._relaxed is None:
            self._calibrate(points, moment_s)
            return True
        motion = self._fitter.fit_motion(self._in_crop(points[None]), self._person)
        row = np.concatenate([motion.expression[0], motion.rotation_rad[0], motion.translation[0], motion.gaze_rad[0]])
        row, self._seen_s = self._smooth(row, moment_s - self._seen_s), moment_s
        size = motion.expression.shape[1]
        parts = np.split(row.astype(np.float32)[None], [size, size + 3, size + 6], axis=1)
        now = motion.with_rows(expression=parts[0], rotation_rad=parts[1], translation=parts[2], gaze_rad=parts[3])
        placed = relative(join_motion([self._relaxed, now]), 0, self._own).rows(slice(1, 2))
        self._latest = within_reach(placed, self._own)[0], [0]
        return True

    def over(self, idle: Motion) -> Motion:
        """The next row: what the webcam sees, in place of a row that idles or speaks, while a face is in sight.

        Args:
            idle: one row in the portrait's pose frame.
        """
        if self._latest is None:
            return idle
        seen, rows = self._latest
        rows[0] += 1
        step = 1.0 / (FPS * _EASE_S)
        self._share = min(self._share + step, 1.0) if rows[0] <= FPS * HOLD_S else max(self._share - step, 0.0)
        share = np.float32(smooth_step(self._share))
        names = ("expression", "rotation_rad", "translation", "gaze_rad")
        mixed = {name: (1 - share) * getattr(idle, name) + share * getattr(seen, name) for name in names}
        # Shoulders and hair are not looked at; they stay where the photo has them.
        faded = {name: (1 - share) * rows for name in ("body", "warp") if (rows := getattr(idle, name)) is not None}
        return idle.with_rows(**mixed, **faded)

    def _look(self, image: Array) -> Array | None:
        """Landmarks [478, 3], or None where nobody is seen."""
        if self._track is None:
            # A track waits for its first face, and would wait for ever before a picture that does not change.
            if not self._tracker.detect(image):
                return None
            self._track = self._tracker.track(self._pictures())
        self._picture = image
        try:
            points, is_seen = next(self._track)
        except NoFaceFound:
            self._track = None
            return None
        return points if is_seen else None

    def _pictures(self) -> Iterator[Array]:
        while self._picture is not None:
            picture, self._picture = self._picture, None
            yield picture

    def _calibrate(self, points: Array, moment_s: float) -> None:
        """Learn the person's shape, and how the face looks at rest."""
        self._first.append((moment_s, points))
        if moment_s - self._first[0][0] < CALIBRATION_S or len(self._first) < _CALIBRATION_LOOKS:
            return
        looks = np.stack([look for _, look in self._first])
        low, high = (edge(looks[:, :, :2], axis=1) for edge in (np.min, np.max))
        side = _CROP_FACES * float(np.median((high - low).max(1)))
        self._crop = np.median(0.5 * (low + high), axis=0) - 0.5 * side, 512.0 / side
        self._person, motion, _ = self._fitter.fit_person(self._in_crop(looks))
        middle = {name: np.median(getattr(motion, name), axis=0, keepdims=True) for name in motion.row_fields}
        self._relaxed, self._seen_s = motion.with_rows(**middle), moment_s
        self._first.clear()

    def _in_crop(self, points: Array) -> Array:
        corner, scale = self._crop
        return (points[..., :2] - corner) * scale
