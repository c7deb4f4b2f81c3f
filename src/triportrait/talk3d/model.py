"""Talk3D's frames (Ko et al., 2024, figure 2): what drives becomes tokens, tokens a delta plane, and the sum is rendered.

The renderer and the super-resolution are EG3D's and are handed in. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.errors import NumericError, OptionError
from triportrait.geometry.cameras import EG3D_SCALE
from triportrait.nn.seen_volume import SeenVolume
from triportrait.talk3d.person import Person
from triportrait.talk3d.tokens import PersonalTokens
from triportrait.types import ARKIT_EXPRESSIONS, Array, Camera, Motion, MotionFrame, PreparedPortrait, RenderedHead, TriPlane

#: Below this alpha a pixel has no depth.
_NOTHING = 0.02
#: AU45 of OpenFace of lids that are shut.
SHUT = 2.0
_BLINKS = [ARKIT_EXPRESSIONS.index(f"eyeBlink{side}") for side in ("Left", "Right")]


@dataclass(frozen=True, slots=True)
class PersonalFrame(MotionFrame):
    """A motion row, its pose counted from the person's rest, with what it says besides.

    Args:
        speech: [w, f, 16] of ``talk3d.speech.SpeechWindows``; None is silence.
        camera: instead of the one that follows from the pose, and with it
        rotation_deg: [3] turn of the head, and
        points: [3, 2] landmarks, as :class:`triportrait.talk3d.person.Person` has them.
    """

    speech: Array | None = None
    camera: Camera | None = None
    rotation_deg: Array | None = None
    points: Array | None = None


@dataclass(frozen=True, slots=True)
class PersonalMotion(Motion):
    """Motion whose rows are :class:`PersonalFrame` objects; every list has a row per frame, or is None."""

    speech: Array | None = None
    cameras: tuple[Camera, ...] | None = None
    rotations_deg: Array | None = None
    points: Array | None = None

    def __getitem__(self, index: int) -> PersonalFrame:
        return PersonalFrame(
            self.expression[index],
            self.rotation_rad[index],
            self.translation[index],
            self.gaze_rad[index],
            speech=None if self.speech is None else self.speech[index],
            camera=None if self.cameras is None else self.cameras[index],
            rotation_deg=None if self.rotations_deg is None else self.rotations_deg[index],
            points=None if self.points is None else self.points[index],
        )


def lids_of(expression: Array) -> Array:
    """How far the lids are shut, as the intensity of AU45 in 0..2: ARKit curves [..., 44] -> [...] (spec A.2)."""
    return np.clip(SHUT * expression[..., _BLINKS].mean(-1), 0.0, SHUT).astype(np.float32)


@dataclass(frozen=True, slots=True)
class PersonalState:
    """The rest picture; all else belongs to the person, whom the avatar holds."""

    portrait: PreparedPortrait


class PersonalAvatar:
    """One person's planes in motion; implements :class:`triportrait.types.Avatar`.

    Args:
        tokens, delta_plane: the trained networks.
        renderer: planes and cameras [b, 25] to a :class:`SeenVolume`.
        person: whose planes these are.
    """

    name = "talk3d"

    def __init__(
        self, tokens: PersonalTokens, delta_plane: nn.Module, renderer: Callable[[TriPlane, Tensor], SeenVolume], person: Person
    ) -> None:
        self._tokens, self._delta_plane = tokens, delta_plane
        self.renderer, self.person = renderer, person
        self.device = person.planes.planes.device

    def prepare(self, portrait: PreparedPortrait) -> PersonalState:
        """See :class:`triportrait.types.Avatar`; the portrait is one of :meth:`PersonalModel.rest_portrait`."""
        return PersonalState(portrait)

    @torch.inference_mode()
    def look(self, frames: Sequence[MotionFrame]) -> SeenVolume:
        """What the rows' cameras see."""
        for frame in frames:
            frame.expect_finite()
        placed = [self.placed(frame) for frame in frames]
        labels = torch.from_numpy(np.stack([camera.to_eg3d() for camera, _, _ in placed])).to(self.device)
        return self.renderer(self.planes(frames, placed), labels)

    def planes(self, frames: Sequence[MotionFrame], placed: Sequence[tuple[Camera, Array, Array]]) -> TriPlane:
        """P'_n = P_ID + dP_n of rows with their cameras, turns and points."""
        config = self._tokens.config
        silence = np.zeros((config.window, config.speech_features, 16), np.float32)
        own = [frame.speech if isinstance(frame, PersonalFrame) else None for frame in frames]
        speech = np.stack([silence if windows is None else windows for windows in own])
        drives = (
            speech,
            lids_of(np.stack([frame.expression for frame in frames])),
            np.stack([turn for _, turn, _ in placed]),
            np.stack([points for _, _, points in placed]),
        )
        tokens = self._tokens(*(torch.from_numpy(np.ascontiguousarray(drive, np.float32)).to(self.device) for drive in drives))
        still = self.person.planes.planes
        change = self._delta_plane(still.expand(len(frames), -1, -1, -1, -1), tokens)
        return TriPlane(still + change, self.person.planes.layout)

    def render(self, state: PersonalState, frame: MotionFrame) -> RenderedHead:
        """See :class:`triportrait.types.Avatar`: head, torso and scene, for all are in the planes."""
        return _layer(self.look([frame]), self.placed(frame)[0])

    def placed(self, frame: MotionFrame) -> tuple[Camera, Array, Array]:
        """Camera, turn [3] in degrees and points [3, 2] of a row."""
        if isinstance(frame, PersonalFrame) and frame.camera is not None:
            assert frame.rotation_deg is not None and frame.points is not None, "they come with the camera"
            return frame.camera, frame.rotation_deg, frame.points
        return self.person.turned(frame.rotation_rad, frame.translation)


class PersonalModel:
    """Talk3D as a :class:`triportrait.types.FrameModel`.

    Args:
        avatar: renders the person.
        super_resolve: features [b, c, s, s] and styles [b, l, n] to pictures [b, 3, h, h] in -1..1.
        batch: rows that :meth:`draw` puts through the networks at once.
    """

    def __init__(self, avatar: PersonalAvatar, super_resolve: Callable[[Tensor, Tensor], Tensor], *, batch: int = 1) -> None:
        self.avatar, self._super_resolve, self._batch = avatar, super_resolve, batch

    def motion_picture(self, state: PersonalState, frame: MotionFrame) -> Array:
        """There is none.

        Raises:
            OptionError: always.
        """
        raise OptionError("--debug-panel shows a head model's picture, and Talk3D has no head model; leave it out")

    def prepare(self, portrait: PreparedPortrait) -> PersonalState:
        """See :class:`triportrait.types.FrameModel`."""
        return self.avatar.prepare(portrait)

    def with_still_mouth(self, state: PersonalState) -> PersonalState:
        """The same: nothing is painted over mouths."""
        return state

    def step(self, state: PersonalState, frame: MotionFrame, background: Array | None = None) -> tuple[Array, RenderedHead]:
        """See :class:`triportrait.types.FrameModel`. ``background`` changes nothing: the scene is in the planes.

        Raises:
            NumericError: the row or the networks' picture holds NaN or infinity.
        """
        seen = self.avatar.look([frame])
        return self._pictures(seen)[0], _layer(seen, self.avatar.placed(frame)[0])

    def cut_out(self, state: PersonalState, frame: MotionFrame) -> Array:
        """OptionError: the scene is in the planes."""
        raise OptionError("Talk3D draws person and scene in one; leave out --background transparent")

    def draw(
        self, state: PersonalState, frames: Iterable[MotionFrame], scenes: Iterator[Array] | None = None
    ) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Several rows at once, without head layers; see :meth:`triportrait.types.FrameModel.draw`."""
        rows = iter(frames)
        while batch := list(islice(rows, self._batch)):
            for row, picture in zip(batch, self._pictures(self.avatar.look(batch)), strict=True):
                yield row, picture, None

    @torch.inference_mode()
    def rest_portrait(self) -> PreparedPortrait:
        """The person at rest, seen by the mean camera, in the place of a photograph; there is nothing behind it."""
        person = self.avatar.person
        label = torch.from_numpy(person.rest.to_eg3d())[None].to(self.avatar.device)
        image = self._pictures(self.avatar.renderer(person.planes, label))[0]
        side = len(image)
        whole = np.ones((side, side), np.float32)
        still = MotionFrame(np.zeros(len(ARKIT_EXPRESSIONS), np.float32), *(np.zeros(size, np.float32) for size in (3, 3, 2)))
        return PreparedPortrait(
            photo=image,
            crop_box=(0.0, 0.0, float(side)),
            image=image,
            person_alpha=whole,
            head_alpha=whole,
            torso=np.zeros((side, side, 4), np.uint8),
            background=image,
            landmarks=np.zeros((478, 3), np.float32),
            identity=np.zeros(0, np.float32),
            vertex_offset=np.zeros((0, 3), np.float32),
            motion=still,
            focal=person.rest.focal,
        )

    @torch.inference_mode()
    def _pictures(self, seen: SeenVolume) -> Array:
        """uint8 [n, s, s, 3]."""
        features = seen.features.float()
        pictures = self._super_resolve(features, self.avatar.person.styles.expand(len(features), -1, -1))
        if not torch.isfinite(pictures).all():
            raise NumericError("the networks gave NaN or infinity; 'triportrait weights verify' tells whether their weights are sound")
        bytes_ = (pictures.float() * 127.5 + 128.0).clamp(0.0, 255.0).to(torch.uint8)
        return bytes_.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _layer(seen: SeenVolume, camera: Camera) -> RenderedHead:
    """The first of the pictures that a renderer gave, as a layer."""
    features = seen.features[0].float()
    alpha = seen.alpha[0, 0].float().cpu().numpy()
    rgb = (0.5 * features[:3] + 0.5).clamp(0.0, 1.0).permute(1, 2, 0).cpu().numpy()
    line = ((np.arange(len(alpha)) + 0.5) / len(alpha) - 0.5) / camera.focal
    along = seen.depth[0, 0].float().cpu().numpy() / np.sqrt(1.0 + line[None] ** 2 + line[:, None] ** 2) / EG3D_SCALE
    return RenderedHead(np.ascontiguousarray(rgb), alpha, np.where(alpha > _NOTHING, along, np.inf).astype(np.float32), features)
