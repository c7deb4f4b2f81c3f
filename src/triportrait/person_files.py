"""The videos that a person is made of: their frames as takes, and what they and their sound say of the person's manner."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from triportrait.drivers import Progress, counted
from triportrait.errors import MediaError
from triportrait.face.person import PersonTrack
from triportrait.face.takes import Take
from triportrait.media.audio import read_audio
from triportrait.media.probe import probe
from triportrait.media.video import VideoReader
from triportrait.motion.personal_voice import learn_voice
from triportrait.motion.style import style_of
from triportrait.types import FPS, Array, PathLike, PersonalManner

log = logging.getLogger(__name__)

#: Samples per second of the sound that a voice is learned from, and the shortest take (seconds) that a style is measured on.
_RATE_HZ, _STYLE_S = 16_000, 4.0


def takes_of(videos: Sequence[PathLike], most: int, progress: Progress | None) -> tuple[list[PathLike], list[Take]]:
    """The videos that are looked at, and each as a take: in their order, at most ``most`` frames together.

    What is not looked at is named in a warning.

    Raises:
        MediaError: a file cannot be read, or none of them holds a frame's length.
    """
    used: list[PathLike] = []
    takes: list[Take] = []
    for video in videos:
        name = Path(video).name
        with VideoReader(video) as reader:
            # Without an announced length, as browsers record, frames are counted: the videos behind this one share what is left.
            length = round(reader.seconds * FPS) if reader.seconds else sum(1 for _ in islice(reader.frames(FPS), most + 1))
        count = min(length, most)
        if not length:
            log.warning("%s is shorter than a frame and is left out", name)
            continue
        if not count:
            log.warning("%s is not looked at: the videos before it are as long as --seconds allows; set a larger --seconds", name)
            continue
        if length > count:
            log.warning("only the first %.1f s of %s are looked at; set a larger --seconds for more", count / FPS, name)

        def read(video: PathLike = video, count: int = count) -> Iterator[Array]:
            with VideoReader(video) as reader:
                frames = (frame for _, frame in islice(reader.frames(FPS), count))
                yield from counted(frames, progress, f"looking at {Path(video).name}", count)

        used.append(video)
        takes.append(Take(read, f"'{os.fspath(video)}'"))
        most -= count
    if not takes:
        raise MediaError(f"'{os.fspath(videos[0])}' is shorter than a frame; give a video of 4 seconds or more.")
    return used, takes


def manner_of(videos: Sequence[PathLike], track: PersonTrack) -> PersonalManner:
    """How the person of some videos moves, and what the videos' sound says of their mouth; ``videos`` of the track's takes."""
    longest = max(track.takes, key=lambda take: take.count)
    whole = longest.count < _STYLE_S * FPS
    style = style_of(track.motion if whole else track.motion.rows(slice(longest.start, longest.start + longest.count))).numbers
    samples = np.zeros(round(len(track.seen) * _RATE_HZ / FPS), np.float32)
    heard = np.zeros(len(track.seen), bool)
    for video, take in zip(videos, track.takes, strict=True):
        if probe(video).has_audio:
            sound = read_audio(video, _RATE_HZ).samples[: round(take.count * _RATE_HZ / FPS)]
            begin = round(take.start * _RATE_HZ / FPS)
            samples[begin : begin + len(sound)] = sound
            heard[take.start : take.start + take.count] = True
        else:
            log.warning("%s has no sound; how the lips follow the voice is not learned from it", Path(video).name)
    return PersonalManner(style, learn_voice(samples, track.lip_opening, track.seen & heard) if heard.any() else None)
