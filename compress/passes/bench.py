"""Everything a pass may lean on: the task with its data, a place to work, and the measuring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from compress.candidate import Candidate, EngineFile
from compress.groups.macs import model_macs
from compress.measure.cost import Cost, measure_cost
from compress.measure.metric import Metric
from compress.measure.scored import Scored
from compress.passes.settings import ExportPass
from compress.quantize.post_training import quantize_network
from compress.quantize.settings import NEEDS_INPUTS, PostTraining
from compress.quantize.tflite import convert_tflite
from compress.recipe import Recipe
from compress.tasks.task import Batch, TrainingTask
from compress.train.distributed import find_replicas
from edgeai.bundle.manifest import Precision
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.whole_file import write_whole

LOOK = 1 << 20  # batch numbers beyond any training's: what a pass looks at is not what a step learns from
COST_CALIBRATION = 4  # inputs that set ranges where only bytes and milliseconds are asked for


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
    """task: batches, losses, and what each pass is measured on. work: a folder of this run.

    data_root: where a pass finds what it names. fingerprint: of recipe and data. step: what the pass under way is called in file names; unlabelled: pictures for `pretrain`. strategy: where several
    devices or hosts train together (compress.train.distributed).
    """

    recipe: Recipe
    task: TrainingTask
    work: Path
    unlabelled: tuple[Path, ...] = ()
    step: str = ""
    strategy: Any = None
    data_root: Path = Path()
    fingerprint: str = ""

    def agree(self, value: bool) -> bool:
        """What the first process thinks: a pass undone by one of several hosts must be undone by all."""
        return bool(find_replicas(self.strategy).broadcast(np.array([float(value)]))[0])

    def same_everywhere(self, network: Any) -> Any:
        """The first process's network: scores and fits may differ in their last bit from host to host, and then channels
        that are nearly as important as each other would be removed here and kept there.
        """
        replicas = find_replicas(self.strategy)
        if replicas.workers == 1:
            return network
        import keras

        weights = {str(number): value for number, value in enumerate(network.get_weights())}
        header, arrays = replicas.share({"network": network.to_json()}, weights)
        shared = keras.models.model_from_json(header["network"])
        shared.set_weights([arrays[str(number)] for number in range(len(arrays))])
        return shared

    def whole(self) -> Bench:
        """The same with training examples that are whole pictures, where the recipe has windows."""
        return replace(self, task=self.task.whole())

    def checkpoint(self, name: str) -> Path:
        """Where a fit of the pass under way keeps its state, so that a killed run goes on from there."""
        return self.work / f"{self.step}-{name}.checkpoint"

    @property
    def final_precision(self) -> Precision:
        """Of the engine file that speaks for the recipe's result."""
        files = [file for p in self.recipe.passes if not isinstance(p, ExportPass) for file in p.writes]
        asked = [cast(Precision, file.split("/")[1]) for file in files]
        return "int8" if "int8" in asked else asked[0] if asked else "float32"

    def training_batches(self, count: int, size: int) -> list[Batch]:
        """Augmented training examples for passes that look at data; the same ones at every call."""
        seed, task = self.recipe.seed, self.task.whole()
        return [task.make_batch(np.random.default_rng([seed, LOOK, n]), size) for n in range(count)]

    def batch_loss(self, outputs: Any, batch: Any) -> Any:
        """The loss on labels, as compress.train.fit takes it."""
        return self.task.label_loss(outputs, batch["targets"])

    @contextmanager
    def cost_engine(self, network: Any, name: str = "cost") -> Iterator[tuple[EdgeEngine, Path]]:
        """`network` as the engine file that the recipe ends with, opened, for its bytes and milliseconds; then it is removed."""
        precision = self.final_precision
        path = self.work / f"{name}-{precision}.tflite"
        inputs = self.task.representative_inputs(COST_CALIBRATION) if precision in NEEDS_INPUTS else None
        if precision == "int4":  # learned rounding moves integers up or down: neither bytes nor time
            quick = PostTraining(precision=precision, rounding_steps=1)
            content, _ = quantize_network(network, quick, inputs)
        else:
            content = convert_tflite(network, precision, inputs)
        write_whole(path, content)
        try:
            with self.opened(EngineFile(path, "tflite", precision)) as engine:
                yield engine, path
        finally:
            path.unlink()

    def cost_of(self, network: Any) -> Cost:
        """Bytes and milliseconds of `network` as the engine file that the recipe ends with."""
        with self.cost_engine(network) as (engine, path):
            return measure_cost(engine, path)

    def opened(self, file: EngineFile) -> EdgeEngine:
        """An engine file as a device runs it, on one thread."""
        return EdgeEngine(open_model_file(file.path, threads=1), self.recipe.input)

    def float_file(self, network: Any) -> EngineFile:
        """The network in float32, to be measured; it goes into no bundle."""
        path = self.work / "measured-float32.tflite"
        write_whole(path, convert_tflite(network, "float32"))
        return EngineFile(path, "tflite", "float32")

    def measure(self, candidate: Candidate) -> Measured:
        """Through the device's own engine and decoder, on one thread; float32 TFLite where no file is made yet."""
        return self.score(candidate)[1]

    def score(self, candidate: Candidate) -> tuple[Scored, Measured]:
        """The same, with what the engine said of each held-out example."""
        file = chosen_file(candidate) or self.float_file(candidate.network)
        with self.opened(file) as engine:
            scored = self.task.score(engine)
            cost = measure_cost(engine, file.path)
        parameters, macs = int(candidate.network.count_params()), model_macs(candidate.network)
        return scored, Measured(parameters, macs, scored.metric(), cost, file)


def chosen_file(candidate: Candidate) -> EngineFile | None:
    """The engine file that speaks for a candidate: int8 where it is made, else the first TFLite file, else none."""
    int8 = (file for file in candidate.files if file.precision == "int8")
    return next(int8, next((file for file in candidate.files if file.format == "tflite"), None))
