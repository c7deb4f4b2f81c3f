"""Feature planes of a photograph as the avatar uses them: arrays, and the graph that makes them.

The network's architecture stands in :mod:`triportrait.avatar.oneshot.image_to_plane`, which needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from triportrait.errors import WeightsError
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import Graph, load_graph, shipped_graph
from triportrait.types import Array

#: Half the extent of the planes in depth, in decimetres round the head's origin.
DEPTH_RANGE_DM = 1.6
#: Of :mod:`triportrait.nn.model_files`.
KIND = "image_to_plane.1"
EMBEDDED = Embedded("triportrait.avatar", "image_to_plane_compact.onnx")
#: What goes into the graph and comes out, see ``image_to_plane.EncodingStep``: planes, then weight and bias of the decoder's layers.
INPUTS = ("picture", "prior", "known", "rotation_rad")
OUTPUTS = ("front", "across", "down", "weight0", "bias0", "weight1", "bias1", "weight2", "bias2")


@dataclass(frozen=True, slots=True)
class PhotoPlanes:
    """What a photograph's encoding gives; kept for the life of a portrait. All float32.

    Args:
        front: [c, h, w], features over (u, v); across: [c, d, w], over (u, w); down: [c, d, h], over (v, w). Axes as in ``image_to_plane``.
        picture: [s, s, 4], the photograph's premultiplied colours and matte.
        prior: [k, k], depth of the fitted head over (u, v), as w.
        decoder: weight [outputs, inputs] and bias [outputs] of the three layers that decode samples.
    """

    front: Array
    across: Array
    down: Array
    picture: Array
    prior: Array
    decoder: tuple[tuple[Array, Array], ...]

    def with_planes(self, front: Array, across: Array, down: Array) -> PhotoPlanes:
        """The same photograph with other planes."""
        return replace(self, front=front, across=across, down=down)

    def picture_for(self, size_px: int) -> Array:
        """``picture`` averaged for pictures of ``size_px``, a finer one would alias: [4, n, n]."""
        import cv2

        picture = self.picture
        if len(picture) > size_px:
            picture = cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(picture.transpose(2, 0, 1))


class PlaneEncoder:
    """Photographs to planes.

    Args:
        graph: of the network.
        source: the file it is from; None is the embedded one.
    """

    def __init__(self, graph: Graph, source: Path | None = None) -> None:
        self._graph, self.source = graph, source
        self.photo_px = int(graph.config["photo_px"])
        #: SHA-256 of the weights: planes belong to the network that made them.
        self.fingerprint = str(graph.config["fingerprint"])

    def __call__(self, picture: Array, prior: Array, known: Array, rotation_rad: Array) -> PhotoPlanes:
        """Planes of a photograph.

        Args:
            picture: float32 [s, s, 4] in 0..1, premultiplied colours and matte of the head; s is ``photo_px``.
            prior: float32 [s / 2, s / 2], depth w of the fitted head, filled smoothly where there is none.
            known: float32 [s / 2, s / 2] in 0..1, where ``prior`` comes from the fit.
            rotation_rad: float32 [3], pitch, yaw, roll in the photograph.

        Raises:
            WeightsError: the network answers with NaN or infinity.
        """
        front, across, down, *layers = self._graph(picture, prior, known, rotation_rad)
        if not all(np.isfinite(plane).all() for plane in (front, across, down, *layers)):
            raise WeightsError(f"the image-to-plane weights '{self.source or EMBEDDED.name}' give NaN or infinity; use another file")
        decoder = tuple(zip(layers[::2], layers[1::2], strict=True))
        return PhotoPlanes(front, across, down, picture, prior, decoder)


def load_plane_encoder(path: Path | None = None) -> PlaneEncoder:
    """The embedded network, or one from a file of 'triportrait train oneshot --export'.

    Raises:
        WeightsError: missing, foreign or damaged.
    """
    return PlaneEncoder(shipped_graph(EMBEDDED, KIND) if path is None else load_graph(path, KIND), path)
