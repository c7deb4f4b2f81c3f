"""``triportrait live``: a portrait as a virtual camera, or as motion for other programs, moved by a webcam, a microphone or a recording."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from triportrait.cli.checks import check_size, portrait_options
from triportrait.cli.terminal import say
from triportrait.cli.voice import VoiceFlags
from triportrait.errors import OptionError
from triportrait.motion.voice_controls import NATURAL

if TYPE_CHECKING:
    from triportrait.live.session import LiveFrame, LiveSession
    from triportrait.types import PreparedPortrait

    Sink = Callable[[LiveFrame], None]


@dataclass(frozen=True, kw_only=True)
class Receivers:
    """Where motion goes as it happens."""

    live_link: str | None = None
    """Host, or host:port, that takes Live Link Face (Unreal, Blender add-ons). Usual port: 11111."""
    vmc: str | None = None
    """Host, or host:port, that takes the VMC protocol by OSC (VSeeFace, Warudo, VNyan). Usual port: 39539."""

    def targets(self) -> dict[str, str]:
        """Flag -> address of those that are given."""
        given = {"--live-link": self.live_link, "--vmc": self.vmc}
        return {flag: target for flag, target in given.items() if target is not None}


@dataclass(frozen=True, kw_only=True)
class LiveVoice(VoiceFlags):
    """How a voice moves the portrait."""

    head_motion: float = NATURAL
    """Amount of head motion."""


@dataclass
class Live:
    """A portrait that lives until Ctrl-C: as a camera for video calls, as motion for other programs, or both."""

    photo: Positional[Path]
    """Portrait photo, or an avatar file of 'triportrait portrait save'."""
    webcam: int | None = None
    """Number of the webcam whose face the portrait follows, 0 being the first. Look at it relaxed for half a second."""
    microphone: bool = False
    """The portrait speaks what the microphone hears. With --webcam it does so while nobody is seen."""
    voice: Path | None = None
    """The portrait says a recording, then idles."""
    camera: bool = False
    """Show it as a virtual camera."""
    speaker: str | None = None
    """Play the sound in step with the pictures on a device whose name holds this; 'default' is the usual one."""
    receivers: Receivers = field(default_factory=Receivers)
    seconds: float | None = None
    """End after so many seconds."""
    quality: Literal["draft", "standard", "high"] = "draft"
    """What it begins with; a machine that is too slow gets less by itself."""
    size: int | None = None
    """Side of the picture in pixels. Default: the quality's."""
    background: str | None = None
    """What stands behind the person: a colour such as green, a picture or a video. Default: the photo's own."""
    voice_flags: LiveVoice = field(default_factory=LiveVoice)
    label: bool = True
    """Small visible label that the video is generated."""
    watermark: bool = True
    """Invisible watermark in the pixels."""

    def run(self) -> int:
        from triportrait.background import Background
        from triportrait.files import check_readable
        from triportrait.live.session import LiveOptions
        from triportrait.media.audio import AudioReader
        from triportrait.motion.options import DriveOptions
        from triportrait.pipeline import Portrait
        from triportrait.provenance.marks import Marks

        self._check()
        if self.voice is not None:
            AudioReader.open(check_readable(self.voice))
        options = LiveOptions(
            drive=DriveOptions(**vars(self.voice_flags)),
            background=Background(self.background) if self.background else None,
            marks=Marks(self.label, self.watermark, manifest=False),
        )
        chosen = portrait_options(self.size, None, background_fill="smooth", quality=self.quality)
        portrait = Portrait.from_image(check_readable(self.photo), chosen, quality=self.quality)
        failures: list[BaseException] = []
        with ExitStack() as parts:
            sinks = [parts.enter_context(sink) for sink in self._sinks(portrait.prepared)]
            session = parts.enter_context(portrait.live(options))
            for name, work in self._sources(session).items():
                threading.Thread(target=_guarded, args=(work, session, failures), name=name, daemon=True).start()
            if self.microphone:
                from triportrait.media.devices import microphone

                rate_hz = options.sample_rate_hz
                parts.enter_context(microphone(rate_hz, lambda block: _take(session, block, rate_hz)))
            say("live; Ctrl-C ends it")
            for frame in session.run():
                for sink in sinks:
                    sink(frame)
                if self.seconds is not None and frame.time_s >= self.seconds:
                    session.close()
        if failures:
            raise failures[0]
        return 0

    def _check(self) -> None:
        check_size(self.size)
        if not (self.camera or self.receivers.targets()):
            raise OptionError("there is nothing to show the portrait with; give --camera, --live-link or --vmc")
        if self.microphone and self.voice is not None:
            raise OptionError("--microphone and --voice both speak; give one of them")
        if self.seconds is not None and not self.seconds > 0:
            raise OptionError(f"--seconds is {self.seconds:g}; use a positive number, or leave it out")

    def _sinks(self, portrait: PreparedPortrait) -> Iterator[contextlib.AbstractContextManager[Sink]]:
        from triportrait.types import FPS

        if self.camera:
            yield _camera(len(portrait.image), FPS)
        if self.speaker is not None:
            yield _speaker(None if self.speaker == "default" else self.speaker)
        for flag, target in self.receivers.targets().items():
            yield _sender(flag, target, portrait)

    def _sources(self, session: LiveSession) -> dict[str, Callable[[], None]]:
        """Name -> what a thread does."""
        sources: dict[str, Callable[[], None]] = {}
        if self.webcam is not None:
            sources["webcam"] = lambda: _watch(session, self.webcam or 0)
        if self.voice is not None:
            sources["voice"] = lambda: _speak(session, self.voice)
        return sources


@contextlib.contextmanager
def _camera(side_px: int, fps: float) -> Iterator[Sink]:
    from triportrait.media.devices import virtual_camera

    with virtual_camera(side_px, fps) as show:
        yield lambda frame: None if frame.image is None else show(frame.image)


@contextlib.contextmanager
def _speaker(name: str | None) -> Iterator[Sink]:
    from triportrait.live.session import LiveOptions
    from triportrait.media.devices import loudspeaker

    with loudspeaker(LiveOptions().sample_rate_hz, name) as play:
        yield lambda frame: play(frame.sound)


@contextlib.contextmanager
def _sender(flag: str, target: str, portrait: PreparedPortrait) -> Iterator[Sink]:
    from triportrait.motion.packets import turned_from
    from triportrait.motion.sending import MotionSender
    from triportrait.types import Motion

    send = MotionSender(flag, target)

    def sink(frame: LiveFrame) -> None:
        row = frame.motion
        motion = Motion(row.expression[None], row.rotation_rad[None], row.translation[None], row.gaze_rad[None])
        send(turned_from(motion, portrait.motion.rotation_rad), frame.index)

    try:
        yield sink
    finally:
        send.close()


def _watch(session: LiveSession, number: int) -> None:
    from triportrait.media.devices import webcam

    for picture in webcam(number):
        session.push_frame(picture)


def _speak(session: LiveSession, voice: Path | None) -> None:
    from triportrait.media.audio import stream_voice

    assert voice is not None, "there is a voice to say"
    for block in stream_voice(voice):
        session.push_audio(block, 16_000)
    session.flush()


def _take(session: LiveSession, block: object, rate_hz: int) -> None:
    """A microphone waits for nobody."""
    session.push_audio(block, rate_hz, wait=False)  # type: ignore[arg-type]


def _guarded(work: Callable[[], None], session: LiveSession, failures: list[BaseException]) -> None:
    """What goes wrong beside the session ends it, and is told by the command."""
    try:
        work()
    except BaseException as error:
        failures.append(error)
        session.close()
