"""A detector beside a teacher on the second half of a video, which nobody has labelled: the teacher's sure boxes are the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.measure.detection import average_precision
from compress.measure.metric import Metric
from edgeai.console import progress_bar
from edgeai.sources.video_file import VideoFile
from edgeai.types import Detections

TRUTH_SCORE = 0.35  # what counts as the teacher's word
Detect = Callable[[NDArray[np.uint8]], Detections]


def measure_agreement(
    detect: Detect, teacher: Detect, video: Path, *, labels: Sequence[str], every: int
) -> tuple[Metric, float]:
    """(AP50 over every `every`-th frame, n of them; true boxes a frame). detect, teacher: boxes on an (H, W, 3) uint8 BGR frame.

    Raises DataError where the teacher is sure of no box, and what VideoFile raises.
    """
    truth, found = [], []
    with (
        VideoFile(str(video), stream="second half", start=0.5) as source,
        progress_bar("agreement", source.frame_count // 2) as advance,
    ):
        for number, frame in enumerate(source):
            advance(1)
            if number % every:
                continue
            said = teacher(frame.image)
            sure = said.select(said.scores >= TRUTH_SCORE)
            height, width = frame.image.shape[:2]
            truth.append((sure.xyxy_px, sure.class_ids, sure.xyxy_px[:0], width, height))
            found.append(detect(frame.image))
    metric = average_precision(truth, found, labels=labels)
    return metric, sum(len(one[1]) for one in truth) / max(1, len(truth))
