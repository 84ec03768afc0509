"""A Keras network made ready to learn while it rounds, and taken out of it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.groups.rebuild import rebuild_model
from compress.groups.wiring import Call, Wiring, open_wiring
from compress.networks.signature import input_names
from compress.quantize.aware.equalize import equalize_layers
from compress.quantize.aware.fake_quant import fake_quant_class
from compress.quantize.aware.fold import activation_name, fold_norms, kernel_axes
from compress.quantize.aware.points import fixed_range, rounded_outputs, unlike_joins
from compress.quantize.calibrate import Range, find_ranges
from compress.quantize.keras_tensors import KerasTensors
from compress.quantize.observe import Floats
from compress.quantize.settings import CalibrationRule, RangeTraining
from compress.quantize.silu import FLAT_BELOW, silu_caps
from compress.quantize.spread import spread_folded
from compress.train.rounded import Kernels

Named = Mapping[str, Floats]
_FIRST = 1.0  # the range's end of a tensor that was 0 for every input


def make_aware(
    network: Any,
    samples: Sequence[Named],
    *,
    ranges: RangeTraining = "learned",
    rule: CalibrationRule = "mse",
    equalized: bool = False,
    per_channel: bool = True,
    progress: bool = False,
) -> Any:
    """The network with its batch norms folded and a FakeQuant layer wherever its int8 file will round an activation.

    samples: inputs (1, ...) of training data by name, at least one; they say where the ranges begin, by `rule`. ranges: how
    they go on in training. equalized: bring channels to like size first (compress.quantize.equalize). per_channel: weights will
    have a scale a channel, with which SiLUs can be spread (compress.quantize.spread). Weights are rounded by the training
    (compress.train.rounded, with rounded_kernels()).

    Raises PassError for a network that is not functional, and where a tensor becomes NaN or infinite.
    """
    folded = fold_norms(network)
    if per_channel:
        folded, _ = spread_folded(folded, renamed(samples, network, folded))
    if equalized:
        equalize_layers(folded)
    wiring = open_wiring(folded)
    # words and indices are integers already
    given = {id(tensor): f"input {tensor.name}" for tensor in folded.inputs if _is_float(tensor)}
    made = {id(wiring.calls[n].outputs[0]): wiring.calls[n].name for n in sorted(rounded_outputs(wiring))}
    names = given | made
    observer = KerasTensors(folded, wiring, list(names))
    samples = renamed(samples, network, folded)
    begin = find_ranges(observer, list(names), samples, rule, name=names.__getitem__, progress=progress)
    begin = _cut_silus(wiring, begin, observer, samples)
    for number in unlike_joins(wiring, begin):
        made.pop(id(wiring.calls[number].outputs[0]), None)
    kind = fake_quant_class()
    inputs = iter(given)

    def change_tensor(call: Call | None, tensor: Any) -> Any:
        if call is None and not _is_float(tensor):
            return tensor
        if call is None:
            return kind(
                *_usable(begin[next(inputs)]), trains=ranges, name=f"input_{_plain(tensor.name)}_rounded"
            )(tensor)
        key = id(call.outputs[0])
        if key not in made:
            return tensor
        fixed = fixed_range(call)
        trains = ranges if fixed is None else "fixed"
        bounds = _usable(begin[key]) if fixed is None else fixed
        return kind(*bounds, trains=trains, name=f"{_plain(call.name)}_{call.number}_rounded")(tensor)

    return rebuild_model(folded, wiring, change_tensor=change_tensor)


def plain_network(aware: Any) -> Any:
    """The network without the rounding: Keras' own layers, the batch norms folded still."""
    wiring = open_wiring(aware)
    kind = fake_quant_class()
    return rebuild_model(
        aware, wiring, left_out={call.number for call in wiring.calls if isinstance(call.op, kind)}
    )


def rounded_kernels(aware: Any, *, per_channel: bool = True) -> Kernels:
    """Of each weight that an int8 file rounds, by path, the axes along which it has a scale each."""
    found: Kernels = {}
    for layer in aware.layers:
        for index, axes in kernel_axes(layer).items():
            found[str(layer.weights[index].path)] = axes if per_channel else ()
    return found


def renamed(samples: Sequence[Named], network: Any, other: Any) -> list[Named]:
    """Inputs of `network` as those of `other`, which was made of it: inputs that were never named are called otherwise."""
    names = list(zip(input_names(network), input_names(other), strict=True))
    return [{new: sample[old] for old, new in names} for sample in samples]


def _cut_silus(
    wiring: Wiring, ranges: Mapping[int, Range], observer: KerasTensors, samples: Sequence[Named]
) -> dict[int, Range]:
    """As compress.quantize.silu does it after training, around every SiLU and what its values are joined to."""
    found = dict(ranges)
    silus = [
        call
        for call in wiring.calls
        if activation_name(call.op) in ("silu", "swish")
        and {id(call.inputs[0]), id(call.outputs[0])} <= found.keys()
    ]
    caps = silu_caps(observer, [id(call.inputs[0]) for call in silus], samples)
    passed = dict(found)  # also of tensors that have the scale of what they were made of
    for call in wiring.calls:
        given = [passed[id(tensor)] for tensor in call.inputs if id(tensor) in passed]
        for key in map(id, call.outputs):
            if key not in found:
                passed[key] = given[0] if given else (0.0, 0.0)
            elif call in silus:
                x, cap = id(call.inputs[0]), caps[id(call.inputs[0])]
                found[x] = max(FLAT_BELOW, found[x][0]), min(cap, found[x][1])
                passed[key] = found[key] = found[key][0], min(cap, found[key][1])
            elif type(call.op).__name__ == "Concatenate" and len(given) == len(call.inputs):
                low, high = min(r[0] for r in given), max(r[1] for r in given)
                passed[key] = found[key] = max(low, found[key][0]), min(high, found[key][1])
    return found


def _usable(found: Range) -> Range:
    low, high = found
    return (low, high) if high > low else (0.0, _FIRST)


def _is_float(tensor: Any) -> bool:
    return "float" in str(tensor.dtype)


def _plain(name: str) -> str:
    return name.split(":", maxsplit=1)[0].replace("/", "_")
