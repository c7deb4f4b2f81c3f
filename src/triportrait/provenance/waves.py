"""The key of the invisible mark: which waves bear it, and the code words that spell a payload.

The mark is defined on a normalised grid: each coefficient is a wave of u periods per frame width and v per frame
height, so a video that was resized, even to another aspect ratio, carries the same waves. Of about six thousand waves
with 16 <= |(u, v)| <= 64, half spell the project's fixed mark. The other half carry the payload.

The payload's 32 bits are two words of 16, x and y. A third word is x XOR y, so that any two of the three tell all bits.
Each word is spread over a third of the payload's waves by a random linear code: the wave with row r is flipped when
word & r has an odd number of ones. All 65,536 words are tried at once with a Walsh-Hadamard transform.

The former mark has the same fixed part and one word of 16 bits, always 0x3D50 in videos; it is still read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from triportrait.types import Array

PAYLOAD_BITS = 32
WORD_BITS = 16
WORD_COUNT = 3
LOWEST_PERIODS = 16
HIGHEST_PERIODS = 64

_RING_PERIODS = 4


@dataclass(frozen=True, slots=True)
class Waves:
    """The n waves of the mark.

    Args:
        across, down: periods per width and height.
        ring: number of the ring of similar frequency.
        phase_rad: the key.
        is_mark: whether the wave spells the fixed mark; the others bear payload.
        word: which of the three words a payload wave bears, 0..2.
        row: its row in that word's code, 1..65535.
        former_row: its row in the code of the former mark.
    """

    across: Array
    down: Array
    ring: Array
    phase_rad: Array
    is_mark: Array
    word: Array
    row: Array
    former_row: Array

    def key_rad(self, width: int, height: int) -> Array:
        """Phase of each wave in a frame of this size; counted half a pixel in, from the first pixel's centre, so that sizes agree."""
        return self.phase_rad + np.pi * (self.across / width + self.down / height)


@lru_cache(maxsize=1)
def waves() -> Waves:
    """The key, made once."""
    reach = np.arange(-HIGHEST_PERIODS, HIGHEST_PERIODS + 1)
    down, across = np.meshgrid(reach, reach, indexing="ij")
    radius = np.hypot(across, down)
    # One half plane: the other half of a real picture's spectrum is its conjugate. The axes (u or v of 0) are left
    # out because horizontal and vertical edges and borders live there.
    used = (radius >= LOWEST_PERIODS) & (radius <= HIGHEST_PERIODS) & (across > 0) & (down != 0)
    across, down, radius = across[used], down[used], radius[used]
    count = len(across)
    is_mark = np.zeros(count, dtype=bool)
    is_mark[np.argsort(key_stream("1 mark", count), kind="stable")[: count // 2]] = True
    return Waves(
        across=across,
        down=down,
        ring=(radius // _RING_PERIODS).astype(np.int64),
        phase_rad=key_stream("1 phases", count) * (2 * np.pi / 2**32),
        is_mark=is_mark,
        word=(key_stream("2 words", count) % WORD_COUNT).astype(np.int64),
        row=_rows("2 rows", count),
        former_row=_rows("1 rows", count),
    )


def key_stream(name: str, count: int) -> Array:
    """``count`` numbers below 2^32 from SHAKE-128: the same in every version of every library, as a key must be."""
    return np.frombuffer(hashlib.shake_128(f"TriPortrait watermark {name}".encode()).digest(4 * count), dtype="<u4")


def _rows(name: str, count: int) -> Array:
    return 1 + (key_stream(name, count) % (2**WORD_BITS - 1)).astype(np.int64)


def signs(payload: int) -> Array:
    """The code word of a payload: +1 or -1 for each wave, int64 [n]."""
    key = waves()
    first, second = payload >> WORD_BITS, payload & (2**WORD_BITS - 1)
    common = key.row & np.array([first, second, first ^ second])[key.word]
    parity = np.zeros_like(common)
    for place in range(WORD_BITS):
        parity ^= common >> place & 1
    return np.where(key.is_mark, 1, 1 - 2 * parity)


def walsh_hadamard(values: Array) -> Array:
    """``out[p] = sum over r of values[r] * (-1)^popcount(p & r)``, for a power of two of values."""
    count = len(values)
    half = 1
    while half < count:
        pairs = values.reshape(-1, 2, half)
        values = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(count)
        half *= 2
    return values


def pattern(width: int, height: int, sign: Array) -> Array:
    """The waves with these signs (0 leaves a wave out), at unit root mean square: float32 [height, width]."""
    key = waves()
    spectrum = np.zeros((height, width // 2 + 1), dtype=np.complex128)
    spectrum[key.down % height, key.across] = sign * np.exp(1j * key.key_rad(width, height))
    picture = np.fft.irfft2(spectrum, (height, width))
    return (picture / picture.std()).astype(np.float32)
