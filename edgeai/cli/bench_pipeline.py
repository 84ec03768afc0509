"""`edgeai bench pipeline`: the whole way of a frame beside the bare engine call, in one run."""

from __future__ import annotations

import time
from itertools import islice

from edgeai.bundle import load_bundle
from edgeai.console import print_json, print_table
from edgeai.errors import SourceError
from edgeai.metrics import Measurement, bench_report, measure_calls_ms, summarize
from edgeai.pipeline import CameraPipeline
from edgeai.sources import open_camera
from edgeai.stages.rules import TrackSettings

WARM_UP = 5


def bench_pipeline(
    video: str, model: str, *, engine: str | None, threads: int, frames: int, json_output: bool
) -> int:
    """engine_ms: the library's own call. frame_ms: picture to events. overhead_ms: the difference, frame by frame."""
    began = time.perf_counter()
    with CameraPipeline(
        load_bundle(model), rules=[TrackSettings(name="tracks")], engine=engine, threads=threads
    ) as pipeline:
        with open_camera(video, stream="bench") as source:
            decoded = list(islice(source, frames + WARM_UP))
        if len(decoded) <= WARM_UP:
            raise SourceError(f"{video} has {len(decoded)} frames, more than {WARM_UP} are needed")
        pipeline.process(decoded[0])
        first_s = time.perf_counter() - began
        bare = pipeline.engine.engine.bare_call()
        engine_ms, frame_ms, overhead_ms = [], [], []
        for number, frame in enumerate(decoded[1:], 1):
            (alone,) = measure_calls_ms(bare, n=1, warm_up=0)
            started = time.perf_counter_ns()
            pipeline.process(frame)
            whole = (time.perf_counter_ns() - started) / 1e6
            if number >= WARM_UP:
                engine_ms.append(alone)
                frame_ms.append(whole)
                overhead_ms.append(whole - alone)
    results = [
        summarize("engine_ms", "ms", engine_ms),
        summarize("frame_ms", "ms", frame_ms),
        summarize("overhead_ms", "ms", overhead_ms),
        Measurement("open_to_first_frame_s", "s", 1, value=first_s),
    ]
    if json_output:
        from edgeai.hardware import device_facts, library_versions

        print_json(bench_report("pipeline", results, device=device_facts(), versions=library_versions()))
    else:
        rows = [
            [r.name, r.unit, f"{r.value or r.p50:.3f}", f"{r.p90:.3f}", f"{r.p99:.3f}", r.n] for r in results
        ]
        print_table(["figure", "unit", "p50 or value", "p90", "p99", "n"], rows, title=f"{threads} thread(s)")
    return 0
