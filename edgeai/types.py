"""The things that travel through the runtime: frames, audio chunks, tensors, detections, events."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
Array: TypeAlias = NDArray[np.generic]
Priority: TypeAlias = Literal["alarm", "event", "telemetry", "image"]

DEVICE_STREAM: Final = "_device"
"""The stream of events about the device itself; no camera or microphone can have this name."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a camera.

    image: (H, W, 3) uint8, BGR. index counts from 0 within the source, dropped frames included.
    time_s: seconds since the source began: position in a file, monotonic time of capture for a live one.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float
    stream: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of audio samples, any length.

    samples: (N,) float32, mono, -1..1. start_s: seconds from the stream's beginning to samples[0].
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    start_s: float
    stream: str


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and type of one input or output of an engine.

    scale and zero_point are per tensor: real = (stored - zero_point) * scale; scale is None for float tensors.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0


def _empty_ids() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects found in one frame, as a structure of arrays of one length N.

    xyxy_px: (N, 4) float32, x1 y1 x2 y2 in source pixels. scores: (N,) float32, 0..1. class_ids: (N,) int32.
    track_ids: (N,) int64, -1 where there is no confirmed track; empty before a tracker has seen them.
    """

    xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    track_ids: NDArray[np.int64] = field(default_factory=_empty_ids)

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Detections:
        """The detections that a boolean mask (N,) or an index array picks, in its order."""
        tracks = self.track_ids[keep] if len(self.track_ids) else self.track_ids
        return Detections(self.xyxy_px[keep], self.scores[keep], self.class_ids[keep], tracks)

    @staticmethod
    def empty() -> Detections:
        return Detections(
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int32),
            np.empty(0, np.int64),
        )


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits; sorts by time."""
    ms = time.time_ns() // 1_000_000
    rand = int.from_bytes(os.urandom(10), "big")
    value = (ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (rand >> 68) << 64 | 0b10 << 62 | rand & (1 << 62) - 1
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, worth telling.

    type: a snake_case verb phrase ("line_crossed", "keyword"). stream: the camera or microphone it came from.
    time_s: seconds on the stream's own clock. data: JSON values only. priority decides what an overfull outbox
    drops last (alarm) and first (image). monotonic_s, wall_time_s: when it happened; for what was seen on a frame, when that
    was captured. picture: a JPEG, of an event of priority "image".
    """

    type: str
    stream: str
    time_s: float
    data: Mapping[str, JsonValue] = field(default_factory=dict)
    priority: Priority = "event"
    id: str = field(default_factory=new_event_id)
    wall_time_s: float = field(default_factory=time.time)
    monotonic_s: float = field(default_factory=time.monotonic)
    picture: bytes = b""
