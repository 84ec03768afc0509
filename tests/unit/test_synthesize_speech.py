"""Spoken words: a folder that the trainer reads, voices apart, and words that cannot become options or paths."""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from compress.cli.data import app
from compress.data.speech import load_speech
from compress.data.synthesize import speech
from compress.data.synthesize.speech import synthesize_speech
from edgeai.console import run_app
from edgeai.errors import DataError, DataMissingError, EdgeError, UsageError

VOICES = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 2  en-us           --/M      English_(America)  gmw/en-US            (en 3)
 5  en-gb-scotland  --/M      English_(Scotland) gmw/en-GB-scotland   (en 4)
 5  en-us           --/M      us-mbrola-2        mb/mb-us2            (en 7)
"""
VARIANTS = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  variant         --/M      Adam               !v/adam
 5  variant         --/M      Mr_Serious         !v/Mr serious
 5  variant         --/M      Robosoft           !v/robosoft
 5  variant         70/F      female1            !v/f1                (en 5)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An espeak-ng that notes its arguments and its input, and always says the same tone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    buffer = io.BytesIO()
    tone = 0.5 * np.sin(np.arange(11025) * 0.1)
    soundfile.write(buffer, tone, 22050, format="WAV", subtype="PCM_16")
    (folder / "sound.wav").write_bytes(buffer.getvalue())
    (folder / "voices").write_text(VOICES)
    (folder / "variants").write_text(VARIANTS)
    script = folder / "espeak-ng"
    script.write_text(
        f"""#!/bin/sh
echo "$@" >> {folder}/arguments
case "$1" in
--voices=en) exec cat {folder}/voices ;;
--voices=variant) exec cat {folder}/variants ;;
--voices=*) exec head -n 1 {folder}/voices ;;
esac
said=$(cat)
printf '%s\\n' "$said" >> {folder}/input
exec cat {folder}/sound.wav
"""
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def rows_of(folder):
    with (folder / "train.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_folder_is_one_that_the_trainer_reads(fake, tmp_path):
    made = synthesize_speech(
        ["yes", "turn left"], tmp_path / "new", unknown=["cat", "dog"], per_word=4, voices=3
    )
    assert made.labels == ("yes", "turn left", "unknown")
    assert (made.clips, made.speakers) == (12, 3)
    assert made.longest_s == pytest.approx(0.5, abs=0.01)
    data = load_speech(tmp_path / "new", "train", made.labels, samples=16000)
    assert len(data) == 12
    clip = data.clip(5)
    assert 0.25 < np.abs(clip).max() <= 0.91
    loud = np.flatnonzero(np.abs(clip) > 0.1)
    assert 0.2 * 16000 < loud.mean() < 0.8 * 16000, "the word is near the middle"
    kept, held = data.split(0.4)
    assert not set(kept.groups) & set(held.groups)
    said = (fake / "input").read_text().split("\n")
    assert {"yes", "turn left", "cat", "dog"} <= set(said)


def test_voices_are_people_of_the_language_and_the_seed_repeats(fake, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthesize_speech(["yes"], tmp_path / name, per_word=6, voices=6, seed=seed)
    rows = {name: rows_of(tmp_path / name) for name in "abc"}
    assert rows["a"] == rows["b"]
    for row in rows["a"]:
        assert (tmp_path / "a" / row["file"]).read_bytes() == (tmp_path / "b" / row["file"]).read_bytes()
    assert {row["speaker"] for row in rows["a"]} == {"espeak-adam", "espeak-mr_serious", "espeak-f1"}
    arguments = (fake / "arguments").read_text()
    assert "robosoft" not in arguments and "mb/" not in arguments
    assert "gmw/en-US+" in arguments and "gmw/en-GB-scotland+" in arguments


@pytest.mark.parametrize(
    "word", ["--help", "-v de", "../../etc/passwd", "$(touch gone)", "a;b", "x" * 80, "né"]
)
def test_no_word_becomes_an_option_or_leaves_the_folder(fake, tmp_path, word):
    out = tmp_path / "new"
    synthesize_speech([word], out, per_word=1, voices=1)
    row = rows_of(out)[0]
    assert row["label"] == word
    assert (out / row["file"]).resolve().is_relative_to(out.resolve() / "clips")
    lines = (fake / "arguments").read_text().splitlines()
    assert word not in lines[-1].split() and lines[-1].startswith("--stdout --stdin -v")
    assert (fake / "input").read_text() == f"{word}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no words"),
        (["", "  "], "no words"),
        (["..."], "no word to speak"),
        (["a\x00b"], "no word to speak"),
        (["x" * 81], "no word to speak"),
        (["turn left", "turn-left"], "share the folder"),
        (["unknown"], "cannot be both"),
        ([f"w{i}" for i in range(201)], "more than 200"),
    ],
)
def test_words_that_cannot_be_spoken_are_told(tmp_path, words, message):
    with pytest.raises(UsageError, match=message):
        synthesize_speech(words, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@given(st.lists(st.text(max_size=90), max_size=4))
def test_any_words_give_names_of_files_or_one_line(words):
    try:
        checked = speech._checked_words(words)
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    for word in checked:
        slug = speech._slug(word)
        assert slug and "/" not in slug and slug not in (".", "..") and slug.isprintable()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"per_word": 0}, UsageError),
        ({"voices": 0}, UsageError),
        ({"sample_rate_hz": 100}, UsageError),
        ({"per_word": 300_000}, UsageError),
        ({"language": "-x"}, UsageError),
        ({"split": "../train"}, UsageError),
        ({"language": "tlh"}, DataMissingError),
        ({"unknown": ["yes"]}, UsageError),
    ],
)
def test_wrong_numbers_are_told_before_any_work(fake, tmp_path, changes, error):
    with pytest.raises(error):
        synthesize_speech(["yes"], tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_nothing_is_left_where_a_word_is_silent(fake, tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000), 22050, format="WAV", subtype="PCM_16")
    (fake / "sound.wav").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="says nothing for 'yes'"):
        synthesize_speech(["yes"], tmp_path / "new", per_word=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin"]


def test_a_folder_that_is_there_is_left_alone(fake, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work").write_text("x")
    with pytest.raises(DataError, match="is there already"):
        synthesize_speech(["yes"], tmp_path / "mine")


def test_without_espeak_the_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        monkeypatch.setattr(
            "sys.argv", ["data", "synthesize", "speech", "--words", "yes", "--out", str(tmp_path / "new")]
        )
        raise SystemExit(run_app(app, program="data"))
    assert ended.value.code == 1
    assert "apt-get install espeak-ng" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng: apt-get install espeak-ng")
def test_the_real_program_speaks(tmp_path):
    made = synthesize_speech(["turn left", "-q"], tmp_path / "new", per_word=2, voices=2)
    assert 0.1 < made.longest_s < 2.5
    assert made.clips == 4 and made.speakers == 2
