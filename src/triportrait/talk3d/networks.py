"""Sizes of Talk3D's networks of one person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from triportrait.nn.settings import rebuilt
from triportrait.talk3d.delta_plane import PersonalDeltaPlane
from triportrait.talk3d.tokens import PersonalTokens


@dataclass(frozen=True)
class PersonalNetworks:
    """Talk3D's networks of one person: what drives, and how that person's planes change with it."""

    tokens: PersonalTokens.Config = field(default_factory=PersonalTokens.Config)
    delta_plane: PersonalDeltaPlane.Config = field(default_factory=PersonalDeltaPlane.Config.published)


def personal() -> PersonalNetworks:
    """The sizes of Talk3D's published checkpoints."""
    return PersonalNetworks()


def tiny(speech_features: int = 44) -> PersonalNetworks:
    """Some thousand parameters, for tests."""
    delta_plane = PersonalDeltaPlane.Config(
        plane_side=32, plane_channels=8, channels=(8, 8), up_channels=(8,), token=8, blocks=1, heads=2, hidden=8, norm_groups=2
    )
    return PersonalNetworks(PersonalTokens.Config(speech_features=speech_features, width=8), delta_plane)


def from_settings(settings: Mapping[str, Any]) -> PersonalNetworks:
    """The sizes that ``dataclasses.asdict`` wrote down, as they come back from a file of ours.

    Raises:
        WeightsError: they belong to another version of this program.
    """
    return rebuilt(personal(), settings)


def build(sizes: PersonalNetworks, parts: Collection[str] | None = None) -> dict[str, nn.Module]:
    """The networks with untrained weights, or those of them that ``parts`` names."""
    networks = {"tokens": lambda: PersonalTokens(sizes.tokens), "delta_plane": lambda: PersonalDeltaPlane(sizes.delta_plane)}
    return {name: make() for name, make in networks.items() if parts is None or name in parts}


def trained_form(sizes: PersonalNetworks) -> PersonalNetworks:
    """The same networks with the re-parametrisations that serve training and that an import multiplies out."""
    return replace(sizes, delta_plane=replace(sizes.delta_plane, trained_form=True))
