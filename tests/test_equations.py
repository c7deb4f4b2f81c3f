"""The tables in ``real3d``, ``talk3d`` and ``erlnet`` name what exists, and the line that computes an equation says its number."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

import triportrait.erlnet
import triportrait.real3d
import triportrait.talk3d

NAMED = re.compile(r"``((?:real3d|talk3d|erlnet|training|face|nn)\.[\w.]+)``")


def found(name: str) -> Any:
    """The module, class or function of a dotted name below the package."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(["triportrait", *parts[:count]]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            value = getattr(value, part)
        return value
    raise AssertionError(name)


@pytest.mark.parametrize("table", [triportrait.real3d, triportrait.talk3d, triportrait.erlnet], ids=["real3d", "talk3d", "erlnet"])
def test_every_name_in_the_table_exists(table: Any) -> None:
    names = NAMED.findall(table.__doc__)
    assert len(names) > 4
    for name in names:
        assert found(name) is not None


@pytest.mark.parametrize(
    ("numbers", "name"), re.findall(r"(?m)^eq\. ([\d, ]+?) {2,}.*``([\w.]+)``", triportrait.real3d.__doc__), ids=lambda text: text
)
def test_the_function_says_the_number_of_its_equation(numbers: str, name: str) -> None:
    source = inspect.getsource(found(name))
    for number in numbers.split(","):
        assert re.search(rf"[Ee]q\. (\d+ and |\d+, and eq\. )?{number.strip()}\b", source), f"{name} does not name eq. {number}"
