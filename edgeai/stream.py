"""One camera or microphone at work: its source, its pipeline, and what it did."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from edgeai.bundle import load_bundle
from edgeai.config import CameraSettings, MicrophoneSettings
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError, SourceError
from edgeai.pipeline import CameraPipeline, VoicePipeline, keyword_event, padded
from edgeai.sources import Source, open_camera
from edgeai.sources.audio import is_microphone, open_audio
from edgeai.sources.image_folder import ImageFolder
from edgeai.sources.latest import Latest
from edgeai.types import Event, Frame, JsonValue

T = TypeVar("T")

# how long a reader that hangs in a native call may hold up the end of the others
_JOIN_S = 0.5


@dataclass
class StreamReport:
    """What one stream did. Only its own thread writes to it while that lives.

    frames: frames or chunks that went through the pipeline. dropped: frames that came too fast. events: those that
    the sink took; refused: those that it did not. failed: why the stream ended, "" where its source came to its end or
    it was stopped. totals: of each rule, by its name.
    """

    name: str
    frames: int = 0
    dropped: int = 0
    events: int = 0
    refused: int = 0
    failed: str = ""
    totals: dict[str, JsonValue] = field(default_factory=dict)


Deliver: TypeAlias = Callable[[Sequence[Event], StreamReport], None]
"""Hands events on and counts them in the report; never raises an EdgeError."""
Stopped: TypeAlias = Callable[[], bool]
"""Whether the stream shall end; asked before every frame and chunk."""


class Stream(ABC):
    """A model that is loaded and a source that is not yet open. `work` and `close` belong to one thread.

    label: what it is and its name, as in "camera gate". model: the bundle, what runs it, and why that.
    """

    def __init__(self, kind: str, name: str, pipeline: CameraPipeline | VoicePipeline) -> None:
        self.label = f"{kind} {name}"
        engine = pipeline.engine
        self.model = f"{pipeline.name} on {engine.label}, {engine.reason}"
        self.report = StreamReport(name)

    @abstractmethod
    def open_source(self) -> None:
        """Begin capturing. Raises SourceError and its children."""

    @abstractmethod
    def work(self, deliver: Deliver, stopped: Stopped) -> None:
        """Until the source ends or `stopped()`. Raises what source and engine raise."""

    @abstractmethod
    def interrupt(self) -> None:
        """Wake `work` out of waiting for a live source; the one call that any thread may make."""

    @abstractmethod
    def close(self) -> None:
        """Let source and engine go; safe to call twice, never while `work` runs."""


class CameraStream(Stream):
    """A camera's way to events."""

    def __init__(self, settings: CameraSettings, *, threads: int, host: EngineHost | None = None) -> None:
        """Raises BundleError, EngineError, StageError, or SourceFormatError for an address of an unknown kind."""
        source = open_camera(settings.source, stream=settings.name, realtime=settings.realtime)
        # pictures have no pace: the newest would win over all others at once
        live = settings.realtime and not isinstance(source, ImageFolder)
        self._latest = Latest(source, join_s=_JOIN_S) if live else None
        self._source: Source[Frame] = self._latest or source
        self._pipeline = CameraPipeline(
            load_bundle(settings.model),
            rules=settings.rules,
            tracker=settings.tracker,
            engine=settings.engine,
            host=host,
            threads=threads,
            score_threshold=settings.score_threshold,
        )
        super().__init__("camera", settings.name, self._pipeline)

    def open_source(self) -> None:
        self._source.open()

    def work(self, deliver: Deliver, stopped: Stopped) -> None:
        pipeline, report = self._pipeline, self.report
        failure: SourceError | None = None
        try:
            try:
                for frame in _until(stopped, self._source):
                    seen = pipeline.process(frame)
                    report.frames += 1
                    deliver(seen.events, report)
            except SourceError as error:  # the tracks end with their camera, and that is told
                failure = error
            deliver(pipeline.flush(), report)
        finally:
            report.dropped = self._latest.dropped if self._latest else 0
            report.totals = {rule.settings.name: rule.totals() for rule in pipeline.rules}
        if failure is not None:
            raise failure

    def interrupt(self) -> None:
        # a file that is read without Latest is asked between frames: its native reader must not be closed under it
        if self._latest is not None:
            self._latest.close()

    def close(self) -> None:
        self._source.close()
        self._pipeline.close()


class MicrophoneStream(Stream):
    """A microphone's, or a sound file's, way to keyword events."""

    def __init__(self, settings: MicrophoneSettings, *, threads: int, host: EngineHost | None = None) -> None:
        """Raises BundleError, EngineError, StageError, or SourceError for an address of an unknown kind."""
        self._pipeline = VoicePipeline(
            load_bundle(settings.model),
            engine=settings.engine,
            host=host,
            threads=threads,
            threshold=settings.threshold,
        )
        self._live = is_microphone(settings.source)
        with contextlib.ExitStack() as undo:
            undo.callback(self._pipeline.close)
            self._source = open_audio(
                settings.source, stream=settings.name, sample_rate_hz=self._pipeline.spec.sample_rate_hz
            )
            undo.pop_all()
        super().__init__("microphone", settings.name, self._pipeline)

    def open_source(self) -> None:
        self._source.open()

    def work(self, deliver: Deliver, stopped: Stopped) -> None:
        pipeline, report = self._pipeline, self.report
        chunks = iter(self._source) if self._live else padded(iter(self._source), pipeline.window_s / 2)
        for chunk in _until(stopped, chunks):
            heard = pipeline.process(chunk)
            report.frames += 1
            deliver([keyword_event(keyword, report.name) for keyword in heard], report)

    def interrupt(self) -> None:
        if self._live:
            self._source.close()

    def close(self) -> None:
        self._source.close()
        self._pipeline.close()


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Put `what`, as in "camera gate", before the message of an EdgeError that passes."""
    try:
        yield
    except EdgeError as error:
        error.args = (f"{what}: {error}",)
        raise


def _until(stopped: Stopped, items: Iterable[T]) -> Iterator[T]:
    for item in items:
        if stopped():
            return
        yield item
