"""Quantization-aware training where quantizing after training loses: a detector in float32, in int8, and trained to be int8.

Run: make bench-qat, or PYTHONPATH=tests python -m bench.bench_qat --data DATA --model person-detector --steps 500

The variants are recipes of one pass on a bundle's network, with the bundle's own data; all are measured on the test split,
paired with the float32 network. --model is of the zoo, or the folder of any bundle with a network, as a pruned one; --per-tensor
gives weights one scale a layer, --crop trains on windows. What is in --work is not made again.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.bench_compress import Side, made_bundle

from compress.cli.compare import pair_up
from compress.cli.evaluate import evaluate_engine
from compress.passes.settings import ExportPass, QatPass, QuantizePass
from compress.quiet import start_tensorflow
from compress.recipe import Budget, Network, Recipe, parse_recipe
from compress.train.fit import FitSettings
from edgeai.bundle import load_bundle
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import DataError, EdgeError

ZOO = Path(__file__).resolve().parents[2] / "models"


def variants(fit: FitSettings, *, per_channel: bool) -> dict[str, tuple[Any, str]]:
    """name: (the one pass, precision of its file). fit: of quantization-aware training."""
    plain = QuantizePass(kind="quantize", per_channel=per_channel)
    return {
        "float32": (ExportPass(kind="export", formats=("tflite/float32",)), "float32"),
        "int8": (plain, "int8"),
        "int8, mse": (plain.model_copy(update={"rule": "mse"}), "int8"),
        "int8, learned": (plain.model_copy(update={"rounding": "learned"}), "int8"),
        "qat": (QatPass(kind="qat", fit=fit, per_channel=per_channel), "int8"),
    }


def recipe_of(model: Path, crop: int | None) -> Recipe:
    """That a bundle was made by; crop: in the place of its windows. Raises DataError for a bundle without one."""
    kept = load_bundle(str(model)).manifest.recipe
    if kept is None:
        raise DataError(f"{model} does not say by what recipe it was made")
    recipe = parse_recipe(dict(kept), where=str(model))
    if crop is None:
        return recipe
    pictures = recipe.data.pictures.model_copy(update={"crop": crop})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"pictures": pictures})})


def on_network(recipe: Recipe, model: Path, settings: Any, name: str) -> Recipe:
    """A recipe of one pass on the network of a bundle."""
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-{name.replace(', ', '-')}",
            "network": Network(kind="bundle", init=str(model.resolve())),
            "passes": (settings,),
            "budget": Budget(max_drop=1.0),
        }
    )


def measure(
    recipe: Recipe, model: Path, data: Path, work: Path, test: Path, wanted: dict[str, tuple[Any, str]]
) -> list[dict[str, Any]]:
    """A row a variant, each paired with float32 on the same test pictures."""
    rows, truth = [], None
    for name, (settings, precision) in wanted.items():
        print_note(f"{recipe.name}: {name}")
        out = work / f"{recipe.name}-{name.replace(', ', '-')}"
        bundle = made_bundle(on_network(recipe, model, settings, name), data=data, out=out)
        side = Side(bundle, bundle.engine_file("tflite", precision))
        said = evaluate_engine(side.bundle, side.entry, test, "test", iou=0.5)
        truth = truth or said
        gap = pair_up(truth, said).difference
        rows.append(
            {
                "name": name,
                "metric": said.metric.name,
                "value": round(said.metric.value, 4),
                "n": said.metric.n,
                "bytes": side.entry.bytes,
                "change": [round(gap.value, 4), *(round(end, 4) for end in gap.ci95)],
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="person-detector", help="of the zoo, or a bundle's folder")
    parser.add_argument("--test", default="coco_people", help="the folder below --data with the test split")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument(
        "--crop", type=int, help="side of the windows to train on, in the place of the recipe's"
    )
    parser.add_argument("--per-tensor", action="store_true", help="one scale for all weights of a layer")
    parser.add_argument("--work", type=Path, default=Path("out/bench_qat"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    start_tensorflow()
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        fit = FitSettings(
            steps=args.steps,
            batch=args.batch,
            learning_rate=args.rate,
            optimizer=args.optimizer,
            warm_up=0.1,
            average=0.97,
        )
        wanted = variants(fit, per_channel=not args.per_tensor)
        model = Path(args.model) if Path(args.model).is_dir() else ZOO / args.model
        recipe = recipe_of(model, args.crop)
        rows = measure(recipe, model, args.data, args.work, args.data / args.test, wanted)
    except EdgeError as error:
        print_note(f"bench_qat: error: {error}")
        return error.exit_code
    if args.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        print_json(
            {"bench": "qat", "device": {"machine": platform.machine()}, "versions": versions, "results": rows}
        )
        return 0
    print_table(
        ("variant", "metric", "change, paired", "bytes"),
        [
            (
                row["name"],
                f"{row['value']:.3f}",
                "{:+.3f} ({:+.3f} {:+.3f})".format(*row["change"]),
                f"{row['bytes']:,}",
            )
            for row in rows
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
