"""A person's learned delta: a compact network of Talk3D's kind, which adds what the linear map leaves to the head's own picture.

The network is learned by :mod:`triportrait.training.person`. Its graph ships with the program and takes the weights as an input, so an
avatar file holds numbers and nothing that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from triportrait.avatar.person.head_space import HeadSpace
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import shipped_graph
from triportrait.types import Array

#: The graph and what it holds; the side of the picture that it gives.
EMBEDDED, KIND = Embedded("triportrait.avatar.person", "delta_network.onnx"), "delta_network.1"
PICTURE_PX = 96
#: Numbers of a motion row [f], the head's depth [e, e] and the weights [n] to one change, float32 [e, e, 3].
Drawer = Callable[[Array, Array, Array], Sequence[Array]]
#: Who draws networks of another form than the shipped graph's, by their number of weights.
_OTHER_FORMS: dict[int, Drawer] = {}


def draw_other_form(count: int, drawer: Drawer) -> None:
    """From now on in this process, networks of ``count`` weights are drawn by ``drawer``; the evaluation's ablations need that."""
    _OTHER_FORMS[count] = drawer


def fits(weights: Array) -> bool:
    """Whether these weights [n] can be drawn."""
    return weights.shape == shipped_graph(EMBEDDED, KIND).shapes["weights"] or len(weights) in _OTHER_FORMS


class DrawnNetwork:
    """A person's network ready to be asked.

    Args:
        space: of the person.
        weights: [n], what was learned.
    """

    def __init__(self, space: HeadSpace, weights: Array) -> None:
        import cv2

        self._graph = _OTHER_FORMS.get(len(weights)) or shipped_graph(EMBEDDED, KIND)
        self._weights, self._side = weights, space.size_px
        self._depth = cv2.resize(space.depth(), (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)

    def picture(self, numbers: Array) -> Array:
        """What is added to the head's own picture, float32 [c, c, 3] in 0..1, for the numbers [f] of a motion row."""
        import cv2

        (change,) = self._graph(numbers.astype(np.float32), self._depth, self._weights)
        return cv2.resize(change, (self._side, self._side), interpolation=cv2.INTER_LINEAR)
