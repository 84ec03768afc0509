"""Does memory grow with every connection that is lost? Real servers on this machine, a camera cut after two pictures each time.

PYTHONPATH=tests python -m bench.bench_reconnect --kind rtsp --connections 1000
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from collections.abc import Iterator
from dataclasses import replace

import cv2
import psutil
from rtsp_server import RtspServer

from edgeai.errors import SourceError
from edgeai.metrics import Measurement, bench_report
from edgeai.pulse import Pulse
from edgeai.sources import CameraRequest, Source, open_camera
from edgeai.sources.reconnect import Reconnecting
from edgeai.types import Frame

PICTURES = 2


class Cut(Source[Frame]):
    """A camera whose connection breaks after PICTURES pictures."""

    live = True

    def __init__(self, source: Source[Frame]) -> None:
        self.source = source

    def open(self) -> None:
        self.source.open()

    def close(self) -> None:
        self.source.close()

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(self.source):
            yield frame
            if number + 1 == PICTURES:
                raise SourceError("cut")


def measure(url: str, connections: int) -> list[float]:
    """MiB resident after each connection."""
    request = CameraRequest("bench")
    # the waits are what a dead camera costs, not what is measured here
    capture = request.capture.model_copy(update={"retry_s": 0.001, "retry_max_s": 0.001})
    process = psutil.Process()
    sizes: list[float] = []
    source = Reconnecting(
        lambda: Cut(open_camera(url, request=replace(request, capture=capture))),
        label="camera bench",
        capture=capture,
        pulse=Pulse(),
    )
    known = 0
    for _ in source:
        if source.facts.connections > known:
            known = source.facts.connections
            sizes.append(process.memory_info().rss / 2**20)
            if known >= connections:
                source.cancel()
                break
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["rtsp", "video"], default="rtsp")
    parser.add_argument("--video", default="", help="for --kind video: a file that is opened again and again")
    parser.add_argument("--connections", type=int, default=1000)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)  # lost and back, a thousand times each
    if arguments.kind == "rtsp":
        with RtspServer(width_px=1280, height_px=720, fps=25, key_frame_s=0.2) as server:
            sizes = measure(server.url, arguments.connections)
    else:
        sizes = measure(arguments.video, arguments.connections)
    early = min(100, len(sizes) // 10)
    results = [
        Measurement("rss_early_mb", "MiB", early, value=sizes[early - 1]),
        Measurement("rss_late_mb", "MiB", len(sizes), value=sizes[-1]),
        Measurement("growth_mb", "MiB", len(sizes) - early, value=sizes[-1] - sizes[early - 1]),
    ]
    print(
        json.dumps(
            bench_report(
                "reconnect",
                results,
                device={"machine": platform.machine()},
                versions={"opencv": cv2.__version__},
            )
        )
    )


if __name__ == "__main__":
    main()
