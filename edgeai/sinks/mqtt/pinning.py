"""Pinning a broker by its public key: SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469, section 2.4).

The key is cut out of the certificate here, in one page, so that pinning needs nothing beside Python: what it walks over
has been parsed and verified by OpenSSL before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from typing import Any, Final

from edgeai.sinks.transport import TransportRefusedError

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_BEFORE_KEY: Final = 5  # serialNumber, signature, issuer, validity, subject (RFC 5280, section 4.1)
_DER_FORMAT: Final = 2  # _ssl.ENCODING_DER


def normal_pin(text: str) -> str:
    """64 lower-case hexadecimal digits from those (colons between them allowed) or from base64 ("sha256/" before it
    allowed). Raises ValueError.

    >>> normal_pin("sha256/" + base64.b64encode(bytes(32)).decode())[:8]
    '00000000'
    """
    plain = text.strip().removeprefix("sha256/")
    if len(plain) == 45:
        plain = plain.removeprefix("/")  # curl writes sha256//
    digits = plain.replace(":", "").lower()
    if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
        return digits
    try:
        raw = base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError(f"a pin is a SHA-256 in 64 hexadecimal digits or 44 of base64, got {text[:80]!r}")
    return raw.hex()


def public_key_pin(der: bytes) -> str:
    """The pin of a DER certificate, in hexadecimal. Raises ValueError where it is none."""
    _, start, _ = _element(der, 0, len(der), _SEQUENCE)
    _, at, end = _element(der, start, len(der), _SEQUENCE)
    if at < end and der[at] == _VERSION:
        _, _, at = _element(der, at, end, _VERSION)
    for _ in range(_BEFORE_KEY):
        _, _, at = _element(der, at, end)
    begin, _, stop = _element(der, at, end, _SEQUENCE)
    return hashlib.sha256(der[begin:stop]).hexdigest()


def _element(der: bytes, at: int, end: int, tag: int | None = None) -> tuple[int, int, int]:
    """Where the DER element at `at` begins, its content begins, and it ends."""
    if end - at < 2 or (tag is not None and der[at] != tag):
        raise ValueError("not a DER certificate")
    size, content = der[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or end - content < count:
            raise ValueError("not a DER certificate")
        size = int.from_bytes(der[content : content + count], "big")
        content += count
    if size > end - content:
        raise ValueError("not a DER certificate")
    return at, content, content + size


def verified_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """DER of the peer's certificate and of its authorities, as they were verified.

    The peer's certificate alone on a Python that does not tell the chain: so a pin of an authority then never fits,
    and refuses.
    """
    leaf = sock.getpeercert(binary_form=True)
    chain = [leaf] if leaf else []
    tell: Any = getattr(sock, "get_verified_chain", None)  # Python 3.13
    if tell is not None:
        return [*chain, *(bytes(one) for one in tell())]
    # 3.10 to 3.12 know it under a private name; they get security fixes only, so it will stay what it is
    tell = getattr(getattr(sock, "_sslobj", None), "get_verified_chain", None)
    if tell is None:
        return chain
    return [*chain, *(bytes(one.public_bytes(_DER_FORMAT)) for one in tell() or ())]


def check_pins(sock: ssl.SSLSocket, pins: frozenset[str]) -> None:
    """Raises TransportRefusedError where no certificate of the verified chain has a pinned key."""
    seen = [public_key_pin(one) for one in verified_chain(sock)]
    if pins.isdisjoint(seen):
        raise TransportRefusedError(
            f"TLS: the broker's public key is not the pinned one: its SHA-256 is {seen[0] if seen else 'unknown'}",
            next_step="if that is the broker's new key, put it into mqtt.tls.pin_sha256; else somebody is in between",
        )


def pin(context: ssl.SSLContext, pins: tuple[str, ...]) -> None:
    """Make every handshake with this context end with a check of the pins, before any byte of ours is sent."""
    wanted = frozenset(pins)

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            try:
                check_pins(self, wanted)
            except BaseException:
                self.close()
                raise

    context.sslsocket_class = PinnedSocket
