"""Boxes, ids, lines, zones and counts drawn on a frame, for the annotated video."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.errors import StageError
from edgeai.stages.rules import LineSettings, Rule, ZoneSettings
from edgeai.types import Detections

# BGR; told apart by people who see red and green alike too (Okabe and Ito, 2008)
_COLOURS = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
)
_LINE_COLOUR = (66, 228, 240)
_ZONE_COLOUR = (233, 180, 86)
_DARK = (24, 24, 24)
_LIGHT = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(
    image: NDArray[np.uint8],
    tracks: Detections,
    *,
    labels: Sequence[str],
    rules: Sequence[Rule] = (),
    notes: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Draw on `image` (H, W, 3) uint8 BGR in place, and return it.

    tracks: boxes in its pixels; with track ids the colour is the track's, without the class's. rules: lines with
    their counts by direction, zones with their occupancy. notes: lines of text for the top left corner.
    Line width and text size follow the picture's height. Raises StageError for an image that cannot be drawn on.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.flags.c_contiguous:
        raise StageError(f"the overlay draws on (H, W, 3) uint8, contiguous, got {image.shape} {image.dtype}")
    pen = _Pen(image)
    for rule in rules:
        if isinstance(rule.settings, ZoneSettings):
            pen.zone(rule.settings, f"{rule.settings.name}: {rule.totals()['occupancy']}")
    for rule in rules:
        if isinstance(rule.settings, LineSettings):
            pen.line(rule.settings)
    for row in range(len(tracks)):
        class_id = int(tracks.class_ids[row])
        label = labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
        track_id = int(tracks.track_ids[row]) if len(tracks.track_ids) else -1
        name = f"{label} {track_id}" if track_id >= 0 else f"{label} {tracks.scores[row]:.2f}"
        pen.box(
            tracks.xyxy_px[row], name, _COLOURS[(track_id if track_id >= 0 else class_id) % len(_COLOURS)]
        )
    counts = list(notes)
    for rule in rules:
        if isinstance(rule.settings, LineSettings):
            totals, forward, backward = rule.totals(), rule.settings.forward, rule.settings.backward
            counts.append(f"{rule.settings.name}: {totals[forward]} {forward}, {totals[backward]} {backward}")
    pen.panel(counts)
    return image


class _Pen:
    """Draws in sizes that fit the picture."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._image = image
        self._height, self._width = image.shape[:2]
        side = min(self._height, self._width)
        self._thick = max(1, round(side / 360))
        self._scale = min(max(side / 1100, 0.35), 2.0)
        self._pad = max(2, round(side / 180))

    def box(self, xyxy: NDArray[np.float32], name: str, colour: tuple[int, int, int]) -> None:
        if not np.isfinite(xyxy).all():
            return
        left, top = self._inside(xyxy[0], xyxy[1])
        right, bottom = self._inside(xyxy[2], xyxy[3])
        cv2.rectangle(self._image, (left, top), (right, bottom), _DARK, self._thick + 2, cv2.LINE_AA)
        cv2.rectangle(self._image, (left, top), (right, bottom), colour, self._thick, cv2.LINE_AA)
        self._tag(name, left, top, colour)

    def line(self, settings: LineSettings) -> None:
        a, b = self._at(settings.a), self._at(settings.b)
        cv2.line(self._image, a, b, _DARK, self._thick + 3, cv2.LINE_AA)
        cv2.line(self._image, a, b, _LINE_COLOUR, self._thick + 1, cv2.LINE_AA)
        for end in (a, b):
            cv2.circle(self._image, end, self._thick * 3, _DARK, -1, cv2.LINE_AA)
            cv2.circle(self._image, end, self._thick * 2, _LINE_COLOUR, -1, cv2.LINE_AA)
        # the arrow points the way that counts as forward: to the right of a -> b
        across = np.array((a[1] - b[1], b[0] - a[0]), np.float64)
        across *= 12 * self._thick / max(float(np.hypot(across[0], across[1])), 1.0)
        middle = ((a[0] + b[0]) // 2, (a[1] + b[1]) // 2)
        tip = (round(middle[0] + across[0]), round(middle[1] + across[1]))
        cv2.arrowedLine(self._image, middle, tip, _DARK, self._thick + 3, cv2.LINE_AA, tipLength=0.4)
        cv2.arrowedLine(self._image, middle, tip, _LINE_COLOUR, self._thick + 1, cv2.LINE_AA, tipLength=0.4)
        self._tag(settings.forward, tip[0] + self._pad, tip[1], _LINE_COLOUR)

    def zone(self, settings: ZoneSettings, name: str) -> None:
        outline = np.array([self._at(point) for point in settings.polygon], np.int32)
        left, top, width, height = cv2.boundingRect(outline)
        part = self._image[max(top, 0) : top + height, max(left, 0) : left + width]
        if part.size:
            tinted = part.copy()
            cv2.fillPoly(tinted, [outline - (left, top)], _ZONE_COLOUR)
            cv2.addWeighted(tinted, 0.22, part, 0.78, 0.0, dst=part)
        cv2.polylines(self._image, [outline], True, _DARK, self._thick + 2, cv2.LINE_AA)
        cv2.polylines(self._image, [outline], True, _ZONE_COLOUR, self._thick, cv2.LINE_AA)
        x, y = outline[outline[:, 1].argmin()].tolist()
        self._tag(name, x, y, _ZONE_COLOUR)

    def panel(self, lines: Sequence[str]) -> None:
        """Text on a dark ground in the top left corner."""
        if not lines:
            return
        scale = self._scale * 1.15
        sizes = [cv2.getTextSize(line, _FONT, scale, self._thick)[0] for line in lines]
        step = max(height for _, height in sizes) + 2 * self._pad
        right = min(max(width for width, _ in sizes) + 4 * self._pad, self._width)
        bottom = min(step * len(lines) + 2 * self._pad, self._height)
        ground = self._image[:bottom, :right]
        cv2.addWeighted(np.full_like(ground, 24), 0.72, ground, 0.28, 0.0, dst=ground)
        for number, line in enumerate(lines):
            at = (2 * self._pad, step * (number + 1))
            cv2.putText(self._image, line, at, _FONT, scale, _LIGHT, self._thick, cv2.LINE_AA)

    def _tag(self, text: str, left: int, bottom: int, colour: tuple[int, int, int]) -> None:
        """Text on a ground of `colour`, its lower left corner at the point, kept within the picture."""
        (width, height), baseline = cv2.getTextSize(text, _FONT, self._scale, 1)
        width, height = width + 2 * self._pad, height + baseline + self._pad
        left = max(0, min(left, self._width - width))
        bottom = min(max(bottom, height), self._height)
        cv2.rectangle(self._image, (left, bottom - height), (left + width, bottom), colour, -1)
        light = sum(colour) < 330
        at = (left + self._pad, bottom - baseline)
        cv2.putText(self._image, text, at, _FONT, self._scale, _LIGHT if light else _DARK, 1, cv2.LINE_AA)

    def _at(self, point: tuple[float, float]) -> tuple[int, int]:
        return self._inside(point[0] * self._width, point[1] * self._height)

    def _inside(self, x: float, y: float) -> tuple[int, int]:
        return min(max(round(float(x)), 0), self._width - 1), min(max(round(float(y)), 0), self._height - 1)
