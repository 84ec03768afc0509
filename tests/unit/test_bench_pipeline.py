"""The parts of `edgeai bench pipeline`: frames at a pace, padded engines, a broker, processes of their own."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from blob_bundle import write_blob_bundle, write_walk
from broker import find_mosquitto

from edgeai.bench import broker as broker_module
from edgeai.bench.alone import run_alone
from edgeai.bench.broker import Subscriber, open_broker
from edgeai.bench.capture_to_broker import CAMERAS, measure_capture_to_broker
from edgeai.bench.first_detection import measure_first_detection
from edgeai.bench.freshness import Freshness, measure_freshness
from edgeai.bench.held_frames import HandedFrames, PacedFrames, decode_frames, endless
from edgeai.bench.overhead import Model, measure_overhead
from edgeai.bench.padded_engine import PaddedEngine, open_padded
from edgeai.bundle import load_bundle
from edgeai.cli import bench_pipeline as bench_pipeline_module
from edgeai.cli.bench_pipeline import PARTS, PipelineSettings, bench_pipeline, parse_parts, parse_size
from edgeai.cli.figures import Outputs
from edgeai.engines import EngineHost, open_engine
from edgeai.errors import EdgeError, EngineUnavailableError, SourceError, UsageError
from edgeai.sinks.sink import Sink


class Kept(Sink):
    def __init__(self):
        self.events = []

    def send(self, event):
        self.events.append(event)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    write_blob_bundle(folder / "blob")
    bundle = load_bundle(str(folder / "blob"))
    try:
        open_engine(bundle).close()
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    return Model(bundle, None, 1, EngineHost())


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("walk") / "walk.avi"
    write_walk(path)
    return str(path)


@pytest.fixture
def held(walk):
    return decode_frames(walk, 12)


def test_frames_are_scaled_and_go_on_from_their_beginning(walk):
    held = decode_frames(walk, 3, size=(64, 48))
    assert [frame.image.shape for frame in held] == [(48, 64, 3)] * 3
    frames = list(itertools.islice(endless(held), 7))
    assert [frame.index for frame in frames] == [*range(7)]
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(frames))


def test_a_video_of_one_frame_is_told(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(SourceError, match="1 frames, at least 2"):
        decode_frames(str(tmp_path / "one.png"), 5)


def test_paced_frames_come_no_faster_and_in_memory_of_their_own(held):
    began_s = time.monotonic()
    frames = list(PacedFrames(held, stream="a", fps=100, count=5, copied=True))
    assert time.monotonic() - began_s >= 0.04
    assert [frame.index for frame in frames] == [*range(5)]
    assert not np.shares_memory(frames[0].image, held[0].image)


def test_a_pause_between_paced_frames_can_be_ended(held):
    source = PacedFrames(held, stream="a", fps=0.01)
    came = []
    reader = threading.Thread(target=lambda: came.extend(source), daemon=True)
    reader.start()
    source.cancel()
    reader.join(20)
    assert not reader.is_alive()


def test_handed_frames_end_with_none(held):
    source = HandedFrames()
    for frame in (*held[:2], None):
        source.hand(frame)
    assert [frame.index for frame in source] == [0, 1]
    assert source.handed_s > 0


def test_a_padded_engine_says_the_same_later(model):
    picture = np.full((*open_engine(model.bundle).inputs[0].shape,), 90, np.uint8)
    with (
        open_engine(model.bundle) as plain,
        open_padded(model.bundle, host=model.host, file=None, threads=1, least_s=0.03) as padded,
    ):
        name = plain.inputs[0].name
        expected, got = plain.run({name: picture}), padded.run({name: picture})
        assert isinstance(padded.engine, PaddedEngine)
        padded.engine.bare_call()()
        assert len(padded.engine.calls_s) == 2
        assert min(padded.engine.calls_s) >= 0.03
    assert expected.keys() == got.keys()
    assert all(np.array_equal(expected[key], got[key]) for key in expected)


def test_overhead_is_the_rest_of_the_way(model, held):
    sink = Kept()
    told = measure_overhead(model, held, sink, frames=30)
    assert len(told.engine_ms) == len(told.frame_ms) == len(told.overhead_ms) == 30
    for whole, alone, over in zip(told.frame_ms, told.engine_ms, told.overhead_ms, strict=True):
        assert over == pytest.approx(whole - alone)
    assert {"track_started"} <= {event.type for event in sink.events}
    # what the camera's end tells comes after the last frame
    assert 0 < told.events <= len(sink.events)


def test_a_slow_model_serves_all_alike_and_the_newest(model, held):
    told = measure_freshness(model, held, frames=40)
    assert len(told.age_ms) >= 40
    assert len(told.shares) == 4
    assert told.dropped > 0
    assert told.share_ratio < 1.5
    # an age is an interval and an inference at most; how much more a busy machine makes of it is not for a test
    assert min(told.age_ms) >= 25


def test_a_camera_that_got_nothing_is_no_fault():
    assert Freshness([1.0], 2.0, [4, 0], 0).share_ratio == 4


@pytest.mark.system
def test_every_event_passes_the_broker(model, held, tmp_path):
    try:
        opened = open_broker(tmp_path)
        broker = opened.__enter__()
    except EdgeError as error:
        pytest.skip(str(error))
    try:
        told = measure_capture_to_broker(model, held, broker, tmp_path, frames=2 * CAMERAS)
    finally:
        opened.__exit__(None, None, None)
    assert told.lost == 0
    assert len(told.durable) == len(told.telemetry) == CAMERAS
    assert min(told.durable + told.telemetry) > 0
    assert told.engine
    assert told.fsync


@pytest.mark.system
def test_the_embedded_broker_serves_where_mosquitto_is_not(tmp_path, monkeypatch):
    pytest.importorskip("amqtt")
    monkeypatch.setattr(broker_module.shutil, "which", lambda *args, **more: None)
    with open_broker(tmp_path) as broker, Subscriber(broker) as subscriber:
        assert broker.name == "amqtt"
        subscriber.wait()
        assert subscriber.arrivals() == []


def test_no_broker_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(broker_module.shutil, "which", lambda *args, **more: None)
    monkeypatch.setattr(broker_module, "_has_amqtt", lambda: False)
    with pytest.raises(EdgeError, match="no broker"), open_broker(tmp_path):
        pass


def test_without_a_broker_the_rest_is_measured(model, walk, monkeypatch, capsys):
    def none(folder):
        raise EdgeError("there is no broker to measure against")

    monkeypatch.setattr(bench_pipeline_module, "open_broker", none)
    settings = PipelineSettings(walk, model.path, frames=5, parts=("overhead", "broker"))
    assert bench_pipeline(settings, outputs=Outputs(json=True)) == 0
    told = capsys.readouterr()
    assert {row["name"] for row in json.loads(told.out)["results"]} >= {"overhead_ms", "overhead_share"}
    assert "left out what needs a broker" in told.err
    with pytest.raises(EdgeError, match="no broker"):
        bench_pipeline(replace(settings, parts=("broker",)), outputs=Outputs(json=True))


def test_the_first_detection_is_seen_from_outside(model, walk):
    seconds, with_tensorflow = measure_first_detection(model, walk, runs=1, warm_up=False)
    assert 0 < seconds[0] < 120
    assert not with_tensorflow


def test_a_run_that_fails_is_told_in_its_own_words(model, tmp_path):
    with pytest.raises(EdgeError, match="no video file"):
        measure_first_detection(model, str(tmp_path / "none.avi"), runs=1, warm_up=False)


def test_a_process_that_fails_is_told_by_its_last_words():
    with pytest.raises(EdgeError, match=r"edgeai\.cli\.bench_pipeline ended with code 1: KeyError"):
        run_alone("edgeai.cli.bench_pipeline", {})


def test_sizes_and_parts_are_read():
    assert parse_size("1280x720") == (1280, 720)
    assert parse_size(None) is None
    assert parse_parts(None) == PARTS
    assert parse_parts("start, overhead") == ("start", "overhead")


@pytest.mark.parametrize("text", ["1280", "x720", "8x8", "9000x9000", "axb", "-5x20", "1280x720x3", "٣٢x٣٢"])
def test_what_is_no_size_is_told(text):
    with pytest.raises(UsageError, match="1280x720"):
        parse_size(text)


def test_an_unknown_part_is_told():
    with pytest.raises(UsageError, match="known are overhead, broker"):
        parse_parts("overhead,speed")


def test_mosquitto_is_preferred(tmp_path):
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with open_broker(tmp_path) as broker:
        assert broker.name == "mosquitto"
