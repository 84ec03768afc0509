"""Files that are there whole or not at all, also when the disk is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edgeai.errors import DataError, EdgeError
from edgeai.whole_file import whole_file, write_whole


def write_half(path: Path, data: bytes) -> int:
    """Path.write_bytes as on a disk that fills up half-way."""
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_text_and_bytes_are_written_with_their_folder(tmp_path):
    assert write_whole(tmp_path / "a" / "b.json", "ä").read_bytes() == "ä".encode()
    assert write_whole(tmp_path / "c.tflite", b"\0\1").read_bytes() == b"\0\1"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b.json", "c.tflite"]


def test_a_full_disk_leaves_the_old_file_and_says_which_and_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_whole(path, "old")
    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(
        DataError, match=r"state\.json cannot be written: No space left on device; free some space"
    ):
        write_whole(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    assert path.read_text() == "old"


def test_what_stops_the_work_removes_the_part(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "net.keras") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_our_own_errors_pass_as_they_are(tmp_path):
    with pytest.raises(EdgeError, match=r"^mine$"), whole_file(tmp_path / "net.keras"):
        raise EdgeError("mine")


@pytest.mark.compress
def test_a_network_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    from compress.networks.keras_file import save_network
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    def save(model, path):
        Path(path).touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save)
    image = keras.Input((4,))
    with pytest.raises(DataError, match=r"start\.keras cannot be written: No space.*another folder"):
        save_network(keras.Model(image, keras.layers.Dense(2)(image)), tmp_path / "start.keras")
    assert not list(tmp_path.iterdir())
