"""What all cameras and microphones at work have in common."""

from __future__ import annotations

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from edgeai.config import CameraSettings, MicrophoneSettings
from edgeai.errors import EdgeError, SourceError
from edgeai.metrics import Latencies
from edgeai.types import Event, JsonValue

log = logging.getLogger("edgeai")

TOTALS_EVERY_S: Final = 1.0

State: TypeAlias = Literal["running", "lost", "ended", "failed", "disabled"]


@dataclass
class StreamReport:
    """What one stream did. Only its own thread writes to it while that lives.

    frames: frames or chunks that went through the pipeline. dropped: frames that came too fast. events: those that
    the sink took; refused: those that it did not. failed: why the stream ended, "" where its source came to its end or
    it was stopped. totals: of each rule, by its name. left_out: items that were not processed, by reason, those that came too fast
    among them. spared_s: what the model would have taken for the frames on which nothing moved, about.
    """

    name: str
    frames: int = 0
    dropped: int = 0
    events: int = 0
    refused: int = 0
    failed: str = ""
    totals: dict[str, JsonValue] = field(default_factory=dict)
    left_out: dict[str, JsonValue] = field(default_factory=dict)
    spared_s: float = 0.0


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


class Stream(ABC):
    """A model that is loaded and a source that is not yet open. `start`, `join` and `close` belong to the thread that made
    it, the work to threads of its own; what commands change is asked for by any, and done before the next item.

    label: what it is and its name, as in "camera gate". model: the bundle, what runs it, and why that.
    bundle: its name and version. time_s: of the newest item, on the stream's clock. latencies: of the newest items.
    totals: of the rules, a second old at most.
    """

    kind: Literal["camera", "microphone"]

    def __init__(
        self,
        settings: CameraSettings | MicrophoneSettings,
        *,
        bundle: str,
        name: str,
        engine: str,
        reason: str,
    ) -> None:
        """bundle: its name and version; name: its name alone. engine, reason: what runs it, and why that."""
        self.settings = settings
        self.label = f"{self.kind} {settings.name}"
        self.bundle = bundle
        self.model = f"{name} on {engine}, {reason}"
        self.report = StreamReport(settings.name)
        self.time_s = 0.0
        self.latencies = Latencies()
        self.totals: dict[str, JsonValue] = {}
        self.overrides = Overrides()
        self.ending = False
        """Whether `end` was called."""
        self.given_up = False
        """Whether it did not end when it should have: what it counts is not kept any more, another may count in its name."""
        self._changes: deque[Callable[[], None]] = deque()
        self._begun = False
        self._over = threading.Event()
        self._deliver_to: Deliver = lambda events, report: None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def alive(self) -> bool:
        """Whether it was started and has not come to its end."""
        return self._begun and not self._over.is_set()

    @property
    def lost(self) -> bool:
        """Whether its source is away, and tried again and again."""
        return False

    def start(self, deliver: Deliver) -> None:
        """Open the source and work until it ends, or `end`. Raises SourceError and its children where it cannot be opened."""
        self._deliver_to = deliver
        try:
            with naming(self.label):
                self._start()
        except EdgeError as error:
            self.report.failed = str(error)
            self._over.set()
            raise
        self._begun = True

    @abstractmethod
    def _start(self) -> None:
        """Open the source and have the work begin."""

    def join(self, timeout_s: float) -> bool:
        """Wait for its end so long; False where it did not come."""
        return not self._begun or self._over.wait(timeout_s)

    def end(self) -> None:
        """Make it end after what it is doing now; safe from any thread."""
        self.ending = True

    @abstractmethod
    def close(self) -> None:
        """Let source and engine go; safe to call twice, never while it is alive."""

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
        self._change(lambda: self._apply(overrides))

    def _change(self, change: Callable[[], None]) -> None:
        """Have it done between two items, by whoever works on them."""
        self._changes.append(change)

    @abstractmethod
    def _apply(self, overrides: Overrides) -> None:
        """Between two items."""

    def retry_now(self) -> bool:
        """Try to reach a lost source at once; False where it is not lost."""
        return False

    def go_on_from(self, before: Stream) -> None:
        """Count on from where an earlier run of the same stream ended."""
        was = before.report
        self.report.frames, self.report.dropped = was.frames, was.dropped
        self.report.events, self.report.refused = was.events, was.refused

    def _deliver(self, events: Sequence[Event]) -> None:
        if events:
            self._deliver_to(events, self.report)

    def _do_changes(self) -> None:
        while self._changes:
            self._changes.popleft()()

    def _conclude(self, error: BaseException | None) -> None:
        """The end has come, for this reason; once."""
        if isinstance(error, EdgeError):
            if self.ending and isinstance(
                error, SourceError
            ):  # closing the source under it is how it was woken
                log.debug("%s at its end: %s", self.label, error)
            else:
                self.report.failed = str(error)
                log.error("%s ended: %s", self.label, error)
        elif error is not None:
            self.report.failed = f"{type(error).__name__}: {error}"
            log.error("%s ended by a fault of the program", self.label, exc_info=error)
        self._over.set()


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Put `what`, as in "camera gate", before the message of an EdgeError that passes."""
    try:
        yield
    except EdgeError as error:
        error.args = (f"{what}: {error}",)
        raise
