"""Whether anything moves, told from a small grey picture of each frame: cheap enough to save the model's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgeai.bundle.manifest import Settings


class MotionSettings(Settings):
    """When frames are shown to the model.

    threshold: how much brighter or darker a spot must be than the background, of 255. min_area: the least part of the
    frame that must have changed. hold_s: how long frames are still shown after the last motion. refresh_s: a frame is
    shown at least so often, whether anything moves or not.
    """

    threshold: Annotated[int, Field(ge=1, le=255)] = 16
    min_area: Annotated[float, Field(gt=0, lt=1)] = 0.0008
    hold_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    refresh_s: Annotated[float, Field(ge=0.5, le=86400)] = 10.0


@dataclass(frozen=True, slots=True)
class Motion:
    """What the gate says of one frame. look: whether the model shall see it. area: the part of it that moved, 0..1."""

    look: bool
    area: float


class MotionGate:
    """Compares each frame with a background that follows slowly. One camera's, one thread."""

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self.settings = settings or MotionSettings()

    def update(self, image: NDArray[np.uint8], time_s: float) -> Motion:
        """image: (H, W, 3) uint8 BGR; time_s: on the stream's clock."""
        return Motion(look=True, area=1.0)

    def reset(self) -> None:
        """Forget the background: the next frame is looked at."""
