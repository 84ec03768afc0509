"""The passes that learn from a teacher, through whole recipes: a bundle as the teacher, kept answers, no data at all."""

from __future__ import annotations

import json

import pytest
from tiny_recipe import run_tones, write_tones

pytestmark = [pytest.mark.compress, pytest.mark.system]

FIT = {"steps": 10, "batch": 16, "learning_rate": 5e-3, "average": 0.8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_tones(root / "tones")
    return root


@pytest.fixture(scope="module")
def teacher(data):
    made = run_tones(data, data / "teacher", {"kind": "train", "fit": {**FIT, "steps": 30}})
    return made.bundle.folder


def test_a_bundle_teaches_and_its_answers_are_kept(data, teacher, tmp_path, capsys):
    distill = {
        "kind": "distill",
        "fit": FIT,
        "teacher": str(teacher),
        "loss": {"kind": "dkd", "beta": 2.0},
        "keep_batches": 4,
    }
    made = run_tones(data, tmp_path, {"kind": "train", "fit": {**FIT, "steps": 1}}, distill)
    assert [record.kept for record in made.records] == [True, True, True]
    told = capsys.readouterr().err
    assert "the answers of tones are" in told, "whether they are kept is decided by time, and said"
    assert json.loads((tmp_path / "work" / "records.json").read_text())[1]["pass"] == "distill"


def test_a_student_learns_without_data(data, teacher, tmp_path, capsys):
    settings = {"rounds": 2, "student_steps": 1, "batch": 4, "bank": 2}
    made = run_tones(data, tmp_path, {"kind": "distill-data-free", "teacher": str(teacher), "fit": settings})
    assert "agree on" in capsys.readouterr().err
    assert made.records[0].kind == "distill-data-free" and made.records[0].kept


def test_a_teacher_that_does_not_fit_is_told_before_any_work(data, teacher, tmp_path):
    from edgeai.errors import RecipeError

    folder = tmp_path / "data" / "tones"
    folder.parent.mkdir()
    folder.symlink_to(data / "tones")
    distill = {"kind": "distill", "fit": FIT, "teacher": str(teacher)}
    with pytest.raises(RecipeError, match=r"recipe tones, pass 2: .*teacher tones"):
        run_tones(
            tmp_path / "data", tmp_path, {"kind": "train", "fit": FIT}, distill, labels=["low", "other"]
        )
    assert not (tmp_path / "work").exists()
