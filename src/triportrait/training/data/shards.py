"""The folder that a prepare run writes: shards, index, report, and what is needed to go on after an interruption.

::

    train-00000.tar, val-00000.tar, ...   shards (:mod:`triportrait.training.data.clips`), clips sorted by key
    index.json                            settings; name, sha256, size and counts of every shard
    report.csv                            what became of every clip
    .prepare/                             finished clips whose shard is not complete, and a record per shard that is

Videos are sorted by key and taken in groups of fixed size; a group's clips become its shard as soon as all of them are done, so that
no clip lies on the disk twice for long. Who prepared a clip, and in which order, leaves no trace: the same videos and settings give the
same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from triportrait.errors import MediaError, OptionError, OutputError
from triportrait.files import atomic_file
from triportrait.training.data.clip import PrepareSettings
from triportrait.training.data.clips import ClipSet
from triportrait.training.data.sources import VideoSource
from triportrait.training.data.work import Outcome

log = logging.getLogger(__name__)

FORMAT = "triportrait.shards.1"
INDEX, REPORT = "index.json", "report.csv"
#: A tar file ends with two empty blocks, and is filled up to whole records.
_TAR_END, _TAR_RECORD = 1024, 10240
_SHARD = re.compile(r"(train|val|test)-\d{5}(-\d{3})?\.tar")
_COLUMNS = (
    "key",
    "status",
    "code",
    "reason",
    "note",
    "split",
    "person",
    "dataset",
    "name",
    "start_s",
    "frames",
    "video_fps",
    "width",
    "height",
    "face_px",
    "fit_px",
    "background_change",
    "cpu_seconds",
    "attempts",
    "bytes",
    "shard",
)


@dataclass(frozen=True, slots=True)
class Group:
    """Videos whose clips share a shard (or several, when they are large): ``name`` is the shard's without its ending."""

    name: str
    sources: tuple[VideoSource, ...]


def grouped(sources: Iterable[VideoSource], size: int) -> list[Group]:
    """Groups of ``size`` videos of the same split, in the order given."""
    by_split: dict[str, list[VideoSource]] = {}
    for source in sources:
        by_split.setdefault(source.split, []).append(source)
    return [
        Group(f"{split}-{first // size:05d}", tuple(members[first : first + size]))
        for split, members in by_split.items()
        for first in range(0, len(members), size)
    ]


class ShardFolder:
    """The output folder of one run; see the module.

    Args:
        folder: made when it does not exist.
        settings: of all clips; a folder keeps those that it was begun with.
        shard_bytes: larger groups are written as several shards.

    Raises:
        OutputError: the folder cannot be written, or another run is writing there.
        OptionError: it was begun with other settings.
    """

    def __init__(self, folder: Path, settings: PrepareSettings, shard_bytes: int) -> None:
        self.folder, self._shard_bytes = folder, shard_bytes
        self.state = folder / ".prepare"
        self._samples, self._outcomes, self._groups = (self.state / name for name in ("samples", "outcomes", "groups"))
        try:
            for path in (self._samples, self._outcomes, self._groups):
                path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.state / "lock").open("w")
        except OSError as error:
            raise OutputError(f"'{folder}' cannot be written ({error.strerror}); choose another folder.") from None
        self._take_lock()
        self.settings = _portable(settings)
        recorded = self.state / "settings.json"
        # Folders that were begun when there was no choice have the open head.
        if recorded.exists() and (before := {"head": "open"} | json.loads(recorded.read_text())) != self.settings:
            changed = sorted(name for name in before | self.settings if before.get(name) != self.settings.get(name))
            self.close()
            raise OptionError(f"'{folder}' was begun with other settings ({', '.join(changed)}); use those, or another folder")
        _write_json(recorded, self.settings)

    def _take_lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise OutputError(f"another run is writing to '{self.folder}'; wait for it, or choose another folder") from None

    def close(self) -> None:
        """Let others write here."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- clips ------------------------------------------------------------------------------------------------------------

    def commit(self, outcome: Outcome, sample: bytes) -> None:
        """Keep a finished clip. The outcome is written last: with it the clip is done."""
        if outcome.prepared:
            with atomic_file(self._sample(outcome.source.key)) as part:
                part.write_bytes(sample)
        _write_json(self._outcome(outcome.source.key), {"fingerprint": fingerprint(outcome.source), "outcome": outcome.as_dict()})

    def outcome_of(self, source: VideoSource, *, retry_failed: bool = False) -> Outcome | None:
        """What an earlier run made of this very file, or None when it has to be done (again)."""
        path = self._outcome(source.key)
        if not path.exists():
            return None
        record = json.loads(path.read_text())
        outcome = Outcome.from_dict(record["outcome"])
        whole = not outcome.prepared or (self._sample(source.key).exists() and self._sample(source.key).stat().st_size == outcome.bytes)
        if record["fingerprint"] != fingerprint(source) or not whole or (retry_failed and not outcome.prepared):
            return None
        return outcome

    def _sample(self, key: str) -> Path:
        return self._samples / f"{key}.sample"

    def _outcome(self, key: str) -> Path:
        return self._outcomes / f"{key}.json"

    # -- groups -----------------------------------------------------------------------------------------------------------

    def reopen(self, groups: list[Group], *, retry_failed: bool = False) -> set[str]:
        """Names of the groups that are complete. Clips of groups that have changed go back among the finished ones."""
        planned = {group.name: [fingerprint(source) for source in group.sources] for group in groups}
        complete, changed = set(), []
        for path in sorted(self._groups.glob("*.json")):
            record = json.loads(path.read_text())
            failed = any(entry["outcome"]["code"] for entry in record["clips"])
            present = all((self.folder / shard["name"]).is_file() for shard in record["shards"])
            if record["sources"] == planned.get(path.stem) and present and not (retry_failed and failed):
                complete.add(path.stem)
            else:
                changed.append((path, record))
        # All of them before any shard is written anew: a clip may have moved from one group to another.
        for path, record in changed:
            self._unpack(record)
            path.unlink()
        return complete

    def _unpack(self, record: dict[str, Any]) -> None:
        for entry in record["clips"]:
            outcome = Outcome.from_dict(entry["outcome"])
            shard = self.folder / entry["shard"]
            if outcome.prepared and not shard.is_file():
                continue
            if outcome.prepared:
                with shard.open("rb") as file, atomic_file(self._sample(outcome.source.key)) as part:
                    file.seek(entry["offset"])
                    part.write_bytes(file.read(outcome.bytes))
            _write_json(self._outcome(outcome.source.key), {"fingerprint": entry["fingerprint"], "outcome": entry["outcome"]})

    def complete(self, group: Group, outcomes: list[Outcome]) -> None:
        """Write a group's shards from its finished clips, then its record; the clips' own files go."""
        outcomes = sorted(outcomes, key=lambda outcome: outcome.source.key)
        parts: list[list[Outcome]] = []
        size = 0
        for outcome in outcomes:
            if not outcome.prepared:
                continue
            if not parts or size + outcome.bytes > self._shard_bytes:
                parts.append([])
                size = 0
            parts[-1].append(outcome)
            size += outcome.bytes
        shards = []
        places: dict[str, tuple[str, int]] = {}
        for number, members in enumerate(parts):
            name = f"{group.name}.tar" if number == 0 else f"{group.name}-{number:03d}.tar"
            shard, offsets = self._write_shard(name, members)
            shards.append(shard)
            places |= {key: (name, offset) for key, offset in offsets.items()}
        clips = []
        for outcome in outcomes:
            name, offset = places.get(outcome.source.key, ("", 0))
            clips.append({"fingerprint": fingerprint(outcome.source), "outcome": outcome.as_dict(), "shard": name, "offset": offset})
        sources = [fingerprint(source) for source in group.sources]
        _write_json(self._groups / f"{group.name}.json", {"sources": sources, "shards": shards, "clips": clips})
        for outcome in outcomes:
            self._sample(outcome.source.key).unlink(missing_ok=True)
            self._outcome(outcome.source.key).unlink(missing_ok=True)

    def _write_shard(self, name: str, members: list[Outcome]) -> tuple[dict[str, Any], dict[str, int]]:
        digest, size, offsets = hashlib.sha256(), 0, {}
        with atomic_file(self.folder / name) as part, part.open("r+b") as file:
            for outcome in members:
                data = self._sample(outcome.source.key).read_bytes()
                offsets[outcome.source.key] = size
                size += file.write(data)
                digest.update(data)
            end = bytes(_TAR_END + -(size + _TAR_END) % _TAR_RECORD)
            size += file.write(end)
            digest.update(end)
        frames = sum(outcome.facts.frames for outcome in members)
        return {"name": name, "sha256": digest.hexdigest(), "bytes": size, "clips": len(members), "frames": frames}, offsets

    # -- the whole --------------------------------------------------------------------------------------------------------

    def finish(self, groups: list[Group]) -> dict[str, Any]:
        """Write the index over all groups, and remove what is left of earlier runs. Returns the index."""
        records = [json.loads((self._groups / f"{group.name}.json").read_text()) for group in groups]
        shards = [shard for record in records for shard in record["shards"]]
        failed = sum(bool(entry["outcome"]["code"]) for record in records for entry in record["clips"])
        index = {
            "format": FORMAT,
            "settings": self.settings,
            "clips": sum(shard["clips"] for shard in shards),
            "frames": sum(shard["frames"] for shard in shards),
            "failed": failed,
            "shards": shards,
        }
        _write_json(self.folder / INDEX, index, indent=1)
        names = {shard["name"] for shard in shards}
        for path in self.folder.iterdir():
            if _SHARD.fullmatch(path.name) and path.name not in names:
                path.unlink()
        for path in (*self._samples.iterdir(), *self._outcomes.iterdir()):
            path.unlink()
        return index

    def write_report(self) -> None:
        """``report.csv``: a line for every clip that is done, prepared or not."""
        with atomic_file(self.folder / REPORT) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.DictWriter(file, _COLUMNS)
            table.writeheader()
            table.writerows(_row(Outcome.from_dict(entry["outcome"]), entry["shard"]) for entry in self._entries())

    def _entries(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._groups.glob("*.json")):
            yield from json.loads(path.read_text())["clips"]
        for path in sorted(self._outcomes.glob("*.json")):
            yield json.loads(path.read_text()) | {"shard": ""}


def fingerprint(source: VideoSource) -> list[Any]:
    """What must not change between runs for a clip to be taken over: which piece of which file, its size and time."""
    try:
        state = os.stat(source.path)
        size, changed_ns = state.st_size, state.st_mtime_ns
    except OSError:  # gone while the run went on
        size, changed_ns = -1, 0
    return [source.key, source.path, size, changed_ns, source.start_s, source.seconds, list(source.box or ())]


def verify(folder: Path) -> list[str]:
    """What is wrong with a folder of shards, a sentence each; an empty list when all is well.

    Checked are the index, every shard's size, hash and counts, that there are no others, and that all clips are complete.

    Raises:
        MediaError: there is no index.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text())
        shards = {shard["name"]: shard for shard in index["shards"]}
        expected = int(index["clips"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"'{path}' is no index of shards ({error}); run 'triportrait data prepare' again, it goes on.") from None
    wrong = [f"{name} is not in the index" for name in _shard_names(folder) if name not in shards]
    whole = []
    for name, shard in shards.items():
        file = folder / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif file.stat().st_size != shard["bytes"]:
            wrong.append(f"{name} has {file.stat().st_size} bytes, expected {shard['bytes']}")
        elif _sha256(file) != shard["sha256"]:
            wrong.append(f"{name} has changed (its SHA-256 differs)")
        else:
            whole.append(file)
    keys: set[str] = set()
    for file in whole:
        clips = ClipSet([file])
        if len(clips) != shards[file.name]["clips"]:
            wrong.append(f"{file.name} holds {len(clips)} clips, expected {shards[file.name]['clips']}")
        wrong += [f"clip {key} is in two shards" for key in sorted(keys & set(clips.keys))]
        keys |= set(clips.keys)
        for number in range(len(clips)):
            try:
                clips.read(number, [0])
            except MediaError as error:
                wrong.append(str(error))
    if not wrong and len(keys) != expected:
        wrong.append(f"there are {len(keys)} clips, expected {expected}")
    return wrong


def _shard_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _portable(settings: PrepareSettings) -> dict[str, Any]:
    """Settings without places on this machine."""
    values = asdict(settings)
    values["speech"] = "hubert" if values.pop("hubert") else "log_mel"
    return values


def _row(outcome: Outcome, shard: str) -> dict[str, Any]:
    source, facts = outcome.source, outcome.facts
    return {
        "key": source.key,
        "status": "prepared" if outcome.prepared else "failed",
        "code": outcome.code,
        "reason": outcome.reason,
        "note": facts.note,
        "split": source.split,
        "person": source.person,
        "dataset": source.dataset,
        "name": source.name,
        "start_s": source.start_s,
        "frames": facts.frames,
        "video_fps": facts.fps,
        "width": facts.width,
        "height": facts.height,
        "face_px": facts.face_px,
        "fit_px": facts.fit_px,
        "background_change": facts.background_change,
        "cpu_seconds": outcome.cpu_seconds,
        "attempts": outcome.attempts,
        "bytes": outcome.bytes,
        "shard": shard,
    }


def _write_json(path: Path, value: Any, indent: int | None = None) -> None:
    with contextlib.ExitStack() as stack:
        part = stack.enter_context(atomic_file(path))
        part.write_text(json.dumps(value, sort_keys=True, indent=indent) + "\n", encoding="utf-8")
