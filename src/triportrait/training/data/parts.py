"""``triportrait data parts``: portraits and synthetic people whose pixels are labelled, for ``train parts``.

Portraits are labelled as far as their own colours tell (:mod:`triportrait.training.data.part_labels`); synthetic people know what they are.
The files hold pieces of the photographs.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from triportrait.drivers import default_head, default_tracker
from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError, TriPortraitError
from triportrait.face.portrait import PortraitOptions, prepare_portrait
from triportrait.files import atomic_file, make_folder, refuse_inputs
from triportrait.geometry.cameras import project
from triportrait.geometry.filling import foreground_colours
from triportrait.geometry.masks import face_hull
from triportrait.media.images import read_image
from triportrait.media.portrait_folders import portraits_of
from triportrait.nn.parts import SIDE_PX
from triportrait.synth import deferred
from triportrait.synth.labelled import Labelled
from triportrait.synth.people import random_expression, random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.synth.procedural_views import random_pose
from triportrait.training.data.part_labels import weak_labels
from triportrait.training.data.views import Packed, procedural_factory
from triportrait.training.options import PartsOptions, Progress
from triportrait.types import FOCAL_IN_WIDTHS, Array

log = logging.getLogger(__name__)

#: Names of the pictures [s, s, 3] and of the maps [s, s] that a file holds, all uint8.
_PICTURES, _MAPS = ("image", "colours", "scene"), ("alpha", "skin", "hair", "sure", "hull")
#: A scene that varies more is too restless for the matte to be taken as right.
_PLAIN = 0.05
#: Labels of a portrait whose hair and skin are less far apart (standard deviations) count for less; from the second on hair is recoloured.
_DOUBTFUL, _APART, _DOUBT = 3.0, 3.2, 0.3
_REMEDY = "make some with 'triportrait data parts -o FOLDER'"


class PartsFolder(NamedTuple):
    """Files of labelled pictures, real and synthetic ones apart; ``data parts`` wrote them."""

    real: tuple[Path, ...]
    synthetic: tuple[Path, ...]

    @staticmethod
    def of(paths: Sequence[Path]) -> PartsFolder:
        """All in these folders, and files named by themselves.

        Raises:
            EmptyMedia: there are none.
            MediaError: a file is of another kind. What it holds is only looked at when it is read.
        """
        files = sorted(file for path in paths for file in ([path] if path.is_file() else path.glob("*.npz")))
        if not files:
            raise EmptyMedia(f"there are no labelled portraits; {_REMEDY}")
        for file in files:
            _check_kind(file)
        synthetic = tuple(file for file in files if file.name.startswith("synthetic_"))
        return PartsFolder(tuple(file for file in files if not file.name.startswith("synthetic_")), synthetic)


def pack_parts(options: PartsOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Label portraits, synthetic people or both, a file each; files that are there are kept. Pictures without a face are left out.

    Args:
        options: see there.
        out: folder for the files.
        progress: called after every picture.

    Raises:
        EmptyMedia: nothing could be made.
        MediaError: portraits or data bundle cannot be read.
        OptionError: neither is named, or a number is out of range.
        OutputError: the folder cannot be written.
    """
    if options.portraits is None and options.procedural is None:
        raise OptionError("there is nobody to label; name --portraits, --procedural or both")
    if min(options.limit, options.people) < 1 or options.seed < 0:
        raise OptionError(f"--limit is {options.limit}, --people {options.people}, --seed {options.seed}; use at least 1, 1 and 0")
    refuse_inputs(out, [options.portraits, options.procedural])
    jobs: list[tuple[str, Callable[[], Labelled]]] = []
    if options.portraits is not None:
        photos = portraits_of(options.portraits, options.split)
        order = np.random.default_rng(options.seed).permutation(len(photos))[: options.limit]
        jobs += [(_name_of(photos[index]), partial(_labelled, photos[index])) for index in order]
    if options.procedural is not None:
        jobs += [(f"synthetic_{options.split}_{options.seed}_{number:06d}", make) for number, make in _people(options.procedural, options)]
    make_folder(out)
    made = left_out = 0
    for number, (name, make) in enumerate(jobs):
        path = out / f"{name}.npz"
        try:
            if not path.exists():
                write_labelled(path, make())
            made += 1
        except OutputError:
            raise
        except TriPortraitError as error:
            log.warning("%s left out: %s", name, error)
            left_out += 1
        if progress is not None:
            progress("parts", number + 1, len(jobs))
    if not made:
        raise EmptyMedia("nothing was labelled: no face is found in any picture; give other portraits")
    return Packed(made, left_out)


def _name_of(photo: Path) -> str:
    """The name of a photograph's file, which no other photograph's has."""
    return f"portrait_{photo.stem}_{hashlib.sha256(str(photo.resolve()).encode()).hexdigest()[:12]}"


def _labelled(photo: Path) -> Labelled:
    return labelled_photo(read_image(photo)[..., :3], photo.name)


def labelled_photo(photo: Array, name: str) -> Labelled:
    """A photograph uint8 [h, w, 3], cropped as a portrait is, with weak labels.

    Raises:
        NoFaceFound: see :func:`triportrait.face.portrait.prepare_portrait`.
    """
    import cv2

    portrait = prepare_portrait(photo, default_tracker(), default_head(), PortraitOptions(own_mask=False), name)
    labels = weak_labels(portrait, default_tracker().person_mask(portrait.image))
    maps = (portrait.person_alpha, labels.skin, labels.sure, face_hull(portrait.landmarks, len(portrait.image)).astype(np.float32))
    image, scene, alpha, skin, sure, hull = (
        cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        for part in (portrait.image.astype(np.float32), portrait.background[..., :3].astype(np.float32), *maps)
    )
    colours = foreground_colours(image.astype(np.uint8), alpha, scene.astype(np.uint8)).astype(np.float32)
    believed = sure * (_DOUBT if labels.apart < _DOUBTFUL else 1.0)
    return Labelled(
        image, colours, scene, alpha, skin, np.zeros_like(skin), believed, hull, False, labels.restless < _PLAIN, labels.apart > _APART
    )


def _people(folder: Path, options: PartsOptions) -> Iterator[tuple[int, Callable[[], Labelled]]]:
    factory = procedural_factory(folder)
    # Held-out people are others than those that are learned from.
    kind = 0 if options.split == "train" else 1

    def make(number: int) -> Labelled:
        random = np.random.default_rng([20261130, options.seed, kind, number])
        head = ProceduralHead(factory, random_person(random, factory.targets, len(factory.hdri)))
        source = random_pose(random)
        weights, gaze = random_expression(random, float(random.uniform(0.0, 1.0)))
        pose = HeadPose(weights, gaze.astype(np.float32), source.rotation_rad, source.translation)
        moment = head.moment(pose, source, (source.rotation_rad, source.translation))
        drawn = deferred.draw(head.sheets, moment, head.light.levels, head.exposure, FOCAL_IN_WIDTHS, SIDE_PX, 2)
        scene = np.clip(factory.scene(head.person, SIDE_PX), 0, 255).astype(np.float32)
        alpha = np.clip(drawn.person_alpha, 0.0, 1.0)
        landmarks = project(head.pose_landmarks(pose), SIDE_PX)[0]
        hull = face_hull(np.c_[landmarks, np.zeros(len(landmarks))].astype(np.float32), SIDE_PX).astype(np.float32)
        image = np.clip(255.0 * drawn.person_rgb + (1.0 - alpha[..., None]) * scene, 0, 255)
        colours = np.clip(255.0 * drawn.person_rgb / np.maximum(alpha[..., None], 1e-3), 0, 255)
        skin = drawn.labels[deferred.BODY_SKIN] + drawn.labels[deferred.FACE_SKIN]
        known = np.ones_like(alpha)
        return Labelled(image, colours, scene, alpha, skin, drawn.labels[deferred.HAIR], known, hull, True, True, False)

    for number in range(options.people):
        yield number, partial(make, number)


def write_labelled(path: Path, labelled: Labelled) -> None:
    """One picture with its labels as a file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    scaled = {name: getattr(labelled, name) for name in _PICTURES} | {name: 255.0 * getattr(labelled, name) for name in _MAPS}
    arrays = {name: np.clip(np.rint(value), 0, 255).astype(np.uint8) for name, value in scaled.items()}
    flags = np.array([labelled.exact, labelled.plain, labelled.apart])
    try:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, flags=flags, **arrays)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another place") from None


def _check_kind(path: Path) -> None:
    """Raises:
    MediaError: the file does not hold what :func:`write_labelled` writes, by the names in it.
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        names = set()
    if names != {f"{name}.npy" for name in ("flags", *_PICTURES, *_MAPS)}:
        raise MediaError(f"'{path}' holds no labelled portrait; {_REMEDY}")


def read_labelled(path: Path) -> Labelled:
    """What :func:`write_labelled` wrote.

    Raises:
        MediaError: the file is of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays, flags = {name: file[name] for name in (*_PICTURES, *_MAPS)}, file["flags"]
        shapes = {name: (SIDE_PX, SIDE_PX, 3) if name in _PICTURES else (SIDE_PX, SIDE_PX) for name in arrays}
        if flags.shape != (3,) or any(a.shape != shapes[n] or a.dtype != np.uint8 for n, a in arrays.items()):
            raise ValueError
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise MediaError(f"'{path}' holds no labelled portrait; {_REMEDY}") from None
    values = {name: array.astype(np.float32) / np.float32(1.0 if name in _PICTURES else 255.0) for name, array in arrays.items()}
    exact, plain, apart = (bool(flag) for flag in flags)
    return Labelled(**values, exact=exact, plain=plain, apart=apart)
