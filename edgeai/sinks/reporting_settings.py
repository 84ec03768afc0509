"""Everything that [mqtt] of a device's configuration may hold: the broker, other vocabularies, a thin link."""

from __future__ import annotations

from pydantic import model_validator

from edgeai.sinks.dialects.settings import FrigateSettings, HermesSettings, HomeAssistantSettings
from edgeai.sinks.link.settings import LinkSettings
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.sparkplug.settings import SparkplugSettings


class ReportingSettings(MqttSettings):
    """frigate, sparkplug: each on a connection of its own, for its last will. hermes, home_assistant: on the one of the
    native topics. link: what that one may cost. Each is off where absent.
    """

    frigate: FrigateSettings | None = None
    hermes: HermesSettings | None = None
    home_assistant: HomeAssistantSettings | None = None
    sparkplug: SparkplugSettings | None = None
    link: LinkSettings | None = None

    @model_validator(mode="after")
    def _home_assistant_reads_no_batches(self) -> ReportingSettings:
        if self.home_assistant is not None and self.link is not None and self.link.compress is not None:
            raise ValueError(
                "home_assistant cannot read events that link.compress packs: leave one of them out"
            )
        return self
