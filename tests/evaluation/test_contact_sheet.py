"""Contact sheets: every picture lies in its cell, labels do not hide pictures."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.evaluation.contact_sheet import BACKGROUND, EMPTY_CELL, contact_sheet, grid, label_picture, write_sheet


def flat(value: int, shape: tuple[int, ...] = (40, 40, 3)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


def test_cells_hold_their_pictures():
    sheet = contact_sheet([[flat(10), None], [flat(200), flat(90), flat(50)]], cell_px=32, gap_px=4)
    assert sheet.shape == (4 + 2 * 36, 4 + 3 * 36, 3)
    assert (sheet[4:36, 4:36] == 10).all() and (sheet[4:36, 40:72] == EMPTY_CELL).all()
    assert (sheet[40:72, 76:108] == 50).all() and (sheet[:4] == BACKGROUND).all()


def test_labels_take_their_own_room():
    plain = contact_sheet([[flat(77)] * 2], cell_px=64)
    labelled = contact_sheet([[flat(77)] * 2], row_labels=["real"], column_labels=["a", "b"], title="t", cell_px=64)
    assert (labelled == 77).all(-1).sum() == (plain == 77).all(-1).sum()
    assert labelled.max() > 200, "the letters are drawn"


def test_any_kind_of_picture():
    see_through = np.zeros((20, 40, 4), np.float32)
    see_through[:, :20] = 1.0
    sheet = contact_sheet([[np.full((8, 8), 0.5), see_through, np.full((8, 8, 3), np.nan)]], cell_px=40, gap_px=0)
    assert (sheet[:40, :40] == 128).all()
    assert (sheet[15:25, 42:58] == 255).all() and (sheet[15:25, 62:78] == 128).all()
    assert (sheet[2, 60] == BACKGROUND).all(), "a flat picture keeps its shape"
    assert (sheet[:40, 80:] == 0).all()


def test_grid_and_label():
    sheet = grid([flat(10), None, flat(30)], 2, ["one", "two", "three"], cell_px=40)
    assert sheet.shape == (4 + 2 * 44, 4 + 2 * 44, 3)
    picture = flat(10, (100, 100, 3))
    assert (label_picture(picture, "one")[50:] == 10).all() and (picture == 10).all()


def test_wrong_tables_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="2 row labels for 1 rows"):
        contact_sheet([[flat(1)]], row_labels=["a", "b"])
    with pytest.raises(ValueError, match="shape"):
        contact_sheet([[np.zeros((4, 4, 2), np.uint8)]])


def test_written_sheet_reads_back(tmp_path):
    from PIL import Image

    sheet = contact_sheet([[flat(10)]])
    write_sheet(tmp_path / "new" / "sheet.png", sheet)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "sheet.png")), sheet)
