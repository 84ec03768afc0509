"""Folders that are labels: pictures and sounds, splits, groups, speakers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from compress.data.formats.folders import list_sound_folders, load_picture_folders
from edgeai.errors import DataError, DataMissingError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def splits(tmp_path):
    touch(
        tmp_path,
        "train/rust/1.jpg",
        "train/rust/2.PNG",
        "train/mildew/day 2/3.jpg",
        "train/mildew/day 2/4.jpg",
    )
    touch(tmp_path, "valid/rust/5.jpg", "train/rust/notes.txt", "train/rust/.6.jpg", "train/_rest/7.jpg")
    return tmp_path


def test_a_folder_is_a_label_and_a_folder_in_it_a_group(splits):
    data = load_picture_folders(splits, "train", None)
    assert data.labels == ("mildew", "rust")
    assert [path.name for path in data.paths] == ["3.jpg", "4.jpg", "1.jpg", "2.PNG"]
    assert data.class_ids.tolist() == [0, 0, 1, 1]
    assert data.class_ids.dtype == np.int32
    assert data.groups == ("mildew/day 2", "mildew/day 2", "1.jpg", "2.PNG")
    kept, held = data.split(0.4)
    assert len(kept) + len(held) == len(data)
    assert not set(kept.groups) & set(held.groups)


def test_wanted_labels_choose_and_order(splits):
    data = load_picture_folders(splits, "train", ["rust"])
    assert (data.labels, len(data)) == (("rust",), 2)
    assert [p.name for p in load_picture_folders(splits, "val", ["rust"]).paths] == ["5.jpg"]
    with pytest.raises(DataError, match="no category 'blight'; it has mildew, rust"):
        load_picture_folders(splits, "train", ["blight"])
    with pytest.raises(DataMissingError, match="no split 'test'; there is train, valid"):
        load_picture_folders(splits, "test", None)


def test_labels_alone_are_train_or_all(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg")
    for split in ("train", "all"):
        assert load_picture_folders(tmp_path, split, None).labels == ("cat", "dog")
    with pytest.raises(DataMissingError, match="no splits"):
        load_picture_folders(tmp_path, "test", None)
    (tmp_path / "cow").mkdir()
    with pytest.raises(DataError, match=r"cow holds no file of \.jpg"):
        load_picture_folders(tmp_path, "train", None)
    with pytest.raises(DataMissingError, match="no folder"):
        load_picture_folders(tmp_path / "none", "train", None)


def test_a_picture_is_read_when_asked_for(tmp_path):
    (tmp_path / "cat").mkdir()
    cv2.imwrite(str(tmp_path / "cat/1.png"), np.full((4, 6, 3), 7, np.uint8))
    (tmp_path / "cat/2.png").write_bytes(b"no picture")
    data = load_picture_folders(tmp_path, "all", None)
    assert data.picture(0).shape == (4, 6, 3)
    with pytest.raises(DataError, match="no picture"):
        data.picture(1)


def test_speakers_are_told_by_the_names_of_the_two_public_sets(tmp_path):
    touch(
        tmp_path,
        "down/022cd682_nohash_0.wav",
        "down/down_jackson_3.flac",
        "down/other_ann_3.wav",
        "down/x.mp3",
    )
    touch(tmp_path, "_background_noise_/rain.wav", "up/up_de_la_cruz_12.flac")
    sounds = list_sound_folders(tmp_path, "train", None)
    assert [(s.path.name, s.label, s.speaker) for s in sounds] == [
        ("022cd682_nohash_0.wav", "down", "022cd682"),
        ("down_jackson_3.flac", "down", "jackson"),
        ("other_ann_3.wav", "down", "other_ann_3.wav"),
        ("up_de_la_cruz_12.flac", "up", "de_la_cruz"),
    ]
    assert [s.label for s in list_sound_folders(tmp_path, "train", ["up"])] == ["up"]
