"""What the waves of a picture say about the mark.

The detector weighs phases. Whatever the picture, the phases of the key are independent of it, so the mark's score is a
standard normal number on an unmarked picture, and its tail lies below exp(-score^2 / 2) (Hoeffding's bound for cosines
of random phases). The false-positive rate follows from the threshold and the number of looks; it is no estimate from
examples.
"""

from __future__ import annotations

import numpy as np

from triportrait.provenance.waves import WORD_BITS, WORD_COUNT, signs, walsh_hadamard, waves
from triportrait.types import Array, expect

#: Side of the picture that is voted on, and of the finer one that parts of pictures are taken from.
CANONICAL_PX = 256
DETAIL_PX = 512
#: Radius of the local normalisation as a share of the side; grey levels that are added to the contrast.
_LOCAL_SIGMA = 2.8 / DETAIL_PX
_LEAST_CONTRAST = 0.1
#: Candidates for each of a payload's words; all pairs of them are tried.
_CANDIDATES = 512


def detail(frame: Array) -> Array:
    """A frame's fine structure on a square grid, float32 [512, 512], of about unit size everywhere.

    Dividing by the local contrast undoes the embedder's masking and keeps strong edges from drowning the rest. A small
    frame is looked at on the coarser grid, because enlarging it would smear what little it holds.
    """
    import cv2

    expect(frame, "h w 3", "frame")
    grey: Array = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = CANONICAL_PX if min(grey.shape) < (CANONICAL_PX + DETAIL_PX) // 2 else DETAIL_PX
    grey = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if min(grey.shape) >= side else cv2.INTER_CUBIC)
    sigma_px = _LOCAL_SIGMA * side
    fine = grey - cv2.GaussianBlur(grey, (0, 0), sigma_px)
    contrast = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), sigma_px))
    return cv2.resize(fine / (contrast + _LEAST_CONTRAST), (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_NEAREST)


def canonical(fine: Array) -> Array:
    """The picture that is voted on, float32 [256, 256], of a finer one."""
    import cv2

    return cv2.resize(fine, (CANONICAL_PX, CANONICAL_PX), interpolation=cv2.INTER_AREA)


def votes(picture: Array) -> tuple[Array, Array]:
    """Each wave's vote in a canonical picture, complex [n], whose real part agrees with the key, and its weight [n] in 0..1.

    A wave votes with its phase, weighted by its magnitude relative to its frequency ring, at most 1.
    """
    key, side = waves(), CANONICAL_PX
    coefficients = np.fft.rfft2(picture)[key.down % side, key.across] * np.exp(-1j * key.key_rad(side, side))
    magnitude = np.abs(coefficients)
    count = np.maximum(np.bincount(key.ring), 1)
    ring_rms = np.sqrt(np.bincount(key.ring, magnitude**2) / count)[key.ring]
    scale = np.maximum(np.maximum(magnitude, ring_rms), 1e-12)
    return coefficients / scale, magnitude / scale


def mark_score(picture: Array) -> float:
    """Agreement of a canonical picture with the project's mark in standard deviations."""
    vote, weight = votes(picture)
    is_mark = waves().is_mark
    return _in_deviations(vote[is_mark].real.sum(), weight[is_mark])


def payload_agreement(picture: Array, payload: int) -> float:
    """Agreement of a canonical picture with one payload in standard deviations."""
    vote, weight = votes(picture)
    bears = ~waves().is_mark
    return _in_deviations((vote.real * signs(payload))[bears].sum(), weight[bears])


def read_payload(picture: Array) -> tuple[int, float]:
    """The most likely payload of a canonical picture and its agreement in standard deviations.

    The most likely candidates of each two words give the third, and the sum of all three decides.
    """
    key = waves()
    vote, weight = votes(picture)
    bears = ~key.is_mark
    tables = np.stack(
        [
            walsh_hadamard(np.bincount(key.row[chosen], vote[chosen].real, 2**WORD_BITS))
            for chosen in (bears & (key.word == word) for word in range(WORD_COUNT))
        ]
    )
    best = np.argpartition(tables, -_CANDIDATES, axis=1)[:, -_CANDIDATES:]
    winners = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        words = {one: best[one][:, None], other: best[other][None, :]}
        missing = WORD_COUNT - one - other
        words[missing] = words[one] ^ words[other]
        total = tables[0][words[0]] + tables[1][words[1]] + tables[2][words[2]]
        place = np.unravel_index(np.argmax(total), total.shape)
        first, second = (int(np.broadcast_to(words[word], total.shape)[place]) for word in (0, 1))
        winners.append((float(total[place]), first << WORD_BITS | second))
    total_vote, payload = max(winners)
    return payload, _in_deviations(total_vote, weight[bears])


def read_former_payload(picture: Array) -> tuple[int, float]:
    """The most likely word of the former mark (16 bits) in a canonical picture and its agreement in standard deviations."""
    key = waves()
    vote, weight = votes(picture)
    bears = ~key.is_mark
    words = walsh_hadamard(np.bincount(key.former_row[bears], vote[bears].real, 2**WORD_BITS))
    payload = int(np.argmax(words))
    return payload, _in_deviations(words[payload], weight[bears])


def _in_deviations(total: float, weight: Array) -> float:
    """Given the magnitudes, an unmarked wave's vote has variance weight^2 / 2, which scales the sum to a standard normal."""
    return float(total / max(np.sqrt(np.sum(weight**2) / 2), 1e-12))
