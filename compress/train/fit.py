"""One training loop for every task: AdamW or Muon, warm-up and cosine, averaged weights, a bar with time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from compress.train.batches import MAX_THREADS, Batch, Make, cores, open_batches
from compress.train.checkpoint import Checkpoint, fingerprint_of
from compress.train.distributed import Replicas, find_replicas
from compress.train.divergence import Watch, check_batch, first_bad_layer
from compress.train.early_stop import BestKept
from compress.train.forward import forward_network
from compress.train.freeze import frozen
from compress.train.interrupt import interrupt_between_steps
from compress.train.masks import MaskSchedule
from compress.train.muon import muon_kernels
from compress.train.pace import Pace
from compress.train.precision import Precision, choose_policy
from compress.train.rounded import Kernels
from compress.train.schedule import average_momentum_at, learning_rate_at
from compress.train.step import Loss, Stepper
from compress.train.tensorboard import Log, open_log
from edgeai.console import print_note, progress_bar
from edgeai.errors import EdgeError, PassError

LOGGED = 200  # times that a whole training writes to its log
GPU_LAG = 2  # steps that run before the first one's loss is read: reading waits for the device


class FitSettings(BaseModel):
    """How to train.

    steps: optimiser steps. batch: examples in each, and in each replica. warm_up: fraction of the steps. average: momentum
    of the moving average of the weights, which is what comes out. clip_norm: of the whole gradient.
    freeze: layers that stay as they are, by the beginnings of their names. patience: stop after so many checks without a
    better validation, 0 = never; check_every: steps between checks, 0 = a tenth of all. precision: "auto" is mixed_float16
    on a GPU that has it, else float32. optimizer: "adamw", or "muon", which moves kernels as compress.train.muon does.
    save_every_s: of the checkpoint, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    seed: Annotated[int, Field(ge=0)] = 1
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    freeze: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    patience: Annotated[int, Field(ge=0)] = 0
    check_every: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "auto"
    optimizer: Literal["adamw", "muon"] = "adamw"
    save_every_s: Annotated[float, Field(ge=0)] = 30.0


@dataclass(frozen=True, slots=True)
class FitResult:
    """losses: one a step, but for those whose batch was passed over. steps: done, in all. best_step: whose averaged weights
    are in the network. resumed_from: the step that a checkpoint was of, 0 without. examples_per_s: median over windows.
    input_wait: fraction of the time in which the step waited for its batch.
    """

    losses: list[float] = field(repr=False)
    steps: int
    best_step: int
    stopped_early: bool = False
    resumed_from: int = 0
    examples_per_s: float = 0.0
    input_wait: float = 0.0


def fit(
    network: Any,
    make: Make,
    loss: Loss,
    settings: FitSettings,
    *,
    description: str,
    checkpoint: Path | None = None,
    validate: Callable[[], float] | None = None,
    log_dir: Path | None = None,
    strategy: Any = None,
    masks: MaskSchedule | None = None,
    rounded: Kernels | None = None,
    shape: tuple[int, ...] | None = None,
) -> FitResult:
    """Train `network`, a functional Keras model, in place; until the end, and but for `validate`, it stays as it was.

    make(rng): one batch {"inputs": array, "targets": nest of arrays}; batch n is always made with
    `np.random.default_rng([settings.seed, n])`. loss(outputs, batch): a scalar, or {"loss": ..., named parts to be logged}.
    What comes out are the averaged weights, in float32: the last ones, or with `validate`, which looks at `network` and says
    a number that is the better the lower, the best ones of those checked.

    checkpoint: a file that a killed training goes on from; removed at the end. log_dir: for TensorBoard. strategy: from
    open_strategy(); each replica takes batches of its own, the first process writes. masks: weights that are zero from the
    start, or from where a schedule says so, to the end; with `validate` the first check comes after the last renewal.
    rounded: kernels that are used rounded to int8, and are so in what comes out. shape: of one input in a batch, where it is not
    the network's own, as of windows of a picture.

    A batch whose loss or gradient is not finite is passed over, with a note. Raises PassError where three follow each other
    or more than 1 % of the steps are so, where a batch holds values that are no number, and where the loss climbs far above
    its start and stays there; what `make` and `validate` raise comes out as it is.
    """
    if settings.patience and validate is None:
        raise PassError(
            f"{description}: patience needs something to validate on", next_step="set patience = 0"
        )
    if masks is not None and masks.last >= settings.steps:
        raise PassError(
            f"{description}: masks are to be renewed at step {masks.last}, but the training has {settings.steps} steps",
            next_step="raise steps, or let the schedule end sooner",
        )
    replicas = find_replicas(strategy)
    with frozen(network, settings.freeze) as frozen_ids:
        training = _Training(
            network, make, loss, settings, description, replicas, validate, frozen_ids, masks, rounded, shape
        )
        return training.run(checkpoint, log_dir)


class _Training:
    """The state of one call of fit."""

    def __init__(
        self,
        network: Any,
        make: Make,
        loss: Loss,
        settings: FitSettings,
        description: str,
        replicas: Replicas,
        validate: Callable[[], float] | None,
        frozen_ids: frozenset[int],
        masks: MaskSchedule | None,
        rounded: Kernels | None,
        shape: tuple[int, ...] | None,
    ) -> None:
        self._network, self._make, self._loss, self._settings = network, make, loss, settings
        self._description, self._replicas, self._validate = description, replicas, validate
        self._masks, self._rounded = masks, rounded
        self._policy = choose_policy(settings.precision)
        self._stepper = Stepper(
            network,
            forward_network(network, self._policy, shape),
            loss,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            frozen_ids=frozen_ids,
            scaled=self._policy == "mixed_float16",
            replicas=replicas,
            masked=masks is not None,
            rounded=rounded,
            muon=muon_kernels(network) if settings.optimizer == "muon" else frozenset(),
        )
        self._watch = Watch(description, settings.steps)
        self._best = BestKept(settings.patience)
        self._losses: list[float] = []
        self._parts: dict[str, float] = {}
        self._norm = 0.0
        self._pace = Pace()
        self._lag = GPU_LAG if has_gpu() else 0
        self._lost = False
        self._check_every = settings.check_every or max(1, -(-settings.steps // 10))

    def run(self, path: Path | None, log_dir: Path | None) -> FitResult:
        settings = self._settings
        file = Checkpoint(path, self._fingerprint()) if path is not None and self._replicas.chief else None
        resumed_from = self._take_up(file)
        with (
            ExitStack() as streams,
            open_log(log_dir if self._replicas.chief else None) as log,
            progress_bar(self._description, settings.steps) as advance,
        ):
            sources = [self._open(streams, i, resumed_from) for i in range(len(self._replicas.devices))]
            if resumed_from:
                advance(resumed_from)
            try:
                with interrupt_between_steps() as interrupted:
                    self._loop(sources, file, log, advance, interrupted)
            except BaseException:
                # Ctrl-C or a picture that cannot be read: the steps that were made are kept
                if file is not None and not self._lost:
                    with suppress(EdgeError):
                        self._save(file)
                raise
        averages = self._best.averages or self._stepper.averages()
        self._stepper.write(averages)
        if file is not None:
            file.remove()
        done = self._stepper.done
        return FitResult(
            losses=self._losses,
            steps=done,
            best_step=self._best.step or done,
            stopped_early=self._best.stop and done < settings.steps,
            resumed_from=resumed_from,
            examples_per_s=self._pace.examples_per_s,
            input_wait=self._pace.input_wait,
        )

    def _open(self, streams: ExitStack, local: int, start: int) -> Iterator[Batch]:
        shard = (self._replicas.first + local, self._replicas.count)
        threads = max(1, min(MAX_THREADS, cores()) // len(self._replicas.devices))
        stream = open_batches(self._make, seed=self._settings.seed, start=start, shard=shard, threads=threads)
        return streams.enter_context(stream)

    def _loop(
        self,
        sources: list[Iterator[Batch]],
        file: Checkpoint | None,
        log: Log,
        advance: Any,
        interrupted: Callable[[], None],
    ) -> None:
        settings, pending = self._settings, deque[tuple[int, Any, list[Batch]]]()
        saved_s = time.monotonic()
        log_every = max(1, settings.steps // LOGGED)
        done = self._stepper.done
        while done < settings.steps and not self._best.stop:
            interrupted()
            began = self._pace.now()
            batches = [next(source) for source in sources]
            got = self._pace.now()
            self._renew_masks(done)
            rate = learning_rate_at(
                done, steps=settings.steps, peak=settings.learning_rate, warm_up=settings.warm_up
            )
            with self._library_errors(done + 1):
                told = self._stepper.run(
                    batches, learning_rate=rate, momentum=average_momentum_at(done, settings.average)
                )
            done += 1
            pending.append((done, told, batches))
            check = self._check_due(done)
            save = file is not None and time.monotonic() - saved_s >= settings.save_every_s
            while len(pending) > (0 if check or save or done == settings.steps else self._lag):
                self._hear(*pending.popleft())
            self._pace.step(
                began, got, sum(len(batch["inputs"]) for batch in batches) * self._replicas.workers
            )
            advance(1, note=self._note())
            if done % log_every == 0 and self._losses:
                log(done, self._scalars(rate, log_every))
            if check or save:
                paused = self._pace.now()
                if check:
                    log(done, {"validation": self._check(done)})
                if save and file is not None:
                    self._save(file)
                    saved_s = time.monotonic()
                self._pace.pause(self._pace.now() - paused)

    def _renew_masks(self, done: int) -> None:
        if self._masks is None or not self._masks.due(done):
            return
        self._stepper.set_masks(self._masks.make(done, self._stepper.present()))

    @contextmanager
    def _library_errors(self, step: int) -> Iterator[None]:
        """What TensorFlow can do nothing about, in words."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            raise PassError(
                f"{self._description}: out of memory at step {step} with batches of {self._settings.batch}",
                next_step="lower batch in the recipe",
            ) from error
        except tf.errors.OpError as error:
            if self._replicas.workers == 1:
                raise
            raise PassError(
                f"{self._description}: another worker went away at step {step} ({type(error).__name__})",
                next_step="start all workers again: they go on from the first one's checkpoint",
            ) from error

    def _hear(self, step: int, told: Any, batches: list[Batch]) -> None:
        said = self._stepper.read(told)

        def explain() -> str:
            for local, batch in enumerate(batches):
                number = (step - 1) * self._replicas.count + self._replicas.first + local
                check_batch(batch, description=self._description, number=number)
            # looking for the layer must not hide what was found: some networks cannot be taken apart
            with self._stepper.present_weights(), suppress(Exception):
                return first_bad_layer(self._network, batches[0], self._loss)
            return ""

        try:
            self._watch.tell(step, said, explain)
        except PassError:
            self._lost = True
            raise
        if said.ok:
            self._losses.append(said.loss)
            self._parts, self._norm = said.parts, said.gradient_norm

    def _check_due(self, done: int) -> bool:
        # weights from before the last renewal of the masks have fewer zeros than were asked for, however good they are
        since = max(self._best.checked, self._masks.last if self._masks is not None else 0)
        return self._validate is not None and (
            done - since >= self._check_every or done == self._settings.steps
        )

    def _check(self, done: int) -> float:
        averages = self._stepper.averages()
        value = float("nan")
        if self._replicas.chief and self._validate is not None:
            self._stepper.write(averages)
            value = float(self._validate())
        value = float(self._replicas.broadcast(np.array([value]))[0])
        self._best.tell(done, value, averages)
        if self._best.averages is None and done == self._settings.steps:
            raise PassError(
                f"{self._description}: the validation gave {value} at every check",
                next_step="check the held-out data for broken labels",
            )
        return value

    def _note(self) -> str:
        if not self._losses:
            return ""
        last = self._losses[-50:]
        return f"loss {sum(last) / len(last):.3f}"

    def _scalars(self, rate: float, over: int) -> dict[str, float]:
        last = self._losses[-over:]
        return {
            "loss": sum(last) / len(last),
            **{f"loss/{name}": value for name, value in self._parts.items()},
            "learning_rate": rate,
            "gradient_norm": self._norm,
            "examples_per_s": self._pace.examples_per_s,
            "input_wait": self._pace.input_wait,
        }

    # -- the checkpoint

    def _fingerprint(self) -> str:
        special: dict[str, Any] = {} if self._masks is None else {"masks": sorted(self._masks.renew_at)}
        if self._rounded is not None:
            special["rounded"] = sorted(self._rounded.items())
        return fingerprint_of(
            {
                **special,
                "settings": self._settings.model_dump(mode="json", exclude={"save_every_s"}),
                "description": self._description,
                "policy": self._policy,
                "replicas": self._replicas.count,
                "variables": [
                    [v.name, list(map(int, v.shape)), str(v.dtype)] for v in self._network.variables
                ],
            }
        )

    def _save(self, file: Checkpoint) -> None:
        numbers, arrays = self._best.state()
        arrays |= {"losses": np.array(self._losses, np.float64)}
        file.save({"best": numbers, "watch": self._watch.state()}, self._stepper.state() | arrays)

    def _check_state(self, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Raises ValueError, KeyError or TypeError for a state that this training cannot be in."""
        Watch(self._description, self._settings.steps).restore(header["watch"])
        best = BestKept(self._settings.patience)
        best.restore(header["best"], arrays)
        weights, stats = best.averages or self._stepper.averages()
        if (weights.shape, stats.shape) != ((self._stepper.weights.size,), (self._stepper.stats.size,)):
            raise ValueError("its best weights do not fit")
        if not 0 <= len(arrays["losses"]) <= int(arrays["done"]) <= self._settings.steps:
            raise ValueError(f"it is of step {int(arrays['done'])}")

    def _take_up(self, file: Checkpoint | None) -> int:
        """Go on from the checkpoint where there is one that fits; the step that it is of, else 0."""
        fresh: dict[str, NDArray[Any]] = self._stepper.state()
        found = file.load(fresh, self._check_state) if file is not None else None
        header, arrays = found if found is not None else ({}, fresh)
        header, arrays = self._replicas.share(header, arrays)
        self._stepper.restore({name: arrays[name] for name in fresh})
        if header:
            self._watch.restore(header["watch"])
            self._best.restore(header["best"], arrays)
            self._losses = arrays["losses"].tolist()
            print_note(
                f"{self._description}: going on from step {self._stepper.done} of {self._settings.steps}"
            )
        return self._stepper.done


def has_gpu() -> bool:
    """Whether TensorFlow sees one."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
