"""TensorRT plans behind the Engine interface: one path for 8.5 to 11. Never run on a GPU so far.

What it calls is held against the real bindings of every release line, and its moves of bytes against a recorded stand-in
(tests/fake_tensorrt.py).
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.engines.cuda import Cuda, load_cuda
from edgeai.engines.engine import Engine, Fill, T
from edgeai.engines.plans.library import TensorRT, load_tensorrt, takes_dla
from edgeai.errors import EngineError, EngineUnavailableError
from edgeai.types import Array, TensorSpec

log = logging.getLogger("edgeai")

# TensorRT's names -> numpy's; types that numpy lacks (BF16, FP8, INT4) are no edge of our models
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_MAX_PLAN_BYTES = 2 << 30


class PlanRefusedError(EngineUnavailableError):
    """TensorRT does not take a plan: of another release, GPU or driver. Another engine may serve."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output. spec: of one input at a time. host: the array over pinned memory, with room for a whole batch;
    device: the address where TensorRT has it.
    """

    spec: TensorSpec
    host: Array
    device: int

    @property
    def host_address(self) -> int:
        return int(self.host.ctypes.data)


class TensorrtEngine(Engine):
    """A serialized plan behind the Engine interface, on the first GPU.

    Inputs are written into pinned host memory, copied, run and copied back on a stream of its own. Where a plan leaves the
    first dimension of its inputs open, and nothing else, max_batch is what its profile reaches; other open dimensions are
    taken as `shapes` says, else as the profile was tuned for. cuda_graph: replay copies and launches of a single input as
    one CUDA graph, recorded after the first run. dla: the core that the plan was built for, if it was.

    name: for messages. Raises EngineUnavailableError without TensorRT, CUDA or a GPU, PlanRefusedError for a plan that is not for
    this release and GPU, EngineError for one that needs more memory than there is or has tensors that an engine cannot have.
    """

    def __init__(
        self,
        plan: bytes,
        *,
        name: str,
        cuda_graph: bool = False,
        dla: int | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        library: TensorRT | None = None,
        cuda: Cuda | None = None,
    ) -> None:
        self._where = name
        self._library = library or load_tensorrt()
        self._cuda = cuda or load_cuda()
        self._cuda_graph = cuda_graph
        self._graph: int | None = None
        self._batch = 1
        self._context: Any = None
        with ExitStack() as undo:
            self._runtime = self._library.module.Runtime(self._library.logger)
            if dla is not None and takes_dla(self._library, self._runtime, dla):
                self._runtime.DLA_core = dla
            self._engine = self._deserialize(plan)
            undo.callback(self._drop_context)
            self._context = self._new_context()
            tensors = self._tensors(shapes or {}, undo)
            self._inputs = [each for each, is_input in tensors if is_input]
            self._outputs = [each for each, is_input in tensors if not is_input]
            self._stream = self._cuda.new_stream()
            undo.callback(self._cuda.drop_stream, self._stream)
            self._release = undo.pop_all()
        self.inputs = tuple(each.spec for each in self._inputs)
        self.outputs = tuple(each.spec for each in self._outputs)

    def invoke(self, fill: Mapping[str, Fill]) -> dict[str, Array]:
        return self.read(fill, lambda outputs: {name: array.copy() for name, array in outputs.items()})

    def read(self, fill: Mapping[str, Fill], take: Callable[[Mapping[str, Array]], T]) -> T:
        self._run([fill])
        return take(self._outputs_of(0))

    def invoke_batch(self, fills: Sequence[Mapping[str, Fill]]) -> list[dict[str, Array]]:
        if not 1 < len(fills) <= self.max_batch:
            return super().invoke_batch(fills)
        self._run(fills)
        return [
            {name: array.copy() for name, array in self._outputs_of(row).items()} for row in range(len(fills))
        ]

    def bare_call(self) -> Callable[[], object]:
        """One execution on what lies in device memory, without copies: what trtexec calls GPU compute, and the launch."""
        self._open()

        def call() -> None:
            self._open()
            self._execute()
            self._cuda.wait(self._stream)

        return call

    def close(self) -> None:
        if self._context is None:
            return
        if self._graph is not None:
            self._cuda.drop_graph(self._graph)
            self._graph = None
        self._inputs, self._outputs = [], []
        self._release.close()

    def _open(self) -> None:
        if self._context is None:
            raise EngineError(f"{self._where}: the engine is closed")

    def _run(self, fills: Sequence[Mapping[str, Fill]]) -> None:
        self._open()
        self._set_batch(len(fills))
        for row, fill in enumerate(fills):
            for each in self._inputs:
                fill[each.spec.name](self._rows(each.host, row))
        single = len(fills) == 1
        if self._graph is not None and single:
            self._cuda.replay(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.wait(self._stream)
        # after a first run: what is set up then must not be recorded
        if self._cuda_graph and self._graph is None and single:
            self._record()

    def _outputs_of(self, row: int) -> dict[str, Array]:
        return {each.spec.name: self._rows(each.host, row) for each in self._outputs}

    def _enqueue(self) -> None:
        """Copies in, the execution, copies out, all only asked of the stream."""
        for each in self._inputs:
            self._cuda.to_device(each.device, each.host_address, self._used_bytes(each), self._stream)
        self._execute()
        for each in self._outputs:
            self._cuda.to_host(each.host_address, each.device, self._used_bytes(each), self._stream)

    def _record(self) -> None:
        try:
            self._graph = self._cuda.record(self._stream, self._enqueue)
        except EngineError as error:  # a loop, or an operation that waits: it runs without
            self._cuda_graph = False
            log.warning("%s: no CUDA graph can be made of it (%s)", self._where, error)

    def _used_bytes(self, tensor: _Tensor) -> int:
        return tensor.host.nbytes * self._batch // self.max_batch

    def _rows(self, host: Array, row: int) -> Array:
        """One input's or output's part of a batch."""
        return host if self.max_batch == 1 else host[row : row + 1]

    def _set_batch(self, batch: int) -> None:
        if batch == self._batch:
            return
        for each in self._inputs:
            self._shape_input(each.spec.name, (batch, *each.spec.shape[1:]))
        self._batch = batch

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"{self._where}: TensorRT failed to run: {self._library.why()}")

    def _deserialize(self, plan: bytes) -> Any:
        self._library.logger.errors.clear()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanRefusedError(
                f"{self._where}: TensorRT {self._library.text} refuses the plan: {self._library.why()}",
                next_step="plans are only good for the release and GPU they were built with; use the bundle's .onnx",
            )
        return engine

    def _new_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"{self._where}: TensorRT cannot make room to run: {self._library.why()}",
                next_step="free GPU memory, or use a smaller model",
            )
        return context

    def _drop_context(self) -> None:
        # in this order: a context must not outlive its engine, nor that its runtime
        self._context = None
        self._engine = None
        self._runtime = None

    def _tensors(self, shapes: Mapping[str, tuple[int, ...]], undo: ExitStack) -> list[tuple[_Tensor, bool]]:
        """Every tensor with its memory, and whether it is an input, in the plan's order."""
        trt, engine = self._library.module, self._engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.max_batch = self._batch = self._largest_batch(inputs, shapes)
        missing = list(self._context.infer_shapes())
        if missing:
            raise EngineError(f"{self._where}: the plan needs more than shapes for {', '.join(missing)}")
        tensors = []
        for name in names:
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise EngineError(f"{self._where}: tensor {name!r} is a shape, only data is known")
            tensors.append((self._allocate(self._spec(name), undo), name in inputs))
        return tensors

    def _largest_batch(self, inputs: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Set every input's shape, the largest batch where only that is open, and say how large it is."""
        opened = {}
        for name in inputs:
            shape = tuple(int(size) for size in self._engine.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                # smallest, usual, largest
                _, usual, largest = (tuple(s) for s in self._engine.get_tensor_profile_shape(name, 0))
                opened[name] = (shape, usual, largest)
        first_only = all(shape[0] < 0 <= min(shape[1:], default=0) for shape, _, _ in opened.values())
        sizes = {largest[0] for _, _, largest in opened.values()}
        batched = first_only and len(opened) == len(inputs) and len(sizes) == 1 and not shapes
        for name, (_, usual, largest) in opened.items():
            self._shape_input(name, shapes.get(name, largest if batched else usual))
        return int(sizes.pop()) if batched else 1

    def _shape_input(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            there = tuple(self._engine.get_tensor_shape(name))
            raise EngineError(f"{self._where}: input {name!r} is {there}, cannot be taken as {shape}")

    def _spec(self, name: str) -> TensorSpec:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise EngineError(f"{self._where}: tensor {name!r} is a {kind}, only plain tensors are known")
        shape = tuple(int(size) for size in self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise EngineError(f"{self._where}: output {name!r} is of a size that only the run tells")
        if self.max_batch > 1:
            if shape[:1] != (self.max_batch,):
                raise EngineError(f"{self._where}: output {name!r} is {shape}, it has no batch")
            shape = (1, *shape[1:])
        return TensorSpec(name, shape, _DTYPES[kind])

    def _allocate(self, spec: TensorSpec, undo: ExitStack) -> _Tensor:
        dtype = np.dtype(spec.dtype)
        shape = (self.max_batch, *spec.shape[1:]) if self.max_batch > 1 else spec.shape
        size_bytes = max(1, math.prod(shape) * dtype.itemsize)
        device = self._cuda.allocate(size_bytes)
        undo.callback(self._cuda.free, device)
        pinned = self._cuda.allocate_pinned(size_bytes)
        undo.callback(self._cuda.free_pinned, pinned)
        room: Any = (ctypes.c_char * size_bytes).from_address(pinned)
        host: Array = np.ndarray(shape, dtype, buffer=room)
        host[...] = 0
        if not self._context.set_tensor_address(spec.name, device):
            raise EngineError(
                f"{self._where}: TensorRT refuses the memory of {spec.name!r}: {self._library.why()}"
            )
        return _Tensor(spec, host, device)


def read_plan(path: Path) -> bytes:
    """A plan that a bundle brings. Raises EngineError for one that cannot be read or is larger than any plan."""
    try:
        with path.open("rb") as file:
            plan = file.read(_MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(plan) > _MAX_PLAN_BYTES:
        raise EngineError(f"{path.name}: more than {_MAX_PLAN_BYTES} bytes, which no plan has")
    return plan
