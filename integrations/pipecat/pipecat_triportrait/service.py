"""A live portrait as a service of a Pipecat pipeline, between the synthesiser and the output."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings
from triportrait import LiveOptions, Portrait
from triportrait.live.session import LiveFrame, LiveSession
from triportrait.live.sound import LiveEvent

#: While the portrait's queue is full, it is tried again after this time.
_RETRY_S = 0.04


class TriPortraitVideoService(AIService):
    """Takes the synthesiser's sound out of the pipeline and gives it back with the pictures to which it belongs.

    Pictures come all the time, 25 a second. A ``TTSStoppedFrame`` waits until its reply has left. Whatever goes wrong with the face is
    one ``ErrorFrame``, and the voice goes on without it.

    Args:
        portrait: who; ``quality="draft"`` draws 25 pictures a second on two cores.
        options: how the portrait is live; None takes the pipeline's sample rate.
    """

    def __init__(self, portrait: Portrait, options: LiveOptions | None = None) -> None:
        super().__init__(settings=ServiceSettings(model=None))
        self._portrait, self._options = portrait, options
        self._session: LiveSession | None = None
        self._failure: Exception | None = None
        self._task: asyncio.Task | None = None
        #: What was taken and has not left as a whole: sound, and the ends of replies.
        self._taken: deque[TTSAudioRawFrame | TTSStoppedFrame] = deque()
        #: Seconds of the first of them that have left, and samples of the reply that have.
        self._left_s, self._given = 0.0, 0
        self._is_muted = False
        self._is_silent = asyncio.Event()
        self._is_silent.set()

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Prepare the live portrait."""
        await super().setup(setup)
        options = self._options or LiveOptions(sample_rate_hz=setup.audio_out_sample_rate)
        try:
            self._session = await asyncio.to_thread(self._portrait.live, options)
        except Exception as error:  # told when frames may pass
            self._failure = error

    async def start(self, frame: StartFrame) -> None:
        """Begin to show it."""
        await super().start(frame)
        if self._session is None:
            await self._fail(self._failure)
        else:
            self._task = self.create_task(self._show(self._session))

    async def stop(self, frame: EndFrame) -> None:
        """Let the last reply end."""
        await super().stop(frame)
        if self._session is not None and self._session.flush():
            await self._is_silent.wait()
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        await super().cancel(frame)
        await self._end()

    async def cleanup(self) -> None:
        """See the base class."""
        await super().cleanup()
        await self._end()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Keep sound and ends of replies; let the rest pass."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame) and self._session is not None:
            self._taken.clear()
            self._left_s = 0.0
            self._is_muted = self._session.interrupt()
        is_kept = False
        if direction == FrameDirection.DOWNSTREAM and self._session is not None:
            if isinstance(frame, TTSAudioRawFrame):
                is_kept = await self._take(frame, self._session)
            elif isinstance(frame, TTSStoppedFrame) and self._session.flush():
                self._taken.append(frame)
                is_kept = True
        if not is_kept:
            await self.push_frame(frame, direction)

    async def _take(self, frame: TTSAudioRawFrame, session: LiveSession) -> bool:
        samples = np.frombuffer(frame.audio, np.int16).reshape(-1, frame.num_channels)
        if not len(samples):
            return False
        while not session.push_audio(samples, frame.sample_rate, wait=False):
            await asyncio.sleep(_RETRY_S)
            if self._session is None:
                return False
        self._is_silent.clear()
        self._taken.append(frame)
        return True

    async def _show(self, session: LiveSession) -> None:
        try:
            async for frame in session.run_async():
                if frame.image is not None:
                    height, width = frame.image.shape[:2]
                    picture = OutputImageRawFrame(frame.image.tobytes(), (width, height), "RGB")
                    picture.sync_with_audio = True
                    await self.push_frame(picture)
                finished = next((event for event in frame.events if event.kind == "speech_finished"), None)
                await self._speak(frame, finished, session.options.sample_rate_hz)
        except Exception as error:
            await self._fail(error)

    async def _speak(self, frame: LiveFrame, finished: LiveEvent | None, rate_hz: int) -> None:
        count = len(frame.sound) if frame.reply else 0
        if finished is not None:
            count = min(max(round(finished.played_s * rate_hz) - self._given, 0), len(frame.sound))
        if count and not self._is_muted:
            context = self._taken[0].context_id if self._taken else None
            sound = np.round(np.clip(frame.sound[:count], -1.0, 1.0) * 32767.0).astype(np.int16)
            await self.push_frame(TTSAudioRawFrame(sound.tobytes(), rate_hz, 1, context_id=context))
            self._forget(count / rate_hz)
        self._given += count
        if finished is not None:
            self._given = 0
            if finished.interrupted:
                self._is_muted = False
            else:
                for end in self._ends():
                    await self.push_frame(end)
            self._is_silent.set()

    def _forget(self, left_s: float) -> None:
        """Some of the sound has left."""
        self._left_s += left_s
        while self._taken and isinstance(sound := self._taken[0], TTSAudioRawFrame):
            length_s = sound.num_frames / sound.sample_rate
            if length_s > self._left_s + 1e-6:
                return
            self._left_s -= length_s
            self._taken.popleft()

    def _ends(self) -> Iterator[TTSStoppedFrame]:
        """The end of the oldest reply; what is left of its sound are parts of a sample."""
        self._left_s = 0.0
        while self._taken and isinstance(self._taken[0], TTSAudioRawFrame):
            self._taken.popleft()
        while self._taken and isinstance(end := self._taken[0], TTSStoppedFrame):
            self._taken.popleft()
            yield end

    async def _fail(self, error: Exception | None) -> None:
        """Tell once; what was taken and has not left goes on without a face."""
        await self._close()
        await self.push_error(f"the portrait is out of order, the voice goes on without it: {error}", exception=error)
        while self._taken:
            frame = self._taken.popleft()
            if isinstance(frame, TTSAudioRawFrame) and self._left_s:
                skipped = 2 * frame.num_channels * round(self._left_s * frame.sample_rate)
                frame = TTSAudioRawFrame(frame.audio[skipped:], frame.sample_rate, frame.num_channels, context_id=frame.context_id)
                self._left_s = 0.0
            await self.push_frame(frame)
        self._is_silent.set()

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    async def _end(self) -> None:
        await self._close()
        self._is_silent.set()
        if self._task is not None:
            await self.cancel_task(self._task)
            self._task = None
