"""Two looks at each picture for self-supervised training: random windows that overlap, and points that both of them see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.data.detection import PictureCache
from compress.data.formats.places import picture_size
from compress.train.batches import Batch, Make
from edgeai.bundle.manifest import ImageInput

Fraction = Annotated[float, Field(ge=0, le=1)]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
# ITU-R BT.601, in OpenCV's order
LUMA = np.array([0.114, 0.587, 0.299], np.float32)


class ViewSettings(BaseModel):
    """How two looks at one picture differ.

    scale: range of the scale against a plain letterbox, as for training a detector. flip: probability. colour: half-width
    of the changes of brightness, contrast and saturation, as factors; tint: of each channel. grey, blur: probabilities.
    points: a side of the grid of points that are compared, so points ** 2 of them a picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    scale: tuple[Annotated[float, Field(ge=0.05, le=20)], Annotated[float, Field(ge=0.05, le=20)]] = (
        0.7,
        1.6,
    )
    flip: Fraction = 0.5
    colour: Fraction = 0.4
    tint: Fraction = 0.12
    grey: Fraction = 0.15
    blur: Fraction = 0.3
    points: Annotated[int, Field(ge=1, le=16)] = 4

    @model_validator(mode="after")
    def _scale_rises(self) -> ViewSettings:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must go from small to large, got {self.scale}")
        return self


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a source picture that a view shows: its edges in source pixels; mirrored: left and right swapped."""

    left: float
    top: float
    right: float
    bottom: float
    mirrored: bool

    def to_unit(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Source points (N, 2), x y, as fractions of the view."""
        unit = (points - (self.left, self.top)) / (self.right - self.left, self.bottom - self.top)
        if self.mirrored:
            unit[:, 0] = 1 - unit[:, 0]
        return unit


def make_views(
    pictures: Sequence[Path],
    spec: ImageInput,
    settings: ViewSettings,
    *,
    height: int,
    width: int,
    batch: int,
) -> Make:
    """make(rng) for `fit`: two views of each of `batch` pictures, no picture twice (so at most as many as there are).

    {"inputs": (2 B, height, width, 3) float32 as the network takes them, views of a picture beside each other, "targets":
    {"first", "second"}: (B, points ** 2, 2) float32, the same places in the two views, x y as fractions of each}.
    Raises DataError (from make) for a file that is no picture.
    """
    read = _Reader(spec, settings)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)

    def make(rng: np.random.Generator) -> Batch:
        picks = rng.choice(len(pictures), min(batch, len(pictures)), replace=False)
        views = np.empty((2 * len(picks), height, width, 3), np.float32)
        points = np.empty((2, len(picks), settings.points**2, 2), np.float32)
        for number, index in enumerate(picks):
            source = read(pictures[index])
            windows = draw_windows(
                source.shape[1], source.shape[0], spec, settings, height=height, width=width, rng=rng
            )
            shared = draw_points(*windows, settings.points, rng)
            for side, window in enumerate(windows):
                view = recolour(cut(source, window, height=height, width=width), settings, rng)
                views[2 * number + side] = view if spec.colour == "BGR" else view[..., ::-1]
                points[side, number] = window.to_unit(shared)
        return {"inputs": (views - mean) / std, "targets": {"first": points[0], "second": points[1]}}

    return make


def draw_windows(
    source_width: int,
    source_height: int,
    spec: ImageInput,
    settings: ViewSettings,
    *,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> tuple[Window, Window]:
    """Two windows of the view's shape inside the picture; the middle of the first lies in the second."""
    plain = min(spec.width / source_width, spec.height / source_height)
    # no window is larger than the picture: padding would be the same in both views, and easy to match
    least = max(width / source_width, height / source_height)
    low, high = np.log(settings.scale)
    made: list[Window] = []
    for _ in range(2):
        scale = max(plain * float(np.exp(rng.uniform(low, high))), least)
        w, h = width / scale, height / scale
        if made:
            x = (made[0].left + made[0].right) / 2 - w * rng.uniform(0, 1)
            y = (made[0].top + made[0].bottom) / 2 - h * rng.uniform(0, 1)
        else:
            x, y = rng.uniform(0, 1, 2) * (source_width - w, source_height - h)
        left, top = min(max(x, 0.0), source_width - w), min(max(y, 0.0), source_height - h)
        made.append(Window(left, top, left + w, top + h, bool(rng.random() < settings.flip)))
    return made[0], made[1]


def draw_points(a: Window, b: Window, side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(side ** 2, 2) source points that both windows show: one at random in each cell of a grid over what they share."""
    low = np.array((max(a.left, b.left), max(a.top, b.top)))
    high = np.array((min(a.right, b.right), min(a.bottom, b.bottom)))
    rows, columns = np.mgrid[:side, :side]
    cells = np.stack([columns.ravel(), rows.ravel()], 1)
    return np.asarray(low + (high - low) * (cells + rng.uniform(0, 1, cells.shape)) / side, np.float64)


def cut(source: Picture, window: Window, *, height: int, width: int) -> Picture:
    """(height, width, 3) uint8: the window of the source, bilinear as on the device."""
    import cv2

    step_x, step_y = (window.right - window.left) / width, (window.bottom - window.top) / height
    start = window.left
    if window.mirrored:
        step_x, start = -step_x, window.right
    # warpAffine counts from the middles of pixels, windows from their edges
    matrix = np.array(
        [[step_x, 0, start + (step_x - 1) / 2], [0, step_y, window.top + (step_y - 1) / 2]], np.float64
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    made = cv2.warpAffine(source, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(made, np.uint8)


def recolour(view: Picture, settings: ViewSettings, rng: np.random.Generator) -> Floats:
    """Other light: brightness, contrast, saturation and tint by random factors, sometimes grey or blurred; 0..255."""
    import cv2

    gains = 1 + settings.colour * rng.uniform(-1, 1, 3).astype(np.float32)
    tints = 1 + settings.tint * rng.uniform(-1, 1, 3).astype(np.float32)
    if rng.random() < settings.grey:
        gains[2] = 0
    out = view.astype(np.float32) * gains[0]
    mean = out.mean()
    out = (out - mean) * gains[1] + mean
    grey = (out @ LUMA)[..., np.newaxis]
    out = ((out - grey) * gains[2] + grey) * tints
    if rng.random() < settings.blur:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.2))), np.float32)
    return np.asarray(np.clip(out, 0, 255), np.float32)


class _Reader:
    """Reads a picture no larger than the closest view needs, so that large photographs cost little, and keeps it."""

    def __init__(self, spec: ImageInput, settings: ViewSettings) -> None:
        self._spec, self._closest = spec, max(1.0, settings.scale[1])
        self._cache = PictureCache()
        self._factors: dict[Path, Literal[1, 2, 4, 8]] = {}

    def __call__(self, path: Path) -> Picture:
        factor = self._factors.get(path)
        if factor is None:
            width, height = picture_size(path)
            wanted = self._closest * min(self._spec.width / width, self._spec.height / height)
            factor = 1 if wanted > 0.5 else 2 if wanted > 0.25 else 4 if wanted > 0.125 else 8
            self._factors[path] = factor
        return self._cache.reduced(path, factor)
