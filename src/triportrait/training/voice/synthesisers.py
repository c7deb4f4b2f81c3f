"""Speech with exact phoneme times from free synthesisers (flite, festival, espeak-ng); training time only.

Nothing here is needed by the package at run time. The three tools are ordinary Debian packages:
``apt-get install flite festival festvox-us-slt-hts espeak-ng`` and, for voices joined from recorded speech,
``festvox-kallpc16k festvox-kdlpc16k festvox-ru festvox-czech-{dita,machac,ph} festvox-suopuhe-{lj,mv} festvox-ca-ona-hts
festvox-italp16k festvox-itapc16k``. Each function returns mono sound and the phonemes
with start and end in seconds, in the symbols of the tool (ARPAbet in lower case for flite and festival, IPA for
espeak-ng).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import MissingPart
from triportrait.media.audio import read_audio
from triportrait.types import Array, Waveform

#: What to do where a synthesiser is missing.
INSTALL = "install it, for example with 'apt-get install flite festival festvox-us-slt-hts espeak-ng'"
#: Everything is trained at this rate.
SYNTHESIS_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Phone:
    """One phoneme: its symbol and when it is heard, in seconds."""

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """Synthesised speech with its phonemes, in order and without overlap."""

    waveform: Waveform
    phones: tuple[Phone, ...]


def _said_by(command: list[str], what: str, written: Path) -> str:
    """What a synthesiser prints while it makes the file ``written``.

    Raises:
        MissingPart: the program or its voice is not installed.
    """
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        raise MissingPart(f"the speech synthesiser {command[0]} is not installed; {INSTALL}") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise MissingPart(f"{command[0]} could not speak with {what} ({type(error).__name__}); {INSTALL}") from None
    if not written.exists():
        raise MissingPart(f"{command[0]} has not {what}; {INSTALL}")
    return result.stdout


def check_synthesisers(programs: Sequence[str]) -> None:
    """Refuse work that a missing program would end in the middle of.

    Args:
        programs: of ``flite``, ``festival`` and ``espeak-ng``.

    Raises:
        MissingPart: one of them is not installed.
    """
    for name in programs:
        if (_espeak_library() is None) if name == "espeak-ng" else (shutil.which(name) is None):
            raise MissingPart(f"the speech synthesiser {name} is not installed; {INSTALL}")


def flite(text: str, voice: str = "slt", duration_stretch: float = 1.0) -> Utterance:
    """Speak with flite; ``-psdur`` prints where each phoneme ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["flite", "-psdur", "-voice", voice, "--setf", f"duration_stretch={duration_stretch}"]
        said = _said_by([*command, "-t", text, str(path)], f"the voice {voice!r}", path)
        waveform = read_audio(path, SYNTHESIS_HZ)
    phones, start = [], 0.0
    # Several sentences print one list each; times restart, so they are told apart by going backwards.
    offset = 0.0
    for word in said.split():
        symbol, _, end_text = word.rpartition(":")
        end = float(end_text) + offset
        if end < start:
            offset = start
            end = float(end_text) + offset
        phones.append(Phone(symbol, start, end))
        start = end
    return Utterance(waveform, tuple(phones))


def festival(text: str, voice: str = "cmu_us_slt_arctic_hts", duration_stretch: float = 1.0) -> Utterance:
    """Speak with festival; its segment relation holds where each phoneme ends."""
    with tempfile.TemporaryDirectory() as folder:
        wav, segments = Path(folder) / "speech.wav", Path(folder) / "segments.txt"
        quoted = text.replace("\\", " ").replace('"', " ")
        program = (
            f"(begin (voice_{voice})(Parameter.set 'Duration_Stretch {duration_stretch})"
            f'(set! u (utt.synth (Utterance Text "{quoted}")))'
            f'(utt.save.wave u "{wav}" \'riff)(utt.save.segs u "{segments}"))'
        )
        _said_by(["festival", "--batch", program], f"the voice {voice!r}", segments)
        waveform = read_audio(wav, SYNTHESIS_HZ)
        lines = segments.read_text().splitlines()
    phones, start = [], 0.0
    for line in lines[lines.index("#") + 1 :]:
        end_text, _, symbol = line.split()[:3]
        phones.append(Phone(festival_symbol(symbol, voice), start, float(end_text)))
        start = float(end_text)
    return Utterance(waveform, tuple(phones))


#: Phoneme sets of festival's voices in other languages than English, in IPA; length and stress marks are left out first.
_CZECH = {"c": "ts", "c~": "tʃ", "ch": "x", "d~": "ɟ", "dz~": "dʒ", "h": "ɦ", "n*": "ŋ", "n~": "ɲ", "r": "ɾ", "r~": "ʒ",
          "r~*": "ʃ", "s~": "ʃ", "t~": "c", "z~": "ʒ"}  # fmt: skip
_FINNISH = {"a": "ɑ", "y": "ʏ", "@": "æ", "7": "ø", "&": "ə", "T": "θ", "D": "ð", "S": "ʃ", "Z": "ʒ", "N": "ŋ",
            "L": "ʎ", "r": "ɾ"}  # fmt: skip
_ROMANCE = {"E": "ɛ", "O": "ɔ", "ax": "ə", "S": "ʃ", "Z": "ʒ", "tS": "tʃ", "dZ": "dʒ", "J": "ɲ", "L": "ʎ", "ng": "ŋ",
            "nf": "ɱ", "r": "ɾ", "rr": "ɾ"}  # fmt: skip
_RUSSIAN = {"ii": "i", "yy": "ɨ", "y": "ɨ", "uu": "u", "ur": "u", "ee": "e", "oo": "o", "aa": "a", "a": "ʌ", "ae": "ɪ",
            "ay": "ɪ", "sh": "ʃ", "sch": "ɕ", "zh": "ʒ", "ch": "tɕ", "h": "x", "hh": "x", "c": "ts", "r": "ɾ",
            "rr": "ɾ"}  # fmt: skip

#: Festival's voices that join recorded speech, with the language they speak and their phoneme set (None = ARPAbet).
FESTIVAL_VOICES: dict[str, tuple[str, dict[str, str] | None]] = {
    "cmu_us_slt_arctic_hts": ("en-us", None),
    "kal_diphone": ("en-us", None),
    "ked_diphone": ("en-us", None),
    "msu_ru_nsh_clunits": ("ru", _RUSSIAN),
    "czech_dita": ("cs", _CZECH),
    "czech_machac": ("cs", _CZECH),
    "czech_ph": ("cs", _CZECH),
    "suo_fi_lj_diphone": ("fi", _FINNISH),
    "hy_fi_mv_diphone": ("fi", _FINNISH),
    "upc_ca_ona_hts": ("ca", _ROMANCE),
    "lp_diphone": ("it", _ROMANCE),
    "pc_diphone": ("it", _ROMANCE),
}


def festival_symbol(symbol: str, voice: str) -> str:
    """A phoneme of a festival voice in ARPAbet (English voices) or IPA."""
    table = FESTIVAL_VOICES[voice][1]
    if table is None or symbol in ("pau", "#", "_", "##"):
        return symbol
    bare = symbol.rstrip(":0123456789") or symbol
    # Palatalised consonants are written twice in the Russian set.
    if bare not in table and len(bare) == 2 and bare[0] == bare[1]:
        bare = bare[0]
    return table.get(bare, bare)


class _EspeakEvent(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_PHONEME_EVENT = 7


def _espeak_library() -> ctypes.CDLL | None:
    """The shared library of espeak-ng, or None where there is none."""
    try:
        return ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
    except OSError:
        return None


class Espeak:
    """espeak-ng through its C interface, which reports every phoneme's start in milliseconds (one object per process)."""

    def __init__(self) -> None:
        library = _espeak_library()
        if library is None:
            raise MissingPart(f"the speech synthesiser espeak-ng is not installed; {INSTALL}")
        self._library = library
        # AUDIO_OUTPUT_SYNCHRONOUS = 2 hands sound to the callback; options 1 = phoneme events, 2 = in IPA.
        self._rate_hz = self._library.espeak_Initialize(2, 0, None, 3)
        if self._rate_hz <= 0:
            raise MissingPart("espeak-ng could not start; install its data, for example with 'apt-get install espeak-ng-data'")
        self._chunks: list[Array] = []
        self._events: list[tuple[float, str]] = []
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent))
        self._callback = prototype(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != 0:
            event = events[index]
            if event.type == _PHONEME_EVENT:
                symbol = bytes(event.id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._events.append((event.audio_position / 1000.0, symbol))
            index += 1
        return 0

    def speak(self, text: str, voice: str = "en-us", rate_wpm: int = 165, pitch: int = 50, spread: int = 50) -> Utterance:
        """Speak ``text``; ``voice`` may carry a variant (``"de+f3"``); pitch and its spread are 0..100."""
        self._chunks, self._events = [], []
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise MissingPart(f"espeak-ng has no voice {voice!r}; install its data, for example with 'apt-get install espeak-ng-data'")
        for parameter, value in ((1, rate_wpm), (3, pitch), (4, spread)):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        data = text.encode("utf-8")
        # Flags: 1 = UTF-8.
        self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
        samples = np.concatenate(self._chunks).astype(np.float32) / 32768.0
        seconds = len(samples) / self._rate_hz
        events = [(time, symbol) for time, symbol in self._events if time < seconds]
        starts = [time for time, _ in events] + [seconds]
        phones = [Phone("_", 0.0, starts[0])] if starts[0] > 0 else []
        for (time, symbol), end in zip(events, starts[1:], strict=True):
            cleaned = re.sub(r"[ˈˌ'\d˥˦˧˨˩.|-]", "", symbol)
            phones.append(Phone(cleaned or "_", time, max(end, time)))
        return Utterance(Waveform(samples, int(self._rate_hz)), tuple(phones))
