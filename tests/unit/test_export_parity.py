"""An export that does not say what it was made of says is stopped, and the layer where they part is named."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress


def classes(said, truth=None):
    from compress.measure.scored_classes import ScoredClasses

    said = np.asarray(said)
    names = tuple(f"{n}.png" for n in range(len(said)))
    scores = np.eye(3)[said] * 0.8 + 0.1
    return ScoredClasses(("a", "b", "c"), names, names, scores, said if truth is None else np.asarray(truth))


@pytest.mark.parametrize(
    "n, apart, holds",
    [(400, 0, True), (400, 4, True), (400, 20, False), (250, 3, True), (20, 1, True), (20, 4, False)],
)
def test_top_1_agrees_but_for_one_in_a_hundred_and_chance(n, apart, holds):
    from compress.export.parity import compare_scored

    said = np.zeros(n, int)
    other = said.copy()
    other[:apart] = 1
    parity = compare_scored(classes(said), classes(other))
    assert (parity.holds, parity.n) == (holds, n)
    assert parity.value == pytest.approx(1 - apart / n)
    assert f"top-1 agreement {1 - apart / n:.4f} on {n} examples" == str(parity)


def boxes(shift_px, *, lost=0, count=60):
    """Pictures with one box each, found with their middles moved and the last `lost` not at all."""
    from pathlib import Path

    from compress.data.detection import DetectionSet, LabelledPicture
    from compress.measure.scored_pictures import ScoredPictures
    from edgeai.bundle.manifest import ImageInput
    from edgeai.types import Detections

    box, sure, nothing = (
        np.array([[10, 10, 50, 50]], np.float32),
        np.ones(1, np.float32),
        np.zeros((0, 4), np.float32),
    )
    pictures, found = [], []
    for number in range(count):
        pictures.append(
            LabelledPicture(Path(f"{number}.png"), 64, 64, box, np.zeros(1, np.int32), sure, nothing)
        )
        some = slice(0, 0) if number >= count - lost else slice(0, 1)
        found.append(
            Detections(
                (box + shift_px)[some],
                np.array([0.9], np.float32)[some],
                np.zeros(1, np.int32)[some],
                ("thing",),
            )
        )
    data = DetectionSet(("thing",), tuple(pictures))
    return ScoredPictures(data, found, np.zeros(count), ImageInput(width=64, height=64), 0.3)


def test_boxes_are_compared_by_the_metric():
    from compress.export.parity import compare_scored

    same = compare_scored(boxes(0), boxes(1))
    assert same.holds and same.value == 0 and same.figure == "difference of AP50"
    fewer = compare_scored(boxes(0), boxes(0, lost=12))
    assert not fewer.holds
    assert fewer.value == pytest.approx(-0.2, abs=0.03)
    assert compare_scored(boxes(0), boxes(0, lost=12), max_apart=0.25).holds
    assert not compare_scored(boxes(0), boxes(0, lost=12), max_apart=0.1).holds
    # of ten boxes one is a tenth: no half a point can be asked of them
    assert compare_scored(boxes(0, count=10), boxes(0, count=10, lost=1)).holds


@pytest.fixture(scope="module")
def integer(keras):
    from compress.quantize.tflite import convert_tflite

    keras.utils.set_random_seed(10)
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", bias_initializer="normal", name="first")(image)
    x = layers.Conv2D(8, 3, activation="relu", bias_initializer="normal", name="second")(x)
    x = layers.Conv2D(8, 1, bias_initializer="normal", name="third")(x)
    network = keras.Model(image, layers.Dense(3, name="scores")(layers.GlobalAveragePooling2D()(x)))
    return convert_tflite(network, "int8", samples(8))


def samples(count):
    rng = np.random.default_rng(3)
    return [rng.random((1, 16, 16, 3)).astype(np.float32) for _ in range(count)]


def test_where_all_is_well_nothing_parts(integer):
    from compress.export.parity import first_parting

    assert first_parting(integer, samples(4)) == ""


def test_the_first_layer_that_parts_is_named(integer, monkeypatch):
    from compress.export import onnx_qdq
    from compress.export.parity import first_parting

    real = onnx_qdq.dequantize

    def narrowed(content):
        plain = real(content)
        ranges = {
            k: (lo / 40, hi / 40) if "second" in k else (lo, hi) for k, (lo, hi) in plain.ranges.items()
        }
        return type(plain)(plain.flatbuffer, ranges)

    monkeypatch.setattr(onnx_qdq, "dequantize", narrowed)
    assert first_parting(integer, samples(4)).startswith("second")


def test_an_export_that_says_something_else_is_left_out_and_told(tmp_path, monkeypatch, capsys):
    from tiny_recipe import INT8, squares_recipe, write_squares

    from compress.export.parity import compare_scored
    from compress.passes import quantize as module
    from compress.recipe import parse_recipe
    from compress.run import run_recipe

    write_squares(tmp_path / "squares")
    train = {"kind": "train", "fit": {"steps": 60, "batch": 8}}
    formats = {"kind": "export", "formats": ["tflite/float16", "onnx/int8"]}
    recipe = parse_recipe(squares_recipe(passes=[train, INT8, formats]), where="here")
    made = run_recipe(recipe, data_root=tmp_path, out=tmp_path / "out", work=tmp_path / "work")
    told = made.bundle.manifest.provenance["notes"]["parity"]
    assert [one["file"].split("-")[-1] for one in told] == ["float16.tflite", "int8.onnx"]
    assert {entry.precision for entry in made.bundle.manifest.engine_files} == {"int8", "float16"}

    # nothing is found any more in one of them: it parts
    parity = compare_scored(boxes(0), boxes(0, lost=60))
    real = module.compare_scored
    given = iter([True, False])
    monkeypatch.setattr(
        module,
        "compare_scored",
        lambda source, other, **settings: parity if next(given) else real(source, other, **settings),
    )
    capsys.readouterr()
    made = run_recipe(recipe, data_root=tmp_path, out=tmp_path / "out2", work=tmp_path / "work2")
    why = "tflite/float16 does not say what measured-float32.tflite says: difference"
    (refused,) = made.bundle.manifest.provenance["notes"]["refused"]
    assert refused["file"] == "squares-float16.tflite"
    assert refused["why"].startswith(why)
    assert f"left out: {why}" in " ".join(capsys.readouterr().err.split())
    assert {f"{entry.format}/{entry.precision}" for entry in made.bundle.manifest.engine_files} == {
        "tflite/int8",
        "onnx/int8",
    }
    assert not list((tmp_path / "work2").rglob("*float16.tflite"))
