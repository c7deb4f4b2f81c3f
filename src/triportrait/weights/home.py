"""Where imported weights live."""

from __future__ import annotations

import os
from pathlib import Path

from triportrait.errors import WeightsError


def weights_home() -> Path:
    """``$TRIPORTRAIT_HOME/weights``, else ``triportrait/weights`` in XDG's data folder. It need not exist."""
    if home := os.environ.get("TRIPORTRAIT_HOME"):
        return Path(home) / "weights"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "triportrait" / "weights"


def find_weights(name: str) -> Path:
    """The imported file of this name, for example ``real3d_torso``.

    Raises:
        WeightsError: it has not been imported; the text says what to do.
    """
    path = weights_home() / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(
            f"The weights '{name}' are not imported; see 'triportrait weights list' for where their authors publish them, "
            f"then run 'triportrait weights import FILE'."
        )
    return path
