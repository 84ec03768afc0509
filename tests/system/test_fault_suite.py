"""The fault suite's short form: what must hold while links, brokers, the device, its disk and its clock fail."""

from __future__ import annotations

import pytest
from fault_suite.__main__ import chosen, run_faults
from fault_suite.stand import Plan

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

# the attackers and the fuzzer have tests of their own
ELSEWHERE = {"impersonation matrix", "malformed commands"}
FAULTS = [fault for fault in chosen("", short=True) if fault.name not in ELSEWHERE]
KNOWN: dict[str, str] = {
    "I/O errors": "a commit that failed is in the file all the same: UNIQUE fails at each return to the disk",
    "corrupt file, stopped": "SQLite has no checksum of a row: a changed payload is sent as it is",
    "corrupt file header": "another program's database, or of another schema, to one changed byte: it does not start",
    "broker kill -9, restart": "mosquitto acknowledges before it writes: who is away loses what it had not written",
    "corrupt file, running": "a topic that is no UTF-8 any more stops its lane for good",
    "corrupt WAL, running": "as with the file",
    "corrupt WAL, stopped": "SQLite ends a WAL at the first damaged frame without a word",
}
"""Faults of which something does not hold yet, and what."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Every fault, several at a time: nearly all of it is waiting."""
    plan = Plan(events=150, rounds=5, short=True, with_baseline=False)
    return run_faults(FAULTS, plan, tmp_path_factory.mktemp("faults"), at_once=8)


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
def test_what_must_hold_holds(rows, name):
    assert rows[name], "the fault was not made"
    for row in rows[name]:
        if row.verdict == "absent":
            pytest.skip(row.note)
        if row.verdict == "FAILS" and name in KNOWN:
            pytest.xfail(f"{KNOWN[name]}: {'; '.join(row.broken)}")
        assert row.broken == ()
        assert row.verdict == "holds"


def test_plain_paho_stands_beside_us_and_loses(tmp_path):
    """The baseline is a baseline: the same cut costs it events."""
    plan = Plan(events=100, short=True)
    (some,) = run_faults(chosen("link cut 5 s", short=True), plan, tmp_path).values()
    by_publisher = {row.publisher: row.tally for row in some}
    assert by_publisher["edgeai"].lost == 0
    assert by_publisher["paho QoS0"].lost > 0
    assert by_publisher["edgeai"].put == by_publisher["paho QoS1"].put == 100
