"""`python -m fault_suite`: every fault, one table, the demands that were not met, exit 1 where there are any."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgeai.console import print_json, print_note, print_table, progress_bar
from edgeai.hardware import device_facts, library_versions
from edgeai.report.tables import Table
from edgeai.whole_file import write_whole
from fault_suite.row import HEADINGS, LEGEND, Row
from fault_suite.stand import Plan, Stand, StandError
from fault_suite.table import FAULTS, SHORT_SKIPS, Fault

_AT_ONCE = 8  # of the short form: nearly all of it is waiting


def run_faults(faults: list[Fault], plan: Plan, folder: Path, *, at_once: int = 1) -> dict[str, list[Row]]:
    """The rows of each fault, in the order of `faults`; those that measure times run last, each alone."""
    found: dict[str, list[Row]] = {}
    with progress_bar("faults", len(faults)) as advance:

        def run(fault: Fault) -> None:
            place = folder / fault.name.replace(" ", "-").replace("/", "-")
            place.mkdir()
            print_note(f"{fault.name} ...")
            began_s = time.monotonic()
            try:
                with Stand(place, plan, advance=lambda text: advance(0, text)) as stand:
                    found[fault.name] = list(fault.run(stand))
            except StandError as error:
                found[fault.name] = [Row(fault.name, verdict="FAILS", broken=(str(error),))]
            advance(1, f"{fault.name}: {time.monotonic() - began_s:.0f} s")

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, [fault for fault in faults if not fault.alone]))
        for fault in faults:
            if fault.alone:
                run(fault)
    return {fault.name: found[fault.name] for fault in faults}


def chosen(only: str, *, short: bool) -> list[Fault]:
    """The faults whose name has one of the comma-separated parts of `only`; all where it is empty."""
    parts = [part.strip().casefold() for part in only.split(",") if part.strip()]
    wanted = [fault for fault in FAULTS if not parts or any(part in fault.name.casefold() for part in parts)]
    return [fault for fault in wanted if parts or not short or fault.name not in SHORT_SKIPS]


def main() -> int:
    parser = argparse.ArgumentParser(prog="fault_suite", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="NAME", help="faults whose name has this in it; commas part several"
    )
    parser.add_argument("--events", type=int, help="put in each run: 1000, in the short form 150")
    parser.add_argument("--rounds", type=int, help="of what is repeated: 200, in the short form 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--short", action="store_true", help="outages of 1.5 s and few rounds: under a minute"
    )
    parser.add_argument("--without-baseline", action="store_true", help="no plain paho publisher beside")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table into a file too")
    parser.add_argument("--list", action="store_true", help="names of the faults, and no more")
    given = parser.parse_args()
    faults = chosen(given.only, short=given.short)
    if given.list:
        print("\n".join(fault.name for fault in faults))
        return 0
    if not faults:
        parser.error(f"no fault has {given.only!r} in its name; --list shows them")
    plan = Plan(
        events=given.events or (150 if given.short else 1000),
        rounds=given.rounds or (5 if given.short else 200),
        seed=given.seed,
        short=given.short,
        with_baseline=not given.without_baseline,
    )
    logging.disable(logging.WARNING)  # the suite's own outboxes; the devices log into files of their own
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgeai-faults-") as folder:
        found = run_faults(faults, plan, Path(folder), at_once=_AT_ONCE if plan.short else 1)
    rows = [row for some in found.values() for row in some]
    publish(rows, plan, seconds=time.monotonic() - began_s, as_json=given.json, markdown=given.markdown)
    return 1 if any(row.verdict == "FAILS" for row in rows) else 0


def publish(rows: list[Row], plan: Plan, *, seconds: float, as_json: bool, markdown: Path | None) -> None:
    """The table on standard output, or one JSON object; what does not fit into the table below it."""
    title = (
        f"{plan.events} events a run, seed {plan.seed}{', short form' if plan.short else ''}, {seconds:.0f} s"
    )
    cells = [row.cells() for row in rows]
    for before, row in itertools.pairwise(range(len(rows))):
        if rows[before].fault == rows[row].fault:
            cells[row][0] = ""
    lines = [line for row in rows for line in row.lines()]
    if markdown is not None:
        table = Table(title, list(HEADINGS), cells)
        write_whole(
            markdown, "\n".join([table.to_markdown(), f"> {LEGEND}\n", *(f"- {line}" for line in lines), ""])
        )
    if as_json:
        print_json(
            {
                "bench": "faults",
                "device": device_facts(),
                "versions": library_versions(),
                "events": plan.events,
                "seed": plan.seed,
                "short": plan.short,
                "seconds": round(seconds, 1),
                "results": [row.to_json() for row in rows],
            }
        )
        return
    print_table(HEADINGS, cells, title=title)
    for line in (LEGEND, *(f"- {line}" for line in lines)):
        print(textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False))


if __name__ == "__main__":
    sys.exit(main())
