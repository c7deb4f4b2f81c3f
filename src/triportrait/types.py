"""The nouns on the wires between rooms: frozen dataclasses that check their shapes once.

Axes and units, everywhere in the package:

* **Image space**: pixels, x right, y down, pixel centres at +0.5. Images are uint8 RGB ``[h, w, 3]``, mattes float32 in 0..1.
* **Head space**: decimetres, x to the subject's left (image right when facing the camera), y up, z out of the face.
* **Pose**: a head point p becomes ``p' = M p + translation`` with ``M = Rz(roll) Ry(yaw) Rx(pitch)``; the camera stands at
  ``(0, 0, 10)`` and looks along -z, so ``z_camera = 10 - p'_z`` (Real3D-Portrait, `spec` 3.1). Positive pitch lowers the chin's
  front (looking down), positive yaw turns the nose towards image right, positive roll turns the head counter-clockwise in the image.
* **Projection**: ``u = focal * p'_x / z_camera + centre_x``, ``v = centre_y - focal * p'_y / z_camera``, all in image widths.
* **Time**: row i of a curve is frame i, shown at ``i / fps`` seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from triportrait.errors import NumericError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import torch

Array = np.ndarray
#: What names a file.
PathLike = str | os.PathLike[str]

#: ARKit's curve names without the eight ``eyeLook*`` (gaze is kept as angles; exports derive those eight from it).
ARKIT_EXPRESSIONS: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip

#: The columns of a body's motion and of a warp, see :class:`MotionFrame`.
BODY_COLUMNS = ("body_x", "body_y", "body_scale", "body_roll")
_GRIDS = (("warp", 20, 4), ("warp_face", 72, 9))
WARP_COLUMNS = tuple(f"{part}_{i // wide + 1}{i % wide + 1}_{axis}" for part, count, wide in _GRIDS for i in range(count) for axis in "xy")
#: Widths of the fields of a row of motion that have one; of them body and warp may be None.
_ROW_WIDTHS = {"rotation_rad": 3, "translation": 3, "gaze_rad": 2, "body": len(BODY_COLUMNS), "warp": len(WARP_COLUMNS)}

#: Frames per second of every motion that we make, and of the videos; a driving clip is resampled to it.
FPS = 25.0
#: Focal length in image widths of the square head crop (EG3D and Real3D-Portrait: 2985.29 / 700).
FOCAL_IN_WIDTHS = 2985.29 / 700.0
#: Distance of the camera from the origin of head space at translation 0, in decimetres.
CAMERA_DISTANCE_DM = 10.0


def expect(array: Array, shape: str, name: str) -> dict[str, int]:
    """Check ``array.shape`` against words such as ``"t 52"``; numbers must match, letters are bound and returned.

    Raises:
        ValueError: the number of axes or a size differs; the text names the array, its shape and the expected one.
    """
    words = shape.split()
    bound: dict[str, int] = {}
    fits = len(words) == array.ndim
    for word, size in zip(words, array.shape, strict=False):
        if word.isdigit():
            fits &= int(word) == size
        else:
            fits &= bound.setdefault(word, size) == size
    if not fits:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, expected ({', '.join(words)})")
    return bound


class HeadPart(IntEnum):
    """What a vertex of a full head belongs to."""

    SKIN = 0
    SOCKET = 1
    TONGUE = 2
    GUMS = 3
    TEETH_UPPER = 4
    TEETH_LOWER = 5
    EYE_LEFT = 6
    EYE_RIGHT = 7


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono sound: ``samples`` [n] float32 in -1..1 at ``rate_hz``."""

    samples: Array
    rate_hz: int

    def __post_init__(self) -> None:
        expect(self.samples, "n", "samples")

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz

    def blocks(self) -> Iterator[Array]:
        """All of it in one block."""
        yield self.samples


@runtime_checkable
class Sound(Protocol):
    """Mono sound that can be gone through any number of times: a :class:`Waveform`, or what came in blocks and was kept."""

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        ...

    def blocks(self) -> Iterator[Array]:
        """float32 [n] each, in -1..1."""
        ...


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """What a tracker saw: one face over t frames of a w x h pixel picture.

    Args:
        landmarks: [t, 478, 3] float32; x, y in pixels, z in pixels of the same scale (smaller is nearer), MediaPipe order.
        found: [t] bool; rows without a face hold the last one seen.
        size: (w, h) in pixels.
        fps: frames per second of the clip; 25 for a photograph.
    """

    landmarks: Array
    found: Array
    size: tuple[int, int]
    fps: float = 25.0

    def __post_init__(self) -> None:
        frames = expect(self.landmarks, "t 478 3", "landmarks")["t"]
        expect(self.found, f"{frames}", "found")

    def __len__(self) -> int:
        return len(self.landmarks)


@dataclass(frozen=True, slots=True)
class MotionFrame:
    """One row of a :class:`Motion`.

    Args:
        expression: [e] float32.
        rotation_rad: [3] pitch, yaw, roll.
        translation: [3] decimetres.
        gaze_rad: [2] pitch (up positive), yaw (towards image right positive), of both eyes relative to the head.
        landmarks: [478, 2] pixels of the portrait's 512 crop, or None; only the 2-D baselines look at them.
        body: [4] how the shoulders have moved from their place in the photo: x to image right and y up in decimetres at the head's
            distance, logarithm of the scale, roll counter-clockwise in radians, all about the pit of the neck
            (:func:`triportrait.geometry.body.body_pivot`); None lets them follow the head.
        warp: [184] how the person has moved since the photo besides what head, expression and body explain: x to image right and y up, in
            decimetres at the head's distance, at the places of :mod:`triportrait.geometry.warp`; None: not at all.
    """

    expression: Array
    rotation_rad: Array
    translation: Array
    gaze_rad: Array
    landmarks: Array | None = None
    body: Array | None = None
    warp: Array | None = None

    def __post_init__(self) -> None:
        expect(self.expression, "e", "expression")
        for name, width in _ROW_WIDTHS.items():
            if (values := getattr(self, name)) is not None:
                expect(values, f"{width}", name)

    def expect_finite(self) -> None:
        """Refuse NaN and infinity before anything is drawn.

        Raises:
            NumericError: the row holds one.
        """
        rows = (self.expression, self.rotation_rad, self.translation, self.gaze_rad, self.body, self.warp)
        if not all(np.isfinite(row).all() for row in rows if row is not None):
            raise NumericError("a motion row holds NaN or infinity; the motion file or its source is damaged")


@dataclass(frozen=True, slots=True)
class Motion:
    """How a head moves, one row per frame.

    Args:
        expression: [t, e] float32, columns as ``expression_names``; ARKit curves lie in 0..1 (:mod:`.geometry.curve_range`: brows sink).
        rotation_rad: [t, 3] float32 pitch, yaw, roll.
        translation: [t, 3] float32 decimetres.
        gaze_rad: [t, 2] float32 pitch, yaw of both eyes relative to the head.
        fps: frames per second.
        expression_names: names of the columns.
        head_model: name of the :class:`HeadModel` the columns belong to.
        identity: [i] float32 shape coefficients of whom it was measured on, or None.
        landmarks: [t, 478, 2] pixels of the portrait's crop, or None (see :class:`MotionFrame`).
        body: [t, 4] float32 motion of the shoulders, and warp: [t, 184] float32 (see :class:`MotionFrame`), or None.
    """

    expression: Array
    rotation_rad: Array
    translation: Array
    gaze_rad: Array
    fps: float = 25.0
    expression_names: tuple[str, ...] = ARKIT_EXPRESSIONS
    head_model: str = "open"
    identity: Array | None = None
    landmarks: Array | None = None
    body: Array | None = None
    warp: Array | None = None

    def __post_init__(self) -> None:
        frames = expect(self.expression, f"t {len(self.expression_names)}", "expression")["t"]
        for name, width in (*_ROW_WIDTHS.items(), ("landmarks", "478 2")):
            if (values := getattr(self, name)) is not None:
                expect(values, f"{frames} {width}", name)
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}, expected a positive number")

    def __len__(self) -> int:
        return len(self.expression)

    def __getitem__(self, index: int) -> MotionFrame:
        more = (None if rows is None else rows[index] for rows in (self.landmarks, self.body, self.warp))
        return MotionFrame(self.expression[index], self.rotation_rad[index], self.translation[index], self.gaze_rad[index], *more)

    def __iter__(self) -> Iterator[MotionFrame]:
        return (self[i] for i in range(len(self)))

    def column(self, name: str) -> int:
        """Index of the curve ``name``; KeyError when this motion's head model has no such curve."""
        try:
            return self.expression_names.index(name)
        except ValueError:
            raise KeyError(f"no expression curve {name!r} in a motion of head model {self.head_model!r}") from None

    def rows(self, index: Array | slice) -> Motion:
        """Some of the rows, without landmarks."""
        return self.with_rows(**{name: getattr(self, name)[index] for name in self.row_fields}, landmarks=None)

    @property
    def row_fields(self) -> tuple[str, ...]:
        """Names of the fields that have a row per frame, landmarks apart."""
        return ("expression", "rotation_rad", "translation", "gaze_rad", *(n for n in ("body", "warp") if getattr(self, n) is not None))

    def with_rows(self, **changes: Any) -> Motion:
        """A copy with some fields replaced (and checked again)."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole in EG3D's convention: OpenCV axes (x right, y down, z forward), world y up, intrinsics in image widths.

    Args:
        camera_to_world: [4, 4] float64.
        focal: focal length in image widths.
        centre: principal point (x, y) in image widths.
    """

    camera_to_world: Array
    focal: float = FOCAL_IN_WIDTHS
    centre: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        expect(self.camera_to_world, "4 4", "camera_to_world")

    def to_eg3d(self) -> Array:
        """The 25 numbers EG3D networks take: camera_to_world row by row, then the 3 x 3 intrinsics. float32 [25]."""
        intrinsics = [self.focal, 0.0, self.centre[0], 0.0, self.focal, self.centre[1], 0.0, 0.0, 1.0]
        return np.concatenate([self.camera_to_world.reshape(-1), intrinsics]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class PersonalManner:
    """How a person moves, learned from a video of them.

    Args:
        style: float32 [42], the numbers of a :class:`triportrait.motion.style.SpeakingStyle`; None where it is not known.
        voice: float32 [f + 1], from :func:`triportrait.motion.personal_voice.learn_voice`; None where nothing was learned.
    """

    style: Array | None = None
    voice: Array | None = None


@dataclass(frozen=True, slots=True)
class PersonalDelta:
    """What a person's pictures lack to look like the video: a sum of pictures in the head's own space, weighted by the motion.

    Weights of a frame: ``clip(weights @ (its numbers, 1), lowest, highest)``; see :mod:`triportrait.avatar.person.linear_delta`.

    Args:
        pictures: uint8 [k, c, c, 3]; 128 is no change.
        level: float32 [k], levels of colour (of 255) that a step of each picture stands for.
        weights: float32 [k, f + 1].
        lowest, highest: float32 [k].
        network: float32 [n], weights of a network that adds to that (:mod:`triportrait.avatar.person.learned_delta`).
    """

    pictures: Array
    level: Array
    weights: Array
    lowest: Array
    highest: Array
    network: Array | None = None

    def __post_init__(self) -> None:
        sizes = expect(self.pictures, "k c c 3", "pictures")
        expect(self.weights, f"{sizes['k']} f", "weights")
        for name in ("level", "lowest", "highest"):
            expect(getattr(self, name), f"{sizes['k']}", name)


@dataclass(frozen=True, slots=True)
class PreparedPortrait:
    """Everything known of one photographed person, computed once; all pictures share one square crop of side s (512).

    Args:
        photo: uint8 [H, W, 3], the whole photograph, upright.
        crop_box: (left, top, side) of the crop in photo pixels; may reach beyond the photo.
        image: uint8 [s, s, 3], the crop; person_alpha: float32 [s, s], soft matte of the whole person.
        head_alpha: float32 [s, s], soft matte of head, hair and ears; never above ``person_alpha``.
        torso: uint8 [s, s, 4], neck and shoulders with what the head hides painted in; alpha in the 4th channel.
        background: uint8 [s, s, 3], the scene with the person painted out.
        landmarks: float32 [478, 3] in crop pixels; identity: float32 [i], coefficients of the head model.
        vertex_offset: float32 [v, 3] decimetres, what the coefficients leave: makes the mesh's landmarks meet the photo's.
        motion: expression, pose and gaze in the photo.
        focal: focal length in crop widths; the principal point is the crop's centre.
        head_model: name of the head model the coefficients belong to.
        mouth_is_covered: whether something hides the mouth (mask, microphone, hand); None where nobody has looked yet.
        others: the person in other pictures, with the identity and the scene as here; body and warp of ``motion`` are since this one.
        same_take: of one of the ``others``: whether it comes from the first picture's shot, with the same hair, clothes and light.
        manner: of moving, where a video of the person was seen, and ``delta``: what its pictures lack, where that could be learned.
    """

    photo: Array
    crop_box: tuple[float, float, float]
    image: Array
    person_alpha: Array
    head_alpha: Array
    torso: Array
    background: Array
    landmarks: Array
    identity: Array
    vertex_offset: Array
    motion: MotionFrame
    focal: float = FOCAL_IN_WIDTHS
    head_model: str = "open"
    mouth_is_covered: bool | None = None
    others: tuple[PreparedPortrait, ...] = ()
    same_take: bool = True
    manner: PersonalManner = PersonalManner()
    delta: PersonalDelta | None = None

    def __post_init__(self) -> None:
        side = expect(self.image, "s s 3", "image")["s"]
        expect(self.person_alpha, f"{side} {side}", "person_alpha")
        expect(self.head_alpha, f"{side} {side}", "head_alpha")
        expect(self.torso, f"{side} {side} 4", "torso")
        expect(self.background, f"{side} {side} 3", "background")
        expect(self.landmarks, "478 3", "landmarks")


@dataclass(frozen=True, slots=True)
class TriPlane:
    """Three feature planes and which pair of axes each one spans.

    Args:
        planes: torch [b, 3, c, h, w].
        layout: ``"eg3d_original"`` (xy, xz, zx, as published) or ``"eg3d_fixed"`` (xy, xz, zy).
    """

    planes: torch.Tensor
    layout: str = "eg3d_original"


@dataclass(frozen=True, slots=True)
class RenderedHead:
    """The head layer of one frame, before torso and background; s is the render's side in pixels.

    Args:
        rgb: float32 [s, s, 3] in 0..1, premultiplied by ``alpha``.
        alpha: float32 [s, s] in 0..1; depth: float32 [s, s], camera depth in decimetres, +inf where nothing is.
        features: torch [c, s, s] for a super-resolution network, or None.
        seen: float32 [s, s] in 0..1, how far a pixel shows what the photo saw and no guess; None where that is not known.
    """

    rgb: Array
    alpha: Array
    depth: Array
    features: torch.Tensor | None = None
    seen: Array | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One finished picture.

    Args:
        image: uint8 [h, w, 3]; with ``alpha`` the person's own colours, not multiplied by it.
        time_s: when it is shown.
        debug: named panels of the same height.
        alpha: uint8 [h, w], how much of a pixel is the person; None where a scene stands behind.
    """

    image: Array
    time_s: float = 0.0
    debug: dict[str, Array] = field(default_factory=dict)
    alpha: Array | None = None


@runtime_checkable
class HeadModel(Protocol):
    """A morphable head: coefficients in, vertices out.

    ``name`` is stored in motion files; ``identity_size`` and ``expression_names`` give the widths of the coefficients.
    """

    name: str
    identity_size: int
    expression_names: tuple[str, ...]
    #: [f, 3] int32, counter-clockwise seen from outside.
    triangles: Array
    #: [v, 3] float32 in 0..1: the mean shape's coordinates normalised per axis, the colours of PNCC (eq. 1).
    ncc_colours: Array
    #: [f] bool, triangles that PNCC draws (eyeballs, teeth and the mouth's inside are left out, so eyes are holes).
    pncc_triangles: Array

    def vertices(self, identity: Array, expression: Array, gaze_rad: Array | None = None) -> Array:
        """Head-space vertices [v, 3] float32 for identity [i], expression [e] and gaze [2] (pitch, yaw)."""
        ...

    def landmarks68(self, vertices: Array) -> Array:
        """The 68 landmarks [68, 3] (iBUG order) of posed or unposed ``vertices`` [v, 3]."""
        ...

    def landmarks478(self, vertices: Array) -> Array:
        """MediaPipe's 478 landmarks [478, 3]; rows the model cannot give are NaN."""
        ...


class FullHead(HeadModel, Protocol):
    """A head with eyes, teeth and a mouth to look into; what the ``lifted`` avatar needs beyond :class:`HeadModel`.

    ``mean`` [v, 3] float32 decimetres, the mean head, ``part`` [v] uint8 (:class:`HeadPart`), ``neck`` [v] float32 (0 head .. 1 shoulders),
    ``eye_vertices`` (left, right) vertex indices, ``eye_centre`` [2, 3] and ``eye_radius`` [2] in decimetres, the subject's left first.
    """

    mean: Array
    part: Array
    neck: Array
    eye_vertices: tuple[Array, ...]
    eye_centre: Array
    eye_radius: Array

    def shape(self, identity: Array) -> Array:
        """The expressionless head [v, 3]."""
        ...

    def deform(self, shape: Array, expression: Array, gaze_rad: Array | None = None) -> Array:
        """Expression and gaze on a shape [v, 3] -> [v, 3]."""
        ...

    def eye_centres(self, shape: Array) -> Array:
        """Centres [2, 3] of a shape's eyeballs."""
        ...


@runtime_checkable
class Driver(Protocol):
    """Anything that moves a portrait: a voice, a video, a motion file, a clock. ``drivers.DRIVERS`` lists them by kind of input.

    What can be measured without a portrait is measured when the driver is made, and so is what can go wrong.
    """

    #: Frames per second of the motion.
    fps: float

    @property
    def frame_count(self) -> int:
        """Number of frames; 0 where it is not known beforehand."""
        ...

    @property
    def sound(self) -> Path | Sound | None:
        """File whose sound belongs to the motion, the sound itself, or None."""
        ...

    @property
    def sources(self) -> dict[str, Path]:
        """Files that the motion was made from, by their part in it, for the signed statement."""
        ...

    @property
    def inputs(self) -> tuple[PathLike, ...]:
        """Files and folders that were read besides."""
        ...

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """The motion in the portrait's pose frame, piece by piece; it can be gone through again and is the same each time.

        Raises:
            MediaError: the motion does not fit the portrait.
        """
        ...


@runtime_checkable
class Avatar(Protocol):
    """A way to draw a portrait's head in motion. What depends on the portrait alone is computed in ``prepare``."""

    name: str
    #: Whether the layer shows neck and shoulders, too; if not, a torso layer stands behind it.
    whole_person: bool

    def prepare(self, portrait: PreparedPortrait) -> Any:
        """The state that the caller holds and hands back to :meth:`render`."""
        ...

    def render(self, state: Any, frame: MotionFrame) -> RenderedHead:
        """The head layer for one motion row, in the portrait's crop."""
        ...


@runtime_checkable
class FrameModel(Protocol):
    """An avatar together with what joins its head to torso and background: motion rows in, finished crops out.

    ``model.AVATARS`` lists how they are made by name.
    """

    #: What draws the head. Its state is the ``avatar`` of the state below.
    avatar: Any

    def motion_picture(self, state: Any, frame: MotionFrame) -> Array:
        """The PNCC float32 [3, s, s] in -1..1 of a motion row's shape and expression, for debug panels."""
        ...

    def prepare(self, portrait: PreparedPortrait) -> Any:
        """The state that the caller holds and hands back."""
        ...

    def with_still_mouth(self, state: Any) -> Any:
        """The same state for a mouth that never moves: nothing is painted over what the photo shows there."""
        ...

    def step(self, state: Any, frame: MotionFrame, background: Array | None = None) -> tuple[Array, RenderedHead]:
        """One crop uint8 [s, s, 3] and the head layer it was made from; ``background`` uint8 [s, s, 3] takes the place of the photo's.

        Raises:
            NumericError: the motion row holds NaN or infinity.
        """
        ...

    def cut_out(self, state: Any, frame: MotionFrame) -> Array:
        """The whole person of one row without a scene: float32 [s, s, 4] in 0..1, colours premultiplied by the alpha behind them.

        Raises:
            NumericError: the motion row holds NaN or infinity.
            OptionError: this model draws person and scene in one.
        """
        ...

    def draw(
        self, state: Any, frames: Iterable[MotionFrame], scenes: Iterator[Array] | None = None
    ) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Many rows, several at once where that is faster: each row, its crop, and the head layer or None."""
        ...


@dataclass(frozen=True, slots=True)
class RefinedPlanes:
    """Feature planes of the learned avatar, fitted to this one photograph.

    Args:
        front, across, down: float32 [c, h, w].
        network: fingerprint of the network whose decoder they belong to.
        steps: of the optimisation.
        before_db, after_db: PSNR of the volume's picture inside the head at the photo's own pose.
    """

    front: Array
    across: Array
    down: Array
    network: str
    steps: int
    before_db: float
    after_db: float
