"""What the trainer and the passes ask of a task: batches, losses, representative inputs, the metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.scored import Scored
from edgeai.engines import EdgeEngine

Floats = NDArray[np.float32]
Batch = dict[str, Any]

# enough held-out examples to see overfitting by; more would only cost time at every check
MAX_VALIDATION = 512
VALIDATION_BATCH = 32


class TrainingTask(ABC):
    """One task on its data: `training` is learnt from, `validation` is measured on. Inputs are what the model takes:
    normalised pictures or features.
    """

    training: Any
    validation: Any

    @property
    def training_shape(self) -> tuple[int, ...] | None:
        """Of one training input, where it is not the network's own: a fit then trains a network of that size and its weights."""
        return None

    def whole(self) -> TrainingTask:
        """The same task with training inputs of the network's own shape."""
        return self

    @abstractmethod
    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """{"inputs": (size, ...), "targets": ...}: augmented, drawn by `rng` alone. Any thread may call."""

    @abstractmethod
    def validation_batch(self, indices: Sequence[int]) -> Batch:
        """The same of held-out examples, not augmented."""

    @abstractmethod
    def label_loss(self, outputs: Any, targets: Any) -> Any: ...

    def can_label(self, outputs: Any) -> bool:
        """Whether label_loss() and teacher_loss() know these outputs."""
        return True

    def teacher_loss(self, outputs: Any, teacher: Any) -> Any:
        """Against the outputs of a network with the same outputs, where these are no logits: of logits, the loss is one of
        compress.distill.losses, which the recipe chooses.
        """
        raise NotImplementedError(f"{type(self).__name__} gives logits")

    @abstractmethod
    def representative_inputs(self, count: int) -> Iterable[Floats]:
        """Inputs (1, ...) from training data, through the device's own pre-processing, for calibration."""

    @abstractmethod
    def score(self, engine: EdgeEngine) -> Scored:
        """What the engine says of `validation`, through the device's own pre-processing and decoder."""

    def pictures_measured_on(self) -> tuple[Path, ...]:
        """Files of `validation`, which nothing may learn from, with or without labels."""
        return ()

    def validation_loss(self, network: Any) -> Callable[[], float]:
        """A call that gives the mean label loss on held-out examples, at most MAX_VALIDATION of them."""
        import tensorflow as tf

        picks = np.random.default_rng(0).permutation(len(self.validation))[:MAX_VALIDATION]

        @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
        def loss(inputs: Any, targets: Any) -> Any:
            return self.label_loss(network(inputs, training=False), targets)

        def measure() -> float:
            total = 0.0
            for at in range(0, len(picks), VALIDATION_BATCH):
                batch = self.validation_batch(picks[at : at + VALIDATION_BATCH].tolist())
                total += float(loss(batch["inputs"], batch["targets"])) * len(batch["inputs"])
            return total / max(1, len(picks))

        return measure
