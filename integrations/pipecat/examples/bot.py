"""A bot with a face in a browser: ``python bot.py`` with OPENAI_API_KEY set, then open the printed address.

It needs ``pip install 'pipecat-ai[openai,silero,webrtc,runner]'`` besides.
"""

import os

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner
from pipecat_triportrait import TriPortraitVideoService
from triportrait import Portrait

TRANSPORTS = {
    "webrtc": lambda: TransportParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        video_out_enabled=True,
        video_out_is_live=True,
        video_out_width=384,
        video_out_height=384,
        video_out_framerate=25,
    )
}


async def bot(arguments: RunnerArguments) -> None:
    transport = await create_transport(arguments, TRANSPORTS)
    key = os.environ["OPENAI_API_KEY"]
    memory = LLMContextAggregatorPair(
        LLMContext([{"role": "system", "content": "You are friendly and brief."}]),
        user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()),
    )
    portrait = Portrait.from_image(os.environ.get("PORTRAIT", "photo.jpg"), quality="draft")
    pipeline = Pipeline(
        [
            transport.input(),
            OpenAISTTService(api_key=key),
            memory.user(),
            OpenAILLMService(api_key=key),
            OpenAITTSService(api_key=key),
            TriPortraitVideoService(portrait),
            transport.output(),
            memory.assistant(),
        ]
    )
    runner = WorkerRunner()
    await runner.add_workers(PipelineWorker(pipeline, params=PipelineParams()))
    await runner.run()


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
