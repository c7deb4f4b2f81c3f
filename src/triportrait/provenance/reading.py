"""Reading the watermark back from the frames of a video or from a picture.

Survives H.264 to crf 28, halving, mirroring, quarter turns, crops to about three quarters of each side, and a larger
picture round the frame; not turns by other angles, perspective, or an attacker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from triportrait.provenance.placement import LOOKS, WHOLE, Placement, find_placement, mirror
from triportrait.provenance.votes import DETAIL_PX, canonical, detail, mark_score, payload_agreement, read_former_payload, read_payload
from triportrait.types import Array

#: Chance of 6.5 in one look: below exp(-6.5^2 / 2) = 7e-10; for 216 looks (26 runs of frames and their sum, in 8 orientations) 1.5e-7.
DETECTION_SCORE = 6.5
#: For the 2 searches of one video, with :data:`.placement.LOOKS` each: 1e8 * exp(-8.2^2 / 2) is 2.5e-7.
SEARCH_DETECTION_SCORE = 8.2
#: The best of 2^32 wrong payloads reaches 7.5 by chance once in 7,000 times; of 65,536 former ones 6.2 once in 54,000 times.
PAYLOAD_SCORE = 7.5
FORMER_PAYLOAD_SCORE = 6.2
#: One payload that somebody asks for is there by chance once in 3 million times.
EXPECTED_SCORE = 5.0

#: Frames that are looked at, and how many neighbours are summed before the sum is judged.
FRAME_LIMIT = 250
RUN_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Detection:
    """What the detector saw.

    Args:
        score: standard deviations above chance of the project's mark, in the best run of frames or in all together;
            one unmarked picture gives a standard normal number, many the largest of as many.
        payload: what the mark says, or None where no mark was found or its payload cannot be told for certain.
        payload_score: standard deviations above chance of the best payload.
        is_former: the payload is the 16 bits of the former mark, which name no maker.
        expected: the payload that was asked for, or None.
        expected_score: its standard deviations above chance.
        frames: frames looked at.
        mirrored: the video was flipped left to right.
        quarter_turns: counter-clockwise quarter turns that bring the video upright, after which it is flipped back.
        placement: how the shown picture lies on the marked frame.
        threshold: the score from which on the mark counts as found, which depends on where it was looked for.
    """

    score: float
    payload: int | None
    payload_score: float
    frames: int
    is_former: bool = False
    expected: int | None = None
    expected_score: float = 0.0
    mirrored: bool = False
    quarter_turns: int = 0
    placement: Placement = WHOLE
    threshold: float = DETECTION_SCORE

    @property
    def found(self) -> bool:
        """Whether the mark is there, with a false-positive rate below 1e-6."""
        return self.score >= self.threshold

    @property
    def bears_expected(self) -> bool | None:
        """Whether the payload that was asked for is there; None where that cannot be told."""
        if not self.found or self.expected is None:
            return None
        if self.payload is not None:
            return self.payload == self.expected and not self.is_former
        # Payloads of which one word of three agrees reach a third of the score, and would be read if that were this much.
        return True if self.expected_score >= EXPECTED_SCORE else None


def detect_watermark(frames: Iterable[Array], *, expected: int | None = None, search: bool = True) -> Detection:
    """Look for the project's mark in ``frames`` (uint8 [h, w, 3] each, any size), at most 250 of them.

    Frames are judged in runs of ten and all together: codecs keep the mark best in key frames, and where the picture moves
    they drag copies of it along that spoil the sum; where it rests the sum is best. Memory does not grow with the
    number of frames.

    Args:
        frames: of a video, drawn from its whole length, or one picture.
        expected: a payload to look for besides, where it is too faint to be read.
        search: spend some seconds more on a video that does not show the mark as it stands, to find parts of marked frames
            that keep at least half of each side, and marked frames in larger pictures.
    """
    runs = _Runs()
    for frame in islice(frames, FRAME_LIMIT):
        runs.add(frame)
    if not runs.frames:
        return Detection(0.0, None, 0.0, 0)
    looks = [runs.judged(turns, mirrored, WHOLE, DETECTION_SCORE, expected) for mirrored in (False, True) for turns in range(4)]
    best = max(looks, key=lambda seen: seen.score)
    is_blank = best.score == 0.0
    if best.payload is not None or is_blank or not search:
        return best
    # Of a crop by a hair the mark is found as it stands, and yet its payload is only read in its right place.
    for fine in runs.sums():
        score, placement, flips = find_placement(fine, runs.aspect)
        if score >= SEARCH_DETECTION_SCORE:
            found = runs.judged(0, flips, placement, SEARCH_DETECTION_SCORE, expected)
            best = max(best, found, key=lambda seen: seen.score - seen.threshold)
        if best.payload is not None:
            break
    return best


class _Runs:
    """What frames add up to, run by run."""

    def __init__(self) -> None:
        self.frames = 0
        self.aspect = 1.0
        self._runs: list[Array] = []

    def add(self, frame: Array) -> None:
        fine = detail(frame)
        self.aspect = frame.shape[1] / frame.shape[0]
        # The first frame of a file is a key frame, which codecs treat best: it is a run of its own.
        if self.frames == 0 or self.frames % RUN_FRAMES == 1:
            self._runs.append(np.zeros((DETAIL_PX, DETAIL_PX), dtype=np.float32))
        self._runs[-1] += fine
        self.frames += 1

    def sums(self) -> list[Array]:
        """All frames together, and where there are several the first alone."""
        return [np.sum(self._runs, axis=0), *(self._runs[:1] if len(self._runs) > 1 else [])]

    def judged(self, quarter_turns: int, mirrored: bool, placement: Placement, threshold: float, expected: int | None) -> Detection:
        """The mark in one orientation and place. The payload's sum weighs each run by its mark's score.

        Mark and payload live on different waves, so these weights favour no payload; for the mark itself they would.
        """
        pictures = [self._upright(run, quarter_turns, mirrored, placement) for run in self._runs]
        scores = [mark_score(picture) for picture in pictures]
        together = [mark_score(np.sum(pictures, axis=0))] if len(pictures) > 1 else []
        score = max(scores + together)
        weighted = np.tensordot(np.maximum(scores, 0).astype(np.float32), pictures, axes=1)
        seen = Detection(
            score, None, 0.0, self.frames, mirrored=mirrored, quarter_turns=quarter_turns, placement=placement, threshold=threshold
        )
        if not seen.found:
            return seen
        if expected is not None:
            seen = replace(seen, expected=expected, expected_score=payload_agreement(weighted, expected))
        payload, payload_score = read_payload(weighted)
        former, former_score = read_former_payload(weighted)
        if payload_score < PAYLOAD_SCORE and former_score >= FORMER_PAYLOAD_SCORE:
            return replace(seen, payload=former, payload_score=former_score, is_former=True)
        return replace(seen, payload=payload if payload_score >= PAYLOAD_SCORE else None, payload_score=payload_score)

    def _upright(self, fine: Array, quarter_turns: int, mirrored: bool, placement: Placement) -> Array:
        fine = np.ascontiguousarray(np.rot90(fine, quarter_turns))
        fine = mirror(fine) if mirrored else fine
        return canonical(fine) if placement == WHOLE else placement.cut(fine)


def false_positive_bound() -> float:
    """The chance at most that a video without a mark counts as marked, over all keys: each look's tail lies below exp(-score^2 / 2)."""
    looks = 8 * (FRAME_LIMIT // RUN_FRAMES + 2)
    return looks * math.exp(-(DETECTION_SCORE**2) / 2) + 2 * LOOKS * math.exp(-(SEARCH_DETECTION_SCORE**2) / 2)
