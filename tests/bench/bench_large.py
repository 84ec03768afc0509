"""Memory and time of a network of 24 million parameters (ResNet50, random weights) through every pass, few steps each.

Run: make bench-large, or ARGS="--size 96 --json"
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.quiet import start_tensorflow
from compress.recipe import parse_recipe
from compress.run import run_recipe
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError

FIT = {"steps": 2, "batch": 4, "learning_rate": 1e-4, "average": 0.5}


def write_data(root: Path, size: int) -> None:
    import cv2

    rng = np.random.default_rng(0)
    for label in ("one", "two"):
        folder = root / "noise" / "train" / label
        folder.mkdir(parents=True)
        for number in range(12):
            cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (size, size, 3)).astype(np.uint8))


def write_network(path: Path, size: int) -> None:
    import keras

    body = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(size, size, 3), pooling="avg"
    )
    logits = keras.layers.Dense(2, name="class")(body.output)
    keras.Model(body.input, {"class": logits}).save(path)


def recipe_of(size: int) -> dict[str, Any]:
    return {
        "name": "large",
        "task": "classify",
        "labels": ["one", "two"],
        "data": {"train": [{"kind": "picture-folders", "folder": "noise"}], "validation": 0.3},
        "input": {"kind": "image", "width": size, "height": size, "std": [255.0, 255.0, 255.0]},
        "network": {"kind": "keras-file", "init": "large.keras"},
        "decoder": {"name": "class"},
        "passes": [
            {"kind": "train", "fit": FIT},
            {"kind": "prune", "macs_ratio": 0.5, "rounds": 1, "looks": 1, "fit": FIT},
            {"kind": "sparsify", "sparsity": 0.5, "fit": {**FIT, "steps": 4}},
            {"kind": "distill", "fit": FIT, "loss": {"kind": "dkd"}},
            {"kind": "quantize", "precision": "int8", "calibration": 4},
            {"kind": "export", "formats": ["tflite/float16", "onnx/float32"]},
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=96, help="of the pictures, pixels")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    start_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_data(root, args.size)
        write_network(root / "large.keras", args.size)
        try:
            made = run_recipe(
                parse_recipe(recipe_of(args.size), where="bench_large"),
                data_root=root,
                out=root / "out",
                work=root / "work",
            )
        except EdgeError as error:
            print_note(f"bench_large: error: {error}")
            return error.exit_code
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if args.json:
        results = [{"name": "peak_rss_gb", "unit": "GB", "value": round(peak_gb, 2)}]
        results += [{"name": f"{r.kind}_s", "unit": "s", "value": round(r.seconds, 1)} for r in made.records]
        print_json(
            {
                "bench": "large",
                "device": {"machine": platform.machine()},
                "versions": {"python": platform.python_version(), "numpy": np.__version__},
                "results": results,
            }
        )
        return 0
    rows = [
        (r.kind, f"{r.measured.parameters:,}", f"{r.measured.cost.bytes:,}", f"{r.seconds:.0f} s")
        for r in made.records
    ]
    print_table(("pass", "parameters", "bytes", "took"), rows, title=f"peak {peak_gb:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
