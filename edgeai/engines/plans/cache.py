"""Where built plans and timing caches are kept: each made once, by one process, whole or not at all, bounded in bytes.

plans/KEY.plan      a sealed plan; its file time is when it was last used
plans/KEY.lock      held while somebody builds it
timing/KEY.timing   a sealed timing cache of one GPU and release
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeai.engines.plans.sealed import PART_SUFFIX, BrokenSealError, read_facts, read_sealed, write_sealed
from edgeai.errors import EngineError
from edgeai.types import JsonValue

log = logging.getLogger("edgeai")

_PLAN, _LOCK, _TIMING = ".plan", ".lock", ".timing"


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """One plan of the cache. facts: what it was built from and for. used_s: Unix time of its last use."""

    key: str
    bytes: int
    used_s: float
    facts: Mapping[str, JsonValue]


class PlanCache:
    """A folder of plans, made when first written to. max_bytes: of all plans; the least recently used go first."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._plans = folder / "plans"
        self._timing = folder / "timing"
        self._max_bytes = max_bytes

    def provide(
        self, key: str, build: Callable[[], bytes], *, facts: Mapping[str, JsonValue], name: str
    ) -> bytes:
        """The plan of that key: the kept one where it is whole, else what `build` gives, kept.

        Processes that want the same plan at once wait for the one that builds it. A plan that cannot be kept (a full or
        read-only disk) is told and given all the same. Raises EngineError where the folder cannot be made, and what
        `build` raises.
        """
        kept = self._read(key, name)
        if kept is not None:
            return kept
        path = self._plan(key)
        with self._locked(path, name):
            kept = self._read(key, name)  # somebody else may have built it meanwhile
            if kept is not None:
                return kept
            self._sweep(path)
            began_s = time.monotonic()
            plan = build()
            seconds = round(time.monotonic() - began_s, 1)
            self._keep(path, plan, {**facts, "name": name, "seconds": seconds, "built_s": time.time()})
        self._evict(key)
        return plan

    def forget(self, key: str) -> None:
        """Remove a plan that TensorRT refused, so that it is built again."""
        with contextlib.suppress(OSError):
            self._plan(key).unlink()

    def timing(self, key: str) -> bytes:
        """The timing cache of a GPU and release, empty where there is none or a broken one."""
        try:
            return read_sealed(self._timing / f"{key}{_TIMING}").content
        except (OSError, BrokenSealError):
            return b""

    def keep_timing(self, key: str, timing: bytes) -> None:
        """Keep a timing cache in place of an older one; one that cannot be kept costs a later build its time, and is told."""
        if timing:
            path = self._timing / f"{key}{_TIMING}"
            with self._locked(path, "timing cache"):
                self._sweep(path)
                self._keep(path, timing, {})

    def kept(self) -> list[KeptPlan]:
        """All whole-looking plans, the last used first; broken ones are left out."""
        found = []
        for path in self._plan_files():
            with contextlib.suppress(OSError, BrokenSealError):
                status = path.stat()
                found.append(KeptPlan(path.stem, status.st_size, status.st_mtime, read_facts(path)))
        return sorted(found, key=lambda plan: -plan.used_s)

    def clear(self, *, everything: bool = False) -> tuple[int, int]:
        """Remove all plans but those that are being built; (files, bytes). everything: timing caches and leftovers too.

        Raises EngineError where one cannot be removed.
        """
        paths = self._plan_files()
        if everything:
            paths += [*self._timing.glob(f"*{_TIMING}"), *self._timing.glob(f".*{PART_SUFFIX}")]
        count = size = 0
        for path in paths:
            try:
                size += path.stat().st_size
                path.unlink()
                count += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise EngineError(f"{path}: cannot be removed ({error.strerror or error})") from None
        return count, size

    def _plan(self, key: str) -> Path:
        return self._plans / f"{key}{_PLAN}"

    def _plan_files(self) -> list[Path]:
        return sorted(self._plans.glob(f"*{_PLAN}"))

    def _read(self, key: str, name: str) -> bytes | None:
        path = self._plan(key)
        try:
            plan = read_sealed(path).content
        except FileNotFoundError:
            return None
        except (OSError, BrokenSealError) as error:
            log.warning("%s: the kept plan is broken (%s), it is built again", name, error)
            return None
        with contextlib.suppress(OSError):  # a folder that we only read
            os.utime(path)
        return plan

    def _keep(self, path: Path, content: bytes, facts: Mapping[str, JsonValue]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(path, content, facts)
        except OSError as error:
            log.warning(
                "%s cannot be kept (%s): it works now and is built again at the next start; free the disk, or name "
                "another folder with --cache",
                path,
                error.strerror or error,
            )

    @contextlib.contextmanager
    def _locked(self, path: Path, name: str) -> Iterator[None]:
        """The one writer of a file. A lock ends with its process, however that ends."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path.with_suffix(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): plans are built at every start",
                path.parent,
                error.strerror or error,
            )
            yield
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: waiting for another process that writes it", name)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _sweep(self, path: Path) -> None:
        """What a writer of this file left behind that was killed while it wrote."""
        for part in path.parent.glob(f".{path.name}.*{PART_SUFFIX}"):
            with contextlib.suppress(OSError):
                part.unlink()

    def _evict(self, newest: str) -> None:
        plans = []
        for path in self._plan_files():
            with contextlib.suppress(OSError):
                status = path.stat()
                plans.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in plans)
        for _, size, path in sorted(plans):
            if total <= self._max_bytes:
                return
            if path.stem != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size
                    log.info("%s was removed: plans may take %d bytes", path.name, self._max_bytes)
