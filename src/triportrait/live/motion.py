"""The session's endless motion: speech, silence and idling are one stream, and a voice that is interrupted closes its mouth."""

from __future__ import annotations

import math
from collections import deque
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import soxr

from triportrait.drivers import BorrowedPose, voice_settings
from triportrait.errors import OptionError
from triportrait.geometry.fields import smooth_step
from triportrait.live.watching import WatchedFace
from triportrait.motion.audio import AudioSettings, VoiceMotion
from triportrait.motion.controls import NAMES, Controls, ControlTrack
from triportrait.motion.options import DriveOptions
from triportrait.motion.personal_voice import PersonalVoice
from triportrait.motion.retarget import from_rest, hold_mouth, keep_in_view, with_clip_pose
from triportrait.motion.speech_features import RATE_HZ, Prosody, ProsodyTracker
from triportrait.motion.voice_graph import MouthStream, load_voice
from triportrait.nn.runtime import Graph
from triportrait.types import FPS, Array, MotionFrame, PreparedPortrait

#: An interrupted mouth is closed after so many rows: 120 ms. Jaws of speakers close in 100 to 150 ms.
CLOSING_ROWS = 3
#: A voice that begins without warning opens the mouth over so many rows.
OPENING_ROWS = 3
#: More slots than motion looks ahead.
_MOST_SILENT = 12
#: Controls go two thirds of their way to new values in this time.
_CONTROLS_S = 0.12
_ROW_SAMPLES = round(RATE_HZ / FPS)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What listening knew at some moment: samples and rows heard, rows given by the mouth, and the listeners."""

    heard: int
    prosody_rows: int
    mouth_rows: int
    mouth: MouthStream
    prosody: ProsodyTracker
    voice: PersonalVoice | None


class LiveFace(VoiceMotion):
    """A face that can be interrupted, and that can take silence back which it has heard and nobody else has."""

    def __init__(self, settings: AudioSettings, model: Graph) -> None:
        super().__init__(settings, model)
        #: Samples at 16 kHz and rows of prosody heard, rows given.
        self.heard = self._prosody_rows = self._given = 0
        # Rows of the mouth that were given before silence was taken back, and that come again.
        self._again = 0
        self._closing, self._opening = CLOSING_ROWS, OPENING_ROWS
        #: What the mouth said last, and when it was interrupted.
        self._last: Array = np.zeros(1, np.float32)
        self._left_at = self._last

    def hear(self, samples: Array) -> None:
        """See :meth:`VoiceMotion.hear`."""
        self.heard += len(samples)
        super().hear(samples)

    def interrupt(self) -> None:
        """Of the sound that was heard, the mouth says no more. Head, lids and gaze go on."""
        # The fresh stream's first row belongs to the next sample.
        silent = max(round(self.heard / _ROW_SAMPLES) - self._given, 0)
        self._mouth, self._again = MouthStream(self._model), 0
        self._own = None if self._own is None else self._own.anew()
        self._curves, self._contact = np.zeros((silent, len(self._names)), np.float32), np.zeros(silent, np.float32)
        self._gains, self._added = np.ones(silent, np.float32), np.zeros(silent, np.float32)
        self._closing, self._left_at = 0, self._last

    def remember(self) -> _Memory:
        """For :meth:`go_back`."""
        listeners = (deepcopy(self._mouth), deepcopy(self._prosody), deepcopy(self._own))
        return _Memory(self.heard, self._prosody_rows, self._mouth_rows, *listeners)

    def go_back(self, memory: _Memory) -> None:
        """What was heard since then, silence, was never heard; rows that were given stay."""
        self.heard, self._mouth, self._prosody, self._own = memory.heard, memory.mouth, memory.prosody, memory.voice
        too_many = self._prosody_rows - memory.prosody_rows
        self._natural.take_back(too_many)
        self._pauses.take_back(too_many)
        self._prosody_rows = memory.prosody_rows
        self._again = max(self._given - memory.mouth_rows, 0)
        self._curves, self._contact = self._curves[:0], self._contact[:0]
        self._gains, self._added = self._gains[:0], self._added[:0]
        self._opening = 0

    def set_controls(self, controls: Controls) -> None:
        """Other amounts from the next row on."""
        self._natural.set_controls(controls)

    @property
    def _mouth_rows(self) -> int:
        """Rows that the mouth's stream has given since the beginning."""
        return self._given + len(self._curves) - self._again

    def _follow(self, heard: Prosody) -> None:
        self._prosody_rows += len(heard)
        super()._follow(heard)

    def _append(self, curves: Array, contact: Array, gains: Array, added: Array) -> None:
        known = min(self._again, len(curves))
        self._again -= known
        super()._append(curves[known:], contact[known:], gains[known:], added[known:])

    def _changed(self, spoken: Array) -> Array:
        for row in spoken:
            self._given += 1
            if self._opening < OPENING_ROWS:
                self._opening += 1
                row *= smooth_step(self._opening / OPENING_ROWS)
            if self._closing < CLOSING_ROWS:
                self._closing += 1
                left = 1.0 - smooth_step(self._closing / CLOSING_ROWS)
                row[:] = np.maximum(row, left * self._left_at)
            self._last = row.copy()
        return spoken


class LiveMotion:
    """Slots of sound in, rows in a portrait's pose frame out.

    Args:
        portrait: who.
        options: how the motion is made; ``mouth`` is looked at.
        rate_hz: of the sound.

    Raises:
        OptionError, MediaError, MotionFileError: what the options name cannot be had, or are control curves, which have an end.
    """

    def __init__(self, portrait: PreparedPortrait, options: DriveOptions, rate_hz: int) -> None:
        if options.controls is not None:
            raise OptionError("controls over time belong to a recording; change them with set_controls while the portrait is live")
        settings = voice_settings(options).of_person(portrait.manner)
        pose = BorrowedPose.of(options)
        self._portrait, self._own = portrait, portrait.motion
        self._watched: WatchedFace | None = None
        self._pose = None if pose is None else pose.on(self._own)
        self._is_held = options.holds_mouth(bool(portrait.mouth_is_covered))
        self._face = LiveFace(settings, load_voice())
        # What was known before each of the silent slots that were heard last.
        self._silent: deque[_Memory] = deque(maxlen=_MOST_SILENT)
        self.controls = self._wanted = settings.controls
        self._given, self._eased = 0, -1
        #: Samples that are left out because they are known to be there already.
        self._early = 0
        # A short filter: a long one would hold back the sound by another frame.
        self._resampler = None if rate_hz == RATE_HZ else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="LQ")

    def hear(self, samples: Array) -> None:
        """Take the next slot, float32 [n] at the session's rate."""
        if samples.any():
            self._silent.clear()
        else:
            self._silent.append(self._face.remember())
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        self._face.hear(samples[self._early :])
        self._early = max(self._early - len(samples), 0)

    def go_back(self, slots: int) -> bool:
        """The last slots were silence that nobody has heard yet: others come in their place. False where that is not so."""
        if not 0 < slots <= len(self._silent):
            return False
        heard = self._face.heard - self._early - slots * _ROW_SAMPLES
        memory = self._silent[-slots]
        self._silent.clear()
        self._face.go_back(memory)
        # A resampler gives blocks of changing length: what it gives next belongs where it would have been.
        self._early = max(memory.heard - heard, 0)
        self._face.hear(np.zeros(max(heard - memory.heard, 0), np.float32))
        return True

    def row(self) -> MotionFrame | None:
        """The next row, or None until more sound was heard."""
        self._ease()
        chunk = self._face.take(1)
        if not len(chunk):
            return None
        own, eye_contact = self._own, self.controls.eye_contact
        emotions = ControlTrack(self.controls).emotions(self._given, 1)
        placed = from_rest(keep_in_view(chunk, own, eye_contact), own, emotions)
        if self._pose is not None:
            placed = with_clip_pose(placed, self._pose, self._given, eye_contact)
        if self._watched is not None:
            placed = self._watched.over(placed)
        if self._is_held:
            placed = hold_mouth(placed, own)
        self._given += 1
        return placed[0]

    def see(self, image: Array, moment_s: float) -> bool:
        """See :meth:`WatchedFace.see`; from the first picture on, the face follows what is seen."""
        watched = self._watched or WatchedFace(self._portrait)
        self._watched = watched
        return watched.see(image, moment_s)

    def interrupt(self) -> None:
        """See :meth:`LiveFace.interrupt`."""
        self._silent.clear()
        self._face.interrupt()

    def set_controls(self, controls: Controls) -> None:
        """Other amounts; the face goes there within some rows."""
        self._wanted = controls

    def _ease(self) -> None:
        if self.controls == self._wanted or self._eased == self._given:
            return
        self._eased = self._given
        share = 1.0 - math.exp(-1.0 / (FPS * _CONTROLS_S))
        now = {name: getattr(self.controls, name) for name in NAMES}
        away = {name: getattr(self._wanted, name) - value for name, value in now.items()}
        if max(map(abs, away.values())) < 1e-3:
            self.controls = self._wanted
        else:
            self.controls = replace(self.controls, **{name: now[name] + share * away[name] for name in NAMES})
        self._face.set_controls(self.controls)
