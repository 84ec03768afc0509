"""What a camera's address means: its kind, where it points, and how it is shown. Nothing here opens anything."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from edgeai.errors import SourceError, SourceFormatError
from edgeai.sources.image_folder import IMAGE_SUFFIXES
from edgeai.sources.settings import LoginSettings

Kind: TypeAlias = Literal["video", "pictures", "rtsp", "http", "usb", "csi", "gst"]

_SCHEMES: dict[str, Kind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
_PREFIXES: dict[str, Kind] = {"usb": "usb", "csi": "csi", "gst": "gst"}
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
MAX_SECRET_BYTES = 4096

KNOWN = "a path, rtsp://, http://, usb:<index or /dev path>, csi:<index> or gst:<pipeline>"  # as messages list them


@dataclass(frozen=True, slots=True)
class Address:
    """kind, and where: a path, a URL without a password, "0" or "/dev/..." of usb and csi, a pipeline's text of gst."""

    kind: Kind
    where: str

    @property
    def live(self) -> bool:
        """Whether it is a device or a stream, which may be away for a while; of a pipeline only its source knows."""
        return self.kind not in {"video", "pictures"}

    @property
    def is_file(self) -> bool:
        return self.kind in {"video", "pictures"}

    def __str__(self) -> str:
        """For messages: never a query or a user, which may hold secrets."""
        if self.kind in {"rtsp", "http"}:
            parts = urlsplit(self.where)
            return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return self.where if self.is_file else f"{self.kind}:{self.where}"


def parse_address(source: str, *, stream: str = "") -> Address:
    """The address that a configuration's `source` names.

    A path (or file://), rtsp:// and rtsps://, http:// and https://, usb:<index or path>, csi:<index>, gst:<pipeline>.
    Raises SourceFormatError for another kind, and for a password in it, which belongs into the camera's login; never with
    the address itself.
    """
    its = f"stream {stream!r}: its address" if stream else "the address"
    prefix, colon, rest = source.partition(":")
    if colon and prefix in _PREFIXES and not rest.startswith("//"):
        return Address(_PREFIXES[prefix], rest.strip())
    scheme, separator, _ = source.partition("://")
    if not separator or scheme == "file":
        path = unquote(urlsplit(source).path) if separator else source
        if _DEVICE.fullmatch(path):
            return Address("usb", path)
        return Address("pictures" if _holds_pictures(Path(path)) else "video", path)
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        # never the address itself: it may hold a password
        raise SourceFormatError(
            f"{its} is of the kind {scheme}://, which is not known", next_step=f"use {KNOWN}"
        )
    try:
        parts = urlsplit(source)
        host, password, _ = parts.hostname, parts.password, parts.port
    except ValueError:
        host, password = None, None
    if not host:
        raise SourceFormatError(f"{its} names no host", next_step=f"write {scheme}://host/path")
    if password is not None or parts.username is not None:
        raise SourceFormatError(
            f"{its} holds a user or a password",
            next_step="put it into [cameras.login]: username, and password_file or password_env",
        )
    return Address(kind, source)


def _holds_pictures(path: Path) -> bool:
    try:
        return path.suffix.lower() in IMAGE_SUFFIXES or path.is_dir()
    except (OSError, ValueError):  # a name that no file can have: opening it will tell
        return False


def with_login(address: Address, login: LoginSettings | None) -> str:
    """The URL to connect to, user and password in it: for the library's ears only, never for a message.

    Where the address holds {username} or {password}, as of cameras that want them in their path or query, they are put
    there, else before the host. Raises SourceError where the password cannot be read.
    """
    url = address.where
    if login is None:
        return url
    user, password = quote(login.username, safe=""), quote(read_password(login), safe="")
    if "{password}" in url or "{username}" in url:
        return url.replace("{username}", user).replace("{password}", password)
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc}"))


def read_password(login: LoginSettings) -> str:
    """The password that a login refers to, "" where it refers to none.

    Raises SourceError that names the file or the variable, never its content.
    """
    if login.password_env is not None:
        value = os.environ.get(login.password_env)
        if value is None:
            raise SourceError(
                f"the environment variable {login.password_env}, which holds a camera's password, is not set"
            )
        return value
    if login.password_file is None:
        return ""
    try:
        with login.password_file.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SourceError(
            f"the password file {login.password_file} cannot be read: {error.strerror or error}"
        ) from None
    if len(content) > MAX_SECRET_BYTES:
        raise SourceError(
            f"{login.password_file} is larger than {MAX_SECRET_BYTES} bytes: that is no password"
        )
    try:
        return content.decode().splitlines()[0].strip() if content.strip() else ""
    except UnicodeDecodeError:
        raise SourceError(f"{login.password_file} is not UTF-8 text") from None
