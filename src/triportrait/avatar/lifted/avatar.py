"""The photo lifted onto the fitted head: a textured surface in true 3D, drawn by the z-buffer. No network, no training.

* The **face** (lids, lips, cheeks, nose) is the head model's own skin with the photo projected onto it.
* The **mantle** (hair, ears, hat, and of a whole person neck and shoulders) is a regular grid over the photo whose depth continues the head
  smoothly and rounds off towards the outline, so that nothing can tear; it follows the head's bones and, near the face, its expression.
* What a turn uncovers of the face has colours spread from what is seen and the relief of the face's other half (:mod:`other_half`); behind
  the outline the mantle is mirrored.
* **Light** stays where it is while the head turns (:mod:`relight`).
* **Eyeballs** turn under the lids; teeth, tongue and the mouth's lining are the model's, tinted and lit like the photo.
* **Lids** slide: their skin, unrolled once, goes with the margin, out of the fold, and so do the lashes (:mod:`lids`).

This avatar is the teacher, the preview and the baseline of the learned one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.lifted import shading_kernels as kernels
from triportrait.avatar.lifted import vertex_kernels
from triportrait.avatar.lifted.eyes import eye_coordinates, eyeball_textures
from triportrait.avatar.lifted.lid_kernels import FINER, hang_lashes
from triportrait.avatar.lifted.lids import STRIP_TEXELS, Lids, closed_expression
from triportrait.avatar.lifted.mantle import Mantle, build_mantle, cosines, streaks
from triportrait.avatar.lifted.mouth_corners import MouthCorners
from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.avatar.lifted.neck import belonging, thinned
from triportrait.avatar.lifted.other_half import OtherHalf
from triportrait.avatar.lifted.outline import rise_of_face
from triportrait.avatar.lifted.relight import Light, fit_light
from triportrait.avatar.lifted.surface import Surface, fit_surface, hidden_vertices, spread_colours
from triportrait.avatar.lifted.under_brows import UnderBrows
from triportrait.avatar.lifted.unseen_colours import sampled
from triportrait.avatar.lifted.warping import LoosePoints, face_frame
from triportrait.avatar.mouth.inside import Membrane, MouthInside, bite_dm, mouth_is_shut, white_in
from triportrait.avatar.mouth.photo_teeth import SeenTeeth
from triportrait.avatar.mouth.seats import talking_lips
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.cameras import pose_points
from triportrait.geometry.filling import foreground_colours
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, INNER_LIPS, JAW_ENDS_OF_68, OUTER_LIPS
from triportrait.geometry.masks import face_hull, hull_mask
from triportrait.geometry.nearest import distance_px, nearest_points
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.parts import PicturePart
from triportrait.geometry.rasteriser import draw_attributes, draw_fragments, rasterise
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, HeadPart, MotionFrame, PreparedPortrait, RenderedHead

#: A skull triangle is left to the mantle, or of a head alone to the torso layer, when the neck weight of its corners exceeds this.
_NECK_LIMIT = 0.2
#: The back of the skin yields to its front by this much (decimetres).
_BACK_BIAS_DM = 0.03
#: Cheek whose normal has a smaller cosine with the photo's view is left to the mantle.
_HIDDEN_COSINE = 0.1
#: So much more does the jaw's rim yield, where the sheet goes on as neck.
_JAW_BIAS_DM = 0.6
#: Light from behind that has become weaker by this share has gone.
_GONE = 0.2
#: A guessed rim of the mantle yields to the skin of the mesh by this much.
_YIELD_DM = 0.3
#: And so many times as much where the skin shows the face's other half.
_MUCH_BETTER = 4.0
#: Lashes may lie so far behind the lid that they stand on: its mesh is coarse.
_LASHES_BEHIND_DM = 0.06
#: Lids belong to their moving picture within this distance of the eye's rim (decimetres).
_LID_REACH_DM = 0.22


@dataclass(frozen=True, slots=True)
class Cheeks:
    """The sides of the face, where a turn uncovers what the photo saw at a glance.

    Args:
        side: float32 [v], 1 beside eyes and mouth and where the face's other half lends its relief, 0 in the middle of the face.
        normal: float32 [v, 3] of the head as in the photo, unposed; ``facing`` float32 [v], their cosine with the photo's view.
        bleached: float32 [v], how far light from behind bleaches them in the photo.
    """

    side: Array
    normal: Array
    facing: Array
    bleached: Array

    @staticmethod
    def of(head: FullHead, surface: Surface, motion: MotionFrame) -> Cheeks:
        """Of a fitted head and its pose in the photo."""
        normal = vertex_normals(surface.source, surface.skin)
        out = np.abs(surface.source[:, 0]) / np.abs(head.landmarks68(surface.source)[list(JAW_ENDS_OF_68), 0]).max()
        side = np.clip((out - 0.45) / 0.15, 0.0, 1.0) * (head.part == HeadPart.SKIN)
        facing = cosines(surface.source, normal, motion)
        nowhere = np.zeros(len(side), np.float32)
        return Cheeks(side.astype(np.float32), normal.astype(np.float32), facing.astype(np.float32), nowhere)

    def guessed(self, points: Array, frame: MotionFrame, gain: Array) -> Array:
        """How far each vertex, at ``points`` [v, 3], shows a guess from the view of ``frame`` and under a ``gain`` of light [v].

        Light from behind bleaches skin; once it has gone, the photo's colours there would be grey.
        """
        gone = np.clip((1.0 - gain) * np.float32(1.0 / _GONE), 0.0, 1.0)
        return np.asarray(self.side * np.maximum(streaks(self.facing, points, self.normal, frame), self.bleached * gone))


@dataclass(frozen=True, slots=True)
class LiftedState:
    """What :meth:`LiftedAvatar.prepare` computed; v mesh vertices, f mesh triangles, s the crop's side.

    Args:
        portrait: the portrait it was made from.
        shape: [v, 3] float32, expressionless head with the portrait's own offsets.
        source: [v, 3] float32, the head as in the photo (unposed).
        mantle: the grid over hair and outline.
        triangles: [f, 3] int32, skin first, and ``kind`` [f] uint8, how each is coloured (:mod:`shading_kernels`).
        source_pixels: [v, 2] float32, where each vertex lies in the photo (eyeballs: in their texture).
        colours: [v, 4] float32, colour of what the photo does not show (0..255) and how much it counts (0..1).
        closed_hidden: [v] float32, 0..1, how far closed eyes would hide a vertex from the photo.
        lid: [v, 2] float32, membership of the left and right lids, and ``lids``: their skin, fold and lashes.
        under_brows: the skin above them; mouth_corners: the skin beside the lips.
        photo: [s, s, 4] float32, head colours (0..255) and matte (0..1).
        inside: what lies between the lips.
        membrane: the photo's own view of that, if its mouth is wide open.
        eye_textures: [2, e, e, 3] float32, left eye first; ``raised_eye_textures``: where the upper lids have gone up.
        light: of the photo, and ``tone``.
        other_half: the relief that the hidden half of the face takes from the half that is seen.
        cheeks: what a turn uncovers of the face's sides.
        bias: [v] float32 decimetres added to the depth (the rim of the face yields to the mantle).
        warp: the vertices as what a warp moves: beside the face the mesh goes where the mantle goes.
    """

    portrait: PreparedPortrait
    shape: Array
    source: Array
    mantle: Mantle
    triangles: Array
    kind: Array
    source_pixels: Array
    colours: Array
    closed_hidden: Array
    lid: Array
    lids: Lids
    under_brows: UnderBrows
    mouth_corners: MouthCorners
    photo: Array
    membrane: Membrane | None
    inside: MouthInside
    eye_textures: Array
    raised_eye_textures: Array
    light: Light
    tone: PhotoTone
    other_half: OtherHalf
    cheeks: Cheeks
    bias: Array
    warp: LoosePoints


@dataclass(frozen=True, slots=True)
class LiftedLayer:
    """A drawn head.

    Args:
        rgb: float32 [h, w, 3] premultiplied, 0..1; alpha, depth: float32 [h, w]; as in :class:`triportrait.types.RenderedHead`.
        surface: uint8 [h, w]: 0 nothing, else 1 + a kind of :mod:`shading_kernels`.
        seen: float32 [h, w], as in :class:`triportrait.types.RenderedHead`.
        landmarks: float32 [478, 2] pixels of the head's landmarks in the crop.
        moved: the head that was drawn; nodes: float32 [m, 3], the mantle's in the frame's head space.
    """

    rgb: Array
    alpha: Array
    depth: Array
    surface: Array
    seen: Array
    landmarks: Array
    moved: MovedHead
    nodes: Array


#: Pixels [n, 2] and depths [n] of points [n, 3] of the head: float32.
Projection = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class _View:
    """The ``part`` that is drawn of a crop, which is ``crop_px`` wide; the focal length is in widths of the crop."""

    focal: float
    crop_px: int
    part: PicturePart

    @staticmethod
    def of(portrait: PreparedPortrait, part: PicturePart | None = None) -> _View:
        """Of a portrait's crop, or of a part of it."""
        size = len(portrait.image)
        return _View(portrait.focal, size, part or PicturePart(0, 0, size, size))

    def under(self, frame: MotionFrame) -> Projection:
        """What tells where points of the head [n, 3] lie in the part under the pose of ``frame``."""
        pose = np.column_stack([matrix_from_euler(frame.rotation_rad), frame.translation]).astype(np.float64)
        half = 0.5 * self.crop_px
        numbers = (self.focal * self.crop_px, self.part.left - half, self.part.top - half, CAMERA_DISTANCE_DM)

        def projected(points: Array) -> tuple[Array, Array]:
            pixels, depth = np.empty((len(points), 2), np.float32), np.empty(len(points), np.float32)
            vertex_kernels.project(np.ascontiguousarray(points, np.float32), pose, *numbers, pixels, depth)
            return pixels, depth

        return projected


#: How far each pixel of a photo moves with the head: float32 [s, s] in 0..1.
Skinning = Callable[[PreparedPortrait, FullHead, Surface], Array]


class LiftedAvatar:
    """:class:`triportrait.types.Avatar` on a head with eyes and a mouth, e.g. the open head."""

    name = "lifted"

    def __init__(self, head: FullHead, *, whole_person: bool = False, skinning: Skinning | None = None) -> None:
        """Of the whole person, or the head alone, or, with ``skinning``, what belongs to the head of a person who bends so."""
        self.head = head
        self.whole_person = whole_person
        self.skinning = skinning
        self._own = threading.local()

    def prepare(self, portrait: PreparedPortrait) -> LiftedState:
        """Textures, surfaces and colours of one portrait."""
        head, motion = self.head, portrait.motion
        size = portrait.image.shape[0]
        surface = fit_surface(portrait, head)
        pure = foreground_colours(portrait.image, portrait.person_alpha, portrait.background.astype(np.float32))
        cheeks = Cheeks.of(head, surface, motion)
        lid = _lid_membership(head, surface.source)
        other_half = OtherHalf.of(portrait, head, surface, cheeks.facing)
        triangles, kind = _mesh_triangles(head, surface, cheeks, (lid.max(1) > 0) | other_half.upper, portrait.head_alpha)
        drawn = rasterise(surface.pixels, surface.depth, triangles, size, size)
        matte = np.maximum(portrait.person_alpha, portrait.head_alpha) if self.whole_person else portrait.head_alpha
        share = None if self.skinning is None else self.skinning(portrait, head, surface)
        if share is not None:
            matte = thinned(matte, belonging(share))
        mantle = build_mantle(portrait, head, surface, pure, matte, drawn.triangle >= 0, whole_person=self.whole_person, share=share)
        mantle = mantle.behind(surface.source[other_half.texels[:, 2] > 0.5], _MUCH_BETTER)
        colours = spread_colours(surface, portrait, head)
        seen = (head.part == HeadPart.SKIN) & (surface.seen > 0.6) & (surface.face > 0.5)
        face = colours[seen, :3] if seen.any() else np.full((1, 3), 160.0)
        tone = PhotoTone.of(portrait)
        inside, membrane = self._mouth(portrait, surface, np.quantile(face, 0.7, axis=0), tone)

        closed = head.deform(surface.shape, closed_expression(head, motion), motion.gaze_rad)
        source_pixels = surface.pixels.copy()
        for side in (0, 1):
            source_pixels[head.eye_vertices[side]] = eye_coordinates(head, side)
        colours[:, :3] += cheeks.side[:, None] * (sampled(mantle.plain.low, surface.pixels) - colours[:, :3])
        side = np.maximum(cheeks.side, other_half.texels[:, 2])
        cheeks = replace(cheeks, side=side, bleached=sampled(mantle.plain.bleached, surface.pixels))
        photo = np.dstack([pure, matte]).astype(np.float32)
        posed = pose_points(surface.source, motion.rotation_rad, motion.translation)
        light = fit_light(portrait, head, surface)
        eye_textures, raised_eye_textures = eyeball_textures(portrait, head, surface.source, tone)
        return LiftedState(
            portrait=portrait,
            shape=surface.shape,
            source=surface.source,
            mantle=mantle,
            triangles=triangles,
            kind=kind,
            source_pixels=source_pixels.astype(np.float32),
            colours=np.ascontiguousarray(colours, np.float32),
            # The margins' own rims, seen edge-on, would dot the line between the lids.
            closed_hidden=hidden_vertices(portrait, head, closed, surface.skin) * (1.0 - lid.max(1)),
            lid=lid,
            lids=Lids.of(portrait, head, surface.shape, surface.source, photo, light),
            under_brows=UnderBrows.of(portrait, head, surface.pixels, surface.source, photo[..., :3]),
            mouth_corners=MouthCorners.of(portrait, head, surface, photo[..., :3]),
            photo=np.ascontiguousarray(photo, np.float32),
            membrane=membrane,
            inside=inside,
            eye_textures=eye_textures,
            raised_eye_textures=raised_eye_textures,
            light=light,
            tone=tone,
            other_half=other_half,
            cheeks=cheeks,
            bias=_depth_bias(head, surface, portrait, self.whole_person),
            warp=LoosePoints.of(portrait, face_frame(head, surface.shape), posed),
        )

    def _mouth(self, portrait: PreparedPortrait, surface: Surface, face: Array, tone: PhotoTone) -> tuple[MouthInside, Membrane | None]:
        """What lies between this portrait's lips, and the photo's view of it; ``face`` [3] is a typical colour of lit skin."""
        head, light = self.head, white_in(portrait, face, None, tone)
        teeth = SeenTeeth.of(portrait, tone, light)
        inside = MouthInside(head, light if teeth is None else white_in(portrait, face, teeth, tone), tone)
        motion = portrait.motion
        talking = head.deform(surface.shape, talking_lips(motion.expression, head.expression_names), motion.gaze_rad)
        inside.fit(teeth, portrait, surface.source, talking, _View.of(portrait).under(motion))
        landmarks, bite = head.landmarks478(surface.source), bite_dm(head, surface.source)
        return inside, Membrane.of(portrait.landmarks, landmarks, bite, teeth)

    def render(self, state: LiftedState, frame: MotionFrame) -> RenderedHead:
        """See :class:`triportrait.types.Avatar`."""
        drawn = self.draw(state, frame)
        return RenderedHead(drawn.rgb, drawn.alpha, drawn.depth)

    def render_part(self, state: LiftedState, frame: MotionFrame, part: PicturePart, *, mouth: bool = True) -> RenderedHead:
        """A part of the crop that :meth:`render` gives, [h, w] pixels; it costs what it shows.

        Without ``mouth``, whatever is seen between the lips has no meaning.
        """
        drawn = self.draw(state, frame, part, mouth=mouth)
        return RenderedHead(drawn.rgb, drawn.alpha, drawn.depth, seen=drawn.seen)

    def draw(self, state: LiftedState, frame: MotionFrame, part: PicturePart | None = None, *, mouth: bool = True) -> LiftedLayer:
        """What :meth:`render` or :meth:`render_part` gives, and which surface each pixel shows."""
        view = _View.of(state.portrait, part)
        width, height = view.part.width, view.part.height
        moved = MovedHead.of(self.head, state.shape, frame)
        to_pixels = view.under(frame)
        mesh, mantle, far = self._canvases(height, width)
        nodes = state.mantle.follow(moved.vertices - state.source, frame)
        moved = moved.warped(self.head, state.warp, frame)
        self._draw_mesh(state, to_pixels(moved.vertices), mesh)
        guessed = self._draw_mantle(state, to_pixels(nodes), frame, mantle, far)
        landmark_pixels, _ = to_pixels(moved.landmarks)
        kernels.close_gaps(mesh.triangle, mesh.barycentric, mesh.depth, _eye_boxes(landmark_pixels, height, width))
        lips = _lips(landmark_pixels, view, not mouth or mouth_is_shut(moved.landmarks))
        # Where no mouth is asked for, lips meet over the opening: nothing behind the head shows through.
        fold_px = kernels.FOLD_PX if mouth else height
        opening = kernels.opening(mesh.triangle, mesh.barycentric, mesh.depth, state.kind, lips, fold_px)
        closure = state.lids.closure(moved.landmarks)
        colours = state.colours.copy()
        gain, source_pixels = state.light.gain(moved.vertices, frame.rotation_rad), state.source_pixels
        np.maximum(colours[:, 3], state.cheeks.guessed(moved.vertices, frame, gain), out=colours[:, 3])
        if closure.any():
            shut = np.minimum(state.lid @ closure, 1.0)
            # What an open lid folds away, closed ones show.
            colours[:, 3] *= 1.0 - np.minimum(4.0 * shut, 1.0) * (1.0 - state.closed_hidden)
            # Closing lids are lit like the skin round the eye: their own normals, folded away in the photo, tell little.
            around = state.lid * (state.lid < 0.5)
            gain += shut * (state.lid @ ((gain @ around) / np.maximum(around.sum(0), 1e-6)) - gain * state.lid.sum(1))
            source_pixels = source_pixels + shut[:, None] * (state.lids.closed_pixels - source_pixels)
        state.under_brows.flatten(moved.landmarks, colours)
        state.mouth_corners.unfold(moved.landmarks, colours)
        skin = kernels.Skin(
            state.triangles,
            state.kind,
            source_pixels,
            colours,
            state.lid,
            state.lids.frame(closure),
            gain,
            state.other_half.texels,
            state.other_half.relief,
        )
        sheet = kernels.Sheet(
            state.mantle.triangles,
            state.mantle.far_triangles,
            state.mantle.pixels,
            state.mantle.colours(frame),
            guessed,
            state.mantle.carry(gain - 1) + 1,
            state.mantle.plain.detail,
        )
        raised = state.lids.raised(moved.landmarks)[:, None, None, None]
        eyes = state.eye_textures + raised * (state.raised_eye_textures - state.eye_textures) if raised.any() else state.eye_textures
        photo = kernels.Photo(state.photo, eyes)
        shaded = kernels.Shaded.empty(height, width)
        kernels.shade(mesh, mantle, far, skin, sheet, photo, self._between_lips(state, moved, frame.expression, to_pixels, opening), shaded)
        kernels.soften_edges(shaded.rgb, shaded.alpha, shaded.surface, shaded.depth)
        self._hang_lashes(state, moved, to_pixels, closure, shaded.rgb, shaded.depth)
        rgb = state.tone.settled(shaded.rgb, shaded.alpha)
        landmarks = landmark_pixels + np.array([view.part.left, view.part.top], np.float32)
        return LiftedLayer(rgb, shaded.alpha, shaded.depth, shaded.surface, shaded.seen, landmarks, moved, nodes)

    def _canvases(self, height: int, width: int) -> list[kernels.Drawn]:
        """Cleared fragments for mesh, mantle and its far side, kept for this thread: fresh memory would cost milliseconds a frame."""
        kept: list[kernels.Drawn] = self._own.__dict__.get("canvases", [])
        if not kept or kept[0].depth.size < height * width:
            kept = self._own.canvases = [kernels.Drawn.empty(height, width) for _ in range(3)]
        canvases = [canvas.first(height, width) for canvas in kept]
        for canvas in canvases:
            canvas.clear()
        return canvases

    def _draw_mesh(self, state: LiftedState, vertices: tuple[Array, Array], mesh: kernels.Drawn) -> None:
        """The fragments of the head's own triangles, with pixels [v, 2] and depth [v] of their vertices, into ``mesh``."""
        # Lips fold where they close: the skin's back stops the mouth's inside from shining through such a fold.
        skin = state.triangles[: int((state.kind == kernels.SKIN).sum())]
        places, away = vertices
        behind = away + (state.bias + np.float32(_BACK_BIAS_DM))
        draw_fragments(places, behind, skin, mesh.triangle, mesh.barycentric, mesh.depth, 0.0, False, True)
        draw_fragments(places, away + state.bias, state.triangles, mesh.triangle, mesh.barycentric, mesh.depth, 0.0, True)

    def _draw_mantle(
        self, state: LiftedState, nodes: tuple[Array, Array], frame: MotionFrame, mantle: kernels.Drawn, far: kernels.Drawn
    ) -> Array:
        """The fragments of the mantle, with pixels [m, 2] and depth [m] of its nodes, and of its far side.

        Returns:
            how far each node shows its guess, [m].
        """
        sheet, (places, away) = state.mantle, nodes
        guessed = sheet.guessed(frame)
        away += guessed * sheet.yielding * np.float32(_YIELD_DM)
        draw_fragments(places, away, sheet.triangles, mantle.triangle, mantle.barycentric, mantle.depth, 0.0)
        draw_fragments(places, away, sheet.far_triangles, far.triangle, far.barycentric, far.depth, 0.0)
        return guessed

    def _between_lips(
        self, state: LiftedState, moved: MovedHead, expression: Array, to_pixels: Projection, opening: Array
    ) -> kernels.BetweenLips:
        """What the mouth shows where the picture has its ``opening``, bool [h, w]."""
        membrane = state.membrane
        inside = state.inside.draw(moved.vertices, moved.landmarks, expression, to_pixels, opening)
        trust = 0.0 if membrane is None else membrane.trust(moved.landmarks, bite_dm(self.head, moved.vertices))
        if membrane is None or not trust:
            nothing = np.empty((0, 0, 2), np.float32), np.empty((0, 0), np.float32)
            return kernels.BetweenLips(*nothing, 0.0, 0.0, inside.rgb, inside.top, inside.left)
        seen = np.zeros((*opening.shape, 2), np.float32)
        seen_depth = np.full(opening.shape, np.inf, np.float32)
        pixels, depth = to_pixels(membrane.points(moved.landmarks))
        draw_attributes(pixels, depth, membrane.triangles, membrane.pixels, seen, seen_depth)
        return kernels.BetweenLips(seen, seen_depth, trust, membrane.light(moved.landmarks), inside.rgb, inside.top, inside.left)

    def _hang_lashes(self, state: LiftedState, moved: MovedHead, to_pixels: Projection, closure: Array, rgb: Array, depth: Array) -> None:
        """Draw the lashes of closing lids into premultiplied colours [h, w, 3], in place."""
        if state.lids.covered or not closure.any():
            return
        size, texels = depth.shape[::-1], STRIP_TEXELS
        strips, triangles = state.lids.strips(moved.landmarks, closure)
        for side in (0, 1):
            if closure[side] == 0.0:
                continue
            pixels, away = to_pixels(strips[side])
            left, top = np.clip(np.floor(pixels.min(0)), 0, size).astype(int)
            right, bottom = np.clip(np.ceil(pixels.max(0)), 0, size).astype(int)
            shown = np.zeros((FINER * max(bottom - top, 0), FINER * max(right - left, 0), 2), np.float32)
            shown_depth = np.full(shown.shape[:2], np.inf, np.float32)
            draw_attributes((pixels - np.array([left, top], np.float32)) * np.float32(FINER), away, triangles, texels, shown, shown_depth)
            hang_lashes(rgb, depth, state.lids.pictures.lashes[side], shown, shown_depth, top, left, _LASHES_BEHIND_DM)


def _lips(landmarks: Array, view: _View, shut: bool) -> Array:
    """The lips' hull and a little more, in which 2 is between them unless they are ``shut``: uint8 [h, w] from pixels [478, 2]."""
    import cv2

    unit, size = view.crop_px / 512, np.array([view.part.width, view.part.height])
    margin = round(6 * unit) + 2
    left, top = np.clip(landmarks[OUTER_LIPS].min(0) - margin, 0, size - 1).astype(int)
    right, bottom = np.clip(landmarks[OUTER_LIPS].max(0) + margin + 1, 1, size).astype(int)
    side = max(right - left, bottom - top)
    first = np.array([left, top], np.float32)
    lips, between = (
        cv2.dilate(hull_mask(landmarks[ring] - first, side), np.ones((2 * round(reach * unit) + 1,) * 2, np.uint8))
        for ring, reach in ((OUTER_LIPS, 6), (INNER_LIPS, 3))
    )
    result = np.zeros((view.part.height, view.part.width), np.uint8)
    result[top:bottom, left:right] = np.where((between > 0) & (lips > 0) & (not shut), 2, lips > 0)[: bottom - top, : right - left]
    return result


def _eye_boxes(landmarks: Array, height: int, width: int) -> Array:
    """First and last row and column round each eye, of pixels [478, 2]: int32 [2, 4], clipped to the picture."""
    boxes = []
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        low, high = landmarks[rim].min(0), landmarks[rim].max(0)
        margin = 0.25 * float((high - low).max())
        (left, top), (right, bottom) = low - margin, high + margin
        boxes.append(np.clip([top, bottom, left, right], 0, [height - 1, height - 1, width - 1, width - 1]))
    return np.array(boxes, np.int32)


def _depth_bias(head: FullHead, surface: Surface, portrait: PreparedPortrait, whole_person: bool) -> Array:
    """[v] float32 decimetres by which a vertex stands back.

    The face's rim yields to the mantle (hair hangs over temples and cheeks, and the jaw goes on as neck); eyeballs and the mouth's inside
    never come through the skin.
    """
    size = len(portrait.image)
    inside = distance_px(~face_hull(portrait.landmarks, size))
    x, y = (np.clip(surface.pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    rim = np.clip(1.0 - inside[y, x] / (12.0 * size / 512), 0.0, 1.0)
    jaw = 1.0 - rise_of_face(portrait)[y, x] if whole_person else 0.0
    bias = np.where(head.part == HeadPart.SKIN, (0.12 + _JAW_BIAS_DM * jaw) * rim, 0.15)
    bias[head.part >= HeadPart.EYE_LEFT] = 0.08
    return bias.astype(np.float32)


def _mesh_triangles(head: FullHead, surface: Surface, cheeks: Cheeks, kept: Array, head_alpha: Array) -> tuple[Array, Array]:
    """Triangles drawn as the head, and how they are coloured; the neck is the torso layer's, hair and ears are the mantle's."""
    parts = head.part[head.triangles]
    first, last = parts.min(1), parts.max(1)
    before_ears = head.mean[:, 2] > head.landmarks68(head.mean)[list(JAW_ENDS_OF_68), 2].min() - 0.02
    other = (head.neck[head.triangles].max(1) > _NECK_LIMIT) | ((surface.face < 0.05) | ~before_ears)[head.triangles].any(1)
    # What hides under the chin is left to the painted neck: drawn as skin it looks like a second chin.
    under = (cheeks.normal[:, 1] < -0.3) & (surface.shape[:, 1] < -0.5) & (surface.seen < 0.3)
    other |= under[head.triangles].all(1)
    # The cheek behind the photo's outline is the mantle's far side, unless it is ``kept`` (bool [v]): lids move, which no sheet over them
    # can follow, and what the face's other half shows needs no guess.
    hidden = (cheeks.facing < _HIDDEN_COSINE) & (cheeks.side > 0.3)
    other |= hidden[head.triangles].any(1) & ~kept[head.triangles].any(1)
    # Where the photo shows neck or scene, the fitted jaw is too wide.
    size = len(head_alpha)
    x, y = (np.clip(surface.pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    outside = (surface.pixels < 0).any(1) | (surface.pixels >= size).any(1)
    other |= ((head_alpha[y, x] < 0.5) & ~outside)[head.triangles].all(1)
    keep = ~((last == HeadPart.SKIN) & other)
    kind = np.full(len(parts), kernels.INTERIOR, np.uint8)
    kind[first == HeadPart.SKIN] = kernels.SKIN
    kind[(first == HeadPart.TEETH_UPPER) | (first == HeadPart.TEETH_LOWER)] = kernels.TEETH
    kind[first == HeadPart.EYE_LEFT] = kernels.EYE_LEFT
    kind[first == HeadPart.EYE_RIGHT] = kernels.EYE_RIGHT
    order = np.flatnonzero(keep)[np.argsort(kind[keep] != kernels.SKIN, kind="stable")]
    return np.ascontiguousarray(head.triangles[order]), kind[order]


def _lid_membership(head: FullHead, source: Array) -> Array:
    """[v, 2] float32: 1 on the lids of the left and right eye, fading out round them."""
    landmarks = head.landmarks478(source)
    result = []
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        distance = nearest_points(landmarks[rim], source)[0][:, 0]
        result.append(np.clip(2.0 - distance / (0.5 * _LID_REACH_DM), 0.0, 1.0) * (head.part == HeadPart.SKIN))
    return np.stack(result, 1).astype(np.float32)
