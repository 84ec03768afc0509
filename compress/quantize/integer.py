"""From a float32 TFLite model and the ranges of its tensors to int8, by the converter's own quantizer.

The quantizer knows what every kernel asks of its scales; which values a tensor takes, and what stays float, is said here.
It takes some tens of milliseconds, so that a search may ask it often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from compress.quantize.calibrate import Range
from compress.quantize.graph import TFLiteGraph
from compress.quantize.slim import slim_tflite
from compress.quiet import quiet_stderr
from edgeai.errors import PassError, first_line


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
    graph.set_ranges(dict(ranges))
    try:
        with quiet_stderr():
            made = mlir_quantize(
                graph.to_bytes(),
                disable_per_channel=not per_channel,
                disable_per_channel_for_dense_layers=not per_channel,
                input_data_type=tf.int8,
                output_data_type=tf.int8,
                denylisted_nodes=set(keep_float) or None,
            )
    except Exception as error:  # the quantizer raises whatever it likes
        raise PassError(f"the int8 quantizer failed: {first_line(error)[:200]}") from error
    return slim_tflite(bytes(made))
