"""Recipes: the zoo's parse, and every mistake gets one line with its place and what was meant."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from tiny_recipe import squares_recipe, toml_of, tones_recipe

from compress.recipe import load_recipe, parse_recipe
from edgeai.errors import RecipeError

ZOO = Path(__file__).resolve().parents[2] / "models"


@pytest.mark.parametrize("path", sorted(ZOO.glob("*/recipe.toml")), ids=lambda path: path.parent.name)
def test_zoo_recipes_parse_and_are_named_after_their_folder(path):
    recipe = load_recipe(path)
    assert recipe.name == path.parent.name
    assert recipe.attribution, "trained on other people's data: say whose"


def test_the_zoo_has_both_first_models():
    assert {path.parent.name for path in ZOO.glob("*/recipe.toml")} >= {"person-detector", "commands"}


@pytest.mark.parametrize("make", [squares_recipe, tones_recipe])
def test_a_recipe_survives_its_own_json(make):
    recipe = parse_recipe(make(), where="here")
    again = parse_recipe(recipe.model_dump(mode="json", exclude_none=True), where="manifest")
    assert again == recipe


def _changed(**places):
    """A recipe with `a__b__0__c=value` set, or the key removed where the value is None."""
    recipe = copy.deepcopy(squares_recipe())
    for place, value in places.items():
        *path, last = (int(part) if part.isdigit() else part for part in place.split("__"))
        at = recipe
        for part in path:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return recipe


TRAIN = {"kind": "train", "fit": {"steps": 1}}
INT8 = {"kind": "quantize"}
MISTAKES = {
    "unknown key": (_changed(pases=[]), r"unknown key 'pases'; did you mean 'passes'"),
    "unknown key deep": (
        _changed(passes__0__fit__learning_rat=1.0),
        r"unknown key 'passes.0.fit.learning_rat'; did you mean 'learning_rate'",
    ),
    "unknown pass": (_changed(passes__1__kind="prun"), r"passes.1.kind: must be one of .*'prune'.*is 'prun'"),
    "missing key": (_changed(decoder=None), r"key 'decoder' is missing"),
    "wrong type": (_changed(passes__0__fit__steps="many"), r"passes.0.fit.steps: .*'many'"),
    "no training": (_changed(passes=[INT8]), r"first pass must be train, not quantize"),
    "nothing written": (_changed(passes=[TRAIN]), r"no pass writes an engine file"),
    "train too late": (_changed(passes=[TRAIN, INT8, TRAIN]), r"train after quantize or export"),
    "distill alone": (
        _changed(passes=[TRAIN, {"kind": "distill", "fit": {"steps": 1}}, INT8]),
        r"distill needs a prune before it",
    ),
    "data-free alone": (
        _changed(passes=[{"kind": "distill-data-free"}, INT8]),
        r"distill-data-free needs a prune before it, or a teacher",
    ),
    "no examples to learn from": (
        _changed(
            passes=[TRAIN, {"kind": "distill", "fit": {"steps": 1}, "teacher": "x", "unlabelled": 4}, INT8]
        ),
        r"needs some: data.unlabelled",
    ),
    "prune to nothing": (
        _changed(passes=[TRAIN, {"kind": "prune", "fit": {"steps": 1}}, INT8]),
        r"passes.1: prune needs exactly one of macs_ratio, .*max_latency_ms; given is none",
    ),
    "prune to two": (
        _changed(passes__1__max_bytes=1000),
        r"given is macs_ratio and max_bytes",
    ),
    "sparse before trained": (
        _changed(passes=[{"kind": "sparsify", "fit": {"steps": 1}}, INT8]),
        r"first pass must be train, not sparsify",
    ),
    "three of four": (
        _changed(
            passes=[
                TRAIN,
                {"kind": "sparsify", "pattern": "2:4", "sparsity": 0.75, "fit": {"steps": 1}},
                INT8,
            ]
        ),
        r"2:4 leaves two of four",
    ),
    "one file twice": (_changed(passes=[TRAIN, INT8, INT8]), r"two passes write tflite/int8"),
    "speech for a detector": (
        _changed(data__train=[{"kind": "speech", "folder": "x"}]),
        r"'speech' does not fit task 'detect'",
    ),
    "video without teacher": (
        _changed(data__train=[{"kind": "video", "file": "x.mp4"}]),
        r"a \[teacher\] is needed",
    ),
    "video backwards": (
        _changed(data__train=[{"kind": "video", "file": "x.mp4", "start": 0.5, "stop": 0.4}]),
        r"data.train.0: start 0.5 must be before stop 0.4",
    ),
    "label twice": (_changed(labels=["square", "square"]), r"a label is given twice"),
    "no labels": (_changed(labels=[]), r"labels: "),
    "name of a path": (_changed(name="../squares"), r"name: "),
    "scale of nothing": (_changed(data__pictures__scale=[0.0, 1.0]), r"data.pictures.scale.0: "),
    "scale backwards": (_changed(data__pictures__scale=[1.5, 1.0]), r"scale must go from small to large"),
    "half a teacher": (_changed(teacher={"file": "x.onnx"}), r"a teacher file needs its input and decoder"),
    "two teachers": (
        _changed(teacher={"file": "x.onnx", "bundle": "y"}),
        r"give either bundle or file",
    ),
    "not a number": (_changed(passes__0__fit__learning_rate=float("nan")), r"learning_rate"),
}


@pytest.mark.parametrize("recipe, told", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_names_it(recipe, told):
    with pytest.raises(RecipeError, match=told) as error:
        parse_recipe(recipe, where="my.toml")
    assert str(error.value).startswith("my.toml: ")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_file_names_the_line(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(toml_of(squares_recipe()) + "[budget]\nmax_dorp = 0.1\n")
    line = path.read_text().splitlines().index("max_dorp = 0.1") + 1
    with pytest.raises(RecipeError, match=rf"recipe.toml:{line}: unknown key 'budget.max_dorp'.*'max_drop'"):
        load_recipe(path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"name = ", b"[" * 10_000, b"", b"a" * (2 << 20), b'name = "x"\0']
)
def test_a_hostile_file_raises_recipe_errors_only(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_an_absent_file_says_where_recipes_are(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe at .*models"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="folder"):
        load_recipe(tmp_path)


def test_a_softer_pass_asks_for_half_the_way():
    from compress.passes.settings import PrunePass, SparsifyPass, TrainPass

    fit = {"steps": 1}
    assert PrunePass(kind="prune", macs_ratio=0.25, fit=fit).softer().macs_ratio == 0.5
    assert PrunePass(kind="prune", bytes_ratio=0.49, fit=fit).softer().bytes_ratio == pytest.approx(0.7)
    assert PrunePass(kind="prune", max_bytes=1000, fit=fit).softer() is None
    assert SparsifyPass(kind="sparsify", sparsity=0.75, fit=fit).softer().sparsity == 0.5
    assert SparsifyPass(kind="sparsify", pattern="2:4", fit=fit).softer() is None
    assert TrainPass(kind="train", fit=fit).softer() is None
