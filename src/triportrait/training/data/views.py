"""``triportrait data views``: packed views of lifted portraits and of procedural heads, for ``train oneshot``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.drivers import default_head, default_tracker
from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError, TriPortraitError
from triportrait.files import make_folder, refuse_inputs
from triportrait.media.images import read_image
from triportrait.media.portrait_folders import portraits_of
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.lifted_views import (
    HELD_OUT_TURNS_DEG,
    LiftedViews,
    lifted_views,
    padded_portrait,
    shards_of,
    training_turns_deg,
    write_index,
    write_shard,
)
from triportrait.synth.procedural_views import random_row
from triportrait.training.options import Progress, ViewsOptions

log = logging.getLogger(__name__)

#: Number of the first procedural head whose expression moves; below it they are rigid.
_FIRST_MOVING = 500_000


@dataclass(frozen=True, slots=True)
class Packed:
    """What a packing run ended with: rows (clips, windows) that it made, and sources that it left out."""

    made: int
    left_out: int = 0


@dataclass
class ViewShards:
    """Writes rows of a split in files of ``per_shard``, and names them in the folder's index after each.

    Files of other runs in the same split (their names begin otherwise) stay in the index.

    Args:
        folder: of the shards; it is made.
        split: of the index.
        prefix: of the files' names.
        per_shard: rows of a file.
        notes: for the index.
    """

    folder: Path
    split: str
    prefix: str
    per_shard: int
    notes: dict[str, str]
    made: int = 0
    _rows: list[LiftedViews] = field(default_factory=list)
    _shards: list[str] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.per_shard < 1:
            raise OptionError(f"--per-shard is {self.per_shard}; use at least 1")
        make_folder(self.folder)
        others = [(name, count) for name, count in shards_of(self.folder, self.split) if not name.startswith(f"{self.prefix}_")]
        self._shards, self._counts = [name for name, _ in others], [count for _, count in others]
        self._number = 0

    def add(self, rows: Sequence[LiftedViews]) -> None:
        """Rows to be written now or later."""
        self._rows += rows
        self.made += len(rows)
        if len(self._rows) >= self.per_shard:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._rows:
            return
        name = f"{self.prefix}_{self._number:03d}.npz"
        try:
            size = write_shard(self.folder / name, self._rows)
            self._number += 1
            self._shards.append(name)
            self._counts.append(len(self._rows))
            write_index(self.folder, self.split, self._shards, self._counts, self.notes)
        except OSError as error:
            raise OutputError(f"'{self.folder}' cannot be written: {error.strerror or error}; free some space") from None
        log.info("%s: %d rows, %.1f MB", name, len(self._rows), size / 1e6)
        self._rows.clear()


def procedural_factory(bundle: Path) -> HeadFactory:
    """What procedural heads are made of.

    Raises:
        MediaError: the bundle lacks its parts.
    """
    for name in ("makehuman/base.npz", "hdri/hdri_512x256.npz"):
        if not (bundle / name).exists():
            raise MediaError(f"'{bundle}' is no data bundle for procedural heads: it has no {name}; check --procedural")
    return HeadFactory(bundle)


def pack_views(options: ViewsOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Pack views of portraits, of procedural heads, or of both.

    Args:
        options: see there.
        out: folder for the shards; other splits in it stay.
        progress: called after every portrait or head.

    Raises:
        EmptyMedia: nothing could be packed.
        MediaError: portraits or data bundle cannot be read.
        OptionError: neither is named.
        OutputError: the folder cannot be written.
    """
    if options.portraits is None and options.procedural is None:
        raise OptionError("there is nothing to take views of; name --portraits, --procedural or both")
    refuse_inputs(out, [options.portraits, options.procedural])
    tell = progress or (lambda what, done, total: None)
    made = left_out = 0
    if options.portraits is not None:
        packed = _pack_portraits(options.portraits, options, out, tell)
        made, left_out = packed.made, packed.left_out
    if options.procedural is not None:
        factory = procedural_factory(options.procedural)
        for split, count, first in (("train", options.heads, 0), ("moving", options.moving, _FIRST_MOVING)):
            if count:
                made += _pack_procedural(factory, options, out, split, range(first + options.skip, first + options.skip + count), tell)
    if not made:
        raise EmptyMedia("no view was packed: none of the portraits shows a usable face; give other photographs")
    return Packed(made, left_out)


def _pack_portraits(folder: Path, options: ViewsOptions, out: Path, progress: Progress) -> Packed:
    files = portraits_of(folder, options.split)
    order = np.random.default_rng(options.seed).permutation(len(files))[options.skip : options.skip + options.limit]
    tracker, head = default_tracker(), default_head()
    avatar = LiftedAvatar(head)
    notes = {"seed": str(options.seed), "skip": str(options.skip), "left_out": "0"}
    shards = ViewShards(out, options.split, f"{options.split}_{options.skip:05d}", options.per_shard, notes)
    left_out = 0
    for done, which in enumerate(order, 1):
        path = files[which]
        if options.split == "train":
            turns = training_turns_deg(options.views, np.random.default_rng([options.seed, int(which)]))
        else:
            turns = np.array(HELD_OUT_TURNS_DEG, float)
        name = str(path.relative_to(folder))
        try:
            portrait = padded_portrait(read_image(path), tracker, head, name=name)
        except TriPortraitError as error:
            left_out += 1
            notes["left_out"] = str(left_out)
            log.warning("left out: %s", error)
        else:
            shards.add([lifted_views(portrait, avatar, turns, name)])
        progress("portraits", done, len(order))
    shards.flush()
    return Packed(shards.made, left_out)


def _pack_procedural(factory: HeadFactory, options: ViewsOptions, out: Path, split: str, numbers: range, progress: Progress) -> int:
    notes = {"kind": "procedural", "first": str(numbers.start)}
    shards = ViewShards(out, split, f"procedural_{numbers.start:06d}", options.per_shard, notes)
    for done, number in enumerate(numbers, 1):
        shards.add([random_row(factory, number, options.views, split == "moving")])
        progress("procedural heads" if split == "train" else "moving heads", done, len(numbers))
    shards.flush()
    return shards.made
