"""Uploads, received piece by piece: counted as they come, written where they stay, gone when anything is wrong with them.

A form of the web (``multipart/form-data``, RFC 7578) is read from the connection straight into files of ours, so that what is too large is
refused at its first byte too many, and a full disk is found while it fills.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from triportrait.app.jobs import new_id
from triportrait.app.schemas import ApiError, first_fault

#: Of each text of a form, and of all that is no file. The parser itself bounds headers.
_TEXT_BYTES, _REST_BYTES = 64 << 10, 1 << 20
_MOST_PARTS = 40
#: A whole form comes within this time.
_LONGEST_S = 900.0
#: Endings by which signed statements are found in a file.
_ENDINGS = (".mp4", ".mov", ".webm", ".png", ".jpg", ".jpeg", ".webp", ".gif")

Texts = TypeVar("Texts", bound=BaseModel)


@dataclass(slots=True)
class Upload:
    """A file that has come: where it lies now, and the name it had."""

    path: Path
    name: str
    size: int = 0


@dataclass(slots=True)
class Form:
    """What a request brought: its texts and files by the names of their fields."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)

    def read(self, model: type[Texts]) -> Texts:
        """The texts as a model's fields.

        Raises:
            ApiError: one is missing or wrong.
        """
        try:
            return model.model_validate(self.texts)
        except ValidationError as error:
            raise first_fault(error.errors()) from None

    def file(self, name: str) -> Upload:
        """A file that must be there.

        Raises:
            ApiError: it is not.
        """
        if name not in self.files:
            raise ApiError("E_OPTION", f"There is no {name} in the request.", name, f"Send a form with a file in the field {name}.")
        return self.files[name]


@contextlib.asynccontextmanager
async def received(request: Request, folder: Path, limits: Mapping[str, int]) -> AsyncIterator[Form]:
    """A request's form; its files are gone after the block, except those that were moved.

    Args:
        request: whose body nobody has read.
        folder: for the files.
        limits: bytes of each field that takes a file.

    Raises:
        ApiError: no form, a file that is too large or empty, or a full disk; nothing is left of it.
    """
    receiver = _Receiver(folder, limits)
    try:
        await receiver.read(request)
        yield receiver.form
    finally:
        receiver.drop()


class _Receiver:
    """The state of one form that comes in."""

    def __init__(self, folder: Path, limits: Mapping[str, int]) -> None:
        self._folder, self._limits = folder, limits
        self.form = Form()
        self._made: list[Path] = []
        self._open: IO[bytes] | None = None
        self._parts = self._rest_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._header_name = self._header_value = b""
        self._name, self._upload = "", None  # type: tuple[str, Upload | None]
        self._text: bytearray | None = None
        self._is_whole = False
        #: What is to be done outside of the event loop, in order: write bytes, or finish a file.
        self._waiting: list[tuple[Upload, bytes | None]] = []

    async def read(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary")
        first = next(iter(self._limits))
        if kind != b"multipart/form-data" or not boundary:
            raise ApiError(
                "E_OPTION", f"The request brings no {first}.", first, f"Send a form (multipart/form-data) with a file in {first}."
            )
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > sum(self._limits.values()) + _REST_BYTES:
            raise self._too_large(first)
        try:
            parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]
            async with asyncio.timeout(_LONGEST_S):
                async for chunk in request.stream():
                    parser.write(chunk)
                    if self._waiting:
                        await run_in_threadpool(self._write)
            parser.finalize()
        except TimeoutError:
            raise ApiError("E_INPUT", "The upload takes too long.", first, "Use a faster connection, or a smaller file.") from None
        except ClientDisconnect:
            raise ApiError("E_INPUT", "The upload broke off.", first, "Send it again.") from None
        except (FormParserError, UnicodeDecodeError):
            raise ApiError("E_INPUT", "The form cannot be read.", first, "Send it as a browser does (multipart/form-data).") from None
        if not self._is_whole:
            raise ApiError("E_INPUT", "The form has no end.", self._name or first, "Send it again.")

    def drop(self) -> None:
        """Close what is open and remove what nobody moved."""
        if self._open is not None:
            with contextlib.suppress(OSError):
                self._open.close()
        for path in self._made:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise ApiError("E_OPTION", f"The form has more than {_MOST_PARTS} fields.", None, "Send those that the description names.")
        self._headers.clear()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")[:100]
        self._upload, self._text = None, None
        if b"filename" not in options:
            if self._name in self._limits:
                raise ApiError("E_OPTION", f"The field {self._name} is no file.", self._name, "Send it as a file, with a file name.")
            self._text = bytearray()
        elif self._name in self._limits:
            if self._name in self.form.files:
                raise ApiError("E_OPTION", f"There is more than one {self._name}.", self._name, "Send one.")
            name = options[b"filename"].decode("utf-8", "replace")
            ending = Path(name.replace("\x00", "")).suffix.lower()
            path = self._folder / (new_id("upload") + (ending if ending in _ENDINGS else ""))
            self._upload = self.form.files[self._name] = Upload(path, name)
            self._waiting.append((self._upload, b""))

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._upload is not None:
            self._upload.size += end - start
            if self._upload.size > self._limits[self._name]:
                raise self._too_large(self._name)
            self._waiting.append((self._upload, data[start:end]))
            return
        self._rest_bytes += end - start
        if self._rest_bytes > _REST_BYTES or (self._text is not None and len(self._text) + end - start > _TEXT_BYTES):
            raise ApiError("E_TOO_LARGE", f"The field {self._name} is too long.", self._name, f"Send at most {_TEXT_BYTES >> 10} kB.")
        if self._text is not None:
            self._text += data[start:end]

    def _end(self) -> None:
        if self._upload is not None:
            if not self._upload.size:
                raise ApiError("E_INPUT", "The file is empty.", self._name, "Choose another one.")
            self._waiting.append((self._upload, None))
        elif self._text is not None:
            self.form.texts[self._name] = self._text.decode("utf-8", "replace")
        self._upload, self._text = None, None

    def _finish(self) -> None:
        self._is_whole = True

    def _write(self) -> None:
        """Do what waits; this is where the disk may be full."""
        waiting, self._waiting = self._waiting, []
        try:
            for upload, data in waiting:
                if self._open is None:
                    self._open = upload.path.open("xb")
                    self._made.append(upload.path)
                if data is None:
                    self._open.close()
                    self._open = None
                else:
                    self._open.write(data)
        except OSError:
            remedy = "Try again later, or free some space there."
            raise ApiError("E_NO_SPACE", "The server has no room for the file.", self._name or None, remedy) from None

    def _too_large(self, name: str) -> ApiError:
        return ApiError("E_TOO_LARGE", f"The file is larger than {self._limits[name] >> 20} MB.", name, "Use a smaller one.")


def form_body(texts: type[BaseModel] | None, files: Mapping[str, bool]) -> dict[str, Any]:
    """How OpenAPI describes such a form: its texts, and its files with whether they must be there."""
    schema = {} if texts is None else texts.model_json_schema()
    properties = {name: {"type": "string", "format": "binary"} for name in files}
    for name, one in schema.get("properties", {}).items():
        # A form has no null: a text that is not there is left out.
        there = [kind for kind in one.get("anyOf", ()) if kind != {"type": "null"}]
        properties[name] = {"title": one["title"], **there[0]} if len(there) == 1 else one
    needed = [name for name, is_needed in files.items() if is_needed] + schema.get("required", [])
    described = {"type": "object", "properties": properties} | ({"required": needed} if needed else {})
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": described}}}}
