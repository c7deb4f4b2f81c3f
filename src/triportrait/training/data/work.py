"""What a worker does for one source, whatever process or machine it runs in: from a source to the bytes that belong into a shard."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from triportrait.errors import TriPortraitError
from triportrait.training.data.clip import ClipFacts, PrepareSettings, pieces_of, prepare_clip
from triportrait.training.data.clips import encode_clip
from triportrait.training.data.sources import VideoSource

log = logging.getLogger(__name__)

#: One thread per worker, and the same arithmetic in all of them: results must not depend on who made them.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "GLOG_minloglevel": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a source.

    Args:
        source: which.
        code: ``""`` when there is a clip, else why there is none, as a short stable word.
        reason: the same in a sentence.
        facts: about the video and the clip.
        cpu_seconds: spent on it.
        bytes: of the sample.
        attempts: how often it was begun.
    """

    source: VideoSource
    code: str = ""
    reason: str = ""
    facts: ClipFacts = field(default_factory=ClipFacts)
    cpu_seconds: float = 0.0
    bytes: int = 0
    attempts: int = 1

    @property
    def prepared(self) -> bool:
        """Whether there is a clip."""
        return not self.code

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Outcome:
        """See :meth:`as_dict`."""
        return cls(**values | {"source": VideoSource.from_dict(values["source"]), "facts": ClipFacts(**values["facts"])})


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer: an outcome, with the clip's part of a shard; or the pieces of a long video, each a source of its own."""

    outcome: Outcome | None = None
    sample: bytes = b""
    pieces: tuple[VideoSource, ...] = ()

    def header(self) -> dict[str, Any]:
        """All but the sample, for JSON."""
        return {"outcome": self.outcome.as_dict() if self.outcome else None, "pieces": [piece.as_dict() for piece in self.pieces]}

    @classmethod
    def from_header(cls, values: dict[str, Any], sample: bytes) -> Reply:
        """The inverse of :meth:`header`."""
        outcome = Outcome.from_dict(values["outcome"]) if values["outcome"] else None
        return cls(outcome, sample, tuple(VideoSource.from_dict(piece) for piece in values["pieces"]))


def work_on(source: VideoSource, settings: PrepareSettings) -> Reply:
    """Prepare a source, or say into which pieces it must be cut. Never raises: what goes wrong is an outcome."""
    with one_thread():
        return _work_on(source, settings)


def _work_on(source: VideoSource, settings: PrepareSettings) -> Reply:
    started = time.process_time()
    try:
        # A piece has its number in its key; only whole sources are cut.
        pieces = [source] if "--p" in source.key else pieces_of(source, settings)
        if len(pieces) > 1:
            return Reply(pieces=tuple(pieces))
        clip, facts = prepare_clip(source, settings)
        sample = sample_bytes(source, encode_clip(clip, settings.quality), settings)
    except TriPortraitError as error:
        return Reply(Outcome(source, error.code, str(error), cpu_seconds=round(time.process_time() - started, 3)))
    except MemoryError:
        return Reply(Outcome(source, "E_MEMORY", "not enough memory; use fewer workers or a smaller --size"))
    except Exception as error:  # one bad clip never stops the run, whatever it makes a decoder or a network do
        log.exception("%s", source.path)
        return Reply(Outcome(source, "E_INTERNAL", f"internal error ({type(error).__name__}: {error}); report it, please"))
    return Reply(Outcome(source, "", "", facts, round(time.process_time() - started, 3), len(sample)), sample)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for everything, and afterwards as before: how OpenBLAS divides a product among threads decides its last bits.

    Libraries that are loaded already are told so; those that are loaded meanwhile read it from the environment.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    before, environment = cv2.getNumThreads(), {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        cv2.setNumThreads(before)
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def sample_bytes(source: VideoSource, members: dict[str, bytes], settings: PrepareSettings) -> bytes:
    """A clip's members as they stand in a tar file, without its end: shards are such pieces one after the other.

    ``KEY.source.json`` says where the clip comes from. Times, owners and modes are fixed, so equal clips give equal bytes.
    """
    origin = {
        "name": source.name,
        "dataset": source.dataset,
        "person": source.person,
        "start_s": source.start_s,
        "speech": "hubert" if settings.hubert else "log_mel",
    }
    stream = io.BytesIO()
    tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)
    for name, data in [*members.items(), ("source.json", json.dumps(origin, sort_keys=True).encode())]:
        entry = tarfile.TarInfo(f"{source.key}.{name}")
        entry.size, entry.mode = len(data), 0o644
        tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()[: tar.offset]
