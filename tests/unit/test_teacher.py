"""Teachers as black boxes: what does not fit is said at once, and mirrored views are merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_keyword_bundle, write_picture_bundle

from compress.data.detection import DetectionSet, LabelledPicture
from compress.distill.teacher import TeacherDetector, soften
from compress.recipe import Teacher
from edgeai.errors import DataMissingError, EdgeError, RecipeError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models"


def teacher(**changes):
    fields = {
        "file": "picture_float32.tflite",
        "input": {"kind": "image", "width": 16, "height": 16, "std": [255.0] * 3},
        "decoder": {"name": "grid", "params": {"width": 16, "height": 16, "strides": [8]}},
    }
    return Teacher.model_validate({**fields, **changes})


WRONG = {
    "outputs": (teacher(), r"teacher picture_float32.tflite: .*output"),
    "decoder": (teacher(decoder={"name": "gird"}), r"no decoder 'gird'"),
    "picture size": (teacher(input={"kind": "image", "width": 32, "height": 32}), r"picture_float32.tflite"),
}


@pytest.mark.parametrize("settings, told", WRONG.values(), ids=WRONG)
def test_a_teacher_that_does_not_fit_is_said_at_once(settings, told):
    with pytest.raises(RecipeError, match=told):
        TeacherDetector(settings, ("a",), data_root=GOLDEN)


def test_an_absent_or_foreign_file_is_said(tmp_path):
    with pytest.raises(DataMissingError, match="no teacher at"):
        TeacherDetector(teacher(), ("a",), data_root=tmp_path)
    (tmp_path / "picture_float32.tflite").write_bytes(b"no model")
    with pytest.raises(EdgeError):
        TeacherDetector(teacher(), ("a",), data_root=tmp_path)


def test_a_bundle_must_find_what_the_recipe_wants(tmp_path):
    write_picture_bundle(tmp_path / "pictures")
    write_keyword_bundle(tmp_path / "words")
    for name in ("pictures", "words"):
        settings = Teacher(bundle=str(tmp_path / name))
        with pytest.raises(RecipeError, match="the recipe wants person"):
            TeacherDetector(settings, ("person",), data_root=tmp_path)


def labelled(scores):
    n = len(scores)
    return LabelledPicture(
        Path("x.jpg"),
        9,
        9,
        np.zeros((n, 4), np.float32),
        np.zeros(n, np.int32),
        np.array(scores, np.float32),
        np.empty((0, 4), np.float32),
    )


def test_scores_become_targets_between_half_and_one():
    made = soften(DetectionSet(("a",), (labelled([0.2, 0.3, 0.4, 0.5, 0.9]),)), floor=0.3, full=0.5)
    np.testing.assert_allclose(made.pictures[0].scores, [0.5, 0.5, 0.75, 1, 1], atol=1e-6)
    for floor, full in ((0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.5)):
        with pytest.raises(RecipeError, match="teacher scores"):
            soften(made, floor=floor, full=full)


@pytest.mark.data
def test_a_real_teacher_finds_people_in_its_mirror_too(shared_data):
    from compress.data.detection import read_picture
    from compress.data.formats.coco import load_coco

    settings = teacher(
        file="models/detectors/yolox_nano_coco_416.onnx",
        input={"kind": "image", "name": "images", "width": 416, "height": 416, "layout": "NCHW"},
        decoder={"name": "grid", "params": {"width": 416, "height": 416, "keep_classes": [0]}},
    )
    picture = next(
        p for p in load_coco(shared_data / "coco_people", "test", ["person"]).pictures if len(p.xyxy_px) == 1
    )
    image = read_picture(picture.path)
    with TeacherDetector(settings, ("person",), data_root=shared_data) as detect:
        both, mirrored = detect(image), detect(np.ascontiguousarray(image[:, ::-1]))
    width = image.shape[1]
    assert len(both) == len(mirrored)
    np.testing.assert_allclose(np.sort(both.scores), np.sort(mirrored.scores), atol=1e-3)
    np.testing.assert_allclose(np.sort(both.xyxy_px[:, 0]), np.sort(width - mirrored.xyxy_px[:, 2]), atol=0.5)
