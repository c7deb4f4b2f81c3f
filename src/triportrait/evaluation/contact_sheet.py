"""Labelled sheets of pictures, for the eye: results of evaluations, documentation, visual checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triportrait.files import make_folder
from triportrait.types import Array

BACKGROUND = (24, 24, 26)
INK = (235, 235, 235)
EMPTY_CELL = (44, 44, 48)


def contact_sheet(
    rows: Sequence[Sequence[Array | None]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    cell_px: int = 256,
    gap_px: int = 4,
    font_px: int = 16,
) -> Array:
    """A table of pictures with labels left of the rows and above the columns.

    Args:
        rows: pictures row by row: RGB uint8 or float in 0..1, [h, w, 3], [h, w, 4] (drawn over grey) or [h, w]; None
            leaves a cell empty, and rows may differ in length. Each is scaled into its cell, keeping its shape.
        row_labels: one text per row, or none.
        column_labels: one text per column, or none.
        title: a line above everything.
        cell_px: side of a cell.
        gap_px: space between cells.
        font_px: height of the letters.

    Returns:
        The sheet, uint8 [h, w, 3].

    Raises:
        ValueError: there are no cells, or the labels do not fit the table.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise ValueError("a contact sheet needs at least one picture")
    for labels, count, name in ((row_labels, len(rows), "row"), (column_labels, columns, "column")):
        if labels and len(labels) != count:
            raise ValueError(f"{len(labels)} {name} labels for {count} {name}s")
    font = ImageFont.load_default(size=font_px)
    line = font_px + 8
    left = gap_px + (max(int(font.getlength(text)) for text in row_labels) + 12 if row_labels else 0)
    top = gap_px + (line if title else 0) + (line if column_labels else 0)
    pitch = cell_px + gap_px
    size = (left + columns * pitch, top + len(rows) * pitch)
    if title:
        size = (max(size[0], int(font.getlength(title)) + 2 * gap_px), size[1])
    sheet = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((gap_px, gap_px), title, INK, font)
    for column, text in enumerate(column_labels):
        pen.text((left + column * pitch, top - line + 2), text, INK, font)
    for row, text in enumerate(row_labels):
        pen.text((gap_px, top + row * pitch + cell_px // 2), text, INK, font, anchor="lm")
    for row, pictures in enumerate(rows):
        for column in range(columns):
            x, y = left + column * pitch, top + row * pitch
            picture = pictures[column] if column < len(pictures) else None
            if picture is None:
                pen.rectangle((x, y, x + cell_px - 1, y + cell_px - 1), EMPTY_CELL)
                continue
            cell = Image.fromarray(_rgb(picture))
            scale = cell_px / max(cell.size)
            fitted = (max(1, round(cell.width * scale)), max(1, round(cell.height * scale)))
            if fitted != cell.size:
                cell = cell.resize(fitted, Image.Resampling.LANCZOS)
            sheet.paste(cell, (x + (cell_px - cell.width) // 2, y + (cell_px - cell.height) // 2))
    return np.asarray(sheet)


def grid(pictures: Sequence[Array | None], columns: int, labels: Sequence[str] = (), *, title: str = "", cell_px: int = 256) -> Array:
    """Pictures in reading order, ``columns`` to a row, each with its label drawn into its upper left corner."""
    if labels and len(labels) != len(pictures):
        raise ValueError(f"{len(labels)} labels for {len(pictures)} pictures")
    cells = list(pictures)
    if labels:
        cells = [None if picture is None else label_picture(picture, text) for picture, text in zip(pictures, labels, strict=True)]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    return contact_sheet(rows, title=title, cell_px=cell_px)


def label_picture(picture: Array, text: str) -> Array:
    """A copy of ``picture`` as uint8 [h, w, 3] with ``text`` in its upper left corner, on a dark strip."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(_rgb(picture))
    font_px = max(10, image.height // 16)
    font = ImageFont.load_default(size=font_px)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, int(font.getlength(text)) + 8, font_px + 6), BACKGROUND)
    pen.text((4, 1), text, INK, font)
    return np.asarray(image)


def write_sheet(path: Path, sheet: Array) -> None:
    """Write uint8 [h, w, 3] as PNG, whole or not at all; makes missing folders.

    Raises:
        OutputError: the file cannot be written.
    """
    from triportrait.media.images import write_png

    make_folder(path.parent)
    write_png(path, sheet)


def _rgb(picture: Array) -> Array:
    """Any picture a sheet takes -> uint8 [h, w, 3]."""
    values = np.asarray(picture)
    if values.dtype != np.uint8:
        values = np.round(np.clip(np.nan_to_num(values.astype(np.float32)), 0.0, 1.0) * 255.0).astype(np.uint8)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=-1)
    if values.ndim != 3 or values.shape[2] not in (3, 4):
        raise ValueError(f"a picture has shape {np.shape(picture)}, expected (h, w), (h, w, 3) or (h, w, 4)")
    if values.shape[2] == 4:
        alpha = values[..., 3:].astype(np.float32) / 255.0
        values = np.round(values[..., :3] * alpha + 128.0 * (1.0 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(values)
