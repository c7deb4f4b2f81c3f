"""Who may ask, and whose list of videos is theirs."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from urllib.parse import urlsplit

from triportrait.app.schemas import ApiError

#: Names of cookies, and of the header by which programs say who they are.
CLIENT_COOKIE, TOKEN_COOKIE, CLIENT_HEADER = "triportrait_client", "triportrait_token", "x-client-id"
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "testserver")
_LONGEST_ID = 200


class Access:
    """Who may reach a server.

    Args:
        tokens: of which every request bears one; none asks for none.
        hosts: names under which the server is reached, besides this machine's own.
    """

    def __init__(self, tokens: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> None:
        self.tokens, self.hosts = tokens, (*_LOCAL_HOSTS, *hosts)

    def refuse_strangers(self, headers: Any, query: Any) -> None:
        """Only those who come by :meth:`refuse_foreign_pages`, and bear a token.

        Raises:
            ApiError: someone else.
        """
        self.refuse_foreign_pages(headers)
        given = _bearer(headers) or query.get("token", "") or cookie(headers, TOKEN_COOKIE)
        if self.tokens and self.known(given) is None:
            remedy = "Open the address with the token that the server printed, or send it as 'Authorization: Bearer TOKEN'."
            raise ApiError("E_NO_TOKEN", "The token is missing or wrong.", None, remedy)

    def refuse_foreign_pages(self, headers: Any) -> None:
        """Only those who reach the server by a name of its own, and from its own page.

        Raises:
            ApiError: someone else.
        """
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self.hosts:
            remedy = "Open the page by the address that the server prints, or start it with --public-name."
            raise ApiError("E_FOREIGN_PAGE", "This address is not the server's own.", None, remedy)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise ApiError("E_FOREIGN_PAGE", "Another page may not use this server.", None, "Open the server's own page.")

    def known(self, given: str) -> str | None:
        """The token that was given, if it is one of the server's; every one is compared, so that time tells nothing."""
        matches = [token for token in self.tokens if hmac.compare_digest(given.encode(), token.encode())]
        return matches[0] if matches else None


def cookie(headers: Any, name: str) -> str:
    """A cookie's value, empty where there is none."""
    for part in headers.get("cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return str(value)
    return ""


def client_of(connection: Any) -> str:
    """Whose portraits and videos a request sees: the browser's, by its cookie; else the bearer's of a token, of an id, or of both; else
    those of all programs at the same address.

    What a program says of itself is kept as a hash: ids and tokens stand in no table.
    """
    headers = connection.headers
    browser = cookie(headers, CLIENT_COOKIE)
    if browser.isascii() and browser.isalnum() and len(browser) == 32:
        return browser
    said = headers.get(CLIENT_HEADER, "")
    if len(said) > _LONGEST_ID:
        raise ApiError("E_OPTION", f"{CLIENT_HEADER} is too long.", CLIENT_HEADER, f"Give at most {_LONGEST_ID} characters.")
    parts = [f"{kind} {value}" for kind, value in (("bearer", _bearer(headers)), ("id", said)) if value]
    if not parts:
        parts = [f"address {connection.client.host if connection.client else ''}"]
    return "program-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _bearer(headers: Any) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
