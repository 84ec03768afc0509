"""What is told about a detector and a classifier beside the figure: slices, tables, thresholds, counts of the graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import MODELS

from compress.data.detection import DetectionSet, LabelledPicture
from compress.measure.graph_cost import GraphCost, count_graph
from compress.measure.keywords import clip_levels_db
from compress.measure.predictions import write_predictions
from compress.measure.scored_classes import ScoredClasses, Trait
from compress.measure.scored_pictures import NOTHING, ScoredPictures
from compress.measure.slices import SliceMetric, measure_slices, third_slices, worst_slice
from compress.measure.thresholds import best_threshold
from edgeai.bundle.manifest import ImageInput
from edgeai.errors import EdgeError, EngineError, UsageError
from edgeai.types import Detections

pytestmark = pytest.mark.compress

SPEC = ImageInput(width=50, height=50)
SMALL, LARGE = [0, 0, 20, 20], [100, 100, 198, 198]


def labelled(name, boxes, ids, crowd=(), group=""):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowds = np.array(crowd, np.float32).reshape(-1, 4)
    return LabelledPicture(
        Path(f"images/{name}.png"),
        200,
        200,
        boxes,
        np.array(ids, np.int32),
        np.ones(len(boxes), np.float32),
        crowds,
        group,
    )


def found(boxes, scores, ids):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(ids, np.int32)
    )


@pytest.fixture
def pictures():
    """Large ones are found, small ones are not; a cat is taken for a dog; one box is of nothing, one on a crowd."""
    data = DetectionSet(
        ("cat", "dog"),
        (
            labelled("1", [SMALL, LARGE], [0, 0], group="yard"),
            labelled("2", [LARGE], [1], group="yard"),
            labelled("3", [LARGE], [0], crowd=[[0, 0, 60, 60]]),
            labelled("4", [], []),
        ),
    )
    said = [
        found([LARGE], [0.9], [0]),
        found([LARGE], [0.8], [1]),
        found([LARGE, SMALL], [0.7, 0.6], [1, 0]),
        found([SMALL, SMALL], [0.5, 0.05], [1, 1]),
    ]
    return ScoredPictures(data, said, np.array([10, 100, 200, 250]), SPEC, 0.4)


def by_name(measured):
    return {(part.kind, part.name): part for part in measured}


def test_sizes_tell_what_is_missed(pictures):
    parts = by_name(measure_slices(pictures.slices(), pictures.groups))
    assert parts["size in the picture", "small"].value == 0
    assert parts["size in the picture", "small"].n == 1
    # 98 pixels of a 200-pixel picture are 24.5 of the model's 50
    assert parts["size in the model", "16 to 32 px"].n == 3
    assert parts["size in the model", "below 16 px"].n == 1
    assert parts["size in the picture", "large"].unit == "boxes"
    assert parts["group", "yard"].n == 2
    assert ("group", "4.png") not in parts, "a picture of its own is no group"
    assert {name for kind, name in parts if kind == "label"} == {"cat", "dog"}
    assert {name.split()[0] for kind, name in parts if kind == "light"} == {"dark", "middle", "bright"}
    assert parts["objects", "2 to 4"].n == 1
    assert ("objects", "0") not in parts, "where nothing is, nothing can be found"


def test_confusion_of_boxes_has_a_place_for_nothing(pictures):
    labels, counts = pictures.confusion()
    assert labels == ("cat", "dog", NOTHING)
    # cats: one found, one taken for a dog, one missed; the box on the crowd counts nowhere, the faint one is not told
    assert counts.tolist() == [[1, 1, 1], [0, 1, 0], [0, 1, 0]]


def test_details_hold_what_coco_tells(pictures):
    details = pictures.details()
    json.dumps(details)
    assert details["AP50"] == pytest.approx(pictures.metric().value, abs=1e-4)
    assert details["at_threshold"]["threshold"] == 0.4
    assert details["classes"]["dog"] == {
        "AP": 1.0,
        "AP50:95": 1.0,
        "precision": pytest.approx(1 / 3, abs=1e-4),
        "recall": 1.0,
        "f1": 0.5,
        "n": 1,
    }
    assert details["AP50:95 medium"] is None, "no such box is there to be found"


def test_another_overlap_is_another_metric(pictures):
    stricter = ScoredPictures(
        pictures.data, pictures.found, pictures.luma, pictures.spec, pictures.threshold, iou=0.75
    )
    assert stricter.metric().name == "AP75"


def test_predictions_are_lines_and_a_bad_place_is_told(pictures, tmp_path):
    path = write_predictions(pictures, tmp_path / "deep" / "p.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["file"] for row in rows] == ["1.png", "2.png", "3.png", "4.png"]
    assert rows[1]["found"] == [{"label": "dog", "score": 0.8, "xyxy_px": [100.0, 100.0, 198.0, 198.0]}]
    assert rows[3]["wanted"] == []
    assert [p.name for p in path.parent.iterdir()] == ["p.jsonl"]
    with pytest.raises(EdgeError, match="cannot be written"):
        write_predictions(pictures, path / "below.jsonl")


@pytest.fixture
def clips():
    """Forty clips by four speakers; the fourth is quiet and never understood."""
    n, rng = 40, np.random.default_rng(0)
    ids = np.arange(n) % 2
    speaker = np.arange(n) // 10
    scores = np.where(np.eye(2, dtype=bool)[ids], 0.9, 0.1)
    scores[speaker == 3] = scores[speaker == 3][:, ::-1]
    loudness = np.where(speaker == 3, -60.0, -20.0) + rng.random(n)
    return ScoredClasses(
        ("yes", "no"),
        tuple(f"{i}.wav" for i in range(n)),
        tuple(f"speaker {s}" for s in speaker),
        scores,
        ids,
        unit="clips",
        traits=(Trait("loudness", loudness, ("quiet", "middle", "loud"), "dBFS"),),
    )


def test_unfairness_shows(clips):
    measured = measure_slices(clips.slices(), clips.groups)
    parts = by_name(measured)
    assert clips.metric().value == 0.75
    assert parts["group", "speaker 3"].value == 0
    assert parts["group", "speaker 3"].ci95[1] < 0.5
    assert parts["group", "speaker 0"].ci95[0] < 0.8, "ten clips do not prove perfection"
    quiet = next(part for (kind, name), part in parts.items() if kind == "loudness" and "quiet" in name)
    assert quiet.value < 0.3
    worst = worst_slice(measured)
    assert worst is not None
    assert worst.name == "speaker 3"


def test_a_tiny_slice_is_never_the_worst():
    tiny = SliceMetric("group", "one clip", 0.0, (0.0, 0.8), 1, "clips")
    large = SliceMetric("group", "many", 0.5, (0.4, 0.6), 100, "clips")
    assert worst_slice([tiny, large]) is large
    assert worst_slice([tiny]) is None


def test_silence_does_not_count_as_quiet_speech():
    scored = ScoredClasses(
        ("yes", "silence"),
        tuple("abcdef"),
        tuple("abcdef"),
        np.eye(2)[[0, 0, 0, 1, 1, 1]],
        np.array([0, 0, 0, 1, 1, 1]),
        traits=(Trait("loudness", np.array([-30, -20, -10, -90, -90, -90]), ("q", "m", "l"), "dBFS"),),
    )
    thirds = [part for part in scored.slices() if part.kind == "loudness"]
    assert sum(part.n for part in thirds) == 3


def test_equal_values_make_fewer_thirds():
    def whole(picks):
        return 1.0

    same = third_slices("light", np.full(9, 5.0), ("d", "m", "b"), whole, unit="pictures", value_unit="")
    assert [part.n for part in same] == [9]
    assert third_slices("SNR", np.full(9, np.nan), ("d", "m", "b"), whole, unit="c", value_unit="") == []


def test_details_of_classes(clips):
    details = clips.details()
    json.dumps(details)
    assert details["averages"]["micro_f1"] == 0.75
    assert details["confusion"]["counts"] == [[15, 5], [5, 15]]
    assert details["calibration"]["ece"] == pytest.approx(0.15)
    logits = ScoredClasses(clips.labels, clips.names, clips.groups, clips.scores * 9, clips.class_ids)
    assert logits.details()["calibration"] is None


def test_thresholds_count_what_is_never_said():
    # two of three are said, both rightly: recall 2/3 however low the threshold
    point = best_threshold(np.array([0.9, 0.8]), np.array([True, True]), wanted=3, precision=0.95)
    assert (point.threshold, point.precision, point.n) == (0.8, 1.0, 2)
    assert point.recall == pytest.approx(2 / 3)


def test_few_right_ones_are_not_sure():
    scores, right = np.linspace(0.5, 0.9, 10), np.ones(10, bool)
    assert best_threshold(scores, right, wanted=10, precision=0.9).threshold is not None
    unsure = best_threshold(scores, right, wanted=10, precision=0.9, lower_bound=True)
    assert unsure.threshold is None
    assert unsure.precision_low == pytest.approx(0.787, abs=1e-3)


def test_a_precision_that_nobody_can_want_is_refused():
    for precision in (0.0, 1.01, -1, float("nan")):
        with pytest.raises(UsageError, match="above 0"):
            best_threshold(np.ones(1), np.ones(1, bool), wanted=1, precision=precision)
    nothing = best_threshold(np.zeros(0), np.zeros(0, bool), wanted=3, precision=0.5)
    assert (nothing.threshold, nothing.n) == (None, 0)


def test_levels_of_a_clip():
    t = np.arange(16000) / 16000
    speech = np.where(t < 0.5, np.sin(2 * np.pi * 440 * t) * 0.5, 0.005 * np.sin(2 * np.pi * 50 * t))
    loudness, ratio = clip_levels_db(speech.astype(np.float32), sample_rate_hz=16000)
    assert loudness == pytest.approx(10 * np.log10(0.125 / 2), abs=0.1)
    assert ratio == pytest.approx(40, abs=0.5)
    quiet, unknown = clip_levels_db(np.zeros(16000, np.float32), sample_rate_hz=16000)
    assert quiet == -100
    assert np.isnan(unknown)


@pytest.mark.parametrize(
    "file, parameters, macs",
    [
        ("keyword_float32.tflite", 80 * 16 + 16 + 16 * 3 + 3, 80 * 16 + 16 * 3),
        ("keyword_int8.tflite", 80 * 16 + 16 + 16 * 3 + 3, 80 * 16 + 16 * 3),
        ("keyword_float16.tflite", 80 * 16 + 16 + 16 * 3 + 3, 80 * 16 + 16 * 3),
        ("keyword_dynamic.tflite", 80 * 16 + 16 + 16 * 3 + 3, 80 * 16 + 16 * 3),
        ("keyword.onnx", 80 * 16 + 16 + 16 * 3 + 3, 80 * 16 + 16 * 3),
        ("picture_int8.tflite", 3 * 3 * 3 * 8 + 8 + 8 * 4 + 4, 7 * 7 * 8 * 27 + 7 * 7 * 4 * 8),
        ("picture.onnx", 3 * 3 * 3 * 8 + 8 + 8 * 4 + 4, 7 * 7 * 8 * 27 + 7 * 7 * 4 * 8),
    ],
)
def test_parameters_and_macs_are_counted_in_the_file(file, parameters, macs):
    path = MODELS / file
    assert count_graph(path, path.suffix[1:]) == GraphCost(parameters, macs)


def test_a_file_that_is_no_graph_is_told(tmp_path):
    for name in ("x.tflite", "x.onnx"):
        (tmp_path / name).write_bytes(b"\x18\x00\x00\x00TFL3 and then nonsense" * 3)
        with pytest.raises(EngineError, match="cannot be read"):
            count_graph(tmp_path / name, name[2:])
    assert count_graph(tmp_path / "x.plan", "plan") is None


def test_each_kind_of_anomaly_is_told_beside_what_is_normal():
    from compress.measure.scored_sounds import ScoredAnomalies

    ids = np.array([0] * 20 + [1] * 10 + [2] * 10)
    errors = np.concatenate([np.linspace(0, 1, 20), np.full(10, 2.0), np.linspace(0, 1, 10)])
    names = [str(n) for n in range(40)]
    scored = ScoredAnomalies(("normal", "loud", "faint"), names, names, errors, ids)
    parts = {part.name: (part.value, part.n) for part in measure_slices(scored.slices(), scored.groups)}
    assert parts["loud"] == (1.0, 10)
    assert parts["faint"][0] == pytest.approx(0.5, abs=0.03)
    one = ScoredAnomalies(("normal", "loud"), names[:30], names[:30], errors[:30], ids[:30])
    assert one.slices() == []


def test_words_are_told_without_silence_too():
    scores = np.eye(3)[[0, 1, 0, 2]]
    truth = np.array([0, 1, 1, 2])
    names = ("a", "b", "c", "d")
    scored = ScoredClasses(("yes", "no", "silence"), names, names, scores, truth)
    (part,) = [part for part in scored.slices() if part.kind == "without"]
    assert (part.name, part.n, part.value(part.picks)) == ("silence", 3, pytest.approx(2 / 3))
