"""The stream of batches: in order, the same for the same numbers, bounded, and gone when it is left."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from compress.train.batches import make_numbered, open_batches


def drawn(rng):
    return {"inputs": rng.random(3), "targets": rng.random()}


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


def take(count, make=drawn, **options):
    with open_batches(make, seed=1, **options) as batches:
        return [next(batches)["targets"] for _ in range(count)]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 4}, {"threads": 2, "ahead": 1}, {}])
def test_the_same_batches_in_the_same_order_whatever_the_threads_do(options):
    wanted = [drawn(np.random.default_rng([1, n]))["targets"] for n in range(20)]
    assert take(20, **options) == wanted
    assert make_numbered(drawn, seed=1, number=7)["targets"] == wanted[7]


def test_another_seed_gives_other_batches():
    with open_batches(drawn, seed=2) as batches:
        assert next(batches)["targets"] != take(1)[0]


def test_a_later_start_is_the_rest_of_the_same_stream():
    assert take(5, start=7) == take(12)[7:]


def test_shards_share_the_stream_out():
    whole = take(12)
    assert [take(4, shard=(i, 3)) for i in range(3)] == [whole[i::3] for i in range(3)]
    assert take(2, shard=(1, 3), start=2) == whole[7::3][:2]


def test_no_more_is_made_ahead_than_was_said():
    made, left = [], threading.Semaphore(0)

    def counted(rng):
        made.append(1)
        left.release()
        return drawn(rng)

    with open_batches(counted, seed=1, threads=4, ahead=6) as batches:
        for taken in range(1, 5):
            next(batches)
            assert len(made) <= taken + 6
    for _ in made:
        assert left.acquire(timeout=5)
    assert len(made) <= 4 + 6
    assert not threads()


def test_what_make_raises_comes_out_as_it_is_and_in_its_turn():
    fault = OSError(5, "the disk is gone", "picture.png")

    def fails(rng):
        if rng.bit_generator.seed_seq.entropy[1] == 3:
            raise fault
        return drawn(rng)

    with pytest.raises(OSError, match="disk is gone") as raised, open_batches(fails, seed=1) as batches:
        assert [next(batches)["targets"] for _ in range(3)] == take(3)
        next(batches)
    assert raised.value is fault
    assert not threads()


def test_opencv_has_its_threads_back_afterwards():
    before, inside = cv2.getNumThreads(), []

    def looked(rng):
        inside.append(cv2.getNumThreads())
        return drawn(rng)

    take(2, make=looked)
    assert set(inside) == {1}
    assert cv2.getNumThreads() == before
