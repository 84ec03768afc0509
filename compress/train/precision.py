"""Which number format the layers compute in. Weights, losses and outputs are float32 whatever is chosen."""

from __future__ import annotations

from typing import Literal

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
