"""A prepare run: find the videos, hand them to a pool, keep what comes back, write shards, index and report."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from triportrait.errors import OptionError
from triportrait.files import refuse_inputs
from triportrait.training.data.clip import PrepareSettings
from triportrait.training.data.pools import LocalPool, Pool, RayPool
from triportrait.training.data.shards import Group, ShardFolder, grouped
from triportrait.training.data.sources import Layout, VideoSource, find_videos
from triportrait.training.data.work import Outcome, Reply
from triportrait.training.options import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """A run.

    Args:
        videos: folder of videos, or one video.
        out: folder for the shards; a run that finds its own work there goes on with it.
        layout: of ``videos``.
        settings: of the clips.
        workers: processes of this machine.
        ray: address of a Ray cluster that does the work instead, or None.
        clip_timeout_s: of local workers.
        videos_per_shard, shard_bytes: sizes of the shards.
        retry_failed: begin failed clips of earlier runs again.
    """

    videos: Path
    out: Path
    layout: Layout = "auto"
    settings: PrepareSettings = field(default_factory=PrepareSettings)
    workers: int = 2
    ray: str | None = None
    clip_timeout_s: float = 1800.0
    videos_per_shard: int = 64
    shard_bytes: int = 1 << 30
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run ended with: clips in all shards, clips that failed, shards, and clips that this very run prepared."""

    prepared: int
    failed: int
    shards: int
    new: int


class _Ledger:
    """Which groups still wait for what."""

    def __init__(self, folder: ShardFolder, groups: list[Group]) -> None:
        self._folder = folder
        self._groups = {group.name: group for group in groups}
        self._group_of: dict[str, str] = {}
        self._open: dict[str, set[str]] = {}
        self._outcomes: dict[str, list[Outcome]] = {}
        self.done = self.new = 0
        self.total = sum(len(group.sources) for group in groups)

    def begin(self, group: Group) -> None:
        """Expect the group's sources."""
        self._open[group.name] = {source.key for source in group.sources}
        self._outcomes[group.name] = []
        self._group_of |= {source.key: group.name for source in group.sources}

    def settle(self, outcome: Outcome) -> None:
        """A source is done; the last one of a group completes it."""
        key = outcome.source.key
        name = self._group_of.pop(key)
        self._open[name].remove(key)
        self._outcomes[name].append(outcome)
        self.done += 1
        if not self._open[name]:
            del self._open[name]
            self._folder.complete(self._groups[name], self._outcomes.pop(name))

    def cut(self, source: VideoSource, pieces: tuple[VideoSource, ...]) -> None:
        """Expect a video's pieces in its place."""
        name = self._group_of.pop(source.key)
        self._open[name] = (self._open[name] - {source.key}) | {piece.key for piece in pieces}
        self._group_of |= {piece.key: name for piece in pieces}
        self.total += len(pieces) - 1


def prepare(options: PrepareOptions, progress: Progress | None = None, pool: Pool | None = None) -> Summary:
    """Run to the end. What goes wrong with a clip is in ``report.csv``; what goes wrong with the run is raised.

    Args:
        options: see there.
        progress: called after every clip.
        pool: does the work; None makes one by the options.

    Raises:
        MediaError, EmptyMedia: there are no videos.
        OptionError: a setting is out of range, or the folder was begun with others.
        OutputError: the folder cannot be written.
        MissingPart, ClusterError: of Ray, of HuBERT's folder, or of the head model.
        WeightsError: the head model's file is damaged.
    """
    _check(options)
    groups = grouped(find_videos(options.videos, options.layout), options.videos_per_shard)
    with ExitStack() as stack:
        folder = stack.enter_context(ShardFolder(options.out, options.settings, options.shard_bytes))
        complete = folder.reopen(groups, retry_failed=options.retry_failed)
        ledger = _Ledger(folder, groups)
        ledger.done = sum(len(group.sources) for group in groups if group.name in complete)
        waiting = [group for group in groups if group.name not in complete]
        stack.callback(folder.write_report)
        if waiting:
            if pool is None:
                pool = _pool(options, folder.state)
            _drive(stack.enter_context(pool), folder, ledger, waiting, options, progress)
        index = folder.finish(groups)
    return Summary(index["clips"], index["failed"], len(index["shards"]), ledger.new)


def _check(options: PrepareOptions) -> None:
    settings = options.settings
    refuse_inputs(options.out, [options.videos])
    if not 64 <= settings.size_px <= 1024 or settings.size_px % 2:
        raise OptionError(f"--size is {settings.size_px}; use an even number from 64 to 1024")
    if not 0.4 <= settings.clip_seconds <= 60:
        raise OptionError(f"--clip-seconds is {settings.clip_seconds:g}; use 0.4 to 60")
    for name in ("workers", "videos_per_shard", "shard_bytes", "clip_timeout_s"):
        if not getattr(options, name) > 0:
            raise OptionError(f"--{name.replace('_', '-')} is {getattr(options, name):g}; use a positive number")
    if settings.head != "open":
        from triportrait.real3d.head_models import load_user_head

        load_user_head(settings.head)
    if settings.hubert is not None:
        from triportrait.real3d.hubert import check_hubert

        check_hubert(settings.hubert)


def _pool(options: PrepareOptions, state: Path) -> Pool:
    if options.ray is not None:
        return RayPool(options.settings, options.ray)
    return LocalPool(options.settings, options.workers, options.clip_timeout_s, state)


def _drive(
    pool: Pool, folder: ShardFolder, ledger: _Ledger, groups: list[Group], options: PrepareOptions, progress: Progress | None
) -> None:
    """Keep the pool busy until every group is complete."""
    pieces: deque[VideoSource] = deque()

    def known(source: VideoSource) -> bool:
        """Settle what an earlier run has done."""
        outcome = folder.outcome_of(source, retry_failed=options.retry_failed)
        if outcome is not None:
            ledger.settle(outcome)
        return outcome is not None

    def sources() -> Iterator[VideoSource]:
        for group in groups:
            ledger.begin(group)
            yield from (source for source in group.sources if not known(source))

    feed, running = sources(), 0
    while True:
        while running < pool.capacity:
            # Pieces first: their group is the oldest that waits.
            source = pieces.popleft() if pieces else next(feed, None)
            if source is None:
                break
            pool.submit(source)
            running += 1
        if not running:
            return
        source, reply = pool.next()
        running -= 1
        _take(source, reply, folder, ledger)
        if reply.pieces:
            pieces.extend(piece for piece in reply.pieces if not known(piece))
        if progress is not None:
            progress("preparing", ledger.done, ledger.total)


def _take(source: VideoSource, reply: Reply, folder: ShardFolder, ledger: _Ledger) -> None:
    if reply.pieces:
        ledger.cut(source, reply.pieces)
        return
    outcome = reply.outcome
    assert outcome is not None, "a reply without pieces has an outcome"
    folder.commit(outcome, reply.sample)
    ledger.new += outcome.prepared
    if not outcome.prepared:
        log.warning("%s: %s", outcome.source.name, outcome.reason)
    ledger.settle(outcome)
