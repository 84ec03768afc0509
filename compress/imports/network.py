"""One way in: whatever file a network comes in, as a Keras network that says the same, and how near it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.imports.onnx import tflite_from_onnx
from compress.imports.saved_model import tflite_from_saved_model
from compress.imports.tflite import edge_names, keras_from_tflite
from compress.networks.keras_file import keras_network
from compress.networks.signature import input_names, output_names
from compress.quantize.slim import slim_tflite
from edgeai.errors import DataError, DataMissingError, UsageError

Array = NDArray[np.float32]
Told = dict[str, Array]
NEAR = 1e-3  # of an output's range: float32 sums in another order
TRIALS = 3  # random inputs on which both are asked


@dataclass(frozen=True)
class Imported:
    """network: functional, a dict of outputs. kind: of the source. furthest: the largest difference from the source over
    random inputs, as a share of an output's range.
    """

    network: Any
    kind: str
    furthest: float


def import_network(source: Path, *, outputs: Sequence[str] = (), environment: Path | None = None) -> Imported:
    """A Keras network out of a .keras, .onnx or float .tflite file, or the folder of a SavedModel.

    outputs: what to call its outputs, as "old=new", or "new" of a single one; others are called as in the source.
    environment: of onnx2tf, the user's cache where not given.

    Raises DataMissingError or DataError for a source that is absent, broken, holds what Keras has no layer for, or whose
    network does not say what it says; UsageError for a kind or an output that is not known.
    """
    if not source.exists():
        raise DataMissingError(f"no network at {source}")
    kind = "saved-model" if source.is_dir() else source.suffix.lower().lstrip(".")
    if kind not in _KINDS:
        raise UsageError(
            f"{source}: networks come as .keras, .onnx, float .tflite, or a SavedModel's folder",
            next_step="export it from PyTorch with torch.onnx.export",
        )
    network, ask = _KINDS[kind](source, environment)
    named, furthest = _named_alike(network, ask, source.name)
    if outputs:
        named = _renamed(named, outputs, source.name)
    return Imported(named, kind, furthest)


# -- the kinds: each gives the network and a way to ask the source itself, with channels last where the network has them so


Ask = Callable[[Mapping[str, Array]], Told]


def _from_keras(source: Path, environment: Path | None) -> tuple[Any, Ask]:
    network = keras_network(source)
    return network, lambda given: _ask_keras(network, given)


def _from_tflite(source: Path, environment: Path | None) -> tuple[Any, Ask]:
    content = source.read_bytes()
    return keras_from_tflite(content, where=source.name), _tflite_asker(content)


def _from_saved_model(source: Path, environment: Path | None) -> tuple[Any, Ask]:
    content = tflite_from_saved_model(source)
    return keras_from_tflite(slim_tflite(content), where=source.name), _tflite_asker(content)


def _from_onnx(source: Path, environment: Path | None) -> tuple[Any, Ask]:
    import onnxruntime

    network = keras_from_tflite(tflite_from_onnx(source, folder=environment), where=source.name)
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    sides = {given.name: [1, *given.shape[1:]] for given in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]

    def ask(given: Mapping[str, Array]) -> Told:
        # onnx2tf moves channels last, and may call inputs otherwise: their order stays
        fed = {
            name: _channels_first(values, shape)
            for (name, shape), values in zip(sides.items(), given.values(), strict=True)
        }
        return dict(zip(names, (np.asarray(v) for v in session.run(names, fed)), strict=True))

    return network, ask


_KINDS: dict[str, Callable[[Path, Path | None], tuple[Any, Ask]]] = {
    "keras": _from_keras,
    "tflite": _from_tflite,
    "saved-model": _from_saved_model,
    "onnx": _from_onnx,
}


def _tflite_asker(content: bytes) -> Ask:
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer, graph = Observer(content), TFLiteGraph(content)
    ends = set(graph.outputs)

    def ask(given: Mapping[str, Array]) -> Told:
        values = list(given.values())
        # a bare value fits any single input; of several, both sides keep the file's order and its names
        observer.run(values[0] if len(values) == 1 else given)
        return {name: observer.value(number) for number, name in edge_names(graph).items() if number in ends}

    return ask


def _ask_keras(network: Any, given: Mapping[str, Array]) -> Told:
    values = list(given.values())
    fed: Any = dict(given) if isinstance(network.input, dict) else values
    said = network(fed if len(values) > 1 or isinstance(network.input, dict) else values[0], training=False)
    if not isinstance(said, dict):
        said = dict(zip(output_names(network), said if isinstance(said, list) else [said], strict=True))
    return {name: np.asarray(value, np.float32) for name, value in said.items()}


# -- whether both say the same, and what outputs are called


def _named_alike(network: Any, ask: Ask, where: str) -> tuple[Any, float]:
    """(the network with its source's names of outputs, the largest difference). Raises DataError where they differ."""
    rng = np.random.default_rng(0)
    names = input_names(network)
    shapes = [tuple(tensor.shape[1:]) for tensor in network.inputs]
    furthest: dict[str, tuple[float, str]] = {}
    for _ in range(TRIALS):
        given = {
            name: rng.random((1, *shape)).astype(np.float32)
            for name, shape in zip(names, shapes, strict=True)
        }
        ours, theirs = _ask_keras(network, given), ask(given)
        for name, truth in theirs.items():
            error, like = min(
                ((_difference(truth, values), other) for other, values in ours.items()), default=(np.inf, "")
            )
            furthest[name] = max(furthest.get(name, (0.0, like)), (error, like))
    worst = max(furthest, key=lambda name: furthest[name][0])
    if not furthest[worst][0] <= NEAR:
        raise DataError(
            f"{where}: imported, output {worst!r} is off by {furthest[worst][0]:.2g} of its range",
            next_step="a layer was understood wrongly: please report the file",
        )
    if len({like for _, like in furthest.values()}) != len(furthest):
        return network, furthest[worst][0]  # two outputs say the same: their names cannot be told apart
    return _outputs_called(network, {like: name for name, (_, like) in furthest.items()}), furthest[worst][0]


def _difference(truth: Array, values: Array) -> float:
    """Of two outputs, one perhaps with channels last: as a share of the range; infinity where the sizes differ."""
    if truth.size != values.size:
        return float("inf")
    forms = [values]
    if values.ndim > 2:
        forms.append(np.moveaxis(values, -1, 1))
    span = float(np.ptp(truth)) or float(np.abs(truth).max()) or 1.0
    return min(
        (float(np.abs(form - truth).max()) / span for form in forms if form.shape == truth.shape),
        default=float("inf"),
    )


def _renamed(network: Any, outputs: Sequence[str], where: str) -> Any:
    names = {name: name for name in output_names(network)}
    for given in outputs:
        old, equals, new = given.partition("=")
        if not equals and len(names) == 1:
            old, new = next(iter(names)), given
        if old not in names or not new:
            raise UsageError(
                f"{where} has no output {old!r}: it has {', '.join(names)}",
                next_step="give OLD=NEW, or NEW alone where there is one output",
            )
        names[old] = new
    if len(set(names.values())) != len(names):
        raise UsageError(f"{where}: two outputs would be called alike")
    return _outputs_called(network, names)


def _outputs_called(network: Any, names: Mapping[str, str]) -> Any:
    """names: new ones by old ones, in the order that the outputs should have."""
    import keras

    made = network.output
    if not isinstance(made, dict):
        made = dict(zip(output_names(network), network.outputs, strict=True))
    return keras.Model(network.input, {new: made[old] for old, new in names.items()}, name=network.name)


def _channels_first(values: Array, shape: Sequence[int]) -> Array:
    if list(values.shape) == list(shape):
        return values
    return np.ascontiguousarray(np.moveaxis(values, -1, 1))
