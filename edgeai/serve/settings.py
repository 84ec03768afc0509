"""How a server is set up, and who may reach it: this machine alone, or whoever has the token."""

from __future__ import annotations

import ipaddress
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgeai.engines import EngineHost
from edgeai.errors import ConfigError, UsageError

LOOPBACK: Final = "127.0.0.1"
MIN_TOKEN_BYTES: Final = 16
MAX_TOKEN_BYTES: Final = 4096
_MAKE_TOKEN = "make one: `(umask 077; openssl rand -hex 32 > FILE)`"  # noqa: S105  no token, how to make one


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """token: what every request but /healthz must bring; None asks for none, on loopback only.

    engine, engine_host, threads: of each engine, as open_engine takes them; engine_host.max_batch is how many pictures
    that wait run at once, where the engine can. workers: engines a model, each run by one thread at a
    time. queue: requests a model that may wait while others run. max_bytes: of a request's body. deadline_s: from
    the whole body to the answer. body_s: for a body to come in.
    """

    host: str = LOOPBACK
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    engine: str | None = None
    engine_host: EngineHost = field(default_factory=EngineHost)
    threads: int = 1
    workers: int = 1
    queue: int = 16
    max_bytes: int = 8 << 20
    deadline_s: float = 30.0
    body_s: float = 15.0

    def __post_init__(self) -> None:
        """Raises UsageError for an address beyond loopback without a token."""
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"--host {self.host} can be reached from other machines, so a token is needed",
                next_step=f"add --token-file FILE; {_MAKE_TOKEN}",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost may mean anything.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The first line of a file that its owner alone can read. Raises ConfigError, never with the token in it."""
    try:
        # O_NONBLOCK: a pipe in place of a file must not hang the start
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(MAX_TOKEN_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(
            f"token file {path}: {error.strerror or 'cannot be read'}", next_step=_MAKE_TOKEN
        ) from None
    if not stat.S_ISREG(mode):
        raise ConfigError(f"token file {path} is not a regular file", next_step=_MAKE_TOKEN)
    if mode & 0o077:
        raise ConfigError(
            f"token file {path} can be read by others (mode {stat.S_IMODE(mode):04o})",
            next_step=f"chmod 600 {path}",
        )
    line = raw.split(b"\n", 1)[0].rstrip(b"\r")
    if len(raw) > MAX_TOKEN_BYTES or len(line) < MIN_TOKEN_BYTES or not _is_token(line):
        raise ConfigError(
            f"token file {path}: its first line must be {MIN_TOKEN_BYTES} or more visible ASCII characters without "
            f"blanks, the file at most {MAX_TOKEN_BYTES} bytes",
            next_step=_MAKE_TOKEN,
        )
    return line.decode("ascii")


def _is_token(line: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in line)
