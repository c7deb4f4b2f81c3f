"""Cog's view of TriPortrait: a photo and a voice, or a video, become a talking portrait; progress stands in the log."""

from __future__ import annotations

import tempfile
from pathlib import Path as LocalPath
from typing import Optional

from cog import BaseRunner, Input, Path
from triportrait import DriveOptions, Portrait
from triportrait.background import Background
from triportrait.drivers import default_head, default_tracker
from triportrait.provenance.marks import Marks


class Runner(BaseRunner):
    """One prediction is one video."""

    def setup(self) -> None:
        """Load the networks once."""
        default_tracker()
        default_head()

    def run(
        self,
        photo: Path = Input(description="Photo of one person who looks towards the camera and agreed to be animated"),
        voice: Optional[Path] = Input(description="What the portrait says: wav, mp3, flac, m4a, ogg", default=None),  # noqa: UP045
        driving: Optional[Path] = Input(description="Instead of a voice: a video of a person to imitate", default=None),  # noqa: UP045
        quality: str = Input(description="draft is fast", default="standard", choices=["draft", "standard", "high"]),
        emotion: str = Input(default="neutral", choices=["neutral", "happy", "sad", "angry", "surprised", "auto"]),
        head_motion: float = Input(description="Amount of natural head motion", default=1.0, ge=0.0, le=2.0),
        background: str = Input(description="A colour such as #204060; the photo's own when empty", default=""),
        full_frame: bool = Input(description="Put the head back into the whole photo", default=False),
        consent: str = Input(description="How the person shown agreed; stands in the signed statement", default=""),
        seed: int = Input(description="Of everything random", default=0, ge=0),
    ) -> Path:
        """Make the video; a wrong input is one sentence."""
        if (voice is None) == (driving is None):
            raise ValueError("give one of voice and driving")
        options = DriveOptions(emotion=emotion, head_motion=head_motion, seed=seed)
        scene = Background(background) if background else None
        portrait = Portrait.from_image(photo, quality=quality)
        performance = portrait.talk(voice, options) if voice is not None else portrait.drive(driving, options)
        out = LocalPath(tempfile.mkdtemp()) / "talking.mp4"
        performance.save(out, full_frame=full_frame, background=scene, marks=Marks(consent=consent), progress=told)
        return Path(out)


def told(what: str, done: int, total: int) -> None:
    """A line of the log for every second of video; Replicate shows it while it comes."""
    if done % 25 == 0 or done == total:
        print(f"{what}: {done}" + (f" of {total} pictures" if total else " pictures"), flush=True)
