"""Pictures without labels: what is found in a folder, and what is left out because it is measured on."""

from __future__ import annotations

import json

import pytest

from compress.data import unlabelled
from compress.data.unlabelled import find_pictures
from edgeai.errors import DataError, DataMissingError


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened here")
    return folder


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_pictures_are_found_in_folders_of_folders_in_order(tmp_path):
    make(tmp_path, "b/2.PNG", "b/c/1.webp", "a.jpg", "notes.txt", ".hidden.jpg", ".cache/x.jpg", "._a.jpg")
    assert names(find_pictures(tmp_path), tmp_path) == ["a.jpg", "b/2.PNG", "b/c/1.webp"]


def test_links_are_followed_only_below_the_folder(tmp_path):
    inside = make(tmp_path / "in", "real/a.jpg")
    outside = make(tmp_path / "out", "secret.jpg")
    (inside / "again.jpg").symlink_to(inside / "real" / "a.jpg")
    (inside / "away.jpg").symlink_to(outside / "secret.jpg")
    (inside / "folder").symlink_to(outside)
    (inside / "nowhere.jpg").symlink_to(inside / "gone.jpg")
    (inside / "loop.jpg").symlink_to(inside / "loop.jpg")
    assert names(find_pictures(inside), inside) == ["real/a.jpg"]


def test_a_folder_of_nothing_but_links_out_is_told(tmp_path):
    make(tmp_path / "out", "secret.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "away.jpg").symlink_to(tmp_path / "out" / "secret.jpg")
    with pytest.raises(DataMissingError, match="links lead out of it"):
        find_pictures(tmp_path / "in")


def coco(folder, split, *files):
    images = [{"id": i, "file_name": name, "width": 4, "height": 4} for i, name in enumerate(files, 1)]
    (folder / f"instances_{split}.json").write_text(
        json.dumps({"images": images, "annotations": [], "categories": []})
    )


@pytest.mark.parametrize("given", ["", "images"])
def test_pictures_that_another_split_lists_stay_unseen(tmp_path, capsys, given):
    make(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg", "images/nobody.jpg")
    coco(tmp_path, "train", "1.jpg", "3.jpg")
    coco(tmp_path, "test", "2.jpg", "3.jpg")
    found = find_pictures(tmp_path / given)
    assert [path.name for path in found] == ["1.jpg", "3.jpg", "nobody.jpg"]
    assert "1 of 4 pictures left out" in capsys.readouterr().err
    both = find_pictures(tmp_path, splits=("train", "test"))
    assert len(both) == 4


def test_folders_called_test_or_val_stay_unseen_unless_they_are_asked_for(tmp_path):
    make(tmp_path, "images/train/1.jpg", "images/val/2.jpg", "Test/3.jpg")
    assert names(find_pictures(tmp_path), tmp_path) == ["images/train/1.jpg"]
    assert len(find_pictures(tmp_path, splits=("train", "val"))) == 2
    # the folder that is given was meant
    assert len(find_pictures(tmp_path / "images" / "val")) == 1


def test_pictures_that_the_caller_holds_out_are_left_out(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "link").symlink_to(tmp_path)
    assert names(find_pictures(tmp_path, leave_out=[tmp_path / "link" / "b.jpg"]), tmp_path) == ["a.jpg"]
    with pytest.raises(DataMissingError, match="all 2 are held out or of other splits than train"):
        find_pictures(tmp_path, leave_out=[tmp_path / "a.jpg", tmp_path / "b.jpg"])


def test_what_cannot_be_used_is_told_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(DataMissingError, match="no folder"):
        find_pictures(tmp_path / "gone")
    make(tmp_path, "notes.txt")
    with pytest.raises(DataMissingError, match="no pictures in"):
        find_pictures(tmp_path)
    with pytest.raises(DataError, match="is a file, a folder"):
        find_pictures(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="is no path"):
        find_pictures(tmp_path / "a\0b")
    make(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.setattr(unlabelled, "MAX_PICTURES", 1)
    with pytest.raises(DataError, match="holds 2 pictures, more than 1"):
        find_pictures(tmp_path)


def test_broken_labels_beside_the_pictures_are_told(tmp_path):
    make(tmp_path, "images/a.jpg")
    (tmp_path / "instances_test.json").write_text('{"images": [{"file_name": "a')
    with pytest.raises(DataError, match=r"instances_test.json is no JSON"):
        find_pictures(tmp_path)
    (tmp_path / "instances_test.json").write_text(
        '{"images": [{"file_name": "../../a\\u0000.jpg"}, 7, {}], "annotations": [], "categories": []}'
    )
    assert len(find_pictures(tmp_path)) == 1
