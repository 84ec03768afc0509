"""A float model without what leaves the quantizer's hands float.

What is computed of constants alone has no range that calibration inputs could tell. Of a SPLIT with an output that nothing
reads it leaves all of them in float, in some runs and not in others. Both are rests of a written out recurrent layer's first
step, whose state is 0: a forget gate has nothing to forget. And no kernel negates or squares int8 (norms over channels subtract
their mean that way and come to their variance), where any multiplies.
"""

from __future__ import annotations

from compress.quantize.graph import TFLiteGraph
from compress.quantize.observe import Observer, Sample
from edgeai.errors import PassError

# with what; None: with itself
_PRODUCTS = {"NEG": -1.0, "SQUARE": None}


def tidy(flatbuffer: bytes, sample: Sample) -> bytes:
    """The same float32 TFLite model: what comes of constants alone is a constant, a SPLIT that is not read whole is a slice for
    each output that is, NEG and SQUARE are products. sample: any input (1, ...) of it. Raises PassError for a model with a loop in it still.
    """
    graph = TFLiteGraph(flatbuffer)
    if len(graph.model.subgraphs) > 1:
        raise PassError(
            "the network has a loop or a branch that is no recurrent layer, which cannot be int8",
            next_step='take precision = "float16"',
        )
    folded = _fold_constants(graph, flatbuffer, sample)
    if folded is not flatbuffer:
        graph = TFLiteGraph(folded)
    return only_products(_slice_partly_read(graph, folded))


def _fold_constants(graph: TFLiteGraph, flatbuffer: bytes, sample: Sample) -> bytes:
    floats, outputs = set(graph.activations()), set(graph.outputs)
    known: set[int] = set()
    folded = set()
    for step in graph.steps:
        given = [tensor for tensor in step.inputs if tensor >= 0]
        constant = bool(given) and all(t in known or graph.is_constant(t) for t in given)
        if constant and floats.issuperset(step.outputs) and outputs.isdisjoint(step.outputs):
            folded.add(step.number)
            known.update(step.outputs)
    if not folded:
        return flatbuffer
    observer = Observer(flatbuffer)
    observer.run(sample)
    for tensor in known:
        graph.set_bytes(tensor, observer.value(tensor).tobytes())
    graph.leave_out(folded, {})
    return graph.to_bytes()


def _slice_partly_read(graph: TFLiteGraph, flatbuffer: bytes) -> bytes:
    partly = [step for step in graph.steps if step.kind == "SPLIT" and _partly_read(graph, step.outputs)]
    for step in partly:
        graph.slice_instead(step)
    return graph.to_bytes() if partly else flatbuffer


def only_products(flatbuffer: bytes) -> bytes:
    """The same float32 TFLite model with products in the place of what int8 has no kernel for; every tensor keeps its number."""
    graph = TFLiteGraph(flatbuffer)
    steps = [step for step in graph.steps if step.kind in _PRODUCTS and graph.is_float(step.outputs[0])]
    for step in steps:
        graph.multiply_instead(step, _PRODUCTS[step.kind])
    return graph.to_bytes() if steps else flatbuffer


def _partly_read(graph: TFLiteGraph, tensors: tuple[int, ...]) -> bool:
    return not all(tensor in graph.readers or tensor in graph.outputs for tensor in tensors)
