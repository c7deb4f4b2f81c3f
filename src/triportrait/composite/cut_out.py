"""The person without a scene: colours and alpha of a frame.

Sources: alpha from one picture over two scenes, A. Smith and J. Blinn, "Blue screen matting" (1996), theorem 4.
"""

from __future__ import annotations

import numpy as np

from triportrait.geometry.filling import push_pull
from triportrait.types import Array, RenderedHead

#: Alpha up to which a layer tells nothing of a colour, and from which on it tells all.
_UNKNOWN, _KNOWN = 0.02, 0.06


def person_layer(head: RenderedHead, torso: Array | None) -> Array:
    """Head over torso, premultiplied: float32 [s, s, 4] in 0..1.

    Args:
        head: premultiplied head layer.
        torso: uint8 [s, s, 4], premultiplied; None where the head layer shows the whole person.
    """
    layer = np.dstack([head.rgb, head.alpha])
    if torso is not None:
        layer += (1.0 - head.alpha[..., None]) * (torso.astype(np.float32) / 255.0)
    return np.clip(layer, 0.0, 1.0, out=layer)


def layer_of_two_scenes(over_black: Array, over_white: Array) -> Array:
    """The premultiplied layer float32 [s, s, 4] that looks so, uint8 [s, s, 3], before a black and before a white scene."""
    black = over_black.astype(np.float32) / 255.0
    alpha = 1.0 - (over_white.astype(np.float32) / 255.0 - black).mean(axis=2)
    return np.clip(np.dstack([np.minimum(black, alpha[..., None]), alpha]), 0.0, 1.0)


def straight(layer: Array) -> tuple[Array, Array]:
    """A premultiplied layer float32 [s, s, 4] as files keep it: the person's own colours uint8 [s, s, 3], and alpha uint8 [s, s].

    Colours go on smoothly where nobody stands: codecs share colour between neighbouring pixels, and would draw a rim from black.
    """
    alpha = layer[..., 3]
    known = np.clip((alpha - _UNKNOWN) / (_KNOWN - _UNKNOWN), 0.0, 1.0)
    filled = push_pull(layer[..., :3] / np.maximum(alpha, _UNKNOWN)[..., None], known)
    return np.clip(filled * 255.0 + 0.5, 0, 255).astype(np.uint8), (alpha * 255.0 + 0.5).astype(np.uint8)
