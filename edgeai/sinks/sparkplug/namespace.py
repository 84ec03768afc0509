"""The topics of one Sparkplug edge node. Source: Eclipse Sparkplug 3.0.0, chapter 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgeai.sinks.topics import check_level

NAMESPACE: Final = "spBv1.0"


@dataclass(frozen=True, slots=True)
class SparkplugTopics:
    """Raises TopicError where a group, node or device cannot be one level of a topic.

    >>> SparkplugTopics("plant", "cam-001").data("gate")
    'spBv1.0/plant/DDATA/cam-001/gate'
    >>> SparkplugTopics("plant", "cam-001").data()
    'spBv1.0/plant/NDATA/cam-001'
    """

    group: str
    node: str

    def __post_init__(self) -> None:
        check_level(self.group, what="group_id")
        check_level(self.node, what="edge_node_id")

    def birth(self, device: str = "") -> str:
        """Of a device, or of the node itself where it is ""."""
        return self._of("BIRTH", device)

    def data(self, device: str = "") -> str:
        return self._of("DATA", device)

    def command(self, device: str = "") -> str:
        return self._of("CMD", device)

    @property
    def death(self) -> str:
        """The node's; its devices are dead with it."""
        return self._of("DEATH", "")

    @property
    def device_commands(self) -> str:
        """The filter for the commands of all devices."""
        return f"{NAMESPACE}/{self.group}/DCMD/{self.node}/+"

    def device_of(self, topic: str) -> str:
        """The device that a topic of ours is about, "" for the node."""
        return "/".join(topic.split("/")[4:])

    def _of(self, what: str, device: str) -> str:
        if not device:
            return f"{NAMESPACE}/{self.group}/N{what}/{self.node}"
        return f"{NAMESPACE}/{self.group}/D{what}/{self.node}/{check_level(device, what='device')}"


def state_topic(host: str) -> str:
    """Where a host application tells whether it is online (3.0.0; 2.2 had another)."""
    return f"{NAMESPACE}/STATE/{check_level(host, what='primary_host')}"
