"""Two finished networks become one voice: :class:`triportrait.motion.audio_network.AudioToMotionEnsemble` as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triportrait.errors import OptionError
from triportrait.files import make_folder
from triportrait.motion.audio_network import AudioToMotion, AudioToMotionEnsemble, load_model, save_model
from triportrait.motion.speech_features import EnvelopeLogMel, LogMel

#: What the two listen to, in the order in which :class:`triportrait.motion.speech_features.PairedLogMel` gives it.
_FEATURES = (LogMel.name, EnvelopeLogMel.name)


def join_voices(paths: Sequence[Path], out: Path) -> None:
    """Write a network on log-mel bands and one on wide bands, in either order, as one file.

    Args:
        paths: files of two single networks.
        out: file to write; its folder is made.

    Raises:
        OptionError: there are not two, they listen to something else, or they move other curves.
        OutputError: the file cannot be written.
        WeightsError: one of them is missing, foreign or damaged.
    """
    if len(paths) != 2:
        raise OptionError(f"--join takes two networks, not {len(paths)}")
    members: dict[str, AudioToMotion] = {}
    for path in paths:
        network = load_model(path)
        if not isinstance(network, AudioToMotion):
            raise OptionError(f"'{path}' holds several networks already; join single ones")
        members[network.config.extractor] = network
    if set(members) != set(_FEATURES):
        raise OptionError("--join takes a network on log-mel bands (preset compact_log_mel) and one on wide bands (preset compact)")
    first, second = (members[name] for name in _FEATURES)
    if first.config.curves != second.config.curves:
        raise OptionError("the two networks move other curves and cannot be joined; train both with the same version of triportrait")
    make_folder(out.parent)
    save_model(AudioToMotionEnsemble([first, second]), out)
