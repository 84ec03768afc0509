"""Clips for a recipe: by another column, under other names, without some speakers, their loudest part; made ones."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile
from tiny_recipe import INT8, LOGMEL, tones_recipe, write_tones

from compress.data.speech import join_speech, load_speech, loudest, read_clip
from compress.recipe import parse_recipe
from edgeai.errors import DataError, RecipeError

pytestmark = pytest.mark.compress


@pytest.fixture
def tones(tmp_path):
    """Twelve clips of four speakers, with a column `word` beside the label."""
    write_tones(tmp_path / "tones", each=4)
    path = tmp_path / "tones" / "train.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label", "word", "speaker"])
        writer.writeheader()
        writer.writerows({**row, "word": f"the {row['label']}"} for row in rows)
    return tmp_path / "tones"


def load(folder, labels=None, **changes):
    return load_speech(folder, "train", labels, samples=4000, **changes)


def test_words_get_other_names_and_the_rest_is_left_out_or_gets_one(tones):
    named = load(tones, ("bass",), column="word", called={"the low": "bass"})
    assert len(named) == 4
    assert all("low" in path.name for path in named.paths)
    all_of_them = load(tones, ("bass", "other"), called={"low": "bass", "*": "other"})
    assert np.bincount(all_of_them.class_ids).tolist() == [4, 8]
    assert load(tones, called={"low": "bass"}).labels == ("bass",)
    path = tones / "train.csv"
    path.write_text(path.read_text().replace("the silence", ""))
    named = load(tones, ("bass", "other"), column="word", called={"the low": "bass", "*": "other"})
    assert np.bincount(named.class_ids).tolist() == [4, 8], "no word is another one"


def test_speakers_are_left_out_and_never_held_out(tones):
    fewer = load(tones, leave_out=["train1", "train3"])
    assert set(fewer.groups) == {"train0", "train2"}
    clips = load(tones)
    held_by_itself = set(clips.split(0.3)[1].groups)
    kept, held = clips.split(0.3, never_held=sorted(held_by_itself))
    assert held_by_itself <= set(kept.groups)
    assert held.groups
    assert len(kept) + len(held) == len(clips)
    everyone, nobody = clips.split(0.3, never_held=clips.groups)
    assert (len(everyone), len(nobody)) == (12, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"called": {"lo": "bass"}}, r"no 'lo'.*low"),
        ({"leave_out": ["train9"]}, r"no 'train9'.*train"),
        ({"column": "text"}, "must have the column file and one of text"),
        ({"called": {"low": "bass"}, "labels": ("treble",)}, "line 2: label 'bass' is not among"),
    ],
)
def test_a_slip_of_the_pen_is_told(tones, changes, said):
    with pytest.raises(DataError, match=said):
        load(tones, **changes)


def test_the_loudest_part_of_a_long_clip_is_seen_and_a_short_one_lies_in_the_middle(tmp_path):
    long = np.full(48_000, 0.001, np.float32)
    long[36_000:40_000] = 0.5
    assert loudest(long, 16_000) == pytest.approx(38_000 - 8_000, abs=2_000)
    assert loudest(long[:100], 16_000) == 0
    assert 0 <= loudest(np.zeros(20_000, np.float32), 16_000) <= 4_000
    late = np.zeros(20_000, np.float32)
    late[-500:] = 1
    assert loudest(late, 16_000) == 4_000
    (tmp_path / "clips").mkdir()
    for name, clip in (("long", long), ("short", long[36_000:40_000])):
        soundfile.write(tmp_path / "clips" / f"{name}.wav", clip, 16000)
    (tmp_path / "train.csv").write_text("file,label\nclips/long.wav,a\nclips/short.wav,a\n")
    from dataclasses import replace

    start = load_speech(tmp_path, "train", None, samples=16_000)
    clips = replace(start, window="loudest")
    assert np.abs(start.clip(0)).max() < 0.01
    assert np.abs(clips.clip(0)).max() > 0.4
    short = np.flatnonzero(np.abs(clips.clip(1)) > 0.1)
    assert (short[0], short[-1]) == (6_000, 9_999)
    with pytest.raises(DataError, match="window"):
        join_speech([start, clips])


def task_of(recipe, root):
    from compress.tasks import open_task

    return open_task(parse_recipe(recipe, where="here"), data_root=root, work=root / "work")


def test_a_recipe_hears_spoken_words_beside_its_clips_and_speaks_them_once(tones, tmp_path, monkeypatch):
    from compress.data.synthesize import speech

    asked = []

    def fake(words, out, **settings):
        asked.append((words, settings))
        write_tones(out, each=1)
        rows = [
            f"clips/train-{label}-0.wav,{word},voice"
            for label, word in zip(("low", "high"), words, strict=True)
        ]
        (out / "train.csv").write_text("\n".join(["file,label,speaker", *rows]) + "\n")

    monkeypatch.setattr(speech, "synthesize_speech", fake)
    spoken = {"kind": "spoken", "words": {"deep": "low", "shrill": "high"}, "voices": 3, "per_word": 1}
    recipe = tones_recipe()
    recipe["data"]["train"].append(spoken)
    recipe["data"]["never_held"] = ["voice"]
    for _ in range(2):
        task = task_of(recipe, tmp_path)
        assert task.training.groups.count("voice") == 2
    assert len(asked) == 1
    words, settings = asked[0]
    assert words == ["deep", "shrill"]
    assert (settings["voices"], settings["per_word"], settings["sample_rate_hz"]) == (3, 1, 16000)
    spoken["per_word"] = 2
    task_of(recipe, tmp_path)
    assert len(asked) == 2, "another wish, another folder"


def test_a_recipe_without_espeak_says_so_before_training(tones, tmp_path, monkeypatch):
    from compress.plan import check_recipe
    from edgeai.errors import DataMissingError

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    recipe = tones_recipe()
    recipe["data"]["train"].append({"kind": "spoken", "words": {"deep": "low"}})
    with pytest.raises(DataMissingError, match="espeak-ng is not installed"):
        check_recipe(parse_recipe(recipe, where="here"), data_root=tmp_path, out=tmp_path / "out")


def test_a_machine_is_made_for_an_autoencoder_and_no_fault_is_learnt_from(tmp_path):
    from compress.data.synthesize.machine import FAULTS

    recipe = {
        "name": "machine",
        "task": "anomaly",
        "labels": ["normal", *FAULTS],
        "data": {"train": [{"kind": "machine", "clips": 8, "faulty": 1}], "validation": 0.3},
        "input": {**LOGMEL, "frames": 12},
        "network": {"kind": "dense-autoencoder"},
        "decoder": {"name": "reconstruction"},
        "passes": [{"kind": "train", "fit": {"steps": 1}}, INT8],
    }
    task = task_of(recipe, tmp_path)
    assert set(task.training.class_ids.tolist()) == {0}
    assert set(task.validation.class_ids.tolist()) == set(range(7))
    keyword = {**tones_recipe(), "labels": ["normal"]}
    keyword["data"]["train"] = [{"kind": "machine"}]
    with pytest.raises(RecipeError, match="does not fit task 'keyword'"):
        parse_recipe(keyword, where="here")


def test_made_sounds_repeat_by_their_seed_and_faults_are_audible(tmp_path):
    from compress.data.synthesize.machine import FAULTS, NORMAL, machine_sound, synthesize_machine

    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made = synthesize_machine(tmp_path / name, clips=2, faulty=1, seed=seed, split="part")
        assert made.clips == {NORMAL: 2, **dict.fromkeys(FAULTS, 1)}
    first = {name: read_clip(tmp_path / name / "clips/normal/00000.flac") for name in "abc"}
    np.testing.assert_array_equal(first["a"], first["b"])
    assert np.abs(first["a"] - first["c"]).max() > 0.05
    assert len(load_speech(tmp_path / "a", "part", None, samples=100)) == 8
    normal = machine_sound(NORMAL, [], sample_rate_hz=16000, rng=np.random.default_rng(5))
    for label in FAULTS:
        strange = machine_sound(label, [], sample_rate_hz=16000, rng=np.random.default_rng(5))
        assert strange.shape == normal.shape == (48_000,)
        assert np.abs(strange).max() <= 1
        change = np.abs(np.fft.rfft(strange)) - np.abs(np.fft.rfft(normal))
        assert np.linalg.norm(change) > 0.02 * np.linalg.norm(np.fft.rfft(normal)), label


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clips": 0}, "at least one clip"),
        ({"part": (0.5, 0.5)}, "from low to high"),
        ({"sample_rate_hz": 400}, "8000 to 48000"),
    ],
)
def test_a_machine_that_cannot_be_made_is_told_and_leaves_nothing(tmp_path, changes, said):
    from compress.data.synthesize.machine import synthesize_machine
    from edgeai.errors import UsageError

    with pytest.raises(UsageError, match=said):
        synthesize_machine(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_noise_that_is_too_short_for_a_machine_is_told(tmp_path):
    from compress.data.synthesize.machine import synthesize_machine
    from edgeai.errors import DataMissingError

    (tmp_path / "noises").mkdir()
    soundfile.write(tmp_path / "noises" / "a.wav", np.zeros(1000, np.float32), 16000)
    with pytest.raises(DataMissingError, match="shorter than a clip"):
        synthesize_machine(tmp_path / "new", clips=1, noises=tmp_path / "noises")
