"""A SavedModel as a float TFLite graph."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from compress.quiet import quiet_stderr, reason_of
from edgeai.errors import DataError

SERVING = "serving_default"


def tflite_from_saved_model(folder: Path) -> bytes:
    """Of its serving signature, float32 with a batch of 1; inputs and outputs keep their names.

    Loading it runs none of its operations but those that restore its weights. Raises DataError for a folder that is none,
    one without a signature, of no fixed size, and for what TensorFlow cannot convert.
    """
    import tensorflow as tf

    if not (folder / "saved_model.pb").is_file():
        raise DataError(f"{folder} is no SavedModel: there is no saved_model.pb in it")
    said: list[str] = []
    try:
        with quiet_stderr() as said, tempfile.TemporaryDirectory() as frozen:
            loaded = tf.saved_model.load(str(folder))
            if not loaded.signatures:
                raise DataError(
                    f"{folder.name} has no signature",
                    next_step="save it with model.export() or signatures=...",
                )
            chosen = loaded.signatures.get(SERVING) or next(iter(loaded.signatures.values()))
            module = tf.Module()
            module.serve = _with_constants(chosen, folder.name)
            tf.saved_model.save(
                module,
                frozen,
                signatures=module.serve.get_concrete_function(),
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
            return bytes(tf.lite.TFLiteConverter.from_saved_model(frozen).convert())
    except DataError:
        raise
    except Exception as error:  # loader and converter raise whatever they like
        raise DataError(f"{folder.name} cannot be read by TensorFlow: {reason_of(error, said)}") from error


def _with_constants(signature: Any, where: str) -> Any:
    """The signature's function with its variables as constants, as a tf.function of a batch of 1."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(signature)
    specs = []
    for tensor in frozen.inputs:
        sides = tensor.shape.as_list()
        name = tensor.name.split(":")[0]
        if any(side is None for side in sides[1:]):
            raise DataError(
                f"{where}: input {name!r} has no fixed size, but {sides}", next_step="export it with one"
            )
        specs.append(tf.TensorSpec([1, *sides[1:]], tensor.dtype, name=name))
    names = sorted(signature.structured_outputs)

    def call(*inputs: Any) -> dict[str, Any]:
        told = frozen(*inputs)
        told = told if isinstance(told, (list, tuple)) else [told]
        return {name: tf.identity(value, name=name) for name, value in zip(names, told, strict=True)}

    return tf.function(call, input_signature=specs, autograph=False)
