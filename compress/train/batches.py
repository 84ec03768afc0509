"""Batches made by a few threads ahead of the training step, each from its own number: the same seed, the same batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

Batch = dict[str, Any]
Make = Callable[[np.random.Generator], Batch]


def make_numbered(make: Make, *, seed: int, number: int) -> Batch:
    """Batch `number` of a training, whoever asks for it, and whenever."""
    return make(np.random.default_rng([seed, number]))


@contextmanager
def open_batches(
    make: Make,
    *,
    seed: int,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    threads: int | None = None,
    ahead: int | None = None,
) -> Iterator[Iterator[Batch]]:
    """An endless iterator over the batches start * n + i, (start + 1) * n + i, ... of shard (i, n), in order.

    `make` is called by `threads` threads, at most `ahead` batches before they are wanted, which bounds the memory. What it
    raises comes out of next() as it is. Leaving the block stops the threads, after the calls under way.
    """
    threads = threads or 2
    ahead = ahead or 2 * threads
    index, count = shard
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    pending: deque[Future[Batch]] = deque()

    def batches() -> Iterator[Batch]:
        step = start
        while True:
            while len(pending) < ahead:
                pending.append(pool.submit(make_numbered, make, seed=seed, number=step * count + index))
                step += 1
            yield pending.popleft().result()

    try:
        yield batches()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Prefetch:
    """The old stream of tasks: goes when they give `make` itself."""

    def __init__(self, make: Make, *, seed: int) -> None:
        self.make = make
        self.seed = seed
