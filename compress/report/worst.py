"""The examples on which a model does worst, drawn on one sheet: what is there and what it said, or how it sounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import read_picture
from compress.measure.scored import Mistake
from compress.measure.scored_pictures import ScoredPictures
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

Image = NDArray[np.uint8]
TILE_WIDTH, TILE_HEIGHT, COLUMNS = 400, 300, 3
SHOWN = 12  # examples on a sheet
_CAPTION = 22
_LETTERS = 54
# BGR, told apart by people who see red and green alike (Okabe and Ito, 2008): what is there, what was said
_TRUTH, _SAID = (115, 158, 0), (0, 94, 213)


def draw_worst_pictures(scored: ScoredPictures, mistakes: Sequence[Mistake]) -> Image:
    """A sheet of pictures, true boxes green and thin, told ones orange with their scores; a caption below each."""
    return _sheet([(_boxes(scored, one.index), f"{scored.names[one.index]}: {one.text}") for one in mistakes])


def draw_worst_sounds(
    names: Sequence[str], mistakes: Sequence[Mistake], features_of: Callable[[int], NDArray[np.float32]]
) -> Image:
    """A sheet of log-mel pictures, time to the right, pitch up. features_of(index): (frames, mels) of an example."""
    return _sheet(
        [(_spectrogram(features_of(one.index)), f"{names[one.index]}: {one.text}") for one in mistakes]
    )


def write_sheet(path: Path, sheet: Image) -> Path:
    """As JPEG. Raises EdgeError where it cannot be written."""
    import cv2

    done, code = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise EdgeError(f"{path}: the pictures cannot be encoded as JPEG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"the folder {path.parent} cannot be made: {error.strerror or error}") from error
    write_whole(path, code.tobytes())
    return path


def _boxes(scored: ScoredPictures, index: int) -> Image:
    import cv2

    picture, found = scored.data.pictures[index], scored.found[index]
    image = read_picture(picture.path)
    factor = min(TILE_WIDTH / image.shape[1], TILE_HEIGHT / image.shape[0])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    tile = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array([size[0] / picture.width, size[1] / picture.height] * 2)
    for box in picture.xyxy_px * scale:
        _rectangle(tile, box, _TRUTH, 1)
    several = len(scored.labels) > 1
    for number in np.flatnonzero(found.scores >= scored.threshold):
        box = found.xyxy_px[number] * scale
        _rectangle(tile, box, _SAID, 2)
        name = f"{scored.labels[int(found.class_ids[number])]} " if several else ""
        _text(tile, f"{name}{found.scores[number]:.2f}", (int(box[0]) + 2, max(11, int(box[1]) - 3)), 0.38)
    return tile


def _rectangle(tile: Image, box: NDArray[np.float64], colour: tuple[int, int, int], thick: int) -> None:
    import cv2

    x1, y1, x2, y2 = (int(v) for v in np.rint(box))
    cv2.rectangle(tile, (x1, y1), (x2, y2), colour, thick)


def _spectrogram(features: NDArray[np.float32]) -> Image:
    import cv2

    low, high = float(features.min()), float(features.max())
    grey = (255 * (features.T[::-1] - low) / max(high - low, 1e-6)).astype(np.uint8)
    large = cv2.resize(grey, (TILE_WIDTH, TILE_HEIGHT), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS), np.uint8)


def _sheet(tiles: Sequence[tuple[Image, str]]) -> Image:
    rows = max(1, -(-len(tiles) // COLUMNS))
    sheet = np.full((rows * (TILE_HEIGHT + _CAPTION), COLUMNS * TILE_WIDTH, 3), 24, np.uint8)
    for number, (tile, caption) in enumerate(tiles):
        top, left = number // COLUMNS * (TILE_HEIGHT + _CAPTION), number % COLUMNS * TILE_WIDTH
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        # as many letters as fit the tile
        _text(sheet, caption[:_LETTERS], (left + 4, top + TILE_HEIGHT + 15), 0.38)
    return sheet


def _text(image: Image, text: str, place: tuple[int, int], size: float) -> None:
    import cv2

    plain = text.encode("ascii", "replace").decode()
    for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)
