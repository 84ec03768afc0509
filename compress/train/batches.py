"""Batches made by a few threads ahead of the training step, each from its own number: the same seed, the same batches.

Threads and not tf.data: making a batch is Python around OpenCV and numpy, so tf.data would call the same function through
numpy_function. Side by side, by turns, the two were equally fast (detector and keyword model, two cores), and here an
exception comes out as it is and nothing needs to be known of a batch beforehand.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

MAX_THREADS = 16

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

    `make` is called by `threads` threads (by default one a core), at most `ahead` batches before they are wanted (threads +
    2), which bounds the memory. What it raises comes out of next() as it is, in its turn. Leaving the block stops the
    threads, after the calls under way. Inside, OpenCV has no threads of its own: they would get in each other's way.
    """
    threads = threads or min(cores(), MAX_THREADS)
    ahead = max(ahead or threads + 2, 1)
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

    import cv2

    cv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield batches()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(cv_threads)


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
