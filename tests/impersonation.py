"""Everybody tries to be somebody else at the shipped broker: what of it was delivered, as rows for a table.

Delivery counts, not SUBACK or PUBACK: mosquitto grants subscriptions that it denies and acknowledges publishes that it
throws away. An observer who may read everything, and the victims themselves, tell.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.client import topic_matches_sub
from paho.mqtt.enums import CallbackAPIVersion
from reporter import Reporter
from shipped_broker import ShippedBroker, certificate_with_cn, strangers_certificate

from edgeai.types import Event

SITE = "edge/v1/acme/s1"
REPORTS = (
    "state", "info", "health", "event/gate", "telemetry/gate", "image/gate", "image/gate/thumbnail", "batch/gate/gzip", "ack/17", "cfg/reported", "ota/status",
)  # fmt: skip
ORDERS = ("cmd/restart", "cfg/desired", "ota/job")
VICTIMS = ("gate-1", "gate-2")
ODD = {"odd-hash": "#", "odd-plus": "+", "odd-level": "gate-1/event", "odd-all": "gate-1/#"}
"""Certificates that a careless operator might sign: file and CN."""
ATTACKERS = (
    *VICTIMS,
    "gate-9",
    "operator",
    "dashboard",
    "homeassistant",
    *ODD,
    "anonymous",
    "gate-1-strange",
)
"""gate-9 is a device of another site, whose settings say so, with a certificate of the same authority."""

_READS = tuple(
    f"{SITE}/+/{one}"
    for one in (
        "state",
        "info",
        "health",
        "event/+",
        "telemetry/+",
        "image/+",
        "image/+/thumbnail",
        "batch/+/+",
    )
)
_RIGHTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # who: what it may rightly publish, what it may rightly hear, beside a device's own branch
    "operator": (tuple(f"{SITE}/+/{one}" for one in ("cmd/+", "cfg/desired", "ota/job")), (f"{SITE}/#", "$SYS/broker/#")),
    "dashboard": ((), (*_READS, f"{SITE}/+/cfg/reported", f"{SITE}/+/ota/status")),
    "homeassistant": (("homeassistant/status",), (*_READS, f"{SITE}/+/ack/+", "homeassistant/#")),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One kind of attempt of one client on one other. legitimate: a control, of which everything must be delivered."""

    attempt: str
    attacker: str
    victim: str
    tried: int
    delivered: int
    legitimate: bool = False


class Probe:
    """A client with a name's certificate that does as it is told. connected: whether the broker took it. clean: False for
    a session that outlives the connection (3.1.1).
    """

    def __init__(
        self,
        broker: ShippedBroker,
        name: str,
        *,
        newer: bool = True,
        claim: str = "",
        will: tuple[str, bytes] | None = None,
        clean: bool = True,
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._told = threading.Event()
        self._acked: set[int] = set()
        self._open: list[int] = []
        self._news = threading.Condition()
        self.connected = False
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=claim or f"probe-{name}",
            protocol=paho.MQTTv5 if newer else paho.MQTTv311,
            clean_session=None if newer else clean,
            reconnect_on_failure=False,
        )
        context = ssl.create_default_context(cafile=broker.certificates / "ca.pem")
        if name != "anonymous":
            context.load_cert_chain(broker.certificates / f"{name}.pem", broker.certificates / f"{name}.key")
        client.tls_set_context(context)
        if claim:
            client.username_pw_set(claim, "guess")
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = lambda *_: self._told.set()
        client.on_message = lambda _, data, message: self.heard.append((message.topic, message.payload))
        client.on_publish = lambda _, data, mid, *more: self._ack(mid)
        client.on_subscribe = lambda _, data, mid, *more: self._ack(mid)
        with contextlib.suppress(OSError):
            client.connect("localhost", broker.port)
            client.loop_start()
            assert self._told.wait(10), f"no answer to {name}"

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Back when it is acknowledged, whatever that says."""
        self.hand_over(topic, payload, qos=qos, retain=retain)
        self.settle()

    def hand_over(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """`settle` waits for the acknowledgement."""
        with contextlib.suppress(ValueError):  # paho's own check of the topic
            self._open.append(self._client.publish(topic, payload, qos=qos, retain=retain).mid)

    def settle(self) -> None:
        for mid in self._open:
            self._wait_for(mid)
        self._open.clear()

    def subscribe(self, *filters: str) -> None:
        for one in filters:  # one by one: the broker hangs up at some
            _, mid = self._client.subscribe(one, qos=1)
            if mid is not None:
                self._wait_for(mid)

    def vanish(self) -> None:
        """The connection ends without a DISCONNECT."""
        sock: Any = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.connected = not reason.is_failure
        self._told.set()

    def _ack(self, mid: int) -> None:
        with self._news:
            self._acked.add(mid)
            self._news.notify_all()

    def _wait_for(self, mid: int) -> None:
        with self._news:
            self._news.wait_for(lambda: mid in self._acked or not self._client.is_connected(), 10)


def run_matrix(broker: ShippedBroker, folder: Path) -> list[Row]:
    """All attackers on all victims, in MQTT 5 and 3.1.1, then the controls. `broker` is running; takes some seconds."""
    strangers_certificate(broker.certificates, "gate-1")
    for file, cn in ODD.items():
        certificate_with_cn(broker.certificates, file, cn)
    rows: list[Row] = []
    with Probe(broker, "observer") as observer:
        observer.subscribe("#", "$SYS/#")
        for victim in VICTIMS:
            rows += _on_victim(broker, folder, observer, victim)
        rows += _controls(broker, folder, observer)
    return rows


def print_table(rows: list[Row]) -> str:
    """One line an attempt: pairs, tries, delivered; the controls below."""
    lines = [f"{'attempt':44} {'pairs':>6} {'tried':>7} {'delivered':>10}"]
    for legitimate in (False, True):
        lines += [
            f"-- {'legitimate (all must be delivered)' if legitimate else 'impersonation (0 must be delivered)'} --"
        ]
        some = sorted((row for row in rows if row.legitimate == legitimate), key=lambda row: row.attempt)
        for attempt, group in itertools.groupby(some, key=lambda row: row.attempt):
            of_it = list(group)
            pairs = len({(row.attacker, row.victim) for row in of_it})
            tried, delivered = (sum(getattr(row, name) for row in of_it) for name in ("tried", "delivered"))
            lines.append(f"{attempt:44} {pairs:>6} {tried:>7} {delivered:>10}")
        lines.append(
            f"{'all':44} {'':>6} {sum(row.tried for row in some):>7} {sum(row.delivered for row in some):>10}"
        )
    return "\n".join(lines)


def _may(who: str, topic: str, *, hear: bool) -> bool:
    own = who in VICTIMS or who == "gate-9"
    if own and topic.startswith(f"{SITE}/{who}/"):
        return True
    if own and hear and topic == "homeassistant/status":
        return True
    return any(topic_matches_sub(one, topic) for one in _RIGHTS.get(who, ((), ()))[hear])


def _targets(victim: str) -> Iterator[tuple[str, str]]:
    """(kind of attempt, topic) for what a stranger could want to say in the victim's name, or to it."""
    for leaf in REPORTS:
        yield f"publish on {leaf.removesuffix('/gate').removesuffix('/17')}", f"{SITE}/{victim}/{leaf}"
    for leaf in ORDERS:
        yield f"publish on {leaf}", f"{SITE}/{victim}/{leaf}"
    yield "publish on other topics of the device", f"{SITE}/{victim}/event"
    yield "publish on other topics of the device", f"{SITE}/{victim}/new/branch"
    for other in ("edge/v1/acme/s2", "edge/v1/other/s1", "edge/v2/acme/s1"):
        yield "publish on another site or tenant", f"{other}/{victim}/event/gate"
    yield "homeassistant spoof", f"homeassistant/device/{victim}/config"
    yield "homeassistant spoof", f"homeassistant/sensor/{victim}/x/config"
    yield "homeassistant spoof", "homeassistant/status"
    for topic in (
        "frigate/available", f"frigate/{victim}/events", "hermes/intent/x", f"spBv1.0/acme/NDEATH/{victim}",
        f"spBv1.0/acme/NCMD/{victim}", "spBv1.0/STATE/scada",
    ):  # fmt: skip
        yield "publish in a dialect", topic
    yield "publish on $SYS", "$SYS/broker/uptime"


def _on_victim(broker: ShippedBroker, folder: Path, observer: Probe, victim: str) -> list[Row]:
    rows: list[Row] = []
    number = itertools.count()
    filters = ("cmd/+", "cfg/desired", "ota/job", "homeassistant/status")
    with Reporter(
        broker.settings(victim, client_id=victim), folder, device=victim, filters=filters
    ) as device:
        assert device.sink.send(Event("tick", "gate", 0.0)) is None
        assert device.sink.flush(10)
        for attacker, newer in itertools.product(ATTACKERS, (True, False)):
            if attacker == victim:
                continue

            def mark(attacker: str = attacker) -> bytes:
                return f"attack-{victim}-{attacker}-{next(number)}".encode()

            rows += _publishes(broker, observer, device, attacker, victim, newer, mark)
            rows += _wills(broker, observer, device, attacker, victim, newer, mark)
            rows += _take_over(broker, observer, device, attacker, victim, newer)
            rows += _subscribes(broker, device, attacker, victim, newer)
        counters = device.sink.counters
        lost = counters.connections - 1 + (not counters.connected)
        rows.append(Row("victim's connection ended", "all", victim, 1, lost))
    return rows


def _seen(observer: Probe, device: Reporter, marker: bytes) -> int:
    return int(
        any(payload == marker for _, payload in observer.heard)
        or any(one.payload == marker for one in device.heard)
    )


def _fence(broker: ShippedBroker, observer: Probe) -> None:
    """Back when the observer has got whatever the broker took before: one thread serves all, in order."""
    observer.publish("fence/denied", b"")


def _publishes(
    broker: Any, observer: Any, device: Any, attacker: str, victim: str, newer: bool, mark: Any
) -> list[Row]:
    tried: list[tuple[str, bytes]] = []
    with Probe(broker, attacker, newer=newer) as probe:
        for kind, topic in _targets(victim):
            if _may(attacker, topic, hear=False):
                continue
            for qos, retain in ((0, False), (1, False), (1, True)):
                marker = mark()
                tried.append((kind if not retain else "publish retained", marker))
                probe.hand_over(topic, marker, qos=qos, retain=retain)
            tried.append(("erase what is retained", b""))
            probe.hand_over(topic, b"", retain=True)
        probe.settle()
    _fence(broker, observer)
    rows = [
        Row(kind, attacker, victim, 1, _seen(observer, device, marker)) for kind, marker in tried if marker
    ]
    erasures = sum(not marker for _, marker in tried)
    erased = sum(payload == b"" for topic, payload in observer.heard if victim in topic)
    with Probe(broker, "dashboard") as late:
        late.subscribe(f"{SITE}/{victim}/state")
        late.publish("fence/denied", b"")
        lost = not any(b"online" in payload for _, payload in late.heard)
    return [*rows, Row("erase what is retained", attacker, victim, erasures, erased + lost)]


def _wills(
    broker: Any, observer: Any, device: Any, attacker: str, victim: str, newer: bool, mark: Any
) -> list[Row]:
    rows = []
    for leaf in ("state", "event/gate", "cmd/restart"):
        topic, marker = f"{SITE}/{victim}/{leaf}", mark()
        if _may(attacker, topic, hear=False):
            continue
        probe = Probe(broker, attacker, newer=newer, will=(topic, marker))
        probe.vanish()
        Probe(
            broker, attacker, newer=newer
        ).close()  # the same client id: the broker has ended the one before
        _fence(broker, observer)
        rows.append(
            Row("last will on the other's topic", attacker, victim, 1, _seen(observer, device, marker))
        )
    return rows


def _take_over(broker: Any, observer: Any, device: Any, attacker: str, victim: str, newer: bool) -> list[Row]:
    before, heard = device.sink.counters.connections, len(observer.heard)
    with Probe(broker, attacker, newer=newer, claim=victim) as probe:
        probe.publish(f"{SITE}/{victim}/event/gate", b"attack-claimed")
    _fence(broker, observer)
    device.sink.send(Event("tick", "gate", 0.0))
    assert device.sink.flush(10)
    news = observer.heard[heard:]
    taken = device.sink.counters.connections != before
    fired = any(topic == f"{SITE}/{victim}/state" and b"offline" in payload for topic, payload in news)
    spoken = any(payload == b"attack-claimed" for _, payload in news)
    return [Row("take over the client id", attacker, victim, 1, int(taken or fired or spoken))]


def _subscribes(broker: Any, device: Any, attacker: str, victim: str, newer: bool) -> list[Row]:
    filters = (
        f"{SITE}/{victim}/cmd/#", f"{SITE}/{victim}/#", f"{SITE}/+/cfg/desired", "edge/v1/#", "#", "$SYS/#",
        "homeassistant/#", "+/+/+/+/+/event/+", f"$share/g/{SITE}/#",
    )  # fmt: skip
    with Probe(broker, attacker, newer=newer) as probe:
        probe.subscribe(*filters)
        if attacker != "operator":
            with Probe(broker, "operator") as operator:
                operator.publish(f"{SITE}/{victim}/cmd/restart", b"for the victim only")
                operator.publish(f"{SITE}/{victim}/cfg/desired", b"for the victim only", retain=True)
        device.sink.send(Event("tick", "gate", 0.0))
        device.sink.send(Event("totals", "gate", 0.0, priority="telemetry"))
        assert device.sink.flush(10)
        probe.publish("fence/denied", b"")
        foreign = [topic for topic, _ in probe.heard if not _may(attacker, topic, hear=True)]
    return [Row("hear what is not its own", attacker, victim, len(filters), len(foreign))]


def _controls(broker: ShippedBroker, folder: Path, observer: Probe) -> list[Row]:
    rows: list[Row] = []

    def row(attempt: str, who: str, whom: str, delivered: bool) -> None:
        rows.append(Row(attempt, who, whom, 1, int(delivered), legitimate=True))

    for name, newer in itertools.product((*VICTIMS, "gate-9"), (True, False)):
        with Probe(broker, name, newer=newer) as device:
            for leaf in REPORTS:
                marker = f"right-{name}-{newer}-{leaf}".encode()
                device.publish(f"{SITE}/{name}/{leaf}", marker)
                _fence(broker, observer)
                row(
                    "device reports",
                    name,
                    "observer",
                    any(payload == marker for _, payload in observer.heard),
                )
            device.publish(
                f"homeassistant/device/{name}/config", marker := f"right-{name}-{newer}-config".encode()
            )
            _fence(broker, observer)
            row(
                "device announces itself",
                name,
                "homeassistant",
                any(payload == marker for _, payload in observer.heard),
            )
        marker = f"right-{name}-{newer}-will".encode()
        Probe(broker, name, newer=newer, will=(f"{SITE}/{name}/state", marker)).vanish()
        Probe(broker, name, newer=newer).close()
        _fence(broker, observer)
        row(
            "device's own last will",
            name,
            "observer",
            any(payload == marker for _, payload in observer.heard),
        )
    filters = ("cmd/+", "cfg/desired", "ota/job", "homeassistant/status")
    for victim in VICTIMS:
        with (
            Reporter(
                broker.settings(victim, client_id=victim), folder, device=victim, filters=filters
            ) as device,
            Probe(broker, "operator") as operator,
            Probe(broker, "homeassistant") as home,
            Probe(broker, "dashboard") as dashboard,
        ):
            device.sink.send(Event("tick", "gate", 0.0))
            assert device.sink.flush(10)
            for reader in (dashboard, home, operator):
                reader.subscribe(f"{SITE}/+/event/+", f"{SITE}/+/state")
            for who, leaf in itertools.product([operator], ORDERS):
                who.publish(f"{SITE}/{victim}/{leaf}", f"right-{leaf}".encode())
            home.publish("homeassistant/status", b"right-online")
            event = Event("tick", "gate", 0.0)
            device.sink.send(event)
            assert device.sink.flush(10)
            # what the device was sent lies before the acknowledgement of its own event
            got = {one.payload for one in device.heard}
            for leaf in ORDERS:
                row("operator's orders", "operator", victim, f"right-{leaf}".encode() in got)
            row("Home Assistant's birth", "homeassistant", victim, b"right-online" in got)
            for who, reader in (("dashboard", dashboard), ("homeassistant", home), ("operator", operator)):
                reader.publish("fence/denied", b"")
                row(
                    "readers hear events",
                    who,
                    victim,
                    any(event.id.encode() in payload for _, payload in reader.heard),
                )
                row(
                    "readers hear the state",
                    who,
                    victim,
                    any(topic.endswith("/state") for topic, _ in reader.heard),
                )
    return rows
