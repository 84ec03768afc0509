"""What a model says to one body. One more task is one class here and one line in `TASKS`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import FileEntry, ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_engine
from edgeai.errors import BundleError, SourceFormatError, StageError
from edgeai.pipeline import VoicePipeline, detection_facts, heard_facts, padded
from edgeai.serve.bodies import JPEG, NPY, PNG, SOUND, read_clip, read_picture, read_tensor
from edgeai.serve.crew import Errand, Ticket
from edgeai.serve.settings import ServeSettings
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import Placement, letterbox
from edgeai.types import Array, JsonValue

Answer: TypeAlias = dict[str, JsonValue]
Outputs: TypeAlias = dict[str, NDArray[np.float32]]
E = TypeVar("E")


class Task(ABC, Generic[E]):
    """A model, its engines, and how bodies become answers.

    kinds: the content types that it takes. engines: `settings.workers` of them, each for one thread at a time.
    file: the engine file that they run. max_batch: how many errands' pictures run at once.
    """

    kinds: ClassVar[tuple[str, ...]]
    bundle: Bundle
    engines: list[E]
    file: FileEntry | None
    max_batch: int = 1

    @abstractmethod
    def read(self, body: bytes, kind: str) -> Errand[E, Answer]:
        """What is to be done for a body of one of `kinds`. Several threads may read at once.

        Raises RequestError, SourceError and TensorError for what was sent. The errand raises TensorError too,
        DroppedError, and other EdgeErrors where the model is at fault.
        """

    def run_batch(self, engine: E, pictures: Sequence[Array]) -> Sequence[Any]:
        """What the engine finds on the pictures of several errands, in their order; asked of no other task."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Free the engines."""


class TensorTask(Task[EdgeEngine]):
    """Any model: a tensor of its input in, raw outputs out."""

    kinds: ClassVar[tuple[str, ...]] = (NPY,)

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        """Raises BundleError, StageError and EngineError for a bundle that cannot be run."""
        self.bundle = bundle
        self.engines = [
            open_engine(bundle, host=settings.engine_host, file=settings.engine, threads=settings.threads)
            for _ in range(settings.workers)
        ]
        self.file = self.engines[0].file

    def read(self, body: bytes, kind: str) -> Errand[EdgeEngine, Answer]:
        array = read_tensor(body)

        def run(engine: EdgeEngine, ticket: Ticket) -> Outputs:
            if self.bundle.manifest.input.kind == "logmel":
                engine.reset()  # it may remember what it heard before
            return engine.run({engine.inputs[0].name: array})

        return Errand(run, outputs_facts)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()


class PictureTask(TensorTask):
    """A model that looks at a picture; `facts` says what it saw."""

    kinds = (JPEG, PNG, NPY)

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        if not isinstance(bundle.manifest.input, ImageInput):
            raise BundleError(
                f"bundle {bundle.name} is for task {bundle.manifest.task!r} and takes no picture"
            )
        self._spec = bundle.manifest.input
        super().__init__(bundle, settings)
        self.max_batch = min(engine.max_batch for engine in self.engines)

    def read(self, body: bytes, kind: str) -> Errand[EdgeEngine, Answer]:
        if kind == NPY:
            return super().read(body, kind)
        image = read_picture(body, kind)
        try:
            picture, placement = letterbox(image, self._spec)
        except StageError as error:  # a shape that cannot be resized, such as 20 million x 1
            raise SourceFormatError(str(error)) from None
        size: Answer = {"width": placement.source_width, "height": placement.source_height}

        def run(engine: EdgeEngine, ticket: Ticket) -> Outputs:
            return engine.run({self._spec.name: picture})

        return Errand(run, lambda outputs: size | self.facts(outputs, placement), picture)

    def run_batch(self, engine: EdgeEngine, pictures: Sequence[Array]) -> Sequence[Outputs]:
        return engine.run_batch(pictures)

    @abstractmethod
    def facts(self, outputs: Outputs, placement: Placement) -> Answer:
        """What the outputs say of a picture that was placed so."""


class DetectTask(PictureTask):
    """Boxes, as `edgeai detect` prints them, without tracks."""

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        self._decoder = open_decoder(bundle.manifest.decoder, labels=bundle.labels)
        super().__init__(bundle, settings)

    def facts(self, outputs: Outputs, placement: Placement) -> Answer:
        found = self._decoder.decode(outputs, placement)
        return {"detections": [*detection_facts(found, self.bundle.labels)]}


class ClassifyTask(PictureTask):
    """Every label with its score, best first."""

    def facts(self, outputs: Outputs, placement: Placement) -> Answer:
        scores = one_score_a_label(outputs, self.bundle)
        order = np.argsort(-scores, kind="stable").tolist()
        labels = self.bundle.labels
        return {"labels": [{"label": labels[k], "score": round(float(scores[k]), 4)} for k in order]}


class KeywordTask(Task[VoicePipeline]):
    """The keywords in a clip, as `edgeai listen` prints them for the same file."""

    kinds = (SOUND, NPY)

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        """Raises BundleError, StageError and EngineError for a bundle that cannot be run."""
        self.bundle = bundle
        self.engines = [
            VoicePipeline(bundle, engine=settings.engine, host=settings.engine_host, threads=settings.threads)
            for _ in range(settings.workers)
        ]
        self.file = self.engines[0].engine.file

    def read(self, body: bytes, kind: str) -> Errand[VoicePipeline, Answer]:
        return self._tensor(body) if kind == NPY else self._clip(body)

    def _clip(self, body: bytes) -> Errand[VoicePipeline, Answer]:
        chunks = read_clip(body, self.engines[0].spec.sample_rate_hz)
        duration_s = sum(len(chunk.samples) / chunk.sample_rate_hz for chunk in chunks)

        def run(voice: VoicePipeline, ticket: Ticket) -> list[JsonValue]:
            heard: list[JsonValue] = []
            # a clip begins before the end of the one before it: that alone makes a voice forget the other
            for chunk in padded(iter(chunks), voice.window_s / 2):
                ticket.check()
                heard += [heard_facts(keyword) for keyword in voice.process(chunk)]
            return heard

        return Errand(run, lambda heard: {"duration_s": round(duration_s, 3), "keywords": heard})

    def _tensor(self, body: bytes) -> Errand[VoicePipeline, Answer]:
        array = read_tensor(body)

        def run(voice: VoicePipeline, ticket: Ticket) -> Outputs:
            voice.engine.reset()
            return voice.engine.run({voice.engine.inputs[0].name: array})

        return Errand(run, outputs_facts)

    def close(self) -> None:
        for voice in self.engines:
            voice.close()


# a task that is not here takes tensors alone: the runtime has no decoder for it
TASKS: dict[str, Callable[[Bundle, ServeSettings], Task[Any]]] = {
    "detect": DetectTask,
    "classify": ClassifyTask,
    "keyword": KeywordTask,
}


def open_task(bundle: Bundle, settings: ServeSettings) -> Task[Any]:
    """A model with its engines open. Raises BundleError, StageError, EngineError."""
    return TASKS.get(bundle.manifest.task, TensorTask)(bundle, settings)


def one_score_a_label(outputs: Outputs, bundle: Bundle) -> NDArray[np.float64]:
    """(labels,) probabilities of a classifier's only output, through softmax where its decoder says so.

    Raises BundleError where the output has another size, or is not finite.
    """
    values = [np.asarray(output, np.float64).reshape(-1) for output in outputs.values()]
    if len(values) != 1 or len(values[0]) != len(bundle.labels) or not np.isfinite(values[0]).all():
        raise BundleError(
            f"bundle {bundle.name}: a classifier gives one finite score for each of its {len(bundle.labels)} labels",
            next_step=f"check it with `edgeai bundle verify {bundle.name}`",
        )
    if bundle.manifest.decoder.params.get("activation") != "softmax":
        return values[0]
    powers = np.exp(values[0] - values[0].max())
    return np.asarray(powers / powers.sum())


def outputs_facts(outputs: Outputs) -> Answer:
    """Raw outputs by name: shape, and values with the last axis fastest; null where one is not finite."""
    told: dict[str, JsonValue] = {}
    for name, array in outputs.items():
        values = [value if math.isfinite(value) else None for value in array.reshape(-1).tolist()]
        told[name] = {"shape": [*array.shape], "values": [*values]}
    return {"outputs": told}


def input_facts(bundle: Bundle) -> Answer:
    """What a model takes: size in pixels and colour order, or sample rate and the shape of its features."""
    spec = bundle.manifest.input
    if isinstance(spec, LogMelInput):
        return {
            "kind": "sound",
            "sample_rate_hz": spec.sample_rate_hz,
            "frames": spec.frames,
            "mels": spec.mels,
        }
    return {"kind": "image", "width": spec.width, "height": spec.height, "colour": spec.colour}
