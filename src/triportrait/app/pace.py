"""How often a client may ask: buckets of requests that fill as time passes (the token bucket of RFC 2697, one rate)."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from triportrait.app.schemas import ApiError

#: One of so many requests may be dear in this way: a job, a file that is read or made at once, a conversation, a picture that is drawn.
_SHARES = {"jobs": 120, "files": 60, "sessions": 40, "stills": 4}
#: What is counted, one and several.
_WORDS = {
    "": ("request", "requests"),
    "jobs": ("new video or motion", "new videos and motions"),
    "files": ("file that is read at once", "files that are read at once"),
    "sessions": ("new conversation", "new conversations"),
    "stills": ("picture", "pictures"),
}
#: Clients behind one address have so many times what one has; whoever takes a new name for each request gets no farther.
_CLIENTS_OF_ADDRESS = 10
#: Buckets that are remembered. The one that was used longest ago is forgotten, and is full when it comes again.
_REMEMBERED = 20_000
_WINDOW_S = 60.0


@dataclass(slots=True)
class _Bucket:
    left: float
    seen_s: float


class Pace:
    """Keeps clients to a number of requests a minute; a client that was quiet may make them at once.

    Args:
        requests_a_minute: of one client, of any kind; those that are dear have a part of it, see :data:`_SHARES`. 0 is no limit.
        now_s: a clock.
    """

    def __init__(self, requests_a_minute: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now_s = requests_a_minute, now_s
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def allowed(self, kind: str) -> int:
        """Requests of a kind that one client may make in a minute; 0 is no limit."""
        return self._most and max(1, self._most // _SHARES.get(kind, 1))

    def take(self, client: str, address: str, kind: str = "") -> None:
        """Count a request.

        Args:
            client: who asks, see :func:`triportrait.app.access.client_of`.
            address: from where.
            kind: one of those that are dear, see :func:`kind_of`; empty for what is cheap.

        Raises:
            ApiError: it comes too soon; ``retry_after_s`` says how long to wait. It is not counted then.
        """
        if not self._most:
            return
        now_s = self._now_s()
        with self._lock:
            taken, wait_s, limit = [], 0.0, ""
            for one in sorted({"", kind}):
                for whose, factor in ((client, 1), (f"address {address}", _CLIENTS_OF_ADDRESS)):
                    most = factor * self.allowed(one)
                    bucket = self._bucket((whose, one), most, now_s)
                    taken.append(bucket)
                    if (lacks_s := (1.0 - bucket.left) * _WINDOW_S / most) > wait_s:
                        wait_s = lacks_s
                        limit = f"{most} {_WORDS[one][most > 1]} in a minute" + (" from one network address" if factor > 1 else "")
            if not limit:
                for bucket in taken:
                    bucket.left -= 1.0
                return
        seconds = math.ceil(wait_s)
        raise ApiError(
            "E_TOO_OFTEN",
            f"This is more than {limit}.",
            None,
            f"Ask again in {seconds} second{'s' if seconds > 1 else ''}.",
            retry_after_s=seconds,
        )

    def _bucket(self, key: tuple[str, str], most: int, now_s: float) -> _Bucket:
        """A bucket, filled up to now."""
        bucket = self._buckets.setdefault(key, _Bucket(most, now_s))
        self._buckets.move_to_end(key)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.left = min(bucket.left + (now_s - bucket.seen_s) * most / _WINDOW_S, most)
        bucket.seen_s = now_s
        return bucket


def kind_of(method: str, path: str) -> str:
    """What a request asks for, as :class:`Pace` counts it."""
    if path.endswith(("/still", "/preview.jpg")):
        return "stills"
    if method != "POST":
        return ""
    if path in ("/v1/videos", "/v1/motions"):
        return "jobs"
    if path in ("/v1/avatars", "/v1/detect") or path.endswith("/motion"):
        return "files"
    return "sessions" if path in ("/v1/sessions", "/v1/sessions/prepare") else ""
