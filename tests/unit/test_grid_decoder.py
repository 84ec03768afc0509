"""The grid decoder against a plain loop over cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.errors import StageError
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import Placement, place

WIDTH, HEIGHT, STRIDES = 96, 64, (8, 16, 32)
SPEC = ImageInput(width=WIDTH, height=HEIGHT)
PLACEMENT: Placement = place(WIDTH, HEIGHT, SPEC)
LABELS = ("a", "b", "c")


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def plain(outputs, *, activation, has_object, threshold):
    """(x1, y1, x2, y2, score, class) of every cell above the threshold, best first, no NMS; from maps."""
    rows = []
    for stride in STRIDES:
        for j in range(-(-HEIGHT // stride)):
            for i in range(-(-WIDTH // stride)):
                x, y, w, h = (float(v) for v in outputs[f"box_{stride}"][0, j, i])
                raw = [float(v) for v in outputs[f"class_{stride}"][0, j, i]]
                scores = [sigmoid(v) for v in raw] if activation == "sigmoid" else raw
                score, class_id = max(scores), scores.index(max(scores))
                if has_object:
                    o = float(outputs[f"object_{stride}"][0, j, i, 0])
                    score *= sigmoid(o) if activation == "sigmoid" else o
                if score < threshold:
                    continue
                cx, cy, bw, bh = (
                    (x + i) * stride,
                    (y + j) * stride,
                    math.exp(w) * stride,
                    math.exp(h) * stride,
                )
                box = (
                    max(cx - bw / 2, 0),
                    max(cy - bh / 2, 0),
                    min(cx + bw / 2, WIDTH),
                    min(cy + bh / 2, HEIGHT),
                )
                if box[2] > box[0] and box[3] > box[1]:
                    rows.append((*box, score, class_id))
    return sorted(rows, key=lambda row: -row[4])


def random_maps(seed: int, *, activation: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    outputs = {}
    for stride in STRIDES:
        shape = (1, -(-HEIGHT // stride), -(-WIDTH // stride))
        outputs[f"box_{stride}"] = rng.normal(0, 0.8, (*shape, 4)).astype(np.float32)
        for name, channels in (("object", 1), ("class", 3)):
            values = (
                rng.normal(0, 2, (*shape, channels))
                if activation == "sigmoid"
                else rng.random((*shape, channels))
            )
            outputs[f"{name}_{stride}"] = values.astype(np.float32)
    return outputs


def as_flat(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = [
        np.concatenate(
            [
                outputs[f"{name}_{s}"].reshape(1, -1, c)
                for name, c in (("box", 4), ("object", 1), ("class", 3))
            ],
            2,
        )
        for s in STRIDES
    ]
    return {"output": np.concatenate(parts, axis=1)}


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
@pytest.mark.parametrize("layout", ["maps", "maps-no-object", "flat"])
def test_boxes_and_scores_are_those_of_a_plain_loop(layout, activation):
    names = {part: [f"{part}_{stride}" for stride in STRIDES] for part in ("box", "object", "class")}
    has_object = layout != "maps-no-object"
    params = {
        "width": WIDTH,
        "height": HEIGHT,
        "activation": activation,
        "nms_iou": 1.0,
        "max_detections": 1000,
    }
    if layout != "flat":
        params |= {"layout": "maps", "maps": names if has_object else names | {"object": []}}
    decoder = open_decoder(Decoder(name="grid", params=params | {"score_threshold": 0.25}), labels=LABELS)
    for seed in range(5):
        outputs = random_maps(seed, activation=activation)
        wanted = np.array(plain(outputs, activation=activation, has_object=has_object, threshold=0.25))
        found = decoder.decode(as_flat(outputs) if layout == "flat" else outputs, PLACEMENT)
        assert len(wanted) > 5
        assert len(found) == len(wanted)
        np.testing.assert_allclose(found.scores, wanted[:, 4], rtol=1e-5)
        np.testing.assert_allclose(found.xyxy_px, wanted[:, :4], atol=1e-3)
        np.testing.assert_array_equal(found.class_ids, wanted[:, 5])


def test_more_candidates_than_the_cap_keep_the_best():
    outputs = {"output": np.zeros((1, 3549, 6), np.float32)}
    rng = np.random.default_rng(0)
    outputs["output"][0, :, 4] = scores = rng.uniform(0.5, 1, 3549).astype(np.float32)
    outputs["output"][0, :, 5] = 1.0
    outputs["output"][0, :, 2:4] = -3.0
    params = {"width": 416, "height": 416, "max_detections": 1000}
    decoder = open_decoder(Decoder(name="grid", params=params), labels=("x",))
    found = decoder.decode(outputs, place(416, 416, ImageInput(width=416, height=416)))
    # tiny boxes in the corner of their cells; three strides share some corners, the rest do not overlap
    assert found.scores[0] == scores.max()
    assert 700 < len(found) <= 1000
    assert found.scores.min() >= np.sort(scores)[-1000]


def test_a_threshold_of_zero_keeps_every_cell():
    outputs = {"output": np.zeros((1, 126, 8), np.float32)}
    params = {
        "width": WIDTH,
        "height": HEIGHT,
        "score_threshold": 0.0,
        "nms_iou": 1.0,
        "max_detections": 1000,
    }
    assert (
        len(open_decoder(Decoder(name="grid", params=params), labels=LABELS).decode(outputs, PLACEMENT))
        == 126
    )
    params["activation"] = "sigmoid"
    assert (
        len(open_decoder(Decoder(name="grid", params=params), labels=LABELS).decode(outputs, PLACEMENT))
        == 126
    )


def test_labels_must_fit_the_model():
    params = {"width": WIDTH, "height": HEIGHT}
    outputs = {"output": np.zeros((1, 126, 85), np.float32)}
    with pytest.raises(StageError, match=r"80 classes, the bundle has 1 labels.*keep_classes"):
        open_decoder(Decoder(name="grid", params=params), labels=["person"]).decode(outputs, PLACEMENT)
    params["keep_classes"] = [80]
    with pytest.raises(StageError, match="asks for class 80"):
        open_decoder(Decoder(name="grid", params=params), labels=["person"]).decode(outputs, PLACEMENT)


def test_the_flat_output_must_be_named_among_several():
    outputs = {name: np.zeros((1, 126, 8), np.float32) for name in ("x", "y")}
    params = {"width": WIDTH, "height": HEIGHT}
    with pytest.raises(StageError, match="2 outputs"):
        open_decoder(Decoder(name="grid", params=params), labels=LABELS).decode(outputs, PLACEMENT)
    named = open_decoder(Decoder(name="grid", params=params | {"output": "y"}), labels=LABELS)
    assert len(named.decode(outputs, PLACEMENT)) == 0


@pytest.mark.parametrize(
    "params",
    [
        {"layout": "maps"},
        {"maps": {"box": ["a"] * 3, "class": ["b"] * 3}},
        {"layout": "maps", "maps": {"box": ["a"], "class": ["b"] * 3}},
        {"layout": "maps", "maps": {"box": ["a"] * 3, "class": ["b"] * 3, "object": ["c"]}},
        {"layout": "maps", "maps": {"box": ["a"] * 3, "klass": ["b"] * 3}},
        {"strides": []},
        {"strides": [0]},
        {"activation": "softmax"},
    ],
)
def test_parameters_that_do_not_fit_each_other_are_refused(params):
    with pytest.raises(StageError):
        open_decoder(Decoder(name="grid", params={"width": 64, "height": 64} | params), labels=LABELS)
