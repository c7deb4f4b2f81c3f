"""A trained manner as the three ONNX files that run without torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast

from triportrait.erlnet.model import FILES, STYLE, kind_of
from triportrait.erlnet.parts import PARTS, ROW
from triportrait.nn.export import export_graph
from triportrait.training.erlnet.manner import load_manner
from triportrait.training.erlnet.networks import CodePredictor, MotionCodes, SpeakingStep, StyleEncoder, StyleOfClip

#: Rows of a window of a style's clip.
STYLE_ROWS = 72


def export_manner(source: Path) -> Path:
    """Write ``expression.onnx``, ``pose.onnx`` and ``style.onnx`` beside a run's ``model.safetensors``.

    Returns:
        their folder.

    Raises:
        WeightsError: the weights are missing, foreign or damaged.
        MissingPart: ``onnx`` is not installed.
        OutputError: a file cannot be written.
    """
    networks, sizes = load_manner(source)
    folder = source.parent
    for part in PARTS:
        codes, predictor = cast(MotionCodes, networks[f"{part.name}_codes"]), cast(CodePredictor, networks[f"{part.name}_predictor"])
        code = sizes.of(part)
        tokens = sizes.context + code.ahead
        export_graph(
            folder / FILES[part.name],
            SpeakingStep(codes, predictor, sizes.context),
            {
                "before": (sizes.context, code.groups),
                "heard": (tokens * code.frames, sizes.heard),
                "there": (tokens,),
                "style": (sizes.style,),
                "noise": (code.groups, code.codes),
            },
            ["code", "rows"],
            kind=kind_of(part.name),
            config={
                **asdict(code),
                "context": sizes.context,
                "late": codes.late,
                "size": part.size,
                "style": sizes.style,
                "heard": sizes.heard,
            },
            integers=["before"],
        )
    style = cast(StyleEncoder, networks["style"])
    config = {"style": sizes.style, "rows": STYLE_ROWS}
    export_graph(folder / FILES[STYLE], StyleOfClip(style), {"motion": (STYLE_ROWS, ROW)}, ["style"], kind=kind_of(STYLE), config=config)
    return folder
