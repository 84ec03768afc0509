"""Post-training quantization from end to end: a trained Keras network and some inputs in, a TFLite file out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from compress.networks.signature import input_shapes
from compress.quantize.adaround import Rounding, adaround
from compress.quantize.calibrate import calibrate
from compress.quantize.correct import bias_shifts, shift_biases
from compress.quantize.equalize import equalize
from compress.quantize.four_bits import pack_four_bits
from compress.quantize.integer import quantize_ranges
from compress.quantize.mixed import Build, fewest_kept, rank_sensitive
from compress.quantize.observe import Floats, Sample
from compress.quantize.ranges import narrow_silu_ranges
from compress.quantize.settings import NEEDS_INPUTS, PostTraining
from compress.quantize.tflite import checked_samples, convert_tflite, refuse_loops
from edgeai.bundle.manifest import Precision
from edgeai.errors import PassError

RANGE_INPUTS = 16  # enough for a percentile over every position of a feature map
ROUNDING_INPUTS = 64  # a few thousand places of each layer come from these
SENSITIVITY_INPUTS = 8  # each layer's share of the error shows on a few


def quantize_network(
    network: Any,
    settings: PostTraining,
    inputs: Iterable[Sample] | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
    holds: Callable[[bytes], bool] | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """(TFLite, what was done, for the report).

    inputs: (1, ...) of training data through the device's pre-processing, for precisions of NEEDS_INPUTS. progress: show
    bars. holds: whether a file's figure is good enough, asked where settings.max_drop is given; told["keep_float"] names the
    outputs that had to stay float.

    Raises PassError where the converter or quantizer fails, where recurrent layers are asked to be integer, where the inputs
    are none, constant, not finite or of another shape, or where not even settings.max_float of the layers in float hold.
    """
    precision: Precision = settings.precision
    if precision not in NEEDS_INPUTS:
        return convert_tflite(network, precision), {}
    refuse_loops(network)
    samples = checked_samples(inputs, input_shapes(network))
    if precision == "int16x8":
        return convert_tflite(network, precision, samples), {}
    floats, scales, told = _prepared(
        convert_tflite(network, "float32"), settings, samples, seed=seed, progress=progress
    )
    shifts: dict[str, Floats] = {}
    if settings.correct_biases and scales is None:
        floats, shifts = bias_shifts(floats, samples, per_channel=settings.per_channel)
        told["corrected_layers"] = len(shifts)
    ranges = calibrate(floats, samples, settings.rule, progress=progress)

    def build(keep_float: tuple[str, ...]) -> bytes:
        shifted = shift_biases(floats, shifts, keep_float=keep_float) if shifts else floats
        made = quantize_ranges(shifted, ranges, keep_float=keep_float, per_channel=settings.per_channel)
        content, silus = narrow_silu_ranges(made, map(_only, samples[:RANGE_INPUTS]))
        return content if silus else made

    if scales is not None and precision == "int4":
        return pack_four_bits(build(()), floats, scales), told
    if holds is None or settings.max_drop is None:
        return build(()), told
    return _mixed(floats, build, settings, samples, holds, told, progress=progress)


def _prepared(
    floats: bytes, settings: PostTraining, samples: Sequence[Sample], *, seed: int, progress: bool
) -> tuple[bytes, dict[int, Floats] | None, dict[str, Any]]:
    """(the float32 model, made ready to be rounded; the weights' scales where rounding was learned; what was done)."""
    told: dict[str, Any] = {"rule": settings.rule, "inputs": len(samples)}
    if settings.equalize:
        floats, told["equalized_pairs"] = equalize(floats)
    if settings.rounding == "learned" or settings.precision == "int4":
        four = settings.precision == "int4"
        rounding = Rounding(bits=4 if four else 8, steps=settings.rounding_steps, cut=four, seed=seed)
        made = adaround(floats, samples[:ROUNDING_INPUTS], rounding, progress=progress)
        before, after = (sum(pair[n] for pair in made.error.values()) for n in (0, 1))
        told["rounding_error"] = [round(before, 6), round(after, 6)]
        return made.flatbuffer, made.scales, told
    return floats, None, told


def _mixed(
    floats: bytes,
    build: Build,
    settings: PostTraining,
    samples: Sequence[Sample],
    holds: Callable[[bytes], bool],
    told: dict[str, Any],
    *,
    progress: bool,
) -> tuple[bytes, dict[str, Any]]:
    whole = build(())
    if holds(whole):
        return whole, told
    ranked = rank_sensitive(floats, build, samples[:SENSITIVITY_INPUTS], progress=progress)
    most = max(1, int(settings.max_float * len(ranked)))
    kept, trials = fewest_kept(ranked, lambda names: holds(build(names)), most=most)
    if kept is None:
        raise PassError(
            f"int8 drops more than {settings.max_drop} also with {most} of {len(ranked)} layers in float",
            next_step="raise max_drop or max_float, or give the quantize pass float16",
        )
    told["keep_float"] = list(kept)
    told["float_layers"] = [min(trial.kept for trial in trials if trial.holds), len(ranked)]
    return build(kept), told


def _only(sample: Sample) -> Any:
    """The one input of a network that has one; narrowing knows no others."""
    return next(iter(sample.values())) if isinstance(sample, dict) and len(sample) == 1 else sample
