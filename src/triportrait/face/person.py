"""A person from a video, or from several photographs: one identity, some pictures that show much of it, and the scene behind.

The pictures are chosen as points that lie far apart in what a face does: how it is turned, how far mouth and lids are open, how wide the
mouth is and how it smiles. Seed: Talk3D's setting, one monocular video; Real3D-Portrait, appendix E.1 (few-shot).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from triportrait.errors import OptionError
from triportrait.face.body_following import BodyFollower, in_decimetres
from triportrait.face.fitting import LandmarkFitter
from triportrait.face.following import FollowedFace, follow_face
from triportrait.face.layers import background_behind, persons_pixels
from triportrait.face.open_head import OpenHead
from triportrait.face.portrait import PortraitOptions, crop_box, portrait_from_landmarks, prepare_portrait
from triportrait.face.tracker import DetectedFace, FaceTracker
from triportrait.geometry.crops import cut
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.geometry.masks import face_hull, hull_mask
from triportrait.geometry.shapes import FaceShape
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array, Motion, PreparedPortrait

log = logging.getLogger(__name__)

#: Of shorter videos not enough is seen.
SHORTEST_S = 4.0
#: A second face of this share of the first one's width is somebody else; seen in so many of the frames that are searched, one a second,
#: it belongs to the video, and is no passer-by and no picture that the detector found for once.
_COMPANION, _OFTEN = 0.5, 0.25
#: The identity is fitted to so many rows.
_IDENTITY_ROWS = 24
#: The scene is gathered from so many frames; where what several of them show differs by so many levels, the camera moves.
_SCENE_FRAMES, _CAMERA_MOVES = 24, 10.0
#: A pixel that differs from the empty scene by fewer levels, and lies no deeper in the person than this share of the crop, shows the scene.
_ALIKE, _INSIDE = 4.0, 0.12
#: So much beside the person counts as theirs, in sides of the crop.
_BESIDE = 0.025
#: Side of the square in which sharpness is measured.
_SHARP_PX = 128
#: How far the gains go that bring a picture to the first one's exposure.
_GAINS = (0.7, 1.4)


@dataclass(frozen=True, slots=True)
class PersonOptions:
    """How a person is made.

    Args:
        sources: so many pictures are kept at most.
        seconds: so much of a video is looked at, from its beginning.
        size_px: side of the crop that is animated.

    Raises:
        OptionError: out of range.
    """

    sources: int = 8
    seconds: float = 300.0
    size_px: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.sources <= 24:
            raise OptionError(f"--sources is {self.sources}; use a number from 1 to 24.")
        if not SHORTEST_S <= self.seconds <= 3600.0:
            raise OptionError(f"--seconds is {self.seconds:g}; use {SHORTEST_S:g} to 3600.")


@dataclass(frozen=True, slots=True)
class PersonTrack:
    """How the person of a video moves: ``motion``, how far the lips are open in face heights [t], and where the face is ``seen``, [t]."""

    motion: Motion
    lip_opening: Array
    seen: Array


def person_of_frames(
    read: Callable[[], Iterable[Array]],
    fps: float,
    tracker: FaceTracker,
    head: OpenHead,
    options: PersonOptions | None = None,
    name: str = "the video",
    *,
    box: tuple[float, float, float] | None = None,
) -> tuple[PreparedPortrait, PersonTrack]:
    """A person from the frames of one shot. They are read twice, one by one.

    Args:
        read: gives the frames, uint8 RGB [h, w, 3], from the first one on, as often as it is called.
        fps: frames per second.
        tracker, head: the parts to use.
        options: see :class:`PersonOptions`.
        name: what to call the video in messages.
        box: (left, top, side) of the crop in pixels of the frames; None lays it round the face's usual place.

    Returns:
        The most frontal, calmest picture, with the others in ``others``, and how the person moves.

    Raises:
        NoFaceFound: nobody is in the frames.
        OptionError: two people, a cut, or less than four seconds of one person.
    """
    options = options or PersonOptions()
    rows, sharpness, bodies = _watched(read(), fps, tracker, name)
    seen = np.array([row.seen for row in rows])
    if seen.sum() < SHORTEST_S * fps:
        raise OptionError(f"{name} shows the person for {seen.sum() / fps:.1f} s; give a video with {SHORTEST_S:g} s or more, or a photo.")
    landmarks = np.stack([row.landmarks for row in rows])
    if box is None:
        usual = np.median(landmarks[seen], axis=0)
        width, height = rows[0].size
        box = crop_box(DetectedFace(usual, 1.0), (height, width), PortraitOptions().face_widths)
    in_crop = landmarks.copy()
    in_crop[..., :2] = (landmarks[..., :2] - box[:2]) * (options.size_px / box[2])
    in_crop[..., 2] *= options.size_px / box[2]
    fitter = LandmarkFitter(head, side_px=options.size_px)
    good = np.flatnonzero(seen)
    person = fitter.fit_person(in_crop[good[np.linspace(0, len(good) - 1, min(_IDENTITY_ROWS, len(good))).astype(int)]])[0]
    motion = fitter.fit_motion(in_crop, person, fps)
    shapes = [FaceShape.of(row) for row in in_crop]
    chosen = choose_pictures(motion.rotation_rad, shapes, seen & (sharpness >= np.median(sharpness[seen])), options.sources)
    away = CAMERA_DISTANCE_DM - float(np.median(motion.translation[seen, 2]))
    body = in_decimetres(
        bodies * (options.size_px / box[2], options.size_px / box[2], 1.0, 1.0), away / (FOCAL_IN_WIDTHS * options.size_px)
    )
    pictures, plate = _pictures(read(), rows, chosen, box, options.size_px, tracker, seen)
    portrait_options = PortraitOptions(options.size_px)
    made: list[PreparedPortrait] = []
    scene: Array | None = None
    for index, photo in zip(chosen, pictures, strict=True):
        image = cut(photo, box, options.size_px)
        if made:
            image = _exposed_like(made[0].image, made[0].landmarks, image, in_crop[index])
        mask = None if plate is None else plate.persons(image, tracker.person_mask(image))
        portrait = portrait_from_landmarks(photo, box, image, in_crop[index], tracker, head, portrait_options, person, scene, mask)
        if made:
            since = None if body is None else (body[index] - body[chosen[0]]).astype(np.float32)
            portrait = _another(replace(portrait, motion=replace(portrait.motion, body=since)))
        elif plate is not None:
            scene = plate.behind(portrait)
            portrait = replace(portrait, background=scene)
        made.append(portrait)
    opening = np.array([shape.gap_in_faces for shape in shapes])
    if body is not None:
        motion = motion.with_rows(body=body - body[chosen[0]])
    return replace(made[0], others=tuple(made[1:])), PersonTrack(motion, opening, seen)


def _another(portrait: PreparedPortrait) -> PreparedPortrait:
    """A further picture of a person: nobody asks for more of it than its crop."""
    return replace(portrait, photo=portrait.image, crop_box=(0.0, 0.0, float(len(portrait.image))))


def person_of_photos(
    photos: list[Array], tracker: FaceTracker, head: OpenHead, options: PersonOptions | None, names: list[str]
) -> PreparedPortrait:
    """A person from photographs, the first of which is animated.

    Args:
        photos: uint8 RGB [h, w, 3]; names: what to call them in messages.

    Raises:
        NoFaceFound: one shows no face.
    """
    options = options or PersonOptions()
    portrait_options = PortraitOptions(options.size_px)
    single = [prepare_portrait(photo, tracker, head, portrait_options, name) for photo, name in zip(photos, names, strict=True)]
    person = LandmarkFitter(head, side_px=options.size_px).fit_person(np.stack([one.landmarks for one in single]))[0]
    made: list[PreparedPortrait] = []
    for one in single:
        image = _exposed_like(made[0].image, made[0].landmarks, one.image, one.landmarks) if made else one.image
        own = portrait_from_landmarks(one.photo, one.crop_box, image, one.landmarks, tracker, head, portrait_options, person)
        made.append(_another(own) if made else own)
    return replace(made[0], others=tuple(made[1:]))


def choose_pictures(rotation_rad: Array, shapes: list[FaceShape], usable: Array, most: int) -> list[int]:
    """Rows that show much of a person: the calmest, most frontal first, then always the one that is farthest from those chosen.

    Args:
        rotation_rad: [t, 3]; shapes: of each row; usable: bool [t], sharp pictures of a face.
        most: so many rows at most.
    """
    features = np.concatenate([np.degrees(rotation_rad) / 8.0, np.stack([shape.spread() for shape in shapes])], axis=1)
    rows = np.flatnonzero(usable)
    points = features[rows]
    turned = np.linalg.norm(points[:, :2], axis=1)
    calm = np.linalg.norm(points[:, 3:] - np.median(points[:, 3:], axis=0), axis=1)
    chosen = [int(np.argmin(turned + calm))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(most, len(rows)) and distance.max() > 0.25:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return [int(rows[index]) for index in chosen]


def _watched(frames: Iterable[Array], fps: float, tracker: FaceTracker, name: str) -> tuple[list[FollowedFace], Array, Array]:
    """One row a frame without its picture, how sharp each face is [t], and how the body has moved, in pixels [t, 4].

    Raises:
        OptionError: two people or a cut.
    """
    rows: list[FollowedFace] = []
    sharp: list[float] = []
    bodies: list[Array] = []
    follower = BodyFollower(tracker.person_mask)
    for row in follow_face(tracker, _alone(frames, fps, tracker, name), name=name, fps=fps, can_choose=False, with_pictures=True):
        if row.shot or row.changed:
            raise OptionError(f"{name} has a cut at {len(rows) / fps:.1f} s; give one uncut piece of it.")
        assert row.picture is not None
        sharp.append(_sharpness(row.picture, row.landmarks) if row.seen else 0.0)
        bodies.append(follower.see(row.picture, row.landmarks) if row.seen else np.full(4, np.nan))
        rows.append(replace(row, picture=None))
    return rows, np.array(sharp), np.stack(bodies)


def _alone(frames: Iterable[Array], fps: float, tracker: FaceTracker, name: str) -> Iterator[Array]:
    """The frames; behind the last one it is told whether they show one person."""
    searched = several = 0
    for index, frame in enumerate(frames):
        if index % max(round(fps), 1) == 0:
            widths = sorted((face.width_px for face in tracker.detect(frame)), reverse=True)
            searched += 1
            several += len(widths) > 1 and widths[1] > _COMPANION * widths[0]
        yield frame
    if several > _OFTEN * searched:
        raise OptionError(f"{name} shows several people; crop it to one of them.")


def _sharpness(picture: Array, landmarks: Array) -> float:
    """Spread of the Laplacian over the face, brought to one size."""
    import cv2

    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    side = max(float((high - low).max()), 4.0)
    square = cut(picture, (*(0.5 * (low + high) - 0.5 * side), side), _SHARP_PX)
    return float(cv2.Laplacian(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())


def _pictures(
    frames: Iterable[Array],
    rows: list[FollowedFace],
    chosen: list[int],
    box: tuple[float, float, float],
    size: int,
    tracker: FaceTracker,
    seen: Array,
) -> tuple[list[Array], _Plate | None]:
    """The chosen frames, and what all frames show of the scene; None where the camera moves."""
    import cv2

    wanted: dict[int, Array] = {}
    for_scene = set(np.linspace(0, len(rows) - 1, _SCENE_FRAMES).astype(int).tolist())
    crops: list[Array] = []
    free: list[Array] = []
    around = np.ones((2 * round(_BESIDE * size) + 1,) * 2, np.uint8)
    for index, frame in enumerate(frames):
        if index in chosen:
            wanted[index] = frame
        if index in for_scene and seen[index]:
            crops.append(cut(frame, box, size))
            free.append(cv2.dilate((tracker.person_mask(crops[-1]) > 0.1).astype(np.uint8), around) == 0)
    return [wanted[index] for index in chosen], _Plate.of(np.stack(crops), np.stack(free)) if crops else None


@dataclass(frozen=True, slots=True)
class _Plate:
    """What a video shows of the scene behind its person: uint8 [s, s, 3], how far it strays in levels [s, s], and where it is ``known``."""

    picture: Array
    strays: Array
    known: Array

    @staticmethod
    def of(crops: Array, free: Array) -> _Plate | None:
        """From crops uint8 [n, s, s, 3] with the pixels ``free`` [n, s, s] of the person; None where the camera moves."""
        count = free.sum(0)
        known = count > 0
        # The median of those that are free: the others stand behind them.
        ordered = np.sort(np.where(free[..., None], crops, np.uint8(255)), axis=0)
        middle = np.maximum(count - 1, 0) // 2
        picture = np.take_along_axis(ordered, np.broadcast_to(middle[None, ..., None], (1, *ordered.shape[1:])), 0)[0]
        away = np.abs(crops.astype(np.int16) - picture).mean(-1) * free
        strays = away.sum(0) / np.maximum(count, 1)
        often = count > 2
        if not often.any() or float(np.median(strays[often])) > _CAMERA_MOVES:
            return None
        return _Plate(picture, strays.astype(np.float32), known)

    def persons(self, image: Array, mask: Array) -> Array:
        """The tracker's ``mask`` [s, s] without what looks in ``image`` [s, s, 3] as the empty scene does, but for the person's inside."""
        import cv2

        unit = len(image) / 512
        away = cv2.GaussianBlur(np.abs(image.astype(np.float32) - self.picture).mean(-1), (0, 0), 1.5 * unit)
        same = np.clip(2.0 - away / (_ALIKE + 2.0 * self.strays), 0.0, 1.0) * self.known
        inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3) > _INSIDE * len(image)
        return (mask * (1.0 - same * ~inside)).astype(np.float32)

    def behind(self, portrait: PreparedPortrait) -> Array:
        """The scene behind a portrait: its own picture, else the plate's in that picture's light, else painted in."""
        hidden = persons_pixels(portrait.image, portrait.person_alpha)
        shared = (self.known & ~hidden).astype(np.float32)
        offset = push_pull(portrait.image.astype(np.float32) - self.picture, shared)
        lit = np.clip(self.picture + offset + 0.5, 0, 255).astype(np.uint8)
        scene = np.where(hidden[..., None], lit, portrait.image)
        unknown = (hidden & ~self.known).astype(np.float32)
        return background_behind(scene, unknown) if unknown.any() else scene


def _exposed_like(first: Array, first_landmarks: Array, image: Array, landmarks: Array) -> Array:
    """``image`` uint8 [s, s, 3] with three gains that give its face the mean colour of the ``first`` one's."""

    def colour(picture: Array, points: Array) -> Array:
        size = len(picture)
        skin = face_hull(points, size).astype(bool)
        for part in (OUTER_LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM):
            skin &= ~hull_mask(points[part, :2], size).astype(bool)
        return picture[skin].mean(0) if skin.any() else np.ones(3)

    gains = np.clip(colour(first, first_landmarks) / np.maximum(colour(image, landmarks), 1.0), *_GAINS)
    return np.clip(image * gains + 0.5, 0, 255).astype(np.uint8)
