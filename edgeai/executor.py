"""Commands and new configurations, carried out on the runtime's own thread between its other chores."""

from __future__ import annotations

import dataclasses
import logging
import queue
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from edgeai.clock import Clock
from edgeai.config import CameraSettings, Config, MicrophoneSettings
from edgeai.desired import (
    PROVEN_S,
    Desired,
    DesiredStore,
    check_desired,
    config_in_force,
    differences,
    prove,
    read_file,
    text_sha256,
)
from edgeai.errors import ConfigError, EdgeError, UsageError
from edgeai.runtime import Change, Runtime
from edgeai.sinks.commands.gate import CommandGate, ConfigInForce
from edgeai.sinks.commands.table import (
    CameraArguments,
    Command,
    DesiredArguments,
    Outcome,
    PartArguments,
    StreamArguments,
    ThresholdArguments,
)
from edgeai.stream import CameraStream
from edgeai.types import Event, Frame, JsonValue

log = logging.getLogger("edgeai")

EXIT_RESTART: Final = 75
"""EX_TEMPFAIL of sysexits.h: what a run that was told to restart ends with, so that its service manager starts it again."""
SNAPSHOT_WAIT_S: Final = 10.0
MAX_SNAPSHOT_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Waits for a frame until `deadline_s`; `frames` is filled by the stream's thread."""

    command: Command
    stream: CameraStream
    frames: list[Frame]
    deadline_s: float


Result: TypeAlias = "dict[str, JsonValue] | None"


class CommandExecutor:
    """`step` is a chore of the runtime; `ask_reload` is for signal handlers and any thread.

    gate: who is told what became of a command, None where there is no broker. orders: what the gate submits.
    """

    def __init__(
        self,
        runtime: Runtime,
        gate: CommandGate | None,
        orders: queue.SimpleQueue[Command],
        *,
        config: Config,
        path: Path,
        in_force: ConfigInForce,
        clock: Clock,
        read_only: bool = False,
        check: Callable[[Config], None] = lambda config: None,
        reloading: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """config: what runs, from the file `path` and perhaps the desired configuration. read_only: the file alone counts,
        and no desired configuration is taken or looked at. check: raises an EdgeError for a new file that shall not run.
        reloading: entered while another configuration is taken.
        """
        self.restart_wanted = False
        """Whether the run was ended by the command restart: the process then ends with EXIT_RESTART."""
        self._runtime = runtime
        self._gate = gate
        self._config = config
        self._path = path
        self._in_force = in_force
        self._clock = clock
        self._read_only = read_only
        self._check = check
        self._reloading = reloading
        self._orders = orders
        self._began_s = clock.monotonic_s()
        self._proven = False
        self._reload_asked = False
        self._snapshots: list[_Snapshot] = []

    @property
    def config(self) -> Config:
        """What runs; another object after each change."""
        return self._config

    def ask_reload(self) -> None:
        """As the command reload, without an answer: what comes of it is in the log."""
        self._reload_asked = True  # a plain flag: see Runtime

    def step(self) -> None:
        """Do what was asked for."""
        if not self._proven and self._clock.monotonic_s() - self._began_s >= PROVEN_S:
            self._proven = True
            self._prove()
        if self._reload_asked:
            self._reload_asked = False
            try:
                log.info("reloaded: %s", self._reload())
            except EdgeError as error:
                log.error("not reloaded, the old configuration runs on: %s", error)
        while not self.restart_wanted and (command := self._next()) is not None:
            self._execute(command)
        if self._snapshots:
            self._snapshots = [each for each in self._snapshots if not self._settled(each)]

    def close(self) -> None:
        """Answer what was not carried out; at the run's orderly end, while the outbox is still open."""
        self._prove()
        ending = Outcome(False, "the device is ending; send it again with a new id")
        for each in self._snapshots:
            self._finish(each.command, ending)
        self._snapshots = []
        while (command := self._next()) is not None:
            self._finish(command, ending)

    def _prove(self) -> None:
        if not self._read_only:
            prove(self._config)

    def _next(self) -> Command | None:
        try:
            return self._orders.get_nowait()
        except queue.Empty:
            return None

    def _execute(self, command: Command) -> None:
        try:
            if self._clock.monotonic_s() > command.deadline_s:
                raise UsageError("it expired while it waited")
            if isinstance(command.args, CameraArguments):
                self._begin_snapshot(command, command.args.camera)  # its answer waits for a frame
                return
            result = self._carry_out(command)
        except EdgeError as error:
            self._refuse(command, str(error))
        except Exception as error:
            log.exception("command %s %s met a fault of the program", command.name, command.id)
            self._refuse(command, f"a fault of the program: {type(error).__name__}")
        else:
            self._finish(command, Outcome(True, result=result))
            if command.name == "restart":  # only now: its answer is on the disk, and it will not come again
                log.warning("restart by command %s", command.id)
                self.restart_wanted = True
                self._runtime.stop()

    def _carry_out(self, command: Command) -> Result:
        match command.args:
            case PartArguments() as args:
                return self._switch(args, disabled=command.name == "disable")
            case ThresholdArguments() as args:
                return self._set_threshold(args)
            case StreamArguments() as args:
                self._runtime.retry(self._runtime.find(args.name, kind=args.kind).name)
                return None
            case DesiredArguments() as args:
                return self._configure(args)
        return self._reload() if command.name == "reload" else None  # a restart comes after its answer

    def _refuse(self, command: Command, reason: str) -> None:
        if self._gate is not None and isinstance(command.args, DesiredArguments):
            self._gate.refuse_config(command.args.version, reason)
        self._finish(command, Outcome(False, reason))

    def _finish(self, command: Command, outcome: Outcome) -> None:
        if self._gate is not None:
            self._gate.finish(command, outcome)

    def _begin_snapshot(self, command: Command, camera: str) -> None:
        stream = self._runtime.find_camera(camera)
        state = self._runtime.state(stream)
        if state != "running":
            raise UsageError(f"{stream.label}: no picture, it is {state}")
        deadline_s = min(command.deadline_s, self._clock.monotonic_s() + SNAPSHOT_WAIT_S)
        waiting = _Snapshot(command, stream, [], deadline_s)
        stream.want_frame(waiting.frames.append)
        self._snapshots.append(waiting)

    def _settled(self, waiting: _Snapshot) -> bool:
        """Send the picture where its frame is there, or give it up; False where it waits on."""
        if waiting.frames:
            try:
                self._finish(waiting.command, Outcome(True, result=self._send_picture(waiting.frames[0])))
            except EdgeError as error:
                self._refuse(waiting.command, str(error))
            return True
        running = self._runtime.state(waiting.stream) == "running"
        if running and self._clock.monotonic_s() <= waiting.deadline_s:
            return False
        waiting.stream.forget_frame(waiting.frames.append)
        reason = "no frame came in time" if running else "it ended before a frame came"
        self._finish(waiting.command, Outcome(False, f"{waiting.stream.label}: {reason}"))
        return True

    def _send_picture(self, frame: Frame) -> dict[str, JsonValue]:
        from edgeai.stages.jpeg import encode_jpeg

        jpeg = encode_jpeg(frame.image, max_bytes=MAX_SNAPSHOT_BYTES)
        facts: dict[str, JsonValue] = {
            "bytes": len(jpeg),
            "source_width": int(frame.image.shape[1]),
            "source_height": int(frame.image.shape[0]),
            "time_s": round(frame.time_s, 3),
        }
        event = Event("snapshot", frame.stream, frame.time_s, facts, priority="image", picture=jpeg)
        self._runtime.tell((event,))
        return {**facts, "event": event.id}

    def _switch(self, args: PartArguments, *, disabled: bool) -> Result:
        stream = self._runtime.find_camera(args.camera)
        overrides = stream.overrides
        if args.rule is None:
            overrides = dataclasses.replace(overrides, disabled=disabled)
        else:
            rule = frozenset({args.rule})
            stream.check(dataclasses.replace(overrides, rules=rule))  # also of one to enable
            rules = overrides.rules | rule if disabled else overrides.rules - rule
            overrides = dataclasses.replace(overrides, rules=rules)
        self._runtime.override(args.camera, overrides)
        return {"overrides": overrides.to_json()}

    def _set_threshold(self, args: ThresholdArguments) -> Result:
        overrides = dataclasses.replace(self._runtime.find(args.stream).overrides, threshold=args.value)
        self._runtime.override(args.stream, overrides)
        return {"overrides": overrides.to_json()}

    def _reload(self) -> Result:
        config, in_force = config_in_force(self._path, read_only=self._read_only)
        self._check(config)
        differing = differences(config, self._config)
        if differing:
            raise ConfigError(f"{self._path}: {', '.join(differing)} changed, which needs a restart")
        change = self._apply(config.streams)
        self._config = config
        self._tell_config(in_force)
        return _facts_of(change)

    def _configure(self, args: DesiredArguments) -> Result:
        if self._read_only:
            raise ConfigError("this device's configuration is read-only (--strict)")
        store = DesiredStore(self._config.state_dir)
        known = store.load()
        if known is not None and args.version <= known.version:
            if args.version < known.version:
                raise ConfigError(f"version {args.version} is older than {known.version}, which was applied")
            if args.toml != known.toml:
                raise ConfigError(f"version {args.version} was another text; give a higher version")
            if known.void:
                raise ConfigError(f"version {args.version} was set aside: {known.void}")
            self._tell_config(self._in_force)  # the same again, as at each connecting
            return None
        local, base_sha256 = read_file(self._path)
        wanted = check_desired(args.toml, local, self._path)
        before = self._config.streams
        change = self._apply(wanted.streams)
        try:
            store.save(Desired(version=args.version, toml=args.toml, base_sha256=base_sha256))
        except EdgeError:
            self._apply(before)
            raise
        self._config = self._config.model_copy(
            update={"cameras": wanted.cameras, "microphones": wanted.microphones}
        )
        self._tell_config(ConfigInForce(args.version, text_sha256(args.toml.encode())))
        return _facts_of(change)

    def _apply(self, streams: Iterable[CameraSettings | MicrophoneSettings]) -> Change:
        """Raises EdgeError where a model cannot be loaded, or where no source could be opened: what ran before runs on,
        or again, then.
        """
        before = self._config.streams
        with self._reloading():
            change = self._runtime.apply(streams)
        if change.failed and not any(map(self._runtime.alive, self._runtime.streams)):
            self._runtime.apply(before)
            raise ConfigError(f"nothing would run: {next(iter(change.failed.values()))}")
        return change

    def _tell_config(self, in_force: ConfigInForce) -> None:
        self._in_force = in_force
        if self._gate is not None:
            self._gate.report_config(in_force)


def _facts_of(change: Change) -> dict[str, JsonValue]:
    return {
        "unchanged": [*change.unchanged],
        "started": [*change.started],
        "stopped": [*change.stopped],
        "failed": {**change.failed},
    }
