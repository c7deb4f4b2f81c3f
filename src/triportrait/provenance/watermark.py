"""An invisible mark in the luma of every frame: spread spectrum in the frequencies that video codecs keep.

The mark is defined on a normalised grid: each coefficient is a wave of u periods per frame width and v per frame
height, so a video that was resized, even to another aspect ratio, carries the same waves. Of about six thousand waves
with 16 <= |(u, v)| <= 64, half spell the project's fixed mark; the signs of the other half carry 16 bits of payload
in a random linear code, which is decoded by trying all 65,536 words at once with a Walsh-Hadamard transform.

The detector weighs phases. Whatever the picture, the phases of the key are independent of it, so the mark's statistic
is standard normal on an unmarked video and the false-positive rate follows from the threshold alone; it is not an
estimate from examples. Spread spectrum: Cox, Kilian, Leighton, Shamoon, "Secure spread spectrum watermarking for
multimedia", 1997.

Survives H.264 to crf 28, halving, mirroring and crops to three quarters of each side; not rotation, borders
added around the picture, or an attacker: the key is in this file, so the mark informs and the signed manifest proves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np

from triportrait.types import Array, expect

PAYLOAD_BITS = 16
LOWEST_PERIODS = 16
HIGHEST_PERIODS = 64
#: Waves need two pixels per period at the very least.
SMALLEST_SIDE_PX = 2 * HIGHEST_PERIODS

#: One-sided normal tail beyond 6.5: 4e-11; for 502 hypotheses (250 frames and their sum, as is and mirrored) 2e-8.
DETECTION_SCORE = 6.5
#: The crop search takes the best of about two million places: 2e6 * (tail beyond 7.6: 1.5e-14) is 3e-8.
CROP_DETECTION_SCORE = 7.6
#: The best of 65,536 wrong words reaches 6.2 by chance once in 54,000 times.
PAYLOAD_SCORE = 6.2

#: Strength in grey levels (root mean square): on flat ground, per grey level of local contrast, at most, frame mean.
_FLAT_STRENGTH = 0.6
_STRENGTH_PER_CONTRAST = 0.25
_STRONGEST = 5.0
#: Contrast within a block that smooth shading alone brings; it hides nothing.
_SHADING_CONTRAST = 1.0
_STRONGEST_FRAME_MEAN = 1.85
#: Blocks along the shorter side in which contrast is measured; 8 px at 512.
_CONTRAST_BLOCKS = 64

#: The detector's picture side and the radius of its local normalisation, in its pixels.
_CANONICAL_PX = 256
_LOCAL_SIGMA_PX = 2.5
_RING_PERIODS = 4


@dataclass(frozen=True, slots=True)
class Detection:
    """What the detector saw.

    Args:
        score: standard deviations above chance of the project's mark, in the best frame or in all frames together;
            one unmarked picture gives a standard normal number, many the largest of as many.
        payload: the 16 free bits, or None where no mark was found or its payload cannot be told for certain.
        payload_score: standard deviations above chance of the best payload.
        frames: frames looked at.
        mirrored: the video was flipped left to right.
        kept: shares of the marked frame's width and height that are left after a crop.
    """

    score: float
    payload: int | None
    payload_score: float
    frames: int
    mirrored: bool = False
    kept: tuple[float, float] = (1.0, 1.0)

    @property
    def found(self) -> bool:
        """Whether the mark is there, with a false-positive rate below 1e-7."""
        return self.score >= DETECTION_SCORE


@dataclass(frozen=True, slots=True)
class _Waves:
    """The n waves of the mark: periods per width and height, ring of similar frequency, key phase and row of each.

    A payload p flips the sign of a wave with row r when p & r has an odd number of ones; rows of 0 are the mark.
    """

    across: Array
    down: Array
    ring: Array
    phase_rad: Array
    row: Array

    @property
    def is_mark(self) -> Array:
        return self.row == 0


@lru_cache(maxsize=1)
def _waves() -> _Waves:
    reach = np.arange(-HIGHEST_PERIODS, HIGHEST_PERIODS + 1)
    down, across = np.meshgrid(reach, reach, indexing="ij")
    radius = np.hypot(across, down)
    # One half plane: the other half of a real picture's spectrum is its conjugate. The axes (u or v of 0) are left
    # out because horizontal and vertical edges and borders live there.
    used = (radius >= LOWEST_PERIODS) & (radius <= HIGHEST_PERIODS) & (across > 0) & (down != 0)
    across, down, radius = across[used], down[used], radius[used]
    count = len(across)
    row = 1 + (_key_stream("rows", count) % (2**PAYLOAD_BITS - 1)).astype(np.int64)
    row[np.argsort(_key_stream("mark", count), kind="stable")[: count // 2]] = 0
    phase_rad = _key_stream("phases", count) * (2 * np.pi / 2**32)
    return _Waves(across, down, (radius // _RING_PERIODS).astype(np.int64), phase_rad, row)


def _key_stream(name: str, count: int) -> Array:
    """``count`` numbers below 2^32 from SHAKE-128: the same in every version of every library, as a key must be."""
    return np.frombuffer(hashlib.shake_128(f"TriPortrait watermark 1 {name}".encode()).digest(4 * count), dtype="<u4")


def _signs(payload: int) -> Array:
    """The code word of a payload: +1 or -1 for each wave, int64 [n]."""
    common = _waves().row & payload
    parity = np.zeros_like(common)
    for place in range(PAYLOAD_BITS):
        parity ^= common >> place & 1
    return 1 - 2 * parity


def _walsh_hadamard(values: Array) -> Array:
    """``out[p] = sum over r of values[r] * (-1)^popcount(p & r)``, for a power of two of values."""
    count = len(values)
    half = 1
    while half < count:
        pairs = values.reshape(-1, 2, half)
        values = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(count)
        half *= 2
    return values


def _pixel_centres_rad(waves: _Waves, width: int, height: int) -> Array:
    """Phase of each wave at the centre of the first pixel, half a pixel in; keeps sizes aligned."""
    return np.pi * (waves.across / width + waves.down / height)


@lru_cache(maxsize=4)
def _pattern(width: int, height: int, payload: int) -> Array:
    """The mark at unit root mean square, float32 [height, width]."""
    waves = _waves()
    spectrum = np.zeros((height, width // 2 + 1), dtype=np.complex128)
    phase_rad = waves.phase_rad + _pixel_centres_rad(waves, width, height)
    spectrum[waves.down % height, waves.across] = _signs(payload) * np.exp(1j * phase_rad)
    pattern = np.fft.irfft2(spectrum, (height, width))
    return (pattern / pattern.std()).astype(np.float32)


class Watermarker:
    """Marks frames of one size with one payload; the pattern is computed once here.

    Args:
        size: (w, h) in pixels, both at least 128.
        payload: 0..65535, free to use.

    Raises:
        ValueError: a payload that does not fit, or a frame too small to carry the mark.
    """

    def __init__(self, size: tuple[int, int], payload: int = 0) -> None:
        width, height = size
        if min(size) < SMALLEST_SIDE_PX:
            raise ValueError(f"a {width} x {height} frame cannot hold a watermark; {SMALLEST_SIDE_PX} px is enough")
        if not 0 <= payload < 1 << PAYLOAD_BITS:
            raise ValueError(f"payload is {payload}, expected 0..{(1 << PAYLOAD_BITS) - 1}")
        self.size = size
        self.payload = payload
        self._pattern = _pattern(width, height, payload)
        # Rounding to whole grey levels would erase the mark where it is weaker than half a level; a fixed dither
        # keeps its mean.
        dither = _key_stream("dither", width * height).reshape(height, width) / np.float32(2**32) - np.float32(0.5)
        self._dither = dither.astype(np.float32)
        block_px = min(size) / _CONTRAST_BLOCKS
        self._blocks = (round(width / block_px), round(height / block_px))

    def apply(self, frame: Array) -> Array:
        """A marked copy of ``frame`` uint8 [h, w, 3]; the same amount goes to R, G and B, so colours keep their hue.

        The mark is weak on flat and dark ground and stronger in texture, where the eye misses it.

        Raises:
            ValueError: the frame has another size or type.
        """
        import cv2

        width, height = self.size
        expect(frame, f"{height} {width} 3", "frame")
        if frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype}, expected uint8")
        frame = np.ascontiguousarray(frame)
        strength = cv2.resize(self._strength(frame), self.size, interpolation=cv2.INTER_LINEAR)
        cv2.multiply(strength, self._pattern, dst=strength)
        change = cv2.add(strength, self._dither, dtype=cv2.CV_16S)
        return cv2.add(frame, cv2.merge([change, change, change]), dtype=cv2.CV_8U)

    def _strength(self, frame: Array) -> Array:
        """How much mark each block bears, grey levels, float32 [blocks down, blocks across]."""
        import cv2

        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        mean = cv2.resize(grey, self._blocks, interpolation=cv2.INTER_AREA)
        square = cv2.resize(cv2.multiply(grey, grey), self._blocks, interpolation=cv2.INTER_AREA)
        contrast = np.sqrt(np.maximum(square - mean * mean, 0))
        # The smallest contrast around a block counts: beside an edge the flat side must stay clean.
        contrast = cv2.blur(cv2.erode(contrast, np.ones((3, 3), np.uint8)), (3, 3))
        texture = np.maximum(contrast - _SHADING_CONTRAST, 0)
        strength = np.minimum(_FLAT_STRENGTH + _STRENGTH_PER_CONTRAST * texture, _STRONGEST)
        strength *= np.clip(0.4 + mean / 80, 0.4, 1.0)
        frame_mean = float(np.sqrt(np.mean(strength * strength)))
        return strength * min(1.0, _STRONGEST_FRAME_MEAN / frame_mean)


def detect_watermark(frames: Iterable[Array], frame_limit: int = 250, search_crops: bool = True) -> Detection:
    """Look for the project's mark in ``frames`` (uint8 [h, w, 3] each, any size), at most ``frame_limit`` of them.

    Frames are judged one by one and all together: codecs keep the mark best in key frames, and where the picture moves
    they drag copies of it along that spoil the sum; where it rests the sum is best. Memory does not grow with the
    number of frames. ``search_crops`` spends a second or two more on a video that shows no mark as it stands, and
    finds cut-outs that keep at least half of each side and enough of the mark.

    Raises:
        ValueError: ``frame_limit`` is not in 1..250, which the false-positive rate is computed for.
    """
    if not 1 <= frame_limit <= 250:
        raise ValueError(f"frame_limit is {frame_limit}, expected 1..250")
    as_is, mirrored = _Evidence(), _Evidence()
    for frame in islice(frames, frame_limit):
        detail = _detail(frame)
        as_is.add(detail)
        mirrored.add(detail[:, ::-1])
    detection = as_is.decide()
    if detection.found:
        return detection
    # A flipped mark's waves are not ours: looking again at the flipped picture is a second, independent hypothesis.
    flipped = mirrored.decide()
    if flipped.found:
        return replace(flipped, mirrored=True)
    if search_crops and as_is.frames:
        # The first frame of a file is a key frame.
        for detail in (as_is.total, as_is.first):
            cropped = _search_crops(detail, as_is.frames)
            if cropped.score >= CROP_DETECTION_SCORE:
                return cropped
    return detection


class _Evidence:
    """What frames add up to. The payload's sum weighs each frame by its mark's score.

    Mark and payload live on different waves, so these weights favour no payload; for the mark itself they would.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.first = self.total = self.weighted = np.zeros((_CANONICAL_PX, _CANONICAL_PX), dtype=np.float32)
        self.best_score = -math.inf

    def add(self, detail: Array) -> None:
        score = _mark_score(*_votes(detail))
        if not self.frames:
            self.first = detail
        self.frames += 1
        self.total = self.total + detail
        self.weighted = self.weighted + np.float32(max(score, 0.0)) * detail
        self.best_score = max(self.best_score, score)

    def decide(self) -> Detection:
        score = max(self.best_score, _mark_score(*_votes(self.total)))
        payload, payload_score = _read_payload(*_votes(self.weighted))
        is_certain = score >= DETECTION_SCORE and payload_score >= PAYLOAD_SCORE
        return Detection(score, payload if is_certain else None, payload_score, self.frames)


def _detail(frame: Array) -> Array:
    """A frame's fine structure on the canonical grid, float32 [256, 256], of about unit size everywhere.

    Dividing by the local contrast undoes the embedder's masking and keeps strong edges from drowning the rest.
    """
    import cv2

    expect(frame, "h w 3", "frame")
    side = _CANONICAL_PX
    grey: Array = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32)
    shrinks = min(grey.shape) >= side
    grey = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), _LOCAL_SIGMA_PX)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LOCAL_SIGMA_PX))
    return detail / (contrast + 2.0)


def _votes(detail: Array) -> tuple[Array, Array]:
    """Each wave's vote, complex [n], whose real part agrees with the key, and its weight [n] in 0..1.

    A wave votes with its phase, weighted by its magnitude relative to its frequency ring, at most 1.
    """
    waves = _waves()
    side = _CANONICAL_PX
    key_rad = waves.phase_rad + _pixel_centres_rad(waves, side, side)
    coefficients = np.fft.rfft2(detail)[waves.down % side, waves.across] * np.exp(-1j * key_rad)
    magnitude = np.abs(coefficients)
    count = np.maximum(np.bincount(waves.ring), 1)
    ring_rms = np.sqrt(np.bincount(waves.ring, magnitude**2) / count)[waves.ring]
    scale = np.maximum(np.maximum(magnitude, ring_rms), 1e-12)
    return coefficients / scale, magnitude / scale


def _search_crops(detail: Array, frames: int) -> Detection:
    """The best reading of a frame that is a cut-out of the marked one.

    Tried are cuts that keep the aspect ratio and cuts along one axis, in steps of 1/256 of a side. Each is scaled back
    to the size it had; one inverse transform of the mark's votes then scores every place it may have come from.
    """
    import cv2

    waves = _waves()
    side = _CANONICAL_PX
    is_mark = waves.is_mark
    best = (0.0, 1, 1, 0, 0)
    shares = range(side // 2, side)
    for width, height in [size for kept in shares for size in ((kept, kept), (kept, side), (side, kept))]:
        canvas = np.zeros((side, side), dtype=np.float32)
        canvas[:height, :width] = cv2.resize(detail, (width, height), interpolation=cv2.INTER_AREA)
        votes, weight = _votes(canvas)
        spectrum = np.zeros((side, side // 2 + 1), dtype=np.complex128)
        # Moving the cut right by x turns its coefficients by -2 pi u x: the conjugate's inverse transform at x sums
        # the votes of all waves as they would stand there.
        spectrum[waves.down[is_mark] % side, waves.across[is_mark]] = np.conj(votes[is_mark])
        scores = np.fft.irfft2(spectrum, (side, side))[: side - height + 1, : side - width + 1]
        row, column = np.unravel_index(np.argmax(scores), scores.shape)
        score = float(scores[row, column] / max(np.sqrt(np.sum(weight[is_mark] ** 2)), 1e-12))
        best = max(best, (score, width, height, int(column), int(row)))
    _, width, height, left, top = best
    canvas = np.zeros((side, side), dtype=np.float32)
    canvas[top : top + height, left : left + width] = cv2.resize(detail, (width, height), interpolation=cv2.INTER_AREA)
    evidence = _Evidence()
    evidence.add(canvas)
    return replace(evidence.decide(), frames=frames, kept=(width / side, height / side))


def _mark_score(votes: Array, weight: Array) -> float:
    """Agreement with the project's mark in standard deviations.

    Given the magnitudes, an unmarked wave's vote has variance weight^2 / 2, which scales the sum to a standard normal.
    """
    is_mark = _waves().is_mark
    return float(votes[is_mark].real.sum() / max(np.sqrt(np.sum(weight[is_mark] ** 2) / 2), 1e-12))


def _read_payload(votes: Array, weight: Array) -> tuple[int, float]:
    """The most likely payload and its agreement in standard deviations."""
    waves = _waves()
    bears_payload = ~waves.is_mark
    words = _walsh_hadamard(np.bincount(waves.row[bears_payload], votes[bears_payload].real, 2**PAYLOAD_BITS))
    payload = int(np.argmax(words))
    return payload, float(words[payload] / max(np.sqrt(np.sum(weight[bears_payload] ** 2) / 2), 1e-12))
