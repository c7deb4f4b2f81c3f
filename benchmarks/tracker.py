"""How steady landmarks of photographs are, how many faces are found, and how yaw is read from heads whose cameras are known.

    python benchmarks/tracker.py [--data ../shared/data] [--count 250] [--seed 21] [--heads 12]

Each photo, drawn by the seed, is looked at twice: as it is, and moved by a few pixels, turned by a few degrees, and grown or shrunk by a
few hundredths. The distances of the landmarks are in hundredths of the face's width. Synthetic heads have hair, beards and glasses; they
look 0 to 60 degrees to both sides, and each picture is fitted alone, as a photo is. `--count 0` takes all photos.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from triportrait.drivers import default_head, default_tracker
from triportrait.face.portrait import prepare_portrait
from triportrait.geometry.landmarks import OVAL
from triportrait.media.images import read_image
from triportrait.synth import deferred
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.synth.procedural_views import slight_expression
from triportrait.types import FOCAL_IN_WIDTHS, Array

YAWS_DEG = (-60, -45, -30, -15, 0, 15, 30, 45, 60)


def moved(picture: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """The picture a little elsewhere in itself, and the matrix [2, 3] that brought it there."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), generator.normal(0, 2), np.exp(generator.normal(0, 0.05)))
    matrix[:, 2] += generator.uniform(-4, 4, 2)
    return cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), matrix


def photos(folder: Path, count: int, seed: int) -> None:
    """Prints how many are found, and how far the landmarks of two looks lie apart."""
    tracker, generator = default_tracker(), np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    drawn = generator.choice(len(files), min(count or len(files), len(files)), replace=False)
    apart, cpu_s = [], 0.0
    for index in drawn:
        picture = read_image(files[index])
        start = time.process_time()
        faces = tracker.detect(picture)
        cpu_s += time.process_time() - start
        other, matrix = moved(picture, generator)
        again = tracker.detect(other)
        if not faces or not again:
            print(f"{files[index].name}: found {bool(faces)}, moved {bool(again)}")
            continue
        back = (again[0].landmarks[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        distance = 100 * np.linalg.norm(back - faces[0].landmarks[:, :2], axis=1) / faces[0].width_px
        apart.append((np.median(distance), distance.max()))
    median, worst = np.array(apart).T
    far = ", ".join(f"{(worst > bound).sum()} beyond {bound}" for bound in (0.5, 2.0, 5.0))
    print(f"{len(apart)} of {len(drawn)} photos found twice, {1e3 * cpu_s / len(drawn):.0f} CPU-ms each")
    print(f"apart: median {np.median(median):.3f}, 95th percentile {np.percentile(median, 95):.3f}; worst points: {far}")


def outlines(folder: Path, count: int, seed: int) -> None:
    """Prints how many outlines lie off the person when a photo is prepared."""
    tracker, head = default_tracker(), default_head()
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    off = []
    for index in np.random.default_rng(seed).choice(len(files), min(count, len(files)), replace=False):
        portrait = prepare_portrait(read_image(files[index]), tracker, head)
        beside = cv2.distanceTransform((tracker.person_mask(portrait.image) < 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        column, row = np.clip(portrait.landmarks[OVAL, :2], 0, len(beside) - 1).astype(int).T
        off.append(100 * beside[row, column].max() / np.ptp(portrait.landmarks[:, 0]))
    print(f"outline off the person by more than a hundredth of the face: {(np.array(off) > 1.0).sum()} of {len(off)} photos")


def heads(data: Path, count: int) -> None:
    """Prints the yaw that is read for each true one, the turned side positive."""
    tracker, head, factory = default_tracker(), default_head(), HeadFactory(data)
    read: dict[int, list[float]] = {}
    for seed in range(count):
        generator = np.random.default_rng(seed)
        one = ProceduralHead(factory, random_person(generator, factory.targets, len(factory.hdri)), 24)
        weights, gaze = slight_expression(generator)
        for yaw in YAWS_DEG:
            rotation = np.radians([generator.normal(0, 6), yaw, generator.normal(0, 4)])
            pose = HeadPose(weights, gaze, rotation, np.array([0.0, 0.04, -5.0]))
            drawn = deferred.draw(one.sheets, one.moment(pose, pose), one.light.levels, one.exposure, FOCAL_IN_WIDTHS, 512, 2)
            picture = np.clip(255 * (drawn.person_rgb + 0.4 * (1 - drawn.person_alpha[..., None])), 0, 255).astype(np.uint8)
            if not tracker.detect(picture):
                print(f"head {seed} at {yaw} degrees is not found")
                continue
            found = np.degrees(prepare_portrait(picture, tracker, head).motion.rotation_rad[1])
            read.setdefault(abs(yaw), []).append(float(found if yaw >= 0 else -found))
    for yaw, found in sorted(read.items()):
        print(f"true yaw {yaw:2d}: read {np.mean(found):5.1f}, spread {np.std(found):.1f}, {len(found)} pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--heads", type=int, default=12)
    options = parser.parse_args()
    photos(options.data / "portraits", options.count, options.seed)
    outlines(options.data / "portraits", 60, options.seed)
    heads(options.data, options.heads)


if __name__ == "__main__":
    main()
