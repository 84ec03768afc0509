"""One camera or microphone at work: its source, its pipeline, and what it did."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from edgeai.bundle import load_bundle
from edgeai.config import CameraSettings, MicrophoneSettings
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError, SourceError, StageError, UsageError
from edgeai.faults import nearest_hint
from edgeai.metrics import Latencies
from edgeai.pipeline import CameraPipeline, VoicePipeline, keyword_event, padded
from edgeai.sources import Source, open_camera
from edgeai.sources.audio import is_microphone, open_audio
from edgeai.sources.image_folder import ImageFolder
from edgeai.sources.latest import Latest
from edgeai.types import Event, Frame, JsonValue

T = TypeVar("T")

# how long a reader that hangs in a native call may hold up the end of the others
_JOIN_S = 0.5
TOTALS_EVERY_S: Final = 1.0

State: TypeAlias = Literal["running", "ended", "failed", "disabled"]


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


@dataclass(frozen=True, slots=True)
class Overrides:
    """What commands changed of a stream, until the process ends. rules: those that are disabled. threshold: in place of
    the configuration's and the bundle's.
    """

    disabled: bool = False
    rules: frozenset[str] = frozenset()
    threshold: float | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """Only what differs from the configuration."""
        told: dict[str, JsonValue] = {}
        if self.disabled:
            told["disabled"] = True
        if self.rules:
            told["disabled_rules"] = [*sorted(self.rules)]
        if self.threshold is not None:
            told["threshold"] = self.threshold
        return told


Deliver: TypeAlias = Callable[[Sequence[Event], StreamReport], None]
"""Hands events on and counts them in the report; never raises an EdgeError."""
Stopped: TypeAlias = Callable[[], bool]
"""Whether the stream shall end; asked before every frame and chunk."""


class Stream(ABC):
    """A model that is loaded and a source that is not yet open. `work` and `close` belong to one thread; what commands
    change is asked for by any other, and done by that one before its next item.

    label: what it is and its name, as in "camera gate". model: the bundle, what runs it, and why that.
    bundle: its name and version. time_s: of the newest item, on the stream's clock. latencies: of the newest items.
    totals: of the rules, a second old at most.
    """

    kind: Literal["camera", "microphone"]

    def __init__(
        self, settings: CameraSettings | MicrophoneSettings, pipeline: CameraPipeline | VoicePipeline
    ) -> None:
        self.settings = settings
        self.label = f"{self.kind} {settings.name}"
        engine = pipeline.engine
        self.bundle = pipeline.bundle_id
        self.model = f"{pipeline.name} on {engine.label}, {engine.reason}"
        self.report = StreamReport(settings.name)
        self.time_s = 0.0
        self.latencies = Latencies()
        self.totals: dict[str, JsonValue] = {}
        self.overrides = Overrides()
        self._dropped_before = 0
        self._changes: deque[Callable[[Deliver], None]] = deque()
        self.ending = False
        """Whether `end` was called."""

    @property
    def name(self) -> str:
        return self.settings.name

    @abstractmethod
    def open_source(self) -> None:
        """Begin capturing. Raises SourceError and its children."""

    @abstractmethod
    def work(self, deliver: Deliver, stopped: Stopped) -> None:
        """Until the source ends or `stopped()`, or after `end`. Raises what source and engine raise."""

    @abstractmethod
    def interrupt(self) -> None:
        """Wake `work` out of waiting for a live source; any thread may call it."""

    @abstractmethod
    def close(self) -> None:
        """Let source and engine go; safe to call twice, never while `work` runs."""

    @abstractmethod
    def dropped(self) -> dict[str, JsonValue]:
        """Items that were not processed so far, by reason."""

    @abstractmethod
    def check(self, overrides: Overrides) -> None:
        """Raise UsageError or StageError where they do not fit this stream."""

    def override(self, overrides: Overrides) -> None:
        """Take the place of the overrides there are, from the next item on. Raises as `check`; nothing is changed then."""
        self.check(overrides)
        self.overrides = overrides
        self._changes.append(lambda deliver: self._apply(overrides, deliver))

    @abstractmethod
    def _apply(self, overrides: Overrides, deliver: Deliver) -> None:
        """On the stream's own thread."""

    def end(self) -> None:
        """Make `work` end after what it is doing now."""
        self.ending = True

    def go_on_from(self, before: Stream) -> None:
        """Count on from where an earlier run of the same stream ended; not what its rules counted."""
        was = before.report
        self.report.frames, self.report.dropped = was.frames, was.dropped
        self.report.events, self.report.refused = was.events, was.refused
        self._dropped_before = was.dropped

    def _items(self, stopped: Stopped, items: Iterable[T], deliver: Deliver) -> Iterator[T]:
        """Items until the end, the changes that were asked for done before each."""
        for item in items:
            if self.ending or stopped():
                return
            while self._changes:
                self._changes.popleft()(deliver)
            yield item


class CameraStream(Stream):
    """A camera's way to events."""

    kind = "camera"
    settings: CameraSettings

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
        self._disabled = False
        self._skipped = 0
        self._totals_due_s = 0.0
        self._wanted: deque[Callable[[Frame], None]] = deque()
        super().__init__(settings, self._pipeline)

    def open_source(self) -> None:
        self._source.open()

    def work(self, deliver: Deliver, stopped: Stopped) -> None:
        pipeline, report = self._pipeline, self.report
        failure: SourceError | None = None
        try:
            try:
                for frame in self._items(stopped, self._source, deliver):
                    if self._disabled:  # read on, so that a live source does not hang up
                        self._skipped += 1
                        continue
                    self.time_s = frame.time_s
                    began_s = time.perf_counter()
                    seen = pipeline.process(frame)
                    now_s = time.perf_counter()
                    self.latencies.add(now_s - began_s)
                    report.frames += 1
                    deliver(seen.events, report)
                    while self._wanted:
                        self._wanted.popleft()(frame)
                    if now_s >= self._totals_due_s:
                        self._totals_due_s = now_s + TOTALS_EVERY_S
                        self.totals = self._count()
            except SourceError as error:  # the tracks end with their camera, and that is told
                failure = error
            deliver(pipeline.flush(), report)
        finally:
            report.dropped = self._too_fast
            self.totals = report.totals = self._count()
        if failure is not None:
            raise failure

    def interrupt(self) -> None:
        # a file that is read without Latest is asked between frames: its native reader must not be closed under it
        if self._latest is not None:
            self._latest.close()

    def close(self) -> None:
        self._source.close()
        self._pipeline.close()

    def dropped(self) -> dict[str, JsonValue]:
        told: dict[str, JsonValue] = {"too_fast": self._too_fast}
        if self._skipped:
            told["disabled"] = self._skipped
        return told

    def check(self, overrides: Overrides) -> None:
        known = [rule.name for rule in self.settings.rules]
        for name in sorted(overrides.rules.difference(known)):
            hint = nearest_hint(name, known) if known else "it has none"
            raise StageError(f"{self.label} has no rule {name!r}", next_step=hint)
        if overrides.threshold is not None and not 0 < overrides.threshold < 1:
            raise UsageError(f"a camera's threshold must be between 0 and 1, is {overrides.threshold:g}")

    def want_frame(self, take: Callable[[Frame], None]) -> None:
        """Hand over the next frame that is processed, whose picture nobody changes; `take` returns at once."""
        self._wanted.append(take)

    def forget_frame(self, take: Callable[[Frame], None]) -> None:
        """Take a `want_frame` back that nobody waits for any more."""
        with contextlib.suppress(ValueError):
            self._wanted.remove(take)

    @property
    def _too_fast(self) -> int:
        return self._dropped_before + (self._latest.dropped if self._latest else 0)

    def _apply(self, overrides: Overrides, deliver: Deliver) -> None:
        pipeline = self._pipeline
        threshold = self.settings.score_threshold if overrides.threshold is None else overrides.threshold
        pipeline.set_score_threshold(threshold)
        for rule in self.settings.rules:
            deliver(pipeline.set_rule_enabled(rule.name, rule.name not in overrides.rules), self.report)
        if overrides.disabled and not self._disabled:
            deliver(pipeline.flush(), self.report)
            self.totals = self._count()
        self._disabled = overrides.disabled

    def _count(self) -> dict[str, JsonValue]:
        return {rule.settings.name: rule.totals() for rule in self._pipeline.rules}


class MicrophoneStream(Stream):
    """A microphone's, or a sound file's, way to keyword events."""

    kind = "microphone"
    settings: MicrophoneSettings

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
        super().__init__(settings, self._pipeline)

    def open_source(self) -> None:
        self._source.open()

    def work(self, deliver: Deliver, stopped: Stopped) -> None:
        pipeline, report = self._pipeline, self.report
        chunks = iter(self._source) if self._live else padded(iter(self._source), pipeline.window_s / 2)
        for chunk in self._items(stopped, chunks, deliver):
            self.time_s = chunk.start_s
            began_s = time.perf_counter()
            heard = pipeline.process(chunk)
            self.latencies.add(time.perf_counter() - began_s)
            report.frames += 1
            deliver([keyword_event(keyword, report.name) for keyword in heard], report)

    def interrupt(self) -> None:
        if self._live:
            self._source.close()

    def close(self) -> None:
        self._source.close()
        self._pipeline.close()

    def dropped(self) -> dict[str, JsonValue]:
        return {}

    def check(self, overrides: Overrides) -> None:
        if overrides.disabled or overrides.rules:
            raise UsageError(f"{self.label} is no camera: it cannot be disabled")
        if overrides.threshold is not None and not 0 < overrides.threshold <= 1:
            raise UsageError(
                f"a microphone's threshold must be above 0 and at most 1, is {overrides.threshold:g}"
            )

    def _apply(self, overrides: Overrides, deliver: Deliver) -> None:
        threshold = self.settings.threshold if overrides.threshold is None else overrides.threshold
        self._pipeline.set_threshold(threshold)


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Put `what`, as in "camera gate", before the message of an EdgeError that passes."""
    try:
        yield
    except EdgeError as error:
        error.args = (f"{what}: {error}",)
        raise
