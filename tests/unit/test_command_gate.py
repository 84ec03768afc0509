"""What the gate lets through, what it answers, and what it remembers: no broker, no device, a clock that is told."""

from __future__ import annotations

import json

import pytest

from edgeai.clock import FakeClock
from edgeai.errors import SinkError
from edgeai.sinks.commands.gate import CommandGate, ConfigInForce
from edgeai.sinks.commands.journal import CommandJournal, JournalError
from edgeai.sinks.commands.table import (
    CameraArguments,
    CommandSettings,
    DesiredArguments,
    NoArguments,
    Outcome,
    PartArguments,
)
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.payload import iso_utc
from edgeai.sinks.schemas.exchange import EXCHANGES
from edgeai.sinks.topics import TopicTree

TREE = TopicTree("t", "s", "cam")
SHA = "ab" * 32
NOW_S = 1_780_000_000.0
ALL = CommandSettings(
    allow=("snapshot", "enable", "disable", "set_threshold", "retry", "reload", "restart", "configure")
)


def fits_schema(draft):
    jsonschema = pytest.importorskip("jsonschema")
    name = "cfg_reported" if draft.topic == TREE.reported_config else "ack"
    jsonschema.validate(json.loads(draft.body), EXCHANGES[name])


class Bench:
    """A gate with what is around it. submitted: commands; replies: drafts."""

    def __init__(self, path, settings=ALL, *, synced=True, wall_s=NOW_S):
        self.clock = FakeClock(wall_s=wall_s)
        self.submitted, self.replies = [], []
        self.refusing = False
        self.journal = CommandJournal(path)
        self.gate = CommandGate(
            TREE,
            settings,
            self.journal,
            boot_id="boot-1",
            clock=self.clock,
            submit=self.submitted.append,
            reply=self._reply,
            synced=lambda: synced,
        )
        self.gate.open()
        self.gate.catch_up()

    def _reply(self, draft):
        if self.refusing:
            raise SinkError("the outbox is full")
        fits_schema(draft)
        self.replies.append(draft)

    def take(self, name, document, *, retained=False, topic=None, **more):
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        inbound = Inbound(topic or TREE.command(name), payload, retained=retained, **more)
        assert self.gate.take_command(inbound) == ()

    def desire(self, document, *, retained=True):
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        assert self.gate.take_desired(Inbound(TREE.desired_config, payload, retained=retained)) == ()

    @property
    def answers(self):
        return [json.loads(draft.body) for draft in self.replies]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "commands.db")


def test_a_good_command_is_submitted_and_its_outcome_answered(bench):
    bench.take("snapshot", {"id": "a-1", "args": {"camera": "gate"}}, response_topic="steal/this")
    (command,) = bench.submitted
    assert (command.id, command.name, command.args) == ("a-1", "snapshot", CameraArguments(camera="gate"))
    assert command.deadline_s == 60.0
    assert bench.replies == []
    bench.gate.finish(command, Outcome(True, result={"bytes": 7}))
    (draft,) = bench.replies
    assert (draft.topic, draft.qos, draft.retain) == ("edge/v1/t/s/cam/ack/a-1", 1, False)
    assert (draft.priority, draft.stream, draft.latest) == ("event", "_device", False)
    assert json.loads(draft.body) == {
        "schema": 1,
        "id": "a-1",
        "name": "snapshot",
        "ok": True,
        "reason": None,
        "result": {"bytes": 7},
        "device": "cam",
        "boot_id": "boot-1",
        "wall_time": iso_utc(NOW_S),
    }


def test_it_listens_to_its_own_topics_only(bench):
    filters = [each.topic_filter for each in bench.gate.subscriptions()]
    assert filters == ["edge/v1/t/s/cam/cmd/+", "edge/v1/t/s/cam/cfg/desired"]
    bench.take("x", {"id": "a"}, topic="edge/v1/t/s/other/cmd/restart")
    bench.take("x", {"id": "a"}, topic="edge/v1/t/s/cam/cmd/restart/now")
    assert (bench.submitted, bench.replies, bench.gate.counters.broken) == ([], [], 2)


@pytest.mark.parametrize(
    ("name", "document", "reason"),
    [
        ("restart", {}, "restart is not allowed on this device; commands.allow in its configuration has snapshot"),
        ("snapshoot", {}, "there is no command 'snapshoot'; did you mean 'snapshot'?"),
        ("configure", {}, "the configuration is set on cfg/desired, retained"),
        ("snapshot", {}, "key 'camera' is missing"),
        ("snapshot", {"args": {"camera": 1}}, "camera: must be a valid string, is 1"),
        ("snapshot", {"args": {"camera": "a/b"}}, "camera: "),
        ("snapshot", {"args": {"camera": "g", "Camera": 1}}, "unknown key 'Camera'; did you mean 'camera'?"),
        ("snapshot", {"args": []}, "args: must be a valid dictionary, is []"),
        ("snapshot", {"args": {"camera": "g"}, "agrs": 1}, "unknown key 'agrs'; did you mean 'args'?"),
        ("snapshot", {"args": {"camera": "g"}, "ttl_s": -1}, "ttl_s: must be greater than 0, is -1"),
        ("snapshot", {"args": {"camera": "g"}, "ttl_s": 9e9}, "ttl_s: must be at most 3600, is 9e+09"),
        ("snapshot", {"args": {"camera": "g"}, "ttl_s": True}, "ttl_s: must be a valid number, is true"),
        ("snapshot", {"args": {"camera": "g"}, "issued_at": "today"}, "issued_at: must be ISO 8601"),
        ("snapshot", {"args": {"camera": "g"}, "issued_at": "2026-05-28T20:00:00"}, "issued_at: must be ISO 8601"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_why(tmp_path, name, document, reason):
    bench = Bench(tmp_path / "c.db", CommandSettings(allow=("snapshot",)))
    bench.take(name, {"id": "a", **document})
    assert bench.submitted == []
    (answer,) = bench.answers
    assert (answer["id"], answer["name"], answer["ok"], answer["result"]) == ("a", name, False, None)
    assert answer["reason"].startswith(reason)
    assert bench.replies[0].priority == "telemetry"  # what anybody can provoke pushes no event out
    # nothing was done, so nothing is remembered
    assert bench.journal.find("a") is None


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{", b"[]", b"1", b"\xff", b'{"id": "a"', b'{"id": NaN}', b'{"id": "a", "id": "a"}', b"{}"),
        *(
            b'{"id": "a/b"}',
            b'{"id": "\\u0000"}',
            b'{"id": 1}',
            b'{"id": "' + b"a" * 65 + b'"}',
            b'{"id": "a\\n"}',
        ),
        *(b'{"id": "a", "n": ' + b"1" * 41 + b"}", b"[" * 60_000, b'{"id": "a"}'.ljust((64 << 10) + 1)),
        *('{"id": "a"}'.encode("utf-16"), b'\xef\xbb\xbf{"id": "a"}'),
    ],
)
def test_what_has_no_id_is_counted_and_said_once(bench, caplog, payload):
    for _ in range(3):
        bench.take("reload", payload)
    assert (bench.submitted, bench.replies) == ([], [])
    assert bench.gate.counters.broken == 3
    assert caplog.text.count("is no command") == 1


def test_a_retained_command_is_refused(bench):
    bench.take("restart", {"id": "a"}, retained=True)
    assert bench.submitted == []
    assert bench.answers[0]["reason"] == "it is retained: publish commands without retain"
    bench.take("restart", {"id": "a"})  # live, it is good
    assert bench.submitted[0].args == NoArguments()


@pytest.mark.parametrize(
    ("age_s", "ttl_s", "left_s"), [(0, 60, 60), (59, 60, 1), (-30, 60, 60), (61, 60, None), (-61, 60, None)]
)
def test_issued_at_counts_where_the_clock_is_right(bench, age_s, ttl_s, left_s):
    bench.take("reload", {"id": "a", "ttl_s": ttl_s, "issued_at": iso_utc(NOW_S - age_s)})
    if left_s is None:
        assert bench.submitted == []
        assert (
            "expired: issued 61 s ago" in bench.answers[0]["reason"]
            or "61 s ahead" in bench.answers[0]["reason"]
        )
    else:
        assert bench.submitted[0].deadline_s == left_s


@pytest.mark.parametrize(("synced", "wall_s"), [(None, NOW_S), (False, NOW_S), (True, 1000.0)])
def test_issued_at_does_not_count_where_the_clock_may_be_wrong(tmp_path, synced, wall_s):
    bench = Bench(tmp_path / "c.db", synced=synced, wall_s=wall_s)
    bench.take("reload", {"id": "a", "issued_at": iso_utc(NOW_S - 1e6)})
    assert len(bench.submitted) == 1


def test_a_known_id_is_never_submitted_again(bench):
    bench.take("restart", {"id": "a"})
    bench.take("restart", {"id": "a"})  # before it is answered: the answer will come
    assert (len(bench.submitted), bench.replies) == (1, [])
    bench.gate.finish(bench.submitted[0], Outcome(True))
    bench.clock.advance(100)
    bench.take("restart", {"id": "a"})
    bench.take("reload", {"id": "a"})
    assert len(bench.submitted) == 1
    assert [draft.body for draft in bench.replies] == [bench.replies[0].body] * 3
    assert bench.gate.counters.repeated == 3


def test_it_is_on_the_disk_before_it_is_submitted(tmp_path):
    bench = Bench(tmp_path / "c.db")
    seen = []
    bench.gate._submit = lambda command: seen.append(bench.journal.find(command.id))
    bench.take("restart", {"id": "a"})
    assert seen[0] is not None
    assert seen[0].answer is None


def test_what_a_kill_cut_off_is_answered_at_the_next_start_and_not_done(tmp_path):
    before = Bench(tmp_path / "c.db")
    before.take("restart", {"id": "cut"})
    before.take("reload", {"id": "done"})
    before.refusing = True
    before.gate.finish(before.submitted[1], Outcome(True, result={"n": 1}))
    assert before.replies == []
    after = Bench(tmp_path / "c.db")  # as after kill -9: nothing was closed
    told = {answer["id"]: answer for answer in after.answers}
    assert told["done"]["ok"]
    assert told["cut"]["reason"] == "the device ended before it was carried out; send it again with a new id"
    after.take("restart", {"id": "cut"})
    assert after.submitted == []
    assert Bench(tmp_path / "c.db").replies == []  # told once


def test_too_many_that_wait_are_refused(tmp_path):
    bench = Bench(tmp_path / "c.db", CommandSettings(allow=("reload",), queue=2))
    for number in range(3):
        bench.take("reload", {"id": f"a{number}"})
    assert len(bench.submitted) == 2
    assert bench.answers[0]["reason"] == "busy: 2 commands wait; send it again later"
    bench.gate.finish(bench.submitted[0], Outcome(True))
    bench.take("reload", {"id": "a2"})  # busy is no answer for good
    assert [command.id for command in bench.submitted] == ["a0", "a1", "a2"]


def test_a_flood_of_refusals_is_answered_at_a_bounded_rate(bench):
    for number in range(200):
        bench.take("nothing", {"id": f"n{number}"})
    assert len(bench.replies) == 50
    assert bench.gate.counters.unanswered == 150
    bench.clock.advance(1.0)
    for number in range(200):
        bench.take("nothing", {"id": f"m{number}"})
    assert len(bench.replies) == 60


def test_without_a_journal_nothing_is_done(tmp_path, caplog):
    (tmp_path / "c.db").mkdir()
    bench = Bench(tmp_path / "c.db")
    assert "commands are refused until it is back" in caplog.text
    bench.take("restart", {"id": "a"})
    assert bench.submitted == []
    assert "journal of commands cannot be opened" in bench.answers[0]["reason"]
    (tmp_path / "c.db").rmdir()
    bench.take("restart", {"id": "a"})
    assert len(bench.submitted) == 1


def test_a_fault_of_ours_does_not_end_the_connection(bench, caplog, monkeypatch):
    monkeypatch.setattr(bench.journal, "find", lambda command_id: 1 / 0)
    bench.take("reload", {"id": "a"})
    bench.take("reload", {"id": "b"})
    assert bench.gate.counters.faults == 2
    assert caplog.text.count("ZeroDivisionError") == 1


def test_a_long_result_is_left_out_and_a_long_reason_cut(bench):
    bench.take("reload", {"id": "a"})
    bench.take("reload", {"id": "b"})
    bench.gate.finish(bench.submitted[0], Outcome(True, result={"x": "y" * 20_000}))
    bench.gate.finish(bench.submitted[1], Outcome(False, "\ud800" * 1000))
    assert bench.answers[0]["result"] is None
    assert len(bench.answers[1]["reason"]) == 500


def test_a_desired_configuration_is_submitted_and_reported(bench):
    bench.desire({"version": 3, "toml": "x = 1"})
    (command,) = bench.submitted
    assert (command.id, command.name) == ("", "configure")
    assert command.args == DesiredArguments(version=3, toml="x = 1")
    bench.gate.finish(command, Outcome(True))
    bench.gate.report_config(ConfigInForce(3, SHA))
    bench.gate.refuse_config(4, "no good")
    (first, second) = bench.replies
    assert first.topic == "edge/v1/t/s/cam/cfg/reported"
    assert (first.qos, first.retain, first.latest) == (1, True, True)
    told = json.loads(first.body)
    assert (told["version"], told["sha256"], told["source"], told["refused"]) == (3, SHA, "desired", None)
    told = json.loads(second.body)
    assert (told["version"], told["refused"]) == (3, {"version": 4, "reason": "no good"})


@pytest.mark.parametrize(
    ("document", "version", "reason"),
    [
        (b"{", None, "it is not JSON"),
        ({"version": 0, "toml": "x"}, 0, "version: must be greater than or equal to 1"),
        ({"version": True, "toml": "x"}, None, "version: must be a valid integer, is true"),
        ({"version": 1.0, "toml": "x"}, None, "version: must be a valid integer"),
        ({"version": -1, "toml": "x"}, None, "version: must be greater"),
        ({"version": 10**30, "toml": "x"}, None, "version: must be"),
        ({"version": 1}, 1, "key 'toml' is missing"),
        ({"version": 1, "toml": "x", "force": True}, 1, "unknown key 'force'"),
        (b'{"version": 1, "toml": "' + b"x" * (256 << 10) + b'"}', None, "it has more than 256 KiB"),
    ],
)
def test_a_broken_desired_configuration_is_refused(bench, document, version, reason):
    bench.gate.report_config(ConfigInForce(0, SHA))
    bench.replies.clear()
    bench.desire(document)
    assert bench.submitted == []
    (answer,) = bench.answers
    assert answer["refused"]["version"] == version
    assert answer["refused"]["reason"].startswith(reason)


def test_a_desired_configuration_needs_configure(tmp_path):
    bench = Bench(tmp_path / "c.db", CommandSettings(allow=("reload",)))
    bench.desire({"version": 1, "toml": "x"})
    assert (bench.submitted, bench.replies) == ([], [])  # not before it is known what is in force
    bench.gate.report_config(ConfigInForce(0, SHA))
    assert bench.answers[0]["refused"]["reason"].startswith("configure is not allowed")
    bench.desire(b"")  # taken away: nothing to say
    assert len(bench.replies) == 1


def test_arguments_of_a_rule():
    assert PartArguments(camera="a", rule="the door").rule == "the door"


def test_a_ttl_above_its_bound_is_no_setting():
    with pytest.raises(ValueError, match="must be at most max_ttl_s"):
        CommandSettings(ttl_s=60, max_ttl_s=30)
    with pytest.raises(ValueError, match="allow"):
        CommandSettings(allow=("everything",))


def test_the_journal_forgets_the_oldest(tmp_path):
    with CommandJournal(tmp_path / "j.db", keep=3) as journal:
        for number in range(5):
            journal.begin(f"a{number}", "reload")
        assert [journal.find(f"a{number}") is None for number in range(5)] == [
            True,
            True,
            False,
            False,
            False,
        ]
        with pytest.raises(JournalError):
            journal.begin("a4", "reload")
    with pytest.raises(JournalError, match="is not open"):
        journal.find("a4")


def test_a_corrupt_journal_is_set_aside(tmp_path, caplog):
    path = tmp_path / "j.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with CommandJournal(path) as journal:
        journal.begin("a", "reload")
        assert journal.find("a") is not None
    assert (tmp_path / "j.db.corrupt").exists()
    assert "set aside" in caplog.text
    with CommandJournal(path) as journal:
        assert journal.find("a") is not None
