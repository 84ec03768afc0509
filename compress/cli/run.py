"""`edgeai-compress run`: from a recipe to a bundle and its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compress.cli.report import default_report
from edgeai.console import print_json, print_table
from edgeai.data import data_root
from edgeai.errors import DataMissingError

if TYPE_CHECKING:
    from compress.recipe import Recipe
    from compress.record import PassRecord


def run_file(
    path: Path,
    *,
    data: Path | None = None,
    out: Path | None = None,
    work: Path | None = None,
    dry_run: bool = False,
    fresh: bool = False,
    control: bool = False,
    distribute: Literal["one", "mirrored", "multi-worker"] = "one",
    json_output: bool = False,
) -> int:
    """Run the recipe at `path`, or with `dry_run` only check it. Raises what run_recipe raises."""
    from compress.quiet import start_tensorflow
    from compress.recipe import load_recipe

    recipe = load_recipe(path)
    data = find_data_root(data)
    start_tensorflow()
    out = out or _default_out(path, recipe.name)
    work = work or Path("out/work") / recipe.name
    if dry_run:
        return _plan(recipe, data, out, json_output)
    from compress.report.bundle import write_bundle_report
    from compress.run import run_recipe
    from compress.train.distributed import find_replicas, open_strategy

    strategy = open_strategy(distribute)
    replicas = find_replicas(strategy)
    page = default_report(recipe.name)
    if not replicas.chief:  # bundle and report are the first process's; the others only help to train
        work = work.with_name(f"{work.name}-worker-{replicas.first}")
        out, page = work / "bundle", work / "report.html"
    result = run_recipe(
        recipe, data_root=data, out=out, work=work, fresh=fresh, control=control, strategy=strategy
    )
    report = write_bundle_report(result.bundle, page)
    if json_output:
        print_json(
            {
                "bundle": str(result.bundle.folder),
                "report": str(report),
                "seconds": round(result.seconds, 1),
                "passes": [record.to_json() for record in result.records],
                **({"control": result.control.to_json()} if result.control else {}),
            }
        )
    else:
        extra = [result.control.record] if result.control else []
        print_records([*result.records, *extra], title=f"{recipe.name} in {result.seconds:.0f} s")
        if result.control:
            print(f"control: {result.control.sentence()}")
        print(f"bundle: {result.bundle.folder}\nreport: {report}")
    return 0


def find_data_root(given: Path | None) -> Path:
    """The folder that holds a recipe's data: `given`, ../shared/data beside the repository, or ./data.

    Raises DataMissingError that says where was looked.
    """
    places = [given] if given is not None else [data_root().parent / "shared" / "data", Path("data")]
    for place in places:
        if place.is_dir():
            return place
    raise DataMissingError(
        f"no data folder at {' or '.join(str(place) for place in places)}", next_step="give one with --data"
    )


def _default_out(path: Path, name: str) -> Path:
    folder = path.resolve().parent
    return folder if folder.name == name and folder.parent.name == "models" else Path("out") / name


def _plan(recipe: Recipe, data: Path, out: Path, json_output: bool) -> int:
    from compress.plan import check_recipe, estimate_costs

    plan = estimate_costs(check_recipe(recipe, data_root=data, out=out), recipe)
    if json_output:
        print_json(plan.to_json())
        return 0
    rows = [
        [
            number,
            step.kind,
            f"{step.macs / 1e6:.1f} M",
            f"{step.parameters:,}",
            f"{step.bytes:,}" if step.bytes else "",
            _duration(step.seconds or 0.0),
            step.note,
        ]
        for number, step in enumerate(plan.steps, 1)
    ]
    headings = ["", "pass", "MACs", "parameters", "about bytes", "about", ""]
    print_table(headings, rows, title=f"{recipe.name}: {plan.parameters:,} parameters")
    total = sum(step.seconds or 0.0 for step in plan.steps)
    print(f"in all about {_duration(total)} on this machine; would write {out}")
    return 0


def _duration(seconds: float) -> str:
    """For people: "40 s", "12 min", "3.5 h".

    >>> _duration(40), _duration(700), _duration(12600)
    ('40 s', '12 min', '3.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_records(records: Sequence[PassRecord], *, title: str) -> None:
    """The table of passes for people."""
    rows = [
        [
            record.kind + ("" if record.kept else " (too much)" if record.tried_again else " (undone)"),
            f"{record.measured.metric.value:.3f}",
            f"{record.measured.parameters:,}",
            f"{record.measured.macs / 1e6:.1f} M",
            f"{record.measured.cost.bytes:,}",
            f"{record.measured.cost.ms_p50:.2f}",
            f"{record.seconds:.0f} s",
        ]
        for record in records
    ]
    metric = records[0].measured.metric.name
    print_table(["pass", metric, "parameters", "MACs", "bytes", "ms", "took"], rows, title=title)
    for record in records:
        if not record.kept:
            what = "tried again, asking for less" if record.tried_again else "undone"
            print(f"{record.kind} was {what}: {record.reason}")
