"""The float network again in tf_keras, for tools that know no Keras 3, and its int8 TFLite file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from exchange import Exchange

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported: tfmot asks it for its Keras
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def build_network(exchange: Exchange) -> Any:
    """With the weights copied; one output of logits."""
    import tf_keras

    kept: dict[str, Any] = {}
    for layer in exchange.layers:
        given = [kept[name] for name in layer["inputs"]]
        kept[layer["name"]] = _layer(layer)(given if len(given) > 1 else given[0]) if given else _input(layer)
        last = kept[layer["name"]]
    network = tf_keras.Model(kept[exchange.layers[0]["name"]], last)
    for layer in exchange.layers:
        if weights := exchange.weights(layer["name"]):
            network.get_layer(layer["name"]).set_weights(weights)
    return network


def _input(layer: dict[str, Any]) -> Any:
    import tf_keras

    return tf_keras.Input(tuple(layer["settings"]["shape"]), name=layer["name"])


def _layer(layer: dict[str, Any]) -> Any:
    from tf_keras import layers

    settings = layer["settings"]
    if layer["kind"] == "Activation":  # tfmot quantizes the layer ReLU, and no activation of this name
        if settings != {"activation": "relu6"}:
            raise ValueError(f"layer {layer['name']}: no rebuild of {settings}")
        return layers.ReLU(6.0, name=layer["name"])
    return getattr(layers, layer["kind"])(name=layer["name"], **settings)


def write_int8(network: Any, exchange: Exchange, path: Path, *, calibrate: bool = True) -> None:
    """calibrate: by the exchange's pictures; a network that was trained with its ranges has them."""
    import tensorflow as tf

    pictures = exchange.calibration()
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibrate:
        converter.representative_dataset = lambda: ([picture[None]] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())
