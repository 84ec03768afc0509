"""HTTP: every message, or several at once, as a signed POST to one URL; 2xx is the acknowledgement.

The signature is that of practice: HMAC-SHA256 in hex over "<timestamp>.<body>" with the timestamp in seconds beside it
(Stripe, docs.stripe.com/webhooks; GitHub signs the body alone, docs.github.com "Validating webhook deliveries"). The
receiver compares in constant time over the bytes as they came, and rejects timestamps that are minutes off.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import quote

from edgeai.clock import Clock, SystemClock
from edgeai.sinks.mqtt.credentials import read_password, tls_context
from edgeai.sinks.mqtt.settings import TlsSettings
from edgeai.sinks.other_settings import WebhookSettings
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.transport import (
    NOTHING,
    Progress,
    Transport,
    TransportBusyError,
    TransportError,
    TransportRefusedError,
)
from edgeai.sinks.waker import Waker
from edgeai.sinks.webhook_link import Answer, UnansweredError, WebhookLink

MAX_RETRY_AFTER_S: Final = 300.0  # a server's wish beyond this is not heard: events would pile up
ASK_REFUSER_S: Final = 10.0
MAX_REQUEST_BYTES: Final = 1 << 20

BUSY: Final = frozenset({408, 425, 429, 502, 503, 504})
"""The server, or what stands before it, cannot take anything now (RFC 9110, section 15; RFC 6585; RFC 8470)."""

NEXT_STEPS: Final[dict[int, str]] = {
    # answers that hold for every message: only a person can help
    401: "check the sink's bearer_token_file and secret_file",
    404: "check the sink's url",
    405: "the server takes no POST there: check the sink's url",
    407: "a proxy asks for a password: proxies are not supported",
    410: "the receiver is gone for good: take the sink out of the configuration, or set another url",
}


class WebhookRefusedError(TransportRefusedError):
    """The address or our credentials are refused, whatever is sent."""

    blames_message = False


@dataclass(frozen=True, slots=True)
class Keys:
    """What the files of the settings hold; never shown."""

    secret: bytes | None = field(repr=False)
    token: str | None = field(repr=False)
    context: ssl.SSLContext | None = field(repr=False)


def read_keys(settings: WebhookSettings) -> Keys:
    """Raises TransportRefusedError, never with a secret in it."""
    secret = token = context = None
    if (path := settings.secret_file) is not None:
        secret = _named("secret_file", lambda: read_password(path)).encode()
    if (file := settings.bearer_token_file) is not None:
        token = _named("bearer_token_file", lambda: read_password(file))
        if not token.isascii() or any(sign <= " " or sign == "\x7f" for sign in token):
            raise TransportRefusedError(
                f"the token in {file} holds spaces or other characters that no header can carry",
                next_step="put the token alone on its first line",
            )
    if settings.parts.scheme == "https":
        context = _named("tls", lambda: tls_context(settings.tls or TlsSettings()))
    return Keys(secret, token, context)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of Edgeai-Signature.

    >>> signature(b"key", "1700000000", b"{}")[:11]
    'v1=9d713ed4'
    """
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def request_id(message: Message) -> str:
    """The id of the event in a message; for one that holds none, a digest that is the same whenever it is sent again."""
    if message.payload[:1] == b"{":
        try:
            found = json.loads(message.payload).get("id")
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, str) and 0 < len(found) <= 64 and found.isascii() and found.isprintable():
            return found
    digest = hashlib.sha256(f"{message.topic}\n{message.seq}\n".encode() + message.payload)
    return f"sha256-{digest.hexdigest()[:32]}"


def retry_after_s(text: str, *, wall_s: float) -> float:
    """Seconds to wait by a Retry-After header (RFC 9110, section 10.2.3), 0 for none or nonsense, 300 at most.

    >>> retry_after_s("120", wall_s=0.0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", wall_s=50.0)
    (120.0, 10.0)
    """
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
        until_s = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, until_s - wall_s), MAX_RETRY_AFTER_S)


class WebhookTransport(Transport):
    """One request at a time on a connection that is kept; up to `batch` messages in it.

    Files are read anew at each connecting. A redirect is not followed: an event must not be carried elsewhere. What is
    busy, and for how long it said so, and what refuses us altogether is asked again only then; what refuses one message
    of a batch gets them singly.
    """

    def __init__(self, settings: WebhookSettings, *, clock: Clock | None = None) -> None:
        parts = settings.parts
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        self.name = (
            f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"  # the path may be secret
        )
        self.window = settings.batch
        self._settings = settings
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._clock = clock or SystemClock()
        self._waker = Waker()
        self._link: WebhookLink | None = None
        self._keys = Keys(None, None, None)
        self._waiting: deque[Message] = deque()
        self._flying: list[Message] = []
        self._resent = False
        self._singly = 0  # so many messages are sent alone
        self._hold_until_s = 0.0
        self._held_for: TransportError | None = None

    def connect(self) -> None:
        self.abort()
        self._waker.open()
        if self._held_for is not None and self._clock.monotonic_s() < self._hold_until_s:
            raise self._held_for.with_traceback(None)
        self._held_for = None
        self._open()

    def publish(self, message: Message) -> None:
        if self._link is None:
            raise TransportError("not connected")
        self._waiting.append(message)

    def poll(self, timeout_s: float) -> Progress:
        if self._link is None:
            raise TransportError("not connected")
        if not self._flying and not self._waiting:
            self._waker.wait(timeout_s)
            return NOTHING
        try:
            if not self._flying:
                self._take()
                self._send()
            if not self._link.arrived(timeout_s):
                return NOTHING
            answer = self._link.read()
        except UnansweredError as error:
            if not error.stale or self._resent:
                raise
            # the server closed a kept connection just when it was used again: it has seen nothing of this
            self._resent = True
            self._link.drop()
            self._send()
            return NOTHING
        return self._judge(answer)

    def wake(self) -> None:
        self._waker.wake()

    def abort(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()
        self._waiting.clear()
        self._flying.clear()

    def close(self) -> None:
        self.abort()
        self._waker.close()

    def _open(self) -> WebhookLink:
        self._keys = read_keys(self._settings)
        self._link = WebhookLink(
            self._settings.parts,
            self._keys.context,
            timeout_s=self._settings.connect_timeout_s,
            waker=self._waker,
        )
        return self._link

    def _take(self) -> None:
        """The messages of the next request: text together, anything else alone."""
        self._resent = False
        size = 0
        while self._waiting and len(self._flying) < self._settings.batch:
            message = self._waiting[0]
            alone = self._singly > 0 or not _is_json(message)
            size += len(message.payload) + 1
            if self._flying and (alone or size > MAX_REQUEST_BYTES):
                break
            self._flying.append(self._waiting.popleft())
            if alone:
                self._singly = max(0, self._singly - 1)
                break

    def _send(self) -> None:
        link = self._link
        if link is None or not link.open or link.closed_by_peer:
            if link is not None:
                link.drop()
            link = self._open()
        messages = self._flying
        headers = {}
        if self._settings.batch > 1 and _is_json(messages[0]):
            body = b"".join(message.payload + b"\n" for message in messages)
            headers["Content-Type"] = "application/x-ndjson"
        else:
            body = messages[0].payload
            headers["Content-Type"] = "application/json" if _is_json(messages[0]) else _binary_type(body)
        if len(messages) == 1:
            headers["Edgeai-Id"] = request_id(messages[0])
            headers["Edgeai-Topic"] = quote(messages[0].topic)
        headers["Edgeai-Timestamp"] = timestamp = str(int(self._clock.wall_s()))
        if self._keys.secret is not None:
            headers["Edgeai-Signature"] = signature(self._keys.secret, timestamp, body)
        if self._keys.token is not None:
            headers["Authorization"] = f"Bearer {self._keys.token}"
        link.send(self._target, body, headers, timeout_s=self._settings.response_timeout_s)

    def _judge(self, answer: Answer) -> Progress:
        status = answer.status
        messages, self._flying = self._flying, []
        told = f"{status} {_printable(answer.reason)}".rstrip()
        if 200 <= status < 300:
            return Progress(acked=tuple(message.seq for message in messages))
        if status in BUSY:
            wait_s = retry_after_s(answer.retry_after, wall_s=self._clock.wall_s())
            raise self._hold(TransportBusyError(f"the server is busy ({told})"), wait_s)
        if status in NEXT_STEPS:
            refusal = WebhookRefusedError(f"the server refused us: {told}", next_step=NEXT_STEPS[status])
            raise self._hold(refusal, ASK_REFUSER_S)
        if 300 <= status < 400:
            refusal = WebhookRefusedError(
                f"the server redirects ({told}), which is not followed", next_step="check the sink's url"
            )
            raise self._hold(refusal, ASK_REFUSER_S)
        if not 400 <= status < 500:
            raise TransportError(f"the server failed ({told})")
        if len(messages) == 1:
            return Progress(refused=((messages[0].seq, told),))
        # one of them may be at fault, or they are too many: each gets an answer of its own
        self._singly = len(messages)
        self._waiting.extendleft(reversed(messages))
        return NOTHING

    def _hold(self, error: TransportError, seconds: float) -> TransportError:
        """Not to be asked again before."""
        self._held_for = error
        self._hold_until_s = self._clock.monotonic_s() + seconds
        return error


def _is_json(message: Message) -> bool:
    return message.priority != "image" and b"\n" not in message.payload and message.payload[:1] == b"{"


def _binary_type(body: bytes) -> str:
    return "image/jpeg" if body[:2] == b"\xff\xd8" else "application/octet-stream"


def _printable(text: str) -> str:
    """What a server wrote, fit for a log."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:80])


T = TypeVar("T")


def _named(key: str, read: Callable[[], T]) -> T:
    """What `read` gives; its refusal names the key of [[sinks]] that is at fault."""
    try:
        return read()
    except TransportRefusedError as error:
        text = str(error).removesuffix(f"; {error.next_step}")
        raise TransportRefusedError(text, next_step=f"check {key} of the sink") from error
