"""One figure for all tests of exports: it takes seconds."""

from __future__ import annotations

import pytest

from triportrait.export.figure import Figure, build_figure
from triportrait.face.open_head import OpenHead
from triportrait.types import PreparedPortrait


@pytest.fixture(scope="session")
def astronaut_figure(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> Figure:
    return build_figure(astronaut_portrait, open_head)
