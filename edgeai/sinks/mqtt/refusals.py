"""The reasons a broker gives for refusing or ending a connection, in plain words, with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgeai.sinks.transport import TransportError, TransportRefusedError

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

UNSUPPORTED_PROTOCOL: Final = 132
TAKEN_OVER: Final = 142

_CREDENTIALS: Final = "check mqtt.username and mqtt.password_file, and the broker's password file and ACL"

REFUSALS: Final[dict[int, tuple[str, str, bool]]] = {
    # CONNACK reason codes of MQTT 5.0, section 3.2.2.2; paho gives those of 3.1.1 the same numbers.
    # What it is, what to do, and whether only a person can help.
    128: ("unspecified error", "", False),
    129: ("it calls our CONNECT malformed", "check that mqtt.host and mqtt.port are a broker's", True),
    130: ("it calls our CONNECT a protocol error", "check that mqtt.host and mqtt.port are a broker's", True),
    131: ("implementation specific error", "", False),
    133: ("the client id is not accepted", "set another mqtt.client_id", True),
    134: ("bad user name or password", _CREDENTIALS, True),
    # mosquitto 2 says 135 for a wrong password too
    135: ("not authorised: wrong user name or password, or no permission", _CREDENTIALS, True),
    136: ("server unavailable", "", False),
    137: ("server busy", "", False),
    138: ("this client is banned", "ask the broker's operator", True),
    140: ("bad authentication method", _CREDENTIALS, True),
    144: ("the topic of the last will is not accepted", "check mqtt.tenant, mqtt.site and mqtt.device", True),
    149: ("the CONNECT packet is too large", "shorten mqtt.client_id", True),
    151: ("quota exceeded", "", False),
    154: ("the broker keeps no retained messages", "allow retained messages in the broker", True),
    155: ("the broker has no QoS 1", "allow QoS 1 in the broker", True),
    156: ("use another server", "set mqtt.host", True),
    157: ("the server has moved", "set mqtt.host", True),
    159: ("connection rate exceeded", "", False),
}

_LASTING_ENDS: Final[dict[int, tuple[str, str]]] = {
    # DISCONNECT reason codes, section 3.14.2.1, after which trying again at once makes it worse
    135: ("not authorised any more", _CREDENTIALS),
    156: ("use another server", "set mqtt.host"),
    157: ("the server has moved", "set mqtt.host"),
}


class OlderProtocolError(TransportError):
    """The broker may know MQTT 3.1.1 only. certain: it said so; silent: it said nothing, on an open connection."""

    def __init__(
        self, message: str, *, next_step: str = "", certain: bool = False, silent: bool = False
    ) -> None:
        self.certain = certain
        self.silent = silent
        super().__init__(message, next_step=next_step)


def refusal(answer: ReasonCode) -> TransportError:
    """What a failed CONNACK means."""
    if answer.value == UNSUPPORTED_PROTOCOL:
        return OlderProtocolError("the broker knows neither MQTT 5 nor 3.1.1", certain=True)
    text, next_step, lasting = REFUSALS.get(answer.value, (str(answer), "", False))
    return TransportRefusedError(
        f"the broker refused us: {text} (CONNACK {answer.value})", next_step=next_step, lasting=lasting
    )


def disconnection(reason: ReasonCode, *, client_id: str) -> TransportError:
    """What the broker's own DISCONNECT (MQTT 5) means."""
    if reason.value == TAKEN_OVER:
        return TransportRefusedError(
            f"another client connected with our client id {client_id!r} (DISCONNECT {TAKEN_OVER})",
            next_step="give each its own mqtt.client_id, or its own certificate where the broker takes the id from it",
        )
    known = _LASTING_ENDS.get(reason.value)
    if known is not None:
        return TransportRefusedError(
            f"the broker disconnected us: {known[0]} (DISCONNECT {reason.value})", next_step=known[1]
        )
    return TransportError(f"the broker disconnected us: {reason} ({reason.value})")
