"""Learned rounding: each weight goes up or down so that the layer's outputs, not the weights, stay what they were.

Rounding to the nearest integer is best weight by weight and not best together. Layer by layer, a number per weight decides
its direction through a rectified sigmoid, learnt by gradient descent on the squared error of the layer's outputs after its
activation, with a term that drives every decision to 0 or 1 in the end (Nagel et al. 2020, "Up or Down? Adaptive Rounding
for Post-Training Quantization"). A layer learns on what the layers before it, already rounded, give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import TFLiteGraph
from compress.quantize.linear import LinearStep, channel_scales, linear_steps, parameters, rounded
from compress.quantize.observe import Observer, Sample, bar_where

Floats = NDArray[np.float32]
STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1  # the sigmoid reaches 0 and 1 before its ends
RATE, WEIGHT = 1e-2, 0.01  # of Adam; of the term that decides
WARM_UP = 0.2  # of the steps, in which nothing has to be decided yet
SHARP_FIRST, SHARP_LAST = 20.0, 2.0
BATCH = 256
# shares of the largest weight that may be the largest integer: with few levels, cutting the tail is worth it
_CUTS = np.linspace(0.5, 1.0, 26)


@dataclass(frozen=True, slots=True)
class Rounding:
    """bits: of the weights. steps: of Adam for each layer. places: how many a layer learns on. cut: whether the largest
    weights may be cut for finer steps; else the largest weight is the largest integer.
    """

    bits: int = 8
    steps: int = 600
    places: int = 4096
    cut: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Rounded:
    """flatbuffer: float32, its weights on the integers' grid. scales: (O,) of each layer by its weights' tensor number. error:
    mean squared error of each layer's outputs, {name: (rounded to nearest, as learnt)}.
    """

    flatbuffer: bytes
    scales: dict[int, Floats]
    error: dict[str, tuple[float, float]]


def adaround(
    flatbuffer: bytes, samples: Sequence[Sample], settings: Rounding, *, progress: bool = False
) -> Rounded:
    """Round the weights of every convolution and dense layer of a float32 model; transposed convolutions stay as they are.

    samples: inputs (1, ...) of training data, a hundred or so. progress: show a bar.
    """
    rng = np.random.default_rng(settings.seed)
    original = Observer(flatbuffer)
    graph = TFLiteGraph(flatbuffer)
    linears = linear_steps(graph)
    scales: dict[int, Floats] = {}
    errors: dict[str, tuple[float, float]] = {}
    with bar_where(progress, "rounding", len(linears)) as advance:
        for linear in linears:
            advance(1)
            if linear.weights in scales:  # used before: by the examples of its first place
                continue
            rows, wanted = _examples(
                linear, original, Observer(graph.to_bytes()), graph, samples, settings, rng
            )
            weights, biases = parameters(graph, linear)
            matrix = linear.matrix(weights)
            scale = _best_scales(matrix, settings)
            nearest = rounded(matrix, scale, bits=settings.bits)
            learnt = _learn(_Problem(rows, wanted, matrix, biases, scale, linear.clamp), settings, rng)
            before, after = (
                _error(rows, wanted, candidate, biases, linear.clamp) for candidate in (nearest, learnt)
            )
            best = learnt if after <= before else nearest
            graph.set_constant(linear.weights, linear.unmatrix(best, weights.shape))
            scales[linear.weights] = scale.reshape(-1)
            errors[graph.name(linear.output)] = (before, min(before, after))
    return Rounded(graph.to_bytes(), scales, errors)


def _examples(
    linear: LinearStep,
    original: Observer,
    rounded_so_far: Observer,
    graph: TFLiteGraph,
    samples: Sequence[Sample],
    settings: Rounding,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """(what the layer will be given (P, G, K), what it should say before its activation (P, G, O / G))."""
    weights, biases = parameters(graph, linear)
    matrix = linear.matrix(weights)
    each = -(-settings.places // len(samples))
    given, wanted = [], []
    for sample in samples:
        original.run(sample)
        rounded_so_far.run(sample)
        truth = original.value(linear.data)
        picks = rng.integers(0, linear.places(truth), each)
        given.append(linear.rows(rounded_so_far.value(linear.data), picks))
        wanted.append(_product(linear.rows(truth, picks), matrix, biases))
    return np.concatenate(given), np.concatenate(wanted)


def _product(rows: Floats, matrix: Floats, biases: Floats | None) -> Floats:
    """(P, G, K) times (G, K, O / G) plus (O,): (P, G, O / G)."""
    told = np.matmul(rows.transpose(1, 0, 2), matrix).transpose(1, 0, 2)
    if biases is not None:
        told = told + biases.reshape(1, *told.shape[1:])
    return np.asarray(told, np.float32)


def _error(
    rows: Floats, wanted: Floats, matrix: Floats, biases: Floats | None, clamp: tuple[float, float]
) -> float:
    told = np.clip(_product(rows, matrix, biases), *clamp)
    return float(np.mean((told - np.clip(wanted, *clamp)) ** 2))


def _best_scales(matrix: Floats, settings: Rounding) -> Floats:
    """(G, 1, O / G); with `cut`, of _CUTS the one whose rounding error is least, channel by channel."""
    whole = channel_scales(matrix, bits=settings.bits)
    if not settings.cut:
        return whole
    costs = [
        np.mean(
            (rounded(matrix, whole * np.float32(cut), bits=settings.bits) - matrix) ** 2, 1, keepdims=True
        )
        for cut in _CUTS
    ]
    best = _CUTS[np.argmin(np.stack(costs), 0)]
    return np.asarray(whole * best, np.float32)


@dataclass(frozen=True)
class _Problem:
    rows: Floats
    wanted: Floats
    matrix: Floats
    biases: Floats | None
    scale: Floats
    clamp: tuple[float, float]


def _learn(problem: _Problem, settings: Rounding, rng: np.random.Generator) -> Floats:
    """The weights, each rounded up or down."""
    levels = 2 ** (settings.bits - 1) - 1
    ratio = problem.matrix / problem.scale
    floor = np.floor(ratio)
    span = STRETCH_HIGH - STRETCH_LOW
    start = np.clip((ratio - floor - STRETCH_LOW) / span, 1e-3, 1 - 1e-3)
    v = np.log(start / (1 - start)).astype(np.float32)
    low, high = problem.clamp
    target = np.clip(problem.wanted, low, high)
    moments = np.zeros_like(v), np.zeros_like(v)
    for step in range(settings.steps):
        picks = rng.integers(0, len(problem.rows), BATCH)
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * span + STRETCH_LOW
        up = np.clip(stretched, 0, 1)
        integers = np.clip(floor + up, -levels, levels)
        rows = problem.rows[picks]
        told = _product(rows, (integers * problem.scale).astype(np.float32), problem.biases)
        miss = np.where((told > low) & (told < high), np.clip(told, low, high) - target[picks], 0.0)
        # a value past its clamp has no slope, but where the target is on the other side it must come back
        miss = np.where((told <= low) & (target[picks] > low), told - target[picks], miss)
        miss = np.where((told >= high) & (target[picks] < high), told - target[picks], miss)
        slope = np.matmul(rows.transpose(1, 2, 0), miss.astype(np.float32).transpose(1, 0, 2)) * (2 / BATCH)
        free = (stretched > 0) & (stretched < 1) & (np.abs(floor + up) <= levels)
        gradient = slope * problem.scale + _decide(up, step / settings.steps)
        gradient = np.where(free, gradient * span * sigmoid * (1 - sigmoid), 0.0).astype(np.float32)
        v -= _adam(gradient, moments, step)
    integers = np.clip(floor + (v >= 0), -levels, levels)
    # the largest weight is what the scale was made of, and will be again
    integers = np.where(np.abs(ratio) > levels - 0.5, np.clip(np.rint(ratio), -levels, levels), integers)
    chosen: Floats = (integers * problem.scale).astype(np.float32)
    return chosen


def _decide(up: Floats, done: float) -> Floats | float:
    """The slope of WEIGHT * (1 - |2 up - 1| ** sharp), which is least where every weight has chosen."""
    if done < WARM_UP:
        return 0.0
    late = (done - WARM_UP) / (1 - WARM_UP)
    sharp = SHARP_LAST + (SHARP_FIRST - SHARP_LAST) * 0.5 * (1 + np.cos(np.pi * late))
    side = 2 * up - 1
    slope: Floats = -WEIGHT * sharp * 2 * np.sign(side) * np.abs(side) ** (sharp - 1)
    return slope


def _adam(gradient: Floats, moments: tuple[Floats, Floats], step: int) -> Floats:
    first, second = moments
    first += 0.1 * (gradient - first)
    second += 0.001 * (gradient**2 - second)
    size = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
    update: Floats = RATE * first / (1 - 0.9 ** (step + 1)) / size
    return update
