"""Milliseconds of letterbox, decode + NMS, tracker and rules on generated scenes: one JSON object.

Run: python tests/bench/bench_camera_stages.py
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator

import cv2
import numpy as np

from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.metrics import Measurement, bench_report, measure_calls_ms, summarize
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import letterbox, place
from edgeai.stages.rules import LineSettings, Scene, TrackSettings, ZoneSettings, open_rule
from edgeai.stages.tracker import Tracker
from edgeai.types import Detections


def scene(count: int, frames: int = 300) -> Iterator[Detections]:
    """`count` walkers in 1280 x 720 at 30 a second: noise of 1.5 px, one in twenty missed, scores 0.2 to 0.95."""
    rng = np.random.default_rng(0)
    place_px, speed = rng.uniform([0, 0], [1280, 720], (count, 2)), rng.normal(0, 40, (count, 2))
    side = rng.uniform(30, 90, (count, 1)) * [1, 2]
    for _ in range(frames):
        place_px = place_px + speed / 30
        speed = np.where((place_px < 0) | (place_px > [1280, 720]), -speed, speed)
        seen = place_px + rng.normal(0, 1.5, (count, 2))
        boxes = np.hstack([seen - side / 2, seen + side / 2]).astype(np.float32)
        shown = rng.random(count) > 0.05
        scores = rng.uniform(0.2, 0.95, count).astype(np.float32)
        yield Detections(boxes[shown], scores[shown], np.zeros(shown.sum(), np.int32))


def time_tracking(count: int) -> list[Measurement]:
    tracker, labels = Tracker(), ["person"]
    settings = (
        LineSettings(name="line", a=(0.1, 0.5), b=(0.9, 0.5)),
        ZoneSettings(name="zone", polygon=((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))),
        TrackSettings(),
    )
    rules = [open_rule(one, labels=labels) for one in settings]
    tracking, ruling = [], []
    for frame, detections in enumerate(scene(count)):
        began = time.perf_counter()
        tracks = tracker.update(detections, frame / 30)
        between = time.perf_counter()
        seen = Scene(tracks, 1280, 720, frame / 30, "bench", tracker.started, tracker.ended)
        for rule in rules:
            rule.update(seen)
        ruling.append((time.perf_counter() - between) * 1e3)
        tracking.append((between - began) * 1e3)
    return [
        summarize(f"objects_{count}_ms", "ms", tracking[10:]),
        summarize(f"rules_{count}_ms", "ms", ruling[10:]),
    ]


def time_decoding(objects: int) -> Measurement:
    """The grid decoder at 416 x 416, 80 classes of which one is kept, about 20 cells firing for each object."""
    rng = np.random.default_rng(0)
    output = rng.uniform(0, 0.05, (1, 3549, 85)).astype(np.float32)
    output[0, :, :4] = rng.normal(0, 1, (3549, 4))
    cells = rng.choice(3549, min(20 * objects, 3549), replace=False)
    output[0, cells, 4:6] = rng.uniform(0.6, 1, (len(cells), 2))
    decoder = open_decoder(
        Decoder(name="grid", params={"width": 416, "height": 416, "keep_classes": [0]}), labels=["person"]
    )
    placement = place(1280, 720, ImageInput(width=416, height=416))
    samples = measure_calls_ms(lambda: decoder.decode({"output": output}, placement), n=200)
    return summarize(f"decode_nms_{objects}_ms", "ms", samples)


def main() -> None:
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    out = np.empty((320, 320, 3), np.uint8)
    spec = ImageInput(width=320, height=320)
    results = [
        summarize("letterbox_720p_320_ms", "ms", measure_calls_ms(lambda: letterbox(image, spec, out), n=500))
    ]
    results += [time_decoding(objects) for objects in (0, 5, 20, 100)]
    for count in (20, 50, 100):
        results += time_tracking(count)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
    report = bench_report("camera_stages", results, device={"machine": platform.machine()}, versions=versions)
    json.dump(report, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
