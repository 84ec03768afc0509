"""Payloads encrypted at rest, and the outbox that holds them."""

import base64
import logging
import os
import sqlite3

import pytest

from edgeai.errors import ConfigError
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.outbox.seal import Seal, SealError, load_seal

pytest.importorskip("cryptography")
SECRET = b"number plate AB-123"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


def put(path, seal, n=3):
    with Outbox(path, seal=seal) as outbox:
        outbox.put_many([Draft("t", SECRET) for _ in range(n)])


def on_disk(path):
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


def test_what_is_sealed_opens_with_the_same_key_and_context_only():
    seal = Seal([os.urandom(32)])
    sealed = seal.seal(SECRET, b"here")
    assert seal.open(sealed, b"here") == SECRET
    assert SECRET not in sealed
    for other, context, text in [
        (seal, b"there", sealed),
        (Seal([os.urandom(32)]), b"here", sealed),
        (seal, b"here", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (seal, b"here", b""),
    ]:
        with pytest.raises(SealError):
            other.open(text, context)


def test_payloads_are_not_in_the_file_and_come_out_whole(path):
    seal = Seal([os.urandom(32)])
    with Outbox(path, seal=seal) as outbox:
        outbox.put(Draft("t", SECRET))
        assert SECRET not in on_disk(path)
        assert [message.payload for message in outbox.peek(9)] == [SECRET]
    assert SECRET not in on_disk(path)
    with Outbox(path, seal=seal) as outbox:
        assert [message.payload for message in outbox.peek(9)] == [SECRET]


def test_messages_from_before_the_key_are_sent_too(path):
    put(path, None, 2)
    with Outbox(path, seal=Seal([os.urandom(32)])) as outbox:
        outbox.put(Draft("t", SECRET))
        assert [message.payload for message in outbox.peek(9)] == [SECRET] * 3


def test_a_new_key_before_the_old_one_loses_nothing(path):
    old, new = os.urandom(32), os.urandom(32)
    put(path, Seal([old]))
    put(path, Seal([new, old]))
    with Outbox(path, seal=Seal([new, old])) as outbox:
        assert [message.payload for message in outbox.peek(9)] == [SECRET] * 6


@pytest.mark.parametrize("key", [None, os.urandom(32)], ids=["no key", "another key"])
def test_a_file_of_another_key_is_set_aside_whole_and_told(path, key, caplog):
    caplog.set_level(logging.ERROR)
    put(path, Seal([os.urandom(32)]))
    with Outbox(path, seal=None if key is None else Seal([key])) as outbox:
        assert outbox.pending == 0
        outbox.put(Draft("t", b"new"))
        ((type_, facts),) = outbox.take_incidents()
    assert (type_, facts["saved"]) == ("outbox_set_aside", 0)
    assert "sealed with a key that is not in outbox.key_file" in caplog.text
    aside = path.with_name(path.name + ".corrupt-1")
    with sqlite3.connect(aside) as db:
        assert db.execute("SELECT COUNT(*) FROM message").fetchone() == (3,)


def test_a_key_that_is_no_longer_needed_may_go(path):
    seal = Seal([os.urandom(32)])
    put(path, seal, 1)
    with Outbox(path, seal=seal) as outbox:
        outbox.ack([1])
    with Outbox(path) as outbox:
        outbox.put(Draft("t", b"open"))
        assert outbox.take_incidents() == []
        assert outbox.pending == 1


def test_a_row_that_was_moved_or_changed_is_damage_and_the_rest_is_saved(path):
    seal = Seal([os.urandom(32)])
    put(path, seal)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE message SET payload = (SELECT payload FROM message WHERE seq = 1) WHERE seq = 2")
    with Outbox(path, seal=seal) as outbox:
        outbox.peek(9)
        assert [message.seq for message in outbox.peek(9)] == [1, 3]


@pytest.mark.parametrize(
    "text", [os.urandom(32).hex(), base64.b64encode(os.urandom(32)).decode()], ids=["hex", "base64"]
)
def test_key_files(tmp_path, text):
    file = tmp_path / "key"
    file.write_text(f"\n{text}\n{os.urandom(32).hex()}\n")
    seal = load_seal(file)
    assert seal.open(seal.seal(b"x", b""), b"") == b"x"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"short", "key:1: must be 64"),
        (b"00" * 32 + b"\n\xff\xfe", "key:2: must be 64"),
        (b"x" * 5000, "has more than 4096"),
    ],
)
def test_a_key_file_that_is_none_is_told_without_its_content(tmp_path, content, told):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as caught:
        load_seal(file)
    assert "openssl rand" in str(caught.value)
    if content:
        assert content[:20].decode("latin1") not in str(caught.value)
