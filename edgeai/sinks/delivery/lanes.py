"""Which message goes next: alarms first, then every camera and class its share; in order within a lane."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import RANK, Lane, Message
from edgeai.sinks.outbox.table import size_of
from edgeai.sinks.topics import is_thumbnail
from edgeai.types import JsonValue

_ALARM: Final = RANK["alarm"]
# bytes that each class gets for one of images, where all have some waiting
_WEIGHT: Final[dict[int, float]] = {
    RANK["image"]: 1.0,
    RANK["telemetry"]: 4.0,
    RANK["event"]: 16.0,
    _ALARM: 64.0,
}
_THUMBNAIL_WEIGHT: Final = 64.0  # so that none waits behind a whole picture
_READ_AHEAD: Final = 64


class Gate(Protocol):
    """Says when a message may go: budgets and hours of a metered link."""

    def wait_s(self, message: Message, *, now_s: float) -> float:
        """Seconds until the message may go, 0 for now; a guess is good enough, it is asked again."""
        ...

    def passed(self, message: Message) -> None:
        """The message was handed to the transport."""
        ...

    def take_reports(self) -> list[tuple[str, dict[str, JsonValue]]]:
        """What it has to tell since the last call: types and facts of events."""
        ...


@dataclass(slots=True)
class _Queue:
    """What was read ahead of one lane. share: bytes sent over its weight, on a clock that all lanes have in common."""

    lane: Lane
    weight: float
    newest: int = 0
    cursor: int = 0
    share: float = 0.0
    ahead: deque[Message] = field(default_factory=deque)


class Lanes:
    """Reads one destination's messages from the outbox, lane by lane. For one thread.

    Fair queueing by bytes (start-time fair queueing, Goyal and others, SIGCOMM 1996): the lane that had least for its
    weight goes next, and one that was empty has no credit saved up. So what happens now at a quiet camera does not wait
    behind the backlog of a busy one, and events do not wait behind images. Alarms go before all.
    """

    def __init__(self, outbox: Outbox, destination: str = "") -> None:
        self._outbox = outbox
        self._destination = destination
        self._queues: dict[Lane, _Queue] = {}
        self._lanes: Mapping[Lane, int] = {}
        self._turn = 0.0

    def rewind(self) -> None:
        """Begin anew with the first message of each lane."""
        self._queues.clear()
        self._lanes = {}

    def take(
        self, *, skip: Callable[[int], bool], wait_s: Callable[[Message], float]
    ) -> tuple[Message | None, float]:
        """The next message; or None, and the seconds after which one that waits may go (inf: none waits).

        skip: whether not to give a number. wait_s: asked for the head of each lane in turn; above 0 the lane waits.
        """
        self._look()
        soonest_s = math.inf
        for queue in self._in_turn():
            message = self._head(queue, skip)
            if message is None:
                continue
            wait = wait_s(message)
            if wait > 0:
                soonest_s = min(soonest_s, wait)
                continue
            queue.ahead.popleft()
            self._turn = max(self._turn, queue.share)
            queue.share = self._turn + size_of(message) / queue.weight
            return message, 0.0
        return None, soonest_s

    def _look(self) -> None:
        """Take in what was put since."""
        lanes = self._outbox.lanes
        if lanes is self._lanes:
            return
        self._lanes = lanes
        for lane, newest in lanes.items():
            if lane.destination == self._destination:
                queue = self._queues.get(lane)
                if queue is None:
                    weight = _THUMBNAIL_WEIGHT if is_thumbnail(lane.stream) else _WEIGHT[lane.rank]
                    self._queues[lane] = queue = _Queue(lane, weight, share=self._turn)
                queue.newest = newest

    def _in_turn(self) -> list[_Queue]:
        """Lanes that may hold something, the one that is next first."""
        found = [queue for queue in self._queues.values() if queue.ahead or queue.newest > queue.cursor]
        if len(found) > 1:
            found.sort(key=lambda queue: (queue.lane.rank != _ALARM, max(queue.share, self._turn)))
        return found

    def _head(self, queue: _Queue, skip: Callable[[int], bool]) -> Message | None:
        while True:
            if not queue.ahead:
                if queue.newest <= queue.cursor:
                    return None
                queue.ahead.extend(self._outbox.peek(_READ_AHEAD, after=queue.cursor, lane=queue.lane))
                # none: dropped, all of them
                queue.cursor = queue.ahead[-1].seq if queue.ahead else queue.newest
            elif skip(queue.ahead[0].seq):
                queue.ahead.popleft()
            else:
                return queue.ahead[0]
