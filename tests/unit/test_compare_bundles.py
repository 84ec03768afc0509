"""`eval` and `compare` whole, on a keyword bundle of kilobytes and on detectors that always say the same."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
from tiny_bundle import write_clips, write_keyword_bundle

from compress.cli.commands import app
from edgeai.bundle import write_bundle
from edgeai.console import run_app

pytestmark = pytest.mark.compress

FIRST_KEYS = ["metric", "value", "ci95", "n", "engine", "bytes", "ms_p50"]
CENTRE = (0.5, 0.5, np.log(0.5), np.log(0.5))  # a 16-pixel box in the middle of a cell of 32
CORNER = (0.1, 0.1, np.log(0.1), np.log(0.1))


def write_detector(folder, box, *, name="always", labels=("square",), score=0.9):
    """A bundle whose network says the same box for every picture of 32 x 32."""
    from onnx import TensorProto, helper, numpy_helper

    cells = np.array([[[*box, 1.0, score, *([0.0] * (len(labels) - 1))]]], np.float32)
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["none"]),
        helper.make_node("Add", ["cells", "none"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "always",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, list(cells.shape))],
        [numpy_helper.from_array(cells, "cells"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    fields = {
        "name": name,
        "task": "detect",
        "input": {"kind": "image", "width": 32, "height": 32, "layout": "NCHW"},
        "decoder": {"name": "grid", "params": {"width": 32, "height": 32, "strides": [32]}},
        "labels": list(labels),
        "files": [{"path": "model.onnx", "format": "onnx", "precision": "float32"}],
    }
    return write_bundle(folder, fields, {"model.onnx": model.SerializeToString()})


def write_pictures(folder, *, count=8, shift=0):
    """Pictures of 32 x 32, `shift` of them with their object elsewhere."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.full((32, 32, 3), 20 * number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        corner = [24, 24] if number <= shift else [8, 8]
        side = 8 if number <= shift else 16
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [*corner, side, side], "iscrowd": 0}
        )
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "instances_part.json").write_text(json.dumps(coco))


def write_classifier(folder):
    """A bundle that tells which colour a picture of 8 x 8 has most of."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["said"], axes=[2, 3], keepdims=0)],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    fields = {
        "name": "colours",
        "task": "classify",
        "input": {"kind": "image", "width": 8, "height": 8, "layout": "NCHW", "std": [255.0] * 3},
        "decoder": {"name": "class"},
        "labels": ["blue", "green", "red"],
        "files": [{"path": "model.onnx", "format": "onnx", "precision": "float32"}],
    }
    return write_bundle(folder, fields, {"model.onnx": model.SerializeToString()})


def write_colours(folder):
    """Twelve pictures of each colour, on one in four of which another is stronger."""
    for k, label in enumerate(("blue", "green", "red")):
        (folder / "part" / label).mkdir(parents=True)
        for number in range(12):
            picture = np.zeros((8, 8, 3), np.uint8)
            picture[..., k] = 120 + 10 * number
            picture[..., (k + 1) % 3] = 250 * (number % 4 == 0)
            cv2.imwrite(str(folder / "part" / label / f"{label}-{number}.png"), picture)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    write_detector(folder / "good", CENTRE, name="good")
    write_detector(folder / "bad", CORNER, name="bad")
    write_detector(folder / "other", CENTRE, name="other", labels=("circle", "square"))
    write_keyword_bundle(folder / "words")
    write_pictures(folder / "pictures", shift=2)
    write_clips(folder / "clips")
    write_classifier(folder / "colours")
    write_colours(folder / "squares")
    return folder


@pytest.fixture
def run(desk, monkeypatch, capsys):
    """Run a command in the desk's folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(desk)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["edgeai-compress", *map(str, arguments)])
        code = run_app(app, program="edgeai-compress")
        out, err = capsys.readouterr()
        return code, out, err

    return call


PICTURES = ("--data", "pictures", "--split", "part")
CLIPS = ("--data", "clips", "--split", "part")
ONNX = ("--engine", "onnx/float32")


def test_the_line_has_the_agreed_keys_and_no_others(run):
    for arguments in (("good", *PICTURES, *ONNX), ("words", *CLIPS)):
        code, out, _ = run("eval", *arguments, "--json")
        assert code == 0
        assert list(json.loads(out)) == FIRST_KEYS


def test_more_is_told_when_asked_and_after_them(run, desk):
    code, out, _ = run(
        "eval", "good", *PICTURES, *ONNX, "--json", "--slices", "--details", "--thresholds", 0.7,
        "--predictions", "p.jsonl", "--report", "r/page.html",
    )  # fmt: skip
    told = json.loads(out)
    assert code == 0
    assert list(told) == [
        *FIRST_KEYS, "slices", "worst_slice", "details", "thresholds", "predictions", "report",
    ]  # fmt: skip
    # six of eight found, two missed, two false: a precision of 3/4, and at each recall up to 3/4
    assert told["value"] == pytest.approx(0.5637, abs=0.01)
    assert told["details"]["at_threshold"]["precision"] == 0.75
    assert told["details"]["cost"]["macs"] == 0
    assert told["thresholds"]["square"]["threshold"] == pytest.approx(0.9)
    assert {part["by"] for part in told["slices"]} >= {"size in the picture", "light", "objects"}
    assert len((desk / "p.jsonl").read_text().splitlines()) == 8
    page = (desk / "r/page.html").read_text()
    assert page.count("<svg") >= 4
    assert "script" not in page


def test_pictures_of_one_label_each(run):
    code, out, err = run(
        "eval", "colours", "--data", "squares", "--split", "part", *ONNX, "--json", "--details", "--slices"
    )
    assert code == 0, err
    told = json.loads(out)
    assert (told["metric"], told["value"], told["n"]) == ("accuracy", 0.75, 36)
    assert told["details"]["classes"]["red"]["recall"] == 0.75
    assert {part["by"] for part in told["slices"]} == {"light", "label"}


def test_labels_in_another_format_are_found(run, desk):
    from compress.data.formats import load_detections, write_detections

    pictures = load_detections("coco", desk / "pictures", "part", ("square",))
    write_detections("yolo", desk / "yolo", "part", pictures)
    values = []
    for data in ("pictures", "yolo"):
        code, out, err = run("eval", "good", "--data", data, "--split", "part", *ONNX, "--json")
        assert code == 0, err
        values.append(json.loads(out)["value"])
    assert values[0] == values[1]


def test_another_iou_is_named(run):
    _, out, _ = run("eval", "good", *PICTURES, *ONNX, "--iou", 0.75, "--json")
    assert json.loads(out)["metric"] == "AP75"


@pytest.mark.parametrize("bundle, data", [("good", PICTURES), ("words", CLIPS)])
def test_tables_fit_eighty_columns(run, bundle, data):
    engine = ONNX if bundle == "good" else ()
    code, out, err = run(
        "eval", bundle, *data, *engine, "--slices", "--details", "--thresholds", 0.2, "--sure",
        "--report", f"{bundle}.html",
    )  # fmt: skip
    assert code == 0
    table = [line for line in out.splitlines() if not line.startswith("worst:")]
    assert max(map(len, table)) <= 80
    assert "worst" in out
    assert "another split" in err, "a threshold is not measured on what it was chosen on"


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("good", *PICTURES, *ONNX, "--thresholds", "90"), "at most 1, got 90"),
        (("good", *PICTURES, *ONNX, "--iou", "1.5"), "between 0 and 1, got 1.5"),
        (("good", *PICTURES, *ONNX, "--predictions", "good/manifest.json/p.jsonl"), "cannot be written"),
        (("good", *PICTURES), "choose one with --engine"),
        (("words", *PICTURES), "part.csv"),
    ],
)
def test_a_mistake_is_one_line(run, arguments, told):
    code, _, err = run("eval", *arguments)
    assert code != 0
    last = err.strip().splitlines()[-1]
    assert told in last
    assert "Traceback" not in err


def test_the_better_one_is_named(run):
    code, out, _ = run(
        "compare",
        "bad",
        "good",
        *PICTURES,
        "--engine-a",
        "onnx/float32",
        "--engine-b",
        "onnx/float32",
        "--json",
    )
    told = json.loads(out)
    assert code == 0
    assert told["better"] == "b"
    assert told["difference"] == pytest.approx(told["b"]["value"] - told["a"]["value"], abs=2e-4)
    assert told["ci95"][0] > 0
    assert re.match(
        r"B is better than A by 0\.\d+ AP50 \(95 %: 0\.\d+ to \d\.\d+\) on 8 pictures", told["says"]
    )
    assert "mcnemar" not in told, "a picture's boxes are not right or wrong as one"
    assert all(row["difference"] >= 0 for row in told["slices"])


def test_a_model_does_not_differ_from_itself(run):
    code, out, _ = run("compare", "words", "words", *CLIPS, "--engine-b", "tflite/int8", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["difference"], told["ci95"], told["better"]) == (0, [0, 0], None)
    assert told["mcnemar"] == {"only_a": 0, "only_b": 0, "p": 1}
    assert told["groups"] == {"n": 12, "p": 1}
    assert told["says"].startswith("no difference on 24 clips")


def test_formats_are_compared_side_by_side(run):
    code, out, _ = run("compare", "words", "words", *CLIPS, "--engine-b", "onnx/float32")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 110
    assert "model.onnx" in out
    assert "McNemar" in out


@pytest.mark.parametrize(
    "pair, data, told",
    [(("good", "words"), PICTURES, "no metric for both"), (("good", "other"), PICTURES, "circle only one")],
)
def test_two_that_do_other_jobs_are_not_compared(run, pair, data, told):
    code, _, err = run("compare", *pair, *data, "--engine-a", "onnx/float32", "--engine-b", "onnx/float32")
    assert code == 1
    assert told in err


def test_few_examples_never_name_a_better_one():
    from types import SimpleNamespace

    from compress.cli.compare import Pair
    from compress.measure.pairs import Difference, mcnemar

    side = SimpleNamespace(scored=SimpleNamespace(unit="clips"), metric=SimpleNamespace(name="accuracy"))
    sure = Difference(1.0, (1.0, 1.0), 5)
    test = mcnemar(np.zeros(5, bool), np.ones(5, bool))
    for more in (None, test):
        pair = Pair(side, side, sure, more, None, 5, ())
        assert pair.better is None
        assert pair.sentence().startswith("no difference can be seen with 5 clips")
    six = mcnemar(np.zeros(6, bool), np.ones(6, bool))
    assert Pair(side, side, Difference(1.0, (1.0, 1.0), 6), six, None, 6, ()).better == "b"
    assert Pair(side, side, Difference(-1.0, (-1.0, -1.0), 6), six, None, 6, ()).better == "a"
