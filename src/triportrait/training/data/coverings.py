"""``triportrait data coverings``: lower faces as they are and covered, for ``train coverings``.

Each portrait is taken twice: as it is, and with a covering painted over the mouth. Landmarks are found anew in the painted picture, since
it is those that the program will have. The lower faces are small, and relative to the skin, but they are pieces of the photographs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triportrait.drivers import default_tracker
from triportrait.errors import EmptyMedia, OptionError, OutputError, TriPortraitError
from triportrait.face.coverings import lower_face
from triportrait.face.portrait import PortraitOptions, crop_box
from triportrait.face.tracker import choose_face
from triportrait.files import atomic_file, refuse_inputs
from triportrait.geometry.crops import cut
from triportrait.media.images import read_image
from triportrait.media.portrait_folders import portraits_of
from triportrait.synth.coverings import covered, random_covering
from triportrait.training.data.views import Packed
from triportrait.training.options import CoveringsOptions, Progress
from triportrait.types import Array

log = logging.getLogger(__name__)

#: What stands for a kind of covering where there is none.
BARE = "bare"
#: Lower faces of a picture: as it is found, and twice with landmarks a little beside the truth: their shift in pixels of the crop, turn in
#: radians and scale.
_PICTURES, _SHIFT_PX, _TURN_RAD, _SCALE = 3, 4.0, 0.06, (0.92, 1.08)


def pack_coverings(options: CoveringsOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Make lower faces of portraits. Pictures in which no face is found, painted over or not, are reported and left out.

    Args:
        options: see there.
        out: file to write, ending in .npz.
        progress: called after every portrait.

    Raises:
        EmptyMedia: nothing could be made.
        MediaError: the folder cannot be read.
        OptionError: it is not named, or a number is out of range.
        OutputError: the file cannot be written.
    """
    if options.portraits is None:
        raise OptionError("there are no mouths to cover; name --portraits")
    if options.limit < 1 or options.seed < 0:
        raise OptionError(f"--limit is {options.limit} and --seed {options.seed}; use at least 1 and 0")
    refuse_inputs(out, [options.portraits])
    if out.suffix != ".npz":
        raise OutputError(f"'{out}' is no name for lower faces; let it end in .npz")
    photos = portraits_of(options.portraits, options.split)
    order = np.random.default_rng(options.seed).permutation(len(photos))[: options.limit]
    faces: list[Array] = []
    kinds: list[str] = []
    left_out = 0
    for number, index in enumerate(order):
        random = np.random.default_rng([options.seed, number])
        try:
            bare = _found(read_image(photos[index])[..., :3], photos[index].name)
            faces.append(_lower_faces(*bare, random))
            kinds.append(BARE)
            kind = random_covering(random)
            hidden = _found(covered(*bare, kind, random), f"{photos[index].name} with a {kind}")
            faces.append(_lower_faces(*hidden, random))
            kinds.append(kind)
        except TriPortraitError as error:
            log.warning("%s left out: %s", photos[index].name, error)
            left_out += 1
        if progress is not None:
            progress("coverings", number + 1, len(order))
    if not faces:
        raise EmptyMedia("no lower face was made: no face is found in any of the portraits; give other ones")
    write_lower_faces(out, faces, kinds)
    return Packed(len(faces), left_out)


def write_lower_faces(path: Path, faces: Sequence[Array], kinds: Sequence[str]) -> None:
    """Lower faces [v, 3, 40, 48] of each picture and what covers it, as one file; ``training.coverings.read_lower_faces`` reads it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, faces=np.stack(faces).astype(np.float16), kinds=np.array(kinds))
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another place") from None


def _found(picture: Array, name: str) -> tuple[Array, Array]:
    """The crop of the largest face of a picture, as a portrait has it, and its landmarks [478, 3]."""
    options = PortraitOptions()
    face = choose_face(default_tracker().detect(picture), None, name)
    left, top, side = box = crop_box(face, (picture.shape[0], picture.shape[1]), options.face_widths)
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = (landmarks[:, :2] - (left, top)) * (options.size_px / side)
    return cut(picture, box, options.size_px), landmarks


def _lower_faces(image: Array, landmarks: Array, random: np.random.Generator) -> Array:
    """The lower face as it is found, and beside: float32 [3, 3, 40, 48]."""
    result = [lower_face(image, landmarks)]
    for _ in range(_PICTURES - 1):
        points = landmarks[:, :2] + random.normal(size=2) * _SHIFT_PX
        turn, middle = random.normal() * _TURN_RAD, points.mean(0)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        result.append(lower_face(image, (points - middle) @ matrix.T * random.uniform(*_SCALE) + middle))
    return np.stack(result)
