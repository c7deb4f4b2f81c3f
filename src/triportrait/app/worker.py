"""A process that makes videos: ``python -m triportrait.app.worker FOLDER`` takes jobs until it is told to end.

It may be killed at any time: what it wrote appears whole or not at all, its claim runs out, and whoever takes the job next goes on from the
pieces that are finished.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.app.schemas import ApiError, Job, fault_of
from triportrait.app.store import Store
from triportrait.errors import TriPortraitError

if TYPE_CHECKING:
    from triportrait.performance import Performance

log = logging.getLogger(__name__)

#: How often the table is asked for work, and told of progress.
_ASK_S, _TELL_S = 0.25, 0.5
#: A job may take so long in all, and so much of the machine's memory as address space.
_LONGEST_S, _MEMORY_BYTES = 6 * 3600.0, 16 << 30
VIDEO = "video.mp4"
#: What lies beside a video.
VARIANTS = {"thumbnail": "thumbnail.jpg", "motion": "motion.npz", "livelink": "motion.livelink.csv"}
#: Endings of what is made -> media types.
FORMATS = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".zip": "application/zip",
    ".jpg": "image/jpeg",
    ".npz": "application/octet-stream",
    ".csv": "text/csv",
    ".json": "application/json",
    ".livelink.csv": "text/csv",
}
_THUMBNAIL_PX = 256


class _Cancelled(Exception):
    """The job is no longer ours."""


def made_file(job: Job) -> str:
    """The name of what a job makes."""
    kind = job.options.get("format", "mp4")
    if job.id.startswith("mot_"):
        return f"motion.{'livelink.csv' if kind == 'livelink' else kind}"
    return f"video.{kind}"


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
    """Make one job's video or motion and say how it ended."""
    told, began = 0.0, time.monotonic()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told < _TELL_S:
            return
        told = now
        if now - began > _LONGEST_S:
            raise ApiError("E_TOO_LARGE", f"It takes longer than {_LONGEST_S / 3600:g} hours.", None, "Use a shorter voice or video.")
        # Listening comes before drawing and is quick; of a motion it is all there is.
        counts = what == "rendering" or job.id.startswith("mot_")
        share = min(int(99 * done / total), 99) if total and counts else 0
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
        store.jobs.finish(job.id, worker, made=perform(store, job, progress))
    except _Cancelled:
        # Whoever has the job now may have finished it: the video that lies there is theirs.
        log.info("job %s went to another worker, or was cancelled", job.id)
    except TriPortraitError as error:
        store.jobs.finish(job.id, worker, said(error, store, job))
    except MemoryError:
        full = ApiError("E_TOO_LARGE", "It takes more memory than the server gives.", None, "Use a smaller photo or video.")
        store.jobs.finish(job.id, worker, said(full, store, job))
    except Exception:
        log.exception("job %s failed", job.id)
        ours = ApiError("E_INTERNAL", "The video could not be made, which is a fault of the program.", None, "Please report it.")
        store.jobs.finish(job.id, worker, fault_of(ours))
    finally:
        alive.set()


def perform(store: Store, job: Job, progress: Any) -> dict[str, Any]:
    """Make a job's video or motion in its folder; returns what there is to say of it.

    Raises:
        TriPortraitError: something is wrong with the inputs, or with the disk.
    """
    return _make_motion(store, job, progress) if job.id.startswith("mot_") else _make_video(store, job, progress)


def _make_video(store: Store, job: Job, progress: Any) -> dict[str, Any]:
    from triportrait.background import Background
    from triportrait.motion.options import DriveOptions
    from triportrait.pipeline import Portrait
    from triportrait.provenance.marks import Marks

    asked = dict(job.options)
    quality, full_frame, scene = asked.pop("quality"), asked.pop("full_frame"), asked.pop("background")
    kind = asked.pop("format", "mp4")
    folder, avatar = store.video_folder(job.id), store.avatar(job.avatar, job.client)
    portrait = Portrait.from_image(avatar.file, quality=quality)
    options = DriveOptions(**asked)
    source = folder / "driver"
    if job.kind == "motion":
        source = _with_ending(source)
    verbs: dict[str, Any] = {"audio": portrait.talk, "driving": portrait.drive, "motion": portrait.perform}
    performance = verbs[job.kind](source, options, progress=progress)
    background = Background(scene) if scene else None
    # A job that was interrupted goes on behind its finished pieces.
    made = performance.save(
        folder / made_file(job),
        full_frame=full_frame,
        background=background,
        marks=Marks(consent=avatar.consent),
        progress=progress,
        resume=True,
    )
    told = _add_variants(performance, folder, made)
    return told | {"format": kind}


def _with_ending(source: Path) -> Path:
    """A motion file under a name with the ending that its content calls for."""
    with source.open("rb") as file:
        head = file.read(2)
    target = source.with_suffix(".npz" if head == b"PK" else ".csv")
    shutil.copyfile(source, target)
    return target


def _add_variants(performance: Performance, folder: Path, made: Path) -> dict[str, Any]:
    """A small picture of the video and its motion; returns its length in seconds and its size."""
    from triportrait.media.images import picture_to_bytes
    from triportrait.media.video import VideoReader
    from triportrait.motion.files import write_motion

    frames = write_motion(performance.chunks(), folder / VARIANTS["motion"])
    write_motion(performance.chunks(), folder / VARIANTS["livelink"])
    told: dict[str, Any] = {"seconds": f"{frames / performance.fps:.2f}"}
    if made.suffix == ".mp4":
        with VideoReader(made) as reader:
            told["size"] = f"{reader.size[0]}x{reader.size[1]}"
            _, picture = next(reader.frames(None, max_side=_THUMBNAIL_PX))
        (folder / VARIANTS["thumbnail"]).write_bytes(picture_to_bytes(picture, 85))
    return told


def _make_motion(store: Store, job: Job, progress: Any) -> dict[str, Any]:
    from triportrait.drivers import motion_of_audio, motion_of_video
    from triportrait.motion.files import write_motion
    from triportrait.types import FPS

    folder = store.video_folder(job.id)
    source = folder / "driver"
    chunks = motion_of_audio(source) if job.kind == "audio" else iter((motion_of_video(source, progress=progress),))
    target = folder / made_file(job)
    frames = write_motion(chunks, target, inputs=[source])
    return {"seconds": f"{frames / FPS:.2f}", "format": job.options["format"]}


def said(error: TriPortraitError, store: Store, job: Job) -> dict[str, Any]:
    """An error without the server's paths."""
    folder = store.video_folder(job.id)
    hidden = {str(folder / f"driver{ending}"): "the file" for ending in (".npz", ".csv", "")}
    hidden |= {str(folder / made_file(job)): "the video", str(store.folder): "the server's folder"}
    return fault_of(error, job.kind, hidden)


def main() -> None:
    """The process."""
    logging.basicConfig(level=logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        # A file that makes a decoder ask for the whole memory ends in an error, and not the machine.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    with contextlib.suppress(OSError, AttributeError):
        os.nice(2)
    work(Path(sys.argv[1]), f"{os.getpid()}", stop)


if __name__ == "__main__":
    main()
