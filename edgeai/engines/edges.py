"""An engine at its model's edges: pictures or features in, float32 out. The one place that quantises and dequantises.

real = (stored - zero_point) * scale, so stored = clip(round(real / scale) + zero_point), rounded half to even
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import FileEntry, ImageInput, LogMelInput
from edgeai.engines.engine import Engine, Fill
from edgeai.engines.pixels import PixelWriter, Writer
from edgeai.errors import EngineError, TensorError
from edgeai.types import Array, TensorSpec


class EdgeEngine:
    """Runs an engine of one input on what the manifest's `input` describes.

    inputs: one spec, named as the manifest names it: (height, width, 3) uint8 in the manifest's colour order for
    pictures, float32 in the engine's shape for features. outputs: the engine's own, as float32, batch axis kept.
    Where the engine's only input has another name than the manifest's, that one is meant. Closes the engine.
    file, label: of the candidate that was opened, as in "plan/int8"; empty for one that is in no bundle. reason: what made
    open_engine choose it.

    Raises TensorError where the engine's input does not fit the manifest, EngineError for one with several inputs.
    """

    def __init__(
        self,
        engine: Engine,
        input: ImageInput | LogMelInput,
        *,
        file: FileEntry | None = None,
        label: str = "",
    ) -> None:
        self.engine = engine
        self.file = file
        self.label = label
        self.reason = ""
        if len(engine.inputs) != 1:
            names = ", ".join(spec.name for spec in engine.inputs)
            raise EngineError(f"a bundle's engine has one input, this one has {len(engine.inputs)} ({names})")
        spec = engine.inputs[0]
        self._tensor = spec.name
        self._writer: Writer = (
            PixelWriter(spec, input) if isinstance(input, ImageInput) else FeatureWriter(spec, input)
        )
        self.inputs = (self._writer.edge,)
        self.outputs = tuple(TensorSpec(out.name, out.shape, "float32") for out in engine.outputs)
        self._name = input.name
        self._output_specs = {out.name: out for out in engine.outputs}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """Run on {the manifest's input name: array}; float32 outputs by name, owned by the caller.

        Raises TensorError for another name, shape or type, and for features that are not finite.
        """
        array = inputs.get(self._name)
        if array is None or len(inputs) != 1:
            raise TensorError(f"the model's input is {self._name!r}, given were {sorted(inputs)}")
        return self.engine.read({self._tensor: self._writer.fill(array)}, self._real)

    def run_batch(self, arrays: Sequence[Array]) -> list[dict[str, NDArray[np.float32]]]:
        """Run on several inputs, each as for `run`, `max_batch` at once where the engine can; outputs in their order.

        Raises TensorError for another shape or type, and for features that are not finite.
        """
        size = self.max_batch
        found: list[dict[str, NDArray[np.float32]]] = []
        for start in range(0, len(arrays), size):
            fills = [{self._tensor: self._writer.fill(array)} for array in arrays[start : start + size]]
            found += [self._real(outputs) for outputs in self.engine.invoke_batch(fills)]
        return found

    @property
    def max_batch(self) -> int:
        """How many inputs run at once."""
        return self.engine.max_batch if self._writer.holds else 1

    def _real(self, outputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        return {name: dequantise(value, self._output_specs[name]) for name, value in outputs.items()}

    def reset(self) -> None:
        """Forget what a streaming model remembers of earlier inputs."""
        self.engine.reset()

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> EdgeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class FeatureWriter:
    """Float32 features into a float or integer tensor, as quantise() does. Axes of length 1 may be left out or added.

    What fill() gives for an integer tensor holds until the next fill(): both write into one scratch array.
    """

    def __init__(self, spec: TensorSpec, input: LogMelInput) -> None:
        if _without_ones(spec.shape) != _without_ones((input.frames, input.mels)):
            raise TensorError(
                f"the engine's input {spec.name!r} is {spec.shape}, the manifest says {input.frames} frames of "
                f"{input.mels} mels"
            )
        if spec.scale is None and not spec.dtype.startswith("float"):
            raise TensorError(
                f"the engine's input {spec.name!r} is {spec.dtype} without a scale, features are real"
            )
        self.edge = TensorSpec(input.name, spec.shape, "float32")
        self.holds = spec.scale is None
        self._spec = spec
        self._scratch = np.empty(spec.shape, np.float64)

    def fill(self, array: Array) -> Fill:
        spec = self._spec
        if _without_ones(array.shape) != _without_ones(spec.shape) or array.dtype != np.float32:
            raise TensorError(
                f"input {self.edge.name!r} must be {spec.shape} float32, got {tuple(array.shape)} {array.dtype}"
            )
        if not np.isfinite(array).all():
            raise TensorError(f"input {self.edge.name!r} holds a NaN or an infinity")
        values = array.reshape(spec.shape)
        if spec.scale is None:
            return lambda target: np.copyto(target, values, casting="same_kind")
        steps = _steps(values, spec.scale, spec, out=self._scratch)

        def fill(target: Array) -> None:
            np.add(steps, spec.zero_point, out=target, casting="unsafe")

        return fill


def quantise(values: NDArray[np.float32], spec: TensorSpec) -> Array:
    """Real values as the tensor stores them, rounded half to even and clipped to its type; same shape.

    >>> quantise(np.float32([0.25, 0.75, 99]), TensorSpec("x", (3,), "int8", 0.5, -1)).tolist()
    [-1, 1, 127]
    """
    if spec.scale is None:
        floats: Array = values.astype(spec.dtype, copy=False)
        return floats
    steps = _steps(values, spec.scale, spec, out=np.empty(values.shape, np.float64))
    stored: Array = np.add(steps, spec.zero_point, out=steps).astype(spec.dtype)
    return stored


def _steps(values: Array, scale: float, spec: TensorSpec, *, out: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` in whole steps of `scale` from the zero point, as many as the type holds, in `out`.

    No array is made on the way: new ones cost a small keyword network a tenth of its whole call.
    """
    limits = np.iinfo(spec.dtype)
    np.divide(values, scale, out=out, dtype=np.float64)
    np.rint(out, out=out)
    clipped: NDArray[np.float64] = np.clip(
        out, limits.min - spec.zero_point, limits.max - spec.zero_point, out=out
    )
    return clipped


def dequantise(stored: Array, spec: TensorSpec) -> NDArray[np.float32]:
    """A tensor's stored values as a new float32 array of the same shape.

    >>> dequantise(np.int8([-1, 1]), TensorSpec("x", (2,), "int8", 0.5, -1)).tolist()
    [0.0, 1.0]
    """
    values = stored.astype(np.float32)
    if spec.scale is not None:
        # in place: numpy casts and subtracts in one go only through buffers, which takes longer
        values -= np.float32(spec.zero_point)
        values *= np.float32(spec.scale)
    return values


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
