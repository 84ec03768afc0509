"""Fresh certificates for tests, made by openssl: an authority, a server on localhost, a client, a stranger's authority."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_CURVE = ("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificates(folder: Path) -> Path:
    """ca, stranger, server, client as NAME.pem and NAME.key in `folder`."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")

    def openssl(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl("req", "-x509", "-newkey", "ec", *_CURVE, "-days", "2", *files, "-subj", f"/CN=test {name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("req", "-newkey", "ec", *_CURVE, *files, "-subj", f"/CN={name}")
        signed = ("-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        openssl("x509", "-req", *signed, "-days", "2", "-out", f"{name}.pem", "-extfile", "names")
    return folder
