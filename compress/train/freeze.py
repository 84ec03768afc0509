"""Layers that a training leaves as they are, by the beginnings of their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgeai.errors import PassError

NAMES_SHOWN = 8


@contextmanager
def frozen(network: Any, prefixes: Sequence[str]) -> Iterator[frozenset[int]]:
    """Inside, every layer whose name begins with one of `prefixes`, and all in it, is not trainable: its weights stay, and
    its batch norms use and keep their statistics. Layers of nested models count too. Afterwards all is as it was. Yields the ids
    of the variables that it froze.

    Raises PassError for a prefix that no layer has, naming some that there are, and where nothing would be left to train.
    """
    layers = network._flatten_layers(include_self=False)
    trained = [id(v) for v in network.trainable_variables]
    before = [(layer, layer.trainable) for layer in (network, *layers)]
    for prefix in prefixes:
        if not any(layer.name.startswith(prefix) for layer in layers):
            names = list(dict.fromkeys(layer.name for layer in layers if layer.weights))
            shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
            raise PassError(f"freeze: no layer's name begins with {prefix!r}", next_step=f"there are {shown}")
    try:
        for layer in layers:
            if layer.name.startswith(tuple(prefixes)):
                layer.trainable = False
        if not network.trainable_variables:
            raise PassError(
                "freeze: every weight is frozen, nothing is left to train"
                if prefixes
                else "the network has no trainable weight",
                next_step="freeze fewer layers" if prefixes else "",
            )
        left = {id(v) for v in network.trainable_variables}
        yield frozenset(each for each in trained if each not in left)
    finally:
        # a layer's flag sets those of its sub-layers, so the outer ones come first
        for layer, trainable in before:
            layer.trainable = trainable
