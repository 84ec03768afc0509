"""What is told of streams and engines, as plain numbers of one moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeai.metrics import HistogramCounts
from edgeai.schedule.group import EngineGroup
from edgeai.stream import CameraStream, State, Stream


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """A camera or microphone. Counts are since its start, and go on over a retry.

    frames: those that the model saw; of a microphone, chunks of sound. captured: those that its source gave. dropped: those
    that were not processed, by reason. events, refused: that the sink took, and did not. stages, whole: as StageTimes.
    newest_age_s: how old the newest frame is. replaced: capture threads that hung. connected, connections, failures: of a
    source that can be away. What does not apply, or is not known yet, is None or empty.
    """

    name: str
    kind: Literal["camera", "microphone"]
    state: State
    frames: int = 0
    events: int = 0
    refused: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, HistogramCounts] = field(default_factory=dict)
    whole: HistogramCounts | None = None
    captured: int | None = None
    newest_age_s: float | None = None
    replaced: int | None = None
    connected: bool | None = None
    connections: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """The engines of one model that cameras share. seconds: of every run. replaced: workers that hung."""

    model: str
    engine: str
    seconds: HistogramCounts
    workers: int = 1
    replaced: int = 0


def figures_of(stream: Stream, state: State) -> StreamFigures:
    """As it is now; from any thread. state: what the runtime says it does."""
    report = stream.report
    counted = {reason: count for reason, count in stream.dropped().items() if isinstance(count, int)}
    if not isinstance(stream, CameraStream):
        return StreamFigures(
            report.name, stream.kind, state, report.frames, report.events, report.refused, counted
        )
    capture, connection, times = stream.capture, stream.connection, stream.times
    newest_s = capture.newest_s
    return StreamFigures(
        report.name,
        stream.kind,
        state,
        report.frames,
        report.events,
        report.refused,
        counted,
        {stage: each.read() for stage, each in times.stages.items()},
        times.whole.read(),
        captured=capture.captured,
        newest_age_s=None if newest_s is None else max(0.0, time.monotonic() - newest_s),
        replaced=capture.abandoned,
        # between two stills a camera is asleep, and not away
        connected=None if connection is None else connection.state in ("live", "asleep"),
        connections=0 if connection is None else connection.connections,
        failures=0 if connection is None else connection.failures,
    )


def figures_of_group(group: EngineGroup) -> EngineFigures:
    """As it is now; from any thread."""
    return EngineFigures(
        group.label, group.engine_label, group.engine_times.read(), len(group.workers), group.replaced
    )
