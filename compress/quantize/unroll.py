"""Recurrent layers written out, one copy of a cell for each step: integer kernels know no loops.

Each step has ranges of its own that way. The weights stay one tensor; the operations do not: twelve or so for each step,
which is what a file grows by and what calling it costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from edgeai.errors import PassError

MOST_STEPS = 400  # of all recurrent layers together, both directions: 5,000 operations, a minute to convert
_INSTEAD = 'take precision = "float16", or a network without loops, such as conformer-lite'


def recurrent_layers(network: Any) -> list[Any]:
    """Every layer with a loop over steps, those inside of wrappers and nested models too."""
    import keras

    found = network._flatten_layers(include_self=False)  # no public way knows what wrappers hold
    return [layer for layer in found if isinstance(layer, keras.layers.RNN)]


@contextlib.contextmanager
def written_out(network: Any) -> Iterator[None]:
    """Within, what traces the network finds no loops in it. Raises PassError for steps that are not known, or too many."""
    layers = recurrent_layers(network)
    _refuse_long(layers)
    before = [layer.unroll for layer in layers]
    for layer in layers:
        layer.unroll = True
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.unroll = value


def _refuse_long(layers: list[Any]) -> None:
    total = 0
    for layer in layers:
        shapes = layer.get_build_config()
        steps = shapes.get("input_shape", next(iter(shapes.get("shapes_dict", {}).values()), (None, None)))[1]
        if steps is None:
            raise PassError(
                f"layer {layer.name!r} ({type(layer).__name__}) takes any number of steps and cannot be int8",
                next_step="give the network's input a fixed length, or " + _INSTEAD,
            )
        total += steps
    if total > MOST_STEPS:
        raise PassError(
            f"recurrent layers of {total} steps together cannot be int8: written out they may be {MOST_STEPS}",
            next_step=_INSTEAD,
        )
