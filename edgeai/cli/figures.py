"""How every `edgeai bench` prints what it measured."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError, UsageError
from edgeai.metrics import Measurement, bench_report
from edgeai.types import JsonValue

if TYPE_CHECKING:
    from edgeai.bench.compare import Comparison
    from edgeai.report.tables import Table


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where figures go. json: one line on standard output in place of tables. markdown: the tables into a file.

    against: the JSON of another run, on this machine or another, to be put beside. html: a page, of benches that make one.
    """

    json: bool = False
    markdown: Path | None = None
    against: Path | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise EdgeError for a file to compare with that cannot be read, and for one that cannot be written: before minutes
        are spent.
        """
        if self.against is not None:
            from edgeai.bench.compare import read_bench_file

            read_bench_file(self.against)
        for path in (self.markdown, self.html):
            if path is not None:
                _check_writable(path)


def _check_writable(path: Path) -> None:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", next_step="name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise EdgeError(f"{path} cannot be written: {error.strerror or error}") from None


def print_figures(
    bench: str, results: Sequence[Measurement], *, title: str, outputs: Outputs, notes: Sequence[str] = ()
) -> None:
    """The shared bench object on one line, or a table of it."""
    publish(bench, results, tables=[_figures_table(results, title)], outputs=outputs, notes=notes)


def publish(
    bench: str,
    results: Sequence[Measurement],
    *,
    tables: Sequence[Table],
    outputs: Outputs,
    details: Mapping[str, JsonValue] | None = None,
    notes: Sequence[str] = (),
) -> Published:
    """Print tables, or the JSON with `details` beside the shared keys; notes and warnings go to standard error.

    Raises EdgeError where the Markdown cannot be written or the other run cannot be compared with.
    """
    from edgeai.hardware import device_facts, library_versions

    device, versions = device_facts(), library_versions()
    report = bench_report(bench, results, device=device, versions=versions) | dict(details or {})
    comparison = None
    if outputs.against is not None:
        from edgeai.bench.compare import compare, parse_bench, read_bench_file

        comparison = compare(read_bench_file(outputs.against), parse_bench(report))
        report["compare"] = comparison.to_json()
        tables = [*tables, comparison.table()]
        notes = [*notes, *(f"warning: compared: {line}" for line in comparison.warnings)]
    if outputs.markdown is not None:
        from edgeai.whole_file import write_whole

        said = [f"> {note}\n" for note in notes]
        write_whole(outputs.markdown, "\n".join([*(table.to_markdown() for table in tables), *said]))
    for note in notes:
        print_note(note)
    if outputs.json:
        print_json(report)
    else:
        for table in tables:
            print_table(table.headings, table.rows, title=table.title)
    return Published(device, versions, report, comparison)


@dataclass(frozen=True, slots=True)
class Published:
    """report: the whole JSON object, device and versions its parts. comparison: None where there was nothing to compare with."""

    device: dict[str, JsonValue]
    versions: dict[str, JsonValue]
    report: dict[str, JsonValue]
    comparison: Comparison | None

    @property
    def text(self) -> str:
        return json.dumps(self.report, ensure_ascii=False)


def _figures_table(results: Sequence[Measurement], title: str) -> Table:
    from edgeai.report.tables import Table

    rows = [
        [r.name, r.unit, *(f"{v:.3f}" for v in (r.p50, r.p90, r.p99)), str(r.n)]
        if r.value is None
        else [r.name, r.unit, f"{r.value:.3f}", "", "", str(r.n)]
        for r in results
    ]
    return Table(title, ["figure", "unit", "p50 or value", "p90", "p99", "n"], rows)
