"""Sizes of networks from what a weight file says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar

from triportrait.errors import WeightsError

Sizes = TypeVar("Sizes")


def rebuilt(default: Sizes, values: Mapping[str, Any], former: Collection[str] = ()) -> Sizes:
    """``default``, a dataclass of dataclasses, with the values that ``dataclasses.asdict`` wrote down and JSON gave back.

    Names of ``former`` are left out: older files have them, and nothing reads them any more.

    Raises:
        WeightsError: they belong to another version of this program.
    """

    def changed(old: Any, new: Mapping[str, Any]) -> Any:
        changes = {}
        for name, value in new.items():
            if name in former:
                continue
            own = getattr(old, name)
            changes[name] = changed(own, value) if is_dataclass(own) else tuple(value) if isinstance(value, list) else value
        return replace(old, **changes)

    try:
        result: Sizes = changed(default, values)
    except (AttributeError, TypeError) as error:
        raise WeightsError(f"the weights were trained with another version of triportrait ({error}); save them again with that") from None
    return result
