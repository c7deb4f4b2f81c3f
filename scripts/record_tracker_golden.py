"""What MediaPipe 0.10.21 says of the pictures in tests/tracker_samples.py -> tests/golden/golden_tracker.npz.

The tracker is held against these numbers, so that tests need no MediaPipe. Run it where `mediapipe==0.10.21` and `scikit-image` are
installed: `python scripts/record_tracker_golden.py`. Places are kept in hundredths of a pixel.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mediapipe
import numpy as np
from skimage import data

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import tracker_samples  # noqa: E402

#: How often the mesh looks until the detector's box no longer matters, as the tracker does.
LOOKS = 3


def hundredths(values: np.ndarray) -> np.ndarray:
    """Pixels as whole hundredths."""
    return np.round(100 * np.asarray(values)).astype(np.int32)


def mesh() -> object:
    """MediaPipe's mesh, which begins with the next picture."""
    return mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
    )


def landmarks(network: object, picture: np.ndarray, looks: int = 1) -> np.ndarray:
    """[478, 3] pixels after so many looks."""
    height, width = picture.shape[:2]
    for _ in range(looks):
        (face,) = network.process(picture).multi_face_landmarks
    return np.array([(point.x * width, point.y * height, point.z * width) for point in face.landmark])


def detection(network: object, picture: np.ndarray) -> np.ndarray:
    """[8, 2] pixels of the clearest face, corners of its box and six points; [0, 2] where none is seen."""
    size = picture.shape[1], picture.shape[0]
    for face in network.process(picture).detections or []:
        box = face.location_data.relative_bounding_box
        corners = [(box.xmin, box.ymin), (box.xmin + box.width, box.ymin + box.height)]
        return np.array([*corners, *((point.x, point.y) for point in face.location_data.relative_keypoints)]) * size
    return np.zeros((0, 2))


def main() -> None:
    solutions = mediapipe.solutions
    detectors = {name: solutions.face_detection.FaceDetection(model_selection=number) for number, name in enumerate(("near", "far"))}
    segmenter = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    found: dict[str, np.ndarray] = {}
    for name, picture in tracker_samples.pictures(data.astronaut()):
        found[f"{name}: landmarks"] = hundredths(landmarks(mesh(), picture, LOOKS))
        for which, detector in detectors.items():
            found[f"{name}: {which}"] = hundredths(detection(detector, picture))
        step = tracker_samples.MASK_STEP
        found[f"{name}: mask"] = np.round(255 * segmenter.process(picture).segmentation_mask[::step, ::step]).astype(np.uint8)
    network = mesh()
    for number, frame in enumerate(tracker_samples.clip(data.astronaut())):
        found[f"frame {number}: landmarks"] = hundredths(landmarks(network, frame, 1 if number else LOOKS))
    path = ROOT / "tests" / "golden" / "golden_tracker.npz"
    np.savez_compressed(path, **found)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    main()
