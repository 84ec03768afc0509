"""The inputs of a network by name, whether it was built with one input, a list or a dict of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def input_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """{input name: shape with a batch of 1}, in the order that `call_network` takes."""
    named = network.input if isinstance(network.input, dict) else {_name(t): t for t in network.inputs}
    return {name: (1, *tensor.shape[1:]) for name, tensor in named.items()}


def call_network(network: Any, tensors: Sequence[Any]) -> dict[str, Any]:
    """The outputs by name, for inference, of tensors in the order of `input_shapes`."""
    if isinstance(network.input, dict):
        outputs = network(dict(zip(network.input, tensors, strict=True)), training=False)
    else:
        outputs = network(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
    if isinstance(outputs, dict):
        return outputs
    return dict(zip(network.output_names, outputs if isinstance(outputs, list) else [outputs], strict=True))


def _name(tensor: Any) -> str:
    return str(tensor.name.split(":")[0])
