"""The interface of every rule, and the scene that it sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.stages.geometry import Anchor, anchor_points, box_fractions
from edgeai.types import Detections, Event, JsonValue, Priority

RuleName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]


class RuleSettings(Settings):
    """What every rule is told.

    name: of the rule, different for each of a camera. kind: line, zone or track; it says which other keys there are.
    classes: labels that count; all where absent.
    """

    name: RuleName
    classes: tuple[str, ...] | None = None


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
