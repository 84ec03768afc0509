"""Data folders: what is absent, broken or hostile is said in one line, and what is right comes out right."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_recipe import write_squares, write_tones

from compress.data.detection import join_sets, read_picture
from compress.data.formats.coco import load_coco, write_coco
from compress.data.holdout import hold_out
from compress.data.speech import ClipCache, join_speech, load_noises, load_speech
from edgeai.errors import DataError, DataMissingError, EdgeError


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder, count=3)
    return folder


def test_labels_come_back_as_they_were_written(squares, tmp_path):
    made = load_coco(squares, "train", ["square"])
    assert len(made) == 3
    picture = made.pictures[0]
    x1, y1, x2, y2 = (int(v) for v in picture.xyxy_px[0])
    assert (read_picture(picture.path)[y1:y2, x1:x2] == (20, 20, 230)).all()
    (tmp_path / "images").symlink_to(squares / "images")
    write_coco(tmp_path, "again", made)
    again = load_coco(tmp_path, "again", ["square"])
    for before, after in zip(made.pictures, again.pictures, strict=True):
        np.testing.assert_allclose(before.xyxy_px, after.xyxy_px, atol=0.02)


def test_an_absent_split_names_those_that_are_there(squares):
    with pytest.raises(DataMissingError, match=r"instances_tset.json; there is instances_train.json"):
        load_coco(squares, "tset", ["square"])


def test_an_unknown_category_names_those_that_are_there(squares):
    with pytest.raises(DataError, match=r"no category 'circle'; it has square"):
        load_coco(squares, "train", ["circle"])


def test_sets_of_other_labels_do_not_join(squares):
    one = load_coco(squares, "train", ["square"])
    with pytest.raises(DataError, match="same labels"):
        join_sets([one, type(one)(("other",), one.pictures)])


def coco(**changes):
    whole = {
        "images": [{"id": 1, "file_name": "train-001.png", "width": 64, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "square"}],
    }
    return {**whole, **changes}


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "deep": "[" * 100_000,
    "no images": json.dumps({"annotations": [], "categories": [{"id": 1, "name": "square"}]}),
    "no pictures": json.dumps(coco(images=[], annotations=[])),
    "size of nothing": json.dumps(
        coco(images=[{"id": 1, "file_name": "train-001.png", "width": 0, "height": 64}])
    ),
    "box of NaN": json.dumps(
        coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, float("nan"), 4]}])
    ),
    "box of three": json.dumps(
        coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}])
    ),
    "unknown category": json.dumps(
        coco(annotations=[{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}])
    ),
    "annotations of strings": json.dumps(coco(annotations=["x"])),
    "endless size": '{"images": [{"id": 1, "file_name": "a", "width": 1e999, "height": 1}], '
    '"annotations": [], "categories": [{"id": 1, "name": "square"}]}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_data_error(squares, content):
    (squares / "instances_broken.json").write_text(content)
    with pytest.raises(DataError) as error:
        load_coco(squares, "broken", ["square"])
    assert "\n" not in str(error.value)


def test_a_picture_that_is_not_there_is_missing_data(squares):
    (squares / "instances_gone.json").write_text(
        json.dumps(coco(images=[{"id": 1, "file_name": "gone.png", "width": 9, "height": 9}]))
    )
    with pytest.raises(DataMissingError, match=r"lists gone.png"):
        load_coco(squares, "gone", ["square"])


def test_a_file_that_is_no_picture_is_said(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture"):
        read_picture(tmp_path / "x.png")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["images", "annotations", "categories", "id", "name", "bbox", "image_id", "category_id"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["images", "annotations", "categories"]))
@settings(max_examples=100)
def test_any_json_raises_edge_errors_only(squares, value, key):
    (squares / "instances_fuzz.json").write_text(json.dumps(coco(**{key: value})))
    with contextlib.suppress(EdgeError):
        load_coco(squares, "fuzz", ["square"])


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder, each=4)
    return folder


LABELS = ("low", "high", "silence")


def test_clips_are_cut_or_padded_and_speakers_stay_together(tones):
    clips = load_speech(tones, "train", LABELS, samples=9000)
    heard = clips.clips(range(12))
    assert heard.shape == (12, 9000)
    assert (heard[:, 8000:] == 0).all()
    assert np.abs(heard[:, :8000]).max() > 0.1
    np.testing.assert_array_equal(heard[3], clips.clip(3))
    kept, held = clips.split(0.4)
    assert len(kept) + len(held) == 12
    assert not set(kept.groups) & set(held.groups)
    assert load_speech(tones, "train", LABELS, samples=100).clip(0).shape == (100,)
    assert load_speech(tones, "train", None, samples=100).labels == ("high", "low", "silence")
    both = join_speech([clips, clips])
    assert len(both) == 24
    np.testing.assert_array_equal(both.clip(13), clips.clip(1))


def test_a_clip_past_the_bound_of_the_cache_is_read_again(tones):
    clips = load_speech(tones, "train", LABELS, samples=9000)
    small = replace(clips, cache=ClipCache(sample_rate_hz=16000, max_bytes=20_000))
    for index in (0, 1, 2, 0, 2):
        np.testing.assert_allclose(small.clip(index), clips.clip(index), atol=2e-5)
    assert len(small.cache._kept) == 1


def test_a_list_may_not_leave_its_folder(tones):
    (tones / "out.csv").write_text("file,label\n../outside.wav,low\n")
    with pytest.raises(DataError, match="leaves the folder"):
        load_speech(tones, "out", LABELS, samples=100)


@given(st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=80), st.floats(0.05, 0.45))
def test_whole_groups_are_held_out_and_both_parts_have_some(groups, fraction):
    held = hold_out(groups, fraction)
    inside = {g for g, h in zip(groups, held, strict=True) if h}
    outside = {g for g, h in zip(groups, held, strict=True) if not h}
    assert not inside & outside
    if len(set(groups)) > 1:
        assert inside and outside


BROKEN_CSV = {
    "empty": (b"", "no clips|must have"),
    "no clips": (b"file,label\n", "no clips"),
    "other columns": (b"path,word\nx,y\n", "must have the column file"),
    "unknown label": (b"file,label\nclips/train-low-0.wav,loud\n", r"line 2: label 'loud' is not among"),
    "short row": (b"file,label\nclips/train-low-0.wav\n", r"line 2: label None"),
    "no file": (b"file,label\n,low\n", r"line 2: no file is named"),
    "cells too many": (b"path,word\nx,y,z\n", "must have the column file"),
    "no text": (b"file,label\n\xff\xfe,low\n", "no CSV"),
}


@pytest.mark.parametrize("content, told", BROKEN_CSV.values(), ids=BROKEN_CSV)
def test_a_broken_list_of_clips_is_one_data_error(tones, content, told):
    (tones / "broken.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        load_speech(tones, "broken", LABELS, samples=100)


def test_an_absent_clip_or_list_is_missing_data(tones, tmp_path):
    (tones / "gone.csv").write_text("file,label\nclips/gone.wav,low\n")
    with pytest.raises(DataMissingError, match="no clip at"):
        load_speech(tones, "gone", LABELS, samples=100)
    with pytest.raises(DataMissingError, match=r"none.csv; there is .*train.csv"):
        load_speech(tones, "none", LABELS, samples=100)
    with pytest.raises(DataMissingError, match="no FLAC or WAV"):
        load_noises(tmp_path)
    assert load_noises(None) == []


def test_a_large_set_is_thinned_evenly(squares):
    data = load_coco(squares, "train", ["square"])
    thin = data.thin(3)
    assert [p.path for p in thin.pictures] == [data.pictures[i].path for i in (0, (len(data) - 1) // 2, -1)]
    assert data.thin(10_000) is data
