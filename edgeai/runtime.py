"""A device at work: a thread for each camera and microphone, one sink for all of them."""

from __future__ import annotations

import logging
import threading
import time
import types
from collections.abc import Sequence

from edgeai.config import Config
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError, SinkError, SourceError
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.stream import CameraStream, MicrophoneStream, Stream, StreamReport, naming
from edgeai.types import Event

log = logging.getLogger("edgeai")

JOIN_S = 5.0
_POLL_S = 0.1  # bounded, so that signals are handled in between


class Runtime:
    """Runs a configuration until its sources end or `stop` is called. One stream's failure leaves the others alone.

    `with` loads every model, and closes what no thread uses any more: an engine is only ever closed after the last
    call into it, by the thread that made it.
    """

    def __init__(self, config: Config, sink: Sink, *, host: EngineHost | None = None) -> None:
        self._config = config
        self._host = host
        self._sink = sink
        # a plain flag, no Event: a signal handler that sets one can meet its lock held by the code it interrupted
        self._stopped = False
        self._streams: list[Stream] = []
        self._threads: dict[str, threading.Thread] = {}
        self.reader_gone = False
        """Whether the run was ended because nobody reads standard output any more."""

    def open(self) -> None:
        """Load every model. Raises BundleError, EngineError, StageError or SourceFormatError with the stream's name."""
        threads = self._config.threads
        try:
            for camera in self._config.cameras:
                with naming(f"camera {camera.name}"):
                    self._streams.append(CameraStream(camera, threads=threads, host=self._host))
            for microphone in self._config.microphones:
                with naming(f"microphone {microphone.name}"):
                    self._streams.append(MicrophoneStream(microphone, threads=threads, host=self._host))
        except BaseException:
            self.close()
            raise

    def run(self) -> list[StreamReport]:
        """Work until the end, once.

        A source that cannot be opened is told in its report; raises its EdgeError where that leaves nothing to do.
        """
        failures: list[EdgeError] = []
        for stream in self._streams:
            try:
                with naming(stream.label):
                    stream.open_source()
            except EdgeError as error:
                stream.report.failed = str(error)
                failures.append(error)
            else:
                thread = threading.Thread(
                    target=self._work, args=(stream,), name=stream.report.name, daemon=True
                )
                self._threads[stream.report.name] = thread
                log.info("%s runs %s", stream.label, stream.model)
                thread.start()
        if failures and not self._threads:
            raise failures[0]
        for failure in failures:
            log.error("%s", failure)
        self._wait()
        return [stream.report for stream in self._streams]

    def stop(self) -> None:
        """Ask every stream to end after what it is doing now; safe from a signal handler and any thread."""
        self._stopped = True

    def close(self) -> None:
        """Let everything go that no thread is using; safe to call twice."""
        for stream in self._streams:
            if not self._alive(stream):
                stream.close()

    def __enter__(self) -> Runtime:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def _alive(self, stream: Stream) -> bool:
        thread = self._threads.get(stream.report.name)
        return thread is not None and thread.is_alive()

    def _wait(self) -> None:
        while not self._stopped and any(thread.is_alive() for thread in self._threads.values()):
            for thread in self._threads.values():
                if thread.is_alive():
                    thread.join(_POLL_S)
                    break
        deadline_s = time.monotonic() + JOIN_S
        alive = [stream for stream in self._streams if self._alive(stream)]
        for stream in alive:
            stream.interrupt()
        for stream in alive:
            self._threads[stream.report.name].join(max(0.0, deadline_s - time.monotonic()))
            if self._alive(stream):
                # a native call that hangs cannot be ended: it is left behind, with its engine, and goes with the process
                stream.report.failed = f"did not stop within {JOIN_S:g} s"
                log.error("%s %s", stream.label, stream.report.failed)

    def _work(self, stream: Stream) -> None:
        report = stream.report
        try:
            try:
                stream.work(self._deliver, lambda: self._stopped)
            finally:
                stream.close()
        except EdgeError as error:
            if self._stopped and isinstance(
                error, SourceError
            ):  # closing the source under it is how it was woken
                log.debug("%s at its end: %s", stream.label, error)
                return
            report.failed = str(error)
            log.error("%s ended: %s", stream.label, error)
        except Exception as error:
            report.failed = f"{type(error).__name__}: {error}"
            log.exception("%s ended by a fault of the program", stream.label)

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
