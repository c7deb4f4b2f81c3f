"""The portrait in a pipeline of the installed host; synthesiser, listener and output are made up. The real clock counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from pipecat_triportrait import TriPortraitVideoService
from triportrait import LiveOptions, Portrait
from triportrait.live.motion import LiveMotion
from triportrait.live.quality import Step
from triportrait.live.session import LiveSession

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
RATE_HZ = 24_000
PICTURE = np.zeros((8, 8, 3), np.uint8)


@dataclass
class PoorlyDrawn:
    """A portrait whose motion is its own, and whose pictures somebody else draws."""

    portrait: Portrait
    draw: Callable[[object], np.ndarray]

    def live(self, options: LiveOptions) -> LiveSession:
        return LiveSession(LiveMotion(self.portrait.prepared, options.drive, options.sample_rate_hz), [Step("poor", self.draw)], options)


class Sink(FrameProcessor):
    """Keeps what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[tuple[float, Frame]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == FrameDirection.DOWNSTREAM:
            self.came.append((time.monotonic(), frame))
        await self.push_frame(frame, direction)

    def of(self, *kinds: type) -> list[tuple[float, Frame]]:
        return [(at, frame) for at, frame in self.came if isinstance(frame, kinds)]


class Head(FrameProcessor):
    """The beginning of the pipeline, where errors arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[ErrorFrame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self.errors.append(frame)
        await self.push_frame(frame, direction)


class Play:
    """A pipeline of head, portrait and sink, and what is said in it."""

    def __init__(self, portrait: object) -> None:
        self.head, self.sink = Head(), Sink()
        self.service = TriPortraitVideoService(portrait)
        params = PipelineParams(audio_out_sample_rate=RATE_HZ)
        pipeline = Pipeline([self.head, self.service, self.sink])
        self.worker = PipelineWorker(pipeline, params=params, cancel_on_idle_timeout=False, enable_rtvi=False)
        self.is_ready = asyncio.Event()

        @self.worker.event_handler("on_pipeline_started")
        async def ready(worker: object, frame: object) -> None:
            self.is_ready.set()

    async def run(self, script) -> None:
        async def act() -> None:
            await asyncio.wait_for(self.is_ready.wait(), 20.0)
            await script(self)
            await self.worker.queue_frame(EndFrame())

        runner = WorkerRunner()
        await runner.add_workers(self.worker)
        await asyncio.wait_for(asyncio.gather(runner.run(), act()), 120.0)

    async def say(self, samples: np.ndarray, name: str) -> None:
        await self.worker.queue_frame(TTSStartedFrame(context_id=name))
        for at in range(0, len(samples), RATE_HZ // 50):
            await self.worker.queue_frame(TTSAudioRawFrame(samples[at : at + RATE_HZ // 50].tobytes(), RATE_HZ, 1, context_id=name))
        await self.worker.queue_frame(TTSStoppedFrame(context_id=name))

    def heard(self, name: str) -> np.ndarray:
        parts = [frame.audio for _, frame in self.sink.of(TTSAudioRawFrame) if frame.context_id == name]
        return np.frombuffer(b"".join(parts), np.int16)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    found = Portrait.from_image(EXAMPLES / "portrait.png", quality="draft")
    with found.live() as session:
        list(islice(session.run(), 20))
    return found


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    return samples if rate_hz == RATE_HZ else np.repeat(samples, 3)[::2]


def test_a_minute_of_conversation_with_twenty_interruptions(portrait: Portrait, speech: np.ndarray) -> None:
    random = np.random.default_rng(0)
    behind_s: list[float] = []

    async def converse(play: Play) -> None:
        for turn in range(20):
            # One reply that is let be, and one that is cut.
            await play.say(speech[: RATE_HZ // 2 + 100 * turn], f"whole {turn}")
            while not any(frame.context_id == f"whole {turn}" for _, frame in play.sink.of(TTSStoppedFrame)):
                await asyncio.sleep(0.02)
            await play.say(speech[: 4 * RATE_HZ], f"cut {turn}")
            while not len(play.heard(f"cut {turn}")):
                await asyncio.sleep(0.02)
            began = next(at for at, frame in play.sink.of(TTSAudioRawFrame) if frame.context_id == f"cut {turn}")
            await asyncio.sleep(float(random.uniform(0.2, 1.6)))
            cut = time.monotonic()
            await play.worker.queue_frame(InterruptionFrame())
            while len(play.sink.of(InterruptionFrame)) <= turn:
                await asyncio.sleep(0.02)
            behind_s.append(len(play.heard(f"cut {turn}")) / RATE_HZ - (cut - began))
            await asyncio.sleep(1.5)

    play = Play(portrait)
    asyncio.run(play.run(converse))
    sink = play.sink
    pictures = sink.of(OutputImageRawFrame)
    media_s = pictures[-1][0] - pictures[0][0]
    print(f"\n{media_s:.0f} s, {len(pictures)} pictures; heard and clock differ by {1000 * np.median(np.abs(behind_s)):.0f} ms", end="; ")
    print(f"worst {1000 * np.max(np.abs(behind_s)):.0f} ms")
    # A busy machine leaves out some pictures.
    assert media_s > 60 and 0.8 < len(pictures) / (25 * media_s) < 1.02
    assert all(frame.sync_with_audio and frame.size == (384, 384) and len(frame.image) == 3 * 384 * 384 for _, frame in pictures)
    # Whole replies come out sample by sample, and their ends behind them; cut ones have none.
    assert [frame.context_id for _, frame in sink.of(TTSStoppedFrame)] == [f"whole {turn}" for turn in range(20)]
    for turn in range(20):
        said = speech[: RATE_HZ // 2 + 100 * turn]
        heard = play.heard(f"whole {turn}")
        assert len(heard) == len(said) and np.abs(heard.astype(int) - said).max() <= 1
    kinds = [(frame.context_id if isinstance(frame, TTSAudioRawFrame) else type(frame).__name__) for _, frame in sink.came]
    for turn in range(20):
        last = max(index for index, kind in enumerate(kinds) if kind == f"whole {turn}")
        assert [kind for kind in kinds[last + 1 :] if kind in ("TTSStoppedFrame", f"cut {turn}")][0] == "TTSStoppedFrame"
    # Behind an interruption nothing of the reply is heard.
    interruptions = [index for index, kind in enumerate(kinds) if kind == "InterruptionFrame"]
    assert len(interruptions) == 20
    for turn, index in enumerate(interruptions):
        assert f"cut {turn}" not in kinds[index:]
    assert np.median(np.abs(behind_s)) < 0.08 and not play.head.errors


def test_the_pipeline_ends_when_the_last_reply_has_left_and_the_face_has_moved(portrait: Portrait, speech: np.ndarray) -> None:
    async def say(play: Play) -> None:
        await play.say(speech[: 2 * RATE_HZ], "last")

    play = Play(portrait)
    asyncio.run(play.run(say))
    assert len(play.heard("last")) == 2 * RATE_HZ and len(play.sink.of(TTSStoppedFrame)) == 1
    images = [np.frombuffer(frame.image, np.uint8).astype(int) for _, frame in play.sink.of(OutputImageRawFrame)]
    assert max(np.abs(image - images[0]).max() for image in images) > 30


@pytest.mark.parametrize("after", [0, 20])
def test_a_face_that_fails_is_one_error_and_the_voice_goes_on(portrait: Portrait, speech: np.ndarray, after: int) -> None:
    drawn = 0

    def draw(row: object) -> np.ndarray:
        nonlocal drawn
        drawn += 1
        if drawn > after:
            raise RuntimeError("the pencil broke")
        return PICTURE

    async def say(play: Play) -> None:
        await play.say(speech[: 2 * RATE_HZ], "first")
        while not play.sink.of(TTSStoppedFrame):
            await asyncio.sleep(0.02)
        await play.say(speech[:RATE_HZ], "second")
        await asyncio.sleep(0.5)

    play = Play(PoorlyDrawn(portrait, draw))
    asyncio.run(play.run(say))
    assert len(play.head.errors) == 1 and "the pencil broke" in play.head.errors[0].error
    for name, count in (("first", 2 * RATE_HZ), ("second", RATE_HZ)):
        heard = play.heard(name)
        assert len(heard) == count and np.abs(heard.astype(int) - speech[:count]).max() <= 1
    assert [frame.context_id for _, frame in play.sink.of(TTSStoppedFrame)] == ["first", "second"]


def test_a_portrait_that_cannot_be_live_is_one_error(speech: np.ndarray) -> None:
    class Broken:
        def live(self, options: LiveOptions) -> LiveSession:
            raise RuntimeError("there is nobody")

    async def say(play: Play) -> None:
        await play.say(speech[:RATE_HZ], "voice")
        await asyncio.sleep(0.5)

    play = Play(Broken())
    asyncio.run(play.run(say))
    assert len(play.head.errors) == 1 and np.array_equal(play.heard("voice"), speech[:RATE_HZ])
