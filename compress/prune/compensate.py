"""What removed channels leave behind, moved into the weights that stay.

A layer that loses inputs loses what they brought: on average a constant, which its bias can take over, and in part something
that the kept inputs can foretell, which its kernel can take over ("channel pruning", He et al. 2017; here with a ridge
towards the weights as they were). Layers are corrected in the order in which they run, each on what the corrected ones
before it really give, towards what the whole network gave: errors do not add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.groups.graph import ChannelGraph
from compress.groups.rebuild import flatten_model
from compress.groups.remove import remove_channels
from compress.prune.scores import Batch
from compress.prune.stepped import SteppedRun
from edgeai.console import progress_bar
from edgeai.errors import PassError

Compensation = Literal["none", "mean", "least-squares"]
Floats = NDArray[np.float32]

# positions of feature maps that a kernel is fitted on: so many for each number that an output reads, within limits
SAMPLES_PER_READ, SAMPLES = 8, (2048, 16384)
MAX_NUMBERS, LEAST_EXAMPLES = 8 << 20, 16  # of all inputs together: 30 pictures of 320 x 288
MAX_READS = 16384  # numbers that one output reads; above it the normal equations alone take 1 GB
RIDGE = 0.01  # of the mean variance of what is read


def compensate(
    model: Any,
    graph: ChannelGraph,
    removed: frozenset[int],
    batches: Sequence[Batch],
    *,
    method: Compensation = "least-squares",
) -> tuple[Any, dict[str, Any]]:
    """The model without the channel classes `removed`, its layers corrected by what they give on `batches`.

    "mean": each convolution or dense layer, depthwise ones too, gives the same mean as before in each channel, over all
    examples and positions: its bias changes, or the moving mean of the batch norm behind it. Positions at a border that see
    padding are averaged in; where what was removed is constant and nothing is padded, the correction is exact.
    "least-squares": its kernel too, for the least squared error on some thousands of positions, padded ones as they are.

    batches: {"inputs": ...}, held in memory at once with what the layers make of them, so of large inputs
    only the first some tens count. `model` stays as it is. Returns the new
    model and {"method", "layers": how many were looked at, "left": {layer: why not}}. Raises PassError for no batch, and
    where a layer's output is not finite.
    """
    smaller = remove_channels(model, graph, removed)
    report: dict[str, Any] = {"method": method, "layers": 0, "left": {}}
    if method == "none":
        return smaller, report
    inputs = _joined(batches)
    # without models inside, and its calls in the order of the pruned network's
    whole, part = SteppedRun(flatten_model(model), inputs), SteppedRun(smaller, inputs)
    keeps = {
        item.name: graph.kept(item.out_ids, removed)
        for item in graph.layers
        if type(item.layer).__name__ in CORRECTED and item.kind != "across"
    }
    calls = Counter(node.operation.name for node in whole.nodes)
    rng = np.random.default_rng(0)
    with progress_bar("compensate", len(whole.nodes)) as advance:
        for before, after in zip(whole.nodes, part.nodes, strict=True):
            name, kind = before.operation.name, type(before.operation).__name__
            if after.operation.name != name:
                raise PassError(f"compensation: {name!r} of the whole network meets {after.operation.name!r}")
            if calls[name] > 1 and name in keeps:
                report["left"][name] = "it is called several times"
            if kind in CORRECTED and name in keeps and calls[name] == 1:
                said = whole.linear(before)
                wanted = said.numpy()[..., keeps[name]]
                whole.step(before, said)
                fits = (
                    method == "least-squares"
                    and kind in FITTED
                    and getattr(before.operation, "groups", 1) == 1
                )
                part.step(after, _correct(part, after, wanted, rng if fits else None, report))
            else:
                whole.step(before)
                part.step(after)
            advance()
    return smaller, report


FITTED = ("Conv1D", "Conv2D", "Dense")
# layers with a bias and an activation of their own, channels last
CORRECTED = (
    *FITTED,
    *("Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
)


def _correct(
    run: SteppedRun, node: Any, wanted: Floats, rng: np.random.Generator | None, report: dict[str, Any]
) -> Any:
    """Change the layer of `node`, its kernel too where `rng` is given; its new output before the activation."""
    import tensorflow as tf

    layer = node.operation
    norm = _norm_behind(run, node)
    if not layer.use_bias and norm is None:
        report["left"][layer.name] = "neither a bias nor a batch norm behind it"
        return run.linear(node)
    if rng is not None:
        if int(np.prod(layer.kernel.shape[:-1])) > MAX_READS:
            report["left"][layer.name] = f"reads more than {MAX_READS} numbers: only its mean is corrected"
        else:
            layer.kernel.assign_add(_fitted(layer, run.read(node).numpy(), wanted, rng))
    given = run.linear(node)
    shift = tf.reduce_mean(tf.cast(wanted - given, tf.float64), axis=list(range(wanted.ndim - 1)))
    shift = tf.cast(shift, tf.float32)
    if not np.isfinite(shift.numpy()).all():
        raise PassError(f"compensation: layer {layer.name!r} gives NaN or infinity on the batches")
    report["layers"] += 1
    if layer.use_bias:
        layer.bias.assign_add(shift)
        return given + shift
    norm.moving_mean.assign_sub(shift)
    return given


def _norm_behind(run: SteppedRun, node: Any) -> Any:
    """The batch norm that alone reads what `node` gives, if it is so."""
    readers = run.readers(node)
    if len(readers) == 1 and type(readers[0].operation).__name__ == "BatchNormalization":
        return readers[0].operation
    return None


def _fitted(layer: Any, read: Floats, wanted: Floats, rng: np.random.Generator) -> Floats:
    """The change of the kernel that brings the layer nearest to `wanted`, over positions that `rng` draws."""
    kernel = np.asarray(layer.kernel.numpy())
    patches, outputs = _sampled(layer, read, wanted, rng)
    errors = outputs - patches @ kernel.reshape(-1, kernel.shape[-1])
    patches = patches - patches.mean(0)  # the constant is the bias's part
    errors -= errors.mean(0)
    gram = (patches.T @ patches).astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE * (np.trace(gram) / len(gram)) + 1e-9
    if not (np.isfinite(gram).all() and np.isfinite(errors).all()):
        raise PassError(f"compensation: layer {layer.name!r} gives NaN or infinity on the batches")
    change: Floats = np.linalg.solve(gram, (patches.T @ errors).astype(np.float64)).astype(np.float32)
    return change.reshape(kernel.shape)


def _sampled(layer: Any, read: Floats, wanted: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """What the layer reads for some outputs, (M, kernel positions x channels), and what is wanted there, (M, outputs)."""
    outputs = wanted.reshape(-1, wanted.shape[-1])
    count = SAMPLES_PER_READ * int(np.prod(layer.kernel.shape[:-1]))
    count = min(max(count, SAMPLES[0]), SAMPLES[1], len(outputs))
    picks = rng.choice(len(outputs), count, replace=False)
    if type(layer).__name__ == "Dense":
        return read.reshape(-1, read.shape[-1])[picks], outputs[picks]
    sides = len(layer.kernel_size)
    pads = _padding(layer, read.shape[1:-1], wanted.shape[1:-1])
    padded = np.pad(read, [(0, 0), *pads, (0, 0)]) if any(map(any, pads)) else read
    example, *cell = np.unravel_index(picks, wanted.shape[:-1])
    index: list[NDArray[np.intp]] = [example.reshape(-1, *[1] * sides)]
    for axis in range(sides):
        step = np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
        shape = [1] * sides
        shape[axis] = -1
        first = (cell[axis] * layer.strides[axis]).reshape(-1, *[1] * sides)
        index.append(first + step.reshape(1, *shape))
    patches = padded[tuple(index)]
    return patches.reshape(len(picks), -1), outputs[picks]


def _padding(layer: Any, sizes: Sequence[int], cells: Sequence[int]) -> list[tuple[int, int]]:
    """Zeros before and after each axis, as TensorFlow pads."""
    pads = []
    for axis, (size, count) in enumerate(zip(sizes, cells, strict=True)):
        reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
        if layer.padding == "causal":
            pads.append((reach - 1, 0))
        elif layer.padding == "same":
            both = max((count - 1) * layer.strides[axis] + reach - size, 0)
            pads.append((both // 2, both - both // 2))
        else:
            pads.append((0, 0))
    return pads


def _joined(batches: Sequence[Batch]) -> Any:
    """Inputs as one batch: the first ones, as many as feature maps of them all fit into memory."""
    if not batches:
        raise PassError("compensation got no batch", next_step="check the data")
    given = [batch["inputs"] for batch in batches]
    if isinstance(given[0], dict):
        joined = {name: np.concatenate([g[name] for g in given]) for name in given[0]}
        size = sum(int(np.prod(value.shape[1:])) for value in joined.values())
        return {name: value[: _examples(size)] for name, value in joined.items()}
    size = int(np.prod(np.shape(given[0])[1:]))
    return np.concatenate([np.asarray(g, np.float32) for g in given])[: _examples(size)]


def _examples(size: int) -> int:
    """How many inputs of `size` numbers each are looked at."""
    return max(LEAST_EXAMPLES, MAX_NUMBERS // size)
