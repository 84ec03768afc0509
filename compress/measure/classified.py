"""Accuracy of a picture classifier, through the device's letterbox and engine."""

from __future__ import annotations

from typing import Literal

import numpy as np

from compress.data.classified import PictureSet
from compress.measure.brightness import mean_luma
from compress.measure.classes import one_score_a_label, softmax
from compress.measure.scored_classes import ScoredClasses, Trait
from edgeai.bundle.manifest import ImageInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.errors import DataError
from edgeai.stages.letterbox import letterbox


def score_classified(
    engine: EdgeEngine, spec: ImageInput, data: PictureSet, *, activation: Literal["none", "softmax"] = "none"
) -> ScoredClasses:
    """What the model says about each picture, with the picture's mean brightness.

    activation: what turns outputs into probabilities, as the bundle's decoder has it. Raises DataError where there are no
    pictures, or a file is none.
    """
    if not len(data):
        raise DataError("there are no pictures to measure accuracy on")
    scores = np.empty((len(data), len(data.labels)))
    luma = np.empty(len(data))
    name = engine.inputs[0].name
    with progress_bar("pictures", len(data)) as advance:
        for number in range(len(data)):
            image = data.picture(number)
            picture, _ = letterbox(image, spec)
            scores[number] = one_score_a_label(engine.run({name: picture}), data.labels)
            luma[number] = mean_luma(image)
            advance(1)
    names = tuple(f"{path.parent.name}/{path.name}" for path in data.paths)
    light = Trait("light", luma, ("dark", "middle", "bright"), "of 255")
    probabilities = softmax(scores) if activation == "softmax" else scores
    return ScoredClasses(
        data.labels, names, data.groups, probabilities, data.class_ids, unit="pictures", traits=(light,)
    )
