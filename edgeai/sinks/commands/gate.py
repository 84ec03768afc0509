"""Commands that come over MQTT: who may, what, until when, and once only; whoever carries them out is told by `submit`.

An answer goes to <root>/ack/<id> and never to the response topic of MQTT 5: the sender would choose where this device
publishes, with this device's rights.
"""

from __future__ import annotations

import json
import logging
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edgeai.clock import Clock, clock_synced
from edgeai.errors import EdgeError, SinkError
from edgeai.faults import nearest_hint, shown
from edgeai.sinks.commands.journal import CommandJournal
from edgeai.sinks.commands.limits import REFUSAL_BURST, REFUSALS_PER_S, CommandCounters
from edgeai.sinks.commands.table import (
    COMMAND_NAMES,
    MAX_COMMAND_BYTES,
    MAX_DESIRED_BYTES,
    MAX_VERSION,
    Command,
    CommandFaultError,
    CommandMessage,
    CommandName,
    CommandSettings,
    Outcome,
    is_command_id,
    issued_wall_s,
    parse_arguments,
    parse_message,
    parse_object,
)
from edgeai.sinks.mqtt.session import Announcement, Inbound, Subscription
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.pace import Pace
from edgeai.sinks.payload import iso_utc
from edgeai.sinks.topics import TopicTree
from edgeai.types import DEVICE_STREAM, JsonValue

_log = logging.getLogger(__name__)

SCHEMA: Final = 1
MAX_RESULT_BYTES: Final = 16 << 10
MAX_REASON: Final = 500
# a clock that says it is right and shows an earlier time than this was never set
_SANE_WALL_S: Final = 1_704_067_200.0  # 2024-01-01
_CLOCK_SLACK_S: Final = 60.0  # how far two good clocks may be apart


@dataclass(frozen=True, slots=True)
class ConfigInForce:
    """version: of the desired configuration, 0 where the file is in force. sha256: of the text in force, hexadecimal."""

    version: int
    sha256: str


class CommandGate:
    """Takes messages on any connection's thread, hands good ones to `submit`, and is told by `finish` what became of them.

    - A command is noted in the journal, on the disk, before `submit` sees it; an id that is known there is never
      submitted again, its answer is sent again.
    - A retained command is refused: it would come again at every connecting. cfg/desired is retained by design.
    - issued_at counts only while this device's clock is known to be right; else a command is as old as its arrival.
    - Refusals are no event worth keeping: they are the first to go where the outbox is full, and at most 10 a second
      are answered.
    """

    def __init__(
        self,
        topics: TopicTree,
        settings: CommandSettings,
        journal: CommandJournal,
        *,
        boot_id: str,
        clock: Clock,
        submit: Callable[[Command], None],
        reply: Callable[[Draft], object],
        synced: Callable[[], bool | None] = clock_synced,
    ) -> None:
        """submit, reply: return at once; reply may raise SinkError."""
        self.counters = CommandCounters()
        self._topics = topics
        self._settings = settings
        self._journal = journal
        self._boot_id = boot_id
        self._clock = clock
        self._submit = submit
        self._reply = reply
        self._synced = synced
        self._lock = threading.Lock()  # what follows; never held while the disk is written
        self._waiting = 0
        self._in_force: ConfigInForce | None = None
        self._refused_early: JsonValue = None  # before it was known what is in force
        self._told: set[str] = set()
        self._allowance = Pace(REFUSALS_PER_S, burst=REFUSAL_BURST)

    def open(self) -> None:
        """Before the connection: open the journal. What an earlier start left unanswered was interrupted, which
        `catch_up` tells. A journal that fails is told; commands are refused until it is back.
        """
        try:
            self._journal.open()
            for entry in self._journal.unfinished():
                lost = Outcome(
                    False, "the device ended before it was carried out; send it again with a new id"
                )
                self._journal.finish(entry.id, self._answer(entry.id, entry.name, lost))
        except SinkError as error:
            _log.error("%s; commands are refused until it is back", error)

    def catch_up(self) -> None:
        """Once `reply` works: send the answers that may not have reached it."""
        try:
            for entry in self._journal.untold():
                self._send_answer(entry.id, entry.answer or b"")
        except SinkError as error:
            _log.error("%s", error)

    def close(self) -> None:
        """After the connection: close the journal."""
        self._journal.close()

    def __enter__(self) -> CommandGate:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def subscriptions(self) -> tuple[Subscription, ...]:
        """What the connection listens to."""
        return (
            Subscription(f"{self._topics.root}/cmd/+", self.take_command),
            Subscription(self._topics.desired_config, self.take_desired),
        )

    def take_command(self, inbound: Inbound) -> Sequence[Announcement]:
        """A message on cmd/<name>. Never raises; what is answered goes through `reply`, so nothing is returned."""
        self._guarded(self._take_command, inbound)
        return ()

    def take_desired(self, inbound: Inbound) -> Sequence[Announcement]:
        """A message on cfg/desired. An empty one, which takes the retained one away, means nothing."""
        self._guarded(self._take_desired, inbound)
        return ()

    def finish(self, command: Command, outcome: Outcome) -> None:
        """Answer a command that was submitted, once. Never raises; the answer is on the disk when this returns,
        unless the disk fails.
        """
        with self._lock:
            self._waiting -= 1
        _log.info(
            "command %s %s: %s", command.name, command.id, "done" if outcome.ok else f"refused: {outcome.reason}"
        )  # fmt: skip
        if command.name == "configure":
            return
        answer = self._answer(command.id, command.name, outcome)
        try:
            self._journal.finish(command.id, answer)
        except SinkError as error:
            _log.error("command %s %s: %s", command.name, command.id, error)
        self._send_answer(command.id, answer)

    def report_config(self, in_force: ConfigInForce) -> None:
        """Say on cfg/reported what is in force: at each start, and after each change."""
        with self._lock:
            self._in_force = in_force
            refused, self._refused_early = self._refused_early, None
        self._report(in_force, refused)

    def refuse_config(self, version: int | None, reason: str) -> None:
        """Say on cfg/reported why a desired configuration was not taken, beside what is in force."""
        _log.warning("desired configuration %s refused: %s", version, reason)
        refused: dict[str, JsonValue] = {"version": version, "reason": reason[:MAX_REASON]}
        with self._lock:
            in_force = self._in_force
            if in_force is None:
                self._refused_early = refused
                return
        self._report(in_force, refused)

    def _guarded(self, take: Callable[[Inbound], None], inbound: Inbound) -> None:
        self.counters.received += 1
        try:
            take(inbound)
        except Exception:  # one that upsets us comes again at each connecting: it must not end the connection
            self.counters.faults += 1
            self._log_once("fault", logging.ERROR, "a command met a fault of the program", trace=True)

    def _take_command(self, inbound: Inbound) -> None:
        prefix = f"{self._topics.root}/cmd/"
        name = inbound.topic.removeprefix(prefix)
        if name == inbound.topic or "/" in name:
            self._broken("it came on another topic")
            return
        if len(inbound.payload) > MAX_COMMAND_BYTES:
            self._broken(f"it has more than {MAX_COMMAND_BYTES >> 10} KiB")
            return
        try:
            document = parse_object(inbound.payload)
        except CommandFaultError as error:
            self._broken(str(error))
            return
        command_id = _sound_id(document)
        if not command_id:
            self._broken("it has no id of 1 to 64 letters, digits, '.', '_' and '-'")
            return
        try:
            known = self._journal.find(command_id)
            if known is not None:
                self.counters.repeated += 1
                if known.answer is not None and not inbound.retained and self._may_answer():
                    self._send_answer(known.id, known.answer)
                return
            command = self._checked(name, document, retained=inbound.retained)
            self._take_place()
            try:
                self._journal.begin(command.id, command.name)
            except BaseException:
                with self._lock:
                    self._waiting -= 1
                raise
        except EdgeError as error:
            self._refuse(command_id, name, str(error))
            return
        self.counters.accepted += 1
        self._submit(command)

    def _take_desired(self, inbound: Inbound) -> None:
        if inbound.topic != self._topics.desired_config:
            self._broken("it came on another topic")
            return
        if not inbound.payload:
            return
        version: int | None = None
        try:
            if len(inbound.payload) > MAX_DESIRED_BYTES:
                raise CommandFaultError(f"it has more than {MAX_DESIRED_BYTES >> 10} KiB")
            document = parse_object(inbound.payload)
            given = document.get("version")
            version = given if type(given) is int and 0 <= given <= MAX_VERSION else None
            self._check_allowed("configure")
            args = parse_arguments("configure", document)
            self._take_place()
        except EdgeError as error:
            self.counters.refused += 1
            if self._may_answer():
                self.refuse_config(version, str(error))
            return
        self.counters.accepted += 1
        self._submit(Command("", "configure", args, self._clock.monotonic_s() + self._settings.max_ttl_s))

    def _checked(self, name: str, document: dict[str, object], *, retained: bool) -> Command:
        """The command, every check passed that needs no device. Raises CommandFaultError with the reason."""
        if retained:
            raise CommandFaultError("it is retained: publish commands without retain")
        command_name = _known(name)
        if command_name is None:
            names = [each for each in COMMAND_NAMES if each != "configure"]
            raise CommandFaultError(f"there is no command {shown(name)}; {nearest_hint(name[:64], names)}")
        if command_name == "configure":
            raise CommandFaultError("the configuration is set on cfg/desired, retained")
        self._check_allowed(command_name)
        message = parse_message(document)
        args = parse_arguments(command_name, message.args)
        return Command(message.id, command_name, args, self._clock.monotonic_s() + self._left_s(message))

    def _check_allowed(self, name: CommandName) -> None:
        if name not in self._settings.allow:
            allowed = ", ".join(self._settings.allow) or "none"
            raise CommandFaultError(
                f"{name} is not allowed on this device; commands.allow in its configuration has {allowed}"
            )

    def _left_s(self, message: CommandMessage) -> float:
        """Seconds that the command is still good for. Raises CommandFaultError for one that is expired."""
        ttl_s = self._settings.ttl_s if message.ttl_s is None else message.ttl_s
        if ttl_s > self._settings.max_ttl_s:
            raise CommandFaultError(f"ttl_s: must be at most {self._settings.max_ttl_s:g}, is {ttl_s:g}")
        if message.issued_at is None:
            return ttl_s
        issued_s, now_s = issued_wall_s(message.issued_at), self._clock.wall_s()
        if self._synced() is not True or now_s < _SANE_WALL_S:
            return ttl_s
        age_s = now_s - issued_s
        if age_s > ttl_s:
            raise CommandFaultError(f"it has expired: issued {age_s:.0f} s ago, good for {ttl_s:g} s")
        if age_s < -_CLOCK_SLACK_S:
            raise CommandFaultError(f"issued_at: lies {-age_s:.0f} s ahead of this device's clock")
        return min(ttl_s, ttl_s - age_s)

    def _take_place(self) -> None:
        with self._lock:
            if self._waiting >= self._settings.queue:
                raise CommandFaultError(f"busy: {self._waiting} commands wait; send it again later")
            self._waiting += 1

    def _refuse(self, command_id: str, name: str, reason: str) -> None:
        """Without a note in the journal: nothing was done, and the same message is refused again."""
        self.counters.refused += 1
        if self._may_answer():
            _log.info("command %s %s refused: %s", shown(name), command_id, reason)
            self._send(self._answer_draft(command_id, self._answer(command_id, name[:64], Outcome(False, reason)), refusal=True))  # fmt: skip

    def _broken(self, reason: str) -> None:
        self.counters.broken += 1
        self._log_once(reason, logging.WARNING, f"a message that is no command was ignored: {reason}")

    def _log_once(self, key: str, level: int, text: str, *, trace: bool = False) -> None:
        if key not in self._told and len(self._told) < 100:
            self._told.add(key)
            _log.log(level, "%s; said once", text, exc_info=trace)

    def _may_answer(self) -> bool:
        with self._lock:
            if self._allowance.take_one(self._clock.monotonic_s()):
                return True
            self.counters.unanswered += 1
            return False

    def _send_answer(self, command_id: str, answer: bytes) -> None:
        if self._send(self._answer_draft(command_id, answer)):
            try:
                self._journal.told(command_id)
            except SinkError as error:
                _log.error("command %s: %s", command_id, error)

    def _send(self, draft: Draft) -> bool:
        try:
            self._reply(draft)
        except SinkError as error:
            self._log_once("reply", logging.ERROR, f"an answer to a command could not be stored: {error}")
            return False
        return True

    def _answer_draft(self, command_id: str, answer: bytes, *, refusal: bool = False) -> Draft:
        return Draft(
            self._topics.acknowledgement(command_id),
            answer,
            qos=1,
            priority="telemetry" if refusal else "event",
            stream=DEVICE_STREAM,
        )

    def _answer(self, command_id: str, name: str, outcome: Outcome) -> bytes:
        facts: dict[str, JsonValue] = {
            "schema": SCHEMA,
            "id": command_id,
            "name": name,
            "ok": outcome.ok,
            "reason": outcome.reason[:MAX_REASON] or None,
            "result": outcome.result,
        }
        encoded = self._encoded(facts)
        if len(encoded) > MAX_RESULT_BYTES:
            encoded = self._encoded({**facts, "result": None})
        return encoded

    def _report(self, in_force: ConfigInForce, refused: JsonValue) -> None:
        body = self._encoded(
            {
                "schema": SCHEMA,
                "version": in_force.version,
                "sha256": in_force.sha256,
                "source": "desired" if in_force.version else "file",
                "refused": refused,
            }
        )
        self._send(
            Draft(
                self._topics.reported_config,
                body,
                qos=1,
                retain=True,
                priority="telemetry",
                stream=DEVICE_STREAM,
                latest=True,
            )
        )

    def _encoded(self, facts: dict[str, JsonValue]) -> bytes:
        where = {
            "device": self._topics.device,
            "boot_id": self._boot_id,
            "wall_time": iso_utc(self._clock.wall_s()),
        }
        # ASCII: a text that we quote may hold half a surrogate pair
        return json.dumps({**facts, **where}, allow_nan=False, separators=(",", ":")).encode()


def _known(name: str) -> CommandName | None:
    return next((each for each in COMMAND_NAMES if each == name), None)


def _sound_id(document: dict[str, object]) -> str:
    """The message's id, "" where there is none that could be a topic's level."""
    found = document.get("id")
    return found if isinstance(found, str) and is_command_id(found) else ""
