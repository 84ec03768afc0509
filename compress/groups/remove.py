"""The network without some of its channels: new dense layers with the kept weights, nothing masked."""

from __future__ import annotations

from typing import Any

from compress.groups.graph import ChannelGraph, Ids


def remove_channels(model: Any, graph: ChannelGraph, removed: frozenset[int]) -> Any:
    """The model without the channel classes `removed` (roots of `graph`, which was made from this very model)."""
    import keras

    keeps = {
        item.layer.name: (graph.kept(item.in_ids, removed), graph.kept(item.out_ids, removed))
        for item in graph.layers
    }
    makers = {item.layer.name for item in graph.layers if item.kind == "dense"}

    def shrink(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in makers:
            config["units" if "units" in config else "filters"] = len(keeps[layer.name][1])
        return type(layer).from_config(config)

    smaller = keras.models.clone_model(model, clone_function=shrink)
    kinds = {item.layer.name: item.kind for item in graph.layers}
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in kinds:
            weights = _sliced(weights, kinds[layer.name], *keeps[layer.name])
        if weights:
            smaller.get_layer(layer.name).set_weights(weights)
    return smaller


def _sliced(weights: list[Any], kind: str, keep_in: Ids, keep_out: Ids) -> list[Any]:
    if kind == "dense":
        return [weights[0][..., keep_in, :][..., keep_out], *(w[keep_out] for w in weights[1:])]
    if kind == "depthwise":
        return [weights[0][:, :, keep_in, :], *(w[keep_in] for w in weights[1:])]
    return [w[keep_in] for w in weights]
