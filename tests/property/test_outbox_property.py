"""Against a list in memory: nothing that was put is lost, nothing acknowledged comes back, the drop policy holds."""

import itertools
import random
import shutil
import tempfile
import threading
from pathlib import Path

from fake_transport import FakeTransport
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeai.clock import FakeClock
from edgeai.sinks.delivery.drain import Drain
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import DROP_ORDER, RANK, Draft
from edgeai.sinks.outbox.table import ROW_OVERHEAD_BYTES

PRIORITIES = st.sampled_from(DROP_ORDER)
SIZES = st.integers(1, 400)


class OutboxMachine(RuleBasedStateMachine):
    """The bounds are met often; kill -9 is a copy of the files, taken while they are in use."""

    max_bytes = 4000
    crash = True

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.generation = 0
        self.waiting = []  # (seq, priority, size, payload)
        self.dropped = 0
        self.last_seq = 0
        self.open(self.folder / "0" / "outbox.db")

    def open(self, path):
        self.path = path
        self.outbox = Outbox(
            path, max_bytes=self.max_bytes, memory_bytes=self.max_bytes, retry_disk_s=5, clock=self.clock
        )
        self.outbox.open()
        self.dropped = 0

    def teardown(self):
        self.outbox.close()
        shutil.rmtree(self.folder)

    @rule(batch=st.lists(st.tuples(PRIORITIES, SIZES), min_size=1, max_size=5))
    def put(self, batch):
        drafts = [
            Draft("t", b"%d" % index + b"x" * size, priority=priority)
            for index, (priority, size) in enumerate(batch)
        ]
        seqs = self.outbox.put_many(drafts)
        assert seqs == list(range(self.last_seq + 1, self.last_seq + 1 + len(batch)))
        self.last_seq = seqs[-1]
        self.waiting += [
            (seq, draft.priority, len(draft.body) + 1 + ROW_OVERHEAD_BYTES, draft.body)
            for seq, draft in zip(seqs, drafts, strict=True)
        ]
        while sum(size for _, _, size, _ in self.waiting) > self.max_bytes:
            self.waiting.remove(min(self.waiting, key=lambda one: (RANK[one[1]], one[0])))
            self.dropped += 1

    @rule(data=st.data())
    def ack(self, data):
        seqs = data.draw(st.lists(st.integers(1, self.last_seq + 2), max_size=8, unique=True))
        there = {seq for seq, *_ in self.waiting}
        assert self.outbox.ack(seqs) == len(there & set(seqs))
        self.waiting = [one for one in self.waiting if one[0] not in seqs]

    @rule()
    def reopen(self):
        self.outbox.close()
        self.open(self.path)

    @precondition(lambda self: self.crash)
    @rule()
    def kill(self):
        self.generation += 1
        folder = self.folder / str(self.generation)
        folder.mkdir()
        for file in self.path.parent.iterdir():
            shutil.copy(file, folder)
        self.outbox.close()
        self.open(folder / "outbox.db")

    @rule(seconds=st.floats(0, 20))
    def advance(self, seconds):
        self.clock.advance(seconds)

    @rule(n=st.integers(1, 20), data=st.data())
    def peek_after(self, n, data):
        after = data.draw(st.integers(0, self.last_seq + 1))
        expected = [seq for seq, *_ in self.waiting if seq > after][:n]
        assert [message.seq for message in self.outbox.peek(n, after=after)] == expected

    @invariant()
    def holds_what_the_list_holds(self):
        found = [(message.seq, message.priority, message.payload) for message in self.outbox.peek(10_000)]
        assert found == [(seq, priority, payload) for seq, priority, _, payload in self.waiting]
        assert self.outbox.pending == len(self.waiting)
        assert self.outbox.pending_bytes == sum(size for _, _, size, _ in self.waiting)
        assert sum(self.outbox.dropped.values()) == self.dropped


class FailingDiskMachine(OutboxMachine):
    """The disk becomes full and has room again at any time; the bounds are far away."""

    max_bytes = 10_000_000
    crash = False

    @rule()
    def fill_disk(self):
        if self.outbox.on_disk:
            self.outbox._store._disk._db.execute("PRAGMA max_page_count = 1")

    @rule()
    def free_disk(self):
        disk = self.outbox._store._disk
        if disk is not None:
            disk._db.execute("PRAGMA max_page_count = 1000000")
        self.clock.advance(5)

    @rule()
    def reopen(self):
        self.free_disk()
        super().reopen()

    @invariant()
    def holds_what_the_list_holds(self):
        found = [(message.seq, message.payload) for message in self.outbox.peek(10_000)]
        assert found == [(seq, payload) for seq, _, _, payload in self.waiting]
        assert self.outbox.pending == len(self.waiting)


OutboxMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
FailingDiskMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestOutbox = OutboxMachine.TestCase
TestFailingDisk = FailingDiskMachine.TestCase


@settings(max_examples=40, deadline=None)
@given(
    before=st.integers(1, 6),
    after=st.integers(0, 6),
    cut=st.floats(0, 1),
    noise=st.booleans(),
    acked=st.sets(st.integers(1, 6)),
)
def test_a_torn_end_of_the_log_loses_nothing_that_was_reported(before, after, cut, noise, acked):
    """A power cut keeps of the write-ahead log what was synced, and anything of what came later."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "outbox.db"
        log = path.with_name("outbox.db-wal")
        with Outbox(path) as outbox:
            for number in range(before):
                outbox.put(Draft("t", b"sure %d" % number))
            synced = log.stat().st_size
            acked = {seq for seq in acked if seq <= before}
            outbox.ack(sorted(acked))
            for number in range(after):
                outbox.put(Draft("t", b"perhaps %d" % number))
            files = {file.name: file.read_bytes() for file in (path, log)}
        length = synced + int(cut * (len(files[log.name]) - synced))
        tail = random.Random(1).randbytes(len(files[log.name]) - length) if noise else b""
        torn = Path(name) / "torn"
        torn.mkdir()
        (torn / path.name).write_bytes(files[path.name])
        (torn / log.name).write_bytes(files[log.name][:length] + tail)
        with Outbox(torn / path.name) as outbox:
            found = {message.seq: message.payload for message in outbox.peek(99)}
            for seq in set(range(1, before + 1)) - acked:
                assert found.pop(seq) == b"sure %d" % (seq - 1)
            for seq in acked:
                found.pop(seq, None)
            assert list(found) == list(range(before + 1, before + 1 + len(found)))
        assert not list(torn.glob("*.corrupt*"))


ACTIONS = st.lists(
    st.sampled_from(["put", "step", "step", "step", "lose", "deaf", "hear", "down", "up", "restart"]),
    max_size=60,
)


def _of_a_lane(number):
    """Three cameras, and now and then an alarm."""
    return Draft(
        "t", b"%d" % number, stream="abc"[number * 7 % 3], priority="alarm" if number % 5 == 0 else "event"
    )


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS, window=st.integers(1, 7))
def test_whatever_the_link_does_all_arrives_and_first_arrivals_are_in_order_in_each_lane(actions, window):
    with (
        tempfile.TemporaryDirectory() as name,
        Outbox(Path(name) / "o.db", clock=(clock := FakeClock())) as outbox,
    ):
        transport = FakeTransport(window=window)

        def new_drain():
            return Drain(transport, outbox, clock=clock, stop=threading.Event())

        drain = new_drain()
        put = itertools.count(1)
        for action in actions:
            if action == "put":
                outbox.put_many([_of_a_lane(next(put)) for _ in range(3)])
            elif action == "step":
                transport.wake()
                drain.step()
            elif action == "lose":
                transport.lose()
            elif action in {"deaf", "hear"}:
                transport.deaf = action == "deaf"
            elif action in {"down", "up"}:
                transport.up = action == "up"
            else:
                drain.close()
                drain = new_drain()
        transport.up, transport.deaf = True, False
        for _ in range(200):
            transport.wake()
            drain.step()
        sent = next(put) - 1
        firsts = dict.fromkeys(transport.received)
        assert sorted(message.seq for message in firsts) == list(range(1, sent + 1))
        for lane in {message.lane for message in firsts}:
            numbers = [message.seq for message in firsts if message.lane == lane]
            assert numbers == sorted(numbers)
        assert outbox.pending == 0
        assert transport.max_open <= window
        # nothing is repeated but for what was open when a connection ended
        ends = actions.count("lose") + actions.count("down") + actions.count("restart")
        assert len(transport.received) - sent <= ends * window
