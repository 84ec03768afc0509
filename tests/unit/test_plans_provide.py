"""From a bundle's ONNX file to a running plan: built, kept, found again, built again when it no longer fits; and the command."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys

import numpy as np
import pytest
from fake_tensorrt import RELEASES, modules
from tiny_bundle import keyword_input, write_keyword_bundle

from edgeai.cli import main
from edgeai.engines import EngineHost, check_library, open_engine
from edgeai.engines.cuda import load_cuda
from edgeai.engines.plans.library import install_line, load_tensorrt
from edgeai.engines.plans.provide import plan_cache
from edgeai.errors import EngineError, EngineUnavailableError, GoldenMismatchError
from edgeai.profile import load_profile


@pytest.fixture
def bundle(tmp_path):
    return write_keyword_bundle(tmp_path / "tiny")


@pytest.fixture
def machine(monkeypatch):
    """Put a recorded TensorRT on this machine; gives what puts another in its place."""

    def put(version=RELEASES[-1], **options):
        found = modules(version, **options)
        for name, module in found.items():
            monkeypatch.setitem(sys.modules, name, module)
        load_tensorrt.cache_clear()
        load_cuda.cache_clear()
        return found["tensorrt"]

    yield put
    load_tensorrt.cache_clear()
    load_cuda.cache_clear()


@pytest.fixture
def host(tmp_path):
    return EngineHost(cache=tmp_path / "cache")


def run(engine):
    return engine.run({engine.inputs[0].name: keyword_input()})["scores"]


def count_builds(fake):
    return fake.calls.count("Builder.build_serialized_network")


def test_built_kept_and_found_again(machine, bundle, host):
    fake = machine()
    with open_engine(bundle, file="onnx") as engine:
        wanted = run(engine)
    for _ in range(2):
        with open_engine(bundle, host=host, file="plan") as engine:
            assert engine.label == "plan/float32"
            np.testing.assert_array_equal(run(engine), wanted)
    assert count_builds(fake) == 1
    assert not fake.cuda.memory


def test_all_that_a_plan_depends_on_is_in_its_key(machine, bundle, host):
    keys = set()
    for version, options, changed in (
        ("10.3.0", {}, {}),
        ("10.13.3", {}, {}),
        ("10.3.0", {"dla_cores": 1}, {"dla": 0}),
        (
            "10.3.0",
            {"gpu": "Fake GPU", "dla_cores": 1},
            {"dla": 0, "cuda_graph": True},
        ),  # only how it is launched
    ):
        machine(version, **options)
        here = dataclasses.replace(host, **changed)
        open_engine(bundle, host=here, file="plan").close()
        keys |= {plan.key for plan in plan_cache(here).kept()}
    assert len(keys) == 3


def test_a_plan_that_tensorrt_refuses_is_built_again_once(machine, bundle, host, caplog):
    fake = machine()
    open_engine(bundle, host=host, file="plan").close()
    fake.refuse_plans = 1
    with open_engine(bundle, host=host, file="plan") as engine:
        run(engine)
    assert count_builds(fake) == 2
    assert "refuses the plan" in caplog.text
    fake.refuse_plans = 9
    with pytest.raises(EngineError, match="refuses the plan"):
        open_engine(bundle, host=host, file="plan")


def test_a_broken_plan_is_built_again(machine, bundle, host, tmp_path):
    fake = machine()
    open_engine(bundle, host=host, file="plan").close()
    (path,) = tmp_path.rglob("*.plan")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    open_engine(bundle, host=host, file="plan").close()
    assert count_builds(fake) == 2


def test_the_timing_cache_travels_from_build_to_build(machine, bundle, host, tmp_path):
    machine("10.3.0")
    open_engine(bundle, host=host, file="plan").close()
    (path,) = tmp_path.rglob("*.timing")
    first = path.read_bytes()
    plan_cache(host).clear()
    open_engine(bundle, host=host, file="plan").close()
    assert path.read_bytes() != first
    machine("10.13.3")  # another release's times are of no use
    open_engine(bundle, host=host, file="plan").close()
    assert len(list(tmp_path.rglob("*.timing"))) == 2


def test_a_device_with_a_gpu_prefers_plans_and_says_why(machine, bundle, host, caplog):
    caplog.set_level(logging.DEBUG)
    machine()
    here = dataclasses.replace(host, profile=load_profile("jetson-orin-nano-8gb"))
    with open_engine(bundle, host=here) as engine:
        assert engine.label == "plan/float32"
    assert "runs plan/float32, chosen by the order of profile jetson-orin-nano-8gb" in caplog.text


def test_without_tensorrt_the_next_runs_and_that_is_said(bundle, host, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    load_tensorrt.cache_clear()
    here = dataclasses.replace(host, profile=load_profile("jetson-orin-nano-8gb"))
    with open_engine(bundle, host=here) as engine:
        assert engine.label == "tflite/int8"
    assert "passed over: model.onnx (plan/float32): TensorRT cannot be imported" in caplog.text
    with pytest.raises(EngineUnavailableError, match="pip install"):
        check_library("plan", here)


def test_what_tensorrt_cannot_build_the_next_engine_runs(machine, bundle, host, caplog, monkeypatch):
    from fake_tensorrt import _Builder

    caplog.set_level(logging.DEBUG)
    machine("8.6.1")
    monkeypatch.setattr(_Builder, "build_serialized_network", lambda self, network, config: None)
    here = dataclasses.replace(host, profile=load_profile("jetson-orin-nano-8gb"))
    with open_engine(bundle, host=here) as engine:
        assert engine.label == "tflite/int8"
    assert "TensorRT 8.6.1 cannot build it" in caplog.text


def test_verify_compares_with_the_golden_outputs(machine, bundle, host, monkeypatch):
    machine()
    here = dataclasses.replace(host, verify=True)
    open_engine(bundle, host=here, file="plan").close()
    from fake_tensorrt import _Context

    run_right = _Context._run

    def run_wrong(self):
        run_right(self)
        address = self._addresses["scores"]
        self._engine.release.cuda.array(address, (1, 3), "tensor(float)")[...] += 100

    monkeypatch.setattr(_Context, "_run", run_wrong)
    with pytest.raises(GoldenMismatchError, match="output 'scores' is off by"):
        open_engine(bundle, host=here, file="plan")


def test_no_gpu_and_no_cache_are_told(machine, bundle, host, monkeypatch):
    fake = machine()
    with pytest.raises(EngineUnavailableError, match="a folder to be kept in"):
        open_engine(bundle, file="plan")
    monkeypatch.setattr(fake.cuda, "cudaGetDeviceCount", lambda: fake.cuda._ok(0), raising=False)
    load_cuda.cache_clear()
    with pytest.raises(EngineUnavailableError, match="CUDA sees no GPU"):
        open_engine(bundle, host=host, file="plan")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "pip install 'edgeai[tensorrt]'"),
        (
            {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun"},
            "tensorrt]'",
        ),
        (
            {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module  550.54.14"},
            "[tensorrt-cu12]'",
        ),
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1"}, "python3-libnvinfer"),
    ],
)
def test_which_tensorrt_a_machine_needs(tmp_path, files, line):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert line in install_line(tmp_path)


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["edgeai", *map(str, arguments)])
    code = main()
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_builds_lists_and_clears(machine, bundle, tmp_path, monkeypatch, capsys):
    machine("10.16.1")
    cache = ("--cache", tmp_path / "cache")
    code, out, _ = command(monkeypatch, capsys, "engine", "build", bundle.folder, *cache, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["engines"][0] | {"seconds": 0} == {
        "bundle": bundle.name,
        "engine": "plan/float32",
        "seconds": 0,
        "golden_error": pytest.approx(0, abs=1e-4),
        "error": None,
    }
    code, out, _ = command(monkeypatch, capsys, "engine", "list", *cache, "--json")
    (plan,) = json.loads(out)["plans"]
    assert (plan["facts"]["tensorrt"], plan["facts"]["gpu"], plan["facts"]["name"]) == (
        "10.16.1",
        "Fake GPU",
        "model.onnx",
    )
    code, out, _ = command(monkeypatch, capsys, "engine", "list", *cache)
    assert "model.onnx" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = command(monkeypatch, capsys, "engine", "clear", *cache, "--everything")
    assert (code, out.startswith("removed 2 files")) == (0, True)
    code, out, _ = command(monkeypatch, capsys, "engine", "list", *cache)
    assert "no plans are kept" in out


def test_the_command_builds_what_a_configuration_runs(machine, bundle, tmp_path, monkeypatch, capsys):
    machine()
    config = tmp_path / "device.toml"
    config.write_text(
        f'[engines]\ncache = "built"\n[[microphones]]\nname = "hall"\nsource = "mic"\nmodel = "{bundle.folder}"\n'
    )
    code, out, _ = command(monkeypatch, capsys, "engine", "build", "--config", config, "--json")
    assert code == 0
    assert json.loads(out)["cache"] == str(tmp_path / "built")
    assert len(list((tmp_path / "built").rglob("*.plan"))) == 1


def test_one_bundle_that_fails_does_not_hold_up_the_others(machine, bundle, tmp_path, monkeypatch, capsys):
    other = write_keyword_bundle(tmp_path / "other")
    (other.folder / "model.onnx").write_bytes(b"no model")
    machine()
    fields = ("engine", "build", other.folder, bundle.folder, "--cache", tmp_path / "cache")
    code, out, _ = command(monkeypatch, capsys, *fields, "--json")
    assert code == 1
    broken, built = json.loads(out)["engines"]
    assert "truncated" in broken["error"]  # the hash tells before TensorRT could
    assert (built["bundle"], built["error"]) == (bundle.name, None)


def test_nothing_to_build_and_no_tensorrt_are_told(bundle, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    load_tensorrt.cache_clear()
    code, _, err = command(monkeypatch, capsys, "engine", "build")
    assert (code, "nothing to build" in err) == (2, True)
    code, _, err = command(monkeypatch, capsys, "engine", "build", bundle.folder)
    assert code == 1
    assert "TensorRT cannot be imported" in err
    assert len(err.strip().splitlines()) == 1
