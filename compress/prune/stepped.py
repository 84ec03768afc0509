"""A functional network executed node by node, so that its tensors can be looked at, and weights changed, on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgeai.errors import PassError


def ordered_nodes(model: Any) -> list[Any]:
    """Calls of layers in an order in which each comes after what it reads; inputs left out."""
    depths = model._nodes_by_depth
    nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
    return [node for node in nodes if node.operation is not None and not node.is_input]


class SteppedRun:
    """The values of a network's tensors on given inputs. What no later node reads is dropped."""

    def __init__(self, model: Any, inputs: Any) -> None:
        """inputs: an array (B, ...), or {input name: array} for several."""
        import tensorflow as tf

        self.nodes = ordered_nodes(model)
        named = inputs if isinstance(inputs, Mapping) else {model.inputs[0].name: inputs}
        missing = [t.name for t in model.inputs if t.name not in named]
        if missing:
            raise PassError(f"the batches have no input {missing[0]!r}, which the network reads")
        self._values = {id(t): tf.convert_to_tensor(named[t.name]) for t in model.inputs}
        self._readers = Counter(id(t) for node in self.nodes for t in node.input_tensors)

    def read(self, node: Any) -> Any:
        """The first tensor that a node reads."""
        return self._values[id(node.input_tensors[0])]

    def readers(self, node: Any) -> list[Any]:
        """Nodes that read what `node` gives."""
        given = {id(t) for t in node.outputs}
        return [other for other in self.nodes if given & {id(t) for t in other.input_tensors}]

    def linear(self, node: Any) -> Any:
        """What the layer gives before its own activation; nothing is kept."""
        import keras

        layer = node.operation
        before = layer.activation
        layer.activation = keras.activations.linear
        try:
            return self._call(node)
        finally:
            layer.activation = before

    def step(self, node: Any, linear: Any = None) -> None:
        """Run a node and keep what it gives; from `linear`, what linear() gave, where that is known already."""
        import keras

        outputs = self._call(node) if linear is None else node.operation.activation(linear)
        for tensor, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
            if self._readers[id(tensor)]:
                self._values[id(tensor)] = value
        for tensor in node.input_tensors:
            self._readers[id(tensor)] -= 1
            if not self._readers[id(tensor)]:
                del self._values[id(tensor)]

    def _call(self, node: Any) -> Any:
        args, kwargs = node.arguments.fill_in(self._values)
        return node.operation(*args, **kwargs)
