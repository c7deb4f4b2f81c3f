"""A process that makes videos: ``python -m triportrait.app.worker FOLDER`` takes jobs until it is told to end.

It may be killed at any time: what it wrote appears whole or not at all, and its claim runs out.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from triportrait.app.schemas import Job, error_body
from triportrait.app.store import Store
from triportrait.errors import TriPortraitError

log = logging.getLogger(__name__)

#: How often the table is asked for work, and told of progress.
_ASK_S, _TELL_S = 0.25, 0.5
VIDEO = "video.mp4"


class _Cancelled(Exception):
    """The job is no longer ours."""


def work(folder: Path, worker: str, stop: threading.Event | None = None) -> None:
    """Make videos until ``stop`` is set, or the process that started this one has gone."""
    store, stop = Store(folder), stop or threading.Event()
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        job = store.jobs.claim(worker)
        if job is None:
            stop.wait(_ASK_S)
            continue
        make(store, job, worker)


def make(store: Store, job: Job, worker: str) -> None:
    """Make one job's video and say how it ended."""
    told = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told < _TELL_S:
            return
        told = now
        # Listening comes before drawing and is quick.
        share = int(99 * done / total) if total and what == "rendering" else 0
        if not store.jobs.renew(job.id, worker, share):
            raise _Cancelled

    alive = threading.Event()

    def renewing() -> None:
        # Reading a long file shows no progress, but is one.
        while not alive.wait(5.0):
            current = store.jobs.get(job.id)
            if current is None or not store.jobs.renew(job.id, worker, current.progress):
                return

    threading.Thread(target=renewing, daemon=True).start()
    try:
        _perform(store, job, progress)
        store.jobs.finish(job.id, worker)
    except _Cancelled:
        # Whoever has the job now may have finished it: the video that lies there is theirs.
        log.info("job %s went to another worker, or was cancelled", job.id)
    except TriPortraitError as error:
        store.jobs.finish(job.id, worker, _said(error, store, job))
    except Exception:
        log.exception("job %s failed", job.id)
        message = "The video could not be made, which is a fault of the program; please report it."
        store.jobs.finish(job.id, worker, {"code": "E_INTERNAL", "message": message, "field": None})
    finally:
        alive.set()


def _perform(store: Store, job: Job, progress: Any) -> None:
    from triportrait.background import Background
    from triportrait.motion.options import DriveOptions
    from triportrait.pipeline import Portrait

    asked = dict(job.options)
    quality, full_frame, scene = asked.pop("quality"), asked.pop("full_frame"), asked.pop("background")
    folder = store.video_folder(job.id)
    portrait = Portrait.from_image(store.folder / "avatars" / job.avatar / "portrait.avatar", quality=quality)
    options = DriveOptions(**asked)
    source = folder / "driver"
    if job.kind == "motion":
        source = _with_ending(source)
    verbs: dict[str, Any] = {"audio": portrait.talk, "driving": portrait.drive, "motion": portrait.perform}
    performance = verbs[job.kind](source, options, progress=progress)
    background = Background(scene) if scene else None
    performance.save(folder / VIDEO, full_frame=full_frame, background=background, progress=progress)


def _with_ending(source: Path) -> Path:
    """A motion file under a name with the ending that its content calls for."""
    with source.open("rb") as file:
        head = file.read(2)
    target = source.with_suffix(".npz" if head == b"PK" else ".csv")
    shutil.copyfile(source, target)
    return target


def _said(error: TriPortraitError, store: Store, job: Job) -> dict[str, Any]:
    """An error without the server's paths."""
    body: dict[str, Any] = error_body(error)["error"]
    source = store.video_folder(job.id) / "driver"
    for path in (*(str(source.with_suffix(ending)) for ending in (".npz", ".csv", "")), str(store.folder)):
        body["message"] = body["message"].replace(f"'{path}'", "the file").replace(path, "the file")
    return body | {"field": job.kind}


def main() -> None:
    """The process."""
    logging.basicConfig(level=logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    folder = Path(sys.argv[1])
    if shutil.which("nice"):
        os.nice(2)
    work(folder, f"{os.getpid()}", stop)


if __name__ == "__main__":
    main()
