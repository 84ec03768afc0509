"""What every box decoder keeps, whatever the model says. One more decoder: one more line in DECODERS below."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.errors import StageError
from edgeai.stages.decoders import DECODERS, open_decoder
from edgeai.stages.letterbox import place

LABELS = ("cat", "dog", "cow")
SIDE = 64


@dataclasses.dataclass(frozen=True)
class Case:
    decoder: str
    params: Mapping[str, Any]
    outputs: Callable[[np.random.Generator], dict[str, np.ndarray]]


def flat(rng: np.random.Generator) -> dict[str, np.ndarray]:
    array = rng.normal(0, 1, (1, 84, 8)).astype(np.float32)
    array[..., 4:] = rng.random((1, 84, 4))
    return {"output": array}


def maps(rng: np.random.Generator) -> dict[str, np.ndarray]:
    found = {}
    for stride in (16, 32):
        cells = SIDE // stride
        for name, channels in (("box", 4), ("object", 1), ("class", 3)):
            found[f"{name}_{stride}"] = rng.normal(0, 2, (1, cells, cells, channels)).astype(np.float32)
    return found


def ssd(rng: np.random.Generator) -> dict[str, np.ndarray]:
    name = "TFLite_Detection_PostProcess"
    corners = np.sort(rng.uniform(-0.1, 1.1, (1, 10, 2, 2)), axis=2).reshape(1, 10, 4)
    return {
        name: corners.astype(np.float32),
        f"{name}:1": rng.integers(0, 3, (1, 10)).astype(np.float32),
        f"{name}:2": rng.random((1, 10)).astype(np.float32),
        f"{name}:3": np.array([rng.integers(3, 11)], np.float32),
    }


NAMES = {part: [f"{part}_16", f"{part}_32"] for part in ("box", "object", "class")}
SIZE = {"width": SIDE, "height": SIDE}
CASES = {
    "grid-flat": Case("grid", SIZE, flat),
    "grid-maps": Case(
        "grid", SIZE | {"layout": "maps", "strides": [16, 32], "maps": NAMES, "activation": "sigmoid"}, maps
    ),
    "grid-maps-no-object": Case(
        "grid",
        SIZE
        | {"layout": "maps", "strides": [16, 32], "maps": NAMES | {"object": []}, "activation": "sigmoid"},
        maps,
    ),
    "ssd": Case("ssd", SIZE, ssd),
}
PLACEMENT = place(200, 100, ImageInput(width=SIDE, height=SIDE))

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def opened(case: Case, **params: Any):
    return open_decoder(Decoder(name=case.decoder, params={**case.params, **params}), labels=LABELS)


def test_every_decoder_is_in_the_contract():
    assert {case.decoder for case in CASES.values()} == set(DECODERS)


def check(found, case: Case, *, limit: int = 100, threshold: float = 0.3) -> None:
    n = len(found)
    assert n <= limit
    assert found.xyxy_px.shape == (n, 4)
    assert found.xyxy_px.dtype == np.float32
    assert found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int32
    assert np.isfinite(found.xyxy_px).all()
    assert ((found.xyxy_px >= 0) & (found.xyxy_px <= [200, 100, 200, 100])).all()
    assert (found.xyxy_px[:, 2:] > found.xyxy_px[:, :2]).all()
    assert ((found.scores >= threshold) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.class_ids >= 0) & (found.class_ids < len(LABELS))).all()


@every
@given(seed=st.integers(0, 2**32 - 1))
def test_detections_are_sound_and_repeat(case, seed):
    outputs = case.outputs(np.random.default_rng(seed))
    before = {name: array.copy() for name, array in outputs.items()}
    decoder = opened(case)
    found, again = decoder.decode(outputs, PLACEMENT), decoder.decode(outputs, PLACEMENT)
    check(found, case)
    np.testing.assert_array_equal(found.xyxy_px, again.xyxy_px)
    np.testing.assert_array_equal(found.scores, again.scores)
    for name, array in before.items():
        np.testing.assert_array_equal(outputs[name], array)


WILD = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e20, 0.0, 1e-45]


@every
@pytest.mark.filterwarnings("error")
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.02, 0.5, 1.0]), wild=st.sampled_from(WILD))
def test_wild_values_neither_crash_nor_become_boxes(case, seed, share, wild):
    rng = np.random.default_rng(seed)
    outputs = case.outputs(rng)
    for array in outputs.values():
        array[rng.random(array.shape) < share] = wild
    check(opened(case).decode(outputs, PLACEMENT), case)


@every
def test_nothing_but_nan_is_nothing(case):
    outputs = {name: np.full_like(a, np.nan) for name, a in case.outputs(np.random.default_rng(0)).items()}
    assert len(opened(case).decode(outputs, PLACEMENT)) == 0


@every
def test_limit_and_threshold_hold(case):
    for seed in range(5):
        outputs = case.outputs(np.random.default_rng(seed))
        found = opened(case, max_detections=2, score_threshold=0.1).decode(outputs, PLACEMENT)
        check(found, case, limit=2, threshold=0.1)
        assert len(opened(case, score_threshold=0.999999).decode(outputs, PLACEMENT)) == 0


@every
def test_kept_classes_count_through_the_labels(case):
    outputs = case.outputs(np.random.default_rng(1))
    of_all = opened(case, max_detections=1000, score_threshold=0.01)
    found = of_all.decode(outputs, PLACEMENT)
    params = {**case.params, "keep_classes": [2, 0, 1], "max_detections": 1000, "score_threshold": 0.01}
    turned = open_decoder(Decoder(name=case.decoder, params=params), labels=("cow", "cat", "dog"))
    again = turned.decode(outputs, PLACEMENT)
    assert len(found)
    np.testing.assert_array_equal(again.scores, found.scores)
    assert [turned.labels[i] for i in again.class_ids] == [of_all.labels[i] for i in found.class_ids]


@every
def test_a_missing_output_is_named(case):
    outputs = case.outputs(np.random.default_rng(0))
    if case.decoder == "grid" and "maps" not in case.params:
        return
    first = next(iter(outputs))
    del outputs[first]
    with pytest.raises(StageError, match=f"needs the output '{first}', the model gives"):
        opened(case).decode(outputs, PLACEMENT)


@every
def test_a_misshapen_output_is_named(case):
    for name in case.outputs(np.random.default_rng(0)):
        if name.startswith("object") and not case.params["maps"]["object"]:
            continue
        for shape in ((), (0,), (1, 3, 2), (1, 4, 4, 9, 1), (2, 84, 8), (1, 0, 0, 3), (1, 84, 5)):
            outputs = case.outputs(np.random.default_rng(0))
            if name.endswith(":3") and shape == ():
                continue
            outputs[name] = np.zeros(shape, np.float32)
            with pytest.raises(StageError, match=name):
                opened(case).decode(outputs, PLACEMENT)


@every
def test_unknown_parameters_name_the_nearest(case):
    with pytest.raises(StageError, match="no parameter 'score_treshold'; did you mean 'score_threshold'"):
        opened(case, score_treshold=0.5)
    with pytest.raises(StageError, match="no parameter 'qqq'; known are width"):
        opened(case, qqq=1)


@every
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_threshold", 1.0),
        ("score_threshold", float("nan")),
        ("score_threshold", "high"),
        ("width", 0),
        ("width", None),
        ("max_detections", 0),
        ("keep_classes", []),
        ("keep_classes", [1, 1, 2]),
        ("keep_classes", [-1, 0, 1]),
        ("keep_classes", [0]),
    ],
)
def test_wrong_parameters_are_refused(case, name, value):
    with pytest.raises(StageError, match=name.replace("keep_classes", "(keep_classes|keeps)")):
        opened(case, **{name: value})


@every
def test_a_bundle_without_labels_is_refused(case):
    with pytest.raises(StageError, match="at least one label"):
        open_decoder(Decoder(name=case.decoder, params=dict(case.params)), labels=())


def test_an_unknown_decoder_names_the_nearest():
    with pytest.raises(StageError, match="no decoder 'gird'; did you mean 'grid'"):
        open_decoder(Decoder(name="gird"), labels=LABELS)
    with pytest.raises(StageError, match="no decoder '%'; known are grid"):
        open_decoder(Decoder(name="%"), labels=LABELS)
