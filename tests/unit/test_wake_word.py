"""A wake word over whole recordings: what the device would do, recordings of other things, and figures."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import KEYWORD_INPUT, MODELS, write_clips, write_keyword_bundle

from compress.measure.bundle import load_clips
from compress.measure.wake_word import ScoredWakeWord, rises, score_wake_word, sounds_of, wake_word_of
from edgeai.bundle import write_bundle
from edgeai.engines import open_file
from edgeai.errors import DataError, DataMissingError, UsageError

pytestmark = pytest.mark.compress


def write_wake_bundle(folder, **params):
    """The tiny keyword model with one label that can fire."""
    fields = {
        "name": "tiny-wake",
        "task": "keyword",
        "input": KEYWORD_INPUT,
        "decoder": {
            "name": "keyword",
            "params": {"threshold": 0.4, "activation": "softmax", "average_s": 0.1, "step_s": 0.04, **params},
        },
        "labels": ["yes", "unknown", "silence"],
        "files": [{"path": "model.tflite", "format": "tflite", "precision": "float32"}],
    }
    return write_bundle(folder, fields, {"model.tflite": MODELS / "keyword_float32.tflite"})


@pytest.fixture
def data(tmp_path):
    write_clips(tmp_path / "data")
    return tmp_path / "data"


def scored_of(bundle, data, **changes):
    with open_file(bundle, bundle.manifest.files[0]) as engine:
        listed = load_clips(bundle, data, "part", None)
        return score_wake_word(engine, bundle.manifest, listed, word="yes", **changes)


def test_only_a_model_with_one_keyword_is_a_wake_word(tmp_path):
    assert wake_word_of(write_wake_bundle(tmp_path / "wake").manifest) == "yes"
    assert wake_word_of(write_keyword_bundle(tmp_path / "words").manifest) is None
    assert (
        wake_word_of(write_wake_bundle(tmp_path / "other", ignore=["yes", "unknown"]).manifest) == "silence"
    )


def test_recordings_with_the_word_and_all_others_are_told_apart(tmp_path, data):
    scored = scored_of(write_wake_bundle(tmp_path / "wake"), data)
    assert len(scored) == 24
    assert scored.is_word.sum() == 8
    assert scored.hours == pytest.approx(16 * 4000 / 16000 / 3600)
    metric = scored.metric()
    assert (metric.name, metric.n) == ("recall", 8)
    assert metric.details["false_accepts"] == int((scored.false_peaks >= 0.4).sum())
    assert scored.value(np.flatnonzero(scored.is_word)) == metric.value
    assert {one.index for one in scored.mistakes()} == set(np.flatnonzero(~scored.right()))
    assert len(list(scored.predictions())) == 24
    assert {part.kind for part in scored.slices()} <= {"loudness", "SNR"}


def test_a_recording_is_heard_as_the_device_hears_it(tmp_path, data):
    from edgeai.pipeline import VoicePipeline
    from edgeai.stages.audio.logmel import samples_for
    from edgeai.types import Chunk

    bundle = write_wake_bundle(tmp_path / "wake")
    scored = scored_of(bundle, data)
    silence = samples_for(bundle.manifest.input.frames, bundle.manifest.input)
    threshold = float(np.median(scored.peaks))
    heard = []
    for path in scored.paths:
        clip, _ = soundfile.read(path, dtype="float32")
        sound = np.concatenate([np.zeros(silence, np.float32), clip, np.zeros(silence // 2, np.float32)])
        with VoicePipeline(bundle, threshold=threshold) as device:
            # in pieces, as a microphone gives them
            pieces = range(0, len(sound), 700)
            fired = [device.process(Chunk(sound[at : at + 700], 16000, at / 16000, "a")) for at in pieces]
        heard.append(any(fired))
    np.testing.assert_array_equal(heard, scored.peaks >= threshold)
    assert 0 < sum(heard) < len(heard)


def test_more_sound_counts_as_hours_and_false_accepts_only(tmp_path, data):
    (tmp_path / "noise" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "noise/deep/a.flac", rng.normal(0, 0.1, 32000).astype(np.float32), 16000)
    bundle = write_wake_bundle(tmp_path / "wake")
    alone, more = scored_of(bundle, data), scored_of(bundle, data, others=[tmp_path / "noise", data / "part"])
    assert len(more) == len(alone) + 1 + 24
    assert more.metric().n == alone.metric().n
    assert more.hours == pytest.approx(alone.hours + (32000 + 24 * 4000) / 16000 / 3600)
    assert [path.name for path in sounds_of(tmp_path / "noise")] == ["a.flac"]
    with pytest.raises(DataMissingError, match="nowhere"):
        sounds_of(tmp_path / "nowhere" / "part")


def test_data_without_the_word_or_with_nothing_else_is_told(tmp_path, data):
    bundle = write_wake_bundle(tmp_path / "wake")
    rows = (data / "part.csv").read_text().splitlines()
    for keep, said in (("yes", "nothing can be taken for it"), ("no", "no recordings of 'yes'")):
        kept = [rows[0], *(row for row in rows[1:] if f",{keep}," in row)]
        (data / "part.csv").write_text("\n".join(kept) + "\n")
        with pytest.raises(DataError, match=said):
            scored_of(bundle, data)
        (data / "part.csv").write_text("\n".join(rows) + "\n")


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.01, 1))
def test_rises_are_the_peaks_of_runs_above(means, rearm):
    found = rises(np.array(means), rearm)
    above = [mean >= rearm for mean in means]
    starts = sum(now and not before for before, now in zip([False, *above], above, strict=False))
    assert len(found) == starts
    assert max(found, default=0.0) == max((mean for mean in means if mean >= rearm), default=0.0)


def test_missed_and_false_ones_are_mistakes_false_ones_first():
    scored = ScoredWakeWord(
        word="w",
        labels=("w", "unknown"),
        names=("a", "b", "c", "d"),
        groups=("a", "b", "c", "d"),
        paths=(),
        is_word=np.array([True, True, False, False]),
        peaks=np.array([0.9, 0.2, 0.7, 0.1]),
        false_peaks=np.array([0.7, 0.55, 0.1]),
        hours=0.5,
        threshold=0.5,
    )
    assert [one.index for one in scored.mistakes()] == [2, 1]
    assert scored.metric().value == 0.5
    assert scored.metric().details["false_accepts"] == 2, "two in one recording are two"
    scores, right = scored.said(0)
    assert len(scores) == 5
    assert right.sum() == scored.wanted(0) == 2
    assert scored.wanted(1) == len(scored.said(1)[0]) == 0
    misses = scored.details()["misses"]
    assert misses[0]["false_accepts"] == 0
    assert misses[0]["miss_rate"] == 0.5
    assert scored.calibration() is None
    quiet = replace(scored, false_peaks=np.array([]))
    assert quiet.details()["misses"][0]["per_hour_high"] == pytest.approx(6.0)


def run(*arguments):
    from compress.cli.commands import app
    from edgeai.console import run_app

    sys.argv = ["edgeai-compress", "eval", *map(str, arguments)]
    return run_app(app, program="edgeai-compress")


def test_the_command_tells_recall_false_accepts_and_hours(tmp_path, data, capsys):
    write_wake_bundle(tmp_path / "wake")
    options = ("--data", data, "--split", "part", "--engine", "tflite/float32", "--others", data)
    assert run(tmp_path / "wake", *options, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == "recall"
    assert told["n"] == 8
    assert told["negative_hours"] == pytest.approx((16 + 24) * 0.25 / 3600, abs=1e-4)
    assert told["false_accepts"] >= 0
    assert run(tmp_path / "wake", *options, "--details", "--worst", tmp_path / "worst.jpg") == 0
    said = capsys.readouterr().out
    assert "false accepts in 0.00 h of other sound" in said
    assert "the fewest misses" in said
    assert (tmp_path / "worst.jpg").is_file()


def test_other_sound_is_for_wake_words_only(tmp_path, data, capsys):
    bundle = write_keyword_bundle(tmp_path / "words")
    from compress.measure.bundle import score_bundle

    with open_file(bundle, bundle.manifest.files[0]) as engine, pytest.raises(UsageError, match="--others"):
        score_bundle(bundle, engine, data, "part", others=[data])


def test_a_night_is_heard_in_pieces_and_as_at_once(tmp_path, data, monkeypatch):
    from compress.measure import wake_word

    bundle = write_wake_bundle(tmp_path / "wake")
    whole = scored_of(bundle, data)
    monkeypatch.setattr(wake_word, "PIECE", 777)
    pieces = scored_of(bundle, data)
    np.testing.assert_array_equal(pieces.peaks, whole.peaks)
    np.testing.assert_array_equal(pieces.false_peaks, whole.false_peaks)
    assert pieces.hours == whole.hours


def test_what_is_no_sound_is_one_line(tmp_path, data, capsys):
    write_wake_bundle(tmp_path / "wake")
    (tmp_path / "noise").mkdir()
    options = (
        "--data",
        data,
        "--split",
        "part",
        "--engine",
        "tflite/float32",
        "--others",
        tmp_path / "noise",
    )
    assert run(tmp_path / "wake", *options) != 0
    assert "no FLAC or WAV recordings" in capsys.readouterr().err
    (tmp_path / "noise/a.flac").write_bytes(b"no sound at all")
    assert run(tmp_path / "wake", *options) != 0
    said = capsys.readouterr().err
    assert "a.flac" in said
    assert "Traceback" not in said
