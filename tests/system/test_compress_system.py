"""`edgeai-compress` for real: recipe to bundle to figures to page, and what happens when it is stopped or misused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_recipe import squares_recipe, toml_of, tones_recipe, write_squares, write_tones

from edgeai.bundle import load_bundle
from edgeai.cli.bundle import check_files

pytestmark = [pytest.mark.compress, pytest.mark.system]

START = "import sys; from compress.cli import main; code = main(); "
LIGHT = "heavy = {'tensorflow', 'keras', 'torch'} & set(sys.modules); assert not heavy, heavy; "


def command(*arguments, cwd, light=True):
    """Run `edgeai-compress` in a process of its own; with `light`, it must end without TensorFlow."""
    code = START + (LIGHT if light else "") + "sys.exit(code)"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with data, two recipes, and the bundles that they made."""
    folder = tmp_path_factory.mktemp("desk")
    write_squares(folder / "data/squares", count=24)
    write_squares(folder / "data/squares", "test", count=6, seed=5)
    write_tones(folder / "data/tones", each=10)
    write_tones(folder / "data/tones", "test", each=3, seed=9)
    fit = {"steps": 8, "batch": 4, "average": 0.5}
    passes = [
        {"kind": "train", "fit": fit},
        {"kind": "prune", "macs_ratio": 0.7, "rounds": 1, "fit": {**fit, "steps": 3}},
        {"kind": "quantize", "calibration": 10},
        {"kind": "export"},
    ]
    (folder / "models/squares").mkdir(parents=True)
    (folder / "models/squares/recipe.toml").write_text(toml_of(squares_recipe(passes=passes, strides=(8,))))
    (folder / "tones.toml").write_text(toml_of(tones_recipe(steps=60)))
    return folder


@pytest.fixture(scope="module")
def made(desk):
    """What `run --json` printed for each recipe. In this process, so that TensorFlow is started once."""
    import contextlib
    import io

    from compress.cli.run import run_file

    printed = {}
    with contextlib.chdir(desk):
        for name, recipe in (("squares", "models/squares/recipe.toml"), ("tones", "tones.toml")):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                assert run_file(Path(recipe), data=Path("data"), json_output=True) == 0
            (line,) = out.getvalue().splitlines()
            printed[name] = json.loads(line)
    return printed


def test_a_recipe_becomes_a_bundle_that_verifies(made, desk):
    assert made["squares"]["bundle"] == str(desk / "models/squares")
    assert made["tones"]["bundle"] == str(desk / "out/tones")
    for figures in made.values():
        bundle = load_bundle(figures["bundle"])
        checks = check_files(bundle)
        assert [check.error for check in checks] == [None] * len(checks)
        assert all(check.golden for check in checks if check.entry.format)
        assert Path(desk / figures["report"]).is_file()
    assert (desk / "models/squares/recipe.toml").is_file(), "the zoo's recipe stays beside its bundle"


def test_each_pass_is_told_and_travels_in_the_bundle(made):
    passes = made["squares"]["passes"]
    assert [row["pass"] for row in passes] == ["train", "prune", "quantize", "export"]
    assert passes[1]["macs"] <= 0.7 * passes[0]["macs"]
    assert passes[2]["engine"] == "tflite/int8"
    assert load_bundle(made["squares"]["bundle"]).manifest.provenance["passes"] == passes


def test_tones_are_learnt(made):
    (train, quantize) = made["tones"]["passes"]
    assert train["value"] >= 0.6
    assert quantize["value"] >= 0.6


@pytest.mark.parametrize("name, metric, n", [("squares", "AP50", 6), ("tones", "accuracy", 9)])
def test_eval_prints_the_agreed_line_without_tensorflow(made, desk, name, metric, n):
    done = command(
        "eval", made[name]["bundle"], "--data", f"data/{name}", "--split", "test", "--json", cwd=desk
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    figures = json.loads(line)
    assert list(figures) == ["metric", "value", "ci95", "n", "engine", "bytes", "ms_p50"]
    assert (figures["metric"], figures["n"], figures["engine"]) == (metric, n, "tflite/int8")
    low, high = figures["ci95"]
    assert 0 <= low <= figures["value"] <= high <= 1
    assert figures["bytes"] == next(Path(made[name]["bundle"]).glob("*int8.tflite")).stat().st_size
    assert figures["ms_p50"] > 0


def test_eval_takes_another_engine_and_prints_a_table(made, desk):
    arguments = ("--data", "data/squares", "--split", "test", "--engine", "onnx/float32")
    done = command("eval", made["squares"]["bundle"], *arguments, cwd=desk)
    assert done.returncode == 0, done.stderr
    assert "onnx/float32" in done.stdout


def test_report_writes_one_page(made, desk):
    done = command("report", made["squares"]["bundle"], "--out", "page.html", cwd=desk)
    assert done.returncode == 0, done.stderr
    text = (desk / "page.html").read_text()
    assert text.count("<svg") == 3
    assert len(text) < 100_000


MISTAKES = {
    "no recipe": (["run", "none.toml"], 2, "no recipe at none.toml"),
    "no data": (["run", "tones.toml", "--data", "nowhere"], 1, "no data folder at nowhere"),
    "no bundle": (["eval", "nothing", "--data", ".", "--split", "x"], 1, "no bundle 'nothing'"),
    "no split": (
        ["eval", "{squares}", "--data", "data/squares", "--split", "tset"],
        1,
        "there is instances_test.json",
    ),
    "other data": (
        ["eval", "{squares}", "--data", "data/tones", "--split", "test"],
        1,
        "instances_test.json",
    ),
    "no folder": (["eval", "{squares}", "--data", "nowhere", "--split", "test"], 1, "no data folder"),
    "no engine": (
        ["eval", "{squares}", "--data", "data/squares", "--split", "test", "--engine", "tflite/int4"],
        1,
        "no engine file 'tflite/int4'",
    ),
    "no command": (["rnu"], 2, "rnu"),
    "no option": (["report", "{squares}", "--uot", "x"], 2, "--uot"),
    "no place": (["report", "{squares}", "--out", "tones.toml/x.html"], 1, "cannot be written"),
}


@pytest.mark.parametrize("arguments, code, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_a_code(made, desk, arguments, code, told):
    given = [argument.replace("{squares}", made["squares"]["bundle"]) for argument in arguments]
    done = command(*given, cwd=desk)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_a_dry_run_writes_nothing(desk):
    arguments = ("run", "models/squares/recipe.toml", "--data", "data", "--out", "dry", "--dry-run", "--json")
    done = command(*arguments, cwd=desk, light=False)
    assert done.returncode == 0, done.stderr
    assert [row["pass"] for row in json.loads(done.stdout)["passes"]] == [
        "train",
        "prune",
        "quantize",
        "export",
    ]
    assert done.stderr == "", "TensorFlow's chatter is nobody's concern"
    assert not (desk / "dry").exists()


MARK = "train: 10%"


def test_ctrl_c_in_training_leaves_no_half_bundle(desk):
    (desk / "long.toml").write_text(toml_of(tones_recipe(name="long", steps=4000)))
    process = subprocess.Popen(
        [sys.executable, "-c", START + "sys.exit(code)", "run", "long.toml", "--data", "data"],
        cwd=desk,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(MARK):
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, lines
    finally:
        process.kill()
        process.wait()
    mark = next(i for i, line in enumerate(lines) if line.startswith(MARK))
    assert len(lines) - mark <= 3, lines  # a step or two while the signal is under way
    assert not any("Traceback" in line for line in lines)
    assert not (desk / "out/long").exists()
    assert list((desk / "out" / "work" / "long").glob("*.checkpoint")), "what was learnt is kept"
    assert not list((desk / "out").glob(".long*"))
