"""An agent with a face: ``python agent.py dev``, with LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET and OPENAI_API_KEY set.

It needs ``pip install livekit-plugins-openai livekit-plugins-silero`` besides; any other speech recogniser, language model and
synthesiser will do.
"""

import os

from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli
from livekit.agents.voice import room_io
from livekit.plugins import openai, silero, triportrait
from triportrait import Portrait


async def entrypoint(job: JobContext) -> None:
    await job.connect()
    session = AgentSession(stt=openai.STT(), llm=openai.LLM(), tts=openai.TTS(), vad=silero.VAD.load())
    face = triportrait.AvatarSession(Portrait.from_image(os.environ.get("PORTRAIT", "photo.jpg"), quality="draft"))
    await face.start(session, room=job.room)
    await session.start(
        agent=Agent(instructions="You are friendly and brief."),
        room=job.room,
        room_options=room_io.RoomOptions(audio_output=False),
    )
    await session.generate_reply(instructions="Greet the user.")


if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
