"""What a user writes who counts people in a video: read, letterbox, run, decode, suppress, track, count at a line.

A program of its own, in the environment of the peers; nothing of ours is imported. Usage: camera_loop.py JOB.json, a JSON object of
video, model, runtime (litert, onnxruntime or mediapipe), heads (of the model: grid, flat or none), size (width, height), score,
iou, tracker (supervision, trackers or norfair), line ((x1, y1), (x2, y2) as fractions) and frames (0 for all). Crossings go to
standard output as JSON lines, as they would to a broker; the last line tells of the run.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import supervision as sv

STRIDES = (8, 16, 32)


class LiteRt:
    """The TFLite interpreter, one thread, whole tensors in and real values out."""

    def __init__(self, job):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(job["model"], num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.runner = self.interpreter.get_signature_runner()
        self.name = next(iter(self.runner.get_input_details()))
        self.details = self.runner.get_output_details()

    def __call__(self, picture):
        if self.input["dtype"] == np.int8:
            scale, zero = self.input["quantization"]
            picture = np.round(picture / np.float32(scale) + zero).astype(np.int8)
        else:
            picture = picture.astype(self.input["dtype"])
        outputs = self.runner(**{self.name: picture[None]})
        real = {}
        for name, value in outputs.items():
            scale, zero = self.details[name]["quantization"]
            real[name] = (value.astype(np.float32) - zero) * scale if scale else value
        return real


class OnnxRuntime:
    def __init__(self, job):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, picture):
        picture = picture.astype(np.float32)
        if self.input.shape[1] == 3:
            picture = np.ascontiguousarray(picture.transpose(2, 0, 1))
        return dict(zip(self.names, self.session.run(None, {self.input.name: picture[None]}), strict=True))


class Detector:
    """Letterbox as YOLOX's demo has it, the runtime, the demo's post-processing on whole arrays, supervision's NMS."""

    def __init__(self, job):
        self.run = {"litert": LiteRt, "onnxruntime": OnnxRuntime}[job["runtime"]](job)
        self.heads = job["heads"]
        self.width, self.height = job["size"]
        self.score, self.iou = job["score"], job["iou"]
        grids, strides = [], []
        for stride in STRIDES:
            columns, rows = np.meshgrid(np.arange(self.width // stride), np.arange(self.height // stride))
            grids.append(np.stack((columns, rows), 2).reshape(-1, 2))
            strides.append(np.full((grids[-1].shape[0], 1), stride))
        self.grids, self.strides = np.concatenate(grids), np.concatenate(strides)

    def __call__(self, frame, time_s):
        ratio = min(self.height / frame.shape[0], self.width / frame.shape[1])
        picture = np.full((self.height, self.width, 3), 114, np.uint8)
        resized = cv2.resize(
            frame,
            (int(frame.shape[1] * ratio), int(frame.shape[0] * ratio)),
            interpolation=cv2.INTER_LINEAR,
        )
        picture[: resized.shape[0], : resized.shape[1]] = resized
        outputs = self.run(picture)
        if self.heads == "grid":
            parts = [
                np.concatenate([outputs[f"{kind}_{stride}"].reshape(-1, channels) for stride in STRIDES])
                for kind, channels in (("box", 4), ("object", 1), ("class", 1))
            ]
            boxes, scores = parts[0], (sigmoid(parts[1]) * sigmoid(parts[2]))[:, 0]
        else:  # YOLOX's export: already through the sigmoid; class 0 is the person
            (output,) = outputs.values()
            boxes, scores = output[0, :, :4], output[0, :, 4] * output[0, :, 5]
        centres = (boxes[:, :2] + self.grids) * self.strides
        sides = np.exp(boxes[:, 2:]) * self.strides
        xyxy = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1) / ratio
        sure = scores > self.score
        found = sv.Detections(
            xyxy=xyxy[sure], confidence=scores[sure], class_id=np.zeros(int(sure.sum()), int)
        )
        return found.with_nms(self.iou)


class MediaPipe:
    """MediaPipe's ObjectDetector in its video mode; people only."""

    def __init__(self, job):
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        self.mediapipe = mediapipe
        self.detector = vision.ObjectDetector.create_from_options(
            vision.ObjectDetectorOptions(
                base_options=BaseOptions(model_asset_path=job["model"]),
                score_threshold=job["score"],
                category_allowlist=["person"],
                running_mode=vision.RunningMode.VIDEO,
            )
        )

    def __call__(self, frame, time_s):
        picture = self.mediapipe.Image(
            image_format=self.mediapipe.ImageFormat.SRGB, data=cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        )
        found = self.detector.detect_for_video(picture, int(time_s * 1000)).detections
        if not found:
            return sv.Detections.empty()
        boxes = [each.bounding_box for each in found]
        return sv.Detections(
            xyxy=np.array(
                [[b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height] for b in boxes], float
            ),
            confidence=np.array([each.categories[0].score for each in found]),
            class_id=np.zeros(len(found), int),
        )


class SupervisionCount:
    """ByteTrack, of supervision or of its successor `trackers`, and supervision's LineZone."""

    def __init__(self, job, width, height, fps):
        if job["tracker"] == "supervision":
            self.track = sv.ByteTrack(
                track_activation_threshold=0.5,
                lost_track_buffer=60,
                frame_rate=fps,
                minimum_consecutive_frames=3,
            ).update_with_detections
        else:
            from trackers import ByteTrackTracker

            self.track = ByteTrackTracker(
                lost_track_buffer=60,
                frame_rate=fps,
                track_activation_threshold=0.5,
                minimum_consecutive_frames=3,
                high_conf_det_threshold=0.5,
            ).update
        start, end = (sv.Point(x * width, y * height) for x, y in job["line"])
        self.zone = sv.LineZone(start=start, end=end, triggering_anchors=[sv.Position.BOTTOM_CENTER])

    def __call__(self, found):
        tracked = self.track(found)
        tracked = tracked[tracked.tracker_id != -1] if len(tracked) else tracked
        inside, outside = self.zone.trigger(tracked)
        return int(inside.sum()), int(outside.sum())


class NorfairCount:
    """Norfair's tracker on boxes, and a line of the user's own: norfair has none."""

    def __init__(self, job, width, height, fps):
        import norfair

        self.norfair = norfair
        self.tracker = norfair.Tracker(
            distance_function="iou",
            distance_threshold=0.7,
            initialization_delay=3,
            hit_counter_max=2 * int(fps),
        )
        self.a, self.b = (np.array((x * width, y * height)) for x, y in job["line"])
        self.sides = {}

    def __call__(self, found):
        objects = self.tracker.update(
            [
                self.norfair.Detection(box.reshape(2, 2), scores=np.array([score, score]))
                for box, score in zip(found.xyxy, found.confidence, strict=True)
            ]
            if len(found)
            else []
        )
        counts, along = [0, 0], self.b - self.a
        for each in objects:
            (x1, _), (x2, y2) = each.estimate
            point = np.array(((x1 + x2) / 2, y2)) - self.a
            side = along[0] * point[1] - along[1] * point[0] > 0
            before = self.sides.get(each.id)
            self.sides[each.id] = side
            if before is not None and before != side and 0 <= point @ along <= along @ along:
                counts[int(side)] += 1
        return counts[0], counts[1]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    detect = MediaPipe(job) if job["runtime"] == "mediapipe" else Detector(job)
    capture = cv2.VideoCapture(job["video"])
    fps = capture.get(cv2.CAP_PROP_FPS)
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    count = (NorfairCount if job["tracker"] == "norfair" else SupervisionCount)(job, width, height, fps)
    totals, took_ms, number, found_any = [0, 0], [], 0, 0
    while not job["frames"] or number < job["frames"]:
        read, frame = capture.read()
        if not read:
            break
        began = time.perf_counter()
        found = detect(frame, number / fps)
        inside, outside = count(found)
        totals[0] += inside
        totals[1] += outside
        for direction, many in (("in", inside), ("out", outside)):
            for _ in range(many):
                print(json.dumps({"event": "crossed", "direction": direction, "frame": number}), flush=True)
        took_ms.append((time.perf_counter() - began) * 1e3)
        found_any += len(found)
        if not number:
            print(json.dumps({"first": len(found)}), flush=True)
        number += 1
    names = ("supervision", "trackers", "norfair", "mediapipe", "ai-edge-litert", "onnxruntime", "numpy")
    print(
        json.dumps(
            {
                "frames": number,
                "found": found_any,
                "in": totals[0],
                "out": totals[1],
                "p50_ms": float(np.percentile(took_ms, 50)),
                "p99_ms": float(np.percentile(took_ms, 99)),
                "versions": {name: version(name) for name in names} | {"opencv": cv2.__version__},
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
