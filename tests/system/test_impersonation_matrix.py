"""Nobody is somebody else at the shipped broker (`-s` prints the table)."""

import pytest
from impersonation import ATTACKERS, VICTIMS, print_table, run_matrix
from shipped_broker import ShippedBroker

pytestmark = pytest.mark.system


def test_nothing_of_any_impersonation_is_delivered_and_all_that_is_legitimate(tmp_path):
    with ShippedBroker() as broker:
        rows = run_matrix(broker, tmp_path)
    print("\n" + print_table(rows))
    attacks = [row for row in rows if not row.legitimate]
    controls = [row for row in rows if row.legitimate]
    assert [row for row in attacks if row.delivered] == []
    assert [row for row in controls if row.delivered != row.tried] == []
    pairs = {(row.attacker, row.victim) for row in attacks} - {("all", victim) for victim in VICTIMS}
    assert pairs == {(a, v) for a in ATTACKERS for v in VICTIMS if a != v}
    assert sum(row.tried for row in attacks) > 1000
    assert len(controls) > 50


def test_the_matrix_sees_what_a_loose_acl_lets_through(tmp_path):
    """A matrix that finds nothing anywhere would prove nothing: an ACL with the usual mistakes must light it up."""
    loose = (
        ("pattern write edge/v1/acme/s1/%u/state", "pattern write edge/v1/acme/s1/+/state"),
        ("use_username_as_clientid true", "use_username_as_clientid false"),
        ("pattern read edge/v1/acme/s1/%u/cmd/+", "pattern read edge/v1/#"),
        ("pattern read homeassistant/status", "pattern write homeassistant/status"),
    )
    with ShippedBroker(change=loose) as broker:
        rows = run_matrix(broker, tmp_path)
    print("\n" + print_table(rows))
    found = {row.attempt for row in rows if row.delivered and not row.legitimate}
    assert {
        "publish on state",
        "take over the client id",
        "hear what is not its own",
        "homeassistant spoof",
    } <= found
