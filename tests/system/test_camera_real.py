"""Real pictures and a real street: the teacher's model, the decoder, the tracker and a line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.sources.video_file import VideoFile
from edgeai.stages.boxes import iou_matrix
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import letterbox
from edgeai.stages.rules import LineSettings, Scene, TrackSettings, open_rule
from edgeai.stages.tracker import Tracker
from edgeai.types import Detections

pytestmark = pytest.mark.data

PERSON = {"width": 416, "height": 416, "keep_classes": [0]}


@pytest.fixture(scope="module")
def find_people(shared_data: Path):
    """A call: frame -> persons, by yolox_nano."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = shared_data / "models" / "detectors" / "yolox_nano_coco_416.onnx"
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    decoder = open_decoder(Decoder(name="grid", params=PERSON), labels=["person"])
    spec = ImageInput(width=416, height=416, layout="NCHW")

    def find(image: np.ndarray) -> Detections:
        picture, placement = letterbox(image, spec)
        output = session.run(None, {"images": picture.transpose(2, 0, 1)[None].astype(np.float32)})[0]
        return decoder.decode({"output": output}, placement)

    return find


def test_large_people_in_pictures_are_found(find_people, shared_data):
    folder = shared_data / "coco_people"
    truth = json.loads((folder / "instances_test.json").read_text())
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    large = [
        (files[row["image_id"]], row["bbox"])
        for row in truth["annotations"]
        if row["category_id"] == 1 and not row.get("iscrowd") and row["bbox"][3] > 200
    ][:30]
    assert len(large) == 30
    hits = 0
    for name, (x, y, w, h) in large:
        image = cv2.imread(str(folder / "images" / Path(name).name))
        found = find_people(image)
        box = np.array([[x, y, x + w, y + h]], np.float32)
        hits += bool((iou_matrix(box, found.xyxy_px) > 0.5).any())
    assert hits >= 22


def test_a_street_gives_steady_tracks_and_counts(find_people, shared_data):
    tracker = Tracker()
    settings = (LineSettings(name="path", a=(0.25, 0.5), b=(0.95, 0.62)), TrackSettings())
    line, told = (open_rule(one, labels=["person"]) for one in settings)
    seen: dict[int, int] = {}
    events = []
    with VideoFile(shared_data / "videos" / "vtest.avi", stream="street") as video:
        for frame in itertools.islice(video, 120):
            tracks = tracker.update(find_people(frame.image), frame.time_s)
            for track_id in tracks.track_ids.tolist():
                seen[track_id] = seen.get(track_id, 0) + 1
            height, width = frame.image.shape[:2]
            scene = Scene(tracks, width, height, frame.time_s, "street", tracker.started, tracker.ended)
            events += line.update(scene) + told.update(scene)
    # four to seven people are in view all the time, one or two come and go
    assert 4 <= len(seen) <= 12
    assert sorted(seen.values())[-4] > 60
    assert sum(event.type == "track_started" for event in events) == len(seen)
    assert 1 <= sum(event.type == "line_crossed" for event in events) <= len(seen)


def test_both_halves_of_every_video_meet(shared_data):
    for path in sorted((shared_data / "videos").glob("carnd_*.mp4")):
        with VideoFile(path, stream="s", stop=0.5) as video:
            first = [(frame.index, frame.time_s) for frame in video]
            count = video.frame_count
        with VideoFile(path, stream="s", start=0.5) as video:
            second = [(frame.index, frame.time_s) for frame in video]
        assert [index for index, _ in first + second] == list(range(count))
        times = [time_s for _, time_s in first + second]
        assert times == sorted(set(times))


def test_a_truncated_video_is_told(shared_data, tmp_path, caplog):
    short = tmp_path / "short.avi"
    short.write_bytes((shared_data / "videos" / "vtest.avi").read_bytes()[:200_000])
    with VideoFile(short, stream="s") as video:
        assert 0 < len(list(video)) < 20
    assert "of 795 frames: it is cut short or damaged" in caplog.text
