"""`edgeai run` beside what a user would write or pick instead: the same model file, video and machine, whole processes by turns.

Run: make bench-cameras, or PYTHONPATH=tests python -m bench.bench_cameras --data DIR --rounds 5

Peers live in an environment of their own (.ci/peers.sh cameras makes .venv-peers), with the same versions of LiteRT, onnxruntime
and numpy as ours. Theirs is the loop of peers/camera_loop.py: cv2, the runtime's own interpreter or MediaPipe's ObjectDetector,
post-processing in numpy, and a tracker: supervision's ByteTrack (which follows MediaPipe too), its successor in `trackers`, or
norfair's; people are counted by supervision's LineZone. Ours is the command, its events through the outbox into a file. Engines have one thread; the video is read as fast as it goes; OpenCV keeps its own threads everywhere.

fps: frames after the first, over the seconds from the first frame's detections to the end of the process, all of it told.
p50_ms, p99_ms: a frame that is decoded until it is counted. cpu_s, rss_mb: of the whole process, as the kernel says.
first_s: from the start of the process to the first frame's detections. found: boxes a frame. in, out: people counted.

The ultralytics predictor (8.4) takes neither the zoo's files nor the SSD: it feeds (1, 3, H, W) in 0..1 whatever the file says, and
reads the heads of its own exports. Whether it would take YOLOX-nano is open: it asked for a torchvision that was not at hand.
MediaPipe takes detectors with NMS in the file, once metadata is added.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeai.bench.alone import python_command
from edgeai.bench.first_detection import measure_first_detection
from edgeai.bench.overhead import Model
from edgeai.bench.statistics import paired_ratio
from edgeai.bundle import Bundle, load_bundle, write_bundle
from edgeai.console import print_json, print_note, print_table
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError
from edgeai.hardware import device_facts, library_versions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LINE = ((0.1, 0.5), (0.9, 0.5))
SCORE, IOU = 0.4, 0.5
OURS = "edgeai run"
FIGURES = ("fps", "p50_ms", "p99_ms", "cpu_s", "rss_mb", "first_s")
DIGITS = {"fps": 0, "p50_ms": 2, "p99_ms": 2, "cpu_s": 1, "rss_mb": 0, "first_s": 2}


@dataclass
class Contest:
    """One model file on one video. peers: name -> the part of camera_loop.py's job that is theirs alone. rows: name -> what each
    round gave. versions: of the peers' libraries.
    """

    name: str
    bundle: Bundle
    video: Path
    peers: dict[str, dict[str, Any]]
    rows: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def contests(data: Path, work: Path, python: Path) -> list[Contest]:
    video = data / "videos/vtest.avi"
    person = load_bundle(str(ROOT / "models/person-detector"))
    file = str(person.path(person.engine_file("tflite", "int8")))
    grid = {"model": file, "runtime": "litert", "heads": "grid", "size": [384, 288]}
    trackers = {name: {**grid, "tracker": name} for name in ("supervision", "trackers", "norfair")}
    yolox, ssd = yolox_bundle(work, data), ssd_bundle(work, data)
    flat = {
        "model": str(yolox.path(yolox.manifest.engine_files[0])),
        "runtime": "onnxruntime",
        "heads": "flat",
        "size": [416, 416],
        "tracker": "supervision",
    }
    with_metadata = work / "ssd_with_metadata.tflite"
    labels = data / "models/detectors/ssd_coco_labelmap.txt"
    source = ssd.path(ssd.manifest.engine_files[0])
    subprocess.run(
        [
            str(python),
            str(HERE / "peers/mediapipe_metadata.py"),
            str(source),
            str(with_metadata),
            str(labels),
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
        stderr=subprocess.DEVNULL,
    )
    media = {"model": str(with_metadata), "runtime": "mediapipe", "heads": "none", "size": [300, 300]}
    large = scaled_video(video, work / "vtest-720p.mp4", (1280, 720))
    return [
        Contest("person-detector int8, 768x576", person, video, trackers),
        Contest("person-detector int8, 1280x720", person, large, dict(list(trackers.items())[:1])),
        Contest("YOLOX-nano float32, 768x576", yolox, video, {"supervision": flat}),
        Contest(
            "SSD-MobileNet int8, 768x576",
            ssd,
            video,
            {"MediaPipe": {**media, "tracker": "supervision"}},
        ),
    ]


def yolox_bundle(work: Path, data: Path) -> Bundle:
    file = data / "models/detectors/yolox_nano_coco_416.onnx"
    picture = {"name": "images", "layout": "NCHW", "width": 416, "height": 416}
    return _somebody_elses(work, "yolox-nano", file, picture, "grid")


def ssd_bundle(work: Path, data: Path) -> Bundle:
    file = data / "models/detectors/ssd_mobilenet_v1_coco_quant_300.tflite"
    picture = {
        "width": 300,
        "height": 300,
        "colour": "RGB",
        "resize": "stretch",
        "mean": [128.0] * 3,
        "std": [128.0] * 3,
    }
    return _somebody_elses(work, "ssd-mobilenet-v1", file, picture, "ssd")


def _somebody_elses(work: Path, name: str, file: Path, picture: Mapping[str, Any], decoder: str) -> Bundle:
    kind = file.suffix[1:]
    params = {
        "width": picture["width"],
        "height": picture["height"],
        "keep_classes": [0],
        "score_threshold": SCORE,
    }
    fields = {
        "name": name,
        "task": "detect",
        "input": {"kind": "image", **picture},
        "decoder": {"name": decoder, "params": params},
        "labels": ["person"],
        "files": [{"path": file.name, "format": kind, "precision": "float32" if kind == "onnx" else "int8"}],
    }
    return write_bundle(work / name, fields, {file.name: file})


def scaled_video(source: Path, target: Path, size: tuple[int, int]) -> Path:
    """The same pictures in another size; made once."""
    if target.is_file():
        return target
    capture = cv2.VideoCapture(str(source))
    part = target.with_name(f"part-{target.name}")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size)
    while True:
        read, frame = capture.read()
        if not read:
            break
        writer.write(cv2.resize(frame, size))
    writer.release()
    part.rename(target)
    return target


def run_process(command: Sequence[str], *, first: str, env: Mapping[str, str]) -> dict[str, Any]:
    """A program to its end. first_s: until a line of its output holds `first`, None where none does; lines: all of them.

    Raises EdgeError where it fails.
    """
    with tempfile.TemporaryFile("w+") as said:
        began_s = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL, text=True, env=dict(env)
        )
        first_s, lines = None, []
        for line in process.stdout or ():
            if first_s is None and first in line:
                first_s = time.monotonic() - began_s
            lines.append(line)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise EdgeError(f"{command[0]} ended with code {process.returncode}: {said.read()[-400:]}")
    return {
        "first_s": first_s,
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mb": usage.ru_maxrss / 1024,
        "lines": lines,
    }


def run_peer(contest: Contest, job: Mapping[str, Any], python: Path, work: Path) -> dict[str, float]:
    path = work / "job.json"
    asked = {"video": str(contest.video), "score": SCORE, "iou": IOU, "line": LINE, "frames": 0}
    path.write_text(json.dumps({**asked, **job}))
    command = [str(python), str(HERE / "peers/camera_loop.py"), str(path)]
    run = run_process(command, first='"first"', env={**os.environ, "PYTHONPATH": ""})
    told = json.loads(run["lines"][-1])
    contest.versions.update(told["versions"])
    return _row(run, told)


def run_ours(contest: Contest, work: Path) -> dict[str, float]:
    """Twice: the first frame's detections are told of by thresholds so low that they become events at once."""
    model = Model(contest.bundle, None, 1, EngineHost())
    (first_s,), _ = measure_first_detection(model, str(contest.video), runs=1, warm_up=False)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        config = Path(folder) / "run.toml"
        events = Path(folder) / "events.jsonl"
        config.write_text(our_config(contest))
        command = python_command("edgeai.__main__", "run", str(config), "--json")
        run = run_process(command, first="\0", env=os.environ)
        health = [json.loads(line) for line in events.read_text().splitlines() if '"health"' in line][-1]
    (stream,) = json.loads(run["lines"][-1])["streams"]
    counts, latency = stream["totals"]["line"], health["data"]["streams"]["gate"]["latency_ms"]
    told = {
        "frames": stream["frames"],
        "in": counts["in"],
        "out": counts["out"],
        "p50_ms": latency["p50"],
        "p99_ms": latency["p99"],
    }
    return _row({**run, "first_s": first_s}, told)


def our_config(contest: Contest) -> str:
    camera = {
        "name": "gate",
        "source": str(contest.video),
        "model": str(contest.bundle.folder.resolve()),
        "engine": contest.bundle.manifest.engine_files[0].path,
        "score_threshold": SCORE,
        "realtime": False,
    }
    line = {"kind": "line", "name": "line", "a": LINE[0], "b": LINE[1]}
    return "\n".join(
        [
            "threads = 1",
            "[health]",
            "every_s = 3600",
            "[[sinks]]",
            'kind = "file"',
            'name = "events"',
            'path = "events.jsonl"',
            "[[cameras]]",
            *(f"{key} = {json.dumps(value)}" for key, value in camera.items()),
            "[[cameras.rules]]",
            *(f"{key} = {json.dumps(value)}" for key, value in line.items()),
        ]
    )


def _row(run: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, float]:
    frames = int(told["frames"])
    row = {name: float(run[name]) for name in ("first_s", "cpu_s", "rss_mb", "wall_s")}
    row |= {name: float(told[name]) for name in ("p50_ms", "p99_ms", "in", "out")}
    return row | {"frames": float(frames), "fps": (frames - 1) / (run["wall_s"] - run["first_s"])}


def measure(args: argparse.Namespace, work: Path) -> list[Contest]:
    python = args.environment / "bin/python"
    if not python.exists():
        raise EdgeError(f"there is no {args.environment}", next_step="run .ci/peers.sh cameras")
    made = [each for each in contests(args.data, work, python) if not args.only or args.only in each.name]
    for round_ in range(args.rounds):
        for contest in made:
            programs = [OURS, *contest.peers]
            # another one begins each round, so that no place in the order is anybody's
            for name in [*programs[round_ % len(programs) :], *programs[: round_ % len(programs)]]:
                print_note(f"round {round_ + 1} of {args.rounds}: {contest.name}: {name}")
                job = contest.peers.get(name)
                row = run_ours(contest, work) if job is None else run_peer(contest, job, python, work)
                contest.rows.setdefault(name, []).append(row)
    return made


def report(made: Sequence[Contest]) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for contest in made:
        for name, rows in contest.rows.items():
            for figure in (*FIGURES, "in", "out", "frames"):
                values = np.array([row[figure] for row in rows])
                unit = {"fps": "1/s", "rss_mb": "MiB"}.get(figure, figure.rpartition("_")[2])
                unit = unit if unit in ("1/s", "MiB", "ms", "s") else "count"
                p50, p90, p99 = (round(float(value), 4) for value in np.percentile(values, (50, 90, 99)))
                results.append(
                    {
                        "name": f"{contest.name}/{name}/{figure}",
                        "unit": unit,
                        "p50": p50,
                        "p90": p90,
                        "p99": p99,
                        "n": len(rows),
                    }
                )
        for name in contest.peers:
            for figure in FIGURES:
                theirs, ours = ([row[figure] for row in contest.rows[each]] for each in (name, OURS))
                ratio = paired_ratio(theirs, ours)
                results.append(
                    {
                        "name": f"{contest.name}/ours over {name}/{figure}",
                        "unit": "x",
                        "n": len(ours),
                        **ratio.to_json(),
                    }
                )
    versions = {f"peer {name}": number for contest in made for name, number in contest.versions.items()}
    return {
        "bench": "cameras",
        "device": device_facts(),
        "versions": {**library_versions(), **versions},
        "results": results,
    }


def print_contests(made: Sequence[Contest]) -> None:
    """Two tables a contest: medians of the rounds, then ours over each peer with the spread of the rounds' ratios."""
    headings = ("fps", "p50 ms", "p99 ms", "cpu s", "MiB", "first s")
    for contest in made:
        lines, ratios = [], []
        for name, rows in contest.rows.items():
            middle = {key: float(np.median([row[key] for row in rows])) for key in rows[0]}
            cells = [f"{middle[figure]:.{DIGITS[figure]}f}" for figure in FIGURES]
            lines.append((name, *cells, f"{middle['in']:.0f}/{middle['out']:.0f}"))
        for name in contest.peers:
            cells = []
            for figure in FIGURES:
                theirs, ours = ([row[figure] for row in contest.rows[each]] for each in (name, OURS))
                ratio = paired_ratio(theirs, ours)
                cells.append(f"{ratio.value:.2f}±{100 * ratio.spread:.0f}%")
            ratios.append((name, *cells))
        frames = int(contest.rows[OURS][0]["frames"])
        title = f"{contest.name}, {frames} frames, {len(contest.rows[OURS])} rounds"
        print_table(("program", *headings, "in/out"), lines, title=title)
        print_table(("ours over", *headings), ratios)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--work", type=Path, default=Path("out/bench_cameras"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a part of a contest's name")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        made = measure(args, args.work)
    except EdgeError as error:
        print_note(f"bench_cameras: error: {error}")
        return error.exit_code
    told = report(made)
    (args.work / "record.json").write_text(json.dumps(told))
    if args.json:
        print_json(told)
    else:
        print_contests(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
