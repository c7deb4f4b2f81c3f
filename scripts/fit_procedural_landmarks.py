"""Put MediaPipe's 468 landmarks on MakeHuman's base mesh by tracking rendered heads -> src/triportrait/synth/data/makehuman_landmarks.csv.

    python scripts/fit_procedural_landmarks.py --data ../shared/data

Each landmark's pixel is carried back to the surface, there to the mean shape; the median over people and poses is taken. Own table: three
vertices and their weights per landmark.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from triportrait.drivers import default_tracker
from triportrait.errors import TriPortraitError
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rasteriser import rasterise
from triportrait.synth import deferred
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.types import FOCAL_IN_WIDTHS

log = logging.getLogger("fit_procedural_landmarks")
TABLE = Path(__file__).resolve().parents[1] / "src/triportrait/synth/data/makehuman_landmarks.csv"
UPPER_INNER_LIP = np.array([191, 80, 81, 82, 13, 312, 311, 310, 415])
LOWER_INNER_LIP = np.array([95, 88, 178, 87, 14, 317, 402, 318, 324])
#: Where the middle between the eyes lies on the base mesh and on the open head, for the first guess.
EYES_BASE, EYES_HEAD = np.array([0.0, 7.48, 1.22]), np.array([0.0, 0.28, -0.068])


def write(points: np.ndarray, mean: np.ndarray, triangles: np.ndarray, jaw: np.ndarray) -> None:
    """The nearest surface point of each of [468, 3] on the mean shape; inner lips on their own lip."""
    rows = []
    upper, lower = jaw[triangles].max(1) > -0.12, jaw[triangles].min(1) < -0.12
    everything = np.ones(len(triangles), bool)
    for k, point in enumerate(points):
        own = upper if k in UPPER_INNER_LIP else lower if k in LOWER_INNER_LIP else everything
        index = np.flatnonzero(own)
        corner = mean[triangles[index]]
        near = index[cKDTree(corner.mean(1)).query(point, k=24)[1]]
        best = (np.inf, 0, np.zeros(3))
        for t in near:
            a, b, c = mean[triangles[t]]
            weights, *_ = np.linalg.lstsq(np.vstack([np.stack([a, b, c], 1), 10 * np.ones(3)]), np.append(point, 10), rcond=None)
            weights = np.clip(weights, 0, None)
            weights /= weights.sum()
            gap = float(np.linalg.norm(weights @ mean[triangles[t]] - point))
            if gap < best[0]:
                best = (gap, t, weights)
        rows.append((k, *triangles[best[1]], *np.round(best[2], 4)))
    lines = [",".join(str(x) for x in row) for row in rows]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("landmark,vertex0,vertex1,vertex2,weight0,weight1,weight2\n" + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    head = OpenHead.embedded()
    if not TABLE.exists():
        from triportrait.synth.makehuman import Macro, MakeHuman

        assets = MakeHuman(options.data / "makehuman")
        mean = assets.shape(Macro(1 / 3, 1 / 3, 1 / 3, 0.5, 0.2).weights())
        quads = assets.quads[assets.quad_group == assets.group_names.index("body")]
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        jaw = assets.shape({"arkit/jawOpen": 1.0})[:, 1] - assets.base[:, 1]
        write(head.landmark_bases().mean - EYES_HEAD + EYES_BASE, mean, triangles, jaw)
    tracker = default_tracker()
    for turn in range(options.rounds):
        factory = HeadFactory(options.data)
        assets = factory.assets
        jaw = assets.shape({"arkit/jawOpen": 1.0})[:, 1] - assets.base[:, 1]
        triangles = factory.base_index[factory.base_triangles]
        found: list[list[np.ndarray]] = [[] for _ in range(468)]
        random = np.random.default_rng(turn)
        for _ in range(options.people):
            person = random_person(random, factory.targets, len(factory.hdri))
            person = dataclasses.replace(person, hair="bald", beard=None, glasses=None, lamps=(), exposure=0.5)
            one = ProceduralHead(factory, person, 24)
            for pitch, yaw in ((0, 0), (0, 20), (0, -20), (10, 0), (-10, 8)):
                pose = HeadPose({"jawOpen": 0.06}, np.zeros(2), np.radians([pitch, yaw, 0.0]), np.array([0.0, 0.0, -4.5]))
                picture = deferred.draw(one.sheets, one.moment(pose, pose), one.light.levels, one.exposure, FOCAL_IN_WIDTHS, 512, 2)
                image = (255 * (picture.person_rgb + 0.6 * (1 - picture.person_alpha[..., None]))).astype(np.uint8)
                try:
                    faces = tracker.detect(image)
                except TriPortraitError:
                    continue
                if not faces:
                    log.info("no face")
                    continue
                base = one.base(pose.weights, pose.gaze_rad)[0]
                here = ((base - one._origin) @ one._turn.T).astype(np.float32)
                pixels, depth = project(pose_points(here, pose.rotation_rad, pose.translation), 512)
                fragments = rasterise(pixels, depth, triangles.astype(np.int32), 512, 512, cull="back")
                modelled, _ = project(one.pose_landmarks(pose), 512)
                gap = np.linalg.norm(faces[0].landmarks[:468, :2] - modelled[:468], axis=1)
                log.info("round %d: %.2f px off on average, %.2f at most", turn, gap.mean(), gap.max())
                for k, (x, y) in enumerate(faces[0].landmarks[:468, :2]):
                    column, row = int(x), int(y)
                    if not (0 <= column < 512 and 0 <= row < 512) or fragments.triangle[row, column] < 0:
                        continue
                    # Where the surface is seen edge on, or behind the lips, a pixel says little.
                    point = fragments.barycentric[row, column] @ factory.mean[triangles[fragments.triangle[row, column]]]
                    near = factory.landmarks(factory.mean)[k]
                    if np.linalg.norm(point - near) < (0.45 if turn == 0 else 0.3):
                        found[k].append(point)
        current = factory.landmarks(factory.mean)
        points = np.stack([np.median(f, 0) if len(f) >= 5 else c for f, c in zip(found, current, strict=True)])
        # The mean of left and right: the mean shape is symmetric.
        mirror = cKDTree(current * (-1, 1, 1)).query(current)[1]
        points = 0.5 * (points + points[mirror] * (-1, 1, 1))
        log.info(
            "%d landmarks kept from before, median change %.3f dm",
            sum(len(f) < 5 for f in found),
            float(np.median(np.linalg.norm(points - current, axis=1))),
        )
        write(points, factory.mean, triangles, jaw)


if __name__ == "__main__":
    main()
