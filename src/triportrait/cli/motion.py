"""``triportrait motion``: a voice becomes motion."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from triportrait.cli.checks import check_motion_output
from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say
from triportrait.cli.voice import VoiceFlags
from triportrait.motion.voice_controls import NATURAL


@dataclass(frozen=True, kw_only=True)
class VoiceAlone(VoiceFlags):
    """Settings of a voice without any portrait."""

    head_motion: float = NATURAL
    """Amount of head motion."""
    blink: str = "natural"
    """natural, none, or blinks per minute."""


@dataclass
class MotionCommand:
    """Turn a voice into motion (ARKit curves, head, gaze) without any portrait."""

    audio: Positional[Path]
    """Voice: wav, mp3, flac, m4a, ogg, or a video's sound."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Motion file: .npz or .csv (ours, editable), .json, or .livelink.csv (ARKit-52 for Live Link Face)."""
    voice: VoiceAlone = field(default_factory=VoiceAlone)
    """How it moves."""

    def run(self) -> int:
        from triportrait.driver_files import check_option_files
        from triportrait.files import check_readable
        from triportrait.media.audio import AudioReader
        from triportrait.motion.files import write_motion
        from triportrait.motion.options import DriveOptions
        from triportrait.speakers import voice_driver_of

        check_readable(self.audio)
        check_motion_output(self.out, [self.audio, self.voice.style, self.voice.controls])
        options = DriveOptions(**vars(self.voice))
        check_option_files(options)
        make = voice_driver_of(options)
        AudioReader.open(self.audio)
        with ProgressBar() as progress:
            driver = make(self.audio, options, progress=progress)
            started = time.perf_counter()
            frames = write_motion(driver.relative(), self.out, controls=driver.track, inputs=[self.audio, *driver.inputs])
        seconds = time.perf_counter() - started
        say(f"{self.out}  ({frames} frames, {seconds:.1f} s, {frames / 25 / seconds:.0f}x real time)")
        return 0
