"""What a Keras network's tensors are for an input, one after the other: calibration looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress.groups.wiring import Wiring
from compress.networks.signature import input_names
from compress.quantize.observe import Floats, Sample


class KerasTensors:
    """The tensors of a functional model, by id, after each input that it is run on."""

    def __init__(self, model: Any, wiring: Wiring, wanted: Sequence[int]) -> None:
        import keras

        tensors = {id(t): t for call in wiring.calls for t in call.outputs} | {id(t): t for t in model.inputs}
        self._wanted = list(wanted)
        self._names = input_names(model)
        inputs = list(model.inputs)
        self._probe = keras.Model(inputs if len(inputs) > 1 else inputs[0], [tensors[key] for key in wanted])
        self._values: dict[int, Floats] = {}

    def run(self, sample: Sample) -> None:
        given = [sample[name] for name in self._names] if isinstance(sample, Mapping) else [sample]
        told = self._probe(given if len(given) > 1 else given[0], training=False)
        told = told if isinstance(told, list) else [told]
        self._values = {
            key: np.asarray(value, np.float32) for key, value in zip(self._wanted, told, strict=True)
        }

    def value(self, tensor: int, /) -> Floats:
        return self._values[tensor]
