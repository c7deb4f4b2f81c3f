"""Contact sheets of the current default for docs/: the demo as a strip, and twelve portraits speaking one sentence.

    python scripts/make_gallery.py [--data ../shared/data] [--out docs]

The portraits are AI-generated, CC0 or MIT (see the data bundle's README); only small renderings of ours are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from triportrait import pipeline
from triportrait.evaluation.contact_sheet import contact_sheet, write_sheet
from triportrait.types import MotionFrame

Array = np.ndarray
PORTRAITS = (
    "cc0/female_47",
    "cc0/female_83",
    "cc0/female_96",
    "cc0/male_28",
    "cc0/male_32",
    "cc0/male_91",
    "mit/sfhq_1844",
    "mit/t2i_0018",
    "mit/t2i_0730",
    "mit/t2i_0928",
    "mit/t2i_1248",
    "mit/t2i_1681",
)
COLUMNS = ("photo", "open", "blink", "turned left", "turned right", "frame 60", "frame 110", "yaw +20", "yaw -20")


def speaking(photo: Path, voice: Path) -> list[Array]:
    """The columns of one portrait's row."""
    from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler

    portrait = pipeline.Portrait.from_image(photo)
    motion = portrait.talk(voice).motion()
    still = portrait.prepared.motion

    def turned(yaw_degrees: float) -> MotionFrame:
        matrix = matrix_from_euler(np.radians((0.0, yaw_degrees, 0.0))) @ matrix_from_euler(still.rotation_rad)
        return MotionFrame(still.expression, euler_from_matrix(matrix).astype(np.float32), still.translation, still.gaze_rad)

    yaw = motion.rotation_rad[:, 1]
    rows = [int(np.argmax(motion.expression[:, motion.column(n)])) for n in ("jawOpen", "eyeBlinkLeft")]
    rows += [int(np.argmax(yaw)), int(np.argmin(yaw)), 60, 110]
    frames = [motion[r] for r in rows] + [turned(20.0), turned(-20.0)]
    return [portrait.prepared.image] + [portrait.model.step(portrait.state, frame)[0] for frame in frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    voice = Path("examples/speech.wav")

    portrait = pipeline.Portrait.from_image(Path("examples/portrait2.png"))
    performance = portrait.talk(voice)
    motion = performance.motion()
    widest = int(np.argmax(motion.expression[:, motion.column("jawOpen")] - motion.expression[:, motion.column("eyeBlinkLeft")]))
    chosen = next(frame for index, frame in enumerate(performance.frames(debug=True)) if index == widest)
    strip = [[*chosen.debug.values(), chosen.image]]
    write_sheet(options.out / "demo.png", contact_sheet(strip, column_labels=[*chosen.debug, "final"], cell_px=230))

    sheet = [speaking(options.data / "portraits" / f"{name}.jpg", voice) for name in PORTRAITS]
    picture = contact_sheet(sheet, row_labels=[n.split("/")[1] for n in PORTRAITS], column_labels=COLUMNS, cell_px=150)
    Image.fromarray(picture).save(options.out / "gallery.jpg", quality=86, optimize=True)


if __name__ == "__main__":
    main()
