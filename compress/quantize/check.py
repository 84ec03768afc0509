"""Was it done? What type every tensor of a TFLite file really has, and how far its layers are from the float network's.

Quantizers leave layers in float without a word where they do not know them; a file is what it is asked to be only where
somebody has looked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import Step, TFLiteGraph
from compress.quantize.observe import Observer, Sample
from compress.quantize.tail import trailing_moves
from edgeai.bundle.manifest import Precision

_TYPES = {0: "float32", 1: "float16", 2: "int32", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 17: "int4"}
# what weights and activations are in a file of each precision; None: not looked at
WANTED: dict[Precision, tuple[str, str | None]] = {
    "float32": ("float32", "float32"),
    "float16": ("float16", None),
    "dynamic": ("int8", None),
    "int8": ("int8", "int8"),
    "int16x8": ("int8", "int16"),
    "int4": ("int4", "int8"),
}
# the converter leaves smaller weights as they are in a dynamic-range file: there is nothing to save
LEAST_DYNAMIC = 1024
_CHANGES_TYPE = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
NO_ERROR_DB = 120.0


@dataclass(frozen=True, slots=True)
class NotDone:
    """A layer that is not what was asked for. part: "weights" or "activation"; found: the type it has."""

    name: str
    kind: str
    part: str
    found: str


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far a layer's output is from the float network's, over all inputs. sqnr_db: signal to quantization noise, in
    decibels, NO_ERROR_DB where there is none; cosine: of the two outputs, 1 where they point the same way.
    """

    name: str
    kind: str
    sqnr_db: float
    cosine: float


def not_done(flatbuffer: bytes, precision: Precision, *, keep_float: Collection[str] = ()) -> list[NotDone]:
    """Every layer of a TFLite file that is not of `precision`. keep_float: names of outputs that were to stay float. What moves
    values to the outputs may be float: where they join unlike parts, it is (compress.quantize.tail).
    """
    graph = TFLiteGraph(flatbuffer)
    moves = trailing_moves(graph)
    weights, activations = WANTED[precision]
    float_inputs = {t for step in graph.steps if step.kind == "DEQUANTIZE" for t in step.outputs}
    found = [
        NotDone(graph.name(tensor), "INPUT", "activation", "float32")
        for tensor in graph.inputs
        if precision in ("int8", "int4") and graph.is_float(tensor)
    ]
    for step in graph.steps:
        if step.kind in _CHANGES_TYPE or not step.outputs or step.number in moves:
            continue
        name = graph.name(step.outputs[0])
        if any(name.startswith(kept) for kept in keep_float):
            continue
        if step.weighted is not None:
            held = step.weighted[1]
            if held in float_inputs:  # float16 weights are turned to float32 by an operation of their own
                held = graph.maker[held].inputs[0]
            size = int(np.prod(graph.shape(held)))
            kind = _TYPES.get(graph.tensor(held).type, "other")
            small = precision == "dynamic" and size < LEAST_DYNAMIC
            if kind != weights and not small and graph.is_constant(held):
                found.append(NotDone(name, step.kind, "weights", kind))
        kind = _TYPES.get(graph.tensor(step.outputs[0]).type, "other")
        if (
            activations is not None
            and kind in ("float32", "float16", "int16", "int8")
            and kind != activations
        ):
            found.append(NotDone(name, step.kind, "activation", kind))
    return found


def float_layers(flatbuffer: bytes) -> list[Step]:
    """Operations with weights whose weights are float32."""
    graph = TFLiteGraph(flatbuffer)
    return [step for step in graph.weighted() if step.weighted and graph.is_float(step.weighted[1])]


def layer_errors(floats: bytes, quantized: bytes, samples: Iterable[Sample]) -> list[LayerError]:
    """Each layer's error in the order of the network, for layers that both files have.

    floats, quantized: TFLite files of the same network. samples: inputs (1, ...) as the float network takes them.
    """
    pairs = _matched(TFLiteGraph(floats), TFLiteGraph(quantized))
    ours, theirs = Observer(floats), Observer(quantized)
    sums = np.zeros((len(pairs), 4))  # of truth squared, told squared, truth times told, error squared
    for sample in samples:
        ours.run(sample)
        theirs.run(sample)
        for number, (_, _, one, other) in enumerate(pairs):
            truth, told = (v.astype(np.float64).ravel() for v in (ours.value(one), theirs.value(other)))
            sums[number] += truth @ truth, told @ told, truth @ told, np.sum((truth - told) ** 2)
    return [
        LayerError(name, kind, decibels(float(row[0]), float(row[3])), _cosine(row))
        for row, (name, kind, _, _) in zip(sums, pairs, strict=True)
    ]


def _matched(floats: TFLiteGraph, quantized: TFLiteGraph) -> list[tuple[str, str, int, int]]:
    """(name, kind, tensor of the one, of the other) of each operation that both have: one by one where both have the same
    kinds in the same order, else by their names.
    """
    left = [step for step in quantized.steps if step.kind not in _CHANGES_TYPE]
    right = [step for step in floats.steps if step.kind not in _CHANGES_TYPE]
    if [step.kind for step in left] == [step.kind for step in right]:
        return [
            (floats.name(one.outputs[0]), one.kind, one.outputs[0], other.outputs[0])
            for one, other in zip(right, left, strict=True)
            if floats.is_float(one.outputs[0])
        ]
    pairs, at = [], 0
    for step in right:
        if not floats.is_float(step.outputs[0]):
            continue
        name = floats.name(step.outputs[0])
        for ahead in range(at, len(left)):
            other = left[ahead]
            if other.kind == step.kind and quantized.name(other.outputs[0]).startswith(name):
                pairs.append((name, step.kind, step.outputs[0], other.outputs[0]))
                at = ahead + 1
                break
    return pairs


def decibels(signal: float, noise: float) -> float:
    """Of the two's ratio, NO_ERROR_DB at most."""
    if noise <= 0:
        return NO_ERROR_DB
    return float(min(NO_ERROR_DB, 10 * np.log10(max(signal, 1e-30) / noise)))


def _cosine(row: NDArray[np.float64]) -> float:
    length = np.sqrt(row[0] * row[1])
    return float(row[2] / length) if length > 0 else float(row[0] == row[1])
