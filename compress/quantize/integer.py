"""From a float32 TFLite model and the ranges of its tensors to int8, by the converter's own quantizer.

The quantizer knows what every kernel asks of its scales; which values a tensor takes, and what stays float, is said here.
It takes some tens of milliseconds, so that a search may ask it often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from compress.quantize.calibrate import Range
from compress.quantize.graph import TFLiteGraph
from compress.quantize.slim import slim_tflite
from compress.quiet import quiet_stderr, reason_of
from edgeai.errors import PassError


def quantize_ranges(
    flatbuffer: bytes,
    ranges: Mapping[int, Range],
    *,
    keep_float: Collection[str] = (),
    per_channel: bool = True,
) -> bytes:
    """The model in int8: weights by channel (or by tensor), activations, inputs and outputs.

    flatbuffer: float32. ranges: low and high of each activation by its number, as calibrate() gives them. keep_float: names
    of tensors whose operations stay float32, in between what turns to int8 and back. Raises PassError where the quantizer
    fails.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    graph = TFLiteGraph(flatbuffer)
    graph.set_ranges(_alike_where_shared(graph, ranges))
    said: list[str] = []
    try:
        with quiet_stderr() as said:
            made = mlir_quantize(
                graph.to_bytes(),
                disable_per_channel=not per_channel,
                disable_per_channel_for_dense_layers=not per_channel,
                input_data_type=tf.int8,
                output_data_type=tf.int8,
                denylisted_nodes=set(keep_float) or None,
            )
    except Exception as error:  # the quantizer raises whatever it likes
        raise PassError(f"the int8 quantizer failed: {reason_of(error, said)}") from error
    return slim_tflite(bytes(made))


def _alike_where_shared(graph: TFLiteGraph, ranges: Mapping[int, Range]) -> dict[int, Range]:
    """One range for concatenations that share an input: their kernels take inputs of the output's scale only, and the
    quantizer gives up where one tensor should have two.
    """
    found = dict(ranges)
    joined = [step for step in graph.steps if step.kind == "CONCATENATION" and step.outputs[0] in found]
    sets = [
        {step.outputs[0] for step in joined if tensor in step.inputs}
        for tensor in {t for step in joined for t in step.inputs}
    ]
    while any(len({found[t] for t in shared}) > 1 for shared in sets):  # ranges only grow: it ends
        for shared in sets:
            lows, highs = zip(*(found[t] for t in shared), strict=True)
            found.update(dict.fromkeys(shared, (min(lows), max(highs))))
    return found
