"""Which number format the layers compute in. Weights, losses and outputs are float32 whatever is chosen."""

from __future__ import annotations

from typing import Any, Literal

Precision = Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]
Policy = Literal["float32", "mixed_float16", "mixed_bfloat16"]

TENSOR_CORES = (
    7,
    0,
)  # NVIDIA's compute capability from which float16 is the faster one (CUDA C++ programming guide)


def choose_policy(wanted: Precision) -> Policy:
    """`wanted`, or for "auto" mixed_float16 where every GPU has tensor cores, else float32."""
    if wanted != "auto":
        return wanted
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    able = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= TENSOR_CORES
        for gpu in gpus
    ]
    return "mixed_float16" if able and all(able) else "float32"


def cast_network(network: Any, policy: Policy) -> Any:
    """A network of the same layers that computes in `policy`, its output layers in float32; `network` itself for float32.

    The variables of the copy are float32, untrained, and in the same order.
    """
    if policy == "float32":
        return network
    import keras

    heads = {id(tensor._keras_history.operation) for tensor in network.outputs}

    def cast(layer: Any) -> Any:
        config = layer.get_config()
        config["dtype"] = "float32" if id(layer) in heads else policy
        copied = layer.__class__.from_config(config)
        copied.trainable = layer.trainable
        return copied

    return keras.models.clone_model(network, clone_function=cast, recursive=True)
