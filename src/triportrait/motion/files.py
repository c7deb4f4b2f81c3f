"""The open motion file: ``.npz`` (exact, small) and ``.csv`` (for spreadsheets), and exports for other programs.

CSV: comment lines first (``# triportrait motion 1``, ``# fps: 25``, ``# head_model: open``), then a heading, then one
row per frame: ``time_s``, every expression curve by its name, ``pitch_deg, yaw_deg, roll_deg``, ``x_dm, y_dm, z_dm``,
``gaze_pitch_deg, gaze_yaw_deg``. Spreadsheets that write semicolons and decimal commas are understood. A curve
without a column is zero; a column that is no curve is an error. Axes and signs are those of :mod:`triportrait.types`.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from triportrait.errors import MotionFileError, OutputError
from triportrait.types import ARKIT_EXPRESSIONS, Motion

Array = np.ndarray

log = logging.getLogger(__name__)

VERSION = 1

_POSE_COLUMNS = ("pitch_deg", "yaw_deg", "roll_deg", "x_dm", "y_dm", "z_dm", "gaze_pitch_deg", "gaze_yaw_deg")

#: A file may not unpack to more than this (ten hours of motion take 0.2 GB).
_LARGEST_BYTES = 2 << 30

#: Gaze angle at which an ``eyeLook*`` curve is 1. ARKit does not say; 30 degrees is about what its users measure.
EYE_LOOK_FULL_RAD = np.radians(30.0)


def save_motion(motion: Motion, path: str | os.PathLike[str]) -> None:
    """Write ``.npz`` or ``.csv`` by the name's ending; the file appears whole or not at all.

    CSV keeps everything but ``landmarks``.

    Raises:
        MotionFileError: the ending is neither.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind == ".npz":
        _write_atomically(target, lambda file: _write_npz(motion, file))
    elif kind == ".csv":
        _write_atomically(target, lambda file: file.write(_csv_text(motion).encode("utf-8")))
    else:
        raise MotionFileError(f"{target.name} has no ending of a motion file; name it .npz or .csv")


def load_motion(path: str | os.PathLike[str]) -> Motion:
    """Read a file of :func:`save_motion`, edited or not.

    Raises:
        MotionFileError: it does not exist, is no motion file, or a column or cell does not fit; the text names which.
    """
    source = Path(path)
    if not source.is_file():
        raise MotionFileError(f"there is no motion file {source}; check the path")
    kind = source.suffix.lower()
    if kind == ".npz":
        return _read_npz(source)
    if kind == ".csv":
        return _read_csv(source)
    raise MotionFileError(f"{source.name} has no ending of a motion file; give a .npz or .csv file")


def _write_atomically(target: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        handle, part = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror}); choose another folder") from error
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result gets the usual permissions.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    except OSError as error:
        Path(part).unlink(missing_ok=True)
        raise OutputError(f"{target} cannot be written ({error.strerror}); choose another place") from error
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _write_npz(motion: Motion, file: BinaryIO) -> None:
    arrays = {
        "version": np.array(VERSION),
        "fps": np.array(float(motion.fps)),
        "head_model": np.array(motion.head_model),
        "expression_names": np.array(motion.expression_names),
        "expression": np.asarray(motion.expression, np.float32),
        "rotation_rad": np.asarray(motion.rotation_rad, np.float32),
        "translation": np.asarray(motion.translation, np.float32),
        "gaze_rad": np.asarray(motion.gaze_rad, np.float32),
    }
    for name in ("identity", "landmarks"):
        if getattr(motion, name) is not None:
            arrays[name] = np.asarray(getattr(motion, name), np.float32)
    np.savez_compressed(file, **arrays)


def _read_npz(source: Path) -> Motion:
    not_ours = MotionFileError(
        f"{source.name} is not a motion file of TriPortrait; make one with `triportrait extract`"
    )
    try:
        with zipfile.ZipFile(source) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_BYTES:
                raise MotionFileError(f"{source.name} unpacks to more than 2 GB; split the motion")
        with np.load(source, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except MotionFileError:
        raise
    # Damaged archives let almost any exception out (zlib.error, BadZipFile, struct.error, TokenError, MemoryError, ...).
    except Exception as error:
        raise not_ours from error
    missing = [name for name in ("version", "fps", "expression", "expression_names") if name not in arrays]
    if missing:
        raise not_ours
    try:
        version = int(arrays["version"])
        if version > VERSION:
            raise MotionFileError(
                f"{source.name} has motion format {version}, this version reads {VERSION}; update TriPortrait"
            )
        names = tuple(str(name) for name in arrays["expression_names"])
        head_model = str(arrays.get("head_model", "open"))
        frames = len(arrays["expression"])
        for name, width in (("rotation_rad", 3), ("translation", 3), ("gaze_rad", 2)):
            if name not in arrays:
                log.warning("%s has no %s; it is taken as zero", source.name, name)
                arrays[name] = np.zeros((frames, width), np.float32)
        floats = {
            name: arrays[name].astype(np.float32)
            for name in ("expression", "rotation_rad", "translation", "gaze_rad", "identity", "landmarks")
            if name in arrays
        }
        for name, values in floats.items():
            if not np.isfinite(values).all():
                raise MotionFileError(f"{source.name}: {name} holds values that are not numbers; make the file again")
        expression, names = _complete(floats.pop("expression"), names, head_model, source.name)
        motion = Motion(expression, fps=float(arrays["fps"]), expression_names=names, head_model=head_model, **floats)
    except MotionFileError:
        raise
    except (ValueError, TypeError) as error:
        raise MotionFileError(
            f"{source.name} is damaged ({error}); make it again with `triportrait extract`"
        ) from error
    _check(motion, source.name)
    return motion


def _complete(expression: Array, names: tuple[str, ...], head_model: str, file: str) -> tuple[Array, tuple[str, ...]]:
    """Columns in the open head's order, absent ones zero; other heads' columns stay as they are."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MotionFileError(f"{file}: the column {twice!r} appears twice; keep one")
    if head_model != "open":
        return expression, names
    unknown = [name for name in names if name not in ARKIT_EXPRESSIONS]
    if unknown:
        raise MotionFileError(
            f"{file}: {', '.join(map(repr, unknown))} is no expression curve; remove or rename the column"
        )
    missing = [name for name in ARKIT_EXPRESSIONS if name not in names]
    if missing:
        log.warning("%s has no column for %s; taken as 0", file, ", ".join(missing))
    complete = np.zeros((len(expression), len(ARKIT_EXPRESSIONS)), np.float32)
    for column, name in enumerate(names):
        complete[:, ARKIT_EXPRESSIONS.index(name)] = expression[:, column]
    return complete, ARKIT_EXPRESSIONS


def _check(motion: Motion, file: str) -> None:
    if not len(motion):
        raise MotionFileError(f"{file} has no frames; give a file with at least one row")
    if not 1.0 <= motion.fps <= 240.0:
        raise MotionFileError(f"{file}: fps is {motion.fps:g}, expected 1 to 240; correct the fps line")
    if motion.head_model == "open":
        outside = np.argwhere((motion.expression < -1e-6) | (motion.expression > 1 + 1e-6))
        if len(outside):
            row, column = outside[0]
            value = motion.expression[row, column]
            name = motion.expression_names[column]
            raise MotionFileError(f"{file}: frame {row}, {name} is {value:g}; expression curves lie between 0 and 1")


# --- CSV
# ---------------------------------------------------------------------------------------------------------------------------------


def _pose_rows(motion: Motion) -> Array:
    """[t, 8] in the order and units of the CSV's last columns."""
    rotation = np.degrees(motion.rotation_rad.astype(np.float64))
    gaze = np.degrees(motion.gaze_rad.astype(np.float64))
    return np.concatenate([rotation, motion.translation.astype(np.float64), gaze], axis=1)


def _csv_text(motion: Motion) -> str:
    text = io.StringIO()
    text.write(f"# triportrait motion {VERSION}\n# fps: {motion.fps:.10g}\n# head_model: {motion.head_model}\n")
    if motion.identity is not None:
        text.write("# identity: " + " ".join(f"{value:.9g}" for value in motion.identity) + "\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time_s", *motion.expression_names, *_POSE_COLUMNS])
    pose = _pose_rows(motion)
    for row in range(len(motion)):
        # Nine digits carry single precision exactly, twelve its degrees.
        cells = [f"{row / motion.fps:.6f}", *(f"{value:.9g}" for value in motion.expression[row])]
        writer.writerow(cells + [f"{value:.12g}" for value in pose[row]])
    return text.getvalue()


def _read_csv(source: Path) -> Motion:
    name = source.name
    try:
        if source.stat().st_size > _LARGEST_BYTES:
            raise MotionFileError(f"{name} is larger than 2 GB; split the motion")
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MotionFileError(f"{name} is not a text file in UTF-8; save it as CSV UTF-8") from error
    except OSError as error:
        raise MotionFileError(f"{name} cannot be read ({error.strerror}); check its permissions") from error
    notes: dict[str, str] = {}
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        # Spreadsheets quote comments and pad them with separators.
        plain = line.strip().strip(",;").strip('"').strip()
        if plain.startswith("#"):
            key, _, value = plain[1:].partition(":")
            notes[key.strip().lower()] = value.strip()
        elif plain:
            lines.append((number, line))
    if not lines:
        raise MotionFileError(f"{name} has no rows; give a CSV file written by TriPortrait")
    heading_line = lines[0][1]
    semicolons = heading_line.count(";") > heading_line.count(",")
    rows = csv.reader((line for _, line in lines), delimiter=";" if semicolons else ",")
    heading = [cell.strip() for cell in next(rows)]
    while heading and not heading[-1]:
        heading.pop()
    if "time_s" not in heading:
        raise MotionFileError(
            f"{name} has no column time_s, so it is no motion file of TriPortrait; keep the heading row"
        )
    if len(set(heading)) != len(heading):
        twice = next(cell for cell in heading if heading.count(cell) > 1)
        raise MotionFileError(f"{name}: the column {twice!r} appears twice; keep one")
    values = np.empty((len(lines) - 1, len(heading)))
    for index, cells in enumerate(rows):
        number = lines[index + 1][0]
        cells = [cell.strip() for cell in cells]
        while len(cells) > len(heading) and not cells[-1]:
            cells.pop()
        if len(cells) != len(heading):
            raise MotionFileError(
                f"{name}: line {number} has {len(cells)} cells, the heading {len(heading)}; mend the line"
            )
        for column, cell in enumerate(cells):
            try:
                values[index, column] = float(cell.replace(",", ".") if semicolons else cell)
            except ValueError:
                raise MotionFileError(
                    f"{name}: line {number}, column {heading[column]}: {cell!r} is not a number; correct the cell"
                ) from None
            if not np.isfinite(values[index, column]):
                raise MotionFileError(
                    f"{name}: line {number}, column {heading[column]}: {cell!r} is not finite; correct the cell"
                )
    head_model = notes.get("head_model") or "open"
    fps = _fps(notes.get("fps"), values[:, heading.index("time_s")], name)
    columns = {cell: values[:, index] for index, cell in enumerate(heading)}
    for missing in (cell for cell in _POSE_COLUMNS if cell not in columns):
        log.warning("%s has no column %s; taken as 0", name, missing)
    pose = np.stack([columns.get(cell, np.zeros(len(values))) for cell in _POSE_COLUMNS], axis=1)
    curve_names = tuple(cell for cell in heading if cell != "time_s" and cell not in _POSE_COLUMNS)
    curves = np.stack([columns[cell] for cell in curve_names], axis=1) if curve_names else np.zeros((len(values), 0))
    expression, curve_names = _complete(curves.astype(np.float32), curve_names, head_model, name)
    identity = None
    if notes.get("identity"):
        try:
            identity = np.array([float(value) for value in notes["identity"].split()], np.float32)
        except ValueError:
            raise MotionFileError(
                f"{name}: the identity line holds something that is not a number; remove the line"
            ) from None
    motion = Motion(
        expression,
        np.radians(pose[:, :3]).astype(np.float32),
        pose[:, 3:6].astype(np.float32),
        np.radians(pose[:, 6:]).astype(np.float32),
        fps=fps,
        expression_names=curve_names,
        head_model=head_model,
        identity=identity,
    )
    _check(motion, name)
    return motion


def _fps(note: str | None, times: Array, file: str) -> float:
    """Frames per second by the comment, or by the times; the times must agree with it."""
    if note:
        try:
            fps = float(note.replace(",", "."))
        except ValueError:
            raise MotionFileError(f"{file}: fps is {note!r}, which is not a number; correct the fps line") from None
    elif len(times) > 1 and times[-1] > times[0]:
        fps = round((len(times) - 1) / (times[-1] - times[0]), 4)
    else:
        raise MotionFileError(f"{file} does not say its frame rate; add a line `# fps: 25`")
    if not (np.isfinite(fps) and fps > 0):
        raise MotionFileError(f"{file}: fps is {fps:g}, expected 1 to 240; correct the fps line")
    expected = times[0] + np.arange(len(times)) / fps if len(times) else times
    wrong = np.flatnonzero(np.abs(times - expected) > 0.5 / fps)
    if len(wrong):
        row = int(wrong[0])
        raise MotionFileError(
            f"{file}: frame {row} is at {times[row]:g} s, expected {expected[row]:g} s at {fps:g} frames per second; "
            "rows must follow each other without gaps"
        )
    return fps


# --- exports
# -----------------------------------------------------------------------------------------------------------------------------

#: Column order of Live Link Face's CSV, in ARKit's names.
_LIVE_LINK = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft", "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight",
    "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRight", "mouthLeft",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip


def arkit52(motion: Motion) -> dict[str, Array]:
    """All 52 ARKit curves [t] by name; the eight ``eyeLook*`` come from the gaze (left and right are the subject's).

    Raises:
        MotionFileError: the motion belongs to a head model without ARKit curves.
    """
    missing = [name for name in ARKIT_EXPRESSIONS if name not in motion.expression_names]
    if missing:
        raise MotionFileError(
            f"motion of head model {motion.head_model!r} has no ARKit curves; extract it with the open head"
        )
    curves = {name: motion.expression[:, motion.column(name)] for name in ARKIT_EXPRESSIONS}
    pitch, yaw = (motion.gaze_rad[:, axis] / EYE_LOOK_FULL_RAD for axis in (0, 1))
    # Yaw is positive towards image right, which is the subject's left: outwards for the left eye, inwards for the
    # right.
    for side, outward in (("Left", yaw), ("Right", -yaw)):
        curves[f"eyeLookOut{side}"] = np.clip(outward, 0, 1)
        curves[f"eyeLookIn{side}"] = np.clip(-outward, 0, 1)
        curves[f"eyeLookUp{side}"] = np.clip(pitch, 0, 1)
        curves[f"eyeLookDown{side}"] = np.clip(-pitch, 0, 1)
    return curves


def export_live_link_csv(motion: Motion, path: str | os.PathLike[str]) -> None:
    """Write the layout of Epic's Live Link Face app: timecode, 52 curves, head and eye rotations in radians.

    Head angles keep our signs: pitch positive down, yaw positive to the subject's left, roll positive
    counter-clockwise in the image.
    """
    curves = arkit52(motion)
    heading = ["Timecode", "BlendshapeCount", *(name[0].upper() + name[1:] for name in _LIVE_LINK)]
    heading += ["HeadYaw", "HeadPitch", "HeadRoll"]
    heading += [f"{side}Eye{axis}" for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    table = np.stack([curves[name] for name in _LIVE_LINK], axis=1)
    for row in range(len(motion)):
        second, within = divmod(row / motion.fps + 1e-9, 1.0)
        frame = within * motion.fps
        second = int(second)
        timecode = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}:{int(frame):02d}.{int(frame % 1 * 1000):03d}"
        pitch, yaw, roll = motion.rotation_rad[row]
        eye = (motion.gaze_rad[row, 1], motion.gaze_rad[row, 0], 0.0)
        cells = [*table[row], yaw, pitch, roll, *eye, *eye]
        writer.writerow([timecode, len(cells), *(f"{value:.7g}" for value in cells)])
    _write_atomically(Path(path), lambda file: file.write(text.getvalue().encode("utf-8")))


def export_json(motion: Motion, path: str | os.PathLike[str]) -> None:
    """Write everything as one JSON object: ``names`` and one list of numbers per frame and field."""
    document = {
        "format": "triportrait motion",
        "version": VERSION,
        "fps": motion.fps,
        "head_model": motion.head_model,
        "expression_names": list(motion.expression_names),
        "frames": [
            {
                "time_s": round(row / motion.fps, 6),
                "expression": [round(float(value), 6) for value in frame.expression],
                "rotation_rad": [round(float(value), 6) for value in frame.rotation_rad],
                "translation_dm": [round(float(value), 6) for value in frame.translation],
                "gaze_rad": [round(float(value), 6) for value in frame.gaze_rad],
            }
            for row, frame in enumerate(motion)
        ],
    }
    _write_atomically(Path(path), lambda file: file.write(json.dumps(document, indent=None).encode("utf-8")))
