"""A live portrait behind LiveKit's :class:`~livekit.agents.voice.avatar.VideoGenerator`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, VideoGenerator
from triportrait.live.session import LiveFrame, LiveSession
from triportrait.live.sound import LiveEvent

#: While the portrait's queue is full, it is tried again after this time.
_RETRY_S = 0.04


class TriPortraitGenerator(VideoGenerator):
    """Sound of an agent in; pictures all the time, and sound while the portrait speaks, out.

    LiveKit counts a segment's position by the sound that comes out, so silence between segments is not given, and a segment's last
    frame ends with its last sample.

    Args:
        session: the portrait, live; the generator closes it.
    """

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._rate_hz = session.options.sample_rate_hz
        self._is_silent = asyncio.Event()
        self._is_silent.set()
        self._interruptions = 0
        #: Samples of the segment that were given.
        self._given = 0
        self._is_over = False

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Take a segment's sound, 16-bit of any rate; its end returns when the segment was given, so that no two are under way.

        ``AvatarRunner`` notes whether something plays in one flag; a second segment's sound would be counted to the first.
        """
        if isinstance(frame, AudioSegmentEnd):
            if not self._session.flush():
                self._is_silent.set()
            await self._is_silent.wait()
            return
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        if not len(samples) or self._is_over:
            return
        self._is_silent.clear()
        interruptions = self._interruptions
        while not self._session.push_audio(samples, frame.sample_rate, wait=False):
            await asyncio.sleep(_RETRY_S)
            if self._is_over or interruptions != self._interruptions:
                return

    async def clear_buffer(self) -> None:
        """The listener speaks; returns when the last of the sound was given, because ``AvatarRunner`` then reads the position."""
        self._interruptions += 1
        if not self._session.interrupt():
            self._is_silent.set()
        await self._is_silent.wait()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._frames()

    async def aclose(self) -> None:
        """End the session; whoever waits goes on."""
        self._is_over = True
        self._session.close()
        self._is_silent.set()

    async def _frames(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        try:
            async for frame in self._session.run_async():
                if frame.image is not None:
                    height, width = frame.image.shape[:2]
                    yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, frame.image.tobytes())
                finished = next((event for event in frame.events if event.kind == "speech_finished"), None)
                if count := self._spoken(frame, finished):
                    sound = np.round(np.clip(frame.sound[:count], -1.0, 1.0) * 32767.0).astype(np.int16)
                    yield rtc.AudioFrame(sound.tobytes(), self._rate_hz, 1, count)
                    self._given += count
                if finished is not None:
                    self._given = 0
                    if not finished.interrupted:
                        yield AudioSegmentEnd()
                    self._is_silent.set()
        finally:
            await self.aclose()

    def _spoken(self, frame: LiveFrame, finished: LiveEvent | None) -> int:
        """How many of a frame's samples belong to the segment."""
        if finished is not None:
            left = round(finished.played_s * self._rate_hz) - self._given
            return min(max(left, 0), len(frame.sound))
        return len(frame.sound) if frame.reply else 0
