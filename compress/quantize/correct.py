"""Bias correction: rounding weights moves the mean of each output channel; its bias takes that back.

The shift is what the rounding error makes of the mean input, E[dW x] = dW E[x] (Nagel et al. 2019, section 4.2), with E[x]
measured on calibration inputs at every place of the kernel, padding included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from compress.quantize.graph import TFLiteGraph
from compress.quantize.linear import channel_scales, linear_steps, parameters, rounded
from compress.quantize.observe import Floats, Observer, Sample


def bias_shifts(
    flatbuffer: bytes, samples: Sequence[Sample], *, bits: int = 8, per_channel: bool = True
) -> tuple[bytes, dict[str, Floats]]:
    """(the float32 model, every layer with biases; what to take off each one's, (O,) by the name of its output).

    samples: inputs (1, ...), as for calibrate(). bits, per_channel: how the weights will be rounded.
    """
    flatbuffer = _with_biases(flatbuffer)
    graph = TFLiteGraph(flatbuffer)
    linears = linear_steps(graph)
    observer = Observer(flatbuffer)
    sums: dict[int, Any] = {linear.step.number: 0.0 for linear in linears}
    for sample in samples:
        observer.run(sample)
        for linear in linears:
            sums[linear.step.number] += linear.mean_row(observer.value(linear.data))
    shifts = {}
    for linear in linears:
        matrix = linear.matrix(parameters(graph, linear)[0])
        error = (
            rounded(matrix, channel_scales(matrix, bits=bits, per_channel=per_channel), bits=bits) - matrix
        )
        mean = np.asarray(sums[linear.step.number] / len(samples), np.float32)
        shifts[graph.name(linear.output)] = (
            np.einsum("gk,gko->go", mean, error).reshape(-1).astype(np.float32)
        )
    return flatbuffer, shifts


def shift_biases(
    flatbuffer: bytes, shifts: Mapping[str, Floats], *, keep_float: Collection[str] = ()
) -> bytes:
    """The model with its biases corrected, but for layers that stay float: nothing moves these."""
    graph = TFLiteGraph(flatbuffer)
    for linear in linear_steps(graph):
        name = graph.name(linear.output)
        biases = graph.constant(linear.biases)
        if name in shifts and name not in keep_float and biases is not None:
            graph.set_constant(linear.biases, biases - shifts[name])
    return graph.to_bytes()


def _with_biases(flatbuffer: bytes) -> bytes:
    """Biases for every layer, and of its own: the converter leaves out those of a dense layer where they are all 0, and writes
    equal ones once, as a layer has them that is used in many places (a recurrent one at every step).
    """
    graph = TFLiteGraph(flatbuffer)
    added = False
    for linear in linear_steps(graph):
        if linear.biases < 0:
            biases = np.zeros(graph.shape(linear.weights)[0], np.float32)
        elif len(graph.readers[linear.biases]) > 1:
            biases = parameters(graph, linear)[1]
        else:
            continue
        graph.add_biases(linear.step, biases)
        added = True
    return graph.to_bytes() if added else flatbuffer
