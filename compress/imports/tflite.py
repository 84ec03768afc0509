"""A float TFLite graph as a functional Keras network with the same weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from compress.imports.layers import OPERATIONS
from compress.imports.step import GraphStep, ImportedError
from compress.quantize.graph import Step, TFLiteGraph
from edgeai.errors import DataError, first_line

_FLOAT = 0  # schema.TensorType


def keras_from_tflite(flatbuffer: bytes, *, where: str) -> Any:
    """The network of a float32 or float16 TFLite file: its inputs without their batch of 1, a dict of outputs by name.

    x * sigmoid(x) becomes one SiLU. where: the file's name, for messages. Raises DataError naming the first operation that
    no layer does, for integer files, and for files that are none.
    """
    import keras

    try:
        graph = TFLiteGraph(flatbuffer)
    except Exception as error:  # whatever parsing broken bytes raises
        raise DataError(f"{where} is no TFLite model: {type(error).__name__}") from error
    known: dict[int, Any] = {}
    names = edge_names(graph)
    for number in graph.inputs:
        tensor, shape = graph.tensor(number), graph.shape(number)
        if tensor.type != _FLOAT or not shape or shape[0] != 1:
            raise DataError(
                f"{where}: input {graph.name(number)!r} is not float32 with a batch of 1, but {shape}",
                next_step="export the float model with fixed sizes; integer files can only teach (distill)",
            )
        known[number] = keras.Input(shape[1:], name=names[number])
    inputs = [known[number] for number in graph.inputs]
    counts: Counter[str] = Counter()
    silus = {p.number: g for g, p in graph.silus() if g.outputs[0] not in graph.outputs}
    gates = {gate.number for gate in silus.values()}
    for step in graph.steps:
        if step.number in gates or (step.kind == "DEQUANTIZE" and step.inputs[0] not in known):
            continue
        made = _converted(GraphStep(step, graph, known, counts), where, silus)
        parts = made if isinstance(made, (list, tuple)) else [made]
        known.update(zip(step.outputs, parts, strict=False))
    missing = [graph.name(number) for number in graph.outputs if number not in known]
    if missing:
        raise DataError(f"{where}: output {missing[0]!r} is a constant")
    outputs = {
        names[number]: _named_output(known[number], number in graph.inputs) for number in graph.outputs
    }
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def _converted(s: GraphStep, where: str, silus: Mapping[int, Step]) -> Any:
    """silus: the sigmoid of each product that is a SiLU, by the product's number."""
    import keras

    step = s.step
    label = f"{where}: operation {step.kind} ({s.graph.name(step.outputs[0])[-60:]})"
    if step.number in silus:
        x = s.known[silus[step.number].inputs[0]]
        return keras.layers.Activation("silu", name=s.name("silu"))(x)
    convert = OPERATIONS.get(step.kind)
    if convert is None:
        raise DataError(f"{label} is not known", next_step=f"known are {', '.join(sorted(OPERATIONS))}")
    try:
        return convert(s)
    except ImportedError as error:
        raise DataError(f"{label} {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise DataError(f"{label} cannot be rebuilt: {first_line(error)[:160]}") from error


def edge_names(graph: TFLiteGraph) -> dict[int, str]:
    """What inputs and outputs are called, by tensor: as the file's signature does, else as the tensor is."""
    named = graph.signature_names()
    return {n: _plain(named.get(n, graph.name(n))) for n in (*graph.inputs, *graph.outputs)}


def _named_output(tensor: Any, is_input: bool) -> Any:
    import keras

    # a model cannot give back its own input
    return keras.layers.Identity()(tensor) if is_input else tensor


def _plain(name: str) -> str:
    """A name that Keras takes: of TensorFlow's scopes and suffixes, the last part that says something."""
    for mark, part in ((";", -1), (":", 0), ("/", -1)):
        name = name.split(mark)[part]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "tensor"
