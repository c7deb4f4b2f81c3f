"""Captured facial controls of fluent speech as targets of the voice networks: ``shared/data/speech_capture``.

The rig that the controls belong to is not published; names tell what each control does. The curves of a voice network that never heard
these clips, regressed on the controls with non-negative weights, agree: the jaw follows ``mouth_stretch_c``, the pucker ``mouth_oh_c``,
``mouth_oo_c`` and ``mouth_pucker_?``, the lower lip ``mouth_lowerLipDepress_?``, smiles ``mouth_lipCornerPull_?``. Two weights come from
no fit: that regression finds no jaw in ``mouth_oh_c``, but the data's own account of the opening counts .4 of it, and so do we; the jaw's
scale is 1, with which the 95th percentile of the opening is .05 to .12 face heights, where tracked lips of real speakers have .08.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from triportrait.errors import EmptyMedia, MediaError
from triportrait.media.audio import read_audio
from triportrait.motion.audio import CONTACT_FROM, CONTACT_TO
from triportrait.motion.audio_network import MouthNetwork, as_graph
from triportrait.motion.lips import close_lips, lip_opening
from triportrait.motion.pauses import PauseFinder
from triportrait.motion.speech_features import RATE_HZ, ProsodyTracker
from triportrait.motion.voice_graph import MouthStream
from triportrait.training.voice.corpora import Tracked
from triportrait.training.voice.lip_tracks import LipTrack
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array

#: Frames per second of the controls.
CAPTURE_FPS = 30.0
#: Curve -> weights of the controls that add up to it. Controls with ``_?`` exist for both sides, those with ``_d?`` and ``_u?`` for lower
#: and upper lip, too.
CONTROL_MAP: dict[str, dict[str, float]] = {
    "jawOpen": {"mouth_stretch_c": 1.0, "mouth_oh_c": 0.4},
    "mouthFunnel": {"mouth_funnel_dl": 0.25, "mouth_funnel_dr": 0.25, "mouth_funnel_ul": 0.25, "mouth_funnel_ur": 0.25},
    "mouthPucker": {"mouth_pucker_l": 0.5, "mouth_pucker_r": 0.5, "mouth_oo_c": 0.5, "mouth_oh_c": 0.5},
    "mouthStretchLeft": {"mouth_lipStretch_l": 1.0},
    "mouthStretchRight": {"mouth_lipStretch_r": 1.0},
    "mouthSmileLeft": {"mouth_lipCornerPull_l": 1.0},
    "mouthSmileRight": {"mouth_lipCornerPull_r": 1.0},
    "mouthLowerDownLeft": {"mouth_lowerLipDepress_l": 1.0},
    "mouthLowerDownRight": {"mouth_lowerLipDepress_r": 1.0},
    "mouthUpperUpLeft": {"mouth_upperLipRaise_l": 1.0},
    "mouthUpperUpRight": {"mouth_upperLipRaise_r": 1.0},
}
#: Seconds of a piece that is learned from.
_PIECE_S = 10


def captured_curves(weights: Array, names: list[str]) -> Array:
    """Controls [t, n] in 0..1 at 30 frames per second as the open head's curves: float32 [k, 44] at 25 frames per second.

    Raises:
        MediaError: a control of :data:`CONTROL_MAP` is missing.
    """
    missing = {control for row in CONTROL_MAP.values() for control in row} - set(names)
    if missing:
        raise MediaError(f"the capture has no control {min(missing)!r}; it needs the names of FACEGOOD's list")
    at = np.arange(int((len(weights) - 1) / CAPTURE_FPS * FPS) + 1) / FPS * CAPTURE_FPS
    column = {name: np.interp(at, np.arange(len(weights)), weights[:, i].astype(np.float32)) for i, name in enumerate(names)}
    curves = np.zeros((len(at), len(ARKIT_EXPRESSIONS)), np.float32)
    for curve, row in CONTROL_MAP.items():
        curves[:, ARKIT_EXPRESSIONS.index(curve)] = sum(weight * column[control] for control, weight in row.items())
    return np.clip(curves, 0.0, 1.0)


def load_captured(folder: Path, model: MouthNetwork, held_out: str) -> list[tuple[str, Tracked]]:
    """Pieces of ten seconds of all clips of a folder, each with its split (``captured`` or ``capturedtest``).

    The rig closes lips by controls that our head has no like of, and its jaw hardly shows a /p b m/. So contacts are what ``model`` hears,
    and pauses in which the captured mouth is shut.

    Args:
        folder: with NAME.flac and NAME.npz (``weights`` [t, n] at 30 frames per second, ``names`` [n]).
        model: tells contacts.
        held_out: NAME of the clip that nothing is learned from.

    Raises:
        EmptyMedia: there is no clip.
        MediaError: a file is damaged, or ``held_out`` is not there.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise EmptyMedia(f"there is no capture in '{folder}'; it needs NAME.flac and NAME.npz")
    if held_out not in [path.stem for path in paths]:
        raise MediaError(f"there is no '{held_out}.npz' in '{folder}'; name a clip of the folder")
    pieces = []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as data:
                curves = captured_curves(data["weights"], [str(name) for name in data["names"]])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise MediaError(f"'{path}' is no capture; it needs the arrays weights and names") from None
        samples = read_audio(path.with_suffix(".flac"), RATE_HZ).samples
        split = "capturedtest" if path.stem == held_out else "captured"
        pieces += [(split, piece) for piece in _pieces(samples, curves, path.stem, model)]
    return pieces


def _pieces(samples: Array, curves: Array, name: str, model: MouthNetwork) -> list[Tracked]:
    heard, silent = _contacts(samples, model)
    count = min(len(curves), len(heard))
    curves, heard, silent = curves[:count], heard[:count], silent[:count]
    shut = lip_opening(curves, ARKIT_EXPRESSIONS) < 0.005
    contact = np.maximum(heard, silent * shut).astype(np.float32)
    curves = close_lips(curves, ARKIT_EXPRESSIONS, contact, jaw_share=0.0)
    opening = lip_opening(curves, ARKIT_EXPRESSIONS)
    size, per_row, pieces = _PIECE_S * int(FPS), RATE_HZ // int(FPS), []
    for start in range(0, count - size // 2, size):
        rows = slice(start, min(start + size, count))
        sound = (np.clip(samples[rows.start * per_row : rows.stop * per_row], -1, 1) * 32767).astype(np.int16)
        pieces.append(Tracked(sound, LipTrack(curves[rows], opening[rows], contact[rows]), f"{name}_{start // size:02d}"))
    return pieces


def _contacts(samples: Array, model: MouthNetwork) -> tuple[Array, Array]:
    """Contacts that the network is sure of, and pauses: each [t] in 0..1."""
    stream, tracker, pauses = MouthStream(as_graph(model)), ProsodyTracker(), PauseFinder()
    contact = np.concatenate([part[2] for part in (stream.push(samples), stream.finish())])
    for prosody in (tracker.push(samples), tracker.finish()):
        pauses.hear(prosody)
    pauses.end()
    silent = pauses.rows(min(len(contact), pauses.ready))
    contact = np.clip((contact[: len(silent)] - CONTACT_FROM) / (CONTACT_TO - CONTACT_FROM), 0.0, 1.0)
    return contact, silent
