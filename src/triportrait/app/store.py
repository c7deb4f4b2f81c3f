"""Where a server keeps what it was given and what it made: one folder, names of its own, nothing longer than promised."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from triportrait.app.jobs import JobTable, new_id
from triportrait.app.schemas import ApiError, ChooseFace

#: Bytes that are taken: of photos, and of voices and videos.
PHOTO_BYTES, MEDIA_BYTES = 20 << 20, 200 << 20
#: What was uploaded or made is deleted after so many seconds.
KEPT_S = 24 * 3600.0
#: A photo is prepared within this time and memory.
_PREPARE_S, _PREPARE_BYTES = 120.0, 6 << 30
_CHUNK = 1 << 20
#: Endings by which signed statements are found in a file.
_ENDINGS = (".mp4", ".mov", ".webm", ".png", ".jpg", ".jpeg", ".webp", ".gif")


@dataclass(frozen=True, slots=True)
class Avatar:
    """A portrait that was uploaded: its id, its owner, its name, and its folder."""

    id: str
    client: str
    name: str
    created: float
    folder: Path

    @property
    def file(self) -> Path:
        """The avatar file."""
        return self.folder / "portrait.avatar"

    def answer(self) -> dict[str, Any]:
        """What the API says of it."""
        said = {"id": self.id, "object": "avatar", "name": self.name, "status": "ready", "created_at": int(self.created)}
        return said | {"example": not self.client}


class Store:
    """The folder of a server.

    Args:
        folder: is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("avatars", "videos", "incoming"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.jobs = JobTable(folder / "jobs.sqlite")

    def video_folder(self, job_id: str) -> Path:
        """Where a job's input lies and its video will."""
        return self.folder / "videos" / job_id

    def take(self, source: IO[bytes], limit: int, field: str, name: str | None = None) -> Path:
        """Write an upload to a file with a name of ours, and with the ending of the ``name`` that it had if that is one of a few.

        Raises:
            ApiError: larger than ``limit`` bytes, empty, or the disk is full.
        """
        ending = Path(name or "").suffix.lower()
        target = self.folder / "incoming" / (new_id("upload") + (ending if ending in _ENDINGS else ""))
        size = 0
        try:
            with target.open("wb") as file:
                while chunk := source.read(_CHUNK):
                    size += len(chunk)
                    if size > limit:
                        raise ApiError("E_TOO_LARGE", f"The file is larger than {limit >> 20} MB; use a smaller one.", field)
                    file.write(chunk)
        except OSError:
            target.unlink(missing_ok=True)
            raise ApiError("E_FULL", "The server has no room for the file; try again later.", field) from None
        except ApiError:
            target.unlink(missing_ok=True)
            raise
        if not size:
            target.unlink(missing_ok=True)
            raise ApiError("E_INPUT", "The file is empty; choose another one.", field)
        return target

    def add_avatar(self, client: str, photo: Path, name: str, face: int | None = None) -> Avatar:
        """Prepare an uploaded photo, or take an avatar file, in a process of its own; the upload is gone afterwards.

        Args:
            client: whose it is.
            photo: the upload.
            name: to show.
            face: which one, counted from the left, where the photo shows several.

        Raises:
            ChooseFace: there are several, and none is chosen.
            ApiError: no photo, no face in it, or it takes too long.
        """
        avatar = Avatar(new_id("avt"), client, name[:80] or "portrait", time.time(), Path())
        folder = self.folder / "avatars" / avatar.id
        folder.mkdir()
        made = Avatar(avatar.id, avatar.client, avatar.name, avatar.created, folder)
        try:
            self._prepare(photo, made.file, face)
            (folder / "about.json").write_text(json.dumps({"client": client, "name": made.name, "created": made.created}))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            photo.unlink(missing_ok=True)
        return made

    def _prepare(self, photo: Path, target: Path, face: int | None) -> None:
        command = [sys.executable, "-m", "triportrait.app.photo_child", str(photo), str(target), *([] if face is None else [str(face)])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PREPARE_S, preexec_fn=within_limits, check=False)
            said = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise ApiError("E_INPUT", "The photo takes too long to read; use a smaller one.", "photo") from None
        except ValueError:  # it was stopped, for want of memory or by a fault
            raise ApiError("E_INPUT", "The photo could not be read; use a smaller JPEG, PNG or WebP picture.", "photo") from None
        if "faces" in said:
            raise ChooseFace(said["faces"])
        if "error" in said:
            raise ApiError(said["error"]["code"], _sentence(said["error"]["message"], photo), "photo")

    def avatar(self, avatar_id: str, client: str) -> Avatar:
        """A client's avatar, or an example that everybody has.

        Raises:
            ApiError: there is none.
        """
        folder = self.folder / "avatars" / avatar_id
        # Ids are ours; whatever else was asked for names no folder.
        if avatar_id.startswith("avt_") and avatar_id[4:].isalnum() and (folder / "about.json").is_file():
            about = json.loads((folder / "about.json").read_text())
            if about["client"] in (client, ""):
                return Avatar(avatar_id, about["client"], about["name"], about["created"], folder)
        raise ApiError("E_NOT_FOUND", "There is no such portrait; upload the photo again.", "avatar")

    def avatars(self, client: str) -> list[Avatar]:
        """A client's avatars and the examples, the newest first."""
        found = []
        for folder in (self.folder / "avatars").iterdir():
            with contextlib.suppress(ApiError):
                found.append(self.avatar(folder.name, client))
        return sorted(found, key=lambda avatar: -avatar.created)

    def remove_avatar(self, avatar: Avatar) -> None:
        """Delete a portrait and its photo at once.

        Raises:
            ApiError: it is an example.
        """
        if not avatar.client:
            raise ApiError("E_OPTION", "The examples stay; upload a photo of your own.", "avatar")
        shutil.rmtree(avatar.folder, ignore_errors=True)

    def clean(self, now: float | None = None) -> None:
        """Delete what is older than promised."""
        moment = (time.time() if now is None else now) - KEPT_S
        for job in self.jobs.older_than(moment):
            shutil.rmtree(self.video_folder(job.id), ignore_errors=True)
            self.jobs.forget(job.id)
        for folder in (self.folder / "videos").iterdir():
            # A server that was killed between taking an upload and writing its job leaves a folder without one.
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime < moment and self.jobs.get(folder.name) is None:
                    shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.folder / "avatars").iterdir():
            about = folder / "about.json"
            if about.is_file() and (said := json.loads(about.read_text()))["client"] and said["created"] < moment:
                shutil.rmtree(folder, ignore_errors=True)
        for upload in (self.folder / "incoming").iterdir():
            with contextlib.suppress(OSError):
                if upload.stat().st_mtime < moment:
                    upload.unlink()


def within_limits() -> None:
    """In the child: no more memory than a photo needs, and last in line for the processor."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_PREPARE_BYTES, _PREPARE_BYTES))
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)


def _sentence(text: str, upload: Path) -> str:
    """What was said of an upload, without its path."""
    for name in (str(upload), upload.name):
        text = text.replace(f"'{name}'", "the photo").replace(name, "the photo")
    return text[:1].upper() + text[1:]
