"""SiLU behind channels of unlike reach: each channel is scaled to the same, and the gate is told its true size.

All channels of a tensor share one int8 step. YOLOX-nano's first layer has channels that reach 170 and others that reach 0.5:
whatever the step, one of them is lost, and its int8 file lost 10 of 68 points of AP50. Cross-layer equalization does not pass
a SiLU, for silu(s x) is not s silu(x). But x * sigmoid(x) = s * (x' * sigmoid(s x')) with x' = x / s: the convolution makes x',
a 1x1 depthwise convolution, whose weights are s and exact with a scale a channel, tells the gate s x', and what reads the
product has weights s times larger. In float the network says the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.rebuild import rebuild_model
from compress.groups.wiring import Call, Wiring, functional_part, open_wiring, readers_of
from compress.networks.signature import input_names
from compress.quantize.aware.equalize import is_homogeneous, made_axis, read_axis
from compress.quantize.aware.fold import activation_name, fold_norms
from compress.quantize.graph import along
from compress.quantize.keras_tensors import KerasTensors
from compress.quantize.observe import Floats
from compress.quantize.silu import FLAT_BELOW, silu_noise

# the share of noise in a SiLU's output from which on it is worth another operation
NOISE = 0.03
REACH_INPUTS = 16
REACH_PERCENTILE = 99.95
REACH = 8.0  # of every channel afterwards
SMALLEST = 1e-3  # of the largest reach: a channel that is nearly 0 everywhere is not blown up


def spread_silus(network: Any, samples: Sequence[Mapping[str, Floats]]) -> tuple[Any, list[str]]:
    """(a network that says the same, with the SiLUs spread whose channels one int8 step does not serve; their names).

    samples: inputs (1, ...) by name. The network itself comes back where there is nothing to do or it is not functional.
    """
    if functional_part(network) is None or not _has_silu(network):
        return network, []
    folded = fold_norms(network)
    names = input_names(folded)
    some = [dict(zip(names, sample.values(), strict=True)) for sample in samples[:REACH_INPUTS]]
    spread, found = spread_folded(folded, some)
    return (spread, found) if found else (network, [])


def spread_folded(folded: Any, samples: Sequence[Mapping[str, Floats]]) -> tuple[Any, list[str]]:
    """spread_silus() of a network whose batch norms are folded already (compress.quantize.aware.fold)."""
    wiring = open_wiring(folded)
    found = _find(wiring)
    if not found:
        return folded, []
    some = samples[:REACH_INPUTS]
    observer = KerasTensors(folded, wiring, [one.key for one in found])
    noise = silu_noise(observer, [one.key for one in found], some)
    noisy = [one for one in found if noise[one.key] > NOISE]
    if not noisy:
        return folded, []
    reach = _reach(observer, noisy, some)
    return _rebuilt(folded, wiring, {one: reach[one.key] / REACH for one in noisy}), [
        one.maker.name for one in noisy
    ]


@dataclass(frozen=True, eq=False)
class _Silu:
    """maker: the convolution whose output the SiLU's calls alone read. readers: all layers that read what the SiLU gives."""

    maker: Call
    calls: tuple[Call, ...]
    readers: tuple[Call, ...]

    @property
    def key(self) -> int:
        return id(self.maker.outputs[0])


def _has_silu(network: Any) -> bool:
    """Or a sigmoid, which may be half of one."""
    layers = network._flatten_layers(include_self=False)
    return any(activation_name(layer) in ("silu", "swish", "sigmoid") for layer in layers)


def _find(wiring: Wiring) -> list[_Silu]:
    import keras

    times = Counter(call.name for call in wiring.calls)
    makers = {id(tensor): call for call in wiring.calls for tensor in call.outputs}
    ends = {id(tensor) for tensor in keras.tree.flatten(wiring.outputs)}
    readers = readers_of(wiring)

    def all_readers(tensor: int) -> list[Call] | None:
        """The layers with weights that read a tensor, past what is homogeneous; None where something else reads it."""
        if tensor in ends:
            return None
        found = []
        for call in readers.get(tensor, []):
            if read_axis(call.op) is not None and times[call.name] == 1:
                found.append(call)
                continue
            behind = all_readers(id(call.outputs[0])) if is_homogeneous(call.op) else None
            if behind is None:
                return None
            found += behind
        return found

    silus = []
    for call in wiring.calls:
        parts = _parts(call, makers)
        if not parts:
            continue
        key = id(parts[0].inputs[0])
        maker = makers.get(key)
        if maker is None or key in ends or {id(part) for part in parts} != {id(c) for c in readers[key]}:
            continue
        last = getattr(maker.op, "data_format", "") == "channels_last"
        if (
            made_axis(maker.op) is None
            or not last
            or times[maker.name] > 1
            or len(maker.outputs[0].shape) != 4
        ):
            continue
        alone = all(len(readers.get(id(part.outputs[0]), [])) == 1 for part in parts[:-1])
        behind = all_readers(id(parts[-1].outputs[0])) if alone else None
        if behind and all(getattr(r.op, "data_format", "channels_last") == "channels_last" for r in behind):
            silus.append(_Silu(maker, parts, tuple(behind)))
    return silus


def _parts(call: Call, makers: Mapping[int, Call]) -> tuple[Call, ...]:
    """The calls of the SiLU that ends with `call`: itself, or a sigmoid and the product; none where it is no SiLU."""
    if type(call.op).__name__ == "Activation" and activation_name(call.op) in ("silu", "swish"):
        return (call,)
    if type(call.op).__name__ == "Multiply" and len(call.inputs) == 2:
        for x, gate in (call.inputs, call.inputs[::-1]):
            made = makers.get(id(gate))
            if made is not None and activation_name(made.op) == "sigmoid" and made.inputs[0] is x:
                return (made, call) if type(made.op).__name__ == "Activation" else ()
    return ()


def _reach(
    observer: KerasTensors, silus: Sequence[_Silu], samples: Sequence[Mapping[str, Floats]]
) -> dict[int, NDArray[np.float32]]:
    """How far each channel goes from 0, but for a few values; where SiLU is flat does not count."""
    seen: dict[int, list[Floats]] = {one.key: [] for one in silus}
    for sample in samples:
        observer.run(sample)
        for key, values in seen.items():
            rows = observer.value(key).reshape(-1, observer.value(key).shape[-1])
            far = np.maximum(rows, np.minimum(-rows, -FLAT_BELOW))
            values.append(np.percentile(far, REACH_PERCENTILE, axis=0))
    found = {}
    for key, values in seen.items():
        reach = np.max(values, 0)
        found[key] = np.maximum(reach, SMALLEST * max(float(reach.max()), 1.0)).astype(np.float32)
    return found


def _rebuilt(network: Any, wiring: Wiring, scales: Mapping[_Silu, NDArray[np.float32]]) -> Any:
    import keras

    made = {one.maker.number: scale for one, scale in scales.items()}
    read = {reader.number: scale for one, scale in scales.items() for reader in one.readers}
    gates: dict[str, NDArray[np.float32]] = {}

    def change_weight(call: Call, index: int, values: NDArray[Any]) -> NDArray[Any]:
        if index == 0 and call.number in read:
            axis = read_axis(call.op)
            values = values * along(read[call.number], values.ndim, -1 if axis is None else axis)
        if call.number in made:
            scale = made[call.number]
            axis = made_axis(call.op) if index == 0 else -1
            values = values / along(scale, values.ndim, -1 if axis is None else axis)
        return values

    def change_tensor(call: Call | None, tensor: Any) -> Any:
        if call is None or call.number not in made:
            return tensor
        name = call.name.replace("/", "_")
        gate = keras.layers.DepthwiseConv2D(1, use_bias=False, name=f"{name}_gate_size")
        gates[gate.name] = made[call.number]
        told = keras.layers.Activation("sigmoid", name=f"{name}_gate")(gate(tensor))
        return keras.layers.Multiply(name=f"{name}_gated")([tensor, told])

    rebuilt = rebuild_model(
        network,
        wiring,
        change_weight=change_weight,
        change_tensor=change_tensor,
        left_out={call.number for one in scales for call in one.calls},
    )
    for name, scale in gates.items():
        rebuilt.get_layer(name).set_weights([scale.reshape(1, 1, -1, 1)])
    return rebuilt
