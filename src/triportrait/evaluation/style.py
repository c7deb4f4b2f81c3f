"""Whether a manner is the speaker's own, and whether a voice takes on that of another.

Two parts: each half of a clip looks for its other half among all clips' other halves; and each clip's voice speaks in the manner of each
other clip, where what is made is measured as the clips are. Who takes on the manner may be our default (moments are matched) or the learned
manner of ERLNet's reconstruction; both are judged by the same moments, the learned one by its own codes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from triportrait.erlnet.driver import LearnedSpeaker
from triportrait.erlnet.model import ErlnetModel, load_erlnet
from triportrait.errors import MediaError, OptionError
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.clip_folder import find_clips
from triportrait.evaluation.report import write_report
from triportrait.evaluation.running import Progress
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.lips import lip_opening
from triportrait.motion.manner import MEASURES, distance, manner_code
from triportrait.motion.style import style_of
from triportrait.types import Array, Motion, Waveform

FORMAT = "triportrait-style-1"

#: What is to come nearer -> the code's numbers that say it.
GAPS: dict[str, tuple[str, ...]] = {
    "range": ("pitch_spread", "yaw_spread", "roll_spread"),
    "speed": ("head_rate",),
    "brows": ("brow_spread",),
    "smile": ("mouthSmile_level",),
    "opening": ("lip_spread",),
}

#: Lips whose gap in face heights is smaller count as closed.
_CLOSED = 0.004


@dataclass(frozen=True, slots=True)
class StyleOptions:
    """What ``triportrait evaluate style`` asks for.

    Args:
        clips: folder of videos with sound, at least 8 s each.
        out: the report.
        seed: of the voice's motion.
        limit: at most so many clips.
        cache: folder in which the clips' motion is kept.
        voice_driver: ``natural``, or ``erlnet:FOLDER``.
    """

    clips: Path
    out: Path
    seed: int = 0
    limit: int | None = None
    cache: Path | None = None
    voice_driver: str = "natural"

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise OptionError(f"--limit is {self.limit}; a manner is told from others, so use 2 or more clips.")


class Manners(Protocol):
    """A way to tell a manner and to take it on."""

    def code(self, motion: Motion) -> Array:
        """Of whoever a motion was measured on."""
        ...

    def apart(self, first: Array, second: Array) -> float:
        """How far two codes lie apart."""
        ...

    def speak(self, voice: Waveform, seed: int, lender: Motion | None) -> Motion:
        """A voice in the manner of a clip, or in none."""
        ...


class Moments:
    """Our default: the code holds moments, and they are matched."""

    def code(self, motion: Motion) -> Array:
        """See :class:`Manners`."""
        return manner_code(motion)

    def apart(self, first: Array, second: Array) -> float:
        """See :class:`Manners`."""
        return distance(first, second)

    def speak(self, voice: Waveform, seed: int, lender: Motion | None) -> Motion:
        """See :class:`Manners`."""
        return AudioDriver(voice, AudioSettings(seed=seed, style=None if lender is None else style_of(lender))).motion()


class Learned:
    """ERLNet's reconstruction: the code is learned, and so is who speaks in it.

    Args:
        model: the networks.
    """

    def __init__(self, model: ErlnetModel) -> None:
        self._model = model

    def code(self, motion: Motion) -> Array:
        """See :class:`Manners`."""
        return self._model.style(motion)

    def apart(self, first: Array, second: Array) -> float:
        """See :class:`Manners`: 1 less the cosine."""
        return float(1.0 - first @ second)

    def speak(self, voice: Waveform, seed: int, lender: Motion | None) -> Motion:
        """See :class:`Manners`."""
        style = None if lender is None else self._model.style(lender)
        return LearnedSpeaker(voice, AudioSettings(seed=seed), model=self._model, style=style).motion()


def _manners_of(voice_driver: str) -> Manners:
    name, _, folder = voice_driver.partition(":")
    if voice_driver == "natural":
        return Moments()
    if name == "erlnet" and folder:
        return Learned(load_erlnet(Path(folder)))
    raise OptionError(f"--voice-driver is {voice_driver!r}; use natural or erlnet:FOLDER")


def run_style(options: StyleOptions, progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Measure every clip of a folder, write the reports and return what the JSON holds.

    Raises:
        MediaError: the folder holds fewer than two clips.
        TriPortraitError: nobody is found in a clip, or it has no sound.
        OutputError: the report cannot be written.
    """
    from triportrait.drivers import motion_of_video
    from triportrait.media.audio import read_audio

    manners, clips = _manners_of(options.voice_driver), find_clips(options.clips)[: options.limit]
    if len(clips) < 2:
        raise MediaError(f"{options.clips} holds {len(clips)} clip; a manner is told from others, so give two or more.")
    cache, motions, voices = TrackCache(options.cache), {}, {}
    for index, clip in enumerate(clips):
        if progress is not None:
            progress(Progress(clip.name, index, len(clips), "motion", 0, 1))
        motions[clip.name] = cache.motion(clip, None, lambda clip=clip: motion_of_video(clip))  # type: ignore[misc]
        voices[clip.name] = read_audio(clip)
    report = {
        "format": FORMAT,
        "seed": options.seed,
        "voice_driver": options.voice_driver.partition(":")[0],
        "halves": halves(motions, manners),
        "transfer": transfer(motions, voices, options.seed, manners),
    }
    write_report(options.out, report, style_markdown(report))
    return report


def halves(motions: Mapping[str, Motion], manners: Manners | None = None) -> dict[str, Any]:
    """Which clips' halves find each other: the first half its second among all second ones, and the other way round."""
    names, manners = list(motions), manners or Moments()
    first = [manners.code(motion.rows(slice(0, len(motion) // 2))) for motion in motions.values()]
    second = [manners.code(motion.rows(slice(len(motion) // 2, len(motion)))) for motion in motions.values()]
    apart = np.array([[manners.apart(one, other) for other in second] for one in first])
    order = np.arange(len(names))
    forward, backward = apart.argmin(1) == order, apart.argmin(0) == order
    return {
        "clips": len(names),
        "first_finds_second": int(forward.sum()),
        "second_finds_first": int(backward.sum()),
        "both": int((forward & backward).sum()),
        "found": dict(zip(names, (forward & backward).tolist(), strict=True)),
    }


def transfer(
    motions: Mapping[str, Motion], voices: Mapping[str, Waveform], seed: int = 0, manners: Manners | None = None
) -> dict[str, Any]:
    """Every voice in the manner of every other clip. Whoever takes it on, moments judge, against our default in no manner.

    Returns:
        ``nearest``: share of pairs whose motion's code lies nearest to the clip that lent its manner; ``nearest_by_manner``: the same of
        each manner; ``nearest_by_own_code``: the share by the codes of ``manners``; ``gap_closed``: share of the distance from the voice's
        own motion that is gone, over all pairs; ``lip_correlation_change`` against the real lips; ``closures_kept``: share of the rows
        with closed lips that stay closed.
    """
    codes = {name: manner_code(motion) for name, motion in motions.items()}
    manners = manners or Moments()
    own = {name: manners.code(motion) for name, motion in motions.items()}
    plain = {name: AudioDriver(voice, AudioSettings(seed=seed)).motion() for name, voice in voices.items()}
    nearest: dict[str, list[bool]] = {name: [] for name in motions}
    gaps: dict[str, list[tuple[float, float]]] = {name: [] for name in GAPS}
    changes: list[float] = []
    found: list[bool] = []
    kept = closed = 0
    for voice in motions:
        before = manner_code(plain[voice])
        for lender in motions:
            if lender == voice:
                continue
            made = manners.speak(voices[voice], seed, motions[lender])
            code, own_code = manner_code(made), manners.code(made)
            found.append(min(own, key=lambda name: manners.apart(own_code, own[name])) == lender)
            nearest[lender].append(min(codes, key=lambda name: distance(code, codes[name])) == lender)
            for gap, measures in GAPS.items():
                columns = [MEASURES.index(name) for name in measures]
                away, was = (float(np.abs(values[columns] - codes[lender][columns]).mean()) for values in (code, before))
                gaps[gap].append((away, was))
            real = _lips(motions[voice])
            changes.append(_agreement(_lips(made), real) - _agreement(_lips(plain[voice]), real))
            count = min(len(made), len(plain[voice]))
            shut = _lips(plain[voice])[:count] < _CLOSED
            kept += int((_lips(made)[:count][shut] < _CLOSED).sum())
            closed += int(shut.sum())
    return {
        "pairs": len(changes),
        "nearest": float(np.mean([hit for hits in nearest.values() for hit in hits])),
        "nearest_by_own_code": float(np.mean(found)),
        "nearest_by_manner": {name: float(np.mean(hits)) for name, hits in nearest.items()},
        "gap_closed": {gap: 1.0 - sum(after for after, _ in rows) / max(sum(away for _, away in rows), 1e-9) for gap, rows in gaps.items()},
        "lip_correlation_change": float(np.mean(changes)),
        "closures_kept": kept / max(closed, 1),
    }


def _lips(motion: Motion) -> Array:
    return lip_opening(motion.expression, motion.expression_names)


def _agreement(made: Array, real: Array) -> float:
    count = min(len(made), len(real))
    made, real = made[:count], real[:count]
    # Lips that never move agree with nothing.
    return float(np.corrcoef(made, real)[0, 1]) if made.std() > 1e-6 and real.std() > 1e-6 else 0.0


def style_markdown(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    found, made = report["halves"], report["transfer"]
    lines = [
        "# The manner of speaking",
        "",
        f"Halves of one clip that find each other: {found['both']} of {found['clips']} both ways, {found['first_finds_second']} from the "
        f"first half, {found['second_finds_first']} from the second.",
        "",
        f"Voices in another clip's manner ({made['pairs']} pairs): {100 * made['nearest']:.0f} % lie nearest to the lender by moments, "
        f"{100 * made['nearest_by_own_code']:.0f} % by the codes of whoever took it on.",
        "",
        "| gap closed | share |",
        "|---|---|",
        *(f"| {name} | {100 * share:.0f} % |" for name, share in made["gap_closed"].items()),
        "",
        f"The correlation with the real lips changes by {made['lip_correlation_change']:+.3f}; {100 * made['closures_kept']:.1f} % of the "
        "closed rows stay closed.",
        "",
    ]
    return "\n".join(lines)
