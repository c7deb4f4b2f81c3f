"""The portrait behind the installed host: its runner, queue and media sources are LiveKit's own; only the room is made up.

The real clock counts, so the file takes about a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.avatar import AudioSegmentEnd, QueueAudioOutput
from livekit.plugins.triportrait import AvatarSession, TriPortraitGenerator, avatar_runner
from triportrait import LiveOptions, Portrait

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
RATE_HZ = 24_000


class Publication:
    async def wait_for_subscription(self) -> None:
        return None


class Participant:
    identity = "agent"
    kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT

    def __init__(self) -> None:
        self.tracks: list[Any] = []
        self.track_publications: dict[str, Any] = {}

    async def publish_track(self, track: Any, options: Any) -> Publication:
        self.tracks.append(track)
        return Publication()


class Room(rtc.EventEmitter[str]):
    """As much of a room as the runner touches."""

    name = "made up"

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = Participant()
        self.remote_participants: dict[str, Any] = {}

    def isconnected(self) -> bool:
        return True


class Stage:
    """A portrait in a room, whoever speaks to it, and what it published."""

    def __init__(self, portrait: Portrait) -> None:
        self.audio = QueueAudioOutput(sample_rate=RATE_HZ, wait_playback_start=True)
        self.runner = avatar_runner(portrait, Room(), self.audio, LiveOptions(sample_rate_hz=RATE_HZ))
        self.finished: list[Any] = []
        self.started: list[float] = []
        self.sounding: list[int] = [0]
        self.pictures = 0
        self.audio.on("playback_finished", self._on_finished)
        self.audio.on("playback_started", lambda event: self.started.append(time.monotonic()))
        self._listen("_audio_source", self._on_audio)
        self._listen("_video_source", self._on_video)

    def _listen(self, name: str, heard: Callable[[Any], None]) -> None:
        source = getattr(self.runner, name)
        capture = source.capture_frame

        def listening(frame: Any) -> Any:
            heard(frame)
            return capture(frame)

        source.capture_frame = listening

    def _on_finished(self, event: Any) -> None:
        self.finished.append(event)
        self.sounding.append(0)

    def _on_audio(self, frame: rtc.AudioFrame) -> None:
        self.sounding[-1] += frame.samples_per_channel

    def _on_video(self, frame: rtc.VideoFrame) -> None:
        self.pictures += 1

    async def say(self, samples: np.ndarray, rate_hz: int = RATE_HZ) -> None:
        for at in range(0, len(samples), rate_hz // 20):
            block = samples[at : at + rate_hz // 20]
            await self.audio.capture_frame(rtc.AudioFrame(block.tobytes(), rate_hz, 1, len(block)))
        self.audio.flush()


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    found = Portrait.from_image(EXAMPLES / "portrait.png", quality="draft")
    # The first pictures of a process compile their kernels.
    with found.live() as session:
        list(islice(session.run(), 20))
    return found


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    assert rate_hz == RATE_HZ or rate_hz == 16_000
    return samples if rate_hz == RATE_HZ else np.repeat(samples, 3)[::2]


async def until(condition: Callable[[], bool], most_s: float = 8.0) -> None:
    end = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.005)


def test_twenty_interruptions_finish_twenty_times_at_the_right_position(portrait: Portrait, speech: np.ndarray) -> None:
    random = np.random.default_rng(0)

    async def play() -> tuple[Stage, list[float], list[float]]:
        stage, waited_s, behind_s = Stage(portrait), [], []
        await stage.runner.start()
        for turn in range(20):
            await stage.say(speech[: 4 * RATE_HZ])
            await until(lambda turn=turn: len(stage.started) == turn + 1)
            await asyncio.sleep(float(random.uniform(0.1, 1.2)))
            listened_s = time.monotonic() - stage.started[-1]
            stage.audio.clear_buffer()
            asked = time.monotonic()
            await until(lambda turn=turn: len(stage.finished) == turn + 1)
            waited_s.append(time.monotonic() - asked)
            behind_s.append(listened_s - stage.finished[-1].playback_position)
        await asyncio.sleep(0.3)
        await stage.runner.aclose()
        return stage, waited_s, behind_s

    stage, waited_s, behind_s = asyncio.run(play())
    assert len(stage.finished) == 20 and all(event.interrupted for event in stage.finished)
    off_s = [abs(event.playback_position - count / RATE_HZ) for event, count in zip(stage.finished, stage.sounding, strict=False)]
    print(f"\npositions off by at most {1000 * max(off_s):.1f} ms from what was published", end="; ")
    print(f"median {1000 * np.median(np.abs(behind_s)):.0f} ms from what the clock says", end="; ")
    print(f"told within {1000 * max(waited_s):.0f} ms; {stage.pictures} pictures")
    assert max(off_s) < 0.04
    # A busy machine stalls now and then; the clock and the position agree all the same.
    assert np.median(np.abs(behind_s)) < 0.1
    # Nothing sounds after the last interruption, and the face went on all the time.
    assert stage.sounding[20] == 0 and stage.pictures > 200


def test_segments_in_a_row_finish_once_each_with_their_whole_length(portrait: Portrait, speech: np.ndarray) -> None:
    lengths = [int(0.03 * RATE_HZ), int(0.5 * RATE_HZ), int(0.731 * RATE_HZ), RATE_HZ]

    async def play() -> Stage:
        stage = Stage(portrait)
        await stage.runner.start()
        for count in lengths:
            await stage.say(speech[RATE_HZ : RATE_HZ + count])
        # Of another rate, resampled.
        await stage.say(speech[:16_000], 16_000)
        await asyncio.wait_for(stage.audio.wait_for_playout(), 20.0)
        await stage.runner.aclose()
        return stage

    stage = asyncio.run(play())
    positions = [event.playback_position for event in stage.finished]
    assert len(positions) == len(stage.started) == 5 and not any(event.interrupted for event in stage.finished)
    assert positions == pytest.approx([*(count / RATE_HZ for count in lengths), 1.0], abs=0.002)


def test_an_interruption_in_silence_returns_and_a_closed_portrait_holds_nobody_up(portrait: Portrait) -> None:
    async def play() -> None:
        generator = TriPortraitGenerator(portrait.live(LiveOptions(sample_rate_hz=RATE_HZ)))
        frames = generator.__aiter__()
        assert isinstance(await frames.__anext__(), rtc.VideoFrame)
        await asyncio.wait_for(generator.clear_buffer(), 1.0)
        await asyncio.wait_for(generator.push_audio(AudioSegmentEnd()), 1.0)
        block = rtc.AudioFrame(bytes(2 * RATE_HZ), RATE_HZ, 1, RATE_HZ)
        await generator.push_audio(block)
        await generator.aclose()
        await asyncio.wait_for(generator.push_audio(AudioSegmentEnd()), 1.0)
        await asyncio.wait_for(generator.push_audio(block), 1.0)
        await frames.aclose()

    asyncio.run(play())


def test_a_session_gives_the_agent_its_face_and_leaves_the_agent_in_the_room(portrait: Portrait) -> None:
    async def play() -> None:
        agent, room = AgentSession(), Room()
        face = AvatarSession(portrait)
        await face.start(agent, room)
        assert face.avatar_identity == "agent" and isinstance(agent.output.audio, QueueAudioOutput)
        await until(lambda: len(room.local_participant.tracks) == 2)
        await face.aclose()

    asyncio.run(play())
