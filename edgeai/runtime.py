"""A device at work: its cameras and microphones, the engines they share, one sink for all of them."""

from __future__ import annotations

import logging
import time
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from edgeai.config import CameraSettings, Config, MicrophoneSettings
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError, SinkError, UsageError
from edgeai.faults import nearest_hint
from edgeai.pulse import Doing
from edgeai.schedule.group import EngineGroup, EngineWorker
from edgeai.schedule.pool import EnginePool
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sources.capture import Capture
from edgeai.store import TotalsStore
from edgeai.stream import CameraStream, MicrophoneStream, Overrides, State, Stream, StreamReport, naming
from edgeai.types import DEVICE_STREAM, Event, JsonValue

log = logging.getLogger("edgeai")

JOIN_S = 5.0
LOAD_S = 3600.0
"""How long a model may take to load: TensorRT builds its plan then."""
_POLL_S = 0.1  # bounded, so that signals are handled in between


@dataclass(frozen=True, slots=True)
class Change:
    """What `Runtime.apply` did, by stream names. failed: started, and its source could not be opened."""

    unchanged: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


class Runtime:
    """Runs a configuration until its sources end or `stop` is called. One stream's failure leaves the others alone.

    `with` loads every model, and closes what no thread uses any more: an engine is only ever closed after the last
    call into it, by the thread that made that call. All but `stop` and `watched` belongs to the thread that calls `run`; what others want
    is done by a chore, which that thread calls ten times a second.
    """

    def __init__(
        self,
        config: Config,
        sink: Sink,
        *,
        host: EngineHost | None = None,
        totals: TotalsStore | None = None,
    ) -> None:
        """totals: where what rules count is kept; for this process only where absent."""
        self._totals = totals or TotalsStore(None)
        self._threads_of_engine = config.threads
        self._settings = config.streams
        self._host = host
        self._pool = EnginePool(
            host=host,
            threads=config.threads,
            workers=config.engines.workers,
            engine_s=config.watchdog.engine_s,
            cameras=max(Counter(camera.model for camera in config.cameras).values(), default=1),
        )
        self._sink = sink
        # a plain flag, no Event: a signal handler that sets one can meet its lock held by the code it interrupted
        self._stopped = False
        self._began_s = time.monotonic()
        self._streams: dict[str, Stream] = {}
        self._overrides: dict[str, Overrides] = {}
        self._chores: list[Callable[[], None]] = []
        self._faulty: list[Callable[[], None]] = []
        self._own_report = StreamReport(DEVICE_STREAM)
        self.heart: Callable[[float], None] = lambda grace_s: None
        """Called by the loop ten times a second, and with the seconds that it may take before what takes long."""
        self._happened: SimpleQueue[Event] = SimpleQueue()
        self.reader_gone = False
        """Whether the run was ended because nobody reads standard output any more."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """In the configuration's order."""
        return tuple(self._streams.values())

    @property
    def groups(self) -> tuple[EngineGroup, ...]:
        """The models that cameras share."""
        return self._pool.groups

    def watched(self) -> Iterator[Capture | EngineWorker]:
        """What may hang, for a watchdog."""
        for stream in tuple(self._streams.values()):
            if isinstance(stream, CameraStream) and stream.alive:
                yield stream.capture
        yield from self._pool.workers()

    def add_chore(self, chore: Callable[[], None]) -> None:
        """Call it while running, every 0.1 s or so, and once at the end. It returns soon: others wait, frames do not."""
        self._chores.append(chore)

    def open(self) -> None:
        """Load every model. Raises BundleError, EngineError, StageError or SourceFormatError with the stream's name."""
        try:
            for settings in self._settings:
                self._streams[settings.name] = self._made(settings)
        except BaseException:
            self.close()
            raise

    def run(self) -> list[StreamReport]:
        """Work until the end, once.

        A source that cannot be opened is told in its report; raises its EdgeError where that leaves nothing to do.
        """
        failures: list[EdgeError] = []
        for stream in self.streams:
            try:
                self._start(stream)
            except EdgeError as error:
                failures.append(error)
        if failures and not any(stream.alive for stream in self.streams):
            raise failures[0]
        for failure in failures:
            log.error("%s", failure)
        self._wait()
        return [stream.report for stream in self.streams]

    def stop(self) -> None:
        """Ask every stream to end after what it is doing now; safe from a signal handler and any thread."""
        self._stopped = True

    def lose_reader(self) -> None:
        """Nobody reads standard output any more: end in order; from any thread."""
        self.reader_gone = True
        self.stop()

    def close(self) -> None:
        """Let everything go that no thread is using; safe to call twice."""
        for stream in self.streams:
            if not stream.alive:
                stream.close()
        self._pool.close(JOIN_S)

    def __enter__(self) -> Runtime:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def alive(self, stream: Stream) -> bool:
        """Whether it is one of these, and at work."""
        return stream.alive and self._streams.get(stream.name) is stream

    def state(self, stream: Stream) -> State:
        if self.alive(stream):
            if stream.overrides.disabled:
                return "disabled"
            return "lost" if stream.lost else "running"
        return "failed" if stream.report.failed else "ended"

    def find(self, name: str, *, kind: str = "") -> Stream:
        """The stream of that name; kind: "camera" or "microphone", "" for either. Raises UsageError that names the nearest."""
        known = [each.name for each in self.streams if kind in {"", each.kind}]
        if name not in known:
            hint = nearest_hint(name, known) if known else "there is none"
            raise UsageError(f"there is no {kind or 'camera or microphone'} {name!r}", next_step=hint)
        return self._streams[name]

    def find_camera(self, name: str) -> CameraStream:
        """Raises UsageError that names the nearest."""
        stream = self.find(name, kind="camera")
        if not isinstance(stream, CameraStream):
            raise UsageError(f"{stream.label} is no camera")
        return stream

    def override(self, name: str, overrides: Overrides) -> None:
        """What commands change of a stream, from its next item on; it outlives `retry` and `apply`, not the process.

        Raises UsageError or StageError where it does not fit; nothing is changed then.
        """
        self.find(name).override(overrides)
        self._overrides[name] = overrides

    def retry(self, name: str) -> None:
        """Open the source of a stream that ended or failed, and run it again; a camera that is lost is tried at once.

        Raises UsageError where it runs, SourceError where the source cannot be opened.
        """
        stream = self.find(name)
        if self.alive(stream):
            if stream.retry_now():
                return
            raise UsageError(f"{stream.label} is {self.state(stream)}")
        again = self._made(stream.settings)
        again.go_on_from(stream)
        try:
            self._start(again)
        finally:
            self._streams[name] = again
            stream.close()

    def apply(self, streams: Iterable[CameraSettings | MicrophoneSettings]) -> Change:
        """Run these in place of what runs. Those that are equal in both are left alone; the others end, and begin anew.

        Every new model is loaded before anything ends. Raises BundleError, EngineError, StageError or SourceFormatError;
        nothing is changed then.
        """
        wanted = {each.name: each for each in streams}
        kept = [name for name, stream in self._streams.items() if wanted.get(name) == stream.settings]
        fresh: dict[str, Stream] = {}
        try:
            for name, settings in wanted.items():
                if name not in kept:
                    fresh[name] = self._made(settings)
        except BaseException:
            for stream in fresh.values():
                stream.close()
            raise
        leaving = [stream for name, stream in self._streams.items() if name not in kept]
        self._join(leaving)
        for stream in leaving:
            if not stream.alive:
                stream.close()
        self._streams = {name: fresh.get(name) or self._streams[name] for name in wanted}
        failed: dict[str, str] = {}
        for name, stream in fresh.items():
            try:
                self._start(stream)
            except EdgeError as error:
                log.error("%s", error)
                failed[name] = str(error)
        gone = tuple(stream.name for stream in leaving)
        return Change(tuple(kept), tuple(fresh), gone, failed)

    def report_replaced(
        self, worker: Capture | EngineWorker, doing: Doing, hung_s: float, replaced: int
    ) -> None:
        """Tell of a worker that was replaced; from any thread."""
        data: dict[str, JsonValue] = {
            "worker": worker.label,
            "doing": doing.what,
            "hung_s": round(hung_s, 1),
            "replaced": replaced,
        }
        self._happened.put(Event("worker_replaced", DEVICE_STREAM, time.monotonic() - self._began_s, data))

    def tell(self, events: Sequence[Event]) -> None:
        """Hand over events of the device itself."""
        self._deliver(events, self._own_report)

    def _made(self, settings: CameraSettings | MicrophoneSettings) -> Stream:
        stream: Stream
        self.heart(LOAD_S)
        with naming(f"{'camera' if isinstance(settings, CameraSettings) else 'microphone'} {settings.name}"):
            if isinstance(settings, CameraSettings):
                profile = self._host.profile if self._host is not None else None
                stream = CameraStream(settings, pool=self._pool, profile=profile, totals=self._totals)
            else:
                stream = MicrophoneStream(settings, threads=self._threads_of_engine, host=self._host)
        overrides = self._overrides.get(settings.name)
        if overrides is not None:
            try:
                stream.override(overrides)
            except EdgeError as error:  # of a stream that is another one now
                log.warning("what commands had changed of %s is void: %s", stream.label, error)
                del self._overrides[settings.name]
        return stream

    def _start(self, stream: Stream) -> None:
        """Raises the EdgeError of a source that cannot be opened, which is in the report then."""
        stream.start(self._deliver)
        log.info("%s runs %s", stream.label, stream.model)

    def _wait(self) -> None:
        while not self._stopped:
            running = next((stream for stream in self.streams if stream.alive), None)
            if running is None:
                break
            running.join(_POLL_S)
            self._do_chores()
        self._stopped = True
        self._join(self.streams)
        self._do_chores()

    def _join(self, streams: Sequence[Stream]) -> None:
        """Have them end, and wait for that, JOIN_S at most."""
        deadline_s = time.monotonic() + JOIN_S
        self.heart(JOIN_S)
        alive = [stream for stream in streams if stream.alive]
        for stream in alive:
            stream.end()
        for stream in alive:
            if not stream.join(max(0.0, deadline_s - time.monotonic())):
                # a native call that hangs cannot be ended: it is left behind, with its engine, and goes with the process
                stream.given_up = True
                stream.report.failed = f"did not stop within {JOIN_S:g} s"
                log.error("%s %s", stream.label, stream.report.failed)

    def _do_chores(self) -> None:
        self.heart(0.0)
        while not self._happened.empty():
            self.tell((self._happened.get_nowait(),))
        for chore in self._chores:
            try:
                chore()
            except Exception:  # what is told about the work must not end the work, nor fill the log
                if chore not in self._faulty:
                    self._faulty.append(chore)
                    log.exception("a chore failed by a fault of the program; said once")

    def _deliver(self, events: Sequence[Event], report: StreamReport) -> None:
        if len(events) > 1 and isinstance(self._sink, StoreAndForward):
            try:
                self._sink.send_many(events)  # one commit for all of a frame
            except SinkError:
                pass  # all or none: one is at fault, and the others shall not suffer for it
            else:
                report.events += len(events)
                return
        for event in events:
            try:
                self._sink.send(event)
                report.events += 1
            except SinkError as error:
                if isinstance(error.__cause__, BrokenPipeError):
                    self.reader_gone = True
                    self.stop()
                    return
                if not report.refused:
                    log.error("%s: an event could not be stored: %s", report.name, error)
                report.refused += 1
