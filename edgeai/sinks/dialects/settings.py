"""Which dialects are spoken beside the native topics: [mqtt.frigate], [mqtt.hermes], [mqtt.home_assistant]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from edgeai.sinks.mqtt.settings import MqttSettings, Settings, TlsSettings
from edgeai.sinks.topics import check_level


def _check_prefix(prefix: str) -> str:
    for level in prefix.split("/"):
        check_level(level, what="a level of the prefix")
    return prefix


def _check_one_level(text: str) -> str:
    return check_level(text, what="the id")


Prefix = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_check_prefix)]
"""One or more levels of topics, "site/frigate"."""
Level = Annotated[str, AfterValidator(_check_one_level)]
Pixels = Annotated[int, Field(ge=16, le=16384)]
Qos = Literal[0, 1]


class FrigateSettings(Settings):
    """Frigate's topics, on a connection of their own: a connection has one last will.

    prefix: the first level of the topics, Frigate's topic_prefix. client_id: None for that of the native connection with
    "-frigate" behind it. username, password_file, tls: those of [mqtt] where absent. qos: of everything that is not
    retained; Frigate's own is 0. detect_size: width and height that boxes and areas are told in, Frigate's detect
    resolution; our boxes are fractions of the picture.
    """

    prefix: Prefix = "frigate"
    client_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    tls: TlsSettings | None = None
    qos: Qos = 0
    detect_size: tuple[Pixels, Pixels] = (1280, 720)

    @model_validator(mode="after")
    def _password_has_a_name(self) -> FrigateSettings:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        return self

    def connection(self, mqtt: MqttSettings, *, device: str) -> MqttSettings:
        """The settings of the second connection to the broker of `mqtt`, for the device of that name in the topics."""
        update: dict[str, object] = {"client_id": self.client_id or f"{mqtt.id_of(device)}-frigate"}
        if self.username is not None:
            update |= {"username": self.username, "password_file": self.password_file}
        if self.tls is not None:
            update["tls"] = self.tls
        return mqtt.model_copy(update=update)


class HermesSettings(Settings):
    """Rhasspy's topics for what microphones hear.

    site_id: the device's name where None. wakewords: keywords that wake; all others are commands. wakeword_id: the level
    in hermes/hotword/<id>/detected, the keyword itself where None. qos: an intent may come twice at 1, and get lost at 0.
    """

    site_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    wakewords: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = ()
    wakeword_id: Level | None = None
    qos: Qos = 1


class HomeAssistantSettings(Settings):
    """Home Assistant's device discovery.

    discovery_prefix: as set in Home Assistant. device_id: what tells this device from all others there, the device's
    name where None; two devices of one name at two sites need it.
    """

    discovery_prefix: Prefix = "homeassistant"
    device_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
