"""The answers' shapes, for the OpenAPI page and for whoever writes a client."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """No unknown keys."""

    model_config = ConfigDict(extra="forbid")


class HealthAnswer(Shape):
    status: Literal["ready", "stopping"]


class ErrorAnswer(Shape):
    """error: one line. next: what to do, where something can be done."""

    error: str
    next: str


class Engine(Shape):
    file: str
    format: str
    precision: str


class PictureInput(Shape):
    """Pictures of any size are fitted to width x height; colour is the order of a tensor's channels."""

    kind: Literal["image"]
    width: int
    height: int
    colour: str


class SoundInput(Shape):
    """Clips of any rate are resampled; a tensor is frames x mels of log-mel features."""

    kind: Literal["sound"]
    sample_rate_hz: int
    frames: int
    mels: int


class ModelAnswer(Shape):
    name: str
    version: str
    task: str
    labels: list[str]
    input: PictureInput | SoundInput
    content_types: list[str]
    engine: Engine
    licence: str


class ModelsAnswer(Shape):
    models: list[ModelAnswer]


class Detection(Shape):
    """box: x1, y1, x2, y2 in the picture's pixels. score: 0 to 1."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Label(Shape):
    label: str
    score: float


class Heard(Shape):
    """time_s: the end of the sound on which it fired. start_s: where it began. Seconds from the clip's beginning."""

    time_s: float
    keyword: str
    score: float
    start_s: float


class Tensor(Shape):
    """values: rows first; null where a value is not finite."""

    shape: list[int]
    values: list[float | None]


class PredictAnswer(Shape):
    """Which of detections, labels, keywords and outputs there is follows from the task and from what was sent."""

    model: str
    task: str
    width: int | None = None
    height: int | None = None
    detections: list[Detection] | None = None
    labels: list[Label] | None = None
    duration_s: float | None = None
    keywords: list[Heard] | None = None
    outputs: dict[str, Tensor] | None = None
