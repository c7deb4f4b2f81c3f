"""Emotions on a speaking face: curves per emotion, and how they are laid over speech without parting closed lips.

Which muscles make which emotion: P. Ekman and W. Friesen, "Facial Action Coding System", 1978, and "EMFACS-7", 1983
(happy 6+12, sad 1+4+15, angry 4+5+7+23, surprised 1+2+5+26). What emotion does to the head of a speaker: C. Busso et
al., "Rigid head motion in expressive speech animation", 2007 (heads of happy and angry speakers move more and faster
than neutral ones). While somebody speaks, lips articulate first: the mouth's share of an emotion is smaller than
that of brows and eyes (S. Livingstone et al., "Common cues to emotion in the dynamic facial expressions of speech and
song", 2015: lip corners and brows carry it beyond the sounds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triportrait.motion.lips import gap_weights
from triportrait.motion.voice_controls import EMOTIONS
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: Curves at full strength; a name without side stands for both.
EMOTION_CURVES: dict[str, dict[str, float]] = {
    "happy": {
        "mouthSmile": 0.75, "mouthDimple": 0.15, "cheekSquint": 0.60, "eyeSquint": 0.28, "mouthUpperUp": 0.06, "browInnerUp": 0.08,
        "browOuterUp": 0.10,
    },
    "sad": {
        "browInnerUp": 0.90, "browDown": 0.25, "mouthFrown": 0.65, "mouthShrugLower": 0.18, "eyeSquint": 0.14, "eyeBlink": 0.12,
        "mouthPress": 0.10,
    },
    "angry": {
        "browDown": 1.0, "eyeSquint": 0.35, "eyeWide": 0.20, "noseSneer": 0.40, "mouthPress": 0.35, "mouthFrown": 0.35,
        "mouthRollLower": 0.08, "jawForward": 0.08, "mouthUpperUp": 0.05,
    },
    "surprised": {"browInnerUp": 0.80, "browOuterUp": 0.85, "eyeWide": 0.70, "jawOpen": 0.13, "mouthFunnel": 0.06},
}  # fmt: skip

#: Curves of speech that an emotion takes back, times its weight: a frown cannot stand beside a smile.
_OPPOSED: dict[str, dict[str, float]] = {
    "happy": {"mouthFrown": 0.9, "mouthPress": 0.5, "mouthPucker": 0.25},
    "sad": {"mouthSmile": 1.0, "mouthDimple": 1.0, "cheekSquint": 0.8, "browOuterUp": 0.5},
    "angry": {"mouthSmile": 1.0, "mouthDimple": 1.0, "cheekSquint": 0.4, "browInnerUp": 0.7, "browOuterUp": 0.7},
    "surprised": {"browDown": 0.9},
}

#: Gaps (face heights) up to which lips count as touching, and from which they are free.
_TOUCHING, _FREE = 0.004, 0.012


@dataclass(frozen=True, slots=True)
class EmotionManner:
    """What an emotion does to everything but the expression, at full strength.

    Args:
        head_motion, head_rate, mouth_gain, expressiveness, blink_rate: factors.
        pitch_rad: the head's mean pitch, positive down.
        gaze_pitch_rad: the eyes' mean pitch, positive up.
    """

    head_motion: float = 1.0
    head_rate: float = 1.0
    mouth_gain: float = 1.0
    expressiveness: float = 1.0
    blink_rate: float = 1.0
    pitch_rad: float = 0.0
    gaze_pitch_rad: float = 0.0


MANNERS: dict[str, EmotionManner] = {
    "happy": EmotionManner(1.20, 1.10, 1.05, 1.15, 1.05, -0.02, 0.0),
    "sad": EmotionManner(0.65, 0.70, 0.82, 0.60, 0.85, 0.08, -0.05),
    "angry": EmotionManner(1.25, 1.25, 1.12, 0.70, 0.75, 0.045, 0.035),
    "surprised": EmotionManner(1.00, 1.05, 1.05, 1.00, 0.70, -0.035, 0.0),
}


def _matrix(table: dict[str, dict[str, float]], names: Sequence[str]) -> Array:
    """[4, e] in the order of :data:`EMOTIONS`."""
    matrix = np.zeros((len(EMOTIONS), len(names)), np.float32)
    for row, emotion in enumerate(EMOTIONS):
        for curve, value in table[emotion].items():
            for name in (curve, f"{curve}Left", f"{curve}Right"):
                if name in names:
                    matrix[row, names.index(name)] = value
    return matrix


_ADDED, _TAKEN = _matrix(EMOTION_CURVES, ARKIT_EXPRESSIONS), _matrix(_OPPOSED, ARKIT_EXPRESSIONS)


def with_emotion(expression: Array, weights: Array) -> Array:
    """Lay emotions over expression rows; lips that touch go on touching at every strength.

    Args:
        expression: [t, 44] ARKit curves of a speaking or silent face.
        weights: [t, 4] or [4], 0..1 for each of :data:`EMOTIONS`; they may be mixed.

    Returns:
        [t, 44] float32 in 0..1.
    """
    weights = np.broadcast_to(np.asarray(weights, np.float32), (len(expression), len(EMOTIONS)))
    if not weights.any():
        return expression
    # Together, emotions are no stronger than one.
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    added = weights @ _ADDED
    kept = expression * (1.0 - np.minimum(weights @ _TAKEN, 1.0))
    # A curve is a share of a muscle's way: what is used up is not there twice.
    result = np.clip(kept + added * (1.0 - 0.6 * kept), 0.0, 1.0)
    # ``mouthClose`` alone takes back what an emotion parts: other curves would twitch with every /p/.
    gaps = gap_weights(ARKIT_EXPRESSIONS)
    close = ARKIT_EXPRESSIONS.index("mouthClose")
    before = np.maximum(expression @ gaps, 0.0)
    touching = np.clip((_FREE - before) / (_FREE - _TOUCHING), 0.0, 1.0)
    parted = np.maximum(np.maximum(result @ gaps, 0.0) - before, 0.0)
    result[:, close] = np.clip(result[:, close] + touching * parted / -gaps[close], 0.0, 1.0)
    return result.astype(np.float32)


def yielding(expression: Array, weights: Array) -> Array:
    """What a face's own resting expression [44] leaves standing under emotions [t, 4]: [t, 44]. A smile goes when somebody is sad."""
    return (expression * (1.0 - np.minimum(np.asarray(weights, np.float32) @ _TAKEN, 1.0))).astype(np.float32)
