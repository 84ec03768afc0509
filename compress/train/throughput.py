"""How fast a training goes, beside what the network alone could take and what the batches alone could give."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from compress.train.batches import Batch, Make, open_batches
from compress.train.distributed import Replicas
from compress.train.fit import FitSettings
from compress.train.forward import forward_network
from compress.train.freeze import frozen
from compress.train.precision import choose_policy
from compress.train.step import Loss, Stepper
from edgeai.console import progress_bar

ROUNDS = 8  # of windows by turns: what else the machine does then meets all three alike
SETTLE = 6  # batches before a window is timed, more than are made ahead on two cores


def measure_throughput(
    network: Any,
    make: Make,
    loss: Loss,
    settings: FitSettings,
    *,
    steps: int,
    shape: tuple[int, ...] | None = None,
) -> dict[str, list[float]]:
    """One value for each of at most 8 windows, `steps` training steps in all (at least one a window). The network stays as
    it is.

    training: examples/s of steps fed by batches as they are made. model: of the same steps on one batch that lies in
    memory. batches: of batches that nobody uses. training_ratio, batches_ratio: the first and the last against the second,
    window by window. shape: as in compress.train.fit.
    """
    rounds = min(ROUNDS, steps)
    window = steps // rounds
    found: dict[str, list[float]] = {
        name: [] for name in ("training", "model", "batches", "training_ratio", "batches_ratio")
    }
    with frozen(network, settings.freeze) as frozen_ids:
        policy = choose_policy(settings.precision)
        stepper = Stepper(
            network,
            forward_network(network, policy, shape),
            loss,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            frozen_ids=frozen_ids,
            scaled=policy == "mixed_float16",
            replicas=Replicas(),
        )

        def step(batch: Batch) -> None:
            # a rate of next to nothing: the time is the same, and the weights stay sane on one batch for ever
            stepper.read(stepper.run([batch], learning_rate=1e-12, momentum=0.5))

        def measure(source: Iterator[Batch], use: Any) -> float:
            for batch in itertools.islice(source, SETTLE):
                use(batch)
            examples, began = 0, time.perf_counter()
            for batch in itertools.islice(source, window):
                use(batch)
                examples += len(batch["inputs"])
            return examples / (time.perf_counter() - began)

        with progress_bar("bench", 3 * rounds) as advance:
            for number in range(rounds):
                start = number * 2 * (window + SETTLE)
                with open_batches(make, seed=settings.seed, start=start) as batches:
                    kept = next(batches)
                    training = measure(batches, step)
                advance()
                model = measure(itertools.repeat(kept), step)
                advance()
                with open_batches(make, seed=settings.seed, start=start + window + SETTLE) as batches:
                    alone = measure(batches, lambda batch: None)
                advance()
                for name, value in (("training", training), ("model", model), ("batches", alone)):
                    found[name].append(value)
                found["training_ratio"].append(training / model)
                found["batches_ratio"].append(alone / model)
    return found
