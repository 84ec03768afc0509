"""Accuracy of a keyword model, clip by clip, through the device's front end and engine."""

from __future__ import annotations

import numpy as np

from compress.data.speech import SpeechSet
from compress.measure.metric import Metric, bootstrap_ci95
from edgeai.bundle.manifest import LogMelInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.errors import DataError
from edgeai.stages.audio.logmel import log_mel


def measure_keywords(engine: EdgeEngine, spec: LogMelInput, data: SpeechSet) -> Metric:
    """Top-1 accuracy; details hold the recall of each label and the accuracy without the label "silence".

    Raises DataError where there are no clips.
    """
    if not len(data):
        raise DataError("there are no clips to measure accuracy on")
    said = np.empty(len(data), np.int32)
    name, shape = engine.inputs[0].name, engine.inputs[0].shape
    with progress_bar("accuracy", len(data)) as advance:
        for number in range(len(data)):
            features = log_mel(data.clip(number), spec).reshape(shape)
            (scores,) = engine.run({name: features}).values()
            said[number] = int(np.argmax(scores))
            advance(1)
    right = said == data.class_ids
    recalls = {
        label: round(float(right[data.class_ids == k].mean()), 4)
        for k, label in enumerate(data.labels)
        if (data.class_ids == k).any()
    }
    details: dict[str, object] = {"recall": recalls}
    spoken = data.class_ids != (data.labels.index("silence") if "silence" in data.labels else -1)
    if spoken.any() and not spoken.all():
        details["without_silence"] = round(float(right[spoken].mean()), 4)
    ci95 = bootstrap_ci95(len(data), lambda picks: float(right[picks].mean()))
    return Metric("accuracy", float(right.mean()), ci95, len(data), details)
