"""Before every route: who asks, and through which name. Behind every route: no fault leaves but as JSON."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from edgeai.serve.faults import JSON_TYPE, error_body
from edgeai.serve.settings import ServeSettings, is_loopback

_log = logging.getLogger(__name__)

OPEN_PATHS: Final = frozenset(("/healthz",))


@dataclass
class Health:
    """stopping: no new request is taken, those that were taken are answered."""

    stopping: bool = False


class Guard:
    """Refuses what may not reach the application.

    Where there is a token, every request but those for OPEN_PATHS must bring it. On loopback the Host header must name
    this machine: a page in a browser can have its own name resolve to 127.0.0.1 (DNS rebinding), but cannot write
    another name there. For the same reason an Origin header must name this machine too: pages of others may not post.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, health: Health) -> None:
        self._app = app
        self._token = None if settings.token is None else f"Bearer {settings.token}".encode()
        self._local = is_loopback(settings.host)
        self.health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refused = self._refused(scope)
        if refused is not None:
            return await _answer(send, *refused)
        try:
            await self._app(scope, receive, send)
        except (
            Exception
        ) as error:  # the application has answered; the log gets one line, and the server goes on
            text = f"a fault of this program, {type(error).__name__}: {error}"
            _log.error("%s %s: %s", scope["method"], scope["path"], " ".join(text.split()))
            _log.debug("where it came from", exc_info=error)

    def _refused(self, scope: Scope) -> tuple[int, str, str] | None:
        """Status, error and next step where a request may not go on."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._local and not _names_this_machine(b"//" + headers.get(b"host", b"")):
            return 421, "the Host header names another machine", "use 127.0.0.1 or localhost in the address"
        if self._local and b"origin" in headers and not _names_this_machine(headers[b"origin"]):
            return 403, "pages of other sites may not use this server", ""
        if self._token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                what = "wrong token" if given else "a token is needed"
                return 401, what, "send the header Authorization: Bearer TOKEN"
        return None


def _names_this_machine(address: bytes) -> bool:
    try:
        host = urlsplit(address.decode("ascii")).hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


async def _answer(send: Send, status: int, message: str, next_step: str) -> None:
    body = error_body(message, next_step)
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", JSON_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
