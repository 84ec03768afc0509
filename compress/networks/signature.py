"""A network as one function of named inputs and outputs, its weights constants: what converters and exporters read."""

from __future__ import annotations

from typing import Any


def input_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """{input name: shape with a batch of 1}, whether the network was built with one input, a list or a dict of them."""
    named = network.input if isinstance(network.input, dict) else {_name(t): t for t in network.inputs}
    return {name: (1, *tensor.shape[1:]) for name, tensor in named.items()}


def input_names(network: Any) -> list[str]:
    """Of input_shapes(), in the order of network.inputs."""
    if not isinstance(network.input, dict):
        return [_name(tensor) for tensor in network.inputs]
    names = {id(tensor): name for name, tensor in network.input.items()}
    return [names[id(tensor)] for tensor in network.inputs]


def output_names(network: Any) -> list[str]:
    return list(network.output) if isinstance(network.output, dict) else list(network.output_names)


def constant_function(network: Any) -> Any:
    """A tf.function for inference with a batch of 1, from float32 inputs as `input_shapes` has them to a dict of outputs.

    The weights are constants of it: saving and freezing variables takes converters as long as all the rest.
    """
    import tensorflow as tf

    shapes, names = input_shapes(network), output_names(network)
    # arrays, which the graph makes constants of: a tensor from outside would become one more input of it
    trainable = [variable.numpy() for variable in network.trainable_variables]
    others = [variable.numpy() for variable in network.non_trainable_variables]

    def call(*inputs: Any) -> dict[str, Any]:
        given: Any = list(inputs) if len(inputs) > 1 else inputs[0]
        if isinstance(network.input, dict):
            given = dict(zip(shapes, inputs, strict=True))
        outputs, _ = network.stateless_call(
            [tf.constant(w) for w in trainable], [tf.constant(w) for w in others], given, training=False
        )
        if not isinstance(outputs, dict):
            outputs = dict(zip(names, outputs if isinstance(outputs, list) else [outputs], strict=True))
        return {name: tf.identity(value, name=name) for name, value in outputs.items()}

    specs = [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()]
    return tf.function(call, input_signature=specs, autograph=False)


def _name(tensor: Any) -> str:
    return str(tensor.name.split(":")[0])
