"""The int8 file of a network that learned to round: its scales come with it, no inputs are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compress.quantize.calibrate import Range, calibrate
from compress.quantize.check import not_done
from compress.quantize.graph import TFLiteGraph
from compress.quantize.integer import quantize_ranges
from compress.quantize.observe import Sample
from compress.quantize.tflite import convert_tflite
from compress.quantize.tidy import only_products


def convert_aware(aware: Any, samples: Sequence[Sample] = (), *, per_channel: bool = True) -> bytes:
    """TFLite in int8 of a network of make_aware(), after its training.

    samples: inputs for tensors that lie inside what is one Keras layer and several operations of TFLite (layer norms,
    attention); where there are none given, these stay float. Raises PassError where converter or quantizer fail.
    """
    floats, ranges = take_ranges(only_products(convert_tflite(aware, "float32")))
    made = quantize_ranges(floats, ranges, per_channel=per_channel)
    if not samples or not not_done(made, "int8"):
        return made
    return quantize_ranges(floats, calibrate(floats, samples) | ranges, per_channel=per_channel)


def take_ranges(flatbuffer: bytes) -> tuple[bytes, dict[int, Range]]:
    """(the model without its fake quantization, the range of each tensor that it was on).

    flatbuffer: float32, as the converter makes it: a rounding is a QUANTIZE to uint8 and a DEQUANTIZE behind it.
    """
    graph = TFLiteGraph(flatbuffer)
    instead: dict[int, int] = {}
    ranges: dict[int, Range] = {}
    gone: set[int] = set()
    for step in graph.steps:
        source = step.inputs[0] if step.inputs else -1
        maker = graph.maker.get(source)
        if step.kind != "DEQUANTIZE" or maker is None or maker.kind != "QUANTIZE":
            continue
        noted = graph.scales(source)
        if noted is None:
            continue
        scale, zero = float(noted[0][0]), int(noted[1][0])
        rounded = maker.inputs[0]
        rounded = instead.get(rounded, rounded)
        instead[step.outputs[0]] = rounded
        ranges[rounded] = (-zero * scale, (255 - zero) * scale)
        gone |= {step.number, maker.number}
    graph.leave_out(gone, instead)
    return graph.to_bytes(), ranges
