"""Frames from a network camera by HTTP: a stream of JPEGs (multipart/x-mixed-replace), or one JPEG fetched again and again."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, cast
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import Address, with_login
from edgeai.sources.authorization import Authorization
from edgeai.sources.image_folder import decode_picture
from edgeai.sources.jpeg_header import jpeg_size
from edgeai.sources.multipart import MAX_PART_BYTES, MultipartReader
from edgeai.sources.request import CameraRequest, FpsCap
from edgeai.sources.source import Source
from edgeai.sources.wire import Wire
from edgeai.types import Frame

MAX_BAD_IN_A_ROW: Final = 30
_MAX_PIXELS: Final = 1 << 26  # 67 million: a JPEG of some bytes may claim gigabytes
_CHUNK_BYTES: Final = 65536
_REDIRECTS: Final = 3
_TYPE_SHOWN: Final = 60


class HttpCamera(Source[Frame]):
    """The pictures of an HTTP camera: as they come where it streams, else one every 1 / max_fps seconds (1 s without).

    What the address answers decides: multipart of any kind, or image/jpeg. Frames that max_fps leaves out are not decoded.
    A picture that is damaged is left out and counted. Certificates of https are verified; a redirection to another host is
    not followed, since the password would go there.

    Raises at opening SourceMissingError where the camera is away or has no such address, SourceFormatError where that is no
    picture, SourceError where it refuses the user; while reading SourceError where nothing came for capture.stall_s, where the
    stream ends, and where MAX_BAD_IN_A_ROW pictures in a row are damaged.
    """

    live = True

    def __init__(self, address: Address, request: CameraRequest) -> None:
        self.capped = self.bad = 0
        self._address = address
        self._request = request
        self._called = f"the camera {address}"
        self._url = ""
        self._user: Authorization | None = None
        self._wire: Wire | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._closing = threading.Event()

    def open(self) -> None:
        self.close()
        self._closing.clear()
        self._url, self._user = _split_login(with_login(self._address, self._request.login))
        self._answer = self._asked(self._request.capture.open_s)

    def cancel(self) -> None:
        """A wait for the camera ends at once."""
        self._closing.set()
        if (wire := self._wire) is not None:
            wire.cancel()

    def close(self) -> None:
        self.cancel()
        self._answer = None
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.end()

    def __iter__(self) -> Iterator[Frame]:
        if self._answer is None:
            raise SourceError(f"{self._called} is not open", next_step="use `with`, or call open() first")
        clock, cap = self._request.clock, FpsCap(self._request.max_fps)
        opened_s = clock.monotonic_s()
        kind = _kind(self._answer)
        bad_in_a_row = 0
        pictures = self._streamed() if kind.startswith("multipart/") else self._fetched()
        for index, data in enumerate(pictures):
            if self._closing.is_set():
                return
            time_s = clock.monotonic_s() - opened_s
            if not cap.takes(time_s):
                self.capped += 1
                continue
            try:
                image = _decoded(data)
            except SourceFormatError as error:
                self.bad += 1
                bad_in_a_row += 1
                if bad_in_a_row >= MAX_BAD_IN_A_ROW:
                    raise SourceError(
                        f"{self._called}: {bad_in_a_row} pictures in a row are damaged: {error}"
                    ) from None
                continue
            bad_in_a_row = 0
            yield Frame(image, index, time_s, self._request.stream)
            if self._closing.is_set():
                return

    def _streamed(self) -> Iterator[bytes]:
        answer, stall_s = self._answer, self._request.capture.stall_s
        if answer is None:
            return
        parts = MultipartReader(_boundary(answer))
        self._extend(stall_s)
        while not parts.ended:
            self._request.expect(stall_s)
            try:
                data = answer.read1(_CHUNK_BYTES)
                bodies = parts.feed(data)
            except (SourceError, OSError, http.client.HTTPException, ValueError) as error:
                if self._closing.is_set():
                    return
                raise self._lost(error) from None
            if not data:
                break
            for body in bodies:
                yield body
                self._extend(stall_s)  # a whole picture in time, not a byte now and then
        if not self._closing.is_set():
            raise SourceError(f"{self._called} ended its stream")

    def _fetched(self) -> Iterator[bytes]:
        clock, step_s = self._request.clock, 1.0 / (self._request.max_fps or 1.0)
        due_s = clock.monotonic_s()
        stall_s, expect = self._request.capture.stall_s, self._request.expect
        while (answer := self._answer) is not None:
            self._extend(stall_s)
            expect(stall_s)
            try:
                data = answer.read(MAX_PART_BYTES + 1)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if self._closing.is_set():
                    return
                raise self._lost(error) from None
            if len(data) > MAX_PART_BYTES:
                raise SourceError(f"{self._called} sent over {MAX_PART_BYTES} bytes, which no picture has")
            yield data
            due_s = max(due_s + step_s, clock.monotonic_s())
            wait_s = due_s - clock.monotonic_s()
            expect(wait_s)
            if clock.wait(self._closing, wait_s):
                return
            expect(stall_s)
            self._answer = self._asked(stall_s)
            if not _kind(self._answer).startswith("image/"):
                raise SourceError(f"{self._called} sent {_kind(self._answer)} in the place of a picture")

    def _lost(self, error: Exception) -> SourceError:
        if isinstance(error, SourceError):
            return SourceError(f"{self._called}: {error}")
        if isinstance(error, TimeoutError):
            return SourceError(f"{self._called} gave no picture for {self._request.capture.stall_s:g} s")
        return SourceError(f"{self._called} broke off the connection")

    def _extend(self, seconds: float) -> None:
        if (wire := self._wire) is not None:
            wire.deadline_s = time.monotonic() + seconds

    def _asked(self, limit_s: float) -> http.client.HTTPResponse:
        """The head of the camera's answer to a GET, after it knows who asks, and at the place it moved to."""
        deadline_s = time.monotonic() + limit_s
        url, redirects, refused = self._url, 0, 0
        while True:
            answer = self._got(url, deadline_s)
            if answer.status == 401 and self._user is not None and refused == 0:
                refused += 1  # the first time it only says how to ask, or that its number has worn out
                if self._user.challenge(answer.headers.get_all("WWW-Authenticate") or []):
                    continue
                raise SourceError(f"{self._called} asks for a user in a way that is not known here (401)")
            if answer.status in (301, 302, 303, 307, 308) and redirects < _REDIRECTS:
                redirects += 1
                url = self._moved(url, answer.headers.get("Location") or "")
                continue
            self._check(answer)
            return answer

    def _got(self, url: str, deadline_s: float) -> http.client.HTTPResponse:
        if self._wire is not None:
            self._wire.end()
        parts = urlsplit(url)
        wire = self._wire = Wire()
        wire.deadline_s = deadline_s
        if self._closing.is_set():
            wire.cancel()
        secure = parts.scheme.lower() == "https"
        try:
            tls = ssl.create_default_context() if secure else None
            port = parts.port or (443 if secure else 80)
            wire.open(parts.hostname or "", port, tls=tls, called=self._called)
            connection = http.client.HTTPConnection(parts.hostname or "", port)
            connection.sock = cast(Any, wire)
            target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
            headers = {"Accept": "multipart/x-mixed-replace, image/jpeg", "User-Agent": "edgeai"}
            if self._user is not None and (answer := self._user.header("GET", target)):
                headers["Authorization"] = answer
            connection.request("GET", target, headers=headers)
            return connection.getresponse()
        except SourceError:  # some of them are OSErrors too
            raise
        except TimeoutError:
            raise SourceMissingError(f"{self._called} accepts connections and does not answer") from None
        except OSError:
            raise SourceMissingError(f"{self._called} ended the connection without an answer") from None
        except (http.client.HTTPException, ValueError):
            raise SourceFormatError(f"what answers at {self._called} does not speak HTTP") from None

    def _moved(self, url: str, location: str) -> str:
        before = urlsplit(url)
        try:
            moved = urljoin(url, location)
            after = urlsplit(moved)
            same, _ = after.hostname == before.hostname and after.username is None, after.port
        except ValueError:
            same = False
        if not location or not same or (before.scheme == "https" and after.scheme != "https"):
            raise SourceError(
                f"{self._called} sends to another host, which is not followed",
                next_step="write the picture's own address",
            )
        return moved

    def _check(self, answer: http.client.HTTPResponse) -> None:
        status = answer.status
        if status == 401:
            if self._user is not None:
                raise SourceError(f"{self._called}: its user or password is refused (401)")
            raise SourceError(
                f"{self._called} asks for a user and a password (401)",
                next_step="give them in [cameras.login]",
            )
        if status == 403:
            raise SourceError(f"{self._called} refuses this user its pictures (403)")
        if status in (404, 410):
            raise SourceMissingError(
                f"{self._called}: there is nothing at this address ({status})",
                next_step="look at the address's path",
            )
        if status != 200:
            raise SourceError(f"{self._called} gives no picture: it answers {status}")
        kind = _kind(answer)
        if not kind.startswith("multipart/") and kind not in ("image/jpeg", "image/jpg"):
            raise SourceFormatError(
                f"{self._called} gives {kind}, not a JPEG or a stream of JPEGs",
                next_step="use the camera's MJPEG or snapshot address",
            )


def _decoded(data: bytes) -> Any:
    width, height = jpeg_size(data)
    if width * height > _MAX_PIXELS:
        raise SourceFormatError(f"a picture of {width} x {height} pixels is larger than any camera's")
    # a JPEG that was cut short decodes, grey where it ends
    if b"\xff\xd9" not in data[-64:]:
        raise SourceFormatError("the picture is cut short")
    return decode_picture(data, called="it")


def _kind(answer: http.client.HTTPResponse) -> str:
    kind = (answer.headers.get("Content-Type") or "nothing").partition(";")[0].strip().lower()
    return "".join(sign for sign in kind[:_TYPE_SHOWN] if sign.isprintable())


def _boundary(answer: http.client.HTTPResponse) -> str:
    for parameter in (answer.headers.get("Content-Type") or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "boundary":
            return value
    return ""


def _split_login(url: str) -> tuple[str, Authorization | None]:
    """The URL without its user and password, and those."""
    parts = urlsplit(url)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    if parts.username is None:
        return plain, None
    return plain, Authorization(unquote(parts.username), unquote(parts.password or ""))
