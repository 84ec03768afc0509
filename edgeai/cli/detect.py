"""`edgeai detect`: a video through a detector and the tracker."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from edgeai.bundle import load_bundle
from edgeai.cli.host import this_host
from edgeai.console import print_json, print_note, print_table
from edgeai.pipeline import CameraPipeline, Seen, detection_facts
from edgeai.sources import open_camera
from edgeai.types import JsonValue

FPS = 10.0


def detect_video(
    video: str,
    model: str,
    *,
    engine: str | None,
    verify: bool,
    threads: int,
    threshold: float | None,
    annotated: Path | None,
    json_output: bool,
) -> int:
    """Print the detections of every frame; a table of totals at the end where no JSON was asked for."""
    counts: dict[str, int] = {}
    tracks: dict[int, str] = {}
    frames, busy_s = 0, 0.0
    with ExitStack() as stack:
        pipeline = stack.enter_context(
            CameraPipeline(
                load_bundle(model),
                engine=engine,
                host=this_host(verify=verify),
                threads=threads,
                score_threshold=threshold,
            )
        )
        source = stack.enter_context(open_camera(video, stream="video"))
        writer = None
        if annotated is not None:
            from edgeai.cli.annotate import AnnotatedVideo

            # files and folders of pictures both have a pace
            fps = float(getattr(source, "fps", 0.0)) or FPS
            writer = stack.enter_context(AnnotatedVideo(annotated, fps=fps))
        for frame in source:
            began = time.perf_counter()
            seen = pipeline.process(frame)
            busy_s += time.perf_counter() - began
            frames += 1
            for class_id in seen.found.class_ids:
                label = pipeline.labels[class_id]
                counts[label] = counts.get(label, 0) + 1
            for track_id, class_id in zip(seen.tracks.track_ids, seen.tracks.class_ids, strict=True):
                tracks[int(track_id)] = pipeline.labels[class_id]
            if writer is not None:
                writer.write(seen, pipeline)
            if json_output:
                print_json(frame_json(seen, pipeline.labels))
    if not json_output:
        rows = [
            [label, counts[label], sum(name == label for name in tracks.values())] for label in sorted(counts)
        ]
        print_table(["label", "boxes", "tracks"], rows, title=f"{frames} frames of {video}")
        print_note(
            f"{1000 * busy_s / max(1, frames):.2f} ms a frame from picture to tracks, {threads} thread(s)"
        )
    return 0


def frame_json(seen: Seen, labels: tuple[str, ...]) -> dict[str, JsonValue]:
    """One frame: boxes in pixels [x1, y1, x2, y2]; track_id only for confirmed tracks."""
    # the tracks are detections of this frame, in its order
    tracks = zip(seen.tracks.xyxy_px.tolist(), seen.tracks.class_ids.tolist(), strict=True)
    ids = {
        (tuple(box), class_id): int(i)
        for (box, class_id), i in zip(tracks, seen.tracks.track_ids, strict=True)
    }
    detections: list[JsonValue] = []
    boxes, classes = seen.found.xyxy_px.tolist(), seen.found.class_ids.tolist()
    for row, box, class_id in zip(detection_facts(seen.found, labels), boxes, classes, strict=True):
        track_id = ids.get((tuple(box), class_id))
        if track_id is not None:
            row["track_id"] = track_id
        detections.append(row)
    return {"frame": seen.frame.index, "time_s": round(seen.frame.time_s, 3), "detections": detections}
