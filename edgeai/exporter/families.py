"""The figures as Prometheus's metric families: names, units and help. All that needs its library."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from edgeai import __version__
from edgeai.exporter.figures import EngineFigures, StreamFigures
from edgeai.metrics import HistogramCounts
from edgeai.sinks.store_and_forward import Counters, DestinationCounters
from edgeai.stream import State

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_UP: Final = ("running", "disabled")
_SAMPLES_AT_ONCE: Final = 32
_PAUSE_S: Final = 0.0002
_BROKER: Final = "mqtt"
"""What the destination without a name is called: the broker of [mqtt]."""


class FiguresCollector(Collector):
    """Reads the figures when Prometheus does."""

    def __init__(
        self,
        *,
        device: str,
        streams: Callable[[], Sequence[StreamFigures]],
        engines: Callable[[], Sequence[EngineFigures]],
        counters: Callable[[], Counters] | None,
    ) -> None:
        self._device = device
        self._streams = streams
        self._engines = engines
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            family.samples = _Paced(family.samples)
            yield family

    def _families(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "edgeai",
            "The device and what it runs.",
            {"version": __version__, "python": platform.python_version(), "device": self._device},
        )
        yield from _of_streams(self._streams())
        yield from _of_engines(self._engines())
        if self._counters is not None:
            yield from _of_sink(self._counters())


class _Paced(list[Sample]):
    """Lets frames pass while it is iterated: the thread of a scrape that kept the interpreter's lock would make each wait for
    it, up to sys.getswitchinterval() whenever a native call of theirs ends.
    """

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(super().__iter__(), 1):
            yield sample
            if number % _SAMPLES_AT_ONCE == 0:
                time.sleep(_PAUSE_S)


class Exposition:
    """What Prometheus is answered: the figures of now, and those of the process."""

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """In Prometheus's text format, of CONTENT_TYPE."""
        return generate_latest(self._registry)


def _of_streams(streams: Sequence[StreamFigures]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "edgeai_stream_up",
        "Whether a camera or microphone is at work; one that was disabled is.",
        labels=("stream", "kind"),
    )
    state = GaugeMetricFamily(
        "edgeai_stream_state", "1 for what a stream does now.", labels=("stream", "state")
    )
    for each in streams:
        up.add_metric((each.name, each.kind), each.state in _UP)
        for name in get_args(State):
            state.add_metric((each.name, name), name == each.state)
    yield up
    yield state
    yield _counter(
        "edgeai_frames",
        "Frames that the model saw; of a microphone, chunks of sound.",
        ("stream",),
        (((each.name,), each.frames) for each in streams),
    )
    yield _counter(
        "edgeai_frames_captured",
        "Frames that a camera's source gave.",
        ("stream",),
        (((each.name,), each.captured) for each in streams),
    )
    yield _counter(
        "edgeai_frames_dropped",
        "Frames that were not processed, by reason.",
        ("stream", "reason"),
        (((each.name, reason), count) for each in streams for reason, count in each.dropped.items()),
    )
    yield _counter(
        "edgeai_events",
        "Events that were stored for their destinations.",
        ("stream",),
        (((each.name,), each.events) for each in streams),
    )
    yield _counter(
        "edgeai_events_refused",
        "Events that could not be stored, and are lost.",
        ("stream",),
        (((each.name,), each.refused) for each in streams),
    )
    yield _histogram(
        "edgeai_stage_seconds",
        "How long each step of a frame's way takes.",
        ("stream", "stage"),
        (((each.name, stage), counts) for each in streams for stage, counts in each.stages.items()),
    )
    yield _histogram(
        "edgeai_capture_to_outbox_seconds",
        "From a frame's capture to the handing over of its events, on the disk where they wait for delivery.",
        ("stream",),
        (((each.name,), each.whole) for each in streams),
    )
    yield _gauge(
        "edgeai_slot_age_seconds",
        "How old the newest frame of a camera is.",
        ("stream",),
        (((each.name,), each.newest_age_s) for each in streams),
    )
    yield _gauge(
        "edgeai_camera_connected",
        "Whether a camera that can be away is there.",
        ("stream",),
        (((each.name,), each.connected) for each in streams),
    )
    live = [each for each in streams if each.connected is not None]
    yield _counter(
        "edgeai_camera_connections",
        "How often a camera was opened and gave a picture.",
        ("stream",),
        (((each.name,), each.connections) for each in live),
    )
    yield _counter(
        "edgeai_camera_failures",
        "Attempts to reach a camera, and connections to it, that failed.",
        ("stream",),
        (((each.name,), each.failures) for each in live),
    )
    yield _counter(
        "edgeai_capture_replacements",
        "Capture threads that hung and were replaced.",
        ("stream",),
        (((each.name,), each.replaced) for each in streams),
    )


def _of_engines(engines: Sequence[EngineFigures]) -> Iterator[Metric]:
    # two bundles of one name would be one series given twice, for which Prometheus takes none at all
    merged: dict[tuple[str, str], EngineFigures] = {}
    for each in engines:
        key = (each.model, each.engine)
        before = merged.get(key)
        if before is not None:
            each = EngineFigures(  # noqa: PLW2901
                *key,
                before.seconds + each.seconds,
                before.workers + each.workers,
                before.replaced + each.replaced,
            )
        merged[key] = each
    labels = ("model", "engine")
    yield _histogram(
        "edgeai_engine_seconds",
        "How long a run of a model takes, of one frame or of several at once.",
        labels,
        ((key, each.seconds) for key, each in merged.items()),
    )
    yield _gauge(
        "edgeai_engine_workers",
        "How often a model is open, each copy on a thread of its own.",
        labels,
        ((key, each.workers) for key, each in merged.items()),
    )
    yield _counter(
        "edgeai_engine_replacements",
        "Workers of a model that hung and were replaced.",
        labels,
        ((key, each.replaced) for key, each in merged.items()),
    )


def _of_sink(counters: Counters) -> Iterator[Metric]:
    there = [(name or _BROKER, each) for name, each in counters.destinations.items()]

    def of_each(value: Callable[[DestinationCounters], float]) -> Iterator[tuple[tuple[str], float]]:
        return (((name,), value(each)) for name, each in there)

    label = ("destination",)
    yield _gauge(
        "edgeai_outbox_pending",
        "Messages that wait for a destination.",
        label,
        of_each(lambda each: each.pending),
    )
    yield _gauge(
        "edgeai_outbox_bytes", "The size of all messages that wait.", (), [((), counters.pending_bytes)]
    )
    yield _gauge(
        "edgeai_outbox_oldest_seconds",
        "How long the oldest message has waited, 0 where none waits.",
        (),
        [((), counters.oldest_s)],
    )
    yield _gauge(
        "edgeai_outbox_on_disk",
        "1 where what waits is on the disk, 0 where the disk fails and it waits in memory.",
        (),
        [((), counters.on_disk)],
    )
    yield _counter(
        "edgeai_outbox_dropped",
        "Messages that the outbox's bounds pushed out undelivered.",
        ("priority",),
        (((priority,), count) for priority, count in counters.dropped.items()),
    )
    yield _gauge(
        "edgeai_destination_connected",
        "Whether there is a connection.",
        label,
        of_each(lambda each: each.connected),
    )
    yield _counter(
        "edgeai_destination_connections",
        "Connections that were made.",
        label,
        of_each(lambda each: each.connections),
    )
    yield _counter(
        "edgeai_destination_sent",
        "Messages that were sent, repetitions too.",
        label,
        of_each(lambda each: each.sent),
    )
    yield _counter(
        "edgeai_destination_acknowledged",
        "Messages that have arrived, each once.",
        label,
        of_each(lambda each: each.acked),
    )
    yield _counter(
        "edgeai_destination_refused",
        "Answers that a message will not be taken.",
        label,
        of_each(lambda each: each.refused),
    )
    yield _histogram(
        "edgeai_capture_to_publish_seconds",
        "From the capture of what an event of a camera or microphone tells of to the acknowledgement of its message; "
        "without one, at QoS 0, until it was handed to the network.",
        ("destination", "priority"),
        (((name, priority), counts) for name, each in there for priority, counts in each.latency.items()),
    )


Valued = Iterable[tuple[tuple[str, ...], float | None]]


def _counter(name: str, told: str, labels: tuple[str, ...], values: Valued) -> Metric:
    family = CounterMetricFamily(name, told, labels=labels)
    for place, value in values:
        if value is not None:
            family.add_metric(place, value)
    return family


def _gauge(name: str, told: str, labels: tuple[str, ...], values: Valued) -> Metric:
    family = GaugeMetricFamily(name, told, labels=labels)
    for place, value in values:
        if value is not None:
            family.add_metric(place, value)
    return family


def _histogram(
    name: str,
    told: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], HistogramCounts | None]],
) -> Metric:
    """Those of them that have counted something: a stage that a stream does not have is no series."""
    family = HistogramMetricFamily(name, told, labels=labels)
    for place, counts in values:
        if counts is None:
            continue
        cumulative = counts.cumulative()
        if cumulative[-1]:
            if (
                len(family.samples) // _SAMPLES_AT_ONCE
                != (len(family.samples) + len(cumulative)) // _SAMPLES_AT_ONCE
            ):
                time.sleep(_PAUSE_S)
            bounds = (*map(floatToGoString, counts.bounds_s), "+Inf")
            family.add_metric(place, [*zip(bounds, cumulative, strict=True)], counts.sum_s)
    return family
