"""Telling other servers that a video has ended: a signed POST to addresses that the operator named, and to no others.

The signature is that of Standard Webhooks, which OpenAI's API uses as well: HMAC-SHA256 over ``id.timestamp.body``, by a secret that is
bytes in base64 behind ``whsec_``, or else text.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from triportrait.app.jobs import JobTable
from triportrait.app.schemas import ApiError, Job
from triportrait.errors import OptionError
from triportrait.files import read_text

log = logging.getLogger(__name__)

#: An answer comes within this time, however slowly its bytes come; else it is tried again after so many seconds each.
_ANSWER_S = 10.0
WAITS_S = (10.0, 60.0, 300.0, 1800.0)
_LONGEST = 500
#: So many are told at a time, so that who answers slowly keeps hardly anybody else waiting.
_AT_A_TIME = 20
_SECRET_START, _SHORTEST_SECRET = "whsec_", 16


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where may be told, everything below it included, and the secret by which the other side knows that it was us."""

    address: str
    secret: bytes

    def covers(self, address: str) -> bool:
        """Whether an address is this one or lies below it."""
        return address == self.address or address.startswith(self.address.rstrip("/") + "/")


def read_webhooks(path: Path) -> tuple[Webhook, ...]:
    """The operator's list: an address and a secret in each line.

    Raises:
        MediaError: the file cannot be read.
        OptionError: a line is something else.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        address, _, said = line.strip().partition(" ")
        secret = _secret_of(said.strip())
        if not _is_address(address) or secret is None:
            remedy = f"write an address, a blank, and a secret of {_SHORTEST_SECRET} letters or more, or {_SECRET_START} and base64"
            raise OptionError(f"line {number} of '{path}' is no webhook; {remedy}")
        found.append(Webhook(address, secret))
    if not found:
        raise OptionError(f"the file '{path}' names no webhook; write an address and a secret into it, or leave out --webhooks")
    return tuple(found)


def _is_plain(address: str) -> bool:
    """Whether an address is printable ASCII without blanks and without a fragment, which is never sent."""
    return address.isascii() and address.isprintable() and not set(address) & set(" #")


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        is_there = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, or a port that is no number
        return False
    return is_there and "@" not in parts.netloc and _is_plain(address)


def _secret_of(said: str) -> bytes | None:
    """The bytes that sign; None where they are too few, or no base64."""
    try:
        secret = base64.b64decode(said.removeprefix(_SECRET_START), validate=True) if said.startswith(_SECRET_START) else said.encode()
    except binascii.Error:
        return None
    return secret if len(secret) >= _SHORTEST_SECRET else None


class Webhooks:
    """Tells what has ended.

    Args:
        known: where may be told.
        table: of the jobs.
        now: seconds since 1970.
    """

    def __init__(self, known: tuple[Webhook, ...], table: JobTable, now: Callable[[], float] = time.time) -> None:
        self._known, self._table, self._now = known, table, now
        self._pool = ThreadPoolExecutor(_AT_A_TIME, "webhook")
        self._under_way: set[str] = set()
        self._calls: set[_Call] = set()
        self._lock = threading.Lock()
        self._is_over = False

    def check(self, address: str) -> None:
        """Only addresses that the operator named.

        Raises:
            ApiError: another one.
        """
        is_straight = not any(part in address.lower() for part in ("..", "%2e", "\\"))
        if not is_straight or not _is_plain(address) or len(address) > _LONGEST or self._of(address) is None:
            raise ApiError("E_OPTION", "This server may not call that address.", "webhook", "Ask its operator to add the address.")

    def tell(self) -> list[Future[None]]:
        """Begin to tell all that has ended and was not told, once each; whoever does not answer is told later, and at last no more.

        Returns:
            What begins now; nobody need wait for it.
        """
        begun: list[Future[None]] = []
        for job, address, tries in self._table.untold():
            with self._lock:
                if job.id in self._under_way or self._is_over:
                    continue
                self._under_way.add(job.id)
                begun.append(self._pool.submit(self._tell, job, address, tries))
        return begun

    def close(self) -> None:
        """Tell nobody any more. Who was being told, and did not answer yet, is told again when the server runs next."""
        with self._lock:
            self._is_over = True
            calls = list(self._calls)
        for call in calls:
            call.cut()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _tell(self, job: Job, address: str, tries: int) -> None:
        try:
            is_told = self._post(address, job.id, job.answer())
            if is_told or not self._is_over:
                self._table.told(job.id, None if is_told or tries >= len(WAITS_S) else WAITS_S[tries])
        except (OSError, sqlite3.Error) as error:
            log.warning("the table of jobs cannot be written: %s", error)
        finally:
            with self._lock:
                self._under_way.discard(job.id)

    def _of(self, address: str) -> Webhook | None:
        return next((one for one in self._known if one.covers(address)), None)

    def _post(self, address: str, job_id: str, answer: dict[str, Any]) -> bool:
        known = self._of(address)
        if known is None:  # the operator took it away
            return True
        kind = f"{answer['object']}.{answer['status']}"
        moment = int(self._now())
        event = {"id": f"evt_{job_id}", "object": "event", "type": kind, "created_at": moment, "data": answer}
        body = json.dumps(event).encode()
        call = _Call(address)
        with self._lock:
            if self._is_over:
                return False
            self._calls.add(call)
        try:
            return 200 <= call.post(body, signed(known.secret, f"evt_{job_id}", body, moment)) < 300
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("webhook %s of %s: %s", urlsplit(address).hostname, job_id, type(error).__name__)
            return False
        finally:
            with self._lock:
                self._calls.discard(call)


def signed(secret: bytes, event_id: str, body: bytes, moment: int) -> dict[str, str]:
    """The headers of an event at a moment (seconds since 1970); who knows the secret makes the same signature."""
    stamp = f"{moment}"
    seal = hmac.new(secret, b".".join((event_id.encode(), stamp.encode(), body)), hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "triportrait",
        "Webhook-Id": event_id,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": f"v1,{base64.b64encode(seal).decode()}",
    }


class _Call:
    """One request, which goes nowhere else, whatever the other side says: neither through a proxy nor by a redirection."""

    def __init__(self, address: str) -> None:
        self._parts = urlsplit(address)
        self._line: socket.socket | None = None
        self._is_cut = False
        self._lock = threading.Lock()

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer.

        Raises:
            OSError: no answer came in time, or it was cut.
            http.client.HTTPException: the answer is none of HTTP.
        """
        parts, host = self._parts, self._parts.hostname or ""
        late = threading.Timer(_ANSWER_S, self.cut)
        late.daemon = True
        late.start()
        context = ssl.create_default_context() if parts.scheme == "https" else None
        connection = http.client.HTTPConnection(host, parts.port) if context is None else http.client.HTTPSConnection(host, parts.port)
        try:
            line = socket.create_connection((connection.host, connection.port), _ANSWER_S)
            connection.sock = line
            if context is not None:
                # The handshake waits until the line can be cut.
                line = context.wrap_socket(line, server_hostname=host, do_handshake_on_connect=False)
                connection.sock = line
            with self._lock:
                self._line = line
                if self._is_cut:
                    raise TimeoutError
            if isinstance(line, ssl.SSLSocket):
                line.do_handshake()
            connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
            status = connection.getresponse().status
            with self._lock:
                if self._is_cut:  # what a line that ends brings looks like a whole answer
                    raise TimeoutError
            return status
        finally:
            late.cancel()
            with self._lock:
                self._line = None
            connection.close()

    def cut(self) -> None:
        """End it, wherever it is."""
        with self._lock, contextlib.suppress(OSError):
            self._is_cut = True
            if self._line is not None:
                # Not by its own method, which would go on without encryption.
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)
