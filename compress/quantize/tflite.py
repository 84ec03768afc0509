"""Conversion to TFLite by TensorFlow's own converter; int8 with ranges of our own calibration."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.memory import give_back_memory
from compress.networks.signature import constant_function, input_shapes
from compress.quantize.calibrate import calibrate
from compress.quantize.integer import quantize_ranges
from compress.quantize.observe import Sample
from compress.quantize.settings import CalibrationRule
from compress.quantize.slim import slim_tflite
from compress.quantize.tidy import tidy
from compress.quantize.unroll import recurrent_layers, written_out
from compress.quiet import quiet_stderr, reason_of
from edgeai.bundle.manifest import Precision
from edgeai.errors import PassError


def convert_tflite(
    network: Any,
    precision: Precision,
    representative: Iterable[Sample] | None = None,
    *,
    rule: CalibrationRule = "min-max",
    progress: bool = False,
    loops: bool = True,
) -> bytes:
    """A Keras model as a TFLite flatbuffer, batch 1, nothing in it twice.

    precision: "float32"; "float16" (weights); "dynamic" (int8 weights, float activations); "int8" (weights per channel,
    activations, inputs and outputs); "int16x8" (int8 weights, int16 activations, float inputs and outputs). The last two
    need `representative` inputs, (1, ...) arrays, or {input name: array} for a network of several inputs; those of int8
    give ranges by `rule`. progress: show how far calibration is. int4 is made of int8 (compress.quantize.four_bits). loops:
    False writes recurrent layers out step by step, as int8 always has them (compress.quantize.unroll).

    Raises PassError where the converter fails, where int16x8 is asked of recurrent layers, or int8 of too many steps, where
    there is no representative input, or where one has another shape than the network.
    """
    if precision not in ("int8", "int16x8"):
        with contextlib.nullcontext() if loops else written_out(network):
            return slim_tflite(_converted(network, precision, precision))
    samples = checked_samples(representative, input_shapes(network))
    if precision == "int16x8":
        refuse_recurrent(network, precision)
        return slim_tflite(_converted(network, precision, precision, samples))
    with written_out(network):
        floats = tidy(slim_tflite(_converted(network, "float32", precision)), samples[0])
    return quantize_ranges(floats, calibrate(floats, samples, rule, progress=progress))


def _converted(network: Any, precision: Precision, asked: Precision, samples: Sequence[Sample] = ()) -> bytes:
    """By TensorFlow's converter: float32, float16, dynamic or int16x8. asked: what it is on the way to."""
    import tensorflow as tf

    said: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder, quiet_stderr() as said:
            _save(network, folder)
            give_back_memory()
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if precision == "int16x8":
                converter.representative_dataset = lambda: iter(samples)
                converter.target_spec.supported_ops = [
                    tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                ]
            return bytes(converter.convert())
    except Exception as error:  # the converter and TensorFlow raise whatever they like
        raise PassError(f"the TFLite converter failed ({asked}): {reason_of(error, said)}") from error
    finally:
        give_back_memory()


def _save(network: Any, folder: str) -> None:
    """As a SavedModel with one signature of a fixed batch, in which inputs and outputs keep their names.

    A bare module without variables, for Keras' own export writes training functions too and takes ten times as long.
    """
    import tensorflow as tf

    module = tf.Module()
    module.serve = constant_function(network)
    tf.saved_model.save(module, folder, signatures=module.serve.get_concrete_function())


def refuse_recurrent(network: Any, what: str) -> None:
    """Raises PassError where the network has recurrent layers. TensorFlow's own calibration of a loop ends 2.21 with a
    segmentation fault; written out, all steps get the range of one: measured errors were 1 to 17 % of the output's range.
    """
    for layer in recurrent_layers(network)[:1]:
        raise PassError(
            f"layer {layer.name!r} ({type(layer).__name__}) is recurrent: {what} cannot have it",
            next_step="take a quantize pass of int8 or float16, or a network without loops, such as conformer-lite",
        )


def checked_samples(
    representative: Iterable[Sample] | None, shapes: Mapping[str, tuple[int, ...]]
) -> list[dict[str, NDArray[np.float32]]]:
    """Calibration inputs by the names of a network's inputs.

    Raises PassError where there is none, where one has another shape than the network takes, NaN or infinity in it, or where
    they are constant.
    """
    samples: list[dict[str, NDArray[np.float32]]] = []
    for given in representative or ():
        named = given if isinstance(given, Mapping) else {next(iter(shapes)): given}
        if named.keys() != shapes.keys():
            raise PassError(
                f"representative inputs must be {', '.join(sorted(shapes))}, got {', '.join(sorted(named))}"
            )
        sample = {name: np.asarray(named[name], np.float32) for name in shapes}
        for name, shape in shapes.items():
            if sample[name].shape != shape:
                raise PassError(f"representative inputs must be {shape}, got {sample[name].shape}")
            if not np.isfinite(sample[name]).all():
                raise PassError("a representative input holds NaN or infinity")
        samples.append(sample)
    if not samples:
        raise PassError(
            "int8 needs representative inputs, and there are none", next_step="check the recipe's [data]"
        )
    for name in shapes:
        if max(float(s[name].max()) for s in samples) == min(float(s[name].min()) for s in samples):
            raise PassError(f"the representative inputs are constant ({name}): they set no ranges")
    return samples
