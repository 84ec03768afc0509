"""An annotated video: what the pipeline saw, drawn on the frames."""

from __future__ import annotations

import types
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.errors import EdgeError
from edgeai.pipeline import CameraPipeline, Seen
from edgeai.stages.overlay import draw_overlay


class AnnotatedVideo:
    """Writes an MP4 of `fps` frames a second; the size is the first frame's. Raises EdgeError where it cannot."""

    def __init__(self, path: Path, *, fps: float = 10.0) -> None:
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, seen: Seen, pipeline: CameraPipeline, notes: tuple[str, ...] = ()) -> NDArray[np.uint8]:
        """Draw on the frame in place, write it, and return it."""
        image = seen.frame.image
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
            if not self._writer.isOpened():
                raise EdgeError(
                    f"no video can be written to {self._path}", next_step="check the folder and the disk"
                )
        drawn = draw_overlay(image, seen.tracks, labels=pipeline.labels, rules=pipeline.rules, notes=notes)
        self._writer.write(drawn)
        return drawn

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
