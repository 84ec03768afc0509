"""Engines that are slower than they are, and engines that tell how long they took. For benches only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from edgeai.bundle import Bundle
from edgeai.engines import EdgeEngine, EngineHost, open_engine
from edgeai.engines.engine import Engine, Fill
from edgeai.schedule.group import EngineGroup
from edgeai.schedule.pool import ENGINE_S, EnginePool
from edgeai.types import Array

T = TypeVar("T")


class PaddedEngine(Engine):
    """Runs another engine, and waits until each call has taken `least_s`, the GIL released as in a call into a library.

    calls_s: how long each call took. Closes the other engine.
    """

    def __init__(self, engine: Engine, *, least_s: float = 0.0, calls_s: list[float] | None = None) -> None:
        self.inputs, self.outputs, self.max_batch = engine.inputs, engine.outputs, engine.max_batch
        self.calls_s = [] if calls_s is None else calls_s
        self._engine = engine
        self._least_s = least_s

    def invoke(self, fill: Mapping[str, Fill]) -> dict[str, Array]:
        return self._padded(lambda: self._engine.invoke(fill))

    def read(self, fill: Mapping[str, Fill], take: Callable[[Mapping[str, Array]], T]) -> T:
        return self._padded(lambda: self._engine.read(fill, take))

    def invoke_batch(self, fills: Sequence[Mapping[str, Fill]]) -> list[dict[str, Array]]:
        return self._padded(lambda: self._engine.invoke_batch(fills))

    def bare_call(self) -> Callable[[], object]:
        bare = self._engine.bare_call()
        return lambda: self._padded(bare)

    def reset(self) -> None:
        self._engine.reset()

    def close(self) -> None:
        self._engine.close()

    def _padded(self, call: Callable[[], T]) -> T:
        began_s = time.perf_counter()
        result = call()
        left_s = began_s + self._least_s - time.perf_counter()
        if left_s > 0:
            time.sleep(left_s)
        self.calls_s.append(time.perf_counter() - began_s)
        return result


def open_padded(
    bundle: Bundle,
    *,
    host: EngineHost | None,
    file: str | None,
    threads: int,
    least_s: float = 0.0,
    calls_s: list[float] | None = None,
) -> EdgeEngine:
    """As open_engine, the engine wrapped in a PaddedEngine."""
    edges = open_engine(bundle, host=host, file=file, threads=threads)
    edges.engine = PaddedEngine(edges.engine, least_s=least_s, calls_s=calls_s)
    return edges


class PaddedPool(EnginePool):
    """As EnginePool, its engines padded to `least_s` a call. calls_s: how long each call of any of them took."""

    def __init__(
        self, *, host: EngineHost | None, threads: int, workers: int | None = None, least_s: float = 0.0
    ) -> None:
        super().__init__(host=host, threads=threads, workers=workers, engine_s=max(ENGINE_S, 10 * least_s))
        self.calls_s: list[float] = []
        self._padded_host = host
        self._padded_threads = threads
        self._least_s = least_s

    def _opened(self, bundle: Bundle, engine: str | None) -> EngineGroup:
        return EngineGroup(
            lambda: open_padded(
                bundle,
                host=self._padded_host,
                file=engine,
                threads=self._padded_threads,
                least_s=self._least_s,
                calls_s=self.calls_s,
            ),
            label=bundle.name,
            engine_s=self._engine_s,
        )
