"""A live portrait by the real clock: how soon it speaks, how soon it is quiet, and what it costs.

    python benchmarks/live.py [--photo portrait.png] [--quality draft] [--seconds 20] [--times 10]

Each reply of the example speech comes as fast as a synthesiser sends it, in blocks of 20 ms, at a random moment; it is interrupted at a
random moment, too. Times count from the call to the moment at which the frame is there: sound and mouth of a reply (the first frame with
its sound, the first whose lips part by it), silence and closed mouth of an interrupt. Frames in time are those that came within their
40 ms. The machine's motion is measured apart, without pictures, in processor time for a second of sound.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np
import soundfile

from triportrait.errors import TriPortraitError
from triportrait.live.motion import LiveMotion
from triportrait.live.session import LiveFrame, LiveOptions, LiveSession
from triportrait.motion.lips import lip_opening
from triportrait.pipeline import Portrait
from triportrait.types import ARKIT_EXPRESSIONS

ROOT = Path(__file__).resolve().parents[1]
JAW = ARKIT_EXPRESSIONS.index("jawOpen")
#: Lips that stand this far apart, in face heights, have parted; a jaw below this has closed.
PARTED, CLOSED = 0.008, 0.02


def spread(values: list[float], unit: str) -> str:
    """Median and 95th percentile, or that there is nothing."""
    return f"{np.median(values):.0f} / {np.percentile(values, 95):.0f} {unit}" if values else "not seen"


class Watch:
    """Goes through a session in a thread of its own and keeps when each frame came."""

    def __init__(self, session: LiveSession) -> None:
        self.session, self.seen = session, []
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        for frame in self.session.run():
            self.seen.append((time.monotonic(), frame))

    def since(self, moment_s: float, wanted) -> float | None:
        """Milliseconds from a moment to the first frame after it that is wanted."""
        return next((1000 * (at - moment_s) for at, frame in self.seen if at > moment_s and wanted(frame)), None)


def is_parted(frame: LiveFrame) -> bool:
    return float(lip_opening(frame.motion.expression, ARKIT_EXPRESSIONS)) > PARTED


def conversation(session: LiveSession, speech: np.ndarray, rate_hz: int, times: int, seed: int) -> None:
    """Replies and interrupts at random moments, and what they took."""
    random, watch = np.random.default_rng(seed), Watch(session)
    time.sleep(2.0)
    took: dict[str, list[float]] = {name: [] for name in ("sound", "mouth", "silence", "closed")}
    moments = []
    for _ in range(times):
        began_s = time.monotonic()
        for at in range(0, len(speech), rate_hz // 50):
            session.push_audio(speech[at : at + rate_hz // 50], rate_hz)
        time.sleep(float(random.uniform(1.0, 2.5)))
        cut_s = time.monotonic()
        session.interrupt()
        time.sleep(float(random.uniform(1.0, 1.5)))
        moments.append((began_s, cut_s))
    session.close()
    watch.thread.join()
    for began_s, cut_s in moments:
        answers = {
            "sound": watch.since(began_s, lambda frame: frame.reply),
            "mouth": watch.since(began_s, is_parted),
            "silence": watch.since(cut_s, lambda frame: not frame.sound[len(frame.sound) // 4 :].any()),
            "closed": watch.since(cut_s, lambda frame: frame.motion.expression[JAW] < CLOSED),
        }
        for name, value in answers.items():
            if value is not None:
                took[name].append(value)
    start_s = watch.seen[0][0] - watch.seen[0][1].time_s
    late = [1000 * (at - start_s - frame.time_s) for at, frame in watch.seen[25:]]
    stats = session.stats
    print(f"  first byte to sound, to mouth (p50 / p95): {spread(took['sound'], 'ms')}, {spread(took['mouth'], 'ms')}")
    print(f"  interrupt to silence, to closed mouth: {spread(took['silence'], 'ms')}, {spread(took['closed'], 'ms')}")
    print(f"  frames in time {100 * np.mean(np.array(late) < 40):.1f} %, pictures left out {stats.skipped} of {stats.frames}")
    print(f"  {stats.picture_ms:.1f} ms a picture, lead {1000 * stats.lead_s:.0f} ms, at last: {stats.quality}")


def motion_ms(portrait: Portrait, speech: np.ndarray, rate_hz: int, seconds: int) -> float:
    """Processor time in ms of motion for a second of sound."""
    motion, slot = LiveMotion(portrait.prepared, LiveOptions().drive, rate_hz), rate_hz // 25
    sound = np.resize(speech, (seconds * 25, slot))
    for block in sound[:25]:
        motion.hear(block)
        motion.row()
    began_s = time.process_time()
    for block in sound[25:]:
        motion.hear(block)
        motion.row()
    return 1000 * (time.process_time() - began_s) / (seconds - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=ROOT / "examples" / "portrait.png")
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--seconds", type=int, default=20, help="of motion alone")
    parser.add_argument("--times", type=int, default=10, help="replies")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    speech, rate_hz = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    # The example begins with a breath's silence, which no portrait can be blamed for.
    speech = speech[int(np.argmax(np.abs(speech) > 0.03)) :]
    try:
        portrait = Portrait.from_image(options.photo, quality=options.quality)
        began_s = time.perf_counter()
        session = portrait.live(LiveOptions(sample_rate_hz=rate_hz))
    except TriPortraitError as error:
        raise SystemExit(str(error)) from None
    print(f"{options.quality}: a session is ready after {time.perf_counter() - began_s:.2f} s")
    costs = [motion_ms(portrait, sound, rate_hz, options.seconds) for sound in (speech, np.zeros_like(speech))]
    print(f"  motion {costs[0]:.0f} CPU-ms for a second of speech, {costs[1]:.0f} for a second of silence")
    conversation(session, speech, rate_hz, options.times, options.seed)


if __name__ == "__main__":
    main()
