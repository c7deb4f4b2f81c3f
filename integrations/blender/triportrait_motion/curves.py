"""Motion files of TriPortrait and of Live Link Face as curves; it needs numpy alone, which Blender has."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Gaze angle at which an eyeLook curve is 1.
_FULL_LOOK_RAD = np.radians(30.0)


@dataclass(frozen=True)
class Curves:
    """Curves [t] in 0..1 by their ARKit names, and the head's pitch, yaw and roll [t, 3] in radians."""

    fps: float
    curves: dict[str, np.ndarray]
    rotation_rad: np.ndarray


def read(path: str | Path) -> Curves:
    """A ``.npz`` or ``.csv`` of TriPortrait, or a table of Live Link Face.

    Raises:
        ValueError: none of these; the text is one sentence.
    """
    path = Path(path)
    try:
        return _read_npz(path) if path.suffix.lower() == ".npz" else _read_table(path)
    except (KeyError, IndexError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no motion file; give a .npz or .csv of 'triportrait extract' or 'triportrait motion'") from error


def _read_npz(path: Path) -> Curves:
    with np.load(path, allow_pickle=False) as file:
        names, rows = [str(name) for name in file["expression_names"]], file["expression"]
        curves = {name: rows[:, index] for index, name in enumerate(names)}
        return Curves(float(file["fps"]), curves | _looks(file["gaze_rad"]), file["rotation_rad"])


def _read_table(path: Path) -> Curves:
    lines = path.read_text(encoding="utf-8").splitlines()
    notes = dict(line[1:].split(":", 1) for line in lines if line.startswith("#") and ":" in line)
    heading, *rows = csv.reader(line for line in lines if not line.startswith("#"))
    columns = {name: np.array([float(row[index]) for row in rows]) for index, name in enumerate(heading) if name != "Timecode"}
    if "Timecode" in heading:
        # Live Link Face: names begin with a capital, angles are radians, a row is a frame of 25 or 60 a second.
        last = rows[-1][heading.index("Timecode")].split(":")
        seconds = sum(float(part) * scale for part, scale in zip(last[:3], (3600, 60, 1), strict=True))
        first = [float(part) for part in rows[0][heading.index("Timecode")].split(":")[:3]]
        passed_s = seconds - (first[0] * 3600 + first[1] * 60 + first[2])
        fps = 60.0 if passed_s and len(rows) / passed_s > 42 else 25.0
        curves = {
            name[0].lower() + name[1:]: values for name, values in columns.items() if not name.startswith(("Head", "LeftEye", "RightEye"))
        }
        curves.pop("blendshapeCount", None)
        return Curves(fps, curves, np.stack([columns[f"Head{axis}"] for axis in ("Pitch", "Yaw", "Roll")], axis=1))
    rotation, gaze = (np.stack([columns[name] for name in names], axis=1) for names in (_DEGREES, _GAZE_DEGREES))
    other = {"time_s", *_DEGREES, *_GAZE_DEGREES}
    curves = {name: values for name, values in columns.items() if name not in other and "_" not in name}
    return Curves(float(notes[" fps"]), curves | _looks(np.radians(gaze)), np.radians(rotation))


_DEGREES = ("pitch_deg", "yaw_deg", "roll_deg")
_GAZE_DEGREES = ("gaze_pitch_deg", "gaze_yaw_deg")


def _looks(gaze_rad: np.ndarray) -> dict[str, np.ndarray]:
    """The eight eyeLook curves of a gaze [t, 2]: pitch up, yaw to the subject's left."""
    up, left = (np.asarray(gaze_rad, np.float64) / _FULL_LOOK_RAD).T
    found = {}
    for side, outward in (("Left", left), ("Right", -left)):
        parts = {"Up": up, "Down": -up, "Out": outward, "In": -outward}
        found |= {f"eyeLook{name}{side}": np.clip(values, 0.0, 1.0) for name, values in parts.items()}
    return found
