"""Bias correction: rounding weights moves the mean of each output channel; its bias takes that back.

The shift is what the rounding error makes of the mean input, E[dW x] = dW E[x] (Nagel et al. 2019, section 4.2), with E[x]
measured on calibration inputs at every place of the kernel, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.quantize.graph import TFLiteGraph
from compress.quantize.linear import channel_scales, linear_steps, parameters, rounded
from compress.quantize.observe import Observer, Sample


def correct_biases(
    flatbuffer: bytes, samples: Sequence[Sample], *, bits: int = 8, per_channel: bool = True
) -> tuple[bytes, int]:
    """(the float32 model with biases that make up for rounding its weights, how many layers).

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
    for linear in linears:
        weights, biases = parameters(graph, linear)
        matrix = linear.matrix(weights)
        error = (
            rounded(matrix, channel_scales(matrix, bits=bits, per_channel=per_channel), bits=bits) - matrix
        )
        mean = np.asarray(sums[linear.step.number] / len(samples), np.float32)
        shift = np.einsum("gk,gko->go", mean, error).reshape(-1)
        graph.set_constant(linear.biases, biases - shift.astype(np.float32))
    return graph.to_bytes(), len(linears)


def _with_biases(flatbuffer: bytes) -> bytes:
    """The converter leaves out the biases of a dense layer where they are all 0."""
    graph = TFLiteGraph(flatbuffer)
    without = [linear for linear in linear_steps(graph) if linear.biases < 0]
    for linear in without:
        graph.add_biases(linear.step, graph.shape(linear.weights)[0])
    return graph.to_bytes() if without else flatbuffer
