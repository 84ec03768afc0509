"""The zoo beside the networks that its users would take else, on the same examples in one run.

Run: make bench-zoo ARGS="--only person", or ARGS="--pictures out/zoo/videos" for a look at the detectors on each video

person, street: int8 TFLite beside YOLOX-nano (ONNX float32 at 416 x 416) and SSD-MobileNet v1 (TFLite, quantized, 300 x 300), on
the test pictures; street also beside YOLOX-nano's own boxes of a score of 0.35 and more on the second half of a street camera's
video. commands: int8 TFLite beside MLPerf Tiny's DS-CNN (TFLite, float32), on the test clips. wake: beside microWakeWord's alexa in
its own runtime, on the test recordings, and on all other speech and noise for false accepts. Differences are paired;
milliseconds are of the engine call on one thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.cli.compare import Pair, pair_up
from compress.cli.evaluate import Evaluated, evaluate_engine
from compress.cli.evaluate_tables import print_false_accepts
from compress.measure.agreement import measure_agreement
from compress.measure.bundle import load_clips
from compress.measure.cost import Cost
from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector
from compress.measure.pairs import paired_difference
from compress.measure.scored_classes import ScoredClasses
from compress.measure.scored_pictures import ScoredPictures
from compress.measure.wake_word import ScoredWakeWord
from compress.quiet import start_tensorflow
from compress.zoo.sheet import load_zoo
from edgeai.bundle import Bundle, load_bundle, write_bundle
from edgeai.bundle.manifest import ImageInput
from edgeai.console import print_json, print_table, progress_bar
from edgeai.engines import open_file
from edgeai.errors import EdgeError
from edgeai.sources.video_file import VideoFile

MODELS = Path(__file__).resolve().parents[2] / "models"
# COCO's numbers of 80; as far as these, SSD's own (of 90, less one) are the same
PERSON, STREET = (0,), (0, 1, 2, 3, 5, 7)
EVERY = 5
LOOKED_AT = 4  # frames of a video


def yolox(folder: Path, data: Path, labels: Sequence[str], keep: Sequence[int]) -> Bundle:
    file = data / "models/detectors/yolox_nano_coco_416.onnx"
    given = {"name": "images", "layout": "NCHW"}
    return reference(folder, "yolox-nano", file, labels, keep, side=416, decoder="grid", given=given)


def ssd(folder: Path, data: Path, labels: Sequence[str], keep: Sequence[int]) -> Bundle:
    file = data / "models/detectors/ssd_mobilenet_v1_coco_quant_300.tflite"
    # its uint8 pixels are the picture's own
    given = {"colour": "RGB", "resize": "stretch", "mean": [128.0] * 3, "std": [128.0] * 3}
    return reference(folder, "ssd-mobilenet-v1", file, labels, keep, side=300, decoder="ssd", given=given)


def reference(
    folder: Path,
    name: str,
    file: Path,
    labels: Sequence[str],
    keep: Sequence[int],
    *,
    side: int,
    decoder: str,
    given: dict[str, Any],
) -> Bundle:
    """Somebody else's detector as a bundle. keep: its classes' numbers that the labels stand for. given: of its input."""
    size = {"width": side, "height": side}
    kind = file.suffix[1:]
    fields = {
        "name": name,
        "task": "detect",
        "input": {"kind": "image", **given, **size},
        "decoder": {"name": decoder, "params": {**size, "keep_classes": list(keep)}},
        "labels": list(labels),
        "files": [{"path": file.name, "format": kind, "precision": "float32" if kind == "onnx" else "int8"}],
    }
    return write_bundle(folder, fields, {file.name: file})


def engine_of(bundle: Bundle, data: Path, split: str) -> Evaluated:
    """A reference's one engine file, measured."""
    return evaluate_engine(bundle, bundle.manifest.files[0], data, split, iou=0.5)


def zoo(name: str, data: Path, split: str) -> Evaluated:
    bundle = load_bundle(MODELS / name)
    return evaluate_engine(bundle, bundle.engine_file("tflite", "int8"), data, split, iou=0.5)


def person(data: Path, work: Path) -> list[dict[str, Any]]:
    folder, labels = data / "coco_people", ("person",)
    ours = zoo("person-detector", folder, "test")
    others = (yolox(work / "yolox-1", data, labels, PERSON), ssd(work / "ssd-1", data, labels, PERSON))
    return list(told("person", [pair_up(engine_of(other, folder, "test"), ours) for other in others]))


def street(data: Path, work: Path) -> list[dict[str, Any]]:
    folder = data / "coco_80class"
    ours = zoo("street-detector", folder, "test")
    labels = ours.bundle.labels
    reference = yolox(work / "yolox-6", data, labels, STREET)
    others = (reference, ssd(work / "ssd-6", data, labels, STREET))
    pairs = [pair_up(engine_of(other, folder, "test"), ours) for other in others]
    rows = list(told("street", pairs))
    rows += by_class(pairs[0])
    return [*rows, against_teacher(ours.bundle, reference, data / "videos/street-camera.mp4")]


def by_class(pair: Pair) -> list[dict[str, Any]]:
    """AP50 of each class of both, and the ratio that the zoo has of the reference's."""
    a, b = pair.a.scored, pair.b.scored
    assert isinstance(a, ScoredPictures)
    assert isinstance(b, ScoredPictures)
    rows = []
    for number, label in enumerate(a.labels):
        if not a.wanted(number):
            continue
        theirs, ours = (float(s.matches.average(class_id=number)) for s in (a, b))
        gap = paired_difference(
            len(a), *(partial(scored.matches.average, class_id=number) for scored in (a, b))
        )
        rows.append(
            {
                "name": f"street/{label}",
                "other": "yolox-nano",
                "ours": ours,
                "theirs": theirs,
                "difference": gap.value,
                "ci95": list(gap.ci95),
                "n": a.wanted(number),
            }
        )
    return rows


def against_teacher(bundle: Bundle, teacher: Bundle, video: Path) -> dict[str, Any]:
    """AP50 of the zoo's boxes where the teacher's sure ones are the truth, on the second half of a video."""
    entry = bundle.engine_file("tflite", "int8")
    with open_file(bundle, entry) as one, open_file(teacher, teacher.manifest.files[0]) as two:
        detect, teach = (
            BundleDetector(
                engine,
                spec_of(made),
                made.manifest.decoder,
                made.labels,
                score_threshold=EVAL_SCORE_THRESHOLD,
            )
            for engine, made in ((one, bundle), (two, teacher))
        )
        metric, _ = measure_agreement(detect, teach, video, labels=bundle.labels, every=EVERY)
    return {
        "name": "street, second half of its video",
        "other": "yolox-nano's own boxes",
        "ours": metric.value,
        "theirs": 1.0,
        "difference": metric.value - 1,
        "ci95": [end - 1 for end in metric.ci95],
        "n": metric.n,
    }


def spec_of(bundle: Bundle) -> ImageInput:
    spec = bundle.manifest.input
    assert isinstance(spec, ImageInput)
    return spec


def commands(data: Path, work: Path) -> list[dict[str, Any]]:
    from compress.distill.speech_teacher import SpeechTeacher

    folder = data / "speech_commands"
    ours = zoo("commands", folder, "test")
    clips = load_clips(ours.bundle, folder, "test", ours.bundle.labels)
    path = data / "models/mlperf_tiny/kws_ref_model_float32.tflite"
    teacher = SpeechTeacher(path, ours.bundle.labels)
    scores = []
    with progress_bar("clips", len(clips)) as advance:
        for index in range(len(clips)):
            clip = np.zeros(16_000, np.float32)
            samples = clips.clip(index)[:16_000]
            clip[: len(samples)] = samples
            scores.append(teacher(clip[None])[0])
            advance(1)
    scored = ScoredClasses(
        ours.scored.labels,
        ours.scored.names,
        ours.scored.groups,
        np.array(scores, np.float64),
        clips.class_ids,
        unit="clips",
    )
    cost = Cost(path.stat().st_size, 0, float("nan"), float("nan"), float("nan"))
    theirs = Evaluated(ours.bundle, ours.entry, scored, scored.metric(), cost)
    return list(told("commands", [pair_up(theirs, ours)], other="MLPerf Tiny DS-CNN"))


def wake(data: Path, work: Path) -> list[dict[str, Any]]:
    from bench.peers.micro_wake_word import score_micro_wake_word

    (model,) = load_zoo(MODELS, ("wake-word",))
    folder, measure = data / model.measure.data, model.measure
    bundle = load_bundle(model.folder)
    entry = bundle.engine_file("tflite", "int8")
    others = [data / name for name in measure.others]
    ours = evaluate_engine(bundle, entry, folder, measure.split, iou=0.5, others=others)
    assert isinstance(ours.scored, ScoredWakeWord)
    settings = data / "models/microwakeword/alexa.json"
    scored = score_micro_wake_word(settings, ours.scored)
    cost = Cost(settings.with_suffix(".tflite").stat().st_size, 0, float("nan"), float("nan"), float("nan"))
    theirs = Evaluated(bundle, entry, scored, scored.metric(), cost)
    rows = list(told("wake word, recall", [pair_up(theirs, ours)], other="microWakeWord"))
    for name, made in (("ours", ours), ("microWakeWord", theirs)):
        low, high = made.metric.ci95
        print(f"{name}: recall {made.metric.value:.3f} ({low:.3f} to {high:.3f})")
        print_false_accepts(made.metric)
    return rows


BENCHES: dict[str, Callable[[Path, Path], list[dict[str, Any]]]] = {
    "person": person,
    "street": street,
    "commands": commands,
    "wake": wake,
}


def look_at(data: Path, out: Path) -> list[Path]:
    """For both detectors a JPEG of each video: frames of its second half with what was found."""
    import cv2

    from compress.report.worst import write_sheet
    from edgeai.stages.overlay import draw_overlay

    written = []
    videos = sorted(path for path in (data / "videos").iterdir() if path.suffix in (".mp4", ".avi"))
    for name in ("person-detector", "street-detector"):
        bundle = load_bundle(MODELS / name)
        with (
            open_file(bundle, bundle.engine_file("tflite", "int8")) as engine,
            progress_bar(name, len(videos)) as advance,
        ):
            detect = BundleDetector(engine, spec_of(bundle), bundle.manifest.decoder, bundle.labels)
            for video in videos:
                with VideoFile(str(video), stream=video.stem, start=0.5) as source:
                    every = max(1, source.frame_count // 2 // LOOKED_AT)
                    frames = [f.image for n, f in enumerate(source) if n % every == every // 2][:LOOKED_AT]
                tiles = []
                for image in frames:
                    image = np.ascontiguousarray(image)
                    drawn = draw_overlay(image.copy(), detect(image), labels=bundle.labels)
                    tiles.append(cv2.resize(drawn, (640, round(640 * image.shape[0] / image.shape[1]))))
                sheet = np.asarray(np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:4])]), np.uint8)
                written.append(write_sheet(out / name / f"{video.stem}.jpg", sheet))
                advance(1)
    return written


def told(name: str, pairs: Any, *, other: str | None = None) -> Any:
    for pair in pairs:
        yield {
            "name": name,
            "other": other or pair.a.bundle.name,
            "ours": pair.b.metric.value,
            "theirs": pair.a.metric.value,
            "difference": pair.difference.value,
            "ci95": list(pair.difference.ci95),
            "n": pair.b.metric.n,
            "bytes": [pair.b.cost.bytes, pair.a.cost.bytes],
            "ms": [pair.b.cost.ms_p50, pair.a.cost.ms_p50],
        }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=tuple(BENCHES))
    parser.add_argument("--pictures", type=Path, help="only draw what the detectors find on each video, here")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args(argv)
    start_tensorflow()
    try:
        if args.pictures is not None:
            print("\n".join(str(path) for path in look_at(args.data, args.pictures)))
            return 0
        with tempfile.TemporaryDirectory() as work:
            rows = [
                row
                for name, bench in BENCHES.items()
                if args.only in (None, name)
                and (name != "street" or (MODELS / "street-detector/manifest.json").is_file())
                for row in bench(args.data, Path(work))
            ]
    except EdgeError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        device = {"machine": platform.machine(), "cpus": os.cpu_count()}
        results = [
            {
                "name": f"{row['name']} less {row['other']}",
                "unit": "1",
                "value": row["difference"],
                "ci95": row["ci95"],
                "n": row["n"],
            }
            for row in rows
        ]
        print_json(
            {"bench": "zoo", "device": device, "versions": {"numpy": np.__version__}, "results": results}
        )
        return 0
    print_table(
        ["model", "ours", "other", "ours less the other's (95 %)", "n"],
        [
            [
                f"{row['name']} beside {row['other']}",
                f"{row['ours']:.3f}",
                f"{row['theirs']:.3f}",
                f"{row['difference']:+.3f} ({row['ci95'][0]:+.3f}, {row['ci95'][1]:+.3f})",
                row["n"],
            ]
            for row in rows
        ],
    )
    print_table(
        ["model", "bytes", "other's", "ms", "other's"],
        [
            [
                f"{row['name']} beside {row['other']}",
                *(f"{size:,}" for size in row["bytes"]),
                *(f"{ms:.2f}" for ms in row["ms"]),
            ]
            for row in rows
            if "bytes" in row
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
