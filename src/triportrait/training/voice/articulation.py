"""Phonemes with times -> expression curves: a coarticulation model for synthesised speech.

Source: M. Cohen and D. Massaro, "Modeling coarticulation in synthetic visual speech", 1993. Every phoneme pulls each
articulator towards its target with a dominance that decays exponentially away from its segment; the curve is the
dominance-weighted mean, ``F(t) = sum_i D_i(t) T_i / (sum_i D_i(t) + D_rest)``. Three additions, all common in
articulatory phonetics:

* **Contacts are gates, not blends.** /p b m/ and longer pauses close the lips completely (jaw partly open behind
  them, ``mouthClose`` bridging the rest), /f v/ bring the lower lip to the teeth, whatever the neighbours want.
* **Lips precede sound**: closing begins about 70 ms before a bilabial is heard, opening about 120 ms before the first
  phoneme after a pause, rounding spreads wider than opening.
* **Loudness opens the jaw**: louder vowels open further.
* **Breath**: people breathe in through the parted mouth between phrases (R. Lester and J. Hoit, "Nasal and oral
  inspiration during natural speech breathing", 2014), so the lips stay apart for 0.5 to 0.9 s after the last sound and
  close only then.

Targets are in units of the ARKit curves on ICT-FaceKit's shapes. Openings began with V. Fromkin, "Lip positions in American
English vowels", 1964, and C. Abry and L. Boe, "Laws for lips", 1986 (rounded vowels part the lips by a few millimetres
only); levels and dominance of sounds that the GRID corpus has were then fitted to the lips of eleven of its speakers: levels
measured on one of them fit the other ten as well as their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from triportrait.motion.lips import close_lips
from triportrait.types import ARKIT_EXPRESSIONS, Array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triportrait.training.voice.synthesisers import Phone


#: Articulators of the model, in the order of the target tables.
ARTICULATORS = ("jaw", "funnel", "pucker", "stretch", "smile", "lower", "upper", "shrug", "tongue")


@dataclass(frozen=True, slots=True)
class Viseme:
    """Targets (order of :data:`ARTICULATORS`), dominance of opening and of rounding/spreading, and contacts."""

    targets: tuple[float, ...]
    opening: float = 1.0
    shape: float = 1.0
    lips: float = 0.0
    teeth: float = 0.0


#                   jaw   funnel pucker stretch smile lower upper shrug tongue
VISEMES: dict[str, Viseme] = {
    "sil": Viseme((0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0), 1.0, 0.6),
    "aa": Viseme((0.32, 0.00, 0.00, 0.02, 0.00, 0.15, 0.07, 0.00, 0.0), 1.3, 0.8),
    "ae": Viseme((0.28, 0.00, 0.00, 0.14, 0.05, 0.22, 0.12, 0.00, 0.0), 1.3, 0.9),
    "ah": Viseme((0.19, 0.00, 0.00, 0.03, 0.00, 0.14, 0.06, 0.00, 0.0), 1.1, 0.6),
    "ax": Viseme((0.14, 0.00, 0.00, 0.03, 0.00, 0.16, 0.08, 0.00, 0.0), 0.7, 0.3),
    "eh": Viseme((0.29, 0.00, 0.00, 0.14, 0.05, 0.18, 0.10, 0.00, 0.0), 1.1, 0.9),
    "ih": Viseme((0.19, 0.00, 0.00, 0.14, 0.06, 0.24, 0.14, 0.00, 0.0), 0.9, 0.8),
    "iy": Viseme((0.23, 0.00, 0.00, 0.24, 0.14, 0.25, 0.15, 0.00, 0.0), 1.0, 1.2),
    "uw": Viseme((0.026, 0.10, 0.62, 0.00, 0.00, 0.02, 0.00, 0.00, 0.0), 1.2, 1.6),
    "uh": Viseme((0.07, 0.10, 0.38, 0.00, 0.00, 0.08, 0.02, 0.00, 0.0), 1.0, 1.2),
    "ow": Viseme((0.10, 0.16, 0.46, 0.00, 0.00, 0.08, 0.00, 0.00, 0.0), 1.2, 1.4),
    "ao": Viseme((0.16, 0.16, 0.26, 0.00, 0.00, 0.11, 0.03, 0.00, 0.0), 1.3, 1.2),
    "er": Viseme((0.08, 0.12, 0.24, 0.00, 0.00, 0.10, 0.04, 0.00, 0.0), 1.0, 0.9),
    "yy": Viseme((0.03, 0.12, 0.60, 0.00, 0.00, 0.05, 0.02, 0.00, 0.0), 1.1, 1.6),
    "oe": Viseme((0.08, 0.14, 0.42, 0.00, 0.00, 0.08, 0.02, 0.00, 0.0), 1.1, 1.3),
    "p": Viseme((0.06, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.10, 0.0), 1.2, 0.3, lips=1.0),
    "f": Viseme((0.07, 0.00, 0.00, 0.05, 0.00, 0.00, 0.12, 0.00, 0.0), 1.5, 0.5, teeth=1.0),
    "th": Viseme((0.08, 0.00, 0.00, 0.06, 0.00, 0.17, 0.08, 0.00, 0.35), 1.0, 0.5),
    "t": Viseme((0.15, 0.00, 0.00, 0.06, 0.00, 0.17, 0.08, 0.00, 0.0), 0.5, 0.25),
    "s": Viseme((0.11, 0.00, 0.00, 0.14, 0.04, 0.37, 0.21, 0.00, 0.0), 1.2, 0.7),
    "sh": Viseme((0.05, 0.22, 0.26, 0.00, 0.00, 0.21, 0.16, 0.00, 0.0), 1.3, 1.3),
    "k": Viseme((0.13, 0.00, 0.00, 0.03, 0.00, 0.18, 0.08, 0.00, 0.0), 0.4, 0.15),
    "h": Viseme((0.16, 0.00, 0.00, 0.02, 0.00, 0.15, 0.06, 0.00, 0.0), 0.2, 0.1),
    "l": Viseme((0.17, 0.00, 0.00, 0.05, 0.00, 0.19, 0.09, 0.00, 0.1), 0.6, 0.3),
    "r": Viseme((0.035, 0.10, 0.22, 0.00, 0.00, 0.06, 0.03, 0.00, 0.0), 1.0, 0.9),
    "w": Viseme((0.015, 0.04, 0.66, 0.00, 0.00, 0.02, 0.00, 0.00, 0.0), 2.0, 1.8),
}

#: ARPAbet (flite, festival) -> visemes, in order of time.
ARPABET: dict[str, tuple[str, ...]] = {
    "pau": ("sil",), "sil": ("sil",), "h#": ("sil",), "brth": ("sil",), "ssil": ("sil",),
    "aa": ("aa",), "ae": ("ae",), "ah": ("ah",), "ax": ("ax",), "ao": ("ao",), "eh": ("eh",), "er": ("er",), "axr": ("er",),
    "ih": ("ih",), "ix": ("ih",), "iy": ("iy",), "uh": ("uh",), "uw": ("uw",), "ay": ("aa", "ih"), "aw": ("aa", "uh"),
    "ey": ("eh", "iy"), "ow": ("ow", "uw"), "oy": ("ao", "iy"), "p": ("p",), "b": ("p",), "m": ("p",), "em": ("p",),
    "f": ("f",), "v": ("f",), "th": ("th",), "dh": ("th",), "t": ("t",), "d": ("t",), "n": ("t",), "en": ("t",), "nx": ("t",),
    "dx": ("t",), "s": ("s",), "z": ("s",), "sh": ("sh",), "zh": ("sh",), "ch": ("t", "sh"), "jh": ("t", "sh"), "k": ("k",),
    "g": ("k",), "ng": ("k",), "hh": ("h",), "hv": ("h",), "l": ("l",), "el": ("l",), "r": ("r",), "w": ("w",), "y": ("ih",),
}  # fmt: skip

#: IPA characters -> viseme; marks that are not listed (length, nasality, palatalisation) change nothing.
IPA: dict[str, str] = {
    **dict.fromkeys("aɑɐäɶ", "aa"), **dict.fromkeys("æ", "ae"), **dict.fromkeys("ʌ", "ah"), **dict.fromkeys("əɘɵɨᵻɤ", "ax"),
    **dict.fromkeys("ɛe", "eh"), **dict.fromkeys("ɪ", "ih"), **dict.fromkeys("ijɯ", "iy"), **dict.fromkeys("uʉ", "uw"),
    **dict.fromkeys("ʊ", "uh"), **dict.fromkeys("o", "ow"), **dict.fromkeys("ɔɒ", "ao"), **dict.fromkeys("ɜɝɚ", "er"),
    **dict.fromkeys("yʏɥ", "yy"), **dict.fromkeys("øœ", "oe"), **dict.fromkeys("pbmɓ", "p"), **dict.fromkeys("fvʋɱ", "f"),
    **dict.fromkeys("θð", "th"), **dict.fromkeys("tdnɾrʈɖɳɲɗ", "t"), **dict.fromkeys("szɕʑ", "s"),
    **dict.fromkeys("ʃʒʂʐ", "sh"), **dict.fromkeys("kɡgŋxɣqɢχʁcɟçʀ", "k"), **dict.fromkeys("hɦʔħʕ", "h"),
    **dict.fromkeys("lɭɫʎɬ", "l"), **dict.fromkeys("ɹɻ", "r"), **dict.fromkeys("wʍβɸ", "w"),
}  # fmt: skip


#: A symbol that :func:`visemes_of` maps to each viseme alone.
VISEME_SYMBOL: dict[str, str] = {
    **{name: name for name in VISEMES if name in ARPABET and ARPABET[name] == (name,)},
    "sil": "pau",
    "uw": "ʉ",
    "ow": "o",
    "yy": "ʏ",
    "oe": "ø",
    "h": "hh",
}


def visemes_of(symbol: str) -> tuple[str, ...]:
    """Visemes of one phoneme symbol, ARPAbet or IPA; unknown symbols are neutral (a schwa), pauses are ``sil``."""
    if symbol in ARPABET:
        return ARPABET[symbol]
    if not symbol or symbol[0] in "_(#":
        return ("sil",)
    found: list[str] = []
    for character in symbol:
        viseme = IPA.get(character)
        if viseme and (not found or found[-1] != viseme):
            found.append(viseme)
    return tuple(found[:3]) or ("ax",)


@dataclass(frozen=True, slots=True)
class Style:
    """How someone articulates; the default is a clear average speaker."""

    opening: float = 1.0
    rounding: float = 1.0
    spreading: float = 1.0
    upper: float = 1.0
    lower: float = 1.0
    press: float = 0.25
    asymmetry: float = 0.0
    loudness: float = 0.3
    lead_s: float = 0.0
    jaw_lip_balance: float = field(default=1.0)
    #: How far the mouth stays open in a pause, 1 = like a schwa, 0 = it closes at once; and how long.
    breath: float = 0.8
    breath_s: float = 0.7

    @staticmethod
    def sample(random: np.random.Generator) -> Style:
        """A speaker: log-normal amplitudes, a little lead or lag, a lopsided mouth.

        The median opens a quarter further than the tables, which were made after a corpus of sober sentences; in
        conversation the 95th percentile of opening is about a tenth of the face's height.
        """
        opening, rounding, spreading, upper, lower = np.exp(random.normal([0.22, 0.1, 0.1, 0.1, 0.1], [0.2, 0.16, 0.2, 0.25, 0.2]))
        return Style(
            opening=float(opening),
            rounding=float(rounding),
            spreading=float(spreading),
            upper=float(upper),
            lower=float(lower),
            press=float(random.uniform(0.1, 0.4)),
            asymmetry=float(random.normal(0.0, 0.06)),
            loudness=float(random.uniform(0.1, 0.5)),
            lead_s=float(random.normal(0.0, 0.008)),
            jaw_lip_balance=float(np.exp(random.normal(0.0, 0.15))),
            breath=0.0 if random.random() < 0.15 else float(random.uniform(0.5, 1.1)),
            breath_s=float(random.uniform(0.5, 0.9)),
        )


#: Pauses up to this long leave the lips apart.
_SHORT_PAUSE_S = 0.3
#: Moments of a frame at which curves are worked out.
_FINE = 4


@dataclass(frozen=True, slots=True)
class _Segments:
    start: Array
    end: Array
    names: list[str]


def _segments(phones: Sequence[Phone], seconds: float) -> _Segments:
    """Visemes with times: diphthongs and affricates are split, pauses joined, ones under 80 ms dissolved into their neighbours."""
    rows: list[list] = []
    for phone in phones:
        names = visemes_of(phone.symbol)
        step = (phone.end_s - phone.start_s) / len(names)
        for part, name in enumerate(names):
            start = phone.start_s + part * step
            if name == "sil" and rows and rows[-1][2] == "sil":
                rows[-1][1] = start + step
            else:
                rows.append([start, start + step, name])
    kept: list[list] = []
    for row in rows:
        inner = 0 < len(kept) and row is not rows[-1]
        if row[2] == "sil" and inner and row[1] - row[0] < 0.08:
            kept[-1][1] = row[1]
        else:
            kept.append(row)
    if kept and kept[-1][1] < seconds:
        if kept[-1][2] == "sil":
            kept[-1][1] = seconds
        else:
            kept.append([kept[-1][1], seconds, "sil"])
    return _Segments(np.array([r[0] for r in kept]), np.array([r[1] for r in kept]), [r[2] for r in kept])


def viseme_rows(phones: Sequence[Phone], times: Array) -> Array:
    """Number of the viseme (its place in :data:`VISEMES`) that sounds at each of ``times`` [t]: int64 [t]."""
    segments = _segments(phones, max(float(times[-1]), phones[-1].end_s) if len(times) else 0.0)
    numbers = np.array([list(VISEMES).index(name) for name in segments.names])
    return numbers[np.clip(np.searchsorted(segments.start, times + 1e-6, side="right") - 1, 0, None)]


def _gate(times: Array, start: float, end: float, rise_s: float, fall_s: float) -> Array:
    """1 between start and end, raised cosines before and after."""
    rise = np.clip((times - (start - rise_s)) / rise_s, 0.0, 1.0)
    fall = np.clip(((end + fall_s) - times) / fall_s, 0.0, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * fall))


def _sharp(parts: Array) -> Array:
    """Gates [t, parts of a frame] -> [t]: the mean, but where it is highest the peak, so that every contact shows and none
    spreads over its neighbours (on GRID's lips a bilabial shuts two frames of 40 ms, not three)."""
    mean = parts.mean(axis=1)
    before, after = np.append(mean[:1], mean[:-1]), np.append(mean[1:], mean[-1:])
    return np.where((mean >= before) & (mean >= after), parts.max(axis=1), mean)


def contact_curves(phones: Sequence[Phone], times: Array, style: Style | None = None) -> tuple[Array, Array, Array]:
    """How firmly lips touch lips (bilabials, pauses) and teeth (labiodentals), and how far the mouth is at rest, at
    ``times`` [t], each [t] in 0..1."""
    style = style or Style()
    segments = _segments(phones, float(times[-1]) if len(times) else 0.0)
    lips, teeth, rest = np.zeros(len(times)), np.zeros(len(times)), np.zeros(len(times))
    lengths = segments.end - segments.start
    for index, (start, end, name) in enumerate(zip(segments.start, segments.end, segments.names, strict=True)):
        seconds = end - start
        viseme = VISEMES[name]
        if viseme.lips or viseme.teeth:
            # A stop's segment ends with its burst: the lips part after 80 % of it. At least 50 ms, so that one frame
            # of 25 per second shows it.
            hold = max(0.8 * seconds, 0.05)
            # Closing and parting take at most 60 % of the neighbour, so that a short vowel between two closures shows.
            rise = min(0.075, 0.6 * lengths[index - 1]) if index else 0.075
            fall = min(0.06, 0.6 * lengths[index + 1]) if index + 1 < len(lengths) else 0.06
            gate = _gate(times, start, start + hold, max(rise, 0.02), max(fall, 0.02))
            if viseme.lips:
                lips = np.maximum(lips, gate)
            else:
                teeth = np.maximum(teeth, gate)
        elif name == "sil" and seconds > _SHORT_PAUSE_S:
            # The mouth closes after a breath, or within 0.16 s of the last sound, and opens 0.12 s before the next.
            first, last = start <= 1e-6, end >= times[-1]
            if style.breath and not first:
                begin, rise = start + style.breath_s, 0.25
                if not last and seconds < style.breath_s + 0.4:
                    continue
            else:
                begin, rise = -1.0 if first else start + min(0.16, 0.4 * seconds), 0.12
            rest = np.maximum(rest, _gate(times, begin, 1e9 if last else max(end - 0.13, begin), rise, 0.08))
    lips = np.maximum(lips, rest)
    return lips, teeth * (1 - lips), rest


def curves_from_phones(
    phones: Sequence[Phone],
    frames: int,
    fps: float = 25.0,
    style: Style | None = None,
    loudness: Array | None = None,
) -> tuple[Array, Array]:
    """Expression curves and lip contact of an utterance.

    Args:
        phones: phonemes with times.
        frames: number of rows; row i is at ``i / fps`` seconds.
        fps: rows per second.
        style: the speaker; None for the average.
        loudness: [any] 0..1 at 100 per second, 0.5 = usual; opens the jaw of loud vowels.

    Returns:
        expression [frames, 44] float32 in the order of ``ARKIT_EXPRESSIONS``, and contact [frames] float32 in 0..1.
    """
    style = style or Style()
    # Everything is worked out at 100 per second and averaged over a frame; contacts keep their strongest moment.
    times = (np.arange(frames * _FINE) - (_FINE - 1) / 2) / (fps * _FINE) - style.lead_s
    segments = _segments(phones, frames / fps)
    if loudness is not None and len(loudness):
        local = np.interp(times, np.arange(len(loudness)) / 100.0, loudness)
    else:
        local = np.full(len(times), 0.5)
    lips, teeth, rest = contact_curves(phones, times, style)
    tracks = _articulator_tracks(segments, times, style, local, rest)
    contact = _sharp(lips.reshape(frames, _FINE))
    smooth = {name: track.reshape(frames, _FINE).mean(axis=1) for name, track in tracks.items()}
    expression = _curves_of(smooth, contact, teeth.reshape(frames, _FINE).max(axis=1), _pressed(segments, times, frames), style)
    expression = close_lips(np.clip(expression, 0.0, 1.0), ARKIT_EXPRESSIONS, contact)
    return expression, contact.astype(np.float32)


def _articulator_tracks(segments: _Segments, times: Array, style: Style, loudness: Array, rest: Array) -> dict[str, Array]:
    """Dominance-weighted mean of the targets at ``times`` [t]: articulator -> [t]; ``loudness`` and ``rest`` [t]."""
    centre, half = (segments.start + segments.end) / 2, (segments.end - segments.start) / 2
    targets = np.array([VISEMES[name].targets for name in segments.names])
    silent = np.array([name == "sil" for name in segments.names])
    # Breath: as open as a schwa, unless nobody has spoken yet.
    parted = silent & (segments.start > 1e-6)
    targets[parted] = style.breath * np.array(VISEMES["ax"].targets)
    # Distance from the inner half of the segment; negative before it. What is held, a breath or a sung note, is held to within 60 ms of
    # its ends.
    offset = times[:, None] - centre
    core = np.maximum(0.5 * half, half - 0.06)
    outside = np.sign(offset) * np.maximum(np.abs(offset) - core, 0.0)

    def dominance(strengths: Array, before_s: float, after_s: float) -> Array:
        return strengths * np.exp(-np.where(outside < 0, -outside / before_s, outside / after_s))

    # In a short pause the mouth does not close, it only falls towards rest.
    brief = silent & (2 * half < _SHORT_PAUSE_S)
    opening = np.array([VISEMES[name].opening for name in segments.names]) * np.where(brief, 0.25, 1.0)
    quick = dominance(opening, 0.045, 0.050)
    wide = dominance(np.array([VISEMES[name].shape for name in segments.names]), 0.085, 0.065)
    tracks = {}
    for column, name in enumerate(ARTICULATORS):
        weight = wide if name in ("funnel", "pucker", "stretch", "smile") else quick
        tracks[name] = (weight @ targets[:, column]) / (weight.sum(axis=1) + 0.04)
    tracks = {name: track * (1.0 - rest) for name, track in tracks.items()}
    # Loudness says nothing about the mouth in a pause.
    breathing = (quick[:, parted].sum(axis=1) / (quick.sum(axis=1) + 0.04)) if parted.any() else 0.0
    emphasis = np.clip(1.0 + style.loudness * 2.0 * (loudness - 0.5) * (1.0 - breathing), 0.4, 1.5)
    tracks["jaw"] *= style.opening * style.jaw_lip_balance * emphasis
    tracks["lower"] *= style.lower * style.opening / style.jaw_lip_balance
    tracks["upper"] *= style.upper * style.opening
    tracks["funnel"] *= style.rounding
    tracks["pucker"] *= style.rounding
    tracks["stretch"] *= style.spreading
    tracks["smile"] *= style.spreading
    return tracks


def _pressed(segments: _Segments, times: Array, frames: int) -> Array:
    """How firmly bilabials press, [frames]; a resting mouth does not press."""
    stop_like = np.zeros(len(times))
    for start, end, name in zip(segments.start, segments.end, segments.names, strict=True):
        if VISEMES[name].lips:
            stop_like = np.maximum(stop_like, _gate(times, start, max(0.2 * start + 0.8 * end, start + 0.05), 0.05, 0.05))
    return stop_like.reshape(frames, _FINE).max(axis=1)


def _curves_of(tracks: dict[str, Array], contact: Array, tooth: Array, pressed: Array, style: Style) -> Array:
    """Articulators as ARKit curves [frames, 44], beyond 0..1 where styles exaggerate; all tracks [frames]."""
    expression = np.zeros((len(contact), len(ARKIT_EXPRESSIONS)), np.float32)

    def put(name: str, values: Array) -> None:
        if name in ARKIT_EXPRESSIONS:
            expression[:, ARKIT_EXPRESSIONS.index(name)] = values
        else:
            expression[:, ARKIT_EXPRESSIONS.index(name + "Left")] = values * (1 + style.asymmetry)
            expression[:, ARKIT_EXPRESSIONS.index(name + "Right")] = values * (1 - style.asymmetry)

    # At the teeth the lower lip rolls in and rises; the jaw is nearly closed.
    put("jawOpen", tracks["jaw"] * (1 - 0.6 * tooth) + 0.045 * tooth)
    put("mouthFunnel", tracks["funnel"] * (1 - 0.7 * tooth))
    put("mouthPucker", tracks["pucker"] * (1 - 0.3 * contact))
    put("mouthStretch", tracks["stretch"])
    put("mouthSmile", tracks["smile"])
    put("mouthDimple", 0.3 * tracks["stretch"])
    put("mouthLowerDown", tracks["lower"] * (1 - tooth))
    put("mouthUpperUp", tracks["upper"] * (1 - 0.3 * tooth) + 0.06 * tooth)
    put("mouthRollLower", 0.45 * tooth)
    put("tongueOut", tracks["tongue"] * (1 - contact))
    put("jawForward", 0.25 * tracks["funnel"])
    put("mouthPress", style.press * pressed)
    put("mouthRollUpper", 0.12 * pressed)
    put("mouthShrugLower", tracks["shrug"] * contact)
    return expression
