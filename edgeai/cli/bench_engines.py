"""`edgeai bench engines`: every engine of a bundle on this machine, beside the libraries' own calls and tools."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

from edgeai.bench.engines import EnginesReport, EnginesSettings, measure_engines, step_count
from edgeai.bench.engines_report import engine_details, engine_results, engine_tables, machine_lines
from edgeai.bundle import Bundle, load_bundle
from edgeai.cli.figures import Outputs, Published, publish
from edgeai.cli.host import this_host
from edgeai.console import print_note, progress_bar
from edgeai.engines import Candidate, EngineHost, order_candidates
from edgeai.engines.candidates import GPU_KINDS
from edgeai.engines.measured import save_measured
from edgeai.errors import UsageError
from edgeai.hardware import nvidia_gpus

MAX_AT_ONCE = 64


def bench_engines(
    where: str,
    settings: EnginesSettings,
    *,
    file: str | None = None,
    save: bool = False,
    cache: Path | None = None,
    outputs: Outputs | None = None,
) -> int:
    """Measure every engine that can run here, print tables, or with `outputs.json` the bench object.

    `<bundle>/<format>/<precision>_ms`: our call, picture or features in, float32 out. `..._overhead_us`: ours less
    the library's own invoke on ready inputs, call by call. `overhead_us`: the largest of them by median. save: keep the
    medians in the cache, by which `open_engine` then chooses. 1 where an engine that should have run failed.

    Raises EdgeError for a bundle that cannot be read or another run that cannot be compared with, EngineUnavailableError
    where no engine can run.
    """
    outputs = outputs or Outputs()
    outputs.check()
    bundle = load_bundle(where, verify=False)
    host = this_host(cache=cache)
    candidates = _candidates(bundle, host, file, settings.threads[0])
    gpu = any(each.kind in GPU_KINDS for each in candidates)
    with progress_bar(f"bench {bundle.name}", step_count(len(candidates), settings)) as advance:
        report = measure_engines(bundle, candidates, host=host, settings=settings, gpu=gpu, advance=advance)
    notes = _notes(report)
    tables = engine_tables(report)
    details = engine_details(report)
    results = engine_results(report)
    published = publish("engines", results, tables=tables, outputs=outputs, details=details, notes=notes)
    if not outputs.json:
        worst = f"overhead_us: {report.worst_overhead.p50:.1f} at the median, the largest of the engines"
        for line in (*machine_lines(report), worst, report.verdict.text):
            print(line)
    if save:
        _save(report, host)
    if outputs.html is not None:
        _write_page(outputs.html, report, published)
    return 1 if report.failed else 0


def numbers(option: str, text: str, *, most: int = MAX_AT_ONCE) -> tuple[int, ...]:
    """The numbers in "1,2,4". Raises UsageError for anything but different whole numbers from 1 to `most`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= most for part in parts):
        raise UsageError(f"{option} is {text!r}, must be whole numbers from 1 to {most}, as in 1,2")
    found = tuple(int(part) for part in parts)
    if len(set(found)) != len(found):
        raise UsageError(f"{option} is {text!r}, names a number twice")
    return found


def _candidates(bundle: Bundle, host: EngineHost, file: str | None, threads: int) -> tuple[Candidate, ...]:
    """In the plain order, not that of an earlier bench; what needs a GPU only where there is one, or it was asked for."""
    order = order_candidates(bundle, host=replace(host, cache=None), file=file, threads=threads)
    if file is not None or host.profile is not None or nvidia_gpus():
        return order.candidates
    return tuple(each for each in order.candidates if each.kind not in GPU_KINDS)


def _notes(report: EnginesReport) -> list[str]:
    notes = [f"failed: {line}" for line in report.failed]
    notes += [f"left out: {line}" for line in report.skipped]
    notes += [f"warning: {line}" for line in report.warnings]
    if max(report.settings.batch) > 1:
        single = [each.label for each in report.engines if each.max_batch == 1]
        if single:
            notes.append(f"batch: fixed at 1 by the files of {', '.join(single)}")
    return notes


def _write_page(path: Path, report: EnginesReport, published: Published) -> None:
    from edgeai.bench.page import write_engines_page

    compared = published.comparison
    write_engines_page(
        path,
        report,
        device=published.device,
        versions=published.versions,
        json_text=published.text,
        compared=None if compared is None else compared.table(),
        notes=[] if compared is None else compared.warnings,
    )
    print_note(f"page: {path}")


def _save(report: EnginesReport, host: EngineHost) -> None:
    if host.cache is None:
        raise UsageError("there is no cache folder to save in", next_step="give --cache DIR")
    path = save_measured(
        host.cache,
        report.bundle,
        {each.label: each.p50_ms for each in report.engines},
        threads=report.settings.threads[0],
        date=datetime.date.today().isoformat(),
    )
    print_note(f"saved: {path}")
