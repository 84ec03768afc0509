"""Reading what other programs print. The texts are written after the tools' documented formats, none was run here."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.bench import raw_tools
from edgeai.bench.machine import parse_gpu_state
from edgeai.bench.power import parse_smi_power, parse_tegrastats
from edgeai.bench.raw_tools import (
    RawFigure,
    find_tool,
    parse_benchmark_model,
    parse_perf_test,
    parse_trtexec,
    run_tool,
)
from edgeai.bundle.manifest import FileEntry
from edgeai.engines import Candidate
from edgeai.errors import EngineError

BENCHMARK_MODEL = """\
INFO: Loaded model model.tflite
INFO: The input model file size (MB): 0.0911
INFO: Initialized session in 3.2ms.
INFO: Running benchmark for at least 10 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=10 first=812 curr=400 min=399 max=812 avg=441.2 std=123 p5=399 median=401 p95=812
INFO: Running benchmark for at least 200 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=2480 first=402 curr=401 min=398 max=650 avg=402.7 std=9 p5=399 median=401.5 p95=410
INFO: Inference timings in us: Init: 3201, First inference: 812, Warmup (avg): 441.2, Inference (avg): 402.7
"""
PERF_TEST = """\
Session creation time cost: 0.0102 s
First inference time cost: 2 ms
Total inference time cost: 0.2514 s
Total inference requests: 200
Average inference time cost: 1.257 ms
Total inference run time: 0.2516 s
Number of inferences per second: 794.9
Avg CPU usage: 49 %
Peak working set size: 61000000 bytes
Min Latency: 0.00121 s
Max Latency: 0.00204 s
P50 Latency: 0.00124 s
P90 Latency: 0.0013 s
P99 Latency: 0.0018 s
"""
TRTEXEC = """\
[11/30/2026-10:00:00] [I] === Performance summary ===
[11/30/2026-10:00:00] [I] Throughput: 950.1 qps
[11/30/2026-10:00:00] [I] Latency: min = 1.02 ms, max = 1.51 ms, mean = 1.06 ms, median = 1.05 ms, percentile(90%) = 1.1 ms, percentile(99%) = 1.3 ms
[11/30/2026-10:00:00] [I] Enqueue Time: min = 0.1 ms, max = 0.4 ms, mean = 0.12 ms, median = 0.11 ms, percentile(90%) = 0.2 ms
[11/30/2026-10:00:00] [I] H2D Latency: min = 0.01 ms, max = 0.02 ms, mean = 0.01 ms, median = 0.012 ms, percentile(90%) = 0.02 ms
[11/30/2026-10:00:00] [I] GPU Compute Time: min = 0.9 ms, max = 1.4 ms, mean = 0.95 ms, median = 0.94 ms, percentile(90%) = 1 ms
"""
TEGRASTATS_ORIN = (
    "11-30-2026 10:00:00 RAM 2448/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@729,3%@729,off,off] EMC_FREQ 1%@2133 "
    "GR3D_FREQ 0%@[305] VIC_FREQ 115 cpu@46.5C tj@48C VDD_IN 4670mW/4712mW VDD_CPU_GPU_CV 594mW/600mW VDD_SOC 1419mW/1420mW"
)
TEGRASTATS_NANO = (
    "RAM 1200/3956MB (lfb 100x4MB) CPU [12%@1479] PLL@30C CPU@33.5C POM_5V_IN 2104/2210 POM_5V_GPU 40/50"
)


def test_tools_print_a_median_or_a_mean():
    assert parse_benchmark_model(BENCHMARK_MODEL) == (0.4015, "median")
    assert parse_perf_test(PERF_TEST) == (pytest.approx(1.24), "median")
    assert parse_perf_test("P50 Latency is 0.0587108 sec\n") == (pytest.approx(58.7108), "median")
    assert parse_trtexec(TRTEXEC) == (1.05, "median")
    assert parse_benchmark_model(BENCHMARK_MODEL.replace("median=", "middle=")) == (0.4027, "mean")
    assert parse_perf_test("Average time cost: 58.8053 ms") == (58.8053, "mean")


@pytest.mark.parametrize("parse", [parse_benchmark_model, parse_perf_test, parse_trtexec])
def test_what_says_no_time_is_none(parse):
    assert parse("") is None
    assert parse("Segmentation fault") is None


@given(st.text(max_size=300))
def test_any_text_is_read(text):
    for parse in (parse_benchmark_model, parse_perf_test, parse_trtexec, parse_smi_power, parse_tegrastats):
        parse(text)
    parse_gpu_state(text)


def test_power():
    assert parse_smi_power("71.25\n") == 71.25
    assert parse_smi_power("[N/A]") is None
    assert parse_tegrastats(TEGRASTATS_ORIN) == 4.67
    assert parse_tegrastats(TEGRASTATS_NANO) == 2.104
    assert parse_tegrastats("RAM 1/2MB") is None


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("1980, 61, 0x0000000000000000", (1980.0, 61.0, False)),
        ("1980, 61, 0x0000000000000001", (1980.0, 61.0, False)),  # idle
        ("1980, 61, 0x0000000000000020", (1980.0, 61.0, True)),  # too hot
        ("[N/A], [N/A], [N/A]", (None, None, False)),
        ("1980", (None, None, False)),
        ("", (None, None, False)),
    ],
)
def test_gpu_state(text, state):
    assert parse_gpu_state(text) == state


@pytest.mark.parametrize(
    ("ms", "difference_us", "within"),
    [(0.1, 49, True), (0.1, 51, False), (10.0, 299, True), (10.0, 301, False), (10.0, -5000, True)],
)
def test_within_three_per_cent_or_fifty_microseconds(ms, difference_us, within):
    assert RawFigure("bare call", ms, "median", difference_us).within is within


def candidate(kind, path="model.tflite"):
    entry = FileEntry(path=path, bytes=1, sha256="0" * 64, format=path.rpartition(".")[2], precision="int8")
    return Candidate(kind, entry)


@pytest.fixture
def path_with(tmp_path, monkeypatch):
    """path_with(name, script): a program of that name is all that is on PATH beside the shell's own."""

    def make(name, script):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
        return program

    return make


def test_a_tool_is_run_with_the_file(path_with, tmp_path):
    path_with("benchmark_model", f"echo \"$@\" > {tmp_path}/said\ncat <<'E'\n{BENCHMARK_MODEL}E")
    assert find_tool(candidate("tflite")) == "benchmark_model"
    assert run_tool(candidate("tflite"), tmp_path / "m.tflite", threads=2, calls=50) == (0.4015, "median")
    said = (tmp_path / "said").read_text().split()
    assert {f"--graph={tmp_path / 'm.tflite'}", "--num_threads=2", "--num_runs=50"} <= set(said)


def test_a_tool_that_fails_says_why(path_with, tmp_path):
    path_with("benchmark_model", "echo 'cannot open model' >&2; exit 3")
    with pytest.raises(EngineError, match="failed with code 3: cannot open model"):
        run_tool(candidate("tflite"), tmp_path, threads=1, calls=1)
    path_with("benchmark_model", "echo hello")
    with pytest.raises(EngineError, match="no time that is known"):
        run_tool(candidate("tflite"), tmp_path, threads=1, calls=1)


def test_a_tool_that_hangs_is_ended(path_with, tmp_path, monkeypatch):
    path_with("onnxruntime_perf_test", "exec sleep 60")
    monkeypatch.setattr(raw_tools, "_TIMEOUT_S", 0.05)
    with pytest.raises(EngineError, match=r"took longer than 0\.05 s"):
        run_tool(candidate("onnx", "m.onnx"), tmp_path, threads=1, calls=1)


def test_no_tool_where_none_fits(path_with, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool(candidate("tflite")) is None
    with pytest.raises(EngineError, match="not on PATH"):
        run_tool(candidate("tflite"), tmp_path, threads=1, calls=1)
    path_with("trtexec", "exit 0")
    assert find_tool(candidate("plan", "m.plan")) == "trtexec"
    assert find_tool(candidate("plan", "m.onnx")) is None  # it would build for minutes
    assert find_tool(candidate("onnx+cuda", "m.onnx")) is None
