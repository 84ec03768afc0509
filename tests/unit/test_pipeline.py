"""The two pipelines on models whose answers are known: a square that walks, sound of any kind."""

from __future__ import annotations

import numpy as np
import pytest
from blob_bundle import blob_fields, picture, write_blob_bundle, write_walk
from tiny_bundle import MODELS, write_keyword_bundle, write_picture_bundle

from edgeai.bundle import write_bundle
from edgeai.errors import BundleError, EngineError, StageError
from edgeai.pipeline import (
    CameraPipeline,
    VoicePipeline,
    check_camera,
    check_voice,
    keyword_event,
    padded,
)
from edgeai.sources import open_camera
from edgeai.stages.audio.smoothing import Keyword
from edgeai.stages.rules import LineSettings, TrackSettings, ZoneSettings
from edgeai.types import Chunk, Frame

RULES = (
    LineSettings(name="middle", a=(0.5, 0.0), b=(0.5, 1.0), forward="left", backward="right"),
    ZoneSettings(name="end", polygon=((0.6, 0.0), (1.0, 0.0), (1.0, 1.0), (0.6, 1.0)), anchor="centre"),
    TrackSettings(),
)


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    return write_blob_bundle(tmp_path_factory.mktemp("blob") / "blob")


@pytest.fixture(scope="module")
def keyword(tmp_path_factory):
    return write_keyword_bundle(tmp_path_factory.mktemp("keyword") / "tiny")


def frames(positions, *, start_s=0.0, step_s=0.1):
    return [Frame(picture(x), index, start_s + index * step_s, "gate") for index, x in enumerate(positions)]


def sound(seconds, *, seed=0, start_s=0.0):
    """Half a second loud, half a second almost silent, and so on: the tiny model's scores differ between the two."""
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    samples[np.arange(len(samples)) // 8000 % 2 == 1] *= 0.01
    return Chunk(samples, 16000, start_s, "hall")


def test_boxes_are_where_the_square_is(blob):
    with CameraPipeline(blob) as pipeline:
        for x in (0, 8, 24, 48):
            found = pipeline.detect(frames([x])[0])
            assert len(found) == 1
            assert np.abs(found.xyxy_px[0] - (x, 24, x + 16, 40)).max() <= 8
        assert len(pipeline.detect(frames([None])[0])) == 0


def test_a_walk_becomes_events(blob, tmp_path):
    path = write_walk(tmp_path / "walk.avi")
    with CameraPipeline(blob, rules=RULES) as pipeline, open_camera(str(path), stream="gate") as source:
        seen = [pipeline.process(frame) for frame in source]
        before = [event for one in seen for event in one.events]
        at_the_end = pipeline.flush()
        totals = {rule.settings.name: rule.totals() for rule in pipeline.rules}
        assert pipeline.flush() == ()
    assert [e.type for e in before] == ["track_started", "line_crossed", "zone_entered", "zone_occupancy"]
    assert before[1].data["direction"] == "right"
    # the track was alive when the source ended: its end is told, at the time of the last frame
    assert [e.type for e in at_the_end] == ["zone_left", "zone_occupancy", "track_ended"]
    assert {e.time_s for e in at_the_end} == {seen[-1].frame.time_s}
    assert at_the_end[0].data["reason"] == "track_ended"
    assert totals["tracks"] | {"by_class": None} == {"started": 1, "ended": 1, "now": 0, "by_class": None}
    assert totals["end"]["occupancy"] == 0


def test_flush_without_frames_says_nothing(blob):
    with CameraPipeline(blob, rules=RULES) as pipeline:
        assert pipeline.flush() == ()


def test_a_stream_that_begins_again_ends_its_tracks(blob):
    with CameraPipeline(blob, rules=[TrackSettings()]) as pipeline:
        for frame in frames([8] * 4, start_s=100.0):
            pipeline.process(frame)
        again = [pipeline.process(frame) for frame in frames([8] * 4)]
    events = [event for one in again for event in one.events]
    assert [(e.type, e.data["track_id"]) for e in events] == [("track_ended", 1), ("track_started", 2)]
    assert again[0].events[0].type == "track_ended"


def test_the_threshold_is_ours_where_given(blob):
    dim = Frame(picture(8) // 2, 0, 0.0, "gate")  # score 0.5
    for threshold, expected in ((None, 1), (0.6, 0), (0.45, 1)):
        with CameraPipeline(blob, score_threshold=threshold) as pipeline:
            assert len(pipeline.detect(dim)) == expected


def test_the_threshold_changes_on_the_way(blob):
    dim = Frame(picture(8) // 2, 0, 0.0, "gate")  # score 0.5
    with CameraPipeline(blob) as pipeline:
        found = []
        for value in (None, 0.6, 0.45, 0.6, None):
            pipeline.set_score_threshold(value)
            found.append(len(pipeline.detect(dim)))
        assert found == [1, 0, 1, 0, 1]
        with pytest.raises(StageError, match="score_threshold"):
            pipeline.set_score_threshold(1.5)
        assert len(pipeline.detect(dim)) == 1


def test_a_rule_that_is_disabled_counts_nothing_that_moves_meanwhile(blob):
    """The square is left of the line, then right of it while the line is disabled: that is no crossing."""
    line = LineSettings(name="middle", a=(0.5, 0), b=(0.5, 1), forward="left", backward="right")
    with CameraPipeline(blob, rules=[line, TrackSettings()]) as pipeline:
        said = []
        for index, x in enumerate([*range(4, 45, 2), *range(44, 3, -2)]):
            if index == 5:
                said += pipeline.set_rule_enabled("middle", False)
                said += pipeline.set_rule_enabled("middle", False)
            if index == 21:
                said += pipeline.set_rule_enabled("middle", True)
            said += pipeline.process(Frame(picture(x), index, index / 10, "gate")).events
        said += pipeline.flush()
        kinds = [(event.type, event.data.get("direction")) for event in said]
        assert kinds == [("track_started", None), ("line_crossed", "left"), ("track_ended", None)]
        with pytest.raises(StageError, match=r"there is no rule 'midle'; did you mean 'middle'\?"):
            pipeline.set_rule_enabled("midle", True)


def test_a_rule_that_is_disabled_is_told_that_its_tracks_end(blob):
    with CameraPipeline(blob, rules=[TrackSettings()]) as pipeline:
        for index in range(4):
            pipeline.process(Frame(picture(24), index, index / 10, "gate"))
        (ended,) = pipeline.set_rule_enabled("tracks", False)
        assert (ended.type, ended.data["track_id"], ended.time_s) == ("track_ended", 1, 0.3)
        assert pipeline.process(Frame(picture(24), 4, 0.4, "gate")).events == ()
        assert pipeline.flush() == ()
        assert pipeline.rules[0].totals()["now"] == 0


def test_sizes_may_change_on_the_way(blob):
    with CameraPipeline(blob, rules=RULES) as pipeline:
        for index, side in enumerate((64, 128, 31, 1)):
            image = np.full((side, side, 3), 255, np.uint8)
            assert pipeline.process(Frame(image, index, float(index), "gate")).found.xyxy_px.max() <= side


@pytest.mark.parametrize("check", [CameraPipeline, check_camera])
def test_a_camera_needs_a_detector(check, blob, keyword):
    with pytest.raises(BundleError, match="tiny-keyword is for task 'keyword', a camera needs 'detect'"):
        check(keyword)
    with pytest.raises(StageError, match="rule 'tracks' names class 'cat', the model knows blob"):
        check(blob, rules=[TrackSettings(classes=("cat",))])
    with pytest.raises(EngineError, match="no engine file 'onnx'"):
        check(blob, engine="onnx")
    with pytest.raises(StageError, match="score_threshold"):
        check(blob, score_threshold=2.0)


@pytest.mark.parametrize("check", [CameraPipeline, check_camera])
def test_a_wrong_decoder_is_told(check, tmp_path):
    wrong = blob_fields()
    wrong["decoder"]["params"]["strids"] = [8]
    bundle = write_bundle(tmp_path / "x", wrong, {"model.tflite": (MODELS.parent / "blob" / "blob.tflite")})
    with pytest.raises(StageError, match="no parameter 'strids'; did you mean 'strides'"):
        check(bundle)


@pytest.mark.parametrize("check", [VoicePipeline, check_voice])
def test_a_microphone_needs_a_keyword_model(check, blob, keyword, tmp_path):
    with pytest.raises(BundleError, match="a microphone needs 'keyword'"):
        check(write_picture_bundle(tmp_path / "p"))
    with pytest.raises(StageError, match="threshold"):
        check(keyword, threshold=1.5)
    with pytest.raises(EngineError, match="no engine file 'tflite/int4'"):
        check(keyword, engine="tflite/int4")
    fields = keyword_fields(decoder={"name": "grid", "params": {}})
    with pytest.raises(BundleError, match="has the decoder 'grid', a keyword model needs 'keyword'"):
        check(write_bundle(tmp_path / "q", fields, {"m.tflite": MODELS / "keyword_int8.tflite"}))


def keyword_fields(**changes):
    return {
        "name": "voice",
        "task": "keyword",
        "input": {"kind": "logmel", "frames": 10, "mels": 8},
        "decoder": {"name": "keyword", "params": {"activation": "softmax"}},
        "labels": ["yes", "no", "silence"],
        "files": [{"path": "m.tflite", "format": "tflite", "precision": "int8"}],
        **changes,
    }


def test_labels_that_the_model_has_no_score_for(tmp_path):
    fields = keyword_fields(labels=["yes", "no"])
    bundle = write_bundle(tmp_path / "q", fields, {"m.tflite": MODELS / "keyword_int8.tflite"})
    with pytest.raises(BundleError, match=r"one score for each of its 2 labels, this one gives \(1, 3\)"):
        VoicePipeline(bundle)


def test_keywords_do_not_depend_on_the_chunks(keyword):
    def heard(cut):
        whole = sound(4.0, seed=3)
        with VoicePipeline(keyword, threshold=0.4) as pipeline:
            return [
                found
                for at in range(0, len(whole.samples), cut)
                for found in pipeline.process(Chunk(whole.samples[at : at + cut], 16000, at / 16000, "hall"))
            ]

    assert heard(1600) == heard(777) == heard(64000)
    assert heard(1600)


def test_lost_audio_begins_anew(keyword):
    """A microphone that came back counts from 0 again: no error, and nothing of before is remembered."""
    with VoicePipeline(keyword, threshold=0.4) as fresh:
        expected = fresh.process(sound(2.0, seed=3))
    with VoicePipeline(keyword, threshold=0.4) as pipeline:
        pipeline.process(sound(2.0, seed=7, start_s=50.0))
        assert pipeline.process(sound(2.0, seed=3)) == expected


def test_padding():
    chunks = [sound(0.1, start_s=0.0), sound(0.05, start_s=0.1)]
    got = list(padded(iter(chunks), 0.5))
    assert [round(len(c.samples) / 16000, 3) for c in got] == [0.5, 0.1, 0.05, 0.5]
    assert [round(c.start_s, 3) for c in got] == [-0.5, 0.0, 0.1, 0.15]
    assert not got[0].samples.any()
    assert list(padded(iter([]), 0.5)) == []


def test_window_length(keyword):
    with VoicePipeline(keyword) as pipeline:
        assert pipeline.window_s == pytest.approx((9 * 320 + 480) / 16000)


def test_a_keyword_as_an_event():
    event = keyword_event(Keyword("yes", 0.98765, 1.25, -0.1), "hall")
    assert (event.type, event.stream, event.time_s) == ("keyword", "hall", 1.25)
    assert event.data == {"keyword": "yes", "score": 0.9877, "start_s": 0.0}
