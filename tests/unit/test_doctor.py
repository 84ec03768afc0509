"""The doctor says what is missing and the command that mends it; one JSON object with --json."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from edgeai.cli import doctor as module
from edgeai.cli.doctor import chosen_engines, doctor, examine
from edgeai.engines import EngineHost
from edgeai.engines.cuda import load_cuda
from edgeai.engines.plans.library import load_tensorrt
from edgeai.hardware import LIBRARIES, Gpu, read_hardware
from edgeai.profile import load_profile

ALL = {"python": "3.11.2", "edgeai": "0.1.0", **dict.fromkeys(LIBRARIES, "1.0")}


@pytest.fixture
def bare(tmp_path):
    return read_hardware(tmp_path, ask_gpu=False)


def checks(hardware, versions, *, find=lambda name: None, listen=lambda: ()):
    return {check.name: check for check in examine(hardware, versions, find=find, listen=listen)}


def test_everything_there(bare):
    found = checks(bare, ALL, find=lambda name: f"/bin/{name}", listen=lambda: ("pulse",))
    assert all(
        check.state == "ok"
        for name, check in found.items()
        if name not in ("cameras", "clock", "models at hand")
    )
    assert "TensorRT" not in found


@pytest.mark.parametrize(
    ("library", "name", "state", "fix"),
    [
        ("opencv", "video", "missing", "pip install opencv-python-headless"),
        ("paho-mqtt", "MQTT", "missing", "pip install paho-mqtt"),
        ("onnxruntime", "ONNX models", "absent", "pip install 'edgeai[onnx]'"),
        ("tensorflow", "compressing models", "absent", "pip install 'edgeai[compress]'"),
        ("sounddevice", "microphones", "absent", "pip install sounddevice"),
    ],
)
def test_a_library_that_is_not_there(bare, library, name, state, fix):
    check = checks(bare, ALL | {library: None})[name]
    assert (check.state, check.fix) == (state, fix)


def test_any_of_three_runs_tflite(bare):
    gone = ALL | {"litert": None}
    assert checks(bare, gone)["TFLite models"].detail.startswith("tflite-runtime")
    gone |= {"tflite-runtime": None, "tensorflow": None}
    assert checks(bare, gone)["TFLite models"].state == "missing"


def test_portaudio_that_is_not_installed(bare, monkeypatch):
    monkeypatch.setattr(module.ctypes.util, "find_library", lambda name: None)
    assert (
        checks(bare, ALL, listen=lambda: None)["microphones"].fix == "sudo apt-get install -y libportaudio2"
    )


def test_tensorrt_matters_where_there_is_a_gpu(bare, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    load_tensorrt.cache_clear()
    load_cuda.cache_clear()
    pc = dataclasses.replace(bare, gpus=(Gpu("RTX", 89, 24000, "580"),))
    found = checks(pc, ALL)
    assert found["TensorRT"].state == "absent"
    assert found["TensorRT"].detail.startswith("TensorRT cannot be imported")
    assert found["TensorRT"].fix == "pip install 'edgeai[tensorrt]'"
    assert found["CUDA"].state == "absent"
    assert found["CUDA"].fix


def test_which_engine_runs_each_model_and_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    load_tensorrt.cache_clear()
    found = {check.name: check.detail for check in chosen_engines(EngineHost())}
    assert found["commands"] == "tflite/int8, by the usual order on a CPU"
    board = EngineHost(profile=load_profile("jetson-orin-nano-8gb"))
    found = {check.name: check.detail for check in chosen_engines(board)}
    assert found["commands"].startswith(
        "tflite/int8, by the order of profile jetson-orin-nano-8gb; without a library:"
    )
    assert "plan/int8" in found["commands"]


def test_an_unknown_future_release_warns_and_goes_on(bare, monkeypatch, capsys):
    board = dataclasses.replace(
        bare, l4t="47.1.0", compatible=("nvidia,p3768-0000+p3767-0003",), arch="aarch64"
    )
    monkeypatch.setattr(module, "read_hardware", lambda: board)
    monkeypatch.setattr(module, "microphones", lambda: ())
    assert doctor(json_output=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["profile"] == "jetson-orin-nano-8gb"
    assert "L4T 47.1.0 is new to us" in next(
        c["detail"] for c in answer["checks"] if c["name"] == "device profile"
    )


@pytest.mark.parametrize(
    ("versions", "code", "verdict"), [(ALL, 0, "ready"), (ALL | {"opencv": None}, 1, "not ready")]
)
def test_exit_code_and_verdict(bare, monkeypatch, capsys, versions, code, verdict):
    monkeypatch.setattr(module, "read_hardware", lambda: bare)
    monkeypatch.setattr(module, "library_versions", lambda: versions)
    monkeypatch.setattr(module, "microphones", lambda: None)
    assert doctor(json_output=False) == code
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith(verdict)
    assert ("fix: pip install opencv-python-headless" in out) == (code == 1)
