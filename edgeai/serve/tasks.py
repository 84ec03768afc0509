"""What a model says to one body. One more task is one class here and one line in `TASKS`."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_engine
from edgeai.errors import BundleError, SourceFormatError, StageError
from edgeai.pipeline import VoicePipeline, detection_facts, heard_facts, padded
from edgeai.serve.bodies import JPEG, NPY, PNG, SOUND, read_clip, read_picture, read_tensor
from edgeai.serve.settings import ServeSettings
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import Placement, letterbox
from edgeai.types import Array, JsonValue

Answer = dict[str, JsonValue]
Outputs = dict[str, NDArray[np.float32]]
T = TypeVar("T")


class DroppedError(Exception):
    """Nobody waits for this answer any more."""


class Ticket:
    """Says to the thread that works on a request whether its answer is still waited for."""

    def __init__(self) -> None:
        self._dropped = threading.Event()

    def drop(self) -> None:
        self._dropped.set()

    def check(self) -> None:
        """Raises DroppedError where there is no need to go on."""
        if self._dropped.is_set():
            raise DroppedError


class Rack(Generic[T]):
    """Things that are for one thread at a time, such as engines, lent to whoever comes first."""

    def __init__(self, things: Sequence[T]) -> None:
        self.first = things[0]
        self._things = tuple(things)
        self._free: queue.SimpleQueue[T] = queue.SimpleQueue()
        for thing in things:
            self._free.put(thing)

    @contextmanager
    def lend(self) -> Iterator[T]:
        """One of them, after waiting for it; back on the rack at the end."""
        thing = self._free.get()
        try:
            yield thing
        finally:
            self._free.put(thing)

    def __iter__(self) -> Iterator[T]:
        return iter(self._things)


class TensorTask:
    """Any model, a tensor in, raw outputs out. Its methods may be called by several threads.

    kinds: the content types that it takes. engine: one of its engines, for its facts.
    """

    kinds: ClassVar[tuple[str, ...]] = (NPY,)

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        """Raises BundleError, StageError and EngineError for a bundle that cannot be run."""
        self.bundle = bundle
        self._rack = Rack([_open(bundle, settings) for _ in range(settings.workers)])
        self.engine = self._rack.first

    def answer(self, body: bytes, kind: str, ticket: Ticket) -> Answer:
        """kind: one of `kinds`. Raises RequestError, SourceError and TensorError for what was sent, other EdgeErrors
        for the model's faults, and DroppedError.
        """
        return {"outputs": _outputs_json(self._run(read_tensor(body), ticket))}

    def _run(self, array: Array, ticket: Ticket) -> Outputs:
        with self._rack.lend() as engine:
            ticket.check()
            return engine.run({engine.inputs[0].name: array})

    def close(self) -> None:
        for engine in self._rack:
            engine.close()


class PictureTask(TensorTask):
    """A model that looks at a picture: what it says becomes `_facts`."""

    kinds = (JPEG, PNG, NPY)

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        if not isinstance(bundle.manifest.input, ImageInput):  # the manifest has checked it
            raise BundleError(f"bundle {bundle.name} takes no picture")
        self._spec = bundle.manifest.input
        super().__init__(bundle, settings)

    def answer(self, body: bytes, kind: str, ticket: Ticket) -> Answer:
        if kind == NPY:
            return super().answer(body, kind, ticket)
        image = read_picture(body, kind)
        try:
            picture, placement = letterbox(image, self._spec)
        except StageError as error:
            raise SourceFormatError(str(error)) from None
        size: Answer = {"width": placement.source_width, "height": placement.source_height}
        return size | self._facts(self._run(picture, ticket), placement)

    def _facts(self, outputs: Outputs, placement: Placement) -> Answer:
        raise NotImplementedError


class DetectTask(PictureTask):
    """Boxes, as `edgeai detect` prints them, without tracks."""

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        self._decoder = open_decoder(bundle.manifest.decoder, labels=bundle.labels)
        super().__init__(bundle, settings)

    def _facts(self, outputs: Outputs, placement: Placement) -> Answer:
        found = self._decoder.decode(outputs, placement)
        return {"detections": [*detection_facts(found, self.bundle.labels)]}


class ClassifyTask(PictureTask):
    """Every label with its score, best first."""

    def _facts(self, outputs: Outputs, placement: Placement) -> Answer:
        scores = one_score_a_label(outputs, self.bundle)
        order = np.argsort(-scores, kind="stable")
        labels = self.bundle.labels
        return {"labels": [{"label": labels[k], "score": round(float(scores[k]), 4)} for k in order]}


class KeywordTask(TensorTask):
    """The keywords in a clip, as `edgeai listen` prints them for the same file."""

    kinds = (SOUND, NPY)

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        self.bundle = bundle
        voices = [_open_voice(bundle, settings) for _ in range(settings.workers)]
        self._voices = Rack(voices)
        self.engine = voices[0].engine

    def answer(self, body: bytes, kind: str, ticket: Ticket) -> Answer:
        if kind == NPY:
            return super().answer(body, kind, ticket)
        chunks = read_clip(body, self._voices.first.spec.sample_rate_hz)
        heard: list[JsonValue] = []
        with self._voices.lend() as voice:
            # a clip begins before the end of the one before it: that alone makes a voice forget the other
            for chunk in padded(iter(chunks), voice.window_s / 2):
                ticket.check()
                heard += [heard_facts(keyword) for keyword in voice.process(chunk)]
        duration_s = sum(len(chunk.samples) / chunk.sample_rate_hz for chunk in chunks)
        return {"duration_s": round(duration_s, 3), "keywords": heard}

    def _run(self, array: Array, ticket: Ticket) -> Outputs:
        with self._voices.lend() as voice:
            ticket.check()
            voice.engine.reset()
            return voice.engine.run({voice.engine.inputs[0].name: array})

    def close(self) -> None:
        for voice in self._voices:
            voice.close()


# what is not here takes tensors alone: the runtime has no decoder for it
TASKS: dict[str, Callable[[Bundle, ServeSettings], TensorTask]] = {
    "detect": DetectTask,
    "classify": ClassifyTask,
    "keyword": KeywordTask,
}


def open_task(bundle: Bundle, settings: ServeSettings) -> TensorTask:
    """Everything of a model, opened `settings.workers` times. Raises BundleError, StageError, EngineError."""
    return TASKS.get(bundle.manifest.task, TensorTask)(bundle, settings)


def _open(bundle: Bundle, settings: ServeSettings) -> EdgeEngine:
    return open_engine(bundle, file=settings.engine, threads=settings.threads)


def _open_voice(bundle: Bundle, settings: ServeSettings) -> VoicePipeline:
    return VoicePipeline(bundle, engine=settings.engine, threads=settings.threads)


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


def _outputs_json(outputs: Outputs) -> Answer:
    return {
        name: {"shape": [*array.shape], "values": _finite_or_null(array.reshape(-1).tolist())}
        for name, array in outputs.items()
    }


def _finite_or_null(values: list[float]) -> list[JsonValue]:
    return [value if math.isfinite(value) else None for value in values]


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
