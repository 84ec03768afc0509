"""The zoo's tables: made of what manifests measured, kept between marks, and told apart from what was measured."""

from __future__ import annotations

import json

import pytest
from tiny_bundle import write_clips, write_keyword_bundle

pytestmark = pytest.mark.compress

CARD = "# tiny\n\nBy hand.\n<!-- figures -->\n<!-- /figures -->\nLimits, by hand.\n<!-- details -->\n<!-- /details -->\nEnd.\n"
README = "# zoo\n<!-- zoo -->\n<!-- /zoo -->\nmore\n"


@pytest.fixture
def zoo(tmp_path):
    models = tmp_path / "models"
    write_keyword_bundle(models / "tiny")
    (models / "tiny" / "card.md").write_text(CARD)
    (models / "zoo.toml").write_text('[tiny]\ndata = "sounds"\nsplit = "part"\n')
    (tmp_path / "README.md").write_text(README)
    write_clips(tmp_path / "data" / "sounds")
    return tmp_path


def run(zoo, *options):
    import sys

    from compress.cli.commands import app
    from edgeai.console import run_app

    sys.argv = [
        "edgeai-compress",
        "zoo-eval",
        *("--data", str(zoo / "data"), "--models", str(zoo / "models"), "--readme", str(zoo / "README.md")),
        *("--out", str(zoo / "out"), *options),
    ]
    return run_app(app, program="edgeai-compress")


def test_written_figures_are_checked_and_hold(zoo, capsys):
    assert run(zoo) == 1
    assert "never measured" in capsys.readouterr().out
    assert run(zoo, "--write") == 0
    card = (zoo / "models/tiny/card.md").read_text()
    assert card.startswith("# tiny\n\nBy hand.\n")
    assert card.endswith("End.\n")
    assert "Limits, by hand." in card
    assert "accuracy, sounds/part (95 %)" in card
    assert "[tiny](models/tiny)" in (zoo / "README.md").read_text()
    assert run(zoo) == 0
    # written twice is written once
    assert run(zoo, "--write") == 0
    assert card.count("tflite/int8") == (zoo / "models/tiny/card.md").read_text().count("tflite/int8")


def test_a_card_or_figure_that_tells_something_else_is_named(zoo, capsys):
    run(zoo, "--write")
    capsys.readouterr()
    card, readme, manifest = (
        zoo / name for name in ("models/tiny/card.md", "README.md", "models/tiny/manifest.json")
    )
    kept = card.read_text()
    card.write_text(kept.replace("| bytes |", "| size |"))
    readme.write_text(readme.read_text().replace("accuracy", "luck"))
    assert run(zoo) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "card.md: its table is not what the manifest has measured" in said
    assert "README.md: its table of models" in said
    card.write_text(kept)
    fields = json.loads(manifest.read_text())
    for one in fields["measured"]:
        if one["metric"] == "accuracy":
            one["value"] -= 0.4  # of 24 clips, whose interval is as wide as that
    manifest.write_text(json.dumps(fields))
    assert run(zoo) == 1
    assert "its manifest says" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda zoo: (zoo / "models/zoo.toml").write_text('[tinny]\ndata = "sounds"\n'), "split"),
        (lambda zoo: (zoo / "models/zoo.toml").unlink(), "zoo.toml"),
        (lambda zoo: (zoo / "models/tiny/card.md").write_text("# no marks"), "<!-- figures -->"),
        (lambda zoo: (zoo / "data/sounds").rename(zoo / "data/noises"), "is measured on"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(zoo, capsys, change, said):
    change(zoo)
    assert run(zoo, "--write") != 0
    captured = capsys.readouterr()
    assert said in " ".join((captured.out + captured.err).split())
    assert "Traceback" not in captured.err


def test_an_unknown_model_names_the_nearest(zoo, capsys):
    assert run(zoo, "--only", "tini") != 0
    assert "tiny" in " ".join(capsys.readouterr().err.split())


def test_marks_must_stand_once():
    from compress.zoo.tables import marked, with_marked
    from edgeai.errors import DataError

    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb"
    assert marked(text, "x", where="card") == "old"
    assert with_marked(text, "x", "new", where="card") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    for wrong in ("none", "<!-- /x --> <!-- x -->", text + text):
        with pytest.raises(DataError, match="card needs the line"):
            marked(wrong, "x", where="card")


def test_a_wake_words_false_accepts_stand_in_its_card_and_are_checked(tmp_path, capsys):
    from test_wake_word import write_wake_bundle

    models = tmp_path / "models"
    write_wake_bundle(models / "wake", threshold=0.3)
    (models / "wake" / "card.md").write_text(CARD)
    (models / "zoo.toml").write_text('[wake]\ndata = "sounds"\nsplit = "part"\nothers = ["sounds/part"]\n')
    (tmp_path / "README.md").write_text(README)
    write_clips(tmp_path / "data" / "sounds")
    # its words are in what is called other sound: they are taken for the word, every time
    assert run(tmp_path, "--write") == 0
    manifest = models / "wake" / "manifest.json"
    fields = json.loads(manifest.read_text())
    heard = {one["metric"]: one for one in fields["measured"] if "other sound" in one["data"]}
    count = heard["false_accepts"]["value"]
    assert count >= 8
    assert heard["negative_hours"]["value"] == pytest.approx((16 + 24) * 4000 / 16000 / 3600, abs=1e-4)
    assert f"{count:.0f} false accepts in 0.00 h of other sound" in (models / "wake/card.md").read_text()
    assert run(tmp_path) == 0
    heard["false_accepts"]["value"] = 1
    manifest.write_text(json.dumps(fields))
    capsys.readouterr()
    assert run(tmp_path) == 1
    assert "false accepts, its manifest says 1" in " ".join(capsys.readouterr().out.split())


def test_sounds_are_made_for_a_model_that_is_measured_on_made_ones(tmp_path):
    import numpy as np
    import soundfile

    from compress.zoo.sheet import load_zoo

    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise/a.wav", rng.normal(0, 0.1, 120_000).astype(np.float32), 16000)
    (tmp_path / "zoo.toml").write_text(
        '[m]\ndata = "machine"\nsplit = "test"\n'
        'machine = { seed = 3, clips = 2, faulty = 1, noises = "noise", part = [0.5, 1.0] }\n'
    )
    (model,) = load_zoo(tmp_path)
    for _ in range(2):  # made anew, whatever lies there
        folder = model.measure.folder(tmp_path, tmp_path / "out")
        assert folder == tmp_path / "out" / "machine"
        assert len((folder / "test.csv").read_text().splitlines()) == 9
