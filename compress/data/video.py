"""Pictures out of a video, as a folder that a teacher can label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeai.console import progress_bar
from edgeai.errors import DataError
from edgeai.sources.video_file import VideoFile


def extract_frames(
    video: Path,
    folder: Path,
    *,
    start: float = 0.0,
    stop: float = 0.5,
    every: int = 5,
    max_side_px: int = 640,
) -> list[Path]:
    """Write every `every`-th frame of the fraction [start, stop) of a video as JPEG into `folder`/images.

    Pictures are scaled down to `max_side_px`. Only first halves may be trained on, hence the default. Raises
    SourceMissingError, SourceFormatError, or DataError where no frame came.
    """
    import cv2

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with (
        VideoFile(str(video), stream=video.stem, start=start, stop=stop) as source,
        progress_bar(f"frames of {video.name}", None) as advance,
    ):
        for count, frame in enumerate(source):
            if count % every:
                continue
            height, width = frame.image.shape[:2]
            scale = min(1.0, max_side_px / max(height, width))
            picture = frame.image
            if scale < 1:
                size = (round(width * scale), round(height * scale))
                picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
            path = images / f"{video.stem}-{frame.index:06d}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
            written.append(path)
            advance(1)
    if not written:
        raise DataError(f"{video} gave no frame between {start:.0%} and {stop:.0%}")
    return written
