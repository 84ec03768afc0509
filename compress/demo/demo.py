"""Site distillation in small, end to end: label, train, prune, quantize, export, count, report, listen."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.data.video import extract_frames
from compress.demo.footage import TEACHER_FILE, ColourTeacher, Footage, find_clips, find_footage
from compress.demo.live import KeywordResult, LiveResult, hear_clips, run_live
from compress.demo.page import write_demo_page
from compress.distill.teacher import TeacherDetector, label_pictures, soften
from compress.measure.agreement import measure_agreement
from compress.measure.cost import Cost, measure_cost
from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector
from compress.recipe import Recipe, Teacher, parse_recipe
from compress.run import RunResult, run_recipe
from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import ImageInput
from edgeai.console import print_json, print_note, print_table
from edgeai.data import data_root
from edgeai.engines import open_engine
from edgeai.errors import DataError
from edgeai.sources.video_file import VideoFile

LABELS = ("person",)
LABEL_EVERY = 2
COMPARE_EVERY = 2
WIDTH_PX = 288


@dataclass(frozen=True, slots=True)
class Agreement:
    """The student against the teacher on footage that neither training nor choosing has seen."""

    ap50: float
    ci95: tuple[float, float]
    frames: int
    boxes_a_frame: float


def run_demo(
    *,
    video: Path | None = None,
    audio: Sequence[Path] = (),
    data: Path | None = None,
    out: Path = Path("out/demo"),
    json_output: bool = False,
    effort: float = 1.0,
) -> int:
    """Run the whole job; writes summary.json, report.html, annotated.mp4 and the student's bundle to `out`.

    data: the folder of public data, beside the repository where not given; it need not exist.
    effort: the share of the training steps that is done; a test of the plumbing needs few.

    Raises EdgeError for a file that is not there or a step that fails.
    """
    began = time.monotonic()
    out = out.resolve()
    work = out / "work"
    shutil.rmtree(work / "student", ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    data = data or data_root().parent / "shared" / "data"
    # everything that can be missing is looked for before any work starts
    footage = find_footage(video, data=data, work=work)
    clips, speech_origin = find_clips(audio, data=data, work=work)
    print_note(f"1/5 video: {footage.origin}")
    teacher = _open_teacher(footage, data)
    labelled = _label_first_half(footage, teacher, work)
    print_note(f"2/5 the student learns from {labelled} labelled pictures of the first half")
    trained = run_recipe(
        _student_recipe(footage, effort), data_root=work, out=out / "student", work=work / "student"
    )
    print_note("3/5 the student against the teacher on the second half, which it has never seen")
    agreement = _compare(footage, teacher, trained.bundle)
    print_note(
        "4/5 the student's bundle runs on the second half and reports over MQTT; the broker stops for 5 s"
    )
    live = run_live(footage.video, trained.bundle, work=work, annotated=out / "annotated.mp4")
    print_note(f"5/5 keywords: {speech_origin}")
    heard = hear_clips(clips)
    summary = _summary(teacher, trained, agreement, live, heard, time.monotonic() - began)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_demo_page(
        out / "report.html",
        footage=footage,
        summary=summary,
        trained=trained,
        agreement=agreement,
        live=live,
        heard=heard,
        speech_origin=speech_origin,
    )
    if json_output:
        print_json(summary)
    else:
        _print_summary(summary, agreement, live, heard, out)
    return 0 if live.sent == live.received else 1


@dataclass(frozen=True)
class DemoTeacher:
    """detect: boxes on a frame. cost: None for the rendered scene, whose teacher is no network."""

    name: str
    detect: Any
    cost: Cost | None


def _open_teacher(footage: Footage, data: Path) -> DemoTeacher:
    """The big detector where it is at hand, else the zoo's own float16 one; a rendered scene has colours instead."""
    if footage.rendered:
        return DemoTeacher("the scene's colours", ColourTeacher(), None)
    file = data / TEACHER_FILE
    if file.is_file():
        spec = {"kind": "image", "name": "images", "width": 416, "height": 416, "layout": "NCHW"}
        decoder = {"name": "grid", "params": {"width": 416, "height": 416, "keep_classes": [0]}}
        name = "YOLOX-nano (ONNX, float32)"
    else:
        bundle = load_bundle("person-detector")
        file = bundle.path(bundle.engine_file("tflite", "float16"))
        spec = bundle.manifest.input.model_dump(mode="json")
        decoder = bundle.manifest.decoder.model_dump(mode="json")
        name = "the zoo's person-detector (TFLite, float16)"
    settings = Teacher.model_validate(
        {"file": str(file), "input": spec, "decoder": decoder, "min_score": 0.2, "flip": False}
    )
    detect = TeacherDetector(settings, LABELS, data_root=file.parent, threads=1)
    return DemoTeacher(name, detect, measure_cost(detect.engine, file, calls=60))


def _label_first_half(footage: Footage, teacher: DemoTeacher, work: Path) -> int:
    folder = work / "site"
    shutil.rmtree(folder, ignore_errors=True)
    paths = extract_frames(footage.video, folder, stop=0.5, every=LABEL_EVERY)
    labelled = soften(
        label_pictures(paths, folder, teacher=teacher.detect, labels=LABELS), floor=0.2, full=0.5
    )
    if not any(len(p.xyxy_px) for p in labelled.pictures):
        raise DataError(
            f"the teacher finds no {LABELS[0]} in the first half of {footage.video.name}",
            next_step="give a video of people with --video",
        )
    from compress.data.formats.coco import write_coco

    write_coco(folder, "train", labelled)
    return len(labelled)


def _student_recipe(footage: Footage, effort: float) -> Recipe:
    """A small plain detector of about the video's own shape."""
    with VideoFile(str(footage.video), stream="size") as source:
        width, height = WIDTH_PX, max(64, round(WIDTH_PX * source.height_px / source.width_px / 16) * 16)
    params = {
        "width": width,
        "height": height,
        "strides": [8, 16],
        "layout": "maps",
        "activation": "sigmoid",
        "score_threshold": 0.4,
        "maps": {"box": ["box_8", "box_16"], "class": ["class_8", "class_16"]},
    }
    return parse_recipe(
        {
            "name": "site-student",
            "task": "detect",
            "labels": list(LABELS),
            "data": {
                "train": [{"kind": "coco", "folder": "site"}],
                "validation": 0.1,
                "pictures": {"scale": [0.85, 1.25], "move": 0.1, "mosaic": 0.15, "hue": 4.0},
            },
            "input": {"kind": "image", "width": width, "height": height, "std": [255.0, 255.0, 255.0]},
            "network": {"kind": "plain-detector"},
            "decoder": {"name": "grid", "params": params},
            "passes": [
                {
                    "kind": "train",
                    "fit": {
                        "steps": max(1, round(340 * effort)),
                        "batch": 16,
                        "learning_rate": 4e-3,
                        "average": 0.97,
                    },
                },
                {
                    "kind": "prune",
                    "macs_ratio": 0.5,
                    "rounds": 1,
                    "teacher_share": 0.5,
                    "fit": {
                        "steps": max(1, round(100 * effort)),
                        "batch": 16,
                        "learning_rate": 2e-3,
                        "average": 0.95,
                    },
                },
                {"kind": "quantize", "precision": "int8", "calibration": 100},
                {"kind": "export", "formats": ["onnx/float32"]},
            ],
        },
        where="the demo's recipe",
    )


def _compare(footage: Footage, teacher: DemoTeacher, student: Bundle) -> Agreement:
    spec = student.manifest.input
    assert isinstance(spec, ImageInput)  # noqa: S101  the demo's own recipe
    with open_engine(student) as engine:
        detect = BundleDetector(
            engine, spec, student.manifest.decoder, student.labels, score_threshold=EVAL_SCORE_THRESHOLD
        )
        metric, boxes = measure_agreement(
            detect, teacher.detect, footage.video, labels=LABELS, every=COMPARE_EVERY
        )
    return Agreement(metric.value, metric.ci95, metric.n, boxes)


def _summary(
    teacher: DemoTeacher,
    trained: RunResult,
    agreement: Agreement,
    live: LiveResult,
    heard: Sequence[KeywordResult],
    seconds: float,
) -> dict[str, Any]:
    """The keys that others rely on, and a few more beside them."""
    cost = next(r.measured.cost for r in trained.records if r.kind == "quantize")
    return {
        "teacher": {
            "name": teacher.name,
            "bytes": teacher.cost.bytes if teacher.cost else None,
            "ms_p50": round(teacher.cost.ms_p50, 3) if teacher.cost else None,
        },
        "student": {
            "bytes": cost.bytes,
            "ms_p50": round(cost.ms_p50, 3),
            "ap50_vs_teacher": round(agreement.ap50, 4),
            "ci95": [round(v, 4) for v in agreement.ci95],
        },
        "events": {"sent": live.sent, "received": live.received},
        "counts": live.counts,
        "keywords": [k.to_json() for k in heard],
        "seconds": round(seconds, 1),
    }


def _print_summary(
    summary: dict[str, Any], agreement: Agreement, live: LiveResult, heard: Sequence[KeywordResult], out: Path
) -> None:
    teacher, student = summary["teacher"], summary["student"]
    size = f"{teacher['bytes']:,}" if teacher["bytes"] else "-"
    speed = f"{teacher['ms_p50']:.2f}" if teacher["ms_p50"] else "-"
    rows = [
        ["bytes", size, f"{student['bytes']:,}"],
        ["ms a frame, one thread", speed, f"{student['ms_p50']:.2f}"],
        [f"AP50 on {agreement.frames} unseen frames", "is the truth", f"{student['ap50_vs_teacher']:.3f}"],
    ]
    print_table(["", "teacher", "student"], rows, title=summary["teacher"]["name"] + " and its student")
    rows = [["events sent", str(live.sent)], ["events received", str(live.received)]]
    rows.append(["broker down", f"{live.outage_s:.1f} s, {live.during_outage} events meanwhile"])
    rows += [[f"line {name}", ", ".join(f"{v} {k}" for k, v in c.items())] for name, c in live.counts.items()]
    right = sum(k.said == k.heard for k in heard if k.said)
    known = sum(bool(k.said) for k in heard)
    if known:
        rows.append(["keywords heard right", f"{right} of {known}"])
    else:
        rows.append(["keywords heard", ", ".join(k.heard or "-" for k in heard) or "no speech to listen to"])
    rows.append(["whole demo", f"{summary['seconds']:.0f} s"])
    print_table(["", ""], rows)
    print(f"look at {out / 'report.html'} and {out / 'annotated.mp4'}")
