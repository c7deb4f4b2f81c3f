"""``triportrait data pairs``: pairs of real frames of one person, for ``train oneshot``.

Split ``moving``: every view has the expression of its frame and the offsets that lead back to the source's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from triportrait.drivers import default_head, default_tracker
from triportrait.errors import EmptyMedia, MediaError, OptionError, TriPortraitError
from triportrait.files import refuse_inputs
from triportrait.media.video import VideoReader
from triportrait.synth.real_pairs import PairFrames, Refinement, frames_of_video, pair_rows
from triportrait.training.data.clips import ClipSet
from triportrait.training.data.synthetic import pair_frames
from triportrait.training.data.views import Packed, ViewShards
from triportrait.training.options import PairsOptions, Progress

log = logging.getLogger(__name__)


def pack_pairs(options: PairsOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Pack pairs of frames of videos, of prepared clips, or of both. A clip that cannot be used is reported and left out.

    Args:
        options: see there.
        out: folder for the shards; other splits in it stay.
        progress: called after every clip.

    Raises:
        EmptyMedia: there is no clip that can be used.
        MediaError: the folder of clips cannot be read.
        OptionError: neither videos nor clips are named.
        OutputError: the folder cannot be written.
    """
    if options.videos is None and options.clips is None:
        raise OptionError("there is nothing to take frames of; name --videos, --clips or both")
    refuse_inputs(out, [options.videos, options.clips])
    head, tell = default_head(), progress or (lambda what, done, total: None)
    videos = clips_of_folder(options.videos)[: options.limit] if options.videos is not None else []
    prepared = ClipSet([options.clips]) if options.clips is not None else ()
    shards = ViewShards(out, "moving", "moving", options.per_shard, {"kind": "real pairs"})
    refined: list[Refinement] = []
    left_out = 0
    for done, frames in enumerate(_all_frames(videos, prepared, options.views + 1), 1):
        if frames is None:
            left_out += 1
        else:
            rows, poses = pair_rows(frames, head, options.sources, options.views)
            shards.add(rows)
            refined += poses
        tell("clips", done, len(videos) + len(prepared))
    shards.flush()
    if not refined:
        raise EmptyMedia("no pair was packed: none of the clips can be used; give head-and-shoulders clips of one person each")
    before, after = (np.mean([getattr(pose, side) for pose in refined]) for side in ("before", "after"))
    log.info("%d pairs, brightness error %.4f -> %.4f", len(refined), before, after)
    return Packed(shards.made, left_out)


def clips_of_folder(folder: Path) -> list[Path]:
    """The .mp4 files of a folder, by name.

    Raises:
        EmptyMedia: there is none.
        MediaError: there is no such folder.
    """
    if not folder.is_dir():
        raise MediaError(f"there is no folder '{folder}'; check the path")
    found = sorted(folder.glob("*.mp4"))
    if not found:
        raise EmptyMedia(f"there is no .mp4 file in '{folder}'; give a folder of head-and-shoulders clips")
    return found


def _all_frames(videos: list[Path], prepared: ClipSet | tuple[()], count: int) -> Iterator[PairFrames | None]:
    """Frames of every clip; None where it cannot be used."""
    if videos:
        tracker, head = default_tracker(), default_head()
    for path in videos:
        try:
            with VideoReader(path) as reader:
                images = [frame for _, frame in reader]
            yield frames_of_video(images, tracker, head, count, path.stem)
        except TriPortraitError as error:
            log.warning("left out: %s: %s", path.name, error)
            yield None
    for clip in prepared:
        yield pair_frames(clip)
