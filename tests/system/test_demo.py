"""The demo's parts against real brokers, and the whole of it with a short training."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.compress


def test_embedded_broker_keeps_the_subscriber_over_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("amqtt")
    from compress.demo.broker import DemoBroker, Subscriber
    from edgeai.sinks import open_reporting
    from edgeai.sinks.mqtt.settings import MqttSettings
    from edgeai.types import Event

    monkeypatch.setattr("compress.demo.broker.shutil.which", lambda *_, **__: None)
    events = [Event("track_started", "gate", float(n), {"track_id": n}) for n in range(60)]
    with DemoBroker(tmp_path) as broker:
        assert "amqtt" in broker.name
        subscriber = Subscriber(broker.subscriber_port, tmp_path)
        try:
            settings = MqttSettings(host="127.0.0.1", port=broker.port)
            with open_reporting(settings, tmp_path / "outbox.db", device="camera") as sink:
                for number, event in enumerate(events):
                    sink.send(event)
                    if number == 20:
                        assert sink.flush(20)
                        broker.stop()
                    if number == 40:
                        time.sleep(1)  # a real outage takes real time
                        broker.start()
                assert sink.flush(30)
            assert subscriber.wait_for({e.id for e in events}, timeout_s=30)
        finally:
            subscriber.close()


def test_rendered_scene_has_figures_that_its_teacher_finds(tmp_path: Path) -> None:
    from compress.demo.footage import ColourTeacher, render_scene
    from edgeai.sources.video_file import VideoFile

    teacher = ColourTeacher()
    with VideoFile(str(render_scene(tmp_path / "scene.avi", frames=30)), stream="s") as source:
        found = [teacher(frame.image) for frame in source]
    assert len(found) == 30
    assert sum(map(len, found)) > 60
    assert all((d.xyxy_px[:, 2] > d.xyxy_px[:, 0]).all() for d in found)


def test_nothing_at_hand_ends_in_a_rendered_scene_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from compress.demo import footage

    monkeypatch.setattr(footage, "_from_debian", lambda *_: [])
    found = footage.find_footage(None, data=tmp_path / "nothing", work=tmp_path)
    assert found.rendered
    assert "RENDERED" in capsys.readouterr().err
    assert footage.find_clips([], data=tmp_path / "nothing", work=tmp_path) == ([], "none to be had")


def test_given_files_must_exist(tmp_path: Path) -> None:
    from compress.demo import footage
    from edgeai.errors import SourceMissingError

    with pytest.raises(SourceMissingError, match="no video"):
        footage.find_footage(tmp_path / "no.mp4", data=tmp_path, work=tmp_path)
    with pytest.raises(SourceMissingError, match="no sound file"):
        footage.find_clips([tmp_path / "no.wav"], data=tmp_path, work=tmp_path)


@pytest.mark.data
@pytest.mark.timeout(600)
def test_whole_demo_with_a_short_training(shared_data: Path, tmp_path: Path) -> None:
    from compress.demo import run_demo

    code = run_demo(data=shared_data, out=tmp_path, json_output=True, effort=0.5)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert code == 0
    assert summary["events"]["sent"] == summary["events"]["received"] >= 10
    assert summary["student"]["bytes"] * 4 <= summary["teacher"]["bytes"]
    assert {"bytes", "ms_p50", "ap50_vs_teacher"} <= set(summary["student"])
    assert (
        summary["student"]["ap50_vs_teacher"] > 0.3
    )  # half of the training; the whole demo's figure is higher
    assert any(k["heard"] == k["said"] for k in summary["keywords"])
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    video = cv2.VideoCapture(str(tmp_path / "annotated.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) > 300
    ok, frame = video.read()
    assert ok
    assert np.asarray(frame).std() > 10
