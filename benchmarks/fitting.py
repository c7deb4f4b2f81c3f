"""Quality and speed of the fit on a folder of clips: residual of all 478 landmarks at 512 px, opening errors, frames per second.

python benchmarks/fitting.py ../shared/data/clips
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from triportrait import drivers
from triportrait.face.fitting import LandmarkFitter
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import LID_PAIRS, LIP_PAIRS
from triportrait.media.video import VideoReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    options = parser.parse_args()
    head, tracker = drivers.default_head(), drivers.default_tracker()
    rows = []
    print("clip                  rms px   lips %   lids %   tracking fps   fitting fps")
    for path in sorted(options.clips.glob("*.mp4")):
        with VideoReader(path) as reader:
            frames = [frame for _, frame in reader.frames(25.0)]
        start = time.perf_counter()
        landmarks = np.stack([row for row, _ in tracker.track(frames)])[..., :2] * (512 / frames[0].shape[0])
        tracked = time.perf_counter()
        fitter = LandmarkFitter(head)
        person = fitter.fit_person(landmarks[::20])[0]
        motion = fitter.fit_motion(landmarks, person)
        fitted = time.perf_counter()
        shape = head.shape(person.identity.astype(np.float32)) + fitter.vertex_offset(person)
        seen = np.stack(
            [
                project(pose_points(head.landmarks478(head.deform(shape, m.expression, m.gaze_rad)), m.rotation_rad, m.translation), 512)[0]
                for m in motion
            ]
        )
        rms = float(np.sqrt(((seen - landmarks) ** 2).sum(-1).mean()))
        height = np.linalg.norm(landmarks[:, 10] - landmarks[:, 152], axis=1)

        def opening_error(pairs: np.ndarray, seen=seen, landmarks=landmarks, height=height) -> float:
            gaps = [np.linalg.norm(p[:, pairs[:, 0]] - p[:, pairs[:, 1]], axis=-1).mean(1) for p in (seen, landmarks)]
            return float(100 * (np.abs(gaps[0] - gaps[1]) / height).mean())

        row = (rms, opening_error(LIP_PAIRS), opening_error(LID_PAIRS), len(frames) / (tracked - start), len(frames) / (fitted - tracked))
        rows.append(row)
        print(f"{path.stem:20s} {row[0]:7.2f} {row[1]:8.2f} {row[2]:8.2f} {row[3]:14.0f} {row[4]:13.0f}")
    print(
        f"{'mean':20s} {np.mean([r[0] for r in rows]):7.2f} {np.mean([r[1] for r in rows]):8.2f} {np.mean([r[2] for r in rows]):8.2f}"
        f" {np.median([r[3] for r in rows]):14.0f} {np.median([r[4] for r in rows]):13.0f}"
    )


if __name__ == "__main__":
    main()
