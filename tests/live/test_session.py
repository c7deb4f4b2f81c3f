"""Laws of the live session, whatever is pushed and interrupted when; a clock of the test's own."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triportrait.errors import MediaError, OptionError
from triportrait.live.quality import Step
from triportrait.live.session import LiveFrame, LiveOptions, LiveSession
from triportrait.motion.controls import Controls
from triportrait.types import MotionFrame

RATE_HZ, SLOT, LEAD, FADE = 8000, 320, 5, 80
ROW = MotionFrame(np.zeros(44, np.float32), *(np.zeros(size, np.float32) for size in (3, 3, 2)))
PICTURE = np.zeros((8, 8, 3), np.uint8)
#: Replies of the long conversation.
REPLIES = 10_000


@dataclass
class TestClock:
    """Time that passes when somebody waits or works."""

    __test__ = False
    now: float = 0.0

    def now_s(self) -> float:
        return self.now

    def sleep_until(self, moment_s: float) -> None:
        self.now = max(self.now, moment_s)


@dataclass
class Listener:
    """Motion that looks four slots ahead."""

    controls: Controls = field(default_factory=Controls)
    heard: int = 0
    given: int = 0
    interrupts: int = 0

    def hear(self, samples: np.ndarray) -> None:
        assert samples.shape == (SLOT,)
        self.heard += 1

    def row(self) -> MotionFrame | None:
        if self.heard < self.given + LEAD:
            return None
        self.given += 1
        return ROW

    def interrupt(self) -> None:
        self.interrupts += 1

    def go_back(self, slots: int) -> bool:
        assert self.heard - slots >= self.given
        self.heard -= slots
        return True

    def set_controls(self, controls: Controls) -> None:
        self.controls = controls


class Speaker:
    """Pushes samples each of which has a value of its own, and keeps what came out."""

    def __init__(self, clock: TestClock | None = None, steps: list[Step] | None = None, **options) -> None:
        self.clock, self.motion = clock or TestClock(), Listener()
        steps = steps or [Step("all", lambda row: PICTURE)]
        self.session = LiveSession(self.motion, steps, LiveOptions(sample_rate_hz=RATE_HZ, **options), self.clock)
        self.frames: list[LiveFrame] = []
        self.run = self.session.run()
        self.pushed: dict[int, list[int]] = {}
        self.interrupted: set[int] = set()
        #: Frame -> replies that were cut at its beginning.
        self.cuts: dict[int, set[int]] = {}
        self._next, self._reply, self._is_open = 1, 0, False

    def push(self, count: int) -> None:
        if not count:
            return
        if not self._is_open:
            self._reply, self._is_open = self._reply + 1, True
        numbers = np.arange(self._next, self._next + count)
        self._next += count
        assert self.session.push_audio((numbers / 2**24).astype(np.float32), wait=False)
        self.pushed.setdefault(self._reply, []).extend(numbers.tolist())

    def flush(self) -> None:
        self.session.flush()
        self._is_open = False

    def interrupt(self) -> None:
        interrupts = self.motion.interrupts
        self.session.interrupt()
        cut = set(self.pushed) - {event.reply for event in self.events("speech_finished")} - self.interrupted
        self.interrupted |= cut
        self._is_open = False
        if self.frames and self.motion.interrupts > interrupts:
            self.cuts.setdefault(len(self.frames), set()).update(cut)

    def step(self, count: int = 1) -> None:
        self.frames += [next(self.run) for _ in range(count)]

    def events(self, kind: str):
        return [event for frame in self.frames for event in frame.events if event.kind == kind]


ACTIONS = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 3000)),
    st.tuples(st.just("flush"), st.just(0)),
    st.tuples(st.just("interrupt"), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 12)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60))
def test_every_sample_is_played_once_or_dropped_by_an_interrupt(actions) -> None:
    speaker = Speaker()
    for name, amount in actions:
        getattr(speaker, name)(*([amount] if name in ("push", "step") else []))
    speaker.flush()
    speaker.step(400)

    # One clock: frames are numbered through, each with its 40 ms, and come when they are due.
    assert [frame.index for frame in speaker.frames] == list(range(len(speaker.frames)))
    assert all(len(frame.sound) == SLOT for frame in speaker.frames)
    assert speaker.clock.now == pytest.approx((len(speaker.frames) - 1) / 25)
    assert speaker.motion.heard <= len(speaker.frames) + LEAD

    # Started at most once, finished exactly once, in the order of the replies.
    started = [event.reply for event in speaker.events("speech_started")]
    finished = speaker.events("speech_finished")
    assert [event.reply for event in finished] == sorted(speaker.pushed)
    assert started == sorted(set(started))

    # What leaves is in order and never twice; fades of 10 ms apart, it is what was pushed. Whole replies leave whole.
    heard: list[int] = []
    for frame in speaker.frames:
        clear = frame.sound[FADE:] if frame.reply in speaker.cuts.get(frame.index, ()) else frame.sound
        heard += np.round(clear[clear != 0].astype(float) * 2**24).astype(int).tolist()
    assert heard == sorted(set(heard))
    played = set(heard)
    for event in finished:
        numbers, count = speaker.pushed[event.reply], round(event.played_s * RATE_HZ)
        assert event.interrupted == (event.reply in speaker.interrupted)
        assert played.isdisjoint(numbers[count:])
        # Of a reply that was cut, a beginning left, whose end was faded.
        assert played.issuperset(numbers[: max(count - FADE, 0) if event.interrupted else count])
        assert event.interrupted or count == len(numbers)


@pytest.mark.parametrize(("slots", "late"), [(10, 0), (LEAD, 0), (LEAD - 2, LEAD - 1)])
def test_sound_waits_for_motion_unless_it_is_all_there(slots: int, late: int) -> None:
    speaker = Speaker()
    speaker.step(50)
    speaker.push(slots * SLOT)
    speaker.step(50)
    assert next(frame.index for frame in speaker.frames if frame.reply) == 50 + late


def test_an_interrupt_is_heard_in_the_next_frame_and_once() -> None:
    speaker = Speaker()
    speaker.push(100 * SLOT)
    speaker.step(30)
    speaker.interrupt()
    speaker.interrupt()
    speaker.step(10)
    assert speaker.motion.interrupts == 1
    sound = np.concatenate([frame.sound for frame in speaker.frames[30:]])
    assert not sound[80:].any() and np.abs(sound[:80]).max() > 0
    (end,) = speaker.events("speech_finished")
    assert end.interrupted and end.played_s == pytest.approx(30 * 0.04 + 0.01)
    assert end in speaker.frames[30].events
    # In silence it does nothing.
    before = speaker.motion.interrupts
    speaker.interrupt()
    speaker.step(3)
    assert speaker.motion.interrupts == before and len(speaker.events("speech_finished")) == 1


def test_ten_thousand_replies_keep_the_laws_and_the_memory(seed: int) -> None:
    """Random order of push (any rate, any block, damaged ones too), flush, interrupt and silence; what was pushed is not kept for it."""
    random, clock = np.random.default_rng(seed), TestClock()
    session = LiveSession(Listener(), [Step("all", lambda row: PICTURE)], LiveOptions(sample_rate_hz=RATE_HZ), clock)
    run, index, finished, started, interrupted = session.run(), 0, 0, 0, 0
    rates = (8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)

    def talk(replies: int) -> None:
        nonlocal index, finished, started, interrupted
        for _ in range(replies):
            rate_hz = int(random.choice(rates))
            for _ in range(int(random.integers(1, 4))):
                block = np.full(int(random.integers(rate_hz // 50, rate_hz // 12)), 0.25, np.float32)
                if random.random() < 0.02:
                    block[0] = np.nan
                assert session.push_audio(block, rate_hz, wait=False)
            session.flush() if random.random() < 0.7 else session.interrupt()
            for _ in range(int(random.integers(1, 12))):
                frame = next(run)
                # One clock: numbers and times only grow, and sound is as long as the time that passed.
                assert frame.index == index and frame.time_s == index / 25 and len(frame.sound) == SLOT and np.isfinite(frame.sound).all()
                index += 1
                for event in frame.events:
                    if event.kind == "speech_finished":
                        finished += 1
                        interrupted += event.interrupted
                        assert event.reply == finished  # each once, in order
                    elif event.kind == "speech_started":
                        assert started < event.reply
                        started = event.reply
        assert clock.now == pytest.approx((index - 1) / 25)

    talk(200)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    talk(REPLIES)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 64_000
    session.close()
    rest = list(run)
    finished += sum(event.kind == "speech_finished" for frame in rest for event in frame.events)
    assert finished == REPLIES + 200 and interrupted > 0.2 * REPLIES


def test_a_full_queue_says_so_and_says_when_there_is_room() -> None:
    speaker = Speaker(longest_queue_s=1.0)
    block = np.full(SLOT, 0.5, np.float32)
    taken = sum(speaker.session.push_audio(block, wait=False) for _ in range(100))
    assert 25 <= taken <= 27
    speaker.step(20)
    assert len(speaker.events("queue_full")) == len(speaker.events("queue_ready")) == 1
    assert speaker.session.push_audio(block, wait=False)


def test_damaged_sound_is_silence_and_one_event() -> None:
    speaker = Speaker()
    speaker.session.push_audio(np.array([0.5] * 400 + [np.nan]), wait=False)
    speaker.flush()
    speaker.step(12)
    assert len(speaker.events("sound_damaged")) == len(speaker.events("speech_finished")) == 1
    assert not any(frame.sound.any() for frame in speaker.frames)
    with pytest.raises(MediaError):
        speaker.session.push_audio(b"abc")


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000])
def test_sound_of_any_rate_keeps_its_length(rate_hz: int) -> None:
    speaker = Speaker()
    tone = np.sin(np.arange(rate_hz) * 2 * np.pi * 300 / rate_hz).astype(np.float32)
    for at in range(0, rate_hz, 999):
        assert speaker.session.push_audio(tone[at : at + 999], rate_hz, wait=False)
    speaker.flush()
    speaker.step(60)
    (end,) = speaker.events("speech_finished")
    assert end.played_s == pytest.approx(1.0, abs=0.01)


def test_closing_ends_open_replies_and_the_run() -> None:
    speaker = Speaker()
    speaker.push(10_000)
    speaker.step(12)
    speaker.session.close()
    rest = list(speaker.run)
    assert len(rest) == 1 and [event.kind for event in rest[0].events] == ["speech_finished"]
    assert not speaker.session.push_audio(b"aa")


def test_who_is_late_misses_pictures_and_never_sound() -> None:
    clock, costs = TestClock(), {"fine": 0.09, "coarse": 0.01}
    scenes: list[str] = []

    def left_out() -> None:
        scenes.append("left out")

    def drawing(name: str):
        def draw(row: MotionFrame) -> np.ndarray:
            clock.now += costs[name]
            scenes.append("drawn")
            return PICTURE

        return draw

    steps = [Step("fine", drawing("fine"), 1, left_out), Step("coarse", drawing("coarse"), 1, left_out)]
    speaker = Speaker(clock, [*steps, Step("motion alone", None, 1, left_out)])
    speaker.push(2 * RATE_HZ)
    speaker.step(250)
    assert speaker.session.stats.quality == "coarse" and speaker.session.stats.skipped > 5
    assert sum(len(frame.sound) for frame in speaker.frames) == 250 * SLOT
    assert all(frame.image is not None for frame in speaker.frames[-100:])
    # What moves behind the person moves once a frame, drawn or not.
    assert len(scenes) == 250 and scenes.count("left out") == speaker.session.stats.skipped
    # With room it tries the finer step again, which now is fast enough.
    costs["fine"] = 0.01
    speaker.step(300)
    assert speaker.session.stats.quality == "fine"
    # A machine that slept goes on from there.
    clock.now += 60.0
    speaker.step(2)
    assert speaker.session.stats.stalls == 1
    begun = clock.now
    speaker.step(25)
    assert clock.now - begun == pytest.approx(1.0, abs=0.05)


def test_asyncio_gets_the_same_frames_and_ends_the_session() -> None:
    async def first(count: int, speaker: Speaker) -> list[LiveFrame]:
        frames, run = [], speaker.session.run_async()
        async for frame in run:
            frames.append(frame)
            if len(frames) == count:
                break
        await run.aclose()
        return frames

    speaker, twin = Speaker(), Speaker()
    assert not speaker.session.flush() and not speaker.session.interrupt()
    for one in (speaker, twin):
        one.push(3000)
        assert one.session.flush()
    twin.step(30)
    frames = asyncio.run(first(30, speaker))
    assert [frame.index for frame in frames] == list(range(30))
    assert all(np.array_equal(a.sound, b.sound) and a.events == b.events for a, b in zip(frames, twin.frames, strict=True))
    assert not speaker.session.push_audio(b"aa")


def test_controls_are_checked_and_kept() -> None:
    speaker = Speaker()
    speaker.session.set_controls(emotion="happy", emotion_strength=0.5, mouth_gain=1.5)
    speaker.session.set_controls(head_motion=0.2)
    assert (speaker.motion.controls.happy, speaker.motion.controls.mouth_gain, speaker.motion.controls.head_motion) == (0.5, 1.5, 0.2)
    with pytest.raises(OptionError, match="use emotion"):
        speaker.session.set_controls(smile=1.0)
    with pytest.raises(OptionError, match="from 0 to"):
        speaker.session.set_controls(mouth_gain=9.0)
    with pytest.raises(OptionError, match="sample_rate_hz"):
        LiveOptions(sample_rate_hz=11_111)
