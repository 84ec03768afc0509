"""A subscriber as a process of its own: python -m compress.demo.subscriber PORT TOPIC FILE.

Prints a line for each event and appends it to FILE, which exists once the subscription stands.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def main(port: int, topic: str, path: Path) -> None:
    """Runs until it is terminated. A persistent session: what comes while it is away is kept for it by the broker."""
    # MQTT 3.1.1, which every broker speaks; clean_session False is its persistent session
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="demo-subscriber", clean_session=False, protocol=paho.MQTTv311
    )
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    seen: set[str] = set()

    def on_connect(client: paho.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        client.subscribe(topic, qos=1)

    def on_subscribe(*_: Any) -> None:
        path.touch()

    def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        event = json.loads(message.payload)
        if event["id"] in seen:  # QoS 1 may bring a message twice; its id tells
            return
        seen.add(event["id"])
        with path.open("a") as file:
            file.write(json.dumps(event) + "\n")
        data = event["data"]
        details = " ".join(
            str(data[key]) for key in ("rule", "direction", "label", "track_id", "keyword") if key in data
        )
        print(f"  received: {event['time_s']:7.1f} s  {event['type']:<14} {details}", flush=True)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
