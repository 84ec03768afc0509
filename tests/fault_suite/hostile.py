"""Clients and messages that mean harm; the attempts themselves live beside the parts they attack."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Iterator

from fault_suite.row import Row, judged, missing
from fault_suite.stand import Stand


def impersonation(stand: Stand) -> Iterator[Row]:
    """Every client of the shipped broker configuration on every other: client id, topic, will, command."""
    fault = "impersonation matrix"
    try:
        matrix = importlib.import_module("impersonation")
        shipped = importlib.import_module("shipped_broker")
    except ModuleNotFoundError as error:
        yield missing(fault, f"tests/{error.name}.py is not there")
        return
    folder = stand.path("impersonation")
    folder.mkdir()
    began_s = time.monotonic()
    with shipped.ShippedBroker() as broker:
        rows = matrix.run_matrix(broker, folder)
    controls = [row for row in rows if row.legitimate]
    attacks = [row for row in rows if not row.legitimate]
    tried, delivered = (sum(getattr(row, name) for row in attacks) for name in ("tried", "delivered"))
    by_attempt = sorted(attacks, key=lambda row: row.attempt)
    through = [
        f"{attempt}: {count} delivered"
        for attempt, group in itertools.groupby(by_attempt, key=lambda row: row.attempt)
        if (count := sum(row.delivered for row in group))
    ]
    kept_out = sum(row.tried - row.delivered for row in controls)
    yield judged(
        fault,
        demands=[
            (delivered == 0, "; ".join(through)),
            (tried > 0, "nothing was tried"),
            (kept_out == 0, f"{kept_out} legitimate messages were kept out"),
        ],
        note=f"{tried} attempts of {len({(row.attacker, row.victim) for row in attacks})} pairs, {delivered} delivered",
        figures={"seconds": time.monotonic() - began_s},
    )


def malformed_commands(stand: Stand) -> Iterator[Row]:
    """Payloads that are no commands, on every command topic."""
    fault = "malformed commands"
    try:
        fuzz = importlib.import_module("fuzz_commands")
    except ModuleNotFoundError as error:
        yield missing(fault, f"{error.name} is not there")
        return
    n = 500 if stand.plan.short else 100 * stand.plan.events
    began_s = time.monotonic()
    counts = fuzz.fuzz_commands(n, stand.plan.seed)
    yield judged(
        fault,
        demands=[
            (counts[name] == 0, f"{counts[name]} {name.replace('_', ' ')}")
            for name in ("crashes", "state_changes", "bad_answers")
        ],
        note=f"{n} payloads: "
        + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count),
        figures={"seconds": time.monotonic() - began_s},
    )
