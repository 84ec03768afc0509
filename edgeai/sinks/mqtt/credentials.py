"""Secrets by reference: password and TLS files, read when they are needed, never kept, logged or shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from edgeai.errors import ConfigError
from edgeai.sinks.mqtt.pinning import pin
from edgeai.sinks.mqtt.settings import MqttSettings, TlsSettings
from edgeai.sinks.transport import TransportError, TransportRefusedError

MAX_PASSWORD_BYTES: Final = 4096


def read_password(path: Path) -> str:
    """The first line of a password file. Raises TransportRefusedError, never with the password in it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PASSWORD_BYTES + 1)
        text = raw.decode().split("\n", 1)[0].rstrip("\r")
    except OSError as error:
        problem = error.strerror or "cannot be read"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    else:
        if text and len(raw) <= MAX_PASSWORD_BYTES:
            return text
        problem = "has no first line" if not text else f"has more than {MAX_PASSWORD_BYTES} bytes"
    raise TransportRefusedError(
        f"password file {path}: {problem}",
        next_step="put the password on its first line (mqtt.password_file)",
    )


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's certificate, name and pins checked; with `ca` that file's authorities alone are
    trusted, not the system's. Raises TransportRefusedError.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate is not None:
            # an encrypted key would make OpenSSL ask at the terminal, and a service hang
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except OSError as error:  # SSLError too
        files = ", ".join(str(path) for path in (tls.ca, tls.certificate, tls.key) if path is not None)
        raise TransportRefusedError(
            f"TLS files cannot be used ({files}): {error.strerror or error}",
            next_step="check mqtt.tls: PEM files, the key without a passphrase and fitting the certificate",
        ) from error
    if tls.pin_sha256:
        pin(context, tls.pin_sha256)
    return context


def check_files(settings: MqttSettings) -> None:
    """Read the files that the settings name, as connecting will. Raises ConfigError."""
    try:
        if settings.password_file is not None:
            read_password(settings.password_file)
        if settings.tls is not None:
            tls_context(settings.tls)
    except TransportError as error:
        raise ConfigError(str(error)) from error
