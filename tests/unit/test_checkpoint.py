"""The checkpoint file: whole or not at all, and nothing that somebody puts in its place does harm."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from compress.train.checkpoint import Checkpoint, fingerprint_of
from edgeai.errors import PassError

HEADER = {"best": {"step": 3}}
ARRAYS = {"weights": np.arange(400, dtype=np.float32), "done": np.int64(7)}


def nothing(header, arrays):
    return None


@pytest.fixture
def file(tmp_path):
    return Checkpoint(tmp_path / "new" / "fit.ckpt", "mine")


@pytest.fixture
def path(file, tmp_path):
    file.save(HEADER, ARRAYS)
    return tmp_path / "new" / "fit.ckpt"


def test_what_was_saved_is_loaded(file, path):
    file.save(HEADER, {**ARRAYS, "extra": np.zeros((2, 3))})
    header, arrays = file.load(ARRAYS, nothing)
    assert header["best"] == HEADER["best"]
    np.testing.assert_array_equal(arrays["weights"], ARRAYS["weights"])
    assert arrays["extra"].shape == (2, 3)
    assert [p.name for p in path.parent.iterdir()] == ["fit.ckpt"]


def test_none_is_none_without_a_word(tmp_path, capsys):
    assert Checkpoint(tmp_path / "no.ckpt", "mine").load(ARRAYS, nothing) is None
    assert capsys.readouterr().err == ""


def test_of_another_training_is_told(path, capsys):
    assert Checkpoint(path, "yours").load(ARRAYS, nothing) is None
    assert (
        "is of another training (settings or network differ): training starts over" in capsys.readouterr().err
    )


def cut(content):
    return content[: len(content) // 2]


def turned_bit(content):
    at = content.index(b"weights.npy") + 300
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage", [cut, turned_bit, lambda c: b"", lambda c: b"PK\x03\x04 no", lambda c: b"\x80\x04."]
)
def test_a_damaged_file_is_told_and_left_alone(file, path, capsys, damage):
    path.write_bytes(damage(path.read_bytes()))
    assert file.load(ARRAYS, nothing) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "fit.ckpt is damaged (" in line
    assert line.endswith("training starts over")


def changed_header(text):
    return {"header": np.frombuffer(text, np.uint8)}


@pytest.mark.parametrize(
    "change",
    [
        {"weights": ARRAYS["weights"][:-1]},
        {"weights": ARRAYS["weights"].astype(np.float64)},
        {"weights": np.array([os.getcwd], object)},
        changed_header(b"[1, 2]"),
        changed_header(b"\xff\xfe"),
        changed_header(b"[" * 100_000),
        changed_header(b""),
        {"header": np.zeros(3, object)},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_file_that_somebody_made_is_refused_without_a_crash(file, path, capsys, change):
    with np.load(path) as archive:
        arrays = dict(archive) | change
    with path.open("wb") as out:
        np.savez(out, **arrays)
    assert file.load(ARRAYS, nothing) is None
    assert "is damaged" in capsys.readouterr().err


def test_an_array_that_is_missing_and_a_state_that_cannot_be_are_damage(file, path, capsys):
    assert file.load({**ARRAYS, "moments": np.zeros(2)}, nothing) is None

    def impossible(header, arrays):
        raise ValueError(f"it is of step {header['best']['step'] + 10}")

    assert file.load(ARRAYS, impossible) is None
    assert "damaged (it is of step 13)" in capsys.readouterr().err


def test_a_process_that_dies_while_writing_leaves_the_old_one(file, path, monkeypatch):
    def dies(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        file.save({"best": {"step": 4}}, ARRAYS)
    assert file.load(ARRAYS, nothing)[0]["best"]["step"] == 3
    monkeypatch.undo()
    file.remove()
    assert not list(path.parent.iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PassError, match=r"checkpoint .*fit\.ckpt cannot be written: .*; free some space"):
        Checkpoint(tmp_path / "file" / "fit.ckpt", "mine").save(HEADER, ARRAYS)


def test_a_full_disk_is_told_and_the_old_one_stays(file, path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PassError, match="No space left"):
        file.save({}, ARRAYS)
    assert [p.name for p in path.parent.iterdir()] == ["fit.ckpt"]
    assert file.load(ARRAYS, nothing) is not None


def test_fingerprints_follow_the_facts():
    facts = {"settings": {"steps": 3}, "variables": [["kernel", [1, 2]]]}
    assert fingerprint_of(facts) == fingerprint_of(json.loads(json.dumps(facts)))
    assert fingerprint_of(facts) != fingerprint_of({**facts, "settings": {"steps": 4}})
