"""Everything a pass may lean on: the task with its data, a place to work, and the measuring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.candidate import Candidate, EngineFile
from compress.data.detection import DetectionSet
from compress.data.speech import SpeechSet
from compress.measure.cost import Cost, measure_cost
from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector, measure_detector
from compress.measure.keywords import measure_keywords
from compress.measure.metric import Metric
from compress.prune.channels import model_macs
from compress.quantize.tflite import convert_tflite
from compress.recipe import Recipe
from compress.train.tasks import TrainingTask
from edgeai.bundle.manifest import ImageInput
from edgeai.engines import EdgeEngine, open_model_file


@dataclass(frozen=True)
class Measured:
    """A candidate after a pass: parameters, multiplications, the metric on the validation part, the engine's cost."""

    parameters: int
    macs: int
    metric: Metric
    cost: Cost
    file: EngineFile


@dataclass(frozen=True)
class Bench:
    """task: batches and losses. validation: what each pass is measured on. work: a folder of this run."""

    recipe: Recipe
    task: TrainingTask
    validation: DetectionSet | SpeechSet
    work: Path

    def measure(self, candidate: Candidate) -> Measured:
        """Through the device's own engine and decoder, on one thread; float32 TFLite where no file is made yet."""
        file = chosen_file(candidate)
        if file is None:
            path = self.work / "measured-float32.tflite"
            path.write_bytes(convert_tflite(candidate.network, "float32"))
            file = EngineFile(path, "tflite", "float32")
        spec = self.recipe.input
        engine = EdgeEngine(open_model_file(file.path, threads=1), spec)
        try:
            metric = measure_task(self.recipe, engine, self.validation)
            cost = measure_cost(engine, file.path)
        finally:
            engine.close()
        return Measured(
            int(candidate.network.count_params()), model_macs(candidate.network), metric, cost, file
        )


def chosen_file(candidate: Candidate) -> EngineFile | None:
    """The engine file that speaks for a candidate: int8 where it is made, else the first TFLite file, else none."""
    int8 = (file for file in candidate.files if file.precision == "int8")
    return next(int8, next((file for file in candidate.files if file.format == "tflite"), None))


def measure_task(recipe: Recipe, engine: EdgeEngine, data: Any) -> Metric:
    """The metric of a recipe's task: AP50 for detectors, accuracy for keywords."""
    if isinstance(recipe.input, ImageInput):
        detect = BundleDetector(
            engine, recipe.input, recipe.decoder, recipe.labels, score_threshold=EVAL_SCORE_THRESHOLD
        )
        return measure_detector(detect, data)
    return measure_keywords(engine, recipe.input, data)
