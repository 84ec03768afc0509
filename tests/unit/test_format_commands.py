"""`data convert` and `data prelabel`: what they write, print, refuse, and leave behind when they are stopped."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from blob_bundle import picture, write_blob_bundle
from tiny_recipe import write_squares

from compress.cli import main
from compress.cli.commands import app
from compress.data.convert import convert_folder
from compress.data.formats import detect_format, load_detections, write_detections
from compress.data.prelabel import prelabel_folder
from edgeai.errors import BundleError, DataError, EdgeError, UsageError


@pytest.fixture
def squares(tmp_path):
    write_squares(tmp_path / "squares", count=4)
    write_squares(tmp_path / "squares", "test", count=2, seed=3)
    return tmp_path / "squares"


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blob") / "bundle"
    write_blob_bundle(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    """Two pictures with a square of 16 px, one without, one that is no picture, in two folders."""
    folder = tmp_path / "my photos"
    (folder / "b").mkdir(parents=True)
    for name, x_px in (("a.png", 8), ("b/c.png", 40), ("empty.png", None)):
        cv2.imwrite(str(folder / name), picture(x_px))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def run(*arguments):
    """The exit code of `edgeai-compress data ...`."""
    import sys
    from unittest.mock import patch

    with patch.object(sys, "argv", ["edgeai-compress", "data", *map(str, arguments)]):
        return main()


def test_every_split_is_converted(squares, tmp_path):
    done = convert_folder(squares, tmp_path / "out", to="yolo")
    assert (done.kind, done.labels) == ("coco", ("square",))
    assert [(s.split, s.pictures, s.boxes, s.lost) for s in done.splits] == [
        ("test", 2, 2, {}),
        ("train", 4, 4, {}),
    ]
    again = load_detections("yolo", tmp_path / "out", "test", None)
    first = load_detections("coco", squares, "test", None)
    for one, other in zip(first.pictures, again.pictures, strict=True):
        np.testing.assert_allclose(one.xyxy_px, other.xyxy_px, atol=0.02)
        assert not other.path.is_symlink()


def test_classes_in_another_order_in_each_split_are_made_one_list(squares, tmp_path):
    data = load_detections("coco", squares, "test", None)
    write_detections("coco", squares, "test", type(data)(("circle", "square"), tuple(
        type(p)(p.path, p.width, p.height, p.xyxy_px, p.class_ids + 1, p.scores, p.crowd_px) for p in data.pictures
    )))  # fmt: skip
    done = convert_folder(squares, tmp_path / "out", to="voc", pictures="link")
    assert done.labels == ("circle", "square")
    for split in ("train", "test"):
        again = load_detections("voc", tmp_path / "out", split, ["square"])
        assert sum(len(p.xyxy_px) for p in again.pictures) == len(again)


def test_convert_says_what_the_new_format_does_not_keep(squares, tmp_path, capsys):
    path = squares / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["score"] = 0.5
    content["images"][0]["group"] = "north"
    path.write_text(json.dumps(content))
    assert run("convert", squares, "--to", "cvat", "--out", tmp_path / "a", "--split", "train") == 0
    told = capsys.readouterr().err
    for what in ("1 crowd regions", "1 boxes' scores", "1 pictures' groups"):
        assert f"train: {what} left out: cvat" in told
    assert run("convert", squares, "--to", "cvat", "--out", tmp_path / "b", "--split", "train", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    (row,) = json.loads(line)["splits"]
    assert row == {
        "split": "train",
        "pictures": 4,
        "boxes": 3,
        "left_out": {"crowd": 1, "score": 1, "group": 1},
    }


MISTAKES = {
    "no format": (["--to", "tfrecord"], 2, "unknown format 'tfrecord'"),
    "no split": (["--to", "voc", "--split", "tset"], 1, "instances_tset.json; there is"),
    "other format": (["--to", "voc", "--from", "yolo"], 1, "no class names"),
}


@pytest.mark.parametrize("which", MISTAKES)
def test_a_mistake_of_convert_is_one_line_and_nothing_is_written(squares, tmp_path, capsys, which):
    arguments, code, told = MISTAKES[which]
    assert run("convert", squares, *arguments, "--out", tmp_path / "out") == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["squares"]


def test_somebodys_folder_is_not_written_to(squares, tmp_path):
    with pytest.raises(DataError, match="is there already; choose a new place"):
        convert_folder(squares, squares, to="yolo")
    (tmp_path / "empty").mkdir()
    assert convert_folder(squares, tmp_path / "empty", to="voc").kind == "coco"
    assert detect_format(tmp_path / "empty") == "voc"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_stopped_convert_leaves_nothing(squares, tmp_path, monkeypatch, stop):
    import shutil

    count = iter(range(9))

    def copy(*arguments, real=shutil.copyfile):
        if next(count) == 3:
            raise stop
        return real(*arguments)

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises((KeyboardInterrupt, EdgeError)):
        convert_folder(squares, tmp_path / "out", to="yolo")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["squares"]


def test_prelabels_of_every_file_format_name_pictures_below_the_folder(photos, blob, tmp_path, capsys):
    for to, name in (("label-studio", "tasks.json"), ("cvat", "a.xml"), ("coco", "c.json")):
        assert run("prelabel", photos, "--bundle", blob, "--to", to, "--out", tmp_path / name, "--json") == 0
        (line,) = capsys.readouterr().out.splitlines()
        figures = json.loads(line)
        assert (figures["pictures"], figures["boxes"], figures["without_boxes"]) == (3, 2, 1)
        assert figures["skipped"] == [str(photos / "broken.jpg")]
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [t["data"]["image"] for t in tasks] == [
        f"/data/local-files/?d=my%20photos/{name}" for name in ("a.png", "empty.png", "b/c.png")
    ]
    (result,) = tasks[0]["predictions"][0]["result"]
    assert result["value"]["rectanglelabels"] == ["blob"]
    assert result["value"]["x"] == pytest.approx(100 * 8 / 64, abs=10)
    config = ElementTree.fromstring((tmp_path / "tasks.label_config.xml").read_text())
    assert config.find("RectangleLabels").attrib == {"name": result["from_name"], "toName": result["to_name"]}
    images = ElementTree.fromstring((tmp_path / "a.xml").read_text()).findall("image")
    assert [(i.get("name"), i.get("width"), len(i)) for i in images] == [
        ("a.png", "64", 1), ("empty.png", "64", 0), ("b/c.png", "64", 1)
    ]  # fmt: skip
    assert images[0][0].get("source") == "auto"
    coco = json.loads((tmp_path / "c.json").read_text())
    assert 0.4 <= coco["annotations"][0]["score"] <= 1


@pytest.mark.parametrize("to", ["label-studio", "cvat", "coco", "yolo", "voc"])
def test_prelabels_as_a_folder_are_a_data_set(photos, blob, tmp_path, to):
    done = prelabel_folder(photos, tmp_path / "out", bundle=blob, to=to)
    assert all(path.exists() for path in done.written)
    data = load_detections("auto", tmp_path / "out", "train", None)
    assert data.labels == ("blob",)
    for one in done.found.pictures:
        other = next(p for p in data.pictures if p.path.resolve() == one.path)
        np.testing.assert_allclose(other.xyxy_px, one.xyxy_px, atol=0.02)
        assert (one.xyxy_px >= 0).all()


def test_prelabels_can_be_read_back_beside_their_pictures(photos, blob):
    done = prelabel_folder(photos, photos / "tasks.json", bundle=blob, to="label-studio")
    data = load_detections("label-studio", photos, "all", None)
    assert [len(p.xyxy_px) for p in data.pictures] == [1, 0, 1]
    for one, other in zip(done.found.pictures, data.pictures, strict=True):
        np.testing.assert_allclose(other.xyxy_px, one.xyxy_px, atol=0.01)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)


def test_prelabel_refuses_what_does_not_fit(photos, blob, tmp_path):
    with pytest.raises(UsageError, match=r"yolo cannot be written to x\.txt: give a new folder"):
        prelabel_folder(photos, tmp_path / "x.txt", bundle=blob, to="yolo")
    with pytest.raises(UsageError, match=r"cvat cannot be written to x.json: give a file that ends in .xml"):
        prelabel_folder(photos, tmp_path / "x.json", bundle=blob, to="cvat")
    with pytest.raises(UsageError, match="between 0 and 1"):
        prelabel_folder(photos, tmp_path / "x.json", bundle=blob, to="coco", min_score=float("nan"))
    with pytest.raises(BundleError, match="not for finding boxes"):
        prelabel_folder(photos, tmp_path / "x.json", bundle="commands", to="coco")
    (tmp_path / "x.json").write_text("a day's work")
    with pytest.raises(DataError, match="is there already"):
        prelabel_folder(photos, tmp_path / "x.json", bundle=blob, to="coco")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 1 pictures"):
        prelabel_folder(tmp_path / "bad", tmp_path / "y.json", bundle=blob, to="coco")


def test_a_stopped_prelabel_leaves_nothing(photos, blob, tmp_path, monkeypatch):
    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("compress.data.prelabel.read_picture", stop)
    for out in ("tasks.json", "folder"):
        with pytest.raises(KeyboardInterrupt):
            prelabel_folder(photos, tmp_path / out, bundle=blob, to="label-studio")
    assert [p.name for p in tmp_path.iterdir()] == [photos.name]


def test_the_commands_are_registered_with_an_example():
    from typer.main import get_command

    commands = get_command(app).commands["data"].commands
    for name in ("convert", "prelabel"):
        assert "Example: edgeai-compress data" in commands[name].help
