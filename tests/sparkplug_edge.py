"""An edge node without a broker, for tests: what it says goes straight to a host that knows the protocol."""

from __future__ import annotations

import json

import sparkplug_host as host
from sparkplug_host import Node

from edgeai.clock import FakeClock
from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.sparkplug import SparkplugSettings
from edgeai.sinks.sparkplug.composer import SparkplugComposer
from edgeai.sinks.sparkplug.session import SparkplugSession
from edgeai.types import Event

FACTS = DeviceFacts(
    "cam",
    (
        StreamFacts("gate", "camera", rules=(RuleFacts("door", "line", directions=("in", "out")),)),
        StreamFacts("hall", "microphone"),
    ),
)
NCMD, DCMD, STATE = "spBv1.0/plant/NCMD/cam", "spBv1.0/plant/DCMD/cam/gate", "spBv1.0/STATE/scada"
REBIRTH = host.command(("Node Control/Rebirth", True))


class Edge:
    """A composer and its session, messages between them as an outbox keeps them, and a host that reads all."""

    def __init__(self, folder, clock=None, **settings):
        self.clock = clock or FakeClock()
        self.composer = SparkplugComposer(SparkplugSettings(group_id="plant", **settings), FACTS)
        self.session = SparkplugSession(self.composer, state_folder=folder, clock=self.clock)
        self.node = Node("plant", "cam")
        self.waiting = []
        self.count = self.seq = 0

    def connect(self):
        self.death = self.session.will()
        self.say(self.session.birth())
        return self.death

    def say(self, announcements):
        for one in announcements:
            self.node.take(one.topic, one.payload, qos=one.qos, retained=one.retain)
        return announcements

    def put(self, n=None):
        self.count = self.count + 1 if n is None else n
        self.clock.advance(0.01)
        now_s = self.clock.monotonic_s()
        data = {"rule": "door", "totals": {"in": self.count}}
        event = Event("line_crossed", "gate", now_s, data, wall_time_s=self.clock.wall_s(), monotonic_s=now_s)
        for draft in self.composer(event):
            self.seq += 1
            self.waiting.append(
                Message(self.seq, draft.topic, draft.body, draft.qos, False, "event", "gate", 0.0, 0.0)
            )

    def send(self, n=1):
        for message in self.waiting[:n]:
            self.node.take(message.topic, self.session.outgoing(message))
        del self.waiting[:n]

    def hear(self, topic, payload, **more):
        for one in self.session.subscriptions:
            if one.topic_filter == topic or one.topic_filter == topic.rpartition("/")[0] + "/+":
                return self.say(one.handler(Inbound(topic, payload, **more)))
        raise AssertionError(topic)

    def state(self, online, timestamp=1):
        return self.hear(STATE, json.dumps({"online": online, "timestamp": timestamp}).encode())
