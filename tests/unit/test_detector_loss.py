"""The training side of a grid head says what the device's decoder says, and its losses point the right way."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress

STRIDES = (8, 16)
SIZE = 64


def maps_of(seed, *, objects=True, classes=2):
    rng = np.random.default_rng(seed)
    maps = {}
    for stride in STRIDES:
        cells = (1, SIZE // stride, SIZE // stride)
        maps[f"box_{stride}"] = rng.normal(0, 0.7, (*cells, 4)).astype(np.float32)
        maps[f"class_{stride}"] = rng.normal(-1, 2, (*cells, classes)).astype(np.float32)
        if objects:
            maps[f"object_{stride}"] = rng.normal(-1, 2, (*cells, 1)).astype(np.float32)
    return maps


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_and_scores_are_those_of_the_device(seed, objects):
    from compress.train.detector_loss import decode_boxes, score_logs
    from edgeai.bundle.manifest import Decoder, ImageInput
    from edgeai.stages.decoders import open_decoder
    from edgeai.stages.letterbox import place

    maps = maps_of(seed, objects=objects)
    names = {kind: [f"{kind}_{s}" for s in STRIDES] for kind in ("box", "class", "object")}
    if not objects:
        del names["object"]
    params = {
        "width": SIZE,
        "height": SIZE,
        "strides": list(STRIDES),
        "layout": "maps",
        "activation": "sigmoid",
        "maps": names,
        "score_threshold": 0.0,
        "nms_iou": 1.0,
        "max_detections": 1000,
    }
    decoder = open_decoder(Decoder(name="grid", params=params), labels=("a", "b"))
    found = decoder.decode(maps, place(SIZE, SIZE, ImageInput(width=SIZE, height=SIZE)))
    ours_boxes, ours_scores, ours_classes = [], [], []
    for stride in STRIDES:
        scores = np.exp(score_logs(maps, stride)[0].numpy()).reshape(-1, 2)
        ours_boxes.append(decode_boxes(maps[f"box_{stride}"], stride).numpy().reshape(-1, 4))
        ours_scores.append(scores.max(1))
        ours_classes.append(scores.argmax(1))
    boxes, scores, classes = (np.concatenate(p) for p in (ours_boxes, ours_scores, ours_classes))
    boxes = np.clip(boxes, 0, SIZE)
    # both in the order of the scores; the device drops what has no area after clipping
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = [i for i in np.argsort(-scores, kind="stable") if area[i] > 0]
    matched = 0
    for box, score, class_id in zip(found.xyxy_px, found.scores, found.class_ids, strict=True):
        near = [
            i
            for i in order
            if abs(scores[i] - score) < 1e-4
            and classes[i] == class_id
            and np.abs(boxes[i] - box).max() < 1e-2
        ]
        assert near, f"the device found {box} {score}, training knows no such cell"
        matched += 1
    assert matched >= 0.9 * len(order)


def plain_giou(a, b):
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return inter / union - (hull - union) / hull


def test_giou_is_the_papers_formula():
    from compress.train.detector_loss import giou

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 90, (200, 2, 2))
    sides = rng.uniform(1, 40, (200, 2, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    got = giou(boxes[:, 0], boxes[:, 1]).numpy()
    wanted = [plain_giou(*pair) for pair in boxes.astype(float)]
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    np.testing.assert_allclose(giou(boxes[:, 0], boxes[:, 0]).numpy(), 1, atol=1e-4)


def test_the_right_answer_costs_least():
    from compress.train.detector_loss import label_loss
    from compress.train.grid_targets import grid_targets

    box = np.array([[8, 8, 40, 40]], np.float32)
    made = grid_targets(
        box,
        np.zeros(1, np.int32),
        np.ones(1, np.float32),
        np.empty((0, 4), np.float32),
        height=SIZE,
        width=SIZE,
        classes=1,
        strides=STRIDES,
    )
    targets = {name: value[None] for name, value in made.items()}
    right, wrong = {}, {}
    for stride in STRIDES:
        cells = SIZE // stride
        rows, columns = np.mgrid[:cells, :cells]
        maps = targets[f"box_{stride}"]
        centre = (maps[..., :2] + maps[..., 2:]) / 2 / stride - np.stack([columns, rows], -1)
        side = np.log(np.maximum(maps[..., 2:] - maps[..., :2], 1) / stride)
        right[f"box_{stride}"] = np.concatenate([centre, side], -1).astype(np.float32)
        right[f"class_{stride}"] = np.where(targets[f"score_{stride}"] > 0, 9.0, -9.0).astype(np.float32)
        wrong[f"box_{stride}"] = right[f"box_{stride}"] + 1
        wrong[f"class_{stride}"] = -right[f"class_{stride}"]
    best = float(label_loss(right, targets, STRIDES))
    assert best < 0.01
    assert best < float(label_loss({**right, "box_8": wrong["box_8"]}, targets, STRIDES))
    assert float(label_loss(wrong, targets, STRIDES)) > 1


@pytest.mark.parametrize("value", [-80.0, 80.0])
def test_wild_logits_cost_much_and_stay_finite(value):
    from compress.train.detector_loss import label_loss, teacher_loss

    maps = {name: np.full_like(array, value) for name, array in maps_of(0).items()}
    targets = {}
    for stride in STRIDES:
        cells = (1, SIZE // stride, SIZE // stride)
        targets |= {
            f"score_{stride}": np.zeros((*cells, 2), np.float32),
            f"box_{stride}": np.zeros((*cells, 4), np.float32),
            f"weight_{stride}": np.ones((*cells, 1), np.float32),
        }
    assert np.isfinite(float(label_loss(maps, targets, STRIDES)))
    assert np.isfinite(float(teacher_loss(maps, maps_of(1), STRIDES)))


def test_a_teacher_that_sees_nothing_gives_no_huge_loss():
    from compress.train.detector_loss import teacher_loss

    blind = maps_of(0)
    blind |= {name: np.full_like(a, -9.0) for name, a in blind.items() if not name.startswith("box")}
    assert float(teacher_loss(blind, blind, STRIDES)) < 1
