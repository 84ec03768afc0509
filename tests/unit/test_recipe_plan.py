"""What can be known before training is told before training."""

from __future__ import annotations

import json

import pytest
from tiny_recipe import squares_recipe, tones_recipe, write_squares, write_tones

from compress.recipe import parse_recipe
from edgeai.errors import BundleError, DataError, DataMissingError, RecipeError

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from compress.quiet import start_tensorflow

    start_tensorflow()
    root = tmp_path_factory.mktemp("data")
    write_squares(root / "squares", count=2)
    write_tones(root / "tones", each=1)
    return root


def plan(recipe, data, out):
    from compress.plan import check_recipe

    return check_recipe(parse_recipe(recipe, where="here"), data_root=data, out=out)


def test_the_plan_tells_the_multiplications_after_each_pass(data, tmp_path):
    made = plan(squares_recipe(), data, tmp_path / "out")
    assert [step.kind for step in made.steps] == ["train", "prune", "quantize", "export"]
    assert made.steps[1].macs <= 0.7 * made.steps[0].macs
    assert made.steps[3].note == "onnx/float32"
    assert json.loads(json.dumps(made.to_json()))["parameters"] == made.parameters > 1000
    assert not (tmp_path / "out").exists()


def test_keyword_recipes_are_planned_too(data, tmp_path):
    assert plan(tones_recipe(), data, tmp_path / "out").parameters > 1000


def test_costs_are_estimated_and_the_network_stays_as_it_was(data, tmp_path):
    import numpy as np

    from compress.plan import estimate_costs

    recipe = parse_recipe(squares_recipe(), where="here")
    made = plan(squares_recipe(), data, tmp_path / "out")
    before = [w.copy() for w in made.network.get_weights()]
    costs = estimate_costs(made, recipe).steps
    for one, other in zip(before, made.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    train, prune, int8, onnx = (step.seconds for step in costs)
    assert min(train, prune, int8, onnx) > 0
    assert [bool(step.bytes) for step in costs] == [False, False, True, True]
    assert costs[1].parameters < costs[0].parameters


def test_steps_on_windows_are_timed_on_windows(data, tmp_path, monkeypatch):
    import compress.plan as planning

    timed = []
    monkeypatch.setattr(
        planning, "time_step_s", lambda network, batch: timed.append(network.inputs[0].shape) or 1.0
    )
    for given in (with_crop(32), squares_recipe()):
        planning.estimate_costs(plan(given, data, tmp_path / "out"), parse_recipe(given, where="here"))
    assert timed == [(None, 32, 32, 3), (None, 64, 64, 3)]


def with_network(**network):
    return squares_recipe(network={"kind": "grid-detector", **network})


def with_decoder(**params):
    recipe = squares_recipe()
    recipe["decoder"]["params"].update(params)
    return recipe


def with_crop(crop):
    recipe = squares_recipe()
    recipe["data"]["pictures"] = {**recipe["data"].get("pictures", {}), "crop": crop}
    return recipe


MISTAKES = {
    "unknown network": (with_network(kind="grid-detektor"), r"no network 'grid-detektor'.*'grid-detector'"),
    "unknown parameter": (with_network(params={"multiplyer": 1}), r"no parameter 'multiplyer'.*'multiplier'"),
    "given parameter": (with_network(params={"classes": 3}), r"'classes' follows from the rest"),
    "wrong parameter": (with_network(params={"multiplier": "big"}), r"cannot be built with .*'big'"),
    "no file to start from": (with_network(kind="yolox-onnx"), r"needs init: the ONNX file"),
    "hears pictures": (with_network(kind="ds-cnn"), r"hears, the input is 'image'"),
    "size between cells": (squares_recipe(size=72), r"72 x 72 does not divide into cells of 16"),
    "window between cells": (with_crop(40), r"crop = 40 must be a multiple of 16.*and 64"),
    "window of more than there is": (with_crop(80), r"crop = 80 must be .* 64, the input's side, at most"),
    "window of a sound": (
        tones_recipe(data={"train": [{"kind": "speech", "folder": "tones"}], "pictures": {"crop": 32}}),
        r"crop = 32 is for detectors.*the task is keyword",
    ),
    "unknown decoder": (squares_recipe(decoder={"name": "gird"}), r"no decoder 'gird'"),
    "wrong decoder parameter": (with_decoder(nms_io=0.5), r"nms_io"),
    "decoder of another size": (with_decoder(width=128), r"must be"),
    "map that is not there": (
        with_decoder(maps={"box": ["box_8", "box_99"], "class": ["class_8", "class_16"]}),
        r"box_99",
    ),
    "out of reach": (
        squares_recipe(
            passes=[
                {"kind": "train", "fit": {"steps": 1}},
                {"kind": "prune", "macs_ratio": 0.01, "fit": {"steps": 1}},
                {"kind": "quantize"},
            ]
        ),
        r"pass 2: pruning reaches .* at best",
    ),
    "keyword decoder": (tones_recipe(decoder={"name": "grid"}), r"it is called 'keyword'"),
    "keyword parameter": (
        tones_recipe(decoder={"name": "keyword", "params": {"treshold": 0.5}}),
        r"no parameter 'treshold'.*'threshold'",
    ),
    "keyword label": (
        tones_recipe(decoder={"name": "keyword", "params": {"thresholds": {"lo": 0.5}}}),
        r"no keyword 'lo'",
    ),
}


@pytest.mark.parametrize("recipe, told", MISTAKES.values(), ids=MISTAKES)
def test_a_recipe_that_cannot_work_is_said_first(data, tmp_path, recipe, told):
    with pytest.raises(RecipeError, match=told) as error:
        plan(recipe, data, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_missing_data_is_told_with_what_it_holds(data, tmp_path):
    def data_part(**part):
        return {**squares_recipe()["data"], **part}

    teacher = {
        "file": "teacher.onnx",
        "input": {"kind": "image", "width": 64, "height": 64},
        "decoder": {"name": "grid", "params": {"width": 64, "height": 64}},
    }
    cases = [
        (squares_recipe(data=data_part(train=[{"kind": "coco", "folder": "gone"}])), "pictures"),
        (
            squares_recipe(data=data_part(train=[{"kind": "coco", "folder": "squares", "split": "x"}])),
            "instances_x.json",
        ),
        (
            squares_recipe(data=data_part(train=[{"kind": "video", "file": "x.mp4"}]), teacher=teacher),
            "a video",
        ),
        (squares_recipe(teacher=teacher), "the teacher"),
        (squares_recipe(data=data_part(noises="gone")), "noises"),
        (with_network(kind="keras-file", init="gone.keras"), "initial network"),
        (tones_recipe(data={"train": [{"kind": "speech", "folder": "gone"}]}), "clips"),
    ]
    for recipe, told in cases:
        with pytest.raises(DataMissingError, match=told):
            plan(recipe, data, tmp_path / "out")
    with pytest.raises(DataMissingError, match="--data"):
        plan(squares_recipe(), tmp_path / "none", tmp_path / "out")


def test_a_place_that_is_no_bundles_is_refused_first(data, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"holiday.jpg"):
        plan(squares_recipe(), data, tmp_path)
    assert (tmp_path / "holiday.jpg").exists()


def test_a_keras_file_is_a_network_to_start_from(data, tmp_path):
    import keras

    image = keras.Input((64, 64, 3))
    outputs = {}
    for stride in (8, 16):
        x = keras.layers.AveragePooling2D(stride)(image)
        for name, channels in (("box", 4), ("class", 1)):
            outputs[f"{name}_{stride}"] = keras.layers.Conv2D(channels, 1)(x)
    keras.Model(image, outputs).save(data / "mine.keras")
    passes = [{"kind": "quantize"}]
    made = plan(with_network(kind="keras-file", init="mine.keras") | {"passes": passes}, data, tmp_path / "o")
    assert made.parameters == 2 * (3 * 4 + 4 + 3 + 1)
    (data / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(DataError, match="no Keras model"):
        plan(with_network(kind="keras-file", init="broken.keras"), data, tmp_path / "o")
    keras.Model(image, outputs["box_8"]).save(data / "bare.keras")
    with pytest.raises(RecipeError, match="outputs have no names"):
        plan(with_network(kind="keras-file", init="bare.keras"), data, tmp_path / "o")


def test_labels_need_maps_and_an_imported_detector_is_told_so_first(data, tmp_path):
    import keras

    image = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(6, 1)(keras.layers.AveragePooling2D(8)(image))
    rows = keras.layers.Concatenate(axis=1)(
        [keras.layers.Reshape((64, 6))(x), keras.layers.Reshape((16, 6))(x[:, ::2, ::2])]
    )
    keras.Model(image, {"output": rows}).save(data / "rows.keras")
    fit = {"steps": 1}
    changed = with_network(kind="keras-file", init="rows.keras")
    changed["decoder"] = {"name": "grid", "params": {"width": 64, "height": 64, "strides": [8, 16]}}
    for learning in (
        {"kind": "train", "fit": fit},
        {"kind": "prune", "macs_ratio": 0.5, "fit": fit, "teacher_share": 1.0},
        {"kind": "qat", "fit": fit},
    ):
        last = [] if learning["kind"] == "qat" else [{"kind": "quantize"}]
        with pytest.raises(RecipeError, match=r"learns from labels, .* but output"):
            plan(changed | {"passes": [learning, *last]}, data, tmp_path / "o")
    alone = {"kind": "qat", "fit": fit, "teacher_share": 1.0}
    assert plan(changed | {"passes": [alone]}, data, tmp_path / "o").parameters


def test_a_teacher_that_cannot_answer_to_windows_is_told_first(data, tmp_path, monkeypatch):
    from contextlib import nullcontext
    from types import SimpleNamespace

    import compress.plan

    teacher = SimpleNamespace(name="file.tflite", any_size=False)
    monkeypatch.setattr(compress.plan, "open_teacher_network", lambda *_, **__: nullcontext(teacher))
    recipe = with_crop(32)
    recipe["passes"][1] = {"kind": "distill", "teacher": "file.tflite", "fit": {"steps": 1}}
    with pytest.raises(RecipeError, match=r"pass 2: teacher file\.tflite cannot answer to windows"):
        plan(recipe, data, tmp_path / "out")
