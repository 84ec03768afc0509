"""`data split`: lists keep their columns and fields, no group is parted, nothing is overwritten."""

from __future__ import annotations

import csv
import json

import pytest

from compress.cli.commands import app
from compress.data.formats.coco import load_coco
from compress.data.grouping import parse_parts, split_set
from edgeai.console import run_app
from edgeai.errors import DataError, DataMissingError, UsageError

PARTS = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture
def spoken(tmp_path):
    """200 clips of 20 speakers, two words, four clips of nobody."""
    rows = [
        (f"clips/{i}.wav", ("yes", "no")[i % 2], f"s{i % 20}" if i < 196 else "none", str(i))
        for i in range(200)
    ]
    with (tmp_path / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "speaker", "note"), *rows])
    return tmp_path


@pytest.fixture
def boxed(tmp_path):
    """60 pictures of six sites, boxes of two classes."""
    images = [
        {"id": i, "file_name": f"cam{i % 6}_{i:03}.jpg", "width": 64, "height": 64, "site": f"yard {i % 6}"}
        for i in range(60)
    ]
    boxes = [
        {"id": i, "image_id": i // 2, "category_id": i % 2 + 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}
        for i in range(120)
    ]
    categories = [{"id": 1, "name": "crate"}, {"id": 2, "name": "pallet"}]
    whole = {"info": {"kept": 1}, "images": images, "annotations": boxes, "categories": categories}
    (tmp_path / "instances_all.json").write_text(json.dumps(whole))
    (tmp_path / "images").mkdir()
    for image in images:
        (tmp_path / "images" / image["file_name"]).write_bytes(b"")
    return tmp_path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_speakers_stay_together_and_columns_stay(spoken):
    made = split_set(spoken, PARTS, by="speaker")
    parts = [rows_of(spoken / f"{name}.csv") for name in PARTS]
    assert sorted(int(row["note"]) for part in parts for row in part) == list(range(200))
    speakers = [{row["speaker"] for row in part} - {"none"} for part in parts]
    assert not speakers[0] & speakers[1] and not speakers[0] & speakers[2] and not speakers[1] & speakers[2]
    assert [p.got for p in made] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    for part in made:
        assert part.classes["yes"] == pytest.approx(part.files / 2, abs=3)


def test_the_same_seed_gives_the_same_parts(spoken, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        split_set(spoken, PARTS, by="speaker", seed=seed, out=tmp_path / name)
    texts = {name: (tmp_path / name / "train.csv").read_text() for name in "abc"}
    assert texts["a"] == texts["b"] != texts["c"]


@pytest.mark.parametrize("by", ["site", "group", r"name:^(cam\d+)_"])
def test_sites_stay_together_and_fields_stay(boxed, by):
    split_set(boxed, PARTS, by=by)
    sites = []
    for name in PARTS:
        coco = json.loads((boxed / f"instances_{name}.json").read_text())
        assert coco["info"] == {"kept": 1} and len(coco["categories"]) == 2
        assert {box["image_id"] for box in coco["annotations"]} == {image["id"] for image in coco["images"]}
        sites.append({image["site"] for image in coco["images"]})
        assert len(load_coco(boxed, name, ["pallet"])) == len(coco["images"])
    assert sum(map(len, sites)) == len(set.union(*sites)) == 6


def test_nothing_is_overwritten(spoken):
    split_set(spoken, PARTS)
    before = (spoken / "train.csv").read_text()
    with pytest.raises(DataError, match=r"train.csv is there already; .*--force"):
        split_set(spoken, PARTS, seed=9)
    assert (spoken / "train.csv").read_text() == before
    split_set(spoken, PARTS, seed=9, force=True)
    with pytest.raises(DataError, match="the list to be parted"):
        split_set(spoken, {"train": 0.5, "rest": 0.5}, source="train", force=True)


WRONG = {
    "no share": ("train", "name=share"),
    "no number": ("train=many", "no number"),
    "twice": ("a=0.5,a=0.5", "different names"),
    "path": ("../a=1", "different names"),
    "too much": ("a=0.9,b=0.2", "sum to 1, got 1.1"),
    "negative": ("a=1.5,b=-0.5", "above 0"),
    "endless": ("a=nan", "above 0"),
}


@pytest.mark.parametrize("text, told", WRONG.values(), ids=WRONG)
def test_wrong_parts_are_told(text, told):
    with pytest.raises(UsageError, match=told):
        parse_parts(text)


def test_a_grouping_that_cannot_be_is_told(spoken, boxed):
    (boxed / "instances_all.json").rename(boxed / "instances_some.json")
    with pytest.raises(DataError, match=r"no column 'day'; it has .*site"):
        split_set(boxed, PARTS, source="some", by="day")
    with pytest.raises(DataMissingError, match="no split 'all'"):
        split_set(boxed, PARTS)
    with pytest.raises(UsageError, match="no pattern"):
        split_set(boxed, PARTS, source="some", by="name:(")
    with pytest.raises(UsageError, match="round brackets"):
        split_set(boxed, PARTS, source="some", by="name:cam")
    with pytest.raises(DataError, match="does not fit"):
        split_set(boxed, PARTS, source="some", by="name:^(tower)")
    with pytest.raises(DataError, match="fewer than the 3 parts"):
        split_set(boxed, PARTS, source="some", by="folder")
    assert not list(boxed.glob("instances_t*.json"))


def test_a_list_without_groups_says_what_to_do(tmp_path):
    (tmp_path / "all.csv").write_text("file,label\na.wav,yes\nb.wav,no\n")
    with pytest.raises(DataError, match="tells no speaker, group, site or day"):
        split_set(tmp_path, {"train": 0.5, "test": 0.5})
    made = split_set(tmp_path, {"train": 0.5, "test": 0.5}, by="file")
    assert [part.files for part in made] == [1, 1]


def test_folders_of_sounds_become_lists(tmp_path):
    for label in ("yes", "no"):
        (tmp_path / label).mkdir()
        for speaker in range(6):
            (tmp_path / label / f"s{speaker}_nohash_0.wav").write_bytes(b"")
    split_set(tmp_path, {"train": 0.5, "test": 0.5})
    train, test = rows_of(tmp_path / "train.csv"), rows_of(tmp_path / "test.csv")
    assert len(train) == len(test) == 6
    assert not {row["speaker"] for row in train} & {row["speaker"] for row in test}


def test_the_command_prints_shares_and_paths(spoken, capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["edgeai-compress", "data", "split", str(spoken), *arguments])
        code = run_app(app, program="edgeai-compress")
        return code, *capsys.readouterr()

    code, out, _ = run("--parts", "train=0.75,test=0.25", "--by", "speaker", "--json")
    told = json.loads(out)
    assert code == 0 and [part["wanted"] for part in told["parts"]] == [0.75, 0.25]
    assert sum(part["files"] for part in told["parts"]) == 200
    code, out, _ = run("--parts", "train=0.75,test=0.25", "--force")
    assert code == 0 and "75.0%" in out and max(map(len, out.splitlines()[:-2])) <= 80
    code, _, err = run()
    assert code == 1 and "is there already" in err
