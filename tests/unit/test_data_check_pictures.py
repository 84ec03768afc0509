"""`data check` on pictures: a clean set has no fault, and each planted one is found under its code, and cleaned away."""

from __future__ import annotations

import json
import struct
from zlib import crc32

import cv2
import numpy as np
import pytest

from compress.cli.commands import app
from compress.data.check.boxes import judge_box
from compress.data.check.clean import turn_box, write_cleaned
from compress.data.check.lookalikes import describe_picture, find_lookalikes
from compress.data.check.picture_file import read_facts
from compress.data.check.report import FAULT_KINDS
from compress.data.check.run import run_check
from compress.data.formats.coco import load_coco
from edgeai.console import run_app
from edgeai.errors import DataError, DataMissingError, EdgeError, UsageError

SIZE = (96, 72)  # width, height
SPLITS = ("train", "test")
EACH = 12


def draw(seed, size=SIZE):
    """A picture that looks like no other: soft blobs of colour and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
    picture = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def jpeg(picture, quality=90):
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def exif(orientation, data):
    """A JPEG with an EXIF orientation."""
    tiff = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


class Pictures:
    """A clean set in a folder, to be broken: `coco[split]` is written by `save`."""

    def __init__(self, folder):
        self.folder = folder
        self.coco = {}
        (folder / "images").mkdir(parents=True)
        for number, split in enumerate(SPLITS):
            images, boxes = [], []
            for i in range(EACH):
                name = f"{split}-{i:02}.jpg"
                self.write(name, jpeg(draw(100 * number + i)))
                images.append({"id": i + 1, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
                for k in range(2):
                    box = [8 + 3 * i, 10 + 20 * k, 20, 15]
                    boxes.append({"id": len(boxes) + 1, "image_id": i + 1, "category_id": k + 1, "bbox": box})
            self.coco[split] = {
                "info": {"kept": True},
                "images": images,
                "annotations": boxes,
                "categories": [{"id": 1, "name": "crate"}, {"id": 2, "name": "pallet"}],
            }
        self.save()

    def write(self, name, data):
        (self.folder / "images" / name).write_bytes(data)

    def read(self, name):
        return (self.folder / "images" / name).read_bytes()

    def save(self):
        for split, coco in self.coco.items():
            (self.folder / f"instances_{split}.json").write_text(json.dumps(coco))

    def box(self, number=0, split="train"):
        return self.coco[split]["annotations"][number]

    def image(self, number=0, split="train"):
        return self.coco[split]["images"][number]

    def check(self, *splits, **more):
        self.save()
        return run_check(self.folder, splits, **more)


@pytest.fixture
def pictures(tmp_path):
    return Pictures(tmp_path / "set")


def found(checked, *, but=()):
    return {code: faults for code, faults in checked.report.by_code().items() if code not in but}


def test_a_clean_set_has_no_fault(pictures):
    checked = pictures.check()
    assert found(checked) == {}
    assert checked.report.exit_code == 0
    train = next(split for split in checked.report.splits if split.name == "train")
    assert (train.files, train.boxes, train.classes) == (EACH, 2 * EACH, {"crate": EACH, "pallet": EACH})


def _absent(p):
    (p.folder / "images" / "train-00.jpg").unlink()


def _rotated(p, orientation=6):
    p.write("train-00.jpg", exif(orientation, p.read("train-00.jpg")))


def _cmyk(p):
    # libjpeg writes what four components mean into the frame header; a real one is of no use for a size check
    data = bytearray(p.read("train-00.jpg"))
    at = data.index(b"\xff\xc0")
    assert data[at + 9] == 3
    p.write("train-00.jpg", bytes(data))


def _flat(p):
    p.write("train-00.jpg", jpeg(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)))


def _grey_bottom(p):
    whole = draw(0)
    whole[40:] = 128
    p.write("train-00.jpg", jpeg(whole, 98))


def _png(p, picture):
    p.image()["file_name"] = "train-00.png"
    (p.folder / "images" / "train-00.jpg").unlink()
    p.write("train-00.png", cv2.imencode(".png", picture)[1].tobytes())


def _copy(p, target, source="train-01.jpg", change=None):
    data = p.read(source)
    if change is not None:
        data = jpeg(change(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)))
    p.write(target, data)


def _same_boxes(p, split, target, source=1):
    """A duplicate's boxes are those of its original, or it would conflict too."""
    for k in range(2):
        p.box(2 * target + k, split)["bbox"] = p.box(2 * source + k)["bbox"]


def _duplicate(p):
    _copy(p, "train-00.jpg")
    _same_boxes(p, "train", 0)


def _brighter(picture):
    return (255 * (picture / 255) ** 0.7).astype(np.uint8)


def _smaller(picture):
    return cv2.resize(picture, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)


def _near(p, split, change):
    _copy(p, f"{split}-00.jpg", change=change)
    height, width = cv2.imread(str(p.folder / "images" / f"{split}-00.jpg")).shape[:2]
    p.image(0, split).update(width=width, height=height)
    for k in range(2):
        p.box(k, split)["bbox"] = [1, 1 + 15 * k, 12, 12]


def _scene(p):
    """A fixed camera: the same place, and something else in it."""
    picture = cv2.resize(draw(50), (96, 72))
    p.write("train-00.jpg", jpeg(picture))
    picture[20:40, 30:50] = 255 - picture[20:40, 30:50]
    p.write("test-00.jpg", jpeg(picture))


def _set(getter, **values):
    return lambda p: getter(p).update(values)


def _first(p):
    return p.box()


def _groups(p):
    p.image(0, "train")["site"] = p.image(0, "test")["site"] = "hall 3"


def _rare(p):
    for number in range(1, 2 * EACH - 4, 2):
        p.box(number)["category_id"] = 1


PLANTED = {
    "absent": _absent,
    "unreadable": lambda p: p.write("train-00.jpg", b"\xff\xd8 no picture at all"),
    "unreadable: empty": lambda p: p.write("train-00.jpg", b""),
    "truncated": lambda p: p.write("train-00.jpg", p.read("train-00.jpg")[: len(p.read("train-00.jpg")) // 2]),
    "truncated: by a little": lambda p: p.write("train-00.jpg", p.read("train-00.jpg")[:-40]),
    "grey-bottom": _grey_bottom,
    "flat-picture": _flat,
    "size-differs": _set(lambda p: p.image(), width=100),
    "exif-turned": _rotated,
    "exif-orientation": lambda p: _rotated(p, 3),
    "alpha": lambda p: _png(p, np.dstack((draw(0), np.full(SIZE[::-1], 90, np.uint8)))),
    "deep-colour": lambda p: _png(p, draw(0).astype(np.uint16) * 257),
    "mixed-colour": lambda p: p.write("train-00.jpg", jpeg(cv2.cvtColor(draw(0), cv2.COLOR_BGR2GRAY))),
    "bad-entry": lambda p: p.image().update(file_name="../../secret.jpg"),
    "bad-entry: no name": lambda p: p.coco["train"]["images"].append({"id": 99, "width": 9, "height": 9}),
    "listed-twice": lambda p: p.coco["train"]["images"].append({**p.image(1), "id": 99}),
    "not-listed": lambda p: p.write("more.jpg", jpeg(draw(999))),
    "orphan-box": _set(_first, image_id=77),
    "unknown-category": _set(_first, category_id=9),
    "box-not-finite": _set(_first, bbox=[1, float("nan"), 5, 5]),
    "box-not-finite: of three": _set(_first, bbox=[1, 2, 5]),
    "box-not-finite: of words": _set(_first, bbox=["a", 2, 5, 5]),
    "box-empty": _set(_first, bbox=[5, 5, 0, 10]),
    "box-empty: negative": _set(_first, bbox=[5, 5, 10, -10]),
    "box-outside": _set(_first, bbox=[200, 5, 10, 10]),
    "box-cut": _set(_first, bbox=[-20, 5, 40, 10]),
    "box-tiny": _set(_first, bbox=[5, 5, 0.4, 10]),
    "box-duplicate": lambda p: p.coco["train"]["annotations"].append({**p.box(), "id": 99}),
    "box-conflict": lambda p: p.coco["train"]["annotations"].append({**p.box(), "id": 99, "category_id": 2}),
    "no-boxes": lambda p: p.coco["train"]["annotations"].__delitem__(slice(0, 2)),
    "duplicate": _duplicate,
    "near-duplicate: saved again": lambda p: (_copy(p, "train-00.jpg", change=np.array), _same_boxes(p, "train", 0)),
    "near-duplicate: brighter": lambda p: _near(p, "train", _brighter),
    "near-duplicate: smaller": lambda p: _near(p, "train", _smaller),
    "near-duplicate: mirrored": lambda p: _near(p, "train", lambda x: x[:, ::-1]),
    "near-duplicate: turned": lambda p: _near(p, "train", lambda x: np.rot90(x)),
    "leak-file": lambda p: (_copy(p, "test-00.jpg"), _same_boxes(p, "test", 0)),
    "leak-near": lambda p: _near(p, "test", _smaller),
    "leak-group": _groups,
    "same-scene": _scene,
    "few-examples": lambda p: p.coco["train"]["annotations"].__delitem__(slice(0, 6, 2)),
    "class-absent": lambda p: [b.update(category_id=1) for b in p.coco["test"]["annotations"]],
    "class-imbalance": lambda p: _rare(p),
}  # fmt: skip
# what must come along with a planted fault: one cause, several things to say
BESIDE = {
    "class-absent": {"box-conflict"},
    "class-imbalance": {"few-examples"},
    "bad-entry": {"not-listed"},
    "listed-twice": {"no-boxes"},
}


@pytest.mark.parametrize("planted", PLANTED)
def test_each_planted_fault_is_found_and_nothing_else(pictures, planted):
    code = planted.partition(":")[0]
    PLANTED[planted](pictures)
    checked = pictures.check(
        min_examples=10 if code == "few-examples" else 2 if code != "class-imbalance" else 3
    )
    codes = set(found(checked))
    if code == "class-imbalance":
        assert codes <= {"class-imbalance", "few-examples"}
    elif code in ("near-duplicate", "leak-near"):
        assert codes - {"conflicting-labels"} == {code}  # the copy's boxes were not drawn again
    else:
        assert codes - BESIDE.get(code, set()) == {code}
    assert checked.report.exit_code == (
        1 if FAULT_KINDS[code].severity == "error" or "conflicting-labels" in codes else 0
    )


def test_a_cmyk_jpeg_is_told_by_its_header():
    data = bytearray(jpeg(draw(0)))
    at = data.index(b"\xff\xc0")
    data[at + 9] = 4
    assert read_facts(bytes(data)).colours == "cmyk"


def test_boxes_in_shares_of_the_picture_are_told_and_mended(pictures, tmp_path):
    width, height = SIZE
    for number in range(2):
        x, y, w, h = pictures.box(number)["bbox"]
        pictures.box(number)["bbox"] = [x / width, y / height, w / width, h / height]
    before = Pictures(tmp_path / "before").box(1)["bbox"]
    checked = pictures.check("train")
    assert set(found(checked)) == {"box-normalised"}
    (one,) = write_cleaned(checked.report, checked.listings)
    assert one.boxes_mended == {"box-normalised": 2}
    assert json.loads(one.path.read_text())["annotations"][1]["bbox"] == pytest.approx(before, abs=0.02)


def test_duplicates_with_other_labels_conflict(pictures):
    _copy(pictures, "train-00.jpg")
    pictures.box(0)["category_id"] = 2
    checked = pictures.check()
    assert set(found(checked)) == {"duplicate", "conflicting-labels"}
    train = write_cleaned(checked.report, checked.listings)[1]
    assert sum(train.dropped.values()) == 2  # nobody knows which is right


def test_cleaning_drops_from_train_never_from_test(pictures):
    _copy(pictures, "test-00.jpg", "train-01.jpg")
    _copy(pictures, "test-02.jpg", "test-01.jpg", change=_brighter)
    _groups(pictures)
    _absent(pictures)
    pictures.box(4)["bbox"] = [-20, 5, 40, 10]
    pictures.box(6)["bbox"] = [5, 5, 0, 10]
    checked = pictures.check()
    test, train = write_cleaned(checked.report, checked.listings)
    assert (test.split, train.split) == ("test", "train")
    assert test.kept == EACH - 1  # its own near-duplicate
    assert train.dropped == {"absent": 1, "leak-file": 1}
    assert (train.boxes_dropped, train.boxes_mended) == ({"box-empty": 1}, {"box-cut": 1})
    clean = pictures.check("train-clean", "test-clean")
    assert set(found(clean)) <= {"few-examples", "not-listed"}
    made = load_coco(pictures.folder, "train-clean", ["crate", "pallet"])
    assert len(made) == EACH - 2
    assert all((p.xyxy_px[:, :2] >= 0).all() for p in made.pictures)
    assert json.loads((pictures.folder / "instances_train-clean.json").read_text())["info"] == {"kept": True}
    assert set(found(pictures.check())) >= {"absent"}  # cleaned lists are not checked unless named


@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_are_turned_as_opencv_turns_the_picture(tmp_path, orientation):
    picture = np.zeros((40, 60, 3), np.uint8)
    x1, y1, x2, y2 = 6, 4, 30, 16
    picture[y1:y2, x1:x2] = 255
    path = tmp_path / "a.jpg"
    path.write_bytes(exif(orientation, jpeg(picture, 100)))
    assert read_facts(path.read_bytes()).orientation == orientation
    shown = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    turned = turn_box((x1, y1, x2, y2), (60, 40), orientation)
    assert turned == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_an_exif_turned_picture_is_mended(pictures):
    _rotated(pictures)
    checked = pictures.check("train")
    (one,) = write_cleaned(checked.report, checked.listings)
    assert one.boxes_mended == {"exif-turned": 2}
    assert set(found(pictures.check("train-clean"))) <= {"exif-orientation", "not-listed"}
    made = json.loads(one.path.read_text())
    assert (made["images"][0]["width"], made["images"][0]["height"]) == SIZE[::-1]


def test_out_names_a_folder_or_one_file_and_never_the_source(pictures, tmp_path):
    checked = pictures.check()
    made = write_cleaned(checked.report, checked.listings, tmp_path / "lists")
    assert {one.path.name for one in made} == {"instances_train-clean.json", "instances_test-clean.json"}
    with pytest.raises(UsageError, match="one file"):
        write_cleaned(checked.report, checked.listings, tmp_path / "a.json")
    one = pictures.check("train")
    with pytest.raises(UsageError, match="was checked"):
        write_cleaned(one.report, one.listings, pictures.folder / "instances_train.json")


def test_a_set_in_another_format_is_checked_and_not_cleaned(pictures, tmp_path):
    from compress.data.formats import load_detections, write_detections

    pictures.box(0)["bbox"] = [200, 5, 10, 10]
    pictures.save()
    _copy(pictures, "train-03.jpg", "train-02.jpg")
    write_detections(
        "voc", tmp_path / "voc", "train", load_detections("coco", pictures.folder, "train", None)
    )
    checked = run_check(tmp_path / "voc")
    assert "duplicate" in found(checked)
    assert checked.report.splits[0].files == EACH
    with pytest.raises(DataError, match="data convert"):
        write_cleaned(checked.report, checked.listings)


def test_folders_of_a_class_each_are_checked(tmp_path):
    for i in range(8):
        for split in ("train", "test"):
            for label in ("ripe", "unripe"):
                place = tmp_path / split / label
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{i}.jpg").write_bytes(jpeg(draw(crc32(f"{split} {label} {i}".encode()))))
    assert found(run_check(tmp_path, min_examples=5)) == {}
    (tmp_path / "train" / "ripe" / "x.jpg").write_bytes(
        (tmp_path / "train" / "unripe" / "0.jpg").read_bytes()
    )
    (tmp_path / "train" / "Ripe").mkdir()
    (tmp_path / "train" / "Ripe" / "y.jpg").write_bytes(jpeg(draw(77)))
    checked = run_check(tmp_path, min_examples=0)
    assert set(found(checked)) == {"duplicate", "conflicting-labels", "label-spelling", "class-absent"}
    made = write_cleaned(checked.report, checked.listings)
    assert {one.path.name for one in made} == {"train-clean.csv", "test-clean.csv"}


@pytest.mark.parametrize(
    "content, told",
    [("{", "no JSON"), ("[]", "JSON"), ('{"images": [], "annotations": []}', "lists no pictures")],
)
def test_a_list_that_is_none_is_one_error(tmp_path, content, told):
    (tmp_path / "instances_train.json").write_text(content)
    with pytest.raises(DataError, match=told) as error:
        run_check(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none_and_a_split_that_is_not_there(pictures, tmp_path):
    with pytest.raises(DataMissingError, match="no data folder"):
        run_check(tmp_path / "none")
    with pytest.raises(DataMissingError, match=r"no split 'tset'; it has test, train"):
        pictures.check("tset")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeError):
        run_check(tmp_path / "empty")


@pytest.mark.parametrize("turn", range(1, 8))
def test_turned_copies_are_found(turn):
    looks = [describe_picture(cv2.cvtColor(draw(i, (80, 80)), cv2.COLOR_BGR2GRAY)) for i in range(20)]
    grey = cv2.cvtColor(draw(3, (80, 80)), cv2.COLOR_BGR2GRAY)
    turned = np.rot90(grey[:, ::-1] if turn & 4 else grey, turn & 3)
    looks.append(describe_picture(np.ascontiguousarray(turned)))
    (pair,) = find_lookalikes(looks, [0] * 21)
    assert (pair.first, pair.second, pair.copy, pair.turned) == (3, 20, True, True)


def test_a_fixed_camera_is_one_scene_and_not_copies():
    """Hundreds of frames of one place with something that moves: found across splits, without all pairs."""
    place = draw(5, (96, 96))
    looks = []
    for i in range(60):
        frame = place.copy()
        frame[10 + i : 26 + i, 20:60] = 255 - frame[10 + i : 26 + i, 20:60]
        looks.append(describe_picture(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)))
    pairs = find_lookalikes(looks, [i % 2 for i in range(60)])
    assert pairs and len(pairs) <= 60 * 4 * 2 * 2
    far = [pair for pair in pairs if abs(pair.first - pair.second) > 8]
    assert not any(pair.copy for pair in far)


def test_boxes_may_overhang_by_a_rounding():
    assert judge_box((-0.6, 0, 10, 10), (100, 100)) is None
    assert judge_box((-3, 0, 10, 10), (1000, 100)) is None
    assert judge_box((-3, 0, 10, 10), (100, 100)) == "box-cut"


def test_any_bytes_have_facts():
    rng = np.random.default_rng(1)
    whole = exif(6, jpeg(draw(1)))
    for _ in range(300):
        data = bytearray(whole[: rng.integers(0, len(whole))])
        for at in rng.integers(0, max(1, len(data)), 5):
            if data:
                data[at] = rng.integers(0, 256)
        read_facts(bytes(data))
    for head in (
        b"",
        b"BM",
        b"RIFF0000WEBP",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II",
    ):
        read_facts(head)


def test_the_command_prints_a_table_json_a_page_and_its_verdict(pictures, capsys, monkeypatch, tmp_path):
    _absent(pictures)
    pictures.box(4)["bbox"] = [-20, 5, 40, 10]
    pictures.save()

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["edgeai-compress", "data", "check", *map(str, arguments)])
        code = run_app(app, program="edgeai-compress")
        return code, *capsys.readouterr()

    code, out, _ = run(pictures.folder)
    assert code == 1 and "error absent" in out and "train-00.jpg" in out and "copy it there" in out
    assert max(map(len, out.splitlines())) <= 80
    page = tmp_path / "page.html"
    code, out, _ = run(pictures.folder, "--split", "train", "--json", "--clean", "--report", page)
    told = json.loads(out)
    assert code == 1 and told["errors"] == 1 and {"absent", "box-cut"} <= {f["code"] for f in told["faults"]}
    assert told["cleaned"][0]["kept"] == EACH - 1
    text = page.read_text()
    assert "box-cut" in text and "data:image/jpeg;base64," in text and "<script" not in text
    code, out, _ = run(pictures.folder, "--split", "train-clean")
    assert code == 0
    code, _, err = run(pictures.folder, "--out", tmp_path)
    assert code == 2 and "--clean" in err
