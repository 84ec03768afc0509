"""Messages that must change nothing, in any number, on every topic that a device listens to.

`python tests/fuzz_commands.py 100000` prints what became of them, as JSON, and ends with 1 where one did something.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from blob_bundle import write_blob_bundle, write_walk

from edgeai.clock import FakeClock
from edgeai.desired import config_in_force
from edgeai.executor import CommandExecutor
from edgeai.runtime import Runtime
from edgeai.sinks.commands.gate import CommandGate
from edgeai.sinks.commands.journal import CommandJournal
from edgeai.sinks.commands.table import COMMAND_NAMES, Command
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.payload import iso_utc
from edgeai.sinks.sink import Sink
from edgeai.sinks.topics import TopicTree

TREE = TopicTree("acme", "north", "cam-1")
OTHER = TopicTree("acme", "north", "cam-2")
NAMES = [name for name in COMMAND_NAMES if name != "configure"]
CONFIG = f"""\
device = "cam-1"
[mqtt]
host = "127.0.0.1"
tenant = "acme"
site = "north"
[commands]
allow = {json.dumps(COMMAND_NAMES)}
[[cameras]]
name = "gate"
source = "walk.avi"
model = "./blob"
[[cameras.rules]]
kind = "track"
"""
# refused for one reason that no change of a byte takes away
EVIL = """\
[mqtt]
host = "10.6.6.6"
tenant = "acme"
[commands]
allow = ["restart"]
[[cameras]]
name = "gate"
source = "/etc/passwd"
model = "../../models"
"""
GOOD_ARGS: dict[str, dict[str, Any]] = {
    "snapshot": {"camera": "gate"},
    "enable": {"camera": "gate", "rule": "tracks"},
    "disable": {"camera": "gate"},
    "set_threshold": {"stream": "gate", "value": 0.5},
    "retry": {"camera": "gate"},
    "reload": {},
    "restart": {},
}
WRONG: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**30, 1e308, "", "x", "1", [], [1], {}, {"camera": "gate"}),
    *("gate\x00", "../gate", "gate/+", "#", "\ud800", "g" * 70_00, [[[]]], {"": None}),
]
BAD_IDS: list[Any] = [
    *("", " ", "a b", "a/b", "+", "#", "$SYS", "a\x00b", "a\nb", "\x7f", "\u202e", "é", "\ud800", "x" * 65, "x" * 5000),
    *(None, 0, 1.5, True, [], {}, ["a"], "a\n", "\ta", "../ack"),
]  # fmt: skip

Message = tuple[str, bytes, bool]
Maker = Callable[[random.Random], Message]


def _good(rng: random.Random, name: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"{rng.getrandbits(64):x}", "args": dict(GOOD_ARGS[name]), "ttl_s": 30, **fields}


def _text(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def _on(name: str, payload: bytes | str, *, retained: bool = False) -> Message:
    body = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    return TREE.command(name), body, retained


def _noise(rng: random.Random) -> Message:
    size = rng.choice((0, 1, 2, 10, 200, 3000, 70_000))
    topic = rng.choice((*map(TREE.command, NAMES), TREE.desired_config))
    # a single digit or such is JSON, but no object
    return topic, rng.randbytes(size), rng.random() < 0.1


def _broken_json(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    text = _text(_good(rng, name))
    place = rng.choice([at for at, sign in enumerate(text) if sign in '{}":,'])
    return _on(name, text[:place] + rng.choice("xX\x01[](';") + text[place + 1 :])


def _cut_short(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    text = _text(_good(rng, name))
    return _on(name, text[: rng.randrange(len(text))])


def _key_twice(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    text = _text(_good(rng, name))
    twice = rng.choice((f'"id":"{rng.getrandbits(32)}"', '"args":{}', '"ttl_s":1'))
    return _on(name, f"{text[:-1]},{twice}}}")


def _no_number(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    value = rng.choice(
        ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * rng.choice((50, 5000, 60_000)))
    )
    where = rng.choice(('"ttl_s":', '"args":', '"extra":'))
    return _on(name, f'{{"id":"n{rng.getrandbits(32)}",{where}{value}}}')


def _wrong_type(rng: random.Random) -> Message:
    name = rng.choice([each for each in NAMES if GOOD_ARGS[each]])
    document = _good(rng, name)
    if rng.random() < 0.5:
        key = rng.choice([*document["args"]])
        # a name that is no stream of this device is refused by the device itself; no rule is the whole camera
        document["args"][key] = rng.choice([each for each in WRONG if (key, each) != ("rule", None)])
    else:
        ill = [each for each in WRONG if each is not None and each != {"camera": "gate"}]
        document[rng.choice(("args", "issued_at"))] = rng.choice(ill)
    return _on(name, _text(document))


def _unknown_key(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    document = _good(rng, name)
    where = document if rng.random() < 0.5 else document["args"]
    where[rng.choice(("device", "Camera", "force", "", "id ", "__class__", "ttl", "\x00"))] = rng.choice(
        WRONG
    )
    return _on(name, _text(document))


def _bad_id(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    document = _good(rng, name, id=rng.choice(BAD_IDS))
    if rng.random() < 0.2:
        del document["id"]
    return _on(name, _text(document))


def _deep(rng: random.Random) -> Message:
    name, depth = rng.choice(NAMES), rng.choice((100, 990, 5000, 30_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    inner = opening * depth + "1" + closing * depth
    return _on(name, rng.choice((inner, f'{{"id":"d{rng.getrandbits(32)}","args":{inner}}}'))[: 64 << 10])


def _bad_ttl(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    return _on(
        name, _text(_good(rng, name, ttl_s=rng.choice((0, -1, 1e300, 10**39, "60", True, [60], 3600.5))))
    )


def _not_utf8(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    text = _text(_good(rng, name)).encode()
    place = rng.randrange(1, len(text))
    return _on(
        name,
        text[:place] + rng.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\x80", b"\xf8")) + text[place:],
    )


def _other_encoding(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    return _on(
        name, _text(_good(rng, name)).encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")))
    )


def _other_device(rng: random.Random) -> Message:
    """A good command for somebody else, which no broker should bring here."""
    name = rng.choice(NAMES)
    topic = rng.choice(
        (OTHER.command(name), f"{TREE.root}/cmd/{name}/x", f"x{TREE.command(name)}", f"{TREE.root}/cmd")
    )
    return topic, _text(_good(rng, name)).encode(), False


def _unknown_name(rng: random.Random) -> Message:
    name = rng.choice(
        ("configure", "Restart", "restart ", "rebooot", "", "é", "x" * 300, "snapshot\x01", "+")
    )
    return f"{TREE.root}/cmd/{name}", _text(_good(rng, "restart")).encode(), False


def _retained(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    return _on(name, _text(_good(rng, name)), retained=True)


def _expired(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    issued = rng.choice(
        (iso_utc(1_600_000_000.0), iso_utc(1_900_000_000.0), "0001-01-01T00:00:00+23:59", "yesterday")
    )
    return _on(name, _text(_good(rng, name, issued_at=issued)))


def _too_large(rng: random.Random) -> Message:
    name = rng.choice(NAMES)
    return _on(name, _text(_good(rng, name)) + " " * (64 << 10))


def _not_there(rng: random.Random) -> Message:
    """Well formed, about what this device does not have."""
    name = rng.choice([each for each in NAMES if GOOD_ARGS[each]])
    document = _good(rng, name)
    key = next(iter(document["args"]))
    document["args"][key] = rng.choice(("Gate", "gat", "yard", "gate.", "0"))
    return _on(name, _text(document))


def _desired(rng: random.Random) -> Message:
    version = rng.choice((1, 2, 10**6, 0, -1, 1.0, True, "1", None, 10**30))
    toml = EVIL
    for _ in range(rng.choice((0, 1, 3))):
        place = rng.randrange(len(toml))
        toml = toml[:place] + rng.choice("[]\"'=#{}\\\x00\x1fé\ud800x9") + toml[place + 1 :]
    if rng.random() < 0.2:
        toml = rng.choice(
            ("", "[" * 3000, "a=" + "[" * 20_000, "x = 1", "\ufeff", "[[cameras]]", "cameras = []")
        )
    document: dict[str, Any] = {"version": version, "toml": toml}
    if rng.random() < 0.2:
        document[rng.choice(("toml", "extra", "version"))] = rng.choice(WRONG)
        if document["toml"] is not EVIL and rng.random() < 0.5:
            del document["toml"]
    text = _text(document)
    if rng.random() < 0.1:
        text = text[: rng.randrange(len(text))]
    return TREE.desired_config, text.encode("utf-8", "surrogatepass"), rng.random() < 0.5


# how often each is made: what costs a write to the journal, or the reading of a whole configuration, is rare
MAKERS: list[tuple[Maker, int]] = [
    *((_noise, 20), (_broken_json, 10), (_cut_short, 8), (_key_twice, 6), (_no_number, 6), (_wrong_type, 10)),
    *((_unknown_key, 8), (_bad_id, 10), (_deep, 2), (_bad_ttl, 4), (_not_utf8, 6), (_other_encoding, 3)),
    *(
        (_other_device, 6),
        (_unknown_name, 4),
        (_retained, 4),
        (_expired, 4),
        (_too_large, 1),
        (_not_there, 1),
    ),
    (_desired, 10),
]


class Nowhere(Sink):
    """Counts what would be told."""

    def __init__(self) -> None:
        self.events = 0

    def send(self, event: object) -> None:
        self.events += 1


def fuzz_commands(n: int, seed: int = 0) -> dict[str, int]:
    """Give a device `n` messages, a state of its own each time looked at after each of them.

    The counts of what became of them; "state_changes", "crashes" and "bad_answers" must be 0.
    """
    rng = random.Random(seed)
    makers, weights = [maker for maker, _ in MAKERS], [weight for _, weight in MAKERS]
    counts: Counter[str] = Counter(dict.fromkeys(("state_changes", "crashes", "bad_answers"), 0))
    clock = FakeClock(wall_s=1_780_000_000.0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_blob_bundle(folder / "blob")
        write_walk(folder / "walk.avi", frames=3)
        path = folder / "device.toml"
        path.write_text(CONFIG)
        config, in_force = config_in_force(path)
        sink, orders = Nowhere(), queue.SimpleQueue[Command]()
        runtime = stack.enter_context(Runtime(config, sink))
        answers: list[Draft] = []
        gate = stack.enter_context(
            CommandGate(
                TREE,
                config.commands,
                CommandJournal(folder / "commands.db"),
                boot_id="boot",
                clock=clock,
                submit=orders.put,
                reply=answers.append,
                synced=lambda: True,
            )
        )
        gate.report_config(in_force)
        answers.clear()
        executor = CommandExecutor(
            runtime, gate, orders, config=config, path=path, in_force=in_force, clock=clock
        )
        (stream,) = runtime.streams

        def state() -> tuple[object, ...]:
            told = (runtime.streams == (stream,), stream.overrides, stream.report.frames, sink.events)
            files = sorted(each.name for each in folder.iterdir() if not each.name.startswith("commands.db"))
            return (*told, runtime._stopped, executor.restart_wanted, runtime.alive(stream), files)

        before = state()
        handlers = {each.topic_filter: each.handler for each in gate.subscriptions()}
        take_command, take_desired = handlers[f"{TREE.root}/cmd/+"], handlers[TREE.desired_config]
        for _ in range(n):
            maker = rng.choices(makers, weights)[0]
            topic, payload, retained = maker(rng)
            clock.advance(0.2)
            take = take_desired if topic.endswith("/cfg/desired") else take_command
            try:
                counts["said_at_once"] += len(take(Inbound(topic, payload, retained=retained)))
                executor.step()
            except Exception:
                counts["crashes"] += 1
                logging.getLogger("edgeai").exception("%s %r", topic, payload[:500])
            after = state()
            if after != before:
                counts["state_changes"] += 1
                logging.getLogger("edgeai").error("%s: %r: %s", maker.__name__, payload[:500], after)
                before = after
            bad = [answer for answer in answers if not _sound(answer)]
            counts["bad_answers"] += len(bad)
            for answer in bad:
                logging.getLogger("edgeai").error("%s: %r: %s", maker.__name__, payload[:500], answer)
            counts["answers"] += len(answers)
            answers.clear()
        told = gate.counters
        counts["crashes"] += told.faults
        for name in ("received", "accepted", "refused", "broken", "repeated", "unanswered"):
            counts[name] = getattr(told, name)
    return dict(counts)


def _sound(answer: Draft) -> bool:
    """Whether it refuses, goes where answers go, and is what answers are."""
    body = json.loads(answer.body) if isinstance(answer.body, bytes) else {}
    if answer.topic == TREE.reported_config:
        return answer.retain and body["version"] == 0 and bool((body["refused"] or {}).get("reason"))
    sound = answer.topic == TREE.acknowledgement(body["id"]) and not answer.retain
    return sound and body["ok"] is False and bool(body["reason"]) and len(body["reason"]) <= 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    began_s = time.monotonic()
    counts = fuzz_commands(given.n, given.seed)
    print(json.dumps({**counts, "seconds": round(time.monotonic() - began_s, 1)}))
    return 1 if counts["state_changes"] or counts["crashes"] or counts["bad_answers"] else 0


if __name__ == "__main__":
    sys.exit(main())
