"""A camera at work: its capture, its turns at the engine it shares with others, and what it did."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from edgeai.bundle import load_bundle
from edgeai.config import CameraSettings
from edgeai.connection_events import connection_event
from edgeai.errors import SourceError, SourceFormatError, StageError, UsageError
from edgeai.faults import nearest_hint
from edgeai.metrics import StageTimes
from edgeai.pipeline import CameraSteps, Prepared, Seen
from edgeai.profile import Profile
from edgeai.pulse import Pulse
from edgeai.schedule.group import Outputs
from edgeai.schedule.pool import EnginePool
from edgeai.sources import CameraRequest, Source, open_camera
from edgeai.sources.capture import Capture, Taken
from edgeai.sources.connection import ConnectionFacts
from edgeai.sources.image_folder import ImageFolder
from edgeai.sources.reconnect import GRACE_S, Reconnecting
from edgeai.sources.stills import TimedStills
from edgeai.store import TotalsStore
from edgeai.stream.frames import captured_at, of_stills
from edgeai.stream.stream import TOTALS_EVERY_S, Overrides, Stream, log
from edgeai.types import Array, Event, Frame, JsonValue

_MAX_BAD_IN_A_ROW: Final = 100


@dataclass(frozen=True, slots=True)
class _Begun:
    """A frame whose picture is with the engine."""

    taken: Taken
    ready: Prepared
    began_s: float


class CameraStream(Stream):
    """A camera's way to events: a capture thread of its own, and turns at an engine of the pool.

    request: how its source is read.
    """

    kind = "camera"
    settings: CameraSettings

    def __init__(
        self,
        settings: CameraSettings,
        *,
        pool: EnginePool,
        profile: Profile | None = None,
        totals: TotalsStore | None = None,
    ) -> None:
        """profile: of this device. totals: what its rules counted before, and where they put what they count. Raises BundleError, EngineError, StageError, or SourceFormatError for an address of an
        unknown kind.
        """
        self.request = CameraRequest(
            settings.name,
            realtime=settings.realtime,
            max_fps=settings.max_fps,
            capture=settings.capture,
            login=settings.login,
            profile=profile,
        )
        self.settings = settings
        self.label = f"camera {settings.name}"
        plain = self._driver()
        self._stills = settings.capture.every_s is not None
        if self._stills and not plain.live:
            raise SourceFormatError(
                "capture.every_s is for cameras, its source is a file",
                next_step="leave it out, or name a camera",
            )
        self._live = plain.live
        # pictures have no pace: the newest would win over all others at once
        paced = plain.live or (settings.realtime and not isinstance(plain, ImageFolder))
        self._connection: ConnectionFacts | None = None
        self._lost_since_s = 0.0
        self._capture = Capture(self._source, label=self.label, every=not paced, wake=self._wake)
        bundle = load_bundle(settings.model)
        self._steps = CameraSteps(
            bundle,
            rules=settings.rules,
            tracker=of_stills(settings.tracker) if self._stills else settings.tracker,
            motion=None if self._stills else settings.motion,
            score_threshold=settings.score_threshold,
        )
        self._dropped: Counter[str] = Counter()
        self._before: dict[str, int] = {}
        self._disabled = False
        self._totals_due_s = 0.0
        self._wanted: deque[Callable[[Frame], None]] = deque()
        self._at_engine: _Begun | None = None
        self._bad_in_a_row = 0
        self._store = totals or TotalsStore(None)
        self._pool = pool
        self._group = pool.lease(bundle, settings.engine)
        self._leased = True
        super().__init__(
            settings,
            bundle=self._steps.bundle_id,
            name=bundle.name,
            engine=self._group.engine_label,
            reason=self._group.engine_reason,
        )

    @property
    def capture(self) -> Capture:
        """For a watchdog."""
        return self._capture

    @property
    def times(self) -> StageTimes:
        """Of each stage of its frames."""
        return self._steps.times

    def _driver(self, expect: Callable[[float], None] | None = None) -> Source[Frame]:
        request = self.request if expect is None else replace(self.request, expect=expect)
        return open_camera(self.settings.source, request=request)

    def _source(self, pulse: Pulse) -> Source[Frame]:
        """What the capture reads: a live source with what brings it back."""
        if not self._live:
            return self._driver()

        def make() -> Source[Frame]:
            # one that reads ten frames for each that it gives, or waits between two, says so, and is not taken for hung
            return self._driver(lambda step_s: pulse.begin("reading the camera", step_s + GRACE_S))

        wrapper = TimedStills if self._stills else Reconnecting
        return wrapper(
            make,
            label=self.label,
            capture=self.settings.capture,
            pulse=pulse,
            on_change=self._connection_changed,
        )

    def _connection_changed(self, facts: ConnectionFacts) -> None:
        """Called by the capture's thread; what comes of it is told between two frames."""
        before, self._connection = self._connection, facts
        self._change(lambda: self._tell_connection(before, facts))

    def _tell_connection(self, before: ConnectionFacts | None, facts: ConnectionFacts) -> None:
        event = connection_event(
            before, facts, stream=self.name, time_s=self.time_s, lost_s=facts.since_s - self._lost_since_s
        )
        if event is None:
            return
        if event.type == "camera_lost":
            self._lost_since_s = facts.since_s
            self._flush()  # the tracks end with their camera, and that is told
        self._deliver([event])

    @property
    def connection(self) -> ConnectionFacts | None:
        """How a live source's connection is; None for files."""
        return self._connection

    @property
    def lost(self) -> bool:
        facts = self._connection
        return facts is not None and facts.lost

    def retry_now(self) -> bool:
        source = self._capture.source
        if not isinstance(source, Reconnecting) or not (self.lost or self._stills):
            return False
        source.retry_now()
        return True

    def _wake(self) -> None:
        self._group.wake()

    def _change(self, change: Callable[[], None]) -> None:
        super()._change(change)
        self._wake()

    def _start(self) -> None:
        self._count_on()
        self._capture.open()
        self._group.add(self)

    def end(self) -> None:
        super().end()
        self._capture.cancel()
        self._wake()

    def close(self) -> None:
        self._capture.close()
        if self._leased:
            self._leased = False
            self._group.remove(self)
            self._pool.give_back(self._group)

    # a Job of its group ------------------------------------------------------------------------------------

    def ready(self) -> bool:
        if self._over.is_set():
            return False
        return self._capture.ready or bool(self._changes) or self.ending or self._capture.over

    def begin(self) -> Array | None:
        self._do_changes()
        if self.ending or self._capture.over:
            self._finish(self._capture.error)
            return None
        taken = self._capture.take()
        if taken is None:
            return None
        frame, began_s = taken.frame, time.perf_counter()
        self.times.stages["wait"].add(max(0.0, time.monotonic() - taken.arrived_s))
        if self._disabled:  # read on, so that a live source does not hang up
            self._dropped["disabled"] += 1
            return None
        self.time_s = frame.time_s
        try:
            if not self._steps.moves(frame):
                self._dropped["no_motion"] += 1
                self._tell(taken, self._steps.skip(frame))
                return None
            ready = self._steps.prepare(frame)
        except StageError as fault:
            self._leave_out(fault)
            return None
        self._bad_in_a_row = 0
        self._at_engine = _Begun(taken, ready, began_s)
        return ready.picture

    def finish(self, outputs: Outputs, engine_s: float) -> None:
        begun, self._at_engine = self._at_engine, None
        if begun is None:
            return
        self.times.stages["engine"].add(engine_s)
        seen = self._steps.finish(begun.taken.frame, outputs, begun.ready.placement)
        self.report.frames += 1
        if self._stills:
            seen = self._alone(seen)
        self._tell(begun.taken, seen)
        self.latencies.add(time.perf_counter() - begun.began_s)

    def lose(self, reason: str) -> None:
        self._at_engine = None
        self._dropped[reason] += 1

    def fail(self, error: Exception) -> None:
        if not self._over.is_set():
            self._settle()
            self._conclude(error)

    # ---------------------------------------------------------------------------------------------------------

    def _alone(self, seen: Seen) -> Seen:
        """A still stands for itself: what is on it is counted, and no track leads to the next one."""
        counts = Counter(self._steps.labels[each] for each in seen.found.class_ids.tolist())
        told = Event("still_taken", self.name, seen.frame.time_s, {"counts": {**counts}})
        return replace(seen, events=(*seen.events, *self._steps.flush(), told))

    def _tell(self, taken: Taken, seen: Seen) -> None:
        """Hand over what a frame gave."""
        began_s = time.perf_counter()
        if seen.events:
            self._save(
                durable=True
            )  # before the events: no number is ever told twice, whenever the process dies
            self._deliver(captured_at(seen.events, taken.arrived_s))
        while self._wanted:
            self._wanted.popleft()(taken.frame)
        now_s = time.perf_counter()
        if now_s >= self._totals_due_s:
            self._totals_due_s = now_s + TOTALS_EVERY_S
            self.totals = self._count()
            self._save(durable=False)
            self.report.dropped = self._total("too_fast")
        self.times.stages["deliver"].add(now_s - began_s)
        self.times.whole.add(max(0.0, time.monotonic() - taken.arrived_s))

    def _finish(self, error: BaseException | None) -> None:
        """The source has ended, or was told to."""
        if error is None or isinstance(
            error, SourceError
        ):  # after a fault of the program there is no state to trust
            try:
                self._flush()  # the tracks end with their camera, and that is told
            except Exception as fault:
                error = error or fault
        self._settle()
        self._conclude(error)

    def _flush(self) -> None:
        """End every track, and tell it."""
        events = self._steps.flush()
        self.totals = self._count()
        self._save(durable=True)
        self._deliver(events)

    def _settle(self) -> None:
        """The last counts; nothing is begun after this."""
        self._capture.cancel()
        self.report.dropped = self._total("too_fast")
        self.report.left_out = self.dropped()
        self.report.spared_s = round(self.spared_s, 3)
        self.totals = self.report.totals = self._count()
        self._save(durable=True)

    def _leave_out(self, fault: StageError) -> None:
        """Raises `fault` where nothing else comes."""
        self._dropped["bad_picture"] += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _MAX_BAD_IN_A_ROW:
            raise fault

    def dropped(self) -> dict[str, JsonValue]:
        reasons = {"too_fast", *self._before, *self._dropped}
        reasons |= {"fps_cap"} if self._capture.capped else set()
        reasons |= {"bad_picture"} if self._capture.bad else set()
        return {reason: self._total(reason) for reason in sorted(reasons)}

    @property
    def spared_s(self) -> float:
        """What the engine would have taken, at its mean, for the frames on which nothing moved."""
        engine = self.times.stages["engine"]
        runs = self.report.frames
        return self._total("no_motion") * engine.sum_s / runs if runs else 0.0

    def _total(self, reason: str) -> int:
        capture = self._capture
        of_capture = {"too_fast": capture.dropped, "fps_cap": capture.capped, "bad_picture": capture.bad}
        return self._before.get(reason, 0) + self._dropped[reason] + of_capture.get(reason, 0)

    def go_on_from(self, before: Stream) -> None:
        super().go_on_from(before)
        self._before = {reason: count for reason, count in before.dropped().items() if isinstance(count, int)}

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

    def _apply(self, overrides: Overrides) -> None:
        steps = self._steps
        threshold = self.settings.score_threshold if overrides.threshold is None else overrides.threshold
        steps.set_score_threshold(threshold)
        for rule in self.settings.rules:
            events = steps.set_rule_enabled(rule.name, rule.name not in overrides.rules)
            if events:
                self._save(durable=True)
                self._deliver(events)
        if overrides.disabled and not self._disabled:
            self._flush()
        self._disabled = overrides.disabled

    def _count_on(self) -> None:
        """From where an earlier run, or an earlier stream of this name, ended; of rules that count the same."""
        kept = self._store.load(self.name)
        for rule in self._steps.rules:
            totals = kept.get(rule.settings.identity)
            if isinstance(totals, dict):
                try:
                    rule.restore(totals)
                except StageError as error:
                    log.warning("%s: %s; it counts from 0", self.label, error)
        self.totals = self._count()

    def _save(self, *, durable: bool) -> None:
        if self._steps.rules and not self.given_up:
            totals = {rule.settings.identity: rule.totals() for rule in self._steps.rules}
            self._store.save(self.name, totals, durable=durable)

    def _count(self) -> dict[str, JsonValue]:
        return {rule.settings.name: rule.totals() for rule in self._steps.rules}
