"""Plots of a report's means as PNG files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.evaluation.metrics import ROTATION_RANGES_DEG
from triportrait.evaluation.report import BETTER_ARROWS, BY_KEY, BY_ROTATION
from triportrait.files import make_folder

COLOURS = ("#8c8c8c", "#4c78a8", "#72b7b2", "#f2a541", "#d1495b", "#7a5195", "#5b8c5a", "#a0522d")


def write_bars(out: Path, mean: Mapping[str, Any], columns: Sequence[str], real: Mapping[str, float | None] | None = None) -> Path | None:
    """One panel of bars per metric that any row has, into ``<out>_bars.png``; the real video's value as a dashed line.

    Returns:
        The file, or None when there is nothing to show.

    Raises:
        OutputError: it cannot be written.
    """
    real = real or {}
    shown = [key for key in columns if any(entry["metrics"].get(key) is not None for entry in mean.values())]
    if not shown:
        return None
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    names = list(mean)
    with _figure(across, down, (3.2, 2.4)) as (figure, axes):
        for axis, key in zip(axes, shown, strict=False):
            metric = BY_KEY[key]
            values = [entry["metrics"].get(key) for entry in mean.values()]
            heights = [np.nan if value is None else value for value in values]
            bars = axis.bar(names, heights, color=[COLOURS[i % len(COLOURS)] for i in range(len(names))])
            axis.bar_label(bars, [("–" if value is None else f"{value:.{metric.decimals}f}") for value in values], fontsize=6)
            finite = [value for value in (*values, real.get(key)) if value is not None]
            if 0.9 * max(finite) > min(finite) > 0.4 * max(finite):
                # Values far from zero that differ by more than a tenth: the axis starts where that shows, and says so.
                axis.set_ylim(bottom=min(finite) - 0.5 * (max(finite) - min(finite)) - 1e-9)
                axis.set_ylabel("axis does not start at 0", fontsize=6)
            if real.get(key) is not None:
                axis.axhline(real[key], color="#222222", linewidth=1, linestyle="--")
            axis.set_title(metric.label + BETTER_ARROWS[metric.better], fontsize=9)
            axis.tick_params(axis="x", labelrotation=35, labelsize=7)
            axis.tick_params(axis="y", labelsize=7)
            axis.margins(y=0.15)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        return _save(figure, out.with_name(f"{out.stem}_bars.png"))


def write_rotation(out: Path, mean: Mapping[str, Any]) -> Path | None:
    """The head's PSNR against the rotation from the source, a line per avatar, into ``<out>_rotation.png``.

    Returns:
        The file, or None when there is nothing to show.

    Raises:
        OutputError: it cannot be written.
    """
    middles = [0.5 * (low + high) for low, high in ROTATION_RANGES_DEG]
    lines = {name: [entry["metrics"].get(key) for key in BY_ROTATION] for name, entry in mean.items()}
    if all(value is None for line in lines.values() for value in line):
        return None
    counts = next(iter(mean.values()))["frames_by_rotation"]
    with _figure(1, 1, (6.4, 4.2)) as (figure, axes):
        for i, (name, line) in enumerate(lines.items()):
            heights = [np.nan if value is None else value for value in line]
            axes[0].plot(middles, heights, marker="o", label=name, color=COLOURS[i % len(COLOURS)])
        labels = [f"{low}–{high}°\n{counts[f'{low}_{high}']} frames" for low, high in ROTATION_RANGES_DEG]
        axes[0].set_xticks(middles, labels, fontsize=8)
        axes[0].set_xlabel("rotation of the head from the source")
        axes[0].set_ylabel("PSNR over the head, dB")
        axes[0].grid(alpha=0.3)
        axes[0].legend(fontsize=8)
        return _save(figure, out.with_name(f"{out.stem}_rotation.png"))


class _figure:  # noqa: N801 - used like a function
    """A figure with a flat list of axes, without any display."""

    def __init__(self, across: int, down: int, panel_inches: tuple[float, float]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(across * panel_inches[0], down * panel_inches[1]), dpi=110, layout="constrained")
        FigureCanvasAgg(self._figure)
        self._axes = [self._figure.add_subplot(down, across, i + 1) for i in range(across * down)]

    def __enter__(self) -> tuple[Any, list[Any]]:
        return self._figure, self._axes

    def __exit__(self, *_: object) -> None:
        self._figure.clear()


def _save(figure: Any, path: Path) -> Path:
    from triportrait.media.images import write_png

    figure.canvas.draw()
    make_folder(path.parent)
    write_png(path, np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
    return path
