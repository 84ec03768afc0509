"""A paho client that does for a Session what its interface says: will, subscriptions, birth, answers, farewell."""

from __future__ import annotations

import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

_READY_S = 20.0


class SessionClient:
    """Connected, its birth acknowledged, when `with` begins."""

    def __init__(self, port, session):
        self._port = port
        self._session = session
        self._ready = threading.Event()
        self._dead = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        will = session.will()
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_connect = self._connected
        self._client.on_message = self._message

    def _connected(self, client, data, flags, reason, properties):
        for subscription in self._session.subscriptions:
            client.subscribe(subscription.topic_filter, subscription.qos)
        for one in self._session.birth():
            client.publish(one.topic, one.payload, one.qos, one.retain)
        self._ready.set()

    def _message(self, client, data, message):
        from edgeai.sinks.mqtt.session import Inbound

        for subscription in self._session.subscriptions:
            if paho.topic_matches_sub(subscription.topic_filter, message.topic):
                for one in subscription.handler(Inbound(message.topic, message.payload, message.retain)):
                    client.publish(one.topic, one.payload, one.qos, one.retain)

    def publish(self, drafts):
        """Drafts whose bodies are bytes, in order; back when all are out."""
        sent = [self._client.publish(one.topic, one.body, one.qos, one.retain) for one in drafts]
        for one in sent:
            one.wait_for_publish(_READY_S)

    def die(self):
        """The connection ends without a word: the broker publishes the will."""
        self._dead = True
        self._client.loop_stop()
        self._client.socket().close()

    def __enter__(self):
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._ready.wait(_READY_S):
            pytest.fail("no CONNACK")
        self.flush()
        return self

    def flush(self):
        """What was published before is at the broker."""
        self._client.publish("test/flush", b"", 1).wait_for_publish(_READY_S)

    def __exit__(self, *_):
        if not self._dead:
            for one in self._session.farewell():
                self._client.publish(one.topic, one.payload, one.qos, one.retain)
            self.flush()
            self._client.disconnect()
        self._client.loop_stop()
