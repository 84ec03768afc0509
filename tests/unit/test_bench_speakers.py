"""bench-speakers: who is left out, and whose clips are measured on."""

from __future__ import annotations

import pytest
from bench.bench_speakers import only, speakers_of, without
from tiny_recipe import tones_recipe, write_tones

from edgeai.errors import DataError

pytestmark = pytest.mark.compress


@pytest.fixture
def recipe(tmp_path):
    from compress.recipe import parse_recipe

    write_tones(tmp_path / "tones", each=3)
    made = tones_recipe()
    made["data"]["train"].append({"kind": "spoken", "words": {"deep": "low"}})
    return parse_recipe(made, where="here")


def test_a_speaker_is_left_out_of_the_list_and_measured_on(recipe, tmp_path):
    source, speakers = speakers_of(recipe, tmp_path)
    assert speakers == ["train0", "train1", "train2"]
    fewer = without(recipe, source, "train1")
    assert fewer.data.train[0].leave_out == ("train1",)
    assert fewer.data.train[1:] == recipe.data.train[1:]
    clips = only(recipe, source, speakers, "train1", tmp_path)
    assert set(clips.groups) == {"train1"}
    assert len(clips) == 3


def test_a_list_that_tells_no_speakers_is_refused(recipe, tmp_path):
    path = tmp_path / "tones/train.csv"
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in path.read_text().splitlines()) + "\n")
    with pytest.raises(DataError, match="tells of 0 speakers"):
        speakers_of(recipe, tmp_path)
