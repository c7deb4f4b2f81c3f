"""The simplest ways to animate a photograph, as avatars of their own: what every other avatar has to beat.

``static`` shows the photo, ``similarity`` shifts, turns and scales it, ``mesh2d`` bends it by the driver's own
landmarks, and ``depth_warp`` re-projects its pixels through the fitted head's depth. All of them draw the whole crop as
one layer, so ``alpha`` is 1 everywhere. The two that follow landmarks copy the driver's face shape: they are meant for
same-identity reenactment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.errors import MotionFileError
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import grid_triangles, harmonic_fill
from triportrait.geometry.landmarks import FACE_POINTS
from triportrait.geometry.nearest import distance_of, nearest_pixels
from triportrait.geometry.rasteriser import rasterise, rasterise_attributes
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, Avatar, HeadModel, MotionFrame, PreparedPortrait, RenderedHead

BASELINE_NAMES = ("static", "similarity", "mesh2d", "depth_warp")


def _whole_crop(image: Array, depth: Array | None = None) -> RenderedHead:
    """uint8 [s, s, 3] as a head layer that covers everything; without a depth, a plane at the head's origin."""
    side = len(image)
    if depth is None:
        depth = np.full((side, side), CAMERA_DISTANCE_DM, np.float32)
    return RenderedHead(image.astype(np.float32) / 255.0, np.ones((side, side), np.float32), depth)


def _driving_landmarks(frame: MotionFrame) -> Array:
    """The driver's face points [468, 2] in crop pixels, float64."""
    if frame.landmarks is None:
        raise MotionFileError("the 2-D baselines need the driver's landmarks, which this motion does not carry; drive them with a video")
    return np.asarray(frame.landmarks[:FACE_POINTS], np.float64)


def _sample(image: Array, source_px: Array) -> Array:
    """The pixels of uint8 [s, s, 3] at float32 [s, s, 2] positions (centres at +0.5), the border repeated outwards."""
    import cv2

    # OpenCV counts pixel centres from 0.
    x, y = (np.ascontiguousarray(source_px[..., i] - np.float32(0.5)) for i in (0, 1))
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _pixel_centres(side: int) -> Array:
    """float32 [s, s, 2]: x, y of every pixel's centre."""
    centres = np.arange(side, dtype=np.float32) + 0.5
    return np.stack(np.meshgrid(centres, centres), -1)


class StaticAvatar:
    """The photo, whatever happens."""

    name = "static"
    whole_person = True

    def prepare(self, portrait: PreparedPortrait) -> RenderedHead:
        """The one picture it shows."""
        return _whole_crop(portrait.image)

    def render(self, state: RenderedHead, frame: MotionFrame) -> RenderedHead:
        """The photo; ``frame`` is not looked at."""
        return state


@dataclass(frozen=True, slots=True)
class Similarity:
    """``target = scale * rotation @ source + translation``; rotation float64 [2, 2], translation float64 [2]."""

    scale: float
    rotation: Array
    translation: Array


def fit_similarity(source: Array, target: Array) -> Similarity:
    """The similarity with the least squared error that takes points [n, 2] to points [n, 2], never a mirror image.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    u, singular, vt = np.linalg.svd((target - target_mean).T @ centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = u @ np.diag(signs) @ vt
    variance = np.square(centred).sum(axis=1).mean()
    scale = float((singular * signs).sum() / variance) if variance > 0 else 1.0
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


class SimilarityAvatar:
    """The photo shifted, turned and scaled so that its landmarks meet the driver's as well as that can."""

    name = "similarity"
    whole_person = True

    def prepare(self, portrait: PreparedPortrait) -> PreparedPortrait:
        """The portrait itself."""
        return portrait

    def render(self, state: PreparedPortrait, frame: MotionFrame) -> RenderedHead:
        """Needs ``frame.landmarks``.

        Raises:
            MotionFileError: the motion carries no landmarks.
        """
        backward = fit_similarity(_driving_landmarks(frame), state.landmarks[:FACE_POINTS, :2])
        centres = _pixel_centres(len(state.image))
        source_px = centres @ (backward.scale * backward.rotation.T).astype(np.float32)
        return _whole_crop(_sample(state.image, source_px + backward.translation.astype(np.float32)))


@dataclass(frozen=True, slots=True)
class Mesh2dState:
    """A triangulated photo: face points first, then the nodes of the surround.

    Args:
        image: uint8 [s, s, 3].
        source_px: float32 [n, 2], where the vertices lie in the photo.
        order: float32 [n], a depth that only decides what covers what where the warp folds over.
        triangles: int32 [f, 3].
        surround_weights: float64 [n - 468, 468], how far each surround node follows each face point.
    """

    image: Array
    source_px: Array
    order: Array
    triangles: Array
    surround_weights: Array


class Mesh2dAvatar:
    """A piecewise-affine warp of the photo by the driver's 468 landmarks.

    Round the face, a thin-plate spline continues the displacement of its outline to nothing at the crop's border.

    Args:
        node_spacing: distance of the surround's nodes, as a fraction of the crop.
    """

    name = "mesh2d"
    whole_person = True

    def __init__(self, node_spacing: float = 1 / 32) -> None:
        self.node_spacing = node_spacing

    def prepare(self, portrait: PreparedPortrait) -> Mesh2dState:
        """Triangulate (Delaunay) the landmarks and the surround."""
        import cv2
        from scipy.spatial import ConvexHull, Delaunay

        side = len(portrait.image)
        face = np.asarray(portrait.landmarks[:FACE_POINTS, :2], np.float64)
        outline = ConvexHull(face).vertices
        ticks = np.linspace(0.0, side, round(1 / self.node_spacing) + 1)
        nodes = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
        contour = face[outline].astype(np.float32)
        away = np.array([-cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in nodes])
        outside = away > 0.35 * side * self.node_spacing
        nodes = nodes[outside]
        on_border = (np.minimum(nodes, side - nodes) <= 0).any(axis=1)
        # The spline is linear in the displacements of its control points; those of the border are zero.
        controls = np.concatenate([face[outline], nodes[on_border]])
        weights = np.zeros((len(nodes), FACE_POINTS))
        weights[:, outline] = _spline_weights(controls / side, nodes / side)[:, : len(outline)]
        weights[on_border] = 0.0
        points = np.concatenate([face, nodes])
        # The photo's own depths, so flat that perspective does not show: nose before cheek before surround.
        height = portrait.landmarks[:FACE_POINTS, 2]
        height = (height - height.min()) / max(float(np.ptp(height)), 1e-6)
        order = CAMERA_DISTANCE_DM * (1.0 + 1e-3 * np.concatenate([height, np.full(len(nodes), 1.2)]))
        triangles = Delaunay(points).simplices
        return Mesh2dState(portrait.image, points.astype(np.float32), order.astype(np.float32), triangles.astype(np.int32), weights)

    def render(self, state: Mesh2dState, frame: MotionFrame) -> RenderedHead:
        """Needs ``frame.landmarks``.

        Raises:
            MotionFileError: the motion carries no landmarks.
        """
        target = _driving_landmarks(frame)
        moved = state.surround_weights @ (target - state.source_px[:FACE_POINTS])
        pixels = np.concatenate([target, state.source_px[FACE_POINTS:] + moved])
        side = len(state.image)
        source_px = _pixel_centres(side)
        nothing_yet = np.full((side, side), np.inf, np.float32)
        rasterise_attributes(pixels, state.order, state.triangles, state.source_px, source_px, nothing_yet)
        return _whole_crop(_sample(state.image, source_px))


def _spline_weights(controls: Array, points: Array) -> Array:
    """[p, c]: what each of the controls [c, 2] contributes at points [p, 2] to a thin-plate spline through them."""

    def terms(places: Array) -> tuple[Array, Array]:
        squared = np.square(places[:, None] - controls).sum(axis=-1)
        return squared * np.log(np.maximum(squared, 1e-20)), np.column_stack([np.ones(len(places)), places])

    bending, plane = terms(controls)
    count = len(controls)
    system = np.block([[bending, plane], [plane.T, np.zeros((3, 3))]])
    return np.linalg.solve(system, np.concatenate(terms(points), axis=1).T)[:count].T


@dataclass(frozen=True, slots=True)
class DepthWarpState:
    """The photo as a dense grid in head space.

    Args:
        image: uint8 [s, s, 3].
        focal: focal length in crop widths.
        identity: float32 [i].
        neutral: float32 [v, 3], the head model's vertices at the photo's expression and gaze.
        points: float32 [n, 3], head-space position of every node at the photo's expression.
        source_px: float32 [n, 2], where the nodes lie in the photo.
        triangles: int32 [f, 3] between nodes.
        corners: int32 [n, 3], the mesh vertices whose displacement a node follows.
        weights: float32 [n, 3], how far.
    """

    image: Array
    focal: float
    identity: Array
    neutral: Array
    points: Array
    source_px: Array
    triangles: Array
    corners: Array
    weights: Array


class DepthWarpAvatar:
    """The photo's pixels re-projected through the fitted head's depth; expression by the head model, no other layer.

    A grid of nodes over the photo (and a margin round it, where the border's pixels repeat) gets the depth of the
    portrait's fitted mesh. Off the mesh, depth continues as a membrane (Laplace's equation), and the displacement of
    the nearest mesh point fades out.

    Args:
        head_model: the model the portrait was fitted with.
        nodes_per_side: grid nodes along the crop's side; 128 are 4 pixels apart at 512.
        margin: width of the margin, as a fraction of the crop.
        fade: distance over which expression fades off the mesh, as a fraction of the crop.
    """

    name = "depth_warp"
    whole_person = True

    def __init__(self, head_model: HeadModel, nodes_per_side: int = 128, margin: float = 0.15, fade: float = 0.08) -> None:
        self.head_model = head_model
        self.nodes_per_side = nodes_per_side
        self.margin = margin
        self.fade = fade

    def prepare(self, portrait: PreparedPortrait) -> DepthWarpState:
        """Give every node of the grid a place in head space.

        Raises:
            ValueError: the portrait was fitted with another head model, or its mesh lies outside the picture.
        """
        if portrait.head_model != self.head_model.name:
            raise ValueError(f"the portrait was fitted with head model {portrait.head_model!r}, not {self.head_model.name!r}")
        side = len(portrait.image)
        motion = portrait.motion
        neutral = self.head_model.vertices(portrait.identity, motion.expression, motion.gaze_rad)
        posed = pose_points(neutral + portrait.vertex_offset, motion.rotation_rad, motion.translation)
        pixels, depth = project(posed, side, portrait.focal)

        # One raster pixel per node: its centre is the node.
        step = side / self.nodes_per_side
        margin = round(self.margin * self.nodes_per_side)
        count = self.nodes_per_side + 2 * margin
        seen = rasterise(pixels / step + margin, depth, self.head_model.triangles, count, count)
        on_mesh = seen.triangle >= 0
        if not on_mesh.any():
            raise ValueError("the portrait's fitted head lies outside its picture")
        nearest = nearest_pixels(on_mesh)
        corners = self.head_model.triangles[seen.triangle[nearest]]
        fading = np.exp(-np.square(distance_of(nearest) / (self.fade * self.nodes_per_side)))
        weights = seen.barycentric[nearest] * fading[..., None]

        node_depth = harmonic_fill(np.where(on_mesh, seen.depth, 0.0), on_mesh)
        source_px = (_pixel_centres(count) - margin) * np.float32(step)
        scale = node_depth[..., None] / (portrait.focal * side)
        across = (source_px - 0.5 * side) * np.array([1.0, -1.0]) * scale
        placed = np.concatenate([across, CAMERA_DISTANCE_DM - node_depth[..., None]], -1).reshape(-1, 3)
        points = (placed - motion.translation) @ matrix_from_euler(motion.rotation_rad)
        return DepthWarpState(
            portrait.image,
            portrait.focal,
            portrait.identity,
            neutral,
            points.astype(np.float32),
            source_px.reshape(-1, 2),
            grid_triangles(count, count).astype(np.int32),
            corners.reshape(-1, 3).astype(np.int32),
            weights.reshape(-1, 3).astype(np.float32),
        )

    def render(self, state: DepthWarpState, frame: MotionFrame) -> RenderedHead:
        """The photo at the frame's pose, expression and gaze; what the photo did not see is stretched."""
        shape = self.head_model.vertices(state.identity, frame.expression, frame.gaze_rad) - state.neutral
        points = state.points + np.einsum("nk,nkc->nc", state.weights, shape[state.corners])
        side = len(state.image)
        pixels, depth = project(pose_points(points, frame.rotation_rad, frame.translation), side, state.focal)
        source_px = _pixel_centres(side)
        seen_depth = np.full((side, side), np.inf, np.float32)
        rasterise_attributes(pixels, depth, state.triangles, state.source_px, source_px, seen_depth)
        return _whole_crop(_sample(state.image, source_px), seen_depth)


def make_baseline(name: str, head_model: HeadModel) -> Avatar:
    """The baseline called ``name`` (one of ``BASELINE_NAMES``); only ``depth_warp`` uses the head model.

    Raises:
        KeyError: there is no such baseline.
    """
    if name == DepthWarpAvatar.name:
        return DepthWarpAvatar(head_model)
    return {kind.name: kind for kind in (StaticAvatar, SimilarityAvatar, Mesh2dAvatar)}[name]()
