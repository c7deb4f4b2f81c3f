"""``triportrait serve``: the page, the REST server and the live socket."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from triportrait.cli.terminal import say
from triportrait.errors import OptionError

#: Hosts that only this machine reaches.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(kw_only=True)
class Serve:
    """Serve a page that makes videos and talks live, and the same by REST and WebSocket. Nothing leaves this machine."""

    host: str = "127.0.0.1"
    """Address to listen at; others than this machine's own need a token, which is made and printed."""
    port: int = 8420
    """Port; 0 takes a free one."""
    folder: Path | None = None
    """Where uploads, portraits and videos lie; they are deleted after a day. Default: the user's data folder."""
    workers: int = 0
    """Processes that make videos. Default: one for two processors."""
    ray: str | None = None
    """Address of a Ray cluster that makes the videos instead, auto for this machine's; --workers then is how many at a time."""
    token: Path | None = None
    """File with the token that every request must bear; or with several, one a line, whose bearers see their own videos each."""
    public_name: str | None = None
    """Host name under which a proxy shows the server."""
    requests: int = 1200
    """Requests that one client may make in a minute: a 120th of them jobs, a 60th photos to prepare. 0 is no limit."""
    webhooks: Path | None = None
    """File with addresses that may be told when a video has ended, one a line, each followed by a blank and the secret that signs."""

    def run(self) -> int:
        import uvicorn

        from triportrait.app.live_socket import has_webrtc
        from triportrait.app.server import EXAMPLES, Server, make_app
        from triportrait.app.store import usual_folder
        from triportrait.app.webhooks import read_webhooks
        from triportrait.files import make_folder, read_text

        if not 0 <= self.port <= 65535:
            raise OptionError(f"--port is {self.port}; use a number from 0 to 65535.")
        if not 0 <= self.workers <= 64:
            raise OptionError(f"--workers is {self.workers}; use a number up to 64.")
        if not 0 <= self.requests <= 1_000_000:
            raise OptionError(f"--requests is {self.requests}; use a number from 0 to 1000000.")
        token = read_text(self.token).strip() if self.token is not None else None
        webhooks = () if self.webhooks is None else read_webhooks(self.webhooks)
        if token == "":
            raise OptionError(f"the file '{self.token}' holds no token; write one into it, or leave out --token")
        if token is None and self.host not in _LOOPBACK:
            token = secrets.token_urlsafe(24)
        if self.ray is not None:
            from triportrait.app.ray_workers import connect

            connect(self.ray).shutdown()
        folder = self.folder or usual_folder()
        make_folder(folder)
        hosts = tuple(name for name in (self.host, self.public_name) if name)
        server = Server(
            folder,
            workers=self.workers or (max(1, (os.cpu_count() or 2) // 2) if self.ray is None else 0),
            ray=self.ray,
            token=token,
            hosts=hosts,
            examples=tuple(sorted(EXAMPLES.glob("*.jpg"))),
            example_voice=EXAMPLES / "speech.wav",
            requests_a_minute=self.requests,
            webhooks=webhooks,
        )
        listener = _listener(self.host)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
            # A browser that is quicker than the server's start waits, instead of being refused.
            listener.listen()
        except (OSError, UnicodeError) as error:
            if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise OptionError(f"--host '{self.host}' is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all") from None
            raise OptionError(f"cannot listen at {self.host}:{self.port}: {error.strerror or error}; choose another --port") from None
        port = listener.getsockname()[1]
        if has_webrtc():
            from triportrait.app.live_rtc import use_address

            use_address(self.host)
        name = f"[{self.host}]" if ":" in self.host else self.host
        say(f"http://{name}:{port}/{f'?token={token}' if token else ''}  (end with Ctrl-C)")
        config = uvicorn.Config(make_app(server), log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])
        return 0


def _listener(host: str) -> socket.socket:
    """A socket that sends small messages at once.

    asyncio sets TCP_NODELAY on a connection only where its listener names the protocol; without it sound waits for 40 ms.
    """
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
