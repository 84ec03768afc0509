"""The interface of every rule, and the scene that it sees."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NamedTuple, TypeAlias

from pydantic import Field

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.stages.geometry import Anchor, anchor_points, box_fractions
from edgeai.types import Detections, Event, JsonValue, Priority

RuleName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]


MAX_COUNT: Final = 2**53 - 1
"""The largest that JSON's readers take exactly (RFC 8259, section 6)."""


class RuleSettings(Settings):
    """What every rule is told.

    name: of the rule, different for each of a camera. kind: line, zone or track; it says which other keys there are.
    classes: labels that count; all where absent.
    """

    name: RuleName
    classes: tuple[str, ...] | None = None

    # what a rule's totals are told apart by
    _IDENTITY: ClassVar[tuple[str, ...]] = ("kind", "name", "classes")

    @property
    def identity(self) -> str:
        """Whose totals it carries on, as one line: those of the rule of the same camera, kind and name that counts the same.

        Where it lies, how it is measured and what is reported are no part of it: who moves a line by a little does not
        want to begin at 0. Who does, gives the rule another name.
        """
        values = [getattr(self, field) for field in self._IDENTITY]
        told = [sorted(set(each)) if isinstance(each, tuple) else each for each in values]
        return json.dumps(told)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the rules see of one frame.

    tracks: the tracker's answer (track_ids set; ids below 0 are ignored). time_s: the frame's. started, ended: the
    tracker's, for this frame.
    """

    tracks: Detections
    width_px: int
    height_px: int
    time_s: float
    stream: str
    started: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()

    @property
    def aspect(self) -> float:
        return self.width_px / self.height_px


class Seen(NamedTuple):
    """One track in one frame: its row in the scene, its id and label, and its anchor as fractions."""

    row: int
    track_id: int
    label: str
    point: tuple[float, float]


class Rule(ABC):
    """Update with every frame's scene, in order; a track's memory goes with its end."""

    settings: RuleSettings

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        wanted = self.settings.classes
        for name in wanted or ():
            if name not in self.labels:
                raise StageError(
                    f"rule {self.settings.name!r} names class {name!r}, the model knows {', '.join(self.labels)}"
                )
        self._wanted = frozenset(self.labels if wanted is None else wanted)

    @abstractmethod
    def update(self, scene: Scene) -> list[Event]:
        """What happened in this frame. Raises StageError where the detections carry no track ids."""

    @abstractmethod
    def totals(self) -> dict[str, JsonValue]:
        """The counts since the beginning, JSON values."""

    def restore(self, totals: Mapping[str, JsonValue]) -> None:
        """Count on from totals that a rule of this identity gave, in an earlier process perhaps; before the first update.

        What was in view then is not any more: a track that had not ended counts as ended, one that was in a zone as gone
        out of it, so that what came less what went is what is there. Unknown keys are ignored, as a later edgeai may have
        written them. Raises StageError for totals of something else, or none; nothing is changed then.
        """
        try:
            self._restore(totals)
        except (KeyError, TypeError, ValueError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise StageError(f"rule {self.settings.name!r} cannot count on from its totals: {why}") from None

    @abstractmethod
    def _restore(self, totals: Mapping[str, JsonValue]) -> None:
        """As `restore`; may raise KeyError, TypeError and ValueError too."""

    def _seen(self, scene: Scene, anchor: Anchor) -> list[Seen]:
        tracks = scene.tracks
        if len(tracks) and len(tracks.track_ids) != len(tracks):
            raise StageError(
                "rules need detections with track ids", next_step="put a Tracker before the rules"
            )
        if scene.width_px < 1 or scene.height_px < 1:
            raise StageError(f"a scene must have a size, got {scene.width_px} x {scene.height_px} pixels")
        points = anchor_points(tracks.xyxy_px, anchor, scene.width_px, scene.height_px).tolist()
        ids, classes = tracks.track_ids.tolist(), tracks.class_ids.tolist()
        seen = []
        for row, (track_id, class_id) in enumerate(zip(ids, classes, strict=True)):
            label = self.labels[class_id] if 0 <= class_id < len(self.labels) else ""
            if track_id >= 0 and label in self._wanted:
                seen.append(Seen(row, track_id, label, (points[row][0], points[row][1])))
        return seen

    def _event(
        self,
        type_: str,
        scene: Scene,
        data: dict[str, JsonValue],
        row: int | None = None,
        priority: Priority = "event",
    ) -> Event:
        told: dict[str, JsonValue] = {"rule": self.settings.name, **data}
        if row is not None:
            told["score"] = round(float(scene.tracks.scores[row]), 4)
            told["box"] = [*box_fractions(scene.tracks.xyxy_px[row], scene.width_px, scene.height_px)]
        return Event(type_, scene.stream, scene.time_s, told, priority)


def count_of(totals: Mapping[str, JsonValue], key: str) -> int:
    """A count among totals. Raises KeyError, TypeError or ValueError."""
    value = totals[key]
    if type(value) is not int:
        raise TypeError(f"{key!r} is no count")
    if not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{key!r} is {value}")
    return value


def parts_of(totals: Mapping[str, JsonValue], key: str, names: Sequence[str]) -> dict[str, JsonValue]:
    """What totals have for each of some names, of which there may be no others. Raises KeyError, TypeError or ValueError."""
    value = totals[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key!r} is no table")
    for name in value:
        if name not in names:
            raise ValueError(f"{key!r} has {name!r}, which is not among {', '.join(names)}")
    return value
