"""What answers a camera that asks who is there: Basic (RFC 7617) and Digest (RFC 7616) for HTTP and RTSP alike."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

# the names of hashes as servers write them; MD5 where they name none
_HASHES: Final[dict[str, Callable[[bytes], str]]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}
_PARAMETER: Final = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))')
_SCHEME: Final = re.compile(r"\s*([A-Za-z]+)(?:\s+|$)")
_MAX_CHALLENGE: Final = 4096  # characters


@dataclass(slots=True)
class Authorization:
    """A user's answers to one server. `challenge` takes what it asks, `header` gives the answer for each request."""

    username: str
    password: str = field(repr=False)
    _asked: dict[str, str] = field(default_factory=dict, repr=False)
    _scheme: str = ""
    _count: int = 0

    def challenge(self, headers: Sequence[str]) -> bool:
        """Take the WWW-Authenticate headers of a 401. False where there is no answer to any of them.

        Digest is preferred: it does not tell the password to who listens.
        """
        asked: dict[str, dict[str, str]] = {}
        for header in headers:
            found = _SCHEME.match(header[:_MAX_CHALLENGE])
            if found:
                rest = header[found.end() : _MAX_CHALLENGE]
                parameters = {
                    name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
                    for name, quoted, plain in _PARAMETER.findall(rest)
                }
                asked.setdefault(found[1].lower(), parameters)
                if found[1].lower() == "digest" and _hash(parameters) and not _hash(asked["digest"]):
                    asked["digest"] = parameters
        for scheme in ("digest", "basic"):
            if scheme in asked and (scheme == "basic" or _answerable(asked[scheme])):
                self._scheme, self._asked, self._count = scheme, asked[scheme], 0
                return True
        return False

    def header(self, method: str, uri: str) -> str:
        """The Authorization header of a request, "" before the server asked."""
        if self._scheme == "basic":
            pair = f"{self.username}:{self.password}".encode()
            return "Basic " + base64.b64encode(pair).decode("ascii")
        return self._digest(method, uri) if self._scheme == "digest" else ""

    def _digest(self, method: str, uri: str) -> str:
        asked, self._count = self._asked, self._count + 1
        algorithm = asked.get("algorithm") or "MD5"
        hashed = _hash(asked)
        if hashed is None:  # `challenge` takes none of those
            return ""
        realm, nonce, cnonce = asked.get("realm", ""), asked["nonce"], secrets.token_hex(8)
        user = hashed(f"{self.username}:{realm}:{self.password}".encode())
        if algorithm.lower().endswith("-sess"):
            user = hashed(f"{user}:{nonce}:{cnonce}".encode())
        request = hashed(f"{method}:{uri}".encode())
        parts = [
            f'username="{_quoted(self.username)}"',
            f'realm="{_quoted(realm)}"',
            f'nonce="{_quoted(nonce)}"',
            f'uri="{uri}"',
        ]
        if "algorithm" in asked:
            parts.append(f"algorithm={algorithm}")
        if "opaque" in asked:
            parts.append(f'opaque="{_quoted(asked["opaque"])}"')
        if "qop" in asked:
            count = f"{self._count:08x}"
            response = hashed(f"{user}:{nonce}:{count}:{cnonce}:auth:{request}".encode())
            parts += ["qop=auth", f"nc={count}", f'cnonce="{cnonce}"']
        else:
            response = hashed(f"{user}:{nonce}:{request}".encode())
            if algorithm.lower().endswith("-sess"):
                parts.append(f'cnonce="{cnonce}"')
        return "Digest " + ", ".join([*parts, f'response="{response}"'])


def _hash(asked: dict[str, str]) -> Callable[[bytes], str] | None:
    return _HASHES.get((asked.get("algorithm") or "MD5").upper().removesuffix("-SESS"))


def _answerable(asked: dict[str, str]) -> bool:
    offered = [way.strip().lower() for way in asked.get("qop", "auth").split(",")]
    printable = all(value.isprintable() for value in asked.values())
    return bool(asked.get("nonce")) and _hash(asked) is not None and "auth" in offered and printable


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
