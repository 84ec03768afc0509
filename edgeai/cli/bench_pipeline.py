"""`edgeai bench pipeline`: the whole way of a frame beside the bare engine call, in one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice

import psutil

from edgeai.bench.machine import bench_notes, read_state
from edgeai.bundle import Bundle, load_bundle
from edgeai.cli.figures import Outputs, print_figures
from edgeai.cli.host import this_host
from edgeai.console import progress_bar
from edgeai.errors import SourceError
from edgeai.metrics import Measurement, measure_calls_ms, summarize
from edgeai.pipeline import CameraPipeline
from edgeai.sources import open_camera
from edgeai.stages.rules import TrackSettings
from edgeai.types import Frame

WARM_UP = 5
MAX_HELD_BYTES = 256 << 20


def bench_pipeline(
    video: str, model: str, *, engine: str | None, threads: int, frames: int, outputs: Outputs
) -> int:
    """Measure `frames` frames of a video and print the figures.

    engine_ms: the library's own call on ready inputs. frame_ms: from the decoded picture to the events of a track
    rule. overhead_ms: the difference, frame by frame, the two called by turns. first_detection_s: from the start of
    this process to the first frame's boxes. rss_per_camera_mb: what a second camera with the same model adds.
    """
    outputs.check()
    start = read_state()
    process = psutil.Process()
    bundle = load_bundle(model)
    with _pipeline(bundle, engine, threads) as pipeline:
        held = _decoded(video, frames + WARM_UP)
        pipeline.process(held[0])
        first_s = time.time() - process.create_time()
        bare = pipeline.engine.engine.bare_call()
        engine_ms, frame_ms, overhead_ms = [], [], []
        with progress_bar("bench pipeline", frames + WARM_UP - 1) as advance:
            for number, frame in enumerate(islice(_endless(held), 1, frames + WARM_UP)):
                if number % 2:
                    (alone,) = measure_calls_ms(bare, n=1, warm_up=0)
                started_ns = time.perf_counter_ns()
                pipeline.process(frame)
                whole = (time.perf_counter_ns() - started_ns) / 1e6
                if not number % 2:
                    (alone,) = measure_calls_ms(bare, n=1, warm_up=0)
                if number >= WARM_UP - 1:
                    engine_ms.append(alone)
                    frame_ms.append(whole)
                    overhead_ms.append(whole - alone)
                advance()
        before_bytes = process.memory_info().rss
        with _pipeline(bundle, engine, threads) as second:
            for frame in held[:WARM_UP]:
                second.process(frame)
            added_mb = (process.memory_info().rss - before_bytes) / 2**20
    results = [
        summarize("engine_ms", "ms", engine_ms),
        summarize("frame_ms", "ms", frame_ms),
        summarize("overhead_ms", "ms", overhead_ms),
        Measurement("first_detection_s", "s", 1, value=first_s),
        Measurement("rss_per_camera_mb", "MiB", 1, value=max(0.0, added_mb)),
    ]
    title = f"{bundle.name}, {threads} thread(s), {video}"
    notes = bench_notes(start, {"engine_ms": engine_ms, "frame_ms": frame_ms})
    print_figures("pipeline", results, title=title, outputs=outputs, notes=notes)
    return 0


def _pipeline(bundle: Bundle, engine: str | None, threads: int) -> CameraPipeline:
    rules = [TrackSettings(name="tracks")]
    return CameraPipeline(bundle, rules=rules, engine=engine, host=this_host(), threads=threads)


def _decoded(video: str, most: int) -> list[Frame]:
    """The first frames, as many as fit MAX_HELD_BYTES: decoding must not share the clock with what is measured."""
    held: list[Frame] = []
    with open_camera(video, stream="bench") as source:
        size_bytes = 0
        for frame in source:
            held.append(frame)
            size_bytes += frame.image.nbytes
            if len(held) >= most or size_bytes > MAX_HELD_BYTES:
                break
    if len(held) < 2:
        raise SourceError(f"{video} has {len(held)} frames, at least 2 are needed")
    return held


def _endless(held: list[Frame]) -> Iterator[Frame]:
    """The frames again and again, index and time running on."""
    step_s = (held[-1].time_s - held[0].time_s) / (len(held) - 1)
    for index, frame in enumerate(cycle(held)):
        yield replace(frame, index=index, time_s=held[0].time_s + index * step_s)
