"""What each precision costs in accuracy and brings in bytes and speed, on baselines that bench_compress.py trained.

Run: make bench-quantize, or PYTHONPATH=tests python -m bench.bench_quantize --data DATA --only digits,commands

Each variant is a recipe of one quantize pass (and an export) on the baseline's bundle; all are measured on the set's test
split, paired with the float32 baseline, latencies by turns on one thread. What is in --work is not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.bench_compress import (
    SETS,
    Side,
    is_newer,
    load_part,
    made_bundle,
    set_names,
    time_by_turns,
)

from compress.cli.compare import pair_up
from compress.cli.evaluate import evaluate_engine
from compress.passes.settings import ExportPass, QuantizePass
from compress.quiet import start_tensorflow
from compress.recipe import Budget, Recipe
from edgeai.bundle.manifest import MANIFEST_NAME
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

# name: (settings of the quantize pass, engine file that is measured)
VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "float16": ({"precision": "float16"}, "tflite/float16"),
    "dynamic": ({"precision": "dynamic"}, "tflite/dynamic"),
    "int16x8": ({"precision": "int16x8"}, "tflite/int16x8"),
    "int8": ({}, "tflite/int8"),
    "int8, plain": ({"correct_biases": False}, "tflite/int8"),
    "int8, mse": ({"rule": "mse"}, "tflite/int8"),
    "int8, learned": ({"rounding": "learned"}, "tflite/int8"),
    "int4": ({"precision": "int4"}, "tflite/int4"),
    "int8, onnx": ({}, "onnx/int8"),
}


def variant(name: str, small: Recipe, init: Path) -> Recipe:
    """The recipe of a variant on the baseline's bundle."""
    settings, file = VARIANTS[name]
    passes: list[Any] = [QuantizePass(kind="quantize", **settings)]
    if file.startswith("onnx"):
        passes.append(ExportPass(kind="export", formats=(file,)))
    network = small.network.model_copy(update={"init": str(init.resolve())})
    return small.model_copy(
        update={"network": network, "passes": tuple(passes), "budget": Budget(max_drop=1.0)}
    )


def measure(name: str, seed: int, data: Path, baselines: Path, work: Path) -> dict[str, Any]:
    """One set's record: the float32 baseline and every variant."""
    known = work / f"{name}-{seed}.json"
    given = SETS[name]
    root = given.data_root(data, baselines)
    baseline = baselines / f"{name}-{seed}" / "baseline"
    base = made_bundle(load_part(name, "baseline", seed=seed), data=root, out=baseline)
    if is_newer(known, baseline / MANIFEST_NAME):
        return json.loads(known.read_text())
    sides = {"float32": Side(base, base.engine_file("tflite", "float32"))}
    small = load_part(name, "small", seed=seed)
    for each, (_, file) in VARIANTS.items():
        print_note(f"{name}: {each}")
        out = work / f"{name}-{seed}" / each.replace(", ", "-")
        bundle = made_bundle(variant(each, small, baseline), data=root, out=out, after=baseline)
        kind, precision = file.split("/")
        sides[each] = Side(bundle, bundle.engine_file(kind, precision))
    made = {
        each: evaluate_engine(side.bundle, side.entry, root / given.folder, "test", iou=0.5)
        for each, side in sides.items()
    }
    bare = [side for side in sides.values() if side.entry.format == "tflite"]
    times = iter(time_by_turns(bare, bare=True))
    rows = {}
    for each, side in sides.items():
        gap = pair_up(made["float32"], made[each]).difference
        ms = float(np.median(next(times))) if side.entry.format == "tflite" else None
        rows[each] = {
            "metric": made[each].metric.name,
            "value": round(made[each].metric.value, 4),
            "n": made[each].metric.n,
            "bytes": side.entry.bytes,
            "ms_p50": None if ms is None else round(ms, 5),
            "change": [round(gap.value, 4), *(round(end, 4) for end in gap.ci95)],
        }
    record = {"set": name, "seed": seed, "rows": rows}
    write_whole(known, json.dumps(record, indent=1))
    return record


def _print(records: Sequence[dict[str, Any]]) -> None:
    table = []
    for record in records:
        base = record["rows"]["float32"]
        for each, row in record["rows"].items():
            table.append(
                (
                    f"{record['set']} {each}",
                    f"{row['value']:.3f}",
                    "{:+.3f} ({:+.3f} {:+.3f})".format(*row["change"]),
                    f"{base['bytes'] / row['bytes']:.1f}",
                    "-" if row["ms_p50"] is None else f"{base['ms_p50'] / row['ms_p50']:.1f}",
                )
            )
    print_table(("variant", "metric", "change, paired", "size", "speed"), table)
    print("size, speed: times smaller, faster (LiteRT's own call, one thread) than float32.")


def _report(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "bench": "quantize",
        "device": {"machine": platform.machine()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "results": [
            {"name": f"{record['set']}/{record['seed']}/{each}", "unit": row["metric"], **row}
            for record in records
            for each, row in record["rows"].items()
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", type=set_names, default=tuple(SETS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--baselines", type=Path, default=Path("out/bench_compress"))
    parser.add_argument("--work", type=Path, default=Path("out/bench_quantize"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    start_tensorflow()
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        records = [measure(name, args.seed, args.data, args.baselines, args.work) for name in args.only]
    except EdgeError as error:
        print_note(f"bench_quantize: error: {error}")
        return error.exit_code
    if args.json:
        print_json(_report(records))
    else:
        _print(records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
