"""Basic and Digest against the examples of their specifications."""

from __future__ import annotations

import re

import pytest

from edgeai.sources import authorization
from edgeai.sources.authorization import Authorization

# RFC 7616, 3.9.1
_ASKED = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
_RESPONSES = {
    "MD5": "8ca523f5e9506fed4657c9700eebdbec",
    "SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
}


@pytest.fixture
def rfc_cnonce(monkeypatch):
    monkeypatch.setattr(authorization.secrets, "token_hex", lambda _: _CNONCE)


@pytest.mark.parametrize("algorithm", _RESPONSES)
def test_the_examples_of_rfc_7616(algorithm, rfc_cnonce):
    user = Authorization("Mufasa", "Circle of Life")
    assert user.challenge([_ASKED.format(algorithm)])
    header = user.header("GET", "/dir/index.html")
    assert f'response="{_RESPONSES[algorithm]}"' in header
    assert "nc=00000001" in header
    assert "nc=00000002" in user.header("GET", "/dir/index.html")


def test_the_example_of_rfc_2069_without_qop():
    """RFC 2069 as corrected by erratum 749."""
    user = Authorization("Mufasa", "CircleOfLife")
    assert user.challenge(
        ['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc"']
    )
    header = user.header("GET", "/dir/index.html")
    assert 'response="1949323746fe6a43ef61f9606e7febea"' in header
    assert "qop" not in header
    assert "nc=" not in header


def test_the_example_of_rfc_7617():
    user = Authorization("Aladdin", "open sesame")
    assert user.challenge(['Basic realm="WallyWorld"'])
    assert user.header("GET", "/") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_digest_is_preferred_and_sha_256_taken_where_md5_is_unknown():
    user = Authorization("u", "p")
    assert user.challenge(['Basic realm="x"', 'Digest realm="x", nonce="n"'])
    assert user.header("GET", "/").startswith("Digest ")
    assert user.challenge(
        [
            'Digest realm="x", nonce="n", algorithm=SHA-512-256',
            'Digest realm="x", nonce="m", algorithm=SHA-256',
        ]
    )
    assert 'nonce="m"' in user.header("GET", "/")


def test_nothing_is_told_before_it_is_asked():
    assert Authorization("u", "p").header("GET", "/") == ""


@pytest.mark.parametrize(
    "asked",
    [
        [],
        ["Negotiate"],
        ["Digest realm=x"],
        ['Digest realm="x", nonce="n", algorithm=ROT13'],
        ['Digest realm="x", nonce="n", qop="auth-int"'],
        ['Digest realm="x\r\nInjected: yes", nonce="n"'],
        ["", "Digest", "=,=,="],
    ],
)
def test_what_cannot_be_answered_is_not(asked):
    user = Authorization("u", "p")
    assert not user.challenge(asked)
    assert user.header("GET", "/") == ""


def test_quotes_in_names_are_escaped():
    user = Authorization('a"b\\c', "p")
    assert user.challenge([r'Digest realm="r\"s", nonce="n"'])
    header = user.header("GET", "/")
    assert r'username="a\"b\\c"' in header
    assert r'realm="r\"s"' in header


def test_the_password_is_in_no_representation():
    assert not re.search("hunter2", repr(Authorization("u", "hunter2")))
