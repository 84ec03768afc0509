"""From a float32 TFLite model and the ranges of its tensors to int8, by the converter's own quantizer.

The quantizer knows what every kernel asks of its scales; which values a tensor takes, and what stays float, is said here.
It takes some tens of milliseconds, so that a search may ask it often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from compress.quantize.calibrate import Range
from compress.quantize.graph import TFLiteGraph
from compress.quantize.slim import slim_tflite
from compress.quantize.tail import JOINS, RESHAPES, unlike_tail
from compress.quiet import quiet_stderr, reason_of
from edgeai.errors import PassError

# kernels that copy integers, of which the quantizer does not know that the scale must stay
_COPIES = frozenset({"REVERSE_V2", "REVERSE_SEQUENCE", "TILE", "BROADCAST_TO"})
_SAME_SCALE = RESHAPES | {"SLICE", "SPLIT", "STRIDED_SLICE", "UNPACK"}


def quantize_ranges(
    flatbuffer: bytes,
    ranges: Mapping[int, Range],
    *,
    keep_float: Collection[str] = (),
    per_channel: bool = True,
) -> bytes:
    """The model in int8: weights by channel (or by tensor), activations, inputs and outputs.

    flatbuffer: float32. ranges: low and high of each activation by its number, as calibrate() gives them. keep_float: names
    of tensors whose operations stay float32, in between what turns to int8 and back; so do outputs that join unlike parts
    (compress.quantize.tail). Raises PassError where the quantizer fails.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    graph = TFLiteGraph(flatbuffer)
    tail = unlike_tail(graph, ranges)
    # with a range they would be rounded between float operations
    free = {made for step in tail for made in step.outputs}
    floats = {*keep_float, *map(graph.name, free)}
    alike = _alike_where_shared(graph, {t: found for t, found in ranges.items() if t not in free})
    graph.set_ranges(alike)
    said: list[str] = []
    try:
        with quiet_stderr() as said:
            made = mlir_quantize(
                graph.to_bytes(),
                disable_per_channel=not per_channel,
                disable_per_channel_for_dense_layers=not per_channel,
                input_data_type=tf.int8,
                output_data_type=tf.float32 if tail else tf.int8,
                denylisted_nodes=floats or None,
            )
    except Exception as error:  # the quantizer raises whatever it likes
        raise PassError(f"the int8 quantizer failed: {reason_of(error, said)}") from error
    return slim_tflite(_without_detours(bytes(made)) if tail else bytes(made))


def _without_detours(flatbuffer: bytes) -> bytes:
    """Without what the quantizer leaves around operations that stay float: roundings in between two of them, and the last
    step to float of outputs that are int8, which a device does itself.
    """
    graph = TFLiteGraph(flatbuffer)
    gone: set[int] = set()
    instead: dict[int, int] = {}
    for step in graph.steps:
        if step.kind != "DEQUANTIZE":
            continue
        (integer,), (real,) = step.inputs, step.outputs
        rounding = graph.maker.get(integer)
        if rounding is not None and rounding.kind == "QUANTIZE" and graph.is_float(rounding.inputs[0]):
            gone |= {step.number} | ({rounding.number} if len(graph.readers[integer]) == 1 else set())
            instead[real] = instead.get(rounding.inputs[0], rounding.inputs[0])
        elif real in graph.outputs and real not in graph.readers:
            gone.add(step.number)
            instead[real] = integer
    graph.leave_out(gone, instead)
    return graph.to_bytes()


def _alike_where_shared(graph: TFLiteGraph, ranges: Mapping[int, Range]) -> dict[int, Range]:
    """One range for tensors whose kernels take one scale where the quantizer does not see to it.

    Concatenations that share an input: it gives up where one tensor should have two scales. What operations of _COPIES read
    and make: their kernels copy integers, but where a concatenation behind them wants another scale it gives that to what they
    make alone (backward layers lay 3 dB from float).
    """
    found = dict(ranges)
    joined = [step for step in graph.steps if step.kind in JOINS and step.outputs[0] in found]
    sets = [
        {step.outputs[0] for step in joined if tensor in step.inputs}
        for tensor in {t for step in joined if step.kind == "CONCATENATION" for t in step.inputs}
    ]
    sets += [
        found.keys() & (_moved_from(graph, step.outputs[0], found) | _joined_later(graph, step.outputs[0]))
        for step in graph.steps
        if step.kind in _COPIES and step.outputs[0] in found
    ]
    while any(len({found[t] for t in shared}) > 1 for shared in sets):  # ranges only grow: it ends
        for shared in sets:
            lows, highs = zip(*(found[t] for t in shared), strict=True)
            found.update(dict.fromkeys(shared, (min(lows), max(highs))))
    return found


def _moved_from(graph: TFLiteGraph, tensor: int, floats: Collection[int]) -> set[int]:
    """A tensor, and all that it is the same values of."""
    found = {tensor}
    step = graph.maker.get(tensor)
    if step is not None and step.kind in _SAME_SCALE | _COPIES:
        for given in set(step.inputs).intersection(floats):
            found |= _moved_from(graph, given, floats)
    return found


def _joined_later(graph: TFLiteGraph, tensor: int) -> set[int]:
    """What concatenations make of a tensor, with nothing but changes of shape before them."""
    found: set[int] = set()
    for reader in graph.readers.get(tensor, ()):
        if reader.kind in JOINS:
            found.add(reader.outputs[0])
        elif reader.kind in _SAME_SCALE | _COPIES:
            found.update(*(_joined_later(graph, made) for made in reader.outputs))
    return found
