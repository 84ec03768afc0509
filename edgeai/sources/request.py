"""What a camera's reader is given beside its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edgeai.clock import Clock, SystemClock
from edgeai.profile import Profile
from edgeai.sources.settings import CaptureSettings, LoginSettings


class FpsCap:
    """Which frames a reader keeps that gives at most `fps` a second; None keeps all.

    A reader asks before it converts or decodes what it would drop, and counts what it dropped in `capped`. Frames
    are taken on a grid, so that 5 of 12 a second are 5 and not 4; a pause moves the grid. One thread.

    >>> cap = FpsCap(2.0)
    >>> [cap.takes(time_s) for time_s in (0.0, 0.2, 0.4, 0.6, 0.9, 1.2)]
    [True, False, False, True, False, True]
    """

    # frames that come early by so small a part of the distance are jitter of the same rate
    _EARLY = 0.1

    def __init__(self, fps: float | None) -> None:
        self._step_s = 0.0 if fps is None else 1.0 / fps
        self._due_s: float | None = None

    def takes(self, time_s: float) -> bool:
        """Whether the frame of that time, on any clock that only rises, is to be kept."""
        if not self._step_s:
            return True
        # after a frame that came early the next is due in a little more than one step
        ahead_s = (1.0 + 2 * self._EARLY) * self._step_s
        if self._due_s is None or not -ahead_s <= time_s - self._due_s <= self._step_s:
            # the first, one after a pause, or one of a clock that began anew
            self._due_s = time_s + self._step_s
            return True
        if time_s < self._due_s - self._EARLY * self._step_s:
            return False
        self._due_s += self._step_s
        return True


def _nobody_waits(_seconds: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """How a source shall read.

    stream: the name in its frames. realtime: a video plays at its own speed. max_fps: frames a second that are wanted
    at most. profile: facts about this device, None for a plain computer. expect: a live source calls it while it is read,
    before each step that may take long, with the seconds that step may take: one that reads ten frames for each that it
    gives, or waits between two, is not hanging.
    """

    stream: str
    realtime: bool = False
    max_fps: float | None = None
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    login: LoginSettings | None = None
    profile: Profile | None = None
    clock: Clock = field(default_factory=SystemClock)
    expect: Callable[[float], None] = _nobody_waits
