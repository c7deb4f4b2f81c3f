"""What the package asks of whoever finds faces (:class:`FaceTracker`), and what it does with the faces that were found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from triportrait.errors import NoFaceFound
from triportrait.types import FPS, Array, FaceTrack

#: Faces narrower than this carry too little detail to animate (pixels of the photograph).
MIN_FACE_PX = 64
#: Beyond this yaw one eye and half the mouth are unseen.
MAX_YAW_DEGREES = 60.0
#: Beyond this roll the picture lies on its side.
MAX_ROLL_DEGREES = 60.0
#: Without a face the whole picture is searched at least every so many seconds.
_SEARCH_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """One face of a picture: ``landmarks`` [478, 3] float32 pixels, ``width_px`` of its landmark box, ``score`` 0..1 of its detector."""

    landmarks: Array
    score: float = 1.0

    @property
    def width_px(self) -> float:
        return float(np.ptp(self.landmarks[:, 0]))

    @property
    def yaw_degrees(self) -> float:
        """Rough yaw from the nose's place between the face's sides and the depths of both cheeks."""
        across = self.landmarks[454] - self.landmarks[234]
        return float(np.degrees(np.arctan2(across[2], np.copysign(np.hypot(across[0], across[1]), across[0]))))

    @property
    def roll_degrees(self) -> float:
        """Rough roll from chin to forehead: 0 upright, positive clockwise in the picture, 180 upside down."""
        across, up = self.landmarks[10, :2] - self.landmarks[152, :2]
        return float(np.degrees(np.arctan2(across, 0.0 - up)))


class FaceTracker(Protocol):
    """What the rest of the package asks of a tracker."""

    def detect(self, image: Array) -> list[DetectedFace]:
        """All faces of an upright RGB picture [h, w, 3] uint8, the largest first."""
        ...

    def track(self, frames: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
        """One face through a clip: yields landmarks [478, 3] (pixels) and whether this frame showed it."""
        ...

    def person_mask(self, image: Array) -> Array:
        """Probability [h, w] float32 that a pixel belongs to a person."""
        ...

    def score(self, image: Array) -> float:
        """How clearly a face is seen in the whole of a picture: 0..1, 0 when none is."""
        ...


def search_is_due(missing: int, at_least_every_s: float = _SEARCH_EVERY_S, fps: float = FPS) -> bool:
    """Whether the whole picture, which costs many looks, is searched for a face that ``missing`` frames before this one did not show.

    The first frame without it is searched; then each search waits for as long as the face has been away, but never longer than
    ``at_least_every_s``. Every search of a clip, the tracker's own and those of :mod:`~triportrait.face.following`, is due by this rule.
    """
    return missing & (missing - 1) == 0 or missing % max(1, round(at_least_every_s * fps)) == 0


def choose_face(faces: list[DetectedFace], number: int | None, name: str) -> DetectedFace:
    """The face to animate: the largest, or ``number`` (1 = leftmost) when given.

    Raises:
        NoFaceFound: none at all, no such number, too small, on its side, or in profile; the text names ``name`` and the remedy.
    """
    if not faces:
        raise NoFaceFound(
            f"{name}: no face found (of {MIN_FACE_PX} px or more, upright or turned); use a photo of a person looking towards the camera"
        )
    if number is None:
        face = faces[0]
    else:
        ordered = sorted(faces, key=lambda f: float(f.landmarks[4, 0]))
        if not 1 <= number <= len(ordered):
            found = "only one is found, leave the number out" if len(ordered) == 1 else f"{len(ordered)} found, counted from the left"
            raise NoFaceFound(f"{name}: there is no face {number}; {found}")
        face = ordered[number - 1]
    if face.width_px < MIN_FACE_PX:
        raise NoFaceFound(f"{name}: the face is only {face.width_px:.0f} px wide; at least {MIN_FACE_PX} px are needed, use a closer photo")
    if abs(face.roll_degrees) > MAX_ROLL_DEGREES:
        raise NoFaceFound(f"{name}: the face lies on its side; turn the photo until it is upright")
    if abs(face.yaw_degrees) > MAX_YAW_DEGREES:
        raise NoFaceFound(
            f"{name}: the face is turned away by {abs(face.yaw_degrees):.0f} degrees; "
            f"use a photo with less than {MAX_YAW_DEGREES:.0f} degrees"
        )
    return face


def track_clip(tracker: FaceTracker, frames: Iterable[Array], fps: float) -> FaceTrack:
    """Collect ``tracker.track`` into a :class:`FaceTrack` (landmarks only; frames are not kept)."""
    size = (0, 0)

    def watched() -> Iterator[Array]:
        nonlocal size
        for frame in frames:
            size = (frame.shape[1], frame.shape[0])
            yield frame

    rows = list(tracker.track(watched()))
    return FaceTrack(np.stack([r[0] for r in rows]), np.array([r[1] for r in rows]), size, fps)
