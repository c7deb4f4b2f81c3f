"""A photograph becomes a :class:`PreparedPortrait`: crop, fit, mattes, torso and background layers. Done once per photo."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triportrait.face.earrings import with_earrings
from triportrait.face.fitting import LandmarkFitter, Person
from triportrait.face.layers import background_behind
from triportrait.face.mattes import HeadCover, head_cover, head_share, neck_sides, refine_matte, settle_jaw
from triportrait.face.open_head import OpenHead
from triportrait.face.outline import outline_on_person
from triportrait.face.tracker import DetectedFace, FaceTracker, choose_face
from triportrait.face.upright import upright_photo
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.crops import cut
from triportrait.geometry.filling import foreground_colours, push_pull
from triportrait.geometry.landmarks import CHIN, JAW_ANGLES, UPPER_LIP_INSIDE
from triportrait.geometry.masks import face_hull
from triportrait.nn.parts import own_person_mask
from triportrait.types import FOCAL_IN_WIDTHS, Array, HeadPart, MotionFrame, PreparedPortrait

log = logging.getLogger(__name__)

#: Neck and collar go on so far (pixels of a 512 px crop) behind the head's edge.
_SKIRT_PX = 26.0
#: The same beside a bare neck: in the photo's own pose there is no gap.
_RIM_PX = 13.0


@dataclass(frozen=True, slots=True)
class PortraitOptions:
    """How a photograph is prepared.

    Args:
        size_px: side of the crop that is animated.
        face_widths: side of the crop in face sizes; head and shoulders at 2.3.
        face: which face, counted from the left starting at 1; None takes the largest.
        background_fill: ``"smooth"`` or ``"knn"`` (as published).
        own_mask: a network tells whose face it is, so that bystanders are scenery; without it the tracker's segmentation is believed, as
            the labels must that this network learns from.
    """

    size_px: int = 512
    face_widths: float = 2.3
    face: int | None = None
    background_fill: str = "smooth"
    own_mask: bool = True


def prepare_portrait(
    photo: Array, tracker: FaceTracker, head: OpenHead, options: PortraitOptions | None = None, name: str = "the photo"
) -> PreparedPortrait:
    """Everything that depends on the photo alone.

    Args:
        photo: uint8 [h, w, 3], RGB; turned upright where it is not.
        tracker, head: the parts to use.
        options: see :class:`PortraitOptions`.
        name: what to call the photo in messages.

    Raises:
        NoFaceFound: no face, too small, or turned too far.
    """
    options = options or PortraitOptions()
    photo, faces = upright_photo(tracker, photo, name)
    face = choose_face(faces, options.face, name)
    if len(faces) > 1 and options.face is None:
        log.warning("%s: %d faces found, taking the largest; --face N chooses another (from the left)", name, len(faces))
    box = crop_box(face, (photo.shape[0], photo.shape[1]), options.face_widths)
    image = cut(photo, box, options.size_px)
    scale = options.size_px / box[2]
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = (landmarks[:, :2] - box[:2]) * scale
    landmarks[:, 2] *= scale
    return portrait_from_landmarks(photo, box, image, landmarks, tracker, head, options)


def portrait_from_landmarks(
    photo: Array,
    box: tuple[float, float, float],
    image: Array,
    landmarks: Array,
    tracker: FaceTracker,
    head: OpenHead,
    options: PortraitOptions,
    person: Person | None = None,
    scene: Array | None = None,
    person_mask: Array | None = None,
    empty: Array | None = None,
) -> PreparedPortrait:
    """The part of :func:`prepare_portrait` after the crop: fit, mattes and layers for landmarks [478, 3] in crop pixels.

    Args:
        person: whose identity is known already; the landmarks are still met exactly.
        scene: uint8 [s, s, 3], the scene behind the person; None paints it in.
        person_mask: float32 [s, s], how surely a pixel shows the person; None asks the tracker, and the network that knows heads.
        empty: bool [s, s], where the crop is known to show the scene that is there without the person; None: nowhere.
    """
    size = options.size_px
    if person_mask is None:
        person_mask = tracker.person_mask(image)
        person_mask = own_person_mask(image, landmarks, person_mask) if options.own_mask else person_mask
    landmarks = outline_on_person(landmarks, person_mask)
    fitter = LandmarkFitter(head, side_px=size)
    person, motion = fitter.fit_row(landmarks, person)
    frame = motion[0]
    offset = fitter.vertex_offset(person)
    vertices = head.deform(head.shape(person.identity.astype(np.float32)), frame.expression, frame.gaze_rad) + offset
    cover = head_cover(head, vertices, frame, size, FOCAL_IN_WIDTHS)

    face_mask = inside_face(landmarks, size)
    alpha = with_earrings(image, np.clip(refine_matte(image, person_mask, face_mask), 0.0, 1.0), landmarks, empty)
    share = settle_jaw(image, alpha, head_share(cover, landmarks), landmarks)
    head_alpha = np.minimum(alpha, alpha * share)
    background = background_behind(image, alpha, options.background_fill) if scene is None else scene
    torso = torso_layer(image, alpha, share, cover, head=head, vertices=vertices, frame=frame, background=background, landmarks=landmarks)
    return PreparedPortrait(
        photo=photo,
        crop_box=box,
        image=image,
        person_alpha=alpha,
        head_alpha=head_alpha,
        torso=torso,
        background=background,
        landmarks=landmarks.astype(np.float32),
        identity=person.identity.astype(np.float32),
        vertex_offset=offset,
        motion=MotionFrame(frame.expression, frame.rotation_rad, frame.translation, frame.gaze_rad, landmarks[:, :2].astype(np.float32)),
    )


def person_of(portrait: PreparedPortrait, head: OpenHead) -> Person:
    """The fitter's view of a portrait: identity and the offsets of its landmarks, for fitting further frames of the same person."""
    corners = portrait.vertex_offset[head.triangles[head.landmark_triangle]]
    return Person(portrait.identity.astype(np.float64), np.einsum("nk,nkc->nc", head.landmark_barycentric, corners))


def moved_landmarks(portrait: PreparedPortrait, head: OpenHead) -> Callable[[MotionFrame], Array]:
    """A function from motion rows to landmarks [478, 2] in the portrait's crop: the photo's own, moved as its fitted head moves."""
    side = len(portrait.image)
    shape = head.shape(portrait.identity)

    def pixels(frame: MotionFrame) -> Array:
        vertices = head.deform(shape, frame.expression, frame.gaze_rad) + portrait.vertex_offset
        posed = pose_points(head.landmarks478(vertices).astype(np.float64), frame.rotation_rad, frame.translation)
        return project(posed, side, portrait.focal)[0]

    source = portrait.landmarks[:, :2] - pixels(portrait.motion)
    return lambda frame: source + pixels(frame)


def crop_box(face: DetectedFace, shape: tuple[int, int], face_widths: float) -> tuple[float, float, float]:
    """(left, top, side) of a head-and-shoulders square round a face, inside the photo wherever the photo is large enough."""
    height, width = shape
    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
    extent = float((high - low).max())
    side = min(extent * face_widths, float(min(height, width)))
    # Hair needs more room above the landmarks than the chin needs below, shoulders want the rest: nearly centred.
    centre = 0.5 * (low + high) + (0.0, 0.02 * extent)
    left = float(np.clip(centre[0] - side / 2, 0, width - side))
    top = float(np.clip(centre[1] - side / 2, 0, height - side))
    return left, top, side


def torso_layer(
    image: Array,
    alpha: Array,
    share: Array,
    cover: HeadCover,
    *,
    head: OpenHead,
    vertices: Array,
    frame: MotionFrame,
    background: Array,
    landmarks: Array,
) -> Array:
    """Neck and shoulders with the head painted out: uint8 [s, s, 4] (the paper's inpainted torso, made smooth).

    Colours and matte grow upwards from what the photo shows; the fitted neck says where there must be skin behind the chin.

    Args:
        image: uint8 [s, s, 3]; alpha: the person's matte, and share: the head's of it, [s, s] 0..1.
        cover: where the fitted head lies; vertices: [v, 3] of ``head`` under ``frame``.
        background: [s, s, 3], the scene behind the person.
        landmarks: [478, 2 or more] pixels.
    """
    import cv2

    size = image.shape[0]
    unit = size / 512
    # The jaw's own rim is unsharp: a pixel or two beyond the step still carry its colour, and would stay behind as a line.
    on_head = ((cover.covered & (share > 0.5)) | (share > 0.85)).astype(np.uint8)
    margin = cv2.dilate(on_head, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(4.5 * unit) + 1,) * 2)).astype(bool)
    colours = foreground_colours(image, alpha, background)
    known = ((alpha > 0.9) & (share < 0.9) & ~margin).astype(np.float32)
    if not known.any():
        return np.zeros((size, size, 4), np.uint8)
    sides = neck_sides(alpha, landmarks)
    column = _neck_column(head, vertices, frame, landmarks, sides, size)
    face_colour = np.median(colours[cover.covered & (share > 0.9) & (alpha > 0.9)].reshape(-1, 3), axis=0)
    on_neck = known * cv2.erode(column.astype(np.uint8), np.ones((3, 3), np.uint8))
    on_neck = on_neck * np.exp(-((np.linalg.norm(_chroma(colours) - _chroma(face_colour), axis=-1) / 0.06) ** 2))
    filled = _filled_colours(colours, known, on_neck, column, face_colour)
    keep = cv2.GaussianBlur(((share < 0.9) & ~margin).astype(np.float32), (0, 0), 1.2 * unit)[..., None]
    colour = keep * colours + (1 - keep) * filled

    trusted = ((share < 0.5) & ~margin).astype(np.float32)
    bare = bool(on_neck.sum() > 0.3 * (known * column).sum())
    behind = _matte_behind(alpha, trusted, column, landmarks, sides if bare else None)
    step = cv2.GaussianBlur(trusted, (0, 0), 1.5 * unit)
    matte = step * alpha + (1 - step) * behind
    return np.clip(np.dstack([colour, 255.0 * matte]), 0, 255).astype(np.uint8)


def _neck_column(head: OpenHead, vertices: Array, frame: MotionFrame, landmarks: Array, sides: tuple[int, int], size: int) -> Array:
    """Where there must be neck, in front or behind the chin: bool [s, s]; ``sides`` from :func:`neck_sides`."""
    from triportrait.geometry.rasteriser import rasterise

    pixels, depth = project(pose_points(vertices, frame.rotation_rad, frame.translation), size)
    neck_faces = head.triangles[(head.part[head.triangles] == HeadPart.SKIN).all(1) & (head.neck[head.triangles] > 0.01).all(1)]
    column = rasterise(pixels.astype(np.float32), depth.astype(np.float32), neck_faces, size, size).triangle >= 0
    # The model's nape is wider than what shows between two jaws; nothing of it stands beside the face.
    jaw = landmarks[list(JAW_ANGLES), 0]
    column[:, : max(0, int(jaw.min()))] = column[:, max(0, int(np.ceil(jaw.max()))) :] = False
    column[: max(0, int(landmarks[UPPER_LIP_INSIDE, 1]))] = False
    left, right = sides
    column[:, :left] = column[:, right:] = False
    return column


def _filled_colours(colours: Array, known: Array, on_neck: Array, column: Array, face_colour: Array) -> Array:
    """Colours [s, s, 3] continued to where the head was.

    Args:
        colours: [s, s, 3], which hold where ``known`` [s, s] is 1.
        on_neck: [s, s], how surely a pixel shows the neck's skin; column: bool [s, s], where there must be neck.
        face_colour: [3].
    """
    import cv2

    unit = len(colours) / 512
    # Behind a chin there is neck: its colour comes from the neck that shows, and from shaded face where hardly any does.
    filled = push_pull(colours, known)
    prior = np.where(on_neck[..., None] > 0.1, colours, 0.75 * face_colour)
    neck_colour = push_pull(prior, np.maximum(on_neck, 2e-3 * column))
    wide = cv2.dilate(column.astype(np.uint8), np.ones((2 * round(10 * unit) + 1,) * 2, np.uint8))
    skin = cv2.GaussianBlur(wide.astype(np.float32), (0, 0), 4.0 * unit)[..., None]
    filled = skin * neck_colour + (1 - skin) * filled
    # Whatever the guess, it starts from the very colour that the photo shows at the edge: no line along the jaw.
    away = cv2.distanceTransform((known < 0.5).astype(np.uint8), cv2.DIST_L2, 3)[..., None] / (25.0 * unit)
    return filled + np.exp(-away) * push_pull(colours - filled, known)


def _matte_behind(alpha: Array, trusted: Array, column: Array, landmarks: Array, bare_sides: tuple[int, int] | None) -> Array:
    """The matte [s, s] of what goes on behind the head.

    Args:
        alpha: [s, s], the person's; it is the torso's where ``trusted`` [s, s] is 1.
        column: bool [s, s], where there must be neck.
        bare_sides: left and right edge of the neck, if a bare one shows.
    """
    import cv2

    size = len(alpha)
    unit = size / 512
    soft = push_pull(alpha[..., None].astype(np.float32), trusted)[..., 0]
    # Guesses far from anything seen would be ghosts at the side of the face.
    away = cv2.distanceTransform(1 - ((trusted > 0) & (alpha > 0.5)).astype(np.uint8), cv2.DIST_L2, 3)
    soft = np.clip((soft - 0.4) / 0.2, 0.0, 1.0) * np.clip(1.5 - away / (0.1 * size), 0.0, 1.0)
    rise = slice(max(0, int(landmarks[UPPER_LIP_INSIDE, 1])), max(0, int(landmarks[CHIN, 1])))
    # Where a bare neck shows, what grows up from it is as wide as that neck; hair beside it grows from hair.
    if bare_sides is not None:
        left, right = bare_sides
        soft[rise, :left] = soft[rise, right:] = 0.0
    behind = np.maximum(soft, cv2.GaussianBlur(column.astype(np.float32), (0, 0), 1.5 * unit))
    # Behind the jaw's rim something always goes on: the scene never shows between head and shoulders.
    rim = away / unit
    behind = np.maximum(behind, np.clip((_SKIRT_PX - rim) / 8.0, 0.0, 1.0) * (rim < _SKIRT_PX))
    if bare_sides is not None:
        # But little stands out beside a bare neck when the jaw moves off it.
        left, right = bare_sides
        x = np.arange(size) + 0.5
        beside = np.clip(np.minimum(x - left, right - x) / (3.0 * unit), 0.0, 1.0)
        behind[rise] *= np.maximum(beside, np.clip((_RIM_PX - rim[rise]) / 4.0, 0.0, 1.0))
    # The neck never shows beyond the person's own outline.
    behind *= cv2.GaussianBlur((alpha > 0.5).astype(np.float32), (0, 0), 1.0 * unit)
    return behind


def _chroma(colour: Array) -> Array:
    """Colour without brightness: [..., 3] summing to 1."""
    return (colour + 1.0) / (colour + 1.0).sum(-1, keepdims=True)


def inside_face(landmarks: Array, size: int) -> Array:
    """The face's hull [s, s] bool, a little shrunk: certainly person."""
    import cv2

    return cv2.erode(face_hull(landmarks, size).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
