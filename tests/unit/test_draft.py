"""The first recipe for somebody's own data: whatever lies in the folder, what is written can be read and fits it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import soundfile
import tomllib
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipe import write_squares, write_tones

from compress.cli.new import write_draft
from compress.draft import _text, draft_recipe
from compress.recipe import parse_recipe
from edgeai.errors import EdgeError, UsageError


def drafted(folder, **options):
    draft = draft_recipe(folder, **options)
    return parse_recipe(tomllib.loads(draft.text), where="draft")


def test_pictures_with_boxes(tmp_path):
    write_squares(tmp_path / "My squares!", count=8)
    recipe = drafted(tmp_path / "My squares!")
    assert (recipe.name, recipe.task, recipe.labels) == ("my-squares", "detect", ("square",))
    assert recipe.data.train[0].folder == "My squares!"
    assert recipe.input.width == 256, "squares of a third of the picture need no large one"
    assert recipe.network.init is None
    assert [p.kind for p in recipe.passes] == ["train", "quantize", "export"]


def test_small_boxes_ask_for_a_larger_picture(tmp_path):
    write_squares(tmp_path / "far", count=8, size=640)
    assert drafted(tmp_path / "far").input.width == 512
    assert drafted(tmp_path / "far", size=96, steps=7).input.width == 96
    with pytest.raises(UsageError, match="multiple of 32"):
        drafted(tmp_path / "far", size=100)


def test_training_may_go_on_from_a_zoo_model(tmp_path):
    write_squares(tmp_path / "more", count=8)
    recipe = drafted(tmp_path / "more", start="person-detector")
    assert (recipe.network.kind, recipe.network.init) == ("bundle", "person-detector")
    assert "object" in recipe.decoder.params["maps"]
    with pytest.raises(UsageError, match="no maps"):
        drafted(tmp_path / "more", start="commands")


def test_clips_with_a_list(tmp_path):
    write_tones(tmp_path / "tones", each=3)
    recipe = drafted(tmp_path / "tones")
    assert (recipe.task, recipe.labels) == ("keyword", ("high", "low", "silence"))
    assert recipe.input.sample_rate_hz == 16000
    assert recipe.input.frames == 48
    assert recipe.data.noises is None


def test_clips_in_folders_at_8_khz(tmp_path):
    for label in ("one", "two"):
        (tmp_path / "words" / label).mkdir(parents=True)
        for number in range(3):
            soundfile.write(
                tmp_path / "words" / label / f"{number}.wav", np.zeros(12000, np.float32) + 0.1, 8000
            )
    recipe = drafted(tmp_path / "words")
    assert recipe.data.train[0].kind == "sound-folders"
    assert recipe.input.sample_rate_hz == 8000
    assert recipe.input.high_hz == 3800
    assert recipe.input.frames == 148


def test_pictures_in_folders(tmp_path):
    for label in ("ripe", "green"):
        (tmp_path / "fruit" / label).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "fruit" / label / "a.png"), np.zeros((9, 9, 3), np.uint8))
    recipe = drafted(tmp_path / "fruit")
    assert (recipe.task, recipe.labels) == ("classify", ("green", "ripe"))


def test_an_empty_folder_a_file_and_no_folder_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("empty", "file", "nowhere"):
        with pytest.raises(EdgeError) as told:
            draft_recipe(tmp_path / name)
        assert name in str(told.value)


def test_a_recipe_that_is_there_is_kept(tmp_path, capsys):
    write_squares(tmp_path / "squares", count=4)
    out = tmp_path / "sub" / "recipe.toml"
    assert write_draft(tmp_path / "squares", out=out, json_output=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"] == str(out)
    assert told["data"] == str(tmp_path.resolve())
    with pytest.raises(UsageError, match="is there already"):
        write_draft(tmp_path / "squares", out=out)
    assert write_draft(tmp_path / "squares", out=out, steps=9, force=True) == 0
    assert "steps = 9" in out.read_text()
    assert [p.name for p in out.parent.iterdir()] == ["recipe.toml"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_label_is_written_so_that_toml_reads_it_back(label):
    assert tomllib.loads(f"x = {_text(label)}")["x"] == label
