"""What was put beside what arrived: lost, repeated, out of order. Pure functions over records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Put:
    """An event that a publisher reported as put. number rises by one within a camera."""

    camera: str
    number: int
    id: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event at the subscriber. time_s: monotonic. payload None: it could not be read."""

    time_s: float
    topic: str
    payload: bytes
    id: str = ""
    camera: str = ""
    number: int = -1
    seq: int = -1
    boot_id: str = ""
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """put: events reported as put. delivered: different ids of them that arrived. unreported: different ids that arrived
    without having been reported (a process was killed between storing and telling). unordered: first arrivals with a
    number below one of the same camera that came before. damaged: payloads that are no event of the suite.
    conflicting: ids that came again with other contents.
    """

    put: int
    delivered: int
    lost: int
    duplicates: int
    unordered: int
    unreported: int
    damaged: int
    conflicting: int
    lost_ids: tuple[str, ...] = field(default=(), repr=False)

    def __add__(self, other: Tally) -> Tally:
        """Both together, of different devices."""
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def to_json(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if name != "lost_ids"}


def read_arrival(time_s: float, topic: str, payload: bytes) -> Arrival:
    """The event in a payload; `damaged` where there is none, or one whose topic and contents say different things."""
    try:
        value = json.loads(payload)
        camera, number = value["stream"], value["data"]["n"]
        if (
            not isinstance(number, int)
            or topic.rsplit("/", 1)[1] != camera
            or value["data"]["check"] != check(camera, number)
        ):
            raise ValueError("the contents do not agree")
        return Arrival(
            time_s,
            topic,
            payload,
            value["id"],
            camera,
            number,
            value.get("seq", -1),
            value.get("boot_id", ""),
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return Arrival(time_s, topic, payload, damaged=True)


def check(camera: str, number: int) -> str:
    """What every event of the suite carries, so that a changed byte shows; long enough for a payload of usual size."""
    return f"{camera}:{number}:" * 6


def tally(puts: Iterable[Put], arrivals: Sequence[Arrival]) -> Tally:
    """Count what of `puts` is in `arrivals`, which stand in order of arrival."""
    wanted = {put.id for put in puts}
    first: dict[str, Arrival] = {}
    highest: dict[str, int] = {}
    duplicates = unordered = damaged = 0
    conflicting: set[str] = set()
    for one in arrivals:
        if one.damaged:
            damaged += 1
            continue
        before = first.get(one.id)
        if before is not None:
            duplicates += 1
            if before.payload != one.payload:
                conflicting.add(one.id)
            continue
        first[one.id] = one
        if one.number < highest.get(one.camera, -1):
            unordered += 1
        highest[one.camera] = max(highest.get(one.camera, -1), one.number)
    lost = tuple(sorted(wanted - first.keys()))
    return Tally(
        put=len(wanted),
        delivered=len(wanted) - len(lost),
        lost=len(lost),
        duplicates=duplicates,
        unordered=unordered,
        unreported=len(first.keys() - wanted),
        damaged=damaged,
        conflicting=len(conflicting),
        lost_ids=lost,
    )
