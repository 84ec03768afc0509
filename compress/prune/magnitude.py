"""Single weights set to zero, smallest first, more of them step by step (Zhu & Gupta 2017, "To prune, or not to prune")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.train.masks import Masks, MaskSchedule, Weights
from edgeai.errors import PassError

MaskScope = Literal["global", "per-layer", "lamp"]

# trained matrices of layers; depthwise kernels are few weights that matter much, biases and norms fewer still
MATRICES = ("kernel", "recurrent_kernel", "pointwise_kernel")
LEAST_KEPT = 0.01  # of a layer: a global threshold may not cut the network in two


class MagnitudeSettings(BaseModel):
    """sparsity: fraction of the chosen layers' weights that are zero in the end; initial: from the start.

    begin, end: fractions of the training between which it rises, in `renewals` steps. scope: one threshold of magnitude for
    all layers, the same sparsity in each, or one of magnitude relative to what is larger in its layer (LAMP, Lee et al.
    2021). exclude: layers that stay dense, by name; skip_first, skip_last: those that read an input, those that give an output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    initial: Annotated[float, Field(ge=0, lt=1)] = 0.0
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    end: Annotated[float, Field(gt=0, lt=1)] = 0.7
    renewals: Annotated[int, Field(ge=1, le=1000)] = 20
    scope: MaskScope = "lamp"
    exclude: tuple[str, ...] = ()
    skip_first: bool = True
    skip_last: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> MagnitudeSettings:
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must come before end ({self.end})")
        if self.initial >= self.sparsity:
            raise ValueError(f"initial ({self.initial}) must be below sparsity ({self.sparsity})")
        return self


def sparsity_at(step: int, *, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """s_f + (s_i - s_f)(1 - (t - t_0) / (n dt))^3 between the steps begin (t_0) and end (t_0 + n dt), flat before and after.

    Equation 1 of Zhu & Gupta 2017: fast while there is much to choose from, slow towards the end.

    >>> [round(sparsity_at(t, begin=0, end=4, final=0.8), 3) for t in range(6)]
    [0.0, 0.462, 0.7, 0.787, 0.8, 0.8]
    """
    done = min(1.0, max(0.0, (step - begin) / max(1, end - begin)))
    return final + (initial - final) * (1 - done) ** 3


def magnitude_schedule(network: Any, settings: MagnitudeSettings, *, steps: int) -> MaskSchedule:
    """Masks for `compress.train.fit.fit(..., masks=...)` over a training of `steps`.

    Raises PassError where no layer is left to prune, for an excluded name that no layer has, and for too few steps.
    """
    paths = frozenset(prunable_paths(network, settings))
    begin, end = int(steps * settings.begin), int(steps * settings.end)
    if end <= begin:
        raise PassError(
            f"magnitude pruning has {end - begin} steps to rise in, of {steps}", next_step="raise fit.steps"
        )
    every = max(1, (end - begin) // settings.renewals)

    def make(step: int, weights: Weights) -> Masks:
        sparsity = sparsity_at(step, begin=begin, end=end, final=settings.sparsity, initial=settings.initial)
        # frozen layers are among the paths, but not among the weights that are trained
        chosen = {path: value for path, value in weights.items() if path in paths}
        if not chosen:
            raise PassError("magnitude pruning: every layer that it could prune is frozen")
        return magnitude_masks(chosen, sparsity, scope=settings.scope)

    return MaskSchedule(make, frozenset({*range(begin, end, every), end}))


def magnitude_masks(weights: Weights, sparsity: float, *, scope: MaskScope = "lamp") -> Masks:
    """Masks in which the fraction `sparsity` (0..1) of all `weights` is false: the smallest ones.

    Of every array at least LEAST_KEPT stay, whatever the scope. Raises PassError for weights that are not finite.
    """
    for path, value in weights.items():
        if not np.isfinite(value).all():
            raise PassError(f"the weight {path!r} holds NaN or infinity")
    marks = {path: np.abs(value).ravel().astype(np.float64) for path, value in weights.items()}
    if scope == "lamp":
        marks = {path: _lamp(mark) for path, mark in marks.items()}
    if scope == "per-layer":
        gone = {path: round(sparsity * mark.size) for path, mark in marks.items()}
    else:
        gone = _shared_out(marks, sparsity)
    masks = {}
    for path, mark in marks.items():
        count = min(gone[path], mark.size - max(1, int(np.ceil(LEAST_KEPT * mark.size))))
        mask = np.ones(mark.size, np.bool_)
        mask[np.argpartition(mark, count)[:count] if count > 0 else []] = False
        masks[path] = mask.reshape(weights[path].shape)
    return masks


def _lamp(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each square over the sum of those at least as large: 1 for the largest, so that no layer goes altogether."""
    order = np.argsort(magnitudes, kind="stable")
    squares = np.square(magnitudes[order])
    larger = np.cumsum(squares[::-1])[::-1]
    marks = np.empty_like(squares)
    marks[order] = squares / np.maximum(larger, 1e-300)
    return marks


def _shared_out(marks: Mapping[str, NDArray[np.float64]], sparsity: float) -> dict[str, int]:
    """How many of each array are among the smallest of all."""
    together = np.concatenate(list(marks.values()))
    count = round(sparsity * together.size)
    if not count:
        return dict.fromkeys(marks, 0)
    smallest = np.argpartition(together, count - 1)[:count]
    ends = np.cumsum([mark.size for mark in marks.values()])
    owners = np.bincount(np.searchsorted(ends, smallest, side="right"), minlength=len(marks))
    return {path: int(n) for path, n in zip(marks, owners, strict=True)}


def prunable_paths(network: Any, settings: MagnitudeSettings) -> list[str]:
    """Paths of the matrices that may be pruned. Raises PassError as magnitude_schedule()."""
    layers = list(weighted_layers(network))
    names = [layer.name for layer in layers]
    for name in settings.exclude:
        if name not in names:
            raise PassError(f"exclude: no layer {name!r} has weights", next_step=f"there are {_few(names)}")
    edges = _edge_layers(network, first=settings.skip_first, last=settings.skip_last)
    paths = [
        str(variable.path)
        for layer in layers
        if layer.name not in settings.exclude and id(layer) not in edges
        for variable in layer.trainable_variables
        if variable.name in MATRICES and len(variable.shape) > 1
    ]
    if not paths:
        raise PassError(
            "magnitude pruning: no layer is left to prune",
            next_step="exclude fewer, or set skip_first or skip_last to false",
        )
    return paths


def weighted_layers(network: Any) -> Iterator[Any]:
    """Innermost layers with weights that are not depthwise, each once."""
    for layer in network._flatten_layers(include_self=False):
        if layer.weights and not list(layer._layers) and "Depthwise" not in type(layer).__name__:
            yield layer


def _edge_layers(network: Any, *, first: bool, last: bool) -> set[int]:
    """Ids of the weighted layers that an input reaches first, and of those that an output comes from."""
    nodes = [node for depth in network._nodes_by_depth.values() for node in depth if not node.is_input]
    found: set[int] = set()
    if first:
        readers: dict[int, list[Any]] = {}
        for node in nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(node)
        _spread(network.inputs, lambda t: readers.get(id(t), []), lambda n: n.outputs, found)
    if last:
        makers = {id(tensor): node for node in nodes for tensor in node.outputs}
        _spread(
            network.outputs,
            lambda t: [makers[id(t)]] if id(t) in makers else [],
            lambda n: n.input_tensors,
            found,
        )
    return found


def _spread(tensors: Any, nodes_at: Any, beyond: Any, found: set[int]) -> None:
    """Walk from tensors until a layer with a matrix is met, on each way."""
    waiting, seen = list(tensors), set()
    while waiting:
        tensor = waiting.pop()
        for node in nodes_at(tensor):
            if id(node) in seen:
                continue
            seen.add(id(node))
            layers = [node.operation, *getattr(node.operation, "_layers", ())]
            if any(v.name in MATRICES for layer in layers for v in getattr(layer, "weights", ())):
                found.update(id(layer) for layer in layers)
            else:
                waiting.extend(beyond(node))


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
