"""Networks of all families by name: their sizes, and how many parameters they have."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from triportrait.avatar.oneshot.image_to_plane import CompactConfig, CompactImageToPlane
from triportrait.real3d import networks as real3d
from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.networks import TABLE_6, PaperNetworks, paper, tiny
from triportrait.real3d.variants import VARIANTS
from triportrait.talk3d import networks as talk3d
from triportrait.talk3d.networks import PersonalNetworks, personal


@dataclass(frozen=True)
class CompactNetworks:
    """The network that this project trains for laptops: one picture to planes near the surface of the fitted head."""

    image_to_plane: CompactConfig = field(default_factory=CompactConfig)


Networks = PaperNetworks | CompactNetworks | PersonalNetworks


def compact() -> CompactNetworks:
    """What runs on a laptop's CPU."""
    return CompactNetworks()


PRESETS: dict[str, Callable[[], Networks]] = {"paper": paper, "compact": compact, "personal": personal, "tiny": tiny}


def build(preset: Networks, parts: Collection[str] | None = None) -> dict[str, nn.Module]:
    """The networks of a preset with untrained weights, named as the parts of a weight file are.

    Args:
        preset: their sizes.
        parts: names of those that are wanted; None builds all.
    """
    if isinstance(preset, CompactNetworks):
        return {"image_to_plane": CompactImageToPlane(preset.image_to_plane)}
    if isinstance(preset, PersonalNetworks):
        return talk3d.build(preset, parts)
    return real3d.build(preset, parts)


def trained_form(preset: Networks) -> Networks:
    """The same networks with the re-parametrisations that serve training and that an import multiplies out."""
    if isinstance(preset, CompactNetworks):
        return preset
    if isinstance(preset, PersonalNetworks):
        return talk3d.trained_form(preset)
    return real3d.trained_form(preset)


def parameter_counts(preset: Networks, parts: Collection[str] | None = None) -> dict[str, int]:
    """Trained numbers of each network, or of those named, in the form in which the paper counts them."""
    with torch.device("meta"):
        networks = build(trained_form(preset), parts)
    return {name: sum(parameter.numel() for parameter in network.parameters()) for name, network in networks.items()}


def describe(name: str) -> str:
    """Parameter counts of a preset as a table; ``paper`` beside the paper's own figures."""
    counts, with_figures = parameter_counts(PRESETS[name]()), name == "paper"
    rows = [("network", "parameters", "in millions", "Table 6")]
    for part, count in counts.items():
        title, figure = TABLE_6.get(part, ("", ""))
        rows.append((f"{part} ({title})" if with_figures else part, f"{count:,}", f"{count / 1e6:.3f}", figure))
        if with_figures and part == "htb_super_resolution":
            older = parameter_counts(replace(paper(), super_resolution=HtbSuperResolution.Config.paper()), [part])[part]
            rows.append(("  in its older form", f"{older:,}", f"{older / 1e6:.3f}", figure))
    rows.append(("together", f"{sum(counts.values()):,}", f"{sum(counts.values()) / 1e6:.3f}", ""))
    columns = list(zip(*rows, strict=True))[: 4 if with_figures else 3]
    widths = [max(map(len, column)) for column in columns]
    cells = [[cell.rjust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    cells[0] = [cell.ljust(widths[0]) for cell in columns[0]]
    return "\n".join("  ".join(line).rstrip() for line in zip(*cells, strict=True))


#: Part of a weight file -> field of :class:`PaperNetworks` that has its sizes, of those that a variant may change.
_SIZED = {
    "image_to_plane": "image_to_plane",
    "motion_adapter": "motion_adapter",
    "htb_super_resolution": "super_resolution",
    "audio_to_motion": "audio_to_motion",
}


def describe_variants() -> str:
    """Every variant that ``train --variant`` takes: its row of Table 4, the stages to train anew, and networks of another size."""
    base, lines = paper(), []
    published = parameter_counts(base)
    for name, variant in VARIANTS.items():
        sizes = variant.networks(base)
        counts = parameter_counts(sizes, [part for part, size in _SIZED.items() if getattr(sizes, size) != getattr(base, size)])
        text = ", ".join(f"{part} {count:,} (published {published[part]:,})" for part, count in counts.items())
        lines.append(f"{name} ({variant.row}): {variant.what}")
        lines.append(f"    stages: {', '.join(variant.stages)}; networks: {text or 'the same'}")
    return "\n".join(lines)
