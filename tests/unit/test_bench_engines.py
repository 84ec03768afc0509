"""`edgeai bench engines` on a bundle of a few kilobytes: processes, turns, faults, JSON, Markdown, page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest
from tiny_bundle import write_keyword_bundle, write_picture_bundle

import edgeai
from edgeai.bench import bench_process, engines
from edgeai.bench.bench_process import BenchProcess
from edgeai.bench.engines import EnginesSettings
from edgeai.bundle import load_bundle
from edgeai.cli.bench_engines import bench_engines, numbers
from edgeai.cli.figures import Outputs
from edgeai.engines import EngineHost, open_engine, order_candidates
from edgeai.errors import EdgeError, EngineError, EngineUnavailableError, UsageError

FEW = EnginesSettings(runs=6, window_s=0)
KINDS = ["tflite/int8", "tflite/float16", "tflite/float32", "tflite/dynamic", "onnx/float32"]
JSON = Outputs(json=True)


@pytest.fixture
def folder(tmp_path):
    return write_keyword_bundle(tmp_path / "tiny").folder


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch):
    """The copies that measure memory bandwidth take most of a second, which one test spends."""
    monkeypatch.setattr("edgeai.bench.roofline.MEMORY_BYTES", 1 << 20)


def run(folder, capsys, settings=FEW, **options):
    """(exit code, the JSON, standard error) of a bench."""
    code = bench_engines(str(folder), settings, **{"outputs": JSON} | options)
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_every_engine_is_measured(folder, capsys):
    code, report, _ = run(folder, capsys, EnginesSettings((1, 2), (1, 2), runs=7, window_s=0.02))
    assert code == 0
    rows = {row["name"]: row for row in report["results"]}
    names = [f"tiny-keyword/{kind}_{figure}" for kind in KINDS for figure in ("ms", "overhead_us")]
    assert list(rows)[: len(names) + 1] == [*names, "overhead_us"]
    for name in [*names, "overhead_us"]:
        assert set(rows[name]) == {"name", "unit", "p50", "p90", "p99", "n"}
        assert rows[name]["n"] == 7
    assert rows["overhead_us"]["p50"] == max(
        rows[f"tiny-keyword/{kind}_overhead_us"]["p50"] for kind in KINDS
    )
    for kind in KINDS:
        singles = ["load_ms", "first_ms", "rss_mib", "limit_percent"]
        singles += [f"inputs_per_s_{t}_threads_{i}_instances" for t in (1, 2) for i in (1, 2)]
        for single in singles:
            assert rows[f"tiny-keyword/{kind}_{single}"]["value"] > 0
    assert [each["label"] for each in report["engines"]] == KINDS
    for each in report["engines"]:
        assert len(each["block_ms"]) == 7
        tools = [raw["tool"] for raw in each["raw"]]
        assert tools == (["bare call"] if each["label"].startswith("onnx") else ["bare call", "bare loop"])
        assert each["raw"][0]["within"] in (True, False)
        assert each["roofline"]["macs"] > 0
        assert each["bytes"] > 0
    assert set(report["machine"]) == {"start", "warm", "end"}
    assert report["verdict"]["text"]
    assert report["bundle"]["name"] == "tiny-keyword"
    assert report["failed"] == report["skipped"] == []


def test_no_word_of_gpus_on_a_machine_without(folder, capsys, monkeypatch):
    monkeypatch.setattr("edgeai.cli.bench_engines.nvidia_gpus", lambda: ())
    _, _, said = run(folder, capsys)
    assert "TensorRT" not in said
    assert "CUDA" not in said
    monkeypatch.setattr("edgeai.cli.bench_engines.nvidia_gpus", lambda: ("a card",))
    _, _, said = run(folder, capsys)
    assert "left out: model.onnx (onnx+cuda/float32)" in said
    with pytest.raises(EngineUnavailableError, match="no engine file can be run here"):
        bench_engines(str(folder), FEW, file="onnx+cuda")


def test_a_changed_file_is_one_line_and_the_others_go_on(folder, capsys):
    path = folder / "model_int8.tflite"
    content = bytearray(path.read_bytes())
    content[99] ^= 0xFF
    path.write_bytes(content)
    (folder / "model.onnx").unlink()
    code, report, said = run(folder, capsys)
    assert code == 1
    assert [each["label"] for each in report["engines"]] == KINDS[1:4]
    assert len(report["failed"]) == 2
    assert "failed: model_int8.tflite (tflite/int8): tiny/model_int8.tflite: changed" in said
    assert "Traceback" not in said


def shadow(tmp_path, monkeypatch, body):
    """Put a package in place of onnxruntime, for the processes that measure."""
    package = tmp_path / "shadow" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(body)
    monkeypatch.syspath_prepend(str(package.parent))


def test_a_library_that_crashes_ends_its_own_process_alone(folder, capsys, monkeypatch, tmp_path):
    shadow(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    code, report, said = run(folder, capsys)
    assert code == 1
    assert [each["label"] for each in report["engines"]] == KINDS[:4]
    assert "failed: model.onnx (onnx/float32): its process crashed (SIGSEGV)" in said


def test_a_library_that_is_not_there_is_left_out(folder, capsys, monkeypatch, tmp_path):
    shadow(tmp_path, monkeypatch, "raise ImportError('broken wheel')")
    code, report, said = run(folder, capsys)
    assert (code, report["failed"]) == (0, [])
    assert "left out: model.onnx (onnx/float32): onnxruntime cannot be imported (broken wheel)" in said
    with pytest.raises(EngineUnavailableError, match="no engine file can be run here"):
        bench_engines(str(folder), FEW, file="onnx")


def test_a_library_that_hangs_is_ended(folder, capsys, monkeypatch, tmp_path):
    shadow(tmp_path, monkeypatch, "import threading; threading.Event().wait()")
    monkeypatch.setattr(engines, "OPEN_S", 5.0)
    code, report, said = run(folder, capsys)
    assert code == 1
    assert len(report["engines"]) == 4
    assert "(onnx/float32): did not answer within 5 s and was ended" in said


def test_a_library_that_prints_disturbs_no_answer(folder, capsys, monkeypatch, tmp_path):
    """What is printed on standard output, by Python or by native code, goes elsewhere."""
    shadow(tmp_path, monkeypatch, "import os; print('{}'); os.write(1, b'{}\\n'); raise ImportError('x')")
    assert run(folder, capsys)[0] == 0


def test_a_process_tells_how_it_ended(monkeypatch):
    monkeypatch.setattr(
        bench_process, "_START", "import sys; sys.stdin.readline(); sys.exit('out of\\nmemory')"
    )
    with (
        BenchProcess("x") as process,
        pytest.raises(EngineError, match="x: its process ended with code 1: memory"),
    ):
        process.ask("open")
    monkeypatch.setattr(bench_process, "_START", "pass")
    with BenchProcess("x") as process:
        process._process.wait(10)
        for _ in range(2):
            with pytest.raises(EngineError, match="x: its process ended with code 0"):
                process.ask("open")


def test_a_process_ends_with_what_started_it(tmp_path):
    """Standard input ends, and so does the worker: a parent that is killed leaves nobody behind."""
    with BenchProcess("x") as process:
        inner = process._process
        inner.stdin.close()
        assert inner.wait(10) == 0


def test_the_page_is_whole_and_asks_for_nothing(folder, capsys, tmp_path):
    page, table = tmp_path / "out" / "page.html", tmp_path / "table.md"
    bench_engines(
        str(folder), EnginesSettings(runs=6, window_s=0.02), outputs=Outputs(markdown=table, html=page)
    )
    out = capsys.readouterr().out
    assert "overhead_us" in out
    assert all(
        len(line) <= 80
        for line in out.splitlines()
        if "machine:" not in line and "fastest:" not in line and "winner:" not in line
    )
    text = page.read_text()
    assert not re.search(r"https?:|src=|href=|@import|url\(", text.replace("</pre>", "").split("<pre>")[0])
    assert "<script" not in text
    checker = Balanced()
    checker.feed(text)
    assert checker.open == []
    assert text.count("<svg") == 3  # latency, throughput, roofline; this bundle has no accuracy
    lines = table.read_text().splitlines()
    assert "| engine | p50 | p90 | p99 | first | load | MiB |" in lines
    assert sum(line.startswith("| tflite/int8 |") for line in lines) == 6


class Balanced(HTMLParser):
    """Every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_two_runs_are_compared(folder, capsys, tmp_path):
    _, before, _ = run(folder, capsys)
    path = tmp_path / "before.json"
    before["device"]["cpu"] = "another"
    path.write_text(json.dumps(before))
    _, report, said = run(folder, capsys, outputs=Outputs(json=True, against=path))
    rows = {row["name"]: row for row in report["compare"]["rows"]}
    assert rows["tiny-keyword/tflite/int8_ms"]["ratio"]["ci95"]
    assert "warning: compared: the processor differs: another before" in said
    page = tmp_path / "page.html"
    assert bench_engines(str(folder), FEW, outputs=Outputs(against=path, html=page)) == 0
    out = capsys.readouterr().out
    assert "tiny-keyword: now over before" in out
    assert "tflite/int8_ms" in out
    assert "the processor differs" in page.read_text()


def test_a_file_that_cannot_be_compared_is_told_before_anything_runs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeai.cli.bench_engines.measure_engines", None)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(EdgeError, match=r"x\.json: no bench's JSON \(bench: Field required\)"):
        bench_engines(str(folder), FEW, outputs=Outputs(against=tmp_path / "x.json"))


def test_a_file_that_cannot_be_written_is_told_before_anything_runs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeai.cli.bench_engines.measure_engines", None)
    (tmp_path / "file").write_text("")
    for outputs, says in (
        (Outputs(html=tmp_path), "is a folder"),
        (Outputs(html=tmp_path / "file" / "x.html"), "cannot be written"),
        (Outputs(markdown=tmp_path / "file" / "x.md"), "cannot be written"),
    ):
        with pytest.raises(EdgeError, match=says):
            bench_engines(str(folder), FEW, outputs=outputs)


def test_what_is_saved_decides_which_engine_opens(folder, capsys, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    bundle = load_bundle(folder)
    _, report, said = run(folder, capsys, save=True, cache=cache)
    assert f"saved: {cache}" in said
    p50_ms = {row["name"]: row.get("p50") for row in report["results"]}
    fastest_ms = min(p50_ms[f"tiny-keyword/{kind}_ms"] for kind in KINDS)
    order = order_candidates(bundle, host=EngineHost(cache=cache))
    assert order.reason.startswith("measurement on ")
    with open_engine(bundle, host=EngineHost(cache=cache)) as engine:
        assert engine.label == order.candidates[0].label
        assert p50_ms[f"tiny-keyword/{engine.label}_ms"] <= 1.06 * fastest_ms


def test_so_many_seconds_in_place_of_calls(folder, capsys):
    settings = EnginesSettings(runs=20, latency_s=0.1, window_s=0)
    _, report, _ = run(folder, capsys, settings, file="tflite/int8")
    assert report["results"][0]["n"] > 20
    assert report["verdict"]["winner"] is None


def test_batches_where_the_file_takes_them(folder, capsys):
    settings = EnginesSettings(batch=(1, 4), runs=5, window_s=0.02)
    _, report, said = run(folder, capsys, settings)
    assert "batch: fixed at 1 by the files of tflite/int8, tflite/float16" in said
    names = {row["name"] for row in report["results"] if "_batch_4" in row["name"]}
    assert names == {"tiny-keyword/onnx/float32_inputs_per_s_1_threads_1_instances_batch_4"}


def test_pictures_without_a_golden_input(tmp_path, capsys, monkeypatch):
    bundle = write_picture_bundle(tmp_path / "p")
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    manifest["golden"] = None
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest))
    assert len(run(bundle.folder, capsys)[1]["engines"]) == 2


def test_wrong_numbers():
    assert numbers("--threads", "1, 4") == (1, 4)
    for wrong in ("", "0", "65", "1,,2", "1;2", "-1", "²", "1,1", "9" * 5000):
        with pytest.raises(UsageError, match="--threads is"):
            numbers("--threads", wrong)


@pytest.mark.system
def test_ctrl_c_ends_it_and_its_processes(folder, tmp_path):
    """The signal that a terminal sends, once all engines are open."""
    root = Path(edgeai.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeai", "bench", "engines", "-b", str(folder), "--seconds", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        # a shell's background job ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    me = psutil.Process(process.pid)
    workers = []
    while len(workers) < 5 and process.poll() is None:
        workers = me.children()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.endswith("edgeai: stopped\n")
    assert "Traceback" not in said
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == 5
    assert not alive
