"""What compression brings on real data: a baseline, the network compressed from it, and the same one trained from nothing.

Run: make bench-compress, or python tests/bench/bench_compress.py --data DATA --only digits --seeds 1,2,3

For each set and seed the recipe NAME-baseline.toml beside this file is run, then NAME-small.toml on its bundle, with its
control; all three are measured on the set's test split, latencies by turns in one process, one thread. Records are kept in
--work: what is there is not made again, and --table prints them without running anything.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.cli.compare import pair_up
from compress.cli.evaluate import Evaluated, evaluate_engine
from compress.quiet import start_tensorflow
from compress.recipe import Recipe, load_recipe, parse_recipe
from compress.run import run_recipe
from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import MANIFEST_NAME, FileEntry
from edgeai.console import print_json, print_note, print_table
from edgeai.engines import open_file
from edgeai.errors import DataMissingError, EdgeError
from edgeai.metrics import measure_calls_ms
from edgeai.whole_file import write_whole

RECIPES = Path(__file__).parent / "compress"
SIDES = ("baseline", "small", "control")
ROUNDS = 20  # of calls by turns: what else the machine does meets all alike
CALLS = 20


class Side(NamedTuple):
    """A bundle, and which file of it is measured."""

    bundle: Bundle
    entry: FileEntry


@dataclass(frozen=True)
class BenchSet:
    """folder: with the splits, below the data root, or made there by `prepare`. targets: of size and latency, as ratios."""

    folder: str
    targets: tuple[float, float]
    prepare: Callable[[Path], None] | None = None

    def data_root(self, data: Path, work: Path) -> Path:
        """`data`, or what was prepared below `work`."""
        if self.prepare is None:
            return data
        made = work / "data"
        made.mkdir(parents=True, exist_ok=True)
        self.prepare(made)
        return made


def load_digits() -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[np.int64]]]:
    """scikit-learn's 1,797 digits: pictures of 8x8 in 0 to 16, labels, and the numbers of each split's. A quarter of each class is
    the test split, drawn by seed 0.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataMissingError("no scikit-learn", next_step="pip install scikit-learn") from error
    digits, rng = datasets.load_digits(), np.random.default_rng(0)
    parts: dict[str, list[NDArray[np.int64]]] = {"test": [], "train": []}
    for label in range(10):
        order = rng.permutation(np.flatnonzero(digits.target == label))
        tests = len(order) // 4
        parts["test"].append(order[:tests])
        parts["train"].append(order[tests:])
    return digits.images, digits.target, {split: np.concatenate(each) for split, each in parts.items()}


def write_digits(root: Path) -> None:
    """The digits as pictures in folders of classes."""
    import cv2

    folder = root / "digits"
    if folder.is_dir():
        return
    part = root / "digits.part"
    shutil.rmtree(part, ignore_errors=True)
    images, labels, splits = load_digits()
    for split, picks in splits.items():
        for index in picks:
            where = part / split / str(labels[index])
            where.mkdir(parents=True, exist_ok=True)
            picture = np.minimum(images[index] * 16, 255).astype(np.uint8)
            cv2.imwrite(str(where / f"{index:04d}.png"), picture)
    part.rename(folder)


SETS = {
    "digits": BenchSet("digits", (30, 8), prepare=write_digits),
    # four times as fast is a matter of int8 dot products: on a CPU without, XNNPACK's 3x3 convolutions are slower in int8
    "deeppcb": BenchSet("deeppcb", (8, 4)),
    "commands": BenchSet("speech_commands", (6, 3)),
}


def run_set(name: str, seed: int, data: Path, work: Path) -> dict[str, Any]:
    """The record of one set and seed, from --work where it is there."""
    known = _record_file(work, name, seed)
    recipes = [(RECIPES / f"{name}-{part}.toml").read_text() for part in ("baseline", "small")]
    if known.is_file():
        record: dict[str, Any] = json.loads(known.read_text())
        if record["recipes"] == recipes:
            return record
    given = SETS[name]
    data = given.data_root(data, work)
    here = known.with_suffix("")
    made_bundle(load_part(name, "baseline", seed=seed), data=data, out=here / "baseline")
    small = load_part(name, "small", seed=seed)
    network = small.network.model_copy(update={"init": str((here / "baseline").resolve())})
    compressed = run_recipe(
        small.model_copy(update={"network": network}),
        data_root=data,
        out=here / "small",
        work=here / "small-work",
        control=True,
    )
    sides = _sides(here)
    record = _measure(sides, data / given.folder)
    record |= {
        "set": name,
        "seed": seed,
        "recipes": recipes,
        "seconds": {side: _seconds(sides[side]) for side in ("baseline", "small")},
        "control_says": compressed.control.sentence() if compressed.control else "",
    }
    write_whole(known, json.dumps(record, indent=1))
    return record


def made_bundle(recipe: Recipe, *, data: Path, out: Path, after: Path | None = None) -> Bundle:
    """The recipe's bundle in `out`: the one that is there, where it is of this recipe. after: the folder of the bundle that it
    begins with; what was made before that one was is made anew.
    """
    try:
        there = load_bundle(str(out))
    except EdgeError:
        there = None
    fresh = there is not None and (after is None or is_newer(out / MANIFEST_NAME, after / MANIFEST_NAME))
    if fresh and there.manifest.recipe is not None and _is_of(there.manifest.recipe, recipe):
        return there
    return run_recipe(recipe, data_root=data, out=out, work=out.with_name(out.name + "-work")).bundle


def is_newer(file: Path, other: Path) -> bool:
    """Whether `file` is there and was written after `other`."""
    return file.is_file() and file.stat().st_mtime > other.stat().st_mtime


def _is_of(kept: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether what a bundle keeps is this recipe, whatever settings have come since with defaults that change nothing."""
    try:
        return parse_recipe(dict(kept), where="the bundle") == recipe
    except EdgeError:
        return False


def _record_file(work: Path, name: str, seed: int) -> Path:
    """Beside the folder of the same name, which holds what was made."""
    return work / f"{name}-{seed}.json"


def _sides(here: Path) -> dict[str, Side]:
    """What is compared, below `here`, in the order of SIDES."""
    folders = {"baseline": "baseline", "small": "small", "control": "small-work/control/bundle"}
    sides = {}
    for side in SIDES:
        bundle = load_bundle(str(here / folders[side]))
        precision = "float32" if side == "baseline" else "int8"
        sides[side] = Side(bundle, bundle.engine_file("tflite", precision))
    return sides


def _seconds(side: Side) -> int:
    return round(sum(float(row["seconds"]) for row in side.bundle.manifest.provenance["passes"]))


def load_part(name: str, part: str, *, seed: int) -> Recipe:
    """The recipe NAME-PART.toml beside this file; part: baseline or small."""
    return load_recipe(RECIPES / f"{name}-{part}.toml").model_copy(update={"seed": seed})


def _measure(sides: Mapping[str, Side], folder: Path) -> dict[str, Any]:
    made: dict[str, Evaluated] = {
        name: evaluate_engine(side.bundle, side.entry, folder, "test", iou=0.5)
        for name, side in sides.items()
    }
    record: dict[str, Any] = {side: one.to_json() for side, one in made.items()}
    _time(record, sides)
    record["size_ratio"] = round(made["baseline"].cost.bytes / made["small"].cost.bytes, 2)
    for against in ("baseline", "control"):
        gap = pair_up(made[against], made["small"]).difference
        record[f"less_{against}"] = [round(gap.value, 4), *(round(end, 4) for end in gap.ci95)]
    return record


def _time(record: dict[str, Any], sides: Mapping[str, Side]) -> None:
    """Set the latencies of `record`, all sides by turns."""
    for key, ratio, bare in (("ms_p50", "latency_ratio", True), ("run_ms_p50", "run_ratio", False)):
        times = time_by_turns(list(sides.values()), bare=bare)
        for side, ms in zip(sides, times, strict=True):
            record[side][key] = round(float(np.median(ms)), 5)
        ratios = np.median(times[0], axis=1) / np.median(times[1], axis=1)
        record[ratio] = [round(float(v), 3) for v in np.percentile(ratios, (50, 10, 90))]


def time_again(record: dict[str, Any], work: Path) -> dict[str, Any]:
    """The record with the latencies of now; everything else stays."""
    known = _record_file(work, record["set"], record["seed"])
    _time(record, _sides(known.with_suffix("")))
    write_whole(known, json.dumps(record, indent=1))
    return record


def time_by_turns(files: Sequence[tuple[Bundle, FileEntry]], *, bare: bool = False) -> list[np.ndarray]:
    """(ROUNDS, CALLS) milliseconds of each file's engine call, one thread.

    bare: the native library's call alone, without what turns features or pixels into its integers and its integers into
    scores, which a small network spends as long on.
    """
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        calls = []
        for bundle, entry in files:
            engine = stack.enter_context(open_file(bundle, entry, threads=1))
            spec = engine.inputs[0]
            array = rng.integers(0, 256, spec.shape) if spec.dtype == "uint8" else rng.random(spec.shape)
            given = {spec.name: array.astype(spec.dtype)}
            engine.run(given)  # also the native call then runs on it
            calls.append(
                engine.engine.bare_call() if bare else lambda engine=engine, given=given: engine.run(given)
            )
        rows: list[list[list[float]]] = [[] for _ in calls]
        for _ in range(ROUNDS):
            for call, row in zip(calls, rows, strict=True):
                row.append(measure_calls_ms(call, n=CALLS))
    return [np.array(row) for row in rows]


def _print_records(records: Sequence[dict[str, Any]]) -> None:
    rows = []
    for record in records:
        size, speed = SETS[record["set"]].targets
        rows.append(
            (
                f"{record['set']} {record['seed']}",
                f"{record['baseline']['value']:.3f}",
                f"{record['small']['value']:.3f}",
                "{:+.3f} ({:+.3f} {:+.3f})".format(*record["less_baseline"]),
                f"{record['size_ratio']:.1f} ({size})",
                f"{record['latency_ratio'][0]:.1f} ({speed})",
                f"{record['run_ratio'][0]:.1f}",
                "{:+.3f}".format(record["less_control"][0]),
            )
        )
    print_table(("set", "before", "after", "change, paired", "size", "speed", "run", "ctrl"), rows)
    print("size, speed: times smaller, faster (LiteRT's own call), wanted in brackets.")
    print("run: times faster with what turns inputs and outputs into integers and back.")
    print("ctrl: accuracy less that of the same network trained from nothing.")


def _report(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    results = []
    for record in records:
        name = f"{record['set']}/{record['seed']}"
        for figure, unit in (("size_ratio", "1"), ("latency_ratio", "1"), ("run_ratio", "1")):
            value = record[figure]
            results.append(
                {
                    "name": f"{name}/{figure}",
                    "unit": unit,
                    "value": value[0] if isinstance(value, list) else value,
                }
            )
        results += [
            {"name": f"{name}/{side}", "unit": record[side]["metric"], **record[side]}
            for side in ("baseline", "small", "control")
        ]
    return {
        "bench": "compress",
        "device": {"machine": platform.machine()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "results": results,
    }


def set_names(text: str) -> tuple[str, ...]:
    """Names of SETS with commas between, as an argparse type."""
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in SETS]:
        raise argparse.ArgumentTypeError(f"there is no set {unknown[0]!r}; there are {', '.join(SETS)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds deeppcb and the others"
    )
    parser.add_argument("--only", type=set_names, default=tuple(SETS))
    parser.add_argument(
        "--seeds", type=lambda text: tuple(int(v) for v in text.split(",")), default=(1, 2, 3)
    )
    parser.add_argument("--work", type=Path, default=Path("out/bench_compress"))
    parser.add_argument("--table", action="store_true", help="only print what is in --work")
    parser.add_argument(
        "--retime",
        action="store_true",
        help="only measure the latencies of what is in --work again: trainings beside it shift them",
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    start_tensorflow()
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        if args.table or args.retime:
            found = sorted(args.work.glob("*-*.json"))
            records = [json.loads(path.read_text()) for path in found]
            if args.retime:
                records = [time_again(record, args.work) for record in records]
        else:
            records = [
                run_set(name, seed, args.data, args.work)
                for name in args.only
                for seed in (args.seeds if name == "digits" else args.seeds[:1])
            ]
    except EdgeError as error:
        print_note(f"bench_compress: error: {error}")
        return error.exit_code
    if args.json:
        print_json(_report(records))
    else:
        _print_records(records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
