"""TFLite models: float32, float16, dynamic-range and integer, through whichever interpreter is installed."""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.console import print_note
from edgeai.engines.engine import Engine, Fill, T
from edgeai.errors import EngineError, EngineUnavailableError
from edgeai.types import Array, TensorSpec

# (package, module, its interpreter), best first: on int8 models tflite-runtime 2.14 is some 22 times slower than LiteRT
_LIBRARIES = (
    ("ai_edge_litert", "ai_edge_litert.interpreter", "Interpreter"),
    ("tflite_runtime", "tflite_runtime.interpreter", "Interpreter"),
    ("tensorflow", "tensorflow", "lite.Interpreter"),
)
_INSTALL = "pip install ai-edge-litert"
_IDENTIFIER = b"TFL3"  # file_identifier of tensorflow/lite/schema/schema.fbs, bytes 4 to 8 of the file
_MIN_BYTES = 64
_stderr_lock = threading.Lock()


class TfliteEngine(Engine):
    """A .tflite file behind the Engine interface; any dynamic dimension is taken as 1.

    Inputs are written straight into the interpreter's memory; outputs are copies. Names are those of the model's
    signature where it has exactly one, else the tensors' own without TensorFlow's "serving_default_" and ":0".

    LiteRT checks a file's structure, older interpreters trust it and can crash the process on a damaged one. Here
    only identifier and length are checked before: what protects a device is the SHA-256 of its bundle.

    Raises EngineUnavailableError without any interpreter, EngineError for a file that cannot be run.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self._where = Path(path).name
        _check_file(Path(path))
        self.library, interpreter_class = _load_library()
        self._new: Callable[[], Any] = partial(
            _new_interpreter, interpreter_class, self.library, os.fspath(path), max(1, threads)
        )
        self._interpreter: Any = self._new()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        names = _signature_names(self._interpreter)
        self.inputs = _specs(inputs, names, self._where)
        if self.library == "tflite_runtime" and any(spec.dtype == "int8" for spec in self.inputs):
            print_note(
                f"{self._where}: int8 runs some 22 times slower in tflite-runtime than in LiteRT: {_INSTALL}"
            )
        self._input_indices = [
            (spec.name, int(d["index"])) for spec, d in zip(self.inputs, inputs, strict=True)
        ]
        self._views = self._view_calls(self._input_indices)
        self._output_indices: list[tuple[str, int]] = []
        if any(len(detail["shape"]) == 0 for detail in outputs):
            # operators such as TFLite_Detection_PostProcess size their outputs in the first run only
            self.invoke({spec.name: lambda view: view.fill(0) for spec in self.inputs})
            outputs = self._interpreter.get_output_details()
            self.reset()
        self.outputs = _specs(outputs, names, self._where)
        self._output_indices = [
            (spec.name, int(d["index"])) for spec, d in zip(self.outputs, outputs, strict=True)
        ]
        self._output_views = self._view_calls(self._output_indices)

    def invoke(self, fill: Mapping[str, Fill]) -> dict[str, Array]:
        self._run(fill)
        get = self._interpreter.get_tensor
        return {name: get(index) for name, index in self._output_indices}

    def read(self, fill: Mapping[str, Fill], take: Callable[[Mapping[str, Array]], T]) -> T:
        self._run(fill)
        # as of inputs: the views are gone when this comes back
        return take({name: view() for name, view in self._output_views.items()})

    def _run(self, fill: Mapping[str, Fill]) -> None:
        interpreter = self._open()
        for name, view in self._views.items():
            fill[name](view())  # no name is bound to the view: invoke refuses to run while one lives
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"{self._where}: {self.library} failed to run: {_one_line(str(error))}"
            ) from None

    def bare_call(self) -> Callable[[], object]:
        """The interpreter's own invoke with nothing around it: what overhead is measured against."""
        call: Callable[[], object] = self._open().invoke
        return call

    def bare_loop(self) -> Callable[[], object]:
        """set_tensor of ready arrays, invoke, get_tensor of every output."""
        interpreter = self._open()
        ready = [
            (index, np.zeros(spec.shape, spec.dtype))
            for spec, (_, index) in zip(self.inputs, self._input_indices, strict=True)
        ]
        wanted = [index for _, index in self._output_indices]

        def loop() -> object:
            for index, array in ready:
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in wanted]

        return loop

    def reset(self) -> None:
        """Forget what a streaming model remembers, by a new interpreter: some milliseconds.

        The interpreter's own reset_all_variables leaves resource variables (microWakeWord's) as they are.
        """
        self._open()
        self._interpreter = None
        self._interpreter = self._new()
        self._views = self._view_calls(self._input_indices)
        self._output_views = self._view_calls(self._output_indices)

    def close(self) -> None:
        self._views, self._output_views = {}, {}
        self._interpreter = None

    def _open(self) -> Any:
        if self._interpreter is None:
            raise EngineError(f"{self._where}: the engine is closed")
        return self._interpreter

    def _view_calls(self, indices: list[tuple[str, int]]) -> dict[str, Callable[[], Array]]:
        return {name: self._interpreter.tensor(index) for name, index in indices}


def tflite_library() -> str:
    """The name of the interpreter that would be used. Raises EngineUnavailableError where there is none."""
    return _load_library()[0]


def _new_interpreter(interpreter_class: Any, library: str, path: str, threads: int) -> Any:
    try:
        with _quiet_stderr():
            interpreter = interpreter_class(model_path=path, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError, TypeError, OSError) as error:
        raise _open_error(Path(path).name, library, str(error)) from None
    return interpreter


def _load_library() -> tuple[str, Any]:
    tried = []
    for package, module, name in _LIBRARIES:
        if find_spec(package) is None:
            continue
        if package == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
            # built against numpy 1: it fails deep inside, after pages of warnings
            tried.append("tflite_runtime is built for numpy 1 (pip install 'numpy<2')")
            continue
        try:
            return package, attrgetter(name)(importlib.import_module(module))
        except Exception as error:  # a broken wheel raises anything, and the next library may work
            tried.append(f"{package} cannot be imported ({_one_line(str(error))})")
    reason = "; ".join(tried) or "none of ai-edge-litert, tflite-runtime, tensorflow is installed"
    raise EngineUnavailableError(f"no TFLite interpreter: {reason}", next_step=_INSTALL)


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from None
    if size < _MIN_BYTES or head[4:8] != _IDENTIFIER:
        raise EngineError(
            f"{path}: no TFLite model (bytes 4 to 8 are {head[4:8]!r}, expected {_IDENTIFIER!r}; {size} bytes)",
            next_step="is it the right file, and whole?",
        )
    if int.from_bytes(head[:4], "little") >= size:
        raise EngineError(f"{path}: truncated TFLite model, {size} bytes", next_step="copy it again")


def _open_error(where: str, library: str, message: str) -> EngineError:
    text = _one_line(message)
    if "Didn't find op" in text or "unresolved custom op" in text.lower():
        step = _INSTALL if library != "ai_edge_litert" else "convert the model with built-in operators only"
        hint = " (tflite-runtime 2.14 knows no dynamic-range models of TensorFlow 2.21)"
        return EngineUnavailableError(
            f"{where}: {library} lacks an operator of the model{hint if library == 'tflite_runtime' else ''}: {text}",
            next_step=step,
        )
    return EngineError(
        f"{where}: {library} cannot open it: {text}", next_step="is the file whole and TFLite?"
    )


def _signature_names(interpreter: Any) -> dict[int, str]:
    """{tensor index: name} of the only signature; empty where there is none or several."""
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        return {}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    details = {**runner.get_input_details(), **runner.get_output_details()}
    names = {int(detail["index"]): str(name) for name, detail in details.items()}
    return names if len(names) == len(details) else {}


def _specs(details: list[dict[str, Any]], names: dict[int, str], where: str) -> tuple[TensorSpec, ...]:
    plain = [names.get(int(detail["index"]), _clean(str(detail["name"]))) for detail in details]
    unique = Counter(plain)
    specs = []
    for name, detail in zip(plain, details, strict=True):
        scales, zero_points = (
            detail["quantization_parameters"]["scales"],
            detail["quantization_parameters"]["zero_points"],
        )
        if len(scales) > 1:
            raise EngineError(f"{where}: tensor {name!r} is quantised per channel, only per tensor is known")
        specs.append(
            TensorSpec(
                name=name if unique[name] == 1 else str(detail["name"]),
                shape=tuple(int(size) for size in detail["shape"]),
                dtype=np.dtype(detail["dtype"]).name,
                scale=float(scales[0]) if len(scales) and scales[0] != 0 else None,
                zero_point=int(zero_points[0]) if len(zero_points) else 0,
            )
        )
    return tuple(specs)


def _clean(name: str) -> str:
    return name.removeprefix("serving_default_").removesuffix(":0")


def _one_line(message: str) -> str:
    return " ".join(message.split())[:200]


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what native code says on standard error, then pass on all but its "INFO:" lines.

    The interpreters announce XNNPACK with every model and have no switch for it.
    """
    with _stderr_lock, contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(tempfile.TemporaryFile())
            real = os.dup(2)
        except OSError:  # no standard error, or no place for a file: then let it talk
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            held.seek(0)
            kept = b"".join(line for line in held if not line.startswith(b"INFO:"))
            with contextlib.suppress(OSError):
                os.write(2, kept)
            os.close(real)
