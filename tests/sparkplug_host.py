"""A Sparkplug host application for tests, independent of the code under test: it decodes protobuf by hand.

Wire types and varints: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from collections.abc import Callable

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

INT64, DOUBLE, BOOLEAN, STRING = 4, 10, 11, 12
VALUE_OF_TYPE = {INT64: "long", DOUBLE: "double", BOOLEAN: "boolean", STRING: "string"}


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def command(*metrics: tuple[str, bool], timestamp_ms: int = 1) -> bytes:
    """A command that sets boolean metrics by name."""
    return number(1, timestamp_ms) + b"".join(
        chunk(2, chunk(1, name.encode()) + number(4, BOOLEAN) + number(14, int(value)))
        for name, value in metrics
    )


def fields(raw: bytes) -> list[tuple[int, int | bytes]]:
    found, at = [], 0

    def read() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        key = read()
        if key & 7 == 0:
            found.append((key >> 3, read()))
            continue
        size = {1: 8, 5: 4}.get(key & 7) or read()
        assert key & 7 in (1, 2, 5) and at + size <= len(raw), raw
        found.append((key >> 3, raw[at : at + size]))
        at += size
    return found


METRIC = {
    1: "name",
    2: "alias",
    3: "timestamp",
    4: "datatype",
    5: "is_historical",
    6: "is_transient",
    7: "is_null",
}
VALUE = {10: "int", 11: "long", 12: "float", 13: "double", 14: "boolean", 15: "string", 16: "bytes"}


def decode(raw: bytes) -> dict:
    """timestamp and seq where they are there, and metrics, each with what it carries; value as (field, value)."""
    payload: dict = {"metrics": []}
    for field, value in fields(raw):
        if field == 2:
            payload["metrics"].append(decode_metric(value))
        else:
            payload[{1: "timestamp", 3: "seq"}[field]] = value
    return payload


def decode_metric(raw: bytes) -> dict:
    metric: dict = {}
    for field, value in fields(raw):
        if field in METRIC:
            metric[METRIC[field]] = value.decode() if field == 1 else value
            continue
        kind = VALUE[field]
        if kind == "double":
            value = struct.unpack("<d", value)[0]
        elif kind == "float":
            value = struct.unpack("<f", value)[0]
        elif kind == "boolean":
            value = bool(value)
        elif kind == "string":
            value = value.decode()
        elif kind == "long" and value >= 1 << 63:
            value -= 1 << 64
        metric["value"] = (kind, value)
    return metric


class Node:
    """What a host knows of one edge node from its messages, in their order; `faults` are breaches of the protocol.

    live: the current values by (device, name). history: (device, name, value, timestamp) of historical metrics.
    log: the type of every message. points: everything with (device, name, value, timestamp), births excepted.
    """

    def __init__(self, group: str, node: str) -> None:
        self.group, self.node = group, node
        self.online = False
        self.bd_seq = -1
        self.seq = -1
        self.born: set[str] = set()
        self.aliases: dict[int, tuple[str, str, int]] = {}
        self.live: dict[tuple[str, str], object] = {}
        self.stamps: dict[tuple[str, str], int] = {}
        self.history: list[tuple[str, str, object, int]] = []
        self.points: list[tuple[str, str, object, int]] = []
        self.log: list[str] = []
        self.deaths: list[int] = []
        self.births: list[int] = []
        self.faults: list[str] = []

    def values(self, name: str, *, history: bool = False) -> list[object]:
        """What came of a metric in data messages, in order; of the historical ones only with `history`."""
        return [value for _, one, value, _ in (self.history if history else self.points) if one == name]

    def take(self, topic: str, raw: bytes, *, qos: int = 0, retained: bool = False) -> None:
        _, group, kind, node, *rest = topic.split("/")
        assert (group, node) == (self.group, self.node), topic
        device = "/".join(rest)
        if kind in ("NCMD", "DCMD"):
            return
        self.log.append(kind)
        if retained:
            self.faults.append(f"{topic} is retained")
        payload = decode(raw)
        if "timestamp" not in payload:
            self.faults.append(f"{topic} has no timestamp")
        if kind == "NDEATH":
            self._death(payload)
            return
        self._check_seq(kind, payload)
        if kind == "NBIRTH":
            self._node_birth(payload)
        elif not self.online:
            self.faults.append(f"{kind} of a node that is not online")
        if kind in ("NBIRTH", "DBIRTH"):
            self.born.add(device)
            for metric in payload["metrics"]:
                self._define(device, metric)
        else:
            if device not in self.born:
                self.faults.append(f"{kind} before the birth of {device!r}")
            for metric in payload["metrics"]:
                self._value(device, metric)

    def _check_seq(self, kind: str, payload: dict) -> None:
        seq = payload.get("seq")
        expected = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        if seq != expected:
            self.faults.append(f"{kind} has the sequence number {seq}, expected {expected}")
        self.seq = -1 if seq is None else seq

    def _death(self, payload: dict) -> None:
        if "seq" in payload or [metric.get("name") for metric in payload["metrics"]] != ["bdSeq"]:
            self.faults.append(f"NDEATH holds {payload}")
        bd_seq = payload["metrics"][0]["value"]
        assert bd_seq[0] == "long"
        self.deaths.append(bd_seq[1])
        if bd_seq[1] == self.bd_seq:
            self.online = False
            self.born.clear()

    def _node_birth(self, payload: dict) -> None:
        named = {metric["name"]: metric for metric in payload["metrics"]}
        self.bd_seq = named["bdSeq"]["value"][1]
        self.births.append(self.bd_seq)
        rebirth = named["Node Control/Rebirth"]
        if rebirth["value"] != ("boolean", False) or "alias" in rebirth or rebirth["datatype"] != BOOLEAN:
            self.faults.append(f"Node Control/Rebirth is {rebirth}")
        self.online = True
        self.born.clear()
        self.aliases.clear()

    def _define(self, device: str, metric: dict) -> None:
        name = metric["name"]
        if not {"timestamp", "datatype"} <= metric.keys() or ("value" in metric) == bool(
            metric.get("is_null")
        ):
            self.faults.append(f"birth of {device!r} has {metric}")
        if "value" in metric and metric["value"][0] != VALUE_OF_TYPE[metric["datatype"]]:
            self.faults.append(f"{name} has datatype {metric['datatype']} and {metric['value']}")
        if "alias" in metric:
            if metric["alias"] in self.aliases:
                self.faults.append(f"alias {metric['alias']} is not unique")
            self.aliases[metric["alias"]] = (device, name, metric["datatype"])
        self.live[device, name] = metric["value"][1] if "value" in metric else None
        self.stamps[device, name] = metric["timestamp"]

    def _value(self, device: str, metric: dict) -> None:
        if "name" in metric or metric.get("alias") not in self.aliases:
            self.faults.append(f"data of {device!r} has {metric}, which no birth defined by alias")
            return
        owner, name, datatype = self.aliases[metric["alias"]]
        value = metric["value"][1] if "value" in metric else None
        if owner != device or (value is not None and metric["value"][0] != VALUE_OF_TYPE[datatype]):
            self.faults.append(f"data of {device!r} has {metric}, which is {owner!r} {name}")
        stamp = metric["timestamp"]
        self.points.append((device, name, value, stamp))
        if metric.get("is_historical"):
            self.history.append((device, name, value, stamp))
            return
        if stamp < self.stamps[device, name]:
            self.faults.append(
                f"{device!r} {name} goes back in time from {self.stamps[device, name]} to {stamp}"
            )
        self.stamps[device, name] = stamp
        self.live[device, name] = value


class HostApplication:
    """A node's host on a real broker: subscribes, tells its STATE where it is primary, asks for births."""

    def __init__(self, port: int, group: str, node: str, *, primary: str = "") -> None:
        self.node = Node(group, node)
        self.qos: set[tuple[str, int]] = set()
        self._state = f"spBv1.0/STATE/{primary}"
        self._stamp = int(time.time() * 1e3)
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"host-{os.urandom(6).hex()}", clean_session=True
        )
        if primary:
            self._client.will_set(self._state, self._told(False), qos=1, retain=True)
        self._client.on_connect = lambda client, *_: client.subscribe(f"spBv1.0/{group}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._ready.wait(15):
            pytest.fail("no SUBACK")
        if primary:
            self.tell_state(True)

    def tell_state(self, online: bool, *, later_ms: int = 0) -> None:
        self._stamp += later_ms
        self._client.publish(self._state, self._told(online), qos=1, retain=True).wait_for_publish(10)

    def ask_rebirth(self) -> None:
        self.command("NCMD", command(("Node Control/Rebirth", True)))

    def command(self, kind: str, raw: bytes, device: str = "") -> None:
        topic = f"spBv1.0/{self.node.group}/{kind}/{self.node.node}" + (f"/{device}" if device else "")
        self._client.publish(topic, raw, qos=0).wait_for_publish(10)

    def wait_for(self, enough: Callable[[Node], bool], *, timeout_s: float = 20.0) -> bool:
        with self._news:
            return self._news.wait_for(lambda: enough(self.node), timeout_s)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> HostApplication:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _told(self, online: bool) -> str:
        return json.dumps({"online": online, "timestamp": self._stamp})

    def _take(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        with self._news:
            self.qos.add((message.topic.split("/")[2], message.qos))
            self.node.take(message.topic, message.payload, retained=message.retain)
            self._news.notify_all()
