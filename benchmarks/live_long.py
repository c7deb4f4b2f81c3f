"""Half an hour of a live portrait by a clock that counts the processor's time alone: does anything drift, grow, or come late?

    python benchmarks/live_long.py --minutes 30 --pictures-every 20

The clock is simulated: it goes on by the processor time that the session itself uses, and jumps to the next frame where the session would
sleep. So half an hour passes as fast as the machine draws, and other programs on it do not count: it says what a quiet core would see. It
says nothing of the operating system, of the network or of a browser; for those there is ``live_socket.py --minutes``.

``--pictures-every N`` draws one second in N with pictures and the others without them, which costs a Nth of the time; frames on time are
counted in the drawn seconds.

*Offset* compares the lips with the sound that leaves: for each reply, the shift between the lips' opening row by row and that of the same
sentence heard alone offline, by cross-correlation with a parabola through its top.
"""

from __future__ import annotations

import argparse
import resource
import time
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from triportrait.live.motion import LiveMotion
from triportrait.live.quality import Step, steps_of
from triportrait.live.session import LiveOptions, LiveSession
from triportrait.motion.lips import lip_opening
from triportrait.pipeline import Portrait
from triportrait.provenance.marks import Finish
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array, MotionFrame, Waveform

ROOT = Path(__file__).resolve().parents[1]
#: Sentences have a pause of so many frames between them, which changes so that no rhythm hides a fault.
_PAUSE = (10, 60)
#: Lips are shifted by at most so many frames against the sound.
_REACH = 4


class ProcessorClock:
    """Seconds of this process's processor time, and jumps where it would have waited."""

    def __init__(self) -> None:
        self._jumped_s = 0.0

    def now_s(self) -> float:
        return time.process_time() + self._jumped_s

    def sleep_until(self, moment_s: float) -> None:
        self._jumped_s += max(moment_s - self.now_s(), 0.0)


class SometimesDrawn:
    """Draws one second in so many, and otherwise hands out the picture before; ``is_drawn`` is what the frame at hand is."""

    def __init__(self, step: Step, every: int) -> None:
        assert step.draw is not None
        self._draw, self._every, self._frame = step.draw, every, 0
        self._picture: Array | None = None
        self.is_drawn = False

    def __call__(self, row: MotionFrame) -> Array:
        self.is_drawn = self._picture is None or self._frame // round(FPS) % self._every == 0
        self._frame += 1
        if self.is_drawn or self._picture is None:
            self._picture = self._draw(row)
        return self._picture


def shift_ms(lips: np.ndarray, expected: np.ndarray) -> float:
    """By how much the lips are late, in ms."""
    count = min(len(lips), len(expected)) - 2 * _REACH
    centre = expected[_REACH : _REACH + count]
    scores = [float(np.corrcoef(lips[_REACH + step : _REACH + step + count], centre)[0, 1]) for step in range(-_REACH, _REACH + 1)]
    top = int(np.argmax(scores))
    if not 0 < top < len(scores) - 1:
        return 1000.0 * (top - _REACH) / FPS
    before, at, after = scores[top - 1 : top + 2]
    return 1000.0 * (top - _REACH + 0.5 * (before - after) / (before - 2 * at + after)) / FPS


def opening(row: MotionFrame) -> float:
    return float(lip_opening(row.expression, ARKIT_EXPRESSIONS))


def main() -> None:
    """Print offset, lateness and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=ROOT / "examples" / "portrait.png")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--pictures-every", type=int, default=20)
    asked = parser.parse_args()
    speech, rate_hz = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    portrait = Portrait.from_image(asked.photo, quality=asked.quality)
    options = LiveOptions(sample_rate_hz=rate_hz)
    finish = Finish(options.marks, (len(portrait.prepared.image),) * 2, options.marks.account().number)
    finest = steps_of(portrait, None, finish, False)[0]
    drawing, clock = SometimesDrawn(finest, asked.pictures_every), ProcessorClock()
    session = LiveSession(LiveMotion(portrait.prepared, options.drive, rate_hz), [Step(finest.name, drawing)], options, clock)
    for _ in islice(portrait.live(options).run(), 50):  # kernels are compiled, caches filled
        pass
    alone = portrait.talk(Waveform(speech, rate_hz)).motion()
    expected = np.array([opening(row) for row in alone])
    run, random = session.run(), np.random.default_rng(0)
    began_s, start_s = time.perf_counter(), clock.now_s()
    offsets_ms, late_ms, memory_mb, lips = [], [], [], []
    samples, pause = 0, 25
    for index in range(round(asked.minutes * 60 * FPS)):
        frame = next(run)
        samples += len(frame.sound)
        if drawing.is_drawn:
            late_ms.append(1000.0 * (clock.now_s() - start_s - frame.time_s))
        if frame.reply:
            lips.append(opening(frame.motion))
        if any(event.kind == "speech_finished" for event in frame.events):
            offsets_ms.append(shift_ms(np.array(lips), expected))
            lips, pause = [], int(random.integers(*_PAUSE))
        if not lips:
            pause -= 1
            if not pause:
                session.push_audio(speech)
                session.flush()
        if index % round(60 * FPS) == round(30 * FPS):
            memory_mb.append(_memory_mb())
    offsets, late, stats = np.array(offsets_ms), np.array(late_ms), session.stats
    print(f"{asked.minutes:g} minutes of {finest.name} in {time.perf_counter() - began_s:.0f} s, {len(offsets)} replies")
    print(
        f"  sound is {samples / rate_hz - stats.frames / FPS:+.6f} s longer than the pictures; "
        f"stalls {stats.stalls}, left out {stats.skipped}"
    )
    print(f"  lips after sound, ms: median {np.median(offsets):+.2f}, from {offsets.min():+.2f} to {offsets.max():+.2f}")
    third = max(len(offsets) // 3, 1)
    print(f"  drift from the first third to the last: {np.median(offsets[-third:]) - np.median(offsets[:third]):+.2f} ms")
    share, middle, most = 100 * np.mean(late < 40), np.median(late), np.percentile(late, 99)
    print(f"  {len(late)} drawn frames: on time (40 ms) {share:.2f} %, median {middle:.1f}, 99 % {most:.1f} ms")
    if memory_mb:
        print(f"  memory after half a minute {memory_mb[0]:.0f} MB, at the end {memory_mb[-1]:.0f} MB")


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
