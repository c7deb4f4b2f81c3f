"""One clip after another, or several at a time in processes: shared by the protocols.

A report is a dict with ``"clips"``; it is written after every clip with ``"complete": false``, and a run that finds such
a report of the same options and version goes on after the clips already measured.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import triportrait
from triportrait.errors import MissingPart, OptionError, OutputError, TriPortraitError

log = logging.getLogger(__name__)

Entry = dict[str, Any]
Tell = Callable[[str, int, int], None]

#: Options that do not change a report's figures.
_NO_INFLUENCE = ("limit", "out", "jobs", "cache", "plots")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: ``done`` of ``total`` frames of ``stage`` in clip number ``clip_index`` (from 0) of ``clips``."""

    clip: str
    clip_index: int
    clips: int
    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of work: its name in the report, and the files it is made from."""

    name: str
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True, slots=True)
class ProtocolOptions:
    """What every protocol asks for.

    Args:
        clips: folder of videos, optionally with an index.csv.
        avatars: names of the avatars to compare.
        out: the JSON report; a Markdown report is written beside it.
        every: every n-th frame is measured; the first, the source itself, is not.
        sheets: also write a contact sheet per clip into the folder ``<out>_sheets``.
        limit: at most so many clips, in the order of their names.
        side_px: side of the pictures at which everything is measured.
        metric_weights: folder with the weights of the learned metrics (docs/guides/evaluation.md); None leaves those out.
        jobs: clips at a time, each in a process of its own.
        cache: folder in which what was tracked on the real clips is kept for later runs.
        plots: also write bars per metric and PSNR against rotation as PNG beside the report.

    Raises:
        OptionError: a setting no protocol can use; names the option and its range.
    """

    clips: Path
    avatars: tuple[str, ...]
    out: Path
    every: int = 5
    sheets: bool = False
    limit: int | None = None
    side_px: int = 256
    metric_weights: Path | None = None
    jobs: int = 1
    cache: Path | None = None
    plots: bool = True

    def __post_init__(self) -> None:
        if not self.avatars or len(set(self.avatars)) != len(self.avatars):
            raise OptionError("--avatar needs at least one name and none twice, such as static,mesh2d,lifted.")
        if self.every < 1 or (self.limit is not None and self.limit < 1):
            raise OptionError("--every and --limit must be at least 1.")
        if not 1 <= self.jobs <= 64:
            raise OptionError(f"--jobs is {self.jobs}; use a number of processes from 1 to 64.")
        if self.side_px < 176:
            raise OptionError("the evaluated side must be at least 176 pixels (MS-SSIM needs five scales).")


def start_report(format_name: str, options: Any, items: Sequence[Item]) -> Entry:
    """An empty report, or the unfinished one of the same run with the entries whose files are still the same."""
    asked = {key: _plain(value) for key, value in asdict(options).items()}
    report: Entry = {
        "format": format_name,
        "triportrait": getattr(triportrait, "__version__", "unknown"),
        "complete": False,
        "options": asked,
        "clips": {},
        "mean": {},
    }
    earlier = _read_unfinished(options.out, format_name)
    if earlier is not None and _run_key(earlier) == _run_key(report):
        for item in items:
            entry = earlier["clips"].get(item.name)
            done = entry is not None and entry["status"] == "ok" and entry["file_bytes"] == item.bytes
            if done and all(entry["avatars"][name]["status"] == "ok" for name in options.avatars):
                report["clips"][item.name] = entry
        if report["clips"]:
            log.info("going on with %s: %d clips already measured", options.out, len(report["clips"]))
    return report


def run_items(
    report: Entry,
    items: Sequence[Item],
    measure: Callable[[Item, Tell], Entry],
    in_process: Callable[[Item], Entry],
    save: Callable[[], None],
    jobs: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Measure what the report does not hold yet; ``save`` is called after each item, entries stay in the items' order.

    Args:
        report: from :func:`start_report`.
        items: all of them.
        measure: an item's entry, in this process.
        in_process: the same as a function that can be sent to another process (``jobs`` above 1).
        save: writes the report.
        jobs: processes at a time.
        progress: told where the run is.

    Raises:
        OutputError: something cannot be written.
        TriPortraitError: a process died, or nothing could be measured.
    """
    done = report["clips"]
    waiting = [item for item in items if done.get(item.name, {}).get("status") != "ok"]

    def keep(item: Item, entry: Entry) -> None:
        done[item.name] = {**entry, "file_bytes": item.bytes}
        ordered = {other.name: done[other.name] for other in items if other.name in done}
        done.clear()
        done.update(ordered)
        save()

    save()
    if jobs > 1 and len(waiting) > 1:
        _in_processes(waiting, in_process, keep, min(jobs, len(waiting)), items, progress)
    else:
        for item in waiting:
            index = items.index(item)

            def tell(stage: str, part: int, total: int, item: Item = item, index: int = index) -> None:
                if progress is not None:
                    progress(Progress(item.name, index, len(items), stage, part, total))

            keep(item, guarded(item.name, partial(measure, item, tell)))
    report["complete"] = True
    save()
    if all(entry["status"] != "ok" for entry in done.values()):
        first = next(iter(done.items()))
        raise TriPortraitError(f"nothing could be measured; {first[0]}: {first[1]['reason']}")


def guarded(name: str, measure: Callable[[], Entry]) -> Entry:
    """An entry, or a failed one with the reason: one bad clip must not cost the others. OutputError goes through."""
    try:
        return measure()
    except OutputError:
        raise
    except Exception as error:  # reported in the entry
        log.warning("%s failed: %s", name, error, exc_info=not isinstance(error, TriPortraitError))
        return {"status": "failed", "reason": reason_of(error)}


def reason_of(error: Exception) -> str:
    """One line for the report: our own errors speak for themselves, others are named."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TriPortraitError) else f"{type(error).__name__}: {text}"


def _in_processes(
    waiting: Sequence[Item],
    measure: Callable[[Item], Entry],
    keep: Callable[[Item, Entry], None],
    jobs: int,
    items: Sequence[Item],
    progress: Callable[[Progress], None] | None,
) -> None:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # A fresh interpreter each: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ignore_warnings)
    try:
        futures = {pool.submit(_work, measure, item): item for item in waiting}
        for count, future in enumerate(as_completed(futures), 1):
            item = futures[future]
            keep(item, future.result())
            if progress is not None:
                progress(Progress(item.name, items.index(item), len(items), "clips", count, len(waiting)))
    except BrokenProcessPool:
        raise TriPortraitError("a process of --jobs was killed, probably for want of memory; use fewer jobs") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_warnings() -> None:
    """As the command line does, whose standard error these processes write to."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _work(measure: Callable[[Item], Entry], item: Item) -> Entry:
    return guarded(item.name, lambda: measure(item))


@lru_cache(maxsize=1)
def networks_of(folder: Path | None) -> Any:
    """The learned metrics' networks of a folder, once per process.

    Raises:
        MissingPart: torch, which metrics are computed with, is not installed.
    """
    if find_spec("torch") is None:
        raise MissingPart("metrics are computed with torch, which is not installed; pip install 'triportrait[eval]'")
    from triportrait.evaluation.metric_weights import MetricNetworks

    return MetricNetworks(folder)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _run_key(report: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must agree for results of two runs to stand in one report."""
    options = {key: value for key, value in report["options"].items() if key not in _NO_INFLUENCE}
    return report["format"], report["triportrait"], json.dumps(options, sort_keys=True)


def _read_unfinished(path: Path, format_name: str) -> Entry | None:
    """The report at ``path`` when it is one of ours and not complete."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(report, dict) and report.get("format") == format_name and report.get("complete") is False
    return report if ours else None
