"""What a camera says of itself beside what it plays: RTSP's OPTIONS and DESCRIBE (RFC 2326, 10), and SDP (RFC 4566)."""

from __future__ import annotations

import io
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.authorization import Authorization
from edgeai.sources.wire import Wire

T = TypeVar("T")

_PORTS: Final = {"rtsp": 554, "rtsps": 322}
_MAX_LINE, _MAX_LINES, _MAX_BODY = 8192, 100, 65536  # bytes, lines, bytes: of a camera's answer
_STATUS: Final = re.compile(rb"RTSP/\d\.\d +(\d{3})(?: |\r|\n|$)")
_LENGTH: Final = re.compile(r"\d{1,6}")
_CODEC: Final = re.compile(r"a=rtpmap:\d+ +([A-Za-z0-9.-]{1,32})/")
_SETS: Final = re.compile(r"(sprop-[a-z-]+)=([A-Za-z0-9+/=,]+)")


@dataclass(frozen=True, slots=True)
class Description:
    """codec: as SDP names it ("H264"), "" where it does not. parameter_sets: what a decoder must know of the pictures, their
    size among it, as the camera gives it; () where it does not. status: of the answer; above 200 where the camera answers
    in a way of its own, and nothing is known: 453 and 503 for one that is busy.
    """

    codec: str = ""
    parameter_sets: tuple[tuple[str, str], ...] = ()
    status: int = 200


def greet(url: str, *, called: str, limit_s: float, wire: Callable[[Wire], None] = lambda _: None) -> None:
    """See that an RTSP server answers at `url`, within limit_s seconds; what it answers is left to who plays the stream.

    It costs the camera nothing: a DESCRIBE makes some build their whole stream, and refuse the next while they take it down.
    Raises as `describe` where nobody answers or what answers is no RTSP server.
    """

    def ask(connection: Wire, stream: io.BufferedReader, plain: str) -> None:
        connection.sendall(f"OPTIONS {plain} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgeai\r\n\r\n".encode())
        _answer(stream, called)

    _connected(url, called, limit_s, wire, ask)


def describe(
    url: str, *, called: str, limit_s: float, wire: Callable[[Wire], None] = lambda _: None
) -> Description:
    """Ask the camera at `url`, which may hold a user and a password, within limit_s seconds.

    called: the camera, in messages; they hold nothing of the URL. wire: is given the connection before it is opened, to
    cancel it. Raises SourceMissingError where nobody answers or there is no such stream, SourceFormatError where what answers
    is no RTSP server or has no video, SourceError where the user or the password is refused.
    """
    parts = urlsplit(url)
    user = (
        Authorization(unquote(parts.username), unquote(parts.password or ""))
        if parts.username is not None
        else None
    )

    def ask(connection: Wire, stream: io.BufferedReader, plain: str) -> Description:
        return _ask(connection, stream, plain, user, called)

    return _connected(url, called, limit_s, wire, ask)


def _connected(
    url: str,
    called: str,
    limit_s: float,
    wire: Callable[[Wire], None],
    ask: Callable[[Wire, io.BufferedReader, str], T],
) -> T:
    """What `ask` finds over a connection of its own; it is given the URL without user and password."""
    parts = urlsplit(url)
    connection = Wire()
    wire(connection)
    connection.deadline_s = time.monotonic() + limit_s
    try:
        tls = _context() if parts.scheme.lower() == "rtsps" else None
        port = parts.port or _PORTS[parts.scheme.lower()]
        connection.open(parts.hostname or "", port, tls=tls, called=called)
        with connection.buffered() as stream:
            host = parts.netloc.rpartition("@")[2]
            return ask(connection, stream, urlunsplit(parts._replace(netloc=host, fragment="")))
    except SourceError:  # some of them are OSErrors too
        raise
    except TimeoutError:
        raise SourceMissingError(f"{called} accepts connections and does not answer") from None
    except OSError:
        raise SourceMissingError(f"{called} ended the connection without an answer") from None
    finally:
        connection.end()


def _context() -> ssl.SSLContext:
    """As FFmpeg has it for rtsps, which reads the stream: encrypted, whoever it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask(
    connection: Wire, stream: io.BufferedReader, url: str, user: Authorization | None, called: str
) -> Description:
    answer = ""
    for number in (1, 2):
        request = (
            f"DESCRIBE {url} RTSP/1.0\r\nCSeq: {number}\r\nAccept: application/sdp\r\nUser-Agent: edgeai\r\n"
        )
        connection.sendall(f"{request}{answer}\r\n".encode())
        status, headers, body = _answer(stream, called)
        if status != 401 or user is None or answer:
            break
        challenges = [value for name, value in headers if name == "www-authenticate"]
        if not user.challenge(challenges):
            raise SourceError(f"{called} asks for a user in a way that is not known here (401)")
        answer = f"Authorization: {user.header('DESCRIBE', url)}\r\n"
    if status == 401:
        raise _unauthorised(called, known=user is not None)
    if status == 403:
        raise SourceError(f"{called} refuses this user its stream (403)")
    if status in (404, 410):
        raise SourceMissingError(
            f"{called}: there is no such stream ({status})", next_step="look at the address's path"
        )
    if 300 <= status < 400:
        raise SourceError(f"{called} sends elsewhere ({status})", next_step="write the stream's own address")
    return _described(body, called) if status == 200 else Description(status=status)


def _unauthorised(called: str, *, known: bool) -> SourceError:
    if known:
        return SourceError(f"{called}: its user or password is refused (401)")
    return SourceError(
        f"{called} asks for a user and a password (401)", next_step="give them in [cameras.login]"
    )


def _answer(stream: io.BufferedReader, called: str) -> tuple[int, list[tuple[str, str]], str]:
    """Status, headers in lower case, body."""
    first = stream.readline(_MAX_LINE)
    if not first:
        raise ConnectionResetError
    found = _STATUS.match(first)
    if not found:
        raise SourceFormatError(f"what answers at {called} is no RTSP server", next_step="look at the port")
    headers: list[tuple[str, str]] = []
    while (line := stream.readline(_MAX_LINE)).strip():
        if len(headers) == _MAX_LINES or not line.endswith(b"\n"):
            raise SourceFormatError(f"the answer of {called} is longer than any camera's")
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name.strip().lower(), value.strip()))
    lengths = [value for name, value in headers if name == "content-length"]
    length = int(lengths[0]) if lengths and _LENGTH.fullmatch(lengths[0]) else 0
    if length > _MAX_BODY:
        raise SourceFormatError(f"the answer of {called} is longer than any camera's")
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionResetError
    return int(found[1]), headers, body.decode("latin-1")


def _described(body: str, called: str) -> Description:
    media = re.split(r"^m=", body, flags=re.MULTILINE)
    video = next((part for part in media[1:] if part.startswith("video")), None)
    if video is None:
        raise SourceFormatError(f"{called} offers no video")
    codec = _CODEC.search(video)
    return Description(codec[1].upper() if codec else "", tuple(sorted(_SETS.findall(video))))
