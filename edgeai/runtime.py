"""A device at work: a thread for each camera and microphone, one sink for all of them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from edgeai.bundle import load_bundle
from edgeai.config import CameraSettings, Config, MicrophoneSettings
from edgeai.errors import EdgeError, SinkError
from edgeai.pipeline import CameraPipeline, VoicePipeline, keyword_event
from edgeai.sinks.sink import Sink
from edgeai.sources import open_camera
from edgeai.sources.latest import Latest
from edgeai.types import Event

log = logging.getLogger("edgeai")
JOIN_S = 5.0
T = TypeVar("T")


@dataclass
class StreamReport:
    """What one stream did. failed: why it ended, "" where its source came to its end or it was stopped."""

    name: str
    frames: int = 0
    dropped: int = 0
    events: int = 0
    refused: int = 0
    failed: str = ""
    totals: dict[str, object] = field(default_factory=dict)


class Runtime:
    """Runs a configuration until its sources end or `stop` is called. One stream's failure leaves the others alone."""

    def __init__(self, config: Config, sink: Sink) -> None:
        self._config = config
        self._sink = sink
        self._stop = threading.Event()
        names = [camera.name for camera in config.cameras] + [each.name for each in config.microphones]
        self.reports = [StreamReport(name) for name in names]

    def stop(self) -> None:
        """Ask every stream to end after what it is doing now; safe from a signal handler."""
        self._stop.set()

    def run(self) -> list[StreamReport]:
        """Work until the end; raises EdgeError where a model or source cannot be opened at the start."""
        with contextlib.ExitStack() as stack:
            reports = iter(self.reports)
            work = [self._camera(stack, camera, next(reports)) for camera in self._config.cameras]
            work += [self._microphone(stack, each, next(reports)) for each in self._config.microphones]
            threads = [
                threading.Thread(target=self._guard, args=(task, report), name=report.name, daemon=True)
                for task, report in zip(work, self.reports, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    # a bounded wait, so that signals are handled in between
                    thread.join(0.2)
                    if self._stop.is_set():
                        thread.join(JOIN_S)
                        break
        return self.reports

    def _camera(
        self, stack: contextlib.ExitStack, settings: CameraSettings, report: StreamReport
    ) -> Callable[[], None]:
        pipeline = stack.enter_context(
            CameraPipeline(
                load_bundle(settings.model),
                rules=settings.rules,
                tracker=settings.tracker,
                engine=settings.engine,
                threads=self._config.threads,
                score_threshold=settings.score_threshold,
            )
        )
        source = open_camera(settings.source, stream=settings.name, realtime=settings.realtime)
        latest = Latest(source) if settings.realtime else None
        frames = stack.enter_context(latest or source)

        def work() -> None:
            try:
                for frame in self._until_stopped(iter(frames)):
                    seen = pipeline.process(frame)
                    report.frames += 1
                    self._send(seen.events, report)
            finally:
                report.dropped = latest.dropped if latest else 0
                report.totals = {rule.settings.name: rule.totals() for rule in pipeline.rules}

        return work

    def _microphone(
        self, stack: contextlib.ExitStack, settings: MicrophoneSettings, report: StreamReport
    ) -> Callable[[], None]:
        from edgeai.sources.audio import open_audio

        pipeline = stack.enter_context(
            VoicePipeline(
                load_bundle(settings.model),
                engine=settings.engine,
                threads=self._config.threads,
                threshold=settings.threshold,
            )
        )
        source = open_audio(
            settings.source, stream=settings.name, sample_rate_hz=pipeline.spec.sample_rate_hz
        )
        chunks = stack.enter_context(source)

        def work() -> None:
            for chunk in self._until_stopped(iter(chunks)):
                heard = pipeline.process(chunk)
                report.frames += 1
                self._send([keyword_event(keyword, settings.name) for keyword in heard], report)

        return work

    def _until_stopped(self, items: Iterator[T]) -> Iterator[T]:
        for item in items:
            if self._stop.is_set():
                return
            yield item

    def _send(self, events: tuple[Event, ...] | list[Event], report: StreamReport) -> None:
        for event in events:
            try:
                self._sink.send(event)
                report.events += 1
            except SinkError as error:
                if not report.refused:
                    log.error("%s: an event could not be stored: %s", report.name, error)
                report.refused += 1

    def _guard(self, work: Callable[[], None], report: StreamReport) -> None:
        try:
            work()
        except EdgeError as error:
            report.failed = str(error)
            log.error("%s ended: %s", report.name, error)
        except Exception as error:
            report.failed = f"{type(error).__name__}: {error}"
            log.exception("%s ended by a fault of the program", report.name)
