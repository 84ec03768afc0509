"""`edgeai bench tracking`: what the tracker takes for a frame, by the number of objects in it."""

from __future__ import annotations

import time

from edgeai.bench.machine import bench_notes, read_state
from edgeai.bench.moving_objects import moving_objects
from edgeai.cli.figures import Outputs, print_figures
from edgeai.console import progress_bar
from edgeai.metrics import summarize
from edgeai.stages.tracker import Tracker

OBJECTS = (20, 50, 100, 500)
_WARM_UP = 10
_FRAME_S = 1 / 25


def bench_tracking(*, frames: int, outputs: Outputs) -> int:
    """`objects_<n>_ms`: one update with the detections of a frame of n objects, which cross, jitter and are missed at times.

    The scenes are the same in every run (edgeai.bench.moving_objects).
    """
    outputs.check()
    start = read_state()
    results, samples = [], {}
    with progress_bar("bench tracking", len(OBJECTS) * (frames + _WARM_UP)) as advance:
        for count in OBJECTS:
            tracker = Tracker()
            took_ms = []
            for index, detections in enumerate(moving_objects(count, frames + _WARM_UP)):
                began_ns = time.perf_counter_ns()
                tracker.update(detections, index * _FRAME_S)
                took_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
                advance(note=f"{count} objects")
            name = f"objects_{count}_ms"
            samples[name] = took_ms[_WARM_UP:]
            results.append(summarize(name, "ms", samples[name]))
    title = f"one update of the tracker, {frames} frames"
    print_figures("tracking", results, title=title, outputs=outputs, notes=bench_notes(start, samples))
    return 0
