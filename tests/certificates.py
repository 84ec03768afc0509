"""Certificates for tests, fresh, through openssl: authorities and what they sign."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """An authority in a folder of its own file names: <name>.pem, <name>.key."""

    def __init__(self, folder: Path, name: str, *, parent: "Authority | None" = None) -> None:
        self.folder, self.name = folder, name
        self.pem, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        folder.mkdir(parents=True, exist_ok=True)
        if parent is None:
            openssl(
                "req", "-x509", *_KEY, "-days", "2", "-keyout", self.key, "-out", self.pem, "-subj", f"/CN=test {name}"
            )  # fmt: skip
        else:
            parent.sign(name, authority=True)

    def sign(
        self, name: str, *, subject: str = "", names: str = "", authority: bool = False, days: int = 2
    ) -> Path:
        """<name>.pem and <name>.key; names: its subjectAltName. days -1: it has expired."""
        request, extra, out = (self.folder / f"{name}.{end}" for end in ("csr", "ext", "pem"))
        openssl(
            "req",
            *_KEY,
            "-keyout",
            self.folder / f"{name}.key",
            "-out",
            request,
            "-subj",
            subject or f"/CN={name}",
        )
        lines = [f"subjectAltName={names}"] if names else []
        extra.write_text("\n".join([*lines, f"basicConstraints=CA:{str(authority).upper()}"]) + "\n")
        openssl(
            "x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self.key, "-CAcreateserial",
            "-days", str(days), "-out", out, "-extfile", extra,
        )  # fmt: skip
        return out


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments: object, stdin: bytes | None = None) -> bytes:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run([program, *map(str, arguments)], input=stdin, check=True, capture_output=True)
    return done.stdout


def pin_by_openssl(pem: Path) -> str:
    """What the README tells a user to type."""
    key = openssl("x509", "-in", pem, "-pubkey", "-noout")
    return hashlib.sha256(openssl("pkey", "-pubin", "-outform", "DER", stdin=key)).hexdigest()


def make_certificates(folder: Path) -> Path:
    """ca, stranger, server, client as NAME.pem and NAME.key in `folder`; both signed ones are for localhost."""
    authority = Authority(folder, "ca")
    Authority(folder, "stranger")
    for name in ("server", "client"):
        authority.sign(name, names="DNS:localhost,IP:127.0.0.1")
    return folder
