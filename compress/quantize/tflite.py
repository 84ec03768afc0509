"""Post-training quantization and conversion to TFLite, by TensorFlow's own converter; and whether it was done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quiet import quiet_stderr
from edgeai.bundle.manifest import Precision
from edgeai.errors import PassError


def convert_tflite(
    network: Any, precision: Precision, representative: Iterable[NDArray[np.float32]] | None = None
) -> bytes:
    """A Keras model as a TFLite flatbuffer, batch 1.

    precision: "float32"; "float16" (weights); "dynamic" (int8 weights, float activations); "int8" (weights per channel,
    activations, inputs and outputs: needs `representative` inputs (1, ...)). Raises PassError where the converter fails,
    where there is no representative input, or where one has another shape than the network.
    """
    import tensorflow as tf

    shape = (1, *network.inputs[0].shape[1:])
    inputs = _checked(representative, shape) if precision == "int8" else []
    try:
        with tempfile.TemporaryDirectory() as folder, quiet_stderr():
            _save(network, shape, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if precision == "int8":
                converter.representative_dataset = lambda: ([x] for x in inputs)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = converter.inference_output_type = tf.int8
            return bytes(converter.convert())
    except Exception as error:  # the converter and TensorFlow raise whatever they like
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PassError(f"the TFLite converter failed ({precision}): {first[:200]}") from error


def _save(network: Any, shape: tuple[int, ...], folder: str) -> None:
    """As a SavedModel with one signature of a fixed batch, in which the outputs keep their names.

    A bare module, for Keras' own export writes training functions too and takes five times as long.
    """
    import tensorflow as tf

    module = tf.Module()
    module.held = [variable.value for variable in network.variables]
    spec = tf.TensorSpec(shape, tf.float32, name=network.inputs[0].name.split(":")[0])
    module.serve = tf.function(lambda x: network(x, training=False), input_signature=[spec])
    tf.saved_model.save(module, folder, signatures=module.serve.get_concrete_function())


def _checked(
    representative: Iterable[NDArray[np.float32]] | None, shape: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    inputs = [np.asarray(x, np.float32) for x in representative or ()]
    if not inputs:
        raise PassError(
            "int8 needs representative inputs, and there are none", next_step="check the recipe's [data]"
        )
    for x in inputs:
        if x.shape != shape:
            raise PassError(f"representative inputs must be {shape}, got {x.shape}")
        if not np.isfinite(x).all():
            raise PassError("a representative input holds NaN or infinity")
    if max(float(x.max()) for x in inputs) == min(float(x.min()) for x in inputs):
        raise PassError("the representative inputs are constant: they set no ranges")
    return inputs


def float_tensors(path: Path) -> list[str]:
    """Names of the tensors of a TFLite file that are still float: empty where int8 was really done everywhere."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    return [d["name"] for d in interpreter.get_tensor_details() if d["dtype"] in (np.float32, np.float16)]
