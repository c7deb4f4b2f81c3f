"""What was trained as the ONNX file that videos are made with: a run's ``model.onnx`` beside its ``model.safetensors``."""

from __future__ import annotations

from pathlib import Path

from triportrait.errors import OptionError

#: Models that have such a file.
EXPORTED = ("oneshot", "mouth_painter", "voice", "coverings", "parts", "erlnet.manner")


def check_export(model: str) -> None:
    """Refuse what has no ONNX file.

    Raises:
        OptionError: the model's weights are used in torch.
    """
    if model not in EXPORTED:
        raise OptionError(f"--export is an option of {', '.join(EXPORTED)}; the weights of {model} are used as they are")


def export_trained(model: str, source: Path) -> Path:
    """Write the ONNX file of finished weights.

    Args:
        model: one of :data:`EXPORTED`.
        source: the weights, as training writes them.

    Returns:
        the file, ``source`` with the ending .onnx; of erlnet.manner, which has several, their folder.

    Raises:
        WeightsError: the weights are missing, damaged or another model's.
        MissingPart: ``onnx`` is not installed.
        OutputError: the file cannot be written.
    """
    target = source.with_suffix(".onnx")
    if model == "erlnet.manner":
        from triportrait.training.erlnet.export import export_manner

        return export_manner(source)
    if model == "oneshot":
        from triportrait.avatar.oneshot.image_to_plane import export_image_to_plane, load_image_to_plane

        export_image_to_plane(load_image_to_plane(source), target)
    elif model == "mouth_painter":
        from triportrait.avatar.mouth.painter_network import export_mouth_painter, load_mouth_painter

        export_mouth_painter(load_mouth_painter(source), target)
    elif model == "voice":
        from triportrait.motion.audio_network import export_model, load_model

        export_model(load_model(source), target)
    elif model == "parts":
        from triportrait.nn.parts_network import export_parts_network, load_parts_network

        export_parts_network(load_parts_network(source), target)
    else:
        from triportrait.face.cover_network import export_cover_network, load_cover_network

        export_cover_network(load_cover_network(source), target)
    return target
