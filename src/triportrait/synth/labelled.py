"""A portrait of which it is known what each pixel shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.types import Array

Random = np.random.Generator

#: Colours are 0..255 here.
FULL = 255.0


class Labelled(NamedTuple):
    """A portrait of which it is known what each pixel shows; s is its side.

    Args:
        image, colours, scene: float32 [s, s, 3] 0..255, as it is, the person's own colours, and the scene without the person.
        alpha: float32 [s, s], the person's matte; skin, hair: how far it is that; sure: how much these two are to be believed.
        hull: float32 [s, s], 1 within the face.
        exact: whether hair is told from what is worn; else ``hair`` says nothing, or (in training) where it likely is.
        plain: whether the scene is so plain that the matte is right.
        apart: whether hair and skin differ so clearly that hair may be given another colour.
    """

    image: Array
    colours: Array
    scene: Array
    alpha: Array
    skin: Array
    hair: Array
    sure: Array
    hull: Array
    exact: bool
    plain: bool
    apart: bool
