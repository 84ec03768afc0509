"""Post-training quantization from end to end: a trained Keras network and some inputs in, a TFLite file out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from compress.networks.signature import input_shapes
from compress.quantize.adaround import Rounding, adaround
from compress.quantize.calibrate import calibrate
from compress.quantize.check import layer_errors
from compress.quantize.correct import bias_shifts, shift_biases
from compress.quantize.equalize import equalize
from compress.quantize.four_bits import pack_four_bits
from compress.quantize.integer import quantize_ranges
from compress.quantize.mixed import fewest_kept, rank_sensitive
from compress.quantize.observe import Floats, Sample
from compress.quantize.settings import NEEDS_INPUTS, PostTraining
from compress.quantize.silu import narrow_silu_ranges
from compress.quantize.spread import spread_silus
from compress.quantize.tflite import checked_samples, convert_tflite
from compress.quantize.tidy import tidy
from edgeai.bundle.manifest import Precision
from edgeai.errors import PassError

ROUNDING_INPUTS = 64  # a few thousand places of each layer come from these
FEW_INPUTS = 8  # each layer's share of the error shows on a few


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
    bars. holds: whether a file's figure is good enough, asked where settings.max_drop is given. Of what is told, "keep_float"
    names the outputs that had to stay float, "layers" has each layer's error against float.

    Raises PassError where the converter or quantizer fails, where recurrent layers are asked to be int16x8 or have too many
    steps, where the inputs are none, constant, not finite or of another shape, or where not even settings.max_float of the
    layers in float hold.
    """
    precision: Precision = settings.precision
    if precision not in NEEDS_INPUTS:
        return convert_tflite(network, precision), {}
    samples = checked_samples(inputs, input_shapes(network))
    if precision == "int16x8":
        return convert_tflite(network, precision, samples), {}
    spread: list[str] = []
    if settings.per_channel:
        network, spread = spread_silus(network, samples)
    floats = tidy(convert_tflite(network, "float32", loops=False), samples[0])
    work = _Integers(floats, settings, samples, seed=seed, progress=progress)
    if spread:
        work.told["spread_silus"] = spread
    content = work.build(()) if holds is None or settings.max_drop is None else work.mixed(holds)
    return content, work.told | {"layers": work.layers(content)}


class _Integers:
    """The float model made ready for integers, and integer models made of it. told: what was done so far."""

    def __init__(
        self, floats: bytes, settings: PostTraining, samples: Sequence[Sample], *, seed: int, progress: bool
    ) -> None:
        self._settings, self._samples, self._progress = settings, samples, progress
        self.told: dict[str, Any] = {"rule": settings.rule, "inputs": len(samples)}
        if settings.equalize:
            floats, self.told["equalized_pairs"] = equalize(floats)
        self._truth = floats
        self._scales: dict[int, Floats] | None = None
        self._shifts: dict[str, Floats] = {}
        if settings.rounding == "learned" or settings.precision == "int4":
            floats = self._rounded(floats, seed)
        elif settings.correct_biases:
            floats, self._shifts = bias_shifts(floats, samples, per_channel=settings.per_channel)
            self.told["corrected_layers"] = len(self._shifts)
        self._floats = floats
        ranges = calibrate(floats, samples, settings.rule, progress=progress)
        self._ranges = narrow_silu_ranges(floats, ranges, samples)

    def _rounded(self, floats: bytes, seed: int) -> bytes:
        four = self._settings.precision == "int4"
        rounding = Rounding(bits=4 if four else 8, steps=self._settings.rounding_steps, cut=four, seed=seed)
        made = adaround(floats, self._samples[:ROUNDING_INPUTS], rounding, progress=self._progress)
        before, after = (sum(pair[n] for pair in made.error.values()) for n in (0, 1))
        self.told["rounding_error"] = [round(before, 6), round(after, 6)]
        self._scales = made.scales
        return made.flatbuffer

    def build(self, keep_float: tuple[str, ...]) -> bytes:
        """The integer model in which operations with these outputs stay float."""
        shifted = self._floats
        if self._shifts:
            shifted = shift_biases(shifted, self._shifts, keep_float=keep_float)
        made = quantize_ranges(
            shifted, self._ranges, keep_float=keep_float, per_channel=self._settings.per_channel
        )
        if self._settings.precision == "int4" and self._scales is not None:
            return pack_four_bits(made, self._floats, self._scales)
        return made

    def mixed(self, holds: Callable[[bytes], bool]) -> bytes:
        """The integer model with the fewest layers in float that `holds`; raises PassError where there is none."""
        whole = self.build(())
        if holds(whole):
            return whole
        few = self._samples[:FEW_INPUTS]
        ranked = rank_sensitive(self._floats, self.build, few, progress=self._progress)
        most = max(1, int(self._settings.max_float * len(ranked)))
        kept, trials = fewest_kept(ranked, lambda names: holds(self.build(names)), most=most)
        if kept is None:
            raise PassError(
                f"int8 drops more than {self._settings.max_drop} also with {most} of {len(ranked)} layers in float",
                next_step="raise max_drop or max_float, or give the quantize pass float16",
            )
        self.told["keep_float"] = list(kept)
        self.told["float_layers"] = [min(t.kept for t in trials if t.holds), len(ranked)]
        return self.build(kept)

    def layers(self, content: bytes) -> list[dict[str, Any]]:
        """The error of each layer against float, for the report, in the network's order."""
        return told_errors(self._truth, content, self._samples)


def told_errors(floats: bytes, quantized: bytes, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """layer_errors() on the first few of `samples`, for a report."""
    return [
        {"name": e.name, "kind": e.kind, "sqnr_db": round(e.sqnr_db, 1), "cosine": round(e.cosine, 5)}
        for e in layer_errors(floats, quantized, samples[:FEW_INPUTS])
    ]
