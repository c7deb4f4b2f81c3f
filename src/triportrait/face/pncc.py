"""PNCC, the projected normalised coordinate code: what a motion adapter sees of shape and expression.

Real3D-Portrait eq. 1 and 8: every pixel of the head shows where on the *mean* head its surface point lies, as a colour.
The head is drawn unposed (rotation and translation 0) unless told otherwise; eyes and the mouth's inside are holes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from triportrait.geometry.cameras import pose_points, project
from triportrait.types import FOCAL_IN_WIDTHS, Array

if TYPE_CHECKING:
    import torch

    from triportrait.types import HeadModel


#: Focal length in picture widths of the published PNCC (spec 3.3): 1015 pixels of a 224-pixel frame.
PNCC_FOCAL = 1015.0 / 224.0

#: Value of pixels that show no head.
UNCOVERED = -1.0


def focal_of(head_model: str) -> float:
    """Focal length, in picture widths, that poses of a head model are fitted with, by its name."""
    # The Basel face was fitted with another focal length than the one that its renders have (spec 3.4).
    return PNCC_FOCAL if head_model == "bfm" else FOCAL_IN_WIDTHS


def cull_of(head_model: str) -> str | None:
    """``cull`` of a :class:`PnccRenderer` of a head model, by its name."""
    return None if head_model == "bfm" else "back"


class PnccRenderer:
    """Draws one head model's PNCC again and again without allocating pictures.

    Args:
        model: whose triangles and colours are drawn.
        side_px: side of the square picture.
        focal: focal length in picture widths; the principal point is the centre.
        cull: ``"back"`` (default) leaves out triangles that face away, which a whole head needs: otherwise the inside
            of its far half shows through the eyes. None draws both sides, as the published renderer does with its
            open face.
    """

    def __init__(self, model: HeadModel, side_px: int = 512, focal: float = PNCC_FOCAL, *, cull: str | None = "back") -> None:
        self.side_px, self.focal, self.cull = side_px, focal, cull
        self.triangles = np.ascontiguousarray(model.triangles[model.pncc_triangles], np.int32)
        self.colours = np.ascontiguousarray(2.0 * model.ncc_colours - 1.0, np.float32)
        self._picture = np.empty((3, side_px, side_px), np.float32)
        self._depth = np.empty((side_px, side_px), np.float32)

    def render(
        self,
        vertices: Array,
        rotation_rad: Array | None = None,
        translation: Array | None = None,
        *,
        out: Array | None = None,
    ) -> Array:
        """PNCC of head-space ``vertices`` [v, 3], posed if a rotation [3] or a translation [3] is given.

        Returns:
            float32 [3, side_px, side_px] in -1..1: ``out`` if given, else the renderer's own picture, which the next
            call overwrites.
        """
        from triportrait.geometry.rasteriser import rasterise_attributes  # compiled on first use

        picture = self._picture if out is None else out
        pixels, depth = _projected(vertices, rotation_rad, translation, self.side_px, self.focal)
        picture.fill(UNCOVERED)
        self._depth.fill(np.inf)
        # The kernel takes any strides: through this view it writes channels first.
        by_pixel = picture.transpose(1, 2, 0)
        rasterise_attributes(pixels, depth, self.triangles, self.colours, by_pixel, self._depth, cull=self.cull)  # eq. 1 and 8
        return picture

    @property
    def depth(self) -> Array:
        """Camera depth [side_px, side_px] of the last picture in decimetres; +inf where nothing is."""
        return self._depth


def pncc(
    model: HeadModel,
    vertices: Array,
    side_px: int = 512,
    rotation_rad: Array | None = None,
    translation: Array | None = None,
    focal: float = PNCC_FOCAL,
    *,
    cull: str | None = "back",
) -> Array:
    """One PNCC picture of head-space ``vertices`` [v, 3]: float32 [3, side_px, side_px] in -1..1, -1 where no head is.

    For videos keep a :class:`PnccRenderer`, which also explains the arguments.
    """
    return PnccRenderer(model, side_px, focal, cull=cull).render(vertices, rotation_rad, translation)


def pncc_torch(
    model: HeadModel,
    vertices: torch.Tensor,
    side_px: int = 512,
    focal: float = PNCC_FOCAL,
    *,
    cull: str | None = "back",
) -> torch.Tensor:
    """As :func:`pncc` for already posed ``vertices`` [v, 3] on any device; differentiable."""
    import torch

    from triportrait.geometry.rasteriser_torch import interpolate, rasterise
    from triportrait.types import CAMERA_DISTANCE_DM

    triangles = torch.as_tensor(model.triangles[model.pncc_triangles], device=vertices.device)
    colours = torch.as_tensor(2.0 * model.ncc_colours - 1.0, dtype=vertices.dtype, device=vertices.device)
    depth = CAMERA_DISTANCE_DM - vertices[:, 2]
    flipped = vertices[:, :2] * vertices.new_tensor([1.0, -1.0])
    pixels = 0.5 * side_px + flipped * (focal * side_px / depth)[:, None]
    fragments = rasterise(pixels, depth, triangles, side_px, side_px, cull=cull)
    return interpolate(fragments, triangles, colours, fill=UNCOVERED).permute(2, 0, 1)


def _projected(vertices: Array, rotation_rad: Array | None, translation: Array | None, side_px: int, focal: float) -> tuple[Array, Array]:
    if rotation_rad is not None or translation is not None:
        zero = np.zeros(3)
        vertices = pose_points(vertices, zero if rotation_rad is None else rotation_rad, zero if translation is None else translation)
    return project(vertices, side_px, focal)
