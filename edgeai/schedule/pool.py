"""Every model that cameras run, each opened as often as it pays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from edgeai.bundle import Bundle
from edgeai.engines import EngineHost, open_engine, order_candidates
from edgeai.engines.candidates import GPU_KINDS
from edgeai.schedule.group import EngineGroup, EngineWorker

MAX_BATCH: Final = 16
ENGINE_S: Final = 3.0


@dataclass(slots=True)
class _Lease:
    group: EngineGroup
    users: int = 0


class EnginePool:
    """Groups by model: the bundle as it is now, the engine file asked for. Belongs to one thread; `workers` to any.

    threads: of each engine. workers: of each model, at most; None: a core each on the CPU, one on a GPU, never more than
    there are cameras. engine_s: when a model's run counts as hung. cameras: how many will use one model, at most.
    """

    def __init__(
        self,
        *,
        host: EngineHost | None = None,
        threads: int = 1,
        workers: int | None = None,
        engine_s: float = ENGINE_S,
        cameras: int = 1,
    ) -> None:
        self._host = host or EngineHost()
        self._threads = threads
        self._workers = workers
        self._engine_s = engine_s
        self._cameras = cameras
        self._leases: dict[tuple[str, ...], _Lease] = {}
        self._leaving: list[EngineGroup] = []
        self.replaced = 0
        """Workers that were abandoned, of groups that are gone."""

    @property
    def groups(self) -> tuple[EngineGroup, ...]:
        return tuple(lease.group for lease in tuple(self._leases.values()))

    def workers(self) -> Iterator[EngineWorker]:
        """All there are now, for a watchdog; from any thread."""
        for lease in tuple(self._leases.values()):
            yield from lease.group.workers

    def lease(self, bundle: Bundle, engine: str | None = None) -> EngineGroup:
        """The group that runs a bundle, for one more camera; `give_back` it. Raises what open_engine raises."""
        key = (str(bundle.folder), _digest(bundle), engine or "")
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = _Lease(self._opened(bundle, engine))
        lease.users += 1
        try:
            lease.group.grow(self._wanted(lease))
        except BaseException:
            self.give_back(lease.group)
            raise
        return lease.group

    def give_back(self, group: EngineGroup) -> None:
        """One camera less; with the last, the group's engines close after what they are doing."""
        for key, lease in self._leases.items():
            if lease.group is group:
                lease.users -= 1
                if not lease.users:
                    del self._leases[key]
                    self.replaced += group.replaced
                    group.close()
                    self._leaving.append(group)
                return

    def close(self, timeout_s: float) -> None:
        """Let every engine go after what it is doing, those of cameras that are still there too, and wait so long for it."""
        for lease in self._leases.values():
            lease.group.close()
        deadline_s = time.monotonic() + timeout_s
        for group in (*self._leaving, *self.groups):
            group.join(max(0.0, deadline_s - time.monotonic()))
        self._leaving.clear()

    def _opened(self, bundle: Bundle, engine: str | None) -> EngineGroup:
        host = self._host
        with contextlib.suppress(Exception):  # what is wrong with it, opening tells better
            first = order_candidates(bundle, host=host, file=engine, threads=self._threads).candidates[0]
            if first.kind in GPU_KINDS and host.max_batch == 1:
                # a plan is built for it: by powers of two, so that one more camera is not one more build of minutes
                host = replace(host, max_batch=min(MAX_BATCH, 1 << (max(1, self._cameras) - 1).bit_length()))
        return EngineGroup(
            lambda: open_engine(bundle, host=host, file=engine, threads=self._threads),
            label=bundle.name,
            engine_s=self._engine_s,
        )

    def _wanted(self, lease: _Lease) -> int:
        most = self._workers
        if most is None:
            on_gpu = lease.group.engine_label.partition("/")[0] in GPU_KINDS
            most = 1 if on_gpu else max(1, len(os.sched_getaffinity(0)) // self._threads)
        return min(most, lease.users)


def _digest(bundle: Bundle) -> str:
    """Of the manifest, which holds every file's: a bundle that was exchanged in its place is another one."""
    return hashlib.sha256(bundle.manifest.model_dump_json().encode()).hexdigest()
