"""`edgeai bench pipeline`: what cameras cost beside the bare engine call, and how fresh what they tell is, in one run."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeai.bench import capture_to_broker, freshness
from edgeai.bench.alone import run_alone
from edgeai.bench.broker import OpenBroker, open_broker
from edgeai.bench.capture_to_broker import measure_capture_to_broker
from edgeai.bench.first_detection import measure_first_detection
from edgeai.bench.freshness import measure_freshness
from edgeai.bench.held_frames import decode_frames
from edgeai.bench.machine import bench_notes, read_state
from edgeai.bench.overhead import WARM_UP, Model, disk_of, measure_overhead
from edgeai.bundle import load_bundle
from edgeai.cli.figures import Outputs, print_figures
from edgeai.cli.host import this_host
from edgeai.console import progress_bar
from edgeai.errors import EdgeError, UsageError
from edgeai.metrics import Measurement, summarize
from edgeai.sinks import MqttSettings, Outbox, StoreAndForward, open_reporting
from edgeai.sinks.inventory import DeviceFacts
from edgeai.sinks.other_settings import FileSinkSettings
from edgeai.sinks.reporting import Reports, open_reports
from edgeai.types import Frame

PARTS: Final = ("overhead", "broker", "freshness", "memory", "start")
PADDED_S: Final = 0.010
START_RUNS: Final = 3
MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192
MIN_OF_PART: Final = 40
"""So many frames at least where cameras share: percentiles and shares of fewer say nothing."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What is measured, and with what.

    size: (width, height) that frames are scaled to, their own where None. folder: where the outbox lies, whose disk decides
    what durable events take; a temporary one where None. parts: of PARTS.
    """

    video: str
    model: str
    engine: str | None = None
    threads: int = 1
    frames: int = 100
    size: tuple[int, int] | None = None
    folder: Path | None = None
    parts: tuple[str, ...] = PARTS


@dataclass(slots=True)
class _Figures:
    """results: for the table and the JSON. samples: of the bench's own machine checks. notes: for people."""

    results: list[Measurement] = field(default_factory=list)
    samples: dict[str, Sequence[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, samples: Sequence[float], *, watched: bool = False) -> None:
        if samples:
            self.results.append(summarize(name, unit, samples))
        if watched:
            self.samples[name] = samples

    def add_value(self, name: str, unit: str, value: float, n: int = 1) -> None:
        self.results.append(Measurement(name, unit, n, value=value))


def bench_pipeline(settings: PipelineSettings, *, outputs: Outputs) -> int:
    """Measure and print the figures.

    overhead: engine_ms is the library's own call on ready inputs; frame_ms the way of a decoded frame from its capture until
    its events are stored, through a camera of a device at work, its outbox draining to a broker; overhead_ms the difference,
    frame by frame, by turns. overhead_share: of the engine's call, where that takes 10 ms.
    broker: capture_to_broker_ms is from a frame's capture to a subscriber in another process, four cameras at 5 frames a
    second: telemetry; capture_to_broker_durable_ms: events that are on the disk first. busy_engine_ms, fsync_ms: meanwhile.
    freshness: four cameras that ask for four times what the model gives. frame_age_ms: of frames when they are done;
    frame_age_limit_ms: one frame interval and one inference. fair_share_ratio: the most served camera over the least.
    memory: rss_per_camera_mb, rss_per_worker_mb: one more camera, the model opened once more.
    start: first_detection_s, from the start of `edgeai run` to the first frame's detections, median.
    """
    outputs.check()
    start = read_state()
    bundle = load_bundle(settings.model)
    model = Model(bundle, settings.engine, settings.threads, this_host())
    figures = _Figures()
    held = decode_frames(settings.video, settings.frames + WARM_UP, size=settings.size)
    height, width = held[0].image.shape[:2]
    steps = _steps(settings)
    with (
        _folder(settings.folder) as folder,
        progress_bar("bench pipeline", sum(steps.values())) as advance,
        contextlib.ExitStack() as stack,
    ):
        broker = _broker(stack, folder, settings.parts, figures)
        if "overhead" in settings.parts:
            _measure_overhead(model, held, broker, folder, settings, figures, advance)
        if "broker" in settings.parts and broker is not None:
            _measure_broker(model, held, broker, folder, settings, figures, advance)
        if "freshness" in settings.parts:
            _measure_freshness(model, held, settings, figures, advance)
        if "memory" in settings.parts:
            _measure_memory(settings, figures)
            advance(steps["memory"], note="memory")
        if "start" in settings.parts:
            _measure_start(model, settings, figures, advance)
    title = f"{bundle.name}, {settings.threads} thread(s), {Path(settings.video).name} at {width} x {height}"
    notes = [*figures.notes, *bench_notes(start, figures.samples)]
    print_figures("pipeline", figures.results, title=title, outputs=outputs, notes=notes)
    return 0


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(1280, 720) of "1280x720". Raises UsageError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text.lower(), re.ASCII)
    sides = tuple(int(each) for each in found.groups()) if found is not None else ()
    if not sides or not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in sides):
        raise UsageError(
            f"--size {text[:40]!r} is no size",
            next_step=f"write it as in 1280x720, {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels a side",
        )
    return sides[0], sides[1]


def parse_parts(text: str | None) -> tuple[str, ...]:
    """The names in "overhead,start", all of PARTS for None. Raises UsageError."""
    if text is None:
        return PARTS
    parts = tuple(part.strip() for part in text.split(","))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(
            f"--only {unknown[0][:40]!r} is not known", next_step=f"known are {', '.join(PARTS)}"
        )
    return parts


def _steps(settings: PipelineSettings) -> dict[str, int]:
    """How far the bar goes for each part."""
    frames = settings.frames
    shared = max(MIN_OF_PART, frames)
    steps = {
        "overhead": 2 * (frames + WARM_UP),
        "broker": shared + capture_to_broker.CAMERAS * capture_to_broker.WARM_UP,
        "freshness": shared + 2 * freshness.CAMERAS,
        "memory": 10,
        "start": START_RUNS + 1,
    }
    return {part: count for part, count in steps.items() if part in settings.parts}


@contextlib.contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    try:
        work = tempfile.TemporaryDirectory(prefix="edgeai-bench-", dir=chosen)
    except OSError as error:
        raise EdgeError(f"nothing can be written in {chosen}: {error.strerror or error}") from None
    with work as name:
        yield Path(name)


def _broker(
    stack: contextlib.ExitStack, folder: Path, parts: tuple[str, ...], figures: _Figures
) -> OpenBroker | None:
    """None where no part needs one, or there is none: then a file takes its place, and one part is left out."""
    if not {"overhead", "broker"} & set(parts):
        return None
    try:
        return stack.enter_context(open_broker(folder))
    except EdgeError as error:
        if set(parts) == {"broker"}:
            raise
        figures.notes.append(f"warning: left out what needs a broker: {error}")
        return None


def _sink(broker: OpenBroker | None, folder: Path) -> StoreAndForward:
    """An outbox that drains to the broker, else into a file."""
    path = folder / "overhead.db"
    if broker is not None:
        return open_reporting(MqttSettings(host=broker.host, port=broker.port), path, device="bench")
    file = FileSinkSettings(kind="file", name="file", path=folder / "events.jsonl")
    facts = DeviceFacts("bench", (), "", "")
    return open_reports(Reports(facts, folder, sinks=(file,)), Outbox(path)).sink


def _measure_overhead(
    model: Model,
    held: Sequence[Frame],
    broker: OpenBroker | None,
    folder: Path,
    settings: PipelineSettings,
    figures: _Figures,
    advance: Callable[..., None],
) -> None:
    with _sink(broker, folder) as sink:
        plain = measure_overhead(
            model, held, sink, frames=settings.frames, advance=lambda: advance(note="overhead")
        )
        padded = measure_overhead(
            model,
            held,
            sink,
            frames=settings.frames,
            least_s=PADDED_S,
            advance=lambda: advance(note="overhead, 10 ms model"),
        )
    figures.add("engine_ms", "ms", plain.engine_ms, watched=True)
    figures.add("frame_ms", "ms", plain.frame_ms, watched=True)
    figures.add("overhead_ms", "ms", plain.overhead_ms)
    shares = [100 * over / alone for over, alone in zip(padded.overhead_ms, padded.engine_ms, strict=True)]
    figures.add("overhead_share", "%", shares)
    figures.notes.append(
        f"{plain.events} events of {settings.frames} frames were stored while overhead was measured"
    )


def _measure_broker(
    model: Model,
    held: Sequence[Frame],
    broker: OpenBroker,
    folder: Path,
    settings: PipelineSettings,
    figures: _Figures,
    advance: Callable[..., None],
) -> None:
    frames = max(MIN_OF_PART, settings.frames)
    told = measure_capture_to_broker(
        model, held, broker, folder, frames=frames, advance=lambda n: advance(n, note="to the broker")
    )
    figures.add("capture_to_broker_ms", "ms", told.telemetry)
    figures.add("capture_to_broker_durable_ms", "ms", told.durable)
    figures.add("busy_engine_ms", "ms", told.engine)
    figures.add("fsync_ms", "ms", told.fsync)
    disk = disk_of(folder)
    figures.notes.append(
        f"capture to broker: {capture_to_broker.CAMERAS} cameras at {capture_to_broker.FPS:g} frames/s, {broker.name}"
        + (f", outbox on {disk}" if disk else "")
    )
    if told.lost:
        figures.notes.append(f"warning: {told.lost} events did not reach the subscriber")


def _measure_freshness(
    model: Model,
    held: Sequence[Frame],
    settings: PipelineSettings,
    figures: _Figures,
    advance: Callable[..., None],
) -> None:
    told = measure_freshness(
        model,
        held,
        frames=max(MIN_OF_PART, settings.frames),
        advance=lambda n: advance(n, note="freshness"),
    )
    figures.add("frame_age_ms", "ms", told.age_ms)
    figures.add_value("frame_age_limit_ms", "ms", told.limit_ms)
    figures.add_value("fair_share_ratio", "x", told.share_ratio, n=sum(told.shares))


def _measure_memory(settings: PipelineSettings, figures: _Figures) -> None:
    asked = {
        "video": settings.video,
        "model": settings.model,
        "engine": settings.engine,
        "threads": settings.threads,
        "size": settings.size,
    }
    told = run_alone("edgeai.cli.bench_pipeline", asked)
    figures.add_value("rss_per_camera_mb", "MiB", told["camera_mb"], n=told["cameras"])
    if told["worker_mb"] is not None:
        figures.add_value("rss_per_worker_mb", "MiB", told["worker_mb"])


def _measure_start(
    model: Model, settings: PipelineSettings, figures: _Figures, advance: Callable[..., None]
) -> None:
    seconds, with_tensorflow = measure_first_detection(
        model, settings.video, runs=START_RUNS, advance=lambda: advance(note="first detection")
    )
    figures.add_value("first_detection_s", "s", sorted(seconds)[len(seconds) // 2], n=len(seconds))
    if with_tensorflow:
        figures.notes.append("warning: `edgeai run` loaded TensorFlow, which a device does not need")


def main() -> int:
    """The process in which memory is measured: asked with one JSON argument, answers with one JSON line."""
    from edgeai.bench.camera_memory import FRAMES, MORE, measure_camera_memory

    asked: dict[str, Any] = json.loads(sys.argv[1])
    model = Model(load_bundle(asked["model"]), asked["engine"], asked["threads"], this_host())
    held = decode_frames(asked["video"], FRAMES, size=tuple(asked["size"]) if asked["size"] else None)
    told = measure_camera_memory(model, held)
    print(json.dumps({"camera_mb": told.camera_mb, "worker_mb": told.worker_mb, "cameras": MORE}))
    return 0
