"""Where MediaPipe's 468 landmarks lie on the open head, estimated on photographs of many people.

    python scripts/fit_landmark_embedding.py --landmarks TRACKS.npz --out EMBEDDING.npz

``TRACKS.npz`` holds ``landmarks`` [n, 478, 3] in pixels, one row per portrait. Alternates between fitting every portrait and moving each
landmark's surface point to where the residuals of all portraits agree it should be. Landmarks whose anatomical place ICT-FaceKit itself
marks (eye corners, lips, base of the nose) are anchors: they fix the gauge, above all the mean pitch.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
from build_open_head import keep_lips_apart, nearest_on_surface

from triportrait.face.fitting import LandmarkFitter, Person, _Pose
from triportrait.face.open_head import OpenHead
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import HeadPart

log = logging.getLogger("fit_landmark_embedding")

#: MediaPipe index -> iBUG-68 index.
ANCHORS = {33: 36, 133: 39, 362: 42, 263: 45, 61: 48, 291: 54, 0: 51, 17: 57, 78: 60, 308: 64, 13: 62, 14: 66, 2: 33,
           160: 37, 158: 38, 153: 40, 144: 41, 385: 43, 387: 44, 373: 46, 380: 47}  # fmt: skip

GAUGE = [33, 133, 362, 263, 2, 61, 291]


def crop_to_face(landmarks: np.ndarray, widths: float = 2.2) -> np.ndarray:
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    side = widths * (high - low).max()
    return (landmarks[:, :2] - (0.5 * (low + high) - 0.5 * side)) * (512.0 / side)


def place(head: OpenHead, targets: np.ndarray, candidates: np.ndarray) -> None:
    """Put the head's landmarks where the skin (triangles ``candidates``) is nearest to ``targets`` [468, 3]."""
    head.landmark_triangle, head.landmark_barycentric = nearest_on_surface(targets, head.mean, head.triangles, candidates)
    jaw = head.expression_basis[head.expression_names.index("jawOpen")].reshape(-1, 3)[:, 1]
    keep_lips_apart(head.landmark_triangle, head.landmark_barycentric, head.mean, head.triangles, head.part, jaw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    head = OpenHead.embedded()
    landmarks = np.stack([crop_to_face(row) for row in np.load(options.landmarks)["landmarks"][:: options.every]])
    candidates = np.flatnonzero((head.part[head.triangles] <= HeadPart.SOCKET).all(1) & (head.part[head.triangles] == HeadPart.SKIN).any(1))

    targets = head.landmarks478(head.mean)[:468].astype(np.float64)
    for mediapipe, ibug in ANCHORS.items():
        targets[mediapipe] = head.mean[head.landmarks68_vertices[ibug]]
    for round_ in range(options.rounds):
        # Half-way the lips and lids are released; the corners and the nose's base go on holding the gauge.
        anchored = np.array(list(ANCHORS) if round_ < options.rounds // 2 else GAUGE)
        place(head, targets, candidates)
        fitter = LandmarkFitter(head)
        normal, right, residuals = np.zeros((468, 3, 3)), np.zeros((468, 3)), []
        for row in landmarks:
            person, motion, residual = fitter.fit_person(row[None])
            residuals.append(np.sqrt((residual**2).sum(-1)))
            pose = _Pose(matrix_from_euler(motion.rotation_rad), motion.translation, motion.expression, motion.gaze_rad)
            posed = (
                np.einsum("tij,tnj->tni", pose.rotation, fitter._points(Person(person.identity, np.zeros((468, 3))), pose))
                + motion.translation[:, None]
            )
            depth = 10.0 - posed[0, :, 2]
            scale = fitter._focal_px / depth
            camera = np.zeros((468, 2, 3))
            camera[:, 0, 0], camera[:, 0, 2] = scale, posed[0, :, 0] * scale / depth
            camera[:, 1, 1], camera[:, 1, 2] = -scale, -posed[0, :, 1] * scale / depth
            turned = camera @ pose.rotation
            robust = 1.0 / (1.0 + (residual[0] ** 2).sum(-1) / 36.0)
            normal += np.einsum("n,nki,nkj->nij", robust, turned, turned)
            right += np.einsum("n,nki,nk->ni", robust, turned, residual[0])
        ridge = 0.02 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        step = np.linalg.solve(normal + ridge, right[..., None])[..., 0]
        free = np.setdiff1d(np.arange(468), anchored)
        targets = head.landmarks478(head.mean)[:468].astype(np.float64)
        targets[free] += 0.8 * step[free]
        log.info(
            "round %d: rms %.3f px, anchors %.3f px, mean step %.4f dm",
            round_,
            np.sqrt(np.mean(np.square(residuals))),
            np.sqrt(np.mean(np.square(np.array(residuals)[..., anchored]))),
            np.linalg.norm(step[free], axis=1).mean(),
        )
    place(head, targets, candidates)
    np.savez(options.out, triangle=head.landmark_triangle, barycentric=head.landmark_barycentric)


if __name__ == "__main__":
    main()
