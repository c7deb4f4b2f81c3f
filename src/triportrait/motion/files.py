"""The open motion file: ``.npz`` (exact, small) and ``.csv`` (for spreadsheets), and exports for other programs.

CSV: comment lines first (``# triportrait motion 1``, ``# fps: 25``, ``# head_model: open``), then a heading, then one
row per frame: ``time_s``, every expression curve by its name, ``pitch_deg, yaw_deg, roll_deg``, ``x_dm, y_dm, z_dm``,
``gaze_pitch_deg, gaze_yaw_deg``, and where the motion of the shoulders is known ``body_x, body_y`` (decimetres),
``body_scale`` (logarithm) and ``body_roll`` (radians), and where a warp is, ``warp_11_x`` to
``warp_54_y`` and ``warp_face_11_x`` to ``warp_face_89_y`` (decimetres).
Spreadsheets that write semicolons and decimal commas are understood. A curve without a column is zero; a column that is no
curve is an error. Axes and signs are those of :mod:`triportrait.types`.

Motion of a voice also carries what it was made with, as ``control_<name>`` columns (see
:mod:`triportrait.motion.controls`): :func:`load_motion` leaves them aside, :func:`load_controls` reads them.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import os
import shutil
import tempfile
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from triportrait.array_files import ArrayArchive, ArrayFileError
from triportrait.errors import MotionFileError, OptionError, printable, quoted
from triportrait.files import atomic_file, refuse_inputs
from triportrait.geometry.curve_range import lowest_curves
from triportrait.motion.controls import NAMES as CONTROL_NAMES
from triportrait.motion.controls import PREFIX, ControlCurves, ControlTrack
from triportrait.motion.exports import write_json, write_live_link
from triportrait.types import ARKIT_EXPRESSIONS, BODY_COLUMNS, WARP_COLUMNS, Array, Motion

log = logging.getLogger(__name__)

VERSION = 1

#: How names of files end that are read here.
READ_ENDINGS = (".npz", ".csv")

_POSE_COLUMNS = ("pitch_deg", "yaw_deg", "roll_deg", "x_dm", "y_dm", "z_dm", "gaze_pitch_deg", "gaze_yaw_deg")

#: Longer motion is refused: five and a half hours at 25 frames per second, which take 480 MB with a warp.
MAXIMUM_ROWS = 500_000
#: What the arrays of a file may take together; landmarks need 3.8 kB a row.
_LARGEST_BYTES = 1024 << 20
#: Names of curves that a heading may hold, and numbers in an identity.
_MOST_NAMES = 1000
#: A line longer than this holds no row of numbers.
_LONGEST_LINE = 1 << 16


def save_motion(motion: Motion, path: str | os.PathLike[str], controls: ControlTrack | None = None) -> None:
    """Write ``.npz`` or ``.csv`` by the name's ending; the file appears whole or not at all.

    CSV keeps everything but ``landmarks``.

    Raises:
        MotionFileError: the ending is neither.
        OutputError: the file cannot be written.
    """
    if Path(path).suffix.lower() not in READ_ENDINGS:
        raise MotionFileError(f"{Path(path).name} has no ending of a motion file; name it .npz or .csv")
    write_motion((motion,), path, controls, live_link=False)


def write_motion(
    chunks: Iterable[Motion],
    path: str | os.PathLike[str],
    controls: ControlTrack | None = None,
    live_link: bool | None = None,
    inputs: Iterable[str | os.PathLike[str] | None] = (),
) -> int:
    """Write motion as it comes, in memory that does not grow with its length; the file appears whole or not at all.

    Args:
        chunks: pieces of one motion.
        path: ``.npz`` or ``.csv`` (ours), ``.json``, or ``.livelink.csv`` (Live Link Face).
        controls: what the motion was made with; Live Link Face has no place for it.
        live_link: the layout of Live Link Face; None = by the name's ending.
        inputs: files that the motion is made from, which are never written over.

    Returns:
        Number of rows.

    Raises:
        MotionFileError: another ending, no rows at all, or a motion without ARKit curves for Live Link Face.
        OutputError: the file cannot be written, or is one of the inputs.
    """
    target = Path(path)
    refuse_inputs(target, inputs)
    kind = target.suffix.lower()
    if live_link is None:
        live_link = target.name.lower().endswith(".livelink.csv")
    if kind not in (".npz", ".csv", ".json"):
        raise MotionFileError(f"{target.name} has no ending of a motion file; name it .npz, .csv or .json")
    write = write_live_link if live_link else {".npz": _write_npz, ".csv": _write_csv, ".json": write_json}[kind]
    pieces = (chunk for chunk in chunks if len(chunk))
    first = next(pieces, None)
    if first is None:
        raise MotionFileError(f"{target.name} would have no rows; the voice or motion is shorter than one frame")
    count = 0

    def counted() -> Iterator[Motion]:
        nonlocal count
        for chunk in chain((first,), pieces):
            count += len(chunk)
            yield chunk

    _write_atomically(target, lambda file: write(first, counted(), controls, file))
    return count


def load_controls(path: str | os.PathLike[str]) -> ControlCurves:
    """The ``control_*`` curves of a motion file.

    Raises:
        MotionFileError: it is no motion file, holds no such curve, or a value is out of range.
    """
    source = Path(path)
    if not source.is_file():
        raise MotionFileError(f"there is no motion file {source}; check the path")
    if source.suffix.lower() == ".npz":
        arrays = _npz_arrays(source, [PREFIX + name for name in CONTROL_NAMES])
        found = {name.removeprefix(PREFIX): values for name, values in arrays.items()}
    elif source.suffix.lower() == ".csv":
        table = _read_table(source)
        found = {name.removeprefix(PREFIX): table.columns[name] for name in table.columns if name.startswith(PREFIX)}
    else:
        raise MotionFileError(f"{source.name} has no ending of a motion file; give a .npz or .csv file")
    if not found:
        raise MotionFileError(f"{source.name} holds no controls; make it with `triportrait motion`, or add a column {PREFIX}mouth_gain")
    if any(values.dtype.kind not in "biuf" for values in found.values()):
        raise _not_ours(source)
    try:
        return ControlCurves({name: np.asarray(values, np.float32) for name, values in found.items()})
    except (OptionError, TypeError, ValueError) as error:
        raise MotionFileError(f"{source.name}: {error}") from None


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
    with atomic_file(target) as part, part.open("wb") as file:
        write(file)


def _write_npz(first: Motion, chunks: Iterable[Motion], controls: ControlTrack | None, file: BinaryIO) -> None:
    """Rows are laid aside in temporary files, one per field, and then packed."""
    per_row = list(first.row_fields)
    if first.landmarks is not None:
        per_row.append("landmarks")
    fixed = {
        "version": np.array(VERSION),
        "fps": np.array(float(first.fps)),
        "head_model": np.array(first.head_model),
        "expression_names": np.array(first.expression_names),
    }
    if first.identity is not None:
        fixed["identity"] = np.asarray(first.identity, np.float32)
    names = per_row + ([PREFIX + name for name in CONTROL_NAMES] if controls else [])
    with contextlib.ExitStack() as stack:
        spools = {name: stack.enter_context(tempfile.TemporaryFile()) for name in names}
        rows = 0
        for chunk in chunks:
            for name in per_row:
                spools[name].write(np.ascontiguousarray(getattr(chunk, name), np.float32).tobytes())
            if controls:
                for name, column in zip(CONTROL_NAMES, controls.rows(rows, len(chunk)).T, strict=True):
                    spools[PREFIX + name].write(column.astype(np.float32).tobytes())
            rows += len(chunk)
        archive = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED))
        for name, value in fixed.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, value, allow_pickle=False)
        for name, spool in spools.items():
            shape = (rows, *(getattr(first, name).shape[1:] if name in per_row else ()))
            spool.seek(0)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, {"descr": "<f4", "fortran_order": False, "shape": shape})
                shutil.copyfileobj(spool, entry, 1 << 20)


def _not_ours(source: Path) -> MotionFileError:
    return MotionFileError(f"{source.name} is not a motion file of TriPortrait; make one with `triportrait extract`")


#: Arrays of a motion file and how many axes they have.
_ARRAYS = {
    "version": 0,
    "fps": 0,
    "head_model": 0,
    "expression_names": 1,
    "expression": 2,
    "rotation_rad": 2,
    "translation": 2,
    "gaze_rad": 2,
    "body": 2,
    "warp": 2,
    "identity": 1,
    "landmarks": 3,
}
_REQUIRED = ("version", "fps", "expression", "expression_names")


def _npz_arrays(source: Path, names: Iterable[str]) -> dict[str, Array]:
    """Arrays of ``names`` that the file holds, once all their shapes are within bounds."""
    try:
        with ArrayArchive(source, names) as archive:
            for name, header in archive.headers.items():
                rows = header.shape[0] if header.shape else 1
                if len(header.shape) != _ARRAYS.get(name, 1) or 0 in header.shape[1:]:
                    raise _not_ours(source)
                if name in ("expression_names", "identity"):
                    if rows > _MOST_NAMES:
                        raise _not_ours(source)
                elif rows > MAXIMUM_ROWS:
                    raise _too_long(source)
            if sum(header.size_bytes for header in archive.headers.values()) > _LARGEST_BYTES:
                raise MotionFileError(f"{source.name} unpacks to more than {_LARGEST_BYTES >> 20} MB; split the motion")
            return {name: archive.read(name) for name in archive.headers}
    except (ArrayFileError, OSError) as error:
        raise _not_ours(source) from error


def _too_long(source: Path) -> MotionFileError:
    return MotionFileError(f"{source.name} has more than {MAXIMUM_ROWS:,} rows; split the motion")


def _read_npz(source: Path) -> Motion:
    arrays = _npz_arrays(source, _ARRAYS)
    numbers = set(arrays) - {"head_model", "expression_names"}
    if any(name not in arrays for name in _REQUIRED) or any(arrays[name].dtype.kind not in "biuf" for name in numbers):
        raise _not_ours(source)
    try:
        version = int(arrays["version"])
        if version > VERSION:
            raise MotionFileError(f"{source.name} has motion format {version}, this version reads {VERSION}; update TriPortrait")
        names = tuple(str(name) for name in arrays["expression_names"])
        head_model = str(arrays.get("head_model", "open"))
        frames = len(arrays["expression"])
        for name, width in (("rotation_rad", 3), ("translation", 3), ("gaze_rad", 2)):
            if name not in arrays:
                log.warning("%s has no %s; it is taken as zero", source.name, name)
                arrays[name] = np.zeros((frames, width), np.float32)
        with np.errstate(over="ignore"):
            floats = {
                name: arrays[name].astype(np.float32, copy=False)
                for name in ("expression", "rotation_rad", "translation", "gaze_rad", "body", "warp", "identity", "landmarks")
                if name in arrays
            }
        for name, values in floats.items():
            if not np.isfinite(values).all():
                raise MotionFileError(f"{source.name}: {name} holds values that are not numbers; make the file again")
        expression, names = _complete(floats.pop("expression"), names, head_model, source.name)
        motion = Motion(expression, fps=float(arrays["fps"]), expression_names=names, head_model=head_model, **floats)
    except MotionFileError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise MotionFileError(f"{source.name} is damaged ({error}); make it again with `triportrait extract`") from error
    _check(motion, source.name)
    return motion


def _complete(expression: Array, names: tuple[str, ...], head_model: str, file: str) -> tuple[Array, tuple[str, ...]]:
    """Columns in the open head's order, absent ones zero; other heads' columns stay as they are."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MotionFileError(f"{file}: the column {quoted(twice)} appears twice; keep one")
    if head_model != "open":
        return expression, names
    unknown = [name for name in names if name not in ARKIT_EXPRESSIONS]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise MotionFileError(f"{file}: {', '.join(map(quoted, unknown[:5]))}{more} is no expression curve; remove or rename the column")
    missing = [name for name in ARKIT_EXPRESSIONS if name not in names]
    if missing:
        log.warning("%s has no column for %s; taken as 0", file, ", ".join(missing))
    complete = np.zeros((len(expression), len(ARKIT_EXPRESSIONS)), np.float32)
    for column, name in enumerate(names):
        complete[:, ARKIT_EXPRESSIONS.index(name)] = expression[:, column]
    return complete, ARKIT_EXPRESSIONS


#: Fields whose columns follow the pose's where a motion has them.
_MORE_COLUMNS: dict[str, tuple[str, ...]] = {"body": BODY_COLUMNS, "warp": WARP_COLUMNS}

#: Far beyond any head: what lies outside is damage, and no picture can be made of it.
_HIGHEST = {"expression": 1e4, "rotation_rad": 1e3, "translation": 1e4, "gaze_rad": 1e3, "body": 1e2, "warp": 1e1, "landmarks": 1e6}


def _check(motion: Motion, file: str) -> None:
    if not len(motion):
        raise MotionFileError(f"{file} has no frames; give a file with at least one row")
    if not 1.0 <= motion.fps <= 240.0:
        raise MotionFileError(f"{file}: fps is {motion.fps:g}, expected 1 to 240; correct the fps line")
    for name, highest in _HIGHEST.items():
        values = getattr(motion, name)
        # NaN fails the comparison, too.
        if values is not None and not (np.abs(values) <= highest).all():
            row = int(np.argwhere(~(np.abs(values) <= highest))[0][0])
            raise MotionFileError(f"{file}: frame {row}, {name} is out of range; make the file again, or correct the row")
    if motion.head_model == "open":
        lowest = lowest_curves(motion.expression_names)
        outside = np.argwhere((motion.expression < lowest - 1e-6) | (motion.expression > 1 + 1e-6))
        if len(outside):
            row, column = outside[0]
            value = motion.expression[row, column]
            name = motion.expression_names[column]
            raise MotionFileError(f"{file}: frame {row}, {name} is {value:g}; expression curves lie between {lowest[column]:g} and 1")


# --- CSV
# ---------------------------------------------------------------------------------------------------------------------------------


def _pose_rows(motion: Motion) -> Array:
    """[t, 8] in the order and units of the CSV's last columns."""
    rotation = np.degrees(motion.rotation_rad.astype(np.float64))
    gaze = np.degrees(motion.gaze_rad.astype(np.float64))
    return np.concatenate([rotation, motion.translation.astype(np.float64), gaze], axis=1)


def _write_csv(first: Motion, chunks: Iterable[Motion], controls: ControlTrack | None, file: BinaryIO) -> None:
    heading = ["time_s", *first.expression_names, *_POSE_COLUMNS]
    more = [name for name in _MORE_COLUMNS if getattr(first, name) is not None]
    heading += [cell for name in more for cell in _MORE_COLUMNS[name]]
    if controls:
        heading += [PREFIX + name for name in CONTROL_NAMES]
    lines = [f"# triportrait motion {VERSION}", f"# fps: {first.fps:.10g}", f"# head_model: {first.head_model}"]
    if first.identity is not None:
        lines.append("# identity: " + " ".join(f"{value:.9g}" for value in first.identity))
    file.write("\n".join([*lines, ",".join(heading), ""]).encode("utf-8"))
    # Nine digits carry single precision exactly, twelve its degrees.
    form = ",".join(["%.6f"] + ["%.9g"] * len(first.expression_names) + ["%.12g"] * len(_POSE_COLUMNS))
    form += ",%.9g" * sum(len(_MORE_COLUMNS[name]) for name in more)
    if controls:
        form += ",%.6g" * len(CONTROL_NAMES)
    row = 0
    for chunk in chunks:
        time_s = (row + np.arange(len(chunk)))[:, None] / chunk.fps
        columns = [time_s, chunk.expression.astype(np.float64), _pose_rows(chunk)]
        columns += [getattr(chunk, name).astype(np.float64) for name in more]
        if controls:
            columns.append(controls.rows(row, len(chunk)))
        row += len(chunk)
        table = np.concatenate(columns, axis=1).tolist()
        file.write("".join(form % tuple(values) + "\n" for values in table).encode("utf-8"))


@dataclass(frozen=True, slots=True)
class _Table:
    """A CSV file: the notes in its comments, and its columns [t] by name."""

    notes: dict[str, str]
    columns: dict[str, Array]


def _read_table(source: Path) -> _Table:
    name = source.name
    try:
        with source.open(encoding="utf-8-sig") as file:
            return _table_of(source, file)
    except UnicodeDecodeError as error:
        raise MotionFileError(f"{name} is not a text file in UTF-8; save it as CSV UTF-8") from error
    except csv.Error as error:
        raise MotionFileError(f"{name} is not laid out like CSV ({error}); save it as CSV UTF-8") from error
    except OSError as error:
        raise MotionFileError(f"{name} cannot be read ({error.strerror}); check its permissions") from error


def _lines(source: Path, file: TextIO, notes: dict[str, str]) -> Iterator[tuple[int, str]]:
    """(number, line) of what is neither empty nor a comment; comments go into ``notes``."""
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise MotionFileError(
                f"{source.name}: line {number} has more than {_LONGEST_LINE:,} characters, which no row has; mend the line"
            )
        # Spreadsheets quote comments and pad them with separators.
        plain = line.strip().strip(",;").strip('"').strip()
        if plain.startswith("#"):
            key, _, value = plain[1:].partition(":")
            if len(notes) < _MOST_NAMES:
                notes[key.strip().lower()] = value.strip()
        elif plain:
            yield number, line


def _table_of(source: Path, file: TextIO) -> _Table:
    name = source.name
    notes: dict[str, str] = {}
    lines = _lines(source, file, notes)
    _, heading_line = next(lines, (0, None))
    if heading_line is None:
        raise MotionFileError(f"{name} has no rows; give a CSV file written by TriPortrait")
    delimiter = ";" if (semicolons := heading_line.count(";") > heading_line.count(",")) else ","
    heading = [cell.strip() for cell in next(csv.reader([heading_line], delimiter=delimiter))]
    while heading and not heading[-1]:
        heading.pop()
    if len(heading) > _MOST_NAMES:
        raise MotionFileError(f"{name} has {len(heading)} columns, which no motion file has; give a CSV file written by TriPortrait")
    if "time_s" not in heading:
        raise MotionFileError(f"{name} has no column time_s, so it is no motion file of TriPortrait; keep the heading row")
    if len(set(heading)) != len(heading):
        twice = next(cell for cell in heading if heading.count(cell) > 1)
        raise MotionFileError(f"{name}: the column {quoted(twice)} appears twice; keep one")
    most_rows = min(MAXIMUM_ROWS, _LARGEST_BYTES // (8 * len(heading)))
    numbers = array("d")
    for index, (number, line) in enumerate(lines):
        if index == most_rows:
            raise (
                _too_long(source)
                if most_rows == MAXIMUM_ROWS
                else MotionFileError(f"{name} has more than {most_rows:,} rows of {len(heading)} columns; split the motion")
            )
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
        while len(cells) > len(heading) and not cells[-1]:
            cells.pop()
        if len(cells) != len(heading):
            raise MotionFileError(f"{name}: line {number} has {len(cells)} cells, the heading {len(heading)}; mend the line")
        for column, cell in enumerate(cells):
            try:
                value = float(cell.replace(",", ".") if semicolons else cell)
            except ValueError:
                raise MotionFileError(
                    f"{name}: line {number}, column {printable(heading[column], 60)}: {quoted(cell)} is not a number; correct the cell"
                ) from None
            if not math.isfinite(value):
                raise MotionFileError(
                    f"{name}: line {number}, column {printable(heading[column], 60)}: {quoted(cell)} is not finite; correct the cell"
                )
            numbers.append(value)
    values = np.frombuffer(numbers).reshape(-1, len(heading))
    return _Table(notes, {cell: values[:, index] for index, cell in enumerate(heading)})


def _read_csv(source: Path) -> Motion:
    name = source.name
    table = _read_table(source)
    notes, columns = table.notes, table.columns
    times = columns["time_s"]
    head_model = notes.get("head_model") or "open"
    fps = _fps(notes.get("fps"), times, name)
    for missing in (cell for cell in _POSE_COLUMNS if cell not in columns):
        log.warning("%s has no column %s; taken as 0", name, missing)
    pose = np.stack([columns.get(cell, np.zeros(len(times))) for cell in _POSE_COLUMNS], axis=1)
    more = {field: _together(columns, cells, name) for field, cells in _MORE_COLUMNS.items()}
    others = ("time_s", *_POSE_COLUMNS, *BODY_COLUMNS, *WARP_COLUMNS, *(PREFIX + control for control in CONTROL_NAMES))
    curve_names = tuple(cell for cell in columns if cell not in others)
    curves = np.stack([columns[cell] for cell in curve_names], axis=1) if curve_names else np.zeros((len(times), 0))
    expression, curve_names = _complete(curves.astype(np.float32), curve_names, head_model, name)
    identity = None
    if notes.get("identity"):
        try:
            identity = np.array([float(value) for value in notes["identity"].split()], np.float32)
            if not np.isfinite(identity).all():
                raise ValueError("not finite")
        except ValueError:
            raise MotionFileError(f"{name}: the identity line holds something that is not a number; remove the line") from None
    with np.errstate(over="ignore"):
        pose[:, [0, 1, 2, 6, 7]] = np.radians(pose[:, [0, 1, 2, 6, 7]])
        pose = pose.astype(np.float32)
    motion = Motion(
        expression,
        pose[:, :3].copy(),
        pose[:, 3:6].copy(),
        pose[:, 6:].copy(),
        fps=fps,
        expression_names=curve_names,
        head_model=head_model,
        identity=identity,
        **more,
    )
    _check(motion, name)
    return motion


def _together(columns: dict[str, Array], cells: tuple[str, ...], file: str) -> Array | None:
    """Columns that a file has all of or none: float32 [t, n], or None.

    Raises:
        MotionFileError: it has some.
    """
    missing = [cell for cell in cells if cell not in columns]
    if len(missing) == len(cells):
        return None
    if missing:
        given = next(cell for cell in cells if cell in columns)
        raise MotionFileError(
            f"{file} has the column {given} but no {missing[0]}; add the columns {cells[0]} to {cells[-1]}, or remove them"
        )
    return np.stack([columns[cell] for cell in cells], axis=1).astype(np.float32)


def _fps(note: str | None, times: Array, file: str) -> float:
    """Frames per second by the comment, or by the times; the times must agree with it."""
    if note:
        try:
            fps = float(note.replace(",", "."))
        except ValueError:
            raise MotionFileError(f"{file}: fps is {quoted(note)}, which is not a number; correct the fps line") from None
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
