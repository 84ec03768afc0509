"""An annotated video: what the pipeline saw, drawn on the frames."""

from __future__ import annotations

import types
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.errors import EdgeError
from edgeai.pipeline import CameraPipeline, Seen
from edgeai.sources.video_file import is_text
from edgeai.stages.overlay import draw_overlay


class AnnotatedVideo:
    """Writes an MP4 of `fps` frames a second, all in the first frame's size. Raises EdgeError where it cannot."""

    def __init__(self, path: Path, *, fps: float = 10.0) -> None:
        self._path = path
        self._fps = fps
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None

    def write(self, seen: Seen, pipeline: CameraPipeline, notes: tuple[str, ...] = ()) -> NDArray[np.uint8]:
        """Draw on the frame in place, write it, and return it."""
        drawn = draw_overlay(
            seen.frame.image, seen.tracks, labels=pipeline.labels, rules=pipeline.rules, notes=notes
        )
        if self._writer is None:
            self._size = (drawn.shape[1], drawn.shape[0])
            self._writer = self._opened(self._size)
        # pictures of a folder may differ in size, a video's frames may not
        same = (drawn.shape[1], drawn.shape[0]) == self._size
        self._writer.write(drawn if same else cv2.resize(drawn, self._size))
        return drawn

    def _opened(self, size: tuple[int, int]) -> cv2.VideoWriter:
        next_step = "name a .mp4 file in a folder that can be written"
        if not is_text(self._path):
            raise EdgeError(f"no video can be written to {str(self._path)!r}", next_step=next_step)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("ab").close()  # OpenCV tells that it failed, but not why
            writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
        except (OSError, cv2.error) as error:
            why = getattr(error, "strerror", None) or error
            raise EdgeError(f"no video can be written to {self._path}: {why}", next_step=next_step) from None
        if not writer.isOpened():
            raise EdgeError(f"no video can be written to {self._path}", next_step=next_step)
        return writer

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
