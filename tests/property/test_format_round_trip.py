"""What is written in a format comes back: classes, boxes within rounding, and what else the format says that it keeps."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.detection import DetectionSet, LabelledPicture
from compress.data.formats import (
    DETECTION_FORMATS,
    detect_format,
    list_splits,
    load_detections,
    write_detections,
)

WIDTH, HEIGHT = 40, 30
LABEL_SETS = [("weed",), ("b", "a"), ("Łąka & <b>", 'it\'s "2"', "ß 日本", "0", "yes")]
MAX_PICTURES = 3
ROUNDING_PX = 0.02


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / name for name in ("a.jpg", "a b (2).png", "ü-3.jpg")]
    for path in paths:
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return paths


coordinates = st.integers(-100, 4100).map(lambda hundredths: hundredths / 100)
boxes = st.tuples(coordinates, coordinates, st.integers(10, 4000), st.integers(10, 4000)).map(
    lambda b: (b[0], b[1], b[0] + b[2] / 100, b[1] + b[3] / 100)
)


@st.composite
def sets(draw):
    labels = draw(st.sampled_from(LABEL_SETS))
    described = []
    for _ in range(draw(st.integers(1, MAX_PICTURES))):
        own = draw(
            st.lists(st.tuples(boxes, st.integers(0, len(labels) - 1), st.integers(1, 100)), max_size=3)
        )
        crowd = draw(st.lists(boxes, max_size=1))
        described.append((own, crowd, draw(st.sampled_from(["", "field 3", "day-1"]))))
    return labels, described


def made(pictures, labels, described) -> DetectionSet:
    return DetectionSet(
        labels,
        tuple(
            LabelledPicture(
                path,
                WIDTH,
                HEIGHT,
                np.array([box for box, _, _ in own], np.float32).reshape(-1, 4),
                np.array([class_id for _, class_id, _ in own], np.int32),
                np.array([score / 100 for _, _, score in own], np.float32),
                np.array(crowd, np.float32).reshape(-1, 4),
                group,
            )
            for path, (own, crowd, group) in zip(pictures, described, strict=False)
        ),
    )


@pytest.mark.parametrize("kind", DETECTION_FORMATS)
@settings(max_examples=25)
@given(drawn=sets(), split=st.sampled_from(["train", "val", "test"]))
def test_a_set_comes_back_as_it_was_written(pictures, kind, drawn, split):
    labels, described = drawn
    before = made(pictures, labels, described)
    keeps = DETECTION_FORMATS[kind].keeps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in write_detections(kind, folder, split, before, pictures="link"):
            assert path.exists()
        assert detect_format(folder) == kind
        assert list_splits(kind, folder) == (split,)
        after = load_detections("auto", folder, split, None)
        assert after.labels == labels
        found = {picture.path.name: picture for picture in after.pictures}
        assert sorted(found) == sorted(picture.path.name for picture in before.pictures)
        for one in before.pictures:
            other = found[one.path.name]
            assert (other.width, other.height) == (WIDTH, HEIGHT)
            assert other.class_ids.tolist() == one.class_ids.tolist()
            np.testing.assert_allclose(other.xyxy_px, one.xyxy_px, atol=ROUNDING_PX)
            np.testing.assert_allclose(
                other.crowd_px, one.crowd_px if "crowd" in keeps else np.empty((0, 4)), atol=ROUNDING_PX
            )
            scores = one.scores if "score" in keeps else np.ones(len(one.scores))
            np.testing.assert_allclose(other.scores, scores, atol=1e-4)
            assert other.group == (one.group if "group" in keeps else "")


@pytest.mark.parametrize("kind", DETECTION_FORMATS)
@settings(max_examples=8)
@given(drawn=sets())
def test_wanted_labels_choose_and_order_the_classes(pictures, kind, drawn):
    labels, described = drawn
    before = made(pictures, labels, described)
    wanted = tuple(reversed(labels))[:2]
    with tempfile.TemporaryDirectory() as name:
        write_detections(kind, Path(name), "train", before, pictures="link")
        after = load_detections(kind, Path(name), "train", wanted)
    assert after.labels == wanted
    for one in before.pictures:
        other = next(picture for picture in after.pictures if picture.path.name == one.path.name)
        expected = [labels[i] for i in one.class_ids if labels[i] in wanted]
        assert [wanted[i] for i in other.class_ids] == expected
