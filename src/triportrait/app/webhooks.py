"""Telling other servers that a video has ended: a signed POST to addresses that the operator named, and to no others.

The signature is that of Standard Webhooks, which OpenAI's API uses as well: HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from triportrait.app.jobs import JobTable
from triportrait.app.schemas import ApiError
from triportrait.errors import OptionError
from triportrait.files import read_text

log = logging.getLogger(__name__)

#: An answer comes within this time, else it is tried again after so many seconds each.
_ANSWER_S = 10.0
WAITS_S = (10.0, 60.0, 300.0, 1800.0)
_LONGEST = 500


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
        address, _, secret = line.strip().partition(" ")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or len(secret.strip()) < 16:
            raise OptionError(f"line {number} of '{path}' is no webhook; write an address, a blank, and a secret of 16 letters or more")
        found.append(Webhook(address, secret.strip().encode()))
    if not found:
        raise OptionError(f"the file '{path}' names no webhook; write an address and a secret into it, or leave out --webhooks")
    return tuple(found)


class Webhooks:
    """Tells what has ended.

    Args:
        known: where may be told.
        table: of the jobs.
    """

    def __init__(self, known: tuple[Webhook, ...], table: JobTable) -> None:
        self._known, self._table = known, table

    def check(self, address: str) -> None:
        """Only addresses that the operator named.

        Raises:
            ApiError: another one.
        """
        is_straight = not any(part in address.lower() for part in ("..", "%2e", "\\"))
        plain = is_straight and address.isascii() and address.isprintable() and len(address) <= _LONGEST
        if not plain or self._of(address) is None:
            raise ApiError("E_OPTION", "The webhook is none that this server may call.", "webhook", "Ask its operator to add the address.")

    def tell(self) -> None:
        """Tell all that has ended and was not told, once each; whoever does not answer is told later, and at last no more."""
        for job, address, tries in self._table.untold():
            is_told = self._post(address, job.id, job.answer())
            wait_s = None if is_told or tries >= len(WAITS_S) else WAITS_S[tries]
            self._table.told(job.id, wait_s)

    def _of(self, address: str) -> Webhook | None:
        return next((one for one in self._known if one.covers(address)), None)

    def _post(self, address: str, job_id: str, answer: dict[str, Any]) -> bool:
        known = self._of(address)
        if known is None:  # the operator took it away
            return True
        kind = f"{answer['object']}.{answer['status']}"
        body = json.dumps({"id": f"evt_{job_id}", "object": "event", "type": kind, "created_at": int(time.time()), "data": answer}).encode()
        request = urllib.request.Request(address, body, signed(known.secret, f"evt_{job_id}", body), method="POST")
        try:
            with _opener.open(request, timeout=_ANSWER_S) as answered:
                return bool(200 <= answered.status < 300)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("webhook %s of %s: %s", urlsplit(address).hostname, job_id, type(error).__name__)
            return False


def signed(secret: bytes, event_id: str, body: bytes, moment: int | None = None) -> dict[str, str]:
    """The headers of an event; who knows the secret makes the same signature."""
    stamp = f"{int(time.time()) if moment is None else moment}"
    seal = hmac.new(secret, b".".join((event_id.encode(), stamp.encode(), body)), hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "triportrait",
        "Webhook-Id": event_id,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": f"v1,{base64.b64encode(seal).decode()}",
    }


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else, whatever the other side says."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({}))
