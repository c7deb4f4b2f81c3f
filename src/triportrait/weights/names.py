"""From the names inside a checkpoint file to the published key names of one network."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Networks a training checkpoint may hold side by side; the first that is present is taken unless another is asked for.
NETWORKS = ("model", "G_ema", "G")

#: What a pickle of one network alone is called here, and the key of a file that holds one array alone.
BARE, SINGLE = "bare", "array"

_COMPILED = re.compile(r"(^|\.)_orig_mod\.")


class NameClash(Exception):
    """Two names become one; the text is that name."""


def split_networks(names: Iterable[str], prefixes: bool = True) -> dict[str, dict[str, str]]:
    """Group flat names ``network.key`` by network: {network: {key: name in the file}}.

    ``_orig_mod.`` (left by ``torch.compile``) is taken out anywhere. Without any ``model.`` the file holds one network
    whose keys are the names themselves; it is called ``model``. So it is when ``prefixes`` is False: a part of a
    nested checkpoint, whose names carry no network any more.

    Raises:
        NameClash: two names become the same key.
    """
    plain = {name: _COMPILED.sub(r"\1", name) for name in names}
    prefixed = prefixes and any(name.startswith("model.") for name in plain.values())
    networks: dict[str, dict[str, str]] = {}
    for name, clean in plain.items():
        network, _, key = clean.partition(".") if prefixed and "." in clean else ("model", "", clean)
        keys = networks.setdefault(network, {})
        if key in keys:
            raise NameClash(key)
        keys[key] = name
    return networks
