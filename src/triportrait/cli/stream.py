"""``triportrait stream``: a motion file, as fast as it was meant, to programs that show avatars."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from triportrait.cli.live import Receivers
from triportrait.cli.terminal import say
from triportrait.errors import OptionError


@dataclass
class Stream:
    """Send a motion file to Unreal, Blender or an avatar program as if it happened now."""

    motion: Positional[Path]
    """Motion file written by 'triportrait extract' or 'triportrait motion' (.npz or .csv)."""
    receivers: Receivers = field(default_factory=Receivers)
    times: int = 1
    """How often; 0 goes on until Ctrl-C."""

    def run(self) -> int:
        from triportrait.driver_files import read_motion
        from triportrait.motion.sending import MotionSender

        if not self.receivers.targets():
            raise OptionError("nobody would get the motion; give --live-link or --vmc")
        if self.times < 0:
            raise OptionError(f"--times is {self.times}; use 1 or more, or 0 for ever")
        motion = read_motion(self.motion)
        senders = [MotionSender(flag, target) for flag, target in self.receivers.targets().items()]
        started_s, frame = time.monotonic(), 0
        while self.times == 0 or frame < self.times * len(motion):
            time.sleep(max(started_s + frame / motion.fps - time.monotonic(), 0.0))
            row = frame % len(motion)
            for send in senders:
                send(motion.rows(slice(row, row + 1)), frame)
            frame += 1
        say(f"{frame} rows sent")
        return 0
