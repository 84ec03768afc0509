"""Would more pictures help? A detector's recipe trained on a part of its pictures, and on more of them, measured on the same ones.

Run: make bench-learning-curve ARGS="--sizes 15,30,60,100 --steps 2000"; minutes for each size

The first training of the recipe alone, in float, on nested parts; a quarter of the training pictures is held out and measured on.
No test split is opened.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from compress.networks import open_network
from compress.passes.settings import TrainPass
from compress.quantize.tflite import convert_tflite
from compress.quiet import start_tensorflow
from compress.recipe import Recipe, load_recipe
from compress.tasks import open_task
from compress.tasks.detect import DetectTask
from compress.train.fit import fit
from edgeai.console import print_json, print_note, print_table
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.errors import EdgeError, UsageError

RECIPE = Path(__file__).resolve().parents[2] / "models/field-weeds/recipe.toml"
HELD_OUT = 0.25


def held_out(recipe: Recipe, fraction: float) -> Recipe:
    """The recipe with another part held out."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"validation": fraction})})


def first_pictures(task: DetectTask, count: int) -> DetectTask:
    """The task with `count` of its pictures, by a hash of their names: fewer are always among more."""
    ordered = sorted(task.training.pictures, key=lambda picture: crc32(os.fsencode(picture.path.name)))
    return replace(task, training=replace(task.training, pictures=tuple(ordered[:count])))


def measured(recipe: Recipe, task: DetectTask, *, steps: int | None, data: Path, name: str) -> dict[str, Any]:
    """Train on the task's pictures; AP50 on those held out."""
    import keras

    keras.utils.set_random_seed(recipe.seed)
    network = open_network(recipe, data_root=data)
    settings = next(one.fit for one in recipe.passes if isinstance(one, TrainPass))
    settings = settings.model_copy(
        update={"seed": recipe.seed + settings.seed, **({"steps": steps} if steps else {})}
    )

    def loss(outputs: Any, batch: Any) -> Any:
        return task.label_loss(outputs, batch["targets"])

    fit(network, partial(task.make_batch, size=settings.batch), loss, settings, description=name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.tflite"
        path.write_bytes(convert_tflite(network, "float32"))
        with EdgeEngine(open_model_file(path), recipe.input) as engine:
            metric = task.score(engine).metric()
    return {"name": name, "value": metric.value, "ci95": list(metric.ci95), "n": metric.n}


def sizes_of(text: str) -> list[int]:
    try:
        sizes = sorted({int(word) for word in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise UsageError(
            f"--sizes must be numbers of pictures, got {text!r}", next_step="for example 15,30,60"
        )
    return sizes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument(
        "--sizes", default="15,30,60,1000", help="numbers of pictures; more than there are is all"
    )
    parser.add_argument("--steps", type=int, help="of each training; the recipe's without")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args(argv)
    start_tensorflow()
    rows = []
    try:
        recipe = held_out(load_recipe(args.recipe), HELD_OUT)
        with tempfile.TemporaryDirectory() as work:
            task = open_task(recipe, data_root=args.data, work=Path(work))
            if not isinstance(task, DetectTask):
                raise UsageError(f"recipe {recipe.name} is for no detector")
            for size in sizes_of(args.sizes):
                fewer = first_pictures(task, size)
                name = f"{len(fewer.training)} pictures"
                rows.append(measured(recipe, fewer, steps=args.steps, data=args.data, name=name))
                print_note(f"{name}: AP50 {rows[-1]['value']:.3f}")
    except EdgeError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        device = {"machine": platform.machine(), "cpus": os.cpu_count()}
        results = [{**row, "unit": "1"} for row in rows]
        print_json(
            {
                "bench": "learning-curve",
                "device": device,
                "versions": {"numpy": np.__version__},
                "results": results,
            }
        )
        return 0
    print_table(
        ["learnt from", "AP50 on those held out", "95 %", "n"],
        [
            [row["name"], f"{row['value']:.3f}", f"{row['ci95'][0]:.3f} to {row['ci95'][1]:.3f}", row["n"]]
            for row in rows
        ],
        title=recipe.name,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
