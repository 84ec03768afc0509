"""ONNX to a float TFLite graph by onnx2tf, in an environment of its own: it pins TensorFlow, numpy and protobuf of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.console import print_note, progress_bar
from edgeai.errors import DataError, DataMissingError, EdgeError, first_line

REQUIREMENT = "onnx2tf==1.29.24"  # pins everything that it needs itself
PACKAGES = 66  # that it brings, for the bar
MOST_S = 3600
# onnx2tf tries networks of pictures on sample pictures, which it would load from the internet
_SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"


def converter_folder() -> Path:
    """Where the environment lies, for all projects of this user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edgeai" / REQUIREMENT.replace("==", "-")


def set_up_converter(folder: Path) -> Path:
    """The Python of the environment in `folder`, made where it is not there; it takes 2.6 GB and some minutes, once.

    Raises EdgeError where it cannot be made: no network, a full disk, a Python that onnx2tf has no packages for.
    """
    if _python_in(folder).exists():
        return _python_in(folder)
    if sys.version_info >= (3, 13):
        raise EdgeError(
            "onnx2tf has no packages for Python 3.13",
            next_step="run the import with Python 3.11 or 3.12; the network that it writes is for all",
        )
    print_note(f"setting up {REQUIREMENT} in {folder}: 2.6 GB, once")
    # beside it and then renamed: another process may be at it too, and this one may be killed
    made = folder.with_name(f"{folder.name}-{os.getpid()}")
    try:
        made.mkdir(parents=True)
        venv.EnvBuilder(with_pip=True).create(made)
        command = ["-m", "pip", "install", "--no-input", "--progress-bar", "off", REQUIREMENT]
        with progress_bar("onnx2tf", PACKAGES) as advance:
            said = _run([str(_python_in(made)), *command], cwd=made, hear=_counter("Collecting ", advance))
        if said.failed:
            raise EdgeError(
                f"{REQUIREMENT} cannot be installed: {said.reason('ERROR')}",
                next_step="it comes from PyPI: connect this machine once, or give pip a mirror (PIP_INDEX_URL)",
            )
        if not folder.exists():
            made.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise EdgeError(
            f"the environment for onnx2tf cannot be made in {folder}: {first_line(error)[:200]}",
            next_step="it needs 2.6 GB of disk; see `python -m venv --help`",
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return _python_in(folder)


def _python_in(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def tflite_from_onnx(path: Path, *, folder: Path | None = None) -> bytes:
    """A float32 TFLite model, batch 1, that says what the ONNX file says; pictures are (rows, columns, channels) in it.

    folder: of the converter's environment, the user's cache where not given. Raises DataMissingError or DataError for a
    file that is absent, no ONNX model, of no fixed size, or that onnx2tf cannot convert; EdgeError as set_up_converter().
    """
    model = load_onnx(path)
    open_sides = [
        given.name
        for given in graph_inputs(model)
        for side in given.type.tensor_type.shape.dim[1:]
        if side.dim_value < 1
    ]
    if open_sides:
        raise DataError(
            f"{path.name}: input {open_sides[0]!r} has no fixed size",
            next_step="export it with fixed sizes (torch.onnx.export without dynamic_axes but for the batch)",
        )
    python = set_up_converter(folder or converter_folder())
    with tempfile.TemporaryDirectory() as work, progress_bar("convert", len(model.graph.node)) as advance:
        pictures = np.random.default_rng(0).random((20, 128, 128, 3)).astype(np.float32)
        np.save(Path(work) / _SAMPLES, pictures)
        command = [str(python), "-m", "onnx2tf", "-i", str(path.resolve()), "-o", "out", "-b", "1"]
        said = _run(command, cwd=Path(work), hear=_counter("onnx_op_type", advance))
        found = sorted((Path(work) / "out").glob("*_float32.tflite"))
        if said.failed or not found:
            raise DataError(
                f"onnx2tf cannot convert {path.name}: {said.reason('ERROR')}",
                next_step="simplify it first (python -m onnxsim), or export it at opset 17",
            )
        return found[0].read_bytes()


def load_onnx(path: Path) -> Any:
    """The checked protobuf. Raises DataMissingError or DataError."""
    import onnx

    if not path.is_file():
        raise DataMissingError(f"no ONNX file at {path}")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and onnx each have errors of their own for broken bytes
        raise DataError(f"{path} is no ONNX model: {first_line(error)[:160]}") from error
    return model


def graph_inputs(model: Any) -> list[Any]:
    """Its inputs, without the constants that old files list among them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [given for given in model.graph.input if given.name not in constants]


class _Said:
    """What a program printed, and whether it failed."""

    def __init__(self, code: int, lines: Sequence[str]) -> None:
        self.failed, self._lines = code != 0, [line.strip() for line in lines if line.strip()]

    def reason(self, mark: str) -> str:
        marked = [line for line in self._lines if mark in line]
        return (marked or self._lines or ["it said nothing"])[-1][:200]


def _run(command: Sequence[str], *, cwd: Path, hear: Callable[[str], None]) -> _Said:
    """Run a program, hearing its lines; it ends with us."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONNOUSERSITE": "1"}
    quiet.pop("PYTHONPATH", None)
    lines: list[str] = []
    with _process(command, cwd, quiet) as process:
        for line in process.stdout:
            lines.append(line)
            hear(line)
        code = process.wait(timeout=MOST_S)
    return _Said(code, lines[-400:])


@contextmanager
def _process(command: Sequence[str], cwd: Path, environment: dict[str, str]) -> Iterator[Any]:
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _counter(mark: str, advance: Callable[..., None]) -> Callable[[str], None]:
    return lambda line: advance(1) if mark in line else None
