"""A teacher whose outputs are those of the student: one call for Keras networks and for files that an engine runs."""

from __future__ import annotations

import hashlib
import threading
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import ImageInput
from edgeai.engines import Engine, open_model_file
from edgeai.engines.edges import dequantise, quantise
from edgeai.errors import EngineError
from edgeai.types import Array, TensorSpec

Floats = NDArray[np.float32]
# below what a probability can be told as: half a step of int8, and of no account in float32
LEAST_STORED, LEAST_FLOAT = 1 / 512, 1e-7


@dataclass(frozen=True, slots=True)
class OutputRule:
    """How an output of the teacher becomes one of the student's.

    name: the teacher's. channels_first: (B, C, ...) becomes (B, ..., C). columns: which of the last axis are meant, in the
    student's order. least: the least probability where the teacher gives those instead of logits, which are their logarithms.
    """

    name: str
    channels_first: bool = False
    columns: tuple[int, ...] | None = None
    least: float | None = None

    def apply(self, value: Any) -> Any:
        """Tensors stay tensors; works inside a graph too."""
        from keras import ops

        if self.channels_first:
            value = ops.moveaxis(value, 1, -1)
        if self.columns is not None:
            value = ops.take(value, np.array(self.columns, np.int32), axis=-1)
        if self.least is not None:
            value = ops.log(ops.maximum(value, self.least))
        return value


@dataclass(frozen=True, slots=True)
class InputRule:
    """How what the student is given becomes what the teacher takes. given, wanted: their input contracts; equal: as it is."""

    given: ImageInput
    wanted: ImageInput

    def apply(self, value: Any) -> Any:
        """Pixels as they were, another size and colour order, and the teacher's own normalisation."""
        from keras import ops

        given, wanted = self.given, self.wanted
        value = value * np.array(given.std, np.float32) + np.array(given.mean, np.float32)
        if (given.height, given.width) != (wanted.height, wanted.width):
            value = ops.image.resize(value, (wanted.height, wanted.width), data_format="channels_last")
        if given.colour != wanted.colour:
            value = ops.flip(value, axis=-1)
        return (value - np.array(wanted.mean, np.float32)) / np.array(wanted.std, np.float32)


@dataclass(frozen=True)
class Rules:
    """What stands between a teacher and its student. keep_others: outputs that no rule names stay, as they are."""

    outputs: Mapping[str, OutputRule] = field(default_factory=dict)
    input: InputRule | None = None
    keep_others: bool = True

    def apply(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        said = {name: rule.apply(outputs[rule.name]) for name, rule in self.outputs.items()}
        if self.keep_others:
            said = {name: value for name, value in outputs.items() if name not in said} | said
        return said


class TeacherNetwork(ABC):
    """Gives {the student's output name: (B, ...) float32} for (B, ...) float32 inputs of the student. Any thread may call.

    name: for messages. fingerprint: SHA-256 of what it is. in_graph: whether `said` may be called, with tensors.
    raw_input: the shape of one example as it takes them itself, channels last. quantised: whether it tells in coarse steps.
    """

    name: str
    fingerprint: str
    raw_input: tuple[int, ...]
    in_graph: bool = False
    quantised: bool = False
    rules: Rules = Rules()

    @property
    def any_size(self) -> bool:
        """Whether it can be had for inputs of another size: a Keras network that takes what its student does."""
        return self.in_graph and self.rules.input is None

    def __call__(self, inputs: Floats) -> dict[str, Floats]:
        if self.rules.input is not None:
            inputs = np.asarray(self.rules.input.apply(inputs), np.float32)
        return {name: np.asarray(v, np.float32) for name, v in self.rules.apply(self.raw(inputs)).items()}

    def said(self, inputs: Any) -> dict[str, Any]:
        """The same of tensors, inside a graph. Raises EngineError where it cannot be."""
        raise EngineError(f"teacher {self.name} is no Keras network: it cannot be part of a graph")

    @abstractmethod
    def raw(self, inputs: Floats) -> dict[str, Any]:
        """Its own outputs by its own names, for inputs as it takes them."""

    def close(self) -> None:
        """Free what it holds; safe to call twice."""

    def __enter__(self) -> TeacherNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class KerasTeacher(TeacherNetwork):
    """A functional Keras model of one input. Its weights are read, never changed."""

    in_graph = True

    def __init__(self, network: Any, *, name: str, fingerprint: str = "") -> None:
        import tensorflow as tf

        self.network, self.name = network, name
        self.raw_input = tuple(network.inputs[0].shape[1:])
        self.fingerprint = fingerprint or network_fingerprint(network)
        self._graph = tf.function(self._call, autograph=False, reduce_retracing=True)

    def raw(self, inputs: Floats) -> dict[str, Any]:
        return {name: value.numpy() for name, value in self._graph(inputs).items()}

    def said(self, inputs: Any) -> dict[str, Any]:
        import tensorflow as tf

        if self.rules.input is not None:
            inputs = self.rules.input.apply(inputs)
        said = self.rules.apply(self._call(inputs))
        return {name: tf.cast(value, tf.float32) for name, value in said.items()}

    def _call(self, inputs: Any) -> dict[str, Any]:
        from compress.networks.signature import output_names

        outputs = self.network(inputs, training=False)
        if isinstance(outputs, Mapping):
            return dict(outputs)
        values = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(output_names(self.network), values, strict=True))


class FileTeacher(TeacherNetwork):
    """A .tflite or .onnx file of one input through the device's own engines, one for each thread that calls.

    Several examples go in at once where the file takes them (ONNX with a free batch axis), else one after the other.
    shape: of one example, channels last; what the file leaves open is taken from it. Raises EngineError for a file that
    cannot be run.
    """

    def __init__(self, path: Path, *, shape: tuple[int, ...], name: str = "") -> None:
        self.name, self._path = name or path.name, path
        self._own = threading.local()
        self._lock = threading.Lock()
        self._opened: list[Engine] | None = []
        self.fingerprint = file_fingerprint(path)
        with open_model_file(path) as engine:
            if len(engine.inputs) != 1:
                raise EngineError(f"teacher {self.name} has {len(engine.inputs)} inputs, one is needed")
            spec = engine.inputs[0]
            # integers stand for steps of their own; one with a scale is what a network was quantised to
            self.quantised = any(out.scale is not None for out in engine.outputs)
        fixed = spec.shape[1:]
        self._input = spec.name
        self._planar = len(fixed) == len(shape) == 3 and fixed[0] == shape[-1] > 1 and fixed[-1] != shape[-1]
        told = (*fixed[1:], fixed[0]) if self._planar else fixed
        tensor = fixed
        if not self._planar and _sizes(fixed) == _sizes(shape):
            told = shape  # axes of length 1 may lie elsewhere, or be left out
        elif path.suffix.lower() == ".onnx" and len(told) == len(shape):
            # a side that the file leaves open shows as 1
            sides = zip(told[:-1], shape[:-1], strict=True)
            told = (*(size if size > 1 else wanted for size, wanted in sides), told[-1])
            tensor = (told[-1], *told[:-1]) if self._planar else told
        self.raw_input, self._tensor = told, tensor
        self._joint = path.suffix.lower() == ".onnx" and self._takes_several()

    def raw(self, inputs: Floats) -> dict[str, Any]:
        if self._planar:
            inputs = np.ascontiguousarray(np.moveaxis(inputs, -1, 1))
        if self._joint:
            return self._run(inputs)
        rows = [self._run(inputs[i : i + 1]) for i in range(len(inputs))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened or [], None
        for engine in opened:
            engine.close()

    def _run(self, inputs: Floats) -> dict[str, Floats]:
        engine = self._engine(len(inputs))
        spec = engine.inputs[0]
        if inputs.size != np.prod(spec.shape):
            raise EngineError(f"teacher {self.name} takes {spec.shape}, it was given {inputs.shape}")
        told = engine.run({spec.name: _stored(inputs, spec).reshape(spec.shape)})
        return {out.name: dequantise(told[out.name], out) for out in engine.outputs}

    def _engine(self, batch: int) -> Engine:
        """The one of this thread, for so many examples."""
        engines: dict[int, Engine] = self._own.__dict__.setdefault("engines", {})
        if batch not in engines:
            made = self._open(batch)
            with self._lock:
                if self._opened is None:
                    made.close()
                    raise EngineError(f"teacher {self.name} is closed")
                self._opened.append(made)
            engines[batch] = made
        return engines[batch]

    def _open(self, batch: int) -> Engine:
        if self._path.suffix.lower() != ".onnx":
            return open_model_file(self._path)
        from edgeai.engines.onnx import OnnxEngine

        return OnnxEngine(self._path, shapes={self._input: (batch, *self._tensor)})

    def _takes_several(self) -> bool:
        """Some files have a free batch axis, and a reshape inside that has not."""
        try:
            with self._open(2) as engine:
                spec = engine.inputs[0]
                told = engine.run({spec.name: np.zeros(spec.shape, spec.dtype)})
        except EngineError:
            return False
        return all(value.ndim > 0 and len(value) == 2 for value in told.values())


def network_fingerprint(network: Any) -> str:
    """SHA-256 of a Keras model's weights, with their names and shapes."""
    digest = hashlib.sha256()
    for variable in network.variables:
        digest.update(f"{variable.path} {tuple(variable.shape)} {variable.dtype}".encode())
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file. Raises EngineError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from None


def _sizes(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _stored(inputs: Floats, spec: TensorSpec) -> Array:
    """As the tensor has it; integers without a scale are pixels."""
    if spec.scale is None and not spec.dtype.startswith("float"):
        limits = np.iinfo(spec.dtype)
        pixels: Array = np.clip(np.rint(inputs), limits.min, limits.max).astype(spec.dtype)
        return pixels
    return quantise(inputs, spec)
