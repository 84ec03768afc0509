"""How every `edgeai bench` prints what it measured."""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.console import print_json, print_table
from edgeai.metrics import Measurement, bench_report


def print_figures(bench: str, results: Sequence[Measurement], *, title: str, json_output: bool) -> None:
    """The shared bench object on one line, or a table of it."""
    if json_output:
        from edgeai.hardware import device_facts, library_versions

        print_json(bench_report(bench, results, device=device_facts(), versions=library_versions()))
        return
    rows = [
        [r.name, r.unit, *(f"{v:.3f}" for v in (r.p50, r.p90, r.p99)), r.n]
        if r.value is None
        else [r.name, r.unit, f"{r.value:.3f}", "", "", r.n]
        for r in results
    ]
    print_table(["figure", "unit", "p50 or value", "p90", "p99", "n"], rows, title=title)
