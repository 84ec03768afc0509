"""Hermes, the topics of Rhasspy: what a microphone hears becomes a hotword, a text and an intent.

Fields are those of the Hermes reference of Rhasspy 2.5; what a keyword model does not know (sensitivity, tokens,
language) is left out, which its readers take for their defaults.
"""

from __future__ import annotations

import json
from typing import Final

from edgeai.sinks.dialects.settings import HermesSettings
from edgeai.sinks.dialects.words import numeral, topic_level
from edgeai.sinks.outbox.message import Draft, Message
from edgeai.sinks.store_and_forward import Compose
from edgeai.types import Event, JsonValue

TEXT_CAPTURED: Final = "hermes/asr/textCaptured"
INTENT_GOOD_FOR_S: Final = 60.0


def is_stale_intent(message: Message, wall_s: float, monotonic_s: float) -> bool:
    """Whether a message is Hermes' and waited too long: what was said an hour ago must not open the gate now."""
    if not message.topic.startswith("hermes/"):
        return False
    # a monotonic time ahead of ours is of another start of the machine
    waited_s = monotonic_s - message.monotonic_s
    return not 0 <= waited_s <= INTENT_GOOD_FOR_S or wall_s - message.wall_s > INTENT_GOOD_FOR_S


def compose_hermes(settings: HermesSettings, *, device: str) -> Compose:
    """What turns a keyword event into its Hermes messages, and other events into none.

    A wake word gives hermes/hotword/<id>/detected; any other keyword gives hermes/asr/textCaptured and
    hermes/intent/<keyword>, both with the session of this one utterance. Holds no state.
    """
    site_id = settings.site_id or device
    wakewords = frozenset(settings.wakewords)

    def draft(topic: str, body: dict[str, JsonValue], event: Event) -> Draft:
        payload = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        return Draft(topic, payload, qos=settings.qos, priority=event.priority, stream=event.stream)

    def compose(event: Event) -> list[Draft]:
        keyword = event.data.get("keyword")
        if event.type != "keyword" or not isinstance(keyword, str) or not keyword:
            return []
        if keyword in wakewords:
            name = settings.wakeword_id or topic_level(keyword)
            body: dict[str, JsonValue] = {
                "modelId": keyword,
                "modelVersion": "",
                "modelType": "universal",
                "siteId": site_id,
                "sessionId": None,
            }
            return [draft(f"hermes/hotword/{name}/detected", body, event)]
        score = min(1.0, max(0.0, numeral(event.data.get("score"))))
        text = keyword.replace("_", " ")
        session: dict[str, JsonValue] = {"siteId": site_id, "sessionId": f"{site_id}-{event.id}"}
        seconds = max(0.0, event.time_s - numeral(event.data.get("start_s"), event.time_s))
        captured: dict[str, JsonValue] = {
            "text": text,
            "likelihood": score,
            "seconds": round(seconds, 3),
            **session,
        }
        intent: dict[str, JsonValue] = {
            "input": text,
            "intent": {"intentName": keyword, "confidenceScore": score},
            "slots": [],
            "id": event.id,
            "rawInput": text,
            "asrConfidence": score,
            **session,
        }
        return [
            draft(TEXT_CAPTURED, captured, event),
            draft(f"hermes/intent/{topic_level(keyword)}", intent, event),
        ]

    return compose
