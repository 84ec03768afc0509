"""Generated data and recipes of seconds: coloured squares to find, tones to tell apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile

SQUARE_SIDE_PX = (14, 40)
RATE_HZ = 16000
TONES_HZ = {"low": 400.0, "high": 3000.0}
LOGMEL = {
    "kind": "logmel",
    "window_samples": 400,
    "hop_samples": 160,
    "fft_size": 512,
    "mels": 16,
    "floor": 0.003,
    "offset": 1.5,
    "scale": 7.4,
}
INT8 = {"kind": "quantize", "precision": "int8", "calibration": 20}


def write_squares(
    folder: Path, split: str = "train", *, count: int = 40, size: int = 64, seed: int = 0
) -> None:
    """A COCO folder of `count` pictures of size x size, each with one red square on grey noise."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        picture = rng.integers(90, 140, (size, size, 3)).astype(np.uint8)
        side = int(rng.integers(*SQUARE_SIDE_PX))
        x, y = (int(v) for v in rng.integers(0, size - side, 2))
        picture[y : y + side, x : x + side] = (20, 20, 230)
        name = f"{split}-{number:03d}.png"
        cv2.imwrite(str(folder / "images" / name), picture)
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, side, side], "iscrowd": 0}
        )
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / f"instances_{split}.json").write_text(json.dumps(coco))


def write_tones(folder: Path, split: str = "train", *, each: int = 12, seed: int = 0) -> None:
    """A speech folder with `each` clips of a low tone, a high tone and silence, several "speakers"."""
    rng = np.random.default_rng(seed)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for label in (*TONES_HZ, "silence"):
        for number in range(each):
            t = np.arange(RATE_HZ // 2) / RATE_HZ
            tone = np.sin(2 * np.pi * TONES_HZ.get(label, 0) * t + rng.uniform(0, 6)) * rng.uniform(0.2, 0.7)
            clip = tone * (label in TONES_HZ) + rng.normal(0, 0.002, len(t))
            name = f"clips/{split}-{label}-{number}.wav"
            soundfile.write(folder / name, clip.astype(np.float32), RATE_HZ)
            rows.append({"file": name, "label": label, "speaker": f"{split}{number}"})
    with (folder / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label", "speaker"])
        writer.writeheader()
        writer.writerows(rows)


def write_sounds(folder, sounds):
    """sounds: {label: f(t, rng)}, ten clips each of half a second."""
    rng = np.random.default_rng(0)
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    for label, make in sounds.items():
        (folder / "train" / label).mkdir(parents=True)
        for number in range(10):
            clip = make(t, rng) + rng.normal(0, 0.003, len(t))
            soundfile.write(folder / "train" / label / f"{number}.wav", clip.astype(np.float32), RATE_HZ)


def tone(label):
    return lambda t, rng: 0.4 * np.sin(2 * np.pi * TONES_HZ[label] * t + rng.uniform(0, 6))


def squares_recipe(
    *, steps: int = 40, size: int = 64, strides: tuple[int, ...] = (8, 16), **changes: Any
) -> dict[str, Any]:
    """A recipe for write_squares in the folder "squares"; `changes` replace top-level keys."""
    maps = {"box": [f"box_{s}" for s in strides], "class": [f"class_{s}" for s in strides]}
    params = {
        "width": size,
        "height": size,
        "strides": list(strides),
        "layout": "maps",
        "activation": "sigmoid",
        "maps": maps,
    }
    fit = {"steps": steps, "batch": 8, "learning_rate": 5e-3, "average": 0.9}
    return {
        "name": "squares",
        "task": "detect",
        "labels": ["square"],
        "data": {
            "train": [{"kind": "coco", "folder": "squares"}],
            "validation": 0.25,
            "pictures": {"scale": [0.9, 1.1], "move": 0.1, "mosaic": 0.0},
        },
        "input": {"kind": "image", "width": size, "height": size, "std": [255.0, 255.0, 255.0]},
        "network": {
            "kind": "grid-detector",
            "params": {"multiplier": 0.25, "depth": 1, "head_channels": 16},
        },
        "decoder": {"name": "grid", "params": params},
        "passes": [
            {"kind": "train", "fit": fit},
            {"kind": "prune", "macs_ratio": 0.7, "rounds": 1, "fit": {**fit, "steps": max(1, steps // 4)}},
            {"kind": "quantize", "precision": "int8", "calibration": 20},
            {"kind": "export", "formats": ["onnx/float32"]},
        ],
        **changes,
    }


def tones_recipe(*, steps: int = 30, **changes: Any) -> dict[str, Any]:
    """A recipe for write_tones in the folder "tones"; `changes` replace top-level keys."""
    fit = {"steps": steps, "batch": 16, "learning_rate": 5e-3, "average": 0.8}
    return {
        "name": "tones",
        "task": "keyword",
        "labels": [*TONES_HZ, "silence"],
        "data": {
            "train": [{"kind": "speech", "folder": "tones"}],
            "validation": 0.25,
            "sounds": {"room": 0.0, "noise_db": [15.0, 35.0], "gain_db": [-3.0, 3.0]},
        },
        "input": {
            "kind": "logmel",
            "hop_samples": 320,
            "mels": 16,
            "frames": 24,
            "floor": 0.003,
            "offset": 1.5,
            "scale": 7.4,
        },
        "network": {"kind": "ds-tc-resnet", "params": {"multiplier": 0.25}},
        "decoder": {"name": "keyword", "params": {"activation": "softmax", "threshold": 0.6}},
        "passes": [
            {"kind": "train", "fit": fit},
            {"kind": "quantize", "precision": "int8", "calibration": 20},
        ],
        **changes,
    }


def speller_recipe(
    *passes: dict[str, Any], kind: str = "crnn", multiplier: float = 0.25, joined: int = 1
) -> dict[str, Any]:
    """A recipe for sound folders of TONES_HZ in the folder "tones", which spells them; its file is float16."""
    return {
        "name": "tones",
        "task": "transcribe",
        "labels": list(TONES_HZ),
        "data": {
            "train": [{"kind": "sound-folders", "folder": "tones"}],
            "validation": 0.3,
            "joined": joined,
            "sounds": {"speed": [1.0, 1.0], "mix": 0.0, "room": 0.0, "time_mask": 0, "band_mask": 0},
        },
        "input": {**LOGMEL, "frames": 64},
        "network": {"kind": kind, "params": {"multiplier": multiplier}},
        "decoder": {"name": "ctc"},
        "passes": [*passes, {"kind": "quantize", "precision": "float16"}],
    }


def run_tones(data: Path, where: Path, *passes: dict[str, Any], **changes: Any) -> Any:
    """run_recipe of tones_recipe with these passes and int8 behind them, in `where`/out and `where`/work."""
    from compress.recipe import parse_recipe
    from compress.run import run_recipe

    recipe = parse_recipe(tones_recipe(passes=[*passes, INT8], **changes), where="here")
    return run_recipe(recipe, data_root=data, out=where / "out", work=where / "work")


def toml_of(recipe: dict[str, Any]) -> str:
    """A recipe's TOML; values as inline JSON, which is TOML for all that recipes hold but null."""

    def inline(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {inline(v)}" for key, v in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(inline(v) for v in value) + "]"
        return json.dumps(value)

    return "".join(f"{key} = {inline(value)}\n" for key, value in recipe.items())
