"""A person from a video, or from several photographs: one identity, some pictures that show much of it, and the scene behind.

The pictures are chosen as points that lie far apart in what a face does: how it is turned, how far mouth and lids are open, how wide the
mouth is and how it smiles. Seed: Talk3D's setting, one monocular video; Real3D-Portrait, appendix E.1 (few-shot).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from triportrait.errors import OptionError
from triportrait.face.body_following import in_decimetres
from triportrait.face.fitting import LandmarkFitter
from triportrait.face.layers import painted_in, persons_pixels
from triportrait.face.open_head import OpenHead
from triportrait.face.portrait import PortraitOptions, portrait_from_landmarks, prepare_portrait
from triportrait.face.standing_scene import stands_still
from triportrait.face.takes import Box, Take, WatchedTake, upright, usable_turn, usual_take, watch_takes
from triportrait.face.tracker import FaceTracker
from triportrait.geometry.crops import cut
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.geometry.masks import face_hull, hull_mask
from triportrait.geometry.shapes import FaceShape
from triportrait.nn.parts import own_person_mask
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array, Motion, PreparedPortrait

log = logging.getLogger(__name__)

#: Of shorter videos not enough is seen.
SHORTEST_S = 4.0
#: The identity is fitted to so many rows.
_IDENTITY_ROWS = 24
#: The scene is gathered from so many frames; where what several of them show differs by so many levels, the camera moves.
_SCENE_FRAMES, _CAMERA_MOVES = 24, 10.0
#: A pixel that differs from the empty scene by fewer levels, and lies no deeper in the person than this share of the crop, shows the scene.
_ALIKE, _INSIDE = 4.0, 0.12
#: So deep in the person, in sides of the crop, what is seen is theirs.
_SURELY = 0.06
#: So much beside the person counts as theirs, in sides of the crop.
_BESIDE = 0.025
#: How far the gains go that bring a picture to the first one's exposure.
_GAINS = (0.7, 1.4)
#: Where a pixel is surely the scene, and how much of the crop must show it to tell the exposure.
_FREE, _ENOUGH_SHARE = 0.1, 0.01


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
class TakeRows:
    """Which rows of a :class:`PersonTrack` a take has, and how a frame of it becomes a crop.

    Args:
        start, count: its first row, and how many there are.
        box: the square (left, top, side) of the upright frames.
        turn: quarter turns to the left that make its frames upright.
    """

    start: int
    count: int
    box: Box
    turn: int = 0


@dataclass(frozen=True, slots=True)
class PersonTrack:
    """How the person of one or several takes moves, one row a frame, take after take.

    Args:
        motion: see :class:`triportrait.types.Motion`; the body moves from the first picture on where a take is framed as that one.
        landmarks: float32 [t, 478, 3] in the pixels of the crop.
        lip_opening: [t] in face heights; seen: bool [t], where the face is.
        takes: in the order of the rows.
    """

    motion: Motion
    landmarks: Array
    lip_opening: Array
    seen: Array
    takes: tuple[TakeRows, ...]

    def frames(self, takes: Sequence[Take], wanted: Collection[int]) -> Iterator[tuple[int, Array, Box]]:
        """Rows that are wanted, in order, each with its upright frame uint8 [h, w, 3] and its square; the takes are read again."""
        for take, own in zip(takes, self.takes, strict=True):
            left = sum(own.start <= row < own.start + own.count for row in wanted)
            for row, frame in enumerate(upright(take.read(), own.turn) if left else (), own.start):
                if row in wanted:
                    yield row, frame, own.box
                    left -= 1
                if not left:
                    break

    def crops(self, takes: Sequence[Take], wanted: Collection[int], size_px: int) -> Iterator[tuple[int, Array]]:
        """The same with crops uint8 [s, s, 3]."""
        return ((row, cut(frame, box, size_px)) for row, frame, box in self.frames(takes, wanted))


def person_of_takes(
    takes: Sequence[Take],
    fps: float,
    tracker: FaceTracker,
    head: OpenHead,
    options: PersonOptions | None = None,
    *,
    box: Box | None = None,
) -> tuple[PreparedPortrait, PersonTrack]:
    """A person from one or several takes of one shot each. Frames are read twice, one by one.

    Args:
        takes: of one person; the first lends its crop.
        fps: frames per second.
        tracker, head: the parts to use.
        options: see :class:`PersonOptions`.
        box: (left, top, side) of the first take's crop in pixels of its frames; None lays it round the face's usual place.

    Returns:
        The most frontal, calmest picture of the take that looks most like all of them, with the others in ``others``, and how the
        person moves.

    Raises:
        NoFaceFound: nobody is in a take.
        OptionError: two people, a cut, or less than four seconds of one person.
    """
    options = options or PersonOptions()
    size = options.size_px
    fitter = LandmarkFitter(head, side_px=size)
    watched = watch_takes(takes, fps, tracker, fitter, box)
    seen = np.concatenate([one.seen for one in watched])
    if seen.sum() < SHORTEST_S * fps:
        where = f"{takes[0].name} shows" if len(takes) == 1 else f"{takes[0].name} and the others show"
        raise OptionError(f"{where} the person for {seen.sum() / fps:.1f} s; give {SHORTEST_S:g} s of video or more, or a photo.")
    starts = np.cumsum([0, *(len(one.rows) for one in watched)])
    in_crop = np.concatenate([(one.landmarks - (*one.box[:2], 0.0)) * (size / one.box[2]) for one in watched]).astype(np.float32)
    good = np.flatnonzero(seen)
    person = fitter.fit_person(in_crop[good[np.linspace(0, len(good) - 1, min(_IDENTITY_ROWS, len(good))).astype(int)]])[0]
    motion = _one_after_another([fitter.fit_motion(in_crop[a:b], person, fps) for a, b in pairwise(starts)])
    shapes = [FaceShape.of(row) for row in in_crop]
    sharp = np.concatenate([one.sharpness for one in watched])
    alike = np.concatenate([np.full(len(one.rows), one.is_framed_alike) for one in watched])
    usable = seen & (sharp >= np.median(sharp[seen]))
    of_take = np.repeat(np.arange(len(watched)), np.diff(starts))
    usual = of_take == usual_take(watched)
    first = seen & usual & (sharp >= np.median(sharp[seen & usual]))
    chosen = choose_pictures(motion.rotation_rad, shapes, usable | first, options.sources, first=first)
    body = _bodies(watched, float(np.median(motion.translation[seen, 2])), size)
    rows = tuple(TakeRows(int(start), len(one.rows), one.box, usable_turn(one)) for start, one in zip(starts, watched, strict=False))
    opening = np.array([shape.gap_in_faces for shape in shapes])
    if body is not None:
        motion = motion.with_rows(body=np.where(alike[:, None], body - body[chosen[0]], np.float32(0)))
    track = PersonTrack(motion, in_crop, opening, seen, rows)
    photo, crops, plate = _pictures(takes, track, chosen, tracker, alike, size)
    portrait_options = PortraitOptions(size)
    made: list[PreparedPortrait] = []
    scene: Array | None = None
    free = np.zeros((size, size), bool)
    for index in chosen:
        image = crops[index]
        if made:
            # Before one scene, the scene tells the exposure: a face that turns has other light on it.
            of_first = of_image = free & (tracker.person_mask(image) < _FREE)
            if plate is None or not alike[index] or of_first.mean() < _ENOUGH_SHARE:
                of_first, of_image = _skin(made[0].image, made[0].landmarks), _skin(image, in_crop[index])
            image = _exposed_like(made[0].image, image, of_first, of_image)
        mask = empty = None
        if plate is not None and alike[index]:
            mask = plate.persons(image, own_person_mask(image, in_crop[index], tracker.person_mask(image)))
            empty = plate.still & (plate.shown_by(image) > 0.5)
        own = in_crop[index], tracker, head, portrait_options, person, scene, mask, empty
        if made:
            since = None if motion.body is None or not alike[index] else motion.body[index].astype(np.float32)
            portrait = portrait_from_landmarks(image, (0.0, 0.0, float(size)), image, *own)
            portrait = replace(portrait, motion=replace(portrait.motion, body=since), same_take=bool(usual[index]))
        else:
            portrait = portrait_from_landmarks(photo, watched[0].box, image, *own)
            scene = portrait.background if plate is None else plate.behind(portrait)
            portrait = replace(portrait, background=scene)
            free = tracker.person_mask(portrait.image) < _FREE
        made.append(portrait)
    return replace(made[0], others=tuple(made[1:])), track


def _one_after_another(motions: list[Motion]) -> Motion:
    fields = {name: np.concatenate([getattr(motion, name) for motion in motions]) for name in motions[0].row_fields}
    return motions[0].with_rows(**fields)


def _bodies(watched: list[WatchedTake], nearness_dm: float, size_px: int) -> Array | None:
    """Motion of the body in takes that share the first one's square, zero elsewhere: [t, 4] in decimetres; None where nobody can tell."""
    away = CAMERA_DISTANCE_DM - nearness_dm
    scale = np.array([size_px / watched[0].box[2], size_px / watched[0].box[2], 1.0, 1.0])
    in_px = np.concatenate([one.bodies * scale if one.is_framed_alike else np.zeros_like(one.bodies) for one in watched])
    return in_decimetres(in_px, away / (FOCAL_IN_WIDTHS * size_px))


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
        image = one.image
        if made:
            image = _exposed_like(made[0].image, image, _skin(made[0].image, made[0].landmarks), _skin(image, one.landmarks))
        own = portrait_from_landmarks(one.photo, one.crop_box, image, one.landmarks, tracker, head, portrait_options, person)
        made.append(_another(own) if made else own)
    return replace(made[0], others=tuple(made[1:]))


def choose_pictures(rotation_rad: Array, shapes: list[FaceShape], usable: Array, most: int, *, first: Array | None = None) -> list[int]:
    """Rows that show much of a person: the calmest, most frontal first, then always the one that is farthest from those chosen.

    Args:
        rotation_rad: [t, 3]; shapes: of each row; usable: bool [t], sharp pictures of a face.
        most: so many rows at most.
        first: bool [t], the rows that the first may be taken from; None: all that are usable.
    """
    features = np.concatenate([np.degrees(rotation_rad) / 8.0, np.stack([shape.spread() for shape in shapes])], axis=1)
    rows = np.flatnonzero(usable)
    points = features[rows]
    turned = np.linalg.norm(points[:, :2], axis=1)
    calm = np.linalg.norm(points[:, 3:] - np.median(points[:, 3:], axis=0), axis=1)
    turned[~(usable if first is None else first)[rows]] = np.inf
    chosen = [int(np.argmin(turned + calm))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(most, len(rows)) and distance.max() > 0.25:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return [int(rows[index]) for index in chosen]


def _pictures(
    takes: Sequence[Take], track: PersonTrack, chosen: list[int], tracker: FaceTracker, alike: Array, size: int
) -> tuple[Array, dict[int, Array], _Plate | None]:
    """The first picture's whole frame, the crops of all, and the scene of takes framed alike; None where the camera moves."""
    import cv2

    usable = np.flatnonzero(track.seen & alike)
    for_scene = sorted(set(usable[np.linspace(0, len(usable) - 1, _SCENE_FRAMES).astype(int)].tolist()))
    around = np.ones((2 * round(_BESIDE * size) + 1,) * 2, np.uint8)
    photo = np.zeros((0, 0, 3), np.uint8)
    crops: dict[int, Array] = {}
    scene: list[Array] = []
    free: list[Array] = []
    for row, frame, box in track.frames(takes, {*for_scene, *chosen}):
        crop = cut(frame, box, size)
        if row == chosen[0]:
            photo = frame
        if row in chosen:
            crops[row] = crop
        if row in for_scene:
            scene.append(crop)
            free.append(cv2.dilate((tracker.person_mask(crop) > 0.1).astype(np.uint8), around) == 0)
    shown, motion = np.stack(scene), track.motion
    poses = motion.rotation_rad[for_scene], motion.translation[for_scene], track.landmarks[for_scene]
    of_scene = np.stack(free)
    return photo, crops, _Plate.of(shown, of_scene, stands_still(of_scene, shown, *poses))


@dataclass(frozen=True, slots=True)
class _Plate:
    """What a video shows of the scene behind its person.

    Args:
        picture: uint8 [s, s, 3], and ``strays`` [s, s], how far the frames stray from it in levels.
        known, still: bool [s, s], where it was seen, and where it was seen to stand still while the head moved.
    """

    picture: Array
    strays: Array
    known: Array
    still: Array

    @staticmethod
    def of(crops: Array, free: Array, still: Array) -> _Plate | None:
        """From crops uint8 [n, s, s, 3], ``free`` [n, s, s] of the person or seen to stand ``still``; None where the camera moves."""
        free = free | still
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
        return _Plate(picture, strays.astype(np.float32), known, np.asarray(still.any(0)))

    def persons(self, image: Array, mask: Array) -> Array:
        """The person's ``mask`` [s, s] without what looks in ``image`` [s, s, 3] as the empty scene does, but for the person's inside.

        Hair before a scene of its colour is hair: what looks as the person beside it does stays theirs.
        """
        import cv2

        depth = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / len(image)
        sure = (depth > _SURELY).astype(np.float32)
        weight = cv2.GaussianBlur(sure, (0, 0), 0.5 * _SURELY * len(image))
        mean = cv2.GaussianBlur(image * sure[..., None], (0, 0), 0.5 * _SURELY * len(image)) / np.maximum(weight, 1e-3)[..., None]
        beside = push_pull(mean, np.clip(4.0 * weight, 0.0, 1.0))
        like_scene, like_person = (self._away(image, other) for other in (self.picture, beside))
        better = np.clip((like_person - like_scene) / _ALIKE - 1.0, 0.0, 1.0)
        scene = np.minimum(self.shown_by(image), np.clip(3.0 - like_scene / _ALIKE, 0.0, 1.0)) * better * (depth <= _INSIDE)
        # Scenery reaches the person from outside; a hole in hair is a gleam of it.
        _, pieces = cv2.connectedComponents(((scene > 0.1) | (mask < 0.5)).astype(np.uint8))
        outside = np.isin(pieces, np.unique(pieces[mask < 0.5]))
        return (mask * (1.0 - scene * outside)).astype(np.float32)

    def shown_by(self, image: Array) -> Array:
        """How far ``image`` uint8 [s, s, 3] looks as the empty scene does: float32 [s, s] in 0..1, 0 where that is not known."""
        return np.clip(2.0 - self._away(image, self.picture) / (_ALIKE + 2.0 * self.strays), 0.0, 1.0) * self.known

    @staticmethod
    def _away(image: Array, other: Array) -> Array:
        """By how many levels two pictures [s, s, 3] differ round each pixel: float32 [s, s]."""
        import cv2

        difference = np.abs(image.astype(np.float32) - other).mean(-1)
        return np.asarray(cv2.GaussianBlur(difference, (0, 0), 1.5 * len(image) / 512), np.float32)

    def behind(self, portrait: PreparedPortrait) -> Array:
        """The scene behind a portrait: its own picture, else the plate's in that picture's light, else painted in."""
        hidden = persons_pixels(portrait.image, portrait.person_alpha)
        shared = (self.known & ~hidden).astype(np.float32)
        offset = push_pull(portrait.image.astype(np.float32) - self.picture, shared)
        lit = np.clip(self.picture + offset + 0.5, 0, 255).astype(np.uint8)
        scene = np.where(hidden[..., None], lit, portrait.image)
        return painted_in(scene, hidden & ~self.known)


def _exposed_like(first: Array, image: Array, of_first: Array, of_image: Array) -> Array:
    """``image`` uint8 [s, s, 3] with three gains that give a place of it, bool [s, s], the mean colour of a place of the ``first`` one."""
    if not of_first.any() or not of_image.any():
        return image
    gains = np.clip(first[of_first].mean(0) / np.maximum(image[of_image].mean(0), 1.0), *_GAINS)
    return np.clip(image * gains + 0.5, 0, 255).astype(np.uint8)


def _skin(picture: Array, landmarks: Array) -> Array:
    """The face without eyes and lips: bool [s, s]."""
    size = len(picture)
    skin = face_hull(landmarks, size).astype(bool)
    for part in (OUTER_LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM):
        skin &= ~hull_mask(landmarks[part, :2], size).astype(bool)
    return skin
