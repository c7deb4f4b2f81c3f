"""Downloading what the catalogue names, when a user asks for it: resumable, hash-checked, from a mirror or an offline folder."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from triportrait.errors import OutputError, WeightsError
from triportrait.files import place_part
from triportrait.weights.catalogue import Entry, PublishedFile, entry
from triportrait.weights.home import weights_home
from triportrait.weights.reading import sha256_of

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

#: A connection that says nothing for so long is given up; the next attempt goes on from there.
TIMEOUT_S = 30.0
ATTEMPTS = 5
_BLOCK = 1 << 20


def fetch(
    name: str,
    *,
    mirror: str | None = None,
    from_folder: str | os.PathLike[str] | None = None,
    into: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Bring the published files of a catalogue entry to this machine, unconverted.

    Args:
        name: of the entry.
        mirror: address of a folder that holds the files under their published names; by default the authors' own.
        from_folder: a folder of this machine to copy from instead; nothing is downloaded then.
        into: where to; by default ``downloads/NAME`` beside the imported weights.
        progress: called with (file name, bytes there, bytes in all or 0).

    Returns:
        The files, in the order of the entry.

    Raises:
        WeightsError: no such entry, no direct address, nothing there, interrupted too often, or another file than expected.
        OutputError: the folder cannot be written.
    """
    wanted = entry(name)
    folder = Path(into) if into is not None else weights_home() / "downloads" / wanted.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder '{folder}' cannot be made: {error.strerror}; choose another with --into.") from error
    return [_fetch_one(wanted, file, folder, mirror, from_folder, progress) for file in wanted.files]


def _fetch_one(
    wanted: Entry,
    file: PublishedFile,
    folder: Path,
    mirror: str | None,
    from_folder: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> Path:
    base = PurePosixPath(file.name).name
    target = folder / base
    if target.is_file() and (file.sha256 is None or sha256_of(target) == file.sha256):
        return target
    part = target.with_name(f"{base}.part")
    try:
        if from_folder is not None:
            shutil.copyfile(_in_folder(Path(from_folder), file), part)
        else:
            address = f"{mirror.rstrip('/')}/{urllib.parse.quote(file.name)}" if mirror else file.address
            if address is None:
                raise WeightsError(
                    f"The authors of '{wanted.name}' give no direct address for {base}; get it from {wanted.page} and run "
                    f"'triportrait weights import FILE', or name a mirror with --mirror or a folder with --from-folder."
                )
            download(address, part, progress)
        found = sha256_of(part)
        if file.sha256 is not None and found != file.sha256:
            part.unlink()
            raise WeightsError(
                f"{base} is not the published file (SHA-256 {found[:16]}... instead of {file.sha256[:16]}...); try another source."
            )
        if file.sha256 is None:
            _log.warning("%s: SHA-256 %s; the published one is not known here, compare it with the authors'.", base, found)
        place_part(part, target)
    except OSError as error:
        raise OutputError(f"'{target}' cannot be written: {error.strerror or error}; choose another folder or free some space.") from error
    return target


def download(address: str, part: Path, progress: Progress | None = None) -> None:
    """Download into ``part``, going on where an earlier attempt left off when the server can.

    Raises:
        WeightsError: the address is not http(s), the server refuses, or the connection breaks again and again.
    """
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise WeightsError(f"'{address}' is no http or https address; use --from-folder for files of this machine.")
    # What the server calls this version of the file; with it, a part of an older version is not continued.
    version = part.with_name(f"{part.name}.version")
    reason = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and version.exists():
            headers["If-Range"] = version.read_text(encoding="ascii")
        request = urllib.request.Request(address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                resumed = have > 0 and response.status == 206 and _starts_at(response, have)
                if not resumed:
                    _note_version(response, version)
                total = int(response.headers.get("Content-Length") or 0) + (have if resumed else 0)
                written = _append(response, part, have if resumed else 0, total, progress)
            if not total or written == total:
                version.unlink(missing_ok=True)
                return
            reason = f"the connection broke after {written} of {total} bytes"
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:
                if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                    version.unlink(missing_ok=True)
                    return  # the part was already complete
                part.unlink()  # longer than the file: something else lay there
                continue
            raise WeightsError(
                f"'{address}' cannot be had (HTTP {error.code} {error.reason}); check the address or use --mirror."
            ) from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
    raise WeightsError(f"'{address}' cannot be downloaded ({reason}); what has arrived is kept, run the same command again.")


def _note_version(response: http.client.HTTPResponse, version: Path) -> None:
    """Keep the server's strong name for this version of the file, if it gives one."""
    name = response.headers.get("ETag", "")
    if name and not name.startswith("W/") and name.isascii():
        version.write_text(name, encoding="ascii")
    else:
        version.unlink(missing_ok=True)


def _starts_at(response: http.client.HTTPResponse, have: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _append(response: http.client.HTTPResponse, part: Path, start: int, total: int, progress: Progress | None) -> int:
    """Write the body at ``start``; returns how long the part is then, also when the connection breaks."""
    with part.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        written = start
        try:
            while block := response.read(_BLOCK):
                file.write(block)
                written += len(block)
                if progress is not None:
                    progress(part.name.removesuffix(".part"), written, total)
        except http.client.IncompleteRead as error:
            file.write(error.partial)
            written += len(error.partial)
    return written


def _in_folder(folder: Path, file: PublishedFile) -> Path:
    """The file under its published path, or its name alone, in a folder."""
    for candidate in (folder / file.name, folder / PurePosixPath(file.name).name):
        if candidate.is_file():
            return candidate
    raise WeightsError(f"The folder '{folder}' does not hold {file.name}; put the published file there.")
