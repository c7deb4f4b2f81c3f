"""Where a server keeps what it was given and what it made: one folder, names of its own, nothing longer than promised."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triportrait.app.children import refusal, run_limited
from triportrait.app.jobs import JobTable, new_id
from triportrait.app.schemas import KEPT_S, ApiError, ChooseFace
from triportrait.errors import OutputError
from triportrait.files import atomic_file

#: Bytes that are taken: of photos, and of voices and videos.
PHOTO_BYTES, MEDIA_BYTES = 20 << 20, 200 << 20
#: The file with the table of jobs.
TABLE = "jobs.sqlite"


def open_table(folder: Path) -> JobTable:
    """The table of jobs in a server's folder, which is made where there is none.

    Raises:
        OutputError: the disk is full, or the table is damaged.
    """
    try:
        return JobTable(folder / TABLE)
    except sqlite3.OperationalError as error:
        raise OutputError(f"'{folder}' cannot be used: {error}; free some space there, or choose another --folder") from None
    except sqlite3.DatabaseError:
        raise OutputError(f"'{folder / TABLE}' is damaged; remove it, or choose another --folder") from None


def usual_folder() -> Path:
    """Where a server of this user keeps things unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "triportrait" / "server"


@dataclass(frozen=True, slots=True)
class Avatar:
    """A portrait that was uploaded: its id, its owner, its name, its folder, and how the person agreed."""

    id: str
    client: str
    name: str
    created: float
    folder: Path
    consent: str = ""

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

    Raises:
        OutputError: it cannot be written, as on a full disk, or its table of jobs is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            for name in ("avatars", "videos", "incoming"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{folder}' cannot be used: {error.strerror}; choose another --folder") from None
        self.jobs = open_table(folder)

    def video_folder(self, job_id: str) -> Path:
        """Where a job's input lies and its video will."""
        return self.folder / "videos" / job_id

    def add_avatar(self, client: str, photo: Path, name: str, consent: str = "", face: int | None = None) -> Avatar:
        """Prepare an uploaded photo, or take an avatar file, in a limited process of its own.

        Args:
            client: whose it is; empty for an example that everybody has.
            photo: the upload, which stays.
            name: for people.
            consent: how the person agreed, for the statements of the videos.
            face: which one, counted from the left, where the photo shows several.

        Raises:
            ChooseFace: there are several, and none is chosen.
            ApiError: no photo, no face in it, it takes too long, or the disk is full.
        """
        avatar_id, created = new_id("avt"), time.time()
        folder = self.folder / "avatars" / avatar_id
        made = Avatar(avatar_id, client, name[:80] or "portrait", created, folder, consent)
        try:
            folder.mkdir()
            chosen = [] if face is None else [str(face)]
            done = run_limited([str(photo), str(made.file), *chosen], "photo", module="triportrait.app.photo_child")
            if done.returncode:
                raise refusal(done, str(photo), "photo", "the photo")
            if faces := json.loads(done.stdout)["faces"]:
                raise ChooseFace(faces)
            about = {"client": client, "name": made.name, "created": created, "consent": consent}
            with atomic_file(folder / "about.json") as draft:
                draft.write_text(json.dumps(about))
        except (OSError, OutputError):
            shutil.rmtree(folder, ignore_errors=True)
            raise ApiError("E_NO_SPACE", "The server has no room for the portrait.", "photo", "Try again later.") from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return made

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
                return Avatar(avatar_id, about["client"], about["name"], about["created"], folder, about.get("consent", ""))
        raise ApiError("E_NOT_FOUND", "There is no such portrait.", "avatar", "Upload the photo again.")

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
            raise ApiError("E_OPTION", "The examples stay.", "avatar", "Upload a photo of your own.")
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
                    shutil.rmtree(upload) if upload.is_dir() else upload.unlink()
