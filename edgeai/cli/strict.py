"""`--strict`, for fleets whose configuration is a read-only mount: what is not as it should be ends the process, loudly."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from edgeai.cli.examine import examine
from edgeai.clock import Clock, SystemClock
from edgeai.config import Config
from edgeai.errors import ConfigError, EdgeError
from edgeai.profile import Profile
from edgeai.runtime import Runtime
from edgeai.stream import CameraStream, Stream

log = logging.getLogger("edgeai")


def check_strict(config: Config, path: Path, *, profile: Profile | None) -> None:
    """Before a start, or a reload: raise ConfigError where `edgeai check --strict` would find a fault, each of them in the
    log. config: from the file `path`; profile: of this device.
    """
    faults = examine(config, path, profile=profile, strict=True).faults
    if not faults:
        return
    if len(faults) == 1:
        raise ConfigError(f"{faults[0]} (--strict)")
    for fault in faults:
        log.error("%s", fault)
    raise ConfigError(
        f"{path}: {len(faults)} faults, which --strict does not take",
        next_step=f"mend what is told above, and see `edgeai check --strict {path}`",
    )


def strict_cache(config: Config) -> Path:
    """Where engines are kept under --strict: in state_dir, unless the configuration names a folder there."""
    return config.engines.cache or config.state_dir / "engines"


class StrictWatch:
    """A chore of a strict run: ends it where a stream fails, or where a camera gives no first frame in time.

    In time is within its capture.open_s from when this first saw it, and settle_s longer where stills are taken. `faults`
    tells at the end why, all of it: the process then ends with exit code 1.
    """

    def __init__(self, runtime: Runtime, *, clock: Clock | None = None) -> None:
        self._runtime = runtime
        self._clock = clock or SystemClock()
        self._since_s: dict[Stream, float] = {}
        self._late: dict[str, str] = {}

    @property
    def faults(self) -> tuple[str, ...]:
        """A line each, by stream; none while all is well."""
        failed = {
            stream.name: f"{stream.label}: {stream.report.failed.removeprefix(f'{stream.label}: ')}"
            for stream in self._runtime.streams
            if stream.report.failed
        }
        return tuple({**self._late, **failed}.values())

    @contextlib.contextmanager
    def naming_all(self) -> Iterator[None]:
        """Around Runtime.run, which raises the first error where nothing could be opened: the others are told too."""
        try:
            yield
        except EdgeError as error:
            if len(faults := self.faults) < 2:
                raise
            self.tell()
            raise EdgeError(f"{len(faults)} sources cannot be opened") from error

    def tell(self) -> None:
        """Each fault in the log."""
        for fault in self.faults:
            log.error("%s (--strict)", fault)

    def step(self) -> None:
        """Stop the runtime where there is a fault."""
        now_s = self._clock.monotonic_s()
        streams = self._runtime.streams
        self._since_s = {stream: self._since_s.get(stream, now_s) for stream in streams}
        waiting = [stream for stream in streams if isinstance(stream, CameraStream) and _waits(stream)]
        late = [stream for stream in waiting if now_s - self._since_s[stream] >= _allowed_s(stream)]
        # the others get their time too: all that give nothing are named, not only the first
        if late and len(late) == len(waiting):
            for stream in late:
                why = stream.connection.problem if stream.connection is not None else ""
                said = f"{stream.label}: no picture within {_allowed_s(stream):g} s"
                self._late[stream.name] = f"{said}: {why}" if why else said
        if self.faults and not [stream for stream in waiting if stream not in late]:
            self._runtime.stop()


def _waits(stream: CameraStream) -> bool:
    return stream.alive and stream.capture.newest_s is None and not stream.overrides.disabled


def _allowed_s(stream: CameraStream) -> float:
    capture = stream.settings.capture
    return capture.open_s + (capture.settle_s if capture.every_s is not None else 0.0)
