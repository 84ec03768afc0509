"""Two real bundles of a few kilobytes, written from the models under tests/golden/models."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from edgeai.bundle import Bundle, write_bundle
from edgeai.bundle.golden import make_golden
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_model_file

MODELS = Path(__file__).resolve().parent / "golden" / "models"
PICTURE_INPUT = {"kind": "image", "width": 16, "height": 16, "std": [255.0, 255.0, 255.0]}
KEYWORD_INPUT = {"kind": "logmel", "frames": 10, "mels": 8}


def picture_input(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def keyword_input(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, 10, 8, 1)).astype(np.float32)


def picture_fields() -> dict:
    return {
        "name": "tiny-picture",
        "task": "detect",
        "input": PICTURE_INPUT,
        "decoder": {"name": "grid"},
        "labels": ["a", "b", "c", "d"],
        "licence": "Apache-2.0",
        "golden": "golden.npz",
        "files": [
            {"path": "model_int8.tflite", "format": "tflite", "precision": "int8", "tolerance": 0.03},
            {"path": "model_float32.tflite", "format": "tflite", "precision": "float32", "tolerance": 1e-4},
        ],
    }


def picture_files() -> dict:
    model = MODELS / "picture_float32.tflite"
    with EdgeEngine(open_model_file(model), ImageInput(**PICTURE_INPUT)) as reference:
        golden = make_golden(reference, picture_input())
    return {
        "model_int8.tflite": MODELS / "picture_int8.tflite",
        "model_float32.tflite": model,
        "golden.npz": golden,
        "labels.txt": b"a\nb\nc\nd\n",
    }


def write_picture_bundle(folder: Path) -> Bundle:
    return write_bundle(folder, picture_fields(), picture_files())


def write_keyword_bundle(folder: Path) -> Bundle:
    kinds = {"float32": 1e-4, "float16": 0.01, "dynamic": 0.03, "int8": 0.04}
    files: dict = {f"model_{kind}.tflite": MODELS / f"keyword_{kind}.tflite" for kind in kinds}
    entries = [
        {"path": f"model_{kind}.tflite", "format": "tflite", "precision": kind, "tolerance": tolerance}
        for kind, tolerance in kinds.items()
    ]
    files["model.onnx"] = MODELS / "keyword.onnx"
    entries.append({"path": "model.onnx", "format": "onnx", "precision": "float32", "tolerance": 1e-4})
    with EdgeEngine(
        open_model_file(MODELS / "keyword_float32.tflite"), LogMelInput(**KEYWORD_INPUT)
    ) as reference:
        files["golden.npz"] = make_golden(reference, keyword_input())
    fields = {
        "name": "tiny-keyword",
        "task": "keyword",
        "input": KEYWORD_INPUT,
        "decoder": {"name": "keyword", "params": {"threshold": 0.5, "activation": "softmax"}},
        "labels": ["yes", "no", "silence"],
        "golden": "golden.npz",
        "files": entries,
    }
    return write_bundle(folder, fields, files)


def write_clips(folder: Path, *, count: int = 24) -> None:
    """Clips of noise for the keyword bundle: a split called "part", three labels, twelve speakers."""
    (folder / "clips").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        clip = rng.normal(0, 10 ** (-3 + number % 3), 4000).clip(-1, 1).astype(np.float32)
        soundfile.write(folder / "clips" / f"{number}.wav", clip, 16000)
        label = ("yes", "no", "silence")[number % 3]
        rows.append({"file": f"clips/{number}.wav", "label": label, "speaker": f"s{number % 12}"})
    with (folder / "part.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
