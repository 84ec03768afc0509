"""A model made anew from its calls: flat, every layer with a configuration and weights that may have been changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.wiring import Call, Wiring, functional_part, open_wiring
from edgeai.errors import PassError

ConfigChange = Callable[[Call, dict[str, Any]], None]
ArgumentChange = Callable[[Call, list[Any], dict[str, Any]], None]
WeightChange = Callable[[Call, int, NDArray[Any]], NDArray[Any]]
TensorChange = Callable[[Call | None, Any], Any]


def flatten_model(model: Any) -> Any:
    """The model without models inside: same inputs and outputs, in the same structure, same layers.

    A functional model without any comes back as it is; else the result has layers and weights of its own. Layers keep their
    names; where two are alike the inner one gets its model's name in front.
    Raises PassError for a model that is not functional, and for a layer that cannot be made from its configuration.
    """
    wiring = open_wiring(model)
    plain = functional_part(model) is model
    if plain and {id(call.op) for call in wiring.calls} <= {id(op) for op in model.operations}:
        return model
    return rebuild_model(model, wiring)


def rebuild_model(
    model: Any,
    wiring: Wiring,
    *,
    change_config: ConfigChange | None = None,
    change_arguments: ArgumentChange | None = None,
    change_weight: WeightChange | None = None,
    change_tensor: TensorChange | None = None,
    weights: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    left_out: Collection[int] = (),
) -> Any:
    """The model that `wiring` was opened from, with layers of its own. The changes are told the call; weights also their
    index in `layer.weights` and their values.

    change_tensor: what the readers of an input of the model (call None) or of a call's output are given in its place.
    weights: of layers whose changed configuration has others than before, by the call's name. left_out: numbers of calls
    that are not made: their readers are given their first input.
    """
    import keras

    def is_tensor(x: Any) -> bool:
        return isinstance(x, keras.KerasTensor)

    def fresh(tensor: Any) -> Any:
        source = tensor._keras_history.operation
        optional = bool(getattr(source, "optional", False))
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=source.name, optional=optional)

    inputs = keras.tree.map_structure(fresh, wiring.inputs)
    flat = zip(keras.tree.flatten(wiring.inputs), keras.tree.flatten(inputs), strict=True)
    seen = change_tensor or (lambda call, tensor: tensor)
    known = {id(old): seen(None, new) for old, new in flat}
    made: dict[str, tuple[Call, Any]] = {}
    for call in wiring.calls:
        if call.number in left_out:
            known[id(call.outputs[0])] = known[id(call.inputs[0])]
            continue
        if call.name not in made:
            made[call.name] = (call, _remake(call, change_config))
        args, kwargs = keras.tree.map_structure(
            lambda x: known[id(x)] if is_tensor(x) else x, (list(call.args), dict(call.kwargs))
        )
        if change_arguments is not None:
            change_arguments(call, args, kwargs)
        results = keras.tree.flatten(_call(call, made[call.name][1], args, kwargs))
        known.update({id(old): seen(call, new) for old, new in zip(call.outputs, results, strict=True)})
    outputs = keras.tree.map_structure(lambda t: known[id(t)], wiring.outputs)
    rebuilt = keras.Model(inputs, outputs, name=wiring.name)
    for call, layer in made.values():
        if call.name in (weights or {}):
            layer.set_weights([*(weights or {})[call.name]])
            continue
        _copy_weights(call, layer, change_weight)
    if getattr(model, "compiled", False):
        rebuilt.compile_from_config(model.get_compile_config())
    return rebuilt


def _call(call: Call, operation: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    try:
        return operation(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise PassError(
            f"layer {call.name!r} ({type(operation).__name__}) does not take what it is given when made anew: {error}",
            next_step="report the layer's kind: a rule in compress/groups is wrong",
        ) from error


def _remake(call: Call, change: ConfigChange | None) -> Any:
    """The operation made anew; what has neither weights nor a configuration that can be read is used again as it is."""
    operation = call.op
    bare = not getattr(operation, "weights", ())
    try:
        config = operation.get_config()
        config["name"] = call.name
        _forget_shapes(config)
        if change is not None:
            change(call, config)
        return type(operation).from_config(config)
    except Exception as error:  # whatever a layer of the user's own raises
        if bare and operation.name == call.name and not isinstance(error, PassError):
            return operation
        raise PassError(
            f"layer {call.name!r} ({type(operation).__name__}) cannot be made anew from its get_config(): {error}",
            next_step="give it get_config and from_config that fit together",
        ) from error


def _forget_shapes(config: Any) -> None:
    """Layers within layers (Bidirectional, TimeDistributed) carry the input shape that they were built for."""
    if isinstance(config, dict):
        config.pop("build_config", None)
        for value in config.values():
            _forget_shapes(value)


def _copy_weights(call: Call, layer: Any, change: WeightChange | None) -> None:
    old, new = getattr(call.op, "weights", ()), getattr(layer, "weights", ())
    if len(old) != len(new):
        raise PassError(
            f"layer {call.name!r} ({type(layer).__name__}) has {len(new)} weights when made anew, {len(old)} before"
        )
    for index, (source, target) in enumerate(zip(old, new, strict=True)):
        values = np.asarray(source.numpy())
        values = values if change is None else change(call, index, values)
        if values.shape != tuple(target.shape):
            raise PassError(
                f"weight {target.name!r} of layer {call.name!r} ({type(layer).__name__}) should have shape "
                f"{values.shape}, made anew it has {tuple(target.shape)}",
                next_step="report the layer's kind: its rule in compress/groups is wrong",
            )
        target.assign(values)
    if old and hasattr(layer, "finalize_state"):  # Normalization reads its constants out of its weights
        layer.finalize_state()
