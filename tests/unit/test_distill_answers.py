"""A teacher's answers, asked for or kept on disk: the same batches, small files, and damage is noticed."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from compress.distill import answers
from compress.distill.answers import cache_batches, with_answers
from compress.distill.kept_batches import HEADER, KeptBatches, batch_bytes, write_batches
from edgeai.errors import PassError


class Teacher:
    name = "oracle"
    fingerprint = "f" * 64

    def __init__(self):
        self.asked = 0

    def __call__(self, inputs):
        self.asked += 1
        return {"class": inputs.mean((1, 2)) / 50}


def make(rng):
    return {
        "inputs": rng.integers(0, 256, (4, 6, 5, 3)).astype(np.float32),
        "targets": {"box": rng.uniform(0, 600, (4, 4)).astype(np.float32), "id": rng.integers(0, 9, 4)},
    }


def batch(number, seed=3):
    return np.random.default_rng([seed, number])


def cached(folder, teacher, **options):
    given = {"count": 6, "steps": 60, "seed": 3, "facts": {"data": 1}} | options
    return cache_batches(make, teacher, folder, **given)


@pytest.fixture
def clock(monkeypatch):
    """Each batch seems to take a second."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            self.now += 1.0
            return self.now

    monkeypatch.setattr(answers, "time", Clock())


def test_answers_are_added_once():
    teacher = Teacher()
    made = with_answers(with_answers(make, teacher), teacher)(batch(0))
    assert teacher.asked == 1
    np.testing.assert_allclose(made["teacher"]["class"], made["inputs"].mean((1, 2)) / 50)


def test_kept_batches_are_those_that_would_be_made(tmp_path, clock, capsys):
    teacher = Teacher()
    kept = cached(tmp_path / "kept", teacher)
    assert "are kept: 6 batches" in capsys.readouterr().err
    asked = teacher.asked
    anew = with_answers(make, Teacher())
    for number in (0, 5, 6, 13):
        told, wanted = kept(batch(number)), anew(batch(number % 6))
        np.testing.assert_array_equal(told["inputs"], wanted["inputs"])
        np.testing.assert_array_equal(told["targets"]["id"], wanted["targets"]["id"])
        np.testing.assert_array_equal(told["targets"]["box"], wanted["targets"]["box"])
        np.testing.assert_allclose(told["teacher"]["class"], wanted["teacher"]["class"], rtol=1e-3)
        assert told["inputs"].dtype == told["teacher"]["class"].dtype == np.float32
    assert teacher.asked == asked
    # pixels in a byte each; a corner in a large picture keeps all its bits
    stored = {str(np.load(path, mmap_mode="r").dtype) for path in (tmp_path / "kept").glob("*.npy")}
    assert stored == {"uint8", "float32", "int64", "float16"}


def test_a_second_training_of_the_same_kind_asks_nothing(tmp_path, clock, capsys):
    cached(tmp_path / "kept", Teacher())
    teacher = Teacher()
    cached(tmp_path / "kept", teacher)(batch(2))
    assert not teacher.asked
    assert "kept from before" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"facts": {"data": 2}}, {"teacher": "g" * 64}, {"count": 3}, {"count": 9}]
)
def test_another_training_or_teacher_makes_it_anew(tmp_path, clock, change):
    cached(tmp_path / "kept", Teacher())
    teacher = Teacher()
    teacher.fingerprint = change.pop("teacher", teacher.fingerprint)
    cached(tmp_path / "kept", teacher, **change)
    assert teacher.asked


def test_it_is_not_kept_where_that_saves_nothing_or_does_not_fit(tmp_path, clock, capsys):
    teacher = Teacher()
    anew = cached(tmp_path / "a", teacher, count=60)
    assert "asked anew each step: 60 s in all, 60 s with 60 batches kept" in capsys.readouterr().err
    asked = teacher.asked
    anew(batch(0))
    assert teacher.asked == asked + 1
    cached(tmp_path / "b", teacher, max_bytes=100)
    assert "are not kept: 0 of 60 batches fit" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_fewer_are_kept_where_the_room_is_small(tmp_path, clock):
    one = batch_bytes(with_answers(make, Teacher())(batch(0)))
    kept = cached(tmp_path / "kept", Teacher(), max_bytes=4 * one + 1)
    assert json.loads((tmp_path / "kept" / HEADER).read_text())["count"] == 4
    np.testing.assert_array_equal(kept(batch(5))["inputs"], make(batch(1))["inputs"])


def test_a_batch_that_was_damaged_is_made_anew_by_itself(tmp_path, clock, capsys):
    kept_in = tmp_path / "kept"
    cached(kept_in, Teacher())
    inputs = np.load(kept_in / "0.npy", mmap_mode="r+")
    inputs[2, 0, 0, 0, 0] ^= 255
    inputs.flush()
    teacher = Teacher()
    again = cached(kept_in, teacher)
    np.testing.assert_array_equal(again(batch(2))["inputs"], make(batch(2))["inputs"])
    assert teacher.asked == 1
    again(batch(1))
    assert teacher.asked == 1
    assert capsys.readouterr().err.count("is damaged") == 1


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / HEADER).write_text("{"),
        lambda folder: (folder / HEADER).write_text('{"version": 1}'),
        lambda folder: (folder / HEADER).write_text("[" * 100_000),
        lambda folder: (folder / "0.npy").write_bytes((folder / "0.npy").read_bytes()[:200]),
        lambda folder: (folder / "1.npy").unlink(),
        lambda folder: np.save(folder / "0.npy", np.array([object()]), allow_pickle=True),
    ],
)
def test_a_folder_that_was_damaged_is_filled_anew(tmp_path, clock, capsys, harm):
    cached(tmp_path / "kept", Teacher())
    harm(tmp_path / "kept")
    teacher = Teacher()
    kept = cached(tmp_path / "kept", teacher)
    assert teacher.asked >= 6
    assert "anew" in capsys.readouterr().err
    np.testing.assert_array_equal(kept(batch(5))["inputs"], make(batch(5))["inputs"])


def test_what_stops_the_work_leaves_nothing_half_written(tmp_path):
    calls = []

    def stopped():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return make(batch(0))

    with pytest.raises(KeyboardInterrupt):
        write_batches(tmp_path / "kept", "key", stopped, 5)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(PassError, match="something else"):
        write_batches(tmp_path, "key", lambda: make(batch(0)), 2)
    assert (tmp_path / "photo.jpg").exists()


def test_pixels_that_are_whole_numbers_by_chance_get_a_wider_type(tmp_path):
    whole = {"inputs": np.full((2, 3), 7, np.float32), "targets": np.float32([0.5, 1])}
    fine = {"inputs": np.float32([[1.25, 2, 3]] * 2), "targets": np.float32([0.123456, 1])}
    finest = {"inputs": np.float32([[1e9, 2, 3]] * 2), "targets": np.float32([1e5, 1])}
    several = iter([whole, fine, finest])
    kept = write_batches(tmp_path / "kept", "key", lambda: next(several), 3)
    for number, wanted in enumerate((whole, fine, finest)):
        told = kept.read(number)
        np.testing.assert_allclose(told["inputs"], wanted["inputs"], rtol=1e-3)
        np.testing.assert_allclose(told["targets"], wanted["targets"], atol=2e-3)


def test_batches_of_other_shapes_cannot_be_kept(tmp_path):
    several = iter([{"inputs": np.zeros((2, 3), np.float32)}, {"inputs": np.zeros((2, 4), np.float32)}])
    with pytest.raises(PassError, match="batch 1 has other arrays"):
        write_batches(tmp_path / "kept", "key", lambda: next(several), 2)
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_none_reach_whoever_looks_for_them(tmp_path):
    broken = {"inputs": np.float32([[np.nan, np.inf]]), "targets": np.float32([np.nan])}
    kept = write_batches(tmp_path / "kept", "key", lambda: broken, 1)
    told = kept.read(0)
    np.testing.assert_array_equal(told["inputs"], broken["inputs"])
    np.testing.assert_array_equal(told["targets"], broken["targets"])


def test_another_generator_than_a_trainings_is_told(tmp_path, clock):
    kept = cached(tmp_path / "kept", Teacher())
    with pytest.raises(PassError, match="numbers of a training's batches"):
        kept(np.random.default_rng(7))


def test_the_checksum_is_zlibs(tmp_path):
    kept = write_batches(tmp_path / "kept", "key", lambda: make(batch(0)), 1)
    assert isinstance(kept, KeptBatches)
    header = json.loads((tmp_path / "kept" / HEADER).read_text())
    stored = np.load(tmp_path / "kept" / "0.npy")[0]
    assert header["leaves"][0]["sums"] == [zlib.crc32(stored.tobytes())]
