"""What cross-layer equalization wins back: a MobileNet of digits whose channels were made unequal, in int8 per tensor.

Run: make bench-unequal, or PYTHONPATH=tests python -m bench.bench_unequal --data DATA

A network of ReLUs says the same when a channel is divided by any s > 0 and the next layer's weights for it multiplied. Done
with very unlike s it is still the same network in float, and lost in int8 with one scale a tensor (Nagel et al. 2019). The
variants are recipes of one pass, quantize or qat, scored on scikit-learn's test digits, paired with the float network.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.bench_compress import SETS, Side, load_part, made_bundle

from compress.cli.compare import pair_up
from compress.cli.evaluate import evaluate_engine
from compress.networks.keras_file import keras_network, save_network
from compress.passes.settings import ExportPass, QatPass, QuantizePass
from compress.quiet import start_tensorflow
from compress.recipe import Budget, Network, Recipe
from compress.train.fit import FitSettings
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError

DECADES = 1.0  # channels' scales lie within 10 ** -DECADES to 10 ** DECADES
STEPS = 400  # of the float network's training, and of QAT's
PER_TENSOR = QuantizePass(kind="quantize", per_channel=False)
TRAINED = QatPass(
    kind="qat", per_channel=False, fit=FitSettings(steps=STEPS, learning_rate=1e-3, average=0.98)
)
VARIANTS: dict[str, ExportPass | QuantizePass | QatPass] = {
    "float32": ExportPass(kind="export", formats=("tflite/float32",)),
    "int8, plain": PER_TENSOR.model_copy(update={"correct_biases": False}),
    "int8, biases corrected": PER_TENSOR,
    "int8, equalized": PER_TENSOR.model_copy(update={"equalize": True, "correct_biases": False}),
    "int8, equalized, biases corrected": PER_TENSOR.model_copy(update={"equalize": True}),
    "int8, qat": TRAINED,
    "int8, equalized, qat": TRAINED.model_copy(update={"equalize": True}),
}


def make_unequal(network: Any, seed: int) -> None:
    """Scale the channels inside every block in place: expand to depthwise to project, by random factors of their own."""
    rng = np.random.default_rng(seed)
    layers = {layer.name: layer for layer in network.layers}
    for name in layers:
        block = name.removesuffix("_expand")
        if block == name:
            continue
        chain = [f"{block}_{part}" for part in ("expand", "depthwise", "project")]
        for first, second in itertools.pairwise(chain):
            norm, reader = layers[f"{first}_norm"], layers[second]
            factors = 10 ** rng.uniform(-DECADES, DECADES, norm.gamma.shape)
            norm.gamma.assign(norm.gamma.numpy() * factors)
            norm.beta.assign(norm.beta.numpy() * factors)
            kernel = reader.weights[0]
            kernel.assign(kernel.numpy() / factors[:, None])


def equal_recipe(steps: int) -> Recipe:
    """bench_compress's digits, a MobileNet of ReLUs with a tenth of its baseline's parameters."""
    recipe = load_part("digits", "baseline", seed=1)
    params = {"multiplier": 0.5, "activation": "relu"}
    train = recipe.passes[0]
    fit = train.fit.model_copy(update={"steps": steps})  # type: ignore[union-attr]
    return recipe.model_copy(
        update={
            "name": "digits-relu",
            "network": recipe.network.model_copy(update={"params": params}),
            "passes": (train.model_copy(update={"fit": fit}), *recipe.passes[1:]),
        }
    )


def variant(recipe: Recipe, network: Path, settings: Any, name: str) -> Recipe:
    """A recipe of one pass on a .keras file."""
    return recipe.model_copy(
        update={
            "name": name,
            "network": Network(kind="keras-file", init=str(network.resolve())),
            "passes": (settings,),
            "budget": Budget(max_drop=1.0),
        }
    )


def measure(data: Path, work: Path, *, steps: int, seed: int) -> list[dict[str, Any]]:
    """A row each of the float network, the unequal one in float, and the variants."""
    root = SETS["digits"].data_root(data, work)
    recipe = equal_recipe(steps)
    equal = made_bundle(recipe, data=root, out=work / "relu")
    network = keras_network(equal.folder / "network.keras")
    make_unequal(network, seed)
    file = work / f"unequal-{seed}.keras"
    save_network(network, file)
    sides = {"equal, float32": Side(equal, equal.engine_file("tflite", "float32"))}
    # what a perfect equalization comes back to: the same weights as they were trained, in int8 per tensor
    bundle = made_bundle(
        variant(recipe, equal.folder / "network.keras", PER_TENSOR, "digits-equal-int8"),
        data=root,
        out=work / "equal-int8",
    )
    sides["equal, int8"] = Side(bundle, bundle.engine_file("tflite", "int8"))
    for each, settings in VARIANTS.items():
        print_note(f"unequal: {each}")
        name = f"digits-{each.replace(', ', '-').replace(' ', '-')}"
        bundle = made_bundle(variant(recipe, file, settings, name), data=root, out=work / f"{name}-{seed}")
        precision = "float32" if each == "float32" else "int8"
        sides[f"unequal, {each}"] = Side(bundle, bundle.engine_file("tflite", precision))
    made = {
        each: evaluate_engine(side.bundle, side.entry, root / "digits", "test", iou=0.5)
        for each, side in sides.items()
    }
    truth = made["equal, float32"]
    lost = truth.metric.value - made["unequal, int8, plain"].metric.value
    rows = []
    for each, said in made.items():
        gap = pair_up(truth, said).difference
        back = 1 - (truth.metric.value - said.metric.value) / lost if lost > 0 else 1.0
        rows.append(
            {
                "name": each,
                "metric": said.metric.name,
                "value": round(said.metric.value, 4),
                "n": said.metric.n,
                "change": [round(gap.value, 4), *(round(end, 4) for end in gap.ci95)],
                "won_back": round(back, 4),
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("out/bench_unequal"))
    parser.add_argument("--steps", type=int, default=STEPS, help="of the float network's training")
    parser.add_argument("--seed", type=int, default=1, help="of the channels' factors")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    start_tensorflow()
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        rows = measure(args.data, args.work, steps=args.steps, seed=args.seed)
    except EdgeError as error:
        print_note(f"bench_unequal: error: {error}")
        return error.exit_code
    if args.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        print_json(
            {
                "bench": "unequal",
                "device": {"machine": platform.machine()},
                "versions": versions,
                "results": rows,
            }
        )
        return 0
    print_table(
        ("network", "accuracy", "change, paired", "won back"),
        [
            (
                r["name"],
                f"{r['value']:.3f}",
                "{:+.3f} ({:+.3f} {:+.3f})".format(*r["change"]),
                f"{r['won_back']:.0%}",
            )
            for r in rows
        ],
    )
    print("won back: of what plain int8 per tensor loses against the float network.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
