"""Folders as the tools in use lay them out, each written by hand here after the tool's own documentation."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from compress.data.formats import detect_format, list_splits, load_detections, write_detections
from compress.data.formats.places import picture_size
from edgeai.errors import DataError, DataMissingError, EdgeError, UsageError

WIDTH, HEIGHT = 80, 40


def put_file(folder, name, content=None):
    """A text or JSON file, or a picture."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 50, np.uint8))
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def boxes_of(folder, split="train", labels=None, kind="auto"):
    """{picture name: [(label, x1, y1, x2, y2)]}, rounded to 0.1 px."""
    data = load_detections(kind, folder, split, labels)
    return {
        picture.path.name: [
            (data.labels[i], *(round(float(v), 1) for v in box))
            for i, box in zip(picture.class_ids, picture.xyxy_px, strict=True)
        ]
        for picture in data.pictures
    }


COCO = {
    "info": {"year": 2024},
    "categories": [{"id": 7, "name": "weed", "supercategory": "plant"}, {"id": 3, "name": "rice"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 5,
            "category_id": 3,
            "bbox": [1, 2, 10, 20],
            "segmentation": [[1, 2, 3, 4, 5, 6]],
        },
        {"id": 2, "image_id": 5, "category_id": 7, "bbox": [0, 0, 0, 9]},
        {"id": 3, "image_id": 99, "category_id": 7, "bbox": [0, 0, 5, 9]},
    ],
    "images": [{"id": 5, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT, "site": "north", "day": 4}],
}  # annotations before images, as some tools write them; an empty box; one of no picture


@pytest.mark.parametrize(
    "labels, picture, split",
    [
        ("instances_train.json", "images/a.jpg", "train"),
        ("annotations/instances_train2017.json", "train2017/a.jpg", "train"),
        ("annotations/instances_val2017.json", "val2017/a.jpg", "validation"),
        ("annotations/instances_default.json", "images/a.jpg", "all"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "val"),
        ("result.json", "images/a.jpg", "train"),
    ],
)
def test_coco_as_others_lay_it_out(tmp_path, labels, picture, split):
    put_file(tmp_path, labels, COCO)
    put_file(tmp_path, picture)
    assert detect_format(tmp_path) == "coco"
    assert boxes_of(tmp_path, split) == {"a.jpg": [("rice", 1, 2, 11, 22)]}
    data = load_detections("coco", tmp_path, split, None)
    assert data.labels == ("weed", "rice")
    assert data.pictures[0].group == "north 4"


@pytest.mark.parametrize("name", ["/home/ann/set/images/a.jpg", "C:\\set\\images\\a.jpg", "images/a.jpg"])
def test_pictures_named_on_another_machine_are_found_by_the_end_of_their_path(tmp_path, name):
    image = {**COCO["images"][0], "file_name": name}
    put_file(tmp_path, "instances_train.json", {**COCO, "images": [image]})
    put_file(tmp_path, "images/a.jpg")
    assert list(boxes_of(tmp_path)) == ["a.jpg"]


VOC = """<?xml version="1.0"?><annotation verified="yes"><folder>x</folder><filename>{name}</filename>
<size><width>80</width><height>40</height><depth>3</depth></size>
<object><name>person</name><difficult>0</difficult>
  <bndbox><xmin>10</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>
  <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
<object><bndbox><ymax>9</ymax><ymin>1</ymin><xmax>9</xmax><xmin>1</xmin></bndbox><name>dog</name><difficult>1</difficult></object>
</annotation>"""


def test_voc_of_the_challenge(tmp_path):
    for stem in ("2007_1", "2007_2"):
        put_file(tmp_path, f"Annotations/{stem}.xml", VOC.format(name=f"{stem}.jpg"))
        put_file(tmp_path, f"JPEGImages/{stem}.jpg")
    put_file(tmp_path, "ImageSets/Main/train.txt", "2007_1\n")
    put_file(tmp_path, "ImageSets/Main/val.txt", "2007_2  -1\n\n")
    put_file(tmp_path, "ImageSets/Main/person_train.txt", "2007_1 1\n")
    assert list_splits("auto", tmp_path) == ("train", "val")
    assert boxes_of(tmp_path, "val") == {"2007_2.jpg": [("person", 10, 2.5, 30, 20)]}
    data = load_detections("voc", tmp_path, "train", None)
    assert data.labels == ("dog", "person")
    assert data.pictures[0].crowd_px.tolist() == [[1, 1, 9, 9]]
    with pytest.raises(DataMissingError, match=r"no split 'test'; there is train, val"):
        load_detections("voc", tmp_path, "test", None)


@pytest.mark.parametrize("split", ["train", "all"])
def test_voc_files_beside_their_pictures(tmp_path, split):
    put_file(tmp_path, "b.xml", VOC.format(name="old-name.jpg").replace("<width>80", "<width>0"))
    put_file(tmp_path, "b.png")
    assert boxes_of(tmp_path, split, ["person"]) == {"b.png": [("person", 10, 2.5, 30, 20)]}
    with pytest.raises(DataMissingError, match="no splits"):
        load_detections("voc", tmp_path, "val", None)


def test_voc_in_a_folder_a_split(tmp_path):
    put_file(tmp_path, "train/a.xml", VOC.format(name="a.jpg"))
    put_file(tmp_path, "valid/b.xml", VOC.format(name="b.jpg").replace("person", "cow"))
    put_file(tmp_path, "train/a.jpg")
    put_file(tmp_path, "valid/b.jpg")
    assert list(boxes_of(tmp_path, "val")) == ["b.jpg"]
    assert load_detections("auto", tmp_path, "train", None).labels == ("cow", "dog", "person")
    assert boxes_of(tmp_path, "train", ["cow"]) == {"a.jpg": []}, "a class of another split is known"


LINES = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.3 0.1 0.2 0.4\n0 0.5 0.5 0.5 0.5 0.75\n"
YOLO_BOXES = [("weed", 30, 10, 50, 30), ("rice", 8, 4, 24, 16), ("weed", 20, 10, 60, 30)]


@pytest.mark.parametrize(
    "picture, text, more, split",
    [
        ("images/train/a.jpg", "labels/train/a.txt", {"data.yaml": "{path: ../datasets/x, train: images/train, val: images/val, names: [weed, rice]}"}, "train"),
        ("train/images/a.jpg", "train/labels/a.txt", {"data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: {0: weed, 1: rice}"}, "train"),
        ("valid/images/a.jpg", "valid/labels/a.txt", {"data.yaml": "train: /content/x/train/images\nval: /content/x/valid/images\nnames:\n- weed\n- rice"}, "val"),
        ("images/a.jpg", "labels/a.txt", {"classes.txt": "weed\nrice\n", "notes.json": "{}"}, "all"),
        ("obj_train_data/a.jpg", "obj_train_data/a.txt", {"obj.names": "weed\nrice\n", "train.txt": "data/obj_train_data/a.jpg\n"}, "train"),
        ("pictures/a.jpg", "pictures/a.txt", {"data.yaml": "train: train.txt\nnames: [weed, rice]", "train.txt": "./pictures/a.jpg\n"}, "train"),
    ],
)  # fmt: skip
def test_yolo_as_others_lay_it_out(tmp_path, picture, text, more, split):
    put_file(tmp_path, picture)
    put_file(tmp_path, text, LINES)
    for name, content in more.items():
        put_file(tmp_path, name, content)
    assert detect_format(tmp_path) == "yolo"
    assert boxes_of(tmp_path, split) == {"a.jpg": YOLO_BOXES}
    assert load_detections("yolo", tmp_path, split, None).pictures[0].scores.tolist() == [1, 1, 0.75]


@pytest.mark.parametrize(
    "line, told",
    [
        ("0 0.5 0.5", "line 2: 3 numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not among the 2"),
        ("0.5 0.5 0.5 0.1 0.1", r"class 0\.5"),
        ("0 nan 0.5 0.1 0.1", "fractions"),
        ("0 120 60 40 20", "fractions"),
        ("weed 0.5 0.5 0.1 0.1", "line 2: could not convert"),
    ],
)
def test_a_wrong_yolo_line_is_told_by_number(tmp_path, line, told):
    put_file(tmp_path, "images/a.jpg")
    put_file(tmp_path, "labels/a.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    put_file(tmp_path, "classes.txt", "weed\nrice")
    with pytest.raises(DataError, match=told):
        load_detections("yolo", tmp_path, "all", None)


def rectangle(label="weed", **value):
    return {
        "value": {
            "x": 25,
            "y": 50,
            "width": 50,
            "height": 25,
            "rotation": 0,
            "rectanglelabels": [label],
            **value,
        }
    }


def task(image, *, annotations=None, predictions=None, **data):
    return {
        "data": {"image": image, **data},
        "annotations": annotations or [],
        "predictions": predictions or [],
    }


WEED = ("weed", 20, 20, 60, 30)


@pytest.mark.parametrize(
    "url, there",
    [
        ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "images/0a1b2c3d-a.jpg"),
        ("/data/local-files/?d=field/north%20side/a.jpg", "north side/a.jpg"),
        ("/data/upload/1/0a1b2c3d-my_a_1.jpg", "photos/my a (1).jpg"),
        ("https://host.example/b/a.jpg?X-Amz=1", "images/a.jpg"),
        ("s3://bucket/field/a.jpg", "a.jpg"),
    ],
)
def test_label_studio_finds_pictures_by_their_url(tmp_path, url, there):
    put_file(tmp_path, "project-1-at-2024.json", [task(url, annotations=[{"result": [rectangle()]}])])
    put_file(tmp_path, there)
    assert detect_format(tmp_path) == "label-studio"
    assert boxes_of(tmp_path, "all") == {there.rsplit("/", 1)[-1]: [WEED]}


def test_label_studio_takes_a_persons_word_before_a_models(tmp_path, capsys):
    for stem in "abcd":
        put_file(tmp_path, f"{stem}.jpg")
    cancelled = {"result": [rectangle("rice")], "was_cancelled": True}
    guess = {"result": [{**rectangle(), "score": 0.25}], "model_version": "v1"}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    tasks = [
        task(
            "a.jpg", annotations=[{"result": [rectangle("rice"), relation]}, cancelled], predictions=[guess]
        ),
        task("b.jpg", predictions=[guess], group="north"),
        task("c.jpg", annotations=[{"result": []}]),
        task("d.jpg"),
    ]
    put_file(tmp_path, "tasks.json", tasks)
    data = load_detections("auto", tmp_path, "train", None)
    assert data.labels == ("rice", "weed")
    assert [p.path.stem for p in data.pictures] == ["a", "b", "c"]
    assert [p.scores.tolist() for p in data.pictures] == [[1], [0.25], []]
    assert [p.group for p in data.pictures] == ["", "north", ""]
    assert "1 tasks have no annotation yet" in capsys.readouterr().err


TURNED = [
    (rectangle(rotation=90), ("weed", 10, 20, 20, 60)),
    ({"value": {"points": [[25, 50], [75, 50], [50, 75]], "polygonlabels": ["weed"]}}, WEED),
    (
        {"value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "ellipselabels": ["weed"]}},
        ("weed", 32, 16, 48, 24),
    ),
]


@pytest.mark.parametrize("result, expected", TURNED, ids=["turned", "polygon", "ellipse"])
def test_label_studio_shapes_become_the_box_around_them(tmp_path, result, expected):
    put_file(tmp_path, "a.jpg")
    put_file(tmp_path, "tasks.json", [task("a.jpg", annotations=[{"result": [result]}])])
    assert boxes_of(tmp_path) == {"a.jpg": [expected]}


def test_label_studio_min_export_is_told(tmp_path):
    put_file(tmp_path, "min.json", [{"image": "a.jpg", "label": []}])
    with pytest.raises(DataError, match="JSON-MIN; export as JSON"):
        load_detections("auto", tmp_path, "all", None)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><project><id>4</id>
<tasks><task><id>11</id><name>north</name></task><task><id>12</id><name>south</name></task></tasks>
<labels><label><name>weed</name><color>#00ff00</color><attributes></attributes></label><label><name>rice</name></label></labels>
</project></meta>
<image id="0" name="field/a.jpg" subset="Train" task_id="11" width="80" height="40">
  <box label="weed" source="manual" occluded="0" xtl="20.00" ytl="10.00" xbr="60.00" ybr="30.00" z_order="0"><attribute name="age">3</attribute></box>
  <polygon label="rice" points="1.00,2.00;11.00,2.00;5.00,9.00" occluded="0"></polygon>
  <tag label="windy"></tag></image>
<image id="1" name="b.jpg" subset="Validation" task_id="12" width="80" height="40">
  <box label="weed" xtl="30" ytl="10" xbr="50" ybr="30" rotation="90.0"/>
  <ellipse label="rice" cx="20" cy="20" rx="5" ry="2"/></image>
</annotations>"""


def test_cvat_project(tmp_path):
    put_file(tmp_path, "annotations.xml", CVAT)
    put_file(tmp_path, "images/field/a.jpg")
    put_file(tmp_path, "images/Validation/b.jpg")
    assert list_splits("auto", tmp_path) == ("Train", "Validation")
    assert boxes_of(tmp_path) == {"a.jpg": [("weed", 20, 10, 60, 30), ("rice", 1, 2, 11, 9)]}
    assert boxes_of(tmp_path, "val") == {"b.jpg": [("weed", 30, 10, 50, 30), ("rice", 15, 18, 25, 22)]}
    data = load_detections("cvat", tmp_path, "train", None)
    assert (data.labels, data.pictures[0].group) == (("weed", "rice"), "task 11")


def test_cvat_for_video_is_told(tmp_path):
    put_file(tmp_path, "annotations.xml", '<annotations><track id="0" label="weed"></track></annotations>')
    with pytest.raises(DataError, match="for video; export as CVAT for images"):
        load_detections("auto", tmp_path, "all", None)


def test_a_folder_of_nothing_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"coco: instances_<split>.json; voc: Annotations"):
        detect_format(tmp_path)
    with pytest.raises(DataMissingError, match="no folder"):
        detect_format(tmp_path / "none")
    put_file(tmp_path, "export.json", "[]")
    with pytest.raises(DataError, match="is a file; give the folder"):
        load_detections("auto", tmp_path / "export.json", "all", None)
    with pytest.raises(UsageError, match="unknown format 'tfrecord'; there is coco, voc"):
        load_detections("tfrecord", tmp_path, "all", None)


def test_a_class_that_the_folders_own_list_lacks_is_told(tmp_path):
    put_file(
        tmp_path, "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:1,2,3::\n"
    )
    put_file(tmp_path, "Annotations/a.xml", VOC.format(name="a.jpg"))
    put_file(tmp_path, "JPEGImages/a.jpg")
    with pytest.raises(DataError, match=r"labelmap\.txt does not list 'dog', which boxes are of; add it"):
        load_detections("voc", tmp_path, "train", None)
    assert load_detections("voc", tmp_path, "train", ["person"]).labels == ("person",)


def test_two_formats_in_a_folder_are_told(tmp_path):
    put_file(tmp_path, "instances_train.json", COCO)
    put_file(tmp_path, "classes.txt", "weed")
    with pytest.raises(DataError, match="coco and yolo"):
        detect_format(tmp_path)


def test_pictures_that_would_share_a_name_are_renamed(tmp_path):
    put_file(tmp_path, "north/images/a.jpg")
    put_file(tmp_path, "south/images/a.jpg")
    put_file(tmp_path, "west/images/a.png")
    for number, place in enumerate(("north", "south", "west"), 1):
        name = "a.png" if place == "west" else "a.jpg"
        coco = {
            "images": [{"id": 1, "file_name": name, "width": WIDTH, "height": HEIGHT}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [number, 0, 9, 9]}],
            "categories": [{"id": 1, "name": "weed"}],
        }
        put_file(tmp_path, f"{place}/instances_train.json", coco)
    from compress.data.detection import join_sets

    joined = join_sets(
        [load_detections("coco", tmp_path / p, "train", None) for p in ("north", "south", "west")]
    )
    for kind in ("voc", "yolo", "coco"):
        out = tmp_path / kind
        for _ in range(2):  # the second run finds its own pictures there
            write_detections(kind, out, "train", joined)
            found = boxes_of(out)
            assert len(found) == 3
            assert sorted(b[0][1] for b in found.values()) == [1, 2, 3]


def test_a_turned_picture_has_the_size_that_it_is_decoded_to(tmp_path):
    _, plain = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    turned = (
        b"\xff\xd8\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    )
    (tmp_path / "a.jpg").write_bytes(turned + plain.tobytes()[2:])
    height, width = cv2.imread(str(tmp_path / "a.jpg")).shape[:2]
    assert picture_size(tmp_path / "a.jpg") == (width, height) == (HEIGHT, WIDTH)
    for suffix in (".png", ".bmp", ".webp", ".tif"):
        put_file(tmp_path, f"b{suffix}")
        assert picture_size(tmp_path / f"b{suffix}") == (WIDTH, HEIGHT)
    (tmp_path / "c.jpg").write_bytes(b"<svg width='9' height='9'/>")
    with pytest.raises(DataError, match="no picture"):
        picture_size(tmp_path / "c.jpg")


@pytest.mark.parametrize("label", ["", " a", "a\nb", "x" * 201, "a\u200b"])
def test_a_label_that_no_file_can_hold_is_refused(tmp_path, label):
    put_file(tmp_path, "in/instances_train.json", COCO)
    put_file(tmp_path, "in/images/a.jpg")
    data = load_detections("auto", tmp_path / "in", "train", None)
    with pytest.raises(EdgeError, match="printable"):
        write_detections("voc", tmp_path / "out", "train", type(data)((label, "rice"), data.pictures))


@pytest.mark.data
@pytest.mark.parametrize("name", ["rice_weeds", "coco_80class"])
def test_real_folders_through_every_format(shared_data, tmp_path, name):
    first = load_detections("auto", shared_data / name, "train", None)
    before = {p.path.name: p for p in first.pictures}
    data = first
    for kind in ("voc", "label-studio", "cvat", "yolo", "coco"):
        write_detections(kind, tmp_path / kind, "train", data, pictures="link")
        data = load_detections("auto", tmp_path / kind, "train", first.labels)
    assert len(data) == len(first)
    for picture in data.pictures:
        one = before[picture.path.name]
        assert picture.class_ids.tolist() == one.class_ids.tolist()
        np.testing.assert_allclose(picture.xyxy_px, one.xyxy_px, atol=0.05)
