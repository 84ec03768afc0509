"""Whatever a label file holds, reading it gives a set or one EdgeError, never memory or a file outside its folder."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.detection import DetectionSet, LabelledPicture
from compress.data.formats import DETECTION_FORMATS, detect_format, load_detections, write_detections
from compress.data.formats.folders import list_sound_folders, load_picture_folders
from compress.data.formats.json_file import read_items
from compress.data.formats.places import picture_size
from edgeai.errors import EdgeError

LABEL_FILES = {
    "coco": "instances_train.json",
    "voc": "Annotations/a.xml",
    "yolo": "labels/train/a.txt",
    "label-studio": "tasks_train.json",
    "cvat": "annotations_train.xml",
}
SIDE_FILES = {
    "voc list": ("voc", "ImageSets/Main/train.txt"),
    "voc map": ("voc", "labelmap.txt"),
    "yolo names": ("yolo", "data.yaml"),
    "label-studio config": ("label-studio", "label_config.xml"),
}
ALL_FILES = {**{kind: (kind, name) for kind, name in LABEL_FILES.items()}, **SIDE_FILES}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A right folder of each format, with one picture and two boxes."""
    root = tmp_path_factory.mktemp("fuzz")
    (root / "in").mkdir()
    cv2.imwrite(str(root / "in/a.jpg"), np.full((30, 40, 3), 90, np.uint8))
    boxes = np.array([[1, 2, 11, 12], [5, 5, 30, 20]], np.float32)
    picture = LabelledPicture(
        root / "in/a.jpg", 40, 30, boxes, np.array([0, 1], np.int32), np.ones(2, np.float32), boxes[:0]
    )
    for kind in DETECTION_FORMATS:
        write_detections(kind, root / kind, "train", DetectionSet(("weed", "rice"), (picture,)))
    return root


def only_edge_errors(folder, kind, content, name):
    """Read the folder with other content in one of its files, then put that back."""
    path = folder / name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        for read in (
            lambda: load_detections(kind, folder, "train", None),
            lambda: load_detections("auto", folder, "train", ["rice"]),
        ):
            with contextlib.suppress(EdgeError):
                data = read()
                for picture in data.pictures:
                    assert folder in picture.path.parents
                    assert np.isfinite(picture.xyxy_px).all()
                    assert (picture.xyxy_px[:, 2:] > picture.xyxy_px[:, :2]).all()
                    assert ((picture.class_ids >= 0) & (picture.class_ids < len(data.labels))).all()
    except EdgeError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("which", ALL_FILES)
@settings(max_examples=25)
@given(content=st.binary(max_size=80))
def test_any_bytes(folders, which, content):
    kind, name = ALL_FILES[which]
    only_edge_errors(folders / kind, kind, content, name)


@pytest.mark.parametrize("which", ALL_FILES)
@settings(max_examples=60)
@given(random=st.randoms(use_true_random=False))
def test_a_right_file_with_changed_bytes(folders, which, random):
    kind, name = ALL_FILES[which]
    content = bytearray((folders / kind / name).read_bytes())
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(content))
        other = (
            random.randrange(256) if random.random() < 0.3 else ord(random.choice("09-.<>\"'/[]{}:,eE \n"))
        )
        content[at : at + random.choice((0, 1, 1, 1, 5))] = bytes([other])
    only_edge_errors(folders / kind, kind, bytes(content), name)


ODD = st.sampled_from(
    [None, True, -1, 0, 1e308, float("nan"), float("inf"), "", "x", "../../x", "\0", "\ud800", [], {}, [[]], 10**30, "a.jpg"]
)  # fmt: skip


@pytest.mark.parametrize("kind", ["coco", "label-studio"])
@settings(max_examples=120)
@given(random=st.randoms(use_true_random=False), odd=ODD)
def test_a_right_json_with_a_wrong_value(folders, kind, random, odd):
    content = json.loads((folders / kind / LABEL_FILES[kind]).read_text())
    places = list(_places(content))
    inner, key = random.choice(places)
    if random.random() < 0.3 and isinstance(inner, dict):
        del inner[key]
    else:
        inner[key] = odd
    only_edge_errors(folders / kind, kind, json.dumps(content).encode(), LABEL_FILES[kind])


def _places(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


BOMB = '<!DOCTYPE a [<!ENTITY x "lollollollollol">' + "".join(
    f'<!ENTITY x{i} "{f"&x{i - 1 if i else str()};" * 10}">' for i in range(9)
)
HOSTILE = {
    "voc bomb": ("voc", BOMB + "]><annotation><filename>&x8;</filename></annotation>", "document type"),
    "voc doctype": ("voc", "<!DOCTYPE annotation><annotation/>", "document type"),
    "voc entity": (
        "voc",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        "document type",
    ),
    "cvat doctype": ("cvat", "<!DOCTYPE annotations SYSTEM 'http://x/y.dtd'><annotations/>", "document type"),
    "voc deep": ("voc", "<annotation>" + "<a>" * 100_000, "30 deep"),
    "voc other root": ("voc", "<annotations/>", "begins with <annotations>, not with <annotation>"),
    "voc latin-1": ("voc", "<annotation><filename>\udcfc.jpg</filename></annotation>", "no XML"),
    "voc long number": (
        "voc",
        "<annotation><object><name>x</name><bndbox><xmin>" + "9" * 99 + "</xmin></bndbox></object></annotation>",
        "no number",
    ),
    "voc NaN": (
        "voc",
        "<annotation><object><name>x</name><bndbox><xmin>nan</xmin><ymin>1</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></object></annotation>",
        "not finite: nan",
    ),
    "voc no box": ("voc", "<annotation><object><name>x</name></object></annotation>", "without bndbox/xmin"),
    "cvat outside": ("cvat", '<annotations><image name="../../x.jpg" subset="train"/></annotations>', "outside its folder"),
    "cvat size": ("cvat", '<annotations><image name="a.jpg" subset="train" width="99999999999" height="1"/></annotations>', "said to be"),
    "cvat no label": ("cvat", '<annotations><image name="a.jpg" subset="train"><box xtl="0" ytl="0" xbr="1" ybr="1"/></image></annotations>', "without 'label'"),
    "cvat empty": ("cvat", "", "no XML"),
    "yolo pixels": ("yolo", "0 20 20 5 5", "line 1: numbers must be fractions"),
    "yolo latin-1": ("yolo", "\udcfc 1 1 1 1", "no UTF-8"),
    "yolo huge class": ("yolo", "9e99 0 0 0 0", "class 9e\\+99"),
    "coco outside": ("coco", {"images": [{"id": 1, "file_name": "../in/a.jpg", "width": 9, "height": 9}]}, "outside its folder"),
    "coco control": ("coco", {"images": [{"id": 1, "file_name": "a\0.jpg", "width": 9, "height": 9}]}, "cannot be a file's name"),
    "coco huge id": ("coco", {"images": [], "annotations": [{"image_id": 10**30, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "OverflowError"),
    "coco tail": ("coco", '{"images": []} {}', "something follows"),
    "coco cut off": ("coco", '{"images": [{"id": 1', "no JSON"),
    "coco no list": ("coco", '{"images": {}}', "'images' must be a list"),
    "coco long number": ("coco", '{"images": [' + "9" * 5000 + "]}", "digits"),
    "label-studio url": ("label-studio", [{"data": {"image": "http://[x"}, "annotations": [{"result": []}]}], "no URL"),
    "label-studio outside": ("label-studio", [{"data": {"image": "/data/local-files/?d=../../etc/passwd"}, "annotations": [{"result": []}]}], "outside its folder"),
    "label-studio no data": ("label-studio", [{"annotations": [{"result": []}]}], "task 1: KeyError"),
    "label-studio strings": ("label-studio", ["x"], "task 1"),
    "label-studio deep": ("label-studio", "[" * 100_000, "recursion"),
}  # fmt: skip


@pytest.mark.parametrize("which", HOSTILE)
def test_a_hostile_file_is_one_line(folders, which):
    kind, content, told = HOSTILE[which]
    path = folders / kind / LABEL_FILES[kind]
    before = path.read_bytes()
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        with pytest.raises(EdgeError, match=told) as error:
            load_detections(kind, folders / kind, "train", None)
    finally:
        path.write_bytes(before)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


YAMLS = {
    "aliases": ("a: &a [x, x]\nnames: [*a, *a]", "aliases"),
    "an object": ("!!python/object/apply:os.system [ls]", "no YAML"),
    "a list": ("[1]", "must be a table"),
    "no names": ("train: x", "no list of names"),
    "a gap": ("names: {0: a, 2: b}", "count from 0"),
    "twice": ("names: [a, a]", "2 classes, 1 different"),
    "nested": ("names: " + "[" * 3000, "no YAML"),
}


@pytest.mark.parametrize("which", YAMLS)
def test_a_hostile_data_yaml_is_one_line(folders, which):
    content, told = YAMLS[which]
    path = folders / "yolo/data.yaml"
    before = path.read_bytes()
    path.write_text(content)
    try:
        with pytest.raises(EdgeError, match=told) as error:
            load_detections("yolo", folders / "yolo", "train", None)
    finally:
        path.write_bytes(before)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", ["../../in", "/etc", "~/x", "images/train\0", ["../in"], 3, ""])
def test_data_yaml_reaches_nothing_outside_its_folder(folders, entry):
    path = folders / "yolo/data.yaml"
    before = path.read_bytes()
    path.write_text(json.dumps({"path": str(folders / "in"), "train": entry, "names": ["weed", "rice"]}))
    try:
        data = load_detections("yolo", folders / "yolo", "train", None)  # images/train is there all the same
    finally:
        path.write_bytes(before)
    assert [p.path for p in data.pictures] == [folders / "yolo/images/train/a.jpg"]


@pytest.mark.parametrize("which", ALL_FILES)
def test_a_file_that_claims_gigabytes_is_not_read(folders, which):
    kind, name = ALL_FILES[which]
    path = folders / kind / name
    before = path.read_bytes()
    try:
        os.truncate(path, 5 << 30)  # sparse: no disk is used
        with contextlib.suppress(EdgeError):
            load_detections(kind, folders / kind, "train", ["rice"])
            assert which == "voc map", "only a file that can be done without may be passed over"
    finally:
        path.write_bytes(before)


def test_a_picture_that_claims_gigapixels_is_refused(folders):
    header = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    picture = folders / "yolo/images/train/z.png"
    picture.write_bytes(png)
    try:
        with pytest.raises(EdgeError, match=r"'z.png' is said to be 1073741824 x 1073741824"):
            load_detections("yolo", folders / "yolo", "train", None)
    finally:
        picture.unlink()


@settings(max_examples=60)
@given(
    content=st.binary(max_size=60),
    magic=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF", b""]),
)
def test_a_broken_picture_has_no_size(content, magic):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.jpg"
        path.write_bytes(magic + content)
        with contextlib.suppress(EdgeError):
            width, height = picture_size(path)
            assert width > 0
            assert height > 0


@settings(max_examples=40)
@given(
    names=st.lists(st.text("aä_.-0 \u200b", min_size=1, max_size=8), max_size=4),
    split=st.sampled_from(["train", "all", "x"]),
)
def test_folders_of_any_names(names, split):
    with tempfile.TemporaryDirectory() as where:
        for number, name in enumerate(names):
            with contextlib.suppress(OSError):
                (Path(where) / name).mkdir(parents=True)
                (Path(where) / name / f"{number}.jpg").touch()
        for read in (load_picture_folders, list_sound_folders):
            with contextlib.suppress(EdgeError):
                read(Path(where), split, None)
        with contextlib.suppress(EdgeError):
            detect_format(Path(where))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(items=st.lists(VALUES, max_size=6), indent=st.sampled_from([None, 2]), chunk=st.integers(1, 9))
def test_items_stream_as_json_loads_reads_them(items, indent, chunk):
    with tempfile.TemporaryDirectory() as where, pytest.MonkeyPatch.context() as patch:
        patch.setattr("compress.data.formats.json_file._CHUNK_CHARS", chunk)
        path = Path(where) / "x.json"
        path.write_text(json.dumps({"a": 12, "list": items, "other": [1]}, indent=indent))
        assert list(read_items(path, ["list"])) == [("list", item) for item in items]
        path.write_text(json.dumps(items, indent=indent))
        assert [item for _, item in read_items(path)] == items
