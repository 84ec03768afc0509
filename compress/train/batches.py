"""Batches made by a few threads ahead of the training step, from a seed: the same seed gives the same batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates `make(rng)` for ever; each batch gets a random generator of its own, spawned in order from `seed`."""

    def __init__(
        self, make: Callable[[np.random.Generator], T], *, seed: int, threads: int = 2, ahead: int = 4
    ) -> None:
        self._make = make
        self._seeds = np.random.SeedSequence(seed)
        self._threads = threads
        self._ahead = ahead

    def __iter__(self) -> Iterator[T]:
        with ThreadPoolExecutor(self._threads, thread_name_prefix="batches") as pool:
            pending: deque[Future[T]] = deque()
            try:
                while True:
                    while len(pending) < self._ahead:
                        rng = np.random.default_rng(self._seeds.spawn(1)[0])
                        pending.append(pool.submit(self._make, rng))
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
