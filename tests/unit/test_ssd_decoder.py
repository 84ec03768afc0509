"""The decoder for NMS inside: offsets, counts and classes without a label."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.errors import StageError
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import place

NAME = "TFLite_Detection_PostProcess"


def outputs(boxes, classes, scores, count=None):
    return {
        NAME: np.array([boxes], np.float32),
        f"{NAME}:1": np.array([classes], np.float32),
        f"{NAME}:2": np.array([scores], np.float32),
        f"{NAME}:3": np.array([len(boxes) if count is None else count], np.float32),
    }


def decode(given, labels=("a", "b", "c"), resize="stretch", **params):
    decoder = open_decoder(Decoder(name="ssd", params={"width": 300, "height": 300, **params}), labels=labels)
    return decoder.decode(given, place(600, 200, ImageInput(width=300, height=300, resize=resize)))


BOX = [0.1, 0.2, 0.3, 0.4]  # y1 x1 y2 x2


def test_corners_change_places_and_scale_to_the_source():
    found = decode(outputs([BOX], [1], [0.9]))
    np.testing.assert_allclose(found.xyxy_px, [[120, 20, 240, 60]], rtol=1e-5)
    assert found.class_ids.tolist() == [1]
    # letterboxed: 300 x 100 of the 300 x 300, so the same fractions are three times as high
    np.testing.assert_allclose(
        decode(outputs([BOX], [1], [0.9]), resize="letterbox").xyxy_px, [[120, 60, 240, 180]], rtol=1e-5
    )


def test_rows_beyond_the_count_are_none():
    assert len(decode(outputs([BOX] * 4, [0] * 4, [0.9] * 4, count=2))) == 2
    assert len(decode(outputs([BOX] * 4, [0] * 4, [0.9] * 4, count=99))) == 4
    assert len(decode(outputs([BOX] * 4, [0] * 4, [0.9] * 4, count=-1))) == 0
    assert len(decode(outputs([BOX] * 4, [0] * 4, [0.9] * 4, count=1), count="")) == 4


def test_the_best_come_first():
    found = decode(outputs([BOX] * 3, [0, 1, 2], [0.5, 0.9, 0.7]), max_detections=2)
    assert found.class_ids.tolist() == [1, 2]


@pytest.mark.parametrize(("offset", "left"), [(0, [0, 2]), (1, [1]), (-1, [1])])
def test_classes_without_a_label_are_dropped(offset, left):
    found = decode(outputs([BOX] * 3, [0, 2, 90], [0.9, 0.8, 0.7]), class_offset=offset)
    assert found.class_ids.tolist() == left


def test_kept_classes_are_counted_after_the_offset():
    found = decode(
        outputs([BOX] * 3, [0, 1, 2], [0.9, 0.8, 0.7]), ("dog", "cat"), class_offset=1, keep_classes=[3, 1]
    )
    assert found.class_ids.tolist() == [1, 0]


def test_parts_must_be_of_one_length():
    given = outputs([BOX] * 3, [0, 1, 2], [0.9, 0.8, 0.7])
    given[f"{NAME}:2"] = np.zeros((1, 2), np.float32)
    with pytest.raises(StageError, match="like the boxes"):
        decode(given)
