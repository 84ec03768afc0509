"""What waits in the outbox and travels over a transport: drafts go in, messages come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from edgeai.types import Priority

DROP_ORDER: Final[tuple[Priority, ...]] = ("image", "telemetry", "event", "alarm")
"""An overfull outbox drops from the left."""

RANK: Final[dict[Priority, int]] = {priority: rank for rank, priority in enumerate(DROP_ORDER)}

Body: TypeAlias = "bytes | Callable[[int, int], bytes]"
"""A payload, or what makes it from two numbers that the outbox gives: the message's own, and its place among those of
its stream and destination that have such a function and are not `latest`, from 1 in each process; 0 for those that are.
"""


class Lane(NamedTuple):
    """Messages that are delivered in their order: one class of one stream on its way to one destination."""

    destination: str
    rank: int
    stream: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before the outbox has numbered it.

    latest: only the newest on its topic is worth sending: it takes the place of one that still waits.
    destination: which drain takes it, "" for the one of a sink that has one. happened_s: when that happened of which it
    tells, on the outbox's monotonic clock; when it is put where None.
    """

    topic: str
    body: Body
    qos: int = 1
    retain: bool = False
    priority: Priority = "event"
    stream: str = ""
    latest: bool = False
    destination: str = ""
    happened_s: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the outbox. seq rises by one from put to put over the whole life of the outbox file.

    wall_s: when it was put. monotonic_s: when that happened of which it tells, or it was put. Both on the clocks of the
    process that put it.
    """

    seq: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    priority: Priority
    stream: str
    wall_s: float
    monotonic_s: float
    latest: bool = False
    destination: str = ""

    @property
    def lane(self) -> Lane:
        return Lane(self.destination, RANK[self.priority], self.stream)
