"""How wide a baseline has to be: each network of tests/bench/compress at several widths, scored on held-out training data.

Run: make bench-widths, or PYTHONPATH=tests python -m bench.bench_widths --data DATA --only deeppcb --widths 0.5,1.0

Compression that starts from a fattened network wins against nothing. So each NAME-baseline.toml is run at several
multipliers; the narrowest width within half a point of the best is the one its recipe has to name. Scores are the recipe's
own, on what it holds out of its training split: no test split is opened. --write puts the rows into the committed
tests/bench/compress/widths.json, beside what is there of other sets; --table prints that file without running anything.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.bench_compress import RECIPES, SETS, load_part, made_bundle, set_names

from compress.passes.settings import AnyPass
from compress.quiet import start_tensorflow
from compress.recipe import Recipe
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

WIDTHS = RECIPES / "widths.json"
WITHIN = 0.005  # of the best score: half a point
Rows = list[dict[str, Any]]


def narrowest(rows: Iterable[dict[str, Any]]) -> float:
    """The least multiplier whose score is within half a point of the best one's."""
    rows = list(rows)
    best = max(row["value"] for row in rows)
    return min(float(row["multiplier"]) for row in rows if row["value"] >= best - WITHIN - 1e-9)


def read_widths() -> dict[str, Rows]:
    """The committed sweeps: the rows of each set, by multiplier."""
    return json.loads(WIDTHS.read_text()) if WIDTHS.is_file() else {}


def at_width(recipe: Recipe, multiplier: float) -> Recipe:
    params = {**recipe.network.params, "multiplier": multiplier}
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"params": params})})


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """`steps` of the first training in the place of its own, and no other training."""
    passes: list[AnyPass] = []
    for one in recipe.passes:
        if one.kind != "train":
            passes.append(one)
        elif all(before.kind != "train" for before in passes):
            fit = one.fit.model_copy(update={"steps": steps})
            passes.append(one.model_copy(update={"fit": fit}))
    return recipe.model_copy(update={"passes": tuple(passes)})


def sweep(name: str, widths: Sequence[float], *, data: Path, work: Path, steps: int | None = None) -> Rows:
    """The rows of one set. steps: of training, fewer than the recipe's where it would take hours; alike for all widths."""
    recipe = load_part(name, "baseline", seed=1)
    own_width = recipe.network.params["multiplier"]
    if steps is not None:
        recipe = with_steps(recipe, steps)
    trained = next(one.fit.steps for one in recipe.passes if one.kind == "train")
    rows = []
    for multiplier in sorted(widths):
        suffix = "" if multiplier == own_width else f"-x{multiplier:g}"
        suffix += "" if steps is None else f"-{steps}-steps"
        out = work / f"{name}-1" / f"baseline{suffix}"
        made = made_bundle(at_width(recipe, multiplier), data=SETS[name].data_root(data, work), out=out)
        last = made.manifest.provenance["passes"][-1]
        kept = ("parameters", "macs", "bytes", "metric", "value", "ci95", "n")
        rows.append({"multiplier": multiplier, "steps": trained} | {key: last[key] for key in kept})
        print_note(f"{name} at {multiplier:g}: {last['metric']} {last['value']}")
    return rows


def _print_rows(sweeps: dict[str, Rows]) -> None:
    rows = []
    for name, found in sweeps.items():
        chosen = narrowest(found)
        rows += [
            (
                f"{name} {row['multiplier']:g}" + (" *" if row["multiplier"] == chosen else ""),
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:.1f}",
                f"{row['bytes']:,}",
                row["metric"],
                f"{row['value']:.3f} ({row['ci95'][0]:.3f} to {row['ci95'][1]:.3f})",
                str(row["n"]),
            )
            for row in found
        ]
    print_table(("width", "parameters", "M MACs", "bytes", "metric", "held out", "n"), rows)
    print("*: the narrowest within half a point of the best")


def _report(sweeps: dict[str, Rows]) -> dict[str, Any]:
    return {
        "bench": "widths",
        "device": {"machine": platform.machine()},
        "versions": {"python": platform.python_version()},
        "results": [
            {"name": f"{name}/{row['multiplier']:g}", "unit": row["metric"], **row}
            for name, rows in sweeps.items()
            for row in rows
        ],
        "chosen": {name: narrowest(rows) for name, rows in sweeps.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder that holds deeppcb and the others")
    parser.add_argument("--only", type=set_names, default=("deeppcb", "commands"))
    parser.add_argument(
        "--widths",
        type=lambda text: tuple(float(v) for v in text.split(",")),
        default=(0.5, 0.75, 1.0, 1.5),
    )
    parser.add_argument(
        "--steps", type=int, help="of training, in place of the recipe's: for all widths alike"
    )
    parser.add_argument("--work", type=Path, default=Path("out/bench_compress"))
    parser.add_argument("--write", action="store_true", help="keep the rows in widths.json")
    parser.add_argument("--table", action="store_true", help="only print what widths.json holds")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if args.table:
        sweeps = read_widths()
    elif args.data is None:
        parser.error("--data is wanted: the folder that holds deeppcb and the others")
    else:
        start_tensorflow()
        try:
            sweeps = {
                name: sweep(name, args.widths, data=args.data, work=args.work, steps=args.steps)
                for name in args.only
            }
        except EdgeError as error:
            print_note(f"bench_widths: error: {error}")
            return error.exit_code
        if args.write:
            write_whole(WIDTHS, json.dumps({**read_widths(), **sweeps}, indent=1) + "\n")
    if args.json:
        print_json(_report(sweeps))
    else:
        _print_rows(sweeps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
