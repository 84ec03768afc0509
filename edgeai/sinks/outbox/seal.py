"""Payloads encrypted at rest: AES-256-GCM (NIST SP 800-38D) by the `cryptography` library, keys from a file."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeai.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
OVERHEAD_BYTES: Final = 28  # nonce and tag
_NONCE_BYTES: Final = 12
_MAX_FILE_BYTES: Final = 4096
_MAKE_ONE: Final = "make one: (umask 077; openssl rand -hex 32 > outbox.key)"
_KNOWN: Final = b"edgeai outbox"


class SealError(SinkError):
    """None of the keys opens it: it was sealed with another, or changed."""


class Seal:
    """Seals with the first key and opens with any, so that a key can be changed while messages wait.

    Nonces are random: one key is good for 2^32 messages (SP 800-38D, section 8.3), a century of one a second. What is
    bound by `context` opens only with the same.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises ConfigError where the library is missing or a key is not of 32 bytes."""
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ConfigError(
                "an encrypted outbox needs the cryptography library", next_step="pip install 'edgeai[crypto]'"
            ) from None
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ConfigError(f"a key must have {KEY_BYTES} bytes", next_step=_MAKE_ONE)
        self._ciphers: list[AESGCM] = [AESGCM(key) for key in keys]

    def seal(self, payload: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, payload, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises SealError."""
        from cryptography.exceptions import InvalidTag

        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
            except (InvalidTag, ValueError):  # ValueError: shorter than a nonce
                continue
        raise SealError("sealed with another key, or damaged")

    def check_value(self) -> bytes:
        """What `fits` recognises later."""
        return self.seal(_KNOWN, _KNOWN)

    def fits(self, check_value: bytes) -> bool:
        """Whether one of the keys made it."""
        try:
            return self.open(check_value, _KNOWN) == _KNOWN
        except SealError:
            return False


def load_seal(path: Path) -> Seal:
    """The keys of a file, a line each: 64 hexadecimal digits, or base64 of 32 bytes. Raises ConfigError, never with a key in it."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"key file {path}: {error.strerror or 'cannot be read'} (outbox.key_file)", next_step=_MAKE_ONE
        ) from None
    lines = [line.strip() for line in raw.splitlines() if line.strip()]
    if not lines or len(raw) > _MAX_FILE_BYTES:
        problem = "is empty" if not lines else f"has more than {_MAX_FILE_BYTES} bytes"
        raise ConfigError(f"key file {path} {problem} (outbox.key_file)", next_step=_MAKE_ONE)
    keys = []
    for number, line in enumerate(lines, 1):
        try:
            key = (
                bytes.fromhex(line.decode())
                if len(line) == 2 * KEY_BYTES
                else base64.b64decode(line, validate=True)
            )
        except (ValueError, binascii.Error):
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigError(
                f"key file {path}:{number}: must be 64 hexadecimal digits, or base64 of {KEY_BYTES} bytes",
                next_step=_MAKE_ONE,
            )
        keys.append(key)
    return Seal(keys)
