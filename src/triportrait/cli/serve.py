"""``triportrait serve``: the page, the REST server and the live socket."""

from __future__ import annotations

import os
import secrets
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
    token: Path | None = None
    """File with the token that every request must bear."""
    public_name: str | None = None
    """Host name under which a proxy shows the server."""

    def run(self) -> int:
        import socket

        import uvicorn

        from triportrait.app.server import Server, make_app
        from triportrait.files import check_readable, make_folder

        if not 0 <= self.port <= 65535:
            raise OptionError(f"--port is {self.port}; use a number from 0 to 65535.")
        if not 0 <= self.workers <= 64:
            raise OptionError(f"--workers is {self.workers}; use a number up to 64.")
        token = check_readable(self.token).read_text().strip() if self.token is not None else None
        if token is None and self.host not in _LOOPBACK:
            token = secrets.token_urlsafe(24)
        folder = self.folder or _usual_folder()
        make_folder(folder)
        hosts = tuple(name for name in (self.host, self.public_name) if name)
        examples = Path(__file__).parents[3] / "examples"
        photos, voice = tuple(sorted(examples.glob("portrait*.png"))), examples / "speech.wav"
        server = Server(
            folder,
            workers=self.workers or max(1, (os.cpu_count() or 2) // 2),
            token=token,
            hosts=hosts,
            examples=photos,
            example_voice=voice if voice.is_file() else None,
        )
        listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as error:
            raise OptionError(f"cannot listen at {self.host}:{self.port}: {error.strerror or error}; choose another --port") from None
        port = listener.getsockname()[1]
        name = f"[{self.host}]" if ":" in self.host else self.host
        say(f"http://{name}:{port}/{f'?token={token}' if token else ''}  (end with Ctrl-C)")
        config = uvicorn.Config(make_app(server), log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])
        return 0


def _usual_folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "triportrait" / "server"
