"""The motion gate: what it costs, when it opens for nothing, what it misses and what it saves, beside OpenCV's MOG2.

Run: EDGEAI_DATA=... python tests/bench/bench_motion.py [--half second] [--no-videos]

cost: milliseconds of one 720p frame, from memory that is not in the cache. MOG2 (cv2.createBackgroundSubtractorMOG2, no
shadows) gets the gate's own small picture, so that both pay for it, and the same 3 x 3 median and min_area. opened: the part of
frames with motion where nothing moves, after 5 s; held: the part that the model would see, hold_s and refresh_s included, MOG2
held open as long. unseen: how far something got between two looks, in its own widths; from about 0.6 the tracker could not match
it. parked: ids that the objects of a real street frame had in 10 minutes of noise, and those that lasted. videos: half of each one (settings were chosen on the first), zoo models:
skipped, tracks and crossings of 10 lines with the gate and without it, cpu of a frame. One JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.bundle import load_bundle
from edgeai.metrics import Measurement, bench_report, summarize
from edgeai.pipeline import CameraPipeline
from edgeai.sources.video_file import VideoFile
from edgeai.stages.boxes import iou_matrix
from edgeai.stages.motion import MotionGate, shrink
from edgeai.stages.rules import LineSettings, Scene, open_rule
from edgeai.stages.tracker import Tracker
from edgeai.types import Detections, Frame

WIDTH, HEIGHT, FPS, SETTLED = 1280, 720, 10.0, 50
VIDEOS = (
    ("vtest.avi", "person-detector"),
    ("one-by-one-person-detection.mp4", "person-detector"),
    ("street-camera.mp4", "street-detector"),
)
GRID = [
    *(LineSettings(name=f"v{x}", a=(x, 0.0), b=(x, 1.0)) for x in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)),
    *(LineSettings(name=f"h{y}", a=(0.0, y), b=(1.0, y)) for y in (0.3, 0.5, 0.7, 0.9)),
]

Image = NDArray[np.uint8]
Float = NDArray[np.float32]


class Mog2:
    """The peer, asked as the gate is."""

    def __init__(self) -> None:
        self._model = cv2.createBackgroundSubtractorMOG2(detectShadows=False)

    def area(self, image: Image) -> float:
        changed = cv2.medianBlur(self._model.apply(shrink(image)), 3)
        return cv2.countNonZero(changed) / changed.size


class Noise:
    """Gaussian noise in fields that were drawn before: of single pixels, or of spots of `spot` pixels as a coder leaves."""

    def __init__(self, sigma: float, spot: int = 1) -> None:
        self._random = np.random.default_rng(0)
        size = (6, HEIGHT // spot, WIDTH // spot, 3)
        fields = self._random.normal(0, sigma, size).astype(np.float32)
        self._fields = [cv2.resize(each, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for each in fields]

    def on(self, picture: Float) -> Image:
        field = self._fields[self._random.integers(len(self._fields))]
        shift = int(self._random.integers(HEIGHT)), int(self._random.integers(WIDTH))
        return np.clip(picture + np.roll(field, shift, (0, 1)), 0, 255).astype(np.uint8)


def measure_cost(frames: Sequence[Image]) -> Iterator[Measurement]:
    """Still: one picture, over and over from 60 copies. Moving: a real street. Both gates turn about."""
    for name, pictures in (("still", [frames[0].copy() for _ in frames]), ("moving", frames)):
        gate, peer = MotionGate(), Mog2()
        spent: dict[str, list[float]] = {"gate": [], "mog2": []}
        turns = itertools.chain.from_iterable(
            pictures if turn % 2 else reversed(pictures) for turn in range(8)
        )
        for index, image in enumerate(turns):
            began = time.perf_counter()
            gate.update(image, index / FPS)
            spent["gate"].append((time.perf_counter() - began) * 1e3)
        turns = itertools.chain.from_iterable(
            pictures if turn % 2 else reversed(pictures) for turn in range(8)
        )
        for image in turns:
            began = time.perf_counter()
            peer.area(image)
            spent["mog2"].append((time.perf_counter() - began) * 1e3)
        for who, samples in spent.items():
            yield summarize(f"cost/{name}/{who}_ms", "ms", samples[len(frames) :])


def measure_opening(name: str, images: Iterable[Image]) -> Iterator[Measurement]:
    gate, peer = MotionGate(), Mog2()
    told: dict[str, list[bool]] = {"opened": [], "held": [], "mog2_opened": [], "mog2_held": []}
    moved_s = looked_s = 0.0
    for index, image in enumerate(images):
        time_s, chosen = index / FPS, gate.settings
        motion, peer_moved = gate.update(image, time_s), peer.area(image) >= chosen.min_area
        moved_s = time_s if peer_moved else moved_s
        peer_look = time_s - moved_s <= chosen.hold_s or time_s - looked_s >= chosen.refresh_s
        looked_s = time_s if peer_look else looked_s
        if index >= SETTLED:
            answers = (motion.area >= chosen.min_area, motion.look, peer_moved, peer_look)
            for samples, answer in zip(told.values(), answers, strict=True):
                samples.append(answer)
    for what, samples in told.items():
        yield Measurement(f"{name}/{what}", "1", len(samples), value=float(np.mean(samples)))


def measure_nothing(scene: Float) -> Iterator[Measurement]:
    for sigma, spot in itertools.product((2, 4, 8), (1, 16)):
        noise = Noise(sigma, spot)
        night = scene * 0.25
        yield from measure_opening(f"night/sigma_{sigma}/spot_{spot}", (noise.on(night) for _ in range(250)))
    noise = Noise(3)
    across = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :, None]

    def cloud(period_s: float) -> Callable[[float], Float]:
        return lambda t: scene * (1 - 0.3 * np.clip(np.sin(2 * np.pi * (across - t / period_s)), 0, 1))

    lights: dict[str, Callable[[float], Float]] = {
        "switch": lambda t: scene * (1.0 if t % 20 < 10 else 0.6),
        "lamp_on_one_half": lambda t: scene * (1 + 0.5 * (across > 0.5) * (t % 20 >= 10)),
        "exposure_hunts": lambda t: scene * (1 + 0.3 * np.sin(t * 2 * np.pi / 10)),
        "cloud_20_s": cloud(20.0),
        "cloud_60_s": cloud(60.0),
        "dusk": lambda t: scene * (1 - t / 120),
    }
    for name, light in lights.items():
        images = (noise.on(np.clip(light(index / FPS), 0, 255).astype(np.float32)) for index in range(600))
        yield from measure_opening(f"light/{name}", images)


def measure_unseen(scene: Float) -> Iterator[Measurement]:
    """A plain box of 1 % of the frame on a real scene, brighter than it by `contrast`; half of a minute at each speed."""
    noise, side, top = Noise(3), 96, 300
    for contrast, speed in itertools.product((15, 25, 50), (2, 8, 40, 160)):
        gate, x, last, farthest = MotionGate(), 200.0, 200.0, 0.0
        for index in range(300):
            x = 200.0 + speed * max(0.0, index / FPS - 3)
            if x + side > WIDTH - 2:
                break
            shift = np.array([[1, 0, x], [0, 1, top]], np.float32)
            box = cv2.warpAffine(np.ones((side, side), np.float32), shift, (WIDTH, HEIGHT))
            image = noise.on(scene + contrast * np.asarray(box, np.float32)[..., None])
            # every look renews what the tracker knows, the refresh too
            look = gate.update(image, index / FPS).look
            farthest = max(farthest, x - last)
            last = x if look else last
        yield Measurement(
            f"unseen/contrast_{contrast}/{speed}_px_s", "widths", index + 1, value=farthest / side
        )


def measure_parked(folder: Path) -> Iterator[Measurement]:
    """Ten minutes at 5 a second of one real street frame in fresh noise; ids that its objects had, and frames skipped."""
    with VideoFile(folder / "street-camera.mp4", stream="parked", stop=0.5) as video:
        frame = next(itertools.islice(video, 100, None))
    scene, random = frame.image.astype(np.float32), np.random.default_rng(0)
    noisy = [np.clip(scene + random.normal(0, 4, scene.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    with CameraPipeline(load_bundle("street-detector")) as pipeline:
        found = [pipeline.detect(Frame(image, 0, 0.0, "parked")) for image in noisy]
    gate, tracker, ids, skipped, frames = MotionGate(), Tracker(), Counter[int](), 0, 3000
    for index in range(frames):
        pick, time_s = int(random.integers(len(noisy))), index / 5
        if gate.update(noisy[pick], time_s).look or tracker.unsettled:
            tracks = tracker.update(found[pick], time_s)
        else:
            tracks, skipped = tracker.hold(time_s), skipped + 1
        ids.update(tracks.track_ids.tolist())
    kept = sum(count >= 0.98 * frames for count in ids.values())
    yield Measurement("parked/ids", "1", frames, value=len(ids))
    yield Measurement("parked/ids_kept_all_along", "1", frames, value=kept)
    yield Measurement("parked/skipped", "1", frames, value=skipped / frames)


class Run:
    """One way through a video: what was tracked and counted, and the milliseconds of each frame."""

    def __init__(self, labels: Sequence[str], gate: MotionGate | None) -> None:
        self._gate, self._tracker = gate, Tracker()
        self._rules = [open_rule(line, labels=labels) for line in GRID]
        self.boxes: dict[int, dict[int, NDArray[np.float32]]] = {}
        self.crossings: Counter[tuple[str, str]] = Counter()
        self.skipped = 0
        self.spent_ms: list[float] = []

    def take(self, frame: Frame, found: Detections, found_ms: float) -> None:
        began, ms, tracker = time.perf_counter(), 0.0, self._tracker
        look = self._gate is None or self._gate.update(frame.image, frame.time_s).look or tracker.unsettled
        tracks = tracker.update(found, frame.time_s) if look else tracker.hold(frame.time_s)
        ms += found_ms * look
        self.skipped += not look
        height, width = frame.image.shape[:2]
        scene = Scene(tracks, width, height, frame.time_s, "v", tracker.started, tracker.ended)
        for rule in self._rules:
            for event in rule.update(scene):
                self.crossings[str(event.data["rule"]), str(event.data["direction"])] += 1
        self.spent_ms.append(ms + (time.perf_counter() - began) * 1e3)
        for track_id, box in zip(tracks.track_ids.tolist(), tracks.xyxy_px, strict=True):
            self.boxes.setdefault(track_id, {})[frame.index] = box

    def finds(self, other: Run) -> int:
        """How many tracks of the other run are in this one for half of their frames, with IoU over 0.5."""
        at: dict[int, list[NDArray[np.float32]]] = {}
        for boxes in self.boxes.values():
            for index, box in boxes.items():
                at.setdefault(index, []).append(box)
        hits = [
            sum(
                index in at and float(iou_matrix(box[None], np.stack(at[index])).max()) > 0.5
                for index, box in boxes.items()
            )
            >= 0.5 * len(boxes)
            for boxes in other.boxes.values()
        ]
        return sum(hits)


def measure_video(path: Path, model: str, half: str) -> Iterator[Measurement]:
    part = (0.0, 0.5) if half == "first" else (0.5, 1.0)
    with (
        CameraPipeline(load_bundle(model)) as pipeline,
        VideoFile(path, stream="v", start=part[0], stop=part[1]) as video,
    ):
        without, gated = Run(pipeline.labels, None), Run(pipeline.labels, MotionGate())
        for frame in video:
            began = time.perf_counter()
            found = pipeline.detect(frame)
            found_ms = (time.perf_counter() - began) * 1e3
            without.take(frame, found, found_ms)
            gated.take(frame, found, found_ms)
    frames, name = len(without.spent_ms), f"{path.stem}/{half}_half"
    both = sum((without.crossings & gated.crossings).values())
    for what, value in (
        ("skipped", gated.skipped / max(frames, 1)),
        ("tracks", len(without.boxes)),
        ("tracks_with_gate", len(gated.boxes)),
        ("tracks_found", gated.finds(without)),
        ("crossings", sum(without.crossings.values())),
        ("crossings_with_gate", sum(gated.crossings.values())),
        ("crossings_in_both", both),
        ("mean_ms_without", float(np.mean(without.spent_ms))),
        ("mean_ms_with_gate", float(np.mean(gated.spent_ms))),
    ):
        yield Measurement(f"{name}/{what}", "ms" if "ms" in what else "1", frames, value=float(value))


def first_frames(path: Path, count: int) -> list[Image]:
    with VideoFile(path, stream="v", stop=0.5) as video:
        return [
            np.asarray(cv2.resize(frame.image, (WIDTH, HEIGHT)), np.uint8)
            for frame in itertools.islice(video, count)
        ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("first", "second"), default="first", help="of each video")
    parser.add_argument("--no-videos", action="store_true", help="leave the zoo's models out")
    args = parser.parse_args(argv)
    folder = Path(os.environ["EDGEAI_DATA"]) / "videos"
    street = first_frames(folder / "street-camera.mp4", 60)
    scene = first_frames(folder / "vtest.avi", 1)[0].astype(np.float32)
    results = [
        *measure_cost(street),
        *measure_nothing(scene),
        *measure_unseen(scene),
    ]
    if not args.no_videos:
        results += measure_parked(folder)
        for video, model in VIDEOS:
            results += measure_video(folder / video, model, args.half)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
    report = bench_report("motion", results, device={"machine": platform.machine()}, versions=versions)
    json.dump(report, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
