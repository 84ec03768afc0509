"""A functional Keras model as a flat list of calls: models inside it are opened, shared ones as often as they are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeai.errors import PassError


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of one layer or keras.ops operation.

    name: the operation's, unique in the flat model (a layer of a model inside carries that model's name in front where
    two would be alike). args, kwargs: as called, symbolic tensors in place. inputs, outputs: those tensors, flat.
    number: its place in the wiring.
    """

    op: Any
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """inputs, outputs: symbolic tensors in the structure of the model's own. calls: each after those that it needs."""

    name: str
    inputs: Any
    outputs: Any
    calls: tuple[Call, ...]


def open_wiring(model: Any) -> Wiring:
    """The calls of a functional or built sequential model. The model is left as it is.

    Raises PassError for what is neither.
    """
    import keras

    outer = functional_part(model)
    if outer is None:
        raise PassError(
            f"a functional Keras model is needed, {getattr(model, 'name', 'this')!r} is a {type(model).__name__}",
            next_step="write it with keras.Input and keras.Model(inputs, outputs)"
            if not isinstance(model, keras.Sequential)
            else "call build() on it first",
        )
    calls: list[tuple[str, Call]] = []
    known: dict[int, Any] = {id(t): t for t in outer.inputs}
    _open(outer, known, calls, path="", context={})
    names = _unique_names(calls)
    named = tuple(replace(c, name=names[id(c.op)], number=n) for n, (_, c) in enumerate(calls))
    outputs = keras.tree.map_structure(lambda t: known[id(t)], outer.output)
    return Wiring(model.name, outer.input, outputs, named)


def readers_of(wiring: Wiring) -> dict[int, list[Call]]:
    """The calls that read each tensor, by its id; a call that reads one twice is there twice. What nothing reads is not in it."""
    readers: dict[int, list[Call]] = defaultdict(list)
    for call in wiring.calls:
        for tensor in call.inputs:
            readers[id(tensor)].append(call)
    return dict(readers)


def functional_part(model: Any) -> Any | None:
    """The functional model that `model` is or (Sequential) holds; None where its code may be anything."""
    import keras

    own = getattr(getattr(type(model), "call", None), "__qualname__", "")
    if isinstance(model, keras.Sequential):
        return getattr(model, "_functional", None) if own == "Sequential.call" else None
    return model if own == "Functional.call" else None


def _open(
    model: Any, known: dict[int, Any], calls: list[tuple[str, Call]], *, path: str, context: Mapping[str, Any]
) -> None:
    """Append the calls of `model`; `known` leads from its own tensors to those of the flat model."""
    import keras

    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            args, kwargs = node.arguments.convert(
                lambda x: known[id(x)] if isinstance(x, keras.KerasTensor) else x
            )
            flat = keras.tree.flatten((args, kwargs))
            inputs = tuple(x for x in flat if isinstance(x, keras.KerasTensor))
            inner = _inner_model(node.operation, args)
            takes = getattr(node.operation, "_call_context_args", ())
            kwargs.update({k: v for k, v in context.items() if k in takes})
            if inner is not None:
                given = keras.tree.flatten(args[0])
                within = {id(t): x for t, x in zip(inner.inputs, given, strict=True)}
                training = kwargs.get("training", context.get("training"))
                _open(
                    inner,
                    within,
                    calls,
                    path=f"{path}{node.operation.name}_",
                    context={} if training is None else {**context, "training": training},
                )
                outputs = tuple(within[id(t)] for t in inner.outputs)
            else:
                # inside, the same tensors would stand for every call of the model: each call has its own
                outputs = _outputs_of(node, args, kwargs, inputs) if path else tuple(node.outputs)
                calls.append((path, Call(node.operation, "", args, kwargs, inputs, outputs)))
            known.update({id(t): x for t, x in zip(node.outputs, outputs, strict=True)})


def _inner_model(operation: Any, args: Sequence[Any]) -> Any | None:
    """The model that is called here, if its inputs are given in the order and structure that it was made with."""
    import keras

    inner = functional_part(operation) if hasattr(operation, "layers") else None
    if inner is None or not args or isinstance(args[0], dict) != isinstance(inner.input, dict):
        return None
    given = keras.tree.flatten(args[0])
    fits = len(given) == len(inner.inputs) and all(isinstance(x, keras.KerasTensor) for x in given)
    same_keys = not isinstance(args[0], dict) or set(args[0]) == set(inner.input)
    return inner if fits and same_keys else None


def _outputs_of(
    node: Any, args: Sequence[Any], kwargs: Mapping[str, Any], inputs: Sequence[Any]
) -> tuple[Any, ...]:
    """Fresh symbolic outputs of a call; shapes are inferred anew where the inputs are not those of the node."""
    import keras

    same = all(a.shape == b.shape for a, b in zip(node.input_tensors, inputs, strict=True))
    outputs = (
        node.outputs if same else keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
    )
    return tuple(keras.KerasTensor(t.shape, dtype=t.dtype) for t in outputs)


def _unique_names(calls: Sequence[tuple[str, Call]]) -> dict[int, str]:
    """Name by id of the operation: its own, after the model's that it is in where another has the same."""
    firsts: dict[int, tuple[str, str]] = {}
    for path, call in calls:
        firsts.setdefault(id(call.op), (path, call.op.name))
    names: dict[int, str] = {}
    taken: set[str] = set()
    for key, (path, name) in sorted(
        firsts.items(), key=lambda item: len(item[1][0])
    ):  # outer ones keep theirs
        unique, number = name, 2
        if unique in taken:
            unique = path + name
        while unique in taken:
            unique, number = f"{path}{name}_{number}", number + 1
        taken.add(unique)
        names[key] = unique
    return names
