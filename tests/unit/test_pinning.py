"""Pins beside what openssl and another library say of the same certificates, and against broken ones."""

import base64
import contextlib
import ssl

import pydantic
import pytest
from certificates import Authority, openssl, pin_by_openssl
from hypothesis import given
from hypothesis import strategies as st

from edgeai.sinks.mqtt.pinning import normal_pin, public_key_pin
from edgeai.sinks.mqtt.settings import TlsSettings


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pins")
    authority = Authority(folder, "root")
    authority.sign("leaf", names="DNS:localhost")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "rsa.key", "-out", folder / "rsa.pem",
        "-subj", "/CN=rsa", "-days", "2",
    )  # fmt: skip
    openssl(
        "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", folder / "ed.key", "-out", folder / "ed.pem",
        "-subj", f"/O={'long ' * 12}/CN=ed", "-days", "2",
    )  # fmt: skip
    return [folder / f"{name}.pem" for name in ("root", "leaf", "rsa", "ed")]


def der_of(pem):
    return ssl.PEM_cert_to_DER_cert(pem.read_text())


def test_a_pin_is_what_openssl_says(pems):
    for pem in pems:
        assert public_key_pin(der_of(pem)) == pin_by_openssl(pem)


def test_a_pin_is_what_another_library_says(pems):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    for pem in pems:
        key = x509.load_pem_x509_certificate(pem.read_bytes()).public_key()
        digest = hashes.Hash(hashes.SHA256())
        digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        assert public_key_pin(der_of(pem)) == digest.finalize().hex()


def test_a_broken_certificate_is_a_value_error_or_a_pin(pems):
    der = der_of(pems[1])
    for end in range(len(der)):
        with contextlib.suppress(ValueError):
            assert len(public_key_pin(der[:end])) == 64
        bent = bytearray(der)
        bent[end] ^= 0xFF
        with contextlib.suppress(ValueError):
            assert len(public_key_pin(bytes(bent))) == 64
    with pytest.raises(ValueError, match="not a DER certificate"):
        public_key_pin(der[:20])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_error_or_a_pin(data):
    with contextlib.suppress(ValueError):
        public_key_pin(data)


@given(st.binary(min_size=32, max_size=32))
def test_all_ways_to_write_a_pin_are_one(raw):
    plain = raw.hex()
    in_base64 = base64.b64encode(raw).decode()
    colons = ":".join(plain[at : at + 2] for at in range(0, 64, 2)).upper()
    for text in (
        plain,
        plain.upper(),
        colons,
        in_base64,
        f"sha256/{in_base64}",
        f"sha256//{in_base64}",
        f" {plain}\n",
    ):
        assert normal_pin(text) == plain


@pytest.mark.parametrize(
    "text", ["", "ab", "z" * 64, "a" * 63, base64.b64encode(bytes(31)).decode(), "sha256/", "é" * 64]
)
def test_what_is_no_pin_is_refused(text):
    with pytest.raises(ValueError, match="a pin is a SHA-256"):
        normal_pin(text)
    with pytest.raises(pydantic.ValidationError):
        TlsSettings(pin_sha256=[text])
