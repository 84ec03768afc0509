"""Post-training quantization from end to end: a trained Keras network and some inputs in, a TFLite file out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compress.networks.signature import input_shapes
from compress.quantize.adaround import Rounding, adaround
from compress.quantize.calibrate import calibrate
from compress.quantize.correct import correct_biases
from compress.quantize.equalize import equalize
from compress.quantize.four_bits import pack_four_bits
from compress.quantize.integer import quantize_ranges
from compress.quantize.observe import Sample
from compress.quantize.ranges import narrow_silu_ranges
from compress.quantize.settings import NEEDS_INPUTS, PostTraining
from compress.quantize.tflite import checked_samples, convert_tflite, refuse_loops
from edgeai.bundle.manifest import Precision

RANGE_INPUTS = 16  # enough for a percentile over every position of a feature map
ROUNDING_INPUTS = 64  # a few thousand places of each layer come from these


def quantize_network(
    network: Any,
    settings: PostTraining,
    inputs: Iterable[Sample] | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> tuple[bytes, dict[str, Any]]:
    """(TFLite, what was done, for the report).

    progress: show bars. inputs: (1, ...) of training data through the device's pre-processing, for precisions of NEEDS_INPUTS. Raises PassError
    where the converter or quantizer fails, where recurrent layers are asked to be integer, or where the inputs are none,
    constant, not finite or of another shape.
    """
    precision: Precision = settings.precision
    if precision not in NEEDS_INPUTS:
        return convert_tflite(network, precision), {}
    refuse_loops(network)
    samples = checked_samples(inputs, input_shapes(network))
    if precision == "int16x8":
        return convert_tflite(network, precision, samples), {}
    floats = convert_tflite(network, "float32")
    return _integers(floats, settings, samples, seed=seed, progress=progress)


def _integers(
    floats: bytes, settings: PostTraining, samples: Sequence[Sample], *, seed: int, progress: bool
) -> tuple[bytes, dict[str, Any]]:
    told: dict[str, Any] = {"rule": settings.rule, "inputs": len(samples)}
    if settings.equalize:
        floats, told["equalized_pairs"] = equalize(floats)
    learned = settings.rounding == "learned" or settings.precision == "int4"
    scales = None
    if learned:
        four = settings.precision == "int4"
        rounding = Rounding(bits=4 if four else 8, steps=settings.rounding_steps, cut=four, seed=seed)
        made = adaround(floats, samples[:ROUNDING_INPUTS], rounding, progress=progress)
        floats, scales = made.flatbuffer, made.scales
        before, after = (sum(pair[n] for pair in made.error.values()) for n in (0, 1))
        told["rounding_error"] = [round(before, 6), round(after, 6)]
    elif settings.correct_biases:
        floats, told["corrected_layers"] = correct_biases(floats, samples, per_channel=settings.per_channel)
    ranges = calibrate(floats, samples, settings.rule, progress=progress)
    content = quantize_ranges(floats, ranges, per_channel=settings.per_channel)
    content, silus = narrow_silu_ranges(content, [_only(sample) for sample in samples[:RANGE_INPUTS]])
    if silus:
        told["narrowed_silus"] = silus
    if settings.precision == "int4" and scales is not None:
        content = pack_four_bits(content, floats, scales)
    return content, told


def _only(sample: Sample) -> Any:
    """The one input of a network that has one; narrowing knows no others."""
    return next(iter(sample.values())) if isinstance(sample, dict) and len(sample) == 1 else sample
