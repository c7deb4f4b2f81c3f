"""A portrait in an agent's own process, or in a worker beside it."""

from __future__ import annotations

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice import avatar
from livekit.plugins.triportrait.generator import TriPortraitGenerator
from triportrait import LiveOptions, Portrait


def avatar_runner(
    portrait: Portrait, room: rtc.Room, audio: avatar.AudioReceiver, options: LiveOptions | None = None
) -> avatar.AvatarRunner:
    """What reads an agent's sound and publishes the portrait in a room; ``start()`` begins.

    Args:
        portrait: who; ``quality="draft"`` draws 25 pictures a second on two cores.
        room: where it is shown.
        audio: where sound comes from: ``QueueAudioOutput`` in the agent's process, ``DataStreamAudioReceiver(room)`` in a worker.
        options: how the portrait is live.
    """
    options = options or LiveOptions()
    side = len(portrait.prepared.image)
    shape = avatar.AvatarOptions(
        video_width=side, video_height=side, video_fps=25.0, audio_sample_rate=options.sample_rate_hz, audio_channels=1
    )
    return avatar.AvatarRunner(room, audio_recv=audio, video_gen=TriPortraitGenerator(portrait.live(options)), options=shape)


class AvatarSession(avatar.AvatarSession[str]):
    """Gives an agent a face in the agent's own process: the agent's participant publishes it.

    Start the agent's session with ``room_options=RoomOptions(audio_output=False)``: sound leaves with the portrait.

    Args:
        portrait: who.
        options: how the portrait is live.
    """

    def __init__(self, portrait: Portrait, options: LiveOptions | None = None) -> None:
        super().__init__()
        self._portrait, self._options = portrait, options or LiveOptions()
        self._runner: avatar.AvatarRunner | None = None
        self._identity = ""

    @property
    def avatar_identity(self) -> str:
        """The agent's own."""
        return self._identity

    @property
    def provider(self) -> str:
        """See the base class."""
        return "triportrait"

    async def start(self, agent_session: AgentSession, room: rtc.Room) -> None:
        """Take the agent's sound and show the portrait in the room, which is connected already."""
        self._identity = room.local_participant.identity
        await super().start(agent_session, room)
        audio = avatar.QueueAudioOutput(sample_rate=self._options.sample_rate_hz, wait_playback_start=True)
        self._runner = avatar_runner(self._portrait, room, audio, self._options)
        await self._runner.start()
        agent_session.output.audio = audio

    async def aclose(self) -> None:
        """End the portrait; the agent stays in the room."""
        if self._runner is not None:
            await self._runner.aclose()
            self._runner = None
        if self._room is not None:
            # The base class would remove the avatar's participant, which is the agent, from the room.
            self._room.off("connection_state_changed", self._on_connection_state_changed)
            self._room = None
        await super().aclose()
